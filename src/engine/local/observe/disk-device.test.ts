import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { observeDiskWeights } from './disk-device.ts'

test('a disk is divided by weights only where its scheduler or io.cost does that', (t) => {
  const root = mkdtempSync(join(tmpdir(), 'bulkhead-weights-'))
  t.after(() => rmSync(root, { recursive: true, force: true }))
  const places = { sys: root, cgroups: root }
  mkdirSync(join(root, '8:0/queue'), { recursive: true })
  const seen = (scheduler: string, cost?: string) => {
    writeFileSync(join(root, '8:0/queue/scheduler'), scheduler)
    if (cost !== undefined) writeFileSync(join(root, 'io.cost.qos'), cost)
    return observeDiskWeights('8:0', places)
  }
  assert.deepEqual(seen('none [mq-deadline] kyber bfq\n'), { weighs: false, scheduler: 'mq-deadline' })
  assert.deepEqual(seen('none mq-deadline kyber [bfq]\n'), { weighs: true, scheduler: 'bfq' })
  assert.deepEqual(seen('[none]\n', '8:16 enable=1 ctrl=auto\n8:0 enable=0\n'), {
    weighs: false,
    scheduler: 'none',
  })
  assert.deepEqual(seen('[none]\n', '8:0 enable=1 ctrl=auto\n'), { weighs: true, scheduler: 'none' })
  assert.deepEqual(observeDiskWeights('9:9', places), { weighs: false, scheduler: 'unknown' })
})
