import { setTimeout as delay } from 'node:timers/promises'

/** Waits `ms`, or throws the signal's reason as soon as it aborts. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  await delay(ms, undefined, signal ? { signal } : {})
}

/** Runs `work` with a signal that aborts after `timeoutMs` or with `parent`, and throws if it comes too late. */
export async function withDeadline<T>(
  what: string,
  timeoutMs: number,
  work: (signal: AbortSignal) => Promise<T>,
  parent?: AbortSignal,
): Promise<T> {
  const timeout = AbortSignal.timeout(timeoutMs)
  const signal = parent ? AbortSignal.any([parent, timeout]) : timeout
  signal.throwIfAborted()
  const tooLate = Promise.withResolvers<never>()
  const onAbort = () =>
    tooLate.reject(new Error(`${what} did not finish within ${timeoutMs} ms`, { cause: signal.reason }))
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await Promise.race([work(signal), tooLate.promise])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

/**
 * Waits until `condition` returns something truthy and returns it. A condition that throws is tried again;
 * its last error becomes the cause when the deadline passes.
 */
export async function until<T>(
  condition: () => T | Promise<T>,
  { timeoutMs = 10_000, everyMs = 20, what = 'The awaited state' } = {},
): Promise<NonNullable<T>> {
  const deadlineMs = performance.now() + timeoutMs
  let last: unknown
  for (;;) {
    try {
      const value = await condition()
      if (value) return value
      last = undefined
    } catch (error) {
      last = error
    }
    if (performance.now() >= deadlineMs)
      throw new Error(`${what} was not reached within ${timeoutMs} ms`, { cause: last })
    await sleep(everyMs)
  }
}
