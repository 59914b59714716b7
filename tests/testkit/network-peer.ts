import { createSocket } from 'node:dgram'
import { createServer, connect, type Socket } from 'node:net'
import { decode, encode, streamDecode, streamEncode } from 'dns-packet'

// Stands in for a program in a pod: the test starts it inside the pod's network namespace and tells it what to do.

export type PeerRequest =
  | { do: 'listen'; protocol: 'tcp' | 'udp'; port: number; host?: string }
  | {
      do: 'call'
      protocol: 'tcp' | 'udp'
      host: string
      port: number
      from?: string
      /** Of udp. */
      fromPort?: number
      waitMs?: number
    }
  | {
      do: 'resolve'
      name: string
      type: 'A' | 'AAAA' | 'SRV' | 'PTR' | 'CNAME'
      over?: 'tcp' | 'udp'
      ednsBytes?: number
    }
  /** Many calls at once; the answer has a letter for each: `.` answered, `X` silence, `!` anything else. */
  | { do: 'survey'; calls: readonly { protocol: 'tcp' | 'udp'; host: string; port: number }[] }
  /** A listener that says back what it hears for as long as it is connected. */
  | { do: 'accept'; port: number }
  /** Says something over one connection that is made at the first time, and kept; "open" when it is said back. */
  | { do: 'hold'; host: string; port: number }
  | { do: 'flood'; host: string; port: number; packets: number }

/** `answer` is what came back; `failure` the error code, or "silence". */
export type PeerReply = { answer?: string; failure?: string }

const RESOLVER = '169.254.1.1'
const WAIT_MS = 300
const name = process.argv[2] ?? '?'
let held: Socket | undefined

async function listen({
  protocol,
  port,
  host = '0.0.0.0',
}: Extract<PeerRequest, { do: 'listen' }>): Promise<PeerReply> {
  const { promise, resolve, reject } = Promise.withResolvers<PeerReply>()
  if (protocol === 'tcp') {
    const server = createServer((socket) => {
      socket.on('error', () => {})
      socket.end(`${name} ${socket.remoteAddress}`)
    })
    server.on('error', reject).listen(port, host, () => resolve({}))
  } else {
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
    socket.on('message', (_, from) => socket.send(`${name} ${from.address}`, from.port, from.address))
    socket.on('error', reject).bind(port, host, () => resolve({}))
  }
  return await promise
}

async function call(request: Extract<PeerRequest, { do: 'call' }>): Promise<PeerReply> {
  const { protocol, host, port, from, fromPort = 0, waitMs = WAIT_MS } = request
  const { promise, resolve } = Promise.withResolvers<PeerReply>()
  const timer = setTimeout(() => resolve({ failure: 'silence' }), waitMs)
  const fail = (error: NodeJS.ErrnoException) => resolve({ failure: error.code ?? error.message })
  let close: () => void
  if (protocol === 'tcp') {
    const socket = connect({ host, port, ...(from === undefined ? {} : { localAddress: from }) })
    let text = ''
    socket.on('data', (chunk: Buffer) => (text += chunk.toString()))
    socket.on('end', () => resolve({ answer: text })).on('error', fail)
    close = () => socket.destroy()
  } else {
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
    socket.on('message', (bytes) => resolve({ answer: bytes.toString() })).on('error', fail)
    // Connected, so that "port unreachable" comes back as an error.
    socket.bind(fromPort, from, () =>
      socket.connect(port, host, (error?: Error) => (error ? fail(error) : socket.send('hello'))),
    )
    close = () => socket.close()
  }
  const reply = await promise
  clearTimeout(timer)
  close()
  return reply
}

