import { closeSync, openSync, readFileSync } from 'node:fs'
import koffi from 'koffi'
import type { ProcessPosture } from './processes.ts'

/**
 * Where the kernel counts tasks besides the cgroups: by user and user namespace, and all of a namespace for the user who
 * made it (getrlimit(2), RLIMIT_NPROC).
 */
export type TaskCounter = {
  /** Inode of the user namespace. */
  namespace: string
  /** The machine's user who made it; undefined when the kernel does not tell. */
  owner: number | undefined
  /** Tasks that a user of it may have: the most that any of its processes may. */
  tasksMax: number
}

const NS_GET_OWNER_UID = 0xb704
const ioctl = koffi.load('libc.so.6').func('int ioctl(int fd, unsigned long request, _Out_ uint32_t *value)')

/** A counter for each user namespace that these processes are in. */
export function observeTaskCounters(processes: readonly ProcessPosture[]): TaskCounter[] {
  const counters = new Map<string, TaskCounter>()
  for (const { pid, namespaces, tasksMax } of processes) {
    const known = counters.get(namespaces.user)
    if (known) known.tasksMax = Math.max(known.tasksMax, tasksMax)
    else
      counters.set(namespaces.user, {
        namespace: namespaces.user,
        owner: ownerOf(`/proc/${pid}/ns/user`),
        tasksMax,
      })
  }
  return [...counters.values()]
}

/** https://man7.org/linux/man-pages/man2/ioctl_ns.2.html */
function ownerOf(namespace: string): number | undefined {
  let fd: number
  try {
    fd = openSync(namespace, 'r')
  } catch {
    return undefined
  }
  try {
    const value = [0]
    const result: unknown = ioctl(fd, NS_GET_OWNER_UID, value)
    return result === 0 ? value[0] : undefined
  } finally {
    closeSync(fd)
  }
}

/** As many tasks as the whole machine can have. */
export function observeTasksMax(): number {
  const read = (name: string) => Number(readFileSync(`/proc/sys/kernel/${name}`, 'utf8'))
  return Math.min(read('pid_max'), read('threads-max'))
}
