import type { Clock } from '../../../stdx/index.ts'
import { TIMER_MS_MAX } from '../limits.ts'

/** Calls `run` once it is `dueMs`, however far away that is; the returned function cancels it. */
export function at(clock: Clock, dueMs: number, run: () => void): () => void {
  let cancel: () => void
  const arm = () => {
    const leftMs = dueMs - clock.nowMs()
    cancel = leftMs <= TIMER_MS_MAX ? clock.after(Math.max(0, leftMs), run) : clock.after(TIMER_MS_MAX, arm)
  }
  arm()
  return () => cancel()
}

/** Calls `run` once after `delayMs`, unless `closing` comes first. */
export function later(clock: Clock, delayMs: number, closing: AbortSignal, run: () => void): void {
  if (closing.aborted) return
  const cancel = clock.after(delayMs, () => {
    closing.removeEventListener('abort', cancel)
    run()
  })
  closing.addEventListener('abort', cancel, { once: true })
}

/** A signal that aborts after `timeoutMs` or with `parent`. Afterwards: `cancel` it, so that no timer is left. */
export function timeoutSignal(
  clock: Clock,
  timeoutMs: number,
  what: string,
  parent?: AbortSignal,
): { signal: AbortSignal; cancel: () => void } {
  const timeout = new AbortController()
  const cancel = at(clock, clock.nowMs() + timeoutMs, () =>
    timeout.abort(new Error(`${what} took more than ${timeoutMs} ms`)),
  )
  return { signal: parent ? AbortSignal.any([parent, timeout.signal]) : timeout.signal, cancel }
}
