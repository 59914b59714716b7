import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  applyDefaults,
  checkObject,
  type KubeObject,
  podDefinition,
  podSpecSchema,
  refusedValues,
  type Schema,
  schemaOf,
  validateObject,
  type WriteContext,
} from '../../api/index.ts'
import { parseJail } from '../../jail/index.ts'
import { object, TENANT } from '../controllers.testkit.ts'
import type { ConfigMap, PersistentVolumeClaim, Pod, Secret, Service } from '../kinds.ts'
import { planJail } from './plan-jail.ts'

/**
 * Every field of a pod that the API accepts either changes the jail, or a warning says that it has no effect, or its
 * effect is elsewhere and named here. A new field that is in none of these lists fails.
 */

const CONFIG_MAP = { name: 'settings' }
const V = 'volumes[]'
const C = 'containers[]'

/** Path in the spec, two values of it (undefined: absent), where the jail differs, and what else must be there. */
type Row = readonly [
  path: string,
  before: unknown,
  after: unknown,
  jail: string,
  given?: Readonly<Record<string, unknown>>,
]

function handlerRows(at: string, jail: string, extra: Readonly<Record<string, unknown>> = {}): Row[] {
  const http = { ...extra, [`${at}.httpGet.port`]: 80 }
  const header = `${at}.httpGet.httpHeaders[]`
  return [
    [`${at}.exec.command`, ['a'], ['b'], `${jail}.command`, extra],
    [`${at}.httpGet.path`, '/a', '/b', `${jail}.path`, http],
    [`${at}.httpGet.port`, 80, 81, `${jail}.port`, extra],
    [`${at}.httpGet.scheme`, 'HTTP', 'HTTPS', `${jail}.scheme`, http],
    [`${header}.name`, 'X-A', 'X-B', `${jail}.headers`, { ...http, [`${header}.value`]: 'v' }],
    [`${header}.value`, 'a', 'b', `${jail}.headers`, { ...http, [`${header}.name`]: 'X-A' }],
    [`${at}.tcpSocket.port`, 80, 81, `${jail}.port`, extra],
  ]
}

function hookRows(hook: string): Row[] {
  const at = `${C}.lifecycle.${hook}`
  return [...handlerRows(at, at), [`${at}.sleep.seconds`, 1, 2, `${at}.seconds`]]
}

function probeRows(probe: 'livenessProbe' | 'readinessProbe' | 'startupProbe'): Row[] {
  const at = `${C}.${probe}`
  const given = { [`${at}.tcpSocket.port`]: 80 }
  const readiness = probe === 'readinessProbe'
  return [
    ...handlerRows(at, `${at}.handler`),
    [`${at}.grpc.port`, 80, 81, `${at}.handler.port`],
    [`${at}.grpc.service`, 'a', 'b', `${at}.handler.service`, { [`${at}.grpc.port`]: 80 }],
    ...(['failureThreshold', 'initialDelaySeconds', 'periodSeconds', 'timeoutSeconds'] as const).map(
      (field): Row => [`${at}.${field}`, 4, 5, `${at}.${field}`, given],
    ),
    ...(readiness
      ? [[`${at}.successThreshold`, 1, 2, `${at}.successThreshold`, given] as const]
      : [
          [
            `${at}.terminationGracePeriodSeconds`,
            1,
            2,
            `${at}.terminationGracePeriodSeconds`,
            given,
          ] as const,
        ]),
  ]
}

/** A ConfigMap or Secret as files, alone or in a projection. */
function keyRows(at: string, name: string, [one, two]: readonly [string, string]): Row[] {
  const given = { [`${V}.name`]: 'v' }
  const named = { ...given, [`${at}.${name}`]: one }
  const item = `${at}.items[]`
  const known = one === 'settings' ? 'COLOR' : 'user'
  const other = one === 'settings' ? 'app.ini' : 'password'
  return [
    [`${at}.${name}`, one, two, `${V}.files`, given],
    [`${at}.optional`, false, true, 'waiting', { ...given, [`${at}.${name}`]: 'no' }],
    [`${item}.key`, known, other, `${V}.files`, { ...named, [`${item}.path`]: 'a' }],
    [`${item}.path`, 'a', 'b', `${V}.files[].path`, { ...named, [`${item}.key`]: known }],
    [
      `${item}.mode`,
      0o400,
      0o440,
      `${V}.files[].mode`,
      { ...named, [`${item}.key`]: known, [`${item}.path`]: 'a' },
    ],
  ]
}

