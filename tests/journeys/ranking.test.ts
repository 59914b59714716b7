import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { until } from '../../src/stdx/index.ts'
import { platformMissing } from '../testkit/machine.ts'
import { TestPlatform } from '../testkit/platform.ts'
import { type Registry, startBusyboxRegistry } from '../testkit/registry.ts'

/** Whose pods go when there is not enough for all: on a platform that may use one GiB for pods, so that nothing else suffers. */

type Condition = { type: string; status: string; reason: string }

describe('the operator’s order among tenants on a full machine', { skip: platformMissing }, () => {
  let platform: TestPlatform
  let registry: Registry
  const until90 = (condition: () => Promise<unknown>) => until(condition, { timeoutMs: 90_000, everyMs: 300 })
  const pod = (name: string, memory: string, { eats = 0, more = '' } = {}) =>
    `apiVersion: v1\nkind: Pod\nmetadata: {name: ${name}, labels: {app: ${name}}}\nspec:\n` +
    `  terminationGracePeriodSeconds: 2\n  restartPolicy: Never\n${more}` +
    `  volumes: [{name: memory, emptyDir: {medium: Memory, sizeLimit: 490Mi}}]\n` +
    `  containers: [{name: main, image: "${registry.host}/busybox:1", resources: {requests: {memory: ${memory}}},` +
    ` volumeMounts: [{name: memory, mountPath: /memory}],` +
    ` command: [sh, -c, 'trap exit TERM; head -c ${eats}m /dev/zero > /memory/full; echo full; sleep 3600 & wait']}]\n`
  const phase = (tenant: string, name: string) =>
    platform.mustKubectl(tenant, 'get', 'pod', name, '-o', 'jsonpath={.status.phase}/{.status.reason}')
  const conditions = async (tenant: string) => {
    const node = await platform.getJson<{ status: { conditions: Condition[] } }>(tenant, 'node', 'bulkhead')
    return new Map(node.status.conditions.map(({ type, status }) => [type, status]))
  }

  before(async () => {
    registry = await startBusyboxRegistry()
    const registries = [registry.host]
    platform = await TestPlatform.start({
      instance: 'ne0',
      slot: 145,
      env: { BULKHEAD_POD_MEMORY: '1Gi' },
      tenants: [
        { name: 'red', registries },
        { name: 'blue', registries, spec: { priority: 10 } },
      ],
    })
  })
  after(async () => {
    await platform?.[Symbol.asyncDispose]()
    await registry?.[Symbol.asyncDispose]()
  })

  test('a pod of a higher tenant gets room from a lower one, whose pod ends in peace and is not told for whom', async () => {
    await platform.apply(
      'red',
      'apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: urgent}\nvalue: 1000000000\n',
    )
    // As important as a tenant can say: that counts among its own pods only.
    await platform.apply('red', pod('first', '700Mi', { more: '  priorityClassName: urgent\n' }))
    await platform.mustKubectl('red', 'wait', '--for=condition=Ready', 'pod/first', '--timeout=90s')
    await platform.apply('blue', pod('second', '600Mi'))
    await platform.mustKubectl('blue', 'wait', '--for=condition=Ready', 'pod/second', '--timeout=90s')
    assert.equal(await phase('red', 'first'), 'Failed/Preempted')
    const described = await platform.mustKubectl('red', 'describe', 'pod', 'first')
    assert.match(described, /Preempted in order to admit a more important pod/)
    assert.match(described, /DisruptionTarget +True/)
    assert.match(described, /Exit Code: +(0|143)/)
    assert.doesNotMatch(described, /blue|second/)
    // And it does not come back the same way.
    await platform.apply('red', pod('third', '700Mi', { more: '  priorityClassName: urgent\n' }))
    await until90(async () =>
      (
        await platform.mustKubectl(
          'red',
          'get',
          'pod',
          'third',
          '-o',
          'jsonpath={.status.conditions[0].message}',
        )
      ).includes('1 Insufficient memory'),
    )
    assert.equal(await phase('blue', 'second'), 'Running/')
    await platform.mustKubectl('red', 'delete', 'pod', 'first', 'third')
    await platform.mustKubectl('blue', 'delete', 'pod', 'second')
  })

  test('what a tenant was guaranteed comes back from whoever borrowed it, and cannot be promised twice', async () => {
    await platform.apply('blue', pod('borrower', '900Mi'))
    await platform.mustKubectl('blue', 'wait', '--for=condition=Ready', 'pod/borrower', '--timeout=90s')
    const registries = [registry.host]
    await platform.applyTenants([{ name: 'red', registries, spec: { guaranteed: { memoryBytes: '512Mi' } } }])
    await platform.apply('red', pod('owner', '500Mi'))
    await platform.mustKubectl('red', 'wait', '--for=condition=Ready', 'pod/owner', '--timeout=90s')
    assert.equal(await phase('blue', 'borrower'), 'Failed/Preempted')
    await assert.rejects(
      platform.applyTenants([
        { name: 'blue', registries, spec: { priority: 10, guaranteed: { memoryBytes: '600Mi' } } },
      ]),
      /cannot be guaranteed/,
    )
    await platform.applyTenants([
      { name: 'red', registries },
      { name: 'blue', registries, spec: { priority: 10 } },
    ])
    await platform.mustKubectl('red', 'delete', 'pod', 'owner')
    await platform.mustKubectl('blue', 'delete', 'pod', 'borrower')
  })

  test('memory that is used up for real costs the lower tenant a pod, and its node alone says why', async () => {
    await platform.apply('blue', pod('large', '64Mi', { eats: 480 }))
    await platform.mustKubectl('blue', 'wait', '--for=condition=Ready', 'pod/large', '--timeout=90s')
    await until90(async () => (await platform.mustKubectl('blue', 'logs', 'large')).includes('full'))
    // More than it asked for, like the other; together they leave less than pods may have left.
    await platform.apply('red', pod('greedy', '64Mi', { eats: 430 }))
    await platform.apply('red', pod('modest', '64Mi', { eats: 30 }))
    await until90(async () => (await phase('red', 'greedy')) === 'Failed/Evicted')
    const described = await platform.mustKubectl('red', 'describe', 'pod', 'greedy')
    assert.match(
      described,
      /The node was low on resource: memory\. Container main was using \d+Ki, request is 64Mi/,
    )
    await until90(async () => (await conditions('red')).get('MemoryPressure') === 'True')
    assert.equal((await conditions('blue')).get('MemoryPressure'), 'False')
    assert.equal((await conditions('red')).get('DiskPressure'), 'False')
    assert.equal(await phase('blue', 'large'), 'Running/')
  })
})
