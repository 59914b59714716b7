import { createHash } from 'node:crypto'
import { Worker } from 'node:worker_threads'
import type { Clock } from '../stdx/index.ts'
import type { Decision } from './decision.ts'
import {
  ANSWER_TIMEOUT_MS,
  FAILURES_IN_A_ROW_MAX,
  LOAD_TIMEOUT_MS,
  PAUSE_MS,
  QUESTION_TIMEOUT_MS,
  THREAD_HEAP_MB_MAX,
  THREAD_IDLE_MS,
  THREAD_STACK_MB_MAX,
  THREADS_MAX,
  WAITING_PER_TENANT_MAX,
} from './limits.ts'
import type { ThreadMessage } from './thread.ts'

/** A compiled policy as its author hands it over, and which of its rules is asked. */
export type PolicyBundle = { readonly bytes: Uint8Array; readonly entrypoint: string | undefined }

export type RegoQuestion = {
  /** Whose request it is: nobody waits behind another's. */
  tenant: string
  bundle: PolicyBundle
  /** JSON. */
  input: string
}

/** `busy` can be asked again later; every other answer but a decision is a no. */
export type RegoAnswer =
  | { kind: 'decision'; decision: Decision }
  | { kind: 'failed'; why: string }
  | { kind: 'busy'; why: string }

/** `unusable` stays so, `crashed` may have been the moment's fault. */
type Loaded = { kind: 'ready'; entrypoint: string } | { kind: 'unusable' | 'crashed'; why: string }

/**
 * Policies, each on a thread of its own that is started when somebody asks and ended when it takes too long. A policy knows
 * nothing from one question to the next, so tenants with the same policy share its thread, taking turns.
 */
export class RegoThreads {
  private readonly clock: Clock
  private readonly threads = new Map<string, PolicyThread>()
  private readonly keys = new WeakMap<PolicyBundle, string>()
  private closed = false

  constructor({ clock }: { clock: Clock }) {
    this.clock = clock
  }

  /** Never rejects. */
  async ask({ tenant, bundle, input }: RegoQuestion): Promise<RegoAnswer> {
    const thread = this.thread(bundle)
    return thread ? thread.ask(tenant, input) : { kind: 'busy', why: 'too many policies are asked at once' }
  }

  /** Whether a bundle can be asked at all, and the rule that is then asked. Never rejects. */
  async check(bundle: PolicyBundle): Promise<Loaded> {
    if (this.closed) return { kind: 'unusable', why: 'the platform is stopping' }
    // Not one of those that answer: what nobody has let in yet must not take their place.
    const thread = new PolicyThread(bundle, this.clock)
    try {
      return await thread.load()
    } finally {
      thread.close()
    }
  }

  close(): void {
    this.closed = true
    for (const thread of this.threads.values()) thread.close()
    this.threads.clear()
  }

  private thread(bundle: PolicyBundle): PolicyThread | undefined {
    if (this.closed) return undefined
    const key = this.key(bundle)
    const known = this.threads.get(key)
    // Last in the map is who was asked last.
    this.threads.delete(key)
    if (!known && this.threads.size >= THREADS_MAX) {
      const idle = [...this.threads].find(([, { busy }]) => !busy)
      if (!idle) return undefined
      this.forget(...idle)
    }
    const thread: PolicyThread = known ?? new PolicyThread(bundle, this.clock, () => this.forget(key, thread))
    this.threads.set(key, thread)
    return thread
  }

  private forget(key: string, thread: PolicyThread): void {
    thread.close()
    if (this.threads.get(key) === thread) this.threads.delete(key)
  }

  private key(bundle: PolicyBundle): string {
    const before = this.keys.get(bundle)
    if (before !== undefined) return before
    const digest = createHash('sha256').update(bundle.bytes).digest('hex')
    const key = JSON.stringify([digest, bundle.entrypoint ?? null])
    this.keys.set(bundle, key)
    return key
  }
}

type Job = {
  tenant: string
  input: string
  answer: (answer: RegoAnswer) => void
  /** It waits no longer for its turn. */
  cancelPatience: () => void
}

/** A number of times in a row that a policy did not come to an end for a tenant. */
type Trouble = { failures: number; pausedUntilMs: number }

class PolicyThread {
  private readonly bundle: PolicyBundle
  private readonly clock: Clock
  private readonly onIdle: (() => void) | undefined
  private worker: Worker | undefined
  private loading: Promise<Loaded> | undefined
  private ready = false
  /** By tenant; whose turn it is comes first. */
  private readonly waiting = new Map<string, Job[]>()
  private running: Job | undefined
  private readonly troubles = new Map<string, Trouble>()
  private cancelDeadline = () => {}
  private cancelIdle = () => {}
  private closed = false

  constructor(bundle: PolicyBundle, clock: Clock, onIdle?: () => void) {
    this.bundle = bundle
    this.clock = clock
    this.onIdle = onIdle
  }

  get busy(): boolean {
    return this.running !== undefined || this.waiting.size > 0
  }

  ask(tenant: string, input: string): Promise<RegoAnswer> {
    const trouble = this.troubles.get(tenant)
    if (trouble && trouble.pausedUntilMs > this.clock.nowMs())
      return Promise.resolve({
        kind: 'failed',
        why: `it did not come to an end ${trouble.failures} times in a row, and is not asked for some seconds`,
      })
    const queue = this.waiting.get(tenant) ?? []
    if (queue.length >= WAITING_PER_TENANT_MAX)
      return Promise.resolve({ kind: 'busy', why: 'too many requests wait for it' })
    const { promise, resolve } = Promise.withResolvers<RegoAnswer>()
    const job: Job = {
      tenant,
      input,
      answer: resolve,
      cancelPatience: this.clock.after(QUESTION_TIMEOUT_MS, () => {
        this.withdraw(job)
        resolve({ kind: 'busy', why: 'too many requests wait for it' })
      }),
    }
    this.waiting.set(tenant, [...queue, job])
    void this.work()
    return promise
  }

