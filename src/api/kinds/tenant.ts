import { CREDENTIAL_SECONDS_MAX, CREDENTIAL_SECONDS_MIN, CSR_CHARS_MAX } from '../limits.ts'
import type { KubeObject } from '../meta.ts'
import { ageColumn, column, nameColumn } from './columns.ts'
import { ALL_VERBS, defineKind, statusSubresource, type TypedKind } from './define-kind.ts'
import { conditionSchema, objectFields } from './meta.ts'
import {
  boolean,
  int32,
  int64,
  intOrString,
  list,
  listByKey,
  map,
  object,
  oneOf,
  optional,
  quantity,
  required,
  setOf,
  string,
  time,
  type TypeOf,
} from './schema-builders.ts'
import { tenantNameProblem, validateTenant } from './tenant-rules.ts'

/** The platform's own kinds: whom it serves, and how they sign in. */

const TENANCY = 'dev.bulkhead.tenancy.v1alpha1'
const GROUP = 'tenancy.bulkhead.dev'

const isolationClass = oneOf('shared', 'affinity', 'sandboxed', 'dedicated')

const egressRule = object(
  `${TENANCY}.TenantEgressRule`,
  'One thing outside that pods may connect to. Either a host or a cidr.',
  {
    host: optional(
      string,
      'A host name, or "*." and one, where "*" stands for one label. Its addresses are open while the name has them.',
    ),
    cidr: optional(
      string,
      'An IPv4 network. Private networks are reached only by a rule that lies within one.',
    ),
    ports: optional(
      list(intOrString),
      'Ports such as 443, "53/UDP" or, with cidr, "8000-8100". 443 when absent. At most 16.',
    ),
    namespaces: optional(setOf(string), 'Only pods of these namespaces. All of the tenant’s when absent.'),
    podLabels: optional(
      map(string),
      'Only pods that have all of these labels. The tenant writes the labels of its pods, so this narrows within the tenant only.',
    ),
    until: optional(time, 'When the rule ends.'),
    reason: optional(string, 'Why it is there, for whoever reads it later.'),
  },
)
const tenantEgress = object(
  `${TENANCY}.TenantEgress`,
  'What pods may reach outside their tenant. What is not listed is blocked.',
  {
    allow: optional(list(egressRule), 'At most 200 rules.'),
    mode: optional(
      oneOf('Enforce', 'Learn'),
      'Learn writes down what pods wanted, for "bulkhead egress suggest".',
      { default: 'Enforce' },
    ),
    learnUntil: optional(time, 'When learning ends. Needed with mode Learn.'),
    unlisted: optional(
      oneOf('Block', 'Allow'),
      'With mode Learn: what happens to unlisted public addresses. Block when absent.',
    ),
  },
)

const tenantIngress = object(
  `${TENANCY}.TenantIngress`,
  'Names and ports of the front door that belong to the tenant, and to nobody else.',
  {
    hosts: optional(
      setOf(string),
      'Host names, or "*." and one, where "*" stands for one label. At most 100. Ingresses can name these and no others.',
    ),
    ports: optional(
      list(intOrString),
      'Ports such as 9000, "9000-9010" or "53/UDP", for Services of type LoadBalancer. At most 256.',
    ),
  },
)

const tenantBandwidth = object(
  `${TENANCY}.TenantBandwidth`,
  'How fast, in bits per second: quantities such as 500M. Within the platform and outside together.',
  {
    ingress: optional(quantity, 'What its pods together receive at most; 1G when absent.'),
    egress: optional(quantity, 'What its pods together send at most; 1G when absent.'),
  },
)

const tenantDisk = object(
  `${TENANCY}.TenantDisk`,
  'How much its pods may do to the machine’s disk in a second. See docs/limits.md for what a machine cannot hold to it.',
  {
    readBytes: optional(quantity, 'Bytes read, such as 100Mi; 256Mi when absent, at least 1Mi.'),
    writeBytes: optional(quantity, 'Bytes written; 256Mi when absent, at least 1Mi.'),
    readOperations: optional(int32, 'Reads; 20000 when absent, at least 50.'),
    writeOperations: optional(int32, 'Writes; 20000 when absent, at least 50.'),
  },
)

