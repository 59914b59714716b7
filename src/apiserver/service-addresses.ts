import { API_SERVICE, type KubeObject, invalid } from '../api/index.ts'
import { assert } from '../stdx/index.ts'

/** The part of a Service that addresses are about. */
type ServiceSpec = { type?: string; clusterIP?: string; clusterIPs?: string[] }

/** Set aside at the start of the range: the network itself, the API server (.1) and DNS (.10). */
const RESERVED_OFFSETS: readonly number[] = [0, 1, 10]

/**
 * The virtual addresses of one tenant's services. Kept in memory and rebuilt from the store at start, so there is no
 * second truth. An address is taken before the write and given back when the write fails or the service goes.
 */
export class ServiceAddresses {
  private readonly range: string
  private readonly base: number
  private readonly size: number
  private readonly taken = new Map<number, string>()
  private readonly random: () => number

  /** `range` in CIDR notation, /12 to /28. `random` gives numbers from 0 to below 1. */
  constructor({ range, random }: { range: string; random: () => number }) {
    const [address = '', bits = ''] = range.split('/')
    const base = parseAddress(address)
    const prefix = Number(bits)
    assert(
      base !== undefined && prefix >= 12 && prefix <= 28,
      `The service range "${range}" must be IPv4, /12 to /28`,
    )
    this.size = 2 ** (32 - prefix)
    assert(base % this.size === 0, `The service range "${range}" must begin at its network's address`)
    this.range = range
    this.base = base
    this.random = random
  }

  /** Notes the address of a service that is in the store. */
  restore(service: KubeObject): void {
    const offset = this.offsetOf((service['spec'] as ServiceSpec).clusterIP)
    if (offset !== undefined) this.taken.set(offset, service.metadata.uid)
  }

  /** An update that leaves the address out keeps the one there is, as upstream does. Changes `service`. */
  keep(service: KubeObject, old: KubeObject): void {
    const spec = service['spec'] as ServiceSpec
    const { type, clusterIP } = old['spec'] as ServiceSpec
    if (spec.type === 'ExternalName' || type === 'ExternalName' || !clusterIP) return
    spec.clusterIP ||= spec.clusterIPs?.[0] ?? clusterIP
    if (!spec.clusterIPs?.length) spec.clusterIPs = [spec.clusterIP]
  }

  /**
   * Sets `clusterIP` and `clusterIPs` of a service that is to be written: the one asked for if it is free, any if none
   * was asked for, none for `None` and ExternalName. The returned function gives a newly taken address back.
   * @throws {ApiError} Invalid when the address is taken, out of range, or none is left.
   */
  take(service: KubeObject, old?: KubeObject): () => void {
    const spec = service['spec'] as ServiceSpec
    const own = isApiService(service)
    if (own) refuseOtherApiAddress(service, spec)
    if (spec.type === 'ExternalName') {
      delete spec.clusterIP
      delete spec.clusterIPs
      return () => {}
    }
    const before = (old?.['spec'] as ServiceSpec | undefined)?.clusterIP
    const wanted = spec.clusterIP || spec.clusterIPs?.[0] || (own ? API_SERVICE.clusterIP : '')
    if (wanted === 'None') {
      spec.clusterIP = 'None'
      spec.clusterIPs = ['None']
      return () => {}
    }
    if (wanted !== '' && wanted === before) {
      spec.clusterIP = wanted
      spec.clusterIPs = [wanted]
      return () => {}
    }
    const offset = wanted === '' ? this.free() : this.offsetOf(wanted)
    const refuse = (why: string) =>
      invalid({ group: '', kind: 'Service', name: service.metadata.name }, [
        {
          reason: 'FieldValueInvalid',
          field: 'spec.clusterIPs',
          message: `Invalid value: ${JSON.stringify(wanted === '' ? [] : [wanted])}: failed to allocate IP ${wanted}: ${why}`,
        },
      ])
    if (offset === undefined)
      throw refuse(
        wanted === ''
          ? `the range ${this.range} is full`
          : `the provided IP (${wanted}) is not in the valid range. The range of valid IPs is ${this.range}`,
      )
    const reserved = RESERVED_OFFSETS.includes(offset) && !(own && wanted === API_SERVICE.clusterIP)
    if (reserved || offset === this.size - 1 || this.taken.has(offset))
      throw refuse('provided IP is already allocated')
    this.taken.set(offset, service.metadata.uid)
    const address = renderAddress(this.base + offset)
    spec.clusterIP = address
    spec.clusterIPs = [address]
    return () => this.giveBack(offset, service.metadata.uid)
  }

  /** Gives back what a service that is gone (or became an ExternalName) had. */
  release(service: KubeObject): void {
    const offset = this.offsetOf((service['spec'] as ServiceSpec).clusterIP)
    if (offset !== undefined) this.giveBack(offset, service.metadata.uid)
  }

  private giveBack(offset: number, uid: string): void {
    if (this.taken.get(offset) === uid) this.taken.delete(offset)
  }

  private free(): number | undefined {
    const start = Math.floor(this.random() * this.size)
    for (let step = 0; step < this.size; step++) {
      const offset = (start + step) % this.size
      if (!RESERVED_OFFSETS.includes(offset) && offset !== this.size - 1 && !this.taken.has(offset))
        return offset
    }
    return undefined
  }

  private offsetOf(address: string | undefined): number | undefined {
    const value = address === undefined ? undefined : parseAddress(address)
    if (value === undefined || value < this.base || value >= this.base + this.size) return undefined
    return value - this.base
  }
}

/** The one service that has the API server's address, which leads there whoever writes the service. */
function isApiService({ metadata }: KubeObject): boolean {
  return metadata.namespace === API_SERVICE.namespace && metadata.name === API_SERVICE.name
}

function refuseOtherApiAddress({ metadata }: KubeObject, { type, clusterIP, clusterIPs }: ServiceSpec): void {
  const asked = type === 'ExternalName' ? type : clusterIP || clusterIPs?.[0] || API_SERVICE.clusterIP
  if (asked === API_SERVICE.clusterIP) return
  throw invalid({ group: '', kind: 'Service', name: metadata.name }, [
    {
      reason: 'FieldValueInvalid',
      field: type === 'ExternalName' ? 'spec.type' : 'spec.clusterIP',
      message: `Invalid value: ${JSON.stringify(asked)}: the service "${metadata.namespace}/${metadata.name}" is the API server's and has the address ${API_SERVICE.clusterIP}; give yours another name`,
    },
  ])
}

function parseAddress(text: string): number | undefined {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1).map(Number)
  if (!parts || parts.some((p) => p > 255)) return undefined
  return parts.reduce((sum, part) => sum * 256 + part, 0)
}

function renderAddress(value: number): string {
  return [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join('.')
}
