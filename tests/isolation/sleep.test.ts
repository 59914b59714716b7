import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { Agent, request } from 'undici'
import { parseTenantName, paths } from '../../src/api/index.ts'
import { until } from '../../src/stdx/index.ts'
import { gvisorMissing, observeProcesses } from '../testkit/machine.ts'
import { pod } from '../testkit/manifests.ts'
import { TestPlatform } from '../testkit/platform.ts'
import { verify } from '../testkit/proof.ts'
import { type Registry, startBusyboxRegistry } from '../testkit/registry.ts'

/** Control planes that nobody uses are put to sleep, and nobody notices but whoever counts processes. */

const skip = gvisorMissing
const TENANTS = ['red', 'blue'] as const
const NAMESPACES = '/api/v1/namespaces/default'
const SLEEP_MS_MAX = 90_000

let platform: TestPlatform
let registry: Registry

before(async () => {
  if (skip !== false) return
  registry = await startBusyboxRegistry()
  platform = await TestPlatform.start({
    instance: 'slp',
    slot: 141,
    env: { BULKHEAD_SLEEP_AFTER_SECONDS: '3' },
    tenants: [
      { name: 'red', registries: [registry.host] },
      { name: 'blue', trust: 'untrusted', registries: [registry.host] },
    ],
  })
})

after(async () => {
  if (skip !== false) return
  await platform?.[Symbol.asyncDispose]()
  await registry?.[Symbol.asyncDispose]()
})

const sleeps = (tenant: string) => existsSync(paths.asleep(platform.layout, parseTenantName(tenant)))
const untilAsleep = (...tenants: readonly string[]) =>
  until(() => tenants.every(sleeps), {
    timeoutMs: SLEEP_MS_MAX,
    everyMs: 100,
    what: `The sleep of ${tenants.join(' and ')}`,
  })
const ask = (tenant: string, path: string, method = 'GET', body?: object) =>
  platform.request(tenant, path, {
    method,
    ...(body ? { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } } : {}),
  })
const configMap = (name: string, data = 'x') => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name },
  data: { data },
})
type Versioned = { metadata: { resourceVersion: string } }
const versionIn = (body: string) => Number((JSON.parse(body) as Versioned).metadata.resourceVersion)

test(
  'tenants that nobody uses sleep: no process, no socket, and the next request is answered',
  { skip },
  async () => {
    const written = new Map<string, number>()
    for (const tenant of TENANTS) {
      const { code, body } = await ask(tenant, `${NAMESPACES}/configmaps`, 'POST', configMap('kept'))
      assert.equal(code, 201)
      written.set(tenant, versionIn(body))
    }
    await untilAsleep(...TENANTS)
    await until(() => !platform.daemons().has('worker-blue'), {
      timeoutMs: 10_000,
      what: "The end of blue's process",
    })
    assert.deepEqual(
      observeProcesses().filter((p) => p.command === 'bulkhead-worker' && p.args.includes('blue')),
      [],
    )
    await until(
      async () => ((await platform.mustCli('tenant', 'list')).match(/Asleep$/gm) ?? []).length === 2,
      { timeoutMs: 10_000, what: 'The word Asleep for both' },
    )
    for (const tenant of TENANTS) {
      assert.equal(existsSync(paths.apiSocket(platform.layout, parseTenantName(tenant))), false)
      // All at once: one wakes it, and all are answered.
      const answers = await Promise.all(
        Array.from({ length: 20 }, (_, n) =>
          n === 0
            ? ask(tenant, `${NAMESPACES}/configmaps`, 'POST', configMap('woken'))
            : ask(tenant, `${NAMESPACES}/configmaps/kept`),
        ),
      )
      assert.deepEqual(
        answers.map(({ code }) => code),
        [201, ...Array.from({ length: 19 }, () => 200)],
      )
      const kept = written.get(tenant) ?? 0
      assert.equal(versionIn(answers[1]?.body ?? ''), kept)
      assert.ok(versionIn(answers[0]?.body ?? '') > kept, 'resourceVersions go on where they were')
      assert.equal(sleeps(tenant), false)
    }
  },
)

test(
  'a watch from before the sleep goes on after it, and an open one keeps its tenant awake',
  { skip },
  async () => {
    const { body } = await ask('red', `${NAMESPACES}/configmaps`, 'POST', configMap('before'))
    await untilAsleep('red')
    assert.equal((await ask('red', `${NAMESPACES}/configmaps`, 'POST', configMap('after'))).code, 201)
    const watched = await ask(
      'red',
      `${NAMESPACES}/configmaps?watch=1&timeoutSeconds=12&resourceVersion=${versionIn(body)}`,
    )
    // Longer than it would take to fall asleep.
    assert.equal(sleeps('red'), false)
    assert.deepEqual(
      watched.body
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as { type: string; object: { metadata: { name: string } } })
        .filter(({ type }) => type !== 'BOOKMARK')
        .map(({ type, object }) => `${type} ${object.metadata.name}`),
      ['ADDED after'],
    )
  },
)