const tenantSpec = object(
  `${TENANCY}.TenantSpec`,
  'Who the tenant is. The isolation class follows from it.',
  {
    trust: required(oneOf('trusted', 'untrusted'), 'Whether you would let it near your own machines.'),
    code: required(
      oneOf('own', 'thirdParty', 'arbitrary'),
      'Whose code it runs: its own, audited by nobody, or anyone’s.',
    ),
    sensitivity: optional(oneOf('normal', 'regulated'), 'Regulated data gets machines of its own.', {
      default: 'normal',
    }),
    noisy: optional(boolean, 'Its load disturbs neighbours; it gets machines of its own.', {
      default: false,
    }),
    isolationClass: optional(
      isolationClass,
      'A class at least as strong as the one that follows from the above.',
    ),
    registries: required(
      setOf(string),
      'Registries it may pull from: host[:port] or host[:port]/path. None: no images.',
    ),
    podSecurity: optional(
      object(
        `${TENANCY}.TenantPodSecurity`,
        'What the Pod Security Standards must give in every namespace.',
        {
          enforce: required(
            oneOf('privileged', 'baseline', 'restricted'),
            'The least level; a namespace can ask for more with its labels, and not for less.',
          ),
        },
      ),
      'The Pod Security Standard of every namespace, which the tenant cannot lower; privileged when absent.',
    ),
    quota: optional(
      object(`${TENANCY}.TenantQuota`, 'At most this much for the whole tenant.', {
        pods: optional(int32, 'Pods.'),
        memoryBytes: optional(
          quantity,
          'Memory of all pods that have not ended, counted by their limits. Every container must state one then.',
        ),
        cpu: optional(
          quantity,
          'Cores of all pods that have not ended, counted by their limits. Every container must state one then.',
        ),
        objects: optional(int32, 'Objects in its store, at least 100.'),
        storage: optional(
          quantity,
          'Sizes of all its volumes that outlive pods; a quarter of the disk when absent.',
        ),
        ephemeralStorage: optional(
          quantity,
          'What its pods may write besides: layers, emptyDirs and logs, in a file system of this size. A part of the disk when absent.',
        ),
      }),
      'At most this much; the platform’s own limits when absent.',
    ),
    guaranteed: optional(
      object(
        `${TENANCY}.TenantGuarantee`,
        'What nobody takes from it. What it uses beyond that is borrowed.',
        {
          cpu: optional(quantity, 'Cores, counted by requests of pods.'),
          memoryBytes: optional(quantity, 'Memory, counted by requests of pods.'),
        },
      ),
      'What it has room for whoever else is here. Others may borrow it until the tenant wants it.',
    ),
    priority: optional(
      int32,
      'On a full machine a tenant with more makes pods of tenants with less go, those that were not guaranteed. 0 to 1000, 0 when absent.',
    ),
    network: optional(
      object(`${TENANCY}.TenantNetwork`, 'How it may use the network.', {
        bandwidth: optional(tenantBandwidth, 'At most this much; the platform’s own limits when absent.'),
      }),
      'How it may use the network.',
    ),
    disk: optional(tenantDisk, 'At most this much in a second; the platform’s own limits when absent.'),
    ingress: optional(tenantIngress, 'Under which names and ports the outside reaches it. None when absent.'),
    egress: optional(tenantEgress, 'What its pods may reach outside. Nothing when absent.'),
  },
)
const tenantStatus = object(`${TENANCY}.TenantStatus`, 'Where and how the tenant lives.', {
  phase: optional(
    oneOf('Pending', 'Provisioning', 'Ready', 'Refused', 'Failed', 'Terminating'),
    'Where it is in its life.',
  ),
  isolationClass: optional(isolationClass, 'The class it got.'),
  reasons: optional(list(string), 'Why it got this class, or why it could not be placed.'),
  placement: optional(
    object(`${TENANCY}.TenantPlacement`, 'What the machine gave it.', {
      index: required(int32, 'Its number on the machine; gives addresses and users.'),
      podUidBase: required(int64, 'The machine’s user that is root in its pods.'),
      controlPlaneUser: required(string, 'The machine’s user that runs its control plane.'),
    }),
    'What the machine gave it.',
  ),
  server: optional(string, 'URL for its kubeconfig.'),
  controlPlane: optional(
    oneOf('Awake', 'Asleep'),
    'Asleep when nobody has used its API for a while: the next request wakes it. Its pods go on either way.',
  ),
  conditions: optional(listByKey(conditionSchema, ['type']), 'What is known about it.'),
  observedGeneration: optional(int64, 'The generation of spec that the status shows.'),
})
export const tenantSchema = object(`${TENANCY}.Tenant`, 'Somebody who gets a cluster of their own.', {
  ...objectFields,
  spec: required(tenantSpec, 'Who it is.'),
  status: optional(tenantStatus, 'Where and how it lives. Kept by the platform.'),
})

