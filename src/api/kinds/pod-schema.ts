import { HARMLESS_CAPABILITIES } from './capabilities.ts'
import { claimTemplateSchema } from './persistent-volume-claim.ts'
import { labelSelectorSchema, objectFields, objectMetaSchema } from './meta.ts'
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
  string,
  time,
  type TypeOf,
} from './schema-builders.ts'

/**
 * What a pod may say. Only what a jail can express is here; the rest of upstream's fields is in
 * `refused-fields.ts` with the reason.
 */

const CORE = 'io.k8s.api.core.v1'

const NO_EFFECT = 'has no effect: every pod of a tenant runs on the same virtual node'

const protocol = oneOf('TCP', 'UDP', 'SCTP')
const pullPolicy = oneOf('Always', 'IfNotPresent', 'Never')

// --- references to other objects -------------------------------------------------------------------------------

export const localObjectReferenceSchema = object(
  `${CORE}.LocalObjectReference`,
  'Names an object in the same namespace.',
  { name: optional(string, 'Its name.') },
  { atomic: true },
)

export const objectReferenceSchema = object(
  `${CORE}.ObjectReference`,
  'Points at an object.',
  {
    apiVersion: optional(string, 'Group and version of its kind.'),
    fieldPath: optional(string, 'A part of it, such as spec.containers{web}.'),
    kind: optional(string, 'Its kind.'),
    name: optional(string, 'Its name.'),
    namespace: optional(string, 'Its namespace.'),
    resourceVersion: optional(string, 'The version meant.'),
    uid: optional(string, 'Its uid.'),
  },
  { atomic: true },
)

const configMapKeySelector = object(
  `${CORE}.ConfigMapKeySelector`,
  'One key of a ConfigMap.',
  {
    key: required(string, 'The key.'),
    name: optional(string, 'The ConfigMap.'),
    optional: optional(boolean, 'Start without it when it is not there.'),
  },
  { atomic: true },
)
const secretKeySelector = object(
  `${CORE}.SecretKeySelector`,
  'One key of a Secret.',
  {
    key: required(string, 'The key.'),
    name: optional(string, 'The Secret.'),
    optional: optional(boolean, 'Start without it when it is not there.'),
  },
  { atomic: true },
)
const objectFieldSelector = object(
  `${CORE}.ObjectFieldSelector`,
  'A field of the pod itself.',
  {
    apiVersion: optional(string, 'v1.', { default: 'v1' }),
    fieldPath: required(string, "Such as metadata.name, metadata.labels['app'] or status.podIP."),
  },
  { atomic: true },
)
const resourceFieldSelector = object(
  `${CORE}.ResourceFieldSelector`,
  'A limit or request of a container.',
  {
    containerName: optional(string, 'The container; in env the one itself.'),
    divisor: optional(quantity, 'The unit to count in; 0 means 1.', { default: '0' }),
    resource: required(string, 'Such as limits.cpu or requests.memory.'),
  },
  { atomic: true },
)

// --- environment -------------------------------------------------------------------------------------------------

const envVarSource = object(`${CORE}.EnvVarSource`, 'Where a variable’s value comes from.', {
  configMapKeyRef: optional(configMapKeySelector, 'A key of a ConfigMap.'),
  fieldRef: optional(objectFieldSelector, 'A field of the pod.'),
  resourceFieldRef: optional(resourceFieldSelector, 'A limit or request of the container.'),
  secretKeyRef: optional(secretKeySelector, 'A key of a Secret.'),
})
const envVar = object(`${CORE}.EnvVar`, 'An environment variable.', {
  name: required(string, 'Its name.'),
  value: optional(string, 'Its value; $(OTHER) is replaced by an earlier variable.'),
  valueFrom: optional(envVarSource, 'Where the value comes from, instead of `value`.'),
})
const envFromSource = object(`${CORE}.EnvFromSource`, 'Every key of a ConfigMap or Secret as a variable.', {
  configMapRef: optional(
    object(`${CORE}.ConfigMapEnvSource`, 'A ConfigMap.', {
      name: optional(string, 'Its name.'),
      optional: optional(boolean, 'Start without it when it is not there.'),
    }),
    'The ConfigMap.',
  ),
  prefix: optional(string, 'Put before every name.'),
  secretRef: optional(
    object(`${CORE}.SecretEnvSource`, 'A Secret.', {
      name: optional(string, 'Its name.'),
      optional: optional(boolean, 'Start without it when it is not there.'),
    }),
    'The Secret.',
  ),
})

