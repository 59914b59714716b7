// Generates src/apiserver/wire/protobuf-fields.json (`node tools/kubernetes/protobuf-fields.ts`) from upstream's protobuf
// field numbers and OpenAPI schemas. It keeps the messages that the kinds below can hold, with
// every field upstream has: a field we refuse must be decoded, or its refusal would be missing from protobuf bodies.
import { readFileSync, writeFileSync } from 'node:fs'
import { assert } from '../../src/stdx/index.ts'

type ProtoField = { n: number; t: string; r?: 1 }
type OpenApiProperty = { default?: unknown }
type OpenApiSchema = { required?: string[]; properties?: Record<string, OpenApiProperty> }

const META = 'k8s.io.apimachinery.pkg.apis.meta.v1'

/** Kinds by group version; lists are added for all but the reviews and options. */
const KINDS: Readonly<
  Record<string, { package: string; kinds: readonly string[]; unlisted?: readonly string[] }>
> = {
  v1: {
    package: 'k8s.io.api.core.v1',
    kinds: [
      'ConfigMap',
      'Endpoints',
      'Event',
      'LimitRange',
      'Namespace',
      'Node',
      'PersistentVolume',
      'PersistentVolumeClaim',
      'Pod',
      'PodTemplate',
      'ReplicationController',
      'ResourceQuota',
      'Secret',
      'Service',
      'ServiceAccount',
    ],
    unlisted: ['Binding'],
  },
  'apps/v1': {
    package: 'k8s.io.api.apps.v1',
    kinds: ['ControllerRevision', 'DaemonSet', 'Deployment', 'ReplicaSet', 'StatefulSet'],
  },
  'batch/v1': { package: 'k8s.io.api.batch.v1', kinds: ['CronJob', 'Job'] },
  'autoscaling/v1': {
    package: 'k8s.io.api.autoscaling.v1',
    kinds: ['HorizontalPodAutoscaler'],
    unlisted: ['Scale'],
  },
  'autoscaling/v2': { package: 'k8s.io.api.autoscaling.v2', kinds: ['HorizontalPodAutoscaler'] },
  'networking.k8s.io/v1': {
    package: 'k8s.io.api.networking.v1',
    kinds: ['Ingress', 'IngressClass', 'NetworkPolicy'],
  },
  'policy/v1': { package: 'k8s.io.api.policy.v1', kinds: ['PodDisruptionBudget'], unlisted: ['Eviction'] },
  'rbac.authorization.k8s.io/v1': {
    package: 'k8s.io.api.rbac.v1',
    kinds: ['ClusterRole', 'ClusterRoleBinding', 'Role', 'RoleBinding'],
  },
  'admissionregistration.k8s.io/v1': {
    package: 'k8s.io.api.admissionregistration.v1',
    kinds: [
      'MutatingWebhookConfiguration',
      'ValidatingAdmissionPolicy',
      'ValidatingAdmissionPolicyBinding',
      'ValidatingWebhookConfiguration',
    ],
  },
  'discovery.k8s.io/v1': { package: 'k8s.io.api.discovery.v1', kinds: ['EndpointSlice'] },
  'coordination.k8s.io/v1': { package: 'k8s.io.api.coordination.v1', kinds: ['Lease'] },
  'scheduling.k8s.io/v1': { package: 'k8s.io.api.scheduling.v1', kinds: ['PriorityClass'] },
  'storage.k8s.io/v1': { package: 'k8s.io.api.storage.v1', kinds: ['StorageClass'] },
  'events.k8s.io/v1': { package: 'k8s.io.api.events.v1', kinds: ['Event'] },
  'authentication.k8s.io/v1': {
    package: 'k8s.io.api.authentication.v1',
    kinds: [],
    unlisted: ['SelfSubjectReview', 'TokenRequest', 'TokenReview'],
  },
  'authorization.k8s.io/v1': {
    package: 'k8s.io.api.authorization.v1',
    kinds: [],
    unlisted: [
      'LocalSubjectAccessReview',
      'SelfSubjectAccessReview',
      'SelfSubjectRulesReview',
      'SubjectAccessReview',
    ],
  },
  'apiextensions.k8s.io/v1': {
    package: 'k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1',
    kinds: ['CustomResourceDefinition'],
  },
  'apidiscovery.k8s.io/v2': { package: 'k8s.io.api.apidiscovery.v2', kinds: ['APIGroupDiscovery'] },
  'apidiscovery.k8s.io/v2beta1': { package: 'k8s.io.api.apidiscovery.v2beta1', kinds: ['APIGroupDiscovery'] },
  'meta.k8s.io/v1': {
    package: META,
    kinds: ['PartialObjectMetadata'],
    unlisted: ['APIGroup', 'APIGroupList', 'APIResourceList', 'APIVersions', 'DeleteOptions', 'Status'],
  },
  'meta.k8s.io/v1beta1': {
    package: 'k8s.io.apimachinery.pkg.apis.meta.v1beta1',
    kinds: [],
    unlisted: ['PartialObjectMetadataList'],
  },
}

