import assert from 'node:assert/strict'
import { Duplex } from 'node:stream'
import { test } from 'node:test'
import fc from 'fast-check'
import { until } from '../stdx/index.ts'
import { AnsweringEnd, type LinkAnswer, type LinkRequest } from './answering-end.ts'
import { type AnswerListener, AskingEnd } from './asking-end.ts'
import {
  type Frame,
  FrameReader,
  LinkBroken,
  renderCancel,
  renderCredit,
  renderHead,
  renderPiece,
  renderShared,
} from './frames.ts'
import {
  HELD_BYTES_MAX,
  HELD_PIECE_BYTES,
  LINK_HEAD_BYTES_MAX,
  PIECE_BYTES_MAX,
  UNREAD_BYTES_END,
  UNREAD_BYTES_MAX,
  WINDOW_BYTES,
} from './limits.ts'

function render(frame: Frame): Buffer {
  switch (frame.kind) {
    case 'request':
    case 'answer':
      return renderHead(frame)
    case 'piece':
      return Buffer.concat(renderPiece(frame.number, frame.bytes, frame.last))
    case 'shared':
      return Buffer.concat(renderShared(frame.numbers, frame.bytes))
    case 'credit':
      return renderCredit(frame.number, frame.bytes)
    case 'cancel':
      return renderCancel(frame.number)
    default:
      frame satisfies never
      throw new Error('no such frame')
  }
}

const number = fc.integer({ min: 0, max: 2 ** 32 - 1 })
const last = fc.boolean()
const text = fc
  .array(
    fc.integer({ min: 0x20, max: 0xff }).filter((code) => code !== 0x7f),
    { maxLength: 40 },
  )
  .map((codes) => String.fromCharCode(...codes))
const pairs = fc.array(fc.tuple(text, text), { maxLength: 8 }).map((all) => all.flat())
const bytes = fc.uint8Array({ minLength: 1, maxLength: 300 }).map((all) => Buffer.from(all))
const frames: fc.Arbitrary<Frame> = fc
  .oneof(
    fc
      .record({ number, last, method: text, path: text, headers: pairs })
      .map(({ number, last, method, path, headers }): Frame => ({
        kind: 'request',
        number,
        last,
        texts: [method, path, ...headers],
      })),
    fc.record({
      kind: fc.constant('answer' as const),
      number,
      last,
      code: fc.integer({ min: 200, max: 599 }),
      texts: pairs,
    }),
    fc.record({ kind: fc.constant('piece' as const), number, last, bytes }),
    fc.record({
      kind: fc.constant('shared' as const),
      numbers: fc.array(number, { minLength: 1, maxLength: 20 }),
      bytes,
    }),
    fc.record({
      kind: fc.constant('credit' as const),
      number,
      bytes: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
    }),
    fc.record({ kind: fc.constant('cancel' as const), number }),
  )
  .map((frame) => ({ ...frame }))

/** Cuts bytes where `cuts` says, anew and anew. */
function cut(all: Buffer, cuts: readonly number[]): Buffer[] {
  const chunks: Buffer[] = []
  for (let at = 0, n = 0; at < all.length; n++) {
    const size = cuts.length === 0 ? all.length : Math.max(1, cuts[n % cuts.length] ?? 1)
    chunks.push(all.subarray(at, at + size))
    at += size
  }
  return chunks
}

test('frames arrive as they were sent, however their bytes are cut', () => {
  fc.assert(
    fc.property(
      fc.array(frames, { maxLength: 12 }),
      fc.array(fc.integer({ min: 1, max: 90 }), { maxLength: 5 }),
      (sent, cuts) => {
        const came: Frame[] = []
        const reader = new FrameReader((frame) => came.push(frame))
        for (const chunk of cut(Buffer.concat(sent.map(render)), cuts)) reader.read(Buffer.from(chunk))
        assert.deepEqual(came, sent)
      },
    ),
  )
})

