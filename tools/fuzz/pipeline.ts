import {
  ApiError,
  applyDefaults,
  type KindDefinition,
  type KubeObject,
  parseLayout,
  parseTenantName,
  tenantRegistry,
  type UserInfo,
  validateObject,
} from '../../src/api/index.ts'
import { decodeObject } from '../../src/apiserver/decode.ts'
import { decodeBody } from '../../src/apiserver/wire/index.ts'
import { type JailContext, planJail } from '../../src/controllers/pods/plan-jail.ts'
import { podOf } from '../../src/controllers/workloads/pods.ts'
import type {
  ConfigMap,
  PersistentVolumeClaim,
  Pod,
  PodTemplateSpec,
  Secret,
  Service,
} from '../../src/controllers/kinds.ts'
import { containerIdOf, Places } from '../../src/engine/local/host/places.ts'
import { Volumes } from '../../src/engine/local/host/volumes.ts'
import type { TenantPlacement, UnpackedImage } from '../../src/engine/local/parts.ts'
import { ContainerError } from '../../src/engine/local/plan/oci/container-error.ts'
import { renderHostname, renderHosts, renderResolvConf } from '../../src/engine/local/plan/oci/pod-files.ts'
import { postureProblem } from '../../src/engine/local/plan/oci/posture.testkit.ts'
import { type MachineFacts, renderConfig } from '../../src/engine/local/plan/oci/render-config.ts'
import { podLimits } from '../../src/engine/local/plan/oci/resources.ts'
import { resolveUser } from '../../src/engine/local/plan/oci/user.ts'
import { type Jail, type JailContainer, parseJail } from '../../src/jail/index.ts'
import {
  type AdmissionRequest,
  admissionPlugins,
  type Authorizer,
  type ClusterView,
} from '../../src/policy/index.ts'

/**
 * What happens to a manifest from its bytes to the configurations of its containers, through the code that does it on
 * a platform: parse, schema, defaults, admission, rules, the controllers' pod, the jail's planner, the wire, the
 * engine's parser, the renderer. Only stores and machines are left out.
 */

export const STAGES = [
  /** Refused, and where. */
  'bytes and schema',
  'rules',
  'admission',
  'pod of a template',
  'waiting for what is missing',
  'jail',
  'container',
  /** All containers got their configuration. */
  'accepted',
] as const
export type Stage = (typeof STAGES)[number]

export type Outcome = { stage: Stage; configurations: number; jail?: Jail }

/** Something that must never happen, with what it happened to. */
export class Finding extends Error {}

const TENANT = parseTenantName('red')
const NOW_MS = Date.UTC(2026, 0, 1)
const NOW = '2026-01-01T00:00:00Z'
const UID = '0b7e4d1e-5f0a-4c3c-9d5e-7a4b3c2d1e0f'
const USER = {
  kind: 'tenantUser',
  tenant: TENANT,
  name: 'fuzz',
  groups: ['system:authenticated'],
} as UserInfo

function object<T extends KubeObject>(kind: string, name: string, body: Record<string, unknown>): T {
  const metadata = { name, namespace: 'default', uid: UID, resourceVersion: '1', creationTimestamp: NOW }
  return { apiVersion: 'v1', kind, metadata, ...body } as unknown as T
}

const CONFIG_MAPS: Readonly<Record<string, ConfigMap>> = {
  'kube-root-ca.crt': object('ConfigMap', 'kube-root-ca.crt', { data: { 'ca.crt': 'CA' } }),
  settings: object('ConfigMap', 'settings', { data: { COLOR: 'red', 'app.ini': 'a=1' } }),
  'web-content': object('ConfigMap', 'web-content', { data: { 'index.html': 'x' } }),
}
const SECRETS: Readonly<Record<string, Secret>> = {
  login: object('Secret', 'login', { data: { user: 'cm9vdA==' } }),
  'web-key': object('Secret', 'web-key', { data: { 'api-key': 'eA==' } }),
}
const CLAIMS: Readonly<Record<string, PersistentVolumeClaim>> = {
  kept: object('PersistentVolumeClaim', 'kept', { spec: {}, status: { phase: 'Bound' } }),
}
const SERVICES = [
  object<Service>('Service', 'db', { spec: { clusterIP: '10.96.0.7', ports: [{ port: 5432 }] } }),
]
const NAMESPACE = object<KubeObject>('Namespace', 'default', { status: { phase: 'Active' } })
const ACCOUNT = object<KubeObject>('ServiceAccount', 'default', {})

