import { createServer, type Server, type Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { CHANNEL, FrameParser, renderFrame } from '../../../jail/index.ts'
import { listenUnix, type Logger, peerCredentials } from '../../../stdx/index.ts'
import { EXCHANGES_MAX, EXCHANGE_CHUNK_BYTES_MAX } from '../limits.ts'
import { clip, exchange, type ProbeQuestion, type ProbeResult } from './probe-exchange.ts'
import { tellOfFailure } from './probe-messages.ts'

/**
 * The prober's side of its socket: one connection per probe. It brings the question in a first frame, then what the pod
 * says; what is to be said to the pod goes back, and at last the result. Nobody but root is answered.
 */
export async function serveExchanges({
  socketPath,
  log,
  allowedUid = 0,
}: {
  socketPath: string
  log: Logger
  allowedUid?: number
}): Promise<Server> {
  const server = createServer((socket) => {
    socket.on('error', () => {})
    if (peerCredentials(socket).uid !== allowedUid) return void socket.destroy()
    serve(socket, log)
  })
  server.maxConnections = EXCHANGES_MAX
  await listenUnix(server, { path: socketPath })
  return server
}

function serve(socket: Socket, log: Logger): void {
  const parser = new FrameParser()
  let pod: PodStream | undefined
  const finish = (result: ProbeResult) => {
    if (socket.writable) socket.end(renderFrame(CHANNEL.status, Buffer.from(JSON.stringify(result))))
  }
  socket.on('data', (chunk: Buffer) => {
    try {
      for (const { channel, payload } of parser.parse(chunk)) {
        if (pod) {
          if (channel === CHANNEL.stdin) pod.push(payload)
          else if (channel === CHANNEL.close) pod.over(payload.toString())
          continue
        }
        const question = JSON.parse(payload.toString()) as ProbeQuestion // The node agent's own words.
        pod = new PodStream(socket)
        // From here on what takes long is the pod's doing.
        socket.write(renderFrame(CHANNEL.resize, Buffer.alloc(0)))
        void ask(pod, question).then(finish)
      }
    } catch (error) {
      log.warn('a probe could not be read', { error })
      socket.destroy()
    }
  })
  socket.on('close', () => pod?.destroy())
}

async function ask(pod: PodStream, question: ProbeQuestion): Promise<ProbeResult> {
  const { handler, podIP } = question
  try {
    return await exchange(pod, question, new AbortController().signal)
  } catch (error) {
    const message = tellOfFailure({ handler, podIP, phase: 'exchange', error, timedOutAfterMs: undefined })
    return { ok: false, message: clip(message) }
  } finally {
    pod.destroy()
  }
}

/** The pod's connection, of which the node agent holds the other end. */
class PodStream extends Duplex {
  private readonly agent: Socket

  constructor(agent: Socket) {
    super()
    this.agent = agent
    this.on('error', () => {})
  }

  /** The pod has ended the connection, or it broke with this code. */
  over(code: string): void {
    if (code === '') this.push(null)
    else this.destroy(Object.assign(new Error(code), { code }))
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error) => void): void {
    for (let at = 0; at < chunk.length; at += EXCHANGE_CHUNK_BYTES_MAX)
      this.agent.write(renderFrame(CHANNEL.stdout, chunk.subarray(at, at + EXCHANGE_CHUNK_BYTES_MAX)))
    done()
  }

  override _final(done: () => void): void {
    done()
  }
}
