import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { stringify } from 'yaml'
import { BOTH_RUNTIMES, tenantsOfBothRuntimes } from '../testkit/both-runtimes.ts'
import { KUBECTL, platformMissing } from '../testkit/machine.ts'
import { configMap, container, deployment, pod, secret } from '../testkit/manifests.ts'
import { until } from '../../src/stdx/index.ts'
import { run, TestPlatform } from '../testkit/platform.ts'
import { type Registry, startSampleRegistry } from '../testkit/registry.ts'

/** An ordinary day of two tenants with stock kubectl: red's pods run on the machine's kernel, blue's on gVisor's. */

const SHOP = readFileSync(new URL('../../samples/manifests/shop.yaml', import.meta.url), 'utf8')

let platform: TestPlatform
let registry: Registry
let busybox: string

before(async () => {
  if (platformMissing !== false) return
  registry = await startSampleRegistry()
  busybox = `${registry.host}/busybox:1`
  platform = await TestPlatform.start({
    instance: 'tjrn',
    slot: 5,
    tenants: tenantsOfBothRuntimes(registry.host),
  })
})

after(async () => {
  if (platformMissing !== false) return
  await platform?.[Symbol.asyncDispose]()
  await registry?.[Symbol.asyncDispose]()
})

const kubectl = (tenant: string, ...args: string[]) => platform.mustKubectl(tenant, ...args)
const untilReady = (tenant: string, ...objects: string[]) =>
  kubectl(tenant, 'wait', '--for=condition=Ready', '--timeout=60s', ...objects)
const untilField = (tenant: string, object: string, path: string, value: string) =>
  kubectl(tenant, 'wait', object, `--for=jsonpath={${path}}=${value}`, '--timeout=60s')

type ContainerStatus = {
  name: string
  restartCount: number
  ready: boolean
  state: Record<string, { reason?: string; message?: string; exitCode?: number }>
  lastState: Record<string, { reason?: string; exitCode?: number }>
}
type Pod = {
  metadata: { name: string; uid: string }
  spec: { containers: { env?: { name: string; value?: string }[] }[] }
  status: {
    phase: string
    podIP?: string
    qosClass?: string
    initContainerStatuses?: ContainerStatus[]
    containerStatuses?: ContainerStatus[]
  }
}
type Event = { reason: string; message: string; type: string }

const podOf = (tenant: string, name: string) => platform.getJson<Pod>(tenant, 'pod', name)
const eventsOf = async (tenant: string, name: string) =>
  (
    await platform.getJson<{ items: Event[] }>(
      tenant,
      'events',
      `--field-selector=involvedObject.name=${name}`,
    )
  ).items

/** Of the first container, for messages of assertions too. */
function only(seen: Pod): ContainerStatus {
  const status = seen.status.containerStatuses?.[0]
  assert.ok(status, `pod ${seen.metadata.name} has no container statuses: ${JSON.stringify(seen.status)}`)
  return status
}