// --- probes and hooks --------------------------------------------------------------------------------------------

const execAction = object(`${CORE}.ExecAction`, 'A command run inside the container.', {
  command: optional(list(string), 'The command and its arguments; not a shell line. Exit code 0 is success.'),
})
const httpHeader = object(`${CORE}.HTTPHeader`, 'A request header.', {
  name: required(string, 'Its name.'),
  value: required(string, 'Its value.'),
})
const httpGetAction = object(
  `${CORE}.HTTPGetAction`,
  'An HTTP GET to the pod itself; 200 to 399 is success.',
  {
    httpHeaders: optional(list(httpHeader), 'Headers to send.'),
    path: optional(string, 'The path.', { default: '/' }),
    port: required(intOrString, 'Number or name of a container port.'),
    scheme: optional(oneOf('HTTP', 'HTTPS'), 'HTTPS does not check the certificate.', { default: 'HTTP' }),
  },
)
const tcpSocketAction = object(`${CORE}.TCPSocketAction`, 'A TCP connection to the pod itself.', {
  port: required(intOrString, 'Number or name of a container port.'),
})
const grpcAction = object(`${CORE}.GRPCAction`, 'A call of the gRPC health checking protocol.', {
  port: required(int32, 'Port number.'),
  service: optional(string, 'The service to ask about.', { default: '' }),
})
const sleepAction = object(`${CORE}.SleepAction`, 'A pause.', { seconds: required(int64, 'How long.') })

export const probeSchema = object(`${CORE}.Probe`, 'Asks a container again and again how it is.', {
  exec: optional(execAction, 'Run a command.'),
  failureThreshold: optional(int32, 'So many failures in a row count as failed.', { default: 3 }),
  grpc: optional(grpcAction, 'Ask over gRPC.'),
  httpGet: optional(httpGetAction, 'Ask over HTTP.'),
  initialDelaySeconds: optional(int32, 'Wait this long after the start.'),
  periodSeconds: optional(int32, 'Time between two questions.', { default: 10 }),
  successThreshold: optional(int32, 'So many successes in a row count as passed; 1 except for readiness.', {
    default: 1,
  }),
  tcpSocket: optional(tcpSocketAction, 'Open a connection.'),
  terminationGracePeriodSeconds: optional(int64, 'Time to end after a failed liveness or startup probe.'),
  timeoutSeconds: optional(int32, 'An answer must come within this time.', { default: 1 }),
})
const lifecycleHandler = object(`${CORE}.LifecycleHandler`, 'What a hook does; exactly one.', {
  exec: optional(execAction, 'Run a command.'),
  httpGet: optional(httpGetAction, 'Ask over HTTP.'),
  sleep: optional(sleepAction, 'Wait.'),
  tcpSocket: optional(tcpSocketAction, 'Open a connection.'),
})
const lifecycle = object(`${CORE}.Lifecycle`, 'Hooks after a container’s start and before its end.', {
  postStart: optional(lifecycleHandler, 'Right after the start; a failure restarts the container.'),
  preStop: optional(lifecycleHandler, 'Before the container is told to end; counts into the grace period.'),
})

// --- security ------------------------------------------------------------------------------------------------------

const capability = oneOf(...HARMLESS_CAPABILITIES)
/** Every tenant has 65,536 users of its own; 65535 is the last. */
const userId = { type: 'integer', format: 'int64', minimum: 0, maximum: 65_535 } as const