test('pods go on while their control plane sleeps, and one that dies wakes it', { skip }, async () => {
  for (const tenant of TENANTS) {
    await platform.apply(tenant, [
      pod({
        name: 'worker',
        image: `${registry.host}/busybox:1`,
        script: 'trap "exit 7" TERM; sleep 86391 & wait',
      }),
    ])
    await platform.mustKubectl(tenant, 'wait', '--for=condition=Ready', 'pod/worker', '--timeout=60s')
  }
  const uidOf = async (tenant: string) =>
    (await platform.getJson<{ metadata: { uid: string } }>(tenant, 'pod/worker')).metadata.uid
  const red = await uidOf('red')
  await untilAsleep(...TENANTS)
  const inRed = observeProcesses().filter(
    (p) => p.args.join(' ') === 'sleep 86391' && p.cgroups.some((path) => path.includes(red)),
  )
  assert.equal(inRed.length, 1, 'its pod runs')
  process.kill(inRed[0]?.pid ?? 0, 'SIGKILL')
  // The shell ends with its child, the engine starts the container again, and the tenant wakes to write that down.
  await until(() => !sleeps('red'), { timeoutMs: 30_000, what: 'Red being awake' })
  assert.equal(sleeps('blue'), true)
  await until(
    async () => {
      const { status } = await platform.getJson<{
        status: { containerStatuses: { restartCount: number; ready: boolean }[] }
      }>('red', 'pod/worker')
      return status.containerStatuses[0]?.restartCount === 1 && status.containerStatuses[0].ready
    },
    { timeoutMs: 30_000, what: 'The restart in the status of the pod' },
  )
  assert.equal(await uidOf('red'), red)
})

test('what was told of a pod before the sleep is not told again after it', { skip }, async () => {
  const started = async () => {
    const { items } = await platform.getJson<{ items: { reason: string; count: number }[] }>('blue', 'events')
    return items.filter(({ reason }) => reason === 'Started').map(({ count }) => count)
  }
  const before = await started()
  assert.deepEqual(before, [1])
  await untilAsleep('blue')
  assert.deepEqual(await started(), before)
  await platform.apply('blue', [configMap('to-be-seen-after')])
  assert.deepEqual(await started(), before)
})

test('a CronJob runs at its time though its tenant sleeps', { skip }, async () => {
  await platform.apply('red', [
    {
      apiVersion: 'batch/v1',
      kind: 'CronJob',
      metadata: { name: 'tick' },
      spec: {
        schedule: '* * * * *',
        jobTemplate: {
          spec: {
            template: {
              spec: {
                restartPolicy: 'Never',
                containers: [{ name: 'c', image: `${registry.host}/busybox:1`, command: ['true'] }],
              },
            },
          },
        },
      },
    },
  ])
  await untilAsleep('red')
  // Nobody asks: the time alone wakes it, and its pod ends while it is awake.
  await until(() => !sleeps('red'), { timeoutMs: 75_000, everyMs: 200, what: 'The minute to come' })
  await until(
    async () =>
      (await platform.getJson<{ items: { status: { succeeded?: number } }[] }>('red', 'jobs')).items.some(
        ({ status }) => status.succeeded === 1,
      ),
    { timeoutMs: 60_000, what: 'The job having run' },
  )
  await platform.mustKubectl('red', 'delete', 'cronjob/tick', '--wait=true')
})

test('strangers, forged tokens and other tenants wake nobody', { skip }, async () => {
  await untilAsleep(...TENANTS)
  const { server, ca } = await platform.credentials('blue')
  const stranger = new Agent({ connect: { ca } })
  const asRed = await platform.request('red', '/api/v1/namespaces', { server })
  assert.equal(asRed.code, 403)
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const forged = `${part({ alg: 'ES256', kid: 'x' })}.${part({
    iss: 'https://kubernetes.default.svc/tenants/blue',
    sub: 'system:serviceaccount:default:default',
  })}.${'A'.repeat(86)}`
  for (const headers of [{}, { authorization: `Bearer ${forged}` }, { authorization: 'Bearer x' }])
    assert.equal(
      (await request(`${server}/api/v1/namespaces`, { dispatcher: stranger, headers })).statusCode,
      401,
    )
  await stranger.destroy()
  assert.equal(sleeps('blue'), true)
})

test('the proof holds while tenants sleep', { skip }, async () => {
  await untilAsleep(...TENANTS)
  const report = await verify(platform)
  assert.deepEqual(
    report.groups.flatMap(({ vectors }) => vectors.filter(({ state }) => state === 'fails')),
    [],
  )
  assert.deepEqual(report.findings, [])
  assert.equal(report.code, 0)
})

test(
  'a node agent that dies finds them asleep, or wakes them for their pods, and nothing is lost',
  { skip },
  async () => {
    // Red has a pod, blue none any more.
    await platform.mustKubectl('blue', 'delete', 'pod/worker', '--wait=true')
    await untilAsleep(...TENANTS)
    const agent = platform.daemons().get('node')
    process.kill(agent?.pid ?? 0, 'SIGKILL')
    await platform.mustCli('up')
    assert.equal(sleeps('blue'), true)
    assert.equal((await ask('blue', `${NAMESPACES}/configmaps/kept`)).code, 200)
    assert.equal((await ask('red', `${NAMESPACES}/configmaps/kept`)).code, 200)
    // The process of all trusted tenants dies: whoever slept goes on sleeping, and wakes.
    await untilAsleep(...TENANTS)
    process.kill(platform.daemons().get('worker-shared')?.pid ?? 0, 'SIGKILL')
    assert.equal((await ask('red', `${NAMESPACES}/configmaps/kept`)).code, 200)
  },
)

test(
  'a change of the operator reaches a tenant that sleeps, and a deleted one leaves nothing',
  { skip },
  async () => {
    await untilAsleep('blue')
    await platform.mustCli('tenant', 'delete', 'blue', '--yes')
    assert.equal(sleeps('blue'), false)
    assert.equal((await ask('blue', '/api')).code, 403)
  },
)
