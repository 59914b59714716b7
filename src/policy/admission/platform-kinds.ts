import { isDeepStrictEqual } from 'node:util'
import { forbidden, type KubeObject, userNames } from '../../api/index.ts'
import type { AdmissionPlugin, AdmissionRequest } from './admission.ts'

/** What each kind shows is decided on the machine: writing it would change nothing, or claim what is not so. */
const WHY: ReadonlyMap<string, string> = new Map([
  [
    '/persistentvolumes',
    'volumes are made by the platform, one for each PersistentVolumeClaim, and go with it',
  ],
  [
    '/nodes',
    'the node shows the share of the machine that the platform gives, and only the platform changes it, but for its labels, its annotations and spec.unschedulable',
  ],
  ['networking.k8s.io/ingressclasses', 'the platform decides which ways in there are'],
  ['storage.k8s.io/storageclasses', 'the platform decides which classes of storage there are'],
])

/** Kinds that tenants see and only the control plane's own components write. */
export const platformKinds: AdmissionPlugin = {
  name: 'PlatformKinds',
  refuse(request) {
    const { user, group, resource, name } = request
    const why = WHY.get(`${group}/${resource}`)
    if (why === undefined || user.kind === 'component' || isOwnOfNode(request)) return undefined
    return forbidden({ group, resource, name }, { tell: why, log: { user: userNames(user).name } })
  },
}

/**
 * Whether a tenant changes of its node what decides about its own pods alone: whether it takes more of them (kubectl cordon), and
 * what their selectors find.
 */
function isOwnOfNode({ operation, group, resource, object, old }: AdmissionRequest): boolean {
  if (operation !== 'UPDATE' || group !== '' || resource !== 'nodes') return false
  return old !== undefined && isDeepStrictEqual(withoutOwn(object), withoutOwn(old))
}

function withoutOwn(node: KubeObject): unknown {
  const {
    labels: _l,
    annotations: _a,
    managedFields: _m,
    generation: _g,
    resourceVersion: _v,
    ...metadata
  } = node.metadata
  const { unschedulable: _u, ...spec } = (node['spec'] ?? {}) as { unschedulable?: boolean }
  return { ...node, metadata, spec, status: node['status'] ?? {} }
}
