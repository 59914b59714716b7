import { closeSync, constants, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { CHANNEL } from '../../../jail/index.ts'
import type { Clock } from '../../../stdx/index.ts'
import { ATTACH_PACKET_BYTES_MAX, ATTACH_POLL_MS_MAX, ATTACH_POLL_MS_MIN } from './limits.ts'
import { RemoteStream, reportTo, type TerminalSize } from './remote-stream.ts'
import { closeFd, connectPackets, receivePacket, sendPacket, shutdownWrite } from './syscalls.ts'

/** conmon puts one byte before each packet. */
const FROM_STDOUT = 2
const FROM_STDERR = 3
/** conmon's buffer for one packet to us; a larger one would be cut. */
const RECEIVE_BYTES = 64 * 1024

export type AttachWish = {
  bundle: string
  stdin: boolean
  stdout: boolean
  stderr: boolean
  clock: Clock
  signal: AbortSignal
}

/**
 * Joins the streams of a container's own process through conmon's socket. Node cannot wait for such a socket, so it
 * is looked at often while data flows and less often while it does not.
 */
export function attach({ bundle, stdin, stdout, stderr, clock, signal }: AttachWish): RemoteStream {
  const fd = connectPackets(join(bundle, 'attach'))
  let open = true
  const close = () => {
    if (open) closeFd(fd)
    open = false
  }
  const input = stdin ? new PacketWriter(fd, () => open, clock) : undefined
  input?.on('error', () => {})
  const stream = new RemoteStream({
    stdin: input,
    halfCloses: true,
    resize: (size) => resize(bundle, size),
    closed: close,
  })
  const onAbort = () => stream.destroy()
  signal.addEventListener('abort', onAbort, { once: true })
  stream.once('close', () => signal.removeEventListener('abort', onAbort))
  const pump = async () => {
    const buffer = Buffer.alloc(RECEIVE_BYTES)
    let pauseMs = ATTACH_POLL_MS_MIN
    for (;;) {
      if (!open || stream.destroyed) break
      const packet = receivePacket(fd, buffer)
      if (!packet) {
        await pause(clock, pauseMs)
        pauseMs = Math.min(pauseMs * 2, ATTACH_POLL_MS_MAX)
        continue
      }
      pauseMs = ATTACH_POLL_MS_MIN
      if (packet.length === 0) break
      const payload = Buffer.from(packet.subarray(1))
      if (packet[0] === FROM_STDOUT && stdout) await stream.send(CHANNEL.stdout, payload)
      if (packet[0] === FROM_STDERR && stderr) await stream.send(CHANNEL.stderr, payload)
    }
    close()
    input?.destroy()
    stream.finish({ metadata: {}, status: 'Success' })
  }
  pump().catch((error: unknown) => {
    close()
    stream.destroy(error instanceof Error ? error : new Error(String(error)))
  })
  return stream
}

class PacketWriter extends Writable {
  private readonly fd: number
  private readonly isOpen: () => boolean
  private readonly clock: Clock

  constructor(fd: number, isOpen: () => boolean, clock: Clock) {
    super()
    this.fd = fd
    this.isOpen = isOpen
    this.clock = clock
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    void reportTo(done, this.send(chunk))
  }

  override _final(done: () => void): void {
    if (this.isOpen()) shutdownWrite(this.fd)
    done()
  }

  private async send(chunk: Buffer): Promise<void> {
    for (let at = 0; at < chunk.length; at += ATTACH_PACKET_BYTES_MAX) {
      const packet = chunk.subarray(at, at + ATTACH_PACKET_BYTES_MAX)
      while (this.isOpen() && !sendPacket(this.fd, packet)) await pause(this.clock, ATTACH_POLL_MS_MIN)
    }
  }
}

function pause(clock: Clock, ms: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  clock.after(ms, resolve)
  return promise
}

function resize(bundle: string, { rows, columns }: TerminalSize): void {
  try {
    const control = openSync(join(bundle, 'ctl'), constants.O_WRONLY | constants.O_NONBLOCK)
    try {
      writeSync(control, `1 ${rows} ${columns}\n`)
    } finally {
      closeSync(control)
    }
  } catch {
    // The container has ended.
  }
}
