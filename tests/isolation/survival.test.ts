import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { until } from '../../src/stdx/index.ts'
import { gvisorMissing, observeProcesses } from '../testkit/machine.ts'
import { pod } from '../testkit/manifests.ts'
import { TestPlatform } from '../testkit/platform.ts'
import { type Registry, startBusyboxRegistry } from '../testkit/registry.ts'

/** Every daemon is killed, alone and together, while tenants write and their pods log. */

const skip = gvisorMissing
const TENANTS = ['red', 'blue']
/** A numbered line every tenth of a second. */
const COUNTING = 'i=0; while true; do i=$((i+1)); echo "line $i"; sleep 0.1; done'

let platform: TestPlatform
let registry: Registry
let image: string

before(async () => {
  if (skip !== false) return
  registry = await startBusyboxRegistry()
  image = `${registry.host}/busybox:1`
  platform = await TestPlatform.start({
    instance: 'tsrv',
    slot: 11,
    tenants: [
      { name: 'red', registries: [registry.host] },
      { name: 'blue', trust: 'untrusted', registries: [registry.host] },
    ],
  })
  for (const tenant of TENANTS) {
    await platform.apply(tenant, [pod({ name: 'counter', image, script: COUNTING })])
    await platform.mustKubectl(tenant, 'wait', '--for=condition=Ready', 'pod/counter', '--timeout=60s')
  }
})

after(async () => {
  if (skip !== false) return
  await platform?.[Symbol.asyncDispose]()
  await registry?.[Symbol.asyncDispose]()
})

type PodStatus = {
  status: {
    phase: string
    podIP: string
    startTime: string
    containerStatuses: {
      containerID: string
      restartCount: number
      state: { running?: { startedAt: string }; terminated?: { exitCode: number; reason: string } }
    }[]
  }
}

/** What must not change while daemons die: as the API tells it, and as the kernel does. */
async function lives() {
  const told = await Promise.all(
    TENANTS.map(async (tenant) => {
      const { status } = await platform.getJson<PodStatus>(tenant, 'pod', 'counter')
      const [container] = status.containerStatuses
      return {
        tenant,
        phase: status.phase,
        podIP: status.podIP,
        startTime: status.startTime,
        containerID: container?.containerID,
        restartCount: container?.restartCount,
        state: container?.state,
      }
    }),
  )
  return { told, processes: podProcesses() }
}

/** The first process of every container, with its start time, so that a recycled id is not taken for it. */
function podProcesses(): string[] {
  const { layout } = platform
  const all = observeProcesses()
  const counters = new Set(all.filter((p) => p.args.includes(COUNTING)).map((p) => p.pid))
  return all
    .filter((p) => p.cgroups.some((path) => path.split('/').includes(layout.cgroup)))
    .filter((p) => !counters.has(p.ppid)) // children of the counters come and go
    .filter((p) => p.command !== 'exe') // and so do gVisor's stubs for them
    .map((p) => `${p.pid} since ${p.startTicks}: ${p.args[0]}`)
    .sort()
}

/** Creates ConfigMaps without pause and notes which the server acknowledged. */
class Writer {
  readonly acknowledged: string[] = []
  refused = 0
  private readonly tenant: string
  private readonly prefix: string
  private stopped = false
  private readonly done: Promise<void>

  constructor(tenant: string, prefix: string) {
    this.tenant = tenant
    this.prefix = prefix
    this.done = this.write()
  }

