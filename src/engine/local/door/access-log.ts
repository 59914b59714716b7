import { appendFileSync, renameSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { type Clock, type Logger, systemClock } from '../../../stdx/index.ts'
import * as limits from './limits.ts'

export type Access = {
  client: string
  host: string
  method: string
  path: string
  status: number
  tookMs: number
}

/** Who asked whom for what: one file per tenant, each of bounded length. What comes too fast is counted and left out. */
export class AccessLog {
  private readonly directory: string
  private readonly log: Logger
  private readonly clock: Clock
  private readonly waiting = new Map<string, { lines: string[]; dropped: number }>()
  private cancel: (() => void) | undefined

  constructor({ directory, log, clock = systemClock }: { directory: string; log: Logger; clock?: Clock }) {
    this.directory = directory
    this.log = log
    this.clock = clock
  }

  write(tenant: string, { client, host, method, path, status, tookMs }: Access): void {
    const queue = this.waiting.get(tenant) ?? { lines: [], dropped: 0 }
    this.waiting.set(tenant, queue)
    if (queue.lines.length >= limits.ACCESS_LOG_LINES_WAITING_MAX) queue.dropped++
    else
      queue.lines.push(
        JSON.stringify({
          time: new Date(this.clock.nowMs()).toISOString(),
          client,
          host,
          method: method.slice(0, limits.ACCESS_LOG_FIELD_CHARS_MAX),
          path: path.slice(0, limits.ACCESS_LOG_FIELD_CHARS_MAX),
          status,
          tookMs,
        }),
      )
    this.cancel ??= this.clock.after(limits.ACCESS_LOG_FLUSH_MS, () => void this.flush())
  }

  async flush(): Promise<void> {
    this.cancel?.()
    this.cancel = undefined
    for (const [tenant, { lines, dropped }] of this.waiting) {
      const file = join(this.directory, `${tenant}.log`)
      try {
        const more = dropped > 0 ? [JSON.stringify({ leftOut: dropped })] : []
        appendFileSync(file, `${[...lines, ...more].join('\n')}\n`, { mode: 0o600 })
        if (statSync(file).size > limits.ACCESS_LOG_BYTES_MAX) renameSync(file, `${file}.old`)
      } catch (error) {
        this.log.warn('cannot write an access log', { tenant, error })
      }
    }
    this.waiting.clear()
  }

  remove(tenant: string): void {
    this.waiting.delete(tenant)
    for (const name of [`${tenant}.log`, `${tenant}.log.old`])
      rmSync(join(this.directory, name), { force: true })
  }
}
