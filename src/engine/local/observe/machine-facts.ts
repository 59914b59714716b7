import { existsSync, readFileSync } from 'node:fs'
import { availableParallelism, totalmem } from 'node:os'
import type { MachineSize } from '../plan/daemon-limits.ts'
import type { MachineFacts } from '../plan/oci/render-config.ts'

export function observeMachineSize(): MachineSize {
  return { memoryBytes: totalmem(), cpus: availableParallelism() }
}

/** What programs can still get without swapping, by the kernel's own estimate (proc(5), MemAvailable). */
export function observeMemoryAvailable(): number {
  const kib = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]
  if (kib === undefined) throw new Error('The kernel does not say how much memory is left')
  return Number(kib) * 1_024
}

/** What this process may give to containers at most. */
export function observeMachineFacts(): Omit<MachineFacts, 'cgroupMount'> {
  const limits = readFileSync('/proc/self/limits', 'utf8')
  const files = /^Max open files\s+\S+\s+(\S+)/m.exec(limits)?.[1]
  const tasks = /^Max processes\s+\S+\s+(\S+)/m.exec(limits)?.[1]
  return {
    architecture: process.arch === 'arm64' ? 'arm64' : 'x64',
    openFilesMax: files === undefined || files === 'unlimited' ? 1_024 : Number(files),
    tasksMax: tasks === undefined || tasks === 'unlimited' ? Infinity : Number(tasks),
    ownOomScoreAdj: Number(readFileSync('/proc/self/oom_score_adj', 'utf8')),
    memoryBytesTotal: totalmem(),
    swap:
      existsSync('/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes') ||
      existsSync('/sys/fs/cgroup/cgroup.controllers'),
  }
}
