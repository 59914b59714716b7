import { BANDWIDTH_ANNOTATIONS, BANDWIDTH_PROBLEM, parseBandwidth } from '../bandwidth.ts'
import {
  CONTAINER_PORTS_MAX,
  CONTAINERS_MAX,
  DNS_NAMESERVERS_MAX,
  DNS_SEARCH_CHARS_MAX,
  DNS_SEARCHES_MAX,
  ENV_MAX,
  HOST_ALIASES_MAX,
  INIT_CONTAINERS_MAX,
  TOKEN_SECONDS_MAX,
  TOKEN_SECONDS_MIN,
  VOLUME_MOUNTS_MAX,
  VOLUMES_MAX,
} from '../limits.ts'
import type { WriteContext } from '../kind.ts'
import { parseQuantity } from '../quantity.ts'
import type { FieldError } from '../status.ts'
import { droppedCapabilityProblem } from './capabilities.ts'
import {
  duplicateValue,
  forbiddenField,
  invalidValue,
  requiredValue,
  tooMany,
  unsupportedValue,
  valueNotFound,
} from './field-errors.ts'
import {
  configKeyProblem,
  dnsLabelProblem,
  dnsSubdomainProblem,
  envNameProblem,
  isIPv4,
  localPathProblem,
  portNameProblem,
  portNumberProblem,
  qualifiedNameProblem,
} from './names.ts'
import { claimSpecErrors } from './persistent-volume-claim.ts'
import type {
  Container,
  ContainerPort,
  DownwardAPIVolumeFile,
  EnvVar,
  KeyToPath,
  LifecycleHandler,
  ObjectFieldSelector,
  PodSpec,
  Probe,
  ResourceFieldSelector,
  ResourceRequirements,
  Volume,
} from './pod-schema.ts'
import type { Pod } from './pod.ts'
import { equalField, nonNegative } from './rules.ts'

/** What a schema cannot say about pods. Paths begin at `path`, so that templates report where the user wrote it. */

const RESOURCES = ['cpu', 'memory', 'ephemeral-storage'] as const
const ENV_FIELDS = [
  'metadata.name',
  'metadata.namespace',
  'metadata.uid',
  'spec.nodeName',
  'spec.serviceAccountName',
  'status.hostIP',
  'status.hostIPs',
  'status.podIP',
  'status.podIPs',
]
const VOLUME_FIELDS = [
  'metadata.annotations',
  'metadata.labels',
  'metadata.name',
  'metadata.namespace',
  'metadata.uid',
]
const RESOURCE_FIELDS = RESOURCES.flatMap((resource) => [`limits.${resource}`, `requests.${resource}`])
const PROBE_KINDS = ['exec', 'httpGet', 'tcpSocket', 'grpc'] as const
const HANDLER_KINDS = ['exec', 'httpGet', 'tcpSocket', 'sleep'] as const
const VOLUME_KINDS = [
  'configMap',
  'secret',
  'emptyDir',
  'projected',
  'downwardAPI',
  'persistentVolumeClaim',
  'ephemeral',
] as const
const PROJECTION_KINDS = ['configMap', 'secret', 'downwardAPI', 'serviceAccountToken'] as const

export function validatePodSpec(spec: PodSpec | undefined, path: string): FieldError[] {
  if (!spec) return [requiredValue(`${path}.containers`)]
  const errors: FieldError[] = []
  const volumes = volumeErrors(spec.volumes ?? [], `${path}.volumes`, errors)
  const names = new Set<string>()
  const { initContainers = [], containers = [] } = spec

  if (containers.length === 0) errors.push(requiredValue(`${path}.containers`))
  if (containers.length > CONTAINERS_MAX)
    errors.push(tooMany(`${path}.containers`, containers.length, CONTAINERS_MAX))
  if (initContainers.length > INIT_CONTAINERS_MAX)
    errors.push(tooMany(`${path}.initContainers`, initContainers.length, INIT_CONTAINERS_MAX))

  // Beyond the bounds nobody would read what is wrong with each of them.
  if (containers.length > CONTAINERS_MAX || initContainers.length > INIT_CONTAINERS_MAX) return errors

  initContainers.forEach((container, index) => {
    const at = `${path}.initContainers[${index}]`
    containerErrors(container, at, { names, volumes }, errors)
    if (container.restartPolicy === 'Always') return
    for (const field of ['livenessProbe', 'readinessProbe', 'startupProbe', 'lifecycle'] as const) {
      if (container[field])
        errors.push(
          forbiddenField(`${at}.${field}`, 'may not be set for init containers without restartPolicy=Always'),
        )
    }
  })
  containers.forEach((container, index) => {
    const at = `${path}.containers[${index}]`
    containerErrors(container, at, { names, volumes }, errors)
    if (container.restartPolicy)
      errors.push(forbiddenField(`${at}.restartPolicy`, 'may not be set for non-init containers'))
  })

  if (spec.hostname !== undefined && spec.hostname !== '')
    push(errors, `${path}.hostname`, spec.hostname, dnsLabelProblem)
  if (spec.subdomain !== undefined && spec.subdomain !== '')
    push(errors, `${path}.subdomain`, spec.subdomain, dnsLabelProblem)
  if (spec.serviceAccountName)
    push(errors, `${path}.serviceAccountName`, spec.serviceAccountName, dnsSubdomainProblem)
  if (
    spec.activeDeadlineSeconds !== undefined &&
    (spec.activeDeadlineSeconds < 1 || spec.activeDeadlineSeconds > 2_147_483_647)
  )
    errors.push(
      invalidValue(
        `${path}.activeDeadlineSeconds`,
        spec.activeDeadlineSeconds,
        'must be between 1 and 2147483647, inclusive',
      ),
    )
  errors.push(...nonNegative(`${path}.terminationGracePeriodSeconds`, spec.terminationGracePeriodSeconds))
  dnsErrors(spec, path, errors)
  hostAliasErrors(spec, path, errors)
  schedulingErrors(spec, path, errors)
  return errors
}

