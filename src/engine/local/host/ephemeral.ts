import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmdirSync,
  rmSync,
  statfsSync,
  statSync,
  truncateSync,
} from 'node:fs'
import { join } from 'node:path'
import { parseTenantName, type TenantName } from '../../../api/index.ts'
import { isJailId, type Jail, type JailId, type JailVolume } from '../../../jail/index.ts'
import type { Logger } from '../../../stdx/index.ts'
import type { TenantPlacement } from '../parts.ts'
import {
  EPHEMERAL_BLOCK_BYTES,
  type FileSystemSize,
  imageOf,
  podFileSystem,
  shareOfDisk,
  volumeFileSystem,
} from '../plan/ephemeral.ts'
import { ContainerError } from '../plan/oci/container-error.ts'
import { NO_SPACE } from '../plan/oci/runtime-message.ts'
import { Gate } from '../pods/gate.ts'
import { limitUnwritten, releaseDevice, releaseIdleDevices } from './device-limits.ts'
import * as limits from './limits.ts'
import { attachLoop, isMountOf, loopsInUse } from './loop-devices.ts'
import { isMountPoint } from './machine.ts'
import { mountedAt, mountsBelow } from './mounts.ts'
import type { Places } from './places.ts'
import { ioctl, mountTree } from './syscalls.ts'
import { runTool } from './tool.ts'

/** What a pod without a limit of its own has. */
const TREE = 'tree'
/** The file system of a pod with one. */
const IMAGE = 'image'
const VOLUME = '.volume'
/** No pod has such a name. */
const PROBE = '.probe'
/** What ext4 says of what it cannot understand; Node has no name for it. */
const EUCLEAN = 117
const BLOCKS_OF_STAT = 512
const ERROR_CHARS_READ = 4_096

const EXT4_IOC_SHUTDOWN = 0x8004_587d
const SHUTDOWN_WITHOUT_WRITING = 2

/** No journal: after a crash of the machine everything is made anew. No copies of what describes the whole, for the same reason. */
const FEATURES = '^has_journal,^resize_inode,sparse_super2'
/** A file that was just made is all zeros, so nothing has to be written to be empty. */
const EXTENDED = 'nodiscard,num_backup_sb=0,assume_storage_prezeroed=1'
/** What is deleted gives its space back. Nothing here outlives the power, so no order of writing is forced on the disk. */
const OPTIONS = 'nodev,nosuid,noatime,discard,barrier=0,noinit_itable,errors=remount-ro'

/**
 * Where everything ephemeral of a tenant is: one file system with a hard end in bytes and files, and in it another one
 * for each pod and each volume that has a limit. They are files in each other, of which tenants never see the bytes.
 * What a tenant's may take at most is promised to it, so the disk is never short of it. All that is known is in files
 * and mounts.
 */
export class Ephemeral {
  private readonly places: Places
  private readonly log: Logger
  /** What is promised to tenants, one after the other. */
  private readonly promising = new Gate(1)

  constructor(places: Places, log: Logger) {
    this.places = places
    this.log = log
  }

  /** Removes what the machine's last crash or a cut-off start left. */
  async start(): Promise<void> {
    releaseIdleDevices()
    for (const tenant of imagesIn(this.places))
      try {
        if (!isMountOf(this.places.ephemeralImage(tenant), this.places.ephemeralMount(tenant)))
          await this.removeNow(tenant)
      } catch (error) {
        // Tried again when the tenant's next pod starts; one bad file system must not keep all tenants down.
        this.log.error('cannot clear up what is ephemeral of a tenant', { tenant, error })
      }
  }

  /** Where the pod's layers, ephemeral volumes and logs are to be. Safe to repeat. @throws {ContainerError} */
  async ensurePod(placement: TenantPlacement, jail: Jail): Promise<void> {
    const { tenant } = placement
    const home = this.places.podEphemeral(tenant, jail.id)
    await this.promising.run(async () => {
      await this.ensureTenant(placement)
      mkdirSync(home, { recursive: true, mode: 0o700 })
    })
    const disk = this.places.podDisk(jail.id)
    mkdirSync(disk, { recursive: true })
    if (isMountPoint(disk)) return
    const size = podFileSystem(jail)
    if (size) return await this.mountSized(tenant, join(home, IMAGE), disk, size)
    const tree = join(home, TREE)
    mkdirSync(tree, { recursive: true })
    mountTree({ source: tree, target: disk, harmless: true })
  }

