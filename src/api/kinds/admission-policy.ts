import type { KubeObject } from '../meta.ts'
import { validateAdmissionPolicy, validateAdmissionPolicyBinding } from './admission-policy-rules.ts'
import { ageColumn, column, nameColumn } from './columns.ts'
import { ALL_VERBS, defineKind, statusSubresource, type TypedKind } from './define-kind.ts'
import { conditionSchema, labelSelectorSchema, objectFields } from './meta.ts'
import { dnsSubdomainProblem } from './names.ts'
import {
  int64,
  list,
  listByKey,
  object,
  oneOf,
  optional,
  required,
  setOf,
  string,
  type TypeOf,
} from './schema-builders.ts'

const GROUP = 'admissionregistration.k8s.io'
const ADMISSION = 'io.k8s.api.admissionregistration.v1'
const TENANCY = 'dev.bulkhead.tenancy.v1alpha1'

const namedRuleSchema = object(
  `${ADMISSION}.NamedRuleWithOperations`,
  'Which writes of which resources.',
  {
    apiGroups: optional(list(string), 'API groups, or *. The core group is "".'),
    apiVersions: optional(list(string), 'Versions, or *.'),
    operations: optional(list(oneOf('*', 'CREATE', 'UPDATE', 'DELETE', 'CONNECT')), 'What is done, or *.'),
    resourceNames: optional(list(string), 'Names of objects; all when empty.'),
    resources: optional(list(string), 'Resources such as pods, pods/status, pods/*, * or */*.'),
    scope: optional(oneOf('*', 'Cluster', 'Namespaced'), 'Whether objects are in namespaces.', {
      default: '*',
    }),
  },
  { atomic: true },
)
export const matchResourcesSchema = object(
  `${ADMISSION}.MatchResources`,
  'Which requests.',
  {
    excludeResourceRules: optional(list(namedRuleSchema), 'Never these.'),
    matchPolicy: optional(
      oneOf('Exact', 'Equivalent'),
      'Whether a rule also means the other versions of a resource.',
      { default: 'Equivalent' },
    ),
    namespaceSelector: optional(labelSelectorSchema, 'Labels of the namespace that the object is in.', {
      default: {},
    }),
    objectSelector: optional(labelSelectorSchema, 'Labels of the object, or of what it was before.', {
      default: {},
    }),
    resourceRules: optional(list(namedRuleSchema), 'These, if any of the rules fits.'),
  },
  { atomic: true },
)
const named = (name: string, description: string) =>
  object(`${ADMISSION}.${name}`, description, {
    name: required(string, 'How it is called.'),
    expression: required(string, 'CEL.'),
  })
const variableSchema = object(
  `${ADMISSION}.Variable`,
  'Something that several expressions use, computed when one of them asks.',
  {
    name: required(string, 'Used as variables.NAME.'),
    expression: required(string, 'CEL; sees the variables before it.'),
  },
  { atomic: true },
)
const policySpecSchema = object(`${ADMISSION}.ValidatingAdmissionPolicySpec`, 'What must hold.', {
  auditAnnotations: optional(
    list(
      object(`${ADMISSION}.AuditAnnotation`, 'Something to be noted about a request.', {
        key: required(string, 'What it is called.'),
        valueExpression: required(string, 'CEL that gives a string, or null for nothing.'),
      }),
    ),
    'What is noted about the requests.',
  ),
  failurePolicy: optional(
    oneOf('Ignore', 'Fail'),
    'Whether a request is let in when an expression cannot be evaluated.',
    { default: 'Fail' },
  ),
  matchConditions: optional(
    listByKey(named('MatchCondition', 'A condition on requests.'), ['name']),
    'Only requests for which all of these are true.',
  ),
  matchConstraints: optional(matchResourcesSchema, 'Only these requests.'),
  paramKind: optional(
    object(
      `${ADMISSION}.ParamKind`,
      'A kind whose objects hold what differs from binding to binding.',
      { apiVersion: optional(string, 'Such as v1.'), kind: optional(string, 'Such as ConfigMap.') },
      { atomic: true },
    ),
    'The kind of `params`.',
  ),
  validations: optional(
    list(
      object(`${ADMISSION}.Validation`, 'Something that must hold.', {
        expression: required(string, 'CEL that gives a boolean.'),
        message: optional(string, 'What is told when it does not hold.'),
        messageExpression: optional(string, 'CEL that gives the message.'),
        reason: optional(
          string,
          'Reason of the answer: Unauthorized, Forbidden, Invalid or RequestEntityTooLarge.',
        ),
      }),
    ),
    'What must hold.',
  ),
  variables: optional(listByKey(variableSchema, ['name']), 'What several expressions use.'),
})
const policyStatusSchema = object(`${ADMISSION}.ValidatingAdmissionPolicyStatus`, 'What was found.', {
  conditions: optional(listByKey(conditionSchema, ['type'], {}), 'What is known about it.'),
  observedGeneration: optional(int64, 'The generation of spec that the status shows.'),
  typeChecking: optional(
    object(`${ADMISSION}.TypeChecking`, 'What does not fit the schemas of the kinds it is about.', {
      expressionWarnings: optional(
        list(
          object(`${ADMISSION}.ExpressionWarning`, 'What does not fit in one expression.', {
            fieldRef: required(string, 'Which expression.'),
            warning: required(string, 'What does not fit.'),
          }),
        ),
        'One for each expression with a problem.',
      ),
    }),
    'What does not fit the schemas of the kinds it is about.',
  ),
})
export const validatingAdmissionPolicySchema = object(
  `${ADMISSION}.ValidatingAdmissionPolicy`,
  'A rule for writes, in CEL. It holds where a binding says so.',
  {
    ...objectFields,
    spec: optional(policySpecSchema, 'What must hold.'),
    status: optional(policyStatusSchema, 'What was found about it. Kept by the platform.'),
  },
)