  private async write(): Promise<void> {
    for (let i = 0; !this.stopped; i++) {
      const name = `${this.prefix}-${i}`
      const body = JSON.stringify({
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name },
        data: { i: `${i}` },
      })
      const answer = await platform
        .request(this.tenant, '/api/v1/namespaces/default/configmaps', {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body,
        })
        .catch(() => undefined)
      if (answer?.code === 201) this.acknowledged.push(name)
      // Its fair share is used up: it writes as fast as it can, and that is nobody's death.
      else if (answer?.code !== 429) this.refused++
      // Lets everything else run, also when a dead gateway refuses at once.
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  async stop(): Promise<void> {
    this.stopped = true
    await this.done
  }
}

async function assertNothingLost(tenant: string, writer: Writer): Promise<void> {
  const { items } = await platform.getJson<{ items: { metadata: { name: string } }[] }>(tenant, 'configmaps')
  const stored = new Set(items.map(({ metadata }) => metadata.name))
  assert.deepEqual(
    writer.acknowledged.filter((name) => !stored.has(name)),
    [],
    `${tenant}: every acknowledged write is there`,
  )
}

async function assertLogsWithoutGaps(): Promise<void> {
  for (const tenant of TENANTS) {
    const lines = (await platform.mustKubectl(tenant, 'logs', 'counter')).trim().split('\n')
    const wrong = lines.findIndex((line, index) => line !== `line ${index + 1}`)
    assert.equal(wrong, -1, `${tenant}: line ${wrong + 1} of ${lines.length} is "${lines[wrong]}"`)
  }
}

function kill(names: readonly string[]): void {
  const daemons = platform.daemons()
  for (const name of names) {
    const daemon = daemons.get(name)
    assert.ok(daemon, `${name} runs`)
    process.kill(daemon.pid, 'SIGKILL')
  }
}

/** Until both tenants' APIs take writes, and a new pod of each runs and ends. */
async function untilAllWorks(round: string): Promise<void> {
  const write = { method: 'POST', headers: { 'content-type': 'application/json' } }
  await Promise.all(
    TENANTS.map(async (tenant) => {
      const name = `after-${round}`
      const body = JSON.stringify({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name } })
      await until(
        async () => {
          const { code } = await platform.request(tenant, '/api/v1/namespaces/default/configmaps', {
            ...write,
            body,
          })
          return code === 201 || code === 409
        },
        { timeoutMs: 60_000, what: `${tenant}'s API after ${round}` },
      )
      await platform.apply(tenant, [
        pod({ name, image, script: 'echo alive', spec: { restartPolicy: 'Never' } }),
      ])
      await platform.mustKubectl(
        tenant,
        'wait',
        `pod/${name}`,
        '--for=jsonpath={.status.phase}=Succeeded',
        '--timeout=60s',
      )
      assert.equal(await platform.mustKubectl(tenant, 'logs', name), 'alive\n')
    }),
  )
}

const ALONE = [
  'gateway',
  'pod-gateway',
  'worker-shared',
  'worker-blue',
  'platform',
  'images',
  'dns',
  'names',
  'ingress',
  'connector',
  'prober',
  'verifier',
  'node',
]

for (const name of ALONE) {
  test(
    `${name} is killed: pods run on, nothing acknowledged is lost, and it comes back`,
    { skip },
    async () => {
      const before = await lives()
      const killed = platform.daemons().get(name)
      const writers = TENANTS.map((tenant) => new Writer(tenant, name))
      try {
        await until(() => writers.every((writer) => writer.acknowledged.length >= 20), {
          what: 'Twenty writes of each tenant',
        })
        kill([name])
        // The node agent starts everything else again; itself it is started by the operator, or the machine's supervisor.
        if (name === 'node') await platform.mustCli('up')
        await until(
          () => {
            const now = platform.daemons().get(name)
            return now !== undefined && now.pid !== killed?.pid
          },
          { timeoutMs: 30_000, what: `Another process of ${name}` },
        )
        const writtenThen = writers.map((writer) => writer.acknowledged.length)
        await until(
          () => writers.every((writer, i) => writer.acknowledged.length > (writtenThen[i] ?? 0) + 5),
          {
            timeoutMs: 60_000,
            what: 'Writes after the death',
          },
        )
      } finally {
        await Promise.all(writers.map((writer) => writer.stop()))
      }
      await untilAllWorks(name)
      for (const [i, tenant] of TENANTS.entries()) await assertNothingLost(tenant, writers[i] as Writer)
      assert.deepEqual(await lives(), before)
      await assertLogsWithoutGaps()
      if (name === 'worker-blue') assert.equal(writers[0]?.refused, 0, 'red did not notice')
      if (name === 'worker-shared') assert.equal(writers[1]?.refused, 0, 'blue did not notice')
      if (['node', 'images', 'dns', 'names', 'prober', 'platform', 'pod-gateway', 'verifier'].includes(name))
        assert.deepEqual(
          writers.map(({ refused }) => refused),
          [0, 0],
          'no tenant noticed',
        )
    },
  )
}

