import type { Duplex } from 'node:stream'
import { HALF_OPEN_IDLE_MS } from './limits.ts'

/** A connection, or a stream in one. */
export type Spliced = Duplex & { setTimeout(ms: number, onTimeout?: () => void): unknown }

/** Joins two connections until both directions have ended, or nothing was said for too long. */
export function splice(one: Spliced, other: Spliced, idleMs: number): void {
  const end = () => {
    one.destroy()
    other.destroy()
  }
  for (const [from, to] of [
    [one, other],
    [other, one],
  ] as const) {
    from.on('error', end)
    from.once('close', () => to.end())
    from.setTimeout(idleMs, end)
    from.once('end', () => to.setTimeout(HALF_OPEN_IDLE_MS))
    from.pipe(to)
  }
}
