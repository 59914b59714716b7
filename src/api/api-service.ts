/**
 * Where pods reach their tenant's API: the same in every tenant, and reserved in each. Who is asked follows from the pod
 * that asks, so it needs no name of a tenant.
 */
export const API_SERVICE = {
  namespace: 'default',
  name: 'kubernetes',
  clusterIP: '10.96.0.1',
  port: 443,
} as const

/** What a certificate for that address is made out to. */
export const API_SERVICE_DNS_NAMES: readonly string[] = [
  'kubernetes',
  'kubernetes.default',
  'kubernetes.default.svc',
  'kubernetes.default.svc.cluster.local',
]
