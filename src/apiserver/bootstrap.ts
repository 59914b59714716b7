import {
  ApiError,
  defaultStorageClass,
  type KindDefinition,
  type KindRegistry,
  SYSTEM_PRIORITY_CLASSES,
  VIRTUAL_NODE_NAME,
  defaultIngressClass,
} from '../api/index.ts'
import type { ApiClient } from '../client/index.ts'
import { PROTECTED_NAMESPACES, type PolicyRule, RBAC_GROUP } from '../policy/index.ts'

/** What a control plane holds before anybody has written anything. */
type Seed = {
  group: string
  kind: string
  object: { metadata: { name: string; namespace?: string } } & Record<string, unknown>
}

/** Where clients look for signs of life of a node. */
const NODE_LEASES = 'kube-node-lease'

const READ = ['get', 'list', 'watch']
const WRITE = ['create', 'delete', 'deletecollection', 'patch', 'update']

/**
 * What `edit` may change. No `/status`, which only components report, and no endpoints: whoever writes those decides
 * where other people's traffic goes (CVE-2021-25740).
 */
const EDITABLE: readonly PolicyRule[] = [
  {
    apiGroups: [''],
    resources: [
      'pods',
      'pods/attach',
      'pods/eviction',
      'pods/exec',
      'pods/portforward',
      'pods/proxy',
      'configmaps',
      'events',
      'persistentvolumeclaims',
      'replicationcontrollers',
      'replicationcontrollers/scale',
      'secrets',
      'serviceaccounts',
      'services',
      'services/proxy',
    ],
    verbs: [...READ, ...WRITE],
  },
  { apiGroups: [''], resources: ['serviceaccounts/token'], verbs: ['create'] },
  {
    apiGroups: ['apps'],
    resources: [
      'daemonsets',
      'deployments',
      'deployments/scale',
      'replicasets',
      'replicasets/scale',
      'statefulsets',
      'statefulsets/scale',
    ],
    verbs: [...READ, ...WRITE],
  },
  { apiGroups: ['batch'], resources: ['cronjobs', 'jobs'], verbs: [...READ, ...WRITE] },
  { apiGroups: ['autoscaling'], resources: ['horizontalpodautoscalers'], verbs: [...READ, ...WRITE] },
  { apiGroups: ['policy'], resources: ['poddisruptionbudgets'], verbs: [...READ, ...WRITE] },
  {
    apiGroups: ['networking.k8s.io'],
    resources: ['ingresses', 'networkpolicies'],
    verbs: [...READ, ...WRITE],
  },
  { apiGroups: ['network.bulkhead.dev'], resources: ['egresspolicies'], verbs: [...READ, ...WRITE] },
  { apiGroups: ['coordination.k8s.io'], resources: ['leases'], verbs: [...READ, ...WRITE] },
]

/** No Secrets, as upstream: who reads them can become every service account of the namespace. */
const VIEWABLE: readonly PolicyRule[] = [
  {
    apiGroups: [''],
    resources: [
      'pods',
      'pods/log',
      'pods/status',
      'configmaps',
      'endpoints',
      'events',
      'limitranges',
      'namespaces',
      'persistentvolumeclaims',
      'replicationcontrollers',
      'replicationcontrollers/scale',
      'replicationcontrollers/status',
      'resourcequotas',
      'resourcequotas/status',
      'serviceaccounts',
      'services',
      'services/status',
    ],
    verbs: READ,
  },
  {
    apiGroups: [
      'apps',
      'batch',
      'autoscaling',
      'discovery.k8s.io',
      'policy',
      'networking.k8s.io',
      'network.bulkhead.dev',
      'events.k8s.io',
      'metrics.k8s.io',
    ],
    resources: ['*'],
    verbs: READ,
  },
]

const NAMESPACE_ADMIN: readonly PolicyRule[] = [
  { apiGroups: [RBAC_GROUP], resources: ['roles', 'rolebindings'], verbs: [...READ, ...WRITE] },
  { apiGroups: ['authorization.k8s.io'], resources: ['localsubjectaccessreviews'], verbs: ['create'] },
]

const EVERYTHING: readonly PolicyRule[] = [
  { apiGroups: ['*'], resources: ['*'], verbs: ['*'] },
  { nonResourceURLs: ['*'], verbs: ['*'] },
]

const HEALTH = ['/healthz', '/livez', '/readyz', '/version', '/version/']
const DISCOVERY = ['/api', '/api/*', '/apis', '/apis/*', '/openapi', '/openapi/*']
const ISSUER = ['/.well-known/openid-configuration', '/openid/v1/jwks']

function aggregated(to: 'admin' | 'edit' | 'view'): Record<string, unknown> {
  return {
    aggregationRule: {
      clusterRoleSelectors: [{ matchLabels: { [`${RBAC_GROUP}/aggregate-to-${to}`]: 'true' } }],
    },
  }
}

function clusterRole(
  name: string,
  rules: readonly PolicyRule[],
  more: Record<string, unknown> = {},
  labels = {},
): Seed {
  return {
    group: RBAC_GROUP,
    kind: 'ClusterRole',
    object: {
      metadata: { name, labels: { 'kubernetes.io/bootstrapping': 'rbac-defaults', ...labels } },
      rules,
      ...more,
    } as Seed['object'],
  }
}

