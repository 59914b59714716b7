import {
  BANDWIDTH_ANNOTATIONS,
  effectiveCapabilities,
  isDnsLabel,
  labelTexts,
  localPathProblem,
  parseBandwidth,
  type TenantName,
} from '../../api/index.ts'
import {
  expandVariables,
  literalText,
  type Jail,
  type JailContainer,
  type JailEnv,
  type JailFile,
  type JailHandler,
  type JailId,
  type JailMount,
  type JailProbe,
  type JailResources,
  type JailRuntime,
  type ClaimId,
  type JailVolume,
} from '../../jail/index.ts'
import type {
  ConfigMap,
  Container,
  DownwardAPIVolumeFile,
  EnvVar,
  KeyToPath,
  LifecycleHandler,
  PersistentVolumeClaim,
  Pod,
  Probe,
  Secret,
  Service,
  ServiceAccount,
  Volume,
} from '../kinds.ts'
import { claimsOf, isClaimOfPod, type PodClaim } from '../claims.ts'
import {
  ENV_BYTES_MAX,
  POD_FILES_BYTES_MAX,
  SCRATCH_BYTES_DEFAULT,
  SCRATCH_MEMORY_BYTES_DEFAULT,
  TOKEN_SECONDS_DEFAULT,
} from '../limits.ts'
import { parseQuantity, quantityMillis, quantityNumber } from '../../api/index.ts'
import { type NodeAmounts, podField, resourceField } from './downward-api.ts'
import { type ApiServerAddress, serviceVariables } from './service-variables.ts'

/** Everything a pod can refer to. Only objects of the pod's own namespace may be given. */
export type JailContext = {
  tenant: TenantName
  runtime: JailRuntime
  clusterDomain: string
  configMap(name: string): ConfigMap | undefined
  secret(name: string): Secret | undefined
  claim(name: string): PersistentVolumeClaim | undefined
  serviceAccount: ServiceAccount | undefined
  services: readonly Service[]
  apiServer: ApiServerAddress | undefined
  /** The tokens that `tokensNeeded` asked for. Undefined when none are issued: then none are mounted unasked. */
  token: ((request: TokenRequest) => string | undefined) | undefined
  node: NodeAmounts
}

/** A token of the pod's service account. `audience` is absent for the API server itself. */
export type TokenRequest = { audience?: string; expirationSeconds: number }

/** Why a pod cannot start yet. `container` is the one whose configuration is missing something. */
export type JailWaiting = {
  reason: 'CreateContainerConfigError' | 'ContainerCreating'
  message: string
  container?: string
  event: { reason: 'Failed' | 'FailedMount'; message: string }
}

export type JailPlan = { jail: Jail; waiting?: undefined } | { waiting: JailWaiting; jail?: undefined }

const ACCOUNT_MOUNT_PATH = '/var/run/secrets/kubernetes.io/serviceaccount'
const ROOT_CA_CONFIG_MAP = 'kube-root-ca.crt'
const ACCOUNT_VOLUME = 'kube-api-access'

class Missing extends Error {
  readonly waiting: JailWaiting
  constructor(waiting: JailWaiting) {
    super(waiting.message)
    this.waiting = waiting
  }
}

/** Turns a pod and what it refers to into what an engine can run. Pure. */
export function planJail(pod: Pod, context: JailContext): JailPlan {
  try {
    return { jail: jailOf(pod, context) }
  } catch (error) {
    if (error instanceof Missing) return { waiting: error.waiting }
    throw error
  }
}

/** The tokens that a pod's volumes hold. */
export function tokensNeeded(pod: Pod, serviceAccount: ServiceAccount | undefined): TokenRequest[] {
  const requests = (pod.spec.volumes ?? []).flatMap((volume) =>
    (volume.projected?.sources ?? []).flatMap(({ serviceAccountToken: source }) =>
      source ? [tokenRequest(source)] : [],
    ),
  )
  if (automounts(pod, serviceAccount)) requests.push({ expirationSeconds: TOKEN_SECONDS_DEFAULT })
  const unique = new Map(requests.map((request) => [tokenKey(request), request]))
  return [...unique.values()]
}

export function tokenKey({ audience, expirationSeconds }: TokenRequest): string {
  return JSON.stringify([audience ?? null, expirationSeconds])
}

