import { existsSync, readFileSync } from 'node:fs'
import { availableParallelism, totalmem } from 'node:os'
import type { MachineSize } from '../plan/daemon-limits.ts'
import type { MachineFacts } from '../plan/oci/render-config.ts'

export function observeMachineSize(): MachineSize {
  return { memoryBytes: totalmem(), cpus: availableParallelism() }
}

/** What this process may give to containers at most. */
export function observeMachineFacts(): Omit<MachineFacts, 'cgroupMount'> {
  const limits = readFileSync('/proc/self/limits', 'utf8')
  const files = /^Max open files\s+\S+\s+(\S+)/m.exec(limits)?.[1]
  return {
    architecture: process.arch === 'arm64' ? 'arm64' : 'x64',
    openFilesMax: files === undefined || files === 'unlimited' ? 1_024 : Number(files),
    ownOomScoreAdj: Number(readFileSync('/proc/self/oom_score_adj', 'utf8')),
    memoryBytesTotal: totalmem(),
    swap:
      existsSync('/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes') ||
      existsSync('/sys/fs/cgroup/cgroup.controllers'),
  }
}
