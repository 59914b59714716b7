/**
 * The part of the OCI runtime configuration that we write.
 * https://github.com/opencontainers/runtime-spec/blob/v1.0.2/config.md
 */
export type OciMount = { destination: string; type: string; source: string; options: string[] }

export type OciNamespace = {
  type: 'user' | 'network' | 'ipc' | 'uts' | 'pid' | 'mount' | 'cgroup'
  path?: string
}

export type OciProcess = {
  terminal: boolean
  user: { uid: number; gid: number; additionalGids: number[] }
  args: string[]
  env: string[]
  cwd: string
  capabilities: { bounding: string[]; effective: string[]; permitted: string[] }
  rlimits: { type: string; hard: number; soft: number }[]
  noNewPrivileges: true
  oomScoreAdj: number
}

export type OciSeccompRule = {
  names: string[]
  action: 'SCMP_ACT_ALLOW' | 'SCMP_ACT_ERRNO'
  errnoRet?: number
  args?: { index: number; value: number; valueTwo?: number; op: 'SCMP_CMP_EQ' | 'SCMP_CMP_MASKED_EQ' }[]
}

export type OciSeccomp = {
  defaultAction: 'SCMP_ACT_ERRNO' | 'SCMP_ACT_TRACE'
  defaultErrnoRet?: number
  architectures: string[]
  syscalls: OciSeccompRule[]
}

export type OciResources = {
  devices?: { allow: boolean; access: string }[]
  memory?: { limit: number; swap?: number }
  cpu?: { shares: number; quota?: number; period?: number }
  pids?: { limit: number }
}

export type IdMapping = { containerID: number; hostID: number; size: number }

export type OciConfig = {
  ociVersion: '1.0.2'
  process: OciProcess
  root: { path: string; readonly: boolean }
  hostname?: string
  mounts: OciMount[]
  annotations: Record<string, string>
  linux: {
    namespaces: OciNamespace[]
    uidMappings: IdMapping[]
    gidMappings: IdMapping[]
    cgroupsPath: string
    resources: OciResources
    rootfsPropagation: 'private'
    maskedPaths: string[]
    readonlyPaths: string[]
    seccomp?: OciSeccomp
  }
}