function downwardRows(at: string): Row[] {
  const given = { [`${V}.name`]: 'v' }
  const item = `${at}.items[]`
  const field = { ...given, [`${item}.fieldRef.fieldPath`]: 'metadata.name' }
  const resource = {
    ...given,
    [`${item}.path`]: 'a',
    [`${item}.resourceFieldRef.resource`]: 'limits.memory',
    [`${item}.resourceFieldRef.containerName`]: 'web',
  }
  return [
    [`${item}.path`, 'a', 'b', `${V}.files[].path`, field],
    [`${item}.mode`, 0o400, 0o440, `${V}.files[].mode`, { ...field, [`${item}.path`]: 'a' }],
    [
      `${item}.fieldRef.fieldPath`,
      'metadata.name',
      'metadata.namespace',
      `${V}.files`,
      { ...field, [`${item}.path`]: 'a' },
    ],
    [`${item}.resourceFieldRef.resource`, 'limits.memory', 'limits.cpu', `${V}.files`, resource],
    [`${item}.resourceFieldRef.divisor`, '1', '1Ki', `${V}.files`, resource],
    [
      `${item}.resourceFieldRef.containerName`,
      'web',
      'other',
      `${V}.files`,
      {
        ...resource,
        'containers.1': { name: 'other', image: 'x', resources: { limits: { memory: '5Mi' } } },
      },
    ],
  ]
}

const ENV = `${C}.env[]`
const named = { [`${ENV}.name`]: 'A' }
const mount = {
  [`${C}.volumeMounts[].name`]: 'v',
  [`${C}.volumeMounts[].mountPath`]: '/v',
  [`${V}.name`]: 'v',
}
const account = { automountServiceAccountToken: false }

