import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync, existsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import * as fc from 'fast-check'
import { parseLayout } from '../../../api/index.ts'
import { JAIL_ID } from '../fakes/sample-jail.ts'
import { createPodDisk, parseUsage } from './pod-disk.ts'

function disk(t: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), 'bulkhead-disk-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  const root = join(dir, 'containers', JAIL_ID, 'disk')
  return { root, disk: createPodDisk({ ...parseLayout({}), runDir: dir, stateDir: dir }) }
}

test('a pod is measured part by part, in blocks, and no link leads out of it', async (t) => {
  const { root, disk: pods } = disk(t)
  assert.equal((await pods.measure(JAIL_ID)).total, 0, 'a pod that is not there occupies nothing')
  for (const path of ['volumes/cache/a/b', 'layers/f00d/upper', 'logs/app'])
    mkdirSync(join(root, path), { recursive: true })
  writeFileSync(join(root, 'volumes/cache/a/b/new\nline\t9999999\tvolumes'), Buffer.alloc(300_000, 1))
  writeFileSync(join(root, 'layers/f00d/upper/sparse'), '')
  truncateSync(join(root, 'layers/f00d/upper/sparse'), 2 ** 40)
  symlinkSync('/usr', join(root, 'layers/f00d/upper/usr'))
  const { total, volumes, layers, logs } = await pods.measure(JAIL_ID)
  assert.deepEqual([...volumes.keys(), ...layers.keys(), ...logs.keys()], ['cache', 'f00d', 'app'])
  assert.ok((volumes.get('cache') ?? 0) >= 300_000 && (volumes.get('cache') ?? 0) < 400_000)
  assert.ok((layers.get('f00d') ?? 0) < 100_000)
  assert.ok(total > 300_000 && total < 600_000)
  await pods.release(JAIL_ID)
  await pods.release(JAIL_ID)
  assert.ok(!existsSync(join(root, 'volumes')) && existsSync(join(root, 'logs')))
})

test('whatever is read as an answer of du, only known parts come out', () => {
  const line = fc.oneof(
    fc.string(),
    fc.constantFrom('12\t/r/volumes/a', '3\t/r', '4\t/r/volumes/a/b', '5\t/elsewhere', '6\t/r/__proto__/x'),
  )
  fc.assert(
    fc.property(fc.array(line), (lines) => {
      const { total, volumes, layers, logs } = parseUsage(lines.join('\n'), '/r')
      assert.ok(Number.isSafeInteger(total))
      for (const part of [volumes, layers, logs])
        for (const name of part.keys()) assert.ok(!name.includes('/'))
    }),
  )
})
