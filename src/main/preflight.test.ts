import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { type Layout, parseLayout } from '../api/index.ts'
import {
  claimState,
  lockCommand,
  missingOnThisMachine,
  requireMachine,
  requireOwnState,
  requirePort,
} from './preflight.ts'

const directory = mkdtempSync(join(tmpdir(), 'bulkhead-preflight-'))
after(() => rmSync(directory, { recursive: true, force: true }))
const skip = process.getuid?.() !== 0 && 'needs root: state directories belong to it'

function layout(env: Record<string, string> = {}): Layout {
  return parseLayout({ BULKHEAD_INSTANCE: 'tlif', BULKHEAD_SLOT: '9', BULKHEAD_STATE_DIR: directory, ...env })
}

test('programs that a machine lacks are named in one sentence, with what installs them', () => {
  const names = missingOnThisMachine([directory]).join('\n')
  for (const name of ['conmon', 'nft', 'ip', 'setpriv', 'nsenter', 'crun or runc'])
    assert.ok(names.includes(name), names)
  writeFileSync(join(directory, 'conmon'), '')
  writeFileSync(join(directory, 'crun'), '')
  const fewer = missingOnThisMachine([directory])
  assert.ok(!fewer.some((line) => /conmon|crun/.test(line)))
  assert.throws(
    () => requireMachine([directory]),
    /^Error: The platform cannot run here: this machine lacks .*the program "nft" \(apt-get install nftables\), [^\n]*$/,
  )
})

test('a port that somebody has is named before anything is started', async () => {
  const server = createServer()
  const { promise, resolve } = Promise.withResolvers<void>()
  server.listen(0, '127.0.0.1', resolve)
  await promise
  const { port } = server.address() as { port: number }
  const taken = layout({ BULKHEAD_PORT: String(port) })
  await assert.rejects(requirePort(taken), {
    message: `Port ${port} of 127.0.0.1 is taken by another program; stop it ("ss -ltnp" names it) or set BULKHEAD_PORT`,
  })
  await new Promise((done) => server.close(done))
  await requirePort(taken)
  await assert.rejects(
    requirePort(layout({ BULKHEAD_ADDRESS: '192.0.2.1' })),
    /^Error: Cannot listen on port 7452 of 192\.0\.2\.1 \(EADDRNOTAVAIL\); set BULKHEAD_ADDRESS/,
  )
})

test("a state directory is one platform's, and one agent works in it", { skip }, () => {
  requireOwnState(layout())
  assert.equal(existsSync(join(directory, 'owner')), false)
  claimState(layout())
  requireOwnState(layout())
  assert.throws(() => claimState(layout()), /^Error: Another node agent \(process \d+\) works in/)
  for (const other of [{ BULKHEAD_INSTANCE: 'tlig' }, { BULKHEAD_SLOT: '8' }])
    assert.throws(() => requireOwnState(layout(other)), /holds another platform .*; set BULKHEAD_STATE_DIR/)
  assert.match(readFileSync(join(directory, 'owner'), 'utf8'), /^instance tlif, ids from \d+$/)
})

test('two commands do not change the platform at the same time', () => {
  const lock = lockCommand(layout(), 'up')
  assert.throws(
    () => lockCommand(layout(), 'down'),
    /^Error: Another command \("bulkhead up", process \d+\) works on this platform; wait until it is done/,
  )
  lock.release()
  lockCommand(layout(), 'down').release()
})
