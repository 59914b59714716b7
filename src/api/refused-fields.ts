import type { Refusal, RefusedFields } from './schema.ts'

/**
 * What upstream Kubernetes has and we do not, with the reason and the nearest thing to write instead. A test holds the
 * schemas and these tables against upstream's OpenAPI document: a field that is in neither fails the build.
 */

const CORE = 'io.k8s.api.core.v1'
const META = 'io.k8s.apimachinery.pkg.apis.meta.v1'

/** Values by which a manifest says that it does not want the thing. */
const OFF = { harmless: [false] } as const
const EMPTY_LIST = { harmless: [[]] } as const
const EMPTY_TEXT = { harmless: [''] } as const
const EMPTY_OBJECT = { harmless: [{}] } as const
const ZERO = { harmless: [0] } as const

function refuse(
  vector: string,
  why: string,
  instead: string,
  options: Pick<Refusal, 'harmless'> = {},
): Refusal {
  return { vector, why, instead, ...options }
}

/** Safe, and merely not built. */
function unsupported(
  why: string,
  instead = 'leave it out',
  options: Pick<Refusal, 'harmless'> = {},
): Refusal {
  return refuse('unsupported', why, instead, options)
}

/** A part of a status that nothing here ever fills in. */
const NOT_REPORTED = unsupported('the platform does not report this')

const STORAGE_OF_HOST = (what: string): Refusal =>
  refuse(
    'storage',
    `${what} is mounted by the machine's kernel, which all tenants share`,
    'use persistentVolumeClaim or emptyDir, or talk to the storage over the network',
  )

const HOST_NAMESPACE = (what: string): Refusal =>
  refuse(
    'kernel',
    `the pod would share the machine's ${what} with every tenant`,
    'leave it out; every pod has namespaces of its own',
    OFF,
  )

const SELINUX_LABEL = refuse(
  'kernel',
  "labels are the machine's, and the platform chooses them",
  'leave it out',
  EMPTY_TEXT,
)

const DEVICE_CLAIM = (options: Pick<Refusal, 'harmless'> = {}): Refusal =>
  refuse('kernel', 'devices of the machine are not handed to tenants', 'leave it out', options)

/** Where upstream's volumes can be. */
const VOLUME_SOURCES = [
  'awsElasticBlockStore',
  'azureDisk',
  'azureFile',
  'cephfs',
  'cinder',
  'csi',
  'fc',
  'flexVolume',
  'flocker',
  'gcePersistentDisk',
  'glusterfs',
  'hostPath',
  'iscsi',
  'local',
  'nfs',
  'photonPersistentDisk',
  'portworxVolume',
  'quobyte',
  'rbd',
  'scaleIO',
  'storageos',
  'vsphereVolume',
] as const
const VOLUME_OF_PLATFORM = refuse(
  'storage',
  'whoever writes it chooses what of the machine is mounted, so only the platform makes volumes',
  'create a PersistentVolumeClaim',
)
const CLASS_OF_PLATFORM = refuse(
  'storage',
  'how volumes are made and mounted is decided by the platform',
  'use the default class',
)

const NODE_OF_PLATFORM = refuse(
  'node identity',
  'it would tell about the machine, which other tenants share, or steer it',
  'leave it out; only the platform writes nodes',
)

const AUTOSCALING = 'io.k8s.api.autoscaling.v2'
const OTHER_METRIC = unsupported(
  'what pods use is the only metric that there is',
  'use type Resource or ContainerResource',
)

