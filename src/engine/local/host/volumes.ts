import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { randomBytes } from 'node:crypto'
import { dirname, join } from 'node:path'
import type { Jail, JailFile, JailMount, JailVolume } from '../../../jail/index.ts'
import { ContainerError } from '../plan/oci/container-error.ts'
import { MEMORY_VOLUME_INODES_MAX } from './limits.ts'
import { mountMemory, mountsBelow } from './mounts.ts'
import type { Places } from './places.ts'
import { ensureDirectoryInside, openInside } from './safe-path.ts'
import { mountTree, SyscallError } from './syscalls.ts'

/** The volumes of pods: directories that belong to the tenant's ids and to no other. */
export class Volumes {
  private readonly places: Places

  constructor(places: Places) {
    this.places = places
  }

  /** Where a volume is on this machine. */
  path(jail: Jail, volume: JailVolume): string {
    if (volume.kind === 'claim') return this.places.claimData(jail.tenant, volume.claim)
    return volume.kind === 'scratch' && volume.medium === 'disk'
      ? this.places.diskVolume(jail.id, volume.name)
      : this.places.memoryVolume(jail.id, volume.name)
  }

  ensure(jail: Jail, volume: JailVolume, podUidBase: number): void {
    // Its owner is made with it, and every container gets a mount of its own.
    if (volume.kind === 'claim') return
    const path = this.path(jail, volume)
    const group = podUidBase + (jail.fsGroup ?? 0)
    if (volume.kind === 'files') {
      mkdirSync(path, { recursive: true })
      if (!existsSync(join(path, '..data'))) this.writeFiles(jail, volume, podUidBase)
      return
    }
    mkdirSync(path, { recursive: true })
    if (volume.medium === 'memory') {
      if (mountsBelow(path).length === 0)
        mountMemory(path, {
          bytesMax: volume.sizeBytesMax,
          inodesMax: MEMORY_VOLUME_INODES_MAX,
          // As a kubelet's: nobody removes what another user has put there.
          mode: jail.fsGroup === undefined ? '1777' : '3777',
          uid: podUidBase,
          gid: group,
        })
      return
    }
    chownSync(path, podUidBase, group)
    chmodSync(path, jail.fsGroup === undefined ? 0o777 : 0o2777)
  }

  /**
   * Puts new content in the place of the old one at once: readers that follow `..data` see either all old or all new
   * files. The visible names are links into it, as with the kubelet.
   */
  writeFiles(jail: Jail, volume: Extract<JailVolume, { kind: 'files' }>, podUidBase: number): void {
    const root = this.path(jail, volume)
    const owner = { uid: podUidBase, gid: podUidBase + (jail.fsGroup ?? 0) }
    const group = jail.fsGroup !== undefined
    const fresh = `..${randomBytes(8).toString('hex')}`
    const old = readLinkOf(join(root, '..data'))
    own(root, owner, group ? 0o2755 : 0o755)
    makeDirectory(join(root, fresh), owner, group)
    for (const file of volume.files) writeFile(join(root, fresh), file, owner, group)
    const next = join(root, '..data.next')
    rmSync(next, { force: true })
    symlinkSync(fresh, next)
    renameSync(next, join(root, '..data'))
    const visible = new Set(volume.files.map((file) => firstSegment(file.path)))
    for (const name of visible)
      if (!existsLink(join(root, name))) symlinkSync(join('..data', name), join(root, name))
    for (const name of readdirSync(root)) {
      const ours = name === '..data' || name === fresh || visible.has(name)
      if (!ours) rmSync(join(root, name), { recursive: true, force: true })
    }
    if (old !== undefined && old !== fresh) rmSync(join(root, old), { recursive: true, force: true })
  }