test('bytes that are no frames break the link or wait for more, and are never held without bound', () => {
  const spoiled = fc
    .tuple(
      fc.array(frames, { minLength: 1, maxLength: 4 }),
      fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 4 }),
    )
    .map(([sent, changes]) => {
      const all = Buffer.concat(sent.map(render))
      for (const [at, byte] of changes) all[at % all.length] = byte
      return all
    })
  const anything = fc.uint8Array({ maxLength: 400 }).map((all) => Buffer.from(all))
  fc.assert(
    fc.property(
      fc.oneof(spoiled, anything),
      fc.array(fc.integer({ min: 1, max: 50 }), { maxLength: 4 }),
      (all, cuts) => {
        const reader = new FrameReader(() => {})
        try {
          for (const chunk of cut(all, cuts)) reader.read(chunk)
        } catch (error) {
          assert.ok(error instanceof LinkBroken, String(error))
        }
      },
    ),
    { numRuns: 500 },
  )
})

for (const [what, frame] of Object.entries({
  'a frame that is too long': Buffer.from('ffffffff030000000001', 'hex'),
  'an unknown kind': Buffer.from('00000000070000000001', 'hex'),
  'unknown flags': Buffer.from('00000001030200000001aa', 'hex'),
  'an empty piece that is not the last': Buffer.from('00000000030000000001', 'hex'),
  'a piece for nobody': Buffer.from('00000001040000000000aa', 'hex'),
  'a shared piece for more than there are numbers': Buffer.from('0000000504000000000200000001aa', 'hex'),
  'a credit of nothing': Buffer.from('0000000405000000000100000000', 'hex'),
  'a cancellation with something in it': Buffer.from('00000001060000000001aa', 'hex'),
  'texts that are longer than the head': Buffer.from('0000000602000000000100c80001ffff', 'hex'),
  'an answer of code 101': Buffer.from('0000000402000000000100650000', 'hex'),
  'a header without a value': Buffer.from('0000000702000000000100c80001000161', 'hex'),
  'a line end in a header': Buffer.from('0000000b02000000000100c8000200010002610d0a', 'hex'),
}))
  test(`${what} breaks the link`, () => {
    assert.throws(() => new FrameReader(() => {}).read(frame), LinkBroken)
  })

test('no head is sent that could be read as two lines, or does not fit', () => {
  for (const texts of [
    ['GET', '/', 'accept', 'a\r\nx-bulkhead-identity: b'],
    ['GET', '/\0'],
    ['GET', '/\u0100'],
    ['GET', '/', 'accept', 'x'.repeat(64 * 1024)],
    Array.from({ length: 1_000 }, () => 'x'),
  ])
    assert.throws(() => renderHead({ kind: 'request', number: 1, last: true, texts }), LinkBroken)
})

/** Two streams of which each reads what the other writes. */
function pair(): [Duplex, Duplex] {
  const ends: Duplex[] = []
  const make = (other: number) =>
    new Duplex({
      read() {},
      write(chunk: Buffer, _encoding, done) {
        ends[other]?.push(chunk)
        setImmediate(done)
      },
      final(done) {
        ends[other]?.push(null)
        done()
      },
      destroy(error, done) {
        setImmediate(() => ends[other]?.destroy())
        done(error)
      },
    })
  ends.push(make(1), make(0))
  return ends as [Duplex, Duplex]
}

class Heard implements AnswerListener {
  code = 0
  headers: readonly string[] = []
  pieces: Buffer[] = []
  end: 'whole' | 'broken' | undefined
  isSlow = false
  drained = 0
  onHead(code: number, headers: readonly string[]): void {
    Object.assign(this, { code, headers })
  }
  onPiece(piece: Buffer): boolean {
    assert.equal(this.end, undefined)
    this.pieces.push(piece)
    return !this.isSlow
  }
  onEnd(): void {
    assert.equal(this.end, undefined)
    this.end = 'whole'
  }
  onBreak(): void {
    assert.equal(this.end, undefined)
    this.end = 'broken'
  }
  onDrain(): void {
    this.drained++
  }
  get text(): string {
    return Buffer.concat(this.pieces).toString()
  }
}

function setUp(handle: (request: LinkRequest, answer: LinkAnswer) => void) {
  const [left, right] = pair()
  let idles = 0
  const asking = new AskingEnd({ stream: left, onIdle: () => idles++ })
  const answering = new AnsweringEnd({ stream: right, head: Buffer.alloc(0), handle })
  const ask = (path: string, { hasBody = false, isSlow = false } = {}) => {
    const heard = Object.assign(new Heard(), { isSlow })
    const exchange = asking.ask(
      { method: 'GET', path, headers: ['accept', 'a', 'accept', 'b'], hasBody },
      heard,
    )
    return { heard, exchange }
  }
  return { left, right, asking, answering, ask, idles: () => idles }
}

