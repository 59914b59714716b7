import { ControlPlane, type Json } from './control-plane.ts'
import { asWanted, answersOf, type AskCase, type CaseAnswer } from './run-kind-case.ts'
import type { KubeApiServer } from './kube-apiserver.ts'
import type { KindCase } from './random-kinds.ts'

export const DEFINITIONS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions'

/** What ours answers. The definition is made and established, as its controller would. */
export async function ourAnswers(
  plane: ControlPlane,
  { definition, requests }: KindCase,
): Promise<CaseAnswer[]> {
  const made = await plane.ask('POST', DEFINITIONS, { body: definition })
  if (made.code !== 201) return [{ code: made.code, warnings: [], body: made.body }]
  const conditions = [{ type: 'Established', status: 'True' }]
  const status = { acceptedNames: definition.spec.names, conditions }
  await plane.ask('PUT', `${DEFINITIONS}/${definition.metadata.name}/status`, {
    body: { ...made.body, status },
  })
  const ask: AskCase = async ({ method, path, body, type }) => {
    const { code, text, headers } = await plane.ask(method, path, {
      ...(body === undefined ? {} : { body }),
      ...(type ? { type } : {}),
    })
    return { code, text, warning: [headers['warning'] ?? []].flat().join(', ') }
  }
  return answersOf(requests, ask)
}

/** The same whatever order fields are in. */
export function comparableAnswer(answer: CaseAnswer | undefined): Json {
  return answer && inOrder(asWanted(answer))
}

function inOrder(value: Json): Json {
  if (Array.isArray(value)) return value.map(inOrder)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((key) => [key, inOrder(value[key])]),
  )
}

/** What a real server answers to many cases. Definitions are made together, because each takes a while to be served. */
export async function theirAnswers(
  upstream: KubeApiServer,
  cases: readonly KindCase[],
): Promise<(CaseAnswer[] | undefined)[]> {
  const made: boolean[] = []
  for (const { definition } of cases)
    made.push((await upstream.ask({ method: 'POST', path: DEFINITIONS, body: definition })).code === 201)
  const answers: (CaseAnswer[] | undefined)[] = []
  for (const [at, { definition, requests }] of cases.entries()) {
    answers.push(made[at] ? await answersOf(requests, await served(upstream, definition)) : undefined)
    await upstream.ask({ method: 'DELETE', path: `${DEFINITIONS}/${definition.metadata.name}` })
  }
  return answers
}

/** Waits until a kind is served. */
async function served(upstream: KubeApiServer, { spec }: Json): Promise<AskCase> {
  const paths = (spec.versions as { name: string }[]).map(
    ({ name }) => `/apis/${spec.group}/${name}/namespaces/default/things`,
  )
  const deadline = AbortSignal.timeout(SERVED_MS_MAX)
  for (const path of paths)
    while (!deadline.aborted && (await upstream.ask({ method: 'GET', path })).code !== 200)
      await new Promise((resolve) => setTimeout(resolve, 100))
  return (request) => upstream.ask(request)
}

const SERVED_MS_MAX = 30_000
