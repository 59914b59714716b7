import { Duplex, type Writable } from 'node:stream'
import type { Status } from '../../../api/index.ts'
import { CHANNEL, FRAME_PAYLOAD_BYTES_MAX, FrameParser, renderFrame } from '../../../jail/index.ts'
import { EXEC_CHUNK_BYTES_MAX } from './limits.ts'

export type TerminalSize = { columns: number; rows: number }

/** Where the client's part of a session goes. */
export type SessionInput = {
  /** Absent when the session has no stdin: what comes is dropped. */
  stdin: Writable | undefined
  /** A terminal has one stream for both directions, so the end of input must not close it. */
  halfCloses: boolean
  resize(size: TerminalSize): void
  /** The client is gone, before or after the end. */
  closed(): void
}

/** kubectl takes the exit code from exactly this shape (k8s.io/apimachinery, remotecommand). */
export function renderExitStatus(exitCode: number): object {
  if (exitCode === 0) return { metadata: {}, status: 'Success' }
  return {
    metadata: {},
    status: 'Failure',
    message: `command terminated with non-zero exit code: exit status ${exitCode}`,
    reason: 'NonZeroExitCode',
    details: { causes: [{ reason: 'ExitCode', message: String(exitCode) }] },
  }
}

export function renderFailureStatus(message: string): Status {
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message,
    reason: 'InternalError',
    code: 500,
  }
}

/**
 * The engine's end of exec and attach: frames as in `stream-frames.ts`. Output waits for the client to read, stdin
 * waits for the container to read, so that neither side fills our memory.
 */
export class RemoteStream extends Duplex {
  private readonly parser = new FrameParser()
  private readonly input: SessionInput
  private wanted = Promise.withResolvers<void>()
  private finished = false

  constructor(input: SessionInput) {
    super()
    this.input = input
  }

  /** Sends output; resolves when the client wants more. */
  async send(channel: number, payload: Buffer): Promise<void> {
    for (let at = 0; at < payload.length; at += EXEC_CHUNK_BYTES_MAX) {
      if (this.destroyed || this.finished) return
      this.wanted = Promise.withResolvers<void>()
      if (!this.push(renderFrame(channel, payload.subarray(at, at + EXEC_CHUNK_BYTES_MAX))))
        await this.wanted.promise
    }
  }

  /** The last frame. */
  finish(status: object): void {
    if (this.destroyed || this.finished) return
    this.finished = true
    this.push(
      renderFrame(CHANNEL.status, Buffer.from(JSON.stringify(status)).subarray(0, FRAME_PAYLOAD_BYTES_MAX)),
    )
    this.push(null)
  }

  override _read(): void {
    this.wanted.resolve()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    void reportTo(done, this.receive(chunk))
  }

  override _final(done: () => void): void {
    this.endInput()
    done()
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.wanted.resolve()
    this.input.closed()
    done(error)
  }

  private endInput(): void {
    if (this.input.halfCloses) this.input.stdin?.end()
  }

  private async receive(chunk: Buffer): Promise<void> {
    for (const { channel, payload } of this.parser.parse(chunk)) {
      if (this.finished) return
      const { stdin } = this.input
      if (channel === CHANNEL.stdin && stdin) await writeAll(stdin, payload)
      else if (channel === CHANNEL.close && payload[0] === CHANNEL.stdin) this.endInput()
      else if (channel === CHANNEL.resize) {
        const size = parseSize(payload)
        if (size) this.input.resize(size)
      }
    }
  }
}

/** Tells a stream's callback how `work` went. */
export async function reportTo(done: (error?: Error | null) => void, work: Promise<void>): Promise<void> {
  let failure: Error | undefined
  try {
    await work
  } catch (error) {
    failure = error instanceof Error ? error : new Error(String(error))
  }
  done(failure)
}

/** What cannot be written any more is dropped: a command may end without reading its input. */
async function writeAll(stdin: Writable, payload: Buffer): Promise<void> {
  if (payload.length === 0 || !stdin.writable || stdin.write(payload)) return
  const ready = Promise.withResolvers<void>()
  const events = ['drain', 'close', 'error'] as const
  for (const event of events) stdin.once(event, ready.resolve)
  await ready.promise
  for (const event of events) stdin.off(event, ready.resolve)
}

/** `{"Width": 80, "Height": 24}`; undefined for anything else. */
export function parseSize(payload: Buffer): TerminalSize | undefined {
  try {
    const value: unknown = JSON.parse(payload.toString('utf8', 0, 256))
    if (typeof value !== 'object' || value === null) return undefined
    const { Width: columns, Height: rows } = value as { Width?: unknown; Height?: unknown }
    const fits = (n: unknown): n is number =>
      typeof n === 'number' && Number.isInteger(n) && n >= 0 && n <= 65_535
    return fits(columns) && fits(rows) ? { columns, rows } : undefined
  } catch {
    return undefined
  }
}
