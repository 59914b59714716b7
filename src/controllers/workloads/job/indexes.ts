import { parseIndexRange } from '../../../api/index.ts'
import type { Pod } from '../../kinds.ts'

/** Tells which index a pod of an Indexed Job is for, as a label and as an annotation. */
export const INDEX_LABEL = 'batch.kubernetes.io/job-completion-index'

/** The index of a pod, or undefined when it has none below `completions`. */
export function indexOf(pod: Pod, completions: number): number | undefined {
  const text = pod.metadata.annotations?.[INDEX_LABEL] ?? ''
  return /^(0|[1-9]\d{0,8})$/.test(text) && Number(text) < completions ? Number(text) : undefined
}

/** Reads `0,2-4`; what makes no sense, or is not below `completions`, is left out. */
export function parseIndexes(text: string, completions: number): Set<number> {
  const indexes = new Set<number>()
  for (const part of text.split(',')) {
    const range = parseIndexRange(part)
    if (!range) continue
    const end = Math.min(range.last, completions - 1)
    for (let index = range.first; index <= end; index += 1) indexes.add(index)
  }
  return indexes
}

/** As `0,2-4`, in order. */
export function renderIndexes(indexes: ReadonlySet<number>): string {
  const sorted = [...indexes].sort((a, b) => a - b)
  const parts: string[] = []
  for (let at = 0; at < sorted.length;) {
    const first = sorted[at] ?? 0
    let end = at
    while (sorted[end + 1] === (sorted[end] ?? 0) + 1) end += 1
    const last = sorted[end] ?? first
    // As upstream, which writes two in a row as two.
    parts.push(last === first ? `${first}` : last === first + 1 ? `${first},${last}` : `${first}-${last}`)
    at = end + 1
  }
  return parts.join(',')
}

/** The first `count` indexes that have neither succeeded nor a pod. */
export function pendingIndexes(
  count: number,
  completions: number,
  taken: (index: number) => boolean,
): number[] {
  const pending: number[] = []
  for (let index = 0; index < completions && pending.length < count; index += 1)
    if (!taken(index)) pending.push(index)
  return pending
}
