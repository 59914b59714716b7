import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statfsSync,
  statSync,
  truncateSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { ApiError, type Layout, type TenantName } from '../../../api/index.ts'
import { type ClaimedVolume, type ClaimId, isClaimId, type Jail, type JailId } from '../../../jail/index.ts'
import { createDataKey, unwrapKey, wrapKey } from '../../../store/index.ts'
import { type Clock, type Logger, sleep, UndoStack } from '../../../stdx/index.ts'
import type { Claims, TenantPlacement } from '../parts.ts'
import { ContainerError } from '../plan/oci/container-error.ts'
import { Gate } from '../pods/gate.ts'
import { releaseDevice } from './device-limits.ts'
import { destroyFile, syncDirectory, writeDurably } from './durable-files.ts'
import { addEncryptionKey, encryptDirectory, type KeyIdentifier } from './encrypted-directory.ts'
import { ensureFsGroup } from './fs-group.ts'
import * as limits from './limits.ts'
import { roomToPromise, tenantCalled } from './ephemeral.ts'
import { isMountOf, loopDeviceOf } from './loop-devices.ts'
import { isMountPoint } from './machine.ts'
import { mountedAt, mountsBelow } from './mounts.ts'
import { Places } from './places.ts'
import { SyscallError } from './syscalls.ts'
import { runTool } from './tool.ts'

/** A volume that is being made, and one that is being destroyed: neither counts, and a start removes both. */
const UNFINISHED = '.new'
const DOOMED = '.gone'
const IMAGE = 'image'
const KEY = 'key'
/** Holds the size that pods see, while the file is larger already. */
const GROWING = 'growing'

export type ClaimsOptions = {
  layout: Layout
  clock: Clock
  log: Logger
  /** Under which the keys of a tenant's volumes are wrapped. */
  dataKey: (tenant: TenantName) => Uint8Array
}

export function createClaims(options: ClaimsOptions): Claims {
  return new LocalClaims(options)
}

/**
 * Volumes as files: each holds an ext4 file system of its own, so its size and its number of files have hard ends, and
 * all of its space is reserved when it is made, so that it can always be written full. Tenants reach the inside of a
 * mounted one only, through the kernel's file calls: never the file, the device or the bytes of the file system. Names
 * and contents are encrypted with a key per volume, wrapped by the tenant's; without it nobody reads what is left on
 * the disk.
 */
class LocalClaims implements Claims {
  private readonly places: Places
  private readonly clock: Clock
  private readonly log: Logger
  private readonly dataKey: ClaimsOptions['dataKey']
  /** One change at a time per tenant; what is taken from the disk, one after the other. */
  private readonly turns = new Map<TenantName, Gate>()
  private readonly reserving = new Gate(1)
  /** By the path of the volume: pods that have it mounted or are about to. */
  private readonly holders = new Map<string, Set<JailId>>()

  constructor({ layout, clock, log, dataKey }: ClaimsOptions) {
    this.places = new Places(layout)
    this.clock = clock
    this.log = log
    this.dataKey = dataKey
  }

  async start(): Promise<void> {
    for (const name of list(this.places.claims)) {
      const tenant = tenantCalled(name)
      // Where a disk of its own is mounted there is a "lost+found" too.
      if (tenant === undefined) continue
      for (const entry of list(this.places.claimsOf(tenant))) {
        const path = join(this.places.claimsOf(tenant), entry)
        try {
          if (!isClaimId(entry)) await this.destroy(path, join(this.places.claimMounts, tenant, entry))
          else if (!this.isHeld(tenant, entry)) await this.unmount(this.places.claimMount(tenant, entry))
        } catch (error) {
          // Tried again at the next start; one bad volume must not keep all tenants down.
          this.log.error('cannot clear up after a volume', { tenant, volume: entry, error })
        }
      }
    }
  }

  list(tenant: TenantName): ClaimedVolume[] {
    return list(this.places.claimsOf(tenant)).flatMap((id) =>
      isClaimId(id) ? [{ id, sizeBytes: this.sizeOf(tenant, id) }] : [],
    )
  }

  async ensure(placement: TenantPlacement, { id, sizeBytes }: ClaimedVolume): Promise<ClaimedVolume> {
    const { tenant } = placement
    const step = limits.CLAIM_BYTES_STEP
    const wanted = Math.max(limits.CLAIM_BYTES_MIN, Math.ceil(sizeBytes / step) * step)
    return await this.turnOf(tenant).run(async () => {
      if (!existsSync(this.places.claim(tenant, id))) await this.make(placement, id, wanted)
      else if (this.sizeOf(tenant, id) < wanted) await this.grow(placement, id, wanted)
      return { id, sizeBytes: this.sizeOf(tenant, id) }
    })
  }

