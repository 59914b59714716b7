import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { FakeEngine } from '../../src/controllers/controllers.testkit.ts'
import type { Running } from '../../src/controllers/index.ts'
import { systemClock, until } from '../../src/stdx/index.ts'
import { ControlPlane } from '../conformance/control-plane.ts'
import { Kubectl, kubectlMissing } from '../conformance/kubectl.ts'
import { startControllers } from './pretend-tenant.ts'

const APPLICATION = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {COLOR: red}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: nginx:1
        ports: [{name: http, containerPort: 8080}]
        envFrom: [{configMapRef: {name: settings}}]
        readinessProbe: {httpGet: {port: http}}
`
const JOB = `
apiVersion: batch/v1
kind: Job
metadata: {name: sums}
spec:
  completions: 2
  template:
    spec: {restartPolicy: Never, containers: [{name: c, image: "busybox:1"}]}
`

const CHOOSY_JOB = `
apiVersion: batch/v1
kind: Job
metadata: {name: choosy}
spec:
  completionMode: Indexed
  completions: 2
  parallelism: 2
  backoffLimitPerIndex: 3
  podFailurePolicy:
    rules:
    - {action: FailIndex, onExitCodes: {operator: In, values: [42]}}
  template:
    spec: {restartPolicy: Never, containers: [{name: c, image: "busybox:1"}]}
`
const REPLICATION_CONTROLLER = `
apiVersion: v1
kind: ReplicationController
metadata: {name: old}
spec:
  replicas: 1
  selector: {app: old}
  template:
    metadata: {labels: {app: old}}
    spec: {containers: [{name: c, image: "nginx:1"}]}
