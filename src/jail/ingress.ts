import {
  type EgressPort,
  egressPortText,
  hostPatternProblem,
  INGRESS_HOSTS_MAX,
  INGRESS_PORT_NUMBERS_MAX,
  INGRESS_PORTS_MAX,
  isDnsLabel,
  parseIpBlock,
  parseRequestPath,
} from '../api/index.ts'
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
  type Shape,
  text,
} from './shape.ts'
import { invalid } from '../api/index.ts'

/** Under which names, and on which ports, the outside reaches a tenant, as the operator said. */
export type IngressGrant = { hosts: readonly string[]; ports: readonly EgressPort[] }

/**
 * What a tenant publishes. It says nothing about who the tenant is: the front door looks into it only for hosts and ports
 * that were granted to whoever's socket it came from.
 */
export type TenantIngress = {
  routes: readonly IngressRoute[]
  certificates: readonly IngressCertificate[]
  ports: readonly PublishedPort[]
}

export type IngressRoute = {
  /** A host name, or `*.` and one. */
  host: string
  path: string
  exact: boolean
  backend: IngressBackend
  /** What the service speaks; `h2c` is HTTP/2 in the clear, as gRPC needs it. */
  protocol: 'http' | 'h2c'
  /** Plain HTTP is sent to HTTPS. */
  redirect: boolean
}

/** A port of one of the tenant's own services; of TCP unless said otherwise. */
export type IngressBackend = { namespace: string; service: string; port: number; protocol?: 'UDP' }

export type IngressCertificate = { host: string; certificate: string; key: string }

export type PublishedPort = {
  /** Of the front door, of the backend's protocol. */
  port: number
  backend: IngressBackend
  /** Networks of clients; everybody when absent. */
  sources?: readonly string[]
  /** Connections begin with a header of the PROXY protocol, version 2. Of TCP only. */
  tellsClient?: true
}

/** What of it the machine cannot publish, and why. */
export type IngressRefusal = { what: string; why: string }
export type IngressAnswer = { refused: readonly IngressRefusal[] }

/** The front door, as tenants are told. */
export type IngressAddress = { ip: string; httpPort: number; httpsPort: number }

const label = text({ max: 63, problem: (v) => (isDnsLabel(v) ? undefined : 'is not a DNS label') })
const host = text({ min: 1, max: 253, problem: hostPatternProblem })
const port = integer(1, 65_535)

const grantShape = object<IngressGrant>({
  hosts: required(list(host, { max: INGRESS_HOSTS_MAX })),
  ports: required(
    list(
      object<EgressPort>({
        protocol: required(oneOf('TCP', 'UDP')),
        port: required(port),
        endPort: required(port),
      }),
      { max: INGRESS_PORTS_MAX },
    ),
  ),
})

/**
 * Reads a grant as hostile input.
 * @throws {TypeError} that names the first problem.
 */
export function parseIngressGrant(value: unknown): IngressGrant {
  const problems = new Problems()
  const grant = grantShape(value, 'ingress', problems)
  for (const [index, each] of (grant?.ports ?? []).entries())
    if (each.endPort < each.port)
      problems.add('FieldValueInvalid', `ingress.ports[${index}]`, `${egressPortText(each)} is no range`)
  if (grant && portsOf(grant).length > INGRESS_PORT_NUMBERS_MAX)
    problems.add('FieldValueTooMany', 'ingress.ports', `are more than ${INGRESS_PORT_NUMBERS_MAX} ports`)
  const [first] = problems.list
  if (!grant || first)
    throw new TypeError(`"${first?.field ?? 'ingress'}" ${first?.message ?? 'is not valid'}`)
  return grant
}

/** Every single port of a grant as `publishedPortText` writes it, or of as many ranges as are read before there are too many. */
export function portsOf({ ports }: Pick<IngressGrant, 'ports'>): string[] {
  const all: string[] = []
  for (const { protocol, ...range } of ports)
    for (let each = range.port; each <= range.endPort && all.length <= INGRESS_PORT_NUMBERS_MAX; each++)
      all.push(egressPortText({ protocol, port: each, endPort: each }))
  return all
}

/** "9000" of TCP, "53/UDP" of UDP: two tenants may have the same number, one of each. */
export function publishedPortText({
  port: number,
  backend,
}: Pick<PublishedPort, 'port' | 'backend'>): string {
  return egressPortText({ protocol: backend.protocol ?? 'TCP', port: number, endPort: number })
}

const backend = object<IngressBackend>({
  namespace: required(label),
  service: required(label),
  port: required(port),
  protocol: optional(oneOf('UDP')),
})

const oneOfTrue: Shape<true> = (value, field, problems) =>
  value === true ? true : problems.add('FieldValueInvalid', field, 'must be true, or absent')

const ingress = object<TenantIngress>({
  routes: required(
    list(
      object<IngressRoute>({
        host: required(host),
        path: required(
          text({
            min: 1,
            max: limits.INGRESS_PATH_BYTES_MAX,
            problem: (v) => (parseRequestPath(v) === v ? undefined : 'is not a path'),
          }),
        ),
        exact: required(boolean),
        backend: required(backend),
        protocol: required(oneOf('http', 'h2c')),
        redirect: required(boolean),
      }),
      { max: limits.INGRESS_ROUTES_MAX },
    ),
  ),
  certificates: required(
    list(
      object<IngressCertificate>({
        host: required(host),
        certificate: required(text({ min: 1, max: limits.INGRESS_CERTIFICATE_BYTES_MAX })),
        key: required(text({ min: 1, max: limits.INGRESS_KEY_BYTES_MAX })),
      }),
      { max: limits.INGRESS_CERTIFICATES_MAX },
    ),
  ),
  ports: required(
    list(
      object<PublishedPort>({
        port: required(port),
        backend: required(backend),
        sources: optional(
          list(text({ max: 43, problem: (v) => (parseIpBlock(v) ? undefined : 'is not a network') }), {
            max: limits.INGRESS_SOURCES_MAX,
          }),
        ),
        tellsClient: optional(oneOfTrue),
      }),
      { max: INGRESS_PORT_NUMBERS_MAX },
    ),
  ),
})

/**
 * Reads what a tenant publishes as hostile input.
 * @throws {ApiError} 422 that lists every problem.
 */
export function parseTenantIngress(value: unknown): TenantIngress {
  const problems = new Problems()
  const parsed = ingress(value, '', problems)
  if (parsed) {
    noDuplicates(parsed.certificates, 'certificates', problems, (each) => each.host, 'host')
    noDuplicates(parsed.ports, 'ports', problems, publishedPortText, 'port')
    for (const [index, { backend: to }] of parsed.routes.entries())
      if (to.protocol !== undefined)
        problems.add('FieldValueForbidden', `routes[${index}].backend.protocol`, 'is only for ports')
    noDuplicates(
      parsed.routes,
      'routes',
      problems,
      (each) => `${each.host} ${each.exact ? 'exact' : 'prefix'} ${each.path}`,
    )
  }
  if (!parsed || problems.list.length > 0)
    throw invalid({ group: '', kind: 'TenantIngress', name: '' }, problems.list)
  return parsed
}

/** Services that something of it leads to, each once. */
export function backendsOf({ routes, ports }: Pick<TenantIngress, 'routes' | 'ports'>): IngressBackend[] {
  const all = [...routes, ...ports].map((each) => each.backend)
  return [...new Map(all.map((each) => [backendKey(each), each])).values()]
}

export function backendKey({ namespace, service, port: number, protocol }: IngressBackend): string {
  return `${namespace}/${service}:${number}${protocol === undefined ? '' : `/${protocol}`}`
}