const seccompProfile = object(`${CORE}.SeccompProfile`, 'The filter of system calls.', {
  type: required(oneOf('RuntimeDefault'), 'RuntimeDefault, which every container has anyway.'),
})
const seLinuxOptions = object(`${CORE}.SELinuxOptions`, 'Labels of SELinux.', {
  level: optional(string, 'Level and categories, such as s0:c0,c1.', {
    warning: 'has no effect: the platform chooses the labels',
  }),
})
export const securityContextSchema = object(
  `${CORE}.SecurityContext`,
  'Users and rights of one container. Root in a container is nobody on the machine.',
  {
    allowPrivilegeEscalation: optional(
      boolean,
      'Always false here: no program gets more rights than its parent.',
    ),
    capabilities: optional(
      object(`${CORE}.Capabilities`, 'Rights that root is divided into.', {
        add: optional(list(capability), 'Harmless ones that are there anyway unless dropped.'),
        drop: optional(list(string), 'Rights to take away; ALL takes every one that is not added.'),
      }),
      'Rights to add or drop.',
    ),
    readOnlyRootFilesystem: optional(boolean, 'The image’s files cannot be changed.'),
    runAsGroup: optional(userId, 'Group id in the container.'),
    runAsNonRoot: optional(boolean, 'Do not start as user 0.'),
    runAsUser: optional(userId, 'User id in the container; the image’s own when absent.'),
    seLinuxOptions: optional(seLinuxOptions, 'A level of SELinux. Without effect here.'),
    seccompProfile: optional(seccompProfile, 'The filter of system calls.'),
  },
)
export const podSecurityContextSchema = object(
  `${CORE}.PodSecurityContext`,
  'Users and rights of all containers, unless a container says otherwise.',
  {
    fsGroup: optional(userId, 'Group that owns the volumes.'),
    fsGroupChangePolicy: optional(oneOf('Always', 'OnRootMismatch'), 'When ownership of volumes is set.'),
    runAsGroup: optional(userId, 'Group id in the containers.'),
    runAsNonRoot: optional(boolean, 'Do not start as user 0.'),
    runAsUser: optional(userId, 'User id in the containers.'),
    seLinuxOptions: optional(seLinuxOptions, 'A level of SELinux. Without effect here.'),
    seccompProfile: optional(seccompProfile, 'The filter of system calls.'),
    supplementalGroups: optional(list(userId), 'Further groups of the first process.'),
    supplementalGroupsPolicy: optional(oneOf('Merge'), 'Merge adds the groups that the image lists.'),
  },
)

// --- containers ------------------------------------------------------------------------------------------------------

export const resourceRequirementsSchema = object(
  `${CORE}.ResourceRequirements`,
  'How much a container needs and may use.',
  {
    limits: optional(map(quantity), 'At most this: cpu, memory, ephemeral-storage.'),
    requests: optional(map(quantity), 'At least this; the limit when absent.'),
  },
)
const containerPort = object(`${CORE}.ContainerPort`, 'A port that a container listens on.', {
  containerPort: required(int32, 'Port number in the pod.'),
  name: optional(string, 'A name that services and probes can use.'),
  protocol: optional(protocol, 'TCP, UDP or SCTP.', { default: 'TCP' }),
})
const volumeMount = object(`${CORE}.VolumeMount`, 'Where a container sees a volume.', {
  mountPath: required(string, 'Absolute path in the container.'),
  name: required(string, 'Name of one of the pod’s volumes.'),
  readOnly: optional(boolean, 'The container cannot write to it.'),
  subPath: optional(string, 'Only this part of the volume; relative, never climbing.'),
  subPathExpr: optional(
    string,
    'The same, with $(NAME) for the value of one of the container’s variables. Instead of subPath.',
  ),
})
export const containerSchema = object(`${CORE}.Container`, 'One program of a pod, from one image.', {
  args: optional(list(string), 'Arguments; the image’s own when absent.'),
  command: optional(list(string), 'Program to run; the image’s own when absent.'),
  env: optional(listByKey(envVar, ['name']), 'Environment variables.'),
  envFrom: optional(list(envFromSource), 'ConfigMaps and Secrets whose keys become variables.'),
  image: optional(string, 'The image, from a registry that the operator allowed.'),
  imagePullPolicy: optional(pullPolicy, 'When to ask the registry; Always for :latest, else IfNotPresent.'),
  lifecycle: optional(lifecycle, 'Hooks after the start and before the end.'),
  livenessProbe: optional(probeSchema, 'Restarts the container when it fails.'),
  name: required(string, 'Unique in the pod.'),
  ports: optional(
    listByKey(containerPort, ['containerPort', 'protocol']),
    'Ports it listens on. For information: an unlisted port works too.',
  ),
  readinessProbe: optional(probeSchema, 'Takes the pod out of its services while it fails.'),
  resources: optional(resourceRequirementsSchema, 'How much it needs and may use.', { default: {} }),
  restartPolicy: optional(
    oneOf('Always'),
    'Only for init containers: makes it a sidecar that runs all the time.',
  ),
  securityContext: optional(securityContextSchema, 'Users and rights.'),
  startupProbe: optional(probeSchema, 'The other probes wait until it has passed once.'),
  stdin: optional(boolean, 'Keep standard input open for attach.'),
  stdinOnce: optional(boolean, 'Close standard input after the first attach.'),
  terminationMessagePath: optional(string, 'File whose content becomes the last message.', {
    default: '/dev/termination-log',
  }),
  terminationMessagePolicy: optional(
    oneOf('File', 'FallbackToLogsOnError'),
    'Use the end of the log when the file is empty and the container failed.',
    { default: 'File' },
  ),
  tty: optional(boolean, 'Give it a terminal; needs stdin.'),
  volumeMounts: optional(listByKey(volumeMount, ['mountPath']), 'Volumes it sees.'),
  workingDir: optional(string, 'Directory it starts in; the image’s own when absent.'),
})