function push(
  errors: FieldError[],
  field: string,
  value: string,
  problemOf: (value: string) => string | undefined,
): void {
  const problem = problemOf(value)
  if (problem) errors.push(invalidValue(field, value, problem))
}

// --- containers ----------------------------------------------------------------------------------------------------

type PodNames = { names: Set<string>; volumes: ReadonlySet<string> }

function containerErrors(container: Container, path: string, pod: PodNames, errors: FieldError[]): void {
  const { name, image } = container
  if (!name) errors.push(requiredValue(`${path}.name`))
  else {
    push(errors, `${path}.name`, name, dnsLabelProblem)
    if (pod.names.has(name)) errors.push(duplicateValue(`${path}.name`, name))
    pod.names.add(name)
  }
  if (!image) errors.push(requiredValue(`${path}.image`))
  else if (image !== image.trim())
    errors.push(invalidValue(`${path}.image`, image, 'must not have leading or trailing whitespace'))

  if (container.workingDir) push(errors, `${path}.workingDir`, container.workingDir, absolutePathProblem)
  if (container.terminationMessagePath)
    push(errors, `${path}.terminationMessagePath`, container.terminationMessagePath, (file) =>
      absolutePathProblem(file, MESSAGE_TREES_RESERVED),
    )
  portErrors(container.ports ?? [], `${path}.ports`, errors)
  environmentErrors(container, path, errors)
  mountErrors(container, path, pod.volumes, errors)
  resourceErrors(container.resources, `${path}.resources`, errors)
  for (const field of ['livenessProbe', 'readinessProbe', 'startupProbe'] as const)
    probeErrors(container[field], field, container, `${path}.${field}`, errors)
  for (const field of ['postStart', 'preStop'] as const) {
    const handler = container.lifecycle?.[field]
    if (handler) handlerErrors(handler, HANDLER_KINDS, container, `${path}.lifecycle.${field}`, errors)
  }
  const context = container.securityContext
  if (context?.runAsNonRoot && context.runAsUser === 0)
    errors.push(
      invalidValue(
        `${path}.securityContext.runAsUser`,
        0,
        'must not be 0 together with runAsNonRoot: true; the container would never start',
      ),
    )
  context?.capabilities?.drop?.forEach((capability, index) =>
    push(errors, `${path}.securityContext.capabilities.drop[${index}]`, capability, droppedCapabilityProblem),
  )
}

function portErrors(ports: readonly ContainerPort[], path: string, errors: FieldError[]): void {
  if (ports.length > CONTAINER_PORTS_MAX) errors.push(tooMany(path, ports.length, CONTAINER_PORTS_MAX))
  const names = new Set<string>()
  ports.forEach(({ name, containerPort }, index) => {
    if (name) {
      push(errors, `${path}[${index}].name`, name, portNameProblem)
      if (names.has(name)) errors.push(duplicateValue(`${path}[${index}].name`, name))
      names.add(name)
    }
    const problem = portNumberProblem(containerPort)
    if (problem) errors.push(invalidValue(`${path}[${index}].containerPort`, containerPort, problem))
  })
}

