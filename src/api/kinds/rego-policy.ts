import { REGO_BUNDLE_CHARS_MAX } from '../limits.ts'
import type { KubeObject } from '../meta.ts'
import type { FieldError } from '../status.ts'
import { matchErrors } from './admission-policy-rules.ts'
import { matchResourcesSchema } from './admission-policy.ts'
import { ageColumn, column, nameColumn } from './columns.ts'
import { ALL_VERBS, defineKind, type TypedKind } from './define-kind.ts'
import { requiredValue, tooLong } from './field-errors.ts'
import { labelSelectorSchema, objectFields } from './meta.ts'
import { dnsSubdomainProblem } from './names.ts'
import { labelSelectorErrors } from './rules.ts'
import { bytes, object, optional, required, string, type TypeOf } from './schema-builders.ts'

/** The platform’s own kind: a policy of the operator in Rego, compiled to WebAssembly, for tenants’ APIs. */

const TENANCY = 'dev.bulkhead.tenancy.v1alpha1'

const regoPolicySpec = object(
  `${TENANCY}.RegoPolicySpec`,
  'Which writes of which tenants a compiled policy judges.',
  {
    bundle: required(
      bytes,
      'The bundle.tar.gz that "opa build -t wasm -e ENTRYPOINT" makes. At most 256 KiB.',
    ),
    entrypoint: optional(
      string,
      'The rule or package that is asked, such as kubernetes/admission/deny. Not needed when the bundle has one.',
    ),
    matchConstraints: required(matchResourcesSchema, 'Only these requests.'),
    tenantSelector: required(
      labelSelectorSchema,
      'Labels of Tenants in whose APIs it holds; {} is all of them.',
    ),
  },
)
const regoPolicySchema = object(
  `${TENANCY}.RegoPolicy`,
  'A rule of the operator for writes in tenants’ APIs, in Rego.',
  { ...objectFields, spec: required(regoPolicySpec, 'What is judged by what.') },
)

export type RegoPolicySpec = TypeOf<typeof regoPolicySpec>
export type RegoPolicy = KubeObject & {
  apiVersion: 'tenancy.bulkhead.dev/v1alpha1'
  kind: 'RegoPolicy'
  spec: RegoPolicySpec
}
export const regoPolicyKind: TypedKind<RegoPolicy> = {
  group: 'tenancy.bulkhead.dev',
  version: 'v1alpha1',
  kind: 'RegoPolicy',
  plural: 'regopolicies',
  namespaced: false,
}

export const regoPolicyDefinition = defineKind(regoPolicyKind, {
  singular: 'regopolicy',
  verbs: ALL_VERBS,
  schema: regoPolicySchema,
  hasGeneration: true,
  nameProblem: dnsSubdomainProblem,
  columns: [
    nameColumn,
    column('Entrypoint', 'The rule that is asked.', ({ spec }) => spec.entrypoint ?? '<only one>'),
    ageColumn,
  ],
  validate: validateRegoPolicy,
})

/** What the schema cannot say. Whether the bundle can be asked is looked at by admission, which does so. */
function validateRegoPolicy({ spec }: RegoPolicy): FieldError[] {
  const { bundle, matchConstraints, tenantSelector, entrypoint } = spec
  const errors: FieldError[] = []
  if (bundle === '') errors.push(requiredValue('spec.bundle'))
  else if (bundle.length > REGO_BUNDLE_CHARS_MAX) errors.push(tooLong('spec.bundle', REGO_BUNDLE_CHARS_MAX))
  if (entrypoint === '') errors.push(requiredValue('spec.entrypoint'))
  else if (entrypoint !== undefined && entrypoint.length > ENTRYPOINT_CHARS_MAX)
    errors.push(tooLong('spec.entrypoint', ENTRYPOINT_CHARS_MAX))
  errors.push(...matchErrors(matchConstraints, 'spec.matchConstraints', true))
  errors.push(...labelSelectorErrors(tenantSelector, 'spec.tenantSelector'))
  return errors
}

const ENTRYPOINT_CHARS_MAX = 256
