import { isObject, masked, parseAnswer } from './compare-answers.ts'
import type { Json } from './control-plane.ts'
import type { CaseRequest } from './random-kinds.ts'

/** What a server answers, without what is new every time. */
export type CaseAnswer = { code: number; warnings: string[]; body: Json }
export type AskCase = (
  request: CaseRequest,
) => Promise<{ code: number; text: string; warning?: string | undefined }>

/** Asks for everything in order, and fills in versions of objects as this server tells them. */
export async function answersOf(requests: readonly CaseRequest[], ask: AskCase): Promise<CaseAnswer[]> {
  let resourceVersion = '1'
  const answers: CaseAnswer[] = []
  for (const request of requests) {
    const text = JSON.stringify(request.body)?.replaceAll('$resourceVersion', resourceVersion)
    const answer = await ask({
      ...request,
      ...(text === undefined ? {} : { body: JSON.parse(text) as Json }),
    })
    const body = parseAnswer(answer.text)
    const metadata = isObject(body) && isObject(body['metadata']) ? body['metadata'] : {}
    const isTrial = request.path.includes('dryRun=All')
    if (typeof metadata['resourceVersion'] === 'string' && !isTrial)
      resourceVersion = metadata['resourceVersion']
    answers.push({ code: answer.code, warnings: warningsOf(answer.warning), body: comparable(masked(body)) })
  }
  return answers
}

function warningsOf(header: string | undefined): string[] {
  return [...(header ?? '').matchAll(/299 - "((?:[^"\\]|\\.)*)"/g)].map(([, text = '']) => text)
}

/** Without orders that mean nothing: entries of one second, and causes that upstream finds in maps. */
function comparable(value: unknown): Json {
  if (!isObject(value)) return value
  const copy: Json = { ...value }
  const { managedFields } = (copy.metadata ?? {}) as { managedFields?: Json[] }
  // Upstream forgets who said how many there are when somebody scales to none, or to as many as there are.
  const entries = managedFields
    ?.filter(({ subresource }) => subresource !== 'scale')
    .map((entry) => withoutReplicas(entry))
  if (entries)
    copy.metadata = {
      ...copy.metadata,
      managedFields: sortedBy(entries, (e) => [e.manager, e.operation, e.apiVersion, e.subresource]),
    }
  if (copy.details?.causes) {
    copy.details = { ...copy.details, causes: sortedBy(copy.details.causes, (cause) => cause) }
    if (copy.reason === 'Invalid') copy.message = sortedMessage(copy.message)
  }
  return copy
}

/**
 * What upstream answers, as ours is to answer it: a configuration of the wrong type is the client's mistake and not the
 * server's, and ours says which operation of a JSON patch failed.
 */
export function asWanted({ code, warnings, body }: CaseAnswer): CaseAnswer {
  const wanted = structuredClone(body)
  const message: string = wanted.message ?? ''
  if (message.startsWith('the server rejected our request')) delete wanted.details?.causes
  // Upstream shows the whole object that a patch made.
  const [, unknown] = / is invalid: patch: .*(strict decoding error: .*)$/s.exec(message) ?? []
  if (unknown !== undefined)
    return { code, warnings, body: { ...wanted, message: unknown, details: undefined } }
  // One field that is not known ends upstream's search, wherever it was by then.
  const [untyped] = /^failed to create typed patch object \(.*?\)/s.exec(message) ?? []
  if (untyped === undefined) return { code, warnings, body: wanted }
  const refusal = { ...wanted, message: untyped, code: 400, reason: 'BadRequest' }
  return { code: 400, warnings, body: refusal }
}

function withoutReplicas(entry: Json): Json {
  const { 'f:replicas': _count, ...spec } = entry.fieldsV1?.['f:spec'] ?? {}
  return entry.fieldsV1?.['f:spec'] ? { ...entry, fieldsV1: { ...entry.fieldsV1, 'f:spec': spec } } : entry
}

function sortedBy(items: Json[], keyOf: (item: Json) => unknown): Json[] {
  const keyed = items.map((item) => ({ item, key: JSON.stringify(keyOf(item)) }))
  return keyed.sort((a, b) => (a.key < b.key ? -1 : 1)).map(({ item }) => item)
}

/** `... is invalid: [one, two]`, in one order. Commas within problems do not matter: both sides are taken apart alike. */
function sortedMessage(message: string): string {
  const [, before, list] = /^(.*? is invalid: )\[(.*)\]$/s.exec(message) ?? []
  return before === undefined || list === undefined
    ? message
    : `${before}[${list.split(', ').sort().join(', ')}]`
}
