/** Compares answers of two servers, leaving out what is new every time. */
import type { KindRequest } from './requests-of-kinds.ts'

export function parseAnswer(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // A watch: one document per line.
    const lines = text.split('\n').filter((line) => line !== '')
    try {
      return lines.map((line) => JSON.parse(line) as unknown)
    } catch {
      return text
    }
  }
}

/** `clusterIP` is given by chance. */
const MASKED = new Set(['uid', 'resourceVersion', 'time', 'continue', 'token', 'clusterIP', 'clusterIPs'])

/** Without what is new every time. */
export function masked(value: unknown, key = ''): unknown {
  if (Array.isArray(value)) return value.map((v) => masked(v, key))
  // How a column is explained is everybody's own prose.
  if (key === 'columnDefinitions' && isObject(value)) return { ...value, description: '*' }
  if (isObject(value)) return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, masked(v, k)]))
  if (MASKED.has(key) || (key.endsWith('Timestamp') && typeof value === 'string')) return '*'
  if (typeof value !== 'string') return value
  return value
    .replace(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, '*')
    .replace(/^g-[a-z0-9]{5}$/, 'g-*')
    .replace(/current: \d+/, 'current: *')
    .replace(/^(\d+[dhms])+$/, '*')
    .replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ/g, '*')
    .replace(/resourceVersion: "\d+"/g, '*')
}

export function differingPaths(a: unknown, b: unknown, path = ''): string[] {
  if (Array.isArray(a) && Array.isArray(b)) {
    if (a.length !== b.length) return [`${path}[]`]
    return [...new Set(a.flatMap((item, at) => differingPaths(item, b[at], `${path}[]`)))]
  }
  if (isObject(a) && isObject(b))
    return [...new Set([...Object.keys(a), ...Object.keys(b)])].flatMap((key) =>
      differingPaths(a[key], b[key], path === '' ? key : `${path}.${key}`),
    )
  return JSON.stringify(a) === JSON.stringify(b) ? [] : [path === '' ? 'body' : path]
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

type Ask = (request: KindRequest) => Promise<{ code: number; text: string }>

/** What two servers answer differently, by request: code and reason, and where the documents differ. */
export type Difference = { request: string; codes: [string, string] | undefined; paths: string[] }

/** Asks both servers the same, in order. */
export async function compareServers(
  requests: readonly KindRequest[],
  [left, right]: readonly [Ask, Ask],
): Promise<Difference[]> {
  const differences: Difference[] = []
  for (const request of requests) {
    const answers = [await left(request), await right(request)] as const
    const documents = answers.map(({ text }) => parseAnswer(text))
    const [a = '', b = ''] = answers.map(({ code }, at) => {
      const document = documents[at]
      return isObject(document) && typeof document['reason'] === 'string' && code >= 400
        ? `${code} ${document['reason']}`
        : String(code)
    })
    const paths = differingPaths(masked(documents[0]), masked(documents[1]))
    if (a !== b || paths.length > 0)
      differences.push({
        request: `${request.method} ${request.path} (${request.name})`,
        codes: a === b ? undefined : [a, b],
        paths,
      })
  }
  return differences
}
