import assert from 'node:assert/strict'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { PassThrough } from 'node:stream'
import { after, before, test } from 'node:test'
import * as fc from 'fast-check'
import { until } from '../../../stdx/index.ts'
import { DATAGRAM_BYTES_MAX, onDatagrams, sendDatagram } from './datagrams.ts'
import { TestDoor } from './door.testkit.ts'
import * as limits from './limits.ts'
import { UdpFlows } from './udp-flows.ts'

let at: TestDoor
const sockets: Socket[] = []

before(async () => {
  at = await TestDoor.start()
})
after(async () => {
  for (const socket of sockets) socket.close()
  await at[Symbol.asyncDispose]()
})

/** A program that hears datagrams at a port of 127.0.0.1. */
async function peer(
  answer?: (datagram: Buffer) => Buffer[],
): Promise<{ socket: Socket; port: number; heard: string[] }> {
  const socket = createSocket('udp4')
  sockets.push(socket)
  const heard: string[] = []
  socket.on('message', (datagram, from) => {
    heard.push(datagram.toString())
    for (const each of answer?.(datagram) ?? []) socket.send(each, from.port, from.address)
  })
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  return { socket, port: socket.address().port, heard }
}

async function freePort(): Promise<number> {
  const { socket, port } = await peer()
  sockets.splice(sockets.indexOf(socket), 1)
  await new Promise<void>((resolve) => socket.close(() => resolve()))
  return port
}

async function publish(
  index: number,
  port: number,
  service: { port: number },
  { granted = true, sources }: { granted?: boolean; sources?: string[] } = {},
) {
  const backend = { namespace: 'default', service: 'game', port: 5000, protocol: 'UDP' } as const
  await at.connector.set(index, {
    services: [
      {
        key: 'default/game:5000/UDP',
        affinity: false,
        endpoints: [{ address: '127.0.0.1', port: service.port }],
      },
    ],
  })
  return await at.set(index, {
    tenant: `tenant-${index}`,
    grant: { hosts: [], ports: granted ? [{ protocol: 'UDP', port, endPort: port }] : [] },
    ingress: { routes: [], certificates: [], ports: [{ port, backend, ...(sources ? { sources } : {}) }] },
  })
}

test('datagrams reach the service, each client its own answers, and whoever answers is not asked about others', async () => {
  const service = await peer((datagram) => [Buffer.from(`re ${datagram.toString()}`)])
  const port = await freePort()
  assert.deepEqual(await publish(20, port, service), { refused: [] })
  const [one, other] = [await peer(), await peer()]
  for (const [client, text] of [
    [one, 'one'],
    [other, 'other'],
    [one, ''],
  ] as const)
    client.socket.send(text, port, '127.0.0.1')
  await until(() => one.heard.length === 2 && other.heard.length === 1, { timeoutMs: 5_000 })
  assert.deepEqual([one.heard.toSorted(), other.heard], [['re ', 're one'], ['re other']])

  // A port that is taken away answers nobody, flows that are open neither.
  await publish(20, port, service, { granted: false })
  const before = service.heard.length
  one.socket.send('late', port, '127.0.0.1')
  await publish(20, port, service)
  one.socket.send('again', port, '127.0.0.1')
  await until(() => one.heard.includes('re again'), { timeoutMs: 5_000 })
  assert.ok(!service.heard.slice(before).includes('late'))
})

test('a port that another tenant was granted cannot be published, and source ranges keep clients out', async () => {
  const [red, blue] = [await peer((d) => [d]), await peer((d) => [d])]
  const port = await freePort()
  await publish(21, port, red, { sources: ['127.0.0.2/32'] })
  await publish(22, port, blue, { granted: false })
  const client = await peer()
  const allowed = createSocket('udp4')
  sockets.push(allowed)
  await new Promise<void>((resolve) => allowed.bind(0, '127.0.0.2', resolve))
  const answered = once(allowed, 'message')
  client.socket.send('hello', port, '127.0.0.1')
  allowed.send('allowed', port, '127.0.0.1')
  await answered
  assert.deepEqual([red.heard, blue.heard, client.heard], [['allowed'], [], []])
})

test('a service that answers with more than a few times what it was sent is no weapon against whoever is said to have asked', async () => {
  const kilobyte = Buffer.alloc(1_000, 'x')
  const service = await peer(() => Array.from({ length: 50 }, () => kilobyte))
  const port = await freePort()
  await publish(23, port, service)
  const victim = await peer()
  for (let n = 0; n < 5; n++) victim.socket.send('?', port, '127.0.0.1')
  await until(() => service.heard.length === 5, { timeoutMs: 5_000 })
  const small = await peer()
  small.socket.send('?', port, '127.0.0.1')
  await until(() => small.heard.length > 0, { timeoutMs: 5_000 })
  const bytes = victim.heard.reduce((sum, each) => sum + each.length, 0)
  assert.ok(bytes > 0 && bytes <= 5 * limits.DATAGRAM_BYTES_COUNTED_MIN * limits.ANSWER_FACTOR, `${bytes}`)
})

