import { parseRequestPath } from '../ingress.ts'
import { INGRESS_CERTIFICATES_MAX, INGRESS_PATHS_MAX, INGRESS_RULES_MAX } from '../limits.ts'
import type { KubeObject } from '../meta.ts'
import type { FieldError } from '../status.ts'
import { ageColumn, column, nameColumn } from './columns.ts'
import { ALL_VERBS, defineKind, statusSubresource, type TypedKind } from './define-kind.ts'
import { invalidValue, requiredValue, tooMany, unsupportedValue } from './field-errors.ts'
import { objectFields } from './meta.ts'
import { dnsLabelProblem, dnsSubdomainProblem, isIPv4, portNameProblem, portNumberProblem } from './names.ts'
import { int32, list, object, oneOf, optional, required, string, type TypeOf } from './schema-builders.ts'

const NETWORKING = 'io.k8s.api.networking.v1'

/** The one class that every control plane has. */
export const INGRESS_CLASS_NAME = 'bulkhead'
const DEFAULT_CLASS = 'ingressclass.kubernetes.io/is-default-class'
/** "false" serves plain HTTP also for hosts that have a certificate. */
/** Of a Service: its TCP ports of the front door begin connections with a header of the PROXY protocol. */
export const PROXY_PROTOCOL_ANNOTATION = 'ingress.bulkhead.dev/proxy-protocol'
export const INGRESS_REDIRECT_ANNOTATION = 'ingress.bulkhead.dev/ssl-redirect'
/** What older manifests name the class with. */
const CLASS_ANNOTATION = 'kubernetes.io/ingress.class'

const servicePortSchema = object(
  `${NETWORKING}.ServiceBackendPort`,
  'A port of the service, by name or number.',
  {
    name: optional(string, 'Its name. Not together with a number.'),
    number: optional(int32, 'Its number. Not together with a name.'),
  },
  { atomic: true },
)
const backendSchema = object(`${NETWORKING}.IngressBackend`, 'Who answers.', {
  service: optional(
    object(`${NETWORKING}.IngressServiceBackend`, 'A service of the same namespace.', {
      name: required(string, 'Its name.'),
      port: optional(servicePortSchema, 'Its port.'),
    }),
    'A service of the same namespace.',
  ),
})
const pathSchema = object(`${NETWORKING}.HTTPIngressPath`, 'A path, and who answers there.', {
  backend: required(backendSchema, 'Who answers.'),
  path: optional(string, 'What the path of a request is compared with; "/" when absent.'),
  pathType: required(
    oneOf('Exact', 'Prefix', 'ImplementationSpecific'),
    'Exact: the whole path. Prefix, and ImplementationSpecific: whole segments from the beginning.',
  ),
})
const ruleSchema = object(`${NETWORKING}.IngressRule`, 'What is served under one host name.', {
  host: optional(
    string,
    'A host name that the operator granted, or "*." and one, where "*" stands for one label. Needed here.',
  ),
  http: optional(
    object(`${NETWORKING}.HTTPIngressRuleValue`, 'Paths of the host.', {
      paths: required(
        list(pathSchema),
        'Paths, in any order: Exact comes before Prefix, longer before shorter.',
      ),
    }),
    'Paths of the host.',
  ),
})
const tlsSchema = object(`${NETWORKING}.IngressTLS`, 'A certificate and the hosts it is for.', {
  hosts: optional(list(string), 'Hosts, each as in a rule.'),
  secretName: optional(string, 'A Secret of type kubernetes.io/tls in the same namespace.'),
})
const specSchema = object(`${NETWORKING}.IngressSpec`, 'Under which names which services are published.', {
  ingressClassName: optional(string, 'The class; "bulkhead" is the only one, and the default.'),
  rules: optional(list(ruleSchema), 'Host names and their paths.'),
  tls: optional(list(tlsSchema), 'Certificates. Plain HTTP to their hosts is redirected to HTTPS.'),
})
const statusSchema = object(`${NETWORKING}.IngressStatus`, 'Where it is served.', {
  loadBalancer: optional(
    object(`${NETWORKING}.IngressLoadBalancerStatus`, 'Where the platform’s front door is.', {
      ingress: optional(
        list(
          object(`${NETWORKING}.IngressLoadBalancerIngress`, 'An address of the front door.', {
            hostname: optional(string, 'Its name.'),
            ip: optional(string, 'Its address.'),
            ports: optional(
              list(
                object(`${NETWORKING}.IngressPortStatus`, 'A port of the front door.', {
                  error: optional(string, 'Why it does not work.'),
                  port: required(int32, 'Its number.'),
                  protocol: required(oneOf('TCP', 'UDP', 'SCTP'), 'Its protocol.'),
                }),
              ),
              'Its ports.',
            ),
          }),
        ),
        'Addresses of the front door.',
      ),
    }),
    'Where the platform’s front door is.',
  ),
})
export const ingressSchema = object(
  `${NETWORKING}.Ingress`,
  'Publishes services under host names, over HTTP and HTTPS.',
  {
    ...objectFields,
    spec: optional(specSchema, 'What is published.', { default: {} }),
    status: optional(statusSchema, 'Where it is served. Kept by the platform.'),
  },
)
export type IngressSpec = TypeOf<typeof specSchema>
export type IngressStatus = TypeOf<typeof statusSchema>
export type Ingress = KubeObject & {
  apiVersion: 'networking.k8s.io/v1'
  kind: 'Ingress'
  spec: IngressSpec
  status?: IngressStatus
}
export const ingressKind: TypedKind<Ingress> = {
  group: 'networking.k8s.io',
  version: 'v1',
  kind: 'Ingress',
  plural: 'ingresses',
  namespaced: true,
}

