import { isDeepStrictEqual } from 'node:util'
import { parseFieldPath, parseJsonPath } from '../custom/json-path.ts'
import { readJsonSchema } from '../custom/json-schema.ts'
import { schemaAt, structuralErrors } from '../custom/structural.ts'
import { CUSTOM_COLUMNS_MAX, CUSTOM_SELECTABLE_FIELDS_MAX, CUSTOM_VERSIONS_MAX } from '../limits.ts'
import type { ObjectSchema } from '../schema.ts'
import type { FieldError } from '../status.ts'
import { type CheckOptions, type CheckResult, checkObject } from '../validation.ts'
import type {
  CustomResourceDefinition,
  CustomResourceNames,
  CustomResourceVersion,
} from './custom-resource-definition.ts'
import {
  duplicateValue,
  forbiddenField,
  invalidValue,
  requiredValue,
  tooMany,
  unsupportedValue,
} from './field-errors.ts'
import { dns1035LabelProblem, dnsSubdomainProblem } from './names.ts'
import { immutableError } from './rules.ts'

/** Held by a definition that is being deleted until its objects are gone. */
export const CUSTOM_CLEANUP_FINALIZER = 'customresourcecleanup.apiextensions.k8s.io'

const APPROVED = 'api-approved.kubernetes.io'
/** Groups that Kubernetes itself has: a definition there could take the place of what the platform serves one day. */
const BUILT_IN_GROUPS: readonly string[] = [
  'admissionregistration.k8s.io',
  'apiextensions.k8s.io',
  'apiregistration.k8s.io',
  'authentication.k8s.io',
  'authorization.k8s.io',
  'certificates.k8s.io',
  'coordination.k8s.io',
  'discovery.k8s.io',
  'events.k8s.io',
  'flowcontrol.apiserver.k8s.io',
  'internal.apiserver.k8s.io',
  'meta.k8s.io',
  'metrics.k8s.io',
  'network.bulkhead.dev',
  'networking.k8s.io',
  'node.k8s.io',
  'rbac.authorization.k8s.io',
  'resource.k8s.io',
  'scheduling.k8s.io',
  'storage.k8s.io',
  'storagemigration.k8s.io',
  'tenancy.bulkhead.dev',
]
const COLUMN_TYPES: readonly string[] = ['boolean', 'date', 'integer', 'number', 'string']
const COLUMN_FORMATS: readonly string[] = [
  'byte',
  'date',
  'date-time',
  'double',
  'float',
  'int32',
  'int64',
  'password',
]

/** Reads a definition, and in it the schemas, which the kind's own schema knows nothing about. */
export function checkCustomResourceDefinition(
  schema: ObjectSchema,
  value: unknown,
  options: CheckOptions,
): CheckResult {
  const result = checkObject({ schema, hasStatus: true }, value, options)
  const versions = (result.object['spec'] as { versions?: CustomResourceVersion[] } | undefined)?.versions
  versions?.forEach((version, index) => {
    const given: unknown = version.schema?.openAPIV3Schema
    if (given === undefined) return
    const read = readJsonSchema(given, `spec.versions[${index}].schema.openAPIV3Schema`)
    result.errors.push(...read.errors)
    result.unknownFields.push(...read.unknownFields)
    version.schema = { openAPIV3Schema: read.schema }
  })
  return result
}

export function applyCustomResourceDefinitionDefaults(
  definition: CustomResourceDefinition,
): CustomResourceDefinition {
  const { spec } = definition
  const { names } = spec
  if (names) {
    if (!names.singular) names.singular = (names.kind ?? '').toLowerCase()
    if (!names.listKind && names.kind) names.listKind = `${names.kind}List`
  }
  spec.conversion ??= { strategy: 'None' }
  if (!spec.conversion.strategy) spec.conversion.strategy = 'None'
  return definition
}

