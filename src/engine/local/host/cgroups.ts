import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statfsSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { assert, sleep } from '../../../stdx/index.ts'
import type { DiskRates } from '../../../jail/index.ts'
import type { CgroupLimits } from '../plan/oci/resources.ts'

const CGROUP2_SUPER_MAGIC = 0x6367_7270
const CPU_PERIOD_US = 100_000
const CACHED_WRITES = 'blkio.throttle.write_bps_device'
const CONTROLLERS = ['cpu', 'memory', 'pids'] as const
const REMOVE_ATTEMPTS_MAX = 200
const REMOVE_RETRY_MS = 10

/** Control groups below one parent. Paths are relative to the root of the hierarchies, such as `bulkhead/red/UID`. */
export interface Cgroups {
  readonly version: 'v1' | 'v2'
  /** Version 1 with a version 2 hierarchy beside it that has controllers, which crun refuses to work with. */
  readonly hybrid: boolean
  ensure(path: string, limits: Partial<CgroupLimits>): void
  exists(path: string): boolean
  /** How many groups are directly below it. */
  children(path: string): number
  /** Takes a quota away, or sets it. @throws when a group below it has more (version 1). */
  setCpuQuota(path: string, quotaUs: number | undefined): void
  /** Takes a limit away, or sets it. @throws when more is in use and cannot be reclaimed (version 1). */
  setMemoryMax(path: string, bytesMax: number | undefined): void
  /**
   * Limits what is read from and written to a device, numbered as in "8:0". @returns how far that holds: for everything
   * below together (version 2), for every group below by itself (version 1), or not at all where the kernel lacks it.
   */
  setDiskRates(path: string, device: string, rates: Required<DiskRates>): 'together' | 'each' | 'none'
  /** Its part of disks that are divided by weights, from 1 to 1,000; nothing where the kernel knows none. */
  setDiskWeight(path: string, weight: number): void
  /**
   * Limits what reaches a device by way of the cache, or takes the limit away. Version 1 counts that as nobody's, so it can be
   * limited for a device of a tenant's own; version 2 knows whose it is and has nothing to add.
   */
  setCachedWrites(
    device: string,
    rates: Pick<Required<DiskRates>, 'writeBytes' | 'writeOperations'> | undefined,
  ): void
  /** Devices that have such a limit. */
  cachedWrites(): string[]
  /** From now on nothing in it gets huge pages, which are not divided among tenants; where the kernel counts them. */
  forbidHugePages(path: string): void
  /** What everything in it has used, and what of its memory cannot be reclaimed at once; undefined when it is gone. */
  usage(path: string): { cpuNanos: number; workingSetBytes: number } | undefined
  /** How often the kernel killed something in it for lack of memory. */
  oomKills(path: string): number
  processes(path: string): number[]
  /** The files through which a process enters it: one for each hierarchy. Requires: `ensure`. */
  entrances(path: string): string[]
  /** Removes it and all below it. @throws when processes stay in it. */
  remove(path: string): Promise<void>
  /** Removes it where it has neither processes nor groups below it. */
  removeEmpty(path: string): void
}

export function createCgroups(root = '/sys/fs/cgroup'): Cgroups {
  return statfsSync(root).type === CGROUP2_SUPER_MAGIC ? new CgroupsV2(root) : new CgroupsV1(root)
}

/** Enters a cgroup before anything else happens, and stays out of the way when that fails. */
const ENTER_SCRIPT =
  'unset PWD OLDPWD; while [ "$1" != -- ]; do echo 0 > "$1" || exit 125; shift; done; shift; exec "$@"'
const ENTER_AND_OFFER_SCRIPT =
  'echo "$1" > /proc/self/oom_score_adj || [ "$1" -lt 0 ] || exit 125; shift; ' + ENTER_SCRIPT

/**
 * What goes before a command that shall run in a cgroup from its first moment on; a number says how readily the kernel
 * ends it for lack of memory. A number below ours needs CAP_SYS_RESOURCE; without it the process keeps our own.
 */
export function enterCgroup(entrances: readonly string[], oomScoreAdj?: number): string[] {
  return oomScoreAdj === undefined
    ? ['/bin/sh', '-c', ENTER_SCRIPT, 'sh', ...entrances, '--']
    : ['/bin/sh', '-c', ENTER_AND_OFFER_SCRIPT, 'sh', String(oomScoreAdj), ...entrances, '--']
}

abstract class Hierarchies {
  protected abstract readonly mounts: readonly string[]
  /** Where every group of ours has a directory. */
  protected abstract directory(path: string): string

  exists(path: string): boolean {
    checkPath(path)
    return existsSync(this.directory(path))
  }

