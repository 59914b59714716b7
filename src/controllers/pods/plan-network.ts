import type {
  EgressNarrowing,
  NetworkIsolation,
  NetworkService,
  NetworkServicePort,
  TenantNetwork,
} from '../../jail/index.ts'
import type { EndpointSlice, EndpointSliceEndpoint, Service, ServicePort } from '../kinds.ts'

const SERVICE_NAME = 'kubernetes.io/service-name'
const AFFINITY_SECONDS_DEFAULT = 10_800

/** The tenant's pods, by uid. */
export type KnownPods = {
  has: (uid: string) => boolean
  /** The one that has an address now. */
  at: (address: string) => string | undefined
}

/** True when only its address tells which pod an endpoint is. */
export function isByAddress({ targetRef }: EndpointSliceEndpoint): boolean {
  return targetRef === undefined
}

function podBehind(endpoint: EndpointSliceEndpoint, pods: KnownPods): string | undefined {
  const { targetRef, addresses } = endpoint
  if (isByAddress(endpoint)) return addresses[0] === undefined ? undefined : pods.at(addresses[0])
  const uid = targetRef?.kind === 'Pod' ? targetRef.uid : undefined
  return uid !== undefined && pods.has(uid) ? uid : undefined
}

/**
 * What the engine has to know of a tenant's services. Endpoints are named by pod, never by address: an entry that
 * somebody wrote by hand counts only if it points at a pod of this tenant, or has the address of one. Pure.
 */
export function planNetwork(
  services: readonly Service[],
  slices: readonly EndpointSlice[],
  pods: KnownPods,
  isolation?: NetworkIsolation,
  narrowings?: readonly EgressNarrowing[],
): TenantNetwork {
  const byService = Map.groupBy(
    slices,
    (slice) => `${slice.metadata.namespace}/${slice.metadata.labels?.[SERVICE_NAME]}`,
  )
  return {
    services: services
      .filter((service) => !service.metadata.deletionTimestamp)
      .toSorted((a, b) => (keyOfService(a) < keyOfService(b) ? -1 : 1))
      .map((service) => networkService(service, byService.get(keyOfService(service)) ?? [], pods)),
    ...(isolation ? { isolation } : {}),
    ...(narrowings ? { narrowings } : {}),
  }
}

function keyOfService({ metadata }: Service): string {
  return `${metadata.namespace}/${metadata.name}`
}

function networkService(service: Service, slices: readonly EndpointSlice[], pods: KnownPods): NetworkService {
  const { spec, metadata } = service
  const base = {
    namespace: metadata.namespace ?? '',
    name: metadata.name,
    publishNotReadyAddresses: spec.publishNotReadyAddresses ?? false,
  }
  if (spec.type === 'ExternalName')
    return { ...base, ports: [], ...(spec.externalName ? { externalName: spec.externalName } : {}) }
  const headless = spec.clusterIP === 'None'
  const seconds = spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? AFFINITY_SECONDS_DEFAULT
  return {
    ...base,
    ...(spec.clusterIP && !headless ? { clusterIP: spec.clusterIP } : {}),
    ports: (spec.ports ?? []).map((port) => networkPort(port, slices, pods)),
    ...(spec.sessionAffinity === 'ClientIP' ? { sessionAffinitySeconds: seconds } : {}),
  }
}

function networkPort(
  { name, port, protocol = 'TCP' }: ServicePort,
  slices: readonly EndpointSlice[],
  pods: KnownPods,
): NetworkServicePort {
  const endpoints = new Map<string, NetworkServicePort['endpoints'][number]>()
  for (const slice of slices) {
    const target = slice.ports?.find(
      (p) => (p.name ?? '') === (name ?? '') && (p.protocol ?? 'TCP') === protocol,
    )
    if (target?.port === undefined) continue
    for (const endpoint of slice.endpoints ?? []) {
      const uid = podBehind(endpoint, pods)
      if (uid === undefined) continue
      const { conditions, hostname } = endpoint
      const ready = conditions?.ready ?? true
      endpoints.set(`${uid} ${target.port}`, {
        jail: uid,
        port: target.port,
        ready,
        ...(hostname ? { hostname } : {}),
      })
    }
  }
  return {
    ...(name ? { name } : {}),
    protocol,
    port,
    endpoints: [...endpoints.entries()]
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([, endpoint]) => endpoint),
  }
}