const ROWS: readonly Row[] = [
  ['activeDeadlineSeconds', undefined, 5, 'activeDeadlineSeconds'],
  ['automountServiceAccountToken', false, true, 'volumes'],
  ['dnsConfig.nameservers', undefined, ['192.0.2.1'], 'dns.nameservers'],
  ['dnsConfig.options[].name', 'rotate', 'edns0', 'dns.options'],
  ['dnsConfig.options[].value', '1', '2', 'dns.options', { 'dnsConfig.options[].name': 'ndots' }],
  ['dnsConfig.searches', undefined, ['a.test'], 'dns.searches'],
  ['dnsPolicy', 'ClusterFirst', 'Default', 'dns.searches'],
  ['enableServiceLinks', false, true, `${C}.env`],
  ['hostAliases[].hostnames', ['a'], ['b'], 'hostAliases[].hostnames', { 'hostAliases[].ip': '192.0.2.1' }],
  ['hostAliases[].ip', '192.0.2.1', '192.0.2.2', 'hostAliases[].ip', { 'hostAliases[].hostnames': ['a'] }],
  ['hostname', undefined, 'other', 'hostname'],
  ['initContainers', undefined, [{ name: 'init', image: 'x' }], 'initContainers'],
  ['restartPolicy', 'Always', 'Never', 'restartPolicy'],
  ['subdomain', undefined, 'a', 'subdomain'],
  ['terminationGracePeriodSeconds', 30, 5, 'terminationGracePeriodSeconds'],
  [
    'serviceAccountName',
    'one',
    'two',
    `${C}.env`,
    {
      ...account,
      [`${ENV}`]: { name: 'A', valueFrom: { fieldRef: { fieldPath: 'spec.serviceAccountName' } } },
    },
  ],
  [
    'serviceAccount',
    'one',
    'two',
    `${C}.env`,
    {
      ...account,
      [`${ENV}`]: { name: 'A', valueFrom: { fieldRef: { fieldPath: 'spec.serviceAccountName' } } },
    },
  ],
  ['securityContext.fsGroup', undefined, 5, 'fsGroup'],
  ['securityContext.runAsGroup', undefined, 5, `${C}.runAsGroup`],
  ['securityContext.runAsNonRoot', false, true, `${C}.runAsNonRoot`],
  ['securityContext.runAsUser', undefined, 5, `${C}.runAsUser`],
  ['securityContext.supplementalGroups', undefined, [5], `${C}.supplementalGroups`],

  [`${C}.args`, undefined, ['a'], `${C}.args`],
  [`${C}.command`, undefined, ['a'], `${C}.command`],
  [`${C}.image`, 'registry.test/a:1', 'registry.test/b:1', `${C}.image`],
  [`${C}.imagePullPolicy`, 'Always', 'Never', `${C}.imagePullPolicy`],
  [`${C}.name`, 'web', 'db', `${C}.name`],
  [`${C}.ports[].containerPort`, 80, 81, `${C}.ports`],
  [`${C}.ports[].name`, 'a', 'b', `${C}.ports`, { [`${C}.ports[].containerPort`]: 80 }],
  [`${C}.ports[].protocol`, 'TCP', 'UDP', `${C}.ports`, { [`${C}.ports[].containerPort`]: 80 }],
  [`${C}.resources.limits`, undefined, { cpu: '1' }, `${C}.resources.cpuMillisLimit`],
  [`${C}.resources.limits`, undefined, { memory: '8Mi' }, `${C}.resources.memoryBytesLimit`],
  [
    `${C}.resources.limits`,
    undefined,
    { 'ephemeral-storage': '8Mi' },
    `${C}.resources.ephemeralStorageBytesLimit`,
  ],
  [`${C}.resources.requests`, undefined, { cpu: '1' }, `${C}.resources.cpuMillisRequest`],
  [`${C}.resources.requests`, undefined, { memory: '8Mi' }, `${C}.resources.memoryBytesRequest`],
  // There is no second machine to choose, so what is asked for counts for quota and is told to the pod.
  [
    `${C}.resources.requests`,
    undefined,
    { 'ephemeral-storage': '8Mi' },
    `${C}.env`,
    { [ENV]: { name: 'A', valueFrom: { resourceFieldRef: { resource: 'requests.ephemeral-storage' } } } },
  ],
  [
    `${C}.securityContext.capabilities.add`,
    undefined,
    ['KILL'],
    `${C}.capabilities`,
    { [`${C}.securityContext.capabilities.drop`]: ['ALL'] },
  ],
  [`${C}.securityContext.capabilities.drop`, undefined, ['KILL'], `${C}.capabilities`],
  [`${C}.securityContext.readOnlyRootFilesystem`, false, true, `${C}.readOnlyRootFilesystem`],
  [`${C}.securityContext.runAsGroup`, undefined, 5, `${C}.runAsGroup`],
  [`${C}.securityContext.runAsNonRoot`, false, true, `${C}.runAsNonRoot`],
  [`${C}.securityContext.runAsUser`, undefined, 5, `${C}.runAsUser`],
  [`${C}.stdin`, false, true, `${C}.stdin`],
  [`${C}.stdinOnce`, false, true, `${C}.stdinOnce`],
  [`${C}.terminationMessagePath`, '/a', '/b', `${C}.terminationMessagePath`],
  [`${C}.terminationMessagePolicy`, 'File', 'FallbackToLogsOnError', `${C}.terminationMessagePolicy`],
  [`${C}.tty`, false, true, `${C}.tty`],
  [`${C}.workingDir`, '/a', '/b//c/.', `${C}.workingDir`],
  [`${C}.volumeMounts[].mountPath`, '/v', '/w/', `${C}.mounts[].mountPath`, mount],
  [`${C}.volumeMounts[].name`, 'v', 'w', `${C}.mounts[].volume`, { ...mount, 'volumes.1': { name: 'w' } }],
  [`${C}.volumeMounts[].readOnly`, false, true, `${C}.mounts[].readOnly`, mount],
  [`${C}.volumeMounts[].subPath`, undefined, 'a//b/', `${C}.mounts[].subPath`, mount],
  [`${C}.volumeMounts[].subPathExpr`, undefined, 'a/$$(b)', `${C}.mounts[].subPath`, mount],

  [`${ENV}.name`, 'A', 'B', `${C}.env`],
  [`${ENV}.value`, 'a', 'b', `${C}.env`, named],
  [
    `${ENV}.valueFrom.configMapKeyRef.key`,
    'COLOR',
    'app.ini',
    `${C}.env`,
    { ...named, [`${ENV}.valueFrom.configMapKeyRef.name`]: 'settings' },
  ],
  [
    `${ENV}.valueFrom.configMapKeyRef.name`,
    'settings',
    'others',
    `${C}.env`,
    { ...named, [`${ENV}.valueFrom.configMapKeyRef.key`]: 'COLOR' },
  ],
  [
    `${ENV}.valueFrom.configMapKeyRef.optional`,
    false,
    true,
    'waiting',
    { ...named, [`${ENV}.valueFrom.configMapKeyRef`]: { name: 'no', key: 'no' } },
  ],
  [
    `${ENV}.valueFrom.secretKeyRef.key`,
    'user',
    'password',
    `${C}.env`,
    { ...named, [`${ENV}.valueFrom.secretKeyRef.name`]: 'login' },
  ],
  [
    `${ENV}.valueFrom.secretKeyRef.name`,
    'login',
    'door',
    `${C}.env`,
    { ...named, [`${ENV}.valueFrom.secretKeyRef.key`]: 'user' },
  ],
  [
    `${ENV}.valueFrom.secretKeyRef.optional`,
    false,
    true,
    'waiting',
    { ...named, [`${ENV}.valueFrom.secretKeyRef`]: { name: 'no', key: 'no' } },
  ],
  [`${ENV}.valueFrom.fieldRef.fieldPath`, 'metadata.name', 'status.podIP', `${C}.env`, named],
  [`${ENV}.valueFrom.resourceFieldRef.resource`, 'limits.cpu', 'limits.memory', `${C}.env`, named],
  [
    `${ENV}.valueFrom.resourceFieldRef.divisor`,
    '1',
    '1Ki',
    `${C}.env`,
    { ...named, [`${ENV}.valueFrom.resourceFieldRef.resource`]: 'limits.memory' },
  ],
  [
    `${ENV}.valueFrom.resourceFieldRef.containerName`,
    'web',
    'other',
    `${C}.env`,
    {
      ...named,
      [`${ENV}.valueFrom.resourceFieldRef.resource`]: 'limits.memory',
      'containers.1': { name: 'other', image: 'x', resources: { limits: { memory: '5Mi' } } },
    },
  ],
  [`${C}.envFrom[].configMapRef.name`, 'settings', 'others', `${C}.env`],
  [
    `${C}.envFrom[].configMapRef.optional`,
    false,
    true,
    'waiting',
    { [`${C}.envFrom[].configMapRef.name`]: 'no' },
  ],
  [`${C}.envFrom[].secretRef.name`, 'login', 'door', `${C}.env`],
  [`${C}.envFrom[].secretRef.optional`, false, true, 'waiting', { [`${C}.envFrom[].secretRef.name`]: 'no' }],
  [`${C}.envFrom[].prefix`, 'A_', 'B_', `${C}.env`, { [`${C}.envFrom[].configMapRef`]: CONFIG_MAP }],

  ...hookRows('postStart'),
  ...hookRows('preStop'),
  ...probeRows('livenessProbe'),
  ...probeRows('readinessProbe'),
  ...probeRows('startupProbe'),

  [`${V}.name`, 'v', 'w', `${V}.name`],
  [`${V}.emptyDir.medium`, '', 'Memory', `${V}.medium`, { [`${V}.name`]: 'v' }],
  [`${V}.persistentVolumeClaim.claimName`, 'kept', 'other', `${V}.claim`, { [`${V}.name`]: 'v' }],
  [
    `${V}.persistentVolumeClaim.readOnly`,
    false,
    true,
    `${V}.readOnly`,
    { [`${V}.name`]: 'v', [`${V}.persistentVolumeClaim.claimName`]: 'kept' },
  ],
  [`${V}.emptyDir.sizeLimit`, undefined, '1Mi', `${V}.sizeBytesMax`, { [`${V}.name`]: 'v' }],
  ...keyRows(`${V}.configMap`, 'name', ['settings', 'others']),
  ...keyRows(`${V}.secret`, 'secretName', ['login', 'door']),
  ...keyRows(`${V}.projected.sources[].configMap`, 'name', ['settings', 'others']),
  ...keyRows(`${V}.projected.sources[].secret`, 'name', ['login', 'door']),
  [
    `${V}.configMap.defaultMode`,
    0o400,
    0o440,
    `${V}.files[].mode`,
    { [`${V}.name`]: 'v', [`${V}.configMap.name`]: 'settings' },
  ],
  [
    `${V}.secret.defaultMode`,
    0o400,
    0o440,
    `${V}.files[].mode`,
    { [`${V}.name`]: 'v', [`${V}.secret.secretName`]: 'login' },
  ],
  [
    `${V}.projected.defaultMode`,
    0o400,
    0o440,
    `${V}.files[].mode`,
    { [`${V}.name`]: 'v', [`${V}.projected.sources[].configMap`]: CONFIG_MAP },
  ],
  [
    `${V}.downwardAPI.defaultMode`,
    0o400,
    0o440,
    `${V}.files[].mode`,
    {
      [`${V}.name`]: 'v',
      [`${V}.downwardAPI.items[]`]: { path: 'a', fieldRef: { fieldPath: 'metadata.name' } },
    },
  ],
  ...downwardRows(`${V}.downwardAPI`),
  ...downwardRows(`${V}.projected.sources[].downwardAPI`),
  [
    `${V}.projected.sources[].serviceAccountToken.audience`,
    'a',
    'b',
    `${V}.files`,
    { [`${V}.name`]: 'v', [`${V}.projected.sources[].serviceAccountToken.path`]: 'p' },
  ],
  [
    `${V}.projected.sources[].serviceAccountToken.expirationSeconds`,
    600,
    700,
    `${V}.files`,
    { [`${V}.name`]: 'v', [`${V}.projected.sources[].serviceAccountToken.path`]: 'p' },
  ],
  [`${V}.projected.sources[].serviceAccountToken.path`, 'a', 'b', `${V}.files`, { [`${V}.name`]: 'v' }],
]

