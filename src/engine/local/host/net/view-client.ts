import { createHash } from 'node:crypto'
import { askUnix, type Clock, type Logger } from '../../../../stdx/index.ts'
import {
  NAMES_DEBOUNCE_MS,
  RESOLVER_ANSWER_BYTES_MAX,
  RESOLVER_CHECK_MS,
  RESOLVER_RETRY_MS,
  RESOLVER_TIMEOUT_MS,
} from './limits.ts'

/**
 * Keeps what a daemon knows of each tenant equal to ours. It asks the daemon what it has, so neither side's restart
 * loses anything: whatever differs is sent again. A daemon that is down delays nobody.
 */
export class ViewClient<View extends object> {
  private readonly options: {
    socketPath: string
    /** For the log. */
    daemon: 'resolver' | 'connector' | 'front door'
    log: Logger
    clock: Clock
    view: (index: number) => View | undefined
    indexes: () => Iterable<number>
  }
  /** What should be there: the document and its hash; undefined means rendered no more. */
  private readonly rendered = new Map<number, { version: string; body: string }>()
  private readonly dirty = new Set<number>()
  private cancel: (() => void) | undefined
  private running = false
  private stopped = true
  private failing = false

  private turn: Promise<unknown> = Promise.resolve()

  constructor(options: ViewClient<View>['options']) {
    this.options = options
  }

  start(): void {
    this.stopped = false
    for (const index of this.options.indexes()) this.dirty.add(index)
    this.schedule(0)
  }

  stop(): void {
    this.stopped = true
    this.cancel?.()
    this.cancel = undefined
    this.rendered.clear()
  }

  changed(index: number): void {
    this.dirty.add(index)
    this.schedule(NAMES_DEBOUNCE_MS)
  }

  /** Sends it now, and returns what the daemon says about it. */
  async push(index: number): Promise<string> {
    return await this.inTurn(async () => {
      this.dirty.add(index)
      this.render()
      const { version, body } = this.rendered.get(index) ?? {}
      if (body === undefined) throw new Error(`There is nothing to tell the ${this.options.daemon}`)
      return await this.call('PUT', `/v1/views/${index}?version=${version}`, body)
    })
  }

  private async inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.turn.then(work, work)
    this.turn = turn.catch(() => {})
    return await turn
  }

  private schedule(delayMs: number): void {
    if (this.stopped || this.running) return
    this.cancel?.()
    this.cancel = this.options.clock.after(delayMs, () => void this.converge())
  }

  private async converge(): Promise<void> {
    this.running = true
    let nextMs = RESOLVER_CHECK_MS
    try {
      await this.inTurn(() => this.equalize())
      if (this.failing)
        this.options.log.info('daemon knows everything again', { daemon: this.options.daemon })
      this.failing = false
    } catch (error) {
      if (!this.failing)
        this.options.log.warn('cannot tell a daemon what it has to know', {
          daemon: this.options.daemon,
          error,
        })
      this.failing = true
      nextMs = RESOLVER_RETRY_MS
    } finally {
      this.running = false
    }
    this.schedule(this.dirty.size > 0 && !this.failing ? NAMES_DEBOUNCE_MS : nextMs)
  }

  private async equalize(): Promise<void> {
    this.render()
    const there = parseVersions(await this.call('GET', '/v1/views'))
    for (const [index, { version, body }] of this.rendered)
      if (there.get(index) !== version) await this.call('PUT', `/v1/views/${index}?version=${version}`, body)
    for (const index of there.keys())
      if (!this.rendered.has(index)) await this.call('DELETE', `/v1/views/${index}`)
  }

  private render(): void {
    for (const index of this.dirty) {
      const view = this.options.view(index)
      if (view) {
        const body = JSON.stringify(view)
        this.rendered.set(index, {
          version: createHash('sha256').update(body).digest('hex').slice(0, 32),
          body,
        })
      } else this.rendered.delete(index)
    }
    this.dirty.clear()
  }

  private async call(method: string, path: string, body?: string): Promise<string> {
    const { daemon, socketPath } = this.options
    const answer = await askUnix({
      socketPath,
      method,
      path,
      ...(body === undefined ? {} : { body }),
      signal: AbortSignal.timeout(RESOLVER_TIMEOUT_MS),
      answerBytesMax: RESOLVER_ANSWER_BYTES_MAX,
    })
    const text = answer.body.toString('utf8')
    if (answer.code !== 200 && answer.code !== 204)
      throw new Error(`The ${daemon} answered ${answer.code} to ${method} ${path}: ${text.slice(0, 500)}`)
    return text
  }
}

function parseVersions(text: string): Map<number, string> {
  const parsed: unknown = JSON.parse(text)
  const views = typeof parsed === 'object' && parsed !== null && 'views' in parsed ? parsed.views : undefined
  if (!Array.isArray(views)) throw new Error('A daemon did not say which views it has')
  return new Map(
    views.flatMap((view: unknown) => {
      const [index, version] = Array.isArray(view) ? (view as unknown[]) : []
      return typeof index === 'number' && typeof version === 'string' ? [[index, version] as const] : []
    }),
  )
}