function environmentErrors(container: Container, path: string, errors: FieldError[]): void {
  const { env = [], envFrom = [] } = container
  if (env.length > ENV_MAX) errors.push(tooMany(`${path}.env`, env.length, ENV_MAX))
  if (envFrom.length > ENV_MAX) errors.push(tooMany(`${path}.envFrom`, envFrom.length, ENV_MAX))
  env.forEach((variable, index) => variableErrors(variable, `${path}.env[${index}]`, errors))
  envFrom.forEach((source, index) => {
    const at = `${path}.envFrom[${index}]`
    if (source.prefix) push(errors, `${at}.prefix`, source.prefix, envNameProblem)
    if (!source.configMapRef && !source.secretRef)
      errors.push(invalidValue(at, '', 'must specify one of: `configMapRef` or `secretRef`'))
    if (source.configMapRef && source.secretRef)
      errors.push(invalidValue(at, '', 'may not have more than one field specified at a time'))
    if (source.configMapRef) nameErrors(source.configMapRef.name, `${at}.configMapRef.name`, errors)
    if (source.secretRef) nameErrors(source.secretRef.name, `${at}.secretRef.name`, errors)
  })
}

function variableErrors({ name, value, valueFrom }: EnvVar, path: string, errors: FieldError[]): void {
  if (!name) errors.push(requiredValue(`${path}.name`))
  else push(errors, `${path}.name`, name, envNameProblem)
  if (!valueFrom) return
  const at = `${path}.valueFrom`
  const given = [
    valueFrom.configMapKeyRef,
    valueFrom.secretKeyRef,
    valueFrom.fieldRef,
    valueFrom.resourceFieldRef,
  ]
  const count = given.filter((source) => source !== undefined).length
  if (count === 0)
    errors.push(
      invalidValue(
        at,
        '',
        'must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`',
      ),
    )
  if (count > 1) errors.push(invalidValue(at, '', 'may not have more than one field specified at a time'))
  if (value) errors.push(invalidValue(at, '', 'may not be specified when `value` is not empty'))
  if (valueFrom.fieldRef) fieldRefErrors(valueFrom.fieldRef, ENV_FIELDS, `${at}.fieldRef`, errors)
  if (valueFrom.resourceFieldRef)
    resourceFieldErrors(valueFrom.resourceFieldRef, { inVolume: false }, `${at}.resourceFieldRef`, errors)
  for (const field of ['configMapKeyRef', 'secretKeyRef'] as const) {
    const ref = valueFrom[field]
    if (!ref) continue
    nameErrors(ref.name, `${at}.${field}.name`, errors)
    if (!ref.key) errors.push(requiredValue(`${at}.${field}.key`))
    else push(errors, `${at}.${field}.key`, ref.key, configKeyProblem)
  }
}

function nameErrors(name: string | undefined, path: string, errors: FieldError[]): void {
  if (!name) errors.push(requiredValue(path))
  else push(errors, path, name, dnsSubdomainProblem)
}

const SUBSCRIPT = /^(metadata\.(?:labels|annotations))\['([^']*)'\]$/

function fieldRefErrors(
  { apiVersion, fieldPath }: ObjectFieldSelector,
  allowed: readonly string[],
  path: string,
  errors: FieldError[],
): void {
  if (apiVersion !== undefined && apiVersion !== 'v1')
    errors.push(invalidValue(`${path}.apiVersion`, apiVersion, 'must be "v1"'))
  if (!fieldPath) {
    errors.push(requiredValue(`${path}.fieldPath`))
    return
  }
  const subscript = fieldPath.length <= 1_024 ? SUBSCRIPT.exec(fieldPath) : null
  if (subscript) {
    const problem = qualifiedNameProblem((subscript[2] ?? '').toLowerCase())
    if (problem) errors.push(invalidValue(`${path}.fieldPath`, fieldPath, problem))
    return
  }
  if (!allowed.includes(fieldPath)) errors.push(unsupportedValue(`${path}.fieldPath`, fieldPath, allowed))
}

function resourceFieldErrors(
  ref: ResourceFieldSelector,
  { inVolume }: { inVolume: boolean },
  path: string,
  errors: FieldError[],
): void {
  if (inVolume && !ref.containerName) errors.push(requiredValue(`${path}.containerName`))
  if (!ref.resource) errors.push(requiredValue(`${path}.resource`))
  else if (!RESOURCE_FIELDS.includes(ref.resource))
    errors.push(unsupportedValue(`${path}.resource`, ref.resource, RESOURCE_FIELDS))
}

/** Where only the kernel and the runtime put things; a volume there would hide them. */
const MOUNT_TREES_RESERVED = ['/', '/proc', '/sys', '/dev'] as const
const MESSAGE_TREES_RESERVED = ['/', '/proc', '/sys'] as const
/** The place below them where programs expect to find memory. */
const SHARED_MEMORY = '/dev/shm'

function absolutePathProblem(path: string, reserved: readonly string[] = []): string | undefined {
  if (path.includes('\0')) return 'must not contain a zero byte'
  if (!path.startsWith('/')) return 'must be an absolute path'
  const segments = path.split('/').filter((segment) => segment !== '' && segment !== '.')
  if (segments.includes('..')) return "must not contain '..'"
  const clean = `/${segments.join('/')}`
  const tree = reserved.find((r) => clean === r || (r !== '/' && clean.startsWith(`${r}/`)))
  return tree === undefined || clean === SHARED_MEMORY
    ? undefined
    : `must not be in ${tree}, where only the system puts files`
}