/** Names of what a pod is made from, as `configmaps/NAME`, `secrets/NAME` and `persistentvolumeclaims/NAME`. */
export function referencesOf(pod: Pod): Set<string> {
  const names = new Set<string>([`configmaps/${ROOT_CA_CONFIG_MAP}`])
  const configMap = (name: string | undefined) => name && names.add(`configmaps/${name}`)
  const secret = (name: string | undefined) => name && names.add(`secrets/${name}`)
  for (const container of [...(pod.spec.initContainers ?? []), ...pod.spec.containers]) {
    for (const { valueFrom } of container.env ?? []) {
      configMap(valueFrom?.configMapKeyRef?.name)
      secret(valueFrom?.secretKeyRef?.name)
    }
    for (const { configMapRef, secretRef } of container.envFrom ?? []) {
      configMap(configMapRef?.name)
      secret(secretRef?.name)
    }
  }
  for (const volume of pod.spec.volumes ?? []) {
    configMap(volume.configMap?.name)
    secret(volume.secret?.secretName)
    for (const source of volume.projected?.sources ?? []) {
      configMap(source.configMap?.name)
      secret(source.secret?.name)
    }
  }
  for (const { claim } of claimsOf(pod)) names.add(`persistentvolumeclaims/${claim}`)
  return names
}

function jailOf(pod: Pod, context: JailContext): Jail {
  const { spec, metadata } = pod
  const namespace = metadata.namespace ?? ''
  const volumes = (spec.volumes ?? []).map((volume) => jailVolume(volume, pod, context))
  const accountVolume =
    automounts(pod, context.serviceAccount) && context.token ? accountVolumeName(volumes) : undefined
  if (accountVolume !== undefined) volumes.push(accountFiles(accountVolume, pod, context))
  checkFiles(volumes)

  const variables = serviceVariables(linkedServices(pod, context.services), context.apiServer)
  const labels = labelTexts(metadata.labels)
  const container = (c: Container) => jailContainer(c, pod, context, variables, accountVolume)
  return {
    // The API server gives every object a uid in this form.
    id: metadata.uid as JailId,
    tenant: context.tenant,
    namespace,
    pod: metadata.name,
    ...(labels.length === 0 ? {} : { labels }),
    hostname: hostnameOf(pod),
    ...(spec.subdomain ? { subdomain: spec.subdomain } : {}),
    runtime: context.runtime,
    ...(spec.priority ? { priority: spec.priority } : {}),
    restartPolicy: spec.restartPolicy ?? 'Always',
    terminationGracePeriodSeconds: spec.terminationGracePeriodSeconds ?? 30,
    ...(spec.activeDeadlineSeconds === undefined
      ? {}
      : { activeDeadlineSeconds: spec.activeDeadlineSeconds }),
    ...(spec.securityContext?.fsGroup === undefined ? {} : { fsGroup: spec.securityContext.fsGroup }),
    initContainers: (spec.initContainers ?? []).map(container),
    containers: spec.containers.map(container),
    volumes,
    dns: dnsOf(pod, context.clusterDomain),
    hostAliases: (spec.hostAliases ?? []).flatMap(({ ip, hostnames }) =>
      hostnames?.length ? [{ ip, hostnames }] : [],
    ),
    ...bandwidthOf(metadata.annotations),
  }
}

/** What the annotations say; they were looked at when the pod was written. */
function bandwidthOf(annotations: Readonly<Record<string, string>> = {}): Pick<Jail, 'bandwidth'> {
  const bits = (name: string) =>
    Object.hasOwn(annotations, name) ? parseBandwidth(annotations[name] ?? '') : undefined
  const ingress = bits(BANDWIDTH_ANNOTATIONS.ingress)
  const egress = bits(BANDWIDTH_ANNOTATIONS.egress)
  if (ingress === undefined && egress === undefined) return {}
  return {
    bandwidth: {
      ...(ingress === undefined ? {} : { ingressBitsPerSecond: ingress }),
      ...(egress === undefined ? {} : { egressBitsPerSecond: egress }),
    },
  }
}

/**
 * Services that were there when the pod was made. The kubelet looks when a container starts; this answer stays the
 * same when the control plane comes back and plans the same pod again.
 */
