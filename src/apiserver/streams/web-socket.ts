import type { IncomingMessage } from 'node:http'
import type { Duplex, Readable } from 'node:stream'
import { type WebSocket, WebSocketServer } from 'ws'
import { CHANNEL } from '../../jail/index.ts'
import { CommandSession } from './command-session.ts'
import { BUFFERED_BYTES_MAX, MESSAGE_BYTES_MAX, PING_EVERY_MS, TUNNEL_MESSAGE_BYTES_MAX } from './limits.ts'

/** In order of preference. v5 is v4 with a way to end stdin; the oldest says only why something failed, as text. */
export const COMMAND_PROTOCOLS = ['v5.channel.k8s.io', 'v4.channel.k8s.io', 'channel.k8s.io'] as const
/** One stream of bytes from the server; whoever offers nothing means the same. */
export const BYTES_PROTOCOLS = ['binary.k8s.io'] as const
/** A whole SPDY connection inside binary messages (KEP-4006). */
export const TUNNEL_PROTOCOL = 'SPDY/3.1+portforward.k8s.io'
export const PORT_PROTOCOLS = [TUNNEL_PROTOCOL, 'v4.channel.k8s.io'] as const

const NORMAL_CLOSURE = 1_000
const UNSUPPORTED_DATA = 1_003

/** The first of `supported` that the client offers. */
export function negotiate<T extends string>(
  offered: string | undefined,
  supported: readonly T[],
): T | undefined {
  const names = (offered ?? '').split(',', 32).map((name) => name.trim())
  return supported.find((name) => names.includes(name))
}

/** Undefined when the handshake was wrong; the socket has been answered and closed then. */
export async function acceptWebSocket(
  {
    request,
    socket,
    head,
    headerLines = [],
  }: { request: IncomingMessage; socket: Duplex; head: Buffer; headerLines?: readonly string[] },
  protocol: string | undefined,
): Promise<WebSocket | undefined> {
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    // Compression would let a small message become a large one, and mix secrets with what an attacker chooses.
    perMessageDeflate: false,
    maxPayload: protocol === TUNNEL_PROTOCOL ? TUNNEL_MESSAGE_BYTES_MAX : MESSAGE_BYTES_MAX,
    ...(protocol === undefined ? {} : { handleProtocols: () => protocol }),
  })
  // RFC 6455 wants a token here, and the tunnel's name is none because of its "/"; ws would refuse to read it. We have
  // chosen already, so ws sees a token and answers with the choice.
  if (protocol !== undefined) request.headers['sec-websocket-protocol'] = 'negotiated'
  server.on('headers', (lines) => lines.push(...headerLines))
  const accepted = Promise.withResolvers<WebSocket | undefined>()
  socket.once('close', () => accepted.resolve(undefined))
  server.handleUpgrade(request, socket, head, (client) => accepted.resolve(client))
  const client = await accepted.promise
  if (!client) return undefined
  client.on('error', () => client.terminate())
  keepAlive(client)
  return client
}

/** A client that does not answer a ping until the next one is due is gone. */
function keepAlive(client: WebSocket): void {
  let answered = true
  client.on('pong', () => (answered = true))
  const timer = setInterval(() => {
    if (!answered) return client.terminate()
    answered = false
    client.ping()
  }, PING_EVERY_MS)
  timer.unref()
  client.on('close', () => clearInterval(timer))
}

/** Resolves when little enough waits to be sent that more may come. */
export async function sendMessage(client: WebSocket, message: Buffer): Promise<void> {
  if (client.readyState !== client.OPEN) throw new Error('The client has closed the WebSocket')
  const sent = Promise.withResolvers<void>()
  client.send(message, { binary: true }, (error) => (error ? sent.reject(error) : sent.resolve()))
  if (client.bufferedAmount > BUFFERED_BYTES_MAX) await sent.promise
  else sent.promise.catch(() => {})
}