/** Fields whose effect cannot be seen by comparing two jails, and what it is. */
const SCHEDULER = 'the scheduler decides by it'
const PREFERRED = 'affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution'
const REQUIRED = 'affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[]'
const ELSEWHERE: Readonly<Record<string, string>> = {
  nodeName: 'only the control plane may set it',
  nodeSelector: SCHEDULER,
  preemptionPolicy: SCHEDULER,
  priority: SCHEDULER,
  priorityClassName: 'gives the priority',
  ...Object.fromEntries(
    ['effect', 'key', 'operator', 'tolerationSeconds', 'value'].map((field) => [
      `tolerations[].${field}`,
      'the one node has no taint but that of kubectl cordon, which the scheduler looks for',
    ]),
  ),
  [`${PREFERRED}[].weight`]: 'the one node there is, is the best one',
  ...Object.fromEntries(
    [
      `${REQUIRED}.matchExpressions`,
      `${REQUIRED}.matchFields`,
      `${PREFERRED}[].preference.matchExpressions`,
      `${PREFERRED}[].preference.matchFields`,
    ].flatMap((list) => ['key', 'operator', 'values'].map((field) => [`${list}[].${field}`, SCHEDULER])),
  ),
  [`${C}.restartPolicy`]: 'refused here; of an init container it becomes its restartPolicy in the jail',
  [`${C}.securityContext.allowPrivilegeEscalation`]: 'true is refused, false holds for every container',
  'securityContext.fsGroupChangePolicy':
    'volumes change when their root has another group, as with OnRootMismatch',
}