export const refusedFields: RefusedFields = {
  [`${AUTOSCALING}.MetricSpec`]: { external: OTHER_METRIC, object: OTHER_METRIC, pods: OTHER_METRIC },
  [`${AUTOSCALING}.MetricStatus`]: { external: NOT_REPORTED, object: NOT_REPORTED, pods: NOT_REPORTED },
  [`${AUTOSCALING}.MetricTarget`]: {
    value: unsupported('what pods use is an average over them', 'use averageValue or averageUtilization'),
  },
  'io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceConversion': {
    webhook: refuse(
      'tenant API',
      'the control plane calls no webhooks, because it has no network',
      'strategy None, and give all versions the same fields',
    ),
  },
  [`${CORE}.PodSpec`]: {
    ephemeralContainers: refuse(
      'kernel',
      'a container cannot be added to a pod that runs, so that what was checked is what runs',
      'use kubectl exec, or add a container to the workload',
      EMPTY_LIST,
    ),
    hostIPC: HOST_NAMESPACE('shared memory'),
    hostNetwork: refuse(
      'pod network',
      "the pod would be on the machine's own network, past every rule that keeps tenants apart",
      'leave it out and make the pod reachable with a Service',
      OFF,
    ),
    hostPID: HOST_NAMESPACE('process table'),
    hostUsers: refuse(
      'kernel',
      "root in the pod would be root on the machine's kernel",
      'leave it out; every pod runs in a user namespace, as with hostUsers: false',
      OFF,
    ),
    hostnameOverride: unsupported('a hostname is one DNS label here', 'use hostname', EMPTY_TEXT),
    os: unsupported('pods run on Linux', 'leave it out', { harmless: [{ name: 'linux' }] }),
    overhead: unsupported('overhead is accounted by the platform', 'leave it out', EMPTY_OBJECT),
    readinessGates: unsupported('a pod is ready when its containers are', 'use readinessProbe', EMPTY_LIST),
    resourceClaims: DEVICE_CLAIM(EMPTY_LIST),
    resources: unsupported(
      'resources are set for each container',
      'use containers[].resources',
      EMPTY_OBJECT,
    ),
    runtimeClassName: refuse(
      'kernel',
      'the runtime follows from the isolation class that the operator gave the tenant',
      'leave it out, or ask the operator for a stronger class',
      EMPTY_TEXT,
    ),
    schedulingGates: unsupported('every pod is placed at once', 'create the pod when it may run', EMPTY_LIST),
    schedulingGroup: unsupported('pods are not scheduled in groups'),
    setHostnameAsFQDN: unsupported('the hostname is one DNS label here', 'leave it out', OFF),
    shareProcessNamespace: unsupported(
      'every container has a process table of its own',
      'run both programs in one container, or let them talk over localhost (kubectl debug: --share-processes=false)',
      OFF,
    ),
  },
  [`${CORE}.PodSecurityContext`]: {
    appArmorProfile: refuse(
      'kernel',
      "profiles are the machine's, and the platform chooses them",
      'leave it out or write type: RuntimeDefault',
      { harmless: [{ type: 'RuntimeDefault' }] },
    ),
    seLinuxChangePolicy: refuse(
      'kernel',
      "labels are the machine's, and the platform chooses them",
      'leave it out',
      EMPTY_TEXT,
    ),
    sysctls: refuse('kernel', 'kernel settings reach past the pod', 'leave it out', EMPTY_LIST),
    windowsOptions: unsupported('pods run on Linux', 'leave it out', EMPTY_OBJECT),
  },
  [`${CORE}.SecurityContext`]: {
    appArmorProfile: refuse(
      'kernel',
      "profiles are the machine's, and the platform chooses them",
      'leave it out or write type: RuntimeDefault',
      { harmless: [{ type: 'RuntimeDefault' }] },
    ),
    privileged: refuse(
      'kernel',
      "a privileged container has the machine's devices and kernel, which all tenants share",
      'leave it out; images that expect root run without it, because root in a pod is nobody on the machine',
      OFF,
    ),
    procMount: refuse(
      'kernel',
      'parts of /proc are masked because they show or change the machine',
      'leave it out or write Default',
      { harmless: ['Default', ''] },
    ),
    windowsOptions: unsupported('pods run on Linux', 'leave it out', EMPTY_OBJECT),
  },
  [`${CORE}.SELinuxOptions`]: { role: SELINUX_LABEL, type: SELINUX_LABEL, user: SELINUX_LABEL },
  [`${CORE}.SeccompProfile`]: {
    localhostProfile: refuse(
      'kernel',
      'it names a file of the machine',
      'write type: RuntimeDefault and leave localhostProfile out',
      EMPTY_TEXT,
    ),
  },
  [`${CORE}.Container`]: {
    resizePolicy: unsupported('containers are not resized while they run', 'leave it out', EMPTY_LIST),
    restartPolicyRules: unsupported(
      'exit codes do not choose the restart policy',
      'use restartPolicy of the pod',
      EMPTY_LIST,
    ),
    volumeDevices: refuse(
      'kernel',
      'devices of the machine are not handed to tenants',
      'use volumeMounts',
      EMPTY_LIST,
    ),
  },
  [`${CORE}.ContainerPort`]: {
    hostIP: refuse(
      'pod network',
      "addresses of the machine are not a tenant's",
      'leave it out and use a Service',
      EMPTY_TEXT,
    ),
    hostPort: refuse(
      'pod network',
      'ports of the machine are shared by all tenants',
      'leave it out and make the pod reachable with a Service',
      ZERO,
    ),
  },
  [`${CORE}.EnvVarSource`]: {
    fileKeyRef: unsupported(
      'variables are not read from files of a volume',
      'use configMapKeyRef or secretKeyRef',
    ),
  },
  [`${CORE}.Lifecycle`]: {
    stopSignal: unsupported(
      'the signal is the one that the image names',
      'set STOPSIGNAL in the image, or use preStop',
      EMPTY_TEXT,
    ),
  },
  [`${CORE}.HTTPGetAction`]: {
    host: refuse(
      'pod network',
      'a probe or hook aimed elsewhere would make the platform call other hosts for you',
      'leave it out; the pod itself is asked. For a virtual host set the Host header in httpHeaders',
      EMPTY_TEXT,
    ),
  },
  [`${CORE}.TCPSocketAction`]: {
    host: refuse(
      'pod network',
      'a probe or hook aimed elsewhere would make the platform call other hosts for you',
      'leave it out; the pod itself is asked',
      EMPTY_TEXT,
    ),
  },
  [`${CORE}.ResourceRequirements`]: { claims: DEVICE_CLAIM(EMPTY_LIST) },
  [`${CORE}.VolumeMount`]: {
    mountPropagation: refuse(
      'kernel',
      'mounts made in a container would reach other containers or the machine',
      'leave it out or write None',
      { harmless: ['None', ''] },
    ),
    recursiveReadOnly: unsupported('a volume holds no further mounts', 'use readOnly', {
      harmless: ['Disabled', 'IfPossible', ''],
    }),
  },
  [`${CORE}.Volume`]: {
    awsElasticBlockStore: STORAGE_OF_HOST('a cloud disk'),
    azureDisk: STORAGE_OF_HOST('a cloud disk'),
    azureFile: STORAGE_OF_HOST('a network share'),
    cephfs: STORAGE_OF_HOST('a network file system'),
    cinder: STORAGE_OF_HOST('a cloud disk'),
    csi: refuse('storage', 'storage drivers run with rights on the machine', 'use persistentVolumeClaim'),
    fc: STORAGE_OF_HOST('a Fibre Channel disk'),
    flexVolume: refuse(
      'storage',
      'storage drivers run with rights on the machine',
      'use persistentVolumeClaim',
    ),
    flocker: STORAGE_OF_HOST('a Flocker volume'),
    gcePersistentDisk: STORAGE_OF_HOST('a cloud disk'),
    gitRepo: refuse(
      'storage',
      'the machine would run git on a repository of your choice',
      'use emptyDir and an init container that clones it',
    ),
    glusterfs: STORAGE_OF_HOST('a network file system'),
    hostPath: refuse(
      'storage',
      'files of the machine belong to the platform and to all tenants',
      'use persistentVolumeClaim to keep files, emptyDir for scratch space, configMap or secret for configuration',
    ),
    image: unsupported(
      'images are not mounted as volumes',
      'copy the files with an init container into an emptyDir',
    ),
    iscsi: STORAGE_OF_HOST('an iSCSI disk'),
    nfs: STORAGE_OF_HOST('a network file system'),
    photonPersistentDisk: STORAGE_OF_HOST('a cloud disk'),
    portworxVolume: STORAGE_OF_HOST('a Portworx volume'),
    quobyte: STORAGE_OF_HOST('a network file system'),
    rbd: STORAGE_OF_HOST('a Ceph disk'),
    scaleIO: STORAGE_OF_HOST('a ScaleIO volume'),
    storageos: STORAGE_OF_HOST('a StorageOS volume'),
    vsphereVolume: STORAGE_OF_HOST('a vSphere disk'),
  },
  [`${CORE}.PersistentVolumeClaimSpec`]: {
    dataSource: unsupported(
      'there are no snapshots, and volumes are not copied',
      'copy the files with a pod that has both',
    ),
    dataSourceRef: unsupported(
      'there are no snapshots, and volumes are not copied',
      'copy the files with a pod that has both',
    ),
    selector: unsupported('every claim gets a volume of its own', 'leave it out', EMPTY_OBJECT),
    volumeAttributesClassName: unsupported(
      'there are no classes of volume attributes',
      'leave it out',
      EMPTY_TEXT,
    ),
  },
  [`${CORE}.PersistentVolumeClaimStatus`]: {
    allocatedResourceStatuses: NOT_REPORTED,
    allocatedResources: NOT_REPORTED,
    currentVolumeAttributesClassName: NOT_REPORTED,
    modifyVolumeStatus: NOT_REPORTED,
  },
  [`${CORE}.PersistentVolumeSpec`]: {
    ...Object.fromEntries(VOLUME_SOURCES.map((source) => [source, VOLUME_OF_PLATFORM])),
    mountOptions: VOLUME_OF_PLATFORM,
    nodeAffinity: VOLUME_OF_PLATFORM,
    volumeAttributesClassName: VOLUME_OF_PLATFORM,
  },
  [`${CORE}.NodeSpec`]: {
    configSource: NODE_OF_PLATFORM,
    externalID: NODE_OF_PLATFORM,
    podCIDR: NODE_OF_PLATFORM,
    podCIDRs: NODE_OF_PLATFORM,
    providerID: NODE_OF_PLATFORM,
    taints: NODE_OF_PLATFORM,
  },
  [`${CORE}.NodeStatus`]: {
    config: NODE_OF_PLATFORM,
    daemonEndpoints: NODE_OF_PLATFORM,
    declaredFeatures: NODE_OF_PLATFORM,
    features: NODE_OF_PLATFORM,
    images: NODE_OF_PLATFORM,
    phase: NODE_OF_PLATFORM,
    runtimeHandlers: NODE_OF_PLATFORM,
    volumesAttached: NODE_OF_PLATFORM,
    volumesInUse: NODE_OF_PLATFORM,
  },
  [`${CORE}.NodeSystemInfo`]: { swap: NODE_OF_PLATFORM },
  'io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration': {
    webhooks: refuse(
      'platform components that tenants share',
      'control planes call no webhooks, because a program of somebody could hold up or lead astray what all rely on',
      'write what it checks as a ValidatingAdmissionPolicy',
      EMPTY_LIST,
    ),
  },
  'io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration': {
    webhooks: refuse(
      'platform components that tenants share',
      'control planes call no webhooks, and store what was written',
      'write the fields into the manifest, and a ValidatingAdmissionPolicy to require them',
      EMPTY_LIST,
    ),
  },
  'io.k8s.api.storage.v1.StorageClass': {
    allowedTopologies: CLASS_OF_PLATFORM,
    mountOptions: CLASS_OF_PLATFORM,
    parameters: CLASS_OF_PLATFORM,
  },
  [`${CORE}.VolumeProjection`]: {
    clusterTrustBundle: unsupported('there are no cluster trust bundles', 'use configMap'),
    podCertificate: unsupported('there are no pod certificates', 'use secret'),
  },
  [`${CORE}.PodStatus`]: {
    allocatedResources: NOT_REPORTED,
    ephemeralContainerStatuses: NOT_REPORTED,
    extendedResourceClaimStatus: NOT_REPORTED,
    nodeAllocatableResourceClaimStatuses: NOT_REPORTED,
    resize: NOT_REPORTED,
    resourceClaimStatuses: NOT_REPORTED,
    resources: NOT_REPORTED,
  },
  [`${CORE}.ContainerStatus`]: {
    allocatedResources: NOT_REPORTED,
    allocatedResourcesStatus: NOT_REPORTED,
    resources: NOT_REPORTED,
    stopSignal: NOT_REPORTED,
    user: NOT_REPORTED,
    volumeMounts: NOT_REPORTED,
  },
  [`${CORE}.ServiceSpec`]: {
    allocateLoadBalancerNodePorts: unsupported(
      'no ports of the machine are given to single services',
      'leave it out',
      {
        harmless: [false, true],
      },
    ),
    externalIPs: refuse(
      'pod network',
      "a service could take over traffic for addresses that are not the tenant's",
      'leave it out',
      EMPTY_LIST,
    ),
    externalTrafficPolicy: unsupported(
      'what comes from outside comes through the front door',
      'leave it out',
      {
        harmless: ['Cluster', ''],
      },
    ),
    healthCheckNodePort: refuse(
      'pod network',
      'ports of the machine are shared by all tenants',
      'leave it out',
      ZERO,
    ),
    loadBalancerClass: unsupported('the platform has one front door', 'leave it out', EMPTY_TEXT),
    loadBalancerIP: refuse(
      'pod network',
      "addresses of the machine are not a tenant's",
      'leave it out',
      EMPTY_TEXT,
    ),
  },
  [`${CORE}.ServicePort`]: {
    nodePort: refuse(
      'pod network',
      'ports of the machine are shared by all tenants',
      'leave it out and use the service’s own address',
      ZERO,
    ),
  },
  [`${CORE}.LoadBalancerIngress`]: { ipMode: NOT_REPORTED },
  'io.k8s.api.networking.v1.IngressSpec': {
    defaultBackend: refuse(
      'pod network',
      'it would catch traffic for hosts that nobody was granted',
      'write a rule with a host and the path "/"',
    ),
  },
  'io.k8s.api.networking.v1.IngressBackend': {
    resource: unsupported('only services answer', 'use service'),
  },
  'io.k8s.api.networking.v1.IngressClassSpec': {
    parameters: unsupported('the platform has one front door, which the operator configures'),
  },
  'io.k8s.api.discovery.v1.Endpoint': {
    deprecatedTopology: unsupported('it is out of use', 'use zone and nodeName', EMPTY_OBJECT),
    hints: unsupported('there is one zone', 'leave it out', EMPTY_OBJECT),
  },
  'io.k8s.api.coordination.v1.LeaseSpec': {
    preferredHolder: unsupported('leases are not handed over by the server', 'leave it out', EMPTY_TEXT),
    strategy: unsupported('leases are not handed over by the server', 'leave it out', EMPTY_TEXT),
  },
  [`${META}.DeleteOptions`]: {
    ignoreStoreReadErrorWithClusterBreakingPotential: refuse(
      'storage',
      'an object that cannot be read is not deleted without its finalizers',
      'leave it out',
      OFF,
    ),
  },
  [`${META}.ListMeta`]: { shardInfo: unsupported('lists are not divided') },
}