test('many requests at once get each its own answer, in whatever order', async () => {
  const waiting: (() => void)[] = []
  const { ask, asking, answering } = setUp((request, answer) => {
    assert.equal(request.headers.accept, 'a, b')
    waiting.push(() => {
      answer.setHeader('warning', ['1', '2'])
      answer.writeHead(201, { 'content-type': 'text/plain' })
      answer.write(request.url)
      answer.end('.')
    })
  })
  const asked = Array.from({ length: 200 }, (_, n) => ask(`/${n}`))
  await until(() => waiting.length === 200)
  for (const finish of waiting.toReversed()) finish()
  await until(() => asked.every(({ heard }) => heard.end === 'whole'))
  assert.deepEqual(
    asked.map(({ heard }) => heard.text),
    asked.map((_, n) => `/${n}.`),
  )
  assert.deepEqual(asked[0]?.heard.headers, ['warning', '1', 'warning', '2', 'content-type', 'text/plain'])
  assert.deepEqual([asking.exchanges, answering.exchanges], [0, 0])
})

test('an answer to HEAD, a 204 and a 304 have no body, whatever is written', async () => {
  const { asking } = setUp((request, answer) => {
    answer.writeHead(Number(request.url.slice(1)), { 'content-length': 4 })
    answer.write('body')
    answer.end(Buffer.from('body'))
  })
  const asked = [
    ['HEAD', '/200'],
    ['GET', '/204'],
    ['GET', '/304'],
    ['GET', '/200'],
  ].map(([method = '', path = '']) => {
    const heard = new Heard()
    asking.ask({ method, path, headers: [], hasBody: false }, heard)
    return heard
  })
  await until(() => asked.every(({ end }) => end === 'whole'))
  assert.deepEqual(
    asked.map(({ text }) => text),
    ['', '', '', 'bodybody'],
  )
  for (const { headers } of asked) assert.deepEqual(headers, ['content-length', '4'])
})

test('a body arrives whole, however large, and no more of it is under way than there is room for', async () => {
  const body = Buffer.alloc(1_000_000, 'abc')
  let start: (() => void) | undefined
  const { ask } = setUp((request, answer) => {
    start = () => void request.readBody(2_000_000).then((all) => answer.end(String(all?.equals(body))))
  })
  const { heard, exchange } = ask('/', { hasBody: true })
  let [at, isWaiting] = [0, false]
  const more = () => {
    isWaiting = false
    while (at < body.length && !isWaiting) {
      isWaiting = !exchange.write(body.subarray(at, at + 30_000))
      at += 30_000
    }
    if (at >= body.length) exchange.end()
  }
  heard.onDrain = more
  more()
  await until(() => start !== undefined)
  assert.ok(isWaiting && at <= WINDOW_BYTES + 30_000, `${at}`)
  start?.()
  await until(() => heard.end === 'whole')
  assert.equal(heard.text, 'true')
})

test('a body byte by byte, one that is too large, and one that ends early', async () => {
  const outcomes: string[] = []
  const { ask } = setUp((request, answer) => {
    request.readBody(5_000).then(
      (all) => {
        outcomes.push(all === undefined ? 'too large' : all.toString())
        return answer.end()
      },
      () => outcomes.push('early'),
    )
  })
  const slow = ask('/', { hasBody: true }).exchange
  for (let n = 0; n < 3_000; n++) slow.write(Buffer.from([97 + (n % 26)]))
  slow.end()
  const large = ask('/', { hasBody: true }).exchange
  large.write(Buffer.alloc(5_001))
  const early = ask('/', { hasBody: true }).exchange
  early.write(Buffer.from('half'))
  await until(() => outcomes.length === 2)
  early.cancel()
  await until(() => outcomes.length === 3)
  assert.deepEqual(
    outcomes.map((each) => (each.length > 20 ? each.length : each)),
    [3_000, 'too large', 'early'],
  )
})

