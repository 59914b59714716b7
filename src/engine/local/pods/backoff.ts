import { BACKOFF_MAX_MS, BACKOFF_MIN_MS, BACKOFF_RESET_MS } from '../limits.ts'

/** How long the next start waits after the end of this one, which began at `startedMs`. */
export type Backoff = { delayMs: number; startedMs: number }

function expired(backoff: Backoff, finishedMs: number): boolean {
  return finishedMs - backoff.startedMs > BACKOFF_RESET_MS
}

/** When a container that ended at `finishedMs` may start again: the first time at once, then after 10 s, 20 s, … 300 s. */
export function restartDueMs(backoff: Backoff | undefined, finishedMs: number): number {
  return backoff && !expired(backoff, finishedMs) ? finishedMs + backoff.delayMs : finishedMs
}

/** What to remember of a start at `nowMs` after an end at `finishedMs`. */
export function nextBackoff(backoff: Backoff | undefined, finishedMs: number, nowMs: number): Backoff {
  const delayMs =
    backoff && !expired(backoff, finishedMs) ? Math.min(backoff.delayMs * 2, BACKOFF_MAX_MS) : BACKOFF_MIN_MS
  return { delayMs, startedMs: nowMs }
}

/** Twice the last delay of something that failed again. */
export function doubled(delayMs: number | undefined, minMs = BACKOFF_MIN_MS): number {
  return delayMs === undefined ? minMs : Math.min(delayMs * 2, BACKOFF_MAX_MS)
}

/** As Go prints it: `10s`, `1m20s`, `5m0s`. */
export function renderDuration(ms: number): string {
  const seconds = Math.round(ms / 1_000)
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${seconds % 60}s`
}
