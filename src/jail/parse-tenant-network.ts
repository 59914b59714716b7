import { isIPv4 } from 'node:net'
import { invalid, isDnsLabel, isDnsSubdomain } from '../api/index.ts'
import * as limits from './limits.ts'
import {
  boolean,
  integer,
  list,
  noDuplicates,
  object,
  oneOf,
  optional,
  Problems,
  required,
  text,
} from './shape.ts'
import type { NetworkService, NetworkServicePort, TenantNetwork } from './tenant-network.ts'
import { isJailId } from './uid.ts'

/** Every tenant's own virtual range of service addresses, 10.96.0.0/16; no packet leaves a tenant with one. */
export const SERVICE_RANGE_PREFIX = '10.96.'

/** True for an address that a service may have: inside the range, and neither its first nor its last. */
export function isServiceAddress(value: string): boolean {
  return (
    isIPv4(value) &&
    value.startsWith(SERVICE_RANGE_PREFIX) &&
    value !== '10.96.0.0' &&
    value !== '10.96.255.255'
  )
}

/**
 * Reads the description of a tenant's network as hostile input.
 * @throws {ApiError} Invalid (422), listing the problems.
 */
export function parseTenantNetwork(value: unknown): TenantNetwork {
  const problems = new Problems()
  const network = networkShape(value, '', problems)
  if (network) checkServices(network.services, problems)
  if (!network || problems.list.length > 0)
    throw invalid({ group: '', kind: 'TenantNetwork', name: '' }, problems.list)
  return network
}

const dnsLabel = text({ min: 1, max: 63, problem: (v) => (isDnsLabel(v) ? undefined : 'is not a DNS label') })

const servicePort = object<NetworkServicePort>({
  name: optional(dnsLabel),
  protocol: required(oneOf('TCP', 'UDP', 'SCTP')),
  port: required(integer(1, 65_535)),
  endpoints: required(
    list(
      object<NetworkServicePort['endpoints'][number]>({
        jail: required(
          text({ max: 36, problem: (v) => (isJailId(v) ? undefined : 'is not a lower-case RFC 9562 UUID') }),
        ),
        port: required(integer(1, 65_535)),
        ready: required(boolean),
        hostname: optional(dnsLabel),
      }),
      { max: limits.ENDPOINTS_PER_PORT_MAX },
    ),
  ),
})

const networkShape = object<TenantNetwork>({
  services: required(
    list(
      object<NetworkService>({
        namespace: required(dnsLabel),
        name: required(dnsLabel),
        clusterIP: optional(
          text({
            max: 15,
            problem: (v) => (isServiceAddress(v) ? undefined : 'is not an address of 10.96.0.0/16'),
          }),
        ),
        ports: required(list(servicePort, { max: limits.PORTS_PER_SERVICE_MAX })),
        sessionAffinitySeconds: optional(integer(1, 86_400)),
        publishNotReadyAddresses: required(boolean),
        externalName: optional(
          text({
            min: 1,
            max: 253,
            problem: (v) => (isDnsSubdomain(v) ? undefined : 'is not a DNS subdomain'),
          }),
        ),
      }),
      { max: limits.SERVICES_MAX },
    ),
  ),
})

function checkServices(services: readonly NetworkService[], problems: Problems): void {
  // "/" is in no DNS label, so the two names cannot run into each other.
  noDuplicates(services, 'services', problems, (s) => `${s.namespace}/${s.name}`)
  noDuplicates(services, 'services', problems, (s) => s.clusterIP, 'clusterIP')
  let endpoints = 0
  for (const [index, { ports, clusterIP, externalName }] of services.entries()) {
    if (externalName !== undefined && (clusterIP !== undefined || ports.some((p) => p.endpoints.length > 0)))
      problems.add(
        'FieldValueForbidden',
        `services[${index}].externalName`,
        'may not be together with clusterIP or endpoints',
      )
    noDuplicates(ports, `services[${index}].ports`, problems, (p) => `${p.protocol} ${p.port}`, 'port')
    noDuplicates(ports, `services[${index}].ports`, problems, (p) => p.name, 'name')
    for (const each of ports) endpoints += each.endpoints.length
  }
  if (endpoints > limits.ENDPOINTS_MAX)
    problems.add(
      'FieldValueTooMany',
      'services',
      `must have at most ${limits.ENDPOINTS_MAX} endpoints together, not ${endpoints}`,
    )
}