// --- volumes ---------------------------------------------------------------------------------------------------------

const FILE_MODE = { type: 'integer', format: 'int32', minimum: 0, maximum: 0o777 } as const
const keyToPath = object(`${CORE}.KeyToPath`, 'Which key goes into which file.', {
  key: required(string, 'The key.'),
  mode: optional(FILE_MODE, 'Permission bits of this file.'),
  path: required(string, 'The file; relative, never climbing.'),
})
const downwardAPIVolumeFile = object(`${CORE}.DownwardAPIVolumeFile`, 'A file with a fact about the pod.', {
  fieldRef: optional(objectFieldSelector, 'A field of the pod.'),
  mode: optional(FILE_MODE, 'Permission bits of this file.'),
  path: required(string, 'The file; relative, never climbing.'),
  resourceFieldRef: optional(resourceFieldSelector, 'A limit or request of a container.'),
})
const volumeProjection = object(`${CORE}.VolumeProjection`, 'One of several sources in one volume.', {
  configMap: optional(
    object(`${CORE}.ConfigMapProjection`, 'A ConfigMap’s keys as files.', {
      items: optional(list(keyToPath), 'Which keys; all when absent.'),
      name: optional(string, 'The ConfigMap.'),
      optional: optional(boolean, 'Start without it when it is not there.'),
    }),
    'A ConfigMap’s keys as files.',
  ),
  downwardAPI: optional(
    object(`${CORE}.DownwardAPIProjection`, 'Facts about the pod as files.', {
      items: optional(list(downwardAPIVolumeFile), 'The files.'),
    }),
    'Facts about the pod as files.',
  ),
  secret: optional(
    object(`${CORE}.SecretProjection`, 'A Secret’s keys as files.', {
      items: optional(list(keyToPath), 'Which keys; all when absent.'),
      name: optional(string, 'The Secret.'),
      optional: optional(boolean, 'Start without it when it is not there.'),
    }),
    'A Secret’s keys as files.',
  ),
  serviceAccountToken: optional(
    object(`${CORE}.ServiceAccountTokenProjection`, 'A token of the pod’s service account.', {
      audience: optional(string, 'Who shall accept it; the API server when absent.'),
      expirationSeconds: optional(int64, 'How long it is valid; it is renewed in time.', { default: 3_600 }),
      path: required(string, 'The file; relative, never climbing.'),
    }),
    'A token of the pod’s service account.',
  ),
})
const defaultMode = { default: 0o644 } as const
export const volumeSchema = object(
  `${CORE}.Volume`,
  'Files that containers of the pod can share. Exactly one source.',
  {
    configMap: optional(
      object(`${CORE}.ConfigMapVolumeSource`, 'A ConfigMap’s keys as files.', {
        defaultMode: optional(FILE_MODE, 'Permission bits of files that say nothing else.', defaultMode),
        items: optional(list(keyToPath), 'Which keys; all when absent.'),
        name: optional(string, 'The ConfigMap.'),
        optional: optional(boolean, 'Start without it when it is not there.'),
      }),
      'A ConfigMap’s keys as files; they follow its changes.',
    ),
    downwardAPI: optional(
      object(`${CORE}.DownwardAPIVolumeSource`, 'Facts about the pod as files.', {
        defaultMode: optional(FILE_MODE, 'Permission bits of files that say nothing else.', defaultMode),
        items: optional(list(downwardAPIVolumeFile), 'The files.'),
      }),
      'Facts about the pod as files.',
    ),
    emptyDir: optional(
      object(`${CORE}.EmptyDirVolumeSource`, 'An empty directory that lives as long as the pod.', {
        medium: optional(
          oneOf('', 'Memory'),
          'Memory keeps it in memory, counted into the containers’ limits.',
        ),
        sizeLimit: optional(
          quantity,
          'At most this much, or the pod is evicted; when absent, 10Gi on disk and the memory limits in memory.',
        ),
      }),
      'An empty directory that lives as long as the pod.',
    ),
    ephemeral: optional(
      object(`${CORE}.EphemeralVolumeSource`, 'A volume that is claimed for this pod and goes with it.', {
        volumeClaimTemplate: optional(claimTemplateSchema, 'The claim, which is named POD-VOLUME.'),
      }),
      'A volume that is claimed for this pod and goes with it.',
    ),
    name: required(string, 'Unique in the pod.'),
    persistentVolumeClaim: optional(
      object(`${CORE}.PersistentVolumeClaimVolumeSource`, 'A volume that outlives the pod.', {
        claimName: required(string, 'The claim, in the namespace of the pod.'),
        readOnly: optional(boolean, 'No container of the pod can write to it.'),
      }),
      'A volume that outlives the pod.',
    ),
    projected: optional(
      object(`${CORE}.ProjectedVolumeSource`, 'Several sources in one directory.', {
        defaultMode: optional(FILE_MODE, 'Permission bits of files that say nothing else.', defaultMode),
        sources: optional(list(volumeProjection), 'The sources.'),
      }),
      'Several sources in one directory.',
    ),
    secret: optional(
      object(`${CORE}.SecretVolumeSource`, 'A Secret’s keys as files.', {
        defaultMode: optional(FILE_MODE, 'Permission bits of files that say nothing else.', defaultMode),
        items: optional(list(keyToPath), 'Which keys; all when absent.'),
        optional: optional(boolean, 'Start without it when it is not there.'),
        secretName: optional(string, 'The Secret.'),
      }),
      'A Secret’s keys as files, in memory only; they follow its changes.',
    ),
  },
)