  children(path: string): number {
    checkPath(path)
    return readdirSync(this.directory(path), { withFileTypes: true }).filter((entry) => entry.isDirectory())
      .length
  }

  async remove(path: string): Promise<void> {
    checkPath(path)
    for (let attempt = 0; ; attempt++) {
      const busy = this.mounts.filter((mount) => !removeTree(join(mount, path)))
      if (busy.length === 0) return
      if (attempt === REMOVE_ATTEMPTS_MAX)
        throw new Error(`The cgroup "${path}" still has processes in ${busy.join(', ')}`)
      // The last process has ended, but the kernel lets go of its cgroup a moment later.
      await sleep(REMOVE_RETRY_MS)
    }
  }

  removeEmpty(path: string): void {
    checkPath(path)
    for (const mount of this.mounts) {
      try {
        rmdirSync(join(mount, path))
      } catch {
        // In use, or not there.
      }
    }
  }

  protected writeAll(directory: string, names: RegExp, value: string): void {
    for (const name of readdirSync(directory))
      if (names.test(name)) writeFileSync(join(directory, name), value)
  }

  protected read(mount: string, path: string, file: string): string {
    try {
      return readFileSync(join(mount, path, file), 'utf8')
    } catch {
      return ''
    }
  }

  /** The kubelet's working set. */
  protected workingSet(usage: string, stat: string, inactive: string): number | undefined {
    if (usage === '') return undefined
    const line = stat.split('\n').find((each) => each.startsWith(`${inactive} `))
    return Math.max(0, Number(usage) - Number(line?.slice(inactive.length + 1) ?? 0))
  }

  protected pids(text: string): number[] {
    return text.split('\n').filter(Boolean).map(Number)
  }
}

/** @returns false when something in it is still in use. */
function removeTree(directory: string): boolean {
  if (!existsSync(directory)) return true
  let free = true
  for (const entry of readdirSync(directory, { withFileTypes: true }))
    if (entry.isDirectory()) free = removeTree(join(directory, entry.name)) && free
  if (!free) return false
  try {
    rmdirSync(directory)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT'
  }
}

/** A group may end while we look at those beside it. */
function tolerateGone(change: () => void): void {
  try {
    change()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException // from node:fs
    if (code !== 'ENOENT' && code !== 'ENODEV') throw error
  }
}

function checkPath(path: string): void {
  // A mistake here would remove or limit somebody else's cgroup.
  assert(/^[a-z0-9][a-z0-9-]*(\/[a-z0-9][a-z0-9-]*)*$/.test(path), `"${path}" is not a cgroup of ours`)
}

/** https://docs.kernel.org/admin-guide/cgroup-v1/ */
class CgroupsV1 extends Hierarchies implements Cgroups {
  readonly version = 'v1'
  readonly hybrid: boolean
  protected readonly mounts: readonly string[]
  private readonly controllers = new Map<string, string>()

