import type { KubeObject } from '../meta.ts'
import { deleteOptionsSchema, objectFields } from './meta.ts'
import { int32, object, optional, required, string, type TypeOf } from './schema-builders.ts'

/** Kinds that are only spoken at sub-resources of workloads and pods: Scale, Eviction. */

export const scaleSchema = object('io.k8s.api.autoscaling.v1.Scale', 'How many pods a workload shall have.', {
  ...objectFields,
  spec: optional(
    object('io.k8s.api.autoscaling.v1.ScaleSpec', 'What is wanted.', {
      replicas: optional(int32, 'How many pods.'),
    }),
    'What is wanted.',
  ),
  status: optional(
    object('io.k8s.api.autoscaling.v1.ScaleStatus', 'What is there.', {
      replicas: required(int32, 'Pods that exist.'),
      selector: optional(string, 'Which pods, as a query.'),
    }),
    'What is there.',
  ),
})
export type Scale = KubeObject & { apiVersion: 'autoscaling/v1'; kind: 'Scale' } & Pick<
    TypeOf<typeof scaleSchema>,
    'spec' | 'status'
  >

export const evictionSchema = object(
  'io.k8s.api.policy.v1.Eviction',
  'Asks a pod to go, within its grace period.',
  {
    ...objectFields,
    deleteOptions: optional(deleteOptionsSchema, 'How to delete it.'),
  },
)
export type Eviction = KubeObject & { apiVersion: 'policy/v1'; kind: 'Eviction' } & Pick<
    TypeOf<typeof evictionSchema>,
    'deleteOptions'
  >