for (const { tenant, skip } of BOTH_RUNTIMES) {
  test(`${tenant}: the shop comes up, and a job orders from it by its name`, { skip }, async () => {
    await platform.apply(tenant, SHOP.replaceAll('127.0.0.1:5055', registry.host))
    const rollout = await kubectl(
      tenant,
      '-n',
      'shop',
      'rollout',
      'status',
      'deployment/web',
      '--timeout=60s',
    )
    assert.match(rollout, /successfully rolled out/)
    await kubectl(
      tenant,
      '-n',
      'shop',
      'wait',
      '--for=condition=complete',
      'job/first-order',
      '--timeout=60s',
    )
    const log = await kubectl(tenant, '-n', 'shop', 'logs', 'job/first-order')
    assert.match(log, /^the shop answered: Hello from the shop$/m)
    const { status } = await platform.getJson<{ status: Record<string, unknown> }>(
      tenant,
      '-n',
      'shop',
      'deployment',
      'web',
    )
    assert.deepEqual(
      [status['replicas'], status['readyReplicas'], status['availableReplicas'], status['updatedReplicas']],
      [2, 2, 2, 2],
    )
    const slices = await platform.getJson<{ items: { endpoints: unknown[] }[] }>(
      tenant,
      '-n',
      'shop',
      'endpointslices',
    )
    assert.equal(slices.items.flatMap((slice) => slice.endpoints).length, 2)
  })

  test(
    `${tenant}: a pod sees what env and volumes promise, and an update of its ConfigMap`,
    { skip },
    async () => {
      await platform.apply(tenant, [
        configMap('settings', { colour: 'green', 'app.conf': 'version=1\n' }),
        secret('keys', { token: 'not-for-others' }),
        pod({
          name: 'facts',
          labels: { app: 'facts', tier: 'test' },
          image: busybox,
          script: FACTS,
          env: [
            { name: 'PLAIN', value: 'one' },
            { name: 'EXPANDED', value: '$(PLAIN)-two-$$(PLAIN)-$(NOWHERE)' },
            { name: 'COLOUR', valueFrom: { configMapKeyRef: { name: 'settings', key: 'colour' } } },
            {
              name: 'ABSENT',
              valueFrom: { configMapKeyRef: { name: 'settings', key: 'absent', optional: true } },
            },
            { name: 'TOKEN', valueFrom: { secretKeyRef: { name: 'keys', key: 'token' } } },
            { name: 'NAME', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
            { name: 'NAMESPACE', valueFrom: { fieldRef: { fieldPath: 'metadata.namespace' } } },
            { name: 'TIER', valueFrom: { fieldRef: { fieldPath: "metadata.labels['tier']" } } },
            { name: 'IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
            {
              name: 'MEMORY',
              valueFrom: { resourceFieldRef: { resource: 'limits.memory', divisor: '1Mi' } },
            },
          ],
          envFrom: [{ prefix: 'KEY_', secretRef: { name: 'keys' } }],
          resources: { limits: { memory: '64Mi', cpu: '500m' } },
          volumeMounts: [
            { name: 'settings', mountPath: '/settings' },
            { name: 'keys', mountPath: '/keys', readOnly: true },
            { name: 'all', mountPath: '/all' },
            { name: 'pod', mountPath: '/pod' },
            { name: 'scratch', mountPath: '/scratch' },
          ],
          spec: {
            terminationGracePeriodSeconds: 1,
            volumes: [
              { name: 'settings', configMap: { name: 'settings' } },
              { name: 'keys', secret: { secretName: 'keys', defaultMode: 0o400 } },
              {
                name: 'all',
                projected: {
                  sources: [
                    { configMap: { name: 'settings', items: [{ key: 'colour', path: 'deep/colour' }] } },
                    { secret: { name: 'keys' } },
                    { downwardAPI: { items: [{ path: 'name', fieldRef: { fieldPath: 'metadata.name' } }] } },
                    { serviceAccountToken: { path: 'jwt', audience: 'vault', expirationSeconds: 600 } },
                  ],
                },
              },
              {
                name: 'pod',
                downwardAPI: {
                  items: [
                    { path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } },
                    {
                      path: 'cpu',
                      resourceFieldRef: { containerName: 'main', resource: 'limits.cpu', divisor: '1m' },
                    },
                  ],
                },
              },
              { name: 'scratch', emptyDir: { medium: 'Memory', sizeLimit: '1Mi' } },
            ],
          },
        }),
      ])
      await untilReady(tenant, 'pod/facts')
      const { stdout } = await platform.runKubectl(tenant, ['logs', '-f', 'facts'], {
        untilOutput: /^begun$/m,
      })
      const seen = Object.fromEntries(
        stdout.split('\n').map((line) => [line.split(': ')[0], line.split(': ')[1]]),
      )
      const { status, metadata } = await podOf(tenant, 'facts')
      assert.deepEqual(seen, {
        PLAIN: 'one',
        EXPANDED: 'one-two-$(PLAIN)-$(NOWHERE)',
        COLOUR: 'green',
        ABSENT: 'unset',
        TOKEN: 'not-for-others',
        KEY: 'not-for-others',
        NAME: 'facts',
        NAMESPACE: 'default',
        TIER: 'test',
        IP: status.podIP,
        MEMORY: '64',
        'settings/app.conf': 'version=1',
        'keys/token': 'not-for-others',
        'keys mode': '400',
        'all/deep/colour': 'green',
        'all/token': 'not-for-others',
        'all/name': 'facts',
        'pod/labels': 'app="facts" tier="test"',
        'pod/cpu': '500',
        scratch: 'writable',
        audience: '"aud":["vault"]',
        account: 'ca.crt namespace token',
        'account namespace': 'default',
        hostname: 'facts',
        uid: '0',
        begun: undefined,
        '': undefined,
      })
      assert.equal(status.qosClass, 'Guaranteed')

      await kubectl(tenant, 'patch', 'configmap', 'settings', '-p', '{"data":{"app.conf":"version=2\\n"}}')
      const updated = await platform.runKubectl(tenant, ['logs', '-f', 'facts'], {
        untilOutput: /^updated$/m,
      })
      assert.match(updated.stdout, /^updated$/m, 'the volume shows the new ConfigMap')
      assert.equal(only(await podOf(tenant, 'facts')).restartCount, 0)
      assert.equal((await podOf(tenant, 'facts')).metadata.uid, metadata.uid)
    },
  )
}

const FACTS = `
for v in PLAIN EXPANDED COLOUR TOKEN NAME NAMESPACE TIER IP MEMORY; do eval "echo \\"$v: \\\${$v}\\""; done
echo "KEY: $KEY_token"
echo "ABSENT: \${ABSENT-unset}"
for f in settings/app.conf keys/token all/deep/colour all/token all/name pod/cpu; do echo "$f: $(cat /$f)"; done
echo "pod/labels: $(cat /pod/labels | tr '\\n' ' ' | sed 's/ $//')"
echo "keys mode: $(stat -L -c %a /keys/token)"
touch /scratch/file && echo "scratch: writable"
body=$(cut -d. -f2 /all/jwt | tr '_-' '/+')
while [ $(( \${#body} % 4 )) != 0 ]; do body="$body="; done
echo "audience: $(echo "$body" | base64 -d | grep -o '"aud":\\["vault"\\]')"
echo "account: $(cd /var/run/secrets/kubernetes.io/serviceaccount && echo *)"
echo "account namespace: $(cat /var/run/secrets/kubernetes.io/serviceaccount/namespace)"
echo "hostname: $(hostname)"
echo "uid: $(id -u)"
echo begun
until grep -q version=2 /settings/app.conf; do sleep 0.2; done
echo updated
trap exit TERM
sleep 3600 & wait`

for (const { tenant, skip } of BOTH_RUNTIMES) {
  test(
    `${tenant}: logs follow, end with the container, and are kept of its earlier life`,
    { skip },
    async () => {
      await platform.apply(tenant, [
        pod({
          name: 'talker',
          image: busybox,
          script:
            'if [ -f /state/lived ]; then for i in $(seq 1 20); do echo "second life $i"; sleep 0.1; done; exit 0; fi; touch /state/lived; echo first life; echo to stderr >&2; exit 3',
          volumeMounts: [{ name: 'state', mountPath: '/state' }],
          spec: { restartPolicy: 'OnFailure', volumes: [{ name: 'state', emptyDir: {} }] },
        }),
      ])
      await untilField(tenant, 'pod/talker', '.status.containerStatuses[0].restartCount', '1')
      await kubectl(
        tenant,
        'wait',
        'pod/talker',
        '--for=jsonpath={.status.containerStatuses[0].started}=true',
        '--timeout=30s',
      ).catch(() => {})
      const followed = await kubectl(tenant, 'logs', '-f', 'talker')
      assert.deepEqual(
        followed.trim().split('\n'),
        Array.from({ length: 20 }, (_, i) => `second life ${i + 1}`),
        'a followed log is complete, and ends when the container ends',
      )
      assert.equal(
        (await kubectl(tenant, 'logs', '--previous', 'talker')).split('\n').sort().join('\n').trim(),
        'first life\nto stderr',
      )
      assert.equal(await kubectl(tenant, 'logs', '--tail=2', 'talker'), 'second life 19\nsecond life 20\n')
      assert.match(
        await kubectl(tenant, 'logs', '--timestamps', '--tail=1', 'talker'),
        /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(?:Z|\+00:00) second life 20\n$/,
      )
      assert.equal(await kubectl(tenant, 'logs', '--limit-bytes=11', 'talker'), 'second life')
      await untilField(tenant, 'pod/talker', '.status.phase', 'Succeeded')
      const status = only(await podOf(tenant, 'talker'))
      assert.deepEqual(
        [status.restartCount, status.state['terminated']?.exitCode, status.state['terminated']?.reason],
        [1, 0, 'Completed'],
      )
      assert.equal(status.lastState['terminated']?.exitCode, 3)
      const refused = await platform.kubectl(tenant, 'logs', 'talker', '-c', 'nobody')
      assert.notEqual(refused.code, 0)
      assert.match(refused.stderr, /container nobody is not valid for pod talker/)
    },
  )
}

test(
  'a deployment restarts, changes, goes back and scales while somebody watches',
  { skip: platformMissing },
  async () => {
    const tenant = 'red'
    await platform.apply(tenant, [deployment({ name: 'app', replicas: 2, image: busybox, script: IDLE })])
    await kubectl(tenant, 'rollout', 'status', 'deployment/app', '--timeout=60s')
    const names = async () =>
      (await platform.getJson<{ items: Pod[] }>(tenant, 'pods', '-l', 'app=app')).items.map(
        (p) => p.metadata.name,
      )
    const first = await names()

    await kubectl(tenant, 'rollout', 'restart', 'deployment/app')
    await kubectl(tenant, 'rollout', 'status', 'deployment/app', '--timeout=60s')
    await kubectl(tenant, 'wait', '--for=delete', '--timeout=30s', ...first.map((name) => `pod/${name}`))
    const second = await names()
    assert.equal(second.length, 2)
    assert.deepEqual(
      second.filter((name) => first.includes(name)),
      [],
      'a restart replaces every pod',
    )

    await kubectl(tenant, 'set', 'env', 'deployment/app', 'MODE=new')
    await kubectl(tenant, 'rollout', 'status', 'deployment/app', '--timeout=60s')
    const history = await kubectl(tenant, 'rollout', 'history', 'deployment/app')
    assert.deepEqual(
      [...history.matchAll(/^(\d+)\s/gm)].map(([, revision]) => revision),
      ['1', '2', '3'],
    )
    assert.match(await kubectl(tenant, 'rollout', 'history', 'deployment/app', '--revision=3'), /MODE:\s*new/)
    await kubectl(tenant, 'rollout', 'undo', 'deployment/app')
    await kubectl(tenant, 'rollout', 'status', 'deployment/app', '--timeout=60s')
    const { spec } = await platform.getJson<{
      spec: { template: { spec: { containers: [{ env?: unknown[] }] } } }
    }>(tenant, 'deployment', 'app')
    assert.equal(spec.template.spec.containers[0].env, undefined, 'undo goes back to the revision before')

    const watching = platform.runKubectl(
      tenant,
      ['get', 'deployment', 'app', '-w', '--output-watch-events', '--no-headers'],
      { untilOutput: /MODIFIED\s+app\s+3\/3\s/, timeoutMs: 30_000 },
    )
    await kubectl(tenant, 'scale', 'deployment/app', '--replicas=3')
    assert.match((await watching).stdout, /MODIFIED\s+app\s+3\/3\s/)
    assert.equal((await names()).length, 3)
    await kubectl(tenant, 'scale', 'deployment/app', '--replicas=0')
    await kubectl(tenant, 'wait', '--for=delete', 'pod', '-l', 'app=app', '--timeout=30s')
  },
)

const IDLE = 'trap exit TERM; sleep 3600 & wait'

test('a rollout whose image cannot be pulled keeps the old pods', { skip: platformMissing }, async () => {
  const tenant = 'red'
  await platform.apply(tenant, [deployment({ name: 'steady', replicas: 2, image: busybox, script: IDLE })])
  await kubectl(tenant, 'rollout', 'status', 'deployment/steady', '--timeout=60s')
  await kubectl(tenant, 'set', 'image', 'deployment/steady', `main=${registry.host}/busybox:nope`)
  const stuck = await platform.kubectl(tenant, 'rollout', 'status', 'deployment/steady', '--timeout=2s')
  assert.notEqual(stuck.code, 0)
  const { status } = await platform.getJson<{ status: Record<string, unknown> }>(
    tenant,
    'deployment',
    'steady',
  )
  assert.equal(status['availableReplicas'], 2)
  await kubectl(tenant, 'delete', 'deployment', 'steady')
})

for (const { tenant, skip } of BOTH_RUNTIMES) {
  test(
    `${tenant}: deleting cascades, waits for the grace period, and can be told not to`,
    { skip },
    async () => {
      await platform.apply(tenant, [
        deployment({ name: 'gone', image: busybox, script: IDLE }),
        deployment({ name: 'orphaned', image: busybox, script: IDLE }),
        pod({
          name: 'polite',
          image: busybox,
          script: "trap 'echo goodbye; exit 0' TERM; echo ready; while true; do sleep 0.1; done",
          spec: { terminationGracePeriodSeconds: 30 },
        }),
        pod({
          name: 'deaf',
          image: busybox,
          script: "trap '' TERM; echo ready; while true; do sleep 0.1; done",
          spec: { terminationGracePeriodSeconds: 2 },
        }),
        pod({ name: 'forced', image: busybox, script: "trap '' TERM; while true; do sleep 0.1; done" }),
      ])
      await untilReady(tenant, 'pod/polite', 'pod/deaf', 'pod/forced')
      const follow = async (name: string) => (await platform.kubectl(tenant, 'logs', '-f', name)).stdout
      const said = follow('polite')
      await platform.runKubectl(tenant, ['logs', '-f', 'polite'], { untilOutput: /ready/ })
      await kubectl(tenant, 'delete', 'pod', 'polite')
      assert.equal(
        await said,
        'ready\ngoodbye\n',
        'the last words of a pod that is deleted reach who follows',
      )
      await platform.runKubectl(tenant, ['logs', '-f', 'deaf'], { untilOutput: /ready/ })
      const begunMs = performance.now()
      await kubectl(tenant, 'delete', 'pod', 'deaf')
      const tookMs = performance.now() - begunMs
      assert.ok(tookMs > 1_900, `a pod that ignores SIGTERM has its grace period; it had ${tookMs} ms`)
      await kubectl(tenant, 'delete', 'pod', 'forced', '--grace-period=0', '--force')

      await kubectl(tenant, 'rollout', 'status', 'deployment/gone', '--timeout=60s')
      await kubectl(tenant, 'delete', 'deployment', 'gone')
      await kubectl(tenant, 'wait', '--for=delete', 'pod', '-l', 'app=gone', '--timeout=30s')
      assert.equal((await kubectl(tenant, 'get', 'replicasets', '-l', 'app=gone', '-o', 'name')).trim(), '')

      await kubectl(tenant, 'rollout', 'status', 'deployment/orphaned', '--timeout=60s')
      await kubectl(tenant, 'delete', 'deployment', 'orphaned', '--cascade=orphan')
      const replicaSet = (
        await kubectl(tenant, 'get', 'replicasets', '-l', 'app=orphaned', '-o', 'name')
      ).trim()
      assert.match(replicaSet, /^replicaset\.apps\/orphaned-/)
      assert.equal(
        (await kubectl(tenant, 'get', replicaSet, '-o', 'jsonpath={.metadata.ownerReferences}')).trim(),
        '',
      )
      await kubectl(tenant, 'delete', replicaSet, '--cascade=foreground')
      assert.equal((await kubectl(tenant, 'get', 'pods', '-l', 'app=orphaned', '-o', 'name')).trim(), '')
    },
  )
}

test('deleting a namespace takes everything in it along', { skip: platformMissing }, async () => {
  await kubectl('red', 'create', 'namespace', 'short')
  await kubectl('red', '-n', 'short', 'create', 'configmap', 'one')
  const input = stringify(deployment({ name: 'idle', image: busybox, script: IDLE }))
  const applied = await platform.runKubectl('red', ['-n', 'short', 'apply', '-f', '-'], { input })
  assert.equal(applied.code, 0, applied.stderr)
  await kubectl('red', '-n', 'short', 'rollout', 'status', 'deployment/idle', '--timeout=60s')
  await kubectl('red', 'delete', 'namespace', 'short', '--timeout=60s')
  const { code, stderr } = await platform.kubectl('red', 'get', 'namespace', 'short')
  assert.notEqual(code, 0)
  assert.match(stderr, /NotFound/)
  await kubectl('red', 'create', 'namespace', 'short')
  assert.equal(
    (await kubectl('red', '-n', 'short', 'get', 'deployments,pods,configmaps', '-o', 'name')).trim(),
    'configmap/kube-root-ca.crt',
  )
})

for (const { tenant, skip } of BOTH_RUNTIMES) {
  test(
    `${tenant}: what fails says so: crash loops, exit codes, memory, init containers, jobs`,
    { skip },
    async () => {
      await platform.apply(tenant, [
        pod({ name: 'crashing', image: busybox, script: 'echo about to crash; exit 7' }),
        pod({ name: 'failed', image: busybox, script: 'exit 42', spec: { restartPolicy: 'Never' } }),
        pod({ name: 'succeeded', image: busybox, script: 'exit 0', spec: { restartPolicy: 'Never' } }),
        pod({
          name: 'greedy',
          image: busybox,
          // In memory of this container alone; tail keeps what has no line ends.
          script: 'head -c 300m /dev/zero | tail > /dev/null',
          resources: { limits: { memory: '64Mi' } },
          spec: { restartPolicy: 'Never' },
        }),
        pod({
          name: 'prepared',
          image: busybox,
          script: 'cat /work/*; exec sleep 3600',
          volumeMounts: [{ name: 'work', mountPath: '/work' }],
          spec: {
            volumes: [{ name: 'work', emptyDir: {} }],
            initContainers: ['first', 'second'].map((name) =>
              container({
                name,
                image: busybox,
                script: `echo ${name} after $(ls /work) > /work/${name}`,
                volumeMounts: [{ name: 'work', mountPath: '/work' }],
              }),
            ),
          },
        }),
        pod({
          name: 'unprepared',
          image: busybox,
          script: 'echo never',
          spec: {
            restartPolicy: 'Never',
            initContainers: [container({ name: 'bad', image: busybox, script: 'exit 5' })],
          },
        }),
        {
          apiVersion: 'batch/v1',
          kind: 'Job',
          metadata: { name: 'hopeless' },
          spec: {
            backoffLimit: 0,
            template: {
              spec: { restartPolicy: 'Never', containers: [container({ image: busybox, script: 'exit 9' })] },
            },
          },
        },
        {
          apiVersion: 'batch/v1',
          kind: 'Job',
          metadata: { name: 'many' },
          spec: {
            completions: 4,
            parallelism: 2,
            template: {
              spec: { restartPolicy: 'Never', containers: [container({ image: busybox, script: 'exit 0' })] },
            },
          },
        },
      ])
      const terminated = async (name: string, phase: string) => {
        await untilField(tenant, `pod/${name}`, '.status.phase', phase)
        const { exitCode, reason } = only(await podOf(tenant, name)).state['terminated'] ?? {}
        return { exitCode, reason }
      }
      assert.deepEqual(await terminated('failed', 'Failed'), { exitCode: 42, reason: 'Error' })
      assert.deepEqual(await terminated('succeeded', 'Succeeded'), { exitCode: 0, reason: 'Completed' })
      assert.deepEqual(await terminated('greedy', 'Failed'), { exitCode: 137, reason: 'OOMKilled' })

      await untilReady(tenant, 'pod/prepared')
      assert.equal(await kubectl(tenant, 'logs', 'prepared'), 'first after\nsecond after first\n')
      await untilField(tenant, 'pod/unprepared', '.status.phase', 'Failed')
      const unprepared = await podOf(tenant, 'unprepared')
      assert.equal(unprepared.status.initContainerStatuses?.[0]?.state['terminated']?.exitCode, 5)
      assert.match(await kubectl(tenant, 'get', 'pod', 'unprepared', '--no-headers'), /Init:Error/)

      await kubectl(tenant, 'wait', '--for=condition=failed', 'job/hopeless', '--timeout=60s')
      await kubectl(tenant, 'wait', '--for=condition=complete', 'job/many', '--timeout=60s')
      assert.equal(
        (await kubectl(tenant, 'get', 'job', 'many', '-o', 'jsonpath={.status.succeeded}')).trim(),
        '4',
      )

      await untilField(
        tenant,
        'pod/crashing',
        '.status.containerStatuses[0].state.waiting.reason',
        'CrashLoopBackOff',
      )
      const crashing = only(await podOf(tenant, 'crashing'))
      assert.equal(crashing.lastState['terminated']?.exitCode, 7)
      assert.match(crashing.state['waiting']?.message ?? '', /back-off \S+ restarting failed container=main/)
      assert.match(await kubectl(tenant, 'get', 'pod', 'crashing', '--no-headers'), /CrashLoopBackOff/)
      const events = await eventsOf(tenant, 'crashing')
      assert.ok(
        events.some(({ reason, type }) => reason === 'BackOff' && type === 'Warning'),
        `events: ${JSON.stringify(events.map(({ reason, message }) => ({ reason, message })))}`,
      )
      assert.match(
        await kubectl(tenant, 'describe', 'pod', 'crashing'),
        /Back-off restarting failed container/,
      )
      await kubectl(tenant, 'delete', 'pod,job', '--all', '--wait=false')
    },
  )
}

test('an image that cannot be had is named with the reason', { skip: platformMissing }, async () => {
  const tenant = 'red'
  const nothing = `sha256:${'0'.repeat(64)}`
  const index = await fetch(`http://${registry.host}/v2/busybox/manifests/1`, {
    headers: { accept: 'application/vnd.oci.image.manifest.v1+json' },
  })
  const digest = index.headers.get('docker-content-digest') ?? ''
  await platform.apply(tenant, [
    pod({ name: 'no-tag', image: `${registry.host}/busybox:nope`, script: IDLE }),
    pod({ name: 'no-digest', image: `${registry.host}/busybox@${nothing}`, script: IDLE }),
    pod({ name: 'never', image: `${registry.host}/other:1`, imagePullPolicy: 'Never', script: IDLE }),
    pod({ name: 'by-digest', image: `${registry.host}/busybox@${digest}`, script: IDLE }),
    pod({ name: 'no-program', image: busybox, command: ['/no/such/program'] }),
  ])
  const waiting = async (name: string, reason: string) => {
    await untilField(tenant, `pod/${name}`, '.status.containerStatuses[0].state.waiting.reason', reason)
    return only(await podOf(tenant, name)).state['waiting']?.message ?? ''
  }
  await untilReady(tenant, 'pod/by-digest')
  assert.match(
    await waiting('no-tag', 'ImagePullBackOff'),
    /Back-off pulling image ".*busybox:nope".*not found/,
  )
  assert.match(await waiting('no-digest', 'ImagePullBackOff'), /not found/)
  const failed = (await eventsOf(tenant, 'no-tag')).filter(({ reason }) => reason === 'Failed')
  assert.ok(
    failed.some(({ message }) => /Failed to pull image ".*busybox:nope".*not found/.test(message)),
    `events: ${JSON.stringify(failed)}`,
  )
  assert.match(await waiting('never', 'ErrImageNeverPull'), /other:1/)
  await kubectl(
    tenant,
    'wait',
    'pod/no-program',
    '--for=jsonpath={.status.containerStatuses[0].lastState.terminated.reason}=StartError',
    '--timeout=30s',
  ).catch(() => {})
  const noProgram = only(await podOf(tenant, 'no-program'))
  assert.match(
    JSON.stringify([noProgram.state, noProgram.lastState]),
    /no\/such\/program[^,]*not found|no such file/,
  )
  await kubectl(tenant, 'delete', 'pod', '--all', '--wait=false')
})

for (const { tenant, skip } of BOTH_RUNTIMES) {
  test(`${tenant}: probes decide who is ready and who is restarted`, { skip }, async () => {
    const probe = { periodSeconds: 1, failureThreshold: 1 }
    await platform.apply(tenant, [
      pod({
        name: 'slow',
        labels: { app: 'slow' },
        image: busybox,
        script: 'sleep 2; touch /tmp/ready; trap exit TERM; sleep 3600 & wait',
        readinessProbe: { exec: { command: ['test', '-f', '/tmp/ready'] }, ...probe },
      }),
      pod({
        name: 'sick',
        image: busybox,
        script: 'touch /tmp/well; sleep 2; rm /tmp/well; sleep 3600',
        livenessProbe: { exec: { command: ['test', '-f', '/tmp/well'] }, ...probe },
      }),
      pod({
        name: 'listening',
        image: busybox,
        script: 'while true; do nc -l -p 8080 -e true; done',
        startupProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1, failureThreshold: 30 },
        readinessProbe: { tcpSocket: { port: 8080 }, ...probe },
      }),
    ])
    await untilField(tenant, 'pod/slow', '.status.phase', 'Running')
    await untilReady(tenant, 'pod/slow', 'pod/listening')
    assert.equal(only(await podOf(tenant, 'slow')).restartCount, 0, 'not being ready restarts nothing')
    await kubectl(
      tenant,
      'wait',
      'pod/sick',
      '--for=jsonpath={.status.containerStatuses[0].restartCount}=1',
      '--timeout=30s',
    )
    const events = await eventsOf(tenant, 'sick')
    for (const wanted of ['Unhealthy', 'Killing'])
      assert.ok(
        events.some(({ reason }) => reason === wanted),
        `no event ${wanted} in ${events.map(({ reason }) => reason).join(', ')}`,
      )
    await kubectl(tenant, 'delete', 'pod', '--all', '--wait=false')
  })
}

