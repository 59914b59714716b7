import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { until } from '../../src/stdx/index.ts'
import { platformMissing } from '../testkit/machine.ts'
import { container, type Manifest, pod } from '../testkit/manifests.ts'
import { TestPlatform } from '../testkit/platform.ts'
import { type Registry, startBusyboxRegistry } from '../testkit/registry.ts'

/** What upstream's conformance tests of nodes and volumes do with real containers, done with ours. */

type Status = {
  phase: string
  conditions: { type: string; status: string; reason?: string; message?: string }[]
  containerStatuses: ContainerStatus[]
  initContainerStatuses?: ContainerStatus[]
}
type ContainerStatus = {
  name: string
  ready: boolean
  restartCount: number
  state: State
  lastState?: State
}
type State = {
  waiting?: { reason: string; message?: string }
  running?: { startedAt: string }
  terminated?: { exitCode: number; reason: string; message?: string }
}

describe('pods as upstream’s tests try them', { skip: platformMissing }, () => {
  let platform: TestPlatform
  let registry: Registry
  let image = ''
  const kubectl = (...args: string[]) => platform.mustKubectl('red', ...args)
  const apply = (...manifests: Manifest[]) => platform.apply('red', manifests)
  const statusOf = async (name: string) =>
    (await platform.getJson<{ status: Status }>('red', 'pod', name)).status
  const until60 = (condition: () => Promise<unknown>, what?: string) =>
    until(condition, { timeoutMs: 60_000, everyMs: 300, ...(what === undefined ? {} : { what }) })
  const untilPhase = (name: string, phase: string) =>
    until60(async () => (await statusOf(name)).phase === phase, `${name} is ${phase}`)
  const logs = (name: string, ...args: string[]) => kubectl('logs', name, ...args)
  /** A pod that runs a script once. */
  const once = (name: string, script: string, more: Record<string, unknown> = {}, spec = {}) =>
    pod({ name, image, script, ...more, spec: { restartPolicy: 'Never', ...spec } })
  /** A pod that runs until it is told to end. */
  const lasting = (name: string, more: Record<string, unknown> = {}, spec = {}) =>
    pod({ name, image, script: 'trap exit TERM; sleep 3600 & wait', ...more, spec })

  before(async () => {
    registry = await startBusyboxRegistry()
    image = `${registry.host}/busybox:1`
    platform = await TestPlatform.start({
      instance: 'ki0',
      slot: 135,
      tenants: [{ name: 'red', registries: [registry.host] }],
    })
  })
  after(async () => {
    await platform?.[Symbol.asyncDispose]()
    await registry?.[Symbol.asyncDispose]()
  })

  describe('variables in the sub-path of a mount', () => {
    const withPath = (name: string, value: object, metadata = {}) => {
      const made = lasting(
        name,
        {
          env: [{ name: 'PART', ...value }],
          volumeMounts: [
            { name: 'work', mountPath: '/part', subPathExpr: '$(PART)' },
            { name: 'work', mountPath: '/all' },
          ],
        },
        { volumes: [{ name: 'work', emptyDir: {} }], securityContext: { runAsUser: 1_000 } },
      )
      return { ...made, metadata: { ...made.metadata, ...metadata } }
    }
    const ofAnnotation = { valueFrom: { fieldRef: { fieldPath: "metadata.annotations['part']" } } }

    test('they are replaced, and what a container writes there is in that part of the volume', async () => {
      await apply(withPath('part', ofAnnotation, { annotations: { part: 'mine' } }))
      await untilPhase('part', 'Running')
      // Whoever may write to the volume may write to a part of it, which nobody has made yet.
      assert.equal(await kubectl('exec', 'part', '--', 'stat', '-c', '%a %u', '/part'), '777 0\n')
      await kubectl('exec', 'part', '--', 'touch', '/part/written')
      assert.equal(await kubectl('exec', 'part', '--', 'find', '/all', '-type', 'f'), '/all/mine/written\n')
      // A pod that runs keeps the part that it has.
      await kubectl('annotate', '--overwrite', 'pod', 'part', 'part=other')
      assert.equal(await kubectl('exec', 'part', '--', 'ls', '/part'), 'written\n')
      assert.equal(await kubectl('exec', 'part', '--', 'ls', '/all'), 'mine\n')
    })

    test('a path that leaves the volume starts nothing, and says why', async () => {
      await apply(withPath('climbs', { value: '..' }), withPath('absolute', { value: '/tmp' }))
      for (const name of ['climbs', 'absolute']) {
        await until60(async () => (await statusOf(name)).containerStatuses?.[0]?.state.waiting?.message)
        const { waiting } = (await statusOf(name)).containerStatuses[0]?.state ?? {}
        assert.equal(waiting?.reason, 'CreateContainerConfigError')
        assert.match(waiting?.message ?? '', /^unable to provision SubPath "(\.\.|\/tmp)"/)
      }
    })

    test('a pod that waits for a variable starts once it has a value', async () => {
      await apply(withPath('waits', ofAnnotation))
      await until60(async () => (await statusOf('waits')).containerStatuses?.[0]?.state.waiting?.message)
      const [waiting] = (await statusOf('waits')).containerStatuses
      assert.equal(waiting?.state.waiting?.message, 'missing value for PART')
      await kubectl('annotate', 'pod', 'waits', 'part=late')
      await untilPhase('waits', 'Running')
      assert.equal(await kubectl('exec', 'waits', '--', 'ls', '/all'), 'late\n')
    })
  })

  describe('how containers end', () => {
    test('what they leave as their last words depends on the policy and on how they ended', async () => {
      const said = (name: string, script: string, more: Record<string, unknown>) => once(name, script, more)
      const fallback = { terminationMessagePolicy: 'FallbackToLogsOnError' }
      await apply(
        said('elsewhere', 'echo -n DONE > /dev/termination-custom-log', {
          terminationMessagePath: '/dev/termination-custom-log',
          securityContext: { runAsUser: 1000 },
        }),
        said('from-log', 'echo -n DONE; exit 1', fallback),
        said('nothing', 'echo -n DONE; exit 0', fallback),
        said('from-file', 'echo -n OK > /dev/termination-log; exit 0', fallback),
      )
      const words: Record<string, string | undefined> = {
        elsewhere: 'DONE',
        'from-log': 'DONE',
        nothing: undefined,
        'from-file': 'OK',
      }
      for (const [name, message] of Object.entries(words)) {
        await untilPhase(name, name === 'from-log' ? 'Failed' : 'Succeeded')
        const { terminated } = (await statusOf(name)).containerStatuses[0]?.state ?? {}
        assert.equal(terminated?.message, message, name)
      }
    })

    test('restart policies decide what phase a pod is in and how often its container is started', async () => {
      // The first run fails, all others end well.
      const script = 'f=/work/count; n=$(($(cat $f 2>/dev/null || echo 0) + 1)); echo $n > $f; [ $n -gt 1 ]'
      const twice = (name: string, restartPolicy: string, end = '') =>
        pod({
          name,
          image,
          script: `${script}${end}`,
          volumeMounts: [{ name: 'work', mountPath: '/work' }],
          spec: { restartPolicy, volumes: [{ name: 'work', emptyDir: {} }] },
        })
      await apply(
        twice('always', 'Always', ' && sleep 3600'),
        twice('on-failure', 'OnFailure'),
        twice('never', 'Never'),
      )
      await until60(async () => (await statusOf('always')).containerStatuses?.[0]?.restartCount === 1)
      await untilPhase('always', 'Running')
      await untilPhase('on-failure', 'Succeeded')
      await untilPhase('never', 'Failed')
      const ended = (await statusOf('on-failure')).containerStatuses[0]
      assert.deepEqual(
        [ended?.restartCount, ended?.state.terminated?.exitCode, ended?.lastState?.terminated?.exitCode],
        [1, 0, 1],
      )
      const failed = (await statusOf('never')).containerStatuses[0]
      assert.deepEqual([failed?.restartCount, failed?.state.terminated?.reason], [0, 'Error'])
    })

    test('a command that always fails tells why, and its pod can be deleted', async () => {
      await apply(pod({ name: 'false', image, command: ['/bin/false'] }))
      await until60(async () => (await statusOf('false')).containerStatuses?.[0]?.lastState?.terminated)
      const [{ lastState, state } = assert.fail()] = (await statusOf('false')).containerStatuses
      assert.deepEqual([lastState?.terminated?.exitCode, lastState?.terminated?.reason], [1, 'Error'])
      if (state.waiting)
        assert.match(
          state.waiting.message ?? '',
          /^back-off \d+s restarting failed container=main pod=false_/,
        )
      await kubectl('delete', 'pod', 'false', '--timeout=30s')
    })

    test('a pod that has run out of time fails, also when its deadline comes later', async () => {
      await apply(lasting('deadline'))
      await untilPhase('deadline', 'Running')
      await kubectl('patch', 'pod', 'deadline', '-p', '{"spec":{"activeDeadlineSeconds":2}}')
      await untilPhase('deadline', 'Failed')
      const { reason, message } = (await statusOf('deadline')) as Status & {
        reason?: string
        message?: string
      }
      assert.deepEqual(
        [reason, message],
        ['DeadlineExceeded', 'Pod was active on the node longer than the specified deadline'],
      )
    })
  })

  describe('init containers and sidecars', () => {
    const init = (name: string, script: string, more = {}) => container({ name, image, script, ...more })

    test('they run one after the other before the others, and fail the pod when it may not restart', async () => {
      const shared = { volumeMounts: [{ name: 'work', mountPath: '/work' }] }
      const spec = (...initContainers: unknown[]) => ({
        initContainers,
        volumes: [{ name: 'work', emptyDir: {} }],
      })
      await apply(
        once(
          'in-order',
          'cat /work/order',
          shared,
          spec(
            init('one', 'echo one >> /work/order', shared),
            init('two', 'echo two >> /work/order', shared),
          ),
        ),
        once('stops', 'true', {}, spec(init('one', 'true'), init('two', 'exit 3'), init('three', 'true'))),
        pod({ name: 'tries', image, script: 'true', spec: spec(init('one', 'exit 1'), init('two', 'true')) }),
      )
      await untilPhase('in-order', 'Succeeded')
      assert.equal(await logs('in-order'), 'one\ntwo\n')
      await untilPhase('stops', 'Failed')
      const stopped = await statusOf('stops')
      assert.deepEqual(
        stopped.initContainerStatuses?.map(
          ({ state }) => state.terminated?.exitCode ?? state.waiting?.reason,
        ),
        [0, 3, 'PodInitializing'],
      )
      assert.deepEqual(stopped.containerStatuses[0]?.state.waiting?.reason, 'PodInitializing')
      await until60(
        async () => ((await statusOf('tries')).initContainerStatuses?.[0]?.restartCount ?? 0) >= 2,
      )
      const trying = await statusOf('tries')
      assert.equal(trying.phase, 'Pending')
      const initialized = trying.conditions.find(({ type }) => type === 'Initialized')
      assert.deepEqual(
        [initialized?.status, initialized?.reason, initialized?.message],
        ['False', 'ContainersNotInitialized', 'containers with incomplete status: [one two]'],
      )
    })

    test('a sidecar is there before and beside the others, is started again, and ends last', async () => {
      const shared = { volumeMounts: [{ name: 'work', mountPath: '/work' }] }
      const say = (word: string) => `echo ${word} >> /work/order`
      await apply(
        once('with-sidecar', `${say('main')}; sleep 4; cat /work/order`, shared, {
          initContainers: [
            init('sidecar', `trap 'echo end; exit' TERM; ${say('sidecar')}; sleep 3600 & wait`, {
              ...shared,
              restartPolicy: 'Always',
              startupProbe: { exec: { command: ['test', '-f', '/work/order'] }, periodSeconds: 1 },
            }),
            init('after', `test -f /work/order && ${say('after')}`, shared),
          ],
          volumes: [{ name: 'work', emptyDir: {} }],
        }),
      )
      await untilPhase('with-sidecar', 'Succeeded')
      assert.equal(await logs('with-sidecar', '-c', 'main'), 'sidecar\nafter\nmain\n')
      assert.equal(await logs('with-sidecar', '-c', 'sidecar'), 'end\n')
    })
  })

  describe('volumes', () => {
    test('changes of ConfigMaps and Secrets reach a pod that runs, those that come late and those that go too', async () => {
      const read = (path: string) =>
        platform.kubectl('red', 'exec', 'mounted', '--', 'cat', path).then(({ stdout }) => stdout)
      await kubectl('create', 'configmap', 'settings', '--from-literal=a=1', '--from-literal=b=1')
      await kubectl('create', 'secret', 'generic', 'login', '--from-literal=user=one')
      await apply(
        pod({
          name: 'mounted',
          labels: { tier: 'one' },
          image,
          script: 'trap exit TERM; sleep 3600 & wait',
          volumeMounts: [
            { name: 'settings', mountPath: '/etc/settings' },
            { name: 'late', mountPath: '/etc/late' },
            { name: 'all', mountPath: '/etc/all' },
          ],
          spec: {
            volumes: [
              { name: 'settings', configMap: { name: 'settings' } },
              { name: 'late', configMap: { name: 'late', optional: true } },
              {
                name: 'all',
                projected: {
                  defaultMode: 0o440,
                  sources: [
                    { secret: { name: 'login', items: [{ key: 'user', path: 'deep/user', mode: 0o400 }] } },
                    { configMap: { name: 'settings', items: [{ key: 'a', path: 'a' }] } },
                    {
                      downwardAPI: {
                        items: [{ path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } }],
                      },
                    },
                  ],
                },
              },
            ],
          },
        }),
      )
      await untilPhase('mounted', 'Running')
      assert.equal(
        await kubectl('exec', 'mounted', '--', 'stat', '-L', '-c', '%a', '/etc/all/a', '/etc/all/deep/user'),
        '440\n400\n',
      )
      assert.equal(await read('/etc/all/labels'), 'tier="one"')
      await kubectl('patch', 'configmap', 'settings', '-p', '{"data":{"a":"2","b":null,"c":"3"}}')
      await kubectl('create', 'configmap', 'late', '--from-literal=word=here')
      await kubectl('patch', 'secret', 'login', '-p', '{"stringData":{"user":"two"}}')
      await kubectl('label', '--overwrite', 'pod', 'mounted', 'tier=two')
      await until60(async () => (await read('/etc/all/labels')) === 'tier="two"')
      await until60(async () => (await read('/etc/late/word')) === 'here')
      await until60(async () => (await read('/etc/all/deep/user')) === 'two')
      assert.equal(await kubectl('exec', 'mounted', '--', 'ls', '/etc/settings'), 'a\nc\n')
      assert.equal((await read('/etc/settings/a')) + (await read('/etc/all/a')), '22')
      await kubectl('delete', 'configmap', 'late')
      await until60(async () => (await read('/etc/late/word')) === '')
    })

    test('modes and owners of an emptyDir are as upstream’s, on a disk and in memory, for root and for others', async () => {
      const script =
        'umask 0; stat -c %a /work; echo x > /work/f; chmod 640 /work/f; stat -c "%a %u" /work/f; cat /work/f; ' +
        'grep " /work " /proc/mounts | cut -d" " -f3'
      const medium = (name: string, emptyDir: object, securityContext: object) =>
        once(
          name,
          script,
          { volumeMounts: [{ name: 'work', mountPath: '/work' }], securityContext },
          {
            volumes: [{ name: 'work', emptyDir }],
          },
        )
      await apply(
        medium('disk-root', {}, {}),
        medium('disk-other', {}, { runAsUser: 1001 }),
        medium('memory-root', { medium: 'Memory' }, {}),
        medium('memory-other', { medium: 'Memory' }, { runAsUser: 1001 }),
      )
      for (const name of ['disk-root', 'disk-other', 'memory-root', 'memory-other']) {
        await untilPhase(name, 'Succeeded')
        const uid = name.endsWith('root') ? 0 : 1001
        const mode = name.startsWith('memory') ? '1777' : '777'
        assert.match(await logs(name), new RegExp(`^${mode}\n640 ${uid}\nx\n`), name)
      }
      assert.match(await logs('memory-root'), /tmpfs\n$/)
    })

    test('a sub-path of a ConfigMap, Secret or projected volume is one file, also over one that is there', async () => {
      await kubectl('create', 'configmap', 'page', '--from-literal=index.html=hello')
      const part = (name: string, mountPath: string, source: object) =>
        once(
          name,
          `cat ${mountPath}`,
          {
            volumeMounts: [{ name: 'v', mountPath, subPath: 'index.html' }],
          },
          { volumes: [{ name: 'v', ...source }] },
        )
      await apply(
        part('piece', '/www/index.html', { configMap: { name: 'page' } }),
        part('over', '/etc/passwd', { projected: { sources: [{ configMap: { name: 'page' } }] } }),
        part('down', '/www/index.html', {
          downwardAPI: { items: [{ path: 'index.html', fieldRef: { fieldPath: 'metadata.name' } }] },
        }),
      )
      for (const [name, text] of [
        ['piece', 'hello'],
        ['over', 'hello'],
        ['down', 'down'],
      ] as const) {
        await untilPhase(name, 'Succeeded')
        assert.equal(await logs(name), text)
      }
    })
  })

  test('a container knows its pod, its amounts, and those of the node where it has none', async () => {
    const field = (name: string, fieldPath: string) => ({ name, valueFrom: { fieldRef: { fieldPath } } })
    const amount = (name: string, resource: string, divisor?: string) => ({
      name,
      valueFrom: { resourceFieldRef: { resource, ...(divisor === undefined ? {} : { divisor }) } },
    })
    const env = [
      field('NAME', 'metadata.name'),
      field('NAMESPACE', 'metadata.namespace'),
      field('UID', 'metadata.uid'),
      field('IP', 'status.podIP'),
      field('IPS', 'status.podIPs'),
      field('HOST', 'status.hostIP'),
      field('HOSTS', 'status.hostIPs'),
      field('NODE', 'spec.nodeName'),
      field('ACCOUNT', 'spec.serviceAccountName'),
      amount('CPU_LIMIT', 'limits.cpu'),
      amount('CPU_REQUEST', 'requests.cpu', '1m'),
      amount('MEMORY_LIMIT', 'limits.memory'),
      { name: 'COMPOSED', value: '$(NAME);;$(NODE)' },
      { name: 'LITERAL', value: '$$(NAME) $(UNKNOWN)' },
    ]
    const resources = { requests: { cpu: '250m' }, limits: { cpu: '1250m', memory: '64Mi' } }
    await apply(
      pod({
        name: 'knows',
        image,
        command: ['sh', '-c', "env; echo 'ARG=$(COMPOSED)'"],
        env,
        resources,
        spec: { restartPolicy: 'Never' },
      }),
      once('of-node', 'env', { env: [amount('CPU', 'limits.cpu', '1m'), amount('MEMORY', 'limits.memory')] }),
    )
    await untilPhase('knows', 'Succeeded')
    const variables = async (name: string) =>
      Object.fromEntries(
        (await logs(name))
          .trim()
          .split('\n')
          .map((line) => line.split(/=(.*)/s)),
      )
    const known = await variables('knows')
    const { metadata, status } = await platform.getJson<{
      metadata: { uid: string }
      status: { podIP: string; hostIP: string; qosClass: string }
    }>('red', 'pod', 'knows')
    const expected = {
      NAME: 'knows',
      NAMESPACE: 'default',
      UID: metadata.uid,
      IP: status.podIP,
      IPS: status.podIP,
      HOST: status.hostIP,
      HOSTS: status.hostIP,
      NODE: 'bulkhead',
      ACCOUNT: 'default',
      CPU_LIMIT: '2',
      CPU_REQUEST: '250',
      MEMORY_LIMIT: String(64 * 1024 * 1024),
      COMPOSED: 'knows;;bulkhead',
      LITERAL: '$(NAME) $(UNKNOWN)',
      ARG: 'knows;;bulkhead',
    }
    assert.deepEqual(Object.fromEntries(Object.keys(expected).map((name) => [name, known[name]])), expected)
    assert.equal(status.qosClass, 'Burstable')
    const { status: node } = await platform.getJson<{ status: { allocatable: { memory: string } } }>(
      'red',
      'node',
      'bulkhead',
    )
    await untilPhase('of-node', 'Succeeded')
    assert.equal(
      (await variables('of-node'))['MEMORY'],
      String(Number.parseInt(node.allocatable.memory, 10) * 1024),
    )
  })

  test('hooks are carried out after the start and before the end, as commands and as requests', async () => {
    const command = (text: string) => ({ exec: { command: ['sh', '-c', text] } })
    const request = (path: string) => ({ httpGet: { path, port: 8080 } })
    const ask = (path: string) => command(`timeout 5 wget -q -O /dev/null http://127.0.0.1:8080${path}`)
    const script = 'trap exit TERM; sleep 3600 & wait'
    await apply(
      lasting(
        'hooks',
        {},
        {
          terminationGracePeriodSeconds: 20,
          initContainers: [
            container({
              name: 'server',
              image,
              script:
                'mkdir /www; cd /www; touch started stopping command-started command-stopping; exec httpd -f -vv -p 8080',
              restartPolicy: 'Always',
              startupProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1 },
            }),
          ],
          containers: [
            container({
              name: 'requests',
              image,
              script,
              lifecycle: { postStart: request('/started'), preStop: request('/stopping') },
            }),
            container({
              name: 'commands',
              image,
              script,
              lifecycle: { postStart: ask('/command-started'), preStop: ask('/command-stopping') },
            }),
          ],
        },
      ),
    )
    await untilPhase('hooks', 'Running')
    const following = platform.runKubectl('red', ['logs', '-f', 'hooks', '-c', 'server'])
    await until60(async () => (await logs('hooks', '-c', 'server')).includes('/command-started'))
    await kubectl('delete', 'pod', 'hooks', '--timeout=40s')
    const { stdout } = await following
    const asked = new Set([...stdout.matchAll(/url:\/([a-z-]+)/g)].map(([, path]) => path))
    assert.deepEqual([...asked].sort(), ['command-started', 'command-stopping', 'started', 'stopping'])
  })
})
