import { EGRESS_NARROWING_RULES_MAX } from '../egress.ts'
import type { KubeObject } from '../meta.ts'
import type { FieldError } from '../status.ts'
import { ageColumn, column, nameColumn, renderSelector, renderSince } from './columns.ts'
import { ALL_VERBS, defineKind, type TypedKind } from './define-kind.ts'
import { destinationErrors, egressPortsErrors } from './egress-rules.ts'
import { requiredValue, tooMany } from './field-errors.ts'
import { labelSelectorSchema, objectFields } from './meta.ts'
import { dnsSubdomainProblem } from './names.ts'
import { labelSelectorErrors } from './rules.ts'
import {
  int64,
  intOrString,
  list,
  map,
  object,
  oneOf,
  optional,
  required,
  string,
  time,
  type TypeOf,
} from './schema-builders.ts'

/** The platform’s own kinds in tenants’ APIs: what pods may reach outside, and how a tenant narrows it. */

const NETWORK = 'dev.bulkhead.network.v1alpha1'
/** Where upstream has nothing to compare with. */
export const NETWORK_GROUP = 'network.bulkhead.dev'

export const egressSchema = object(
  `${NETWORK}.Egress`,
  'Something outside that the operator has opened for pods of this namespace, or that pods wanted and nobody has opened.',
  {
    ...objectFields,
    state: required(
      oneOf('Open', 'Expired', 'Blocked', 'Learning'),
      'Open and Expired are what the operator wrote down. Blocked was wanted and is not allowed; Learning is not allowed either, but let through while the operator learns what is needed.',
    ),
    destination: required(string, 'A host name, "*." and one, where "*" is one label, or an IPv4 network.'),
    ports: optional(
      list(string),
      'Ports such as "443" or "53/UDP"; absent when only the name was asked for.',
    ),
    podLabels: optional(
      map(string),
      'Only pods that have all of these labels; all of the namespace when absent.',
    ),
    until: optional(time, 'When the operator’s rule ends.'),
    count: required(int64, 'How often it was used, or wanted, since the platform’s node agent began.'),
    lastTime: optional(time, 'When it was used, or wanted, last.'),
  },
)
const egressPolicyRule = object(
  `${NETWORK}.EgressPolicyRule`,
  'Something outside. Either a host or a cidr; it has an effect only as far as the operator has opened it.',
  {
    host: optional(string, 'A host name, or "*." and one, where "*" stands for one label.'),
    cidr: optional(string, 'An IPv4 network; 0.0.0.0/0 is every network that the operator has opened.'),
    ports: optional(
      list(intOrString),
      'Ports such as 443, "53/UDP" or, with cidr, "8000-8100". All that the operator has opened when absent. At most 16.',
    ),
  },
)
const egressPolicySpec = object(
  `${NETWORK}.EgressPolicySpec`,
  'Which pods, and what they may reach outside at most.',
  {
    podSelector: optional(labelSelectorSchema, 'Pods that the policy is about; empty selects all.', {
      default: {},
    }),
    allow: optional(
      list(egressPolicyRule),
      'What is left of what the operator has opened; nothing when absent or empty. At most 50.',
    ),
  },
)
export const egressPolicySchema = object(
  `${NETWORK}.EgressPolicy`,
  'Narrows what pods reach outside. It only takes away: what the operator has not opened stays closed. Of several that select a pod, each adds what it allows.',
  { ...objectFields, spec: optional(egressPolicySpec, 'What is wanted.', { default: {} }) },
)

export type Egress = KubeObject & { apiVersion: 'network.bulkhead.dev/v1alpha1'; kind: 'Egress' } & Pick<
    TypeOf<typeof egressSchema>,
    'state' | 'destination' | 'ports' | 'podLabels' | 'until' | 'count' | 'lastTime'
  >
export type EgressPolicySpec = TypeOf<typeof egressPolicySpec>
export type EgressPolicy = KubeObject & {
  apiVersion: 'network.bulkhead.dev/v1alpha1'
  kind: 'EgressPolicy'
  spec: EgressPolicySpec
}
export const egressKind: TypedKind<Egress> = {
  group: NETWORK_GROUP,
  version: 'v1alpha1',
  kind: 'Egress',
  plural: 'egresses',
  namespaced: true,
}
export const egressPolicyKind: TypedKind<EgressPolicy> = {
  group: NETWORK_GROUP,
  version: 'v1alpha1',
  kind: 'EgressPolicy',
  plural: 'egresspolicies',
  namespaced: true,
}

export const egressDefinition = defineKind(egressKind, {
  singular: 'egress',
  verbs: ['get', 'list'],
  measured: true,
  schema: egressSchema,
  nameProblem: dnsSubdomainProblem,
  columns: [
    nameColumn,
    column('State', 'Whether it can be reached.', ({ state }) => state),
    column('Destination', 'What is reached.', ({ destination }) => destination),
    column('Ports', 'On which ports.', ({ ports }) => ports?.join(',') ?? '<name>'),
    column('Pods', 'For which pods.', ({ podLabels }) =>
      renderSelector(podLabels ? { matchLabels: podLabels } : {}),
    ),
    column('Until', 'When the rule ends.', ({ until }) => until ?? '<never>'),
    column('Count', 'How often it was used or wanted.', ({ count }) => count, { type: 'integer' }),
    column('Last', 'How long ago that was.', ({ lastTime }, nowMs) =>
      lastTime === undefined ? '<never>' : renderSince(lastTime, nowMs),
    ),
  ],
})

export const egressPolicyDefinition = defineKind(egressPolicyKind, {
  singular: 'egresspolicy',
  verbs: ALL_VERBS,
  schema: egressPolicySchema,
  hasGeneration: true,
  nameProblem: dnsSubdomainProblem,
  columns: [
    nameColumn,
    column('Pod-Selector', 'Pods that it is about.', ({ spec }) => renderSelector(spec.podSelector)),
    column('Allow', 'What they may reach at most.', ({ spec: { allow = [] } }) =>
      allow.length === 0 ? '<nothing>' : allow.map(({ host, cidr }) => host ?? cidr ?? '').join(','),
    ),
    ageColumn,
  ],
  validate: ({ spec }) => validateSpec(spec),
})

function validateSpec({ podSelector, allow = [] }: EgressPolicySpec): FieldError[] {
  const errors = labelSelectorErrors(podSelector, 'spec.podSelector')
  if (allow.length > EGRESS_NARROWING_RULES_MAX)
    return [...errors, tooMany('spec.allow', allow.length, EGRESS_NARROWING_RULES_MAX)]
  for (const [index, { host, cidr, ports }] of allow.entries()) {
    const at = `spec.allow[${index}]`
    if ((host === undefined) === (cidr === undefined))
      errors.push(requiredValue(at, 'must have either a host or a cidr'))
    errors.push(
      ...destinationErrors({ host, cidr }, at),
      ...egressPortsErrors({ ports, host }, `${at}.ports`),
    )
  }
  return errors
}
