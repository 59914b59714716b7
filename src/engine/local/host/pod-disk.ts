import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { join, relative } from 'node:path'
import type { Layout, TenantName } from '../../../api/index.ts'
import type { JailId } from '../../../jail/index.ts'
import type { DiskRoom, DiskUsage, FullFileSystem } from '../plan/disk.ts'
import { isWhole, releaseVolumes, removeTree } from './ephemeral.ts'
import { DISK_MEASURE_TIMEOUT_MS, TOOL_OUTPUT_BYTES_MAX } from './limits.ts'
import { isMountPoint } from './machine.ts'
import { mountsBelow, unmountBelow } from './mounts.ts'
import { Places } from './places.ts'

/** What pods occupy on this machine's disk. */
export interface PodDisk {
  /** @throws when it takes too long to find out. */
  measure(id: JailId): Promise<DiskUsage>
  /** Of the machine's disk, which the tenants' file systems are on. */
  room(): Promise<DiskRoom>
  /** Of the tenant's file system; undefined while it has none. */
  tenantRoom(tenant: TenantName): Promise<DiskRoom | undefined>
  /** Removes the volumes of a pod whose containers are gone; safe to repeat. */
  release(id: JailId): Promise<void>
}

const NOTHING: DiskUsage = {
  total: 0,
  files: 0,
  volumes: new Map(),
  layers: new Map(),
  logs: new Map(),
  full: [],
}
/**
 * As good as full: a large write fails while there is room for a small one. Of a small file system it is a part, of a large one
 * a few pages of the largest size.
 */
const FULL_PART = 16
const FULL_BLOCKS_MAX = 512
const FULL_FILES_PART = 200

export function createPodDisk(layout: Layout): PodDisk {
  const places = new Places(layout)
  return {
    async measure(id) {
      const root = places.podDisk(id)
      if (!existsSync(root)) return NOTHING
      const usage = parseUsage(await du(root, ['--block-size=1', '--max-depth=2']), root)
      // The second look finds everything in the kernel's memory.
      const { total: files } = parseUsage(await du(root, ['--inodes', '--max-depth=0']), root)
      return { ...usage, files, full: await observeFull(places, id) }
    },
    room: () => roomOf(layout.stateDir),
    async tenantRoom(tenant) {
      const mountPoint = places.ephemeralMount(tenant)
      return isMountPoint(mountPoint) ? await roomOf(mountPoint) : undefined
    },
    async release(id) {
      const inMemory = join(places.pod(id), 'volumes')
      unmountBelow(inMemory)
      await removeTree(inMemory)
      await releaseVolumes(places, id)
    },
  }
}

async function roomOf(directory: string): Promise<DiskRoom> {
  const { bsize, blocks, bavail, files, ffree } = await statfs(directory)
  return { bytes: blocks * bsize, bytesFree: bavail * bsize, files, filesFree: ffree }
}

/** Of the pod's own file system or else its tenant's, and of its volumes with limits. */
async function observeFull(places: Places, id: JailId): Promise<FullFileSystem[]> {
  const volumes = places.diskVolumes(id)
  const found: FullFileSystem[] = []
  for (const point of mountsBelow(places.podDisk(id))) {
    const { blocks, bavail, files, ffree } = await statfs(point)
    const of: FullFileSystem['of'] = point.startsWith(`${volumes}/`)
      ? { kind: 'volume', name: relative(volumes, point) }
      : { kind: isWhole(point) ? 'pod' : 'tenant' }
    if (bavail < Math.min(FULL_BLOCKS_MAX, blocks / FULL_PART)) found.push({ of, what: 'bytes' })
    if (ffree < files / FULL_FILES_PART) found.push({ of, what: 'files' })
  }
  return found
}

/**
 * `du` walks with descriptors and follows no link, so it comes through whatever a tenant has built, and into volumes with
 * file systems of their own. It leaves with an error when a file vanishes under it, and its sums are good all the same.
 */
function du(root: string, options: readonly string[]): Promise<string> {
  const done = Promise.withResolvers<string>()
  execFile(
    'nice',
    ['-n', '19', 'du', ...options, '--', root],
    {
      timeout: DISK_MEASURE_TIMEOUT_MS,
      maxBuffer: TOOL_OUTPUT_BYTES_MAX,
      killSignal: 'SIGKILL',
      encoding: 'utf8',
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
    },
    (error, stdout) => {
      if (error && error.code !== 1)
        done.reject(new Error(`Cannot measure what is in "${root}"`, { cause: error }))
      else done.resolve(stdout)
    },
  )
  return done.promise
}

/** Only names that are ours come so near to the root. */
export function parseUsage(text: string, root: string): Omit<DiskUsage, 'full'> {
  const usage = {
    total: 0,
    files: 0,
    volumes: new Map<string, number>(),
    layers: new Map<string, number>(),
    logs: new Map<string, number>(),
  }
  for (const line of text.split('\n')) {
    const [, bytes, path] = /^(\d{1,18})\t(.{1,4096})$/.exec(line) ?? []
    if (bytes === undefined || path === undefined) continue
    const [kind = '', name = '', ...deeper] = relative(root, path).split('/')
    if (kind === '') usage.total = Number(bytes)
    else if (
      name !== '' &&
      deeper.length === 0 &&
      (kind === 'volumes' || kind === 'layers' || kind === 'logs')
    )
      usage[kind].set(name, Number(bytes))
  }
  return usage
}
