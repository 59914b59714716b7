import { createSocket } from 'node:dgram'
import { connect, createServer } from 'node:net'

// Stands in for a program in a pod that sends and receives as much as it can, and counts what it received.

export type BandwidthRequest =
  | { do: 'serve' }
  /** Bytes received since the start, over everything. */
  | { do: 'heard' }
  /** Connections that write for as long as they live. */
  | { do: 'pour'; host: string; streams: number }
  /** Datagrams as fast as they go. */
  | { do: 'flood'; host: string; bytes: number }
  | { do: 'stop' }

const CHUNK = Buffer.alloc(64 * 1024)
let heard = 0
const stops: (() => void)[] = []

function pour(host: string): void {
  const socket = connect({ host, port: 81 })
  const write = () => {
    while (socket.write(CHUNK));
  }
  socket
    .on('error', () => {})
    .on('connect', write)
    .on('drain', write)
  stops.push(() => socket.destroy())
}

function flood(host: string, bytes: number): void {
  const socket = createSocket('udp4')
  const packet = Buffer.alloc(bytes)
  let going = true
  // Not at once, or nobody would ever be heard who says stop.
  const later = () => setImmediate(more)
  const more = () => {
    if (!going) return
    for (let i = 0; i < 50; i++) socket.send(packet, 82, host, i === 49 ? later : () => {})
  }
  more()
  stops.push(() => {
    going = false
    socket.close()
  })
}

function answer(request: BandwidthRequest): number {
  switch (request.do) {
    case 'serve':
      createServer((socket) =>
        socket.on('error', () => {}).on('data', (bytes: Buffer) => (heard += bytes.length)),
      ).listen(81)
      createSocket('udp4')
        .on('message', (bytes) => (heard += bytes.length))
        .bind(82)
      return 0
    case 'heard':
      return heard
    case 'pour':
      for (let i = 0; i < request.streams; i++) pour(request.host)
      return 0
    case 'flood':
      flood(request.host, request.bytes)
      return 0
    case 'stop':
      for (const stop of stops.splice(0)) stop()
      return 0
    default:
      return request satisfies never
  }
}

process.on('message', (request) => {
  // Only the test that started us can write here.
  process.send?.(answer(request as BandwidthRequest))
})
process.on('disconnect', () => process.exit(0))
process.send?.(0)