  /** A file system for a volume with a limit. Requires: `ensurePod`. Safe to repeat. @throws {ContainerError} */
  async ensureVolume(tenant: TenantName, jail: Jail, volume: JailVolume): Promise<void> {
    const size = volumeFileSystem(jail, volume)
    if (!size) return
    const target = this.places.diskVolume(jail.id, volume.name)
    mkdirSync(target, { recursive: true })
    if (isMountPoint(target)) return
    const image = join(this.places.podEphemeral(tenant, jail.id), `${volume.name}${VOLUME}`)
    await this.mountSized(tenant, image, target, size)
  }

  /** Requires: no container of the pod is left. Safe to repeat. */
  async removePod(jail: JailId): Promise<void> {
    await unmountEphemeral(this.places.podDisk(jail))
    for (const name of list(this.places.ephemeralMounts)) {
      const tenant = parseTenantName(name)
      await unlessDead(this.places.ephemeralMount(tenant), () =>
        removeTree(this.places.podEphemeral(tenant, jail)),
      )
    }
  }

  /** Gives back what was promised. Requires: no pod of the tenant is left. Safe to repeat. */
  async removeTenant(tenant: TenantName): Promise<void> {
    await this.promising.run(() => this.removeNow(tenant))
  }

  /** Requires: no pod is left. */
  async reset(): Promise<void> {
    for (const tenant of imagesIn(this.places)) await this.removeTenant(tenant)
    rmSync(this.places.ephemeral, { recursive: true, force: true })
  }

  private async removeNow(tenant: TenantName): Promise<void> {
    await unmountEphemeral(this.places.ephemeralMount(tenant))
    rmSync(this.places.ephemeralImage(tenant), { force: true })
    const mountPoint = this.places.ephemeralMount(tenant)
    if (existsSync(mountPoint)) rmdirSync(mountPoint)
  }

  private async ensureTenant(placement: TenantPlacement): Promise<void> {
    const { tenant } = placement
    const image = this.places.ephemeralImage(tenant)
    const mountPoint = this.places.ephemeralMount(tenant)
    if (isMountPoint(mountPoint)) {
      // Checked every time, because pods are about to trust it.
      if (!isMountOf(image, mountPoint))
        throw new Error(`What is mounted at "${mountPoint}" is not "${image}"`)
      const isDead = isDeadFileSystem(mountPoint)
      // Another quota holds from the first pod on that comes when there is none.
      const bytes = placement.quota?.ephemeralStorageBytes
      const isAsWanted =
        bytes === undefined || statSync(image).size === imageOf(sizeOfTenant(bytes)).imageBytes
      if (!isDead && (isAsWanted || podsOf(this.places, tenant).length > 0)) return
      // Pods that are in it keep it, and can do nothing more there; those that come have one that works.
      if (isDead)
        this.log.warn('the ephemeral storage of a tenant takes nothing any more and is made anew', { tenant })
    }
    await this.removeNow(tenant)
    const bytes = this.promise(placement) ?? (await this.promiseOfOthers(placement))
    if (bytes === undefined)
      throw new ContainerError(
        'CreatePodSandboxError',
        'the machine has no room on its disk for the ephemeral storage of the tenant now',
      )
    mkdirSync(mountPoint, { recursive: true, mode: 0o700 })
    await makeFileSystem(image, sizeOfTenant(bytes))
    await mountImage(image, mountPoint)
    chmodSync(mountPoint, 0o700)
  }

  /** How large the tenant's file system is to be; undefined when the disk has no room for it. */
  private promise({ quota }: TenantPlacement): number | undefined {
    mkdirSync(this.places.ephemeral, { recursive: true, mode: 0o700 })
    const room = roomToPromise(this.places, this.places.ephemeral)
    const wanted = quota?.ephemeralStorageBytes
    if (wanted !== undefined) return wanted <= room.freeBytes ? wanted : undefined
    return shareOfDisk(room)
  }

