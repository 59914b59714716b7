import { containsBlock, type IpBlock, parseIpBlock } from '../ip-block.ts'
import {
  NETWORK_POLICY_PEERS_MAX,
  NETWORK_POLICY_PORTS_MAX,
  NETWORK_POLICY_RULES_MAX,
  NETWORK_POLICY_TERMS_MAX,
} from '../limits.ts'
import type { KubeObject } from '../meta.ts'
import type { FieldError } from '../status.ts'
import { ageColumn, column, nameColumn, renderSelector } from './columns.ts'
import { ALL_VERBS, defineKind, type TypedKind } from './define-kind.ts'
import { forbiddenField, invalidValue, requiredValue, tooMany } from './field-errors.ts'
import { labelSelectorSchema, objectFields } from './meta.ts'
import { dnsSubdomainProblem, portNameProblem, portNumberProblem } from './names.ts'
import { labelSelectorErrors } from './rules.ts'
import {
  int32,
  intOrString,
  list,
  object,
  oneOf,
  optional,
  required,
  string,
  type TypeOf,
} from './schema-builders.ts'

const NETWORKING = 'io.k8s.api.networking.v1'

const ipBlockSchema = object(`${NETWORKING}.IPBlock`, 'A range of addresses, with exceptions.', {
  cidr: required(string, 'The range, such as 10.0.0.0/8.'),
  except: optional(list(string), 'Ranges within it that do not count.'),
})
const networkPolicyPeerSchema = object(
  `${NETWORKING}.NetworkPolicyPeer`,
  'Who may be on the other side: pods by labels, or a range of addresses.',
  {
    ipBlock: optional(ipBlockSchema, 'A range of addresses. Not together with a selector.'),
    namespaceSelector: optional(
      labelSelectorSchema,
      'Namespaces of the pods; empty selects all of them, absent only the namespace of the policy.',
    ),
    podSelector: optional(labelSelectorSchema, 'Pods in those namespaces; empty or absent selects all.'),
  },
)
const networkPolicyPortSchema = object(
  `${NETWORKING}.NetworkPolicyPort`,
  'A port, or a range of ports, of the pod that is connected to.',
  {
    endPort: optional(int32, 'The last port of a range that begins with `port`.'),
    port: optional(intOrString, 'The port by number, or by the name that the pod gives it; absent for all.'),
    protocol: optional(oneOf('TCP', 'UDP', 'SCTP'), 'The protocol.', { default: 'TCP' }),
  },
)
const ports = optional(list(networkPolicyPortSchema), 'Ports that are allowed; none given allows all.')
const networkPolicyIngressRuleSchema = object(
  `${NETWORKING}.NetworkPolicyIngressRule`,
  'Connections that the pods may get.',
  { from: optional(list(networkPolicyPeerSchema), 'From whom; nobody given allows everybody.'), ports },
)
const networkPolicyEgressRuleSchema = object(
  `${NETWORKING}.NetworkPolicyEgressRule`,
  'Connections that the pods may make.',
  { ports, to: optional(list(networkPolicyPeerSchema), 'To whom; nobody given allows everybody.') },
)
const networkPolicySpecSchema = object(`${NETWORKING}.NetworkPolicySpec`, 'Which pods, and what they may.', {
  egress: optional(
    list(networkPolicyEgressRuleSchema),
    'What the pods may connect to, if the policy is about egress.',
  ),
  ingress: optional(
    list(networkPolicyIngressRuleSchema),
    'What may connect to the pods, if the policy is about ingress.',
  ),
  podSelector: optional(labelSelectorSchema, 'Pods that the policy is about; empty selects all.', {
    default: {},
  }),
  policyTypes: optional(
    list(oneOf('Ingress', 'Egress')),
    'What the policy is about. When absent: Ingress, and Egress if there are egress rules.',
  ),
})
export const networkPolicySchema = object(
  `${NETWORKING}.NetworkPolicy`,
  'Isolates pods: connections that no policy allows are refused, in the directions that policies are about.',
  { ...objectFields, spec: optional(networkPolicySpecSchema, 'What is wanted.', { default: {} }) },
)
export type NetworkPolicyPeer = TypeOf<typeof networkPolicyPeerSchema>
export type NetworkPolicyPort = TypeOf<typeof networkPolicyPortSchema>
export type NetworkPolicySpec = TypeOf<typeof networkPolicySpecSchema>
export type NetworkPolicy = KubeObject & {
  apiVersion: 'networking.k8s.io/v1'
  kind: 'NetworkPolicy'
  spec: NetworkPolicySpec
}
export const networkPolicyKind: TypedKind<NetworkPolicy> = {
  group: 'networking.k8s.io',
  version: 'v1',
  kind: 'NetworkPolicy',
  plural: 'networkpolicies',
  namespaced: true,
}
export const networkPolicyDefinition = defineKind(networkPolicyKind, {
  singular: 'networkpolicy',
  shortNames: ['netpol'],
  verbs: ALL_VERBS,
  schema: networkPolicySchema,
  hasGeneration: true,
  nameProblem: dnsSubdomainProblem,
  columns: [
    nameColumn,
    column('Pod-Selector', 'Pods that it is about.', ({ spec }) => renderSelector(spec.podSelector)),
    ageColumn,
  ],
  applyDefaults: (policy) => {
    if (!policy.spec.policyTypes?.length)
      policy.spec.policyTypes = policy.spec.egress?.length ? ['Ingress', 'Egress'] : ['Ingress']
    return policy
  },
  validate: ({ spec }) => validateSpec(spec),
})

