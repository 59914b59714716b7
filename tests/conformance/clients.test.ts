import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { copyFileSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import {
  CoordinationV1Api,
  CoreV1Api,
  Exec,
  KubeConfig,
  KubernetesObjectApi,
  Log,
  makeInformer,
  PatchStrategy,
  type V1ConfigMap,
  V1MicroTime,
  type V1Status,
} from '@kubernetes/client-node'
import { unpackPackages } from '../../samples/images/build.ts'
import { until } from '../../src/stdx/index.ts'
import { gvisorMissing, KUBECTL } from '../testkit/machine.ts'
import { configMap, deployment, pod } from '../testkit/manifests.ts'
import { run, TestPlatform } from '../testkit/platform.ts'
import { unpackPythonClient } from '../testkit/python-image.ts'
import { type Registry, startPythonRegistry } from '../testkit/registry.ts'

/** Client libraries that others wrote, from outside and in pods, against a real platform. */

const skip = gvisorMissing
const execute = promisify(execFile)
const TESTDATA = new URL('testdata/', import.meta.url)
/** In one tenant pods run on the machine's kernel, in the other on gVisor's. */
const TENANTS = ['red', 'blue'] as const
type Tenant = (typeof TENANTS)[number]

let platform: TestPlatform
let registry: Registry

before(async () => {
  if (skip !== false) return
  registry = await startPythonRegistry()
  platform = await TestPlatform.start({
    instance: 'icc',
    slot: 32,
    tenants: [
      { name: 'red', registries: [registry.host] },
      { name: 'blue', trust: 'untrusted', registries: [registry.host] },
    ],
  })
  await Promise.all(TENANTS.map(startOperator))
})

after(async () => {
  if (skip !== false) return
  await platform?.[Symbol.asyncDispose]()
  await registry?.[Symbol.asyncDispose]()
})

/** Two replicas of a program that uses nothing but what a pod is given. */
async function startOperator(tenant: Tenant): Promise<void> {
  await platform.apply(tenant, [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'operator' } },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'Role',
      metadata: { name: 'operator' },
      rules: [
        { apiGroups: [''], resources: ['configmaps'], verbs: ['get', 'list', 'watch', 'create', 'update'] },
        { apiGroups: ['coordination.k8s.io'], resources: ['leases'], verbs: ['get', 'create', 'update'] },
      ],
    },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata: { name: 'operator' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'operator' },
      subjects: [{ kind: 'ServiceAccount', name: 'operator', namespace: 'default' }],
    },
    configMap('program', { 'operator.py': readFileSync(new URL('operator.py', TESTDATA), 'utf8') }),
    deployment({
      name: 'operator',
      replicas: 2,
      image: `${registry.host}/python:1`,
      script: 'exec python3 /app/operator.py',
      volumeMounts: [{ name: 'program', mountPath: '/app' }],
      spec: {
        serviceAccountName: 'operator',
        volumes: [{ name: 'program', configMap: { name: 'program' } }],
      },
    }),
  ])
  await platform.mustKubectl(tenant, 'rollout', 'status', 'deployment/operator', '--timeout=180s')
}

async function answerTo(tenant: Tenant, question: string): Promise<{ by: string; text: string }> {
  await platform.apply(tenant, [
    { ...configMap(question, { text: 'what?' }), metadata: { name: question, labels: { kind: 'question' } } },
  ])
  let answer = ''
  await until(
    async () => {
      const ran = await platform.kubectl(
        tenant,
        'get',
        'configmap',
        `answer-${question}`,
        '-o',
        'jsonpath={.data}',
      )
      answer = ran.stdout
      return ran.code === 0
    },
    { timeoutMs: 60_000, everyMs: 300, what: `The answer of an operator of ${tenant}` },
  )
  return JSON.parse(answer) as { by: string; text: string }
}

describe('an operator in Python, in two pods', { skip }, () => {
  for (const tenant of TENANTS) {
    test(`elects a leader that watches and writes, and another when that one is gone (${tenant})`, async () => {
      const first = await answerTo(tenant, 'first')
      assert.equal(first.text, 'WHAT?')
      const again = await answerTo(tenant, 'second')
      assert.equal(again.by, first.by, 'one leads as long as it lives')
      const lease = () =>
        platform.mustKubectl(tenant, 'get', 'lease', 'operator', '-o', 'jsonpath={.spec.holderIdentity}')
      assert.equal(await lease(), first.by)
      await platform.mustKubectl(tenant, 'delete', 'pod', first.by, '--grace-period=0', '--force')
      const later = await answerTo(tenant, 'third')
      assert.notEqual(later.by, first.by)
      assert.equal(await lease(), later.by)
      // Written by the operator, collected by us.
      await platform.mustKubectl(tenant, 'delete', 'configmap', 'first')
      await platform.mustKubectl(tenant, 'wait', '--for=delete', 'configmap/answer-first', '--timeout=30s')
    })
  }
})

