import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { test, type TestContext } from 'node:test'
import type { StreamRequest } from '../../src/apiserver/index.ts'
import { createStreamHandler } from '../../src/apiserver/index.ts'
import {
  CHANNEL,
  type Engine,
  type ExecOptions,
  FrameParser,
  type JailId,
  renderFrame,
} from '../../src/jail/index.ts'
import { silentLogger } from '../../src/stdx/index.ts'
import { Kubectl, kubectlMissing } from './kubectl.ts'

/** A command that gives its input back and then exits, with 0 or, when it has none, with 7. */
class Echo extends Duplex {
  private readonly parser = new FrameParser()

  constructor({ stdin }: Omit<ExecOptions, 'command'>) {
    super()
    if (stdin) return
    this.push(renderFrame(CHANNEL.stdout, Buffer.from('out')))
    this.push(renderFrame(CHANNEL.stderr, Buffer.from('err')))
    this.exit({
      metadata: {},
      status: 'Failure',
      message: 'command terminated with non-zero exit code',
      reason: 'NonZeroExitCode',
      details: { causes: [{ reason: 'ExitCode', message: '7' }] },
    })
  }
  private exit(status: object): void {
    this.push(renderFrame(CHANNEL.status, Buffer.from(JSON.stringify(status))))
    this.push(null)
  }
  override _read(): void {}
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    for (const { channel, payload } of this.parser.parse(Buffer.from(chunk)))
      if (channel === CHANNEL.stdin) this.push(renderFrame(CHANNEL.stdout, payload))
      else if (channel === CHANNEL.close) this.exit({ metadata: {}, status: 'Success' })
    done()
  }
}

const DOCUMENTS: Record<string, object> = {
  '/api': { kind: 'APIVersions', versions: ['v1'] },
  '/apis': { kind: 'APIGroupList', apiVersion: 'v1', groups: [] },
  '/api/v1': {
    kind: 'APIResourceList',
    groupVersion: 'v1',
    resources: [{ name: 'pods', singularName: 'pod', namespaced: true, kind: 'Pod', verbs: ['get'] }],
  },
  '/api/v1/namespaces/default/pods/web': {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'web', namespace: 'default' },
    spec: { nodeName: 'node', containers: [{ name: 'app', image: 'app' }] },
    status: { phase: 'Running' },
  },
}

/** Just enough of an API for kubectl to find one pod, with the real stream handler. */
async function serve(
  t: TestContext,
  { refuseWebSockets }: { refuseWebSockets: boolean },
): Promise<{ url: string; spoken: string[] }> {
  const handler = createStreamHandler({ log: silentLogger })
  const spoken: string[] = []
  const engine = {
    exec: async (_id: JailId, _container: string, options: ExecOptions) => new Echo(options),
  } as unknown as Engine
  const server = createServer((request, response) => {
    const document = DOCUMENTS[new URL(request.url ?? '', 'http://x').pathname]
    response.writeHead(document ? 200 : 404, { 'content-type': 'application/json' })
    response.end(
      JSON.stringify(document ?? { kind: 'Status', apiVersion: 'v1', status: 'Failure', code: 404 }),
    )
  })
  const sockets = new Set<Socket>()
  server.on('connection', (socket) => sockets.add(socket))
  server.on('upgrade', (request, socket, head) => {
    spoken.push(request.headers.upgrade ?? '')
    socket.on('error', () => {})
    if (refuseWebSockets && request.headers.upgrade === 'websocket')
      return void socket.end('HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n')
    const query = new URL(request.url ?? '', 'http://x').searchParams
    const stream = {
      request,
      socket,
      head,
      subresource: 'exec',
      jail: 'web' as JailId,
      container: 'app',
      query,
      engine,
      headerLines: [],
    }
    handler.handle(stream as unknown as StreamRequest).catch(() => socket.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, spoken }
}

for (const refuseWebSockets of [false, true])
  test(
    `kubectl exec works over ${refuseWebSockets ? 'SPDY, to which it falls back' : 'a WebSocket'}`,
    { skip: kubectlMissing && 'kubectl is not installed' },
    async (t) => {
      const { url, spoken } = await serve(t, { refuseWebSockets })
      await using kubectl = await Kubectl.open(url)
      const failed = await kubectl.run(['exec', 'web', '--', 'ls'])
      assert.deepEqual([failed.code, failed.stdout], [7, 'out'])
      assert.match(failed.stderr, /^err/)
      const input = 'x'.repeat(1_000_000)
      const copied = await kubectl.run(['exec', '-i', 'web', '--', 'cat'], { input })
      assert.equal(copied.code, 0, copied.stderr)
      assert.equal(copied.stdout.length, input.length)
      assert.equal(spoken.at(-1), refuseWebSockets ? 'SPDY/3.1' : 'websocket')
    },
  )