  async remove(tenant: TenantName, id: ClaimId): Promise<void> {
    await this.turnOf(tenant).run(async () => {
      if (this.isHeld(tenant, id)) throw new ApiError('Conflict', 'The volume is used by a pod')
      const path = this.places.claim(tenant, id)
      const mountPoint = this.places.claimMount(tenant, id)
      if (!existsSync(path)) return
      await this.unmount(mountPoint)
      if (!(await this.released(path)))
        throw new ApiError('Conflict', 'The volume is still used by a pod that ends')
      const doomed = `${path}${DOOMED}`
      await this.destroy(doomed, `${mountPoint}${DOOMED}`)
      renameSync(path, doomed)
      syncDirectory(dirname(path))
      await this.destroy(doomed, `${mountPoint}${DOOMED}`)
    })
  }

  async removeTenant(tenant: TenantName): Promise<void> {
    await this.turnOf(tenant).run(async () => {
      const root = this.places.claimsOf(tenant)
      const failed: { entry: string; error: unknown }[] = []
      for (const entry of list(root))
        try {
          await this.destroy(join(root, entry), join(this.places.claimMounts, tenant, entry))
        } catch (error) {
          // The others go all the same; whoever removes the tenant tries again.
          failed.push({ entry, error })
        }
      if (failed.length > 0)
        throw new AggregateError(
          failed.map(({ error }) => error),
          `The volumes ${failed.map(({ entry }) => `"${entry}"`).join(', ')} cannot be destroyed`,
        )
      rmSync(join(this.places.claimMounts, tenant), { recursive: true, force: true })
      rmSync(root, { recursive: true, force: true })
    })
    this.turns.delete(tenant)
  }

  async hold({ tenant }: TenantPlacement, jail: Jail): Promise<void> {
    for (const volume of jail.volumes) {
      if (volume.kind !== 'claim') continue
      const path = this.places.claim(tenant, volume.claim)
      const holders = this.holders.get(path) ?? new Set()
      this.holders.set(path, holders.add(jail.id))
      try {
        await this.turnOf(tenant).run(async () => {
          if (!existsSync(path))
            throw new ContainerError(
              'CreatePodSandboxError',
              `volume "${volume.name}" does not exist any more`,
            )
          await this.mount(tenant, path, this.places.claimMount(tenant, volume.claim))
          if (jail.fsGroup !== undefined && !volume.readOnly)
            await this.giveToGroup(this.places.claimData(tenant, volume.claim), jail.fsGroup)
        })
      } catch (cause) {
        this.letGoOf(path, jail.id)
        if (cause instanceof ContainerError) throw cause
        throw new ContainerError(
          'CreatePodSandboxError',
          `volume "${volume.name}" cannot be mounted on the machine`,
          { cause },
        )
      }
    }
  }

  async letGo({ tenant }: TenantPlacement, jail: Jail): Promise<void> {
    for (const volume of jail.volumes) {
      if (volume.kind !== 'claim') continue
      this.letGoOf(this.places.claim(tenant, volume.claim), jail.id)
      await this.turnOf(tenant).run(async () => {
        if (!this.isHeld(tenant, volume.claim))
          await this.unmount(this.places.claimMount(tenant, volume.claim))
      })
    }
  }

  private letGoOf(path: string, jail: JailId): void {
    const holders = this.holders.get(path)
    holders?.delete(jail)
    if (holders?.size === 0) this.holders.delete(path)
  }

  private isHeld(tenant: TenantName, id: ClaimId): boolean {
    return this.holders.has(this.places.claim(tenant, id))
  }

  private turnOf(tenant: TenantName): Gate {
    const turn = this.turns.get(tenant) ?? new Gate(1)
    this.turns.set(tenant, turn)
    return turn
  }

  /** As pods see it. */
  private sizeOf(tenant: TenantName, id: ClaimId): number {
    const mark = join(this.places.claim(tenant, id), GROWING)
    return existsSync(mark) ? Number(readFileSync(mark, 'utf8')) : this.reservedFor(tenant, id)
  }

  /** What the volume takes from the disk. */
  private reservedFor(tenant: TenantName, id: ClaimId): number {
    return statSync(join(this.places.claim(tenant, id), IMAGE)).size
  }

  // --- making and growing --------------------------------------------------------------------------------------------