test('a piece for many travels once, and stands where each of them wrote it', async () => {
  const answers: LinkAnswer[] = []
  const { ask, right } = setUp((_request, answer) => {
    answer.flushHeaders()
    answers.push(answer)
  })
  const asked = Array.from({ length: 1_500 }, (_, n) => ask(`/${n}`).heard)
  await until(() => asked.every(({ code }) => code === 200))
  let sent = 0
  const write = right.write.bind(right) as (chunk: Buffer) => boolean
  right.write = ((chunk: Buffer) => {
    sent += chunk.length
    return write(chunk)
  }) as typeof right.write
  const [zero, one, two] = ['0', '1', '2'].map((each) => Buffer.alloc(500, each)) as [Buffer, Buffer, Buffer]
  for (const answer of answers) answer.write(zero)
  await until(() => asked.every(({ text }) => text.length >= 500))
  assert.ok(sent < 12_000, `${sent} bytes for ${1_500 * 500} of answers`)
  for (const [n, answer] of answers.entries()) {
    if (n % 3 === 0) answer.write(Buffer.from(`own ${n} `))
    answer.write(one)
    if (n % 2 === 0) answer.write(two)
    if (n % 5 === 0) answer.write(one)
    if (n % 7 === 0) answer.end('end')
  }
  const expected = answers.map(
    (_, n) =>
      `${zero}${n % 3 === 0 ? `own ${n} ` : ''}${one}${n % 2 === 0 ? two : ''}${n % 5 === 0 ? one : ''}${n % 7 === 0 ? 'end' : ''}`,
  )
  await until(() => asked.every(({ text }, n) => text.length >= (expected[n]?.length ?? 0)))
  assert.deepEqual(
    asked.map(({ text }) => text),
    expected,
  )
})

test('who is slow keeps nobody else waiting, and its writer is told to wait', async () => {
  let writes = 0
  const { ask } = setUp((request, answer) => {
    if (request.url === '/fast') return void answer.end('fast')
    const more = () => {
      while (answer.write(Buffer.alloc(10_000))) writes++
    }
    answer.on('drain', more)
    more()
  })
  const slow = ask('/slow', { isSlow: true })
  const fast = ask('/fast').heard
  await until(() => fast.end === 'whole')
  await until(() => Buffer.concat(slow.heard.pieces).length === WINDOW_BYTES)
  const before = writes
  assert.ok(before * 10_000 <= WINDOW_BYTES)
  slow.exchange.takenAll()
  await until(() => writes > before)
})

test('of many who are slow, those who hold most are broken off before they fill memory', async () => {
  const { ask, asking } = setUp((_request, answer) => {
    for (let n = 0; n < 2; n++) answer.write(Buffer.alloc(PIECE_BYTES_MAX))
  })
  const held = WINDOW_BYTES + (WINDOW_BYTES / PIECE_BYTES_MAX) * HELD_PIECE_BYTES
  const count = Math.floor(HELD_BYTES_MAX / held) + 20
  const asked = Array.from({ length: count }, () => ask('/', { isSlow: true }).heard)
  await until(() => asked.filter(({ end }) => end === 'broken').length === 20)
  assert.equal(asking.isOpen, true)
  assert.equal(asking.exchanges, count - 20)
})

test('an answer to HEAD, or one that has no body, is a head only, whatever is written', async () => {
  const answers: Record<string, (answer: LinkAnswer) => void> = {
    '/end': (answer) => answer.end('refused'),
    '/write': (answer) => {
      answer.flushHeaders()
      answer.write('refused')
      answer.write(Buffer.from('refused'))
      answer.end()
    },
    '/304': (answer) => answer.writeHead(304).end('x'),
  }
  const { asking } = setUp((request, answer) => answers[request.url]?.(answer))
  for (const path of Object.keys(answers)) {
    const heard = new Heard()
    asking.ask({ method: path === '/304' ? 'GET' : 'HEAD', path, headers: [], hasBody: false }, heard)
    await until(() => heard.end !== undefined)
    assert.deepEqual([heard.end, heard.text, heard.code], ['whole', '', path === '/304' ? 304 : 200])
  }
})