function linkedServices(pod: Pod, services: readonly Service[]): Service[] {
  if (pod.spec.enableServiceLinks === false) return []
  const madeMs = Date.parse(pod.metadata.creationTimestamp)
  return services.filter((service) => Date.parse(service.metadata.creationTimestamp) <= madeMs)
}

function hostnameOf({ spec, metadata }: Pod): string {
  if (spec.hostname) return spec.hostname
  // A pod's name may have dots and 253 characters, a hostname neither.
  const name = metadata.name.replaceAll('.', '-').slice(0, 63).replace(/-+$/, '')
  return isDnsLabel(name) ? name : 'pod'
}

function dnsOf({ spec, metadata }: Pod, clusterDomain: string): Jail['dns'] {
  const { nameservers = [], searches = [], options = [] } = spec.dnsConfig ?? {}
  const policy = spec.dnsPolicy ?? 'ClusterFirst'
  const cluster = policy === 'ClusterFirst'
  const merged = new Map(cluster ? [['ndots', '5']] : [])
  for (const { name, value } of options) if (name) merged.set(name, value ?? '')
  const own = cluster
    ? [`${metadata.namespace ?? ''}.svc.${clusterDomain}`, `svc.${clusterDomain}`, clusterDomain]
    : []
  return {
    searches: [...new Set([...own, ...searches])],
    ...(nameservers.length > 0 ? { nameservers } : {}),
    ...(nameservers.length > 0 && policy !== 'None' ? { resolverFirst: true } : {}),
    options: [...merged].map(([name, value]) => (value === '' ? name : `${name}:${value}`)),
  }
}

// --- containers ------------------------------------------------------------------------------------------------------

function jailContainer(
  container: Container,
  pod: Pod,
  context: JailContext,
  variables: ReadonlyMap<string, string>,
  accountVolume: string | undefined,
): JailContainer {
  const env = environmentOf(container, pod, context, variables)
  const known = new Map(env.map((entry) => [entry.name, textOf(entry)]))
  const expand = (text: string) => expandVariables(text, (name) => known.get(name), literalText)
  const pods = pod.spec.securityContext ?? {}
  const own = container.securityContext ?? {}
  const runAsUser = own.runAsUser ?? pods.runAsUser
  const runAsGroup = own.runAsGroup ?? pods.runAsGroup
  const port = (target: number | string) => containerPort(target, container)
  return {
    name: container.name,
    image: container.image ?? '',
    imagePullPolicy: container.imagePullPolicy ?? 'IfNotPresent',
    ...(container.command?.length ? { command: container.command.map(expand) } : {}),
    ...(container.args?.length ? { args: container.args.map(expand) } : {}),
    ...(container.workingDir ? { workingDir: cleanPath(container.workingDir) } : {}),
    env,
    ...(runAsUser === undefined ? {} : { runAsUser }),
    ...(runAsGroup === undefined ? {} : { runAsGroup }),
    supplementalGroups: pods.supplementalGroups ?? [],
    runAsNonRoot: own.runAsNonRoot ?? pods.runAsNonRoot ?? false,
    readOnlyRootFilesystem: own.readOnlyRootFilesystem ?? false,
    ...(own.capabilities ? { capabilities: effectiveCapabilities(own.capabilities) } : {}),
    mounts: mountsOf(container, known, accountVolume),
    resources: resourcesOf(container),
    ports: (container.ports ?? []).map(({ name, containerPort: number, protocol }) => ({
      ...(name ? { name } : {}),
      containerPort: number,
      protocol: protocol ?? 'TCP',
    })),
    ...(container.livenessProbe
      ? { livenessProbe: jailProbe(container.livenessProbe, container, port) }
      : {}),
    ...(container.readinessProbe
      ? { readinessProbe: jailProbe(container.readinessProbe, container, port) }
      : {}),
    ...(container.startupProbe ? { startupProbe: jailProbe(container.startupProbe, container, port) } : {}),
    lifecycle: {
      ...(container.lifecycle?.postStart
        ? { postStart: jailHandler(container.lifecycle.postStart, port) }
        : {}),
      ...(container.lifecycle?.preStop ? { preStop: jailHandler(container.lifecycle.preStop, port) } : {}),
    },
    terminationMessagePath: cleanPath(container.terminationMessagePath || '/dev/termination-log'),
    terminationMessagePolicy: container.terminationMessagePolicy ?? 'File',
    stdin: container.stdin ?? false,
    stdinOnce: container.stdinOnce ?? false,
    tty: container.tty ?? false,
    ...(container.restartPolicy === 'Always' ? { restartPolicy: 'Always' as const } : {}),
  }
}

