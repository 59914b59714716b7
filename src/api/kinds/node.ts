import type { KubeObject } from '../meta.ts'
import { ageColumn, column, nameColumn } from './columns.ts'
import { ALL_VERBS, defineKind, statusSubresource, type TypedKind } from './define-kind.ts'
import { objectFields } from './meta.ts'
import { dnsSubdomainProblem } from './names.ts'
import {
  boolean,
  listByKey,
  map,
  object,
  optional,
  quantity,
  required,
  string,
  time,
  type TypeOf,
} from './schema-builders.ts'

const CORE = 'io.k8s.api.core.v1'

const nodeAddress = object(`${CORE}.NodeAddress`, 'A name or an address.', {
  address: required(string, 'The name.'),
  type: required(string, 'Hostname.'),
})
const nodeCondition = object(`${CORE}.NodeCondition`, 'One thing known about a node.', {
  lastHeartbeatTime: optional(time, 'When it was told last.'),
  lastTransitionTime: optional(time, 'When the status changed last.'),
  message: optional(string, 'A sentence for people.'),
  reason: optional(string, 'A word for programs.'),
  status: required(string, 'True, False or Unknown.'),
  type: required(string, 'Such as Ready.'),
})
const nodeSystemInfo = object(
  `${CORE}.NodeSystemInfo`,
  'What runs the pods; nothing of the machine itself.',
  {
    architecture: required(string, 'Of programs: amd64 or arm64.'),
    bootID: required(string, 'Empty: the machine is not told.'),
    containerRuntimeVersion: required(string, 'What keeps containers apart.'),
    kernelVersion: required(string, 'Not told.'),
    kubeProxyVersion: required(string, 'Empty: there is none.'),
    kubeletVersion: required(string, 'The version of the API.'),
    machineID: required(string, 'Empty: the machine is not told.'),
    operatingSystem: required(string, 'Of programs: linux.'),
    osImage: required(string, 'Not told.'),
    systemUUID: required(string, 'Empty: the machine is not told.'),
  },
)

export const nodeSchema = object(
  `${CORE}.Node`,
  'Where pods run: one node, as large as the tenant’s share. Tenants write its labels, its annotations and whether it takes pods; which machine it is, is not told.',
  {
    ...objectFields,
    spec: optional(
      object(`${CORE}.NodeSpec`, 'What is wanted of it.', {
        unschedulable: optional(
          boolean,
          'It takes no new pods, as kubectl cordon says; those of DaemonSets come nonetheless.',
        ),
      }),
      'What is wanted of it.',
      { default: {} },
    ),
    status: optional(
      object(`${CORE}.NodeStatus`, 'How it is.', {
        addresses: optional(
          listByKey(nodeAddress, ['type'], { patchMergeKey: 'type', patchStrategy: 'merge' }),
          'Its names.',
        ),
        allocatable: optional(map(quantity), 'What requests of pods may add up to.'),
        capacity: optional(map(quantity), 'The same: what the platform needs is not part of it.'),
        conditions: optional(listByKey(nodeCondition, ['type']), 'What is known about it.'),
        nodeInfo: optional(nodeSystemInfo, 'What runs the pods.'),
      }),
      'How it is.',
    ),
  },
)
export type NodeStatus = NonNullable<TypeOf<typeof nodeSchema>['status']>
export type Node = KubeObject & { apiVersion: 'v1'; kind: 'Node' } & Pick<
    TypeOf<typeof nodeSchema>,
    'spec' | 'status'
  >
export const nodeKind: TypedKind<Node> = {
  group: '',
  version: 'v1',
  kind: 'Node',
  plural: 'nodes',
  namespaced: false,
}

/** The one node that a tenant sees. Which machines are behind it, only the engine knows. */
export const VIRTUAL_NODE_NAME = 'bulkhead'

const ROLE = 'node-role.kubernetes.io/'
const NONE = '<none>'

export const nodeDefinition = defineKind(nodeKind, {
  singular: 'node',
  shortNames: ['no'],
  verbs: ALL_VERBS,
  schema: nodeSchema,
  subresources: [statusSubresource],
  hasStatus: true,
  nameProblem: dnsSubdomainProblem,
  fieldSelectors: { 'spec.unschedulable': ({ spec }) => String(spec?.unschedulable ?? false) },
  columns: [
    nameColumn,
    column('Status', 'Whether it takes pods.', ({ spec, status }) => {
      const ready = status?.conditions?.find(({ type }) => type === 'Ready')
      const state = ready === undefined ? 'Unknown' : ready.status === 'True' ? 'Ready' : 'NotReady'
      return spec?.unschedulable ? `${state},SchedulingDisabled` : state
    }),
    column('Roles', 'There are none.', ({ metadata }) => {
      const roles = Object.keys(metadata.labels ?? {}).filter((label) => label.startsWith(ROLE))
      return roles.map((label) => label.slice(ROLE.length)).join(',') || NONE
    }),
    ageColumn,
    column('Version', 'The version of the API.', ({ status }) => status?.nodeInfo?.kubeletVersion ?? ''),
    column('Internal-IP', 'Not told.', () => NONE, { priority: 1 }),
    column('External-IP', 'Not told.', () => NONE, { priority: 1 }),
    column('OS-Image', 'Not told.', ({ status }) => status?.nodeInfo?.osImage || '<unknown>', {
      priority: 1,
    }),
    column('Kernel-Version', 'Not told.', ({ status }) => status?.nodeInfo?.kernelVersion || '<unknown>', {
      priority: 1,
    }),
    column(
      'Container-Runtime',
      'What keeps containers apart.',
      ({ status }) => status?.nodeInfo?.containerRuntimeVersion || '<unknown>',
      { priority: 1 },
    ),
  ],
})
