/**
 * What a tenant's network offers besides its pods: services and names. A tenant can only describe its own; pods are
 * named by jail, never by address, so no entry can point at another tenant or at the machine.
 */
export type TenantNetwork = {
  services: readonly NetworkService[]
}

export type NetworkService = {
  namespace: string
  name: string
  /** Absent for headless services, which are only names. Within the tenant's virtual service range. */
  clusterIP?: string
  ports: readonly NetworkServicePort[]
  sessionAffinitySeconds?: number
  publishNotReadyAddresses: boolean
  /** A CNAME. */
  externalName?: string
}

export type NetworkServicePort = {
  name?: string
  protocol: 'TCP' | 'UDP' | 'SCTP'
  port: number
  endpoints: readonly { jail: string; port: number; ready: boolean; hostname?: string }[]
}