/** Own variables, then those of ConfigMaps and Secrets, then services'; of one name the first in this order wins. */
function environmentOf(
  container: Container,
  pod: Pod,
  context: JailContext,
  variables: ReadonlyMap<string, string>,
): JailEnv[] {
  const result = new Map<string, JailEnv>()
  const lookup = (name: string) => {
    const entry = result.get(name)
    const linked = entry ? undefined : variables.get(name)
    return entry ? textOf(entry) : linked === undefined ? undefined : literalText(linked)
  }
  const fail = configError(container.name)
  for (const { prefix = '', configMapRef, secretRef } of container.envFrom ?? []) {
    if (configMapRef?.name) {
      const found = context.configMap(configMapRef.name)
      if (!found && !configMapRef.optional) throw fail(`configmap "${configMapRef.name}" not found`)
      for (const [key, value] of Object.entries(found?.data ?? {}))
        setValue(result, prefix + key, literalText(value))
    }
    if (secretRef?.name) {
      const found = context.secret(secretRef.name)
      if (!found && !secretRef.optional) throw fail(`secret "${secretRef.name}" not found`)
      for (const [key, value] of Object.entries(found?.data ?? {}))
        setValue(result, prefix + key, literalText(text(value)))
    }
  }
  for (const variable of container.env ?? []) {
    const value = valueOf(variable, container, pod, context, lookup)
    // A later variable of the same name replaces the earlier one.
    if (value === undefined) continue
    if (typeof value === 'string') setValue(result, variable.name, value)
    else result.set(variable.name, { name: variable.name, ...value })
  }
  for (const [name, value] of variables) if (!result.has(name)) setValue(result, name, literalText(value))
  const env = [...result.values()]
  const size = env.reduce(
    (sum, entry) => sum + entry.name.length + ('value' in entry ? entry.value.length : 0),
    0,
  )
  if (size > ENV_BYTES_MAX) throw fail(`the environment has ${size} bytes, more than ${ENV_BYTES_MAX}`)
  return env
}

/** How other texts of a jail refer to a variable's value. */
function textOf(entry: JailEnv): string {
  return 'value' in entry ? entry.value : `$(${entry.fromPod})`
}

/** A text of a jail, or a fact that only the engine knows. */
function valueOf(
  { value, valueFrom }: EnvVar,
  container: Container,
  pod: Pod,
  context: JailContext,
  lookup: (name: string) => string | undefined,
): string | { fromPod: 'podIP' | 'podIPs' | 'hostIP' } | undefined {
  const fail = configError(container.name)
  const { configMapKeyRef, secretKeyRef, fieldRef, resourceFieldRef } = valueFrom ?? {}
  if (configMapKeyRef) {
    const { name = '', key, optional } = configMapKeyRef
    const found = context.configMap(name)
    const entry = ownEntry(found?.data, key)
    if (entry !== undefined) return literalText(entry)
    if (optional) return undefined
    throw fail(
      found
        ? `couldn't find key ${key} in ConfigMap ${pod.metadata.namespace}/${name}`
        : `configmap "${name}" not found`,
    )
  }
  if (secretKeyRef) {
    const { name = '', key, optional } = secretKeyRef
    const found = context.secret(name)
    const entry = ownEntry(found?.data, key)
    if (entry !== undefined) return literalText(text(entry))
    if (optional) return undefined
    throw fail(
      found
        ? `couldn't find key ${key} in Secret ${pod.metadata.namespace}/${name}`
        : `secret "${name}" not found`,
    )
  }
  if (fieldRef) {
    const field = podField(pod, fieldRef.fieldPath)
    if (field === undefined) throw fail(`unsupported fieldPath: ${fieldRef.fieldPath}`)
    return typeof field === 'string' ? literalText(field) : field
  }
  if (resourceFieldRef) return resourceValue(resourceFieldRef, container, pod, context, fail)
  return expandVariables(value ?? '', lookup, literalText)
}