/**
 * Scalar fields that are pointers in Go, where zero means something else than absent. Protobuf does not tell; the Go
 * types do. https://github.com/kubernetes/api
 */
const POINTERS: Readonly<Record<string, string>> = {
  'admissionregistration.v1.MatchResources': 'matchPolicy',
  'admissionregistration.v1.MutatingWebhook':
    'failurePolicy matchPolicy reinvocationPolicy sideEffects timeoutSeconds',
  'admissionregistration.v1.ParamRef': 'parameterNotFoundAction',
  'admissionregistration.v1.Rule': 'scope',
  'admissionregistration.v1.ServiceReference': 'path port',
  'admissionregistration.v1.ValidatingAdmissionPolicySpec': 'failurePolicy',
  'admissionregistration.v1.ValidatingWebhook': 'failurePolicy matchPolicy sideEffects timeoutSeconds',
  'admissionregistration.v1.Validation': 'reason',
  'admissionregistration.v1.WebhookClientConfig': 'url',
  'apiextensions.v1.CustomResourceDefinitionVersion': 'deprecationWarning',
  'apiextensions.v1.CustomResourceSubresourceScale': 'labelSelectorPath',
  'apiextensions.v1.JSONSchemaProps':
    '$ref maximum minimum maxLength minLength maxItems minItems multipleOf maxProperties minProperties ' +
    'x-kubernetes-preserve-unknown-fields x-kubernetes-list-type x-kubernetes-map-type',
  'apiextensions.v1.ServiceReference': 'path port',
  'apiextensions.v1.ValidationRule': 'reason optionalOldSelf',
  'apiextensions.v1.WebhookClientConfig': 'url',
  'apps.v1.DaemonSetSpec': 'revisionHistoryLimit',
  'apps.v1.DaemonSetStatus': 'collisionCount',
  'apps.v1.DeploymentSpec': 'replicas revisionHistoryLimit progressDeadlineSeconds',
  'apps.v1.DeploymentStatus': 'terminatingReplicas collisionCount',
  'apps.v1.ReplicaSetSpec': 'replicas',
  'apps.v1.ReplicaSetStatus': 'terminatingReplicas',
  'apps.v1.RollingUpdateStatefulSetStrategy': 'partition',
  'apps.v1.StatefulSetSpec': 'replicas revisionHistoryLimit',
  'apps.v1.StatefulSetStatus': 'collisionCount',
  'authentication.v1.TokenRequestSpec': 'expirationSeconds',
  'autoscaling.v1.HorizontalPodAutoscalerSpec': 'minReplicas targetCPUUtilizationPercentage',
  'autoscaling.v1.HorizontalPodAutoscalerStatus': 'observedGeneration currentCPUUtilizationPercentage',
  'autoscaling.v2.HPAScalingRules': 'stabilizationWindowSeconds selectPolicy',
  'autoscaling.v2.HorizontalPodAutoscalerSpec': 'minReplicas',
  'autoscaling.v2.HorizontalPodAutoscalerStatus': 'observedGeneration',
  'autoscaling.v2.MetricTarget': 'averageUtilization',
  'autoscaling.v2.MetricValueStatus': 'averageUtilization',
  'batch.v1.CronJobSpec':
    'timeZone startingDeadlineSeconds suspend successfulJobsHistoryLimit failedJobsHistoryLimit',
  'batch.v1.JobSpec':
    'parallelism completions activeDeadlineSeconds backoffLimit backoffLimitPerIndex maxFailedIndexes manualSelector ' +
    'ttlSecondsAfterFinished completionMode suspend podReplacementPolicy managedBy',
  'batch.v1.JobStatus': 'terminating failedIndexes ready',
  'batch.v1.PodFailurePolicyOnExitCodesRequirement': 'containerName',
  'batch.v1.SuccessPolicyRule': 'succeededIndexes succeededCount',
  'coordination.v1.LeaseSpec':
    'holderIdentity leaseDurationSeconds leaseTransitions strategy preferredHolder',
  'core.v1.AppArmorProfile': 'localhostProfile',
  'core.v1.CSIVolumeSource': 'readOnly fsType',
  'core.v1.ClientIPConfig': 'timeoutSeconds',
  'core.v1.ClusterTrustBundleProjection': 'name signerName optional',
  'core.v1.ConfigMap': 'immutable',
  'core.v1.ConfigMapEnvSource': 'optional',
  'core.v1.ConfigMapKeySelector': 'optional',
  'core.v1.ConfigMapProjection': 'optional',
  'core.v1.ConfigMapVolumeSource': 'defaultMode optional',
  'core.v1.Container': 'restartPolicy',
  'core.v1.ContainerStatus': 'started stopSignal',
  'core.v1.DownwardAPIVolumeFile': 'mode',
  'core.v1.DownwardAPIVolumeSource': 'defaultMode',
  'core.v1.EndpointAddress': 'nodeName',
  'core.v1.EndpointPort': 'appProtocol',
  'core.v1.EphemeralContainerCommon': 'restartPolicy',
  'core.v1.FCVolumeSource': 'lun',
  'core.v1.HostPathVolumeSource': 'type',
  'core.v1.ISCSIVolumeSource': 'initiatorName',
  'core.v1.ISCSIPersistentVolumeSource': 'initiatorName',
  'core.v1.KeyToPath': 'mode',
  'core.v1.Lifecycle': 'stopSignal',
  'core.v1.LoadBalancerIngress': 'ipMode',
  'core.v1.NodeFeatures': 'supplementalGroupsPolicy',
  'core.v1.NodeRuntimeHandlerFeatures': 'recursiveReadOnlyMounts userNamespaces',
  'core.v1.NodeSwapStatus': 'capacity',
  'core.v1.PersistentVolumeClaimSpec': 'storageClassName volumeMode volumeAttributesClassName',
  'core.v1.PersistentVolumeClaimStatus': 'currentVolumeAttributesClassName',
  'core.v1.PersistentVolumeSpec': 'volumeMode volumeAttributesClassName',
  'core.v1.PodCertificateProjection': 'maxExpirationSeconds',
  'core.v1.PodDNSConfigOption': 'value',
  'core.v1.PodResourceClaim': 'resourceClaimName resourceClaimTemplateName',
  'core.v1.PodResourceClaimStatus': 'resourceClaimName',
  'core.v1.PodSchedulingGroup': 'podGroupName',
  'core.v1.PodSecurityContext':
    'runAsUser runAsGroup runAsNonRoot supplementalGroupsPolicy fsGroup fsGroupChangePolicy seLinuxChangePolicy',
  'core.v1.PodSpec':
    'terminationGracePeriodSeconds activeDeadlineSeconds automountServiceAccountToken shareProcessNamespace priority ' +
    'runtimeClassName enableServiceLinks preemptionPolicy setHostnameAsFQDN hostUsers hostnameOverride',
  'core.v1.PortStatus': 'error',
  'core.v1.Probe': 'terminationGracePeriodSeconds',
  'core.v1.GRPCAction': 'service',
  'core.v1.ProjectedVolumeSource': 'defaultMode',
  'core.v1.ReplicationControllerSpec': 'replicas',
  'core.v1.ResourceHealth': 'message',
  'core.v1.SeccompProfile': 'localhostProfile',
  'core.v1.Secret': 'immutable',
  'core.v1.SecretEnvSource': 'optional',
  'core.v1.SecretKeySelector': 'optional',
  'core.v1.SecretProjection': 'optional',
  'core.v1.SecretVolumeSource': 'defaultMode optional',
  'core.v1.SecurityContext':
    'privileged runAsUser runAsGroup runAsNonRoot readOnlyRootFilesystem allowPrivilegeEscalation procMount',
  'core.v1.ServiceAccount': 'automountServiceAccountToken',
  'core.v1.ServiceAccountTokenProjection': 'expirationSeconds',
  'core.v1.ServicePort': 'appProtocol',
  'core.v1.ServiceSpec':
    'ipFamilyPolicy allocateLoadBalancerNodePorts loadBalancerClass internalTrafficPolicy trafficDistribution',
  'core.v1.Toleration': 'tolerationSeconds',
  'core.v1.TopologySpreadConstraint': 'minDomains nodeAffinityPolicy nodeTaintsPolicy',
  'core.v1.TypedLocalObjectReference': 'apiGroup',
  'core.v1.TypedObjectReference': 'apiGroup namespace',
  'core.v1.VolumeMount': 'recursiveReadOnly mountPropagation',
  'core.v1.VolumeMountStatus': 'recursiveReadOnly',
  'core.v1.WindowsSecurityContextOptions':
    'gmsaCredentialSpecName gmsaCredentialSpec runAsUserName hostProcess',
  'discovery.v1.Endpoint': 'hostname nodeName zone',
  'discovery.v1.EndpointConditions': 'ready serving terminating',
  'discovery.v1.EndpointPort': 'name protocol port appProtocol',
  'networking.v1.IngressClassParametersReference': 'apiGroup scope namespace',
  'networking.v1.IngressPortStatus': 'error',
  'networking.v1.IngressSpec': 'ingressClassName',
  'networking.v1.NetworkPolicyPort': 'protocol endPort',
  'policy.v1.PodDisruptionBudgetSpec': 'unhealthyPodEvictionPolicy',
  'scheduling.v1.PriorityClass': 'preemptionPolicy',
  'storage.v1.StorageClass': 'reclaimPolicy allowVolumeExpansion volumeBindingMode',
  'meta.v1.DeleteOptions':
    'gracePeriodSeconds orphanDependents propagationPolicy ignoreStoreReadErrorWithClusterBreakingPotential',
  // In discovery, where an empty group means that of the resource.
  'meta.v1.GroupVersionKind': 'group version kind',
  'meta.v1.ListMeta': 'remainingItemCount',
  'meta.v1.ObjectMeta': 'deletionGracePeriodSeconds',
  'meta.v1.OwnerReference': 'controller blockOwnerDeletion',
  'meta.v1.Preconditions': 'uid resourceVersion',
}