test('leaving reaches the one who answers, and breaking off the one who asked', async () => {
  const closed: string[] = []
  const answers: LinkAnswer[] = []
  const { ask, asking, answering, idles } = setUp((request, answer) => {
    answers.push(answer)
    answer.on('close', () => closed.push(request.url))
    answer.flushHeaders()
  })
  const [left, broken, stays] = ['/left', '/broken', '/stays'].map((path) => ask(path))
  await until(() => answers.length === 3)
  left?.exchange.cancel()
  left?.exchange.cancel()
  await until(() => closed.length === 1)
  answers[0]?.write('late')
  answers[0]?.end('late')
  answers[1]?.destroy()
  await until(() => broken?.heard.end === 'broken')
  assert.equal(left?.heard.end, undefined)
  assert.deepEqual(closed, ['/left', '/broken'])
  assert.deepEqual([asking.exchanges, answering.exchanges, stays?.heard.end], [1, 1, undefined])
  answers[2]?.end('done')
  await until(() => stays?.heard.end === 'whole')
  assert.equal(idles(), 1)
})

test('a link that fails ends what is open on it, once, on both sides', async () => {
  for (const end of ['left', 'right'] as const) {
    const closed: string[] = []
    const ends = setUp((request, answer) => void answer.on('close', () => closed.push(request.url)))
    const asked = ['/a', '/b'].map((path) => ends.ask(path).heard)
    await until(() => ends.answering.exchanges === 2)
    ends[end].destroy()
    await until(() => closed.length === 2 && asked.every(({ end }) => end === 'broken'))
    assert.equal(ends.asking.isOpen, false)
    assert.throws(() => ends.ask('/c'), LinkBroken)
  }
})

test('closing sends what was written before', async () => {
  const { ask, answering } = setUp((_request, answer) => {
    answer.write('all of ')
    answer.end('it')
    setImmediate(() => answering.close())
  })
  const { heard } = ask('/')
  await until(() => heard.end !== undefined)
  assert.deepEqual([heard.end, heard.text], ['whole', 'all of it'])
})

/** An honest end that asks, and a peer that says whatever it is told to. */
function hostile() {
  const [left, right] = pair()
  const asking = new AskingEnd({ stream: left })
  right.resume()
  const ask = ({ isSlow = false } = {}) => {
    const heard = Object.assign(new Heard(), { isSlow })
    return { heard, exchange: asking.ask({ method: 'GET', path: '/', headers: [], hasBody: false }, heard) }
  }
  return { asking, ask, say: (...sent: Frame[]) => right.write(Buffer.concat(sent.map(render))) }
}

const head = (at: number): Frame => ({ kind: 'answer', number: at, last: false, code: 200, texts: [] })
const piece = (at: number, count: number, isLast = false): Frame => ({
  kind: 'piece',
  number: at,
  last: isLast,
  bytes: Buffer.alloc(count),
})

for (const [attack, says] of Object.entries<Frame[]>({
  'an answer to a question that nobody asked': [head(3)],
  'an answer to number none': [head(0)],
  'two answers to one question': [head(1), head(1)],
  'a piece before the head': [piece(1, 5)],
  'an end before the head': [piece(1, 0, true)],
  'a request': [{ kind: 'request', number: 1, last: true, texts: ['GET', '/'] }],
  'a piece for one that is over': [head(1), piece(1, 1, true), piece(1, 1)],
  'a shared piece with a number of nobody': [
    head(1),
    head(2),
    { kind: 'shared', numbers: [1, 2, 9], bytes: Buffer.from('x') },
  ],
  'a shared piece before the head': [head(1), { kind: 'shared', numbers: [1, 2], bytes: Buffer.from('x') }],
  'a shared piece for the same one without end': [
    head(1),
    ...Array.from({ length: 4 }, (): Frame => ({
      kind: 'shared',
      numbers: Array.from({ length: 1_000 }, () => 1),
      bytes: Buffer.alloc(100),
    })),
  ],
  'room that nobody took': [{ kind: 'credit', number: 1, bytes: 1 }],
  'more than there is room for': [head(1), ...Array.from({ length: 3 }, () => piece(1, PIECE_BYTES_MAX))],
}))
  test(`a control plane that sends ${attack} loses the link, and everybody on it hears that once`, async () => {
    const { asking, ask, say } = hostile()
    const asked = [ask({ isSlow: true }).heard, ask().heard]
    say(...says)
    await until(() => !asking.isOpen)
    for (const { end } of asked) assert.ok(end !== undefined)
    assert.equal(asked[1]?.end, 'broken')
    assert.equal(asking.exchanges, 0)
  })