// --- scheduling onto one virtual node ----------------------------------------------------

const nodeSelectorRequirement = object(
  `${CORE}.NodeSelectorRequirement`,
  'One condition on a node’s label.',
  {
    key: required(string, 'The label’s key.'),
    operator: required(oneOf('In', 'NotIn', 'Exists', 'DoesNotExist', 'Gt', 'Lt'), 'How to compare.'),
    values: optional(list(string), 'What to compare with.'),
  },
)
const nodeSelectorTerm = object(
  `${CORE}.NodeSelectorTerm`,
  'Conditions that must all hold.',
  {
    matchExpressions: optional(list(nodeSelectorRequirement), 'Conditions on labels.'),
    matchFields: optional(list(nodeSelectorRequirement), 'Conditions on fields.'),
  },
  { atomic: true },
)
const podAffinityTerm = object(`${CORE}.PodAffinityTerm`, 'Pods to be near to or far from.', {
  labelSelector: optional(labelSelectorSchema, 'Those pods.'),
  matchLabelKeys: optional(list(string), 'Labels that must be equal.'),
  mismatchLabelKeys: optional(list(string), 'Labels that must differ.'),
  namespaceSelector: optional(labelSelectorSchema, 'Their namespaces, by label.'),
  namespaces: optional(list(string), 'Their namespaces, by name.'),
  topologyKey: required(string, 'What near means.'),
})
const weightedPodAffinityTerm = object(`${CORE}.WeightedPodAffinityTerm`, 'A preference.', {
  podAffinityTerm: required(podAffinityTerm, 'What is preferred.'),
  weight: required(int32, '1 to 100.'),
})
const podAffinityFields = {
  preferredDuringSchedulingIgnoredDuringExecution: optional(list(weightedPodAffinityTerm), 'Preferences.'),
  requiredDuringSchedulingIgnoredDuringExecution: optional(list(podAffinityTerm), 'Demands.'),
} as const
const affinity = object(`${CORE}.Affinity`, 'Where a pod wants to run.', {
  nodeAffinity: optional(
    object(`${CORE}.NodeAffinity`, 'On which nodes.', {
      preferredDuringSchedulingIgnoredDuringExecution: optional(
        list(
          object(`${CORE}.PreferredSchedulingTerm`, 'A preference.', {
            preference: required(nodeSelectorTerm, 'What is preferred.'),
            weight: required(int32, '1 to 100.'),
          }),
        ),
        'Preferences.',
      ),
      requiredDuringSchedulingIgnoredDuringExecution: optional(
        object(
          `${CORE}.NodeSelector`,
          'Nodes for which any of the terms holds.',
          { nodeSelectorTerms: required(list(nodeSelectorTerm), 'The terms.') },
          { atomic: true },
        ),
        'Demands.',
      ),
    }),
    'On which nodes.',
  ),
  podAffinity: optional(
    object(`${CORE}.PodAffinity`, 'Near which pods.', podAffinityFields),
    'Near which pods. Without effect here.',
    { warning: NO_EFFECT },
  ),
  podAntiAffinity: optional(
    object(`${CORE}.PodAntiAffinity`, 'Far from which pods.', podAffinityFields),
    'Far from which pods. Without effect here.',
    { warning: NO_EFFECT },
  ),
})
const toleration = object(`${CORE}.Toleration`, 'A taint of a node that the pod puts up with.', {
  effect: optional(
    oneOf('NoSchedule', 'PreferNoSchedule', 'NoExecute'),
    'The taint’s effect; all when absent.',
  ),
  key: optional(string, 'The taint’s key.'),
  operator: optional(oneOf('Equal', 'Exists', 'Gt', 'Lt'), 'How to compare.'),
  tolerationSeconds: optional(int64, 'For how long.'),
  value: optional(string, 'The taint’s value.'),
})
const topologySpreadConstraint = object(`${CORE}.TopologySpreadConstraint`, 'How to spread pods.', {
  labelSelector: optional(labelSelectorSchema, 'Which pods to count.'),
  matchLabelKeys: optional(list(string), 'Labels that must be equal.'),
  maxSkew: required(int32, 'Largest difference allowed.'),
  minDomains: optional(int32, 'Least number of domains.'),
  nodeAffinityPolicy: optional(oneOf('Honor', 'Ignore'), 'Whether to heed node affinity.'),
  nodeTaintsPolicy: optional(oneOf('Honor', 'Ignore'), 'Whether to heed taints.'),
  topologyKey: required(string, 'Label of the nodes that form a domain.'),
  whenUnsatisfiable: required(oneOf('DoNotSchedule', 'ScheduleAnyway'), 'What to do when it cannot be.'),
})

