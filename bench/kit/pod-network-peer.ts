import { createSocket } from 'node:dgram'
import { connect, createServer } from 'node:net'
import { once } from 'node:events'
import { encode } from 'dns-packet'

// Stands in for a program in a pod of the benchmark of the pods' network: answers everything, or measures when told to.

const CHUNK = Buffer.alloc(256 * 1024)

export type Measure = {
  do: 'serve' | 'bulk' | 'connects' | 'echoes' | 'lookups'
  host?: string
  millis?: number
  /** What is looked up. */
  name?: string
}

const RESOLVER = '169.254.1.1'
const LOOKUPS_MAX = 500

async function measure({ do: what, host = '', millis = 1_000, name = '' }: Measure): Promise<number> {
  const until = performance.now() + millis
  const start = performance.now()
  let count = 0
  switch (what) {
    case 'serve': {
      createServer((socket) =>
        socket
          .on('error', () => {})
          .resume()
          .end('x'),
      ).listen(80)
      createServer((socket) => socket.on('error', () => {}).resume()).listen(81)
      const echo = createSocket('udp4')
      echo.on('message', (bytes, from) => echo.send(bytes, from.port, from.address)).bind(80)
      return 0
    }
    // Gbit/s of one stream.
    case 'bulk': {
      const socket = connect({ host, port: 81 })
      await once(socket, 'connect')
      while (performance.now() < until) if (!socket.write(CHUNK)) await once(socket, 'drain')
      const bits = (socket.bytesWritten - socket.writableLength) * 8
      socket.destroy()
      return bits / (performance.now() - start) / 1e6
    }
    // Connections per second, one after the other: what rules about new connections cost.
    case 'connects':
      while (performance.now() < until) {
        const socket = connect({ host, port: 80 })
        await once(socket.resume(), 'close')
        count++
      }
      return (count * 1_000) / (performance.now() - start)
    // Round trips per second within one connection.
    case 'echoes': {
      const socket = createSocket('udp4')
      socket.connect(80, host)
      await once(socket, 'connect')
      while (performance.now() < until) {
        socket.send('x')
        await once(socket, 'message')
        count++
      }
      socket.close()
      return (count * 1_000) / (performance.now() - start)
    }
    // Answers per second of the tenant's resolver, one after the other. Few in a row: a pod has a limit.
    case 'lookups': {
      const question = encode({ type: 'query', id: 7, questions: [{ type: 'A', name }] })
      const socket = createSocket('udp4')
      socket.connect(53, RESOLVER)
      await once(socket, 'connect')
      while (performance.now() < until && count < LOOKUPS_MAX) {
        socket.send(question)
        const [bytes] = (await once(socket, 'message')) as [Buffer]
        if ((bytes.readUInt16BE(2) & 15) === 0) count++
      }
      socket.close()
      return (count * 1_000) / (performance.now() - start)
    }
    default:
      return what satisfies never
  }
}

process.on('message', (request) => {
  // Only the benchmark that started us can write here.
  void measure(request as Measure).then((value) => process.send?.(value))
})
process.on('disconnect', () => process.exit(0))
process.send?.(0)