test('a datagram that says to come from the door itself, so that two services answer each other, is dropped', async () => {
  const [one, other] = [await peer((d) => [d]), await peer((d) => [d])]
  const [first, second] = [await freePort(), await freePort()]
  await publish(24, first, one)
  await publish(25, second, other)
  // Whoever is on the machine can send as the door does, where the test shares its port.
  const forger = createSocket({ type: 'udp4', reuseAddr: true })
  sockets.push(forger)
  const honest = await peer()
  await new Promise<void>((resolve) => forger.bind(0, '127.0.0.1', resolve))
  const flows = at.door as unknown as { datagram(...args: unknown[]): void } // the way in, with a sender of our choice
  flows.datagram(forger, first, Buffer.from('loop'), { address: '127.0.0.1', port: second })
  flows.datagram(forger, first, Buffer.from('loop'), { address: '203.0.113.9', port: 19 })
  honest.socket.send('honest', first, '127.0.0.1')
  await until(() => honest.heard.length === 1, { timeoutMs: 5_000 })
  assert.deepEqual([one.heard, other.heard], [['honest'], []])
})

function table() {
  let nowMs = 0
  const opened: PassThrough[] = []
  const flows = new UdpFlows({
    nowMs: () => nowMs,
    connect: async () => {
      const up = new PassThrough()
      opened.push(up)
      return up as unknown as import('node:net').Socket
    },
  })
  const from = (index: number, client: string, clientPort: number) =>
    flows.take({ index, port: 53, client, clientPort }, Buffer.from('?'), () => {})
  return { flows, opened, from, pass: (ms: number) => (nowMs += ms) }
}

test('a flood from invented addresses fills the tenant’s own table only, and makes room for whoever comes', () => {
  const { flows, from, pass } = table()
  for (let n = 0; n < 20_000; n++) {
    if (n % 100 === 0) pass(1_000)
    from(1, `198.51.${n >> 8}.${n & 255}`, 1)
    assert.ok(flows.size <= limits.TENANT_FLOWS_MAX)
  }
  const before = flows.size
  assert.equal(before, limits.TENANT_FLOWS_MAX)
  from(2, '203.0.113.1', 1)
  assert.equal(flows.size, before + 1, 'another tenant has its own')
  pass(limits.FLOW_UNANSWERED_MS + 1)
  flows.sweep()
  assert.equal(flows.size, 0)
})

test('one address has so many flows, one second so many new ones, and no table grows without end', () => {
  const { flows, from, pass } = table()
  for (let n = 1; n <= 1_000; n++) from(1, '203.0.113.1', n)
  assert.equal(flows.size, limits.CLIENT_FLOWS_MAX)
  for (let n = 0; n < 10_000; n++) from(1, `10.0.${n >> 8}.${n & 255}`, 1)
  assert.ok(flows.size <= limits.TENANT_FLOWS_PER_SECOND_MAX)
  for (let tenant = 2; tenant < 12; tenant++) {
    pass(1_000)
    for (let n = 0; n < 400; n++) from(tenant, `10.${tenant}.${n >> 8}.${n & 255}`, 1)
  }
  assert.ok(flows.size <= limits.FLOWS_MAX)
  flows.close()
  assert.equal(flows.size, 0)
})

test('datagrams come out as they went in, however the connection cuts them', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 20 }),
      fc.integer({ min: 1, max: 50 }),
      async (datagrams, cut) => {
        const wire = new PassThrough()
        const chunks: Buffer[] = []
        wire.on('data', (chunk: Buffer) => chunks.push(chunk))
        for (const each of datagrams) sendDatagram(wire, Buffer.from(each))
        await new Promise((resolve) => setImmediate(resolve))
        const bytes = Buffer.concat(chunks)
        const back = new PassThrough()
        const heard: Buffer[] = []
        onDatagrams(back, (each) => heard.push(Buffer.from(each)))
        for (let n = 0; n < bytes.length; n += cut) back.write(bytes.subarray(n, n + cut))
        await new Promise((resolve) => setImmediate(resolve))
        assert.deepEqual(
          heard,
          datagrams.map((each) => Buffer.from(each)),
        )
      },
    ),
    { numRuns: 50 },
  )
  const liar = new PassThrough()
  onDatagrams(liar, () => assert.fail('no datagram has such a length'))
  liar.write(Buffer.from([(DATAGRAM_BYTES_MAX + 1) >> 8, (DATAGRAM_BYTES_MAX + 1) & 255, 1]))
  await until(() => liar.destroyed, { timeoutMs: 5_000 })
})
