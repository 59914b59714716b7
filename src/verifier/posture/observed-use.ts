import { readFileSync } from 'node:fs'
import { type Layout, paths } from '../../api/index.ts'

/** What the node agent says that it saw of one tenant when it last looked, without cgroups. */
export type ObservedUse = {
  cpus: number
  memoryBytes: number
  tasks: number
  limits: { cpus?: number; memoryBytes: number; tasks: number }
  yields: boolean
  /** What it measured of the pods' files, when it last did. */
  disk?: { bytes: number; files: number; pods: number; atMs: number }
}

export type ObservedUses = { atMs: number; tenants: ReadonlyMap<string, ObservedUse> }

const FILE_BYTES_MAX = 16 * 1024 * 1024

/** Undefined when it has not looked, or what it says cannot be read. */
export function observeUses(layout: Layout): ObservedUses | undefined {
  try {
    return parseObservedUses(readFileSync(paths.observedUse(layout), 'utf8'))
  } catch {
    return undefined
  }
}

export function parseObservedUses(text: string): ObservedUses | undefined {
  if (text.length > FILE_BYTES_MAX) return undefined
  let document: unknown
  try {
    document = JSON.parse(text)
  } catch {
    return undefined
  }
  const { at, tenants } = record(document)
  const atMs = Date.parse(String(at))
  if (!Number.isFinite(atMs) || !Array.isArray(tenants)) return undefined
  return {
    atMs,
    tenants: new Map(
      (tenants as unknown[]).flatMap((each) => {
        const { tenant, cpus, memoryBytes, tasks, limits, yields, disk } = record(each)
        const most = record(limits)
        const numbers = [cpus, memoryBytes, tasks, most['memoryBytes'], most['tasks']].map(Number)
        const [used, bytes, count, bytesMax, countMax] = numbers
        return typeof tenant === 'string' &&
          numbers.every((number) => Number.isFinite(number) && number >= 0) &&
          used !== undefined &&
          bytes !== undefined &&
          count !== undefined &&
          bytesMax !== undefined &&
          countMax !== undefined
          ? [
              [
                tenant,
                {
                  cpus: used,
                  memoryBytes: bytes,
                  tasks: count,
                  limits: {
                    ...(typeof most['cpus'] === 'number' ? { cpus: most['cpus'] } : {}),
                    memoryBytes: bytesMax,
                    tasks: countMax,
                  },
                  yields: yields === true,
                  ...parseDisk(disk),
                },
              ] as const,
            ]
          : []
      }),
    ),
  }
}

function parseDisk(value: unknown): Pick<ObservedUse, 'disk'> {
  const { bytes, files, pods, at } = record(value)
  const [total = NaN, count = NaN, of = NaN] = [bytes, files, pods].map(Number)
  const atMs = Date.parse(String(at))
  const all = [total, count, of, atMs]
  return all.every((number) => Number.isFinite(number) && number >= 0)
    ? { disk: { bytes: total, files: count, pods: of, atMs } }
    : {}
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}