function own<T>(table: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(table, name) ? table[name] : undefined
}

const CONTEXT: Omit<JailContext, 'runtime'> = {
  tenant: TENANT,
  clusterDomain: 'cluster.local',
  configMap: (name) => own(CONFIG_MAPS, name),
  secret: (name) => own(SECRETS, name),
  claim: (name) => own(CLAIMS, name),
  serviceAccount: undefined,
  services: SERVICES,
  apiServer: { host: '10.96.0.1', port: 443 },
  token: ({ audience = 'api' }) => `token for ${audience}`,
  node: { cpuMillis: 2_000, memoryBytes: 2 ** 31, ephemeralStorageBytes: 2 ** 33 },
}

const CLUSTER: ClusterView = {
  get: ({ resource, name }) =>
    resource === 'namespaces' && name === 'default'
      ? NAMESPACE
      : resource === 'serviceaccounts' && name === 'default'
        ? ACCOUNT
        : undefined,
  list: () => [],
  count: () => 0,
  creating: () => [],
  objectCount: 0,
  bytes: 0,
}
const AUTHORIZER: Authorizer = {
  authorize: () => ({ allowed: true, reason: '' }),
  rulesFor: () => ({ rules: [], incomplete: false }),
  escalation: () => undefined,
} as unknown as Authorizer
const PLUGINS = admissionPlugins({
  authorizer: AUTHORIZER,
  registry: () => tenantRegistry,
  tenant: TENANT,
  operatorPolicies: () => [],
  regoPolicies: () => ({ policies: [], threads: undefined }),
  limits: () => ({ objectsMax: 1e6, bytesMax: 2 ** 40, podsMax: 1e6, namespacesMax: 1e6 }),
})

const LAYOUT = parseLayout({
  BULKHEAD_INSTANCE: 'fuzz',
  BULKHEAD_SLOT: '59',
  BULKHEAD_STATE_DIR: '/var/lib/bulkhead-fuzz',
})
const PLACES = new Places(LAYOUT)
const VOLUMES = new Volumes(PLACES)
const PLACEMENT: TenantPlacement = {
  tenant: TENANT,
  index: 3,
  isolationClass: 'shared',
  podUidBase: 0x1003_0000,
  controlPlaneUid: 600_003,
  registries: [],
} as TenantPlacement
const FACTS: MachineFacts = {
  architecture: 'x64',
  openFilesMax: 20_000,
  tasksMax: 90_000,
  ownOomScoreAdj: 0,
  memoryBytesTotal: 16 * 2 ** 30,
  swap: true,
  cgroupMount: true,
}
const NAMESPACES = { user: '/proc/1/fd/20', net: '/proc/1/fd/21', ipc: '/proc/1/fd/22', uts: '/proc/1/fd/23' }
const ADDRESSES = { podIP: '10.64.0.9', hostIP: '169.254.1.1' }
const IMAGE: UnpackedImage['config'] = {
  entrypoint: ['/entrypoint'],
  cmd: ['serve'],
  env: ['PATH=/usr/bin:/bin'],
  user: 'app',
  workingDir: '/srv',
  volumes: [],
}
const PASSWD = 'root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n'
const GROUP = 'root:x:0:\napp:x:1001:\nextra:x:1002:app\n'

/** Takes in a body as the create of one of its kind, and follows it to the end. */
export function runManifest(
  body: Uint8Array,
  contentType: string,
  kind: { apiVersion: string; kind: string },
  fieldValidation: 'Strict' | 'Warn' | 'Ignore',
): Outcome {
  const definition = definitionOf(kind)
  const admitted = refusable(() => admitBody(body, contentType, definition, fieldValidation))
  if ('stage' in admitted) return admitted
  let { object: made } = admitted
  if (definition.kind !== 'Pod') {
    const pod = refusable(() => admit(podDefinition(), podMadeFrom(made), 'pod of a template'))
    if ('stage' in pod) return pod
    made = pod.object
  }
  const plan = planJail(made as Pod, { ...CONTEXT, runtime: 'runc' })
  if (plan.waiting) return { stage: 'waiting for what is missing', configurations: 0 }
  // Over the wire, where functions, undefined and prototypes end.
  return runJail(JSON.parse(JSON.stringify(plan.jail)))
}