  /** Again, when those who have no pods now have given back what was theirs. */
  private async promiseOfOthers(placement: TenantPlacement): Promise<number | undefined> {
    for (const tenant of imagesIn(this.places))
      if (this.hasNoPods(tenant)) {
        this.log.info('a tenant without pods gives its ephemeral storage back', { tenant })
        await this.removeNow(tenant)
      }
    return this.promise(placement)
  }

  private hasNoPods(tenant: TenantName): boolean {
    try {
      return podsOf(this.places, tenant).length === 0
    } catch (error) {
      // Made anew for the next pod of its own; nobody else waits for that.
      this.log.warn('the ephemeral storage of a tenant cannot be read', { tenant, error })
      return false
    }
  }

  private async mountSized(
    tenant: TenantName,
    image: string,
    target: string,
    size: FileSystemSize,
  ): Promise<void> {
    const mine = podsOf(this.places, tenant).flatMap((jail) =>
      list(this.places.podEphemeral(tenant, jail)).filter((name) => name !== TREE),
    )
    if (mine.length >= limits.SIZED_FILE_SYSTEMS_PER_TENANT_MAX || loopsInUse() >= limits.LOOP_DEVICES_MAX)
      throw new ContainerError(
        'CreatePodSandboxError',
        `no more pods and volumes with limits on disk can start now: the tenant has ${mine.length}`,
      )
    // What is there was cut off before it was used.
    rmSync(image, { force: true })
    try {
      await makeFileSystem(image, size)
      limitUnwritten(await mountImage(image, target))
    } catch (error) {
      rmSync(image, { force: true })
      throw error
    }
  }
}

/** The devices that only this tenant writes to, numbered as in "7:0": of what is ephemeral, and of claimed volumes. */
export function devicesOf(places: Places, tenant: TenantName): string[] {
  const points = [places.ephemeralMount(tenant), ...mountsBelow(join(places.claimMounts, tenant))]
  return points.flatMap((point) => mountedAt(point)?.device ?? [])
}

function sizeOfTenant(bytes: number): FileSystemSize {
  return { bytes, files: Math.floor(bytes / limits.EPHEMERAL_BYTES_PER_FILE) }
}

/** What the tenants' file systems can still take from the disk. */
export function promisedBytes(places: Places): number {
  return imagesIn(places).reduce((sum, tenant) => {
    const { size, blocks } = statSync(places.ephemeralImage(tenant))
    return sum + Math.max(0, size - blocks * BLOCKS_OF_STAT)
  }, 0)
}

/** What the disk with this directory has, and what of it nobody was promised yet; some stays free for the machine. */
export function roomToPromise(places: Places, directory: string): { diskBytes: number; freeBytes: number } {
  const { bsize, blocks, bavail } = statfsSync(directory)
  const diskBytes = bsize * blocks
  const kept = Math.max(limits.CLAIM_RESERVE_BYTES_MIN, diskBytes / limits.CLAIM_RESERVE_PART)
  return { diskBytes, freeBytes: bsize * bavail - promisedBytes(places) - kept }
}

/** Takes away what is mounted at and below a directory; what was written to file systems of their own is for nobody any more. */
export async function unmountEphemeral(directory: string): Promise<void> {
  for (const point of mountsBelow(directory)) {
    // A part of the tenant's file system is mounted here and there; only what is here as a whole ends with its mount.
    const mounted = mountedAt(point)
    if (mounted?.root === '/') {
      releaseDevice(mounted.device)
      discardWrites(point)
    }
    // A process of its own, because the last one to unmount may have to wait.
    await runTool(['umount', '--lazy', '--', point], { timeoutMs: limits.CLAIM_TOOL_TIMEOUT_MS })
  }
}

/** Removes the volumes of a pod whose containers are gone; its logs stay. Safe to repeat. */
export async function releaseVolumes(places: Places, jail: JailId): Promise<void> {
  await unmountEphemeral(places.diskVolumes(jail))
  await unlessDead(places.podDisk(jail), () => removeTree(places.diskVolumes(jail)))
  for (const each of list(places.ephemeralMounts)) {
    const tenant = parseTenantName(each)
    await unlessDead(places.ephemeralMount(tenant), async () => {
      const home = places.podEphemeral(tenant, jail)
      for (const name of list(home)) if (name.endsWith(VOLUME)) rmSync(join(home, name))
    })
  }
}

