import assert from 'node:assert/strict'
import { constants } from 'node:http2'
import type { Duplex } from 'node:stream'
import { after, before, beforeEach, test } from 'node:test'
import { parseTenantName } from '../api/index.ts'
import { COST_HEADER } from '../identity/index.ts'
import { AnsweringEnd, type Answering, type Asked } from '../link/index.ts'
import { until } from '../stdx/index.ts'
import { ANSWER_MS_MAX, LINK_IDLE_MS_MAX, LINK_OPEN_MS_MAX } from './limits.ts'
import { askHttp2, type Credentials, Harbour, LINK_AGREED } from './testdata/harbour.ts'

const red = parseTenantName('red')
const blue = parseTenantName('blue')

let harbour: Harbour
let alice: Credentials
let bob: Credentials
before(async () => {
  harbour = await Harbour.start()
  alice = await harbour.certificate(red)
  bob = await harbour.certificate(blue, { user: 'bob' })
})
after(() => harbour[Symbol.asyncDispose]())
beforeEach(async () => {
  for (const socket of harbour.red.sockets) socket.destroy()
  await until(() => harbour.red.sockets.size === 0)
  harbour.red.linkHandler = undefined
  harbour.red.handler = undefined
  harbour.clock.advance(1_000)
})

const PATH = '/api/v1/pods'
const honest = (
  socket: Duplex,
  head: Buffer,
  handle: AnsweringEnd['handle'] = (_request, answer) => void answer.end('{}'),
) => {
  socket.write(LINK_AGREED)
  return new AnsweringEnd({ stream: socket, head, handle })
}

/** Answers the first request of a link with just these bytes. */
const dishonest = (code: number, texts: readonly string[], body: string) => (socket: Duplex) => {
  const head = Buffer.alloc(14 + 2 * texts.length)
  head.writeUInt32BE(4 + 2 * texts.length + texts.join('').length, 0)
  head[4] = 2
  head.writeUInt32BE(1, 6)
  head.writeUInt16BE(code, 10)
  head.writeUInt16BE(texts.length, 12)
  for (const [at, { length }] of texts.entries()) head.writeUInt16BE(length, 14 + 2 * at)
  const piece = Buffer.alloc(10)
  piece.writeUInt32BE(body.length, 0)
  piece[4] = 3
  piece[5] = 1
  piece.writeUInt32BE(1, 6)
  socket.write(LINK_AGREED)
  socket.once('data', () =>
    socket.write(Buffer.concat([head, Buffer.from(texts.join('')), piece, Buffer.from(body)])),
  )
}

for (const [what, says] of Object.entries<(socket: Duplex) => void>({
  'hangs up instead of agreeing': (socket) => socket.destroy(),
  'answers that it knows no links': (socket) =>
    socket.end('HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n'),
  'agrees on another protocol': (socket) =>
    socket.write('HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: h2c\r\n\r\n'),
  'says what is not HTTP': (socket) => socket.write(Buffer.alloc(100, 255)),
  'sends a head without end': (socket) => socket.write(`HTTP/1.1 101 x\r\nx: ${'y'.repeat(200_000)}`),
  'agrees and sends nonsense': (socket) =>
    socket.write(Buffer.concat([Buffer.from(LINK_AGREED), Buffer.alloc(100, 255)])),
  'agrees and answers what nobody asked': (socket) =>
    socket.write(
      Buffer.concat([Buffer.from(LINK_AGREED), Buffer.from('000000040200000000ff00c80000', 'hex')]),
    ),
  'agrees and closes': (socket) => socket.end(LINK_AGREED),
}))
  test(`a control plane that ${what} gets its own tenant a 503, and nobody else anything`, async () => {
    harbour.red.linkHandler = says
    for (const ask of [harbour.h1.bind(harbour), harbour.h2.bind(harbour)]) {
      const { code, headers } = await ask(PATH, alice)
      assert.deepEqual([code, headers['retry-after']], [503, '1'])
      assert.equal((await ask(PATH, bob)).code, 200)
    }
    harbour.red.linkHandler = undefined
    assert.equal((await harbour.h1(PATH, alice)).code, 200)
  })

test('a control plane that never agrees, or never answers, is not waited for without end', async () => {
  let asked = 0
  harbour.red.linkHandler = () => asked++
  const first = harbour.h1(PATH, alice)
  await until(() => asked === 1)
  harbour.clock.advance(LINK_OPEN_MS_MAX)
  assert.equal((await first).code, 503)
  harbour.red.linkHandler = (socket, head) => void honest(socket, head, () => asked++)
  const second = harbour.h1(PATH, alice)
  await until(() => asked === 2)
  harbour.clock.advance(ANSWER_MS_MAX)
  assert.equal((await second).code, 504)
})

test('many who ask at once share one link', async () => {
  const made = harbour.red.linksMade
  const session = harbour.session(alice)
  const answers = await Promise.all(Array.from({ length: 9 }, () => askHttp2(session, PATH)))
  assert.deepEqual(new Set(answers.map(({ code }) => code)), new Set([200]))
  assert.equal(harbour.red.linksMade, made + 1)
  session.destroy()
})

