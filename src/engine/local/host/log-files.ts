import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  watch,
  writeSync,
} from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import type { JailId, LogOptions } from '../../../jail/index.ts'
import type { Clock } from '../../../stdx/index.ts'
import { LogFormatter } from '../observe/log-lines.ts'
import { LOG_BYTES_ROTATE, LOG_READ_BYTES } from './limits.ts'
import type { Places } from './places.ts'

const FOLLOW_POLL_MS = 500
const LINE_FEED = 10

/** The containers' logs: one file per attempt that conmon writes, and one before it when it grew too large. */
export class LogFiles {
  private readonly places: Places
  private readonly clock: Clock

  constructor(places: Places, clock: Clock) {
    this.places = places
    this.clock = clock
  }

  /** Makes room for an attempt's log and forgets those that nobody can ask for any more. */
  prepare(jail: JailId, container: string, attempt: number): void {
    const directory = this.places.logs(jail, container)
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    for (const name of readdirSync(directory))
      if (Number.parseInt(name, 10) < attempt - 1) rmSync(join(directory, name), { force: true })
  }

  /** Moves a log aside that has grown too large, and has conmon begin a new one. */
  rotate(log: string, bundle: string): void {
    if (!existsSync(log) || statSync(log).size < LOG_BYTES_ROTATE) return
    let control: number
    try {
      control = openSync(join(bundle, 'ctl'), constants.O_WRONLY | constants.O_NONBLOCK)
    } catch {
      return // The monitor is gone, so nothing is written any more.
    }
    try {
      renameSync(log, rotated(log))
      writeSync(control, '2 0 0\n')
    } finally {
      closeSync(control)
    }
  }

  /** Plain bytes of a log. With `follow` it goes on until `ended` says that nothing more will come. */
  read(
    jail: JailId,
    container: string,
    attempt: number,
    options: LogOptions,
    ended: () => boolean,
    signal: AbortSignal,
  ): Readable {
    const log = this.places.log(jail, container, attempt)
    return Readable.from(limit(this.lines(log, options, ended, signal), options.limitBytes), {
      objectMode: false,
      signal,
    })
  }

  private async *lines(
    log: string,
    options: LogOptions,
    ended: () => boolean,
    signal: AbortSignal,
  ): AsyncGenerator<Buffer> {
    const formatter = new LogFormatter(options, this.clock.nowMs())
    const files = await openAll([rotated(log), log])
    // What is open stays the same file when it is moved aside, so counting and reading see the same lines.
    let current = files.at(-1)
    const watched = options.follow ? new Change(log, this.clock, signal) : undefined
    try {
      if (options.tailLines !== undefined) formatter.skip((await countLines(files)) - options.tailLines)
      for (const file of files) yield* drain(file, formatter)
      for (;;) {
        if (!watched || signal.aborted) break
        const last = ended()
        const changed = watched.next()
        if (current) yield* drain(current, formatter)
        const next = await openNewer(log, current)
        if (next) {
          if (current) yield* drain(current, formatter)
          files.push(next)
          current = next
          continue
        }
        if (last) break
        await changed
      }
    } finally {
      watched?.close()
      for (const file of files) await file.handle.close()
    }
  }
}

type OpenLog = { handle: FileHandle; inode: number; offset: number; rest: Buffer }

function rotated(log: string): string {
  return `${log}.1`
}

async function openAll(paths: readonly string[]): Promise<OpenLog[]> {
  const files: OpenLog[] = []
  for (const path of paths) {
    const file = await openLog(path)
    // A rotation between the two opens would give the same file twice.
    if (file && files.some((f) => f.inode === file.inode)) await file.handle.close()
    else if (file) files.push(file)
  }
  return files
}

async function openLog(path: string): Promise<OpenLog | undefined> {
  try {
    const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW)
    const { ino } = await handle.stat()
    return { handle, inode: ino, offset: 0, rest: Buffer.alloc(0) }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** The file that is at the log's path now, if it is another one. */
async function openNewer(log: string, current: OpenLog | undefined): Promise<OpenLog | undefined> {
  const file = await openLog(log)
  if (file && file.inode === current?.inode) {
    await file.handle.close()
    return undefined
  }
  return file
}

async function countLines(files: readonly OpenLog[]): Promise<number> {
  const buffer = Buffer.alloc(LOG_READ_BYTES)
  let count = 0
  for (const { handle } of files) {
    let offset = 0
    for (;;) {
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, offset)
      if (bytesRead === 0) break
      offset += bytesRead
      for (
        let at = buffer.indexOf(LINE_FEED);
        at >= 0 && at < bytesRead;
        at = buffer.indexOf(LINE_FEED, at + 1)
      )
        count++
    }
  }
  return count
}

/** Everything that is in the file beyond what was read before; keeps an unfinished line for the next time. */
async function* drain(file: OpenLog, formatter: LogFormatter): AsyncGenerator<Buffer> {
  for (;;) {
    const buffer = Buffer.alloc(LOG_READ_BYTES)
    const { bytesRead } = await file.handle.read(buffer, 0, buffer.length, file.offset)
    if (bytesRead === 0) return
    file.offset += bytesRead
    const { text, rest } = formatter.format(Buffer.concat([file.rest, buffer.subarray(0, bytesRead)]))
    file.rest = rest
    if (text.length > 0) yield text
  }
}

async function* limit(source: AsyncGenerator<Buffer>, bytesMax: number | undefined): AsyncGenerator<Buffer> {
  let left = bytesMax ?? Number.POSITIVE_INFINITY
  for await (const chunk of source) {
    if (left <= 0) return
    const part = chunk.length <= left ? chunk : chunk.subarray(0, left)
    left -= part.length
    yield part
    if (left <= 0) return
  }
}

/** Tells that something in a log's directory has changed, or that it is time to look again. */
class Change {
  private pending = Promise.withResolvers<void>()
  private readonly stop: () => void
  private cancelPoll: () => void = () => {}
  private readonly clock: Clock

  constructor(log: string, clock: Clock, signal: AbortSignal) {
    this.clock = clock
    const notify = () => this.pending.resolve()
    const directory = join(log, '..')
    const watcher = existsSync(directory) ? watch(directory, { persistent: false }, notify) : undefined
    watcher?.on('error', notify)
    signal.addEventListener('abort', notify, { once: true })
    this.stop = () => {
      watcher?.close()
      signal.removeEventListener('abort', notify)
    }
  }

  /** A promise made before looking, so that a change while looking is not missed. */
  next(): Promise<void> {
    this.pending = Promise.withResolvers<void>()
    this.cancelPoll()
    this.cancelPoll = this.clock.after(FOLLOW_POLL_MS, () => this.pending.resolve())
    return this.pending.promise
  }

  close(): void {
    this.cancelPoll()
    this.stop()
  }
}