  private async make(placement: TenantPlacement, id: ClaimId, sizeBytes: number): Promise<void> {
    const { tenant } = placement
    const path = this.places.claim(tenant, id)
    const fresh = `${path}${UNFINISHED}`
    const mountPoint = `${this.places.claimMount(tenant, id)}${UNFINISHED}`
    for (const directory of [this.places.claims, this.places.claimsOf(tenant)])
      mkdirSync(directory, { recursive: true, mode: 0o700 })
    const volumes = this.list(tenant)
    if (volumes.length >= limits.CLAIMS_PER_TENANT_MAX)
      throw new ApiError(
        'Forbidden',
        `the tenant has ${volumes.length} volumes already, and may have no more`,
      )
    this.requireShare(placement, tenant, sizeBytes)
    await this.destroy(fresh, mountPoint)
    await using undo = new UndoStack()
    undo.add(() => this.destroy(fresh, mountPoint))
    mkdirSync(fresh, { mode: 0o700 })
    const image = join(fresh, IMAGE)
    closeSync(openSync(image, 'wx', 0o600))
    await this.reserve(image, sizeBytes, sizeBytes)
    const key = createDataKey()
    writeDurably(join(fresh, KEY), wrapKey({ kek: this.dataKey(tenant), dataKey: key, tenant }))
    key.fill(0)
    // One size of blocks whatever the size, no blocks that only root may fill, and no holes in what was reserved.
    const format = ['-b', '4096', '-m', '0', '-O', 'encrypt', '-E', 'nodiscard']
    await runTool(['mkfs.ext4', '-q', '-F', ...format, image], { timeoutMs: limits.CLAIM_TOOL_TIMEOUT_MS })
    await this.mount(tenant, fresh, mountPoint)
    chmodSync(mountPoint, 0o700)
    const data = join(mountPoint, 'data')
    mkdirSync(data)
    encryptDirectory(data, this.unlock(tenant, fresh, mountPoint))
    // As an emptyDir: whoever a pod runs as may write to it.
    chmodSync(data, 0o777)
    await this.unmount(mountPoint)
    if (!(await this.released(fresh))) throw new Error(`The file system of "${fresh}" does not come to rest`)
    renameSync(fresh, path)
    syncDirectory(dirname(path))
    undo.release()
  }

  /**
   * Takes the space at once, and gives it to the file system while that is not mounted: growing a mounted one needs a
   * capability that many containers and virtual machines do not have (CAP_SYS_RESOURCE).
   */
  private async grow(placement: TenantPlacement, id: ClaimId, sizeBytes: number): Promise<void> {
    const { tenant } = placement
    const path = this.places.claim(tenant, id)
    const mark = join(path, GROWING)
    const before = this.reservedFor(tenant, id)
    if (before < sizeBytes) {
      this.requireShare(placement, tenant, sizeBytes - before)
      const isFirst = !existsSync(mark)
      if (isFirst) writeDurably(mark, Buffer.from(String(before)))
      try {
        await this.reserve(join(path, IMAGE), sizeBytes, sizeBytes - before)
      } catch (error) {
        if (isFirst) rmSync(mark)
        throw error
      }
    }
    if (this.isHeld(tenant, id)) return
    await this.unmount(this.places.claimMount(tenant, id))
    if (loopDeviceOf(join(path, IMAGE)) === undefined) await growFileSystem(path)
  }

  /** @throws {ApiError} Forbidden when the tenant would have more than it may. */
  private requireShare({ quota }: TenantPlacement, tenant: TenantName, adding: number): void {
    const used = this.list(tenant).reduce((sum, { id }) => sum + this.reservedFor(tenant, id), 0)
    const { bsize, blocks } = statfsSync(this.places.claims)
    const most = quota?.storageBytes ?? Math.floor((bsize * blocks) / limits.CLAIM_SHARE_OF_DISK)
    if (used + adding > most)
      throw new ApiError(
        'Forbidden',
        `the tenant may have ${most} bytes of volumes, has ${used}, and asks for ${adding} more`,
      )
  }

  /** Takes the space from the disk now, so that it cannot be promised twice. @throws {ApiError} when there is none. */
  private async reserve(image: string, sizeBytes: number, adding: number): Promise<void> {
    const before = statSync(image).size
    await this.reserving.run(async () => {
      const { freeBytes } = roomToPromise(this.places, dirname(image))
      try {
        if (freeBytes < adding) throw new Error(`"${dirname(image)}" has no ${adding} bytes to give`)
        await runTool(['fallocate', '--length', String(sizeBytes), '--', image], {
          timeoutMs: limits.CLAIM_TOOL_TIMEOUT_MS,
        })
      } catch (cause) {
        truncateSync(image, before)
        throw new ApiError('TooManyRequests', 'the machine has no room for a volume of this size now', {
          cause,
          details: { retryAfterSeconds: 30 },
        })
      }
    })
  }