const bindingFields = {
  matchResources: optional(matchResourcesSchema, 'Only these of the requests that the policy is about.'),
  paramRef: optional(
    object(
      `${ADMISSION}.ParamRef`,
      'The objects that are `params`, by name or by labels.',
      {
        name: optional(string, 'Name of the one object.'),
        namespace: optional(string, 'Its namespace; that of the request when absent.'),
        parameterNotFoundAction: optional(string, 'When there is none: Allow or Deny.'),
        selector: optional(labelSelectorSchema, 'Labels of the objects.'),
      },
      { atomic: true },
    ),
    'What `params` is.',
  ),
  policyName: required(string, 'The policy that holds.'),
  validationActions: required(
    setOf(oneOf('Deny', 'Warn', 'Audit')),
    'What happens when a validation does not hold.',
  ),
}
export const validatingAdmissionPolicyBindingSchema = object(
  `${ADMISSION}.ValidatingAdmissionPolicyBinding`,
  'Makes a policy hold.',
  {
    ...objectFields,
    spec: required(
      object(`${ADMISSION}.ValidatingAdmissionPolicyBindingSpec`, 'Where it holds.', bindingFields),
      'Where it holds.',
    ),
  },
)
/** The operator's: with `tenantSelector` the policy holds in tenants' APIs, and not in the platform's own. */
const platformBindingSchema = object(
  `${TENANCY}.ValidatingAdmissionPolicyBinding`,
  'Makes a policy hold, in the platform’s API or in those of tenants.',
  {
    ...objectFields,
    spec: required(
      object(`${TENANCY}.ValidatingAdmissionPolicyBindingSpec`, 'Where it holds.', {
        ...bindingFields,
        tenantSelector: optional(
          labelSelectorSchema,
          'Labels of Tenants in whose APIs it holds; {} is all of them. Absent: it holds in the platform’s own API.',
        ),
      }),
      'Where it holds.',
    ),
  },
)

export type MatchResources = TypeOf<typeof matchResourcesSchema>
export type NamedRule = TypeOf<typeof namedRuleSchema>
export type ValidatingAdmissionPolicySpec = TypeOf<typeof policySpecSchema>
export type ValidatingAdmissionPolicyStatus = TypeOf<typeof policyStatusSchema>
export type ValidatingAdmissionPolicy = KubeObject & {
  apiVersion: 'admissionregistration.k8s.io/v1'
  kind: 'ValidatingAdmissionPolicy'
  spec?: ValidatingAdmissionPolicySpec
  status?: ValidatingAdmissionPolicyStatus
}
export type ValidatingAdmissionPolicyBinding = KubeObject & {
  apiVersion: 'admissionregistration.k8s.io/v1'
  kind: 'ValidatingAdmissionPolicyBinding'
} & Pick<TypeOf<typeof platformBindingSchema>, 'spec'>

export const validatingAdmissionPolicyKind: TypedKind<ValidatingAdmissionPolicy> = {
  group: GROUP,
  version: 'v1',
  kind: 'ValidatingAdmissionPolicy',
  plural: 'validatingadmissionpolicies',
  namespaced: false,
}
export const validatingAdmissionPolicyBindingKind: TypedKind<ValidatingAdmissionPolicyBinding> = {
  group: GROUP,
  version: 'v1',
  kind: 'ValidatingAdmissionPolicyBinding',
  plural: 'validatingadmissionpolicybindings',
  namespaced: false,
}

export const validatingAdmissionPolicyDefinition = defineKind(validatingAdmissionPolicyKind, {
  singular: 'validatingadmissionpolicy',
  categories: ['api-extensions'],
  verbs: ALL_VERBS,
  schema: validatingAdmissionPolicySchema,
  subresources: [statusSubresource],
  hasGeneration: true,
  hasStatus: true,
  nameProblem: dnsSubdomainProblem,
  columns: [
    nameColumn,
    column('Validations', 'How many things must hold.', ({ spec }) => spec?.validations?.length ?? 0, {
      type: 'integer',
    }),
    column('ParamKind', 'The kind of its parameters.', ({ spec }) =>
      spec?.paramKind ? `${spec.paramKind.apiVersion}/${spec.paramKind.kind}` : '<unset>',
    ),
    ageColumn,
  ],
  validate: validateAdmissionPolicy,
})

function definitionOfBinding(schema: typeof validatingAdmissionPolicyBindingSchema) {
  return defineKind(validatingAdmissionPolicyBindingKind, {
    singular: 'validatingadmissionpolicybinding',
    categories: ['api-extensions'],
    verbs: ALL_VERBS,
    schema,
    hasGeneration: true,
    nameProblem: dnsSubdomainProblem,
    columns: [
      nameColumn,
      column('PolicyName', 'The policy that holds.', ({ spec }) => spec.policyName),
      column('ParamRef', 'Its parameters.', ({ spec: { paramRef } }) =>
        paramRef
          ? paramRef.namespace
            ? `${paramRef.namespace}/${paramRef.name ?? '*'}`
            : (paramRef.name ?? '*')
          : '<unset>',
      ),
      ageColumn,
    ],
    validate: validateAdmissionPolicyBinding,
  })
}
export const validatingAdmissionPolicyBindingDefinition = definitionOfBinding(
  validatingAdmissionPolicyBindingSchema,
)
export const platformAdmissionPolicyBindingDefinition = definitionOfBinding(platformBindingSchema)