/** A claim is made from it; the jail names that by its uid. */
const CLAIM_TEMPLATE = `${V}.ephemeral.volumeClaimTemplate.`

/** Fields that can have one value only, which holds for every pod. */
const ONE_VALUE: readonly string[] = [
  'schedulerName',
  'securityContext.seccompProfile.type',
  `${C}.securityContext.seccompProfile.type`,
  'securityContext.supplementalGroupsPolicy',
  `${C}.livenessProbe.successThreshold`,
  `${C}.startupProbe.successThreshold`,
  // Forbidden for readiness.
  `${C}.readinessProbe.terminationGracePeriodSeconds`,
  `${ENV}.valueFrom.fieldRef.apiVersion`,
  `${V}.downwardAPI.items[].fieldRef.apiVersion`,
  `${V}.projected.sources[].downwardAPI.items[].fieldRef.apiVersion`,
]

// --- the schema ------------------------------------------------------------------------------------------------------

function leaves(schema: Schema, path: string): { fields: string[]; warned: string[] } {
  const found = { fields: [] as string[], warned: [] as string[] }
  if (schema.type === 'list' && schema.items.type === 'object') return leaves(schema.items, `${path}[]`)
  if (schema.type !== 'object' || path === 'initContainers[]') {
    found.fields.push(path.replace(/^initContainers\[\]$/, 'initContainers'))
    return found
  }
  for (const [name, field] of Object.entries(schema.fields)) {
    const at = path === '' ? name : `${path}.${name}`
    if (field.warning !== undefined) found.warned.push(at)
    else {
      const below = leaves(schemaOf(field), at)
      found.fields.push(...below.fields)
      found.warned.push(...below.warned)
    }
  }
  return found
}

