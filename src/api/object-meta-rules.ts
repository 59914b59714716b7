import type { KindDefinition } from './kind.ts'
import {
  duplicateValue,
  forbiddenField,
  invalidValue,
  requiredValue,
  tooLong,
  tooMany,
} from './kinds/field-errors.ts'
import { dnsLabelProblem, dnsSubdomainProblem, qualifiedNameProblem } from './kinds/names.ts'
import { labelErrors } from './kinds/rules.ts'
import { ANNOTATIONS_BYTES_MAX, FINALIZERS_MAX, LABELS_MAX, OWNER_REFERENCES_MAX } from './limits.ts'
import type { KubeObject } from './meta.ts'
import type { FieldError } from './status.ts'

export const NAME_MISSING = requiredValue('metadata.name', 'name or generateName is required')

/** What is wrong with an object's metadata. */
export function metadataErrors(
  kind: Pick<KindDefinition, 'namespaced' | 'nameProblem' | 'custom'>,
  object: KubeObject,
  old?: KubeObject,
): FieldError[] {
  const { metadata } = object
  const errors: FieldError[] = []
  if (!metadata?.name) {
    // `generateName` was turned into a name before; what is left has neither.
    return [NAME_MISSING]
  }
  const nameProblem = (kind.nameProblem ?? dnsSubdomainProblem)(metadata.name)
  if (nameProblem) errors.push(invalidValue('metadata.name', metadata.name, nameProblem))
  if (kind.namespaced) {
    if (!metadata.namespace) errors.push(requiredValue('metadata.namespace'))
    else {
      const problem = dnsLabelProblem(metadata.namespace)
      if (problem) errors.push(invalidValue('metadata.namespace', metadata.namespace, problem))
    }
  } else if (metadata.namespace) errors.push(forbiddenField('metadata.namespace', 'not allowed on this type'))

  const labels = Object.keys(metadata.labels ?? {}).length
  if (labels > LABELS_MAX) errors.push(tooMany('metadata.labels', labels, LABELS_MAX))
  else errors.push(...labelErrors(metadata.labels, 'metadata.labels'))
  annotationErrors(metadata.annotations, errors)
  ownerErrors(metadata.ownerReferences, errors)
  finalizerErrors(metadata.finalizers, errors, { custom: kind.custom !== undefined })
  if (old) updateErrors(metadata, old.metadata, errors)
  return errors
}

function annotationErrors(annotations: KubeObject['metadata']['annotations'], errors: FieldError[]): void {
  let bytes = 0
  for (const [key, value] of Object.entries(annotations ?? {})) {
    const problem = qualifiedNameProblem(key.toLowerCase())
    if (problem) errors.push(invalidValue('metadata.annotations', key, problem))
    bytes += Buffer.byteLength(key) + Buffer.byteLength(value)
  }
  if (bytes > ANNOTATIONS_BYTES_MAX) errors.push(tooLong('metadata.annotations', ANNOTATIONS_BYTES_MAX))
}

function ownerErrors(owners: KubeObject['metadata']['ownerReferences'], errors: FieldError[]): void {
  if (owners && owners.length > OWNER_REFERENCES_MAX)
    errors.push(tooMany('metadata.ownerReferences', owners.length, OWNER_REFERENCES_MAX))
  let controllers = 0
  owners?.forEach((owner, index) => {
    const path = `metadata.ownerReferences[${index}]`
    for (const field of ['apiVersion', 'kind', 'name', 'uid'] as const) {
      if (!owner[field]) errors.push(requiredValue(`${path}.${field}`, `${field} must not be empty`))
    }
    if (owner.controller) controllers++
  })
  if (controllers > 1)
    errors.push(
      invalidValue(
        'metadata.ownerReferences',
        owners?.length,
        'Only one reference can have Controller set to true',
      ),
    )
}

/** The two that the garbage collector understands are not qualified; every other name says whose it is. */
const KNOWN_FINALIZERS: readonly string[] = ['orphan', 'foregroundDeletion']

export function isStandardFinalizer(name: string): boolean {
  return name.includes('/') || KNOWN_FINALIZERS.includes(name)
}

/** @param options.custom of a custom kind, whose operators are warned of names that do not say whose they are. */
function finalizerErrors(
  finalizers: KubeObject['metadata']['finalizers'],
  errors: FieldError[],
  { custom }: { custom: boolean },
): void {
  if (finalizers && finalizers.length > FINALIZERS_MAX)
    errors.push(tooMany('metadata.finalizers', finalizers.length, FINALIZERS_MAX))
  finalizers?.forEach((finalizer, index) => {
    const problem = qualifiedNameProblem(finalizer)
    if (problem) errors.push(invalidValue(`metadata.finalizers[${index}]`, finalizer, problem))
    else if (!custom && !isStandardFinalizer(finalizer))
      errors.push(
        invalidValue(
          `metadata.finalizers[${index}]`,
          finalizer,
          'name is neither a standard finalizer name nor is it fully qualified',
        ),
      )
  })
  if (finalizers && KNOWN_FINALIZERS.every((known) => finalizers.includes(known)))
    errors.push(
      invalidValue(
        'metadata.finalizers',
        finalizers,
        'finalizer orphan and foregroundDeletion cannot be both set',
      ),
    )
}

function updateErrors(
  metadata: KubeObject['metadata'],
  old: KubeObject['metadata'],
  errors: FieldError[],
): void {
  for (const field of [
    'name',
    'namespace',
    'uid',
    'creationTimestamp',
    'deletionTimestamp',
    'deletionGracePeriodSeconds',
  ] as const) {
    if (metadata[field] !== old[field])
      errors.push(invalidValue(`metadata.${field}`, metadata[field] ?? null, 'field is immutable'))
  }
  if (old.deletionTimestamp) {
    const added = (metadata.finalizers ?? []).filter((finalizer) => !old.finalizers?.includes(finalizer))
    if (added.length > 0)
      errors.push(
        forbiddenField(
          'metadata.finalizers',
          `no new finalizers can be added if the object is being deleted, found new finalizers ${JSON.stringify(added).slice(0, 512)}`,
        ),
      )
  }
  for (const owner of new Set((metadata.ownerReferences ?? []).map(({ uid }) => uid))) {
    if ((metadata.ownerReferences ?? []).filter(({ uid }) => uid === owner).length > 1)
      errors.push(duplicateValue('metadata.ownerReferences', owner))
  }
}
