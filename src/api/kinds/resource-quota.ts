import type { KubeObject } from '../meta.ts'
import { parseQuantity } from '../quantity.ts'
import type { FieldError } from '../status.ts'
import { ageColumn, column, nameColumn } from './columns.ts'
import { ALL_VERBS, defineKind, statusSubresource, type TypedKind } from './define-kind.ts'
import { invalidValue, requiredValue } from './field-errors.ts'
import { objectFields } from './meta.ts'
import { dnsSubdomainProblem, qualifiedNameProblem } from './names.ts'
import { immutableError } from './rules.ts'
import {
  list,
  map,
  object,
  oneOf,
  optional,
  quantity,
  required,
  string,
  type TypeOf,
} from './schema-builders.ts'

const CORE = 'io.k8s.api.core.v1'

const scopeName = oneOf('BestEffort', 'NotBestEffort', 'NotTerminating', 'PriorityClass', 'Terminating')
const scopeSelectorSchema = object(
  `${CORE}.ScopeSelector`,
  'Which pods a quota counts; all conditions must hold.',
  {
    matchExpressions: optional(
      list(
        object(`${CORE}.ScopedResourceSelectorRequirement`, 'One condition on a pod.', {
          operator: required(
            oneOf('DoesNotExist', 'Exists', 'In', 'NotIn'),
            'How the priority class is compared; Exists for all other conditions.',
          ),
          scopeName: required(scopeName, 'The condition.'),
          values: optional(list(string), 'Names of priority classes, for In and NotIn.'),
        }),
      ),
      'The conditions.',
    ),
  },
  { atomic: true },
)
const resourceQuotaSpecSchema = object(`${CORE}.ResourceQuotaSpec`, 'What a namespace may have.', {
  hard: optional(map(quantity), 'How much at most, such as pods: 10 or requests.cpu: 2.'),
  scopeSelector: optional(scopeSelectorSchema, 'Which pods are counted.'),
  scopes: optional(list(scopeName), 'Which pods are counted; all must hold.'),
})
const resourceQuotaStatusSchema = object(`${CORE}.ResourceQuotaStatus`, 'What a namespace has.', {
  hard: optional(map(quantity), 'How much at most, as it was counted.'),
  used: optional(map(quantity), 'How much there is.'),
})
export const resourceQuotaSchema = object(`${CORE}.ResourceQuota`, 'Bounds what a namespace may have.', {
  ...objectFields,
  spec: optional(resourceQuotaSpecSchema, 'What is wanted.', { default: {} }),
  status: optional(resourceQuotaStatusSchema, 'How it is. Kept by the platform.'),
})
export type ResourceQuotaSpec = TypeOf<typeof resourceQuotaSpecSchema>
export type ResourceQuotaStatus = TypeOf<typeof resourceQuotaStatusSchema>
export type ResourceQuota = KubeObject & {
  apiVersion: 'v1'
  kind: 'ResourceQuota'
  spec: ResourceQuotaSpec
  status?: ResourceQuotaStatus
}
export const resourceQuotaKind: TypedKind<ResourceQuota> = {
  group: '',
  version: 'v1',
  kind: 'ResourceQuota',
  plural: 'resourcequotas',
  namespaced: true,
}
export const resourceQuotaDefinition = defineKind(resourceQuotaKind, {
  singular: 'resourcequota',
  showsDeleted: true,
  shortNames: ['quota'],
  verbs: ALL_VERBS,
  schema: resourceQuotaSchema,
  subresources: [statusSubresource],
  hasStatus: true,
  nameProblem: dnsSubdomainProblem,
  columns: [
    nameColumn,
    column('Request', 'Used of allowed, but for limits.', (quota) => renderUsage(quota, false)),
    column('Limit', 'Used of allowed limits.', (quota) => renderUsage(quota, true)),
    ageColumn,
  ],
  validate: validateResourceQuota,
  prepareForCreate: (quota) => ({ ...quota, status: {} }),
})

function renderUsage({ status }: ResourceQuota, limits: boolean): string {
  return Object.keys(status?.hard ?? {})
    .filter((resource) => resource.startsWith('limits.') === limits)
    .sort()
    .map((resource) => `${resource}: ${status?.used?.[resource] ?? '0'}/${status?.hard?.[resource]}`)
    .join(', ')
}

