import type { WriteContext } from '../kind.ts'
import type { KubeObject } from '../meta.ts'
import { parseQuantity } from '../quantity.ts'
import type { FieldError } from '../status.ts'
import { ageColumn, column, nameColumn } from './columns.ts'
import { ALL_VERBS, defineKind, statusSubresource, type TypedKind } from './define-kind.ts'
import { forbiddenField, invalidValue, requiredValue } from './field-errors.ts'
import { objectFields, objectMetaSchema } from './meta.ts'
import { dnsSubdomainProblem } from './names.ts'
import { equalField } from './rules.ts'
import {
  list,
  listByKey,
  map,
  object,
  oneOf,
  optional,
  quantity,
  required,
  string,
  time,
  type TypeOf,
} from './schema-builders.ts'

const CORE = 'io.k8s.api.core.v1'

export const accessMode = oneOf('ReadOnlyMany', 'ReadWriteMany', 'ReadWriteOnce', 'ReadWriteOncePod')
export const volumeMode = oneOf('Filesystem')

export const claimSpecSchema = object(`${CORE}.PersistentVolumeClaimSpec`, 'What volume is wanted.', {
  accessModes: optional(
    list(accessMode),
    'Who may use it at a time. Every pod of the tenant runs on one node, so only ReadWriteOncePod keeps others away.',
  ),
  resources: optional(
    object(`${CORE}.VolumeResourceRequirements`, 'How large it is.', {
      limits: optional(map(quantity), 'Without effect: a volume has the size that it requests.'),
      requests: optional(map(quantity), 'storage: how large it is at least; may grow later.'),
    }),
    'How large it is.',
    { default: {} },
  ),
  storageClassName: optional(
    string,
    'The class of storage; the default class when absent. Empty: no volume is made.',
  ),
  volumeMode: optional(volumeMode, 'A volume holds files.', { default: 'Filesystem' }),
  volumeName: optional(string, 'The volume that the claim has got. Kept by the platform.'),
})
const claimStatusSchema = object(`${CORE}.PersistentVolumeClaimStatus`, 'How a claim is.', {
  accessModes: optional(list(accessMode), 'Who may use the volume at a time.'),
  capacity: optional(map(quantity), 'How large the volume is.'),
  conditions: optional(
    listByKey(
      object(`${CORE}.PersistentVolumeClaimCondition`, 'One thing known about it.', {
        lastProbeTime: optional(time, 'When it was looked at last.'),
        lastTransitionTime: optional(time, 'When it changed.'),
        message: optional(string, 'For people.'),
        reason: optional(string, 'For programs.'),
        status: required(string, 'True, False or Unknown.'),
        type: required(string, 'What is known.'),
      }),
      ['type'],
    ),
    'What is known about it.',
  ),
  phase: optional(oneOf('Bound', 'Lost', 'Pending'), 'Bound once it has a volume.'),
})
export const persistentVolumeClaimSchema = object(
  `${CORE}.PersistentVolumeClaim`,
  'Asks for a volume that outlives pods.',
  {
    ...objectFields,
    spec: optional(claimSpecSchema, 'What is wanted.', { default: {} }),
    status: optional(claimStatusSchema, 'How it is. Kept by the platform.'),
  },
)
export const claimTemplateSchema = object(
  `${CORE}.PersistentVolumeClaimTemplate`,
  'The claim that is made with the pod.',
  {
    metadata: optional(objectMetaSchema, 'Labels and annotations of the claim.'),
    spec: required(claimSpecSchema, 'What is wanted.'),
  },
)

export type ClaimSpec = TypeOf<typeof claimSpecSchema>
export type ClaimStatus = TypeOf<typeof claimStatusSchema>
export type AccessMode = (typeof accessMode.enum)[number]
export type PersistentVolumeClaim = KubeObject & {
  apiVersion: 'v1'
  kind: 'PersistentVolumeClaim'
  spec: ClaimSpec
  status?: ClaimStatus
}
export const persistentVolumeClaimKind: TypedKind<PersistentVolumeClaim> = {
  group: '',
  version: 'v1',
  kind: 'PersistentVolumeClaim',
  plural: 'persistentvolumeclaims',
  namespaced: true,
}
export const persistentVolumeClaimDefinition = defineKind(persistentVolumeClaimKind, {
  singular: 'persistentvolumeclaim',
  showsDeleted: true,
  shortNames: ['pvc'],
  verbs: ALL_VERBS,
  schema: persistentVolumeClaimSchema,
  subresources: [statusSubresource],
  hasStatus: true,
  nameProblem: dnsSubdomainProblem,
  columns: [
    nameColumn,
    column('Status', 'Bound once it has a volume.', ({ metadata, status }) =>
      metadata.deletionTimestamp ? 'Terminating' : (status?.phase ?? 'Pending'),
    ),
    column('Volume', 'The volume it has got.', ({ spec }) => spec.volumeName ?? ''),
    column('Capacity', 'How large the volume is.', ({ status }) => status?.capacity?.['storage'] ?? ''),
    column('Access Modes', 'Who may use it at a time.', ({ status }) =>
      renderAccessModes(status?.accessModes),
    ),
    column('StorageClass', 'Its class of storage.', ({ spec }) => spec.storageClassName ?? ''),
    column('VolumeAttributesClass', 'There are none.', () => '<unset>'),
    ageColumn,
    column('VolumeMode', 'A volume holds files.', ({ spec }) => spec.volumeMode ?? '<unset>', {
      priority: 1,
    }),
  ],
  validate: validateClaim,
  prepareForCreate: (claim) => ({ ...claim, status: { phase: 'Pending' as const } }),
})

