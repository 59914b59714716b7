import { createSecureContext, type SecureContext } from 'node:tls'
import { constants, X509Certificate } from 'node:crypto'
import { findPath } from '../../../api/index.ts'
import {
  type IngressGrant,
  type IngressRefusal,
  type IngressRoute,
  portsOf,
  type PublishedPort,
  publishedPortText,
  type TenantIngress,
} from '../../../jail/index.ts'

/** What the node agent says of one tenant. */
export type DoorView = {
  tenant: string
  grant: IngressGrant
  /** Null: nobody has said since the node agent started, so what we know stays. */
  ingress: TenantIngress | null
}

export type Site = {
  index: number
  tenant: string
  grant: IngressGrant
  routes: ReadonlyMap<string, readonly IngressRoute[]>
  certificates: ReadonlyMap<string, SecureContext>
  /** By `publishedPortText`. */
  ports: ReadonlyMap<string, PublishedPort>
}

/**
 * Whose a host is, and what is served there. Whose it is follows from the operator's grants alone; what a tenant says is
 * looked at only after that, so that no tenant's words can reach another's hosts.
 */
export class Sites {
  private readonly sites = new Map<number, Site>()
  private owners = new Map<string, number | 'several'>()

  all(): Iterable<Site> {
    return this.sites.values()
  }

  get(index: number): Site | undefined {
    return this.sites.get(index)
  }

  /** Returns what of it cannot be served. */
  set(index: number, { tenant, grant, ingress }: DoorView): IngressRefusal[] {
    const before = this.sites.get(index)
    const refused: IngressRefusal[] = []
    const certificates = new Map<string, SecureContext>()
    for (const { host, certificate, key } of ingress?.certificates ?? []) {
      const context = secureContext(certificate, key)
      if (typeof context === 'string') refused.push({ what: host, why: context })
      else certificates.set(host, context)
    }
    const granted = new Set(portsOf(grant))
    const ports = ingress
      ? new Map(ingress.ports.map((each) => [publishedPortText(each), each]))
      : (before?.ports ?? new Map())
    this.sites.set(index, {
      index,
      tenant,
      grant,
      routes: ingress ? Map.groupBy(ingress.routes, ({ host }) => host) : (before?.routes ?? new Map()),
      certificates: ingress ? certificates : (before?.certificates ?? new Map()),
      ports: new Map([...ports].filter(([port]) => granted.has(port))),
    })
    this.findOwners()
    return refused
  }

  remove(index: number): void {
    this.sites.delete(index)
    this.findOwners()
  }

  /** The tenant that the host was granted to. Nobody while two claim it: one of them has just lost it. */
  ownerOf(host: string): Site | undefined {
    const owners = new Set(
      [host, wildcardOf(host)].flatMap((name) => {
        const owner = name === undefined ? undefined : this.owners.get(name)
        return owner === undefined ? [] : [owner]
      }),
    )
    const [owner] = owners
    return owners.size === 1 && typeof owner === 'number' ? this.sites.get(owner) : undefined
  }

  certificateOf(host: string): SecureContext | undefined {
    return forHost(this.ownerOf(host)?.certificates, host)
  }

  /** A host of its own comes before a wildcard, with all of its paths. */
  routeOf(site: Site, host: string, path: string): IngressRoute | undefined {
    return findPath(forHost(site.routes, host) ?? [], path)
  }

  private findOwners(): void {
    const owners = new Map<string, number | 'several'>()
    for (const { index, grant } of this.sites.values())
      for (const host of grant.hosts)
        owners.set(host, owners.has(host) && owners.get(host) !== index ? 'several' : index)
    this.owners = owners
  }
}

function wildcardOf(host: string): string | undefined {
  const dot = host.indexOf('.')
  return dot < 0 ? undefined : `*${host.slice(dot)}`
}

function forHost<T>(map: ReadonlyMap<string, T> | undefined, host: string): T | undefined {
  return map?.get(host) ?? map?.get(wildcardOf(host) ?? '')
}

/** Without tickets: a session that was begun for one host must not be taken up for another. */
const SECURE_OPTIONS = constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION

function secureContext(certificate: string, key: string): SecureContext | string {
  try {
    const first = new X509Certificate(certificate)
    if (Date.parse(first.validTo) < Date.now()) return `its certificate ended on ${first.validTo}`
    return createSecureContext({
      cert: certificate,
      key,
      minVersion: 'TLSv1.2',
      secureOptions: SECURE_OPTIONS,
    })
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unreadable'
    return `its certificate and key cannot be used together (${code})`
  }
}
