import { type Answer, ControlPlane } from './control-plane.ts'
import { CHAPTERS, GRANTED, REGISTRIES, THERE, type Trick } from './bad-manifests.ts'

const PREFACE = `# Bad manifests

What becomes of the tricks by which manifests elsewhere leave their place. Each is really sent to a control plane, and a test
keeps this page equal to what happens; \`node tests/conformance/render-bad-manifests.ts\` prints it. The tenant of this page may
use images of \`${REGISTRIES.join(', ')}\`. The words are those that kubectl shows; where several things are wrong, it shows a
line for each.
`

export type Outcome = { trick: Trick; code: number; told: string }

/** Carries every trick out, each against what is there anew. */
export async function tryTricks(tricks: readonly Trick[]): Promise<Outcome[]> {
  await using plane = await ControlPlane.start()
  plane.server.setLimits({ registries: REGISTRIES, ingress: GRANTED })
  for (const { path, body } of THERE) {
    const { code, text } = await plane.ask('POST', path, { body })
    if (code !== 201) throw new Error(`Cannot create what shall be there: ${text}`)
  }
  const outcomes: Outcome[] = []
  for (const trick of tricks) {
    const { method, path, body, raw, type } = trick
    const dryRun = `${path}${path.includes('?') ? '&' : '?'}dryRun=All`
    const answer = await plane.ask(method, dryRun, {
      ...(raw === undefined ? { body } : { raw }),
      ...(type === undefined ? {} : { type }),
    })
    outcomes.push({ trick, code: answer.code, told: wordsOf(answer) })
  }
  return outcomes
}

/** As kubectl prints an answer, on one line. */
function wordsOf({ code, body, headers, text }: Answer): string {
  if (code < 300) {
    const warning = [headers['warning'] ?? []].flat().join(', ')
    return /^299 - "(.*)"$/.exec(warning)?.[1]?.replaceAll('\\"', '"') ?? ''
  }
  const { reason, message, details } = body ?? {}
  if (reason === 'Invalid') {
    const causes = details.causes.map(
      ({ field, message: why }: { field: string; message: string }) => `${field}: ${why}`,
    )
    return `The ${details.kind} "${details.name}" is invalid: ${causes.join('; ')}`
  }
  return `Error from server (${reason ?? code}): ${message ?? text.trim()}`
}

function render(outcomes: readonly Outcome[]): string {
  return outcomes
    .map(({ trick: { title, harmless }, code, told }) => {
      const verdict = code >= 300 ? '**refused**' : `**let in**: ${harmless}`
      const quoted = told === '' ? '' : `\n  > ${told.replaceAll('\n', ' ')}`
      return `- ${title}: ${verdict}${quoted}`
    })
    .join('\n')
}

export async function renderBadManifests(): Promise<string> {
  let text = PREFACE
  for (const { title, tricks } of CHAPTERS) text += `\n## ${title}\n\n${render(await tryTricks(tricks))}\n`
  return text
}

if (import.meta.main) process.stdout.write(await renderBadManifests())