test('what was under way for one that left is forgiven, and a flood of it is not', async () => {
  const { asking, ask, say } = hostile()
  const { heard, exchange } = ask()
  ask()
  say(head(1))
  await until(() => heard.code === 200)
  exchange.cancel()
  say(piece(1, 60_000), piece(1, 60_000), { kind: 'cancel', number: 1 })
  await new Promise((resolve) => setTimeout(resolve, 20))
  assert.equal(asking.isOpen, true)
  const flood = async () => {
    for (let n = 0; n < 100 && asking.isOpen; n++) {
      say(piece(1, 60_000))
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  await flood()
  assert.equal(asking.isOpen, false)
  assert.equal(heard.pieces.length, 0)
})

/** A peer that agreed and then reads nothing. */
function deaf() {
  const stream = new Duplex({ read() {}, write: () => {} })
  return { stream, asking: new AskingEnd({ stream }) }
}
const nextTurn = () => new Promise((resolve) => setImmediate(resolve))

test('asking and leaving again and again fills no memory when the control plane does not read', async () => {
  const { stream, asking } = deaf()
  const headers = ['accept', 'a'.repeat(LINK_HEAD_BYTES_MAX / 2)]
  const askAndLeave = () =>
    asking.ask({ method: 'GET', path: '/', headers, hasBody: false }, new Heard()).cancel()
  await assert.rejects(async () => {
    for (let n = 0; n < (4 * UNREAD_BYTES_MAX) / LINK_HEAD_BYTES_MAX; n++) {
      askAndLeave()
      if (n % 16 === 0) await nextTurn()
    }
  }, LinkBroken)
  await nextTurn()
  assert.ok(stream.writableLength < UNREAD_BYTES_MAX + LINK_HEAD_BYTES_MAX)
  assert.equal(asking.exchanges, 0)
})

test('bodies that the control plane does not read end the link before they fill memory', async () => {
  const { stream, asking } = deaf()
  const asked = Array.from({ length: 1_000 }, () => {
    const heard = new Heard()
    return { heard, body: asking.ask({ method: 'PUT', path: '/', headers: [], hasBody: true }, heard) }
  })
  let most = 0
  for (const { body } of asked) {
    body.write(Buffer.alloc(WINDOW_BYTES))
    await nextTurn()
    most = Math.max(most, stream.writableLength)
  }
  assert.ok(most <= UNREAD_BYTES_END + WINDOW_BYTES)
  assert.ok(asked.every(({ heard }) => heard.end === 'broken'))
})

test('a gateway that asks, leaves and does not read is not asked on, and goes on when it reads', async () => {
  let reads = false
  const waiting: (() => void)[] = []
  const stream = new Duplex({
    read() {},
    write(_chunk, _encoding, done) {
      if (reads) done()
      else waiting.push(done)
    },
  })
  let asked = 0
  const handle = (_request: LinkRequest, answer: LinkAnswer) => {
    asked++
    answer.write(Buffer.alloc(PIECE_BYTES_MAX))
  }
  const answering = new AnsweringEnd({ stream, head: Buffer.alloc(0), handle })
  const count = (2 * UNREAD_BYTES_MAX) / PIECE_BYTES_MAX
  for (let at = 1; at <= count; at++) {
    stream.push(
      Buffer.concat(
        [
          { kind: 'request' as const, number: at, last: true, texts: ['GET', '/'] },
          { kind: 'cancel' as const, number: at },
        ].map(render),
      ),
    )
    await nextTurn()
  }
  assert.ok(asked < count)
  assert.ok(stream.writableLength < UNREAD_BYTES_MAX + 4 * PIECE_BYTES_MAX)
  reads = true
  for (const done of waiting.splice(0)) done()
  await until(() => asked === count)
  assert.deepEqual([answering.exchanges, stream.destroyed], [0, false])
})

test('pieces of a byte that a slow client does not take count for what they are in memory', async () => {
  const { asking, ask, say } = hostile()
  const asked = [ask({ isSlow: true }).heard, ask({ isSlow: true }).heard]
  const crumbs = Array.from({ length: 1_000 }, () => piece(1, 1))
  say(head(1), head(2))
  for (let sent = 0; sent * HELD_PIECE_BYTES < HELD_BYTES_MAX; sent += crumbs.length) {
    say(...crumbs)
    await nextTurn()
  }
  await until(() => asked[0]?.end === 'broken')
  assert.deepEqual([asked[1]?.end, asking.isOpen], [undefined, true])
})

test('who leaves is told late what the head would have said, once, and nothing else', async () => {
  const answers: LinkAnswer[] = []
  const { asking, answering } = setUp((_request, answer) => void answers.push(answer))
  const late: (readonly string[])[] = []
  const ask = () => {
    const heard = Object.assign(new Heard(), { onLateHead: (texts: readonly string[]) => late.push(texts) })
    return { heard, exchange: asking.ask({ method: 'GET', path: '/', headers: [], hasBody: false }, heard) }
  }
  const [left, stays, begun] = [ask(), ask(), ask()]
  await until(() => answers.length === 3)
  answers[2]?.flushHeaders()
  await until(() => begun.heard.code === 200)
  for (const { exchange } of [left, begun]) exchange.cancel()
  await until(() => answering.exchanges === 1)
  for (const answer of answers) {
    answer.setHeader('x-cost', '7')
    answer.writeHead(404, { more: 'told' }).end('all of it')
    for (let n = 0; n < 2; n++) answer.tellLate()
  }
  await until(() => stays.heard.end === 'whole' && late.length > 0)
  await nextTurn()
  assert.deepEqual(late, [['x-cost', '7']])
  assert.deepEqual([stays.heard.code, stays.heard.text], [404, 'all of it'])
  assert.deepEqual([left.heard.code, left.heard.text, asking.isOpen], [0, '', true])
})

test('a link is known to be idle also when the control plane broke the last answer off', async () => {
  const { ask, idles, answering } = setUp((_request, answer) => void answer.destroy())
  const { heard } = ask('/')
  await until(() => heard.end === 'broken')
  assert.deepEqual([idles(), answering.exchanges], [1, 0])
})

test('whatever a control plane says, each exchange has one end and the link holds nothing for those that are over', () => {
  const any = fc.array(
    frames.map((frame): Frame => {
      const at = (n: number) => n % 6
      return frame.kind === 'shared'
        ? { ...frame, numbers: frame.numbers.map(at) }
        : { ...frame, number: at(frame.number) }
    }),
    { maxLength: 30 },
  )
  fc.assert(
    fc.property(any, (says) => {
      const stream = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() })
      const asking = new AskingEnd({ stream })
      const asked = Array.from({ length: 4 }, (_, n) => {
        const heard = Object.assign(new Heard(), { isSlow: n % 2 === 0 })
        asking.ask({ method: 'GET', path: '/', headers: [], hasBody: n === 3 }, heard)
        return heard
      })
      stream.emit('data', Buffer.concat(says.map(render)))
      const open = asked.filter(({ end }) => end === undefined).length
      assert.equal(asking.exchanges, open)
      asking.close(new LinkBroken('over'))
      assert.ok(asked.every(({ end }) => end !== undefined))
    }),
  )
})

for (const [attack, says] of Object.entries<Frame[]>({
  'the number of another request again': [
    { kind: 'request', number: 2, last: true, texts: ['GET', '/'] },
    { kind: 'request', number: 2, last: true, texts: ['GET', '/'] },
  ],
  'a body for a request that has none': [
    { kind: 'request', number: 1, last: true, texts: ['GET', '/'] },
    piece(1, 1),
  ],
  'a body for nobody': [piece(1, 1)],
  'a body beyond its room': [
    { kind: 'request', number: 1, last: false, texts: ['GET', '/'] },
    ...Array.from({ length: 3 }, () => piece(1, PIECE_BYTES_MAX)),
  ],
  'an answer': [head(1)],
}))
  test(`a gateway that sends ${attack} loses the link`, async () => {
    const [left, right] = pair()
    const answering = new AnsweringEnd({ stream: right, head: Buffer.alloc(0), handle: () => {} })
    left.write(Buffer.concat(says.map(render)))
    await until(() => right.destroyed)
    assert.equal(answering.exchanges, 0)
  })
