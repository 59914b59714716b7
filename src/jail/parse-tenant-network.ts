import { isIPv4 } from 'node:net'
import {
  EGRESS_NARROWING_RULES_MAX,
  EGRESS_PORTS_MAX,
  invalid,
  isDnsLabel,
  isDnsSubdomain,
  labelValueProblem,
  parseIpBlock,
  qualifiedNameProblem,
  SELECTOR_REQUIREMENTS_MAX,
  SELECTOR_VALUES_MAX,
} from '../api/index.ts'
import { checkDestination, egressCidr, egressHost, egressPort } from './egress.ts'
import * as limits from './limits.ts'
import {
  boolean,
  integer,
  list,
  noDuplicates,
  object,
  oneOf,
  optional,
  Problems,
  required,
  text,
} from './shape.ts'
import type {
  AddressRange,
  EgressNarrowing,
  FlowRule,
  IsolatedPods,
  NarrowedTo,
  NetworkIsolation,
  NetworkService,
  NetworkServicePort,
  PodGroup,
  PodLabelRequirement,
  PortRange,
  TenantNetwork,
} from './tenant-network.ts'
import { isJailId } from './uid.ts'

/** Every tenant's own virtual range of service addresses, 10.96.0.0/16; no packet leaves a tenant with one. */
export const SERVICE_RANGE_PREFIX = '10.96.'

/** True for an address that a service may have: inside the range, and neither its first nor its last. */
export function isServiceAddress(value: string): boolean {
  return (
    isIPv4(value) &&
    value.startsWith(SERVICE_RANGE_PREFIX) &&
    value !== '10.96.0.0' &&
    value !== '10.96.255.255'
  )
}

/**
 * Reads the description of a tenant's network as hostile input.
 * @throws {ApiError} Invalid (422), listing the problems.
 */
export function parseTenantNetwork(value: unknown): TenantNetwork {
  const problems = new Problems()
  const network = networkShape(value, '', problems)
  if (network) checkServices(network.services, problems)
  if (network?.isolation) checkIsolation(network.isolation, problems)
  if (network?.narrowings) checkNarrowings(network.narrowings, problems)
  if (!network || problems.list.length > 0)
    throw invalid({ group: '', kind: 'TenantNetwork', name: '' }, problems.list)
  return network
}

const dnsLabel = text({ min: 1, max: 63, problem: (v) => (isDnsLabel(v) ? undefined : 'is not a DNS label') })

const jailId = text({
  max: 36,
  problem: (v) => (isJailId(v) ? undefined : 'is not a lower-case RFC 9562 UUID'),
})

const servicePort = object<NetworkServicePort>({
  name: optional(dnsLabel),
  protocol: required(oneOf('TCP', 'UDP', 'SCTP')),
  port: required(integer(1, 65_535)),
  endpoints: required(
    list(
      object<NetworkServicePort['endpoints'][number]>({
        jail: required(jailId),
        port: required(integer(1, 65_535)),
        ready: required(boolean),
        hostname: optional(dnsLabel),
      }),
      { max: limits.ENDPOINTS_PER_PORT_MAX },
    ),
  ),
})

const groupName = text({
  min: 1,
  max: 32,
  problem: (v) => (/^[a-z0-9]+$/.test(v) ? undefined : 'has other characters than a-z and 0-9'),
})
const podPlace = integer(0, limits.NETWORK_PODS_MAX - 1)
const podPlaces = list(podPlace, { max: limits.NETWORK_PODS_MAX })
const ipv4 = text({ max: 15, problem: (v) => (isIPv4(v) ? undefined : 'is not an IPv4 address') })

const flowRule = object<FlowRule>({
  peers: optional(
    object<NonNullable<FlowRule['peers']>>({
      groups: required(list(groupName, { max: limits.POD_GROUPS_MAX })),
      blocks: required(
        list(object<AddressRange>({ first: required(ipv4), last: required(ipv4) }), {
          max: limits.ADDRESS_RANGES_MAX,
        }),
      ),
    }),
  ),
  within: optional(groupName),
  ports: optional(
    list(
      object<PortRange>({
        protocol: required(oneOf('TCP', 'UDP', 'SCTP')),
        first: required(integer(1, 65_535)),
        last: required(integer(1, 65_535)),
      }),
      { max: limits.PORT_RANGES_MAX },
    ),
  ),
})