/** Lists that Go writes also when they are empty, though no schema requires them. */
const ALWAYS_WRITTEN: Readonly<Record<string, string>> = {
  'apiextensions.v1.CustomResourceDefinitionStatus': 'conditions storedVersions',
  'authentication.v1.TokenRequestSpec': 'audiences',
  'autoscaling.v2.HorizontalPodAutoscalerStatus': 'currentMetrics',
  'core.v1.ContainerImage': 'names',
  'core.v1.ProjectedVolumeSource': 'sources',
  'discovery.v1.EndpointSlice': 'endpoints ports',
  'rbac.v1.ClusterRole': 'rules',
  'rbac.v1.Role': 'rules',
}

/** JSON names that are not the protobuf field's. */
const RENAMED: Readonly<Record<string, string>> = { uID: 'uid', aPIGroup: 'apiGroup' }

/** A schema's own keywords, which are no identifiers in protobuf. */
function keywordOf(protoName: string): string {
  if (protoName === 'ref' || protoName === 'schema') return `$${protoName}`
  return protoName.startsWith('xKubernetes')
    ? protoName.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
    : protoName
}

/** Messages that are one JSON value; the decoder knows each by name. */
const SPECIAL: Readonly<Record<string, string>> = {
  [`${META}.Time`]: 'time',
  [`${META}.MicroTime`]: 'microTime',
  [`${META}.FieldsV1`]: 'json',
  'k8s.io.apimachinery.pkg.runtime.RawExtension': 'json',
  'k8s.io.apimachinery.pkg.api.resource.Quantity': 'quantity',
  'k8s.io.apimachinery.pkg.util.intstr.IntOrString': 'intOrString',
  'k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSON': 'json',
  [`${META}.Verbs`]: 'strings',
  'k8s.io.api.authentication.v1.ExtraValue': 'strings',
  'k8s.io.api.authorization.v1.ExtraValue': 'strings',
}