function resourceValue(
  selector: NonNullable<NonNullable<EnvVar['valueFrom']>['resourceFieldRef']>,
  container: Container | undefined,
  pod: Pod,
  context: JailContext,
  fail: (message: string) => Missing,
): string {
  const all = [...pod.spec.containers, ...(pod.spec.initContainers ?? [])]
  const named = selector.containerName ? all.find((c) => c.name === selector.containerName) : container
  if (!named) throw fail(`container ${selector.containerName ?? ''} not found`)
  const value = resourceField(selector, named, context.node)
  if (value === undefined) throw fail(`unsupported container resource: ${selector.resource}`)
  return value
}

function setValue(result: Map<string, JailEnv>, name: string, value: string): void {
  result.set(name, { name, value })
}

function configError(container: string): (message: string) => Missing {
  return (message) =>
    new Missing({
      reason: 'CreateContainerConfigError',
      message,
      container,
      event: { reason: 'Failed', message: `Error: ${message}` },
    })
}

function mountsOf(
  container: Container,
  variables: ReadonlyMap<string, string>,
  accountVolume: string | undefined,
): JailMount[] {
  const mounts: JailMount[] = (container.volumeMounts ?? []).map((mount) => {
    const { name, mountPath, readOnly } = mount
    const subPath = cleanPath(subPathOf(mount, variables, configError(container.name))).slice(1)
    return {
      volume: name,
      mountPath: cleanPath(mountPath),
      readOnly: readOnly ?? false,
      ...(subPath === '' ? {} : { subPath }),
    }
  })
  if (accountVolume !== undefined && !mounts.some((mount) => mount.mountPath === ACCOUNT_MOUNT_PATH))
    mounts.push({ volume: accountVolume, mountPath: ACCOUNT_MOUNT_PATH, readOnly: true })
  return mounts
}

/** What a variable stands for may be anything, so the path is looked at once it is whole. */
function subPathOf(
  { subPath = '', subPathExpr }: NonNullable<Container['volumeMounts']>[number],
  variables: ReadonlyMap<string, string>,
  fail: (message: string) => Missing,
): string {
  if (!subPathExpr) return subPath
  const path = expandVariables(subPathExpr, (name) => {
    const value = variables.get(name)
    if (!value) throw fail(`missing value for ${name}`)
    // A variable that only the engine knows refers to something; all others mean themselves.
    return expandVariables(value, (fact) => {
      throw fail(`the value of ${JSON.stringify(name)} has ${fact}, which is known only while the pod runs`)
    })
  })
  const problem = localPathProblem(path)
  if (problem) throw fail(`unable to provision SubPath ${JSON.stringify(path)}: ${problem}`)
  return path
}

/** `/data/`, `//data` and `/./data` are the same place as `/data`. */
function cleanPath(path: string): string {
  return `/${path
    .split('/')
    .filter((segment) => segment !== '' && segment !== '.')
    .join('/')}`
}

function resourcesOf({ resources }: Container): JailResources {
  const millis = (amount: string | undefined) =>
    amount === undefined ? undefined : Number(quantityMillis(parseQuantity(amount)))
  const bytes = (amount: string | undefined) =>
    amount === undefined ? undefined : quantityNumber(parseQuantity(amount))
  const cpuLimit = millis(resources?.limits?.['cpu'])
  const memoryLimit = bytes(resources?.limits?.['memory'])
  const storageLimit = bytes(resources?.limits?.['ephemeral-storage'])
  return {
    cpuMillisRequest: millis(resources?.requests?.['cpu']) ?? cpuLimit ?? 0,
    // A limit of zero means none, as it does for the kubelet.
    ...(cpuLimit ? { cpuMillisLimit: cpuLimit } : {}),
    memoryBytesRequest: bytes(resources?.requests?.['memory']) ?? memoryLimit ?? 0,
    ...(memoryLimit ? { memoryBytesLimit: memoryLimit } : {}),
    ...(storageLimit ? { ephemeralStorageBytesLimit: storageLimit } : {}),
  }
}

// --- probes and hooks ------------------------------------------------------------------------------------------------

