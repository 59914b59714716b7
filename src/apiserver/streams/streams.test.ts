import assert from 'node:assert/strict'
import { createServer, request, type IncomingMessage } from 'node:http'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { Duplex, PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import { test, type TestContext } from 'node:test'
import { createDeflate, createInflate, constants, type Deflate, type Inflate } from 'node:zlib'
import * as fc from 'fast-check'
import { createWebSocketStream, WebSocket } from 'ws'
import { ApiError } from '../../api/index.ts'
import { CHANNEL, FrameParser, renderFrame, type Engine, type Frame, type JailId } from '../../jail/index.ts'
import { silentLogger } from '../../stdx/index.ts'
import type { StreamRequest } from '../stream-handler.ts'
import { createStreamHandler } from './index.ts'
import { DICTIONARY, HeaderReader, HeaderWriter } from './spdy-headers.ts'
import { controlFrame, dataHead, SpdySession } from './spdy-session.ts'

const SUCCESS = { metadata: {}, status: 'Success' }

/** A command in a container: what it was asked, what came in, and a hand on what goes out. */
class FakeCommand extends Duplex {
  readonly options: unknown
  readonly frames: Frame[] = []
  private readonly parser = new FrameParser()
  private readonly onFrame: (command: FakeCommand, frame: Frame) => void

  constructor(options: unknown, onFrame: (command: FakeCommand, frame: Frame) => void) {
    super()
    this.options = options
    this.onFrame = onFrame
  }
  say(channel: number, payload: string | Buffer): void {
    this.push(renderFrame(channel, Buffer.from(payload)))
  }
  exit(status: object): void {
    this.say(CHANNEL.status, JSON.stringify(status))
    this.push(null)
  }
  override _read(): void {}
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    for (const frame of this.parser.parse(Buffer.from(chunk))) {
      this.frames.push(frame)
      this.onFrame(this, frame)
    }
    done()
  }
}

/** `cat`: gives stdin back and ends with it. */
function cat(command: FakeCommand, { channel, payload }: Frame): void {
  if (channel === CHANNEL.stdin) command.say(CHANNEL.stdout, payload)
  if (channel === CHANNEL.close) command.exit(SUCCESS)
}