test(
  'all daemons are killed at once: exit codes and logs of that time are kept, and everything converges',
  { skip },
  async () => {
    for (const tenant of TENANTS) {
      await platform.apply(tenant, [
        pod({
          name: 'ending',
          image,
          // Ends when all are dead, which it cannot know, so it takes its time.
          script: 'echo begun; sleep 3; echo ended while nobody looked; exit 42',
          spec: { restartPolicy: 'Never' },
        }),
      ])
      await platform.mustKubectl(
        tenant,
        'wait',
        'pod/ending',
        '--for=jsonpath={.status.phase}=Running',
        '--timeout=60s',
      )
    }
    const before = await lives()
    const writers = TENANTS.map((tenant) => new Writer(tenant, 'all'))
    await until(() => writers.every((writer) => writer.acknowledged.length >= 20), {
      what: 'Twenty writes of each tenant',
    })
    // The agent first, or it would start the others again while we kill them.
    kill(['node', ...ALONE.filter((name) => name !== 'node')])
    await Promise.all(writers.map((writer) => writer.stop()))
    // The kernel takes a moment to end a process, but none of them may come back.
    await until(() => platform.daemons().size === 0, { what: 'The end of every daemon' })
    const exits = join(platform.layout.runDir, 'containers/.exits')
    await until(
      () =>
        readdirSync(exits).filter((file) => readFileSync(join(exits, file), 'utf8').trim() === '42')
          .length === 2,
      { timeoutMs: 20_000, what: 'The ends of two containers while every daemon is dead' },
    )
    await platform.mustCli('up')
    await untilAllWorks('all')
    for (const [i, tenant] of TENANTS.entries()) {
      await assertNothingLost(tenant, writers[i] as Writer)
      await platform.mustKubectl(
        tenant,
        'wait',
        'pod/ending',
        '--for=jsonpath={.status.phase}=Failed',
        '--timeout=30s',
      )
      const { status } = await platform.getJson<PodStatus>(tenant, 'pod', 'ending')
      assert.equal(status.containerStatuses[0]?.state.terminated?.exitCode, 42)
      assert.equal(status.containerStatuses[0]?.restartCount, 0)
      assert.equal(await platform.mustKubectl(tenant, 'logs', 'ending'), 'begun\nended while nobody looked\n')
    }
    assert.deepEqual((await lives()).told, before.told)
    await assertLogsWithoutGaps()
  },
)

test('after down and up, objects are there and pods run again', { skip }, async () => {
  const keys = async (tenant: string) =>
    (
      await platform.mustKubectl(tenant, 'get', 'configmaps,secrets,serviceaccounts,namespaces', '-o', 'name')
    ).split('\n')
  const before = await Promise.all(TENANTS.map(keys))
  await platform.mustCli('down')
  assert.deepEqual(podProcesses(), [], 'down stops the pods')
  const refused = await platform.kubectl('red', 'get', 'pods')
  assert.notEqual(refused.code, 0)
  await platform.mustCli('up')
  assert.deepEqual(await Promise.all(TENANTS.map(keys)), before)
  for (const tenant of TENANTS) {
    await platform.mustKubectl(tenant, 'wait', 'pod/counter', '--for=condition=Ready', '--timeout=60s')
    await until(
      async () => (await platform.mustKubectl(tenant, 'logs', 'counter', '--tail=1')).startsWith('line '),
      {
        what: 'A line of the pod that was started again',
      },
    )
  }
})

test('no daemon crashed on its own while others died', { skip }, async () => {
  for (const [name, log] of await platform.daemonLogs())
    assert.doesNotMatch(log, /unhandled rejection|uncaught exception|cannot start/, `the log of ${name}`)
})
