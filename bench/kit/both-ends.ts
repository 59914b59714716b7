import koffi from 'koffi'
import { AF_INET, SOCK_STREAM, inNamespace, openSocket } from '../../src/engine/local/host/net/syscalls.ts'

// Both ends of a way between two network namespaces in one process, so that what it takes of the processor is all that the way takes:
// the kernel carries a packet from one end to the other while whoever sent it waits.

const SOCK_DGRAM = 2
const IPPROTO_TCP = 6
const TCP_CONGESTION = 13
const SOL_SOCKET = 1
const SO_RCVTIMEO = 20
const LOST_AFTER_SECONDS = 5n
const CHUNK_BYTES = 64 * 1024
const CHUNKS_EACH = 4
const WHAT = { trips: 400, connections: 60, chunks: 80 } as const

export type Way = keyof typeof WHAT
export type WayRequest = { way: Way; from: string; to: string; address: string; millis: number }

const libc = koffi.load('libc.so.6')
const native = {
  bind: libc.func('int bind(int fd, const uint8_t *address, uint32_t length)'),
  connect: libc.func('int connect(int fd, const uint8_t *address, uint32_t length)'),
  listen: libc.func('int listen(int fd, int backlog)'),
  accept: libc.func('int accept(int fd, void *address, void *length)'),
  send: libc.func('long send(int fd, const uint8_t *buffer, size_t length, int flags)'),
  recv: libc.func('long recv(int fd, uint8_t *buffer, size_t length, int flags)'),
  close: libc.func('int close(int fd)'),
  setsockopt: libc.func('int setsockopt(int fd, int level, int name, const uint8_t *value, uint32_t length)'),
}

function check(result: unknown, what: string): number {
  if (typeof result === 'number' && result >= 0) return result
  throw new Error(`Cannot ${what}: errno ${koffi.errno()}`)
}

function socketAddress(host: string, port: number): Buffer {
  const bytes = Buffer.alloc(16)
  bytes.writeUInt16LE(AF_INET, 0)
  bytes.writeUInt16BE(port, 2)
  for (const [at, part] of host.split('.').entries()) bytes.writeUInt8(Number(part), 4 + at)
  return bytes
}

/** A datagram that is lost is an error and no end of everything. */
function impatient(fd: number): number {
  const time = Buffer.alloc(16)
  time.writeBigInt64LE(LOST_AFTER_SECONDS)
  check(native.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, time, time.length), 'limit waiting')
  return fd
}

const connectTo = (fd: number, address: string, port: number) =>
  check(native.connect(fd, socketAddress(address, port), 16), 'connect')
const bindTo = (fd: number, port: number) =>
  check(native.bind(fd, socketAddress('0.0.0.0', port), 16), 'bind')

/** Microseconds of the processor for one: its median over short rounds. */
function measure({ way, from, to, address, millis }: WayRequest): number {
  const type = way === 'trips' ? SOCK_DGRAM : SOCK_STREAM
  const [client, server] = [from, to].map(
    (netns) => () => inNamespace('net', netns, () => openSocket(AF_INET, type, 0)),
  ) as [() => number, () => number]
  const ear = impatient(server())
  const bytes = Buffer.alloc(CHUNK_BYTES)
  bindTo(ear, 80)
  if (type === SOCK_STREAM) check(native.listen(ear, 16), 'listen')
  const open: number[] = [ear]
  let once: () => void
  if (way === 'trips') {
    const mouth = impatient(client())
    open.push(mouth)
    bindTo(mouth, 81)
    connectTo(mouth, address, 80)
    check(native.send(mouth, bytes, 1, 0), 'send')
    // Answers to whom it heard, without naming it each time.
    const peer = Buffer.alloc(16)
    const length = Buffer.from([16, 0, 0, 0])
    const recvfrom = libc.func(
      'long recvfrom(int fd, uint8_t *buffer, size_t length, int flags, _Out_ uint8_t *peer, _Inout_ uint8_t *size)',
    )
    check(recvfrom(ear, bytes, 1, 0, peer, length), 'receive')
    check(native.connect(ear, peer, 16), 'connect')
    once = () => {
      check(native.send(mouth, bytes, 1, 0), 'send')
      check(native.recv(ear, bytes, 1, 0), 'receive')
      check(native.send(ear, bytes, 1, 0), 'send')
      check(native.recv(mouth, bytes, 1, 0), 'receive')
    }
  } else if (way === 'connections') {
    once = () => {
      const mouth = client()
      connectTo(mouth, address, 80)
      const other = check(native.accept(ear, null, null), 'accept')
      check(native.send(mouth, bytes, 1, 0), 'send')
      check(native.recv(other, bytes, 1, 0), 'receive')
      native.close(mouth)
      native.close(other)
    }
  } else {
    const mouth = client()
    const cubic = Buffer.from('cubic')
    check(native.setsockopt(mouth, IPPROTO_TCP, TCP_CONGESTION, cubic, cubic.length), 'choose cubic')
    connectTo(mouth, address, 80)
    const other = check(native.accept(ear, null, null), 'accept')
    open.push(mouth, other)
    once = () => {
      for (let i = 0; i < CHUNKS_EACH; i++) check(native.send(mouth, bytes, CHUNK_BYTES, 0), 'send')
      for (let left = CHUNKS_EACH * CHUNK_BYTES; left > 0;)
        left -= check(native.recv(other, bytes, Math.min(left, CHUNK_BYTES), 0), 'receive')
    }
  }
  const each = way === 'chunks' ? WHAT[way] / CHUNKS_EACH : WHAT[way]
  const values: number[] = []
  for (const until = performance.now() + millis; performance.now() < until;) {
    const { user, system } = process.cpuUsage()
    for (let i = 0; i < each; i++) once()
    const after = process.cpuUsage()
    values.push((after.user - user + after.system - system) / WHAT[way])
  }
  for (const fd of open) native.close(fd)
  return values.sort((a, b) => a - b)[values.length >> 1] ?? NaN
}

process.on('message', (request) => {
  // Only the benchmark that started us can write here.
  try {
    process.send?.(measure(request as WayRequest))
  } catch (error) {
    process.send?.(String(error))
  }
})
process.on('disconnect', () => process.exit(0))
process.send?.(0)