  constructor(root: string) {
    super()
    const mounts = new Set<string>()
    for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
      const [before = '', after = ''] = line.split(' - ', 2)
      const point = before.split(' ')[4]
      const [type, , options = ''] = after.split(' ')
      if (point === undefined || !point.startsWith(`${root}/`)) continue
      // runc makes its groups in the version 2 hierarchy beside the others, too.
      if (type === 'cgroup' || type === 'cgroup2') mounts.add(point)
      if (type !== 'cgroup') continue
      for (const option of options.split(',')) this.controllers.set(option, point)
    }
    this.mounts = [...mounts]
    for (const controller of CONTROLLERS)
      if (!this.controllers.has(controller))
        throw new Error(`The cgroup controller "${controller}" is not mounted in "${root}"`)
    const unified = join(root, 'unified', 'cgroup.controllers')
    this.hybrid = existsSync(unified) && readFileSync(unified, 'utf8').trim() !== ''
  }

  ensure(path: string, limits: Partial<CgroupLimits>): void {
    checkPath(path)
    for (const controller of CONTROLLERS) mkdirSync(join(this.mount(controller), path), { recursive: true })
    if (limits.cpuShares !== undefined) this.write('cpu', path, 'cpu.shares', limits.cpuShares)
    if (limits.cpuQuotaUs !== undefined) this.setCpuQuota(path, limits.cpuQuotaUs)
    if (limits.memoryBytesMax !== undefined) this.setMemoryMax(path, limits.memoryBytesMax)
    if (limits.pidsMax !== undefined) this.write('pids', path, 'pids.max', limits.pidsMax)
  }

  setCpuQuota(path: string, quotaUs: number | undefined): void {
    if (quotaUs !== undefined) this.write('cpu', path, 'cpu.cfs_period_us', CPU_PERIOD_US)
    this.write('cpu', path, 'cpu.cfs_quota_us', quotaUs ?? -1)
  }

  setDiskRates(path: string, device: string, rates: Required<DiskRates>): 'together' | 'each' | 'none' {
    checkPath(path)
    const mount = this.controllers.get('blkio')
    if (mount === undefined || !existsSync(join(mount, 'blkio.throttle.read_bps_device'))) return 'none'
    const files = {
      'blkio.throttle.read_bps_device': rates.readBytes,
      'blkio.throttle.write_bps_device': rates.writeBytes,
      'blkio.throttle.read_iops_device': rates.readOperations,
      'blkio.throttle.write_iops_device': rates.writeOperations,
    }
    // A limit here does not hold for the groups below, so each of them has it.
    const limit = (group: string) => {
      for (const [file, rate] of Object.entries(files)) writeFileSync(join(group, file), `${device} ${rate}`)
      for (const entry of readdirSync(group, { withFileTypes: true }))
        if (entry.isDirectory()) tolerateGone(() => limit(join(group, entry.name)))
    }
    const top = join(mount, path)
    mkdirSync(top, { recursive: true })
    limit(top)
    return 'each'
  }

  setDiskWeight(path: string, weight: number): void {
    checkPath(path)
    const mount = this.controllers.get('blkio')
    if (mount === undefined) return
    mkdirSync(join(mount, path), { recursive: true })
    const file = join(mount, path, 'blkio.bfq.weight')
    if (existsSync(file)) writeFileSync(file, String(weight))
  }

  setCachedWrites(
    device: string,
    rates: Pick<Required<DiskRates>, 'writeBytes' | 'writeOperations'> | undefined,
  ): void {
    const mount = this.controllers.get('blkio')
    if (mount === undefined || !existsSync(join(mount, CACHED_WRITES))) return
    writeFileSync(join(mount, CACHED_WRITES), `${device} ${rates?.writeBytes ?? 0}`)
    writeFileSync(join(mount, 'blkio.throttle.write_iops_device'), `${device} ${rates?.writeOperations ?? 0}`)
  }

  cachedWrites(): string[] {
    const mount = this.controllers.get('blkio')
    const text = mount === undefined ? '' : this.read(mount, '', CACHED_WRITES)
    return text
      .split('\n')
      .flatMap((line) => line.split(' ', 1))
      .filter(Boolean)
  }

  setMemoryMax(path: string, bytesMax: number | undefined): void {
    const swap = 'memory.memsw.limit_in_bytes'
    const hasSwap = existsSync(join(this.mount('memory'), path, swap))
    // Memory and swap together may never be less than memory alone, whichever way the limit goes.
    if (hasSwap) this.write('memory', path, swap, -1)
    this.write('memory', path, 'memory.limit_in_bytes', bytesMax ?? -1)
    if (hasSwap && bytesMax !== undefined) this.write('memory', path, swap, bytesMax)
  }

  forbidHugePages(path: string): void {
    checkPath(path)
    const mount = this.controllers.get('hugetlb')
    if (mount === undefined) return
    const group = join(mount, path)
    mkdirSync(group, { recursive: true })
    this.writeAll(group, /^hugetlb\.\w+\.limit_in_bytes$/, '0')
  }

  protected directory(path: string): string {
    return join(this.mount('cpu'), path)
  }

  usage(path: string): { cpuNanos: number; workingSetBytes: number } | undefined {
    checkPath(path)
    const accounts = this.controllers.get('cpuacct')
    const cpu = accounts === undefined ? '' : this.read(accounts, path, 'cpuacct.usage')
    const memory = this.mount('memory')
    const workingSetBytes = this.workingSet(
      this.read(memory, path, 'memory.usage_in_bytes'),
      this.read(memory, path, 'memory.stat'),
      'total_inactive_file',
    )
    return cpu === '' || workingSetBytes === undefined
      ? undefined
      : { cpuNanos: Number(cpu), workingSetBytes }
  }

  oomKills(path: string): number {
    return Number(
      /^oom_kill (\d+)$/m.exec(this.read(this.mount('memory'), path, 'memory.oom_control'))?.[1] ?? 0,
    )
  }

  processes(path: string): number[] {
    return this.pids(this.read(this.mount('pids'), path, 'cgroup.procs'))
  }

  entrances(path: string): string[] {
    checkPath(path)
    return CONTROLLERS.map((controller) => join(this.mount(controller), path, 'cgroup.procs'))
  }

  private mount(controller: string): string {
    const point = this.controllers.get(controller)
    assert(point !== undefined, `The cgroup controller "${controller}" is not mounted`)
    return point
  }

  private write(controller: string, path: string, file: string, value: number): void {
    writeFileSync(join(this.mount(controller), path, file), String(value))
  }
}

