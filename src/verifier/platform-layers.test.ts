import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TenantPosture } from './layers.ts'
import { partitionCipherLayer, taskLimitLayer } from './platform-layers.ts'
import type { KeyTrials } from './posture/partition-keys.ts'
import { parseTasksMax } from './posture/processes.ts'
import type { TaskCounter } from './posture/task-counters.ts'
import { syntheticWorld } from './synthetic-world.testkit.ts'

const { tenants, machine } = syntheticWorld([{}, { sandboxed: true }])
const [red, blue] = tenants as [TenantPosture, TenantPosture]
const nobodyElse = (): readonly string[] => []

const look = (
  tenant: TenantPosture,
  taskCounters: readonly TaskCounter[],
  owners = nobodyElse,
  tasksMax = 32_768,
) => taskLimitLayer({ ...tenant, taskCounters }, owners, { ...machine, tasksMax })
const own = { namespace: 'user0', owner: 2_000_000, tasksMax: 16_384 }

test('tasks are limited without cgroups where all namespaces of a tenant have one owner that is its alone', () => {
  assert.equal(look(red, [own, { ...own, namespace: 'another' }])?.holds, true)
  for (const broken of [
    { ...own, owner: 0 },
    { ...own, owner: undefined },
    { ...own, tasksMax: Infinity },
    { ...own, tasksMax: 16_385 },
  ])
    assert.equal(look(red, [broken])?.holds, false, JSON.stringify(broken))
  const users = [...machine.users, { name: 'somebody', uid: own.owner }]
  assert.equal(
    taskLimitLayer({ ...red, taskCounters: [own] }, nobodyElse, { ...machine, users })?.holds,
    false,
  )
  assert.equal(look(red, [own], () => ['t0', 't1'])?.holds, false)
})

test("sandboxes are added up, and what is too much is nobody's promise", () => {
  const sandbox = { namespace: 'user1', owner: 0, tasksMax: 1_024 }
  assert.equal(look(blue, [sandbox])?.holds, true)
  const many = Array.from({ length: 17 }, (_, at) => ({ ...sandbox, namespace: `user${at}` }))
  const processes = many.map(({ namespace }) => {
    const [p] = blue.processes
    assert.ok(p)
    return { ...p, namespaces: { ...p.namespaces, user: namespace } }
  })
  assert.equal(look({ ...blue, processes }, many), undefined)
  assert.equal(look({ ...blue, processes }, many, nobodyElse, 4_194_304)?.holds, true)
  assert.equal(
    look(red, [{ ...sandbox, namespace: 'user0' }])?.holds,
    false,
    'a program of the tenant itself',
  )
})

test('a limit that cannot be read is none', () => {
  assert.equal(
    parseTasksMax('Max processes             16384                1024                 processes \n'),
    1_024,
  )
  for (const text of [
    '',
    'Max processes unlimited unlimited processes',
    'Max processes 1',
    'Max processes 1 1e9',
  ])
    assert.equal(parseTasksMax(text), Infinity, text)
})

test('a partition that does not open with its own key, or opens with another, is not encrypted under a key of its own', () => {
  const partition = { path: '/p', bytes: 8_192, pagesLookedAt: 2, entropyMin: 7.9, words: [] }
  const layer = (keys: KeyTrials) => partitionCipherLayer({ ...blue, partition: { ...partition, keys } })
  const all = { opened: 9, tried: 9 }
  const none = { opened: 0, tried: 1, tenant: 'red' }
  assert.deepEqual([layer({ own: all }).holds, layer({ own: all, other: none }).holds], [true, true])
  assert.match(layer({ own: all, other: none }).evidence.join(), /9 pieces.*none with the key of red/)
  assert.equal(layer({ own: { opened: 8, tried: 9 } }).holds, false)
  assert.equal(layer({ own: all, other: { ...all, tenant: 'red' } }).holds, false)
  assert.equal(layer({ problem: 'there is no key' }).holds, false)
})