/** Takes in a jail as the engine does, from a control plane that may be anybody's. */
export function runJail(value: unknown): Outcome {
  let jail: Jail
  try {
    jail = parseJail(value, { tenant: TENANT })
  } catch (error) {
    expectRefusal(error)
    return { stage: 'jail', configurations: 0 }
  }
  try {
    let configurations = 0
    podLimits(jail, { gvisor: false })
    podLimits(jail, { gvisor: true })
    for (const text of [
      renderHosts(jail, ADDRESSES.podIP),
      renderResolvConf(jail, ADDRESSES.hostIP),
      renderHostname(jail),
    ])
      if (text.includes('\0')) throw new Finding('a file of the pod with a NUL byte')
    for (const container of [...jail.initContainers, ...jail.containers])
      for (const tool of ['crun', 'runc', 'runsc'] as const) {
        configure(jail, container, tool)
        configurations++
      }
    return { stage: 'accepted', configurations, jail }
  } catch (error) {
    if (!(error instanceof ContainerError)) throw error
    return { stage: 'container', configurations: 0 }
  }
}

function configure(jail: Jail, container: JailContainer, tool: 'crun' | 'runc' | 'runsc'): void {
  const id = containerIdOf(jail.id, container.name, 0)
  const bundle = PLACES.bundle(jail.id, id)
  const etc = PLACES.etc(jail.id)
  const sources = {
    hosts: `${etc}/hosts`,
    hostname: `${etc}/hostname`,
    resolvConf: `${etc}/resolvConf`,
    terminationLog: PLACES.terminationLog(jail.id, id),
    shm: PLACES.shm(jail.id),
    // A volume, or the pin of what a sub-path or a claim was found to be.
    volumes: container.mounts.map(({ volume: name, subPath }, index) => {
      const volume = jail.volumes.find((v) => v.name === name)
      if (!volume) throw new Finding(`a mount of the volume ${name}, which is not there`)
      const path = VOLUMES.path(jail, volume)
      if (volume.kind === 'claim' && !path.startsWith(`${PLACES.claimMounts}/${TENANT}/`))
        throw new Finding(`a claim outside of the tenant's own: ${path}`)
      return subPath === undefined && volume.kind !== 'claim' ? path : `${bundle}/.pin-${index}`
    }),
  }
  const { volumes, ...files } = sources
  for (const source of [...Object.values(files), ...volumes])
    if (!source.startsWith(`${PLACES.run}/${jail.id}/`) || source.includes('..'))
      throw new Finding(`a place outside of the pod's own: ${source}`)
  const user = resolveUser(
    {
      imageUser: IMAGE.user,
      runAsUser: container.runAsUser,
      runAsGroup: container.runAsGroup,
      runAsNonRoot: container.runAsNonRoot,
      supplementalGroups: container.supplementalGroups,
      fsGroup: jail.fsGroup,
    },
    PASSWD,
    GROUP,
  )
  const filterProgram = tool === 'crun' ? 'AAAA' : undefined
  const cgroupsPath = `/${PLACES.podCgroup(TENANT, jail.id)}/${id}`
  const rootfs = `${bundle}/rootfs`
  const config: unknown = renderConfig({
    tool,
    jail,
    container,
    placement: PLACEMENT,
    image: IMAGE,
    user,
    addresses: ADDRESSES,
    namespaces: NAMESPACES,
    sources,
    rootfs,
    cgroupsPath,
    facts: FACTS,
    ...(filterProgram === undefined ? {} : { seccompProgramBase64: filterProgram }),
  })
  const problem = postureProblem(config, {
    tool,
    podUidBase: PLACEMENT.podUidBase,
    namespaces: NAMESPACES,
    sources: new Set([...Object.values(files), ...volumes]),
    rootfs,
    cgroupsPath,
    openFilesMax: FACTS.openFilesMax,
    filterProgram,
    terminationMessagePath: container.terminationMessagePath,
  })
  if (problem !== undefined) throw new Finding(`the configuration for ${tool} has ${problem}`)
}

