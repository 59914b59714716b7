import assert from 'node:assert/strict'
import { after, afterEach, before, describe, test } from 'node:test'
import { until } from '../../src/stdx/index.ts'
import { kubectlMissing } from '../conformance/kubectl.ts'
import { PretendTenant } from './pretend-tenant.ts'

const template = (app: string, image: string) =>
  `{metadata: {labels: {app: ${app}}}, spec: {containers: [{name: c, image: "${image}"}]}}`
const workload = (kind: string, name: string, image: string, spec: string) =>
  `apiVersion: apps/v1\nkind: ${kind}\nmetadata: {name: ${name}}\nspec: {${spec}selector: {matchLabels: {app: ${name}}}, template: ${template(name, image)}}\n`

/** What upstream's tests of workloads try where pods do not become ready: rollouts that pass over each other, and orders that halt. */
describe(
  'rollouts that go wrong, with the real kubectl, API server and controllers',
  { skip: kubectlMissing && 'kubectl is not installed for this machine' },
  () => {
    let tenant: PretendTenant
    let starting: NodeJS.Timeout
    const ok = (args: readonly string[], input = '') => tenant.ok(args, input)
    const apply = (input: string) => ok(['apply', '-f', '-'], input)

    before(async () => {
      tenant = await PretendTenant.start('shop')
      const { engine } = tenant
      engine.autorun = false
      // Containers of the image "bad" never start.
      starting = setInterval(() => {
        for (const [id, { jail, status }] of engine.jails)
          if (status.phase === 'Pending' && jail.containers[0]?.image !== 'bad:1') engine.run(id)
      }, 5)
    })
    afterEach(async () => {
      await ok(['delete', 'deploy,sts,ds', '--all', '--cascade=foreground', '--timeout=20s'])
    })
    after(async () => {
      clearInterval(starting)
      await tenant?.[Symbol.asyncDispose]()
    })

    const names = async (app: string) =>
      (await ok(['get', 'pods', '-l', `app=${app}`, '-o', 'jsonpath={.items[*].metadata.name}']))
        .split(' ')
        .filter(Boolean)
        .sort()
    const setReady = (pod: string, ready: boolean) => {
      const [id] = [...tenant.engine.jails].find(([, { jail }]) => jail.pod === pod) ?? assert.fail(pod)
      tenant.engine.change(id, (status) => ({
        ...status,
        containers: status.containers.map((container) => ({ ...container, ready })),
      }))
    }
    /** Holds when a condition still holds after everybody has done what there was to do. */
    const stays = async (condition: () => Promise<boolean>) => {
      await until(condition)
      await tenant.settled()
      assert.ok(await condition())
    }

    test('a rollout that cannot succeed is passed over by the next one', async () => {
      await apply(workload('Deployment', 'web', 'good:1', 'replicas: 3, '))
      await ok(['rollout', 'status', 'deploy/web', '--timeout=20s'])
      await ok(['set', 'image', 'deploy/web', 'c=bad:1'])
      await until(async () => (await names('web')).length === 4)
      await ok(['set', 'image', 'deploy/web', 'c=good:2'])
      await ok(['rollout', 'status', 'deploy/web', '--timeout=20s'])
      const sets = await ok([
        'get',
        'rs',
        '-o',
        'jsonpath={range .items[*]}{.spec.template.spec.containers[0].image}={.status.replicas} {end}',
      ])
      assert.deepEqual(sets.trim().split(' ').sort(), ['bad:1=0', 'good:1=0', 'good:2=3'])
    })

    test('a resize in the middle of a rollout is spread over the old pods and the new in proportion', async () => {
      const strategy = 'strategy: {rollingUpdate: {maxSurge: 3, maxUnavailable: 2}}, '
      await apply(workload('Deployment', 'wide', 'good:1', `replicas: 10, ${strategy}`))
      await ok(['rollout', 'status', 'deploy/wide', '--timeout=20s'])
      const sizes = async () => {
        const text = await ok([
          'get',
          'rs',
          '-l',
          'app=wide',
          '-o',
          'jsonpath={range .items[*]}{.spec.template.spec.containers[0].image}={.spec.replicas} {end}',
        ])
        return text.trim().split(' ').sort().join(' ')
      }
      await ok(['set', 'image', 'deploy/wide', 'c=bad:1'])
      await stays(async () => (await sizes()) === 'bad:1=5 good:1=8')
      await ok(['scale', 'deploy/wide', '--replicas=30'])
      await stays(async () => (await sizes()) === 'bad:1=13 good:1=20')
    })

    test('a rollout that takes too long says so, and goes on once its pods start', async () => {
      await apply(workload('Deployment', 'slow', 'bad:1', 'replicas: 1, progressDeadlineSeconds: 1, '))
      const waiting = await tenant.refused(['rollout', 'status', 'deploy/slow', '--timeout=20s'])
      assert.match(waiting, /deployment "slow" exceeded its progress deadline/)
      const progressing = () =>
        ok(['get', 'deploy', 'slow', '-o', 'jsonpath={.status.conditions[?(@.type=="Progressing")].reason}'])
      assert.equal(await progressing(), 'ProgressDeadlineExceeded')
      await ok(['set', 'image', 'deploy/slow', 'c=good:1'])
      await ok(['rollout', 'status', 'deploy/slow', '--timeout=20s'])
      assert.equal(await progressing(), 'NewReplicaSetAvailable')
    })

    test('a StatefulSet grows and shrinks in order, and halts while one of its pods is not well', async () => {
      await apply(workload('StatefulSet', 'db', 'good:1', 'replicas: 1, serviceName: db, '))
      await ok(['rollout', 'status', 'sts/db', '--timeout=20s'])
      setReady('db-0', false)
      await until(
        async () => (await ok(['get', 'sts', 'db', '-o', 'jsonpath={.status.readyReplicas}'])) !== '1',
      )
      await ok(['scale', 'sts/db', '--replicas=3'])
      await stays(async () => (await names('db')).join() === 'db-0')
      setReady('db-0', true)
      await until(async () => (await names('db')).join() === 'db-0,db-1,db-2')
      await ok(['rollout', 'status', 'sts/db', '--timeout=20s'])

      const all = ['db-0', 'db-1', 'db-2']
      for (const pod of all) setReady(pod, false)
      const ready = () => ok(['get', 'sts', 'db', '-o', 'jsonpath={.status.readyReplicas}'])
      await until(async () => !/[123]/.test(await ready()))
      await ok(['scale', 'sts/db', '--replicas=0'])
      await stays(async () => (await names('db')).join() === all.join())
      for (const pod of all) setReady(pod, true)
      await until(async () => (await names('db')).length === 0)
      const deleted = await ok([
        'get',
        'events',
        '-o',
        'jsonpath={range .items[?(@.reason=="SuccessfulDelete")]}{.message}\n{end}',
      ])
      assert.deepEqual(
        [...deleted.matchAll(/^delete Pod (db-\d) in StatefulSet db successful$/gm)].map(([, pod]) => pod),
        ['db-2', 'db-1', 'db-0'],
      )
    })

    test('with Parallel the pods of a StatefulSet come and go at once, also when they are not well', async () => {
      await apply(
        workload(
          'StatefulSet',
          'burst',
          'bad:1',
          'replicas: 3, serviceName: burst, podManagementPolicy: Parallel, ',
        ),
      )
      await until(async () => (await names('burst')).length === 3)
      await ok(['scale', 'sts/burst', '--replicas=0'])
      await until(async () => (await names('burst')).length === 0)
    })

    test('a StatefulSet with a start ordinal counts from there, and moves when it changes', async () => {
      await apply(
        workload('StatefulSet', 'late', 'good:1', 'replicas: 2, serviceName: late, ordinals: {start: 5}, '),
      )
      await until(async () => (await names('late')).join() === 'late-5,late-6')
      await ok(['patch', 'sts', 'late', '-p', '{"spec":{"ordinals":{"start":6}}}'])
      await until(async () => (await names('late')).join() === 'late-6,late-7')
    })

    test('a pod of a DaemonSet that has failed is replaced, and one that no node wants is not made', async () => {
      await apply(workload('DaemonSet', 'agent', 'good:1', ''))
      await ok(['rollout', 'status', 'ds/agent', '--timeout=20s'])
      const [first = ''] = await names('agent')
      const [id] = [...tenant.engine.jails].find(([, { jail }]) => jail.pod === first) ?? assert.fail(first)
      tenant.engine.exit(id, 1)
      await until(async () => {
        const now = await names('agent')
        return now.length === 1 && now[0] !== first
      })
      const patch = (selector: string) =>
        ok(['patch', 'ds', 'agent', '-p', `{"spec":{"template":{"spec":{"nodeSelector":${selector}}}}}`])
      await patch('{"color":"blue"}')
      await until(async () => (await names('agent')).length === 0)
      await patch('{"color":null,"kubernetes.io/os":"linux"}')
      await until(async () => (await names('agent')).length === 1)
    })
  },
)
