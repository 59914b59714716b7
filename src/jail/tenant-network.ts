import type { EgressPort } from '../api/index.ts'

/**
 * What a tenant's network offers besides its pods: services and names, and which of its pods may talk. A tenant can only describe its own; pods are
 * named by jail, never by address, so no entry can point at another tenant or at the machine.
 */
export type TenantNetwork = {
  services: readonly NetworkService[]
  /** Absent: every pod may talk with every other. */
  isolation?: NetworkIsolation
  /** What pods reach outside at most, of what the operator has opened. Absent: all of it. */
  narrowings?: readonly EgressNarrowing[]
}

/** About the pods of a namespace that have the labels. Of several about a pod, each adds what it allows. */
export type EgressNarrowing = {
  namespace: string
  selector: readonly PodLabelRequirement[]
  allow: readonly NarrowedTo[]
}

/** A condition on labels, as those of Kubernetes. */
export type PodLabelRequirement = {
  key: string
  operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist'
  values: readonly string[]
}

/** Exactly one of `host` and `cidr`. Without ports: all that the operator has opened. */
export type NarrowedTo = { host?: string; cidr?: string; ports?: readonly EgressPort[] }

/**
 * Which connections a tenant's own policies allow. It only ever takes away: nothing in it can name an address of
 * another tenant in a way that opens anything.
 */
export type NetworkIsolation = {
  /** All pods that it was made for, named below by their places in this list. Any other pod talks to nobody yet. */
  pods: readonly string[]
  groups: readonly PodGroup[]
  ingress: readonly IsolatedPods[]
  egress: readonly IsolatedPods[]
}

/** Pods that rules speak of together. */
export type PodGroup = {
  /** Stays the same while members come and go. */
  name: string
  pods: readonly number[]
  /** The tenant's resolver counts as one of them. */
  resolver: boolean
}

/** Pods to which, in one direction, only what a rule allows is possible. A pod is in one of them at most. */
export type IsolatedPods = { pods: readonly number[]; rules: readonly FlowRule[] }

export type FlowRule = {
  /** Who may be on the other side; absent for everybody. */
  peers?: { groups: readonly string[]; blocks: readonly AddressRange[] }
  /** Of egress: what is connected to must besides be in this group. */
  within?: string
  /** Absent: every port of every protocol. Ranges of one protocol do not overlap. */
  ports?: readonly PortRange[]
}

/** IPv4 addresses from one to another, both included. */
export type AddressRange = { first: string; last: string }
export type PortRange = { protocol: 'TCP' | 'UDP' | 'SCTP'; first: number; last: number }

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
