import {
  hostPatternProblem,
  INGRESS_REDIRECT_ANNOTATION,
  parseRequestPath,
  PROXY_PROTOCOL_ANNOTATION,
} from '../../api/index.ts'
import {
  INGRESS_CERTIFICATE_BYTES_MAX,
  INGRESS_KEY_BYTES_MAX,
  INGRESS_ROUTES_MAX,
  type IngressBackend,
  type IngressCertificate,
  type IngressRefusal,
  type IngressRoute,
  type PublishedPort,
  publishedPortText,
  type TenantIngress,
} from '../../jail/index.ts'
import type { Ingress, Secret, Service } from '../kinds.ts'

/** What is published, and for each object by its uid what of it is not. */
export type IngressPlan = {
  ingress: TenantIngress
  problems: ReadonlyMap<string, readonly string[]>
  /** What an object publishes: hosts, and ports as texts. */
  published: ReadonlyMap<string, ReadonlySet<string>>
}

/** The services that are asked in HTTP/2 in the clear, by what upstream calls it and what is usual. */
const HTTP2_IN_THE_CLEAR: readonly (string | undefined)[] = ['kubernetes.io/h2c', 'h2c', 'grpc']
/** Leads to nobody: a path whose service is not there must not fall to another path's. */
const NO_PORT = 65_535

type Sources = {
  ingresses: readonly Ingress[]
  services: readonly Service[]
  secret: (of: { namespace: string; name: string }) => Secret | undefined
}

/** Of two objects that want the same, the older one has it, as with other controllers. Pure. */
export function planIngress({ ingresses, services, secret }: Sources): IngressPlan {
  const routes = new Map<string, IngressRoute>()
  const certificates = new Map<string, IngressCertificate>()
  const ports = new Map<string, PublishedPort>()
  const problems = new Map<string, string[]>()
  const published = new Map<string, Set<string>>()
  const say = ({ metadata: { uid } }: Ingress | Service, problem: string) => {
    const list = problems.get(uid) ?? []
    problems.set(uid, list)
    if (!list.includes(problem)) list.push(problem)
  }
  const byName = new Map(services.map((each) => [`${each.metadata.namespace}/${each.metadata.name}`, each]))

  for (const ingress of inOrder(ingresses)) {
    const { metadata, spec } = ingress
    const namespace = metadata.namespace ?? ''
    const names = new Set<string>()
    published.set(metadata.uid, names)
    const secured = new Set<string>()
    for (const { hosts = [], secretName = '' } of spec.tls ?? []) {
      const pair = certificateOf(secret({ namespace, name: secretName }))
      if (typeof pair === 'string') say(ingress, `the Secret "${secretName}" ${pair}`)
      for (const host of hosts) {
        const problem = hostPatternProblem(host)
        if (problem !== undefined) say(ingress, `the host "${host}" ${problem}`)
        else {
          secured.add(host)
          if (typeof pair !== 'string' && !certificates.has(host)) certificates.set(host, { host, ...pair })
        }
      }
    }
    const redirects = metadata.annotations?.[INGRESS_REDIRECT_ANNOTATION] !== 'false'
    for (const { host = '', http } of spec.rules ?? [])
      for (const { path = '', pathType, backend } of http?.paths ?? []) {
        const wanted = path === '' ? '/' : path
        const problem = hostPatternProblem(host)
        if (problem !== undefined) {
          say(ingress, `the host "${host}" ${problem}`)
          continue
        }
        if (parseRequestPath(wanted) !== wanted) {
          say(ingress, `the path "${wanted}" is read by servers in different ways`)
          continue
        }
        const exact = pathType === 'Exact'
        const key = `${host} ${exact ? '=' : '>'} ${wanted}`
        if (routes.has(key)) {
          say(ingress, `another Ingress has the path "${wanted}" of "${host}" already`)
          continue
        }
        if (routes.size >= INGRESS_ROUTES_MAX) {
          say(ingress, `the tenant has ${INGRESS_ROUTES_MAX} paths already`)
          continue
        }
        const found = findPort(byName, namespace, backend.service)
        if (found.problem !== undefined) say(ingress, found.problem)
        routes.set(key, {
          host,
          path: wanted,
          exact,
          backend: found.backend,
          protocol: found.protocol,
          redirect: redirects && secured.has(host),
        })
        names.add(host)
      }
  }
  for (const service of inOrder(services.filter(({ spec }) => spec.type === 'LoadBalancer'))) {
    const { metadata, spec } = service
    const numbers = new Set<string>()
    published.set(metadata.uid, numbers)
    const proxy = metadata.annotations?.[PROXY_PROTOCOL_ANNOTATION]
    if (proxy !== undefined && proxy !== 'v2') {
      // Whoever reads a header of some kind would take the client's own words for one.
      say(service, `the annotation ${PROXY_PROTOCOL_ANNOTATION} must be "v2", or absent`)
      continue
    }
    for (const { port, protocol = 'TCP' } of spec.ports ?? []) {
      if (protocol === 'SCTP') continue
      const sources = spec.loadBalancerSourceRanges ?? []
      const backend = {
        namespace: metadata.namespace ?? '',
        service: metadata.name,
        port,
        ...(protocol === 'UDP' ? { protocol } : {}),
      }
      const key = publishedPortText({ port, backend })
      if (ports.has(key)) {
        say(service, `another Service has the port ${key} of the front door already`)
        continue
      }
      if (proxy !== undefined && protocol === 'UDP') {
        say(service, `the port ${key} cannot have the PROXY protocol, which is for TCP`)
        continue
      }
      ports.set(key, {
        port,
        backend,
        ...(sources.length > 0 ? { sources } : {}),
        ...(proxy === undefined ? {} : { tellsClient: true }),
      })
      numbers.add(key)
    }
  }
  return {
    ingress: {
      routes: [...routes.values()],
      certificates: [...certificates.values()],
      ports: [...ports.values()],
    },
    problems,
    published,
  }
}