function clusterRoleBinding(name: string, role: string, groups: readonly string[]): Seed {
  return {
    group: RBAC_GROUP,
    kind: 'ClusterRoleBinding',
    object: {
      metadata: { name, labels: { 'kubernetes.io/bootstrapping': 'rbac-defaults' } } as { name: string },
      roleRef: { apiGroup: RBAC_GROUP, kind: 'ClusterRole', name: role },
      subjects: groups.map((group) => ({ apiGroup: RBAC_GROUP, kind: 'Group', name: group })),
    },
  }
}

function seeds(adminGroup: string): Seed[] {
  const aggregate = (to: string) => ({ [`${RBAC_GROUP}/aggregate-to-${to}`]: 'true' })
  return [
    // First, so that a quota that has been lowered leaves room for who can delete something.
    clusterRole('cluster-admin', EVERYTHING),
    clusterRoleBinding('bulkhead:tenant-admins', 'cluster-admin', [adminGroup]),
    ...PROTECTED_NAMESPACES.map((name) => ({ group: '', kind: 'Namespace', object: { metadata: { name } } })),
    { group: 'storage.k8s.io', kind: 'StorageClass', object: defaultStorageClass },
    ...SYSTEM_PRIORITY_CLASSES.map((object) => ({
      group: 'scheduling.k8s.io',
      kind: 'PriorityClass',
      object,
    })),
    { group: '', kind: 'Node', object: { metadata: { name: VIRTUAL_NODE_NAME } } },
    // Nothing beats here, so it says who holds it and no time: a renewal would keep the control plane from sleeping.
    {
      group: 'coordination.k8s.io',
      kind: 'Lease',
      object: {
        metadata: { name: VIRTUAL_NODE_NAME, namespace: NODE_LEASES },
        spec: { holderIdentity: VIRTUAL_NODE_NAME },
      },
    },
    { group: 'networking.k8s.io', kind: 'IngressClass', object: defaultIngressClass },
    clusterRole('admin', [], aggregated('admin')),
    clusterRole('edit', [], aggregated('edit'), aggregate('admin')),
    clusterRole('view', [], aggregated('view'), aggregate('edit')),
    clusterRole('system:aggregate-to-admin', NAMESPACE_ADMIN, {}, aggregate('admin')),
    clusterRole('system:aggregate-to-edit', EDITABLE, {}, aggregate('edit')),
    clusterRole('system:aggregate-to-view', VIEWABLE, {}, aggregate('view')),
    clusterRole('system:basic-user', [
      {
        apiGroups: ['authorization.k8s.io'],
        resources: ['selfsubjectaccessreviews', 'selfsubjectrulesreviews'],
        verbs: ['create'],
      },
      { apiGroups: ['authentication.k8s.io'], resources: ['selfsubjectreviews'], verbs: ['create'] },
    ]),
    clusterRole('system:discovery', [{ nonResourceURLs: [...DISCOVERY, ...HEALTH].sort(), verbs: ['get'] }]),
    clusterRole('system:public-info-viewer', [{ nonResourceURLs: HEALTH, verbs: ['get'] }]),
    clusterRole('system:service-account-issuer-discovery', [{ nonResourceURLs: ISSUER, verbs: ['get'] }]),
    clusterRoleBinding('system:basic-user', 'system:basic-user', ['system:authenticated']),
    clusterRoleBinding('system:discovery', 'system:discovery', ['system:authenticated']),
    clusterRoleBinding('system:public-info-viewer', 'system:public-info-viewer', [
      'system:authenticated',
      'system:unauthenticated',
    ]),
    clusterRoleBinding('system:service-account-issuer-discovery', 'system:service-account-issuer-discovery', [
      'system:serviceaccounts',
    ]),
  ]
}

/**
 * Creates what is not there yet. What a tenant has changed since stays changed, with one exception by design: the
 * binding of its administrators cannot be lost, because creating it again takes no more than a restart. What is refused, because
 * the tenant has used up its quota, must not keep the control plane from starting: `onRefused` is told.
 */
export async function bootstrap(
  client: ApiClient,
  registry: KindRegistry,
  adminGroup: string,
  onRefused: (refusal: ApiError) => void,
): Promise<void> {
  const create = ({ group, kind, object }: Seed) => {
    const definition = registry.findKind({ group, kind })
    return definition ? [createOnce(client, definition, object, onRefused)] : []
  }
  const { first = [], later = [] } = Object.groupBy(seeds(adminGroup), ({ object }) =>
    object.metadata.namespace === undefined ? 'first' : 'later',
  )
  await Promise.all(first.flatMap(create))
  // What is in a namespace is let in once that is there.
  await Promise.all(later.flatMap(create))
}

async function createOnce(
  client: ApiClient,
  definition: KindDefinition,
  object: Seed['object'],
  onRefused: (refusal: ApiError) => void,
): Promise<void> {
  try {
    await client.get(definition, object.metadata)
  } catch (error) {
    if (!(error instanceof ApiError && error.reason === 'NotFound')) throw error
    try {
      await client.create(definition, object)
    } catch (refusal) {
      if (!(refusal instanceof ApiError && ['Forbidden', 'NotFound'].includes(refusal.reason))) throw refusal
      onRefused(refusal)
    }
  }
}
