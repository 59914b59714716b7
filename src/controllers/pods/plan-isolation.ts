import { createHash } from 'node:crypto'
import { type NetworkPolicyPeer, type NetworkPolicyPort, parseIpBlock, rangeOf } from '../../api/index.ts'
import type {
  AddressRange,
  FlowRule,
  IsolatedPods,
  NetworkIsolation,
  PodGroup,
  PortRange,
} from '../../jail/index.ts'
import {
  isAbout,
  type IsolatingPolicy,
  peerSelects,
  type PolicyDirection,
  type ReachablePod,
  selectsPod,
} from '../../policy/index.ts'
import type { Namespace, NetworkPolicy, Pod } from '../kinds.ts'

const PORT_LAST = 65_535

/** The tenant's resolver, as the pods of a cluster's DNS are known to the policies that charts write. */
const RESOLVER: ReachablePod = {
  namespace: 'kube-system',
  labels: { 'k8s-app': 'kube-dns' },
  namedPorts: [
    { name: 'dns', protocol: 'UDP', port: 53 },
    { name: 'dns-tcp', protocol: 'TCP', port: 53 },
  ],
}

/** Pods that no policy can tell apart. */
type Kin = { facts: ReachablePod; places: number[] }

/**
 * Who of a tenant's pods may talk, after its network policies; undefined when it has none. Pods are named by jail, and
 * rules by the selectors that they are about, so that a pod that comes or goes changes no rule. Pure.
 */
export function planIsolation(
  policies: readonly NetworkPolicy[],
  pods: readonly Pod[],
  namespaces: readonly Namespace[],
): NetworkIsolation | undefined {
  if (policies.length === 0) return undefined
  const known = pods.toSorted((a, b) => (a.metadata.uid < b.metadata.uid ? -1 : 1))
  const labelsOf = new Map(namespaces.map(({ metadata }) => [metadata.name, metadata.labels ?? {}]))
  if (!labelsOf.has(RESOLVER.namespace))
    labelsOf.set(RESOLVER.namespace, { 'kubernetes.io/metadata.name': RESOLVER.namespace })
  const kins = new Map<string, Kin>()
  for (const [place, pod] of known.entries()) {
    const facts = factsOf(pod)
    const key = JSON.stringify(facts)
    const kin = kins.get(key)
    if (kin) kin.places.push(place)
    else kins.set(key, { facts, places: [place] })
  }
  const planner = new Planner([...kins.values()], labelsOf)
  const ours = policies
    .toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1))
    .map(({ metadata, spec }): IsolatingPolicy => ({ namespace: metadata.namespace ?? '', spec }))
  const ingress = planner.isolated(ours, 'Ingress')
  const egress = planner.isolated(ours, 'Egress')
  return { pods: known.map((pod) => pod.metadata.uid), groups: planner.groups(), ingress, egress }
}

/** What policies look at; as long as it stays the same, so does the plan. */
export function factsOf({ metadata, spec }: Pod): ReachablePod {
  const sidecars = (spec.initContainers ?? []).filter((c) => c.restartPolicy === 'Always')
  return {
    namespace: metadata.namespace ?? '',
    labels: Object.fromEntries(Object.entries(metadata.labels ?? {}).sort(([a], [b]) => (a < b ? -1 : 1))),
    namedPorts: [...sidecars, ...spec.containers].flatMap((container) =>
      (container.ports ?? []).flatMap(({ name, protocol = 'TCP', containerPort }) =>
        name ? [{ name, protocol, port: containerPort }] : [],
      ),
    ),
  }
}

class Planner {
  private readonly kins: readonly Kin[]
  private readonly namespaces: ReadonlyMap<string, Readonly<Record<string, string>>>
  private readonly made = new Map<string, PodGroup>()

  constructor(kins: readonly Kin[], namespaces: ReadonlyMap<string, Readonly<Record<string, string>>>) {
    this.kins = kins
    this.namespaces = namespaces
  }

