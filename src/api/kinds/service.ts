import type { KubeObject } from '../meta.ts'
import { ageColumn, column, nameColumn, renderMap } from './columns.ts'
import { ALL_VERBS, defineKind, PROXY_VERBS, statusSubresource, type TypedKind } from './define-kind.ts'
import { conditionSchema, objectFields } from './meta.ts'
import { dnsLabelProblem } from './names.ts'
import {
  boolean,
  int32,
  intOrString,
  list,
  listByKey,
  map,
  object,
  oneOf,
  optional,
  required,
  string,
  type TypeOf,
} from './schema-builders.ts'
import { NO_SCTP } from './rules.ts'
import {
  applyServiceDefaults,
  prepareServiceUpdate,
  validateService,
  withAddressFamily,
} from './service-rules.ts'

const CORE = 'io.k8s.api.core.v1'

export const servicePortSchema = object(`${CORE}.ServicePort`, 'A port of a service.', {
  appProtocol: optional(string, 'What is spoken there. For information.'),
  name: optional(string, 'Its name; needed when there are several.'),
  port: required(int32, 'Port number of the service.'),
  protocol: optional(oneOf('TCP', 'UDP', 'SCTP'), 'TCP, UDP or SCTP.', { default: 'TCP' }),
  targetPort: optional(intOrString, 'Number or name of the port of the pods; `port` when absent.'),
})
const serviceSpecSchema = object(`${CORE}.ServiceSpec`, 'What a service offers and who carries it out.', {
  clusterIP: optional(string, 'Its address, given by the control plane; None makes it headless.'),
  clusterIPs: optional(list(string), 'Its addresses; the first equals clusterIP.'),
  externalName: optional(string, 'For type ExternalName: the DNS name that it is another word for.'),
  internalTrafficPolicy: optional(oneOf('Cluster', 'Local'), 'Both mean the same on one virtual node.'),
  ipFamilies: optional(list(oneOf('IPv4')), 'IPv4.'),
  ipFamilyPolicy: optional(oneOf('SingleStack', 'PreferDualStack'), 'There is IPv4 only.'),
  ports: optional(
    listByKey(servicePortSchema, ['port', 'protocol'], { patchMergeKey: 'port', patchStrategy: 'merge' }),
    'Its ports.',
  ),
  publishNotReadyAddresses: optional(boolean, 'Names and addresses also of pods that are not ready.'),
  selector: optional(map(string, { atomic: true }), 'Labels of the pods that carry it out.'),
  sessionAffinity: optional(oneOf('None', 'ClientIP'), 'ClientIP sends a client to the same pod again.', {
    default: 'None',
  }),
  sessionAffinityConfig: optional(
    object(`${CORE}.SessionAffinityConfig`, 'Details of session affinity.', {
      clientIP: optional(
        object(`${CORE}.ClientIPConfig`, 'Affinity by address.', {
          timeoutSeconds: optional(int32, 'How long it is remembered.'),
        }),
        'Affinity by address.',
      ),
    }),
    'Details of session affinity.',
  ),
  trafficDistribution: optional(string, 'Without effect here.', {
    warning: 'has no effect: every pod of a tenant runs on the same virtual node',
  }),
  loadBalancerSourceRanges: optional(
    list(string),
    'For type LoadBalancer: networks of clients, such as 203.0.113.0/24. Everybody when absent.',
  ),
  type: optional(
    oneOf('ClusterIP', 'ExternalName', 'LoadBalancer'),
    'ClusterIP is reachable by the tenant’s own pods; LoadBalancer also from outside, on ports that the operator granted.',
    { default: 'ClusterIP' },
  ),
})
const serviceStatusSchema = object(`${CORE}.ServiceStatus`, 'How a service is.', {
  conditions: optional(listByKey(conditionSchema, ['type']), 'What is known about it.'),
  loadBalancer: optional(
    object(`${CORE}.LoadBalancerStatus`, 'Where it is reachable from outside.', {
      ingress: optional(
        list(
          object(`${CORE}.LoadBalancerIngress`, 'An address of the platform’s front door.', {
            hostname: optional(string, 'Its name.'),
            ip: optional(string, 'Its address.'),
            ports: optional(
              list(
                object(`${CORE}.PortStatus`, 'A port of the front door.', {
                  error: optional(string, 'Why it does not work.'),
                  port: required(int32, 'Its number.'),
                  protocol: required(oneOf('TCP', 'UDP', 'SCTP'), 'Its protocol.'),
                }),
              ),
              'Its ports.',
            ),
          }),
        ),
        'Addresses of the platform’s front door.',
      ),
    }),
    'Where it is reachable from outside.',
  ),
})
export const serviceSchema = object(`${CORE}.Service`, 'One name and address for several pods.', {
  ...objectFields,
  spec: optional(serviceSpecSchema, 'What it offers.', { default: {} }),
  status: optional(serviceStatusSchema, 'How it is. Kept by the platform.'),
})

