import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import type { Layout } from '../../src/api/index.ts'

/** What the tests see of this machine: read from /proc and /sys by themselves, sharing no code with the platform. */

const PROGRAMS = ['conmon', 'nft', 'ip', 'setpriv', 'nsenter', 'docker-registry', 'ps', 'ss'] as const
const BIN = ['/usr/sbin', '/usr/bin', '/sbin', '/bin', '/usr/local/bin']
const client = (name: string) => new URL(`../../.cache/bin/${name}`, import.meta.url).pathname
export const KUBECTL = client('kubectl')
/** Helm by the major version that people have. */
export const HELM = { 3: client('helm'), 4: client('helm-4') } as const

const installed = (program: string) => BIN.some((dir) => existsSync(join(dir, program)))

/** Why no platform can run here, or false. For the option `skip` of a test. */
export const platformMissing: string | false = (() => {
  if (process.platform !== 'linux') return 'needs Linux'
  if (process.getuid?.() !== 0) return 'needs root: it starts a real platform'
  for (const program of [KUBECTL, ...Object.values(HELM)])
    if (!existsSync(program)) return `needs ${program} (tools/setup)`
  const missing = PROGRAMS.filter((program) => !installed(program))
  if (missing.length > 0) return `needs ${missing.join(', ')}`
  if (!installed('crun') && !installed('runc')) return 'needs crun or runc'
  try {
    execFileSync('unshare', ['--user', '--net', '--mount', '--pid', '--fork', 'true'], { stdio: 'ignore' })
  } catch {
    return 'needs namespaces'
  }
  return false
})()

export const gvisorMissing: string | false =
  platformMissing || (installed('runsc') ? false : 'needs runsc for tenants that nobody trusts')

export type Process = {
  pid: number
  ppid: number
  uid: number
  gid: number
  groups: number[]
  state: string
  command: string
  args: string[]
  capEff: string
  capBnd: string
  capPrm: string
  noNewPrivs: boolean
  startTicks: string
  cgroups: string[]
}

/** Undefined when it has ended, zombies included. */
export function observeProcess(pid: number): Process | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    const field = (name: string) => new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(status)?.[1] ?? ''
    const state = field('State').slice(0, 1)
    if (state === 'Z' || state === 'X') return undefined
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return {
      pid,
      ppid: Number(field('PPid')),
      // Effective, which is what counts when a file is opened.
      uid: Number(field('Uid').split(/\s+/)[1]),
      gid: Number(field('Gid').split(/\s+/)[1]),
      groups: field('Groups').split(/\s+/).filter(Boolean).map(Number),
      state,
      command: field('Name'),
      args: readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1),
      capEff: field('CapEff'),
      capBnd: field('CapBnd'),
      capPrm: field('CapPrm'),
      noNewPrivs: field('NoNewPrivs') === '1',
      startTicks: stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '',
      cgroups: readFileSync(`/proc/${pid}/cgroup`, 'utf8')
        .trim()
        .split('\n')
        .map((line) => line.split(':').slice(2).join(':')),
    }
  } catch {
    return undefined
  }
}

export function observeProcesses(): Process[] {
  return readdirSync('/proc').flatMap((name) =>
    /^\d+$/.test(name) ? (observeProcess(Number(name)) ?? []) : [],
  )
}

/** Namespace of a process as the kernel names it, such as `net:[4026531840]`. */
export function namespaceOf(pid: number, kind: 'net' | 'mnt' | 'user' | 'pid' | 'uts' | 'ipc'): string {
  return readlinkSync(`/proc/${pid}/ns/${kind}`)
}

/** Inodes of the sockets that a process holds open. */
export function socketsOf(pid: number): Set<string> {
  const inodes = new Set<string>()
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1]
      if (inode !== undefined) inodes.add(inode)
    } catch {
      // Closed while we looked.
    }
  }
  return inodes
}

export type InternetSocket = { protocol: string; local: string; state: string; inode: string }

/** Every IP socket in the network namespace of a process, whoever holds it. */
export function internetSocketsSeenBy(pid: number): InternetSocket[] {
  return ['tcp', 'tcp6', 'udp', 'udp6', 'raw', 'raw6', 'udplite', 'udplite6'].flatMap((protocol) => {
    const file = `/proc/${pid}/net/${protocol}`
    if (!existsSync(file)) return []
    return readFileSync(file, 'utf8')
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => {
        const fields = line.trim().split(/\s+/)
        return { protocol, local: fields[1] ?? '', state: fields[3] ?? '', inode: fields[9] ?? '' }
      })
  })
}

function mountsBelow(directories: readonly string[]): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((point) => directories.some((dir) => point === dir || point.startsWith(`${dir}/`)))
}

function cgroupsNamed(name: string): string[] {
  const root = '/sys/fs/cgroup'
  const hierarchies = existsSync(root) ? [root, ...readdirSync(root).map((dir) => join(root, dir))] : []
  return hierarchies.map((dir) => join(dir, name)).filter((dir) => existsSync(dir))
}

/** Everything on this machine that belongs to the platform of `layout`: nothing, after a reset. */
export function leftovers(layout: Layout): string[] {
  const { instance, runDir, stateDir, cgroup, podUidBase, controlPlaneUidBase, interfacePrefix } = layout
  const podUidEnd = podUidBase + layout.tenantsMax * 65_536
  const ours = (p: Process) =>
    p.args.some((arg) => arg.includes(`${runDir}/`) || arg.includes(`${stateDir}/`)) ||
    (p.uid >= podUidBase && p.uid < podUidEnd) ||
    (p.uid >= controlPlaneUidBase && p.uid < controlPlaneUidBase + 4_096) ||
    p.cgroups.some((path) => path.split('/').includes(cgroup)) ||
    (p.args[0]?.startsWith('bulkhead-') === true && environmentOf(p.pid)['BULKHEAD_INSTANCE'] === instance)
  return [
    ...observeProcesses()
      .filter((p) => p.pid !== process.pid && ours(p))
      .map((p) => `process ${p.pid}: ${p.args.join(' ').slice(0, 200)}`),
    ...mountsBelow([runDir, stateDir]).map((point) => `mount ${point}`),
    ...[runDir, stateDir].filter((dir) => existsSync(dir)).map((dir) => `files in ${dir}`),
    ...[cgroup, `${cgroup}-daemons`].flatMap(cgroupsNamed).map((dir) => `cgroup ${dir}`),
    ...readdirSync('/sys/class/net')
      .filter((name) => name.startsWith(interfacePrefix))
      .map((name) => `interface ${name}`),
    ...internetSocketsSeenBy(process.pid)
      .filter(
        (s) => s.state === '0A' && Number.parseInt(s.local.split(':')[1] ?? '', 16) === layout.gatewayPort,
      )
      .map(() => `a listener on port ${layout.gatewayPort}`),
  ]
}

export function environmentOf(pid: number): Record<string, string> {
  try {
    return Object.fromEntries(
      readFileSync(`/proc/${pid}/environ`, 'utf8')
        .split('\0')
        .filter(Boolean)
        .map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]),
    )
  } catch {
    return {}
  }
}
