import { readdirSync, readFileSync } from 'node:fs'

/** One process of a tenant's pods, counted by its user and not by its cgroup. */
export type UsingProcess = {
  pid: number
  /** Field 22 of stat(5), so that a later process with the same pid is not taken for it. */
  startTicks: string
  /** From 0: whose range of uids its user is in. */
  index: number
  uid: number
  /** The pod whose cgroup it is in, if it is in one. */
  pod?: string
  tasks: number
  /** Memory that is no file's; what processes share is counted for each. */
  memoryBytes: number
  cpuTicks: number
}

const POD = /\/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?:\/|$)/m

/** Every process with a uid of a range that pods use. */
export function observeUses(range: {
  uidBase: number
  idsPerTenant: number
  tenantsMax: number
}): UsingProcess[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return []
    try {
      const status = readFileSync(`/proc/${name}/status`, 'utf8')
      const uid = Number(/^Uid:\s+(\d+)/m.exec(status)?.[1] ?? -1)
      const index = Math.floor((uid - range.uidBase) / range.idsPerTenant)
      if (index < 0 || index >= range.tenantsMax) return []
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1')
      // A program can have ") S 1" in its name.
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      const pod = POD.exec(readFileSync(`/proc/${name}/cgroup`, 'utf8'))?.[1]
      const kib = (key: string) => Number(new RegExp(`^${key}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1] ?? 0)
      return [
        {
          pid: Number(name),
          startTicks: fields[19] ?? '',
          index,
          uid,
          ...(pod === undefined ? {} : { pod }),
          tasks: Number(fields[17]),
          memoryBytes: (kib('RssAnon') + kib('RssShmem')) * 1_024,
          cpuTicks: Number(fields[11]) + Number(fields[12]),
        },
      ]
    } catch {
      return [] // It ended while we looked.
    }
  })
}

/** The same of one process, where what processes share is counted once for all of them together; takes longer. */
export function observeOwnMemory(pid: number): number {
  try {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
    const kib = (key: string) => Number(new RegExp(`^${key}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1] ?? 0)
    return (kib('Pss_Anon') + kib('Pss_Shmem')) * 1_024
  } catch {
    return 0
  }
}