function containerPort(target: number | string, container: Container): number {
  if (typeof target === 'number') return target
  if (/^\d{1,5}$/.test(target)) return Number(target)
  const found = container.ports?.find((port) => port.name === target)
  if (!found)
    throw configError(container.name)(`couldn't find port "${target}" in container "${container.name}"`)
  return found.containerPort
}

type NetworkHandler = Exclude<JailHandler, { kind: 'sleep' }>

function commonHandler(
  handler: Pick<Probe & LifecycleHandler, 'exec' | 'httpGet' | 'tcpSocket'>,
  port: (target: number | string) => number,
): NetworkHandler | undefined {
  if (handler.exec) return { kind: 'exec', command: handler.exec.command ?? [] }
  if (handler.httpGet) {
    const { path = '/', port: target, scheme = 'HTTP', httpHeaders = [] } = handler.httpGet
    return {
      kind: 'httpGet',
      port: port(target),
      path: path.startsWith('/') ? path : `/${path}`,
      scheme,
      headers: httpHeaders.map(({ name, value }) => ({ name, value })),
    }
  }
  return handler.tcpSocket ? { kind: 'tcpSocket', port: port(handler.tcpSocket.port) } : undefined
}

function jailHandler(handler: LifecycleHandler, port: (target: number | string) => number): JailHandler {
  return commonHandler(handler, port) ?? { kind: 'sleep', seconds: handler.sleep?.seconds ?? 0 }
}

/**
 * In the command of a probe, as with the kubelet, variables count with the value that is written in the pod itself and
 * with nothing when it comes from elsewhere. Hooks are not expanded at all.
 */
function expandedProbe(handler: JailProbe['handler'], env: readonly EnvVar[]): JailProbe['handler'] {
  if (handler.kind !== 'exec') return handler
  const written = new Map(env.map(({ name, value = '' }) => [name, value]))
  return {
    ...handler,
    command: handler.command.map((word) => expandVariables(word, (name) => written.get(name))),
  }
}

function jailProbe(
  probe: Probe,
  { env = [] }: Container,
  port: (target: number | string) => number,
): JailProbe {
  const grpc = { kind: 'grpc' as const, port: probe.grpc?.port ?? 0, service: probe.grpc?.service ?? '' }
  return {
    handler: expandedProbe(commonHandler(probe, port) ?? grpc, env),
    initialDelaySeconds: probe.initialDelaySeconds ?? 0,
    timeoutSeconds: probe.timeoutSeconds || 1,
    periodSeconds: probe.periodSeconds || 10,
    successThreshold: probe.successThreshold || 1,
    failureThreshold: probe.failureThreshold || 3,
    ...(probe.terminationGracePeriodSeconds
      ? { terminationGracePeriodSeconds: probe.terminationGracePeriodSeconds }
      : {}),
  }
}

// --- volumes ---------------------------------------------------------------------------------------------------------

const FILE_MODE_DEFAULT = 0o644

function mountError(volume: string, message: string): Missing {
  return new Missing({
    reason: 'ContainerCreating',
    message,
    event: { reason: 'FailedMount', message: `MountVolume.SetUp failed for volume "${volume}" : ${message}` },
  })
}

function jailVolume(volume: Volume, pod: Pod, context: JailContext): JailVolume {
  const { name, configMap, secret, downwardAPI, projected, emptyDir } = volume
  const files = (list: JailFile[]): JailVolume => ({ name, kind: 'files', files: lastOfEachPath(list) })
  if (configMap) return files(configMapFiles(name, configMap, configMap.defaultMode, context))
  if (secret)
    return files(secretFiles(name, { ...secret, name: secret.secretName }, secret.defaultMode, context))
  if (downwardAPI) return files(downwardFiles(name, downwardAPI.items, downwardAPI.defaultMode, pod, context))
  if (projected) {
    const mode = projected.defaultMode
    return files(
      (projected.sources ?? []).flatMap((source) => [
        ...(source.configMap ? configMapFiles(name, source.configMap, mode, context) : []),
        ...(source.secret ? secretFiles(name, source.secret, mode, context) : []),
        ...(source.downwardAPI ? downwardFiles(name, source.downwardAPI.items, mode, pod, context) : []),
        ...(source.serviceAccountToken
          ? [
              tokenFile(
                name,
                source.serviceAccountToken.path,
                tokenRequest(source.serviceAccountToken),
                mode,
                pod,
                context,
              ),
            ]
          : []),
      ]),
    )
  }
  const claimed = claimsOf(pod).find((claim) => claim.volume === name)
  if (claimed) return claimVolume(claimed, pod, context)
  const medium = emptyDir?.medium === 'Memory' ? 'memory' : 'disk'
  const limit = emptyDir?.sizeLimit === undefined ? 0 : quantityNumber(parseQuantity(emptyDir.sizeLimit))
  return { name, kind: 'scratch', medium, sizeBytesMax: limit || scratchDefault(medium, pod) }
}

