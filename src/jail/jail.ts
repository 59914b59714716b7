import type { HarmlessCapability, TenantName } from '../api/index.ts'
import type { BandwidthCaps } from './bandwidth.ts'
import type { ClaimId, JailId } from './uid.ts'

/**
 * One pod, with nothing in it that could be unsafe: there is no field for privileged mode, host paths, host
 * namespaces, devices, dangerous capabilities or security profiles, so such a workload cannot be written down. References
 * to ConfigMaps, Secrets and fields are already resolved, so an engine needs no access to a tenant's objects.
 *
 * What every engine adds, always: the tenant's user namespace and uid range, a network, pid, ipc, uts, mount and cgroup
 * namespace of the pod's own, a seccomp allowlist, no_new_privs, the harmless capabilities only, masked paths.
 */
export type Jail = {
  id: JailId
  tenant: TenantName
  /** For people and DNS names only; an engine never decides by them. */
  namespace: string
  pod: string
  /** As `labelTexts` writes them. Rules for the outside may be for some of the tenant's pods only, by what it calls them. */
  labels?: readonly string[]
  hostname: string
  /** With `hostname` makes the pod's DNS name under a headless service. */
  subdomain?: string
  /** At least this strong; an engine uses gvisor for a tenant whose class demands it, whatever is written here. */
  runtime: JailRuntime
  /** Which of the tenant's own pods go last. Never compared with another tenant's. 0 when absent. */
  priority?: number
  restartPolicy: 'Always' | 'OnFailure' | 'Never'
  terminationGracePeriodSeconds: number
  activeDeadlineSeconds?: number
  /** The group, inside the pod's user namespace, that owns volumes. */
  fsGroup?: number
  initContainers: readonly JailContainer[]
  containers: readonly JailContainer[]
  volumes: readonly JailVolume[]
  /** resolv.conf of the pod; an engine puts its own resolver in when `nameservers` is absent. */
  dns: {
    searches: readonly string[]
    nameservers?: readonly string[]
    /** The engine's own resolver goes before `nameservers`. */
    resolverFirst?: boolean
    options: readonly string[]
  }
  hostAliases: readonly { ip: string; hostnames: readonly string[] }[]
  /** Of its own, within what its tenant has. */
  bandwidth?: BandwidthCaps
}

export type JailRuntime = 'runc' | 'gvisor'

export type JailContainer = {
  /** A DNS label, unique within the jail. */
  name: string
  /** As the user wrote it; the engine pins it to a digest and reports the pin in the status. */
  image: string
  imagePullPolicy: 'Always' | 'IfNotPresent' | 'Never'
  /** Override the image's Entrypoint and Cmd; texts as in `jail-text.ts`. */
  command?: readonly string[]
  args?: readonly string[]
  workingDir?: string
  env: readonly JailEnv[]
  /** Inside the pod's user namespace, 0 to 65535. The image's user when absent. */
  runAsUser?: number
  runAsGroup?: number
  supplementalGroups: readonly number[]
  /** Refuse to start as uid 0 (KEP-less, from the Pod API). */
  runAsNonRoot: boolean
  readOnlyRootFilesystem: boolean
  /** What root in the container may do, within the tenant's user namespace; all that are harmless when absent. */
  capabilities?: readonly HarmlessCapability[]
  mounts: readonly JailMount[]
  resources: JailResources
  ports: readonly { name?: string; containerPort: number; protocol: 'TCP' | 'UDP' | 'SCTP' }[]
  livenessProbe?: JailProbe
  readinessProbe?: JailProbe
  startupProbe?: JailProbe
  lifecycle: { postStart?: JailHandler; preStop?: JailHandler }
  terminationMessagePath: string
  terminationMessagePolicy: 'File' | 'FallbackToLogsOnError'
  stdin: boolean
  stdinOnce: boolean
  tty: boolean
  /** Only in `initContainers`: `Always` makes a sidecar (KEP-753). */
  restartPolicy?: 'Always'
}

export type JailEnv =
  /** A text as in `jail-text.ts`. */
  | { name: string; value: string }
  /** Known only to the engine. */
  | { name: string; fromPod: 'podIP' | 'podIPs' | 'hostIP' }

export type JailMount = { volume: string; mountPath: string; readOnly: boolean; subPath?: string }

export type JailResources = {
  /** cpu.weight follows the request; 1000 = one core. */
  cpuMillisRequest: number
  cpuMillisLimit?: number
  memoryBytesRequest: number
  memoryBytesLimit?: number
  ephemeralStorageBytesLimit?: number
}

export type JailVolume =
  /** ConfigMaps, Secrets, downward API and projections, resolved. Kept in memory, never on a disk. */
  | { name: string; kind: 'files'; files: readonly JailFile[] }
  /** emptyDir. */
  | { name: string; kind: 'scratch'; medium: 'disk' | 'memory'; sizeBytesMax: number }
  /**
   * A volume that the tenant has had made on the machine and that outlives the pod. The id finds nothing but the
   * tenant's own.
   */
  | { name: string; kind: 'claim'; claim: ClaimId; readOnly: boolean }

export type JailFile = {
  /** Relative, normalized, never climbing. */
  path: string
  /** Permission bits, such as 0o644. */
  mode: number
  /** The user, inside the pod's user namespace, that it belongs to; root when absent. */
  owner?: number
  contentBase64: string
}

export type JailHandler =
  | { kind: 'exec'; command: readonly string[] }
  /** Connects from inside the pod's own network namespace, to the pod itself only: a probe cannot be aimed elsewhere. */
  | {
      kind: 'httpGet'
      port: number
      path: string
      scheme: 'HTTP' | 'HTTPS'
      headers: readonly { name: string; value: string }[]
    }
  | { kind: 'tcpSocket'; port: number }
  | { kind: 'sleep'; seconds: number }

export type JailProbe = {
  handler: Exclude<JailHandler, { kind: 'sleep' }> | { kind: 'grpc'; port: number; service: string }
  initialDelaySeconds: number
  timeoutSeconds: number
  periodSeconds: number
  successThreshold: number
  failureThreshold: number
  terminationGracePeriodSeconds?: number
}
