/** How an operator writes down what a tenant may reach outside: host names, networks and ports. */

export type EgressPort = { protocol: 'TCP' | 'UDP'; port: number; endPort: number }
export type Ipv4Network = { base: number; bits: number }

/** What an operator lets one tenant reach outside. */
export const EGRESS_RULES_MAX = 200
export const EGRESS_PORTS_MAX = 16
export const EGRESS_NAMESPACES_MAX = 32
export const EGRESS_REASON_BYTES_MAX = 400
/** Of a policy by which a tenant narrows. */
export const EGRESS_NARROWING_RULES_MAX = 50
/** Of a rule. */
export const EGRESS_LABELS_MAX = 16
/** Of a pod with more, the first ones in alphabetical order count. */
export const POD_LABELS_MAX = 64

/** A key with its prefix has at most 317 characters, a value 63. */
const LABEL_TEXT = /^[-A-Za-z0-9_./]{1,317}=[-A-Za-z0-9_.]{0,63}$/

/** Labels as rules and pods compare them. What is no label is left out: no rule is about it. */
export function labelTexts(labels: Readonly<Record<string, string>> | undefined): string[] {
  return Object.entries(labels ?? {})
    .map(([key, value]) => `${key}=${value}`)
    .filter(isLabelText)
    .sort()
    .slice(0, POD_LABELS_MAX)
}

const PORT = /^(\d{1,5})(?:-(\d{1,5}))?(?:\/(TCP|UDP))?$/
const LABEL = /^[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9])?$/
const NETWORK = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\/(\d{1,2})$/
const HOST_CHARS_MAX = 253
/** Names of the tenant's own cluster never come from outside. */
const CLUSTER_ZONE = 'cluster.local'

export function isLabelText(text: string): boolean {
  return LABEL_TEXT.test(text)
}

/** 443, "443", "53/UDP", "8000-8100" or "8000-8100/TCP"; undefined for anything else. */
export function parseEgressPort(value: unknown): EgressPort | undefined {
  if (typeof value !== 'string' && typeof value !== 'number') return undefined
  const parts = PORT.exec(String(value))
  if (!parts) return undefined
  const port = Number(parts[1])
  const endPort = parts[2] === undefined ? port : Number(parts[2])
  if (port < 1 || endPort > 65_535 || endPort < port) return undefined
  return { protocol: parts[3] === 'UDP' ? 'UDP' : 'TCP', port, endPort }
}

/** As the operator would write it. */
export function egressPortText({ protocol, port, endPort }: EgressPort): string {
  return `${port}${endPort === port ? '' : `-${endPort}`}${protocol === 'TCP' ? '' : `/${protocol}`}`
}

/** Why a text is neither a host name nor `*.` and one, or undefined. */
export function hostPatternProblem(text: string): string | undefined {
  if (text.length > HOST_CHARS_MAX) return `must have at most ${HOST_CHARS_MAX} characters`
  const wildcard = text.startsWith('*.')
  const labels = (wildcard ? text.slice(2) : text).split('.')
  if (/\P{ASCII}/u.test(text)) return 'must be ASCII: write an international name in its "xn--" form'
  if (!labels.every((label) => LABEL.test(label)))
    return 'must be a host name in lower case without a closing ".", or "*." and one'
  if (labels.length < 2) return 'must have at least two labels: a whole top-level domain is too much'
  if (/^\d+$/.test(labels.at(-1) ?? '')) return 'is an address: write it as cidr, with /32'
  const name = labels.join('.')
  if (name === CLUSTER_ZONE || name.endsWith(`.${CLUSTER_ZONE}`)) return 'is inside the tenant, not outside'
  return undefined
}

/** A wildcard stands for exactly one label, as in certificates. */
export function hostMatches(pattern: string, name: string): boolean {
  if (!pattern.startsWith('*.')) return pattern === name
  const dot = name.indexOf('.')
  return dot > 0 && name.slice(dot + 1) === pattern.slice(2)
}

/** A network like "203.0.113.0/24", with no bit set behind the prefix; undefined for anything else. */
export function parseIpv4Network(text: unknown): Ipv4Network | undefined {
  if (typeof text !== 'string') return undefined
  const parts = NETWORK.exec(text)?.slice(1)
  if (!parts || parts.some((part) => part.length > 1 && part.startsWith('0'))) return undefined
  const [a = 0, b = 0, c = 0, d = 0, bits = 33] = parts.map(Number)
  if ([a, b, c, d].some((part) => part > 255) || bits > 32) return undefined
  const base = ((a * 256 + b) * 256 + c) * 256 + d
  return base % 2 ** (32 - bits) === 0 ? { base, bits } : undefined
}

export function networkContains(outer: Ipv4Network, inner: Ipv4Network): boolean {
  if (inner.bits < outer.bits) return false
  const size = 2 ** (32 - outer.bits)
  return Math.floor(inner.base / size) === Math.floor(outer.base / size)
}