  // --- mounting ------------------------------------------------------------------------------------------------------

  /** Safe to repeat. */
  private async mount(tenant: TenantName, path: string, mountPoint: string): Promise<void> {
    mkdirSync(mountPoint, { recursive: true, mode: 0o700 })
    const image = join(path, IMAGE)
    await using undo = new UndoStack()
    if (!isMountPoint(mountPoint)) {
      undo.add(() => this.unmount(mountPoint))
      const known = loopDeviceOf(image)
      if (known === undefined) await checkFileSystem(image)
      if (known === undefined && existsSync(join(path, GROWING))) await growFileSystem(path)
      // A pod that has not quite ended keeps the device: a second one for the same file would destroy the file system.
      const [source, how] = known === undefined ? [image, 'loop,'] : [known, '']
      const options = `--options=${how}nodev,nosuid,noatime,errors=remount-ro`
      await runTool(['mount', '--types=ext4', options, source, mountPoint])
    }
    // The device we found may have been let go meanwhile and taken for another tenant's file. Mounted, it stays.
    if (!isMountOf(image, mountPoint)) {
      await this.unmount(mountPoint)
      throw new Error(`What is mounted at "${mountPoint}" is not "${image}"`)
    }
    // What follows may have been cut off after an earlier mount.
    this.unlock(tenant, path, mountPoint)
    undo.release()
  }

  private unlock(tenant: TenantName, path: string, mountPoint: string): KeyIdentifier {
    const wrapped = new Uint8Array(readFileSync(join(path, KEY)))
    const key = unwrapKey({ kek: this.dataKey(tenant), wrapped, tenant })
    try {
      return addEncryptionKey(mountPoint, key)
    } catch (cause) {
      // ENOTTY: a kernel without fscrypt (CONFIG_FS_ENCRYPTION).
      if (cause instanceof SyscallError && (cause.code === 'ENOTTY' || cause.code === 'EOPNOTSUPP'))
        throw new ApiError('Forbidden', 'this machine cannot encrypt volumes, so it makes none', { cause })
      throw cause
    } finally {
      key.fill(0)
    }
  }

  private async unmount(mountPoint: string): Promise<void> {
    // A process of its own, because the last one to unmount waits until all that was written is on the disk.
    for (const point of mountsBelow(mountPoint)) {
      const device = mountedAt(point)?.device
      if (device !== undefined) releaseDevice(device)
      await runTool(['umount', '--lazy', '--', point], { timeoutMs: limits.CLAIM_TOOL_TIMEOUT_MS })
    }
    if (existsSync(mountPoint)) rmdirSync(mountPoint)
  }

  /** False when something still has the file system after a while. */
  private async released(path: string): Promise<boolean> {
    const untilMs = this.clock.nowMs() + limits.CLAIM_RELEASE_TIMEOUT_MS
    const image = join(path, IMAGE)
    while (loopDeviceOf(image) !== undefined) {
      if (this.clock.nowMs() > untilMs) return false
      await sleep(5)
    }
    return true
  }

  /** The key first: from then on nobody reads what the rest held. Safe to repeat. */
  private async destroy(path: string, mountPoint: string): Promise<void> {
    await this.unmount(mountPoint)
    if (!existsSync(path)) return
    destroyFile(join(path, KEY))
    rmSync(path, { recursive: true, force: true })
    syncDirectory(dirname(path))
  }

  private async giveToGroup(directory: string, group: number): Promise<void> {
    const fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY)
    try {
      await ensureFsGroup(fd, group)
    } finally {
      closeSync(fd)
    }
  }
}

const FSCK_CORRECTED = 1

/** Replays the journal and mends what a lost write left. @throws when it takes a person to mend it. */
async function checkFileSystem(image: string, ...options: string[]): Promise<void> {
  try {
    await runTool(['e2fsck', '-p', ...options, image], { timeoutMs: limits.CLAIM_TOOL_TIMEOUT_MS })
  } catch (error) {
    const code = error instanceof Error ? (error.cause as { code?: unknown } | undefined)?.code : undefined
    if (code !== FSCK_CORRECTED) throw error
  }
}

/** The file system takes all of its file. Requires: it is not mounted. Safe to repeat. */
async function growFileSystem(path: string): Promise<void> {
  const image = join(path, IMAGE)
  await checkFileSystem(image, '-f')
  await runTool(['resize2fs', image], { timeoutMs: limits.CLAIM_TOOL_TIMEOUT_MS })
  rmSync(join(path, GROWING), { force: true })
  syncDirectory(path)
}

function list(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory) : []
}
