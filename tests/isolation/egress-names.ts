import { createSocket } from 'node:dgram'
import { type Answer, decode, encode } from 'dns-packet'

// A name server outside, which answers as the test has told it last, and tells every name it was asked for.

export type Zone = Record<
  string,
  { addresses?: string[]; alias?: string; ttl?: number; extra?: string[]; forged?: boolean }
>

const [address = ''] = process.argv.slice(2)
let zone: Zone = {}

const socket = createSocket('udp4')
socket.on('message', (packet, from) => {
  const query = decode(packet)
  const name = query.questions?.[0]?.name.toLowerCase() ?? ''
  process.send?.({ asked: name, type: query.questions?.[0]?.type })
  const entry = Object.hasOwn(zone, name) ? zone[name] : undefined
  const ttl = entry?.ttl ?? 60
  const answers: Answer[] = []
  if (entry?.alias !== undefined) answers.push({ type: 'CNAME', name, ttl, data: entry.alias })
  for (const data of entry?.addresses ?? [])
    answers.push({ type: 'A', name: entry?.alias ?? name, ttl, data })
  const id = entry?.forged === true ? ((query.id ?? 0) + 1) & 0xffff : (query.id ?? 0)
  const bytes = encode({
    type: 'response',
    id,
    flags: 0x0180 | (entry ? 0 : 3),
    questions: query.questions ?? [],
    answers,
  })
  socket.send(bytes, from.port, from.address)
})
socket.bind(53, address, () => process.send?.({ ready: true }))
process.on('message', (message) => {
  zone = (message as { zone: Zone }).zone // our own test
  process.send?.({ set: true })
})
process.on('disconnect', () => process.exit(0))