  groups(): PodGroup[] {
    return [...this.made.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1))
  }

  isolated(policies: readonly IsolatingPolicy[], direction: PolicyDirection): IsolatedPods[] {
    const about = policies.filter(({ spec }) => isAbout(spec, direction))
    const byRules = new Map<string, { pods: number[]; rules: FlowRule[] }>()
    for (const { facts, places } of this.kins) {
      const selecting = about.filter((policy) => selectsPod(policy, facts))
      if (selecting.length === 0) continue
      const rules = new Map<string, FlowRule>()
      for (const policy of selecting)
        for (const rule of direction === 'Ingress'
          ? this.ingressRules(policy, facts)
          : this.egressRules(policy))
          rules.set(JSON.stringify(rule), rule)
      // The order of rules does not matter, so pods of equal rules share them.
      const sorted = [...rules].toSorted(([a], [b]) => (a < b ? -1 : 1))
      const key = sorted.map(([text]) => text).join('\n')
      const entry = byRules.get(key) ?? { pods: [], rules: sorted.map(([, rule]) => rule) }
      entry.pods.push(...places)
      byRules.set(key, entry)
    }
    return [...byRules.values()].map(({ pods, rules }) => ({ pods: pods.toSorted((a, b) => a - b), rules }))
  }

  /** A port's name means what the receiving pod, which is the one isolated, calls so. */
  private ingressRules({ namespace, spec }: IsolatingPolicy, receiver: ReachablePod): FlowRule[] {
    return (spec.ingress ?? []).flatMap(({ from, ports }) =>
      withPeers(
        this.peers(namespace, from),
        portsOf(ports, (name, protocol) => portNumbers([receiver], name, protocol)),
      ),
    )
  }

  /** A port's name means something else for every pod that is connected to. */
  private egressRules({ namespace, spec }: IsolatingPolicy): FlowRule[] {
    return (spec.egress ?? []).flatMap(({ to, ports }) => {
      const peers = this.peers(namespace, to)
      const named = (ports ?? []).flatMap(({ port, protocol = 'TCP' }) =>
        typeof port === 'string' ? [{ name: port, protocol }] : [],
      )
      const numbered = ports?.filter(({ port }) => typeof port !== 'string')
      const everybody = [...this.kins.map(({ facts }) => facts), RESOLVER]
      return [
        // With names only, no port is left that does not depend on the receiver.
        ...(named.length > 0 && numbered?.length === 0
          ? []
          : withPeers(
              peers,
              portsOf(numbered, () => []),
            )),
        ...named.flatMap(({ name, protocol }) =>
          portNumbers(everybody, name, protocol).flatMap((port) => {
            const within = this.group(['port', name, protocol, port], (pod) =>
              portNumbers([pod], name, protocol).includes(port),
            )
            return withPeers(peers, [{ protocol, first: port, last: port }]).map((rule) => ({
              ...rule,
              within,
            }))
          }),
        ),
      ]
    })
  }

  private peers(namespace: string, peers: readonly NetworkPolicyPeer[] | undefined): FlowRule['peers'] {
    if (!peers?.length) return undefined
    const groups = peers.flatMap(({ ipBlock, namespaceSelector, podSelector }) => {
      if (ipBlock) return []
      const key = ['peer', namespaceSelector ?? namespace, podSelector ?? {}]
      const selectors = {
        ...(namespaceSelector ? { namespaceSelector } : {}),
        ...(podSelector ? { podSelector } : {}),
      }
      return [this.group(key, (pod) => peerSelects(selectors, namespace, pod, this.namespaces))]
    })
    return {
      groups: [...new Set(groups)].toSorted(),
      blocks: merged(peers.flatMap(({ ipBlock }) => (ipBlock ? blockRanges(ipBlock) : []))).map(
        ({ first, last }): AddressRange => ({ first: ipv4Text(first), last: ipv4Text(last) }),
      ),
    }
  }

  /** Named by what it is about, not by who is in it. */
  private group(about: unknown, has: (pod: ReachablePod) => boolean): string {
    const name = createHash('sha256').update(JSON.stringify(about)).digest('hex').slice(0, 24)
    if (!this.made.has(name)) {
      const pods = this.kins.flatMap(({ facts, places }) => (has(facts) ? places : []))
      this.made.set(name, { name, pods: pods.toSorted((a, b) => a - b), resolver: has(RESOLVER) })
    }
    return name
  }
}

/** No rule when there is nobody or no port that it could be about. */
function withPeers(peers: FlowRule['peers'], ports: FlowRule['ports']): FlowRule[] {
  if (ports?.length === 0 || (peers && peers.groups.length + peers.blocks.length === 0)) return []
  return [{ ...(peers ? { peers } : {}), ...(ports ? { ports } : {}) }]
}

function portsOf(
  ports: readonly NetworkPolicyPort[] | undefined,
  numbersOf: (name: string, protocol: PortRange['protocol']) => number[],
): FlowRule['ports'] {
  if (!ports?.length) return undefined
  const ranges = ports.flatMap(({ port, endPort, protocol = 'TCP' }): PortRange[] => {
    if (port === undefined) return [{ protocol, first: 1, last: PORT_LAST }]
    if (typeof port === 'number') return [{ protocol, first: port, last: endPort ?? port }]
    return numbersOf(port, protocol).map((number) => ({ protocol, first: number, last: number }))
  })
  return (['TCP', 'UDP', 'SCTP'] as const).flatMap((protocol) =>
    merged(ranges.filter((range) => range.protocol === protocol)).map((range) => ({ protocol, ...range })),
  )
}

function portNumbers(pods: readonly ReachablePod[], name: string, protocol: string): number[] {
  const numbers = pods.flatMap(({ namedPorts }) =>
    namedPorts
      .filter((named) => named.name === name && named.protocol === protocol)
      .map((named) => named.port),
  )
  return [...new Set(numbers)].toSorted((a, b) => a - b)
}

type Range = { first: number; last: number }

/** IPv4 addresses of the block without its exceptions; nothing has an IPv6 address, so such blocks mean nobody. */
function blockRanges({ cidr, except = [] }: { cidr: string; except?: readonly string[] }): Range[] {
  const [whole] = ipv4Range(cidr)
  if (!whole) return []
  const left: Range[] = []
  let from = whole.first
  for (const hole of merged(except.flatMap(ipv4Range))) {
    if (from > whole.last) return left
    if (hole.first > from) left.push({ first: from, last: Math.min(hole.first - 1, whole.last) })
    from = Math.max(from, hole.last + 1)
  }
  if (from <= whole.last) left.push({ first: from, last: whole.last })
  return left
}

function ipv4Range(cidr: string): Range[] {
  const block = parseIpBlock(cidr)
  if (block?.family !== 4) return []
  const { first, last } = rangeOf(block)
  return [{ first: Number(first), last: Number(last) }]
}

/** Sorted, with those that overlap or touch made one. */
function merged(ranges: readonly Range[]): Range[] {
  const result: Range[] = []
  for (const { first, last } of ranges.toSorted((a, b) => a.first - b.first)) {
    const before = result.at(-1)
    if (before && first <= before.last + 1) before.last = Math.max(before.last, last)
    else result.push({ first, last })
  }
  return result
}

function ipv4Text(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join('.')
}

function keyOf({ metadata }: NetworkPolicy): string {
  return `${metadata.namespace}/${metadata.name}`
}