/** https://docs.kernel.org/admin-guide/cgroup-v2.html */
class CgroupsV2 extends Hierarchies implements Cgroups {
  readonly version = 'v2'
  readonly hybrid = false
  protected readonly mounts: readonly string[]
  private readonly root: string

  constructor(root: string) {
    super()
    this.root = root
    this.mounts = [root]
  }

  ensure(path: string, limits: Partial<CgroupLimits>): void {
    checkPath(path)
    const target = join(this.root, path)
    mkdirSync(target, { recursive: true })
    const parents: string[] = []
    for (let at = dirname(target); at.length >= this.root.length; at = dirname(at)) parents.unshift(at)
    for (const parent of parents)
      for (const controller of CONTROLLERS)
        writeFileSync(join(parent, 'cgroup.subtree_control'), `+${controller}`)
    if (limits.cpuShares !== undefined) {
      // The runtime spec's conversion from shares (2 to 262144) to weight (1 to 10000).
      const weight = 1 + Math.floor(((limits.cpuShares - 2) * 9_999) / 262_142)
      writeFileSync(join(target, 'cpu.weight'), String(weight))
    }
    if (limits.cpuQuotaUs !== undefined) this.setCpuQuota(path, limits.cpuQuotaUs)
    if (limits.memoryBytesMax !== undefined) this.setMemoryMax(path, limits.memoryBytesMax)
    if (limits.pidsMax !== undefined) writeFileSync(join(target, 'pids.max'), String(limits.pidsMax))
  }

  setCpuQuota(path: string, quotaUs: number | undefined): void {
    writeFileSync(join(this.root, path, 'cpu.max'), `${quotaUs ?? 'max'} ${CPU_PERIOD_US}`)
  }

  setDiskRates(path: string, device: string, rates: Required<DiskRates>): 'together' | 'each' | 'none' {
    checkPath(path)
    this.offer(path, 'io')
    const file = join(this.directory(path), 'io.max')
    if (!existsSync(file)) return 'none'
    const { readBytes, writeBytes, readOperations, writeOperations } = rates
    writeFileSync(
      file,
      `${device} rbps=${readBytes} wbps=${writeBytes} riops=${readOperations} wiops=${writeOperations}`,
    )
    return 'together'
  }

  setDiskWeight(path: string, weight: number): void {
    checkPath(path)
    this.offer(path, 'io')
    for (const name of ['io.bfq.weight', 'io.weight']) {
      const file = join(this.directory(path), name)
      if (existsSync(file)) writeFileSync(file, `default ${weight}`)
    }
  }

  setCachedWrites(): void {}

  cachedWrites(): string[] {
    return []
  }

  setMemoryMax(path: string, bytesMax: number | undefined): void {
    const target = this.directory(path)
    writeFileSync(join(target, 'memory.max'), String(bytesMax ?? 'max'))
    if (existsSync(join(target, 'memory.swap.max')))
      writeFileSync(join(target, 'memory.swap.max'), bytesMax === undefined ? 'max' : '0')
  }

  forbidHugePages(path: string): void {
    checkPath(path)
    this.offer(path, 'hugetlb')
    this.writeAll(this.directory(path), /^hugetlb\.\w+\.max$/, '0')
  }

  /** Makes a controller be there for a group; not every kernel has every one. */
  private offer(path: string, controller: string): void {
    const parts = path.split('/').slice(0, -1)
    for (const at of ['', ...parts.map((_, index) => parts.slice(0, index + 1).join('/'))])
      if (this.read(this.root, at, 'cgroup.controllers').split(/\s/).includes(controller))
        writeFileSync(join(this.root, at, 'cgroup.subtree_control'), `+${controller}`)
  }

  protected directory(path: string): string {
    return join(this.root, path)
  }

  usage(path: string): { cpuNanos: number; workingSetBytes: number } | undefined {
    checkPath(path)
    const micros = /^usage_usec (\d+)$/m.exec(this.read(this.root, path, 'cpu.stat'))?.[1]
    const workingSetBytes = this.workingSet(
      this.read(this.root, path, 'memory.current'),
      this.read(this.root, path, 'memory.stat'),
      'inactive_file',
    )
    return micros === undefined || workingSetBytes === undefined
      ? undefined
      : { cpuNanos: Number(micros) * 1_000, workingSetBytes }
  }

  oomKills(path: string): number {
    return Number(/^oom_kill (\d+)$/m.exec(this.read(this.root, path, 'memory.events'))?.[1] ?? 0)
  }

  processes(path: string): number[] {
    return this.pids(this.read(this.root, path, 'cgroup.procs'))
  }

  entrances(path: string): string[] {
    return [join(this.directory(path), 'cgroup.procs')]
  }
}