/** Objects may be stored as the version that is the storage version now, from now on. */
export function prepareCustomResourceDefinition(
  definition: CustomResourceDefinition,
  old?: CustomResourceDefinition,
): CustomResourceDefinition {
  const storage = definition.spec.versions.find((version) => version.storage)?.name
  const status = old
    ? { ...definition.status }
    : { acceptedNames: { kind: '', plural: '' }, conditions: [], storedVersions: [] }
  const stored = status.storedVersions ?? []
  if (storage !== undefined && !stored.includes(storage)) status.storedVersions = [...stored, storage]
  return { ...definition, status }
}

/** Its objects go first, and everybody can see that it is going. */
export function markCustomResourceDefinition(
  definition: CustomResourceDefinition,
  nowMs: number,
): CustomResourceDefinition {
  const { metadata, status = {} } = definition
  const finalizers = metadata.finalizers ?? []
  const conditions = status.conditions ?? []
  if (conditions.some(({ type }) => type === 'Terminating')) return definition
  return {
    ...definition,
    metadata: {
      ...metadata,
      finalizers: finalizers.includes(CUSTOM_CLEANUP_FINALIZER)
        ? finalizers
        : [...finalizers, CUSTOM_CLEANUP_FINALIZER],
    },
    status: {
      ...status,
      conditions: [
        ...conditions,
        {
          type: 'Terminating',
          status: 'True',
          reason: 'InstanceDeletionPending',
          message: 'CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon',
          lastTransitionTime: `${new Date(nowMs).toISOString().slice(0, 19)}Z`,
        },
      ],
    },
  }
}

export function validateCustomResourceDefinition(
  definition: CustomResourceDefinition,
  subresource: string | undefined,
  old?: CustomResourceDefinition,
): FieldError[] {
  const { spec, status, metadata } = definition
  const errors: FieldError[] = []
  // A definition that is there was checked when it was written; reporting on it must not fail.
  if (old && isDeepStrictEqual(spec, old.spec)) return storedVersionErrors(definition)
  if (subresource === 'status') return storedVersionErrors(definition)
  if (metadata.name !== `${spec.names.plural}.${spec.group}`)
    errors.push(invalidValue('metadata.name', metadata.name, 'must be spec.names.plural+"."+spec.group'))
  groupErrors(definition, errors)
  nameErrors(spec.names, errors)
  if (spec.preserveUnknownFields)
    errors.push(
      invalidValue(
        'spec.preserveUnknownFields',
        true,
        'must be false; write x-kubernetes-preserve-unknown-fields: true into the schema where unknown fields shall be kept',
      ),
    )
  if (spec.conversion?.strategy === 'Webhook')
    errors.push(
      forbiddenField(
        'spec.conversion.strategy',
        'the control plane calls no webhooks, because it has no network; write None, and give all versions the same fields',
      ),
    )
  else if (spec.conversion && spec.conversion.strategy !== 'None')
    errors.push(unsupportedValue('spec.conversion.strategy', spec.conversion.strategy, ['None']))
  versionErrors(spec.versions, errors)
  if (
    old?.status?.conditions?.some(({ type, status: state }) => type === 'Established' && state === 'True')
  ) {
    errors.push(...immutableError('spec.scope', spec.scope, old.spec.scope))
    errors.push(...immutableError('spec.names.kind', spec.names.kind, old.spec.names.kind))
  }
  if (old) {
    errors.push(...immutableError('spec.group', spec.group, old.spec.group))
    errors.push(...immutableError('spec.names.plural', spec.names.plural, old.spec.names.plural))
  }
  if (status) errors.push(...storedVersionErrors(definition))
  return errors
}

/** An object that is stored as a version which is not there any more could not be read. */
function storedVersionErrors({ spec, status }: CustomResourceDefinition): FieldError[] {
  const stored = status?.storedVersions ?? []
  return stored.flatMap((name, index) =>
    spec.versions.some((version) => version.name === name)
      ? []
      : [
          invalidValue(
            `status.storedVersions[${index}]`,
            name,
            'missing from spec.versions; must appear in spec.versions',
          ),
        ],
  )
}

