import type { StorageClass } from '../../api/index.ts'
import type { AdmissionPlugin, ResourceName } from './admission.ts'

const CLAIMS: ResourceName = { group: '', resource: 'persistentvolumeclaims' }
const CLASSES: ResourceName = { group: 'storage.k8s.io', resource: 'storageclasses' }
const DEFAULT_CLASS = 'storageclass.kubernetes.io/is-default-class'
/** Keeps a claim until no pod uses it any more. */
const CLAIM_FINALIZER = 'kubernetes.io/pvc-protection'

/** A claim that names no class gets the default one, and stays as long as pods use it. */
export const storageClaims: AdmissionPlugin = {
  name: 'StorageClaims',
  mutate({ operation, group, resource, subresource, object }, cluster) {
    if (operation !== 'CREATE' || group !== CLAIMS.group || resource !== CLAIMS.resource) return
    if (subresource !== undefined) return
    const finalizers = object.metadata.finalizers ?? []
    if (!finalizers.includes(CLAIM_FINALIZER)) object.metadata.finalizers = [...finalizers, CLAIM_FINALIZER]
    const spec = object['spec'] as { storageClassName?: string } | undefined
    if (!spec || spec.storageClassName !== undefined) return
    const classes = cluster.list(CLASSES) as readonly StorageClass[] // of that kind
    const standard = classes.find(({ metadata }) => metadata.annotations?.[DEFAULT_CLASS] === 'true')
    if (standard) spec.storageClassName = standard.metadata.name
  },
}
