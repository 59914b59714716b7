import { lstatSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Layout } from '../../api/index.ts'
import type { ProcessPosture } from './processes.ts'

/** A file or directory as the kernel would let others at it. */
export type FilePosture = { path: string; uid: number; gid: number; mode: number; directory: boolean }

export type PlatformFiles = {
  /** With them one is the platform: key-encryption key, wrapped keys, private keys, credentials. */
  keys: readonly FilePosture[]
  /** What pods are started from, and which digests were pinned. */
  images: readonly FilePosture[]
  /** Logs of daemons, and the audit log. */
  logs: readonly FilePosture[]
  /** The directories of each pod: logs, writable layers, volumes, and in memory its Secrets. */
  pods: readonly (FilePosture & { pod: string })[]
  /** Tenants' partitions and the directories that hold them. */
  partitions: readonly (FilePosture & { tenant: string })[]
  /** The type of file system that holds the files of Secrets. */
  secretsIn: string
}

const KEYS = ['kek', 'keys', 'placements.json', 'operator.kubeconfig', 'report.key']
const POD = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

export function observePlatformFiles(layout: Layout, mounts: ProcessPosture['mounts']): PlatformFiles {
  const { stateDir, runDir } = layout
  const inside = (directory: string) => list(directory).map((name) => join(directory, name))
  const see = (paths: readonly string[]) => paths.flatMap((path) => observe(path) ?? [])
  const privateKeys = inside(join(stateDir, 'pki')).filter((path) => path.endsWith('.key'))
  const podsBelow = (directory: string) =>
    list(directory).flatMap((pod) =>
      POD.test(pod) ? see([join(directory, pod)]).map((file) => ({ ...file, pod })) : [],
    )
  return {
    keys: see([
      ...KEYS.map((name) => join(stateDir, name)),
      ...inside(join(stateDir, 'keys')),
      ...privateKeys,
    ]),
    images: see(['layers', 'pins', 'blobs'].map((name) => join(stateDir, 'images', name))),
    logs: see([join(stateDir, 'logs'), ...inside(join(stateDir, 'audit'))]),
    pods: [
      ...podsBelow(join(runDir, 'containers')),
      ...inside(join(runDir, 'containers/.ephemeral')).flatMap(podsBelow),
    ],
    partitions: list(join(stateDir, 'tenants')).flatMap((tenant) => {
      const directory = join(stateDir, 'tenants', tenant)
      return see([directory, ...inside(directory)]).map((file) => ({ ...file, tenant }))
    }),
    secretsIn: fileSystemOf(join(runDir, 'containers'), mounts),
  }
}

/** The mount that a path is on: the one whose point is the longest beginning of it. */
export function mountOf(
  path: string,
  mounts: ProcessPosture['mounts'],
): ProcessPosture['mounts'][number] | undefined {
  let best: ProcessPosture['mounts'][number] | undefined
  for (const mount of mounts) {
    const below = path === mount.mountPoint || path.startsWith(`${mount.mountPoint.replace(/\/$/, '')}/`)
    // Of two mounts at one point the later hides the earlier.
    if (below && mount.mountPoint.length >= (best?.mountPoint.length ?? 0)) best = mount
  }
  return best
}

export function fileSystemOf(path: string, mounts: ProcessPosture['mounts']): string {
  return mountOf(path, mounts)?.type ?? 'unknown'
}

function observe(path: string): FilePosture | undefined {
  try {
    const stat = lstatSync(path)
    return { path, uid: stat.uid, gid: stat.gid, mode: stat.mode & 0o7777, directory: stat.isDirectory() }
  } catch {
    return undefined
  }
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory)
  } catch {
    return []
  }
}