// --- the pod -----------------------------------------------------------------------------------------------------------

const podDNSConfig = object(`${CORE}.PodDNSConfig`, 'What is written into resolv.conf.', {
  nameservers: optional(list(string), 'Addresses of name servers.'),
  options: optional(
    list(
      object(`${CORE}.PodDNSConfigOption`, 'An option.', {
        name: optional(string, 'Its name, such as ndots.'),
        value: optional(string, 'Its value.'),
      }),
    ),
    'Options, such as ndots.',
  ),
  searches: optional(list(string), 'Domains to try.'),
})
const hostAlias = object(`${CORE}.HostAlias`, 'A line of /etc/hosts.', {
  hostnames: optional(list(string), 'The names.'),
  ip: required(string, 'The address.'),
})

export const podSpecSchema = object(`${CORE}.PodSpec`, 'What a pod runs.', {
  activeDeadlineSeconds: optional(int64, 'The pod fails when it runs longer.'),
  affinity: optional(affinity, 'Where to run.'),
  automountServiceAccountToken: optional(
    boolean,
    'Whether containers get a token; the service account decides when absent.',
  ),
  containers: required(listByKey(containerSchema, ['name']), 'The programs; at least one.'),
  dnsConfig: optional(podDNSConfig, 'Additions to resolv.conf.'),
  dnsPolicy: optional(oneOf('ClusterFirst', 'Default', 'None'), 'None uses only dnsConfig.', {
    default: 'ClusterFirst',
  }),
  enableServiceLinks: optional(boolean, 'Whether services of the namespace become environment variables.'),
  hostAliases: optional(listByKey(hostAlias, ['ip']), 'Lines for /etc/hosts.'),
  hostname: optional(string, 'The pod’s hostname; its name when absent.'),
  imagePullSecrets: optional(
    listByKey(localObjectReferenceSchema, ['name']),
    'Secrets with credentials for registries. Without effect here.',
    { warning: 'has no effect: registries are asked without credentials' },
  ),
  initContainers: optional(
    listByKey(containerSchema, ['name']),
    'Run one after the other before the containers; those with restartPolicy: Always stay.',
  ),
  nodeName: optional(string, 'Where it runs. Set by the control plane.'),
  nodeSelector: optional(map(string, { atomic: true }), 'Labels that the node must have.'),
  preemptionPolicy: optional(
    oneOf('PreemptLowerPriority', 'Never'),
    'Whether less important pods go when there is no room. Follows from priorityClassName.',
  ),
  priority: optional(int32, 'How important it is among the tenant’s pods. Follows from priorityClassName.'),
  priorityClassName: optional(string, 'The PriorityClass that says how important it is.'),
  restartPolicy: optional(oneOf('Always', 'OnFailure', 'Never'), 'What to do when a container ends.', {
    default: 'Always',
  }),
  schedulerName: optional(oneOf('default-scheduler'), 'There is one scheduler.', {
    default: 'default-scheduler',
  }),
  securityContext: optional(podSecurityContextSchema, 'Users and rights of all containers.', { default: {} }),
  serviceAccount: optional(string, 'Old name of serviceAccountName.'),
  serviceAccountName: optional(string, 'Who the pod is when it talks to the API server.'),
  subdomain: optional(string, 'With hostname gives the pod a DNS name under a headless service.'),
  terminationGracePeriodSeconds: optional(int64, 'Time to end after the signal, before it is killed.', {
    default: 30,
  }),
  tolerations: optional(
    list(toleration),
    'Taints to put up with. The node has one only while it is cordoned.',
  ),
  topologySpreadConstraints: optional(
    listByKey(topologySpreadConstraint, ['topologyKey', 'whenUnsatisfiable']),
    'How to spread pods. Without effect here.',
    { warning: NO_EFFECT },
  ),
  volumes: optional(
    listByKey(volumeSchema, ['name'], { patchMergeKey: 'name', patchStrategy: 'merge,retainKeys' }),
    'Files that containers can mount.',
  ),
})

