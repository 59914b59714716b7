import { hostMatches } from './egress.ts'

/** Names and ports under which the outside reaches a tenant, and how requests to them are told apart. */

/** What an operator gives one tenant. */
export const INGRESS_HOSTS_MAX = 100
export const INGRESS_PORTS_MAX = 32
/** Single ports behind all ranges of one tenant. */
export const INGRESS_PORT_NUMBERS_MAX = 256

const LABEL = /^[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?$/
const HOST_CHARS_MAX = 253
/** A name, a closing dot and a port. */
const AUTHORITY_CHARS_MAX = HOST_CHARS_MAX + 7
const PATH_CHARS_MAX = 8_192

export type PathRule = { path: string; exact: boolean }

/** Whether some name belongs to both. */
export function hostsOverlap(one: string, other: string): boolean {
  return one === other || hostMatches(one, other) || hostMatches(other, one)
}

/** Whether every name that `host` stands for, which may be `*.` and a name, is within one of the grants. */
export function isHostGranted(granted: readonly string[], host: string): boolean {
  return granted.some((grant) => grant === host || (!host.startsWith('*') && hostMatches(grant, host)))
}

/**
 * The name in `Host` or `:authority`, as grants are written: lower case, without port and closing dot. Undefined for
 * everything that is not plainly one name, so that nobody after us can read another out of it.
 */
export function parseRequestHost(authority: string): string | undefined {
  if (authority.length > AUTHORITY_CHARS_MAX) return undefined
  const parts = /^([A-Za-z0-9._-]+?)\.?(?::(\d{1,5}))?$/.exec(authority)
  const host = parts?.[1]?.toLowerCase()
  if (host === undefined || host.length > HOST_CHARS_MAX) return undefined
  if (parts?.[2] !== undefined && Number(parts[2]) > 65_535) return undefined
  return host.split('.').every((label) => LABEL.test(label)) ? host : undefined
}

/**
 * The path of a request's target without its query, as it was sent. Undefined for what servers read in different ways:
 * other forms than `/path`, bytes that belong into no target, and steps upwards, however they are written.
 */
export function parseRequestPath(target: string): string | undefined {
  const path = target.split('?', 1)[0] ?? ''
  if (!path.startsWith('/') || path.length > PATH_CHARS_MAX) return undefined
  if (/[^\x21-\x7e]/.test(target) || /[\\#]/.test(path)) return undefined
  if (!isEscapedWell(path) || /%(?:00|0a|0d|5c)/i.test(path)) return undefined
  const plain = path.replaceAll(/%2e/gi, '.').replaceAll(/%2f/gi, '/').replaceAll(/%3b/gi, ';')
  // A second round of escapes is decoded by some as well.
  if (/%25(?:2e|2f|5c|00)/i.test(path)) return undefined
  const climbs = plain.split('/').some((segment) => /^\.{1,2}(?:;|$)/.test(segment))
  return climbs ? undefined : path
}

function isEscapedWell(path: string): boolean {
  return path.split('%').every((part, at) => at === 0 || /^[0-9a-f]{2}/i.test(part))
}

/** Exact before prefix, longer before shorter, as upstream orders paths; prefixes count whole segments. */
export function findPath<T extends PathRule>(rules: readonly T[], path: string): T | undefined {
  let best: T | undefined
  for (const rule of rules) {
    if (rule.exact ? rule.path !== path : !isWithin(rule.path, path)) continue
    if (rule.exact) return rule
    if (!best || segmentsOf(rule.path).length > segmentsOf(best.path).length) best = rule
  }
  return best
}

function isWithin(prefix: string, path: string): boolean {
  const [wanted, there] = [segmentsOf(prefix), path.split('/')]
  return wanted.every((segment, at) => there[at] === segment)
}

/** A closing slash does not count. */
function segmentsOf(path: string): string[] {
  return path.replace(/\/$/, '').split('/')
}
