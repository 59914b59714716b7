import { existsSync, readdirSync, readFileSync, realpathSync, statfsSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { Layout } from '../../api/index.ts'
import type { ProcessPosture } from './processes.ts'

/** Something on the way to the bytes of a tenant's volume: a directory, the file, its device or where it is mounted. */
export type VolumePath = { path: string; uid: number; mode: number }

/** A volume that outlives pods, as it lies on the machine. */
export type VolumePosture = {
  tenant: string
  id: string
  device: string | undefined
  paths: readonly VolumePath[]
}

const BLOCKS_OF_STAT = 512
const UNREADABLE = { uid: -1, mode: 0o777 }

/** Every volume below the platform's directory. `mounts` are those of the machine. */
export function observeVolumes(layout: Layout, mounts: ProcessPosture['mounts']): VolumePosture[] {
  const root = volumesRoot(layout)
  const devices = new Map(loopDevices().map(({ device, file }) => [file, device]))
  return list(root).flatMap((tenant) =>
    list(join(root, tenant)).map((id) => {
      const directory = join(root, tenant, id)
      const image = join(directory, 'image')
      const device = devices.get(image)
      // The directory above the mount keeps others out; the mount itself may be anybody's.
      const mounted = mounts
        .filter(({ source }) => source === device)
        .map(({ mountPoint }) => dirname(mountPoint))
      const paths = [
        root,
        join(root, tenant),
        directory,
        image,
        ...(device === undefined ? [] : [device]),
        ...mounted,
      ]
      return { tenant, id, device, paths: paths.map(observePath) }
    }),
  )
}

/** A tenant's file system for what is ephemeral, as the kernel has it. */
export type EphemeralPosture = {
  tenant: string
  device: string
  /** The end of the file that it is in: the file system cannot grow past it. */
  fileBytes: number
  bytes: number
  usedBytes: number
  files: number
  /** What it can still take from the disk that the file is on. */
  canTakeBytes: number
}

/** Those that are mounted. `mounts` are those of the machine. */
export function observeEphemeral(layout: Layout, mounts: ProcessPosture['mounts']): EphemeralPosture[] {
  const root = realPath(join(layout.stateDir, 'ephemeral'))
  return loopDevices().flatMap(({ device, file }) => {
    const mount = mounts.find(({ source, root: part }) => source === device && part === '/')
    if (!mount || dirname(file) !== root) return []
    try {
      const { size, blocks: taken } = statSync(file)
      const { bsize, blocks, bfree, files } = statfsSync(mount.mountPoint)
      const canTakeBytes = Math.max(0, size - taken * BLOCKS_OF_STAT)
      const usedBytes = (blocks - bfree) * bsize
      return [
        {
          tenant: basename(file),
          device,
          fileBytes: size,
          bytes: blocks * bsize,
          usedBytes,
          files,
          canTakeBytes,
        },
      ]
    } catch {
      return [] // It went while we looked.
    }
  })
}

/** What is free of the disk on which the platform keeps everything, for everybody. */
export function observeDiskFree(layout: Layout): number {
  const { bsize, bavail } = statfsSync(layout.stateDir)
  return bsize * bavail
}

/** What divides a disk among those who ask for it. Of a partition it is its disk's. */
export function observeScheduler(device: string): { name: string; scheduler: string } {
  const own = realPath(join('/sys/class/block', basename(device)))
  const disk = existsSync(join(own, 'partition')) ? dirname(own) : own
  try {
    const text = readFileSync(join(disk, 'queue/scheduler'), 'utf8')
    return { name: basename(disk), scheduler: /\[([\w-]+)\]/.exec(text)?.[1] ?? 'unknown' }
  } catch {
    return { name: basename(disk), scheduler: 'unknown' }
  }
}

/** Whose files a device holds: a loop device tells which file it shows, and that is below a directory of its tenant. */
export function volumeOwners(layout: Layout): (device: string) => string | undefined {
  const owners = new Map(
    loopDevices().flatMap(({ device, file }) => {
      const root = tenantRoots(layout).find((each) => file.startsWith(`${each}/`))
      const tenant = root === undefined ? undefined : file.slice(root.length + 1).split('/', 1)[0]
      return tenant === undefined ? [] : [[device, tenant] as const]
    }),
  )
  return (device) => owners.get(device)
}

/** Below which everything is of the tenant that the next part of the path names. */
function tenantRoots(layout: Layout): string[] {
  return [
    volumesRoot(layout),
    realPath(join(layout.stateDir, 'ephemeral')),
    join(layout.runDir, 'containers/.ephemeral'),
  ]
}

function volumesRoot(layout: Layout): string {
  return realPath(join(layout.stateDir, 'volumes'))
}

function realPath(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    return path
  }
}

function loopDevices(): { device: string; file: string }[] {
  return list('/sys/block').flatMap((name) => {
    try {
      return [
        {
          device: `/dev/${name}`,
          file: readFileSync(`/sys/block/${name}/loop/backing_file`, 'utf8').trimEnd(),
        },
      ]
    } catch {
      return [] // no loop device, or one that shows nothing
    }
  })
}

function observePath(path: string): VolumePath {
  try {
    const { uid, mode } = statSync(path)
    return { path, uid, mode: mode & 0o777 }
  } catch {
    return { path, ...UNREADABLE }
  }
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory)
  } catch {
    return []
  }
}