function mountErrors(
  container: Container,
  path: string,
  volumes: ReadonlySet<string>,
  errors: FieldError[],
): void {
  const { volumeMounts = [] } = container
  if (volumeMounts.length > VOLUME_MOUNTS_MAX)
    errors.push(tooMany(`${path}.volumeMounts`, volumeMounts.length, VOLUME_MOUNTS_MAX))
  const paths = new Set<string>()
  volumeMounts.forEach(({ name, mountPath, subPath, subPathExpr }, index) => {
    const at = `${path}.volumeMounts[${index}]`
    if (!name) errors.push(requiredValue(`${at}.name`))
    else if (!volumes.has(name)) errors.push(valueNotFound(`${at}.name`, name))
    if (!mountPath) errors.push(requiredValue(`${at}.mountPath`))
    else {
      if (paths.has(mountPath)) errors.push(invalidValue(`${at}.mountPath`, mountPath, 'must be unique'))
      paths.add(mountPath)
      if (mountPath.includes(':'))
        errors.push(invalidValue(`${at}.mountPath`, mountPath, "must not contain ':'"))
      push(errors, `${at}.mountPath`, mountPath, (path) => absolutePathProblem(path, MOUNT_TREES_RESERVED))
    }
    if (subPath) push(errors, `${at}.subPath`, subPath, localPathProblem)
    if (subPathExpr && subPath)
      errors.push(
        invalidValue(`${at}.subPathExpr`, subPathExpr, 'subPathExpr and subPath are mutually exclusive'),
      )
    if (subPathExpr) push(errors, `${at}.subPathExpr`, subPathExpr, localPathProblem)
  })
}

function resourceErrors(
  resources: ResourceRequirements | undefined,
  path: string,
  errors: FieldError[],
): void {
  if (!resources) return
  const amounts = new Map<string, bigint>()
  for (const side of ['limits', 'requests'] as const) {
    for (const [resource, text] of Object.entries(resources[side] ?? {})) {
      const at = `${path}.${side}[${resource}]`
      if (!(RESOURCES as readonly string[]).includes(resource)) {
        // Defaults copy limits to requests; the user is told once, about what they wrote.
        if (side === 'requests' && resources.limits && Object.hasOwn(resources.limits, resource)) continue
        errors.push(
          forbiddenField(
            at,
            `"${resource}" does not exist here; containers can ask for ${RESOURCES.join(', ')}`,
          ),
        )
        continue
      }
      const { nanos } = parseQuantity(text)
      if (nanos < 0n) errors.push(invalidValue(at, text, 'must be greater than or equal to 0'))
      const limit = amounts.get(resource)
      if (side === 'limits') amounts.set(resource, nanos)
      else if (limit !== undefined && nanos > limit)
        errors.push(
          invalidValue(
            `${path}.requests`,
            text,
            `must be less than or equal to ${resource} limit of ${resources.limits?.[resource]}`,
          ),
        )
    }
  }
}

// --- probes and hooks ----------------------------------------------------------------------------------------------

function probeErrors(
  probe: Probe | undefined,
  field: 'livenessProbe' | 'readinessProbe' | 'startupProbe',
  container: Container,
  path: string,
  errors: FieldError[],
): void {
  if (!probe) return
  handlerErrors(probe, PROBE_KINDS, container, path, errors)
  for (const part of [
    'initialDelaySeconds',
    'timeoutSeconds',
    'periodSeconds',
    'successThreshold',
    'failureThreshold',
  ] as const)
    errors.push(...nonNegative(`${path}.${part}`, probe[part]))
  if (field !== 'readinessProbe' && probe.successThreshold !== undefined && probe.successThreshold !== 1)
    errors.push(invalidValue(`${path}.successThreshold`, probe.successThreshold, 'must be 1'))
  const grace = probe.terminationGracePeriodSeconds
  if (grace !== undefined) {
    if (field === 'readinessProbe')
      errors.push(
        invalidValue(`${path}.terminationGracePeriodSeconds`, grace, 'must not be set for readinessProbes'),
      )
    else if (grace <= 0)
      errors.push(invalidValue(`${path}.terminationGracePeriodSeconds`, grace, 'must be greater than 0'))
  }
  if (probe.grpc) {
    const problem = portNumberProblem(probe.grpc.port)
    if (problem) errors.push(invalidValue(`${path}.grpc.port`, probe.grpc.port, problem))
  }
}

