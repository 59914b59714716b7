import { type FSWatcher, watch } from 'node:fs'
import type { Clock } from '../../../stdx/index.ts'
import { EXIT_POLL_MS } from './limits.ts'

/**
 * Tells when conmon may have reported the end of a container. A watch of one directory is enough for all; looking
 * again every now and then catches what a watch can miss, such as a monitor that died without a word.
 */
export class ExitWatcher {
  private readonly directory: string
  private readonly clock: Clock
  private readonly waiting = new Map<string, Set<() => void>>()
  private watcher: FSWatcher | undefined
  private stopPolling: (() => void) | undefined

  constructor(directory: string, clock: Clock) {
    this.directory = directory
    this.clock = clock
  }

  /** Resolves with the first value of `look` that is not undefined. */
  async wait<T>(id: string, look: () => T | undefined, signal: AbortSignal): Promise<T> {
    for (;;) {
      signal.throwIfAborted()
      const changed = this.change(id, signal)
      try {
        const value = look()
        if (value !== undefined) return value
        await changed.promise
      } finally {
        changed.forget()
      }
    }
  }

  private change(id: string, signal: AbortSignal): { promise: Promise<void>; forget: () => void } {
    const { promise, resolve } = Promise.withResolvers<void>()
    const callbacks = this.waiting.get(id) ?? new Set()
    callbacks.add(resolve)
    this.waiting.set(id, callbacks)
    const onAbort = () => resolve()
    signal.addEventListener('abort', onAbort, { once: true })
    this.begin()
    return {
      promise,
      forget: () => {
        callbacks.delete(resolve)
        if (callbacks.size === 0) this.waiting.delete(id)
        signal.removeEventListener('abort', onAbort)
        if (this.waiting.size === 0) this.end()
      },
    }
  }

  private begin(): void {
    if (!this.watcher) {
      try {
        this.watcher = watch(this.directory, { persistent: false }, (_event, name) => this.notify(name))
        this.watcher.on('error', () => this.end())
      } catch {
        // Out of inotify instances: looking again from time to time still works.
      }
    }
    if (!this.stopPolling) this.poll()
  }

  private poll(): void {
    this.stopPolling = this.clock.after(EXIT_POLL_MS, () => {
      this.stopPolling = undefined
      this.notify(null)
      if (this.waiting.size > 0) this.poll()
    })
  }

  /** conmon writes under a temporary name that begins with the id. */
  private notify(name: string | null): void {
    for (const [id, callbacks] of this.waiting)
      if (name === null || name.startsWith(id)) for (const callback of callbacks) callback()
  }

  private end(): void {
    this.watcher?.close()
    this.watcher = undefined
    this.stopPolling?.()
    this.stopPolling = undefined
  }
}
