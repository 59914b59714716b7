import { isIP } from 'node:net'
import {
  HARMLESS_CAPABILITIES,
  invalid,
  isDnsLabel,
  isDnsSubdomain,
  POD_LABELS_MAX,
  type TenantName,
} from '../api/index.ts'
import type {
  Jail,
  JailContainer,
  JailEnv,
  JailFile,
  JailHandler,
  JailMount,
  JailProbe,
  JailResources,
  JailVolume,
} from './jail.ts'
import { bandwidthShape } from './bandwidth.ts'
import { claimId } from './claimed-volume.ts'
import { labelText } from './egress.ts'
import * as limits from './limits.ts'
import {
  boolean,
  integer,
  join,
  kinds,
  list,
  noDuplicates,
  object,
  oneOf,
  optional,
  Problems,
  quote,
  required,
  text,
  type Shape,
} from './shape.ts'
import { isJailId, type JailId } from './uid.ts'

const ENV_NAME = /^[ -<>-~]+$/
const IMAGE_REFERENCE = /^[!-~]+$/
const PORT_NAME = /^[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$/
const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/
const RESOLVER_OPTION = /^[a-z0-9-]{1,32}(:[0-9]{1,5})?$/

/** Where a mount would hide what the kernel, the runtime or our masks put there. */
const FORBIDDEN_MOUNT_TREES = ['/proc', '/sys', '/dev'] as const
/** The one place below them where programs expect to find a tmpfs. */
const SHARED_MEMORY = '/dev/shm'

/**
 * Reads a jail as hostile input: only known fields, every string, list and number bounded, every path normalized.
 * `tenant` is that of the channel the jail came through.
 * @throws {ApiError} Invalid (422), listing the problems.
 */
export function parseJail(value: unknown, { tenant }: { tenant: TenantName }): Jail {
  const problems = new Problems()
  const jail = jailShape(value, '', problems)
  if (jail) {
    if (jail.tenant !== tenant)
      problems.add('FieldValueForbidden', 'tenant', 'must be the tenant that this channel belongs to')
    checkReferences(jail, problems)
  }
  if (!jail || problems.list.length > 0)
    throw invalid({ group: '', kind: 'Jail', name: nameOf(value) }, problems.list)
  return jail
}

function nameOf(value: unknown): string {
  const id =
    typeof value === 'object' && value !== null && Object.hasOwn(value, 'id')
      ? (value as { id: unknown }).id
      : ''
  return typeof id === 'string' && isJailId(id) ? id : ''
}

const dnsLabel = text({ min: 1, max: 63, problem: (v) => (isDnsLabel(v) ? undefined : 'is not a DNS label') })
const dnsSubdomain = text({
  min: 1,
  max: 253,
  problem: (v) => (isDnsSubdomain(v) ? undefined : 'is not a DNS subdomain'),
})
const ipAddress = text({
  min: 1,
  max: 45,
  problem: (v) => (isIP(v) === 0 || v.includes('%') ? 'is not an IP address' : undefined),
})
const port = integer(1, 65_535)
const userOrGroup = integer(0, limits.ID_MAX)
const argument = text({ max: limits.ARGUMENT_BYTES_MAX })
const command = list(argument, { max: limits.ARGUMENTS_MAX })
const execCommand = list(argument, { min: 1, max: limits.ARGUMENTS_MAX })

function segmentProblem(path: string): string | undefined {
  for (const segment of path.split('/')) {
    if (segment === '') return 'has an empty segment'
    if (segment === '.' || segment === '..') return 'must not contain "." or ".." segments'
    if (Buffer.byteLength(segment) > limits.PATH_SEGMENT_BYTES_MAX)
      return `has a segment of more than ${limits.PATH_SEGMENT_BYTES_MAX} bytes`
  }
  return undefined
}

const absolutePath = text({
  min: 1,
  max: limits.PATH_BYTES_MAX,
  problem(path) {
    if (!path.startsWith('/')) return 'must be an absolute path'
    return path === '/' ? undefined : segmentProblem(path.slice(1))
  },
})

function underTree(path: string, tree: string): boolean {
  return path === tree || path.startsWith(`${tree}/`)
}

const mountPath = text({
  min: 1,
  max: limits.PATH_BYTES_MAX,
  problem(path) {
    if (!path.startsWith('/') || path === '/') return 'must be an absolute path below "/"'
    if (path.includes(':')) return 'must not contain ":"'
    const tree = FORBIDDEN_MOUNT_TREES.find((t) => underTree(path, t))
    if (tree && path !== SHARED_MEMORY) return `must not be in ${tree}`
    return segmentProblem(path.slice(1))
  },
})

/** The kubelet writes to this path's mount, so it must not lie where only the kernel writes. */
const terminationMessagePath = text({
  min: 1,
  max: limits.PATH_BYTES_MAX,
  problem(path) {
    if (!path.startsWith('/') || path === '/') return 'must be an absolute path below "/"'
    if (underTree(path, '/proc') || underTree(path, '/sys')) return 'must not be in /proc or /sys'
    return segmentProblem(path.slice(1))
  },
})

const subPath = text({
  min: 1,
  max: limits.FILE_PATH_BYTES_MAX,
  problem: (path) => (path.startsWith('/') ? 'must be a relative path' : segmentProblem(path)),
})

const filePath = text({
  min: 1,
  max: limits.FILE_PATH_BYTES_MAX,
  problem(path) {
    if (path.startsWith('/')) return 'must be a relative path'
    // `..data` and its like are the links that make an update of a volume atomic.
    if (path.split('/').some((segment) => segment.startsWith('..')))
      return 'must not have a segment that begins with ".."'
    return segmentProblem(path)
  },
})

const base64: Shape<string> = (value, field, problems) => {
  if (typeof value !== 'string')
    return problems.add('FieldValueTypeInvalid', field, `must be a string, not ${quote(value)}`)
  if (value.length > Math.ceil(limits.FILES_BYTES_MAX / 3) * 4)
    return problems.add(
      'FieldValueTooLong',
      field,
      `must have at most ${limits.FILES_BYTES_MAX} bytes once decoded`,
    )
  // Node skips what it does not know, so only a round trip tells that all of it was base64.
  if (Buffer.from(value, 'base64').toString('base64') !== value)
    return problems.add('FieldValueInvalid', field, 'must be base64 with padding')
  return value
}

const handlers = {
  exec: object<Extract<JailHandler, { kind: 'exec' }>>({
    kind: required(oneOf('exec')),
    command: required(execCommand),
  }),
  httpGet: object<Extract<JailHandler, { kind: 'httpGet' }>>({
    kind: required(oneOf('httpGet')),
    port: required(port),
    path: required(
      text({
        min: 1,
        max: limits.PROBE_PATH_CHARS_MAX,
        // A line break or a space would let the path write a request of its own.
        problem: (v) =>
          /^\/[^\s\p{Cc}]*$/u.test(v)
            ? undefined
            : 'must begin with "/" and have no spaces or control characters',
      }),
    ),
    scheme: required(oneOf('HTTP', 'HTTPS')),
    headers: required(
      list(
        object<{ name: string; value: string }>({
          name: required(
            text({
              min: 1,
              max: limits.PROBE_HEADER_NAME_CHARS_MAX,
              problem: (v) => (HEADER_NAME.test(v) ? undefined : 'is not an HTTP header name'),
            }),
          ),
          value: required(
            text({
              max: limits.PROBE_HEADER_VALUE_CHARS_MAX,
              problem: (v) => (/^[\t -~\u00a0-\u00ff]*$/.test(v) ? undefined : 'is not an HTTP header value'),
            }),
          ),
        }),
        { max: limits.PROBE_HEADERS_MAX },
      ),
    ),
  }),
  tcpSocket: object<Extract<JailHandler, { kind: 'tcpSocket' }>>({
    kind: required(oneOf('tcpSocket')),
    port: required(port),
  }),
  sleep: object<Extract<JailHandler, { kind: 'sleep' }>>({
    kind: required(oneOf('sleep')),
    seconds: required(integer(0, limits.INT32_MAX)),
  }),
  grpc: object<Extract<JailProbe['handler'], { kind: 'grpc' }>>({
    kind: required(oneOf('grpc')),
    port: required(port),
    service: required(text({ max: 1_024 })),
  }),
}

const handler = kinds<JailHandler>({
  exec: handlers.exec,
  httpGet: handlers.httpGet,
  tcpSocket: handlers.tcpSocket,
  sleep: handlers.sleep,
})

const probe = object<JailProbe>({
  handler: required(
    kinds<JailProbe['handler']>({
      exec: handlers.exec,
      httpGet: handlers.httpGet,
      tcpSocket: handlers.tcpSocket,
      grpc: handlers.grpc,
    }),
  ),
  initialDelaySeconds: required(integer(0, limits.INT32_MAX)),
  timeoutSeconds: required(integer(1, limits.INT32_MAX)),
  periodSeconds: required(integer(1, limits.INT32_MAX)),
  successThreshold: required(integer(1, limits.INT32_MAX)),
  failureThreshold: required(integer(1, limits.INT32_MAX)),
  terminationGracePeriodSeconds: optional(integer(1, limits.INT32_MAX)),
})

const envName = text({
  min: 1,
  max: limits.ENV_NAME_CHARS_MAX,
  problem: (v) => (ENV_NAME.test(v) ? undefined : 'must be printable ASCII without "="'),
})
const envValue = object<Extract<JailEnv, { value: string }>>({
  name: required(envName),
  value: required(text({ max: limits.ARGUMENT_BYTES_MAX })),
})
const envFromPod = object<Extract<JailEnv, { fromPod: string }>>({
  name: required(envName),
  fromPod: required(oneOf('podIP', 'podIPs', 'hostIP')),
})
const env: Shape<JailEnv> = (value, field, problems) =>
  typeof value === 'object' && value !== null && Object.hasOwn(value, 'fromPod')
    ? envFromPod(value, field, problems)
    : envValue(value, field, problems)

const bytes = integer(0, limits.BYTES_MAX)
const resources = object<JailResources>({
  cpuMillisRequest: required(integer(0, limits.CPU_MILLIS_MAX)),
  cpuMillisLimit: optional(integer(1, limits.CPU_MILLIS_MAX)),
  memoryBytesRequest: required(bytes),
  memoryBytesLimit: optional(integer(1, limits.BYTES_MAX)),
  ephemeralStorageBytesLimit: optional(bytes),
})

const container = object<JailContainer>({
  name: required(dnsLabel),
  image: required(
    text({
      min: 1,
      max: limits.IMAGE_REFERENCE_CHARS_MAX,
      problem: (v) => (IMAGE_REFERENCE.test(v) ? undefined : 'must be printable ASCII without spaces'),
    }),
  ),
  imagePullPolicy: required(oneOf('Always', 'IfNotPresent', 'Never')),
  command: optional(command),
  args: optional(command),
  workingDir: optional(absolutePath),
  env: required(list(env, { max: limits.ENV_MAX })),
  runAsUser: optional(userOrGroup),
  runAsGroup: optional(userOrGroup),
  supplementalGroups: required(list(userOrGroup, { max: limits.SUPPLEMENTAL_GROUPS_MAX })),
  runAsNonRoot: required(boolean),
  readOnlyRootFilesystem: required(boolean),
  capabilities: optional(list(oneOf(...HARMLESS_CAPABILITIES), { max: HARMLESS_CAPABILITIES.length })),
  mounts: required(
    list(
      object<JailMount>({
        volume: required(dnsLabel),
        mountPath: required(mountPath),
        readOnly: required(boolean),
        subPath: optional(subPath),
      }),
      { max: limits.MOUNTS_PER_CONTAINER_MAX },
    ),
  ),
  resources: required(resources),
  ports: required(
    list(
      object<JailContainer['ports'][number]>({
        name: optional(
          text({ min: 1, max: 15, problem: (v) => (PORT_NAME.test(v) ? undefined : 'is not a port name') }),
        ),
        containerPort: required(port),
        protocol: required(oneOf('TCP', 'UDP', 'SCTP')),
      }),
      { max: limits.PORTS_PER_CONTAINER_MAX },
    ),
  ),
  livenessProbe: optional(probe),
  readinessProbe: optional(probe),
  startupProbe: optional(probe),
  lifecycle: required(
    object<JailContainer['lifecycle']>({ postStart: optional(handler), preStop: optional(handler) }),
  ),
  terminationMessagePath: required(terminationMessagePath),
  terminationMessagePolicy: required(oneOf('File', 'FallbackToLogsOnError')),
  stdin: required(boolean),
  stdinOnce: required(boolean),
  tty: required(boolean),
  restartPolicy: optional(oneOf('Always')),
})

const volume = kinds<JailVolume>({
  files: object<Extract<JailVolume, { kind: 'files' }>>({
    name: required(dnsLabel),
    kind: required(oneOf('files')),
    files: required(
      list(
        object<JailFile>({
          path: required(filePath),
          mode: required(integer(0, 0o777)),
          owner: optional(userOrGroup),
          contentBase64: required(base64),
        }),
        { max: limits.FILES_PER_VOLUME_MAX },
      ),
    ),
  }),
  scratch: object<Extract<JailVolume, { kind: 'scratch' }>>({
    name: required(dnsLabel),
    kind: required(oneOf('scratch')),
    medium: required(oneOf('disk', 'memory')),
    sizeBytesMax: required(bytes),
  }),
  claim: object<Extract<JailVolume, { kind: 'claim' }>>({
    name: required(dnsLabel),
    kind: required(oneOf('claim')),
    claim: required(claimId),
    readOnly: required(boolean),
  }),
})

const jailShape = object<Jail>({
  id: required(
    text({
      max: 36,
      problem: (v) => (isJailId(v) ? undefined : 'is not a lower-case RFC 9562 UUID'),
    }) as Shape<JailId>,
  ),
  // Compared with the channel's own name, which has been parsed; so it needs no more than to be equal.
  tenant: required(text({ min: 1, max: 32 }) as Shape<TenantName>),
  namespace: required(dnsLabel),
  pod: required(dnsSubdomain),
  labels: optional(list(labelText, { max: POD_LABELS_MAX })),
  hostname: required(dnsLabel),
  subdomain: optional(dnsLabel),
  runtime: required(oneOf('runc', 'gvisor')),
  priority: optional(integer(-limits.INT32_MAX - 1, limits.INT32_MAX)),
  restartPolicy: required(oneOf('Always', 'OnFailure', 'Never')),
  terminationGracePeriodSeconds: required(integer(0, limits.INT32_MAX)),
  activeDeadlineSeconds: optional(integer(1, limits.INT32_MAX)),
  fsGroup: optional(userOrGroup),
  initContainers: required(list(container, { max: limits.INIT_CONTAINERS_MAX })),
  containers: required(list(container, { min: 1, max: limits.CONTAINERS_MAX })),
  volumes: required(list(volume, { max: limits.VOLUMES_MAX })),
  dns: required(
    object<Jail['dns']>({
      searches: required(
        list(
          text({ min: 1, max: 253, problem: (v) => (isSearchDomain(v) ? undefined : 'is not a DNS name') }),
          {
            max: limits.DNS_SEARCHES_MAX,
          },
        ),
      ),
      nameservers: optional(list(ipAddress, { max: limits.DNS_NAMESERVERS_MAX })),
      resolverFirst: optional(boolean),
      options: required(
        list(
          text({
            min: 1,
            max: 40,
            problem: (v) => (RESOLVER_OPTION.test(v) ? undefined : 'is not an option of resolv.conf'),
          }),
          { max: limits.DNS_OPTIONS_MAX },
        ),
      ),
    }),
  ),
  hostAliases: required(
    list(
      object<Jail['hostAliases'][number]>({
        ip: required(ipAddress),
        hostnames: required(list(dnsSubdomain, { min: 1, max: limits.HOSTNAMES_PER_ALIAS_MAX })),
      }),
      { max: limits.HOST_ALIASES_MAX },
    ),
  ),
  bandwidth: optional(bandwidthShape),
})

function isSearchDomain(value: string): boolean {
  return value === '.' || isDnsSubdomain(value.endsWith('.') ? value.slice(0, -1) : value)
}

/** What holds between fields. */
function checkReferences(jail: Jail, problems: Problems): void {
  noDuplicates(jail.volumes, 'volumes', problems, (v) => v.name, 'name')
  let filesBytes = 0
  let filesCount = 0
  for (const [index, each] of jail.volumes.entries()) {
    if (each.kind !== 'files') continue
    filesCount += each.files.length
    if (filesCount > limits.FILES_MAX) break
    checkFiles(each.files, `volumes[${index}].files`, problems)
    for (const file of each.files) filesBytes += Buffer.byteLength(file.contentBase64, 'base64')
  }
  if (filesCount > limits.FILES_MAX)
    problems.add('FieldValueTooMany', 'volumes', `files must be at most ${limits.FILES_MAX} together`)
  if (filesBytes > limits.FILES_BYTES_MAX)
    problems.add(
      'FieldValueTooLong',
      'volumes',
      `files must have at most ${limits.FILES_BYTES_MAX} bytes together`,
    )

  const volumes = new Set(jail.volumes.map((v) => v.name))
  const names = new Set<string>()
  for (const field of ['initContainers', 'containers'] as const)
    for (const [index, each] of jail[field].entries()) {
      const at = `${field}[${index}]`
      if (names.has(each.name))
        problems.add('FieldValueDuplicate', `${at}.name`, `${quote(each.name)} is there twice`)
      names.add(each.name)
      checkContainer(each, at, { volumes, sidecarAllowed: field === 'initContainers' }, problems)
    }
}

function checkContainer(
  each: JailContainer,
  at: string,
  { volumes, sidecarAllowed }: { volumes: ReadonlySet<string>; sidecarAllowed: boolean },
  problems: Problems,
): void {
  if (each.restartPolicy && !sidecarAllowed)
    problems.add('FieldValueForbidden', `${at}.restartPolicy`, 'may only be set in initContainers')
  const runsToCompletion = sidecarAllowed && !each.restartPolicy
  for (const name of ['livenessProbe', 'readinessProbe', 'startupProbe'] as const) {
    const each_ = each[name]
    if (!each_) continue
    if (runsToCompletion)
      problems.add(
        'FieldValueForbidden',
        `${at}.${name}`,
        'may not be set for an init container without restartPolicy=Always',
      )
    if (name !== 'readinessProbe' && each_.successThreshold !== 1)
      problems.add('FieldValueInvalid', `${at}.${name}.successThreshold`, 'must be 1')
    if (name === 'readinessProbe' && each_.terminationGracePeriodSeconds !== undefined)
      problems.add(
        'FieldValueForbidden',
        `${at}.${name}.terminationGracePeriodSeconds`,
        'has no meaning for readiness',
      )
  }
  if (runsToCompletion && (each.lifecycle.postStart || each.lifecycle.preStop))
    problems.add(
      'FieldValueForbidden',
      `${at}.lifecycle`,
      'may not be set for an init container without restartPolicy=Always',
    )

  noDuplicates(each.capabilities ?? [], `${at}.capabilities`, problems, (c) => c)
  noDuplicates(each.mounts, `${at}.mounts`, problems, (m) => m.mountPath, 'mountPath')
  for (const [index, mount] of each.mounts.entries())
    if (!volumes.has(mount.volume))
      problems.add(
        'FieldValueNotFound',
        `${at}.mounts[${index}].volume`,
        `no volume is named ${quote(mount.volume)}`,
      )
  noDuplicates(each.ports, `${at}.ports`, problems, (p) => p.name, 'name')

  let argumentBytes = 0
  for (const word of [...(each.command ?? []), ...(each.args ?? [])])
    argumentBytes += Buffer.byteLength(word) + 1
  for (const variable of each.env)
    argumentBytes +=
      Buffer.byteLength(variable.name) + ('value' in variable ? Buffer.byteLength(variable.value) : 64) + 2
  if (argumentBytes > limits.ARGUMENTS_AND_ENV_BYTES_MAX)
    problems.add(
      'FieldValueTooLong',
      at,
      `command, args and env must have at most ${limits.ARGUMENTS_AND_ENV_BYTES_MAX} bytes together`,
    )

  const { cpuMillisRequest, cpuMillisLimit, memoryBytesRequest, memoryBytesLimit } = each.resources
  if (cpuMillisLimit !== undefined && cpuMillisRequest > cpuMillisLimit)
    problems.add('FieldValueInvalid', `${at}.resources.cpuMillisRequest`, 'must not be more than the limit')
  if (memoryBytesLimit !== undefined && memoryBytesRequest > memoryBytesLimit)
    problems.add('FieldValueInvalid', `${at}.resources.memoryBytesRequest`, 'must not be more than the limit')
}

/** No file twice, and none that is also the directory of another. */
function checkFiles(files: readonly JailFile[], field: string, problems: Problems): void {
  noDuplicates(files, field, problems, (f) => f.path, 'path')
  const paths = new Set(files.map((f) => f.path))
  for (const [index, { path }] of files.entries())
    for (let slash = path.indexOf('/'); slash !== -1; slash = path.indexOf('/', slash + 1))
      if (paths.has(path.slice(0, slash)))
        problems.add(
          'FieldValueInvalid',
          join(`${field}[${index}]`, 'path'),
          `${quote(path)} lies below another file`,
        )
}