async function lookUp(request: Extract<PeerRequest, { do: 'resolve' }>): Promise<PeerReply> {
  const { name: host, type, over = 'udp', ednsBytes } = request
  const { promise, resolve } = Promise.withResolvers<PeerReply>()
  const timer = setTimeout(() => resolve({ failure: 'silence' }), WAIT_MS * 5)
  const query = {
    type: 'query' as const,
    id: 7,
    questions: [{ type, name: host }],
    ...(ednsBytes === undefined
      ? {}
      : {
          additionals: [
            {
              type: 'OPT' as const,
              name: '.' as const,
              udpPayloadSize: ednsBytes,
              extendedRcode: 0,
              ednsVersion: 0,
              flags: 0,
              flag_do: false,
              options: [],
            },
          ],
        }),
  }
  const read = (packet: ReturnType<typeof decode>) => {
    const data = (packet.answers ?? []).map((a) => ('data' in a ? JSON.stringify(a.data) : ''))
    const { rcode, flag_tc: truncated } = packet as typeof packet & { rcode?: string; flag_tc?: boolean }
    resolve({ answer: [rcode, ...(truncated === true ? ['TC'] : []), ...data.sort()].join(' ') })
  }
  let close: () => void
  if (over === 'tcp') {
    const socket = connect({ host: RESOLVER, port: 53 }, () => socket.write(streamEncode(query)))
    let bytes = Buffer.alloc(0)
    socket.on('data', (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk])
      if (bytes.length >= 2 && bytes.length >= 2 + bytes.readUInt16BE(0))
        read(streamDecode(bytes) as ReturnType<typeof decode>)
    })
    socket.on('error', (error: NodeJS.ErrnoException) => resolve({ failure: error.code ?? '?' }))
    close = () => socket.destroy()
  } else {
    const socket = createSocket('udp4')
    socket.on('message', (bytes) => read(decode(bytes)))
    socket.send(encode(query), 53, RESOLVER)
    close = () => socket.close()
  }
  const reply = await promise
  clearTimeout(timer)
  close()
  return reply
}

async function flood({ host, port, packets }: Extract<PeerRequest, { do: 'flood' }>): Promise<PeerReply> {
  const socket = createSocket('udp4')
  for (let i = 0; i < packets; i++) {
    const garbage = Buffer.from(Array.from({ length: (i * 37) % 600 }, (_, at) => (at * i * 31 + 7) & 255))
    await new Promise((done) => socket.send(garbage, port, host, done))
  }
  socket.close()
  return {}
}

async function carryOut(request: PeerRequest): Promise<PeerReply> {
  switch (request.do) {
    case 'listen':
      return await listen(request)
    case 'call':
      return await call(request)
    case 'resolve':
      return await lookUp(request)
    case 'survey': {
      const replies = await Promise.all(
        request.calls.map((each) => call({ do: 'call', ...each, waitMs: WAIT_MS * 2 })),
      )
      const letter = ({ answer, failure }: PeerReply) =>
        answer === undefined ? (failure === 'silence' ? 'X' : '!') : '.'
      return { answer: replies.map(letter).join('') }
    }
    case 'accept': {
      const { promise, resolve } = Promise.withResolvers<PeerReply>()
      createServer((socket) => socket.on('error', () => {}).pipe(socket)).listen(request.port, () =>
        resolve({}),
      )
      return await promise
    }
    case 'hold': {
      const { promise, resolve } = Promise.withResolvers<PeerReply>()
      held ??= connect({ host: request.host, port: request.port })
      held.once('data', () => resolve({ answer: 'open' })).once('error', () => resolve({ failure: 'closed' }))
      held.write('hello')
      setTimeout(() => resolve({ failure: 'silence' }), WAIT_MS * 2)
      return await promise
    }
    case 'flood':
      return await flood(request)
    default:
      return request satisfies never
  }
}

if (process.send) {
  process.on('message', (message) => {
    // Only the test that started us can write here.
    const { sequence, request } = message as { sequence: number; request: PeerRequest }
    carryOut(request)
      .catch((error: NodeJS.ErrnoException): PeerReply => ({ failure: error.code ?? error.message }))
      .then((reply) => process.send?.({ sequence, reply }))
      .catch(() => process.exit(1))
  })
  process.on('disconnect', () => process.exit(0))
  process.send({ ready: true })
}
