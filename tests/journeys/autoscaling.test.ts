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

  test('a workload grows with its load up to the bound, says why, and what it cannot follow is refused', async () => {
    const kubectl = (...args: string[]) => platform.mustKubectl('red', ...args)
    await platform.apply(
      'red',
      `apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  selector: {matchLabels: {app: web}}\n` +
        `  template:\n    metadata: {labels: {app: web}}\n    spec:\n      terminationGracePeriodSeconds: 1\n      containers: [${container('main', BUSY)}]\n`,
    )
    await kubectl('rollout', 'status', 'deployment/web', '--timeout=90s')
    await kubectl('autoscale', 'deployment', 'web', '--min=1', '--max=2', '--cpu-percent=20')
    await until120(async () => (await kubectl('get', 'deployment', 'web')).includes('2/2'))
    assert.match(await kubectl('get', 'hpa'), /^web +Deployment\/web +cpu: \d+%\/20% +1 +2 +\d /m)
    await until120(async () =>
      /ScalingLimited +True +TooManyReplicas/.test(await kubectl('describe', 'hpa', 'web')),
    )
    const described = await kubectl('describe', 'hpa', 'web')
    assert.match(
      described,
      /ScalingActive +True +ValidMetricFound +the HPA was able to successfully calculate/,
    )
    assert.match(
      described,
      /SuccessfulRescale .*New size: 2; reason: cpu resource utilization \(percentage of request\) above target/,
    )
    assert.match(
      await kubectl('get', 'horizontalpodautoscalers.v1.autoscaling', 'web', '-o', 'yaml'),
      /targetCPUUtilizationPercentage: 20/,
    )
    // Nothing is done to what somebody has switched off.
    await kubectl('scale', 'deployment', 'web', '--replicas=0')
    await until120(async () =>
      /ScalingActive +False +ScalingDisabled/.test(await kubectl('describe', 'hpa', 'web')),
    )
    await kubectl('delete', 'hpa,deployment', 'web')
    const external = await platform.runKubectl('red', ['apply', '-f', '-'], {
      input:
        'apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: queue}\nspec:\n  maxReplicas: 3\n' +
        '  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}\n' +
        '  metrics: [{type: External, external: {metric: {name: queue}, target: {type: AverageValue, averageValue: 5}}}]\n',
    })
    assert.equal(external.code, 1)
    assert.match(external.stderr, /what pods use is the only metric that there is/)
  })
})