const SCALARS: readonly string[] = ['string', 'bool', 'int32', 'int64', 'double', 'bytes']

/** Of these JSON has one or the other field, and nothing around it. */
const EITHER: readonly string[] = [
  'JSONSchemaPropsOrArray',
  'JSONSchemaPropsOrBool',
  'JSONSchemaPropsOrStringArray',
]

const PROTOBUF = new URL('../../src/apiserver/wire/testdata/protobuf-fields-1.36.json', import.meta.url)
const OPENAPI = new URL('../../src/api/testdata/openapi-schemas-1.36.json', import.meta.url)
export const TABLE: URL = new URL('../../src/apiserver/wire/protobuf-fields.json', import.meta.url)

/** The text of the table. */
export function renderTable(): string {
  const { messages: protobuf } = JSON.parse(readFileSync(PROTOBUF, 'utf8')) as {
    messages: Record<string, Record<string, ProtoField>>
  }
  const { schemas: openApi } = JSON.parse(readFileSync(OPENAPI, 'utf8')) as {
    schemas: Record<string, OpenApiSchema>
  }
  const kinds: Record<string, string> = {}
  for (const [groupVersion, { package: name, kinds: listed, unlisted = [] }] of Object.entries(KINDS)) {
    for (const kind of listed) kinds[`${groupVersion}/${kind}List`] = `${name}.${kind}List`
    for (const kind of [...listed, ...unlisted]) kinds[`${groupVersion}/${kind}`] = `${name}.${kind}`
  }

  const messages: Record<string, (readonly [number, string, string, string])[]> = {}
  const waiting = Object.values(kinds)
  const unusedPointers = new Set(fieldsIn(POINTERS))
  const unusedLists = new Set(fieldsIn(ALWAYS_WRITTEN))

  function typeName(of: string, type: string): string {
    const bare = type.replace(/^\./, '')
    if (SCALARS.includes(bare)) return bare
    return bare.includes('.') ? bare : `${of.slice(0, of.lastIndexOf('.'))}.${bare}`
  }

  function reach(type: string): string {
    if (SCALARS.includes(type)) return type
    const special = SPECIAL[type]
    if (special) return special
    waiting.push(type)
    return type
  }

  for (let message = waiting.pop(); message !== undefined; message = waiting.pop()) {
    if (messages[message]) continue
    const fields = protobuf[message]
    assert(fields, `There is no protobuf message "${message}"`)
    const either = EITHER.includes(message.split('.').at(-1) ?? '')
    const openApiName = message.replace('k8s.io.', 'io.k8s.').replace('_apiserver', '-apiserver')
    const schema = either ? undefined : openApi[openApiName]
    const short = message.split('.').slice(-3).join('.')
    const keywords = short.endsWith('.JSONSchemaProps')
    messages[message] = Object.entries(fields)
      .map(([protoName, field]) => {
        const renamed = keywords ? keywordOf(protoName) : (RENAMED[protoName] ?? protoName)
        // A few messages spell their fields as Go does.
        const lower = renamed.charAt(0).toLowerCase() + renamed.slice(1)
        const name = schema?.properties?.[lower] ? lower : renamed
        const map = /^map<string,(.+)>$/.exec(field.t)
        const type = reach(typeName(message, map?.[1] ?? field.t))
        const pointer = unusedPointers.delete(`${short}.${name}`)
        const property = schema?.properties?.[name]
        // A message without a property of its name is a struct that Go embeds: its fields are the parent's in JSON.
        const embedded = schema !== undefined && property === undefined
        assert(
          !embedded || type.includes('.'),
          `"${message}" has a field "${name}" that its OpenAPI schema does not have`,
        )
        const zero = property?.default === '' || property?.default === 0 || property?.default === false
        const written = unusedLists.delete(`${short}.${name}`)
        const keepsZero = pointer || written || zero || (schema?.required?.includes(name) ?? false)
        const flags = `${map ? 'm' : ''}${field.r ? 'r' : ''}${embedded ? 'e' : ''}${keepsZero ? 'z' : ''}`
        return [field.n, name, type, flags] as const
      })
      .sort((a, b) => a[0] - b[0])
  }
  const unused = [...unusedPointers, ...unusedLists]
  assert(unused.length === 0, `Nothing has the fields ${unused.join(', ')}`)

  // Names are long and repeat, so each message is a number in the file.
  const names = Object.keys(messages).sort()
  const numbers = new Map(names.map((name, index) => [name, index]))
  const compact = {
    kinds: Object.fromEntries(
      Object.entries(kinds)
        .sort()
        .map(([kind, message]) => [kind, numbers.get(message)]),
    ),
    messages: names.map((name) => [
      name,
      ...(messages[name] ?? []).flatMap(([n, field, type, flags]) => [
        n,
        field,
        numbers.get(type) ?? type,
        flags,
      ]),
    ]),
  }
  const lines = [
    '{"kinds":' + JSON.stringify(compact.kinds) + ',',
    '"messages":[',
    compact.messages.map((message) => JSON.stringify(message)).join(',\n'),
    ']}',
  ]
  return `${lines.join('\n')}\n`
}

function fieldsIn(byMessage: Readonly<Record<string, string>>): string[] {
  return Object.entries(byMessage).flatMap(([message, names]) =>
    names
      .split(' ')
      .filter(Boolean)
      .map((field) => `${message}.${field}`),
  )
}

if (import.meta.main) writeFileSync(TABLE, renderTable())