function groupErrors({ spec, metadata }: CustomResourceDefinition, errors: FieldError[]): void {
  const { group } = spec
  const problem = group === '' ? undefined : dnsSubdomainProblem(group)
  if (group === '') errors.push(requiredValue('spec.group'))
  else if (problem) errors.push(invalidValue('spec.group', group, problem))
  else if (!group.includes('.'))
    errors.push(invalidValue('spec.group', group, 'should be a domain with at least one dot'))
  else if (BUILT_IN_GROUPS.includes(group))
    errors.push(
      forbiddenField(
        'spec.group',
        `"${group}" belongs to Kubernetes or to the platform; use a domain of your own`,
      ),
    )
  else if (/(^|\.)(k8s|kubernetes)\.io$/.test(group) && !metadata.annotations?.[APPROVED])
    errors.push(
      requiredValue(
        `metadata.annotations[${APPROVED}]`,
        `protected groups must have approval annotation "${APPROVED}", see https://github.com/kubernetes/enhancements/pull/1111`,
      ),
    )
}

function nameErrors(names: CustomResourceNames, errors: FieldError[]): void {
  const label = (field: string, value: string | undefined, mixedCase: boolean) => {
    if (!value) {
      errors.push(requiredValue(`spec.names.${field}`))
      return
    }
    const problem = dns1035LabelProblem(mixedCase ? value.toLowerCase() : value)
    if (problem)
      errors.push(
        invalidValue(
          `spec.names.${field}`,
          value,
          mixedCase ? `may have mixed case, but should otherwise match: ${problem}` : problem,
        ),
      )
  }
  label('plural', names.plural, false)
  label('singular', names.singular, false)
  label('kind', names.kind, true)
  label('listKind', names.listKind, true)
  if (names.kind && names.kind === names.listKind)
    errors.push(invalidValue('spec.names.listKind', names.listKind, 'kind and listKind may not be the same'))
  for (const field of ['shortNames', 'categories'] as const) {
    const list = names[field] ?? []
    if (list.length > 32) errors.push(tooMany(`spec.names.${field}`, list.length, 32))
    list.slice(0, 32).forEach((name, index) => {
      const problem = dns1035LabelProblem(name)
      if (problem) errors.push(invalidValue(`spec.names.${field}[${index}]`, name, problem))
    })
  }
}

function versionErrors(versions: readonly CustomResourceVersion[], errors: FieldError[]): void {
  if (versions.length > CUSTOM_VERSIONS_MAX) {
    errors.push(tooMany('spec.versions', versions.length, CUSTOM_VERSIONS_MAX))
    return
  }
  const shown = versions.map(({ name }) => name)
  if (new Set(shown).size < shown.length)
    errors.push(invalidValue('spec.versions', shown, 'must contain unique version names'))
  if (versions.filter(({ storage }) => storage).length !== 1)
    errors.push(
      invalidValue('spec.versions', shown, 'must have exactly one version marked as storage version'),
    )
  versions.forEach((version, index) => oneVersionErrors(version, `spec.versions[${index}]`, errors))
}

