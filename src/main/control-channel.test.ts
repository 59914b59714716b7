import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { parseTenantName } from '../api/index.ts'
import { parseSlept, requestHosting } from './control-channel.ts'

test('a worker that answers without end cannot fill the memory of the one who asks', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'bulkhead-control-'))
  const socketPath = join(directory, 'control.sock')
  const chunk = Buffer.alloc(64 * 1024, 'x')
  let sent = 0
  const server = createServer((_request, response) => {
    const more = () => {
      while (sent < 1024 * chunk.length && response.write(chunk)) sent += chunk.length
      if (sent >= 1024 * chunk.length) response.end()
    }
    response.on('drain', more).on('error', () => {})
    more()
  })
  try {
    const listening = Promise.withResolvers<void>()
    server.listen(socketPath, listening.resolve)
    await listening.promise
    const request = {
      tenant: parseTenantName('evil'),
      dataKey: new Uint8Array(32),
      isolationClass: 'sandboxed',
    }
    await assert.rejects(requestHosting(socketPath, request, AbortSignal.timeout(10_000)), /without end/)
    assert.ok(sent < 512 * chunk.length, `${sent} bytes were taken`)
  } finally {
    server.close()
    server.closeAllConnections()
    rmSync(directory, { recursive: true })
  }
})

test('what a control plane says when it falls asleep is not believed when it cannot be', () => {
  const slept = { keys: { keys: [] }, heardTo: -1 }
  assert.deepEqual(parseSlept({ ...slept, more: 1 }), slept)
  assert.deepEqual(parseSlept({ ...slept, dueAtMs: 5 }), { ...slept, dueAtMs: 5 })
  for (const bad of [
    undefined,
    null,
    'x',
    {},
    { heardTo: 1 },
    { ...slept, keys: null },
    { ...slept, heardTo: '1' },
    { ...slept, heardTo: 0.5 },
    { ...slept, dueAtMs: 'soon' },
    { ...slept, dueAtMs: null },
  ])
    assert.throws(() => parseSlept(bad), TypeError, JSON.stringify(bad))
})
