import {
  type LabelSelector,
  matchesLabelSelector,
  type NetworkPolicyPeer,
  type NetworkPolicyPort,
  type NetworkPolicySpec,
  parseIpBlock,
  rangeOf,
} from '../api/index.ts'

/** A pod as network policies see it. */
export type ReachablePod = {
  namespace: string
  labels: Readonly<Record<string, string>>
  /** Ports that it gives names. */
  namedPorts: readonly { name: string; protocol: string; port: number }[]
}

/** One end of a connection: an address, and the pod that has it, if it is one of the tenant's. */
export type FlowEnd = { address: bigint; family: 4 | 6; pod?: ReachablePod }

export type Flow = { from: FlowEnd; to: FlowEnd; protocol: 'TCP' | 'UDP' | 'SCTP'; port: number }

export type IsolatingPolicy = { namespace: string; spec: NetworkPolicySpec }

/** Everything that decides about connections within one tenant. */
export type NetworkRules = {
  policies: readonly IsolatingPolicy[]
  /** Labels of every namespace. */
  namespaces: ReadonlyMap<string, Readonly<Record<string, string>>>
}

/**
 * Whether a new connection may be made: egress of its sender and ingress of its receiver must both allow it, and a
 * direction allows everything unless a policy about it selects the pod. A pod's connections to itself are no matter of
 * policies and must not be asked about.
 * https://kubernetes.io/docs/concepts/services-networking/network-policies/
 */
export function flowAllowed(rules: NetworkRules, flow: Flow): boolean {
  const { from, to } = flow
  const leaves = policiesOf(rules, from.pod, 'Egress')
  const enters = policiesOf(rules, to.pod, 'Ingress')
  return (
    (leaves.length === 0 ||
      leaves.some(({ namespace, spec }) =>
        spec.egress?.some((rule) => ruleAllows(rules, namespace, rule.to, rule.ports, to, flow)),
      )) &&
    (enters.length === 0 ||
      enters.some(({ namespace, spec }) =>
        spec.ingress?.some((rule) => ruleAllows(rules, namespace, rule.from, rule.ports, from, flow)),
      ))
  )
}

export type PolicyDirection = 'Ingress' | 'Egress'

/** Policies that isolate the pod in a direction. */
function policiesOf(
  { policies }: NetworkRules,
  pod: ReachablePod | undefined,
  direction: PolicyDirection,
): IsolatingPolicy[] {
  if (!pod) return []
  return policies.filter((policy) => isAbout(policy.spec, direction) && selectsPod(policy, pod))
}

/** True when the policy isolates pods in that direction. */
export function isAbout({ policyTypes, egress }: NetworkPolicySpec, direction: PolicyDirection): boolean {
  // As upstream fills it in; what is stored always has it.
  if (!policyTypes?.length) return direction === 'Ingress' || Boolean(egress?.length)
  return policyTypes.includes(direction)
}

/** True when the policy is about the pod. */
export function selectsPod({ namespace, spec }: IsolatingPolicy, pod: ReachablePod): boolean {
  return pod.namespace === namespace && matchesLabelSelector(spec.podSelector ?? {}, pod.labels)
}

function ruleAllows(
  rules: NetworkRules,
  namespace: string,
  peers: readonly NetworkPolicyPeer[] | undefined,
  ports: readonly NetworkPolicyPort[] | undefined,
  other: FlowEnd,
  flow: Flow,
): boolean {
  return (
    (!peers?.length || peers.some((peer) => peerMatches(rules, namespace, peer, other))) &&
    (!ports?.length || ports.some((port) => portMatches(port, flow)))
  )
}

function peerMatches(
  { namespaces }: NetworkRules,
  namespace: string,
  { ipBlock, ...selectors }: NetworkPolicyPeer,
  { address, family, pod }: FlowEnd,
): boolean {
  if (!ipBlock) return pod !== undefined && peerSelects(selectors, namespace, pod, namespaces)
  const within = (cidr: string) => {
    const block = parseIpBlock(cidr)
    if (block?.family !== family) return false
    const { first, last } = rangeOf(block)
    return first <= address && address <= last
  }
  return within(ipBlock.cidr) && !ipBlock.except?.some(within)
}

/** Whether a peer of a policy in `namespace` that is written with selectors means the pod. */
export function peerSelects(
  { namespaceSelector, podSelector }: { namespaceSelector?: LabelSelector; podSelector?: LabelSelector },
  namespace: string,
  pod: ReachablePod,
  namespaces: NetworkRules['namespaces'],
): boolean {
  const inNamespace = namespaceSelector
    ? matchesLabelSelector(namespaceSelector, namespaces.get(pod.namespace) ?? {})
    : pod.namespace === namespace
  return inNamespace && matchesLabelSelector(podSelector ?? {}, pod.labels)
}

/** A name means what the pod that is connected to calls so; whoever is no pod has no names. */
function portMatches({ protocol = 'TCP', port, endPort }: NetworkPolicyPort, flow: Flow): boolean {
  if (protocol !== flow.protocol) return false
  if (port === undefined) return true
  if (typeof port === 'string')
    return Boolean(
      flow.to.pod?.namedPorts.some(
        (named) => named.name === port && named.protocol === protocol && named.port === flow.port,
      ),
    )
  return port <= flow.port && flow.port <= (endPort ?? port)
}
