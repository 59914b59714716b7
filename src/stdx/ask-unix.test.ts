import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { type RequestListener, createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { test } from 'node:test'
import { TooLong, askUnix, readBounded, readRequest } from './index.ts'

const ANSWER_BYTES_MAX = 16

async function serving(
  listener: (...exchange: Parameters<RequestListener>) => unknown,
  use: (socketPath: string) => Promise<void>,
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'ask-unix-'))
  const socketPath = join(directory, 's')
  const server = createServer((request, response) => void listener(request, response))
  const { promise, resolve } = Promise.withResolvers<void>()
  server.listen(socketPath, resolve)
  await promise
  try {
    await use(socketPath)
  } finally {
    server.closeAllConnections()
    server.close()
    rmSync(directory, { recursive: true })
  }
}

const question = (socketPath: string) => ({
  socketPath,
  path: '/v1/thing',
  signal: AbortSignal.timeout(10_000),
  answerBytesMax: ANSWER_BYTES_MAX,
})

test('an answer comes whole, with its status, and the body is sent as JSON', async () => {
  await serving(
    async (request, response) => {
      const { method, url, headers } = request
      assert.equal(headers['content-type'], 'application/json')
      response.writeHead(422).end(`${method} ${url} ${String(await readBounded(request, 100))}`)
    },
    async (socketPath) => {
      const { code, body } = await askUnix({ ...question(socketPath), method: 'PUT', path: '/x', body: '{}' })
      assert.deepEqual([code, String(body)], [422, 'PUT /x {}'])
    },
  )
})

test('an answer without end is given up, and its connection closed', async () => {
  const closed = Promise.withResolvers<void>()
  await serving(
    (_request, response) => {
      response.on('close', () => closed.resolve())
      Readable.from(endless()).pipe(response)
    },
    async (socketPath) => {
      await assert.rejects(askUnix(question(socketPath)), TooLong)
      await closed.promise
    },
  )
})

test('who hangs is left when the signal says so, also in the middle of an answer', async () => {
  for (const begin of [false, true])
    await serving(
      (_request, response) => begin && response.writeHead(200).write('half'),
      async (socketPath) => {
        const signal = AbortSignal.timeout(50)
        await assert.rejects(askUnix({ ...question(socketPath), signal }), (error: Error) => {
          assert(['AbortError', 'TimeoutError', 'Error'].includes(error.name), error.name)
          return true
        })
      },
    )
})

test('a stream with exactly what is allowed is read, and one byte more is refused', async () => {
  assert.equal(String(await readBounded(Readable.from([Buffer.from('abc')]), 3)), 'abc')
  const stream = new PassThrough()
  stream.end('abcd')
  await assert.rejects(readBounded(stream, 3), new TooLong(3))
  assert.equal(stream.destroyed, true)
})

test('a request that is too long lives on, to be answered', async () => {
  const stream = new PassThrough()
  stream.write('abcd')
  assert.equal(await readRequest(stream, 3), undefined)
  assert.equal(stream.destroyed, false)
  assert.equal(stream.listenerCount('data'), 0)
})

test('a request is read to its end, once, and one that ends early is an error', async () => {
  const whole = new PassThrough()
  whole.write('ab')
  setImmediate(() => whole.end('c'))
  assert.equal(String(await readRequest(whole, 3)), 'abc')
  assert.equal(String(await readRequest(whole, 3)), '')
  const broken = new PassThrough()
  broken.write('ab')
  setImmediate(() => broken.destroy())
  await assert.rejects(readRequest(broken, 3))
  await assert.rejects(readRequest(broken, 3))
})

function* endless(): Generator<Buffer> {
  for (;;) yield Buffer.alloc(1_000)
}
