import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { until } from '../../src/stdx/index.ts'
import { gvisorMissing } from '../testkit/machine.ts'
import { TestPlatform } from '../testkit/platform.ts'
import { type Registry, startBusyboxRegistry } from '../testkit/registry.ts'

/** What pods use, as their tenant sees it, on both runtimes; and workloads that follow it. */

describe('measuring pods', { skip: gvisorMissing }, () => {
  let platform: TestPlatform
  let registry: Registry
  const BUSY = 'trap exit TERM; while :; do :; done'
  const IDLE = 'trap exit TERM; sleep 3600 & wait'
  const container = (name: string, script: string) =>
    `{name: ${name}, image: "${registry.host}/busybox:1", command: [sh, -c, '${script}'],` +
    ` resources: {requests: {cpu: 100m}, limits: {cpu: 200m, memory: 64Mi}}}`
  const pod = (name: string, ...containers: string[]) =>
    `apiVersion: v1\nkind: Pod\nmetadata: {name: ${name}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers: [${containers.join(', ')}]\n`
  const ready = (tenant: string, name: string) =>
    platform.mustKubectl(tenant, 'wait', '--for=condition=Ready', `pod/${name}`, '--timeout=90s')
  const until120 = (condition: () => Promise<unknown>) =>
    until(condition, { timeoutMs: 120_000, everyMs: 1_000 })
  /** Millicores of a pod, as kubectl prints them. */
  const top = async (tenant: string, name: string): Promise<number | undefined> => {
    const ran = await platform.kubectl(tenant, 'top', 'pod', name, '--no-headers')
    return ran.code === 0 ? Number.parseInt(ran.stdout.split(/ +/)[1] ?? '', 10) : undefined
  }

  before(async () => {
    registry = await startBusyboxRegistry()
    platform = await TestPlatform.start({
      instance: 'sc1',
      slot: 61,
      tenants: [
        { name: 'red', registries: [registry.host] },
        { name: 'blue', registries: [registry.host], trust: 'untrusted' },
      ],
    })
  })
  after(async () => {
    await platform?.[Symbol.asyncDispose]()
    await registry?.[Symbol.asyncDispose]()
  })

  for (const tenant of ['red', 'blue'])
    test(`kubectl top shows what the pods of ${tenant} use, and nobody else's`, async () => {
      await platform.apply(tenant, pod('busy', container('main', BUSY)))
      await platform.apply(tenant, pod('idle', container('main', IDLE), container('side', IDLE)))
      await Promise.all([ready(tenant, 'busy'), ready(tenant, 'idle')])
      await until120(async () => ((await top(tenant, 'busy')) ?? 0) > 20)
      assert.ok(((await top(tenant, 'idle')) ?? 1_000) < 20)
      const pods = await platform.mustKubectl(tenant, 'top', 'pod', '--containers', '--no-headers')
      assert.deepEqual(
        pods
          .trim()
          .split('\n')
          .map((line) => line.split(/ +/).slice(0, 2).join('/'))
          .sort(),
        ['busy/main', 'idle/main', 'idle/side'],
      )
      const node = await platform.mustKubectl(tenant, 'top', 'node', '--no-headers')
      assert.match(node, /^bulkhead +\d+m +\d+% +\d+Mi +\d+% *$/m)
      const [own = 0] = [...node.matchAll(/ (\d+)m /g)].map(([, millis]) => Number(millis))
      assert.ok(own < 400, `no more than its own pods may use: ${node}`)
      await platform.mustKubectl(tenant, 'delete', 'pod', 'busy', 'idle')
    })
})
