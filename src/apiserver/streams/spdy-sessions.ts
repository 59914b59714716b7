import type { Duplex } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { CHANNEL } from '../../jail/index.ts'
import type { Clock } from '../../stdx/index.ts'
import { CommandSession } from './command-session.ts'
import { FORWARDS_MAX, STREAM_CREATION_TIMEOUT_MS } from './limits.ts'
import { SpdySession, type SpdyStream } from './spdy-session.ts'

export const COMMAND_PROTOCOL = 'v4.channel.k8s.io'
export const PORT_PROTOCOL = 'portforward.k8s.io'

type StreamType = 'error' | 'stdin' | 'stdout' | 'stderr' | 'resize'

/** exec and attach over SPDY: one stream per channel, opened by the client. Resolves when the session is over. */
export async function carryCommand(
  transport: Duplex,
  engine: Duplex,
  wanted: { stdin: boolean; stdout: boolean; stderr: boolean; tty: boolean },
  clock: Clock,
): Promise<void> {
  const session = new CommandSession(engine)
  const expected = new Set<StreamType>(['error'])
  for (const name of ['stdin', 'stdout', 'stderr'] as const) if (wanted[name]) expected.add(name)
  if (wanted.tty) expected.add('resize')
  const streams = new Map<StreamType, SpdyStream>()
  const complete = Promise.withResolvers<boolean>()
  const spdy = new SpdySession(transport, (stream) => {
    const type = stream.headers.get('streamtype') as StreamType | undefined
    if (type === undefined || !expected.has(type) || streams.has(type)) return void stream.destroy()
    streams.set(type, stream)
    if (streams.size === expected.size) complete.resolve(true)
  })
  const cancel = clock.after(STREAM_CREATION_TIMEOUT_MS, () => complete.resolve(false))
  const over = spdy.run().then(() => {
    complete.resolve(false)
    session.destroy()
    return undefined
  })
  const all = await complete.promise
  cancel()
  if (!all) {
    session.destroy()
    spdy.end()
    return await over
  }
  for (const type of ['error', 'stdout', 'stderr'] as const) streams.get(type)?.resume()
  void read(
    streams.get('stdin'),
    (chunk) => session.input(CHANNEL.stdin, chunk),
    () => session.closeInput(),
  )
  void read(streams.get('resize'), (chunk) => session.input(CHANNEL.resize, chunk))
  const send = async (type: StreamType, payload: Buffer) => {
    const stream = streams.get(type)
    if (!stream?.writable) return
    const sent = Promise.withResolvers<void>()
    stream.write(payload, (error) => (error ? sent.reject(error) : sent.resolve()))
    await sent.promise
  }
  let status: Buffer | undefined
  await session.run({
    output: (channel, payload) => send(channel === CHANNEL.stderr ? 'stderr' : 'stdout', payload),
    status: async (payload) => void (status = payload),
    end: () => {},
  })
  // The output ends before the status comes, as with the kubelet; a client may stop reading at the status.
  await Promise.all((['stdout', 'stderr'] as const).map((type) => ended(streams.get(type))))
  if (status) await send('error', status).catch(() => {})
  await ended(streams.get('error'))
  spdy.end()
  await over
}

async function read(
  stream: SpdyStream | undefined,
  onChunk: (chunk: Buffer) => Promise<void>,
  onEnd?: () => Promise<void>,
): Promise<void> {
  if (!stream) return
  try {
    for await (const chunk of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>)
      await onChunk(chunk)
  } catch {
    // A stream that the client reset has no more to say, like one that it ended.
  }
  await onEnd?.()
}

async function ended(stream: SpdyStream | undefined): Promise<void> {
  if (!stream || stream.destroyed) return
  const done = Promise.withResolvers<void>()
  stream.once('close', done.resolve)
  stream.end(() => done.resolve())
  await done.promise
}

/** Port-forward over SPDY: for each connection an error and a data stream with one `requestid`. */
export async function carryPorts(
  transport: Duplex,
  connect: (port: number) => Promise<Duplex>,
  clock: Clock,
): Promise<void> {
  const pairs = new Map<string, { error?: SpdyStream; data?: SpdyStream; cancel: () => void }>()
  let forwards = 0
  const spdy = new SpdySession(transport, (stream) => {
    const type = stream.headers.get('streamtype')
    // Clients from before requestid used neighbouring stream numbers: the error stream comes first.
    const id = stream.headers.get('requestid') ?? String(type === 'data' ? stream.id - 2 : stream.id)
    if ((type !== 'data' && type !== 'error') || parsePort(stream) === undefined) return void stream.destroy()
    let pair = pairs.get(id)
    if (!pair) {
      if (pairs.size + forwards >= FORWARDS_MAX) return void stream.destroy()
      const cancel = clock.after(STREAM_CREATION_TIMEOUT_MS, () => {
        pairs.delete(id)
        pair?.error?.destroy()
        pair?.data?.destroy()
      })
      pair = { cancel }
      pairs.set(id, pair)
    }
    if (pair[type]) return void stream.destroy()
    pair[type] = stream
    const { error, data } = pair
    if (!error || !data) return
    pair.cancel()
    pairs.delete(id)
    forwards++
    void forward({ error, data }, connect).finally(() => forwards--)
  })
  await spdy.run()
  for (const { cancel } of pairs.values()) cancel()
}

function parsePort(stream: SpdyStream): number | undefined {
  const text = stream.headers.get('port') ?? ''
  const port = Number(text)
  return /^\d{1,5}$/.test(text) && port >= 1 && port <= 65_535 ? port : undefined
}

async function forward(
  { error, data }: { error: SpdyStream; data: SpdyStream },
  connect: (port: number) => Promise<Duplex>,
): Promise<void> {
  error.resume()
  const port = parsePort(data) ?? 0
  let connection: Duplex
  try {
    connection = await connect(port)
  } catch {
    error.end(`error forwarding port ${port}: cannot connect to the pod`)
    data.destroy()
    return
  }
  connection.on('error', () => {})
  if (data.destroyed) connection.destroy()
  // Each direction ends on its own; when one breaks, both go.
  const up = pipeline(data, connection)
  const down = pipeline(connection, data)
  await Promise.allSettled([down])
  // A client waits for this before it lets go of the data stream.
  error.end()
  await Promise.allSettled([up])
  connection.destroy()
}