function claimVolume(
  { volume, claim: name, readOnly, isEphemeral }: PodClaim,
  pod: Pod,
  context: JailContext,
): JailVolume {
  const claim = context.claim(name)
  if (!claim) throw mountError(volume, `persistentvolumeclaim ${JSON.stringify(name)} not found`)
  if (isEphemeral && !isClaimOfPod(claim, pod))
    throw mountError(volume, `persistentvolumeclaim ${JSON.stringify(name)} was not created for the pod`)
  if (claim.status?.phase !== 'Bound')
    throw mountError(volume, `persistentvolumeclaim ${JSON.stringify(name)} is not bound`)
  // The API server gives every object a uid in this form; with the tenant it names the volume.
  return { name: volume, kind: 'claim', claim: claim.metadata.uid as ClaimId, readOnly }
}

/** Memory of the pod bounds what it keeps in memory; a disk has a limit of its own. */
function scratchDefault(medium: 'disk' | 'memory', pod: Pod): number {
  if (medium === 'disk') return SCRATCH_BYTES_DEFAULT
  const limits = pod.spec.containers.map((container) => resourcesOf(container).memoryBytesLimit)
  const total = limits.reduce<number>((sum, limit) => sum + (limit ?? 0), 0)
  return limits.includes(undefined) ? SCRATCH_MEMORY_BYTES_DEFAULT : total
}

type Source = { name?: string | undefined; items?: KeyToPath[]; optional?: boolean }

function configMapFiles(
  volume: string,
  source: Source,
  mode: number | undefined,
  context: JailContext,
): JailFile[] {
  const { name = '', optional = false } = source
  const found = context.configMap(name)
  if (!found && !optional) throw mountError(volume, `configmap "${name}" not found`)
  const entries = new Map([
    ...Object.entries(found?.data ?? {}).map(([key, value]) => [key, base64(value)] as const),
    ...Object.entries(found?.binaryData ?? {}),
  ])
  return keyFiles(entries, {
    volume,
    source,
    mode,
    missing: (key) => `references non-existent config key: ${key}`,
  })
}

function secretFiles(
  volume: string,
  source: Source,
  mode: number | undefined,
  context: JailContext,
): JailFile[] {
  const { name = '', optional = false } = source
  const found = context.secret(name)
  if (!found && !optional) throw mountError(volume, `secret "${name}" not found`)
  const entries = new Map(Object.entries(found?.data ?? {}))
  return keyFiles(entries, {
    volume,
    source,
    mode,
    missing: (key) => `references non-existent secret key: ${key}`,
  })
}

function keyFiles(
  entries: ReadonlyMap<string, string>,
  {
    volume,
    source,
    mode = FILE_MODE_DEFAULT,
    missing,
  }: { volume: string; source: Source; mode: number | undefined; missing: (key: string) => string },
): JailFile[] {
  if (!source.items?.length)
    return [...entries].map(([key, contentBase64]) => ({ path: key, mode, contentBase64 }))
  return source.items.flatMap(({ key, path, mode: own }) => {
    const contentBase64 = entries.get(key)
    if (contentBase64 !== undefined) return [{ path, mode: own ?? mode, contentBase64 }]
    if (source.optional) return []
    throw mountError(volume, missing(key))
  })
}

function downwardFiles(
  volume: string,
  items: readonly DownwardAPIVolumeFile[] | undefined,
  mode: number | undefined,
  pod: Pod,
  context: JailContext,
): JailFile[] {
  const fail = (message: string) => mountError(volume, message)
  return (items ?? []).map((item) => {
    let content: string
    if (item.resourceFieldRef) content = resourceValue(item.resourceFieldRef, undefined, pod, context, fail)
    else {
      const field = podField(pod, item.fieldRef?.fieldPath ?? '')
      // Files hold only what is known before the pod runs.
      if (typeof field !== 'string') throw fail(`unsupported fieldPath: ${item.fieldRef?.fieldPath ?? ''}`)
      content = field
    }
    return { path: item.path, mode: item.mode ?? mode ?? FILE_MODE_DEFAULT, contentBase64: base64(content) }
  })
}

