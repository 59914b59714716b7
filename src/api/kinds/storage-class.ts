import type { KubeObject } from '../meta.ts'
import { ageColumn, column, nameColumn } from './columns.ts'
import { ALL_VERBS, defineKind, type TypedKind } from './define-kind.ts'
import { objectFields } from './meta.ts'
import { dnsSubdomainProblem } from './names.ts'
import { boolean, object, oneOf, optional, required, string, type TypeOf } from './schema-builders.ts'

export const storageClassSchema = object(
  'io.k8s.api.storage.v1.StorageClass',
  'A kind of storage that the platform offers. Only the platform writes it.',
  {
    ...objectFields,
    allowVolumeExpansion: optional(boolean, 'Volumes may grow.'),
    provisioner: required(string, 'Who makes the volumes.'),
    reclaimPolicy: optional(oneOf('Delete'), 'A volume goes with its claim.', { default: 'Delete' }),
    volumeBindingMode: optional(oneOf('Immediate'), 'A claim gets its volume at once.', {
      default: 'Immediate',
    }),
  },
)
export type StorageClass = KubeObject & { apiVersion: 'storage.k8s.io/v1'; kind: 'StorageClass' } & Omit<
    TypeOf<typeof storageClassSchema>,
    'apiVersion' | 'kind' | 'metadata'
  >
export const storageClassKind: TypedKind<StorageClass> = {
  group: 'storage.k8s.io',
  version: 'v1',
  kind: 'StorageClass',
  plural: 'storageclasses',
  namespaced: false,
}

/** The one class that every control plane has. */
export const STORAGE_CLASS_NAME = 'standard'
export const STORAGE_PROVISIONER = 'bulkhead.dev/volumes'
const DEFAULT_CLASS = 'storageclass.kubernetes.io/is-default-class'

export const storageClassDefinition = defineKind(storageClassKind, {
  singular: 'storageclass',
  shortNames: ['sc'],
  verbs: ALL_VERBS,
  schema: storageClassSchema,
  nameProblem: dnsSubdomainProblem,
  columns: [
    {
      ...nameColumn,
      cell: ({ metadata }) =>
        metadata.annotations?.[DEFAULT_CLASS] === 'true' ? `${metadata.name} (default)` : metadata.name,
    },
    column('Provisioner', 'Who makes the volumes.', ({ provisioner }) => provisioner),
    column(
      'ReclaimPolicy',
      'What becomes of a volume after its claim.',
      ({ reclaimPolicy }) => reclaimPolicy ?? 'Delete',
    ),
    column(
      'VolumeBindingMode',
      'When a claim gets its volume.',
      ({ volumeBindingMode }) => volumeBindingMode ?? 'Immediate',
    ),
    column('AllowVolumeExpansion', 'Volumes may grow.', ({ allowVolumeExpansion }) =>
      String(allowVolumeExpansion ?? false),
    ),
    ageColumn,
  ],
})

/** What a control plane has from the start. */
export const defaultStorageClass = {
  metadata: { name: STORAGE_CLASS_NAME, annotations: { [DEFAULT_CLASS]: 'true' } },
  provisioner: STORAGE_PROVISIONER,
  reclaimPolicy: 'Delete',
  volumeBindingMode: 'Immediate',
  allowVolumeExpansion: true,
} as const
