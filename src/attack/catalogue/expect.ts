import { blocked, escaped, type Outcome, untried } from '../attack.ts'
import type { ApiAnswer } from '../tenant-api.ts'

/** The verifier's names of the layers that answers of the API come from. */
export const GATEWAY = 'gateway binds to one tenant'
export const CONTROL_PLANE = 'control plane refuses strangers'

const SHOWN = 160

/** A refusal in one line: its code and its message. */
export function said({ code, body }: ApiAnswer): string {
  return `${code} ${statusMessage(body).slice(0, SHOWN)}`.trim()
}

function statusMessage(body: string): string {
  try {
    const { message } = JSON.parse(body) as { message?: unknown }
    if (typeof message === 'string') return message
  } catch {
    // Not a Status; the bytes say it themselves.
  }
  return body.replaceAll(/\s+/g, ' ')
}

/** @throws unless the answer is a success. */
export function worked(answer: ApiAnswer, what: string): string {
  if (answer.code < 200 || answer.code >= 300) throw new Error(`${what}: ${said(answer)}`)
  return `${what}: ${answer.code}`
}

/** Which of our layers a refusal of the API comes from, by its words and not by belief. */
export function refuser(answer: ApiAnswer): string {
  if (/You have no access to what this path names/.test(answer.body)) return GATEWAY
  if (answer.code === 401) return 'authentication at the gateway'
  if (/Impersonation is not offered/.test(answer.body)) return 'the gateway takes no claims about others'
  if (answer.code === 403) return 'authorization (RBAC)'
  if (answer.code === 400 || answer.code === 431 || answer.code === 405) return 'request parsing'
  if (answer.code === 404) return "the tenant's own control plane has nothing of others"
  if (answer.code === 410) return "the tenant's own store"
  if (answer.code === 409) return "concurrency checks of the tenant's own store"
  if (answer.code === 413 || answer.code === 429) return 'limits per tenant'
  if (answer.code === 415 || answer.code === 406) return 'content negotiation'
  if (answer.code === 422) return "admission (the API's schema)"
  return `an answer of ${answer.code}`
}

/** Blocked when every answer is a refusal of the client (4xx) or no answer at all; the rest escaped. */
export function allRefused(answers: readonly (readonly [what: string, answer: ApiAnswer])[]): Outcome {
  const through = answers.filter(([, { code }]) => code !== 0 && (code < 400 || code >= 500))
  if (through.length > 0)
    return escaped(through.map(([what, answer]) => `${what}: ${said(answer)}`).join('; '))
  // It would refuse anything; the attack was not tried until it is asked what it is.
  const tooMany = answers.find(([, { code }]) => code === 429)
  if (tooMany !== undefined)
    return untried(`the attacker's own limit of requests answers: ${said(tooMany[1])}`)
  const by = [
    ...new Set(
      answers.map(([, answer]) => (answer.code === 0 ? 'the connection is ended' : refuser(answer))),
    ),
  ]
  const [first] = answers
  return blocked(
    by.join(', '),
    `${answers.length} tries, answered ${counted(answers.map(([, { code }]) => code))}${first === undefined ? '' : `, such as ${first[0]}: ${said(first[1])}`}`,
  )
}

/** "403 twelve times" without the words: `403×12, 400×3`. */
export function counted(codes: readonly (number | string)[]): string {
  const counts = new Map<string, number>()
  for (const code of codes) counts.set(String(code), (counts.get(String(code)) ?? 0) + 1)
  return [...counts].map(([code, count]) => (count === 1 ? code : `${code}×${count}`)).join(', ')
}
