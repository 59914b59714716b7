import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import type { Duplex } from 'node:stream'
import { assert, KiB } from '../../../stdx/index.ts'

/** Datagrams between the two halves of the front door: each with its length before it, in a connection per flow. */

export const DATAGRAM_BYTES_MAX = 65_507
/** What waits for a connection; a datagram beyond that is lost, as anywhere. */
const WAITING_BYTES_MAX = 256 * KiB
const HEAD_BYTES = 2
assert(DATAGRAM_BYTES_MAX < 2 ** (8 * HEAD_BYTES), 'A length fits before its datagram')

export function sendDatagram(to: Duplex, datagram: Buffer): void {
  if (to.destroyed || to.writableEnded || to.writableLength > WAITING_BYTES_MAX) return
  const head = Buffer.alloc(HEAD_BYTES)
  head.writeUInt16BE(datagram.length)
  to.write(Buffer.concat([head, datagram]))
}

/** What is no datagram ends the connection. */
export function onDatagrams(from: Duplex, take: (datagram: Buffer) => void): void {
  let waiting: Buffer = Buffer.alloc(0)
  from.on('data', (chunk: Buffer) => {
    waiting = waiting.length === 0 ? chunk : Buffer.concat([waiting, chunk])
    while (waiting.length >= HEAD_BYTES) {
      const length = waiting.readUInt16BE(0)
      if (length > DATAGRAM_BYTES_MAX) return void from.destroy()
      if (waiting.length < HEAD_BYTES + length) return
      take(waiting.subarray(HEAD_BYTES, HEAD_BYTES + length))
      waiting = waiting.subarray(HEAD_BYTES + length)
    }
  })
}

/** A socket that hears nobody but the endpoint, under an address of its own. Undefined when there is no way to it. */
export async function connectUdp(
  { address, port }: { address: string; port: number },
  localAddress: string,
): Promise<UdpSocket | undefined> {
  const socket = createSocket('udp4')
  const ready = Promise.withResolvers<boolean>()
  socket.once('error', () => ready.resolve(false))
  socket.bind(0, localAddress, () => socket.connect(port, address, () => ready.resolve(true)))
  if (await ready.promise) return socket
  socket.close()
  return undefined
}
