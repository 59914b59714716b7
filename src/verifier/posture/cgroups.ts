import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { ProcessPosture } from './processes.ts'

/** Limits of one cgroup; undefined where there is none. */
export type CgroupPosture = {
  path: string
  /** Processors, such as 1.5. */
  cpus: number | undefined
  memoryBytes: number | undefined
  pids: number | undefined
  /** Its share when all want more, as the kernel counts it in this version of cgroups. */
  cpuWeight: number | undefined
  /** The groups directly below it. */
  children: readonly CgroupPosture[]
}

/** What the processes of one cgroup may read and write in a second, of the device for which that is least. */
export type DiskRates = {
  path: string
  readBytes: number | undefined
  writeBytes: number | undefined
  readOperations: number | undefined
  writeOperations: number | undefined
}

/** Version 1 writes "no limit" as the largest multiple of a page. */
const MEMORY_UNLIMITED = 2 ** 62

/** Reads limits of cgroups as the kernel holds them, wherever its hierarchies are mounted. */
export class CgroupReader {
  private readonly v2: string | undefined
  private readonly v1 = new Map<string, string>()

  constructor(mounts: ProcessPosture['mounts']) {
    for (const { type, mountPoint, options } of mounts) {
      if (type === 'cgroup') for (const option of options.split(',')) this.v1.set(option, mountPoint)
      else if (type === 'cgroup2') this.v2 ??= mountPoint
    }
  }

  /** `depth` says how many levels below it are read. */
  observe(path: string, depth: number): CgroupPosture | undefined {
    const v1 = this.v1.has('memory')
    const directory = this.directory(v1 ? 'pids' : undefined, path)
    if (directory === undefined) return undefined
    let names: string[]
    try {
      names = readdirSync(directory, { withFileTypes: true }).flatMap((e) =>
        e.isDirectory() ? [e.name] : [],
      )
    } catch {
      return undefined
    }
    const read = (controller: string, file: string) => this.read(v1 ? controller : undefined, path, file)
    const [quota, period] = v1
      ? [read('cpu', 'cpu.cfs_quota_us'), read('cpu', 'cpu.cfs_period_us')]
      : read('cpu', 'cpu.max').split(' ')
    const limit = (text: string) => {
      const number = Number(text)
      return text === '' || text === 'max' || !Number.isFinite(number) || number < 0 ? undefined : number
    }
    const memory = limit(read('memory', v1 ? 'memory.limit_in_bytes' : 'memory.max'))
    const quotaUs = limit(quota ?? '')
    return {
      path,
      cpus: quotaUs === undefined ? undefined : quotaUs / (limit(period ?? '') ?? 100_000),
      memoryBytes: memory === undefined || memory >= MEMORY_UNLIMITED ? undefined : memory,
      pids: limit(read('pids', 'pids.max')),
      cpuWeight: limit(read('cpu', v1 ? 'cpu.shares' : 'cpu.weight')),
      children: depth > 0 ? names.flatMap((name) => this.observe(join(path, name), depth - 1) ?? []) : [],
    }
  }

  /** Of version 1 a group's own limits count; of version 2 those of the groups above it hold too. */
  diskRates(path: string): DiskRates {
    const v1 = this.v1.has('blkio')
    const groups = v1 ? [path] : path.split('/').map((_, at, parts) => parts.slice(0, at + 1).join('/'))
    const least = (file: string, key: string) => {
      const found = groups.flatMap((group) =>
        v1
          ? rates(this.read('blkio', group, `blkio.throttle.${file}_device`), /^\d+:\d+ (\d+)$/gm)
          : rates(this.read(undefined, group, 'io.max'), new RegExp(`\\b${key}=(\\d+)`, 'g')),
      )
      return found.length === 0 ? undefined : Math.min(...found)
    }
    return {
      path,
      readBytes: least('read_bps', 'rbps'),
      writeBytes: least('write_bps', 'wbps'),
      readOperations: least('read_iops', 'riops'),
      writeOperations: least('write_iops', 'wiops'),
    }
  }

  /**
   * Bytes a second that reach a device by way of the cache, which version 1 counts as nobody's; "counted" where the kernel
   * knows whose they are, and undefined where nothing limits them.
   */
  cachedWrites(device: string): number | 'counted' | undefined {
    if (!this.v1.has('blkio')) return 'counted'
    const number = readText(`/sys/class/block/${basename(device)}/dev`)
    const lines = this.read('blkio', '', 'blkio.throttle.write_bps_device').split('\n')
    const line = lines.find((each) => number !== '' && each.startsWith(`${number} `))
    return line === undefined ? undefined : Number(line.split(' ')[1])
  }

  private directory(controller: string | undefined, path: string): string | undefined {
    const mount = controller === undefined ? this.v2 : this.v1.get(controller)
    return mount === undefined ? undefined : join(mount, path)
  }

  private read(controller: string | undefined, path: string, file: string): string {
    const directory = this.directory(controller, path)
    if (directory === undefined) return ''
    try {
      return readFileSync(join(directory, file), 'utf8').trim()
    } catch {
      return ''
    }
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return ''
  }
}

function rates(text: string, pattern: RegExp): number[] {
  return [...text.matchAll(pattern)].map(([, rate]) => Number(rate)).filter((rate) => rate > 0)
}
