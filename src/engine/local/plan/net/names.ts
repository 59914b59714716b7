import { isDnsSubdomain } from '../../../../api/index.ts'
import type { Jail, TenantNetwork } from '../../../../jail/index.ts'
import { type Ipv4, ipv4FromText, ipv4Text } from './addresses.ts'
import { HOSTNAME_RECORDS_MAX, VIEW_RECORDS_MAX } from './limits.ts'

export const ZONE = 'cluster.local'

/** One resource record; names are lower-case without a final dot, `data` is an address or a name. */
export type NameRecord =
  | { name: string; type: 'A' | 'CNAME' | 'PTR'; data: string }
  | { name: string; type: 'SRV'; data: string; port: number }

/** All that one tenant's pods can ask for. */
export type NameView = {
  records: readonly NameRecord[]
  pods: readonly string[]
  /** Names outside may be asked for; which ones is decided at every question. */
  outside?: boolean
}

export type NamedPod = { address: Ipv4; hostnameRecords: readonly string[] }

/** The whole name of a pod, when it has a subdomain. */
export function podNames({ hostname, subdomain, namespace }: Jail): string[] {
  return subdomain === undefined ? [] : [`${hostname}.${subdomain}.${namespace}.svc.${ZONE}`]
}

/**
 * The names of a tenant, after the Kubernetes DNS specification 1.1.0
 * (https://github.com/kubernetes/dns/blob/master/docs/specification.md).
 *
 * Requires: `network` went through `parseTenantNetwork`. `podOf` knows only this tenant's pods.
 */
export function planNames(
  network: TenantNetwork,
  pods: readonly NamedPod[],
  addressOf: (jail: string) => Ipv4 | undefined,
): NameView {
  const records = new Map<string, NameRecord>()
  const add = (record: NameRecord) => {
    if (records.size >= VIEW_RECORDS_MAX || !isDnsName(record.name)) return
    records.set(
      `${record.name} ${record.type} ${record.data} ${record.type === 'SRV' ? record.port : ''}`,
      record,
    )
  }
  for (const service of network.services) {
    const name = `${service.name}.${service.namespace}.svc.${ZONE}`
    const virtual = ipv4FromText(service.clusterIP)
    if (service.externalName !== undefined) {
      add({ name, type: 'CNAME', data: service.externalName })
      continue
    }
    if (virtual !== undefined) {
      add({ name, type: 'A', data: ipv4Text(virtual) })
      add({ name: reverseName(virtual), type: 'PTR', data: name })
    }
    for (const port of service.ports) {
      const srv =
        port.name === undefined ? undefined : `_${port.name}._${port.protocol.toLowerCase()}.${name}`
      if (virtual !== undefined) {
        if (srv !== undefined) add({ name: srv, type: 'SRV', data: name, port: port.port })
        continue
      }
      for (const endpoint of port.endpoints) {
        if (!endpoint.ready && !service.publishNotReadyAddresses) continue
        const address = addressOf(endpoint.jail)
        if (address === undefined) continue
        const host = `${endpoint.hostname ?? dashed(address)}.${name}`
        add({ name, type: 'A', data: ipv4Text(address) })
        add({ name: host, type: 'A', data: ipv4Text(address) })
        add({ name: reverseName(address), type: 'PTR', data: host })
        if (srv !== undefined) add({ name: srv, type: 'SRV', data: host, port: endpoint.port })
      }
    }
  }
  for (const pod of pods) {
    for (const given of pod.hostnameRecords.slice(0, HOSTNAME_RECORDS_MAX)) {
      const name = given.endsWith('.') ? given.slice(0, -1) : given
      if (isDnsSubdomain(name) && name.endsWith(`.${ZONE}`))
        add({ name, type: 'A', data: ipv4Text(pod.address) })
    }
  }
  return { records: [...records.values()], pods: pods.map((pod) => ipv4Text(pod.address)) }
}

export function reverseName(address: Ipv4): string {
  return `${ipv4Text(address).split('.').reverse().join('.')}.in-addr.arpa`
}

function dashed(address: Ipv4): string {
  return ipv4Text(address).replaceAll('.', '-')
}

/** What a record may be named: labels as in host names, which may begin with an underscore (RFC 8552). */
export function isDnsName(name: string): boolean {
  return (
    name.length <= 253 &&
    name.split('.').every((label) => /^[a-z0-9_]([-a-z0-9]{0,61}[a-z0-9])?$/.test(label))
  )
}