function oneVersionErrors(version: CustomResourceVersion, path: string, errors: FieldError[]): void {
  const problem = dns1035LabelProblem(version.name)
  if (problem) errors.push(invalidValue(`${path}.name`, version.name, problem))
  if (version.deprecationWarning !== undefined) {
    if (!version.deprecated)
      errors.push(
        invalidValue(
          `${path}.deprecationWarning`,
          version.deprecationWarning,
          'can only be set for deprecated versions',
        ),
      )
    // eslint-disable-next-line no-control-regex -- a header must not carry them
    if (version.deprecationWarning.length > 256 || /[\u0000-\u001f\u007f]/.test(version.deprecationWarning))
      errors.push(
        invalidValue(
          `${path}.deprecationWarning`,
          version.deprecationWarning,
          'must only contain printable characters, and no more than 256',
        ),
      )
  }
  const schema = version.schema?.openAPIV3Schema
  if (schema === undefined) {
    errors.push(requiredValue(`${path}.schema.openAPIV3Schema`, 'schemas are required'))
    return
  }
  const before = errors.length
  for (const error of structuralErrors(schema, `${path}.schema.openAPIV3Schema`)) errors.push(error)
  columnErrors(version, path, errors)
  scaleErrors(version, path, errors)
  const selectable = version.selectableFields ?? []
  if (selectable.length > CUSTOM_SELECTABLE_FIELDS_MAX)
    errors.push(tooMany(`${path}.selectableFields`, selectable.length, CUSTOM_SELECTABLE_FIELDS_MAX))
  const seen = new Set<string>()
  selectable.forEach(({ jsonPath }, index) => {
    const at = `${path}.selectableFields[${index}].jsonPath`
    const fields = parseFieldPath(jsonPath)
    if (seen.has(jsonPath)) errors.push(duplicateValue(at, jsonPath))
    seen.add(jsonPath)
    if (!fields)
      errors.push(invalidValue(at, jsonPath, 'is an invalid path: does not refer to a valid field'))
    else if (fields[0] === 'metadata')
      errors.push(invalidValue(at, jsonPath, 'must not point to fields in metadata'))
    else if (before === errors.length) {
      const field = schemaAt(schema, fields)
      if (!field)
        errors.push(invalidValue(at, jsonPath, 'is an invalid path: does not refer to a valid field'))
      else if (!['string', 'boolean', 'integer'].includes(field.type ?? ''))
        errors.push(
          invalidValue(
            at,
            jsonPath,
            'must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.',
          ),
        )
    }
  })
}

function columnErrors(
  { additionalPrinterColumns = [] }: CustomResourceVersion,
  path: string,
  errors: FieldError[],
): void {
  if (additionalPrinterColumns.length > CUSTOM_COLUMNS_MAX) {
    errors.push(
      tooMany(`${path}.additionalPrinterColumns`, additionalPrinterColumns.length, CUSTOM_COLUMNS_MAX),
    )
    return
  }
  additionalPrinterColumns.forEach(({ name, type, format, jsonPath }, index) => {
    const at = `${path}.additionalPrinterColumns[${index}]`
    if (!name) errors.push(requiredValue(`${at}.name`))
    if (!type) errors.push(requiredValue(`${at}.type`, `must be one of ${COLUMN_TYPES.join(',')}`))
    else if (!COLUMN_TYPES.includes(type)) errors.push(unsupportedValue(`${at}.type`, type, COLUMN_TYPES))
    if (format && !COLUMN_FORMATS.includes(format))
      errors.push(unsupportedValue(`${at}.format`, format, COLUMN_FORMATS))
    if (!jsonPath) errors.push(requiredValue(`${at}.jsonPath`))
    else if (!/^[.[]/.test(jsonPath) || !parseJsonPath(jsonPath))
      errors.push(
        invalidValue(
          `${at}.jsonPath`,
          jsonPath,
          'must be a simple json path starting with .: fields, ["fields"], [indexes], [*] and filters such as [?(@.type=="Ready")]',
        ),
      )
  })
}

function scaleErrors({ subresources }: CustomResourceVersion, path: string, errors: FieldError[]): void {
  const scale = subresources?.scale
  if (!scale) return
  for (const [field, roots] of [
    ['specReplicasPath', ['spec']],
    ['statusReplicasPath', ['status']],
    ['labelSelectorPath', ['spec', 'status']],
  ] as const) {
    const value = scale[field]
    const at = `${path}.subresources.scale.${field}`
    if (value === undefined || value === '') {
      if (field !== 'labelSelectorPath') errors.push(requiredValue(at))
      continue
    }
    const fields = parseFieldPath(value)
    const allowed: readonly (string | undefined)[] = roots
    if (!fields || fields.length < 2)
      errors.push(invalidValue(at, value, 'must be a simple json path of fields, such as .spec.replicas'))
    else if (!allowed.includes(fields[0]))
      errors.push(
        invalidValue(at, value, `should be a json path under ${roots.map((r) => `.${r}`).join(' or ')}`),
      )
  }
}
