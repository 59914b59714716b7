import type { KubeObject } from '../meta.ts'
import { ageColumn, column, nameColumn } from './columns.ts'
import { ALL_VERBS, defineKind, type TypedKind } from './define-kind.ts'
import { validateLease } from './lease-rules.ts'
import { objectFields } from './meta.ts'
import { dnsSubdomainProblem } from './names.ts'
import { int32, microTime, object, optional, string, type TypeOf } from './schema-builders.ts'

const leaseSpec = object('io.k8s.api.coordination.v1.LeaseSpec', 'Who holds it, and until when.', {
  acquireTime: optional(microTime, 'When it was taken.'),
  holderIdentity: optional(string, 'Who holds it.'),
  leaseDurationSeconds: optional(int32, 'How long it is valid after a renewal.'),
  leaseTransitions: optional(int32, 'How often it changed hands.'),
  renewTime: optional(microTime, 'When it was renewed last.'),
})
export const leaseSchema = object(
  'io.k8s.api.coordination.v1.Lease',
  'Something that one of several may hold.',
  {
    ...objectFields,
    spec: optional(leaseSpec, 'Who holds it.'),
  },
)
export type Lease = KubeObject & { apiVersion: 'coordination.k8s.io/v1'; kind: 'Lease' } & {
  spec?: TypeOf<typeof leaseSpec>
}
export const leaseKind: TypedKind<Lease> = {
  group: 'coordination.k8s.io',
  version: 'v1',
  kind: 'Lease',
  plural: 'leases',
  namespaced: true,
}
export const leaseDefinition = defineKind(leaseKind, {
  singular: 'lease',
  verbs: ALL_VERBS,
  schema: leaseSchema,
  nameProblem: dnsSubdomainProblem,
  columns: [
    nameColumn,
    column('Holder', 'Who holds it.', (lease) => lease.spec?.holderIdentity ?? ''),
    ageColumn,
  ],
  validate: validateLease,
})
