import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parseTenantName } from '../../../api/index.ts'
import { FakeClock, MiB, silentLogger, until } from '../../../stdx/index.ts'
import type { UseHost } from '../host/use-host.ts'
import { USE_LOOK_EVERY_MS } from '../limits.ts'
import { observeOwnMemory, observeUses, type UsingProcess } from '../observe/uses.ts'
import { planUse, type TenantUse } from '../plan/use.ts'
import { UseWatch, type WatchedTenant } from './use-watch.ts'

const POD = '8f4b3c1e-0d3a-4b6e-9d57-1f0e6f1f6b11'
const OTHER_POD = '9a4b3c1e-0d3a-4b6e-9d57-1f0e6f1f6b11'
const [red, blue] = [parseTenantName('red'), parseTenantName('blue')]

const using = (change: Partial<UsingProcess>): UsingProcess => ({
  pid: 1,
  startTicks: '1',
  index: 0,
  uid: 1_000_000,
  pod: POD,
  tasks: 1,
  memoryBytes: MiB,
  cpuTicks: 0,
  ...change,
})

/** A watch over `red` (0) and `blue` (1) on a machine that a test makes up, look by look. */
function watch({ cpus }: { cpus?: number } = {}) {
  const clock = new FakeClock()
  const done: string[] = []
  const world = { processes: [] as UsingProcess[], own: (_pid: number) => 0, published: {} as unknown }
  const host: UseHost = {
    observe: () => world.processes,
    ownMemory: (pid) => world.own(pid),
    kill: ({ pid }) => done.push(`kill ${pid}`),
    setNice: (uids, nice) => done.push(`nice ${nice} of ${[...uids].join(' ')}`),
    publish: (state) => (world.published = state),
  }
  const tenants = [red, blue].map((tenant, index): WatchedTenant => ({
    tenant,
    index,
    limits: { cpus, memoryBytes: 100 * MiB, tasks: 1_000 },
    evict: (pod, message) => done.push(`evict ${pod} of ${tenant}: ${message.slice(0, 60)}`),
  }))
  new UseWatch({
    clock,
    log: silentLogger,
    host,
    cpus: 2,
    tenants: () => tenants,
    closing: new AbortController().signal,
  }).start()
  return {
    world,
    look(processes: UsingProcess[]) {
      world.processes = processes
      done.length = 0
      clock.advance(USE_LOOK_EVERY_MS)
      return [...done]
    },
  }
}

test('a tenant with more tasks than its cgroup should let it have loses the pod with most, by force', () => {
  const { look } = watch()
  const processes = [
    using({ pid: 1, tasks: 900 }),
    using({ pid: 2, tasks: 800, pod: OTHER_POD }),
    using({ pid: 3, tasks: 200 }),
    using({ pid: 4, index: 1, tasks: 900 }),
  ]
  assert.deepEqual(look(processes), [
    'kill 1',
    'kill 3',
    `evict ${POD} of red: The pods of this tenant used more tasks together than they m`,
  ])
  assert.deepEqual(look([using({ tasks: 1_000 })]), [])
})

test('what belongs to no cgroup is found by its user, and ends', () => {
  const { look } = watch()
  const { pod: _, ...lost } = using({ pid: 9, tasks: 5_000 })
  assert.deepEqual(look([lost, using({ pid: 1 })]), ['kill 9'])
})

test('memory that processes share is counted once before anything ends for it', () => {
  const { look, world } = watch()
  const workers = Array.from({ length: 20 }, (_, at) => using({ pid: at + 1, memoryBytes: 90 * MiB }))
  world.own = () => 5 * MiB
  assert.deepEqual(look(workers), [])
  world.own = () => 50 * MiB
  assert.equal(look(workers).filter((step) => step.startsWith('kill')).length, 20)
})

test('who takes more than its part of busy processors goes behind all others, until it does not', () => {
  const { look } = watch()
  const spent = (redTicks: number, blueTicks: number) => [
    using({ pid: 1, cpuTicks: redTicks }),
    using({ pid: 2, index: 1, uid: 2_000_000, cpuTicks: blueTicks }),
  ]
  assert.deepEqual(look(spent(0, 0)), [])
  // Five seconds of two processors are a thousand ticks.
  assert.deepEqual(look(spent(900, 100)), ['nice 19 of 1000000'])
  assert.deepEqual(look(spent(1_800, 200)), [])
  assert.deepEqual(look(spent(2_300, 700)), ['nice 0 of 1000000'])
  // Nobody else wants them.
  assert.deepEqual(look(spent(3_300, 700)), [])
})

test("more than the operator's quota of processors is more than its part also on an idle machine", () => {
  const { look } = watch({ cpus: 0.5 })
  look([using({ cpuTicks: 0 })])
  assert.deepEqual(look([using({ cpuTicks: 400 })]), ['nice 19 of 1000000'])
  assert.deepEqual(look([using({ cpuTicks: 650 })]), ['nice 0 of 1000000'])
})

test('nobody within its limits ends or yields because of another', () => {
  const use = (tenant: typeof red) =>
    fc
      .record({
        cpus: fc.double({ min: 0, max: 2, noNaN: true }),
        memoryBytes: fc.nat(1_000),
        tasks: fc.nat(5_000),
      })
      .map((used): TenantUse => ({
        ...used,
        tenant,
        limits: { cpus: undefined, memoryBytes: 1_000, tasks: 500 },
        pods: [{ pod: POD, memoryBytes: used.memoryBytes, tasks: used.tasks }],
      }))
  fc.assert(
    fc.property(use(red), use(blue), (a, b) => {
      const steps = planUse([a, b], { cpus: 2, yielding: new Set() })
      for (const each of [a, b]) {
        const own = steps.filter(({ tenant }) => tenant === each.tenant).map(({ kind }) => kind)
        if (each.tasks <= 500) assert.ok(!own.includes('end'))
        if (each.cpus <= 1) assert.ok(!own.includes('yield'))
      }
    }),
  )
})

const skip = process.getuid?.() === 0 ? false : 'needs root'

test('what a user has is counted from the processes themselves', { skip }, async () => {
  const uid = 1_800_000_000
  const script = `my $data = 'x' x ${64 * MiB}; fork(); $| = 1; print "."; <STDIN>`
  const child = spawn('setpriv', [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', 'perl', '-e', script])
  const ended = once(child, 'exit')
  try {
    await once(child.stdout, 'data')
    const range = { uidBase: uid - 3 * 65_536, idsPerTenant: 65_536, tenantsMax: 8 }
    const seen = () => observeUses(range).filter((each) => each.uid === uid)
    await until(() => seen().length === 2, { what: 'Both processes' })
    for (const each of seen()) {
      assert.equal(each.index, 3)
      assert.equal(each.tasks, 1)
      assert.ok(each.memoryBytes > 60 * MiB)
    }
    const shared = seen().reduce((sum, { pid }) => sum + observeOwnMemory(pid), 0)
    const apart = seen().reduce((sum, { memoryBytes }) => sum + memoryBytes, 0)
    assert.ok(shared > 60 * MiB && shared < apart * 0.7, `${shared} of ${apart}`)
  } finally {
    child.stdin.end()
    await ended
  }
})