const containerState = object(`${CORE}.ContainerState`, 'One of waiting, running and terminated.', {
  running: optional(
    object(`${CORE}.ContainerStateRunning`, 'It runs.', { startedAt: optional(time, 'Since when.') }),
    'It runs.',
  ),
  terminated: optional(
    object(`${CORE}.ContainerStateTerminated`, 'It has ended.', {
      containerID: optional(string, 'Which container.'),
      exitCode: required(int32, 'Its exit code.'),
      finishedAt: optional(time, 'When it ended.'),
      message: optional(string, 'Its last message.'),
      reason: optional(string, 'Such as Completed, Error or OOMKilled.'),
      signal: optional(int32, 'The signal that ended it.'),
      startedAt: optional(time, 'When it started.'),
    }),
    'It has ended.',
  ),
  waiting: optional(
    object(`${CORE}.ContainerStateWaiting`, 'It does not run yet.', {
      message: optional(string, 'Details.'),
      reason: optional(string, 'Such as ContainerCreating or CrashLoopBackOff.'),
    }),
    'It does not run yet.',
  ),
})
export const containerStatusSchema = object(`${CORE}.ContainerStatus`, 'How one container is.', {
  containerID: optional(string, 'runtime://id.'),
  image: required(string, 'The image as written.'),
  imageID: required(string, 'The image pinned to its digest.'),
  lastState: optional(containerState, 'How it ended the last time.'),
  name: required(string, 'Which container.'),
  ready: required(boolean, 'Passes its readiness probe.'),
  restartCount: required(int32, 'How often it was restarted.'),
  started: optional(boolean, 'Has passed its startup probe.'),
  state: optional(containerState, 'How it is now.'),
})
const podCondition = object(`${CORE}.PodCondition`, 'One thing known about a pod.', {
  lastProbeTime: optional(time, 'When it was checked last.'),
  lastTransitionTime: optional(time, 'When the status changed last.'),
  message: optional(string, 'A sentence for people.'),
  observedGeneration: optional(int64, 'The generation of spec that this was concluded from.'),
  reason: optional(string, 'A word for programs.'),
  status: required(string, 'True, False or Unknown.'),
  type: required(string, 'Such as Ready.'),
})
export const podStatusSchema = object(`${CORE}.PodStatus`, 'How a pod is.', {
  conditions: optional(
    listByKey(podCondition, ['type']),
    'PodScheduled, Initialized, ContainersReady, Ready.',
  ),
  containerStatuses: optional(list(containerStatusSchema), 'How each container is.'),
  hostIP: optional(string, 'Address of the virtual node.'),
  hostIPs: optional(
    {
      type: 'list',
      items: object(`${CORE}.HostIP`, 'An address.', { ip: required(string, 'The address.') }),
      listType: 'atomic',
      patchMergeKey: 'ip',
      patchStrategy: 'merge',
    },
    'Addresses of the virtual node.',
  ),
  initContainerStatuses: optional(list(containerStatusSchema), 'How each init container is.'),
  message: optional(string, 'Why it is so.'),
  nominatedNodeName: optional(string, 'Where it will run once less important pods have gone.'),
  observedGeneration: optional(int64, 'The generation of spec that the status shows.'),
  phase: optional(oneOf('Pending', 'Running', 'Succeeded', 'Failed', 'Unknown'), 'Where it is in its life.'),
  podIP: optional(string, 'Its address in the tenant’s network.'),
  podIPs: optional(
    listByKey(object(`${CORE}.PodIP`, 'An address.', { ip: required(string, 'The address.') }), ['ip']),
    'Its addresses.',
  ),
  qosClass: optional(oneOf('Guaranteed', 'Burstable', 'BestEffort'), 'Follows from requests and limits.'),
  reason: optional(string, 'A word such as Evicted.'),
  startTime: optional(time, 'When the machine took it on.'),
})

