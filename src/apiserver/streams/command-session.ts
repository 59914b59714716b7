import type { Duplex } from 'node:stream'
import { CHANNEL, FRAME_PAYLOAD_BYTES_MAX, FrameParser, renderFrame } from '../../jail/index.ts'

/** Where the output of a command goes. Each resolves when more may come. */
export type CommandOutput = {
  output(channel: number, payload: Buffer): Promise<void>
  /** The last thing there is to say: a Status as JSON. */
  status(payload: Buffer): Promise<void>
  /** Nothing comes any more. */
  end(): void
}

const LOST = Buffer.from(
  JSON.stringify({
    metadata: {},
    status: 'Failure',
    message: 'the connection to the container was lost',
    reason: 'InternalError',
    code: 500,
  }),
)

/** A client's side of exec or attach: passes frames between the engine's stream and whatever the client speaks. */
export class CommandSession {
  private readonly engine: Duplex

  constructor(engine: Duplex) {
    this.engine = engine
    engine.on('error', () => {})
  }

  /** Resolves when the engine takes more. What comes after the command's end is dropped. */
  async input(channel: number, payload: Buffer): Promise<void> {
    for (let at = 0; at < payload.length; at += FRAME_PAYLOAD_BYTES_MAX)
      await this.write(renderFrame(channel, payload.subarray(at, at + FRAME_PAYLOAD_BYTES_MAX)))
  }

  async closeInput(): Promise<void> {
    await this.write(renderFrame(CHANNEL.close, Buffer.from([CHANNEL.stdin])))
  }

  /** The client is gone. */
  destroy(): void {
    this.engine.destroy()
  }

  /** Passes output on until the command ends. Never rejects. */
  async run(to: CommandOutput): Promise<void> {
    const parser = new FrameParser()
    let told = false
    try {
      for await (const chunk of this.engine.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>)
        for (const { channel, payload } of parser.parse(chunk))
          if (channel === CHANNEL.status) {
            told = true
            await to.status(payload)
          } else if (channel === CHANNEL.stdout || channel === CHANNEL.stderr)
            await to.output(channel, payload)
    } catch {
      // Told below, as an end without a status.
    }
    try {
      if (!told) await to.status(LOST)
    } catch {
      // The client is gone too.
    }
    to.end()
    this.engine.destroy()
  }

  private async write(frame: Buffer): Promise<void> {
    if (!this.engine.writable || this.engine.write(frame)) return
    const ready = Promise.withResolvers<void>()
    for (const event of ['drain', 'close', 'error'] as const) this.engine.once(event, ready.resolve)
    await ready.promise
    for (const event of ['drain', 'close', 'error'] as const) this.engine.off(event, ready.resolve)
  }
}