function validateSpec({
  podSelector,
  ingress = [],
  egress = [],
  policyTypes = [],
}: NetworkPolicySpec): FieldError[] {
  const errors = labelSelectorErrors(podSelector, 'spec.podSelector')
  const rules = [
    ...ingress.map((rule, at) => ({
      ports: rule.ports,
      peers: rule.from,
      path: `spec.ingress[${at}]`,
      to: 'from',
    })),
    ...egress.map((rule, at) => ({
      ports: rule.ports,
      peers: rule.to,
      path: `spec.egress[${at}]`,
      to: 'to',
    })),
  ]
  for (const [field, given] of Object.entries({ ingress, egress }))
    if (given.length > NETWORK_POLICY_RULES_MAX)
      errors.push(tooMany(`spec.${field}`, given.length, NETWORK_POLICY_RULES_MAX))
  let terms = 0
  for (const { ports: rulePorts = [], peers = [], path, to } of rules) {
    if (rulePorts.length > NETWORK_POLICY_PORTS_MAX)
      errors.push(tooMany(`${path}.ports`, rulePorts.length, NETWORK_POLICY_PORTS_MAX))
    if (peers.length > NETWORK_POLICY_PEERS_MAX)
      errors.push(tooMany(`${path}.${to}`, peers.length, NETWORK_POLICY_PEERS_MAX))
    terms += rulePorts.length + peers.reduce((sum, peer) => sum + 1 + (peer.ipBlock?.except?.length ?? 0), 1)
    for (const [at, port] of rulePorts.entries()) errors.push(...portErrors(port, `${path}.ports[${at}]`))
    for (const [at, peer] of peers.entries()) errors.push(...peerErrors(peer, `${path}.${to}[${at}]`))
  }
  if (terms > NETWORK_POLICY_TERMS_MAX)
    errors.push(
      forbiddenField(
        'spec',
        `rules, peers, exceptions and ports together are ${terms}, more than ${NETWORK_POLICY_TERMS_MAX}; write several policies`,
      ),
    )
  if (policyTypes.length > 2)
    errors.push(invalidValue('spec.policyTypes', policyTypes, 'may not specify more than two policyTypes'))
  return errors
}

function portErrors({ port, endPort }: NetworkPolicyPort, path: string): FieldError[] {
  const end = `${path}.endPort`
  if (port === undefined)
    return endPort === undefined
      ? []
      : [invalidValue(end, endPort, 'may not be specified when `port` is not specified')]
  if (typeof port === 'string') {
    const errors =
      endPort === undefined
        ? []
        : [invalidValue(end, endPort, 'may not be specified when `port` is non-numeric')]
    const problem = portNameProblem(port)
    return problem ? [...errors, invalidValue(`${path}.port`, port, problem)] : errors
  }
  const errors: FieldError[] = []
  const problem = portNumberProblem(port)
  if (problem) errors.push(invalidValue(`${path}.port`, port, problem))
  if (endPort === undefined) return errors
  if (endPort < port) errors.push(invalidValue(end, port, 'must be greater than or equal to `port`'))
  const endProblem = portNumberProblem(endPort)
  if (endProblem) errors.push(invalidValue(end, endPort, endProblem))
  return errors
}

function peerErrors(
  { ipBlock, namespaceSelector, podSelector }: NetworkPolicyPeer,
  path: string,
): FieldError[] {
  const errors = [
    ...labelSelectorErrors(podSelector, `${path}.podSelector`),
    ...labelSelectorErrors(namespaceSelector, `${path}.namespaceSelector`),
  ]
  if (!ipBlock)
    return podSelector || namespaceSelector ? errors : [requiredValue(path, 'must specify a peer')]
  errors.push(...ipBlockErrors(ipBlock, `${path}.ipBlock`))
  if (podSelector || namespaceSelector)
    errors.push(forbiddenField(path, 'may not specify both ipBlock and another peer'))
  return errors
}

const CIDR_PROBLEM = 'must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)'

function ipBlockErrors(
  { cidr, except = [] }: { cidr: string; except?: string[] },
  path: string,
): FieldError[] {
  if (cidr === '') return [requiredValue(`${path}.cidr`)]
  const block = parseIpBlock(cidr)
  if (!block) return [invalidValue(`${path}.cidr`, cidr, CIDR_PROBLEM)]
  return except.flatMap((text, at) => {
    const inner = parseIpBlock(text)
    if (!inner) return [invalidValue(`${path}.except[${at}]`, text, CIDR_PROBLEM)]
    return isStrictSubset(inner, block)
      ? []
      : [invalidValue(`${path}.except[${at}]`, text, 'must be a strict subset of `cidr`')]
  })
}

function isStrictSubset(inner: IpBlock, outer: IpBlock): boolean {
  return containsBlock(outer, inner) && inner.bits > outer.bits
}