const isolatedPods = list(
  object<IsolatedPods>({
    pods: required(podPlaces),
    rules: required(list(flowRule, { max: limits.FLOW_RULES_MAX })),
  }),
  { max: limits.ISOLATIONS_MAX },
)

const isolation = object<NetworkIsolation>({
  pods: required(list(jailId, { max: limits.NETWORK_PODS_MAX })),
  groups: required(
    list(
      object<PodGroup>({ name: required(groupName), pods: required(podPlaces), resolver: required(boolean) }),
      { max: limits.POD_GROUPS_MAX },
    ),
  ),
  ingress: required(isolatedPods),
  egress: required(isolatedPods),
})

const narrowing = object<EgressNarrowing>({
  namespace: required(dnsLabel),
  selector: required(
    list(
      object<PodLabelRequirement>({
        key: required(text({ min: 1, max: 317, problem: qualifiedNameProblem })),
        operator: required(oneOf('In', 'NotIn', 'Exists', 'DoesNotExist')),
        values: required(list(text({ max: 63, problem: labelValueProblem }), { max: SELECTOR_VALUES_MAX })),
      }),
      { max: SELECTOR_REQUIREMENTS_MAX },
    ),
  ),
  allow: required(
    list(
      object<NarrowedTo>({
        host: optional(egressHost),
        cidr: optional(egressCidr),
        ports: optional(list(egressPort, { min: 1, max: EGRESS_PORTS_MAX })),
      }),
      { max: EGRESS_NARROWING_RULES_MAX },
    ),
  ),
})

const networkShape = object<TenantNetwork>({
  isolation: optional(isolation),
  narrowings: optional(list(narrowing, { max: limits.EGRESS_NARROWINGS_MAX })),
  services: required(
    list(
      object<NetworkService>({
        namespace: required(dnsLabel),
        name: required(dnsLabel),
        clusterIP: optional(
          text({
            max: 15,
            problem: (v) => (isServiceAddress(v) ? undefined : 'is not an address of 10.96.0.0/16'),
          }),
        ),
        ports: required(list(servicePort, { max: limits.PORTS_PER_SERVICE_MAX })),
        sessionAffinitySeconds: optional(integer(1, 86_400)),
        publishNotReadyAddresses: required(boolean),
        externalName: optional(
          text({
            min: 1,
            max: 253,
            problem: (v) => (isDnsSubdomain(v) ? undefined : 'is not a DNS subdomain'),
          }),
        ),
      }),
      { max: limits.SERVICES_MAX },
    ),
  ),
})

function checkServices(services: readonly NetworkService[], problems: Problems): void {
  // "/" is in no DNS label, so the two names cannot run into each other.
  noDuplicates(services, 'services', problems, (s) => `${s.namespace}/${s.name}`)
  noDuplicates(services, 'services', problems, (s) => s.clusterIP, 'clusterIP')
  let endpoints = 0
  for (const [index, { ports, clusterIP, externalName }] of services.entries()) {
    if (externalName !== undefined && (clusterIP !== undefined || ports.some((p) => p.endpoints.length > 0)))
      problems.add(
        'FieldValueForbidden',
        `services[${index}].externalName`,
        'may not be together with clusterIP or endpoints',
      )
    noDuplicates(ports, `services[${index}].ports`, problems, (p) => `${p.protocol} ${p.port}`, 'port')
    noDuplicates(ports, `services[${index}].ports`, problems, (p) => p.name, 'name')
    for (const each of ports) endpoints += each.endpoints.length
  }
  if (endpoints > limits.ENDPOINTS_MAX)
    problems.add(
      'FieldValueTooMany',
      'services',
      `must have at most ${limits.ENDPOINTS_MAX} endpoints together, not ${endpoints}`,
    )
}

/** How many comparisons a rule becomes. */
export function flowComparisons({ peers, ports }: FlowRule): number {
  const sides = peers ? peers.groups.length + Math.min(peers.blocks.length, 1) : 1
  return sides * (ports ? new Set(ports.map((range) => range.protocol)).size : 1)
}