/** Amounts of pods that a quota can bound. */
export const QUOTA_COMPUTE_RESOURCES: readonly string[] = [
  'cpu',
  'memory',
  'ephemeral-storage',
  'requests.cpu',
  'requests.memory',
  'requests.ephemeral-storage',
  'limits.cpu',
  'limits.memory',
  'limits.ephemeral-storage',
]
/** Kinds that a quota can count by their bare name; `count/RESOURCE.GROUP` counts any. */
export const QUOTA_OBJECT_RESOURCES: readonly string[] = [
  'configmaps',
  'persistentvolumeclaims',
  'pods',
  'replicationcontrollers',
  'resourcequotas',
  'secrets',
  'services',
]
/** Services of type LoadBalancer. */
export const QUOTA_LOAD_BALANCERS = 'services.loadbalancers'
/** Sizes of claims together; `CLASS.storageclass.storage.k8s.io/requests.storage` counts those of one class. */
export const QUOTA_STORAGE = 'requests.storage'
/** Ends the name of a bound on the claims of one class, before `/`. */
export const QUOTA_STORAGE_CLASS_SUFFIX = '.storageclass.storage.k8s.io'
/** What upstream counts and nothing here can have: of it there is always none. */
const ALWAYS_NONE: readonly string[] = ['services.nodeports']
/** Such as `requests.example.com/gpu`, which no pod here can ask for: of those there is always none as well. */
const EXTENDED_RESOURCE = /^requests\.[^/]+\/[^/]+$/

function validateResourceQuota(
  { spec }: ResourceQuota,
  _context: unknown,
  old?: ResourceQuota,
): FieldError[] {
  const errors: FieldError[] = []
  const scopes = [
    ...(spec.scopes ?? []),
    ...(spec.scopeSelector?.matchExpressions ?? []).map((expression) => expression.scopeName),
  ]
  for (const [resource, text] of Object.entries(spec.hard ?? {})) {
    const at = `spec.hard[${resource}]`
    const problem = resourceProblem(resource)
    if (problem) errors.push(invalidValue(at, resource, problem))
    const { nanos } = parseQuantity(text)
    if (nanos < 0n) errors.push(invalidValue(at, text, 'must be greater than or equal to 0'))
    if (!QUOTA_COMPUTE_RESOURCES.includes(resource) && nanos % 1_000_000_000n !== 0n)
      errors.push(invalidValue(at, text, 'must be an integer'))
    const ofPods = QUOTA_COMPUTE_RESOURCES.includes(resource) || resource === 'pods'
    if (scopes.length > 0 && (scopes.includes('BestEffort') ? resource !== 'pods' : !ofPods))
      errors.push(invalidValue('spec.scopes', scopes, 'unsupported scope applied to resource'))
  }
  for (const [index, requirement] of (spec.scopeSelector?.matchExpressions ?? []).entries())
    errors.push(...requirementErrors(requirement, `spec.scopeSelector.matchExpressions[${index}]`))
  for (const pair of [
    ['BestEffort', 'NotBestEffort'],
    ['Terminating', 'NotTerminating'],
  ] as const)
    if (pair.every((scope) => scopes.includes(scope)))
      errors.push(invalidValue('spec.scopes', scopes, 'conflicting scopes'))
  if (old) errors.push(...immutableError('spec.scopes', spec.scopes, old.spec.scopes))
  return errors
}

type Requirement = NonNullable<NonNullable<ResourceQuotaSpec['scopeSelector']>['matchExpressions']>[number]

function requirementErrors({ scopeName, operator, values = [] }: Requirement, at: string): FieldError[] {
  if (scopeName !== 'PriorityClass' && operator !== 'Exists')
    return [invalidValue(`${at}.operator`, operator, `must be 'Exists' for the scope ${scopeName}`)]
  const takesValues = operator === 'In' || operator === 'NotIn'
  if (takesValues && values.length === 0)
    return [requiredValue(`${at}.values`, `must be at least one value when operator is '${operator}'`)]
  if (!takesValues && values.length > 0)
    return [invalidValue(`${at}.values`, values, `must be no value when operator is '${operator}'`)]
  return []
}

function resourceProblem(resource: string): string | undefined {
  const problem = qualifiedNameProblem(resource)
  if (problem) return problem
  const known = [
    ...QUOTA_COMPUTE_RESOURCES,
    ...QUOTA_OBJECT_RESOURCES,
    QUOTA_LOAD_BALANCERS,
    QUOTA_STORAGE,
    ...ALWAYS_NONE,
  ]
  const [prefix = '', name = ''] = resource.split('/', 2)
  if (prefix.endsWith(QUOTA_STORAGE_CLASS_SUFFIX) && [QUOTA_STORAGE, 'persistentvolumeclaims'].includes(name))
    return undefined
  if (known.includes(resource) || /^count\/[^/]+$/.test(resource) || EXTENDED_RESOURCE.test(resource))
    return undefined
  return 'must be a standard resource for quota, or count/RESOURCE.GROUP'
}