  close(): void {
    this.closed = true
    this.cancelIdle()
    this.end()
    const job = this.running
    this.running = undefined
    for (const left of job ? [job, ...this.takeAll()] : this.takeAll())
      finish(left, { kind: 'failed', why: 'it was taken away while it was asked' })
  }

  /** Starts the thread if there is none. Resolves when it can be asked, or cannot. */
  load(): Promise<Loaded> {
    return (this.loading ??= this.start())
  }

  private async start(): Promise<Loaded> {
    const { promise, resolve } = Promise.withResolvers<Loaded>()
    const { bytes, entrypoint } = this.bundle
    const worker = new Worker(new URL('./thread.ts', import.meta.url), {
      workerData: { bundle: bytes, entrypoint },
      env: {},
      stdout: true,
      stderr: true,
      resourceLimits: {
        maxOldGenerationSizeMb: THREAD_HEAP_MB_MAX,
        maxYoungGenerationSizeMb: THREAD_HEAP_MB_MAX / 4,
        stackSizeMb: THREAD_STACK_MB_MAX,
      },
    })
    this.worker = worker
    let why = 'it ended'
    const cancelPatience = this.clock.after(LOAD_TIMEOUT_MS, () => {
      why = `it could not be loaded within ${LOAD_TIMEOUT_MS} ms`
      void worker.terminate()
    })
    worker.on('message', (message: ThreadMessage) => {
      // One that was ended may have spoken before it was.
      if (this.worker !== worker) return
      if (message.kind !== 'ready' && message.kind !== 'unusable') return this.answered(message)
      cancelPatience()
      this.ready = message.kind === 'ready'
      // Only a question keeps the process from ending.
      worker.unref()
      resolve(message)
    })
    worker.on('error', (error: Error & { code?: string }) => {
      why = error.code === 'ERR_WORKER_OUT_OF_MEMORY' ? 'it used too much memory' : 'it could not go on'
    })
    worker.on('exit', () => {
      cancelPatience()
      resolve({ kind: 'crashed', why })
      this.broken(worker, why)
    })
    return promise
  }

  /** Gives the thread the next question, if it has nothing to do. */
  private async work(): Promise<void> {
    this.cancelIdle()
    const loaded = await this.load()
    if (this.running || this.closed) return
    const { worker } = this
    if (loaded.kind !== 'ready' || !worker) {
      for (const job of this.takeAll())
        finish(job, { kind: 'failed', why: loaded.kind === 'ready' ? 'it ended' : loaded.why })
      return this.rest()
    }
    const job = this.next()
    if (!job) return this.rest()
    job.cancelPatience()
    this.running = job
    worker.ref()
    this.cancelDeadline = this.clock.after(ANSWER_TIMEOUT_MS, () =>
      this.broken(worker, `it did not come to an end within ${ANSWER_TIMEOUT_MS} ms`),
    )
    worker.postMessage(job.input, [])
  }

  private answered(message: Exclude<ThreadMessage, Loaded>): void {
    const job = this.running
    if (!job) return
    this.cancelDeadline()
    this.running = undefined
    this.worker?.unref()
    this.troubles.delete(job.tenant)
    finish(job, message)
    void this.work()
  }

  /** The thread is of no use any more: whoever it worked for is told why, and the others get a new one. */
  private broken(worker: Worker, why: string): void {
    if (this.worker !== worker) return
    this.end()
    const job = this.running
    this.running = undefined
    if (!job) return
    const failures = (this.troubles.get(job.tenant)?.failures ?? 0) + 1
    const pausedUntilMs = failures < FAILURES_IN_A_ROW_MAX ? 0 : this.clock.nowMs() + PAUSE_MS
    this.troubles.set(job.tenant, { failures, pausedUntilMs })
    finish(job, { kind: 'failed', why })
    if (pausedUntilMs > 0) {
      // Who waits behind it for the same tenant would only keep the others waiting.
      for (const left of this.waiting.get(job.tenant) ?? []) finish(left, { kind: 'failed', why })
      this.waiting.delete(job.tenant)
    }
    if (this.waiting.size > 0) void this.work()
    else this.rest()
  }

  private end(): void {
    this.cancelDeadline()
    const { worker } = this
    this.worker = undefined
    void worker?.terminate()
    // One that worked is started again at once, one that did not come that far only after a while.
    if (this.ready) this.loading = undefined
    else if (!this.closed) this.clock.after(PAUSE_MS, () => (this.loading = undefined))
    this.ready = false
  }

  private rest(): void {
    this.cancelIdle()
    if (this.onIdle) this.cancelIdle = this.clock.after(THREAD_IDLE_MS, this.onIdle)
  }

  private next(): Job | undefined {
    const [first] = this.waiting
    if (!first) return undefined
    const [tenant, [job, ...rest]] = first
    this.waiting.delete(tenant)
    if (rest.length > 0) this.waiting.set(tenant, rest)
    return job
  }

  private takeAll(): Job[] {
    const all = [...this.waiting.values()].flat()
    this.waiting.clear()
    return all
  }

  private withdraw(job: Job): void {
    const rest = (this.waiting.get(job.tenant) ?? []).filter((other) => other !== job)
    if (rest.length > 0) this.waiting.set(job.tenant, rest)
    else this.waiting.delete(job.tenant)
  }
}

function finish(job: Job, answer: RegoAnswer): void {
  job.cancelPatience()
  job.answer(answer)
}