const HOSTS_SHOWN = 3

export const ingressDefinition = defineKind(ingressKind, {
  singular: 'ingress',
  shortNames: ['ing'],
  verbs: ALL_VERBS,
  schema: ingressSchema,
  subresources: [statusSubresource],
  hasGeneration: true,
  hasStatus: true,
  nameProblem: dnsSubdomainProblem,
  columns: [
    nameColumn,
    column('Class', 'Its class.', ({ spec }) => spec.ingressClassName ?? '<none>'),
    column('Hosts', 'Names that it publishes.', ({ spec }) => hostsText(spec)),
    column('Address', 'Where the front door is.', ({ status }) =>
      (status?.loadBalancer?.ingress ?? []).map(({ ip, hostname }) => ip ?? hostname ?? '').join(','),
    ),
    column('Ports', 'Ports of the web.', ({ spec }) => (spec.tls?.length ? '80, 443' : '80')),
    ageColumn,
  ],
  validate: (ingress) => [...classErrors(ingress), ...specErrors(ingress.spec)],
  prepareForCreate: (ingress) => ({ ...ingress, status: { loadBalancer: {} } }),
  warnings: ({ metadata }) =>
    Object.keys(metadata.annotations ?? {})
      .filter((name) => /^[a-z0-9.-]{1,200}\.ingress\.kubernetes\.io\//.test(name))
      .slice(0, HOSTS_SHOWN)
      .map((name) => `metadata.annotations[${name}]: has no effect: it is of another ingress controller`),
})

function hostsText({ rules = [] }: IngressSpec): string {
  const hosts = [...new Set(rules.map(({ host }) => host || '*'))]
  if (hosts.length === 0) return '*'
  const shown = hosts.slice(0, HOSTS_SHOWN).join(',')
  return hosts.length > HOSTS_SHOWN ? `${shown} + ${hosts.length - HOSTS_SHOWN} more...` : shown
}

function classErrors({ metadata, spec }: Ingress): FieldError[] {
  const old = metadata.annotations?.[CLASS_ANNOTATION]
  const errors: FieldError[] = []
  if (old !== undefined && old !== INGRESS_CLASS_NAME)
    errors.push(unsupportedValue(`metadata.annotations[${CLASS_ANNOTATION}]`, old, [INGRESS_CLASS_NAME]))
  if (spec.ingressClassName !== undefined && spec.ingressClassName !== INGRESS_CLASS_NAME)
    errors.push(unsupportedValue('spec.ingressClassName', spec.ingressClassName, [INGRESS_CLASS_NAME]))
  return errors
}

function specErrors({ rules = [], tls = [] }: IngressSpec): FieldError[] {
  if (rules.length === 0)
    return [requiredValue('spec.rules', 'must have a rule with a host: there is no default backend here')]
  const errors: FieldError[] = []
  if (rules.length > INGRESS_RULES_MAX) errors.push(tooMany('spec.rules', rules.length, INGRESS_RULES_MAX))
  if (tls.length > INGRESS_CERTIFICATES_MAX)
    errors.push(tooMany('spec.tls', tls.length, INGRESS_CERTIFICATES_MAX))
  for (const [at, { host, http }] of rules.slice(0, INGRESS_RULES_MAX).entries()) {
    const path = `spec.rules[${at}]`
    if (!host)
      errors.push(requiredValue(`${path}.host`, 'a rule without a host would catch the traffic of others'))
    else errors.push(...hostErrors(host, `${path}.host`))
    const paths = http?.paths ?? []
    if (paths.length === 0) errors.push(requiredValue(`${path}.http.paths`))
    if (paths.length > INGRESS_PATHS_MAX)
      errors.push(tooMany(`${path}.http.paths`, paths.length, INGRESS_PATHS_MAX))
    for (const [n, each] of paths.slice(0, INGRESS_PATHS_MAX).entries())
      errors.push(...pathErrors(each, `${path}.http.paths[${n}]`))
  }
  for (const [at, { hosts = [], secretName }] of tls.slice(0, INGRESS_CERTIFICATES_MAX).entries()) {
    const path = `spec.tls[${at}]`
    if (hosts.length > INGRESS_RULES_MAX)
      errors.push(tooMany(`${path}.hosts`, hosts.length, INGRESS_RULES_MAX))
    if (hosts.length === 0)
      errors.push(requiredValue(`${path}.hosts`, 'must name the hosts of the certificate'))
    for (const [n, host] of hosts.slice(0, INGRESS_RULES_MAX).entries())
      errors.push(...hostErrors(host, `${path}.hosts[${n}]`))
    if (!secretName)
      errors.push(requiredValue(`${path}.secretName`, 'there is no default certificate: name a Secret'))
    else {
      const problem = dnsSubdomainProblem(secretName)
      if (problem) errors.push(invalidValue(`${path}.secretName`, secretName, problem))
    }
  }
  return errors
}

function hostErrors(host: string, path: string): FieldError[] {
  if (isIPv4(host) || host.includes(':'))
    return [invalidValue(path, host, 'must be a DNS name, not an IP address')]
  const problem = dnsSubdomainProblem(host.startsWith('*.') ? host.slice(2) : host)
  return problem ? [invalidValue(path, host, problem)] : []
}

type IngressPath = NonNullable<NonNullable<IngressSpec['rules']>[number]['http']>['paths'][number]

const PATH_PARTS_REFUSED = ['//', '/./', '/../', '%2f', '%2F']
const PATH_ENDS_REFUSED = ['/..', '/.']

function pathErrors({ path = '', pathType, backend }: IngressPath, at: string): FieldError[] {
  const errors: FieldError[] = []
  const where = `${at}.path`
  if (path !== '' || pathType !== 'ImplementationSpecific') {
    if (!path.startsWith('/')) errors.push(invalidValue(where, path, 'must be an absolute path'))
    for (const part of PATH_PARTS_REFUSED)
      if (path.includes(part)) errors.push(invalidValue(where, path, `must not contain '${part}'`))
    for (const end of PATH_ENDS_REFUSED)
      if (path.endsWith(end)) errors.push(invalidValue(where, path, `cannot end with '${end}'`))
    if (path.length > PATH_CHARS_MAX || (path.startsWith('/') && parseRequestPath(path) !== path))
      errors.push(
        invalidValue(
          where,
          path.slice(0, 100),
          `must be at most ${PATH_CHARS_MAX} characters that every server reads in the same way; it is no regular expression`,
        ),
      )
  }
  const { service } = backend
  if (!service) return [...errors, requiredValue(`${at}.backend`, 'must name a service')]
  const nameProblem = dnsLabelProblem(service.name)
  if (nameProblem) errors.push(invalidValue(`${at}.backend.service.name`, service.name, nameProblem))
  const { name, number } = service.port ?? {}
  const port = `${at}.backend.service.port`
  if (name && number) errors.push(invalidValue(port, name, 'cannot set both port name & port number'))
  else if (name) {
    const problem = portNameProblem(name)
    if (problem) errors.push(invalidValue(`${port}.name`, name, problem))
  } else if (number !== undefined) {
    const problem = portNumberProblem(number)
    if (problem) errors.push(invalidValue(`${port}.number`, number, problem))
  } else errors.push(requiredValue(port, 'port name or number is required'))
  return errors
}

const PATH_CHARS_MAX = 1_024

export const ingressClassSchema = object(
  `${NETWORKING}.IngressClass`,
  'A way in that the platform offers. Only the platform writes it.',
  {
    ...objectFields,
    spec: optional(
      object(`${NETWORKING}.IngressClassSpec`, 'Who carries it out.', {
        controller: optional(string, 'Who carries it out.'),
      }),
      'Who carries it out.',
    ),
  },
)
export type IngressClass = KubeObject & {
  apiVersion: 'networking.k8s.io/v1'
  kind: 'IngressClass'
  spec?: { controller?: string }
}
export const ingressClassKind: TypedKind<IngressClass> = {
  group: 'networking.k8s.io',
  version: 'v1',
  kind: 'IngressClass',
  plural: 'ingressclasses',
  namespaced: false,
}
export const ingressClassDefinition = defineKind(ingressClassKind, {
  singular: 'ingressclass',
  verbs: ALL_VERBS,
  schema: ingressClassSchema,
  hasGeneration: true,
  nameProblem: dnsSubdomainProblem,
  columns: [
    nameColumn,
    column('Controller', 'Who carries it out.', ({ spec }) => spec?.controller ?? '<none>'),
    column('Parameters', 'There are none.', () => '<none>'),
    ageColumn,
  ],
})

/** What a control plane has from the start. */
export const defaultIngressClass = {
  metadata: { name: INGRESS_CLASS_NAME, annotations: { [DEFAULT_CLASS]: 'true' } },
  spec: { controller: 'bulkhead.dev/front-door' },
} as const