test('the Kubernetes client for Python works from outside', { skip }, async () => {
  const root = await mkdtemp(join(tmpdir(), 'bulkhead-python-'))
  try {
    await unpackPythonClient(join(root, 'root'))
    copyFileSync(new URL('outside.py', TESTDATA), join(root, 'root/outside.py'))
    copyFileSync(platform.kubeconfig('red'), join(root, 'root/kubeconfig'))
    const name = await platform.mustKubectl('red', 'get', 'pods', '-o', 'jsonpath={.items[0].metadata.name}')
    const { stdout } = await execute('chroot', [
      join(root, 'root'),
      '/usr/bin/python3',
      '/outside.py',
      '/kubeconfig',
      name,
    ])
    const { log, ...seen } = JSON.parse(stdout) as Record<string, unknown>
    assert.ok(typeof log === 'string')
    assert.deepEqual(seen, {
      data: { a: '1', b: '2' },
      events: [
        ['ADDED', 'python-one'],
        ['ADDED', 'python-two'],
      ],
      deployments: ['operator'],
      exec: 'out\nerr\n',
      missing: [404, 'NotFound'],
    })
  } finally {
    await rm(root, { recursive: true, force: true })
  }
})

test('kubectx, kubens, kubecolor and kubetail work as they are', { skip }, async () => {
  const root = await mkdtemp(join(tmpdir(), 'bulkhead-tools-'))
  try {
    await unpackPackages(join(root, 'tools'), ['kubectx', 'kubecolor', 'kubetail'])
    const kubeconfig = join(root, 'kubeconfig')
    copyFileSync(platform.kubeconfig('red'), kubeconfig)
    const env = {
      PATH: `${join(root, 'tools/usr/bin')}:${dirname(KUBECTL)}:/usr/bin:/bin`,
      HOME: root,
      KUBECONFIG: kubeconfig,
      TERM: 'xterm',
    }
    const ran = async (program: string, ...args: string[]) =>
      (await run(program, args, env, { cwd: root, timeoutMs: 60_000 })).stdout
    await platform.mustKubectl('red', 'create', 'namespace', 'shop')
    assert.equal(await ran('kubectx', '-c'), 'red\n')
    await ran('kubens', 'shop')
    assert.equal(await ran('kubens', '-c'), 'shop\n')
    assert.match(await ran('kubens'), /^default$/m)
    await ran('kubens', 'default')
    const coloured = await ran('kubecolor', '--force-colors', 'get', 'deployments')
    assert.ok(coloured.includes('operator') && coloured.includes('\u001b[3'), coloured)
    await platform.apply('red', [
      pod({
        name: 'chatter',
        image: `${registry.host}/python:1`,
        script: 'while echo chatting; do sleep 1; done',
      }),
    ])
    await platform.mustKubectl('red', 'wait', '--for=condition=Ready', 'pod/chatter', '--timeout=60s')
    assert.match(
      // It ends by killing its process group, so it gets one of its own.
      await ran('timeout', '60', 'kubetail', 'chatter', '--follow', 'false', '--since', '1m'),
      /\[chatter\] chatting/,
    )
  } finally {
    await rm(root, { recursive: true, force: true })
  }
})

