import { PATH_CHARS_MAX } from './limits.ts'

/** A path that names a resource of the API, taken apart. Nothing has been looked up yet. */
export type ResourcePath = {
  kind: 'resource'
  group: string
  version: string
  namespace?: string
  resource: string
  name?: string
  subresource?: string
  /** What follows `proxy`, as it came: it is a pod's to read. "" or with a slash at its start. */
  rest?: string
}

export type Route =
  | ResourcePath
  /** `/version`, `/apis/apps/v1`, `/healthz`, …: `path` without a slash at its end. */
  | { kind: 'path'; path: string }
  /** A path that nothing in Kubernetes has. */
  | { kind: 'nowhere' }

/** What may follow a namespace's own name instead of a resource in it. */
const NAMESPACE_SUBRESOURCES: readonly string[] = ['status', 'finalize']

const NOWHERE: Route = { kind: 'nowhere' }

/** A request that goes on to a pod. */
const PASSED_ON = /^(\/api\/v1\/namespaces\/[^/]+\/(?:pods|services)\/[^/]+\/proxy)(\/.*)?$/

/**
 * Takes a request's path apart: `/api/v1/…`, `/apis/GROUP/VERSION/…`, `namespaces/NS/RESOURCE/NAME/SUBRESOURCE`.
 * Total: whatever cannot be such a path is a plain path or nowhere.
 */
export function parseRoute(path: string): Route {
  if (path.length > PATH_CHARS_MAX || !path.startsWith('/')) return NOWHERE
  const [, upToProxy, rest] = PASSED_ON.exec(path) ?? []
  if (upToProxy === undefined) return parsePath(path)
  const route = parsePath(upToProxy)
  return route.kind === 'resource' ? { ...route, rest: rest ?? '' } : route
}

function parsePath(path: string): Route {
  const raw = path.slice(1).split('/')
  if (raw.at(-1) === '' && raw.length > 1) raw.pop()
  const segments: string[] = []
  for (const part of raw) {
    const segment = parseSegment(part)
    if (segment === undefined) return NOWHERE
    segments.push(segment)
  }
  const legacy = segments[0] === 'api'
  const prefix = legacy ? 2 : 3
  if ((!legacy && segments[0] !== 'apis') || segments.length <= prefix)
    return { kind: 'path', path: `/${segments.join('/')}` }
  // `segments` is longer than `prefix`, so each of these is there.
  const base = {
    kind: 'resource',
    group: legacy ? '' : segments[1]!,
    version: segments[prefix - 1]!,
  } as const
  const rest = segments.slice(prefix)
  if (rest.length > 5 || segments.includes('')) return NOWHERE
  const [first, namespace, resource, name, subresource] = rest
  if (
    first !== 'namespaces' ||
    rest.length < 3 ||
    (rest.length === 3 && NAMESPACE_SUBRESOURCES.includes(rest[2]!))
  )
    return rest.length > 3 ? NOWHERE : { ...base, ...parts(first!, rest[1], rest[2]) }
  return { ...base, namespace: namespace!, ...parts(resource!, name, subresource) }
}

function parts(resource: string, name: string | undefined, subresource: string | undefined) {
  return {
    resource,
    ...(name === undefined ? {} : { name }),
    ...(subresource === undefined ? {} : { subresource }),
  }
}

/** One decoded segment; a name can hold neither a slash nor a percent sign nor be a step upwards. */
function parseSegment(part: string): string | undefined {
  if (!part.includes('%')) return part === '.' || part === '..' ? undefined : part
  let segment: string
  try {
    segment = decodeURIComponent(part)
  } catch {
    return undefined
  }
  return segment === '.' || segment === '..' || /[/%\0]/.test(segment) ? undefined : segment
}
