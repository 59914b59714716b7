import type { TestedTrust } from './results.ts'

/** A file of ours and the words that one of its tests is named with. */
export type Shown = readonly [file: string, test: string]

/**
 * Why tests of upstream do not pass here, or say nothing when they do. The first rule one of whose words is part of a
 * test's name decides.
 */
export type Reason = {
  names: readonly string[]
  /** Where it is so; otherwise everywhere. */
  only?: TestedTrust
} & (
  | {
      refused: string
      /** Tests of ours of what such a test is about, when only its way there is refused. */
      shown?: readonly Shown[]
    }
  | { missing: string }
  /** It passes, and would whatever was answered. */
  | { hollow: string }
)

export const REASONS: readonly Reason[] = [
  {
    names: ['CustomResourceConversionWebhook'],
    hollow:
      'it ends without failing when its definition is refused, and webhooks that convert objects are refused',
  },
  {
    names: [
      'listing',
      'patching/updating',
      'should be able',
      'should deny',
      'should honor',
      'should mutate',
      'should not be able',
      'should reject',
      'should unconditionally',
    ].map((what) => `AdmissionWebhook [Privileged:ClusterAdmin] ${what}`),
    refused:
      'a webhook would let a tenant’s program hold up or change what the control plane does; ValidatingAdmissionPolicies and CEL rules are there instead',
  },
  {
    names: [
      'AggregatedDiscovery should support aggregated discovery interface [',
      'AggregatedDiscovery should support raw aggregated discovery endpoint Accept headers',
      'Discovery should locate the groupVersion and a resource within each APIGroup',
    ],
    refused: 'it looks for APIServices: an aggregated API server would answer in the control plane’s name',
    shown: [['src/apiserver/discovery/discovery.test.ts', 'aggregated discovery names every resource once']],
  },
  {
    names: ['MutatingAdmissionPolicy'],
    refused:
      'control planes store what was written, and never something else; ValidatingAdmissionPolicies can ask for it',
  },
  {
    names: ['FieldValidation should detect duplicates in a CR when preserving unknown fields'],
    missing: 'a key that YAML has twice is named by its path, and not by its line',
  },
  {
    names: ['API priority and fairness'],
    refused: 'fairness between tenants is the platform’s, and no tenant may change it',
  },
  {
    names: ['Aggregator Should be able to support'],
    refused: 'an aggregated API server would answer in the control plane’s name',
  },
  {
    names: ['opting out of API token automount'],
    refused:
      'it looks for the token’s volume in the pod that is stored, which stays as it was written; the token is mounted all the same',
    shown: [
      [
        'src/controllers/pods/plan-jail.test.ts',
        'a token is mounted unless the pod, or else its service account, says no',
      ],
    ],
  },
  {
    names: ['Certificates API'],
    refused: 'certificates for tenants come from the platform’s own authority',
  },
  {
    names: ['ResourceQuota should create a ResourceQuota and capture the life of a pod.'],
    refused: 'its pod asks for an extended resource, and devices of the machine are not handed to tenants',
  },
  {
    names: ['KubeletManagedEtcHosts'],
    refused: 'its pods mount a file of the machine and are in the machine’s network',
  },
  {
    names: [
      'ignore failure matching on DisruptionTarget condition',
      'pod failure policy on exit code to fail the job early',
      'pod failure policy to not count the failure towards the backoffLimit',
    ],
    refused: 'its pods are privileged and mount a folder of the machine, to know on which try they are',
    shown: [
      ['tests/journeys/jobs.test.ts', 'a pod that was evicted does not count where a rule says so'],
      ['tests/journeys/jobs.test.ts', 'an exit code ends the whole job at once'],
    ],
  },
  {
    names: ['two untainted nodes', 'Node Lifecycle'],
    refused: 'tenants see one node that stands for their share of the machine',
  },
  {
    names: ['Ephemeral Containers'],
    missing: 'a container cannot be added to a pod that runs; the request is refused with what to do instead',
  },
  { names: ['ImageVolume'], missing: 'images are not mounted as volumes' },
  { names: ['Pod InPlace Resize'], missing: 'containers are not resized while they run' },
  {
    names: ['retry creating failed daemon pods'],
    refused: 'it says in the status of a pod that it has failed, which only the platform does',
    shown: [
      [
        'tests/journeys/rollouts.test.ts',
        'a pod of a DaemonSet that has failed is replaced, and one that no node wants',
      ],
    ],
  },
  {
    names: ['rollback without unnecessary restarts'],
    refused: 'it wants two nodes, and tenants see one that stands for their share of the machine',
  },
  {
    names: ['Should recreate evicted statefulset'],
    refused: 'its pods take a port of the machine and choose their node',
  },
  {
    names: ['lifecycle of Pods and PodStatus'],
    missing:
      'it wants a pod whose image has just changed to be ready still; here the container is replaced at once',
  },
  {
    names: ['Proxy version v1 should proxy through a service and a pod'],
    missing:
      'links in HTML are not rewritten on their way from a pod; browsers would be told to load nothing anyway',
  },
  {
    names: ['Ingress API should support'],
    refused: 'hosts that nobody was granted, and a backend for all of them',
    shown: [
      [
        'tests/conformance/every-kind.test.ts',
        'every verb and every mistake is answered as Kubernetes answers it',
      ],
    ],
  },
  { names: ['IngressClass API'], refused: 'the platform decides which ways in there are' },
  {
    names: ['ServiceCIDR and IPAddress API'],
    refused: 'the platform decides which addresses services have',
  },
  {
    names: ['service status lifecycle'],
    refused: 'it asks for a class of load balancers of its own, and the platform has one front door',
    shown: [
      [
        'tests/conformance/every-kind.test.ts',
        'every verb and every mistake is answered as Kubernetes answers it',
      ],
    ],
  },
  {
    names: ['RuntimeClass should'],
    refused: 'the runtime follows from who the tenant is; a tenant must not choose a weaker one',
    shown: [['tests/conformance/bad-manifests.test.ts', 'each trick is refused with a reason']],
  },
  {
    names: ['Sysctls'],
    refused: 'settings of the kernel are shared by all tenants',
  },
  {
    names: ['NodePort', 'capture the life of a service'],
    refused: 'ports of the machine are shared by all tenants',
  },
  {
    names: ['node-pod communication', 'session affinity timeout work for service with type clusterIP'],
    refused: 'its pods are in the machine’s network',
  },
  {
    names: ['NoExecuteTaintManager'],
    refused: 'it taints the node, which stands for the tenant’s share of the machine',
  },
  {
    names: ['HostPort validates', 'SchedulerPredicates [Serial] validates that there'],
    refused: 'its pods take ports of the machine',
  },
  {
    names: ['SchedulerPreemption [Serial]'],
    refused: 'it adds a resource to the node, which shows the tenant’s share of the machine',
    shown: [
      ['tests/journeys/preemption.test.ts', 'a pod of a class of the system makes a less important one'],
      ['tests/journeys/preemption.test.ts', 'ReplicaSets of several classes'],
      [
        'tests/conformance/every-kind.test.ts',
        'every verb and every mistake is answered as Kubernetes answers it',
      ],
      [
        'tests/journeys/scheduling.test.ts',
        'a more important pod gets the room of a less important one of the same tenant',
      ],
    ],
  },
  {
    names: [
      'CSIInlineVolumes',
      'CSINodes',
      'CSIStorageCapacity',
      'VolumeAttachment',
      'VolumeAttributesClass',
      'StorageClasses CSI',
      'PersistentVolumes CSI',
    ],
    refused:
      'volumes are made by the platform from claims; drivers and volumes made by hand would reach the machine',
  },
  { names: ['[DRA]'], refused: 'devices of the machine are not handed to tenants' },
  {
    names: ['continue listing from the last key if the original version has been compacted away'],
    missing:
      'it waits for a version to be forgotten by its age; here versions are forgotten when there are thousands of newer ones',
  },
  {
    names: [
      'Daemon set [Serial] should update pod when spec was updated and update strategy is RollingUpdate',
    ],
    missing:
      'it compares the bytes of a ControllerRevision with what 1.34 and later write; here they are those of 1.33, which older clients compare',
  },
  {
    names: ['should run the container as unprivileged when false'],
    only: 'untrusted',
    refused: 'it looks for Linux’s words; gVisor forbids the network device in others',
  },
  {
    names: ['CustomResourceDefinition Watch'],
    missing: 'its object has a whole number beyond 2^53, which is refused',
  },
]

export function reasonOf(trust: TestedTrust, name: string): Reason | undefined {
  return REASONS.find(
    ({ names, only = trust }) => only === trust && names.some((words) => name.includes(words)),
  )
}