export type TenantSpec = TypeOf<typeof tenantSpec>
export type TenantStatus = TypeOf<typeof tenantStatus>
export type IsolationClass = (typeof isolationClass.enum)[number]
export type Tenant = KubeObject & {
  apiVersion: 'tenancy.bulkhead.dev/v1alpha1'
  kind: 'Tenant'
  spec: TenantSpec
  status?: TenantStatus
}
export const tenantKind: TypedKind<Tenant> = {
  group: GROUP,
  version: 'v1alpha1',
  kind: 'Tenant',
  plural: 'tenants',
  namespaced: false,
}

const credentialSeconds = {
  type: 'integer',
  format: 'int32',
  minimum: CREDENTIAL_SECONDS_MIN,
  maximum: CREDENTIAL_SECONDS_MAX,
} as const

export const tenantCredentialSchema = object(
  `${TENANCY}.TenantCredential`,
  'Signs a key for somebody of the tenant. Create only; never stored.',
  {
    ...objectFields,
    spec: required(
      object(`${TENANCY}.TenantCredentialSpec`, 'Whose key.', {
        csr: required(
          { type: 'string', maxLength: CSR_CHARS_MAX },
          'A certificate signing request in PEM. Only its public key is used.',
        ),
        user: required(string, 'Name of the user within the tenant.'),
        groups: optional(list(string), 'Groups within the tenant.'),
        expirationSeconds: optional(credentialSeconds, 'How long it shall be valid.', { default: 86_400 }),
      }),
      'Whose key.',
    ),
    status: optional(
      object(`${TENANCY}.TenantCredentialStatus`, 'The signed key.', {
        certificate: optional(string, 'The certificate in PEM.'),
        caBundle: optional(string, 'Who signs for the server, in PEM.'),
        server: optional(string, 'URL for a kubeconfig.'),
        expirationTimestamp: optional(time, 'When it ends.'),
      }),
      'The signed key.',
    ),
  },
)
export type TenantCredential = KubeObject & {
  apiVersion: 'tenancy.bulkhead.dev/v1alpha1'
  kind: 'TenantCredential'
} & Pick<TypeOf<typeof tenantCredentialSchema>, 'spec' | 'status'>

export const tenantDefinition = defineKind(tenantKind, {
  singular: 'tenant',
  verbs: ALL_VERBS,
  schema: tenantSchema,
  subresources: [
    statusSubresource,
    {
      name: 'credentials',
      verbs: ['create'],
      kind: { group: GROUP, version: 'v1alpha1', kind: 'TenantCredential' },
      schema: tenantCredentialSchema,
    },
  ],
  hasGeneration: true,
  hasStatus: true,
  nameProblem: tenantNameProblem,
  fieldSelectors: { 'status.phase': (tenant) => tenant.status?.phase ?? '' },
  columns: [
    nameColumn,
    column('Status', 'Where it is in its life.', (tenant) => tenant.status?.phase ?? 'Pending'),
    column('Class', 'Its isolation class.', (tenant) => tenant.status?.isolationClass ?? '<none>'),
    column(
      'Control Plane',
      'Asleep when nobody has used its API for a while.',
      (tenant) => tenant.status?.controlPlane ?? '<none>',
    ),
    column('Trust', 'As the operator wrote.', (tenant) => tenant.spec.trust),
    column('Code', 'As the operator wrote.', (tenant) => tenant.spec.code),
    ageColumn,
    column('Server', 'URL for its kubeconfig.', (tenant) => tenant.status?.server ?? '<none>', {
      priority: 1,
    }),
    column('Reasons', 'Why it got this class.', (tenant) => tenant.status?.reasons?.join('; ') ?? '<none>', {
      priority: 1,
    }),
  ],
  validate: validateTenant,
  prepareForCreate: (tenant) => ({ ...tenant, status: { phase: 'Pending' as const } }),
})
