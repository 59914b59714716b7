import type { KubeObject } from '../meta.ts'
import { ageColumn, column, nameColumn } from './columns.ts'
import { ALL_VERBS, defineKind, type TypedKind } from './define-kind.ts'
import { validateEndpoints, validateEndpointSlice } from './endpoints-rules.ts'
import { objectFields } from './meta.ts'
import { dnsSubdomainProblem } from './names.ts'
import { objectReferenceSchema } from './pod-schema.ts'
import {
  boolean,
  int32,
  list,
  object,
  oneOf,
  optional,
  required,
  setOf,
  string,
  type TypeOf,
} from './schema-builders.ts'

/** Which pods carry out a service: Endpoints and EndpointSlice. Only addresses of the tenant's own pods get traffic. */

const CORE = 'io.k8s.api.core.v1'
const DISCOVERY = 'io.k8s.api.discovery.v1'
const protocol = oneOf('TCP', 'UDP', 'SCTP')

const endpointAddress = object(
  `${CORE}.EndpointAddress`,
  'Address of a pod.',
  {
    hostname: optional(string, 'Its DNS name under a headless service.'),
    ip: required(string, 'The address.'),
    nodeName: optional(string, 'Where it runs.'),
    targetRef: optional(objectReferenceSchema, 'The pod.'),
  },
  { atomic: true },
)
const endpointPort = object(
  `${CORE}.EndpointPort`,
  'A port of the pods.',
  {
    appProtocol: optional(string, 'What is spoken there.'),
    name: optional(string, 'The service port’s name.'),
    port: required(int32, 'Port number.'),
    protocol: optional(protocol, 'TCP, UDP or SCTP.', { default: 'TCP' }),
  },
  { atomic: true },
)
const endpointSubset = object(`${CORE}.EndpointSubset`, 'Pods with the same ports.', {
  addresses: optional(list(endpointAddress), 'Pods that are ready.'),
  notReadyAddresses: optional(list(endpointAddress), 'Pods that are not ready.'),
  ports: optional(list(endpointPort), 'Their ports.'),
})
export const endpointsSchema = object(`${CORE}.Endpoints`, 'Pods of a service, in the old form.', {
  ...objectFields,
  subsets: optional(list(endpointSubset), 'The pods.'),
})
export type EndpointSubset = TypeOf<typeof endpointSubset>
export type EndpointAddress = TypeOf<typeof endpointAddress>
export type Endpoints = KubeObject & { apiVersion: 'v1'; kind: 'Endpoints'; subsets?: EndpointSubset[] }
export const endpointsKind: TypedKind<Endpoints> = {
  group: '',
  version: 'v1',
  kind: 'Endpoints',
  plural: 'endpoints',
  namespaced: true,
}
export const endpointsDefinition = defineKind(endpointsKind, {
  singular: 'endpoints',
  shortNames: ['ep'],
  verbs: ALL_VERBS,
  schema: endpointsSchema,
  nameProblem: dnsSubdomainProblem,
  columns: [nameColumn, column('Endpoints', 'Addresses and ports.', renderEndpoints), ageColumn],
  validate: validateEndpoints,
})

const sliceEndpoint = object(`${DISCOVERY}.Endpoint`, 'A pod of a service.', {
  addresses: required(setOf(string), 'Its addresses; all lead to the same pod.'),
  conditions: optional(
    object(`${DISCOVERY}.EndpointConditions`, 'How it is.', {
      ready: optional(boolean, 'Gets traffic; absent means true.'),
      serving: optional(boolean, 'Is ready, even when it is ending.'),
      terminating: optional(boolean, 'Is ending.'),
    }),
    'How it is.',
    { default: {} },
  ),
  hostname: optional(string, 'Its DNS name under a headless service.'),
  nodeName: optional(string, 'Where it runs.'),
  targetRef: optional(objectReferenceSchema, 'The pod.'),
  zone: optional(string, 'The zone of its node.'),
})
const slicePort = object(
  `${DISCOVERY}.EndpointPort`,
  'A port of the pods.',
  {
    appProtocol: optional(string, 'What is spoken there.'),
    name: optional(string, 'The service port’s name.', { default: '' }),
    port: optional(int32, 'Port number.'),
    protocol: optional(protocol, 'TCP, UDP or SCTP.', { default: 'TCP' }),
  },
  { atomic: true },
)
export const endpointSliceSchema = object(`${DISCOVERY}.EndpointSlice`, 'Some of the pods of a service.', {
  ...objectFields,
  addressType: required(oneOf('IPv4'), 'IPv4; cannot change.'),
  endpoints: optional(list(sliceEndpoint), 'The pods.'),
  ports: optional(list(slicePort), 'Their ports.'),
})
export type EndpointSliceEndpoint = TypeOf<typeof sliceEndpoint>
export type EndpointSlicePort = TypeOf<typeof slicePort>
export type EndpointSlice = KubeObject & {
  apiVersion: 'discovery.k8s.io/v1'
  kind: 'EndpointSlice'
  addressType: 'IPv4'
  endpoints?: EndpointSliceEndpoint[]
  ports?: EndpointSlicePort[]
}
export const endpointSliceKind: TypedKind<EndpointSlice> = {
  group: 'discovery.k8s.io',
  version: 'v1',
  kind: 'EndpointSlice',
  plural: 'endpointslices',
  namespaced: true,
}
export const endpointSliceDefinition = defineKind(endpointSliceKind, {
  singular: 'endpointslice',
  verbs: ALL_VERBS,
  schema: endpointSliceSchema,
  hasGeneration: true,
  nameProblem: dnsSubdomainProblem,
  columns: [
    nameColumn,
    column('AddressType', 'IPv4.', (slice) => slice.addressType),
    column('Ports', 'Ports of the pods.', (slice) =>
      truncated((slice.ports ?? []).map((port) => String(port.port ?? '*'))),
    ),
    column('Endpoints', 'Addresses of the pods.', (slice) =>
      truncated((slice.endpoints ?? []).flatMap((endpoint) => endpoint.addresses)),
    ),
    ageColumn,
  ],
  validate: validateEndpointSlice,
})

const SHOWN_MAX = 3

function truncated(values: readonly string[], unset = '<unset>'): string {
  if (values.length === 0) return unset
  const shown = values.slice(0, SHOWN_MAX).join(',')
  return values.length > SHOWN_MAX ? `${shown} + ${values.length - SHOWN_MAX} more...` : shown
}

function renderEndpoints(endpoints: Endpoints): string {
  const all = (endpoints.subsets ?? []).flatMap(({ addresses = [], ports }) =>
    ports?.length
      ? ports.flatMap((port) => addresses.map((address) => `${address.ip}:${port.port}`))
      : addresses.map((address) => address.ip),
  )
  return truncated(all, '<none>')
}