  /**
   * The source of one mount: the volume, or with a sub-path a mount of its own that nobody inside can redirect any
   * more. So is a claimed volume, whose ids on disk are those in a pod: they are shifted by the pod's user namespace.
   * `pin` is a path for it that does not exist yet.
   */
  source(
    jail: Jail,
    mount: JailMount,
    { podUidBase, usernsPath, pin }: { podUidBase: number; usernsPath: string; pin: string },
  ): string {
    const volume = jail.volumes.find((v) => v.name === mount.volume)
    if (!volume)
      throw new ContainerError(
        'CreateContainerConfigError',
        `volume ${JSON.stringify(mount.volume)} does not exist`,
      )
    const path = this.path(jail, volume)
    const claimed = volume.kind === 'claim'
    const { subPath = '' } = mount
    if (subPath === '' && !claimed) return path
    const root = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY)
    const userns = claimed ? openSync(usernsPath, 'r') : undefined
    const base = claimed ? 0 : podUidBase
    let fd: number | undefined
    try {
      // "." for the whole volume.
      fd = openSubPath(root, subPath || '.', volume, { uid: base, gid: base + (jail.fsGroup ?? 0) })
      const directory = existsSync(`/proc/self/fd/${fd}/.`)
      if (directory) mkdirSync(pin)
      else writeFileSync(pin, '', { flag: 'wx' })
      mountTree({
        source: fd,
        target: pin,
        ...(userns === undefined ? {} : { usernsFd: userns, harmless: true }),
      })
      return pin
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error
      throw new ContainerError(
        'CreateContainerConfigError',
        subPath === ''
          ? `failed to mount volume "${mount.volume}"`
          : `failed to prepare subPath ${JSON.stringify(subPath)} of volume "${mount.volume}"`,
        { cause: error },
      )
    } finally {
      if (fd !== undefined) closeSync(fd)
      if (userns !== undefined) closeSync(userns)
      closeSync(root)
    }
  }
}

function openSubPath(
  root: number,
  subPath: string,
  volume: JailVolume,
  owner: { uid: number; gid: number },
): number {
  if (subPath.split('/').includes('..') || subPath.startsWith('/'))
    throw new ContainerError(
      'CreateContainerConfigError',
      `subPath ${JSON.stringify(subPath)} must be relative and must not climb`,
    )
  try {
    return openInside(root, subPath)
  } catch (error) {
    // As with the kubelet, a sub-path that is missing becomes a directory, where somebody could have made it.
    const missing = error instanceof SyscallError && error.code === 'ENOENT'
    if (!missing || volume.kind === 'files') throw error
    // And whoever may write to the volume may write there.
    return ensureDirectoryInside(root, subPath, { mode: fstatSync(root).mode & 0o3777, owner })
  }
}

function writeFile(root: string, file: JailFile, owner: { uid: number; gid: number }, group: boolean): void {
  const segments = file.path.split('/')
  if (segments.some((s) => s === '' || s === '.' || s.startsWith('..') || s.includes('\0')))
    throw new ContainerError(
      'CreateContainerConfigError',
      `the file path ${JSON.stringify(file.path)} is not relative and normalized`,
    )
  const path = join(root, ...segments)
  const parents: string[] = []
  for (let at = dirname(path); at !== root; at = dirname(at)) parents.unshift(at)
  for (const parent of parents) if (!existsSync(parent)) makeDirectory(parent, owner, group)
  writeFileSync(path, Buffer.from(file.contentBase64, 'base64'), { flag: 'wx', mode: 0o600 })
  own(path, { ...owner, uid: owner.uid + (file.owner ?? 0) }, (file.mode & 0o777) | (group ? 0o440 : 0))
}

function makeDirectory(path: string, owner: { uid: number; gid: number }, group: boolean): void {
  mkdirSync(path)
  own(path, owner, group ? 0o2755 : 0o755)
}

/** Owner first, because giving a file away takes its set-id bits. */
function own(path: string, owner: { uid: number; gid: number }, mode: number): void {
  chownSync(path, owner.uid, owner.gid)
  chmodSync(path, mode)
}

function firstSegment(path: string): string {
  return path.split('/', 1)[0] ?? path
}

function readLinkOf(path: string): string | undefined {
  try {
    return readlinkSync(path)
  } catch {
    return undefined
  }
}

function existsLink(path: string): boolean {
  return readLinkOf(path) !== undefined
}
