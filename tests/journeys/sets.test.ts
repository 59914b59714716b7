import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { until } from '../../src/stdx/index.ts'
import { kubectlMissing } from '../conformance/kubectl.ts'
import { PretendTenant } from './pretend-tenant.ts'

const STATEFUL = `
apiVersion: v1
kind: Service
metadata: {name: peers}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 5432}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: peers
  replicas: 3
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: db, image: "db:1"}]}
`
const DAEMON = `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {containers: [{name: agent, image: "agent:1"}]}
`

describe(
  'sets of pods with the real kubectl, API server and controllers, and an engine that only pretends',
  { skip: kubectlMissing && 'kubectl is not installed for this machine' },
  () => {
    let tenant: PretendTenant
    const ok = (args: readonly string[], input = '') => tenant.ok(args, input)
    const images = (app: string) =>
      ok([
        'get',
        'pods',
        '-l',
        `app=${app}`,
        '-o',
        'jsonpath={range .items[*]}{.metadata.name}={.spec.containers[0].image} {end}',
      ])

    before(async () => {
      tenant = await PretendTenant.start('shop')
    })
    after(async () => tenant?.[Symbol.asyncDispose]())

    test('a StatefulSet is rolled out in order, and each pod has a name in DNS', async () => {
      await ok(['apply', '-f', '-'], STATEFUL)
      const rollout = await ok(['rollout', 'status', 'statefulset/db', '--timeout=20s'])
      assert.match(
        rollout,
        /partitioned roll out complete: 3 new pods|statefulset rolling update complete 3 pods/,
      )
      assert.match(await ok(['get', 'sts']), /^db +3\/3 /m)
      assert.deepEqual(
        tenant.engine.ensured.map(({ pod, hostname, subdomain }) => [pod, hostname, subdomain]),
        ['db-0', 'db-1', 'db-2'].map((name) => [name, name, 'peers']),
      )
      await until(() => tenant.engine.networks.at(-1)?.services.some((s) => s.name === 'peers'))
      const hosts = () =>
        ok(['get', 'endpoints', 'peers', '-o', 'jsonpath={.subsets[0].addresses[*].hostname}'])
      await until(async () => (await hosts()).split(' ').sort().join(' ') === 'db-0 db-1 db-2')
    })

    test('its image is changed, its history shown, and the change undone', async () => {
      await ok(['set', 'image', 'statefulset/db', 'db=db:2'])
      await ok(['rollout', 'status', 'statefulset/db', '--timeout=20s'])
      assert.equal(await images('db'), 'db-0=db:2 db-1=db:2 db-2=db:2 ')
      assert.match(await ok(['rollout', 'history', 'statefulset/db']), /^1 .*\n2 /m)
      await ok(['rollout', 'undo', 'statefulset/db'])
      await ok(['rollout', 'status', 'statefulset/db', '--timeout=20s'])
      assert.equal(await images('db'), 'db-0=db:1 db-1=db:1 db-2=db:1 ')
      assert.match(await ok(['rollout', 'history', 'statefulset/db']), /^2 .*\n3 /m)
      assert.match(await ok(['get', 'controllerrevisions']), /db-\w{10} +statefulset.apps\/db +3 /)
    })

    test('a partition holds pods back, and it is scaled by its sub-resource', async () => {
      const partition = (n: number) =>
        ok(['patch', 'sts', 'db', '-p', `{"spec":{"updateStrategy":{"rollingUpdate":{"partition":${n}}}}}`])
      await partition(2)
      await ok(['set', 'image', 'statefulset/db', 'db=db:3'])
      await ok(['rollout', 'status', 'statefulset/db', '--timeout=20s'])
      assert.equal(await images('db'), 'db-0=db:1 db-1=db:1 db-2=db:3 ')
      await partition(0)
      await ok(['rollout', 'status', 'statefulset/db', '--timeout=20s'])
      await ok(['scale', 'statefulset/db', '--replicas=1'])
      await until(async () => (await images('db')) === 'db-0=db:3 ')
      await ok(['rollout', 'restart', 'statefulset/db'])
      await ok(['rollout', 'status', 'statefulset/db', '--timeout=20s'])
      assert.match(await ok(['describe', 'sts', 'db']), /create Pod db-0 in StatefulSet db successful/)
    })

    test('what cannot be is refused with the reason', async () => {
      const claims = STATEFUL.replace(
        'serviceName:',
        'volumeClaimTemplates: [{metadata: {name: x}}]\n  serviceName:',
      )
      assert.match(
        await tenant.refused(['apply', '-f', '-'], claims),
        /spec.volumeClaimTemplates\[0\].spec.accessModes: Required value: at least 1 access mode is required/,
      )
      assert.match(
        await tenant.refused([
          'patch',
          'sts',
          'db',
          '--type=merge',
          '-p',
          '{"spec":{"serviceName":"other"}}',
        ]),
        /updates to statefulset spec for fields other than 'replicas'/,
      )
    })

    test('a DaemonSet has one pod, which is replaced when its template changes', async () => {
      await ok(['apply', '-f', '-'], DAEMON)
      await ok(['rollout', 'status', 'daemonset/agent', '--timeout=20s'])
      assert.match(await ok(['get', 'ds']), /^agent +1 +1 +1 +1 +1 +<none> /m)
      await ok(['set', 'image', 'daemonset/agent', 'agent=agent:2'])
      await ok(['rollout', 'status', 'daemonset/agent', '--timeout=20s'])
      assert.match(await images('agent'), /^agent-\w{5}=agent:2 $/)
      await ok(['rollout', 'undo', 'daemonset/agent'])
      await ok(['rollout', 'status', 'daemonset/agent', '--timeout=20s'])
      assert.match(await images('agent'), /^agent-\w{5}=agent:1 $/)
    })

    test('they take everything with them when they are deleted', async () => {
      await ok(['delete', 'sts/db', 'ds/agent', '--cascade=foreground', '--timeout=20s'])
      assert.equal(await ok(['get', 'pods,controllerrevisions', '-o', 'name']), '')
    })

    test('the control plane comes back and changes nothing', async () => {
      await ok(['apply', '-f', '-'], STATEFUL)
      await ok(['apply', '-f', '-'], DAEMON)
      await ok(['rollout', 'status', 'statefulset/db', '--timeout=20s'])
      await ok(['rollout', 'status', 'daemonset/agent', '--timeout=20s'])
      await tenant.settled()
      await tenant.pause()
      const { revision } = tenant.plane.store
      await tenant.resume()
      await tenant.settled()
      assert.equal(tenant.plane.store.revision, revision, 'nothing was written')
    })
  },
)