function tokenFile(
  volume: string,
  path: string,
  request: TokenRequest,
  mode: number | undefined,
  pod: Pod,
  context: JailContext,
): JailFile {
  const token = context.token?.(request)
  if (token === undefined) throw mountError(volume, 'no service account token could be issued')
  const owner = commonUser(pod)
  // As with a kubelet: no more may read it than have to, where it is known who they are.
  const isPrivate = owner !== undefined || pod.spec.securityContext?.fsGroup !== undefined
  return {
    path,
    mode: isPrivate ? 0o600 : (mode ?? FILE_MODE_DEFAULT),
    ...(owner === undefined ? {} : { owner }),
    contentBase64: base64(token),
  }
}

/** The user that all containers run as by the pod's own words; undefined when they differ, or images decide. */
function commonUser({ spec }: Pod): number | undefined {
  const users = new Set(
    [...(spec.initContainers ?? []), ...spec.containers].map(
      ({ securityContext }) => securityContext?.runAsUser ?? spec.securityContext?.runAsUser,
    ),
  )
  const [user] = users
  return users.size === 1 ? user : undefined
}

function tokenRequest(source: { audience?: string; expirationSeconds?: number }): TokenRequest {
  return {
    ...(source.audience ? { audience: source.audience } : {}),
    expirationSeconds: source.expirationSeconds ?? TOKEN_SECONDS_DEFAULT,
  }
}

/** The pod decides whether it gets a token without asking, else its service account, else yes. */
function automounts(pod: Pod, serviceAccount: ServiceAccount | undefined): boolean {
  return pod.spec.automountServiceAccountToken ?? serviceAccount?.automountServiceAccountToken ?? true
}

function accountVolumeName(volumes: readonly JailVolume[]): string {
  let name = ACCOUNT_VOLUME
  for (let suffix = 1; volumes.some((volume) => volume.name === name); suffix += 1)
    name = `${ACCOUNT_VOLUME}-${suffix}`
  return name
}

function accountFiles(volume: string, pod: Pod, context: JailContext): JailVolume {
  const authority = ownEntry(context.configMap(ROOT_CA_CONFIG_MAP)?.data, 'ca.crt')
  if (authority === undefined) throw mountError(volume, `configmap "${ROOT_CA_CONFIG_MAP}" not found`)
  const mode = FILE_MODE_DEFAULT
  return {
    name: volume,
    kind: 'files',
    files: [
      tokenFile(volume, 'token', { expirationSeconds: TOKEN_SECONDS_DEFAULT }, mode, pod, context),
      { path: 'ca.crt', mode, contentBase64: base64(authority) },
      { path: 'namespace', mode, contentBase64: base64(pod.metadata.namespace ?? '') },
    ],
  }
}

function checkFiles(volumes: readonly JailVolume[]): void {
  let size = 0
  for (const volume of volumes) {
    if (volume.kind !== 'files') continue
    for (const file of volume.files) size += (file.contentBase64.length * 3) / 4
    if (size > POD_FILES_BYTES_MAX)
      throw mountError(
        volume.name,
        `the files of the pod's volumes have more than ${POD_FILES_BYTES_MAX} bytes`,
      )
  }
}

/** Of several sources with the same path the last wins, as in a projected volume. */
function lastOfEachPath(files: readonly JailFile[]): JailFile[] {
  return [...new Map(files.map((file) => [file.path, file])).values()]
}

/** A tenant may ask for the key "constructor", which every plain object inherits. */
function ownEntry(map: Readonly<Record<string, string>> | undefined, key: string): string | undefined {
  return map && Object.hasOwn(map, key) ? map[key] : undefined
}

function base64(content: string): string {
  return Buffer.from(content, 'utf8').toString('base64')
}

function text(contentBase64: string): string {
  return Buffer.from(contentBase64, 'base64').toString('utf8')
}