for (const [what, length, pieces] of [
  ['more', '4', ['aaaa', 'HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil']],
  ['more in one piece', '4', ['aaaaHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil']],
  ['less', '40', ['aaaa']],
] as const)
  test(`an answer that is ${what} than its head says is broken off, and the next of the connection is not touched`, async () => {
    harbour.red.handler = (_request, answer) => {
      answer.writeHead(200, { 'content-length': length })
      for (const piece of pieces) answer.write(piece)
      answer.end()
    }
    const text = await harbour.rawAnswer(
      `GET ${PATH} HTTP/1.1\r\nhost: x\r\n\r\nGET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`,
      alice,
    )
    assert.doesNotMatch(text, /evil/)
    assert.ok([...text.matchAll(/HTTP\/1\.1 \d+/g)].length <= 1, text)
    const session = harbour.session(alice)
    const stream = session.request({ ':path': PATH })
    let code: number | undefined
    stream.on('error', () => {})
    stream.on('close', () => (code = stream.rstCode))
    stream.resume()
    await until(() => code !== undefined)
    assert.equal(code, 2)
    session.destroy()
  })

test('a body in an answer to HEAD, or in a 304, does not become the next answer', async () => {
  for (const [method, code] of [
    ['HEAD', 200],
    ['GET', 304],
    ['GET', 204],
  ] as const) {
    for (const socket of harbour.red.sockets) socket.destroy()
    await until(() => harbour.red.sockets.size === 0)
    harbour.red.linkHandler = dishonest(code, [], 'HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil')
    const text = await harbour.rawAnswer(
      `${method} ${PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`,
      alice,
    )
    assert.doesNotMatch(text, /evil/)
  }
})

test('a link that breaks ends what had begun without an end, answers the rest with 503, and is made anew', async () => {
  const asked: Asked[] = []
  const links: Duplex[] = []
  harbour.red.handler = (request, answer, socket) => {
    asked.push(request)
    links.push(socket)
    if (request.url?.includes('watch')) answer.flushHeaders()
  }
  const session = harbour.session(alice)
  const watch = session.request({ ':path': `${PATH}?watch=1` })
  let watchCode: number | undefined
  watch.on('error', () => {})
  watch.on('close', () => (watchCode = watch.rstCode))
  watch.resume()
  const waiting = askHttp2(session, PATH)
  await until(() => asked.length === 2)
  for (const link of links) link.destroy()
  assert.equal((await waiting).code, 503)
  await until(() => watchCode !== undefined)
  assert.notEqual(watchCode, 0)
  harbour.red.handler = undefined
  assert.equal((await askHttp2(session, PATH)).code, 200)
  session.destroy()
})

test('a slow client of one answer keeps nobody of the tenant waiting', async () => {
  harbour.red.handler = (request, answer) => {
    if (!request.url?.includes('big')) return void answer.end('{}')
    const more = () => {
      while (answer.write(Buffer.alloc(60_000)));
    }
    answer.on('drain', more)
    more()
  }
  const slow = await harbour.raw(alice)
  slow.pause()
  slow.write('GET /api/big HTTP/1.1\r\nhost: x\r\n\r\n')
  for (let n = 0; n < 20; n++) assert.equal((await harbour.h1(PATH, alice)).code, 200)
  slow.destroy()
})

test('a header that an answer has twice, and must not, ends no link', async () => {
  const texts = ['content-type', 'content-encoding', 'etag', 'last-modified', 'retry-after'].flatMap(
    (name) => [name, 'a', name, 'b'],
  )
  for (const ask of [harbour.h1.bind(harbour), harbour.h2.bind(harbour)]) {
    for (const socket of harbour.red.sockets) socket.destroy()
    await until(() => harbour.red.sockets.size === 0)
    harbour.red.linkHandler = dishonest(200, [...texts, 'warning', '299 - "a"', 'warning', '299 - "b"'], 'x')
    const { code, headers, body } = await ask(PATH, alice)
    assert.deepEqual([code, headers['etag'], headers['content-type'], body], [200, 'a', 'a', 'x'])
    assert.equal(headers['warning'], '299 - "a", 299 - "b"')
    assert.equal(harbour.red.sockets.size, 1)
  }
})

test('what a control plane refuses to HEAD arrives without a body', async () => {
  harbour.red.handler = (_request, answer) => {
    answer.writeHead(403, { 'content-type': 'application/json', 'content-length': '2' })
    answer.end('{}')
  }
  for (const ask of [harbour.h1.bind(harbour), harbour.h2.bind(harbour)]) {
    const { code, body } = await ask(PATH, alice, { method: 'HEAD' })
    assert.deepEqual([code, body], [403, ''])
  }
})

test('a link whose last answer was broken off is closed like any other that nobody uses', async () => {
  harbour.red.handler = (_request, answer) => {
    answer.flushHeaders()
    breakOff = () => answer.destroy()
  }
  let breakOff: (() => void) | undefined
  const asked = harbour.h1(`${PATH}?watch=1`, alice).catch(() => undefined)
  await until(() => breakOff !== undefined)
  // While it lasts, what looks for idle links looks once.
  harbour.clock.advance(LINK_IDLE_MS_MAX)
  breakOff?.()
  await asked
  harbour.clock.advance(LINK_IDLE_MS_MAX)
  await until(() => harbour.red.sockets.size === 0)
})

test('who leaves before the answer begins pays for what it cost all the same', async () => {
  const answers: Answering[] = []
  harbour.blue.handler = (_request, answer) => void answers.push(answer)
  const session = harbour.session(bob)
  const stream = session.request({ ':path': PATH })
  let isGone = false
  stream.on('error', () => {})
  stream.on('close', () => (isGone = true))
  await until(() => answers.length === 1)
  stream.close(constants.NGHTTP2_CANCEL)
  await until(() => isGone && answers[0]?.destroyed === true)
  answers[0]?.setHeader(COST_HEADER, '1000000')
  answers[0]?.tellLate?.()
  harbour.blue.handler = undefined
  // What was told late comes before the answer to what is asked next.
  await askHttp2(session, PATH)
  assert.equal((await askHttp2(session, PATH)).code, 429)
  session.destroy()
})
