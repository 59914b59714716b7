/**
 * Why tests of upstream's 1.20 do not pass here, or say nothing when they do. The first rule one of whose words is part of
 * a test's name decides.
 */
export type Reason = { names: readonly string[] } & (
  | { refused: string }
  | { retired: string }
  | { missing: string }
  /** It passes, and would whatever was answered. */
  | { hollow: string }
)

export const REASONS: readonly Reason[] = [
  {
    names: [
      'AdmissionWebhook [Privileged:ClusterAdmin] should include webhook resources in discovery documents',
    ],
    hollow: 'it compares with a nil that nothing equals; webhooks are not in discovery',
  },
  {
    names: ['AdmissionWebhook', 'CustomResourceConversionWebhook'],
    refused: 'a webhook would let a tenant’s program hold up or change what the control plane does',
  },
  {
    names: ['Aggregator Should be able to support'],
    refused: 'an aggregated API server would answer in the control plane’s name',
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
    names: [
      'Namespaces [Serial] should ensure that all pods are removed when a namespace is deleted',
      'Namespaces [Serial] should ensure that all services are removed when a namespace is deleted',
      'ServiceAccounts should allow opting out of API token automount',
      'ServiceAccounts should mount an API token into pods',
    ],
    retired:
      'it waits for a Secret with the service account’s token, which Kubernetes has not made since 1.24',
  },
  {
    names: ['Kubectl version should check is all data is printed'],
    retired:
      'it looks for the server’s commit, which kubectl has not printed since 1.28 and the platform does not tell',
  },
  {
    names: ['poststart http hook', 'prestop http hook'],
    refused: 'its hook asks another pod, and the platform calls nobody for a tenant but the pod itself',
  },
  {
    names: ['KubeletManagedEtcHosts'],
    refused: 'its pods mount a file of the machine and are in the machine’s network',
  },
  {
    names: ['retry creating failed daemon pods'],
    refused: 'it says in the status of a pod that it has failed, which only the platform does',
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
    names: ['Proxy version v1'],
    missing:
      'links in HTML are not rewritten on their way from a pod; browsers would be told to load nothing anyway',
  },
  {
    names: ['Ingress API should support'],
    refused: 'hosts that nobody was granted, and a backend for all of them',
  },
  { names: ['IngressClass API'], refused: 'the platform decides which ways in there are' },
  {
    names: ['RuntimeClass should support RuntimeClasses', 'RuntimeClass  should support RuntimeClasses'],
    refused: 'the runtime follows from who the tenant is',
  },
  { names: ['NodePort'], refused: 'ports of the machine are shared by all tenants' },
  {
    names: ['node-pod communication', 'session affinity timeout work for service with type clusterIP'],
    refused: 'its pods are in the machine’s network',
  },
  {
    names: ['NoExecuteTaintManager'],
    refused: 'it taints the node, which stands for the tenant’s share of the machine',
  },
  {
    names: ['SchedulerPredicates [Serial] validates that there'],
    refused: 'its pods take ports of the machine',
  },
  {
    names: ['SchedulerPreemption [Serial] PreemptionExecutionPath', 'SchedulerPreemption [Serial] validates'],
    refused: 'it adds a resource to the node, which shows the tenant’s share of the machine',
  },
  {
    names: ['CustomResourceDefinition Watch'],
    missing: 'its object has a whole number beyond 2^53, which is refused',
  },
]

export function reasonOf(name: string): Reason | undefined {
  return REASONS.find(({ names }) => names.some((words) => name.includes(words)))
}
