import { parseTenantName, PLATFORM_TENANT, type TenantName } from '../api/index.ts'

/** What a request is for, by its path alone. `tenant` is the platform's name for its own control plane. */
export type Target =
  | { kind: 'health' }
  /** `rest` is path and query as the control plane is to see them; unchecked. */
  | { kind: 'controlPlane'; tenant: TenantName; rest: string }
  /** The control plane of whoever asks: only a credential says which. */
  | { kind: 'ownControlPlane'; rest: string }
  | { kind: 'nowhere' }

const HEALTH: readonly string[] = ['/healthz', '/livez', '/readyz']
const TENANT = /^\/tenants\/([a-z0-9-]{1,63})(?=[/?]|$)/
const PLATFORM = /^\/platform(?=[/?]|$)/
/** Clients leave out the path of a kubeconfig's server for some requests: `kubectl get --raw`, or a URL from an answer. */
const OWN = /^\/(?:(?:api|apis|openapi|openid|\.well-known|version|healthz|livez|readyz)(?=[/?]|$)|(?=\?|$))/

/**
 * Reads the raw path, byte by byte as it came: nothing is decoded or normalized, so there is one way to write a
 * tenant, and no proxy or parser in between can read it differently.
 */
export function parseTarget(url: string): Target {
  if (HEALTH.includes(url)) return { kind: 'health' }
  const platform = PLATFORM.exec(url)
  if (platform)
    return { kind: 'controlPlane', tenant: PLATFORM_TENANT, rest: rooted(url.slice(platform[0].length)) }
  if (OWN.test(url)) return { kind: 'ownControlPlane', rest: url }
  const [head = '', name] = TENANT.exec(url) ?? []
  try {
    return { kind: 'controlPlane', tenant: parseTenantName(name), rest: rooted(url.slice(head.length)) }
  } catch {
    return { kind: 'nowhere' }
  }
}

/** What a request of a pod is for: its own control plane, whatever it asks there. */
export function targetOfPod(tenant: TenantName, url: string): Target {
  return url.startsWith('/') ? { kind: 'controlPlane', tenant, rest: url } : { kind: 'nowhere' }
}

function rooted(rest: string): string {
  return rest.startsWith('/') ? rest : `/${rest}`
}

/** RFC 3986's pchar. */
const PATH = /^(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*$/
const QUERY = /^[!-~]*$/
/** Control bytes, ".", "/", "\" and "%": no name in Kubernetes needs them encoded, and two parsers may differ about them. */
const SUSPICIOUS_ESCAPE = /%(?:[01][0-9a-f]|7f|2e|2f|5c|25)/i

/** Why a path must not reach a control plane, or undefined. */
export function pathProblem(rest: string): string | undefined {
  const mark = rest.indexOf('?')
  const path = mark < 0 ? rest : rest.slice(0, mark)
  const query = mark < 0 ? '' : rest.slice(mark + 1)
  if (!PATH.test(path))
    return 'The path has a character that must be percent-encoded, or a broken percent-encoding'
  if (SUSPICIOUS_ESCAPE.test(path))
    return 'The path has a percent-encoded ".", "/", "\\", "%" or control character'
  const segments = path.split('/').slice(1)
  if (segments.some((segment, i) => segment === '' && i < segments.length - 1))
    return 'The path has an empty segment'
  if (segments.some((segment) => segment === '.' || segment === '..'))
    return 'The path has a segment "." or ".."'
  if (!QUERY.test(query) || query.includes('#'))
    return 'The query has a character that must be percent-encoded'
  return undefined
}

/** Requests that stay open: they count against another limit and have another end. */
export function isStream(rest: string): boolean {
  // Most requests say neither, and reading a URL takes a while.
  if (!rest.includes('?') && !rest.includes('/watch/')) return false
  const url = new URL(rest, 'http://localhost')
  // As control planes read it: whatever is there is true, unless it says no.
  const truthy = (name: string) =>
    url.searchParams.has(name) && !['false', '0'].includes(url.searchParams.get(name)!.toLowerCase()) // it has one
  return (
    truthy('watch') || truthy('follow') || /^\/(?:api\/[^/]+|apis\/[^/]+\/[^/]+)\/watch\//.test(url.pathname)
  )
}
