import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { uptime } from 'node:os'

/** Half-open range of ids on the machine. */
export type IdRange = { from: number; count: number }

/** What the kernel says of one process (proc(5), namespaces(7), user_namespaces(7), seccomp(2)). */
export type ProcessPosture = {
  pid: number
  command: string
  /** The program that runs, or "" when the kernel does not tell. */
  exe: string
  /** Effective ids, as the machine sees them. */
  uid: number
  gid: number
  uidMap: readonly (IdRange & { inside: number })[]
  gidMap: readonly (IdRange & { inside: number })[]
  /** For how long it has run. */
  ageMs: number
  /** Its threads, and its memory that is no file's. */
  tasks: number
  memoryBytes: number
  /** Tasks that its user may have in its user namespace. */
  tasksMax: number
  noNewPrivs: boolean
  /** 0 off, 1 strict, 2 filter. */
  seccompMode: number
  seccompFilters: number
  capEff: bigint
  capBnd: bigint
  /** namespace type → inode */
  namespaces: Readonly<Record<NamespaceType, string>>
  /** Every path this process has in any cgroup hierarchy. */
  cgroups: readonly string[]
  /** Lines of mountinfo, parsed as far as they are needed. */
  mounts: readonly { root: string; mountPoint: string; type: string; source: string; options: string }[]
}

export const NAMESPACE_TYPES = ['user', 'net', 'pid', 'mnt', 'ipc', 'uts', 'cgroup'] as const
export type NamespaceType = (typeof NAMESPACE_TYPES)[number]

/** Every process there is, except kernel threads and those that end while we look. */
export function observeProcesses(proc = '/proc'): ProcessPosture[] {
  return readdirSync(proc)
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => observeProcess(Number(name), proc) ?? [])
}

export function observeProcess(pid: number, proc = '/proc'): ProcessPosture | undefined {
  const dir = `${proc}/${pid}`
  try {
    const status = parseStatus(readFileSync(`${dir}/status`, 'utf8'))
    if (status['State']?.startsWith('Z')) return undefined
    const ids = (key: string) => Number(status[key]?.split(/\s+/)[1] ?? Number.NaN)
    const capability = (key: string) => BigInt(`0x${status[key] ?? '0'}`)
    const namespaces = Object.fromEntries(
      NAMESPACE_TYPES.map((type) => [type, linkInode(`${dir}/ns/${type}`)]),
    )
    return {
      pid,
      command: status['Name'] ?? '',
      exe: link(`${dir}/exe`),
      uid: ids('Uid'),
      gid: ids('Gid'),
      uidMap: parseIdMap(readFileSync(`${dir}/uid_map`, 'utf8')),
      gidMap: parseIdMap(readFileSync(`${dir}/gid_map`, 'utf8')),
      ageMs: ageOf(readFileSync(`${dir}/stat`, 'latin1')),
      tasks: Number(status['Threads'] ?? 1),
      memoryBytes:
        1_024 * (Number.parseInt(status['RssAnon'] ?? '0') + Number.parseInt(status['RssShmem'] ?? '0')),
      tasksMax: parseTasksMax(readFileSync(`${dir}/limits`, 'utf8')),
      noNewPrivs: status['NoNewPrivs'] === '1',
      seccompMode: Number(status['Seccomp'] ?? 0),
      seccompFilters: Number(status['Seccomp_filters'] ?? 0),
      capEff: capability('CapEff'),
      capBnd: capability('CapBnd'),
      namespaces: namespaces as Record<NamespaceType, string>, // one entry per type
      cgroups: readFileSync(`${dir}/cgroup`, 'utf8')
        .trim()
        .split('\n')
        .map((line) => line.split(':').slice(2).join(':')),
      mounts: parseMountInfo(readFileSync(`${dir}/mountinfo`, 'utf8')),
    }
  } catch {
    // It ended while we looked.
    return undefined
  }
}

const TICKS_PER_SECOND = 100

/** From field 22 of stat(5), after the program's name, which may look like anything. */
function ageOf(stat: string): number {
  const startTicks = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19])
  return Math.max(0, uptime() - startTicks / TICKS_PER_SECOND) * 1_000
}

/** The hard limit, as `limits` of proc(5) has it. */
export function parseTasksMax(text: string): number {
  const value = /^Max processes +\S+ +(\S+)/m.exec(text)?.[1] ?? ''
  return /^\d+$/.test(value) ? Number(value) : Infinity
}

function parseStatus(text: string): Record<string, string> {
  return Object.fromEntries(
    text.split('\n').flatMap((line) => {
      const colon = line.indexOf(':')
      return colon < 0 ? [] : [[line.slice(0, colon), line.slice(colon + 1).trim()]]
    }),
  )
}

export function parseIdMap(text: string): (IdRange & { inside: number })[] {
  return text
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number))
    .flatMap(([inside, from, count]) =>
      inside === undefined || from === undefined || count === undefined ? [] : [{ inside, from, count }],
    )
}

export function parseMountInfo(text: string): ProcessPosture['mounts'] {
  return text.split('\n').flatMap((line) => {
    const [before = '', after = ''] = line.split(' - ')
    const [, , , root, mountPoint, options] = before.split(' ')
    const [type, source, superOptions] = after.split(' ')
    return root === undefined || mountPoint === undefined || type === undefined
      ? []
      : [{ root, mountPoint, type, source: source ?? '', options: `${options ?? ''},${superOptions ?? ''}` }]
  })
}

function link(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return ''
  }
}

function linkInode(path: string): string {
  return /\[(\d+)\]/.exec(link(path))?.[1] ?? ''
}

export function overlaps(a: IdRange, b: IdRange): boolean {
  return a.from < b.from + b.count && b.from < a.from + a.count
}
