import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { tryLock } from './lock.ts'

const directory = mkdtempSync(join(tmpdir(), 'bulkhead-lock-'))
after(() => rmSync(directory, { recursive: true, force: true }))

test('a lock has one holder at a time, who is named to the others', () => {
  const path = join(directory, 'one')
  const first = tryLock(path, 'the first, with a long name')
  assert.ok('release' in first)
  assert.deepEqual(tryLock(path, 'the second'), { heldBy: 'the first, with a long name' })
  first.release()
  const third = tryLock(path, 'third')
  assert.ok('release' in third)
  assert.deepEqual(tryLock(path, 'fourth'), { heldBy: 'third' })
  third.release()
})

test('the lock of a process that was killed is free', async () => {
  const path = join(directory, 'two')
  const script = `import { tryLock } from ${JSON.stringify(new URL('lock.ts', import.meta.url).href)}
    tryLock(${JSON.stringify(path)}, 'a child'); process.stdout.write('held'); setInterval(() => {}, 1e6)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  assert.deepEqual(tryLock(path, 'me'), { heldBy: 'a child' })
  child.kill('SIGKILL')
  await once(child, 'exit')
  const mine = tryLock(path, 'me')
  assert.ok('release' in mine)
  mine.release()
})