/** What is in a file system that takes nothing any more goes with all of it: no pod stays for what cannot be removed. */
async function unlessDead(mountPoint: string, remove: () => Promise<void>): Promise<void> {
  try {
    await remove()
  } catch (error) {
    if (!existsSync(mountPoint) || !isDeadFileSystem(mountPoint)) throw error
  }
}

/** `rm` walks with descriptors, so a tenant cannot nest directories deeper than it can delete. */
export async function removeTree(path: string): Promise<void> {
  if (existsSync(path))
    await runTool(['rm', '-rf', '--one-file-system', '--', path], { timeoutMs: limits.REMOVE_TIMEOUT_MS })
}

/** A pod that is in the way of its tenant's own limits shall say so. @throws {ContainerError} for a full file system. */
export async function tellingOfSpace<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    if (cause instanceof ContainerError || !isNoSpace(cause)) throw cause
    throw new ContainerError('CreateContainerError', NO_SPACE, { cause })
  }
}

/** Of a system call, or in the words of a tool. */
function isNoSpace(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const { code } = error as NodeJS.ErrnoException
  return code === 'ENOSPC' || /no space left on device/i.test(error.message.slice(0, ERROR_CHARS_READ))
}

async function makeFileSystem(image: string, size: FileSystemSize): Promise<void> {
  const { imageBytes, inodes } = imageOf(size)
  closeSync(openSync(image, 'wx', 0o600))
  truncateSync(image, imageBytes)
  const format = ['-b', String(EPHEMERAL_BLOCK_BYTES), '-I', '256', '-m', '0', '-N', String(inodes)]
  await runTool(['mkfs.ext4', '-q', '-F', ...format, '-O', FEATURES, '-E', EXTENDED, image])
}

/** @returns the number of the device. */
async function mountImage(image: string, target: string): Promise<string> {
  using device = attachLoop(image)
  await runTool(['mount', '--internal-only', '--types=ext4', `--options=${OPTIONS}`, device.path, target])
  if (mountedAt(target)?.device !== device.number)
    throw new Error(`What is mounted at "${target}" is not "${image}"`)
  rmdirSync(join(target, 'lost+found'))
  return device.number
}

/** A file system as a whole, and not a part of one. */
export function isWhole(point: string): boolean {
  return mountedAt(point)?.root === '/'
}

/**
 * Whether a file system takes nothing any more, and never will again: the kernel has shut it after an error, or we had begun
 * to take it away. One that is merely full is as it should be.
 */
function isDeadFileSystem(mountPoint: string): boolean {
  const probe = join(mountPoint, PROBE)
  try {
    // Not `recursive`, which says ENOENT whatever the reason is.
    if (!existsSync(probe)) mkdirSync(probe)
    rmdirSync(probe)
    return false
  } catch (error) {
    const { code, errno } = error as NodeJS.ErrnoException
    return code === 'EIO' || code === 'EROFS' || errno === -EUCLEAN
  }
}

/** What is not on the disk yet never will be: whoever unmounts has nothing to wait for. */
function discardWrites(mountPoint: string): void {
  const fd = openSync(mountPoint, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
  try {
    const how = Buffer.alloc(4)
    how.writeUInt32LE(SHUTDOWN_WITHOUT_WRITING)
    ioctl(fd, EXT4_IOC_SHUTDOWN, how, `Cannot end the file system at "${mountPoint}"`)
  } finally {
    closeSync(fd)
  }
}

function imagesIn(places: Places): TenantName[] {
  // Where a disk of its own is mounted there is a "lost+found" too.
  return list(places.ephemeral).flatMap((name) => tenantCalled(name) ?? [])
}

export function tenantCalled(name: string): TenantName | undefined {
  try {
    return parseTenantName(name)
  } catch {
    return undefined
  }
}

function podsOf(places: Places, tenant: TenantName): JailId[] {
  return list(places.ephemeralMount(tenant)).filter((name) => isJailId(name))
}

function list(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory) : []
}
