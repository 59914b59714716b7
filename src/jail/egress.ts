import {
  EGRESS_LABELS_MAX,
  EGRESS_NAMESPACES_MAX,
  EGRESS_PORTS_MAX,
  EGRESS_REASON_BYTES_MAX,
  EGRESS_RULES_MAX,
  egressPortText,
  type EgressPort,
  hostPatternProblem,
  isDnsLabel,
  isLabelText,
  parseIpv4Network,
} from '../api/index.ts'
import { integer, list, object, oneOf, optional, Problems, required, text } from './shape.ts'

/** What a tenant's pods may reach outside, as the operator said. Nothing, when there is none. */
export type EgressPolicy = {
  allow: readonly EgressRule[]
  /** Until then, what no rule allows is written down; and with `Allow` let through, if the public internet has it. */
  learn?: EgressLearning
}

export type EgressLearning = { untilMs: number; unlisted: 'Block' | 'Allow' }

/** Exactly one of `host` and `cidr`. */
export type EgressRule = {
  host?: string
  cidr?: string
  ports: readonly EgressPort[]
  /** Only pods of these namespaces; all of the tenant's when absent. */
  namespaces?: readonly string[]
  /** Only pods with all of these labels, as `labelTexts` writes them. */
  podLabels?: readonly string[]
  untilMs?: number
  reason?: string
}

const time = integer(0, 8_640_000_000_000_000)

export const egressPort = object<EgressPort>({
  protocol: required(oneOf('TCP', 'UDP')),
  port: required(integer(1, 65_535)),
  endPort: required(integer(1, 65_535)),
})

export const egressHost = text({ min: 1, max: 253, problem: hostPatternProblem })
export const egressCidr = text({
  max: 18,
  problem: (v) => (parseIpv4Network(v) ? undefined : 'is not an IPv4 network'),
})

export const labelText = text({
  max: 381,
  problem: (v) => (isLabelText(v) ? undefined : 'is not a label with its value'),
})

const policy = object<EgressPolicy>({
  allow: required(
    list(
      object<EgressRule>({
        host: optional(egressHost),
        cidr: optional(egressCidr),
        ports: required(list(egressPort, { min: 1, max: EGRESS_PORTS_MAX })),
        namespaces: optional(
          list(text({ max: 63, problem: (v) => (isDnsLabel(v) ? undefined : 'is not a DNS label') }), {
            min: 1,
            max: EGRESS_NAMESPACES_MAX,
          }),
        ),
        podLabels: optional(list(labelText, { min: 1, max: EGRESS_LABELS_MAX })),
        untilMs: optional(time),
        reason: optional(text({ max: EGRESS_REASON_BYTES_MAX })),
      }),
      { max: EGRESS_RULES_MAX },
    ),
  ),
  learn: optional(
    object<EgressLearning>({ untilMs: required(time), unlisted: required(oneOf('Block', 'Allow')) }),
  ),
})

/**
 * Reads a policy as hostile input.
 * @throws {TypeError} that names the first problem.
 */
export function parseEgressPolicy(value: unknown): EgressPolicy {
  const problems = new Problems()
  const parsed = policy(value, 'egress', problems)
  for (const [index, rule] of (parsed?.allow ?? []).entries())
    checkDestination(rule, `egress.allow[${index}]`, problems)
  const [first] = problems.list
  if (!parsed || first)
    throw new TypeError(`"${first?.field ?? 'egress'}" ${first?.message ?? 'is not valid'}`)
  return parsed
}

/** What the shapes of a destination's parts cannot say. */
export function checkDestination(
  { host, cidr, ports = [] }: Partial<Pick<EgressRule, 'host' | 'cidr' | 'ports'>>,
  at: string,
  problems: Problems,
): void {
  if ((host === undefined) === (cidr === undefined))
    problems.add('FieldValueInvalid', at, 'must have either a host or a cidr')
  for (const each of ports) {
    if (each.endPort < each.port)
      problems.add('FieldValueInvalid', at, 'has a range of ports that ends before it begins')
    // Every address of a name gets an element per port.
    if (host !== undefined && each.endPort !== each.port)
      problems.add('FieldValueInvalid', at, `has a host with the range of ports ${egressPortText(each)}`)
  }
}

/** What `bulkhead egress` shows of a tenant. */
export type TenantEgress = {
  tenant: string
  /** `open`, `not needed`, or what is wrong. */
  uplink: string
  learn?: EgressLearning
  rules: readonly (EgressRule & { expired: boolean; connections: number; lastUsedMs?: number })[]
  /** What no rule allows: blocked, or let through while learning. */
  seen: readonly EgressSeen[]
  /** When the counts began. */
  since: number
  now: number
}

export type EgressSeen = {
  namespace: string
  name?: string
  address?: string
  protocol?: 'TCP' | 'UDP'
  port?: number
  allowed: boolean
  count: number
  lastMs: number
}