const { fields, warned: WARNED } = leaves(podSpecSchema, '')
const FIELDS = fields.filter((path) => !path.startsWith(CLAIM_TEMPLATE))

test('every field of a pod has an effect on its jail, a warning, or a reason', () => {
  const mapped = new Set([...ROWS.map(([path]) => path), ...Object.keys(ELSEWHERE), ...ONE_VALUE])
  assert.deepEqual(
    FIELDS.filter((path) => !mapped.has(path)),
    [],
    'accepted, and nobody knows what for',
  )
  assert.deepEqual(
    [...mapped].filter((path) => !FIELDS.includes(path)),
    [],
    'not accepted any more',
  )
  assert.deepEqual(WARNED.toSorted(), [
    'affinity.podAffinity',
    'affinity.podAntiAffinity',
    'containers[].securityContext.seLinuxOptions.level',
    'imagePullSecrets',
    'securityContext.seLinuxOptions.level',
    'topologySpreadConstraints',
  ])
})

test('containers that run before the others are described by the same schema', () => {
  const itemsOf = (field: string) => {
    const found = podSpecSchema.fields[field]
    const schema = found && schemaOf(found)
    return schema?.type === 'list' ? schema.items : undefined
  }
  assert.ok(itemsOf('containers'))
  assert.equal(itemsOf('initContainers'), itemsOf('containers'))
})

test('a container cannot ask for more rights than it gets', () => {
  const values = refusedValues['io.k8s.api.core.v1.SecurityContext']?.['allowPrivilegeEscalation']
  assert.ok(values?.['true'])
})

// --- the rows --------------------------------------------------------------------------------------------------------

function put(target: Record<string, unknown>, path: string, value: unknown): void {
  const [head = '', ...rest] = path.split('.')
  const name = head.replace(/\[\]$/, '')
  const list = head.endsWith('[]') || /^\d+$/.test(rest[0] ?? '')
  const index = /^\d+$/.test(rest[0] ?? '') ? Number(rest.shift()) : 0
  if (!list) {
    if (rest.length === 0) {
      if (value === undefined) delete target[name]
      else target[name] = value
    } else put((target[name] ??= {}) as Record<string, unknown>, rest.join('.'), value)
    return
  }
  const items = (target[name] ??= []) as Record<string, unknown>[]
  if (rest.length === 0) items[index] = structuredClone(value) as Record<string, unknown>
  else put((items[index] ??= {}), rest.join('.'), value)
}

const user = { kind: 'tenantUser', tenant: TENANT, name: 'ann', groups: [] } as const
const writeContext: WriteContext = { user, nowMs: 0 }

/** The pod as the API stores it; every row must be accepted without a warning. */
function stored(spec: object): Pod {
  const sent = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'web', namespace: 'default' }, spec }
  const checked = checkObject(podDefinition, sent)
  assert.deepEqual([checked.errors, checked.refused, checked.warnings], [[], [], []])
  const filled: KubeObject = applyDefaults(podDefinition, checked.object)
  filled.metadata = {
    ...filled.metadata,
    uid: '0b7e4d1e-5f0a-4c3c-9d5e-7a4b3c2d1e0f',
    resourceVersion: '1',
    creationTimestamp: '2026-01-01T00:00:00Z',
  }
  assert.deepEqual(validateObject(podDefinition, filled, writeContext), [])
  return filled as Pod
}

