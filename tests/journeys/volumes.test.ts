import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { after, before, describe, test } from 'node:test'
import { until } from '../../src/stdx/index.ts'
import { gvisorMissing } from '../testkit/machine.ts'
import { TestPlatform } from '../testkit/platform.ts'
import { type Registry, startBusyboxRegistry } from '../testkit/registry.ts'

/** Volumes as a tenant uses them, with the real kubectl on real pods, over everything that a platform goes through. */

type Claim = {
  metadata: { name: string; uid: string }
  spec: { volumeName?: string; storageClassName?: string }
  status: { phase: string; capacity?: { storage: string }; conditions?: { type: string }[] }
}

describe('volumes that outlive pods', { skip: gvisorMissing }, () => {
  let platform: TestPlatform
  let registry: Registry
  const kubectl = (...args: string[]) => platform.mustKubectl('red', ...args)
  const apply = (manifest: string) => platform.apply('red', manifest)
  const refused = async (manifest: string): Promise<string> => {
    const ran = await platform.runKubectl('red', ['apply', '-f', '-'], { input: manifest })
    assert.notEqual(ran.code, 0, ran.stdout)
    return ran.stderr
  }
  const claims = async () => (await platform.getJson<{ items: Claim[] }>('red', 'pvc')).items
  const ready = (pod: string) => kubectl('wait', '--for=condition=Ready', `pod/${pod}`, '--timeout=60s')
  const until60 = (condition: () => Promise<unknown>) => until(condition, { timeoutMs: 60_000, everyMs: 200 })

  const claim = (name: string, storage: string, more = '') =>
    `apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: ${name}}\n` +
    `spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: ${storage}}}${more}}\n`
  const idle = 'trap exit TERM; sleep 3600 & wait'
  const user = (name: string, claimName: string, script = idle, more = '') =>
    `apiVersion: v1\nkind: Pod\nmetadata: {name: ${name}}\nspec:\n` +
    `  terminationGracePeriodSeconds: 1\n  restartPolicy: Never\n` +
    `  volumes: [{name: data, persistentVolumeClaim: {claimName: ${claimName}}}]\n` +
    `  containers: [{name: main, image: "${registry.host}/busybox:1", command: [sh, -c, '${script}'], volumeMounts: [{name: data, mountPath: /data}]}]\n${more}`
  const db = (more = '') => `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  ${more}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: "${registry.host}/busybox:1"
        command: [sh, -c, 'echo start >>/data/log; ${idle}']
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 16Mi}}}
`
  const starts = async (pod: string) =>
    (await kubectl('exec', pod, '--', 'cat', '/data/log')).split('\n').filter(Boolean).length

  before(async () => {
    registry = await startBusyboxRegistry()
    platform = await TestPlatform.start({
      instance: 'pv1',
      slot: 46,
      tenants: [{ name: 'red', registries: [registry.host] }],
    })
  })
  after(async () => {
    await platform?.[Symbol.asyncDispose]()
    await registry?.[Symbol.asyncDispose]()
    const loops = execFileSync('losetup', ['--list', '--noheadings', '--output', 'BACK-FILE'], {
      encoding: 'utf8',
    })
    assert.doesNotMatch(loops, /bulkhead-pv1/, 'a reset leaves no loop device')
  })

  test('there is one class of storage, and a claim gets a volume of its own', async () => {
    assert.match(
      await kubectl('get', 'sc'),
      /^standard \(default\) +bulkhead.dev\/volumes +Delete +Immediate +true /m,
    )
    await apply(claim('data', '20Mi'))
    await kubectl('wait', '--for=jsonpath={.status.phase}=Bound', 'pvc/data', '--timeout=30s')
    const [data] = await claims()
    assert.ok(data)
    const volume = `pvc-${data.metadata.uid}`
    assert.match(
      await kubectl('get', 'pvc'),
      new RegExp(`^data +Bound +${volume} +20Mi +RWO +standard +<unset> `, 'm'),
    )
    assert.match(
      await kubectl('get', 'pv'),
      new RegExp(`^${volume} +20Mi +RWO +Delete +Bound +default/data +standard +<unset> `, 'm'),
    )
    const described = await kubectl('describe', 'pvc', 'data')
    assert.match(described, /Finalizers: +\[kubernetes.io\/pvc-protection\]/)
    assert.match(described, /ProvisioningSucceeded .*Successfully provisioned volume pvc-/)
    assert.match(await kubectl('describe', 'pv', volume), /Claim: +default\/data/)
  })

  test('what cannot be is refused with the reason', async () => {
    assert.match(
      await refused(claim('x', '0')),
      /spec.resources\[storage\]: Invalid value: "0": must be greater than zero/,
    )
    assert.match(
      await refused(claim('x', '1Gi', ', volumeMode: Block')),
      /a device of the machine would be handed/,
    )
    assert.match(
      await refused(claim('x', '1Gi', ', volumeName: pvc-of-blue')),
      /volumeName: Forbidden: every claim/,
    )
    assert.match(
      await refused(claim('x', '1Gi', ', dataSource: {kind: PersistentVolumeClaim, name: data}')),
      /dataSource: Forbidden: not supported: there are no snapshots/,
    )
    assert.match(
      await refused(
        'apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: mine}\nspec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /}}\n',
      ),
      /whoever writes it chooses what of the machine is mounted/,
    )
    assert.match(
      await refused(
        'apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: mine}\nspec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce]}\n',
      ),
      /volumes are made by the platform/,
    )
    const deleted = await platform.kubectl('red', 'delete', 'pv', '--all', '--wait=false')
    assert.match(deleted.stderr, /volumes are made by the platform/)
    assert.match((await platform.kubectl('red', 'delete', 'sc', 'standard')).stderr, /the platform decides/)
    assert.match(await refused(claim('data', '10Mi')), /field can not be less than status.capacity/)
    assert.match(
      await refused(claim('data', '20Mi', ', storageClassName: other')),
      /spec is immutable after creation/,
    )
  })

  test('a pod waits for its claim, and a claim stays while a pod uses it', async () => {
    await apply(user('first', 'late'))
    await until60(async () =>
      /FailedScheduling .*persistentvolumeclaim "late" not found/.test(
        await kubectl('describe', 'pod', 'first'),
      ),
    )
    await apply(claim('late', '16Mi', ', storageClassName: fast'))
    await until60(async () =>
      /pod has unbound immediate PersistentVolumeClaims/.test(await kubectl('describe', 'pod', 'first')),
    )
    assert.match(await kubectl('describe', 'pvc', 'late'), /storageclass.storage.k8s.io "fast" not found/)
    await kubectl('delete', 'pvc', 'late')
    await apply(claim('late', '16Mi'))
    await ready('first')
    await kubectl('delete', 'pvc', 'late', '--wait=false')
    assert.match(await kubectl('get', 'pvc', 'late'), /Terminating/)
    await kubectl('exec', 'first', '--', 'touch', '/data/still-here')
    await kubectl('delete', 'pod', 'first')
    await kubectl('wait', '--for=delete', 'pvc/late', '--timeout=30s')
    await until60(async () => !(await kubectl('get', 'pv')).includes('default/late'))
  })

  test('a claim grows, at once or when its next pod starts', async () => {
    await apply(claim('data', '40Mi'))
    await until60(async () => (await claims())[0]?.status.capacity?.storage === '40Mi')
    await apply(user('grower', 'data'))
    await ready('grower')
    await apply(claim('data', '64Mi'))
    await until60(async () => (await claims())[0]?.status.conditions?.[0]?.type === 'FileSystemResizePending')
    await kubectl('delete', 'pod', 'grower')
    await apply(user('grower', 'data'))
    await ready('grower')
    await until60(async () => (await claims())[0]?.status.capacity?.storage === '64Mi')
    assert.match(await kubectl('exec', 'grower', '--', 'df', '-m', '/data'), /\s(5\d|6\d)\s/)
    await kubectl('delete', 'pod/grower', 'pvc/data')
  })

  test('quotas and bounds count storage', async () => {
    await kubectl('create', 'namespace', 'small')
    await apply(
      'apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: q, namespace: small}\n' +
        'spec: {hard: {requests.storage: 40Mi, persistentvolumeclaims: "2"}}\n---\n' +
        'apiVersion: v1\nkind: LimitRange\nmetadata: {name: l, namespace: small}\n' +
        'spec: {limits: [{type: PersistentVolumeClaim, min: {storage: 16Mi}, max: {storage: 32Mi}}]}\n',
    )
    const inSmall = (manifest: string) => manifest.replace('metadata: {', 'metadata: {namespace: small, ')
    assert.match(
      await refused(inSmall(claim('a', '8Mi'))),
      /minimum storage usage per PersistentVolumeClaim is 16Mi, but request is 8Mi/,
    )
    await apply(inSmall(claim('a', '20Mi')))
    assert.match(
      await refused(inSmall(claim('b', '30Mi'))),
      /exceeded quota: q, requested: requests.storage=30Mi, used: requests.storage=20Mi, limited: requests.storage=40Mi/,
    )
    await apply(inSmall(claim('b', '16Mi')))
    await kubectl(
      'wait',
      '-n',
      'small',
      '--for=jsonpath={.status.phase}=Bound',
      'pvc/a',
      'pvc/b',
      '--timeout=30s',
    )
    assert.match(
      await refused(inSmall(claim('a', '32Mi'))),
      /exceeded quota: q, requested: requests.storage=12Mi/,
    )
    await until60(async () =>
      /requests.storage: 36Mi\/40Mi/.test(await kubectl('get', 'quota', '-n', 'small')),
    )
    await kubectl('delete', 'namespace', 'small', '--timeout=60s')
    assert.doesNotMatch(await kubectl('get', 'pv'), /small\//)
  })

  test('an ephemeral volume comes and goes with its pod', async () => {
    await apply(
      user('scratch', 'none').replace(
        'persistentVolumeClaim: {claimName: none}',
        'ephemeral: {volumeClaimTemplate: {metadata: {labels: {a: b}}, spec: {accessModes: [ReadWriteOncePod], resources: {requests: {storage: 16Mi}}}}}',
      ),
    )
    await ready('scratch')
    assert.match(await kubectl('get', 'pvc', '-l', 'a=b'), /^scratch-data +Bound .* RWOP /m)
    await kubectl('delete', 'pod', 'scratch')
    await kubectl('wait', '--for=delete', 'pvc/scratch-data', '--timeout=30s')
  })

  test('a StatefulSet keeps its data over deletion of its pods, down and up, and a move to gVisor and back', async () => {
    await apply(db())
    await kubectl('rollout', 'status', 'statefulset/db', '--timeout=60s')
    assert.deepEqual(
      (await claims()).map(({ metadata }) => metadata.name),
      ['data-db-0', 'data-db-1'],
    )
    assert.equal(await starts('db-0'), 1)
    await kubectl('delete', 'pod', 'db-0', 'db-1')
    await kubectl('rollout', 'status', 'statefulset/db', '--timeout=60s')
    await ready('db-0')
    assert.equal(await starts('db-0'), 2)

    await platform.mustCli('down')
    await platform.mustCli('up')
    await until60(async () => (await starts('db-1')) === 3)

    for (const [trust, runs] of [
      ['untrusted', 4],
      ['trusted', 5],
    ] as const) {
      await platform.applyTenants([{ name: 'red', trust, registries: [registry.host] }])
      await until60(async () => (await starts('db-0')) === runs && (await starts('db-1')) === runs)
      const version = await kubectl('exec', 'db-0', '--', 'cat', '/proc/version')
      assert.equal(/ 4\.4\.0 /.test(version), trust === 'untrusted', version)
    }
  })

  test('an agent that is killed while pods write finds their volumes again', async () => {
    const agent = platform.daemons().get('node')
    assert.ok(agent)
    process.kill(agent.pid, 'SIGKILL')
    await platform.mustCli('up')
    await kubectl('delete', 'pod', 'db-1')
    await until60(async () => (await starts('db-1')) === 6)
    assert.equal(await starts('db-0'), 5, 'its neighbour went on')
  })

  test('claims go as the retention policy says', async () => {
    const policy = (whenScaled: string, whenDeleted: string) =>
      apply(
        db(`persistentVolumeClaimRetentionPolicy: {whenScaled: ${whenScaled}, whenDeleted: ${whenDeleted}}`),
      )
    const names = async () => (await claims()).map(({ metadata }) => metadata.name)
    await kubectl('scale', 'sts/db', '--replicas=1')
    await kubectl('wait', '--for=delete', 'pod/db-1', '--timeout=30s')
    assert.deepEqual(await names(), ['data-db-0', 'data-db-1'], 'they are kept')
    await policy('Delete', 'Retain')
    await kubectl('rollout', 'status', 'statefulset/db', '--timeout=60s')
    assert.equal(await starts('db-1'), 7, 'the claim was found again')
    await kubectl('scale', 'sts/db', '--replicas=1')
    await kubectl('wait', '--for=delete', 'pvc/data-db-1', '--timeout=30s')
    assert.deepEqual(await names(), ['data-db-0'])
    await policy('Retain', 'Delete')
    await kubectl('rollout', 'status', 'statefulset/db', '--timeout=60s')
    await until60(
      async () => (await kubectl('get', 'pvc', '-o', 'yaml')).split('kind: StatefulSet').length === 3,
    )
    await kubectl('delete', 'sts', 'db')
    await kubectl('wait', '--for=delete', 'pvc/data-db-0', 'pvc/data-db-1', '--timeout=60s')
    assert.deepEqual(await names(), [])
    assert.equal(await kubectl('get', 'pv', '-o', 'name'), '')
  })
})
