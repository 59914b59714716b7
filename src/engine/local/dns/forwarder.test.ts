import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { isIPv4 } from 'node:net'
import { test } from 'node:test'
import { type Answer, decode, encode } from 'dns-packet'
import * as fc from 'fast-check'
import { Forwarder } from './forwarder.ts'

/** A server outside that sends whatever `answer` makes of a question. */
async function serve(
  answer: (packet: Buffer) => Buffer,
): Promise<{ forwarder: Forwarder; close: () => void }> {
  const socket = createSocket('udp4')
  socket.on('message', (packet, from) => socket.send(answer(packet), from.port, from.address))
  await new Promise<void>((done) => socket.bind(0, '127.0.0.1', done))
  const servers = [`127.0.0.1:${socket.address().port}`]
  return { forwarder: new Forwarder({ socketPath: '/nowhere', servers }), close: () => void socket.close() }
}

function respond(packet: Buffer, answers: Answer[], flags = 0x0180): Buffer {
  const { id = 0, questions = [] } = decode(packet)
  return encode({ type: 'response', id, flags, questions, answers })
}

test('addresses come with their times, aliases are followed, and no such name is nothing', async () => {
  const { forwarder, close } = await serve((packet) => {
    const name = decode(packet).questions?.[0]?.name ?? ''
    if (name !== 'a.example.com') return respond(packet, [], 0x0183)
    return respond(packet, [
      { type: 'CNAME', name, ttl: 9, data: 'b.example.com' },
      { type: 'A', name: 'b.example.com', ttl: 7, data: '203.0.113.10' },
    ])
  })
  assert.deepEqual(await forwarder.addresses('a.example.com'), [{ address: '203.0.113.10', ttlSeconds: 7 }])
  assert.deepEqual(await forwarder.addresses('nobody.example.com'), [])
  close()
})

test('whatever a server sends, there is an answer of addresses or none, and never more than a few', async () => {
  const mutations = fc.sample(
    fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { minLength: 1, maxLength: 12 }),
    60,
  )
  let next = 0
  const { forwarder, close } = await serve((packet) => {
    const name = decode(packet).questions?.[0]?.name ?? ''
    const many = Array.from({ length: 25 }, (_, at): Answer => ({
      type: 'A',
      name,
      ttl: 60,
      data: `203.0.113.${at}`,
    }))
    const bytes = Buffer.from(respond(packet, many))
    // The id stays, so that the answer is read at all.
    for (const [at, value] of mutations[next++ % mutations.length] ?? [])
      bytes[2 + (at % (bytes.length - 2))] = value
    return next % 3 === 0 ? bytes.subarray(0, 12 + (next % 40)) : bytes
  })
  const ended = await Promise.allSettled(mutations.map((_, at) => forwarder.addresses(`n${at}.example.com`)))
  for (const each of ended) {
    if (each.status === 'rejected') continue
    assert.ok(each.value.length <= 16)
    for (const { address, ttlSeconds } of each.value)
      assert.ok(isIPv4(address) && Number.isFinite(ttlSeconds))
  }
  close()
})
