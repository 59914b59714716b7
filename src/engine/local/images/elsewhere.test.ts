import assert from 'node:assert/strict'
import { createServer, type RequestListener } from 'node:http'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseReference } from '../../../api/index.ts'
import { reachOf } from './elsewhere.ts'
import { RegistryClient } from './registry.ts'

test('addresses of the machine, its metadata and private networks are told from public ones in every spelling', () => {
  const own = ['198.51.100.7']
  const reach = (address: string) => reachOf(address, own)
  for (const address of [
    ...[
      '127.0.0.1',
      '127.255.0.1',
      '0.0.0.0',
      '169.254.169.254',
      '224.0.0.1',
      '255.255.255.255',
      '10.96.0.1',
    ],
    ...['::1', '::', 'fe80::1', 'ff02::1', 'fd00:ec2::254', '::ffff:127.0.0.1', '::ffff:169.254.169.254'],
    ...['64:ff9b::7f00:1', '198.51.100.7', '::ffff:198.51.100.7', 'localhost', ''],
  ])
    assert.equal(reach(address), 'never', address)
  for (const address of ['10.0.0.1', '172.16.0.1', '192.168.1.1', '100.64.0.1', 'fd12::1', '::ffff:10.0.0.1'])
    assert.equal(reach(address), 'private', address)
  for (const address of ['1.1.1.1', '2606:4700::1111', '172.32.0.1', '11.0.0.1'])
    assert.equal(reach(address), 'public', address)
  fc.assert(
    fc.property(fc.ipV4(), (address) => {
      assert.equal(reach(`::ffff:${address}`), reach(address))
    }),
  )
})

async function listen(handler: RequestListener) {
  const server = createServer(handler)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as { port: number }).port, // it listens on TCP
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

test('a registry sends us neither by redirects nor for tokens to the machine, its metadata or another port of it', async () => {
  let heard = 0
  await using inner = await listen((_req, res) => void (heard++, res.end('{"token": "x"}')))
  let answer: RequestListener = () => {}
  await using registry = await listen((req, res) => answer(req, res))
  const client = new RegistryClient()
  const reference = parseReference(`127.0.0.1:${registry.port}/evil:1`)
  const ask = () => client.manifest(reference, '1', AbortSignal.timeout(5_000))
  for (const place of [
    `http://127.0.0.1:${inner.port}/`,
    `https://127.0.0.1:${inner.port}/`,
    `https://localhost:${inner.port}/`,
    `https://[::ffff:127.0.0.1]:${inner.port}/`,
    `https://2130706433:${inner.port}/`,
    `https://0/`,
    'https://169.254.169.254/latest/meta-data/',
    'http://169.254.169.254/latest/meta-data/',
    'file:///etc/passwd',
    'gopher://127.0.0.1/',
    'https://',
  ]) {
    answer = (_req, res) => void res.writeHead(307, { location: place }).end()
    await assert.rejects(ask(), /no TLS|may send us to|no address/, `redirect to ${place}`)
    answer = (_req, res) =>
      void res.writeHead(401, { 'www-authenticate': `Bearer realm="${place}",service="x"` }).end()
    await assert.rejects(
      ask(),
      /no TLS|may send us to|credentials that we do not have/,
      `token from ${place}`,
    )
  }
  assert.equal(heard, 0)
  // To itself it may: that is where it is anyway.
  answer = (req, res) => {
    if (req.url?.startsWith('/token')) return void res.end('{"token": "good"}')
    if (req.headers.authorization === 'Bearer good') return void res.end('{}')
    res.writeHead(401, { 'www-authenticate': `Bearer realm="http://127.0.0.1:${registry.port}/token"` }).end()
  }
  assert.equal((await ask()).bytes.toString(), '{}')
  await client.close()
})