describe('the Kubernetes client for JavaScript, from outside', { skip }, () => {
  const config = (tenant: Tenant) => {
    const kubeconfig = new KubeConfig()
    kubeconfig.loadFromFile(platform.kubeconfig(tenant))
    return kubeconfig
  }

  test('an informer lists, watches and keeps up with changes', async () => {
    const kubeconfig = config('red')
    const core = kubeconfig.makeApiClient(CoreV1Api)
    const labels = { by: 'javascript' }
    const make = (name: string): V1ConfigMap => ({ metadata: { name, labels }, data: { n: '1' } })
    await core.createNamespacedConfigMap({ namespace: 'default', body: make('before') })
    const seen: string[] = []
    const informer = makeInformer<V1ConfigMap>(
      kubeconfig,
      '/api/v1/namespaces/default/configmaps',
      () => core.listNamespacedConfigMap({ namespace: 'default', labelSelector: 'by=javascript' }),
      'by=javascript',
    )
    for (const verb of ['add', 'update', 'delete'] as const)
      informer.on(verb, ({ metadata, data }) => seen.push(`${verb} ${metadata?.name} ${data?.['n']}`))
    await informer.start()
    try {
      await until(() => seen.length === 1, { timeoutMs: 20_000, what: 'What was there before' })
      const made = await core.createNamespacedConfigMap({ namespace: 'default', body: make('during') })
      await core.replaceNamespacedConfigMap({
        name: 'during',
        namespace: 'default',
        body: { ...made, data: { n: '2' } },
      })
      await core.deleteNamespacedConfigMap({ name: 'during', namespace: 'default' })
      await until(() => seen.length === 4, { timeoutMs: 20_000, what: `Four events, not ${seen.join()}` })
      assert.deepEqual(seen, ['add before 1', 'add during 1', 'update during 2', 'delete during 2'])
      assert.equal(informer.get('before', 'default')?.data?.['n'], '1')
      assert.equal(informer.get('during', 'default'), undefined)
    } finally {
      await informer.stop()
    }
  })

  test('applies on the server, patches and pages', async () => {
    const kubeconfig = config('blue')
    const objects = KubernetesObjectApi.makeApiClient(kubeconfig)
    const wanted = {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'applied', namespace: 'default' },
      data: { a: '1' },
    }
    const apply = () =>
      objects.patch<V1ConfigMap>(
        wanted,
        undefined,
        undefined,
        'javascript',
        true,
        PatchStrategy.ServerSideApply,
      )
    const applied = await apply()
    assert.equal(applied.metadata?.managedFields?.[0]?.manager, 'javascript')
    assert.equal((await apply()).metadata?.resourceVersion, applied.metadata?.resourceVersion)
    const core = kubeconfig.makeApiClient(CoreV1Api)
    const page = await core.listNamespacedConfigMap({ namespace: 'default', limit: 1 })
    const rest = await core.listNamespacedConfigMap({
      namespace: 'default',
      ...(page.metadata?._continue === undefined ? {} : { _continue: page.metadata._continue }),
    })
    assert.equal(page.items.length, 1)
    assert.ok(rest.items.length > 0)
    await assert.rejects(core.readNamespacedConfigMap({ name: 'no-such', namespace: 'default' }), {
      code: 404,
    })
  })

  test('runs commands and follows logs', async () => {
    for (const tenant of TENANTS) {
      const kubeconfig = config(tenant)
      const name = await platform.mustKubectl(
        tenant,
        'get',
        'pods',
        '-o',
        'jsonpath={.items[0].metadata.name}',
      )
      const [out, err, input] = [new PassThrough(), new PassThrough(), new PassThrough()]
      const ended = Promise.withResolvers<V1Status>()
      const socket = await new Exec(kubeconfig).exec(
        'default',
        name,
        'main',
        ['sh', '-c', 'read line; echo "got $line"; echo wrong >&2; exit 3'],
        out,
        err,
        input,
        false,
        (status) => ended.resolve(status),
      )
      input.write('hello\n')
      const status = await ended.promise
      socket.close()
      out.end()
      err.end()
      assert.equal(await text(out), 'got hello\n')
      assert.equal(await text(err), 'wrong\n')
      assert.equal(status.details?.causes?.[0]?.message, '3')
      const log = new PassThrough()
      await platform.apply(tenant, [
        pod({
          name: 'talker',
          image: `${registry.host}/python:1`,
          script: 'for n in 1 2 3; do echo line $n; sleep 1; done',
          spec: { restartPolicy: 'Never' },
        }),
      ])
      await until(
        () =>
          platform.mustKubectl(tenant, 'get', 'pod', 'talker').then((line) => /Running|Completed/.test(line)),
        { timeoutMs: 60_000, everyMs: 200, what: 'A pod that talks' },
      )
      // Ends with the container: the client has no way to stop earlier that it survives itself.
      await new Log(kubeconfig).log('default', 'talker', 'main', log, { follow: true })
      assert.equal(await text(log), 'line 1\nline 2\nline 3\n')
    }
  })

  test('of two candidates for a Lease one leads, and the other takes over when it has run out', async () => {
    const api = config('red').makeApiClient(CoordinationV1Api)
    const ref = { name: 'election', namespace: 'default' }
    const spec = (holder: string) => ({
      holderIdentity: holder,
      leaseDurationSeconds: 1,
      renewTime: new V1MicroTime(),
    })
    const stand = (holder: string) =>
      api.createNamespacedLease({
        namespace: 'default',
        body: { metadata: { name: ref.name }, spec: spec(holder) },
      })
    const outcomes = await Promise.allSettled([stand('one'), stand('two')])
    assert.deepEqual(outcomes.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected'])
    const held = await api.readNamespacedLease(ref)
    // Both have seen the same lease run out: only one of them can have it.
    const take = (holder: string) =>
      api.replaceNamespacedLease({ ...ref, body: { ...held, spec: spec(holder) } })
    const taken = await Promise.allSettled([take('one'), take('two')])
    assert.deepEqual(taken.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected'])
    const reasons = taken.flatMap((outcome) =>
      outcome.status === 'rejected' ? [outcome.reason as unknown] : [],
    )
    assert.deepEqual(
      reasons.map((reason) => (reason as { code: number }).code),
      [409],
    )
    const winner = taken.findIndex(({ status }) => status === 'fulfilled') === 0 ? 'one' : 'two'
    assert.equal((await api.readNamespacedLease(ref)).spec?.holderIdentity, winner)
  })
})
