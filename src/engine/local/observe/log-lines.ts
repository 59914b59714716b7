import type { LogOptions } from '../../../jail/index.ts'

const LINE_FEED = 10
/** More than conmon ever writes into one line; without a bound a broken file would be kept in memory whole. */
const LINE_BYTES_MAX = 64 * 1024

/** One line of a log in the CRI's format: `TIME stdout|stderr P|F CONTENT`. */
export type LogLine = { time: string; stream: 'stdout' | 'stderr'; partial: boolean; content: Buffer }

/** Undefined for a line that is not in the format, such as one that a crash cut short. */
export function parseLogLine(line: Buffer): LogLine | undefined {
  const head = line.subarray(0, 64).toString('latin1')
  const match =
    /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)) (stdout|stderr) ([PF])(?::[^ ]*)?(?: |$)/.exec(
      head,
    )
  if (!match) return undefined
  const [whole, time = '', stream, tag] = match
  return {
    time: time.endsWith('+00:00') ? `${time.slice(0, -6)}Z` : time,
    stream: stream === 'stderr' ? 'stderr' : 'stdout',
    partial: tag === 'P',
    content: line.subarray(whole.length),
  }
}

/** Turns the log's lines into what a client asked for. */
export class LogFormatter {
  private readonly timestamps: boolean
  private readonly sinceMs: number
  private linesToSkip = 0
  private atLineStart = true

  constructor(options: Pick<LogOptions, 'timestamps' | 'sinceSeconds' | 'sinceTime'>, nowMs: number) {
    this.timestamps = options.timestamps ?? false
    this.sinceMs =
      options.sinceTime !== undefined
        ? Date.parse(options.sinceTime)
        : options.sinceSeconds !== undefined
          ? nowMs - options.sinceSeconds * 1_000
          : Number.NEGATIVE_INFINITY
    // An unreadable time selects nothing by itself; the API refuses it long before.
    if (Number.isNaN(this.sinceMs)) this.sinceMs = Number.NEGATIVE_INFINITY
  }

  /** Leaves out the next `lines` lines. */
  skip(lines: number): void {
    this.linesToSkip = Math.max(0, lines)
  }

  /** `rest` is the beginning of a line whose end is not there yet. */
  format(bytes: Buffer): { text: Buffer; rest: Buffer } {
    const out: Buffer[] = []
    let at = 0
    for (;;) {
      const end = bytes.indexOf(LINE_FEED, at)
      if (end < 0) break
      this.formatLine(bytes.subarray(at, end), out)
      at = end + 1
    }
    const rest = bytes.subarray(at)
    return {
      text: Buffer.concat(out),
      rest: rest.length > LINE_BYTES_MAX ? Buffer.alloc(0) : Buffer.from(rest),
    }
  }

  private formatLine(bytes: Buffer, out: Buffer[]): void {
    if (this.linesToSkip > 0) {
      this.linesToSkip--
      return
    }
    const line = parseLogLine(bytes)
    if (!line || Date.parse(line.time) < this.sinceMs) return
    // A long line is written in parts; only its beginning has a time of its own.
    if (this.timestamps && this.atLineStart) out.push(Buffer.from(`${line.time} `))
    out.push(line.content)
    if (!line.partial) out.push(Buffer.from('\n'))
    this.atLineStart = !line.partial
  }
}