const data: Record<string, ConfigMap> = {
  'kube-root-ca.crt': object('ConfigMap', 'v1', 'kube-root-ca.crt', { data: { 'ca.crt': 'CA' } }),
  settings: object('ConfigMap', 'v1', 'settings', { data: { COLOR: 'red', 'app.ini': 'a=1' } }),
  others: object('ConfigMap', 'v1', 'others', { data: { COLOR: 'blue' } }),
}
const secrets: Record<string, Secret> = {
  login: object('Secret', 'v1', 'login', { data: { user: 'cm9vdA==', password: 'cGFzcw==' } }),
  door: object('Secret', 'v1', 'door', { data: { user: 'a2V5' } }),
}
const claims: Record<string, PersistentVolumeClaim> = {
  kept: claim('kept', '0b7e4d1e-5f0a-4c3c-9d5e-7a4b3c2d1e01'),
  other: claim('other', '0b7e4d1e-5f0a-4c3c-9d5e-7a4b3c2d1e02'),
}
function claim(name: string, uid: string): PersistentVolumeClaim {
  return object('PersistentVolumeClaim', 'v1', name, { spec: {}, status: { phase: 'Bound' } }, { uid })
}
const services = [
  object<Service>('Service', 'v1', 'db', { spec: { clusterIP: '10.96.0.7', ports: [{ port: 5432 }] } }),
]

/** What the engine gets, or why it does not get anything yet. */
function planned(spec: object): object {
  const { jail, waiting } = planJail(stored(spec), {
    tenant: TENANT,
    runtime: 'runc',
    clusterDomain: 'cluster.local',
    configMap: (name) => data[name],
    secret: (name) => secrets[name],
    claim: (name) => claims[name],
    serviceAccount: undefined,
    services,
    apiServer: undefined,
    token: (request) => `token ${JSON.stringify(request)}`,
    node: { cpuMillis: 2_000, memoryBytes: 2 ** 31, ephemeralStorageBytes: 2 ** 33 },
  })
  return jail
    ? parseJail(JSON.parse(JSON.stringify(jail)), { tenant: TENANT })
    : { waiting: waiting?.message }
}

function flatten(value: unknown, path = ''): [string, unknown][] {
  if (typeof value !== 'object' || value === null) return [[path, value]]
  return Object.entries(value).flatMap(([key, part], index) =>
    // With its place, so that one thing instead of another is a difference.
    flatten(part, Array.isArray(value) ? `${path}[]#${index}` : path === '' ? key : `${path}.${key}`),
  )
}

/** Paths at which two documents differ, without places in lists. */
function differences(a: object, b: object): Set<string> {
  const [left, right] = [new Map(flatten(a)), new Map(flatten(b))]
  const differ = [...left.keys(), ...right.keys()].filter((path) => left.get(path) !== right.get(path))
  return new Set(differ.map((path) => path.replace(/#\d+/g, '')))
}

for (const [path, before, after, jail, given = {}] of ROWS)
  test(`spec.${path} (${JSON.stringify(after)}) changes ${jail}`, () => {
    const specWith = (value: unknown) => {
      const spec: Record<string, unknown> = {
        automountServiceAccountToken: false,
        enableServiceLinks: false,
        containers: [{ name: 'web', image: 'registry.test/web:1' }],
      }
      for (const [other, what] of Object.entries(given)) put(spec, other, what)
      put(spec, path, value)
      return spec
    }
    const jails = [planned(specWith(before)), planned(specWith(after))] as const
    // A pod that waits differs from one that does not in everything.
    assert.equal(
      jails.some((each) => 'waiting' in each),
      jail === 'waiting',
    )
    const changed = differences(...jails)
    assert.ok(
      [...changed].some(
        (where) => where === jail || where.startsWith(`${jail}.`) || where.startsWith(`${jail}[`),
      ),
      `changed: ${[...changed].join(', ')}`,
    )
  })
