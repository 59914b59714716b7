import { type FileHandle, open, rename, rm } from 'node:fs/promises'
import { type Clock, type Logger } from '../stdx/index.ts'
import type { AuditSink } from './events.ts'
import {
  AUDIT_FILE_BYTES_MAX,
  AUDIT_FILES_KEPT,
  AUDIT_GATHER_MS,
  AUDIT_LINES_PER_WRITE_MAX,
  AUDIT_LINES_WAITING_MAX,
  AUDIT_RETRY_MS,
} from './limits.ts'

/**
 * Appends the audit log to a file that only its user can read. A full file becomes `FILE.1`, and so on up to a
 * number. When the disk cannot keep up or fails, lines wait up to a limit; from half of it on the sink is not ready,
 * and the other half has room for requests that were let through before.
 */
export class AuditFile implements AuditSink, AsyncDisposable {
  private readonly path: string
  private readonly clock: Clock
  private readonly log: Logger
  private readonly bytesMax: number
  private file: FileHandle | undefined
  private fileBytes = 0
  private lines: string[] = []
  private writing: Promise<void> | undefined
  /** Ends the time in which lines are gathered. */
  private hurry = () => {}
  private failed = false
  private closed = false

  private constructor({
    path,
    clock,
    log,
    bytesMax,
  }: {
    path: string
    clock: Clock
    log: Logger
    bytesMax: number
  }) {
    this.path = path
    this.clock = clock
    this.log = log
    this.bytesMax = bytesMax
  }

  /** @throws when the file cannot be written: then nothing should start. */
  static async open({
    path,
    clock,
    log,
    bytesMax = AUDIT_FILE_BYTES_MAX,
  }: {
    path: string
    clock: Clock
    log: Logger
    bytesMax?: number
  }): Promise<AuditFile> {
    const audit = new AuditFile({ path, clock, log, bytesMax })
    await audit.reopen()
    return audit
  }

  get ready(): boolean {
    return !this.closed && !this.failed && this.lines.length < AUDIT_LINES_WAITING_MAX / 2
  }

  write(line: string): void {
    if (this.lines.length >= AUDIT_LINES_WAITING_MAX) {
      this.log.error('audit line lost', { line })
      return
    }
    this.lines.push(line)
    if (this.lines.length === AUDIT_LINES_PER_WRITE_MAX) this.hurry()
    this.writing ??= this.drain()
  }

  private async drain(): Promise<void> {
    // A write costs more than the line: those that come right after this one share it.
    if (!this.closed) {
      const gathered = Promise.withResolvers<void>()
      this.hurry = gathered.resolve
      this.clock.after(AUDIT_GATHER_MS, gathered.resolve)
      await gathered.promise
    }
    try {
      while (this.lines.length > 0) {
        const batch = this.lines.slice(0, AUDIT_LINES_PER_WRITE_MAX)
        await this.append(batch.join(''))
        this.lines.splice(0, batch.length)
        this.failed = false
      }
    } catch (error) {
      if (!this.failed) this.log.error('audit log cannot be written', { error })
      this.failed = true
      this.clock.after(AUDIT_RETRY_MS, () => void (this.writing ??= this.drain()))
    } finally {
      this.writing = undefined
    }
  }

  private async append(text: string): Promise<void> {
    if (!this.file) await this.reopen()
    if (this.fileBytes > 0 && this.fileBytes + text.length > this.bytesMax) await this.rotate()
    try {
      await this.file!.appendFile(text) // opened above
      this.fileBytes += text.length
    } catch (error) {
      await this.file?.close().catch(() => {}) // the first error is the one to tell
      this.file = undefined
      throw error
    }
  }

  private async rotate(): Promise<void> {
    await this.file?.close()
    this.file = undefined
    await rm(`${this.path}.${AUDIT_FILES_KEPT}`, { force: true })
    for (let i = AUDIT_FILES_KEPT - 1; i >= 0; i--) {
      const from = i === 0 ? this.path : `${this.path}.${i}`
      await rename(from, `${this.path}.${i + 1}`).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw error
      })
    }
    await this.reopen()
  }

  private async reopen(): Promise<void> {
    this.file = await open(this.path, 'a', 0o600)
    this.fileBytes = (await this.file.stat()).size
  }

  /** Writes what waits. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.closed = true
    this.hurry()
    await this.writing
    await this.file?.close()
    this.file = undefined
  }
}