`

describe(
  'a tenant with the real kubectl, API server and controllers, and an engine that only pretends',
  { skip: kubectlMissing && 'kubectl is not installed for this machine' },
  () => {
    let plane: ControlPlane
    let kubectl: Kubectl
    let engine: FakeEngine
    let running: Running

    before(async () => {
      engine = new FakeEngine(systemClock)
      plane = await ControlPlane.start({ engine })
      kubectl = await Kubectl.open(`http://127.0.0.1:${plane.port}`)
      running = await startControllers(plane, engine)
      await ok(['create', 'namespace', 'shop'])
    })
    after(async () => {
      await running?.stop()
      await kubectl?.[Symbol.asyncDispose]()
      await plane?.[Symbol.asyncDispose]()
    })

    async function ok(args: readonly string[], input = ''): Promise<string> {
      const result = await kubectl.run(['-n', 'shop', ...args], { input })
      assert.equal(result.code, 0, `kubectl ${args.join(' ')}\n${result.stdout}${result.stderr}`)
      return result.stdout
    }

    test('an application is applied and its rollout awaited', async () => {
      await ok(['apply', '-f', '-'], APPLICATION)
      assert.match(
        await ok(['rollout', 'status', 'deployment/web', '--timeout=20s']),
        /successfully rolled out/,
      )
      assert.match(await ok(['get', 'deployment', 'web']), /web +3\/3 +3 +3/)
      const pods = await ok(['get', 'pods', '-o', 'wide'])
      assert.equal(pods.match(/ 1\/1 +Running +0 .* bulkhead /g)?.length, 3, pods)
      const described = await ok(['describe', 'deployment', 'web'])
      assert.match(described, /Scaled up replica set web-\w+ from 0 to 3/)
      assert.match(described, /Progressing +True +NewReplicaSetAvailable/)
      const endpoints = () => ok(['get', 'endpoints', 'web', '-o', 'jsonpath={.subsets[0].addresses[*].ip}'])
      await until(async () => (await endpoints()).split(' ').length === 3)
      await until(
        () =>
          engine.networks.at(-1)?.services.find((s) => s.name === 'web')?.ports[0]?.endpoints.length === 3,
      )
      const [first] = engine.ensured
      assert.ok(
        first?.containers[0]?.env.some((e) => e.name === 'COLOR' && 'value' in e && e.value === 'red'),
      )
      assert.ok(first)
      const account = first.volumes.find((volume) => volume.name === 'kube-api-access')
      assert.ok(account?.kind === 'files' && account.files.some((file) => file.path === 'token'))
    })

    test('an image is changed, the history shown, and the change undone', async () => {
      await ok(['set', 'image', 'deployment/web', 'web=nginx:2'])
      await ok(['rollout', 'status', 'deployment/web', '--timeout=20s'])
      assert.match(await ok(['rollout', 'history', 'deployment/web']), /^1 .*\n2 /m)
      await ok(['rollout', 'undo', 'deployment/web'])
      await ok(['rollout', 'status', 'deployment/web', '--timeout=20s'])
      const image = await ok([
        'get',
        'deployment',
        'web',
        '-o',
        'jsonpath={.spec.template.spec.containers[0].image}',
      ])
      assert.equal(image, 'nginx:1')
      assert.match(await ok(['rollout', 'history', 'deployment/web']), /^2 .*\n3 /m)
    })

    test('a deployment is scaled, paused, restarted and resumed', async () => {
      await ok(['scale', 'deployment/web', '--replicas=5'])
      await ok(['rollout', 'status', 'deployment/web', '--timeout=20s'])
      await ok(['rollout', 'pause', 'deployment/web'])
      await ok(['rollout', 'restart', 'deployment/web']).then(
        () => assert.fail('a paused deployment cannot be restarted'),
        () => undefined,
      )
      await ok(['set', 'image', 'deployment/web', 'web=nginx:3'])
      await ok(['rollout', 'resume', 'deployment/web'])
      await ok(['rollout', 'status', 'deployment/web', '--timeout=20s'])
      await ok(['rollout', 'restart', 'deployment/web'])
      await ok(['rollout', 'status', 'deployment/web', '--timeout=20s'])
      assert.match(await ok(['get', 'deployment', 'web']), /web +5\/5 +5 +5/)
    })

    test('a job runs to completion and its pods stay to be read', async () => {
      await ok(['apply', '-f', '-'], JOB)
      const finishOne = async () => {
        const found = await until(() =>
          [...engine.jails.values()].find(
            ({ jail, status }) => jail.pod.startsWith('sums-') && status.phase === 'Running',
          ),
        )
        engine.exit(found.jail.id, 0)
      }
      await finishOne()
      await finishOne()
      await ok(['wait', 'job/sums', '--for=condition=complete', '--timeout=20s'])
      assert.match(await ok(['get', 'job', 'sums']), /sums +Complete +2\/2/)
      assert.match(
        await ok(['describe', 'job', 'sums']),
        /Pods Statuses: +0 Active .* \/ 2 Succeeded \/ 0 Failed/,
      )
      await ok(['delete', 'job', 'sums'])
      await until(async () => !(await ok(['get', 'pods'])).includes('sums-'))
    })

    test('a job gives up the index whose program says that it is hopeless, and does the other', async () => {
      await ok(['apply', '-f', '-'], CHOOSY_JOB)
      const end = async (index: number, exitCode: number) => {
        const found = await until(() =>
          [...engine.jails.values()].find(
            ({ jail, status }) => jail.pod.startsWith(`choosy-${index}-`) && status.phase === 'Running',
          ),
        )
        engine.exit(found.jail.id, exitCode)
      }
      await end(0, 42)
      await end(1, 0)
      await ok(['wait', 'job/choosy', '--for=condition=failed', '--timeout=20s'])
      const { status } = JSON.parse(await ok(['get', 'job', 'choosy', '-o', 'json'])) as {
        status: { failedIndexes: string; completedIndexes: string; conditions: { reason: string }[] }
      }
      assert.deepEqual([status.failedIndexes, status.completedIndexes], ['0', '1'])
      assert.ok(status.conditions.some(({ reason }) => reason === 'FailedIndexes'))
      await ok(['delete', 'job', 'choosy'])
    })

    test('a ReplicationController is scaled and described, and its events are shown', async () => {
      await ok(['apply', '-f', '-'], REPLICATION_CONTROLLER)
      await ok(['scale', 'rc', 'old', '--replicas=2'])
      await until(async () => /old +2 +2 /.test(await ok(['get', 'rc', 'old'])))
      assert.match(await ok(['describe', 'rc', 'old']), /Replicas: +2 current \/ 2 desired/)
      await until(async () =>
        /SuccessfulCreate +ReplicationController\/old/.test(await ok(['events', '--for', 'rc/old'])),
      )
      assert.match(await ok(['get', 'events.events.k8s.io']), /replicationcontroller\/old/)
      await ok(['expose', 'rc', 'old', '--port=80'])
      assert.match(await ok(['get', 'service', 'old', '-o', 'jsonpath={.spec.selector}']), /"app":"old"/)
      await ok(['delete', 'rc,service', 'old'])
      await until(async () => !(await ok(['get', 'pods'])).includes('old-'))
    })

    test('two hundred services that come one after the other all get their endpoints', async () => {
      const labels = { app: 'web' }
      for (let index = 0; index < 200; index += 1) {
        const { code, text } = await plane.ask('POST', '/api/v1/namespaces/shop/services', {
          body: {
            metadata: { name: `latency-${index}`, labels: { many: 'yes' } },
            spec: { selector: labels, ports: [{ port: 80 }] },
          },
        })
        assert.equal(code, 201, text)
      }
      const addressed = async () => {
        const { body } = await plane.ask('GET', '/api/v1/namespaces/shop/endpoints?labelSelector=many')
        return (body as { items: { subsets?: { addresses?: unknown[] }[] }[] }).items.filter(
          ({ subsets }) => subsets?.[0]?.addresses?.length,
        ).length
      }
      // Upstream's bound for the slowest of a hundred.
      await until(async () => (await addressed()) === 200, { timeoutMs: 50_000, everyMs: 200 })
      await ok(['delete', 'service', '-l', 'many', '--wait=false'])
      const slices = ['get', 'endpointslices', '-l', 'many', '-o', 'name']
      await until(async () => (await ok(slices)) === '', { timeoutMs: 30_000 })
    })

    test('a deleted pod is replaced, and `delete` waits until it is gone', async () => {
      const [name = ''] = (await ok(['get', 'pods', '-o', 'jsonpath={.items[*].metadata.name}'])).split(' ')
      await ok(['delete', 'pod', name, '--timeout=20s'])
      await until(async () => / 5\/5 /.test(await ok(['get', 'deployment', 'web'])))
      assert.doesNotMatch(await ok(['get', 'pods']), new RegExp(name))
    })

    test('the control plane comes back and changes no pod', async () => {
      const running1 = await ok(['get', 'pods', '-o', 'jsonpath={.items[*].metadata.resourceVersion}'])
      await running.stop()
      const { revision } = plane.store
      running = await startControllers(plane, engine)
      await until(() => engine.networks.length > 0)
      // A reconcile of everything takes far less than this many turns of the event loop.
      for (let turn = 0; turn < 200; turn += 1) await new Promise((resolve) => setImmediate(resolve))
      assert.equal(await ok(['get', 'pods', '-o', 'jsonpath={.items[*].metadata.resourceVersion}']), running1)
      assert.equal(plane.store.revision, revision, 'nothing was written')
    })

    test('foreground deletion and deletion of a namespace leave nothing behind', async () => {
      await ok(['delete', 'deployment', 'web', '--cascade=foreground', '--timeout=20s'])
      assert.equal(await ok(['get', 'pods,replicasets', '-o', 'name']), '')
      await ok(['apply', '-f', '-'], APPLICATION)
      await ok(['rollout', 'status', 'deployment/web', '--timeout=20s'])
      await ok(['delete', 'namespace', 'shop', '--timeout=20s'])
      await until(() => engine.jails.size === 0)
      assert.equal(plane.store.list('pods./shop/').items.length, 0)
    })
  },
)