/** Calls `handle` for one message after the other, reading no more while it is busy. */
export function onMessages(
  client: WebSocket,
  handle: (channel: number, payload: Buffer) => Promise<void>,
): void {
  let busy = Promise.resolve()
  let waiting = 0
  client.on('message', (data, isBinary) => {
    if (!isBinary) return client.close(UNSUPPORTED_DATA, 'only binary messages')
    const message = Buffer.isBuffer(data)
      ? data
      : Buffer.concat(Array.isArray(data) ? data : [Buffer.from(data)])
    if (message.length === 0) return
    waiting++
    client.pause()
    busy = busy
      .then(() => handle(message.readUInt8(0), message.subarray(1)))
      .catch(() => client.terminate())
      .finally(() => {
        if (--waiting === 0 && client.readyState === client.OPEN) client.resume()
      })
  })
}

/** exec and attach over `v4.channel.k8s.io` and `v5.channel.k8s.io`. Resolves when the session is over. */
export async function carryCommand(client: WebSocket, protocol: string, engine: Duplex): Promise<void> {
  const session = new CommandSession(engine)
  client.on('close', () => session.destroy())
  onMessages(client, async (channel, payload) => {
    if (channel === CHANNEL.stdin || channel === CHANNEL.resize) await session.input(channel, payload)
    else if (channel === CHANNEL.close && protocol === 'v5.channel.k8s.io' && payload[0] === CHANNEL.stdin)
      await session.closeInput()
  })
  await session.run({
    output: (channel, payload) => sendMessage(client, Buffer.concat([Buffer.from([channel]), payload])),
    status: async (payload) => {
      const told = protocol === 'channel.k8s.io' ? failureIn(payload) : payload
      if (told) await sendMessage(client, Buffer.concat([Buffer.from([CHANNEL.status]), told]))
    },
    end: () => client.close(NORMAL_CLOSURE),
  })
}

/** The words of a Status that is no success. */
function failureIn(payload: Buffer): Buffer | undefined {
  const { status, message = '' } = JSON.parse(payload.toString()) as { status?: string; message?: string }
  return status === 'Success' ? undefined : Buffer.from(message)
}

/** Sends what a stream holds. Resolves when either side has ended. */
export async function carryBytes(client: WebSocket, stream: Readable): Promise<void> {
  client.on('close', () => stream.destroy())
  // Nothing is expected from there; it is read so that an end is noticed.
  client.on('message', () => {})
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) await sendMessage(client, chunk)
  } catch {
    // Whoever has gone needs no answer, and a log that breaks off has no other sign of it than its end.
  } finally {
    stream.destroy()
    client.close(NORMAL_CLOSURE)
  }
}

/** Old port-forward clients: per port a channel for data and one for errors, each beginning with the port's number. */
export async function carryPorts(
  client: WebSocket,
  ports: readonly number[],
  connect: (port: number) => Promise<Duplex>,
): Promise<void> {
  // Who speaks before the pod has answered is not heard yet, and would be lost.
  client.pause()
  const connections = await Promise.all(
    ports.map(async (port, index) => {
      const [data, error] = [index * 2, index * 2 + 1]
      const hello = Buffer.alloc(2)
      hello.writeUInt16LE(port)
      for (const channel of [data, error])
        await sendMessage(client, Buffer.concat([Buffer.from([channel]), hello]))
      try {
        const connection = await connect(port)
        connection.on('error', () => {})
        return connection
      } catch {
        const why = Buffer.from(`cannot connect to port ${port} of the pod`)
        await sendMessage(client, Buffer.concat([Buffer.from([error]), why]))
        return undefined
      }
    }),
  )
  const closeAll = () => {
    for (const connection of connections) connection?.destroy()
  }
  client.on('close', closeAll)
  if (client.readyState !== client.OPEN) closeAll()
  onMessages(client, async (channel, payload) => {
    const connection = channel % 2 === 0 ? connections[channel / 2] : undefined
    if (!connection?.writable || connection.write(payload)) return
    const ready = Promise.withResolvers<void>()
    for (const event of ['drain', 'close'] as const) connection.once(event, ready.resolve)
    await ready.promise
    for (const event of ['drain', 'close'] as const) connection.off(event, ready.resolve)
  })
  client.resume()
  await Promise.all(
    connections.map(async (connection, index) => {
      if (!connection) return
      try {
        for await (const chunk of connection as AsyncIterable<Buffer>)
          await sendMessage(client, Buffer.concat([Buffer.from([index * 2]), chunk]))
      } catch {
        // One side is gone; the WebSocket ends when all are.
      }
    }),
  )
  client.close(NORMAL_CLOSURE)
}
