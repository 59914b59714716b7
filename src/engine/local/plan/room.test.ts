import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { sampleContainer, sampleJail } from '../fakes/sample-jail.ts'
import { addLoad, type Load, loadOf, NO_LOAD, planShortage } from './room.ts'

const load = fc.record<Load>({
  cpuMillis: fc.nat(5_000),
  memoryBytes: fc.nat(5_000),
  pods: fc.integer({ min: 1, max: 5 }),
})
const container = (name: string, cpuMillisRequest: number, more = {}) =>
  sampleContainer({ name, resources: { cpuMillisRequest, memoryBytesRequest: 0 }, ...more })

test('a pod is promised what runs together, or what an init container needs if that is more', () => {
  const jail = sampleJail({
    initContainers: [
      container('first', 900),
      container('sidecar', 100, { restartPolicy: 'Always' }),
      container('second', 500),
    ],
    containers: [container('a', 200), container('b', 300)],
  })
  assert.equal(loadOf(jail).cpuMillis, 900)
  assert.equal(loadOf({ ...jail, initContainers: jail.initContainers.slice(1) }).cpuMillis, 600)
})

test('whatever comes and goes, what has room never adds up to more than there is', () => {
  fc.assert(
    fc.property(load, fc.array(load, { maxLength: 20 }), (room, wanted) => {
      let used = NO_LOAD
      for (const each of wanted) {
        const missing = planShortage(each, used, room)
        if (missing.length > 0) continue
        used = addLoad(used, each)
        assert(used.pods <= room.pods)
        assert(used.cpuMillis <= room.cpuMillis && used.memoryBytes <= room.memoryBytes)
      }
    }),
  )
})

test('who asks for nothing of what is used up does not lack it', () => {
  const room = { cpuMillis: 100, memoryBytes: 100, pods: 10 }
  const full = { cpuMillis: 200, memoryBytes: 200, pods: 1 }
  assert.deepEqual(planShortage({ cpuMillis: 0, memoryBytes: 0, pods: 1 }, full, room), [])
  assert.deepEqual(planShortage({ cpuMillis: 1, memoryBytes: 1, pods: 1 }, full, room), ['cpu', 'memory'])
})
