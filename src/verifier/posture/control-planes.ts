import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import type { Layout, TenantName } from '../../api/index.ts'
import { paths } from '../../api/index.ts'
import type { CgroupPosture, CgroupReader } from './cgroups.ts'
import type { ProcessPosture } from './processes.ts'

/** The process that holds a control plane's socket, found by the socket and not by what it calls itself. */
export type ControlPlanePosture = {
  process: ProcessPosture
  socketUid: number
  /** Interfaces in its network namespace. */
  interfaces: readonly string[]
  /** The platform's cgroup that it is in, with its limits. */
  cgroup?: CgroupPosture | undefined
}

export function observeControlPlane(
  layout: Layout,
  tenant: TenantName,
  processes: readonly ProcessPosture[],
  cgroups: CgroupReader,
): ControlPlanePosture | undefined {
  const socketPath = paths.apiSocket(layout, tenant)
  let socketUid: number
  try {
    socketUid = statSync(socketPath).uid
  } catch {
    return undefined
  }
  for (const process of processes) {
    if (process.uid !== socketUid) continue
    const inodes = socketsAt(process.pid, socketPath)
    if (inodes.length > 0 && holdsOneOf(process.pid, inodes))
      return {
        process,
        socketUid,
        interfaces: interfacesOf(process.pid),
        cgroup: cgroupOf(process, layout, cgroups),
      }
  }
  return undefined
}

function cgroupOf(process: ProcessPosture, layout: Layout, cgroups: CgroupReader): CgroupPosture | undefined {
  const path = process.cgroups.find((each) => each.startsWith(`/${layout.cgroup}-daemons/`))
  return path === undefined ? undefined : cgroups.observe(path.slice(1), 0)
}

/** Inodes of unix sockets bound to a path, in the network namespace of a process (proc_pid_net(5)). */
function socketsAt(pid: number, path: string): string[] {
  return readText(`/proc/${pid}/net/unix`)
    .split('\n')
    .flatMap((line) => (line.endsWith(` ${path}`) ? (line.trim().split(/\s+/)[6] ?? []) : []))
}

function holdsOneOf(pid: number, inodes: readonly string[]): boolean {
  const wanted = new Set(inodes.map((inode) => `socket:[${inode}]`))
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => {
      try {
        return wanted.has(readlinkSync(`/proc/${pid}/fd/${fd}`))
      } catch {
        return false // closed while we looked
      }
    })
  } catch {
    return false
  }
}

function interfacesOf(pid: number): string[] {
  return readText(`/proc/${pid}/net/dev`)
    .split('\n')
    .slice(2)
    .flatMap((line) => (line.includes(':') ? [line.slice(0, line.indexOf(':')).trim()] : []))
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