function admitBody(
  body: Uint8Array,
  contentType: string,
  definition: KindDefinition,
  fieldValidation: 'Strict' | 'Warn' | 'Ignore',
): Outcome | { object: KubeObject } {
  let object: KubeObject
  try {
    object = decodeObject({
      definition,
      decoded: decodeBody({ contentType }, body, { expectedKind: definition.kind }),
      fieldValidation,
      target: { definition, subresource: undefined, namespace: 'default', name: '' },
      warnings: [],
      also: () => [],
    })
  } catch (error) {
    expectRefusal(error)
    return { stage: 'bytes and schema', configurations: 0 }
  }
  return admit(definition, object, 'rules')
}

function admit(
  definition: KindDefinition,
  given: KubeObject,
  refusedAt: Stage,
): Outcome | { object: KubeObject } {
  const { name = '', generateName, labels, annotations, ownerReferences } = given.metadata
  let made: KubeObject = {
    ...given,
    metadata: {
      name: name || `${generateName ?? ''}x7k2p`,
      namespace: 'default',
      uid: UID,
      resourceVersion: '',
      creationTimestamp: NOW,
      ...(labels ? { labels } : {}),
      ...(annotations ? { annotations } : {}),
      ...(ownerReferences ? { ownerReferences } : {}),
    },
  }
  const write = { user: USER, nowMs: NOW_MS }
  made = applyDefaults(definition, made)
  if (definition.prepareForCreate) made = definition.prepareForCreate(made, write)
  const request: AdmissionRequest = {
    operation: 'CREATE',
    user: USER,
    group: definition.group,
    version: definition.version,
    kind: definition.kind,
    resource: definition.plural,
    namespace: 'default',
    name: made.metadata.name,
    object: made,
    dryRun: false,
  }
  for (const plugin of PLUGINS) plugin.mutate?.(request, CLUSTER)
  if (validateObject(definition, made, write).length > 0) return { stage: refusedAt, configurations: 0 }
  for (const plugin of PLUGINS)
    if (plugin.refuse?.(request, CLUSTER)) return { stage: 'admission', configurations: 0 }
  return { object: made }
}

/** What the controllers make of a workload's template: what a client could write just as well, and judged like it. */
function podMadeFrom(workload: KubeObject): KubeObject {
  const spec = workload['spec'] as {
    template?: PodTemplateSpec
    jobTemplate?: { spec: { template: PodTemplateSpec } }
  }
  const template = spec.template ?? spec.jobTemplate?.spec.template
  if (!template) throw new Finding(`a ${workload.kind} was accepted without a template`)
  return decodeObject({
    definition: podDefinition(),
    decoded: {
      value: JSON.parse(JSON.stringify(podOf(template, workload))),
      duplicateFields: [],
      unknownFields: [],
    },
    fieldValidation: 'Strict',
    target: { definition: podDefinition(), subresource: undefined, namespace: 'default', name: '' },
    warnings: [],
    also: () => [],
  })
}

function refusable<T>(work: () => T): T | Outcome {
  try {
    return work()
  } catch (error) {
    expectRefusal(error)
    return { stage: 'pod of a template', configurations: 0 }
  }
}

/** @throws what is no refusal: a crash. */
function expectRefusal(error: unknown): void {
  if (error instanceof ApiError && error.code >= 400 && error.code < 500) return
  throw error
}

function definitionOf({ apiVersion, kind }: { apiVersion: string; kind: string }): KindDefinition {
  const [group = '', version = ''] = apiVersion.includes('/') ? apiVersion.split('/') : ['', apiVersion]
  const definition = tenantRegistry.findKind({ group, version, kind })
  if (!definition) throw new Error(`${kind} is not served`)
  return definition
}

const POD = tenantRegistry.findKind({ group: '', version: 'v1', kind: 'Pod' })
function podDefinition(): KindDefinition {
  if (!POD) throw new Error('Pods are not served')
  return POD
}