function handlerErrors(
  handler: LifecycleHandler | Probe,
  kinds: typeof PROBE_KINDS | typeof HANDLER_KINDS,
  container: Container,
  path: string,
  errors: FieldError[],
): void {
  const given = kinds.filter((kind) => Object.hasOwn(handler, kind))
  if (given.length === 0) errors.push(requiredValue(path, 'must specify a handler type'))
  for (const kind of given.slice(1))
    errors.push(forbiddenField(`${path}.${kind}`, 'may not specify more than 1 handler type'))
  const { exec, httpGet, tcpSocket } = handler
  if (exec && (exec.command?.length ?? 0) === 0) errors.push(requiredValue(`${path}.exec.command`))
  if (httpGet) {
    handlerPortErrors(httpGet.port, container, `${path}.httpGet.port`, errors)
    if (!httpGet.path) errors.push(requiredValue(`${path}.httpGet.path`))
    httpGet.httpHeaders?.forEach(({ name }, index) => {
      if (!/^[-A-Za-z0-9_]+$/.test(name))
        errors.push(
          invalidValue(
            `${path}.httpGet.httpHeaders[${index}].name`,
            name,
            "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
          ),
        )
    })
  }
  if (tcpSocket) handlerPortErrors(tcpSocket.port, container, `${path}.tcpSocket.port`, errors)
  if ('sleep' in handler && handler.sleep && handler.sleep.seconds < 0)
    errors.push(
      invalidValue(`${path}.sleep.seconds`, handler.sleep.seconds, 'must be greater than or equal to 0'),
    )
}

function handlerPortErrors(
  port: number | string,
  container: Container,
  path: string,
  errors: FieldError[],
): void {
  const problem = typeof port === 'number' ? portNumberProblem(port) : portNameProblem(port)
  if (problem) errors.push(invalidValue(path, port, problem))
  else if (typeof port === 'string' && !container.ports?.some((p) => p.name === port))
    errors.push(
      invalidValue(
        path,
        port,
        'no port of this container has that name; name one in `ports` or write a number',
      ),
    )
}

// --- volumes -------------------------------------------------------------------------------------------------------

/** Adds what is wrong to `errors` and returns the volumes' names. */
function volumeErrors(volumes: readonly Volume[], path: string, errors: FieldError[]): ReadonlySet<string> {
  if (volumes.length > VOLUMES_MAX) errors.push(tooMany(path, volumes.length, VOLUMES_MAX))
  const names = new Set<string>()
  volumes.forEach((volume, index) => {
    const at = `${path}[${index}]`
    if (!volume.name) errors.push(requiredValue(`${at}.name`))
    else {
      push(errors, `${at}.name`, volume.name, dnsLabelProblem)
      if (names.has(volume.name)) errors.push(duplicateValue(`${at}.name`, volume.name))
      names.add(volume.name)
    }
    const given = VOLUME_KINDS.filter((kind) => volume[kind] !== undefined)
    if (given.length === 0) errors.push(requiredValue(at, 'must specify a volume type'))
    for (const kind of given.slice(1))
      errors.push(forbiddenField(`${at}.${kind}`, 'may not specify more than 1 volume type'))
    const { configMap, secret, downwardAPI, projected, emptyDir, persistentVolumeClaim, ephemeral } = volume
    if (persistentVolumeClaim) {
      const field = `${at}.persistentVolumeClaim.claimName`
      if (!persistentVolumeClaim.claimName) errors.push(requiredValue(field))
      else push(errors, field, persistentVolumeClaim.claimName, dnsSubdomainProblem)
    }
    if (ephemeral) {
      const template = ephemeral.volumeClaimTemplate
      const field = `${at}.ephemeral.volumeClaimTemplate`
      if (!template) errors.push(requiredValue(field))
      else errors.push(...claimSpecErrors(template.spec, `${field}.spec`))
    }
    if (configMap) {
      if (!configMap.name) errors.push(requiredValue(`${at}.configMap.name`))
      itemErrors(configMap.items, `${at}.configMap.items`, errors)
    }
    if (secret) {
      if (!secret.secretName) errors.push(requiredValue(`${at}.secret.secretName`))
      itemErrors(secret.items, `${at}.secret.items`, errors)
    }
    if (downwardAPI) downwardErrors(downwardAPI.items, `${at}.downwardAPI`, errors)
    if (projected) projectionErrors(projected.sources ?? [], `${at}.projected.sources`, errors)
    if (emptyDir?.sizeLimit !== undefined && parseQuantity(emptyDir.sizeLimit).nanos < 0n)
      errors.push(
        forbiddenField(`${at}.emptyDir.sizeLimit`, 'SizeLimit field must be a valid resource quantity'),
      )
  })
  return names
}

function itemErrors(items: readonly KeyToPath[] | undefined, path: string, errors: FieldError[]): void {
  items?.forEach((item, index) => {
    if (!item.key) errors.push(requiredValue(`${path}[${index}].key`))
    filePathErrors(item.path, `${path}[${index}].path`, errors)
  })
}