export type ServicePort = TypeOf<typeof servicePortSchema>
export type ServiceSpec = TypeOf<typeof serviceSpecSchema>
export type ServiceStatus = TypeOf<typeof serviceStatusSchema>
export type Service = KubeObject & {
  apiVersion: 'v1'
  kind: 'Service'
  spec: ServiceSpec
  status?: ServiceStatus
}

export const serviceKind: TypedKind<Service> = {
  group: '',
  version: 'v1',
  kind: 'Service',
  plural: 'services',
  namespaced: true,
}

export const serviceDefinition = defineKind(serviceKind, {
  singular: 'service',
  showsDeleted: true,
  shortNames: ['svc'],
  categories: ['all'],
  verbs: ALL_VERBS,
  schema: serviceSchema,
  subresources: [
    { name: 'proxy', verbs: PROXY_VERBS, kind: { group: '', version: 'v1', kind: 'ServiceProxyOptions' } },
    statusSubresource,
  ],
  hasStatus: true,
  nameProblem: dnsLabelProblem,
  fieldSelectors: {
    'spec.clusterIP': (service) => service.spec.clusterIP ?? '',
    'spec.type': (service) => service.spec.type ?? '',
  },
  columns: [
    nameColumn,
    column('Type', 'ClusterIP, ExternalName or LoadBalancer.', (service) => service.spec.type ?? '<none>'),
    column(
      'Cluster-IP',
      'Its address in the tenant’s network.',
      (service) => service.spec.clusterIP || '<none>',
    ),
    column('External-IP', 'Where it is reachable from outside.', externalText),
    column('Port(s)', 'Its ports.', (service) => renderPorts(service.spec.ports)),
    ageColumn,
    column('Selector', 'Labels of its pods.', (service) => renderMap(service.spec.selector), { priority: 1 }),
  ],
  applyDefaults: applyServiceDefaults,
  validate: validateService,
  prepareForCreate: (service) => ({ ...withAddressFamily(service), status: { loadBalancer: {} } }),
  prepareForUpdate: prepareServiceUpdate,
  warnings: ({ spec }) =>
    (spec.ports ?? []).flatMap(({ protocol }, at) =>
      protocol === 'SCTP' ? [`spec.ports[${at}].protocol: ${NO_SCTP}`] : [],
    ),
})

function externalText({ spec, status }: Service): string {
  if (spec.type === 'ExternalName') return spec.externalName ?? '<none>'
  if (spec.type !== 'LoadBalancer') return '<none>'
  const addresses = status?.loadBalancer?.ingress?.map(({ ip, hostname }) => ip ?? hostname ?? '') ?? []
  return addresses.length > 0 ? addresses.join(',') : '<pending>'
}

function renderPorts(ports: readonly ServicePort[] | undefined): string {
  return (ports ?? []).map((p) => `${p.port}/${p.protocol ?? 'TCP'}`).join(',') || '<none>'
}