/** The same after the machine has said what of it cannot be. A refusal of `*` is one of everything. */
export function withRefusals(plan: IngressPlan, refused: readonly IngressRefusal[]): IngressPlan {
  const problems = new Map([...plan.problems].map(([uid, list]) => [uid, [...list]]))
  const published = new Map<string, ReadonlySet<string>>()
  for (const [uid, names] of plan.published) {
    const left = new Set(names)
    for (const { what, why } of refused) {
      const isPort = [...names].every((name) => /^\d+(?:\/UDP)?$/.test(name))
      if (!(what === '*' ? !isPort : names.has(what))) continue
      if (what === '*') left.clear()
      else left.delete(what)
      const list = problems.get(uid) ?? []
      problems.set(uid, list)
      list.push(what === '*' ? why : `"${what}": ${why}`)
    }
    published.set(uid, left)
  }
  return { ...plan, problems, published }
}

function inOrder<T extends Ingress | Service>(objects: readonly T[]): T[] {
  const ageOf = ({ metadata }: T) => `${metadata.creationTimestamp} ${metadata.namespace}/${metadata.name}`
  return objects
    .filter(({ metadata }) => !metadata.deletionTimestamp)
    .toSorted((a, b) => (ageOf(a) < ageOf(b) ? -1 : 1))
}

type ServiceBackend = { name: string; port?: { name?: string; number?: number } }

function findPort(
  services: ReadonlyMap<string, Service>,
  namespace: string,
  wanted: ServiceBackend | undefined,
): { backend: IngressBackend; protocol: IngressRoute['protocol']; problem?: string } {
  const name = wanted?.name ?? ''
  const service = services.get(`${namespace}/${name}`)
  const port = service?.spec.ports?.find((each) =>
    wanted?.port?.number ? each.port === wanted.port.number : each.name === wanted?.port?.name,
  )
  const backend = { namespace, service: name, port: port?.port ?? NO_PORT }
  const protocol = HTTP2_IN_THE_CLEAR.includes(port?.appProtocol) && port?.appProtocol ? 'h2c' : 'http'
  if (!service) return { backend, protocol, problem: `there is no Service "${name}"` }
  // It could lead anywhere, also to what only the platform reaches.
  if (service.spec.type === 'ExternalName')
    return { backend, protocol, problem: `the Service "${name}" is of type ExternalName and has no pods` }
  return port
    ? { backend, protocol }
    : {
        backend,
        protocol,
        problem: `the Service "${name}" has no port ${wanted?.port?.number ?? `"${wanted?.port?.name}"`}`,
      }
}

function certificateOf(secret: Secret | undefined): { certificate: string; key: string } | string {
  if (!secret) return 'is not there'
  if (secret.type !== 'kubernetes.io/tls') return 'is not of type kubernetes.io/tls'
  const read = (name: string) => Buffer.from(secret.data?.[name] ?? '', 'base64').toString('latin1')
  const [certificate, key] = [read('tls.crt'), read('tls.key')]
  if (certificate === '' || key === '') return 'has no certificate and key'
  // Base64 in armour, and nothing else: what else there is could not travel as text.
  if (![certificate, key].every((each) => /^[\t\r\n\x20-\x7e]*$/.test(each))) return 'is not in PEM'
  if (certificate.length > INGRESS_CERTIFICATE_BYTES_MAX || key.length > INGRESS_KEY_BYTES_MAX)
    return 'is too large'
  return { certificate, key }
}