function filePathErrors(filePath: string, path: string, errors: FieldError[]): void {
  if (!filePath) {
    errors.push(requiredValue(path))
    return
  }
  push(errors, path, filePath, localPathProblem)
  // `..data` is how the content of a volume is exchanged in one step.
  if (filePath.startsWith('..') && localPathProblem(filePath) === undefined)
    errors.push(invalidValue(path, filePath, "must not start with '..'"))
}

function downwardErrors(
  items: readonly DownwardAPIVolumeFile[] | undefined,
  path: string,
  errors: FieldError[],
): void {
  items?.forEach((item, index) => {
    const at = `${path}.items[${index}]`
    filePathErrors(item.path, `${at}.path`, errors)
    if (item.fieldRef && item.resourceFieldRef)
      errors.push(
        invalidValue(at, 'resource', 'fieldRef and resourceFieldRef can not be specified simultaneously'),
      )
    if (!item.fieldRef && !item.resourceFieldRef)
      errors.push(requiredValue(at, 'one of fieldRef and resourceFieldRef is required'))
    if (item.fieldRef) fieldRefErrors(item.fieldRef, VOLUME_FIELDS, `${at}.fieldRef`, errors)
    if (item.resourceFieldRef)
      resourceFieldErrors(item.resourceFieldRef, { inVolume: true }, `${at}.resourceFieldRef`, errors)
  })
}

function projectionErrors(
  sources: NonNullable<NonNullable<Volume['projected']>['sources']>,
  path: string,
  errors: FieldError[],
): void {
  if (sources.length > VOLUMES_MAX) errors.push(tooMany(path, sources.length, VOLUMES_MAX))
  sources.forEach((source, index) => {
    const at = `${path}[${index}]`
    const given = PROJECTION_KINDS.filter((kind) => source[kind] !== undefined)
    if (given.length === 0) errors.push(requiredValue(at, 'must specify a projection type'))
    for (const kind of given.slice(1))
      errors.push(forbiddenField(`${at}.${kind}`, 'may not specify more than 1 volume type per source'))
    for (const kind of ['configMap', 'secret'] as const) {
      const projection = source[kind]
      if (!projection) continue
      if (!projection.name) errors.push(requiredValue(`${at}.${kind}.name`))
      itemErrors(projection.items, `${at}.${kind}.items`, errors)
    }
    if (source.downwardAPI) downwardErrors(source.downwardAPI.items, `${at}.downwardAPI`, errors)
    const token = source.serviceAccountToken
    if (token) {
      filePathErrors(token.path, `${at}.serviceAccountToken.path`, errors)
      const seconds = token.expirationSeconds
      if (seconds !== undefined && seconds < TOKEN_SECONDS_MIN)
        errors.push(
          invalidValue(
            `${at}.serviceAccountToken.expirationSeconds`,
            seconds,
            'may not specify a duration less than 10 minutes',
          ),
        )
      if (seconds !== undefined && seconds > TOKEN_SECONDS_MAX)
        errors.push(
          invalidValue(
            `${at}.serviceAccountToken.expirationSeconds`,
            seconds,
            'may not specify a duration larger than 2^32 seconds',
          ),
        )
    }
  })
}

// --- name resolution and scheduling --------------------------------------------------------------------------------

function dnsErrors(spec: PodSpec, path: string, errors: FieldError[]): void {
  const { nameservers = [], searches = [], options = [] } = spec.dnsConfig ?? {}
  const at = `${path}.dnsConfig`
  if (spec.dnsPolicy === 'None') {
    if (!spec.dnsConfig) errors.push(requiredValue(at, 'must provide `dnsConfig` when `dnsPolicy` is None'))
    else if (nameservers.length === 0)
      errors.push(
        requiredValue(
          `${at}.nameservers`,
          'must provide at least one DNS nameserver when `dnsPolicy` is None',
        ),
      )
  }
  if (nameservers.length > DNS_NAMESERVERS_MAX)
    errors.push(
      invalidValue(
        `${at}.nameservers`,
        nameservers,
        `must not have more than ${DNS_NAMESERVERS_MAX} nameservers`,
      ),
    )
  nameservers.forEach((address, index) => {
    if (!isIPv4(address))
      errors.push(invalidValue(`${at}.nameservers[${index}]`, address, 'must be a valid IPv4 address'))
  })
  if (searches.length > DNS_SEARCHES_MAX)
    errors.push(
      invalidValue(
        `${at}.searches`,
        searches.length,
        `must not have more than ${DNS_SEARCHES_MAX} search paths`,
      ),
    )
  if (searches.join(' ').length > DNS_SEARCH_CHARS_MAX)
    errors.push(
      invalidValue(
        `${at}.searches`,
        searches.length,
        `must not have more than ${DNS_SEARCH_CHARS_MAX} characters (including spaces) in the search list`,
      ),
    )
  searches.forEach((search, index) => {
    if (search !== '.') push(errors, `${at}.searches[${index}]`, search.replace(/\.$/, ''), searchProblem)
  })
  options.forEach(({ name, value }, index) => {
    // Written into resolv.conf as they are: a space or line break would add lines of its own.
    if (!name) errors.push(requiredValue(`${at}.options[${index}]`, 'must not be empty'))
    else if (!/^[-\w]{1,64}$/.test(name))
      errors.push(
        invalidValue(`${at}.options[${index}].name`, name, "must consist of letters, digits, '-' and '_'"),
      )
    if (value && !/^[-\w.]{1,64}$/.test(value))
      errors.push(
        invalidValue(
          `${at}.options[${index}].value`,
          value,
          "must consist of letters, digits, '.', '-' and '_'",
        ),
      )
  })
}

