import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parseTenantName } from '../../../api/index.ts'
import type { JailId } from '../../../jail/index.ts'
import { FakeClock, MiB, silentLogger } from '../../../stdx/index.ts'
import { type Eater, MemoryPressure, planMemoryRelief } from './memory-pressure.ts'

const eater = (
  tenant: string,
  name: string,
  uses: number,
  asked = 0,
  { tenantPriority = 0, priority = 0 } = {},
): Eater & { name: string } => ({
  tenant: parseTenantName(tenant),
  name,
  tenantPriority,
  priority,
  memoryBytesRequest: asked,
  containers: [{ name: 'main', workingSetBytes: uses, requestBytes: asked }],
})

test('of the tenant that took most beyond its requests, the pod that did goes', () => {
  assert.equal(planMemoryRelief([]), undefined)
  const pods = [
    eater('red', 'promised', 900, 1_000),
    eater('blue', 'asked-for-little', 300, 250),
    eater('blue', 'asked-for-nothing', 200),
    eater('green', 'one-large', 220),
  ]
  assert.equal(planMemoryRelief(pods)?.name, 'asked-for-nothing')
  assert.equal(planMemoryRelief([eater('red', 'idle', 0)]), undefined)
})

test('the operator decides which tenant first, and a tenant which of its pods that took more than they asked for', () => {
  const low = { tenantPriority: 1 }
  const high = { tenantPriority: 2 }
  const pods = [
    eater('red', 'much', 900, 0, { ...high, priority: -5 }),
    eater('blue', 'important', 300, 0, { ...low, priority: 2_000_000_000 }),
    eater('blue', 'less', 100, 0, { ...low, priority: 10 }),
    eater('blue', 'promised', 100, 200, low),
    eater('green', 'modest', 100, 200),
  ]
  const order: (string | undefined)[] = []
  for (let left = pods; left.length > 0; left = left.filter(({ name }) => name !== order.at(-1)))
    order.push(planMemoryRelief(left)?.name)
  assert.deepEqual(order, ['less', 'important', 'much', 'modest', 'promised'])
})

test('a tenant within its requests loses nothing while another is beyond its own', () => {
  const some = fc.array(fc.tuple(fc.nat(100), fc.nat(100)), { minLength: 1, maxLength: 6 })
  fc.assert(
    fc.property(some, some, (modest, greedy) => {
      const pods = [
        ...modest.map(([uses, more], i) => eater('red', `r${i}`, uses, uses + more)),
        ...greedy.map(([asked, more], i) => eater('blue', `b${i}`, asked + more + 1, asked)),
      ]
      assert.equal(planMemoryRelief(pods)?.tenant, 'blue')
    }),
  )
})

test('pods go one after the other while memory is short, and are told why without a word about others', async () => {
  const clock = new FakeClock()
  const closing = new AbortController()
  let available = 1_000 * MiB
  const told: string[] = []
  const pod = (id: string) => ({
    id: id as JailId,
    occupiesDisk: true,
    evict(message: string) {
      this.occupiesDisk = false
      told.push(`${id}: ${message}`)
    },
  })
  const pods = [pod('large'), pod('small')]
  const pressure = new MemoryPressure({
    clock,
    log: silentLogger,
    available: async () => available,
    pods: () => pods,
    measure: async ({ id }) => eater('red', id, id === 'large' ? 20 * MiB : 10 * MiB, 5 * MiB),
    closing: closing.signal,
  })
  pressure.start()
  const pass = async (ms: number) => {
    clock.advance(ms)
    for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve))
  }
  await pass(10_000)
  assert.deepEqual(told, [])
  available = 50 * MiB
  await pass(1_000)
  assert.deepEqual(told, [
    'large: The node was low on resource: memory. Container main was using 20480Ki, request is 5Mi, has larger consumption of memory. ',
  ])
  await pass(1_000)
  assert.equal(told.length, 1, 'what it had must come back first')
  await pass(10_000)
  assert.equal(told.length, 2)
  closing.abort()
})