/** Scopes of a quota that nothing here falls into. */
const QUOTA_SCOPES = {
  CrossNamespacePodAffinity: unsupported(
    'every pod runs on one node, so affinity means nothing',
    'leave it out',
  ),
  VolumeAttributesClass: unsupported('there are no classes of volume attributes', 'leave it out'),
}

/**
 * Values of fields that we have, which upstream accepts and we do not. `*` stands for every value that the schema does
 * not list.
 */
export const refusedValues: {
  readonly [schemaName: string]: { readonly [field: string]: { readonly [value: string]: Refusal } }
} = {
  [`${AUTOSCALING}.MetricSpec`]: { type: { '*': OTHER_METRIC } },
  [`${AUTOSCALING}.MetricTarget`]: {
    type: { '*': unsupported('what pods use is an average over them', 'write Utilization or AverageValue') },
  },
  [`${CORE}.PodSpec`]: {
    dnsPolicy: {
      ClusterFirstWithHostNet: refuse(
        'pod network',
        "pods are never on the machine's network",
        'write ClusterFirst',
      ),
    },
    schedulerName: { '*': unsupported('there is one scheduler', 'leave it out') },
  },
  [`${CORE}.PodSecurityContext`]: {
    supplementalGroupsPolicy: {
      Strict: unsupported('groups that the image lists are kept', 'write Merge or leave it out'),
    },
  },
  [`${CORE}.SecurityContext`]: {
    allowPrivilegeEscalation: {
      true: refuse(
        'kernel',
        'a program could get more rights than the one that started it',
        'write false or leave it out; sudo and other set-user-id programs do not work in a pod',
      ),
    },
  },
  [`${CORE}.Capabilities`]: {
    add: {
      ALL: refuse(
        'kernel',
        'all capabilities together reach the kernel, which tenants share',
        'name the ones that are needed',
      ),
      SYS_ADMIN: refuse(
        'kernel',
        'it opens the largest part of the kernel, which tenants share',
        'leave it out',
      ),
      NET_ADMIN: refuse('pod network', 'the pod could undo the rules of its own network', 'leave it out'),
      NET_RAW: refuse(
        'pod network',
        "the pod could send packets in other pods' names",
        'leave it out; connections need no raw sockets',
      ),
      '*': refuse(
        'kernel',
        'it is not one of the capabilities that are harmless in a user namespace',
        'leave it out; CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, NET_BIND_SERVICE, SETFCAP, SETGID, SETPCAP, SETUID and SYS_CHROOT are there',
      ),
    },
  },
  [`${CORE}.SeccompProfile`]: {
    type: {
      Unconfined: refuse(
        'kernel',
        'every system call would reach the kernel, which tenants share',
        'write RuntimeDefault or leave it out',
      ),
      Localhost: refuse('kernel', 'it names a file of the machine', 'write RuntimeDefault or leave it out'),
    },
  },
  [`${CORE}.Container`]: {
    restartPolicy: {
      '*': unsupported(
        'a container follows the policy of its pod',
        'leave it out; init containers may write Always',
      ),
    },
  },
  [`${CORE}.PersistentVolumeClaimSpec`]: {
    volumeMode: {
      Block: refuse(
        'kernel',
        'a device of the machine would be handed to the pod',
        'write Filesystem or leave it out',
      ),
    },
  },
  [`${CORE}.PersistentVolumeSpec`]: {
    persistentVolumeReclaimPolicy: { Recycle: VOLUME_OF_PLATFORM, Retain: VOLUME_OF_PLATFORM },
    volumeMode: { Block: VOLUME_OF_PLATFORM },
  },
  'io.k8s.api.storage.v1.StorageClass': {
    reclaimPolicy: { Recycle: CLASS_OF_PLATFORM, Retain: CLASS_OF_PLATFORM },
    volumeBindingMode: { WaitForFirstConsumer: CLASS_OF_PLATFORM },
  },
  [`${CORE}.EmptyDirVolumeSource`]: {
    medium: {
      '*': refuse(
        'cpu/memory/pids/disk/bandwidth',
        'huge pages are not divided among tenants',
        'write Memory or leave it out',
      ),
    },
  },
  [`${CORE}.ServiceSpec`]: {
    ipFamilies: { IPv6: unsupported('pods have IPv4 addresses only', 'write IPv4 or leave it out') },
    ipFamilyPolicy: {
      RequireDualStack: unsupported('pods have IPv4 addresses only', 'write SingleStack or leave it out'),
    },
    type: {
      NodePort: refuse(
        'pod network',
        'ports of the machine are shared by all tenants',
        'write ClusterIP with an Ingress, or LoadBalancer with a port that the operator granted',
      ),
    },
  },
  [`${CORE}.ResourceQuotaSpec`]: { scopes: QUOTA_SCOPES },
  [`${CORE}.ScopedResourceSelectorRequirement`]: {
    scopeName: QUOTA_SCOPES,
  },
  [`${CORE}.LimitRangeItem`]: {
    type: { '*': unsupported('nothing else has bounds', 'write Container, PersistentVolumeClaim or Pod') },
  },
  'io.k8s.api.discovery.v1.EndpointSlice': {
    addressType: {
      IPv6: unsupported('pods have IPv4 addresses only', 'write IPv4'),
      FQDN: unsupported('services lead to pods only', 'use a Service of type ExternalName'),
    },
  },
}

/** What a refusal says to the user. */
export function renderRefusal({ why, instead, vector }: Refusal): string {
  return vector === 'unsupported'
    ? `not supported: ${why}. Instead: ${instead}`
    : `${why} (vector: ${vector}). Instead: ${instead}`
}
