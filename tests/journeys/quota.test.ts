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

    test('scopes tell pods with a deadline from others, and pods of one priority class from others', async () => {
      await ok(['create', 'namespace', 'scopes'])
      const inScopes = (args: readonly string[], input = '') => ok(['-n', 'scopes', ...args], input)
      const scoped = (name: string, spec: string) =>
        inScopes(
          ['create', '-f', '-'],
          `apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: ${name}}\nspec: {hard: {pods: 2, requests.cpu: 1, limits.cpu: 2}, ${spec}}`,
        )
      const classes = (operator: string, values: string) =>
        `scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: ${operator}, values: [${values}]}]}`
      await ok(['create', 'priorityclass', 'gold', '--value=100'])
      await ok(['create', 'priorityclass', 'silver', '--value=10'])
      await scoped('terminating', 'scopes: [Terminating]')
      await scoped('not-terminating', 'scopes: [NotTerminating]')
      await scoped('any-class', 'scopes: [PriorityClass]')
      await scoped('gold', classes('In', 'gold'))
      await scoped('not-gold', classes('NotIn', 'gold'))
      await scoped('no-class', classes('DoesNotExist', ''))
      const pod = (name: string, spec: string) =>
        POD(name, '{requests: {cpu: 500m}, limits: {cpu: "1"}}').replace('spec: {', `spec: {${spec}, `)
      const counted = async () =>
        (
          await inScopes([
            'get',
            'quota',
            '-o',
            'jsonpath={range .items[*]}{.metadata.name}:{.status.used.pods}:{.status.used.requests\\.cpu} {end}',
          ])
        ).trim()
      await inScopes(['create', '-f', '-'], pod('plain', 'restartPolicy: Never'))
      await inScopes(['create', '-f', '-'], pod('short', 'activeDeadlineSeconds: 3600'))
      await inScopes(['create', '-f', '-'], pod('golden', 'priorityClassName: gold'))
      await until(
        async () =>
          (await counted()) ===
          'any-class:1:500m gold:1:500m no-class:2:1 not-gold:2:1 not-terminating:2:1 terminating:1:500m',
      )
      const refuse = (spec: string) =>
        tenant.refused(['-n', 'scopes', 'create', '-f', '-'], pod('more', spec))
      assert.match(await refuse('priorityClassName: gold'), /exceeded quota: not-terminating, requested: /)
      assert.match(
        await refuse('activeDeadlineSeconds: 5'),
        /exceeded quota: no-class, requested: limits.cpu=1,pods=1,requests.cpu=500m, used: limits.cpu=2,pods=2,/,
      )
      await inScopes(['delete', 'pod', 'short'])
      await until(async () => (await counted()).endsWith('terminating:0:0'))
      await inScopes(
        ['create', '-f', '-'],
        pod('last', 'priorityClassName: silver, activeDeadlineSeconds: 5'),
      )
      assert.match(
        await tenant.refused(
          ['-n', 'scopes', 'create', '-f', '-'],
          `apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: bad}\nspec: {hard: {pods: 1}, ${classes('In', '')}}`,
        ),
        /values: Required value: must be at least one value when operator is 'In'/,
      )
    })

    test('ReplicationControllers and load balancers are counted, also those that become one', async () => {
      await ok(['create', 'namespace', 'counted'])
      await ok(
        ['-n', 'counted', 'create', '-f', '-'],
        'apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: q}\nspec: {hard: {replicationcontrollers: 1, services: 3, services.loadbalancers: 0, services.nodeports: 0, requests.example.com/gpu: 3}}',
      )
      const controller = (name: string) =>
        `apiVersion: v1\nkind: ReplicationController\nmetadata: {name: ${name}}\nspec: {replicas: 0, selector: {a: b}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: "c:1"}]}}}`
      const create = (input: string) => ok(['-n', 'counted', 'create', '-f', '-'], input)
      await create(controller('one'))
      assert.match(
        await tenant.refused(['-n', 'counted', 'create', '-f', '-'], controller('two')),
        /exceeded quota: q, requested: replicationcontrollers=1, used: replicationcontrollers=1, limited: replicationcontrollers=1/,
      )
      await ok(['-n', 'counted', 'create', 'service', 'clusterip', 'web', '--tcp=80'])
      assert.match(
        await tenant.refused([
          '-n',
          'counted',
          'patch',
          'svc',
          'web',
          '-p',
          '{"spec":{"type":"LoadBalancer"}}',
        ]),
        /exceeded quota: q, requested: services.loadbalancers=1, used: services.loadbalancers=0/,
      )
      const used = () => ok(['-n', 'counted', 'get', 'quota', 'q', '-o', 'jsonpath={.status.used}'])
      await until(
        async () =>
          (await used()) ===
          '{"replicationcontrollers":"1","requests.example.com/gpu":"0","services":"1","services.loadbalancers":"0","services.nodeports":"0"}',
      )
      await ok(['-n', 'counted', 'delete', 'rc', 'one'])
      await until(async () => /"replicationcontrollers":"0"/.test(await used()))
    })

    test('what nothing here can have is refused with the reason', async () => {
      const quota = (spec: string) =>
        `apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: q}\nspec: ${spec}`
      assert.match(
        await refused(quota('{hard: {pods: 1}, scopes: [CrossNamespacePodAffinity]}')),
        /not supported: every pod runs on one node, so affinity means nothing/,
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
