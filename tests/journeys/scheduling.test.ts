import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { until } from '../../src/stdx/index.ts'
import { gvisorMissing } from '../testkit/machine.ts'
import { TestPlatform } from '../testkit/platform.ts'
import { type Registry, startBusyboxRegistry } from '../testkit/registry.ts'

/** What a tenant sees of where its pods run, and what becomes of pods for which there is no room. */

describe('the one node of a tenant, its room, and who comes first', { skip: gvisorMissing }, () => {
  let platform: TestPlatform
  let registry: Registry
  const kubectl = (...args: string[]) => platform.mustKubectl('red', ...args)
  const apply = (manifest: string, tenant = 'red') => platform.apply(tenant, manifest)
  const refused = async (...args: string[]): Promise<string> => {
    const ran = await platform.kubectl('red', ...args)
    assert.notEqual(ran.code, 0, ran.stdout)
    return ran.stderr
  }
  const until60 = (condition: () => Promise<unknown>) => until(condition, { timeoutMs: 60_000, everyMs: 300 })
  const pod = (name: string, requests: string, more = '') =>
    `apiVersion: v1\nkind: Pod\nmetadata: {name: ${name}}\nspec:\n  terminationGracePeriodSeconds: 1\n${more}` +
    `  containers: [{name: main, image: "${registry.host}/busybox:1", resources: {requests: ${requests}},` +
    ` command: [sh, -c, 'trap exit TERM; sleep 3600 & wait']}]\n`
  const ready = (name: string, tenant = 'red') =>
    platform.mustKubectl(tenant, 'wait', '--for=condition=Ready', `pod/${name}`, '--timeout=90s')
  const why = (name: string) =>
    kubectl('get', 'pod', name, '-o', 'jsonpath={.status.conditions[?(@.type=="PodScheduled")].message}')
  const allocatable = async (tenant = 'red') => {
    const node = await platform.getJson<{ status: { allocatable: Record<string, string> } }>(
      tenant,
      'node',
      'bulkhead',
    )
    const { cpu = '', memory = '' } = node.status.allocatable
    return {
      cpuMillis: cpu.endsWith('m') ? Number.parseInt(cpu, 10) : Number(cpu) * 1_000,
      memoryKi: Number.parseInt(memory, 10),
    }
  }

  before(async () => {
    registry = await startBusyboxRegistry()
    platform = await TestPlatform.start({
      instance: 'sc0',
      slot: 60,
      tenants: [
        { name: 'red', registries: [registry.host] },
        { name: 'blue', registries: [registry.host] },
      ],
    })
  })
  after(async () => {
    await platform?.[Symbol.asyncDispose]()
    await registry?.[Symbol.asyncDispose]()
  })

  test('kubectl shows one node that tells nothing about the machine, and takes no pods while it is cordoned', async () => {
    await until60(async () => (await kubectl('get', 'nodes')).includes(' Ready '))
    assert.match(
      await kubectl('get', 'nodes', '-o', 'wide'),
      /^bulkhead +Ready +<none> .* withheld +withheld /m,
    )
    const described = await kubectl('describe', 'node', 'bulkhead')
    assert.match(described, /kubernetes.io\/os=linux/)
    assert.match(described, /Ready +True .*KubeletReady/)
    assert.match(described, /Non-terminated Pods: +\(0 in total\)/)
    assert.match(await refused('delete', 'node', 'bulkhead'), /only the platform changes it/)
    await kubectl('drain', 'bulkhead')
    await apply(pod('kept-out', '{memory: 16Mi}'))
    await until60(async () => (await why('kept-out')).includes('1 node(s) were unschedulable'))
    await kubectl('uncordon', 'bulkhead')
    await ready('kept-out')
    // A pod without an owner goes only by force; the node was cordoned before.
    assert.match(await refused('drain', 'bulkhead'), /use --force to override/)
    await kubectl('drain', 'bulkhead', '--force')
    await until60(async () => !(await kubectl('get', 'pods')).includes('kept-out'))
    await kubectl('uncordon', 'bulkhead')
    assert.match(await refused('taint', 'node', 'bulkhead', 'a=b:NoSchedule'), /spec.taints/)
  })

  test('pods beyond what the machine has wait with the reason, and run when there is room', async () => {
    const { memoryKi, cpuMillis } = await allocatable()
    await apply(pod('large', `{memory: ${Math.floor(memoryKi * 0.7)}Ki}`))
    await ready('large')
    await apply(pod('waits', `{memory: ${Math.floor(memoryKi * 0.6)}Ki}`))
    await until60(async () =>
      (await why('waits')).startsWith('0/1 nodes are available: 1 Insufficient memory. preemption: '),
    )
    assert.match(
      await kubectl('describe', 'pod', 'waits'),
      /Warning +FailedScheduling .*1 Insufficient memory/,
    )
    // The share of another tenant is as large, and the machine is the same.
    const theirs = pod('theirs', `{memory: ${Math.floor(memoryKi * 0.6)}Ki}`)
    await apply(theirs, 'blue')
    const blueWhy = () =>
      platform.mustKubectl('blue', 'get', 'pod', 'theirs', '-o', 'jsonpath={.status.conditions[0].message}')
    await until60(async () => (await blueWhy()) !== '')
    assert.equal(
      await blueWhy(),
      '0/1 nodes are available: 1 Insufficient memory. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.',
    )
    await platform.mustKubectl('blue', 'delete', 'pod', 'theirs')
    assert.match(await kubectl('describe', 'node', 'bulkhead'), /memory +\d+Ki \(70%\)/)
    await apply(pod('impossible', `{cpu: ${cpuMillis + 1}m}`))
    await until60(async () => (await why('impossible')).includes('1 Insufficient cpu'))
    await kubectl('delete', 'pod', 'large', 'impossible')
    await ready('waits')
    await kubectl('delete', 'pod', 'waits')
  })

  test('a pod that asks for another node stays pending, and one that asks for this one runs', async () => {
    await apply(pod('ssd', '{}', '  nodeSelector: {disktype: ssd}\n'))
    await until60(async () => (await why('ssd')).includes("didn't match Pod's node affinity/selector"))
    await apply(
      pod('linux', '{}', '  nodeSelector: {kubernetes.io/os: linux, kubernetes.io/hostname: bulkhead}\n'),
    )
    await ready('linux')
    assert.equal(await kubectl('get', 'pod', 'linux', '-o', 'jsonpath={.spec.nodeName}'), 'bulkhead')
    await kubectl('delete', 'pod', 'ssd', 'linux')
  })

  test('a more important pod gets the room of a less important one of the same tenant', async () => {
    await kubectl('create', 'priorityclass', 'important', '--value=1000', '--description=first')
    assert.match(
      await refused('create', 'priorityclass', 'system-mine', '--value=5'),
      /reserved for system use only/,
    )
    assert.match(
      await refused('create', 'priorityclass', 'too-important', '--value=1000000001'),
      /maximum allowed value of a user defined priority is 1000000000/,
    )
    const { memoryKi } = await allocatable()
    const most = `{memory: ${Math.floor(memoryKi * 0.7)}Ki}`
    await apply(pod('modest', most))
    await ready('modest')
    await apply(pod('urgent', most, '  priorityClassName: important\n'))
    await ready('urgent')
    assert.equal(await kubectl('get', 'pod', 'urgent', '-o', 'jsonpath={.spec.priority}'), '1000')
    assert.equal((await platform.kubectl('red', 'get', 'pod', 'modest')).code, 1)
    assert.match(
      await kubectl('get', 'events'),
      /Preempted +pod\/modest +Preempted by pod .* on node bulkhead/,
    )
  })

  test('attack: a tenant names the highest class there is to push another tenant’s pod away', async () => {
    const { memoryKi } = await allocatable('blue')
    await apply(
      pod('push', `{memory: ${Math.floor(memoryKi * 0.7)}Ki}`, '  priorityClassName: system-node-critical\n'),
      'blue',
    )
    const pushWhy = () =>
      platform.mustKubectl('blue', 'get', 'pod', 'push', '-o', 'jsonpath={.status.conditions[0].message}')
    await until60(async () => (await pushWhy()).includes('1 No preemption victims found'))
    assert.equal(await kubectl('get', 'pod', 'urgent', '-o', 'jsonpath={.status.phase}'), 'Running')
    assert.equal(await kubectl('get', 'pod', 'urgent', '-o', 'jsonpath={.metadata.deletionTimestamp}'), '')
    // What red leaves is blue's, and nobody has to tell.
    await kubectl('delete', 'pod', 'urgent')
    await ready('push', 'blue')
  })
})