function checkIsolation({ pods, groups, ingress, egress }: NetworkIsolation, problems: Problems): void {
  const at = 'isolation'
  noDuplicates(pods, `${at}.pods`, problems, (pod) => pod)
  noDuplicates(groups, `${at}.groups`, problems, (group) => group.name, 'name')
  const names = new Set(groups.map((group) => group.name))
  const isPod = (place: number) => place < pods.length
  const unknown = (field: string) => problems.add('FieldValueNotFound', field, 'is not one of those listed')
  let members = 0
  for (const [index, group] of groups.entries()) {
    members += group.pods.length
    if (!group.pods.every(isPod)) unknown(`${at}.groups[${index}].pods`)
    if (new Set(group.pods).size !== group.pods.length)
      problems.add('FieldValueDuplicate', `${at}.groups[${index}].pods`, 'names a pod twice')
  }
  const counts = { rules: 0, comparisons: 0, blocks: 0, ports: 0 }
  for (const [direction, isolated] of Object.entries({ ingress, egress })) {
    const seen = new Set<number>()
    for (const [index, { pods: places, rules }] of isolated.entries()) {
      const here = `${at}.${direction}[${index}]`
      if (!places.every(isPod)) unknown(`${here}.pods`)
      for (const place of places) {
        if (seen.has(place)) problems.add('FieldValueDuplicate', `${here}.pods`, 'names a pod twice')
        seen.add(place)
      }
      counts.rules += rules.length
      for (const [ruleIndex, rule] of rules.entries()) {
        const field = `${here}.rules[${ruleIndex}]`
        counts.comparisons += flowComparisons(rule)
        counts.blocks += rule.peers?.blocks.length ?? 0
        counts.ports += rule.ports?.length ?? 0
        if (rule.peers?.groups.some((name) => !names.has(name))) unknown(`${field}.peers.groups`)
        if (rule.within !== undefined && !names.has(rule.within)) unknown(`${field}.within`)
        if (rule.within !== undefined && direction === 'ingress')
          problems.add('FieldValueForbidden', `${field}.within`, 'is only for egress')
        if (!isAscending((rule.peers?.blocks ?? []).map(addressBounds)))
          problems.add('FieldValueInvalid', `${field}.peers.blocks`, 'must be ranges that follow each other')
        for (const protocol of ['TCP', 'UDP', 'SCTP'] as const)
          if (!isAscending((rule.ports ?? []).filter((range) => range.protocol === protocol)))
            problems.add('FieldValueInvalid', `${field}.ports`, 'must be ranges that follow each other')
      }
    }
  }
  const maxima = {
    [`${at}.groups`]: [members, limits.POD_GROUP_MEMBERS_MAX, 'members'],
    [`${at}.rules`]: [counts.rules, limits.FLOW_RULES_MAX, 'rules'],
    [at]: [counts.comparisons, limits.FLOW_COMPARISONS_MAX, 'comparisons'],
    [`${at}.blocks`]: [counts.blocks, limits.ADDRESS_RANGES_MAX, 'ranges of addresses'],
    [`${at}.ports`]: [counts.ports, limits.PORT_RANGES_MAX, 'ranges of ports'],
  } as const
  for (const [field, [count, max, what]] of Object.entries(maxima))
    if (count > max)
      problems.add('FieldValueTooMany', field, `must have at most ${max} ${what} together, not ${count}`)
}

function checkNarrowings(narrowings: readonly EgressNarrowing[], problems: Problems): void {
  let count = 0
  for (const [index, { allow }] of narrowings.entries()) {
    count += allow.length
    for (const [at, each] of allow.entries())
      checkDestination(each, `narrowings[${index}].allow[${at}]`, problems)
  }
  if (count > limits.EGRESS_NARROWED_TO_MAX)
    problems.add(
      'FieldValueTooMany',
      'narrowings',
      `must allow at most ${limits.EGRESS_NARROWED_TO_MAX} destinations together, not ${count}`,
    )
}

function addressBounds({ first, last }: AddressRange): { first: number; last: number } {
  const number = (text: string) => Number(parseIpBlock(`${text}/32`)?.base ?? -1n)
  return { first: number(first), last: number(last) }
}

/** True when each range is one, and begins behind the one before. */
function isAscending(ranges: readonly { first: number; last: number }[]): boolean {
  return ranges.every(
    ({ first, last }, at) =>
      first >= 0 && first <= last && (at === 0 || first > (ranges[at - 1]?.last ?? -1)),
  )
}
