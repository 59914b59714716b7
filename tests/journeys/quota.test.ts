import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { until } from '../../src/stdx/index.ts'
import { kubectlMissing } from '../conformance/kubectl.ts'
import { PretendTenant } from './pretend-tenant.ts'

const QUOTA = `
apiVersion: v1
kind: ResourceQuota
metadata: {name: budget}
spec: {hard: {pods: 3, requests.cpu: "1", limits.memory: 1Gi, count/deployments.apps: 1, configmaps: 4}}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: careless}
spec: {hard: {pods: 0}, scopes: [BestEffort]}
`
const RANGE = `
apiVersion: v1
kind: LimitRange
metadata: {name: sizes}
spec:
  limits:
  - type: Container
    default: {memory: 128Mi}
    defaultRequest: {cpu: 200m}
    max: {memory: 512Mi}
    min: {cpu: 50m}
`
const POD = (name: string, resources: string) => `
apiVersion: v1
kind: Pod
metadata: {name: ${name}}
spec: {containers: [{name: c, image: "c:1", resources: ${resources}}]}
`

describe(
  'quotas and ranges of a namespace with the real kubectl, API server and controllers',
  { skip: kubectlMissing && 'kubectl is not installed for this machine' },
  () => {
    let tenant: PretendTenant
    const ok = (args: readonly string[], input = '') => tenant.ok(args, input)
    const create = (input: string) => ok(['create', '-f', '-'], input)
    const refused = (input: string) => tenant.refused(['create', '-f', '-'], input)
    const used = (key: string) =>
      ok(['get', 'quota', 'budget', '-o', `jsonpath={.status.used['${key.replaceAll('.', '\\.')}']}`])

    before(async () => {
      tenant = await PretendTenant.start('shop')
      await create(QUOTA)
    })
    after(async () => tenant?.[Symbol.asyncDispose]())

    test('a pod must say what it takes, and may take no more than is left', async () => {
      assert.match(
        await refused(POD('a', '{}')),
        /pods "a" is forbidden: failed quota: budget: must specify limits.memory for: c; requests.cpu for: c/,
      )
      await create(POD('a', '{requests: {cpu: 700m}, limits: {memory: 256Mi}}'))
      assert.match(
        await refused(POD('b', '{requests: {cpu: 400m}, limits: {memory: 900Mi}}')),
        /pods "b" is forbidden: exceeded quota: budget, requested: limits.memory=900Mi,requests.cpu=400m, used: limits.memory=256Mi,requests.cpu=700m, limited: limits.memory=1Gi,requests.cpu=1/,
      )
      await until(async () => (await used('requests.cpu')) === '700m' && (await used('pods')) === '1')
      assert.match(
        await ok(['get', 'quota', 'budget']),
        /pods: 1\/3.*requests.cpu: 700m\/1 +limits.memory: 256Mi\/1Gi/,
      )
      assert.match(await ok(['describe', 'quota', 'budget']), /limits.memory +256Mi +1Gi/)
    })

    test('a range fills in what a pod leaves open, says so, and holds it to its bounds', async () => {
      await create(RANGE)
      await create(POD('b', '{}'))
      const pod = JSON.parse(await ok(['get', 'pod', 'b', '-o', 'json'])) as {
        metadata: { annotations: Record<string, string> }
        spec: { containers: { resources: unknown }[] }
        status: { qosClass: string }
      }
      assert.deepEqual(pod.spec.containers[0]?.resources, {
        limits: { memory: '128Mi' },
        requests: { cpu: '200m', memory: '128Mi' },
      })
      assert.equal(
        pod.metadata.annotations['kubernetes.io/limit-ranger'],
        'LimitRanger plugin set: cpu, memory request for container c; memory limit for container c',
      )
      assert.equal(pod.status.qosClass, 'Burstable')
      assert.match(
        await refused(POD('d', '{requests: {cpu: 10m}, limits: {memory: 600Mi}}')),
        /pods "d" is forbidden: \[minimum cpu usage per Container is 50m, but request is 10m, maximum memory usage per Container is 512Mi, but limit is 600Mi/,
      )
      assert.match(await ok(['describe', 'limits', 'sizes']), /Container +cpu +50m +- +200m/)
    })

    test('many at once get no more than is left, and what has ended takes nothing', async () => {
      const answers = await Promise.all(
        [0, 1, 2, 3].map((index) =>
          tenant.plane.ask('POST', '/api/v1/namespaces/shop/pods', {
            body: {
              metadata: { name: `many-${index}` },
              spec: { containers: [{ name: 'c', image: 'c:1', resources: { requests: { cpu: '50m' } } }] },
            },
          }),
        ),
      )
      assert.deepEqual(answers.map(({ code }) => code).sort(), [201, 403, 403, 403])
      const [first] = tenant.engine.jails.values()
      assert.ok(first)
      tenant.engine.exit(first.jail.id, 0)
      await until(async () => (await used('pods')) === '2')
      await create(POD('after', '{requests: {cpu: 50m}}'))
    })

    test('objects are counted by kind, and a controller says why it cannot go on', async () => {
      await ok(['create', 'deployment', 'one', '--image=c:1'])
      assert.match(
        await tenant.refused(['create', 'deployment', 'two', '--image=c:1']),
        /exceeded quota: budget, requested: count\/deployments.apps=1, used: count\/deployments.apps=1, limited: count\/deployments.apps=1/,
      )
      await until(async () => /exceeded quota: budget/.test(await ok(['describe', 'replicasets'])))
      // One is every namespace's own: the authority that pods check the API server by.
      for (const name of ['x', 'y', 'z']) await ok(['create', 'configmap', name])
      assert.match(await tenant.refused(['create', 'configmap', 'w']), /configmaps=4, limited: configmaps=4/)
      await ok(['delete', 'configmap', 'x'])
      await ok(['create', 'configmap', 'w'])
    })

    test('what nothing here can have is refused with the reason', async () => {
      const quota = (spec: string) =>
        `apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: q}\nspec: ${spec}`
      assert.match(
        await refused(quota('{hard: {pods: 1}, scopes: [PriorityClass]}')),
        /not supported: quotas do not count by priority/,
      )
      assert.match(
        await refused(quota('{hard: {widgets: 1, pods: "1.5", cpu: "-1"}}')),
        /spec.hard\[widgets\][^]*must be an integer|must be greater/,
      )
      assert.match(
        await refused(
          RANGE.replace('name: sizes', 'name: r').replace('max: {memory: 512Mi}', 'max: {memory: 64Mi}'),
        ),
        /default value 128Mi is greater than max value 64Mi/,
      )
    })
  },
)
