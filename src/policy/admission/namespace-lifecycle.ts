import { ApiError, forbidden, notFound } from '../../api/index.ts'
import type { AdmissionPlugin } from './admission.ts'

/** Namespaces that a control plane cannot do without. */
export const PROTECTED_NAMESPACES: readonly string[] = ['default', 'kube-node-lease', 'kube-system']

/** Nothing is created in a namespace that does not exist or is going away; some namespaces stay. */
export const namespaceLifecycle: AdmissionPlugin = {
  name: 'NamespaceLifecycle',
  refuse({ operation, group, resource, subresource, namespace, name }, cluster) {
    if (
      operation === 'DELETE' &&
      group === '' &&
      resource === 'namespaces' &&
      PROTECTED_NAMESPACES.includes(name)
    )
      return forbidden({ group, resource, name }, { tell: 'this namespace may not be deleted' })
    if (operation !== 'CREATE' || namespace === undefined || subresource !== undefined) return undefined
    const found = cluster.get({ group: '', resource: 'namespaces', name: namespace })
    if (!found) return notFound({ group: '', resource: 'namespaces', name: namespace })
    if (found.metadata.deletionTimestamp === undefined) return undefined
    const refusal = forbidden(
      { group, resource, name },
      { tell: `unable to create new content in namespace ${namespace} because it is being terminated` },
    )
    return new ApiError('Forbidden', refusal.message, {
      details: {
        ...refusal.details,
        causes: [
          {
            reason: 'NamespaceTerminating',
            message: `namespace ${namespace} is being terminated`,
            field: 'metadata.namespace',
          },
        ],
      },
    })
  },
}