export const podSchema = object(`${CORE}.Pod`, 'Containers that run together: one address, shared volumes.', {
  ...objectFields,
  spec: optional(podSpecSchema, 'What it runs.', { default: {} }),
  status: optional(podStatusSchema, 'How it is. Kept by the platform.'),
})

export const podTemplateSpecSchema = object(`${CORE}.PodTemplateSpec`, 'What new pods look like.', {
  metadata: optional(objectMetaSchema, 'Labels and annotations of the pods.', { default: {} }),
  spec: optional(podSpecSchema, 'What they run.'),
})

export type Container = TypeOf<typeof containerSchema>
export type ContainerPort = TypeOf<typeof containerPort>
export type ContainerStatus = TypeOf<typeof containerStatusSchema>
export type ContainerState = TypeOf<typeof containerState>
export type EnvVar = TypeOf<typeof envVar>
export type EnvFromSource = TypeOf<typeof envFromSource>
export type KeyToPath = TypeOf<typeof keyToPath>
export type LifecycleHandler = TypeOf<typeof lifecycleHandler>
export type LocalObjectReference = TypeOf<typeof localObjectReferenceSchema>
export type ObjectFieldSelector = TypeOf<typeof objectFieldSelector>
export type ObjectReference = TypeOf<typeof objectReferenceSchema>
export type PodCondition = TypeOf<typeof podCondition>
export type PodSecurityContext = TypeOf<typeof podSecurityContextSchema>
export type PodSpec = TypeOf<typeof podSpecSchema>
export type PodStatus = TypeOf<typeof podStatusSchema>
export type Probe = TypeOf<typeof probeSchema>
export type ResourceFieldSelector = TypeOf<typeof resourceFieldSelector>
export type ResourceRequirements = TypeOf<typeof resourceRequirementsSchema>
export type SecurityContext = TypeOf<typeof securityContextSchema>
export type Toleration = TypeOf<typeof toleration>
export type Volume = TypeOf<typeof volumeSchema>
export type VolumeMount = TypeOf<typeof volumeMount>
export type VolumeProjection = TypeOf<typeof volumeProjection>
export type DownwardAPIVolumeFile = TypeOf<typeof downwardAPIVolumeFile>

/** A template is valid only with a spec, so readers need not ask. */
export type PodTemplateSpec = { metadata?: TypeOf<typeof objectMetaSchema>; spec: PodSpec }