/** Like a subdomain, but underscores are in use for service discovery. */
function searchProblem(domain: string): string | undefined {
  return dnsSubdomainProblem(domain.replaceAll('_', 'x'))
}

function hostAliasErrors({ hostAliases = [] }: PodSpec, path: string, errors: FieldError[]): void {
  if (hostAliases.length > HOST_ALIASES_MAX)
    errors.push(tooMany(`${path}.hostAliases`, hostAliases.length, HOST_ALIASES_MAX))
  hostAliases.forEach(({ ip, hostnames = [] }, index) => {
    const at = `${path}.hostAliases[${index}]`
    if (!isIPv4(ip) && !/^[0-9a-fA-F:]{2,39}$/.test(ip))
      errors.push(
        invalidValue(`${at}.ip`, ip, 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'),
      )
    hostnames.forEach((hostname, nameIndex) =>
      push(errors, `${at}.hostnames[${nameIndex}]`, hostname, dnsSubdomainProblem),
    )
  })
}

function schedulingErrors(spec: PodSpec, path: string, errors: FieldError[]): void {
  spec.tolerations?.forEach(({ key, operator, value, effect, tolerationSeconds }, index) => {
    const at = `${path}.tolerations[${index}]`
    if (key) push(errors, `${at}.key`, key, qualifiedNameProblem)
    else if (operator !== undefined && operator !== 'Exists')
      errors.push(
        invalidValue(
          `${at}.operator`,
          operator,
          'operator must be Exists when `key` is empty, which means "match all values and all keys"',
        ),
      )
    if (operator === 'Exists' && value)
      errors.push(invalidValue(`${at}.operator`, value, "value must be empty when `operator` is 'Exists'"))
    if (tolerationSeconds !== undefined && effect !== 'NoExecute')
      errors.push(
        invalidValue(
          `${at}.effect`,
          effect ?? '',
          "effect must be 'NoExecute' when `tolerationSeconds` is set",
        ),
      )
  })
  const { podAffinity, podAntiAffinity, nodeAffinity } = spec.affinity ?? {}
  const required = nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution
  const demands = `${path}.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms`
  if (required?.nodeSelectorTerms.length === 0)
    errors.push(requiredValue(demands, 'must have at least one node selector term'))
  required?.nodeSelectorTerms.forEach((term, index) => nodeTermErrors(term, `${demands}[${index}]`, errors))
  nodeAffinity?.preferredDuringSchedulingIgnoredDuringExecution?.forEach(({ preference, weight }, index) => {
    const at = `${path}.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[${index}]`
    if (weight < 1 || weight > 100)
      errors.push(invalidValue(`${at}.weight`, weight, 'must be in the range 1-100'))
    nodeTermErrors(preference, `${at}.preference`, errors)
  })
  for (const [field, affinity] of [
    ['podAffinity', podAffinity],
    ['podAntiAffinity', podAntiAffinity],
  ] as const) {
    affinity?.preferredDuringSchedulingIgnoredDuringExecution?.forEach(({ weight }, index) => {
      if (weight < 1 || weight > 100)
        errors.push(
          invalidValue(
            `${path}.affinity.${field}.preferredDuringSchedulingIgnoredDuringExecution[${index}].weight`,
            weight,
            'must be in the range 1-100',
          ),
        )
    })
  }
}

type NodeTerm = NonNullable<
  NonNullable<
    NonNullable<PodSpec['affinity']>['nodeAffinity']
  >['requiredDuringSchedulingIgnoredDuringExecution']
>['nodeSelectorTerms'][number]

function nodeTermErrors(
  { matchExpressions, matchFields }: NodeTerm,
  path: string,
  errors: FieldError[],
): void {
  matchExpressions?.forEach(({ key, operator, values = [] }, index) => {
    const at = `${path}.matchExpressions[${index}]`
    push(errors, `${at}.key`, key, qualifiedNameProblem)
    if ((operator === 'In' || operator === 'NotIn') && values.length === 0)
      errors.push(requiredValue(`${at}.values`, "must be specified when `operator` is 'In' or 'NotIn'"))
    if ((operator === 'Exists' || operator === 'DoesNotExist') && values.length > 0)
      errors.push(
        forbiddenField(`${at}.values`, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"),
      )
    if ((operator === 'Gt' || operator === 'Lt') && values.length !== 1)
      errors.push(
        requiredValue(`${at}.values`, "must be specified single value when `operator` is 'Lt' or 'Gt'"),
      )
  })
  matchFields?.forEach(({ key, operator, values = [] }, index) => {
    const at = `${path}.matchFields[${index}]`
    if (key !== 'metadata.name') errors.push(invalidValue(`${at}.key`, key, 'not a valid field selector key'))
    if (operator !== 'In' && operator !== 'NotIn')
      errors.push(invalidValue(`${at}.operator`, operator, 'not a valid selector operator'))
    if (values.length !== 1)
      errors.push(
        requiredValue(
          `${at}.values`,
          "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
        ),
      )
  })
}

// --- the pod -------------------------------------------------------------------------------------------------------

const SET_BY_CONTROL_PLANE =
  'is set by the control plane, which places every pod on the virtual node; leave it out'

/** A template may not choose a node either. */
export function nodeNameErrors(spec: PodSpec | undefined, path: string): FieldError[] {
  return spec?.nodeName ? [forbiddenField(`${path}.nodeName`, SET_BY_CONTROL_PLANE)] : []
}

export function validatePod(pod: Pod, context: WriteContext, old?: Pod): FieldError[] {
  const errors = [...validatePodSpec(pod.spec, 'spec'), ...bandwidthErrors(pod, old)]
  const ours = context.user.kind === 'component'
  if (!old) return ours ? errors : [...errors, ...nodeNameErrors(pod.spec, 'spec')]
  if (!ours && hasEnded(pod) && !hasEnded(old))
    errors.push(
      forbiddenField(
        'status.phase',
        'only the platform says that a pod has ended: what has ended does not count for the quota',
      ),
    )
  // Without containers there is nothing to compare, and that is reported already.
  return pod.spec?.containers ? [...errors, ...podUpdateErrors(pod, old, { ours })] : errors
}

/** A pod that is there keeps what it was started with, so what it says later matters to nobody. */
function bandwidthErrors({ metadata }: Pod, old: Pod | undefined): FieldError[] {
  return Object.values(BANDWIDTH_ANNOTATIONS).flatMap((name) => {
    const value = metadata.annotations?.[name]
    return value === undefined || value === old?.metadata.annotations?.[name] || parseBandwidth(value)
      ? []
      : [invalidValue(`metadata.annotations[${name}]`, value, BANDWIDTH_PROBLEM)]
  })
}

function hasEnded({ status }: Pod): boolean {
  return status?.phase === 'Succeeded' || status?.phase === 'Failed'
}

const POD_UPDATE_PROBLEM =
  'pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,' +
  '`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),' +
  '`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)'

function podUpdateErrors(pod: Pod, old: Pod, { ours }: { ours: boolean }): FieldError[] {
  const errors: FieldError[] = []
  if (pod.spec.containers.length !== old.spec.containers.length)
    return [forbiddenField('spec.containers', 'pod updates may not add or remove containers')]
  if ((pod.spec.initContainers?.length ?? 0) !== (old.spec.initContainers?.length ?? 0))
    return [forbiddenField('spec.initContainers', 'pod updates may not add or remove containers')]

  const [deadline, oldDeadline] = [pod.spec.activeDeadlineSeconds, old.spec.activeDeadlineSeconds]
  if (oldDeadline !== undefined && (deadline === undefined || deadline > oldDeadline))
    errors.push(
      invalidValue(
        'spec.activeDeadlineSeconds',
        deadline ?? null,
        `must be less than or equal to previous value ${oldDeadline}`,
      ),
    )
  const missing = (old.spec.tolerations ?? []).filter(
    (toleration) =>
      !pod.spec.tolerations?.some((kept) =>
        equalField({ ...kept, tolerationSeconds: 0 }, { ...toleration, tolerationSeconds: 0 }),
      ),
  )
  if (missing.length > 0)
    errors.push(
      forbiddenField(
        'spec.tolerations',
        'existing toleration can not be modified except its tolerationSeconds',
      ),
    )

  const comparable = (spec: PodSpec): PodSpec => {
    const { activeDeadlineSeconds: _deadline, tolerations: _tolerations, ...rest } = spec
    if (ours) delete rest.nodeName
    const withoutImages = (containers: readonly Container[]) =>
      containers.map(({ image: _image, ...kept }) => ({ ...kept }))
    return {
      ...rest,
      containers: withoutImages(rest.containers),
      ...(rest.initContainers ? { initContainers: withoutImages(rest.initContainers) } : {}),
    }
  }
  if (!equalField(comparable(pod.spec), comparable(old.spec)))
    errors.push(forbiddenField('spec', POD_UPDATE_PROBLEM))
  return errors
}