const SHORT_MODES: Record<AccessMode, string> = {
  ReadWriteOnce: 'RWO',
  ReadOnlyMany: 'ROX',
  ReadWriteMany: 'RWX',
  ReadWriteOncePod: 'RWOP',
}

/** In kubectl's order, each once. */
export function renderAccessModes(modes: readonly AccessMode[] = []): string {
  return Object.entries(SHORT_MODES)
    .flatMap(([mode, short]) => (modes.some((m) => m === mode) ? [short] : []))
    .join(',')
}

/** What a claim asks for at least, in bytes; 0 when it does not say. More than a number can say is infinite. */
export function claimedBytes({ resources }: ClaimSpec): number {
  const text = resources?.requests?.['storage']
  if (text === undefined) return 0
  const nanos = parseQuantity(text).nanos
  const bytes = Number((nanos + NANOS_PER_BYTE - 1n) / NANOS_PER_BYTE)
  return Number.isSafeInteger(bytes) ? bytes : Infinity
}
const NANOS_PER_BYTE = 1_000_000_000n

export function claimSpecErrors(spec: ClaimSpec | undefined, path: string): FieldError[] {
  const errors: FieldError[] = []
  const modes = spec?.accessModes ?? []
  if (modes.length === 0)
    errors.push(requiredValue(`${path}.accessModes`, 'at least 1 access mode is required'))
  if (modes.includes('ReadWriteOncePod') && modes.length > 1)
    errors.push(forbiddenField(`${path}.accessModes`, 'may not use ReadWriteOncePod with other access modes'))
  const storage = spec?.resources?.requests?.['storage']
  if (storage === undefined) errors.push(requiredValue(`${path}.resources[storage]`))
  else if (parseQuantity(storage).nanos <= 0n)
    errors.push(invalidValue(`${path}.resources[storage]`, storage, 'must be greater than zero'))
  if (spec?.storageClassName) {
    const problem = dnsSubdomainProblem(spec.storageClassName)
    if (problem) errors.push(invalidValue(`${path}.storageClassName`, spec.storageClassName, problem))
  }
  return errors
}

function validateClaim(
  { spec, status }: PersistentVolumeClaim,
  { user, subresource }: WriteContext,
  old?: PersistentVolumeClaim,
): FieldError[] {
  if (subresource === 'status') return capacityErrors(status)
  const errors = claimSpecErrors(spec, 'spec')
  if (user.kind !== 'component' && (spec.volumeName ?? '') !== (old?.spec.volumeName ?? ''))
    errors.push(
      forbiddenField(
        'spec.volumeName',
        'every claim gets a volume of its own, which the platform makes and names. Instead: leave it out',
      ),
    )
  if (!old) return errors
  const isBound = old.status?.phase === 'Bound'
  if (!equalField(fixedPart(spec, isBound), fixedPart(old.spec, isBound)))
    errors.push(
      forbiddenField(
        'spec',
        'spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims',
      ),
    )
  const capacity = old.status?.capacity?.['storage']
  const wanted = spec.resources?.requests?.['storage']
  const before = old.spec.resources?.requests?.['storage']
  if (isBound && capacity !== undefined && wanted !== undefined && wanted !== before) {
    // A request may be taken back as long as the volume has not grown.
    if (parseQuantity(wanted).nanos < parseQuantity(capacity).nanos && !equalAmounts(wanted, before))
      errors.push(
        forbiddenField('spec.resources.requests.storage', 'field can not be less than status.capacity'),
      )
  }
  return errors
}

function equalAmounts(left: string, right: string | undefined): boolean {
  return right !== undefined && parseQuantity(left).nanos === parseQuantity(right).nanos
}

/** What may never change: all but the size of a bound claim, and the volume, which is looked at apart. */
function fixedPart(spec: ClaimSpec, isBound: boolean): object {
  const { volumeName: _, resources, ...rest } = spec
  const { requests, ...others } = resources ?? {}
  const { storage, ...more } = requests ?? {}
  return { ...rest, ...others, requests: more, ...(isBound || storage === undefined ? {} : { storage }) }
}

function capacityErrors(status: ClaimStatus | undefined): FieldError[] {
  return Object.entries(status?.capacity ?? {}).flatMap(([resource, amount]) =>
    parseQuantity(amount).nanos < 0n
      ? [invalidValue(`status.capacity[${resource}]`, amount, 'must be greater than or equal to 0')]
      : [],
  )
}
