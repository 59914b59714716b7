import { readFileSync } from 'node:fs'

/** A tick of proc(5)'s stat: sysconf(_SC_CLK_TCK) is 100 on Linux. */
const TICK_MS = 10

/** What processes have taken of the processors, with all their threads: utime and stime of proc(5)'s stat. */
export function cpuMs(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    return sum + (Number(fields[11]) + Number(fields[12])) * TICK_MS
  }, 0)
}

export type Memory = { rss: number; pss: number }

/** https://docs.kernel.org/filesystems/proc.html, smaps_rollup */
export function observeMemory(pids: readonly number[]): Memory {
  const all = pids.map((pid) => {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
    const bytes = (field: string) =>
      Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1] ?? NaN) * 1024
    return { rss: bytes('Rss'), pss: bytes('Pss') }
  })
  const sum = (of: (memory: Memory) => number) => all.reduce((total, memory) => total + of(memory), 0)
  return { rss: sum(({ rss }) => rss), pss: sum(({ pss }) => pss) }
}
