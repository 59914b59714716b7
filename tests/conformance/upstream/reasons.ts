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
    names: ['CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD with validation schema'],
    retired: 'it looks for the words in which kubectl before 1.25 named an unknown field',
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
    retired: 'it looks for what kubectl before 1.28 printed',
  },
  {
    names: ['Guestbook application', 'Update Demo'],
    refused: 'it asks its pods through the API server (`pods/proxy`, `services/proxy`)',
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