async function serve(
  t: TestContext,
  {
    subresource = 'exec',
    onFrame = cat,
  }: { subresource?: StreamRequest['subresource']; onFrame?: typeof cat } = {},
) {
  const commands: FakeCommand[] = []
  const opened = Promise.withResolvers<FakeCommand>()
  const open = async (options: unknown) => {
    if (refuse.with) throw refuse.with
    const command = new FakeCommand(options, onFrame)
    commands.push(command)
    opened.resolve(command)
    return command
  }
  const refuse: { with?: ApiError } = {}
  const forwarded: number[] = []
  const engine = {
    exec: (_id: JailId, _container: string, options: unknown) => open(options),
    attach: (_id: JailId, _container: string, options: unknown) => open(options),
    portForward: async (_id: JailId, port: number) => {
      forwarded.push(port)
      // As a pod that takes a moment to answer: what the client says meanwhile must not be lost.
      await new Promise((resolve) => setTimeout(resolve, 20))
      if (port === 81) throw new ApiError('ServiceUnavailable', 'refused: /run/secret')
      return Duplex.from(async function* (source: AsyncIterable<Buffer>) {
        for await (const chunk of source) yield Buffer.from(`${port}:${chunk.toString()}`)
      })
    },
  } as unknown as Engine
  const handler = createStreamHandler({ log: silentLogger })
  const server = createServer()
  const sockets = new Set<Socket>()
  server.on('connection', (socket) => sockets.add(socket))
  server.on('upgrade', (incoming: IncomingMessage, socket, head) => {
    const query = new URL(incoming.url ?? '', 'http://x').searchParams
    const stream = {
      request: incoming,
      socket,
      head,
      subresource,
      jail: 'j' as JailId,
      container: 'app',
      query,
      engine,
      headerLines: ['warning: 299 - "careful"'],
    }
    handler.handle(stream as unknown as StreamRequest).catch((error: unknown) => {
      assert(error instanceof ApiError, String(error))
      socket.end(`HTTP/1.1 ${error.code} No\r\ncontent-length: 0\r\nx-message: ${error.message}\r\n\r\n`)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return { port, commands, opened: opened.promise, forwarded, refuse }
}

/** Messages of a WebSocket by channel, once it has closed. */
async function conversation(client: WebSocket): Promise<{ code: number; channels: Record<number, string> }> {
  const channels: Record<number, string> = {}
  client.on('message', (data: Buffer) => {
    const channel = data[0] ?? -1
    channels[channel] = (channels[channel] ?? '') + data.subarray(1).toString('latin1')
  })
  const closed = Promise.withResolvers<number>()
  client.on('close', closed.resolve)
  client.on('error', closed.reject)
  return { code: await closed.promise, channels }
}

async function open(client: WebSocket): Promise<void> {
  await new Promise<void>((resolve, reject) => client.once('open', resolve).once('error', reject))
}

test('exec over v5 carries stdin, its end, output, sizes and the status', async (t) => {
  const at = await serve(t)
  const client = new WebSocket(
    `ws://127.0.0.1:${at.port}/?command=cat&command=-n&stdin=true&stdout=true&tty=true&stderr=true`,
    ['v5.channel.k8s.io'],
  )
  const talk = conversation(client)
  await open(client)
  assert.equal(client.protocol, 'v5.channel.k8s.io')
  client.send(Buffer.from('\u0004{"Width":80,"Height":24}'))
  client.send(Buffer.from('\0hello '))
  client.send(Buffer.from('\0world'))
  client.send(Buffer.from([255, 0]))
  assert.deepEqual(await talk, { code: 1000, channels: { 1: 'hello world', 3: JSON.stringify(SUCCESS) } })
  const [command] = at.commands
  assert.deepEqual(command?.options, {
    command: ['cat', '-n'],
    stdin: true,
    stdout: true,
    stderr: false,
    tty: true,
  })
  assert.deepEqual(
    command.frames.map((f) => [f.channel, f.payload.toString('latin1')]),
    [
      [4, '{"Width":80,"Height":24}'],
      [0, 'hello '],
      [0, 'world'],
      [255, '\0'],
    ],
  )
})

test('options are read in every spelling that client libraries use', async (t) => {
  const at = await serve(t)
  for (const [no, yes] of [
    ['False', 'True'],
    ['0', '1'],
    ['false', 'true'],
  ]) {
    const query = `command=cat&stdin=${yes}&stdout=${yes}&stderr=${yes}&tty=${no}`
    const client = new WebSocket(`ws://127.0.0.1:${at.port}/?${query}`, ['v5.channel.k8s.io'])
    const talk = conversation(client)
    await open(client)
    client.send(Buffer.from([255, 0]))
    await talk
    assert.deepEqual(at.commands.at(-1)?.options, {
      command: ['cat'],
      stdin: true,
      stdout: true,
      stderr: true,
      tty: false,
    })
  }
})

test('a large input and output go through whole', async (t) => {
  const at = await serve(t)
  const client = new WebSocket(`ws://127.0.0.1:${at.port}/?command=cat&stdin=1&stdout=1`, [
    'v5.channel.k8s.io',
  ])
  const talk = conversation(client)
  await open(client)
  const chunk = Buffer.concat([Buffer.from([0]), Buffer.alloc(1024 * 1024, 'x')])
  for (let i = 0; i < 8; i++) client.send(chunk)
  client.send(Buffer.from([255, 0]))
  const { channels } = await talk
  assert.equal(channels[1]?.length, 8 * 1024 * 1024)
})

test('a command that is lost without a status is told as a failure', async (t) => {
  const at = await serve(t, { subresource: 'attach', onFrame: (command) => void command.push(null) })
  const client = new WebSocket(`ws://127.0.0.1:${at.port}/?stdin=1&stdout=1`, ['v4.channel.k8s.io'])
  const talk = conversation(client)
  await open(client)
  client.send(Buffer.from('\0x'))
  const { code, channels } = await talk
  assert.equal(code, 1000)
  assert.equal((JSON.parse(channels[3] ?? '') as { status: string }).status, 'Failure')
})

test('the oldest protocol has output only, and says why a command failed', async (t) => {
  const end = (status: object) => (command: FakeCommand) => {
    command.say(CHANNEL.stdout, 'out')
    command.exit(status)
  }
  const talk = async (status: object) => {
    const at = await serve(t, { onFrame: end(status) })
    const client = new WebSocket(`ws://127.0.0.1:${at.port}/?command=x&stdin=1&stdout=1`, ['channel.k8s.io'])
    const told = conversation(client)
    await open(client)
    client.send(Buffer.from('\0x'))
    return told
  }
  assert.deepEqual(await talk(SUCCESS), { code: 1000, channels: { 1: 'out' } })
  const failure = { metadata: {}, status: 'Failure', message: 'command terminated with non-zero exit code' }
  assert.deepEqual((await talk(failure)).channels, { 1: 'out', 3: failure.message })
})

test('a client that goes away ends its command', async (t) => {
  const at = await serve(t)
  const client = new WebSocket(`ws://127.0.0.1:${at.port}/?command=cat&stdin=1&stdout=1`, [
    'v5.channel.k8s.io',
  ])
  await open(client)
  const command = await at.opened
  client.terminate()
  await new Promise((resolve) => command.once('close', resolve))
})

test('what cannot be carried is refused before the switch', async (t) => {
  const at = await serve(t)
  const refused = async (path: string, headers: Record<string, string>) =>
    await new Promise<number>((resolve, reject) => {
      request({ port: at.port, host: '127.0.0.1', path, headers: { connection: 'Upgrade', ...headers } })
        .on('response', (response) => resolve(response.statusCode ?? 0))
        .on('upgrade', () => resolve(101))
        .on('error', reject)
        .end()
    })
  const ws = {
    upgrade: 'websocket',
    'sec-websocket-version': '13',
    'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==',
  }
  const v4 = { ...ws, 'sec-websocket-protocol': 'v4.channel.k8s.io' }
  assert.equal(await refused('/?command=a&stdout=1', { upgrade: 'h2c' }), 400)
  assert.equal(await refused('/?command=a&stdout=1', ws), 400)
  assert.equal(
    await refused('/?command=a&stdout=1', { ...ws, 'sec-websocket-protocol': 'v9.channel.k8s.io' }),
    400,
  )
  assert.equal(await refused('/?stdout=1', v4), 400)
  assert.equal(await refused('/?command=a', v4), 400)
  assert.equal(await refused('/?command=a&stdout=1', { upgrade: 'SPDY/3.1' }), 400)
  assert.equal(at.commands.length, 0)
  assert.equal(await refused('/?command=a&stdout=1', { ...v4, 'sec-websocket-key': 'no' }), 400)
  assert.equal(at.commands[0]?.destroyed, true)
  at.refuse.with = new ApiError('BadRequest', 'container "app" is not running')
  assert.equal(await refused('/?command=a&stdout=1', v4), 400)
})

test('text and oversized messages end the session', async (t) => {
  const at = await serve(t)
  for (const message of ['text', Buffer.alloc(1024 * 1024 + 2)]) {
    const client = new WebSocket(`ws://127.0.0.1:${at.port}/?command=cat&stdin=1&stdout=1`, [
      'v5.channel.k8s.io',
    ])
    const talk = conversation(client).catch(() => ({ code: 1009 }))
    await open(client)
    client.send(message)
    assert([1003, 1009, 1006].includes((await talk).code))
  }
})

/** The client's end of SPDY/3.1, as client-go speaks it. */
class SpdyClient {
  readonly transport: Duplex
  readonly streams = new Map<number, { input: PassThrough; reset: boolean }>()
  readonly pings: number[] = []
  goneAway = false
  private readonly deflate: Deflate = createDeflate({ dictionary: DICTIONARY })
  private readonly inflate: Inflate = createInflate({ dictionary: DICTIONARY })
  private nextId = 1
  private pending = Buffer.alloc(0)

  constructor(transport: Duplex) {
    this.transport = transport
    transport.on('error', () => {})
    transport.on('data', (chunk: Buffer) => this.read(chunk))
    transport.on('close', () => {
      for (const { input } of this.streams.values()) input.end()
    })
  }
  async open(headers: Record<string, string>, { fin = false } = {}): Promise<number> {
    const id = this.nextId
    this.nextId += 2
    this.streams.set(id, { input: new PassThrough(), reset: false })
    const parts = [u32(Object.keys(headers).length)]
    for (const word of Object.entries(headers).flat()) parts.push(u32(word.length), Buffer.from(word))
    const chunks: Buffer[] = []
    this.deflate.write(Buffer.concat(parts))
    await new Promise<void>((resolve) => this.deflate.flush(constants.Z_SYNC_FLUSH, resolve))
    for (
      let chunk = this.deflate.read() as Buffer | null;
      chunk;
      chunk = this.deflate.read() as Buffer | null
    )
      chunks.push(chunk)
    this.transport.write(
      controlFrame(1, fin ? 1 : 0, Buffer.concat([u32(id), u32(0), Buffer.alloc(2), ...chunks])),
    )
    return id
  }
  data(id: number, text_: string, { fin = false } = {}): void {
    const bytes = Buffer.from(text_)
    this.transport.write(Buffer.concat([dataHead(id, fin ? 1 : 0, bytes.length), bytes]))
  }
  ping(id: number): void {
    this.transport.write(controlFrame(6, 0, u32(id)))
  }
  reset(id: number): void {
    this.transport.write(controlFrame(3, 0, Buffer.concat([u32(id), u32(5)])))
  }
  async all(id: number): Promise<string> {
    const stream = this.streams.get(id)
    assert(stream)
    return await text(stream.input)
  }
  private read(chunk: Buffer): void {
    this.pending = Buffer.concat([this.pending, chunk])
    while (this.pending.length >= 8) {
      const length = this.pending.readUInt32BE(4) & 0xff_ff_ff
      if (this.pending.length < 8 + length) return
      const head = this.pending.subarray(0, 8)
      const body = this.pending.subarray(8, 8 + length)
      this.pending = this.pending.subarray(8 + length)
      if ((head[0] ?? 0) & 0x80) {
        assert.equal(head.readUInt16BE(0), 0x8003)
        const type = head.readUInt16BE(2)
        // A reply's headers must be readable by a real decompressor.
        if (type === 2) this.inflate.write(body.subarray(4))
        if (type === 3) {
          const stream = this.streams.get(body.readUInt32BE(0))
          if (stream) stream.reset = true
          stream?.input.end()
        }
        if (type === 6) this.pings.push(body.readUInt32BE(0))
        if (type === 7) this.goneAway = true
        continue
      }
      const stream = this.streams.get(head.readUInt32BE(0))
      if (length > 0) stream?.input.write(body)
      if ((head[4] ?? 0) & 1) stream?.input.end()
    }
  }
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

async function spdyTo(port: number, path: string, protocol: string): Promise<SpdyClient> {
  return await new Promise((resolve, reject) => {
    request({
      port,
      host: '127.0.0.1',
      method: 'POST',
      path,
      headers: { connection: 'Upgrade', upgrade: 'SPDY/3.1', 'x-stream-protocol-version': `v9, ${protocol}` },
    })
      .on('upgrade', (response, socket, head) => {
        assert.equal(response.headers['x-stream-protocol-version'], protocol)
        assert.equal(response.headers['warning'], '299 - "careful"')
        if (head.length > 0) socket.unshift(head)
        resolve(new SpdyClient(socket))
      })
      .on('response', (response) => reject(new Error(`It answered ${response.statusCode}`)))
      .on('error', reject)
      .end()
  })
}

test('exec over SPDY carries every stream and ends with the status', async (t) => {
  const at = await serve(t, {
    onFrame(command, frame) {
      if (frame.channel === CHANNEL.stdin) command.say(CHANNEL.stderr, `err ${frame.payload.toString()}`)
      cat(command, frame)
    },
  })
  const client = await spdyTo(
    at.port,
    '/?command=cat&stdin=true&stdout=true&stderr=true',
    'v4.channel.k8s.io',
  )
  const error = await client.open({ streamtype: 'error' })
  const stdin = await client.open({ streamtype: 'stdin' })
  const stdout = await client.open({ streamtype: 'stdout' })
  const stderr = await client.open({ streamtype: 'stderr' })
  client.data(error, '', { fin: true })
  client.ping(1)
  client.data(stdin, 'hello', { fin: true })
  assert.deepEqual(await Promise.all([stdout, stderr, error].map((id) => client.all(id))), [
    'hello',
    'err hello',
    JSON.stringify(SUCCESS),
  ])
  await new Promise((resolve) => client.transport.once('close', resolve))
  assert.deepEqual([client.pings, client.goneAway], [[1], true])
})

test('port-forward over SPDY pairs streams, carries several at once and tells a failure', async (t) => {
  const at = await serve(t, { subresource: 'portforward' })
  const client = await spdyTo(at.port, '/', 'portforward.k8s.io')
  const pair = async (port: string, requestid: string) => {
    const error = await client.open({ streamtype: 'error', port, requestid }, { fin: true })
    return { error, data: await client.open({ streamtype: 'data', port, requestid }) }
  }
  const [a, b, refused] = [await pair('80', '0'), await pair('8080', '1'), await pair('81', '2')]
  client.data(b.data, 'two', { fin: true })
  client.data(a.data, 'one', { fin: true })
  assert.equal(await client.all(a.data), '80:one')
  assert.equal(await client.all(b.data), '8080:two')
  assert.equal(await client.all(a.error), '')
  assert.equal(await client.all(refused.error), 'error forwarding port 81: cannot connect to the pod')
  assert.deepEqual(at.forwarded, [80, 8080, 81])
  const bad = await client.open({ streamtype: 'data', port: '0', requestid: '3' })
  await client.all(bad)
  assert.equal(client.streams.get(bad)?.reset, true)
})

/** ws refuses to offer a protocol with a "/" in its name, which is what clients of Kubernetes offer. */
async function tunnelTo(port: number): Promise<WebSocket> {
  const protocol = 'SPDY/3.1+portforward.k8s.io'
  return await new Promise((resolve, reject) => {
    request({
      port,
      host: '127.0.0.1',
      headers: {
        connection: 'Upgrade',
        upgrade: 'websocket',
        'sec-websocket-version': '13',
        'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==',
        'sec-websocket-protocol': protocol,
      },
    })
      .on('upgrade', (response, socket, head) => {
        assert.equal(response.headers['sec-websocket-protocol'], protocol)
        assert.equal(response.headers['warning'], '299 - "careful"')
        // What ws does itself after a handshake of its own.
        const client = new WebSocket(null as unknown as string, undefined, { autoPong: true }) as unknown as {
          _isServer: boolean
          setSocket(socket: Duplex, head: Buffer, options: object): void
        }
        client._isServer = false
        client.setSocket(socket, head, { allowSynchronousEvents: true, maxPayload: 1 << 20 })
        resolve(client as unknown as WebSocket)
      })
      .on('error', reject)
      .end()
  })
}

test('port-forward over a WebSocket carries a SPDY connection', async (t) => {
  const at = await serve(t, { subresource: 'portforward' })
  const socket = await tunnelTo(at.port)
  const client = new SpdyClient(createWebSocketStream(socket))
  const headers = { port: '80', requestid: '0' }
  const error = await client.open({ ...headers, streamtype: 'error' })
  const data = await client.open({ ...headers, streamtype: 'data' })
  client.data(data, 'hello', { fin: true })
  assert.equal(await client.all(data), '80:hello')
  assert.equal(await client.all(error), '')
  socket.close()
})

test('port-forward over v4 gives each port two channels', async (t) => {
  const at = await serve(t, { subresource: 'portforward' })
  const client = new WebSocket(`ws://127.0.0.1:${at.port}/?ports=80&ports=81`, ['v4.channel.k8s.io'])
  const seen: Buffer[] = []
  const answered = Promise.withResolvers<void>()
  client.on('message', (data: Buffer) => {
    seen.push(data)
    if (data.toString().includes('80:hi')) answered.resolve()
  })
  await open(client)
  client.send(Buffer.from('\0hi'))
  await answered.promise
  const texts = seen.map((m) => m.toString('latin1')).sort()
  assert.deepEqual(
    texts,
    [
      String.fromCharCode(0).concat('80:hi'),
      '\0P\0',
      '\u0001P\0',
      '\u0002Q\0',
      '\u0003Q\0',
      '\u0003cannot connect to port 81 of the pod',
    ].sort(),
  )
  client.terminate()
})

test('any bytes at all end a SPDY connection or are ignored, and it never fails otherwise', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.oneof(
          fc.uint8Array({ maxLength: 60 }).map((b) => Buffer.from(b)),
          fc
            .tuple(fc.nat(10), fc.nat(3), fc.uint8Array({ maxLength: 40 }))
            .map(([type, flags, body]) => controlFrame(type, flags, Buffer.from(body))),
          fc
            .tuple(fc.nat(9), fc.nat(3), fc.uint8Array({ maxLength: 40 }))
            .map(([id, flags, body]) => Buffer.concat([dataHead(id, flags, body.length), body])),
        ),
        { maxLength: 12 },
      ),
      async (frames) => {
        const toServer = new PassThrough()
        const fromServer = new PassThrough()
        fromServer.resume()
        const session = new SpdySession(Duplex.from({ readable: toServer, writable: fromServer }), (stream) =>
          stream.resume(),
        )
        const over = session.run()
        for (const frame of frames) toServer.write(frame)
        toServer.end()
        await over
      },
    ),
    { numRuns: 300 },
  )
})

test('headers that grow beyond their bound when decompressed are refused', async () => {
  const deflate = createDeflate({ dictionary: DICTIONARY })
  deflate.write(Buffer.concat([u32(1), u32(1), Buffer.from('a'), u32(10_000_000), Buffer.alloc(10_000_000)]))
  const chunks: Buffer[] = []
  deflate.on('data', (chunk: Buffer) => chunks.push(chunk))
  await new Promise<void>((resolve) => deflate.flush(constants.Z_SYNC_FLUSH, resolve))
  const bomb = Buffer.concat(chunks)
  assert(bomb.length < 16_384)
  await assert.rejects(new HeaderReader().read(bomb), /more than 16384 bytes/)
})

test('streams without end are refused, and unread data makes the connection wait', async (t) => {
  const at = await serve(t, { subresource: 'portforward' })
  const client = await spdyTo(at.port, '/', 'portforward.k8s.io')
  const ids: number[] = []
  for (let i = 0; i < 70; i++)
    ids.push(await client.open({ streamtype: 'error', port: '80', requestid: String(i) }))
  await client.all(ids[69] ?? 0)
  assert.equal(client.streams.get(ids[69] ?? 0)?.reset, true)
  assert.equal(client.streams.get(ids[0] ?? 0)?.reset, false)

  let reading: Duplex | undefined
  const toServer = new PassThrough()
  const session = new SpdySession(
    Duplex.from({ readable: toServer, writable: new PassThrough().resume() }),
    (stream) => (reading = stream),
  )
  const over = session.run()
  const opener = new SpdyClient(new PassThrough())
  const frames: Buffer[] = []
  opener.transport.write = (frame: unknown) => frames.push(frame as Buffer) > 0
  await opener.open({ streamtype: 'data' })
  toServer.write(Buffer.concat(frames))
  const chunk = Buffer.concat([dataHead(1, 0, 65_536), Buffer.alloc(65_536)])
  let accepted = 0
  while (accepted < 1_000 && toServer.write(chunk)) {
    accepted++
    await new Promise((resolve) => setImmediate(resolve))
  }
  assert(accepted < 30, `${accepted} chunks of 64 KiB were taken without a reader`)
  reading?.destroy()
  toServer.destroy()
  await over
  connect({ port: at.port, host: '127.0.0.1' }).destroy()
})

test('every header block ends with a sync flush, which Go waits for', () => {
  const writer = new HeaderWriter()
  for (let i = 0; i < 2; i++) assert.equal(writer.write(new Map()).subarray(-5).toString('hex'), '000000ffff')
})
