import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { until } from '../../src/stdx/index.ts'
import { platformMissing } from '../testkit/machine.ts'
import { container, type Manifest } from '../testkit/manifests.ts'
import { TestPlatform } from '../testkit/platform.ts'
import { type Registry, startBusyboxRegistry } from '../testkit/registry.ts'

type JobStatus = {
  active?: number
  succeeded?: number
  failed?: number
  ready?: number
  terminating?: number
  completedIndexes?: string
  failedIndexes?: string
  startTime?: string
  completionTime?: string
  conditions?: { type: string; status: string; reason?: string; message?: string }[]
}

describe('Jobs with real containers', { skip: platformMissing }, () => {
  let platform: TestPlatform
  let registry: Registry
  const kubectl = (...args: string[]) => platform.mustKubectl('red', ...args)
  const until90 = (condition: () => Promise<unknown>, what: string) =>
    until(condition, { timeoutMs: 90_000, everyMs: 400, what })
  /** A Job whose pods run a script. */
  const job = (name: string, script: string, spec: object = {}, pod: object = {}): Manifest => ({
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: { name },
    spec: {
      ...spec,
      template: {
        spec: {
          restartPolicy: 'Never',
          terminationGracePeriodSeconds: 1,
          containers: [container({ image: `${registry.host}/busybox:1`, script })],
          ...pod,
        },
      },
    },
  })
  const apply = (...manifests: Manifest[]) => platform.apply('red', manifests)
  const statusOf = async (name: string) =>
    (await platform.getJson<{ status: JobStatus }>('red', 'job', name)).status
  const conditionOf = async (name: string, type: string) =>
    (await statusOf(name)).conditions?.find((found) => found.type === type && found.status === 'True')
  const untilEnd = async (name: string, type: 'Complete' | 'Failed') => {
    await until90(async () => conditionOf(name, type), `${name} is ${type}`)
    return statusOf(name)
  }
  const reasons = ({ conditions = [] }: JobStatus) =>
    conditions.filter(({ status }) => status === 'True').map(({ type, reason }) => [type, reason])
  const podsOf = async (name: string, jsonpath: string) =>
    (
      await kubectl(
        'get',
        'pods',
        '-l',
        `job-name=${name}`,
        '-o',
        `jsonpath={range .items[*]}${jsonpath} {end}`,
      )
    )
      .trim()
      .split(' ')
      .filter(Boolean)
  const FOREVER = 'trap "exit 0" TERM; sleep 3600 & wait'
  const INDEX = '$JOB_COMPLETION_INDEX'

  before(async () => {
    registry = await startBusyboxRegistry()
    platform = await TestPlatform.start({
      instance: 'ki1',
      slot: 136,
      tenants: [{ name: 'red', registries: [registry.host] }],
    })
  })
  after(async () => {
    await platform?.[Symbol.asyncDispose]()
    await registry?.[Symbol.asyncDispose]()
  })

  test('each index fails on its own, is tried as often as it may be, and the others are done', async () => {
    const spec = { completionMode: 'Indexed', completions: 4, parallelism: 4, backoffLimitPerIndex: 1 }
    const rules = [{ action: 'FailIndex', onExitCodes: { operator: 'In', values: [42] } }]
    await apply(
      job('per-index', `case ${INDEX} in 1) exit 1;; 2) exit 42;; esac`, {
        ...spec,
        podFailurePolicy: { rules },
      }),
    )
    const status = await untilEnd('per-index', 'Failed')
    assert.deepEqual(
      [status.completedIndexes, status.failedIndexes, status.succeeded, status.failed],
      ['0,3', '1,2', 2, 3],
    )
    assert.deepEqual(reasons(status), [
      ['FailureTarget', 'FailedIndexes'],
      ['Failed', 'FailedIndexes'],
    ])
    assert.equal(status.completionTime, undefined)
    const counts = await podsOf(
      'per-index',
      '{.metadata.labels.batch\\.kubernetes\\.io/job-completion-index}:{.metadata.annotations.batch\\.kubernetes\\.io/job-index-failure-count}',
    )
    assert.deepEqual(counts.sort(), ['0:0', '1:0', '1:1', '2:0', '3:0'])
  })

  test('an exit code ends the whole job at once, and its other pods with it', async () => {
    const rules = [
      { action: 'FailJob', onExitCodes: { containerName: 'main', operator: 'In', values: [42] } },
    ]
    await apply(
      job('fatal', `[ ${INDEX} = 1 ] && exit 42; ${FOREVER}`, {
        completionMode: 'Indexed',
        completions: 3,
        parallelism: 3,
        podFailurePolicy: { rules },
      }),
    )
    const status = await untilEnd('fatal', 'Failed')
    assert.deepEqual(reasons(status), [
      ['FailureTarget', 'PodFailurePolicy'],
      ['Failed', 'PodFailurePolicy'],
    ])
    assert.match(
      (await conditionOf('fatal', 'Failed'))?.message ?? '',
      /^Container main for pod default\/fatal-1-\w+ failed with exit code 42 matching FailJob rule at index 0$/,
    )
    assert.deepEqual([status.active ?? 0, status.terminating ?? 0, status.ready ?? 0], [0, 0, 0])
  })

  test('a pod that was evicted does not count where a rule says so, and its work is done by another', async () => {
    const rules = [{ action: 'Ignore', onPodConditions: [{ type: 'DisruptionTarget', status: 'True' }] }]
    await apply(
      job('evicted', 'touch /tmp/up; [ -f /tmp/never ] || sleep 15', {
        backoffLimit: 0,
        podFailurePolicy: { rules },
      }),
    )
    await until90(async () => (await podsOf('evicted', '{.status.phase}'))[0] === 'Running', 'it runs')
    const [name = ''] = await podsOf('evicted', '{.metadata.name}')
    const evicted = await platform.request('red', `/api/v1/namespaces/default/pods/${name}/eviction`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name } }),
    })
    assert.equal(evicted.code, 201, evicted.body)
    const status = await untilEnd('evicted', 'Complete')
    assert.deepEqual([status.succeeded, status.failed ?? 0], [1, 0])
  })

  test('a job has done enough when its rule says so, and its other pods are stopped', async () => {
    // Who is stopped fails: one that ends well would be counted as done.
    await apply(
      job('enough', `[ ${INDEX} = 0 ] && exit 0; ${FOREVER.replace('exit 0', 'exit 1')}`, {
        completionMode: 'Indexed',
        completions: 3,
        parallelism: 3,
        successPolicy: { rules: [{ succeededIndexes: '0', succeededCount: 1 }] },
      }),
    )
    const status = await untilEnd('enough', 'Complete')
    assert.deepEqual(reasons(status), [
      ['SuccessCriteriaMet', 'SuccessPolicy'],
      ['Complete', 'SuccessPolicy'],
    ])
    assert.equal(status.completedIndexes, '0')
    assert.ok(status.completionTime)
  })

  test('a job that is suspended has no pods, and its time begins when it is resumed', async () => {
    await apply(job('paused', FOREVER, { parallelism: 2, completions: 2, activeDeadlineSeconds: 3_600 }))
    await until90(async () => (await statusOf('paused')).ready === 2, 'two are ready')
    const { startTime } = await statusOf('paused')
    assert.ok(startTime)
    await kubectl('patch', 'job', 'paused', '-p', '{"spec":{"suspend":true}}')
    await until90(async () => (await podsOf('paused', '{.metadata.name}')).length === 0, 'no pods')
    const suspended = await statusOf('paused')
    assert.deepEqual(
      [suspended.startTime, suspended.active ?? 0, suspended.failed ?? 0, reasons(suspended)],
      [undefined, 0, 0, [['Suspended', 'JobSuspended']]],
    )
    await kubectl('patch', 'job', 'paused', '-p', '{"spec":{"suspend":false}}')
    await until90(async () => (await statusOf('paused')).active === 2, 'they are there again')
    assert.notEqual((await statusOf('paused')).startTime, undefined)
    await kubectl('delete', 'job', 'paused', '--cascade=foreground', '--timeout=60s')
    assert.deepEqual(await podsOf('paused', '{.metadata.name}'), [])
  })

  test('failures that a container gets over on its own machine end well', async () => {
    const script = 'f=/work/n; n=$(($(cat $f 2>/dev/null || echo 0) + 1)); echo $n > $f; [ $n -gt 1 ]'
    await apply(
      job(
        'locally',
        '',
        { completions: 2, parallelism: 2 },
        {
          restartPolicy: 'OnFailure',
          volumes: [{ name: 'work', emptyDir: {} }],
          containers: [
            container({
              image: `${registry.host}/busybox:1`,
              script,
              volumeMounts: [{ name: 'work', mountPath: '/work' }],
            }),
          ],
        },
      ),
    )
    const status = await untilEnd('locally', 'Complete')
    assert.deepEqual([status.succeeded, status.failed ?? 0], [2, 0])
    assert.deepEqual(await podsOf('locally', '{.status.containerStatuses[0].restartCount}'), ['1', '1'])
  })

  test('a sidecar keeps no job from being done', async () => {
    const sidecar = container({
      name: 'sidecar',
      image: `${registry.host}/busybox:1`,
      script: FOREVER,
      restartPolicy: 'Always',
    })
    await apply(job('with-sidecar', 'sleep 1', {}, { initContainers: [sidecar] }))
    assert.equal((await untilEnd('with-sidecar', 'Complete')).succeeded, 1)
  })

  test('a job past its deadline stops, and one past its time to live is gone with its pods', async () => {
    await apply(
      job('late', FOREVER, { activeDeadlineSeconds: 2 }),
      job('fleeting', 'true', { ttlSecondsAfterFinished: 1 }),
    )
    const status = await untilEnd('late', 'Failed')
    assert.deepEqual(reasons(status), [
      ['FailureTarget', 'DeadlineExceeded'],
      ['Failed', 'DeadlineExceeded'],
    ])
    assert.equal(
      (await conditionOf('late', 'Failed'))?.message,
      'Job was active longer than specified deadline',
    )
    await until90(async () => (await podsOf('late', '{.metadata.name}')).length === 0, 'its pod is gone')
    await until90(
      async () => (await platform.kubectl('red', 'get', 'job', 'fleeting')).code !== 0,
      'it is gone',
    )
    await until90(async () => (await podsOf('fleeting', '{.metadata.name}')).length === 0, 'so is its pod')
  })

  test('with podReplacementPolicy Failed a pod that ends slowly keeps its place until it has ended', async () => {
    const slowly = 'trap "sleep 6; exit 1" TERM; sleep 3600 & wait'
    await apply(
      job('slow', slowly, { podReplacementPolicy: 'Failed' }, { terminationGracePeriodSeconds: 30 }),
    )
    await until90(async () => (await statusOf('slow')).ready === 1, 'it is ready')
    const [first = ''] = await podsOf('slow', '{.metadata.name}')
    await kubectl('delete', 'pod', first, '--wait=false')
    await until90(async () => (await statusOf('slow')).terminating === 1, 'it is ending')
    assert.deepEqual(await podsOf('slow', '{.metadata.name}'), [first])
    await until90(async () => {
      const names = await podsOf('slow', '{.metadata.name}')
      return names.length > 0 && !names.includes(first)
    }, 'another has its place')
    assert.equal((await statusOf('slow')).failed, 1)
    await kubectl('delete', 'job', 'slow', '--wait=false')
  })
})
