import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TenantName } from '../api/index.ts'
import { NodeRefusal, UnixNodeClient } from './node-client.ts'

async function serving(
  answer: (request: IncomingMessage, body: string, response: ServerResponse) => void,
): Promise<{ client: UnixNodeClient } & AsyncDisposable> {
  const dir = mkdtempSync(join(tmpdir(), 'bulkhead-node-'))
  const socketPath = join(dir, 'platform.sock')
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => answer(request, Buffer.concat(chunks).toString(), response))
  })
  await new Promise<void>((resolve) => server.listen(socketPath, resolve))
  return {
    client: new UnixNodeClient({ socketPath }),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

const RED = 'red' as TenantName

test('the platform socket is spoken as ARCHITECTURE.md says', async () => {
  const asked: string[] = []
  await using node = await serving((request, body, response) => {
    asked.push(`${request.method} ${request.url} ${body}`.trim())
    response.writeHead(request.method === 'DELETE' ? 202 : 200)
    const answers: Record<string, unknown> = {
      '/v1/isolation': { classes: { shared: { available: true } } },
      '/v1/tenants': { items: [{ tenant: 'red' }] },
    }
    response.end(JSON.stringify(answers[request.url ?? ''] ?? { index: 1 }))
  })
  assert.deepEqual(await node.client.isolation(), { classes: { shared: { available: true } } })
  assert.deepEqual(await node.client.tenants(), [{ tenant: 'red' }])
  assert.deepEqual(await node.client.ensureTenant(RED, { class: 'shared', registries: ['r'], uid: 'u' }), {
    index: 1,
  })
  await node.client.removeTenant(RED)
  assert.deepEqual(asked, [
    'GET /v1/isolation',
    'GET /v1/tenants',
    'PUT /v1/tenants/red {"class":"shared","registries":["r"],"uid":"u"}',
    'DELETE /v1/tenants/red',
  ])
})

test('a refusal carries the code and the words of the node agent', async () => {
  await using node = await serving((_request, _body, response) => {
    response.writeHead(422)
    response.end('{"message":"no such class"}')
  })
  await assert.rejects(
    node.client.isolation(),
    (error) => error instanceof NodeRefusal && error.code === 422 && error.message === 'no such class',
  )
})

test('nonsense, silence and absence are errors and not answers', async () => {
  await using nonsense = await serving((_request, _body, response) => void response.end('{'))
  await assert.rejects(nonsense.client.isolation(), /Cannot ask the node agent to GET "\/v1\/isolation"/)
  await using broken = await serving((request) => void request.socket.destroy())
  await assert.rejects(broken.client.isolation(), /Cannot ask the node agent/)
  await assert.rejects(
    new UnixNodeClient({ socketPath: '/nonexistent/socket' }).tenants(),
    /Cannot ask the node agent/,
  )
  await using silent = await serving(() => {})
  const abort = new AbortController()
  const waiting = silent.client.isolation(abort.signal)
  abort.abort()
  await assert.rejects(waiting, /Cannot ask the node agent/)
})
