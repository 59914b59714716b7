/** What goes on to a pod or service of the tenant, which answers for itself: `/api/v1/namespaces/NS/pods/NAME/proxy…`. */
const PASSED_ON = /^\/api\/v1\/namespaces\/[^/?]+\/(?:pods|services)\/[^/?]+\/proxy(\/[^?]*)?(?:\?|$)/
const LOCATION_CHARS_MAX = 8_192
/** Upwards or here, and then on: printable ASCII without "\", which some readers take for "/". */
const RELATIVE = /^(\.\/|(?:\.\.\/)+)([!-[\]-~]*)$/

/** @param rest the path in a control plane, with its query. */
export function isPassedOn(rest: string): boolean {
  return PASSED_ON.test(rest)
}

/**
 * True when a redirect leads nowhere but to the same pod or service. All tenants are one origin, clients follow with their
 * credentials, and what says it is a tenant's: it must be relative, and never leave what is below `proxy`.
 */
export function staysWithin(rest: string, location: string): boolean {
  const passedOn = PASSED_ON.exec(rest)
  if (!passedOn || location.length > LOCATION_CHARS_MAX) return false
  const [, up, on] = RELATIVE.exec(location) ?? []
  if (up === undefined || on === undefined) return false
  const path = on.split(/[?#]/, 1)[0] ?? ''
  if (path.split('/').some((segment) => /^(?:\.|%2e){1,2}$/i.test(segment))) return false
  const below = passedOn[1]
  // `…/proxy` itself is a name in the folder of the pod's other parts.
  if (below === undefined) return up === './' && path.startsWith('proxy/')
  const levels = below.split('/').length - 2
  return up === './' || up.length / '../'.length <= levels
}
