import type { KindDefinition, KindRegistry, VirtualKind } from '../kind.ts'
import {
  platformAdmissionPolicyBindingDefinition,
  validatingAdmissionPolicyBindingDefinition,
  validatingAdmissionPolicyDefinition,
} from './admission-policy.ts'
import { configMapDefinition, secretDefinition } from './config.ts'
import { controllerRevisionDefinition } from './controller-revision.ts'
import { cronJobDefinition } from './cron-job.ts'
import { customResourceDefinitionDefinition } from './custom-resource-definition.ts'
import { daemonSetDefinition } from './daemon-set.ts'
import { egressDefinition, egressPolicyDefinition } from './egress.ts'
import { endpointsDefinition, endpointSliceDefinition } from './endpoints.ts'
import { eventDefinition } from './event.ts'
import { jobDefinition } from './job.ts'
import { horizontalPodAutoscalerDefinition, oldAutoscalerDefinition } from './horizontal-pod-autoscaler.ts'
import { leaseDefinition } from './lease.ts'
import { limitRangeDefinition } from './limit-range.ts'
import { namespaceDefinition } from './namespace.ts'
import { ingressClassDefinition, ingressDefinition } from './ingress.ts'
import { networkPolicyDefinition } from './network-policy.ts'
import { nodeMetricsDefinition, podMetricsDefinition } from './metrics.ts'
import { nodeDefinition } from './node.ts'
import { persistentVolumeClaimDefinition } from './persistent-volume-claim.ts'
import { persistentVolumeDefinition } from './persistent-volume.ts'
import { podDefinition } from './pod.ts'
import { podDisruptionBudgetDefinition } from './pod-disruption-budget.ts'
import { podTemplateDefinition } from './pod-template.ts'
import { priorityClassDefinition } from './priority-class.ts'
import {
  clusterRoleBindingDefinition,
  clusterRoleDefinition,
  roleBindingDefinition,
  roleDefinition,
} from './rbac.ts'
import { regoPolicyDefinition } from './rego-policy.ts'
import { replicationControllerDefinition } from './replication-controller.ts'
import { reportedEventDefinition } from './reported-event.ts'
import { resourceQuotaDefinition } from './resource-quota.ts'
import { reviewKinds } from './reviews.ts'
import { serviceAccountDefinition } from './service-account.ts'
import { serviceDefinition } from './service.ts'
import { storageClassDefinition } from './storage-class.ts'
import { statefulSetDefinition } from './stateful-set.ts'
import { tenantDefinition } from './tenant.ts'
import {
  mutatingWebhookConfigurationDefinition,
  validatingWebhookConfigurationDefinition,
} from './webhook-configuration.ts'
import { deploymentDefinition, replicaSetDefinition } from './workloads.ts'

/** A registry that finds kinds by resource or kind; without a version it gives the first there is. */
export function createKindRegistry(
  kinds: readonly KindDefinition[],
  virtualKinds: readonly VirtualKind[],
): KindRegistry {
  const byResource = Map.groupBy(kinds, (kind) => `${kind.group}/${kind.plural}`)
  const byKind = Map.groupBy(kinds, (kind) => `${kind.group}/${kind.kind}`)
  const ofVersion = (versions: readonly KindDefinition[] | undefined, version: string | undefined) =>
    version === undefined ? versions?.[0] : versions?.find((kind) => kind.version === version)
  return {
    kinds,
    virtualKinds,
    find: ({ group, version, resource }) => ofVersion(byResource.get(`${group}/${resource}`), version),
    findKind: ({ group, version, kind }) => ofVersion(byKind.get(`${group}/${kind}`), version),
  }
}

const rbac = [roleDefinition, roleBindingDefinition, clusterRoleDefinition, clusterRoleBindingDefinition]

/** What a tenant's control plane serves. */
export const tenantRegistry: KindRegistry = createKindRegistry(
  [
    namespaceDefinition,
    podDefinition,
    serviceDefinition,
    endpointsDefinition,
    configMapDefinition,
    secretDefinition,
    serviceAccountDefinition,
    resourceQuotaDefinition,
    limitRangeDefinition,
    persistentVolumeClaimDefinition,
    persistentVolumeDefinition,
    nodeDefinition,
    eventDefinition,
    reportedEventDefinition,
    podTemplateDefinition,
    replicationControllerDefinition,
    deploymentDefinition,
    replicaSetDefinition,
    statefulSetDefinition,
    daemonSetDefinition,
    controllerRevisionDefinition,
    jobDefinition,
    cronJobDefinition,
    podDisruptionBudgetDefinition,
    networkPolicyDefinition,
    ingressDefinition,
    ingressClassDefinition,
    endpointSliceDefinition,
    ...rbac,
    leaseDefinition,
    customResourceDefinitionDefinition,
    validatingAdmissionPolicyDefinition,
    validatingAdmissionPolicyBindingDefinition,
    validatingWebhookConfigurationDefinition,
    mutatingWebhookConfigurationDefinition,
    storageClassDefinition,
    priorityClassDefinition,
    horizontalPodAutoscalerDefinition,
    oldAutoscalerDefinition,
    podMetricsDefinition,
    nodeMetricsDefinition,
    egressDefinition,
    egressPolicyDefinition,
  ],
  reviewKinds,
)

/** What the platform's control plane serves to operators. */
export const platformRegistry: KindRegistry = createKindRegistry(
  [
    tenantDefinition,
    namespaceDefinition,
    eventDefinition,
    reportedEventDefinition,
    configMapDefinition,
    leaseDefinition,
    validatingAdmissionPolicyDefinition,
    platformAdmissionPolicyBindingDefinition,
    regoPolicyDefinition,
    ...rbac,
  ],
  reviewKinds,
)
