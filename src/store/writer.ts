import { Worker } from 'node:worker_threads'

/** What the writer thread is asked. Everything in `Uint8Array`s is sealed. */
export type WriterRequest =
  | { op: 'open'; path: string }
  | {
      op: 'create'
      path: string
      format: number
      salt: Uint8Array
      keyCheck: Uint8Array
      revision: number
      head: Uint8Array
    }
  | { op: 'read'; path: string; after: number; bytesMax: number }
  | { op: 'head'; path: string }
  | {
      op: 'commit'
      path: string
      /** The sealed head that must still be there. */
      headBefore: Uint8Array
      head: Uint8Array
      revision: number
      /** Lengths of the rows' sealed bytes, which follow each other in `bytes`. */
      rows: readonly { revision: number; length: number }[]
      bytes: Uint8Array
      removes: readonly number[]
    }
  /** Closes the file; it opens again on demand. */
  | { op: 'release'; path: string }

type Answers = {
  /** Undefined when there is no file. */
  open: { format: number; salt: Uint8Array; keyCheck: Uint8Array } | undefined
  create: void
  read: { rows: { revision: number; length: number }[]; bytes: Uint8Array; more: boolean }
  head: { revision: number; sealed: Uint8Array }
  commit: void
  release: void
}
export type WriterAnswer<Op extends WriterRequest['op']> = Answers[Op]
/** `sqliteCode` is a primary result code of SQLite, `systemCode` one such as ENOSPC. */
export type WriterFailure = {
  message: string
  sqliteCode?: number | undefined
  systemCode?: string | undefined
}

/** https://www.sqlite.org/rescode.html */
export const SQLITE_BUSY = 5
export const SQLITE_CORRUPT = 11
export const SQLITE_FULL = 13
export const SQLITE_NOTADB = 26

/** The writer thread refused or failed. */
export class WriterError extends Error {
  readonly sqliteCode: number | undefined
  /** The machine is the reason (disk, permissions, lock), and not what the file says. */
  readonly machine: boolean
  constructor({ message, sqliteCode, systemCode }: WriterFailure) {
    super(message)
    this.sqliteCode = sqliteCode
    this.machine =
      sqliteCode === undefined
        ? systemCode !== undefined
        : ![SQLITE_CORRUPT, SQLITE_NOTADB].includes(sqliteCode)
  }
}

export interface Writer {
  ask<Request extends WriterRequest>(request: Request): Promise<WriterAnswer<Request['op']>>
}

type Waiting = { resolve: (answer: unknown) => void; reject: (error: Error) => void }

/** The process's side of the writer thread. It starts with the first request, and again after it died. */
export class ThreadWriter implements Writer {
  private worker: Worker | undefined
  private nextId = 0
  private readonly waiting = new Map<number, Waiting>()

  async ask<Request extends WriterRequest>(request: Request): Promise<WriterAnswer<Request['op']>> {
    const worker = (this.worker ??= this.start())
    const id = this.nextId++
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    this.waiting.set(id, { resolve, reject })
    // The process stays alive while it waits for the disk, and only then.
    worker.ref()
    worker.postMessage({ id, request }, request.op === 'commit' ? [request.bytes.buffer as ArrayBuffer] : [])
    return (await promise) as WriterAnswer<Request['op']>
  }

  private start(): Worker {
    const worker = new Worker(new URL('./writer-thread.ts', import.meta.url), { name: 'store-writer' })
    worker.unref()
    worker.on(
      'message',
      ({ id, answer, failure }: { id: number; answer?: unknown; failure?: WriterFailure }) => {
        const waiting = this.waiting.get(id)
        this.waiting.delete(id)
        if (this.waiting.size === 0) worker.unref()
        if (failure) waiting?.reject(new WriterError(failure))
        else waiting?.resolve(answer)
      },
    )
    let cause: unknown
    worker.on('error', (error) => (cause = error))
    worker.on('exit', (code) => {
      this.worker = undefined
      const error = new Error(`The store's writer thread ended with code ${code}`, { cause })
      for (const waiting of this.waiting.values()) waiting.reject(error)
      this.waiting.clear()
    })
    return worker
  }
}

/** One thread serves every partition of the process. */
export const sharedWriter: Writer = new ThreadWriter()
