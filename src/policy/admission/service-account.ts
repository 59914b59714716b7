import { forbidden } from '../../api/index.ts'
import type { AdmissionPlugin } from './admission.ts'

/**
 * A pod runs as `default` unless it names another service account, which must exist. `default` itself is made by a
 * controller shortly after its namespace, so a pod does not have to wait for it.
 */
export const serviceAccount: AdmissionPlugin = {
  name: 'ServiceAccount',
  mutate({ operation, group, resource, subresource, object }) {
    if (operation !== 'CREATE' || group !== '' || resource !== 'pods' || subresource !== undefined) return
    const spec = object['spec'] as { serviceAccountName?: string; serviceAccount?: string }
    if (spec.serviceAccountName) return
    spec.serviceAccountName = 'default'
    // The old name of the same field, which upstream still shows beside it.
    spec.serviceAccount = 'default'
  },
  refuse({ operation, group, resource, subresource, namespace, name, object }, cluster) {
    if (operation !== 'CREATE' || group !== '' || resource !== 'pods' || subresource !== undefined)
      return undefined
    const account = (object['spec'] as { serviceAccountName?: string }).serviceAccountName
    if (account === undefined || account === 'default' || namespace === undefined) return undefined
    if (cluster.get({ group: '', resource: 'serviceaccounts', namespace, name: account })) return undefined
    return forbidden(
      { group, resource, name },
      {
        tell: `error looking up service account ${namespace}/${account}: serviceaccount "${account}" not found`,
      },
    )
  },
}
