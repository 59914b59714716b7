import type { KubeObject } from '../meta.ts'
import { ageColumn, column, nameColumn } from './columns.ts'
import { ALL_VERBS, defineKind, statusSubresource, type TypedKind } from './define-kind.ts'
import { objectFields } from './meta.ts'
import { dnsSubdomainProblem } from './names.ts'
import { accessMode, renderAccessModes, volumeMode } from './persistent-volume-claim.ts'
import { objectReferenceSchema } from './pod-schema.ts'
import { list, map, object, oneOf, optional, quantity, string, time, type TypeOf } from './schema-builders.ts'

const CORE = 'io.k8s.api.core.v1'

export const persistentVolumeSchema = object(
  `${CORE}.PersistentVolume`,
  'A volume that a claim has got. Only the platform writes it; where the bytes are is not told.',
  {
    ...objectFields,
    spec: optional(
      object(`${CORE}.PersistentVolumeSpec`, 'What it is.', {
        accessModes: optional(list(accessMode), 'Who may use it at a time.'),
        capacity: optional(map(quantity), 'How large it is.'),
        claimRef: optional(objectReferenceSchema, 'The claim that has it.'),
        persistentVolumeReclaimPolicy: optional(oneOf('Delete'), 'It goes with its claim.'),
        storageClassName: optional(string, 'Its class of storage.'),
        volumeMode: optional(volumeMode, 'It holds files.'),
      }),
      'What it is.',
      { default: {} },
    ),
    status: optional(
      object(`${CORE}.PersistentVolumeStatus`, 'How it is.', {
        lastPhaseTransitionTime: optional(time, 'Since when.'),
        message: optional(string, 'For people.'),
        phase: optional(
          oneOf('Available', 'Bound', 'Failed', 'Pending', 'Released'),
          'Whether a claim has it.',
        ),
        reason: optional(string, 'For programs.'),
      }),
      'How it is. Kept by the platform.',
    ),
  },
)
export type PersistentVolumeSpec = NonNullable<TypeOf<typeof persistentVolumeSchema>['spec']>
export type PersistentVolume = KubeObject & { apiVersion: 'v1'; kind: 'PersistentVolume' } & Pick<
    TypeOf<typeof persistentVolumeSchema>,
    'spec' | 'status'
  >
export const persistentVolumeKind: TypedKind<PersistentVolume> = {
  group: '',
  version: 'v1',
  kind: 'PersistentVolume',
  plural: 'persistentvolumes',
  namespaced: false,
}
export const persistentVolumeDefinition = defineKind(persistentVolumeKind, {
  singular: 'persistentvolume',
  shortNames: ['pv'],
  verbs: ALL_VERBS,
  schema: persistentVolumeSchema,
  subresources: [statusSubresource],
  hasStatus: true,
  nameProblem: dnsSubdomainProblem,
  columns: [
    nameColumn,
    column('Capacity', 'How large it is.', ({ spec }) => spec?.capacity?.['storage'] ?? ''),
    column('Access Modes', 'Who may use it at a time.', ({ spec }) => renderAccessModes(spec?.accessModes)),
    column(
      'Reclaim Policy',
      'What becomes of it after its claim.',
      ({ spec }) => spec?.persistentVolumeReclaimPolicy ?? '',
    ),
    column('Status', 'Whether a claim has it.', ({ metadata, status }) =>
      metadata.deletionTimestamp ? 'Terminating' : (status?.phase ?? 'Pending'),
    ),
    column('Claim', 'The claim that has it.', ({ spec }) =>
      spec?.claimRef ? `${spec.claimRef.namespace ?? ''}/${spec.claimRef.name ?? ''}` : '',
    ),
    column('StorageClass', 'Its class of storage.', ({ spec }) => spec?.storageClassName ?? ''),
    column('VolumeAttributesClass', 'There are none.', () => '<unset>'),
    column('Reason', 'Why it is as it is.', ({ status }) => status?.reason ?? ''),
    ageColumn,
    column('VolumeMode', 'It holds files.', ({ spec }) => spec?.volumeMode ?? '<unset>', { priority: 1 }),
  ],
  prepareForCreate: (volume) => ({ ...volume, status: { phase: 'Pending' as const } }),
})