for (const { tenant, skip } of BOTH_RUNTIMES) {
  test(
    `${tenant}: looks into the running shop: exec, a terminal, cp, port-forward, attach`,
    { skip },
    async () => {
      const shop = ['-n', 'shop']
      const web = (
        await kubectl(
          tenant,
          ...shop,
          'get',
          'pods',
          '-l',
          'app=web',
          '-o',
          'jsonpath={.items[0].metadata.name}',
        )
      ).trim()
      const secrets = await kubectl(
        tenant,
        ...shop,
        'exec',
        web,
        '--',
        'sh',
        '-c',
        'echo "$API_KEY $POD_NAME $(cat /etc/web-key/api-key)"',
      )
      assert.equal(secrets, `only-this-tenant-may-read-this ${web} only-this-tenant-may-read-this\n`)
      const failing = await platform.kubectl(
        tenant,
        ...shop,
        'exec',
        'deployment/web',
        '--',
        'sh',
        '-c',
        'echo out; echo err >&2; exit 3',
      )
      assert.deepEqual([failing.code, failing.stdout], [3, 'out\n'])
      assert.match(failing.stderr, /^err\n/)

      const bytes = randomBytes(1_000_000)
      const echoed = await platform.runKubectl(
        tenant,
        [...shop, 'exec', '-i', web, '--', 'sh', '-c', 'base64 -d | sha256sum'],
        {
          input: bytes.toString('base64'),
        },
      )
      const digest = createHash('sha256').update(bytes).digest('hex')
      assert.equal(echoed.stdout, `${digest}  -\n`, echoed.stderr)

      // `script` gives kubectl the terminal that a person has.
      const terminal = await run(
        'script',
        [
          '--quiet',
          '--return',
          '--command',
          `stty rows 33 cols 77; ${KUBECTL} --kubeconfig ${platform.kubeconfig(tenant)} -n shop exec -it ${web} -- sh -c 'test -t 0 && echo terminal; until stty size 2>/dev/null | grep "33 77"; do sleep 0.1; done; exit 4'`,
          '/dev/null',
        ],
        { PATH: process.env['PATH'] ?? '', HOME: '/nonexistent', TERM: 'xterm' },
        {},
      )
      assert.match(terminal.stdout, /terminal/)
      // The size may come after the command has begun, as everywhere; the command asks until it is there.
      assert.match(terminal.stdout, /33 77/)
      assert.equal(terminal.code, 4)

      const dir = await mkdtemp(join(tmpdir(), 'bulkhead-cp-'))
      try {
        await writeFile(join(dir, 'there'), bytes)
        await kubectl(tenant, ...shop, 'cp', join(dir, 'there'), `${web}:/tmp/file`)
        await kubectl(tenant, ...shop, 'cp', `${web}:/tmp/file`, join(dir, 'back'))
        assert.ok(bytes.equals(await readFile(join(dir, 'back'))), 'a copied file comes back as it was')
      } finally {
        await rm(dir, { recursive: true, force: true })
      }

      for (const target of ['deployment/web', 'service/web']) {
        let page = ''
        let said = ''
        const stop = new AbortController()
        const forwarding = platform.runKubectl(tenant, [...shop, 'port-forward', target, ':80'], {
          signal: stop.signal,
          onOutput: (text) => (said += text),
        })
        try {
          const port = await until(() => /127\.0\.0\.1:(\d+) -> 80/.exec(said)?.[1], {
            what: `A port for ${target}`,
          })
          // More than one connection, one after the other and side by side.
          for (let round = 0; round < 2; round++) {
            const answers = await Promise.all(
              Array.from({ length: 4 }, async () => (await fetch(`http://127.0.0.1:${port}/`)).text()),
            )
            page = answers[0] ?? ''
            assert.equal(new Set(answers).size, 1)
          }
        } finally {
          stop.abort()
          await forwarding
        }
        assert.match(page, /Hello from the shop/, target)
      }

      await platform.apply(tenant, [
        pod({
          name: 'listener',
          image: busybox,
          stdin: true,
          script: 'echo listening; while read -r line; do echo "heard $line"; done',
        }),
      ])
      await untilReady(tenant, 'pod/listener')
      const attached = await platform.runKubectl(tenant, ['attach', '-i', 'listener'], {
        input: 'good morning\n',
        untilOutput: /heard good morning/,
        timeoutMs: 20_000,
      })
      assert.match(attached.stdout, /heard good morning/, attached.stderr)
      await kubectl(tenant, 'delete', 'pod', 'listener', '--now')
    },
  )
}
