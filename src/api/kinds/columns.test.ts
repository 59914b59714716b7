import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  jobDefinition,
  type KindDefinition,
  type KubeObject,
  controllerRevisionDefinition,
  eventDefinition,
  horizontalPodAutoscalerDefinition,
  podDefinition,
  renderDuration,
  serviceDefinition,
  deploymentDefinition,
} from '../index.ts'

const NOW = Date.parse('2026-01-01T01:00:00Z')

function row(kind: KindDefinition, object: object): Record<string, unknown> {
  const metadata = {
    name: 'x',
    creationTimestamp: '2026-01-01T00:00:00Z',
    ...(object as { metadata?: object }).metadata,
  }
  const full = { ...object, metadata } as unknown as KubeObject
  return Object.fromEntries(kind.columns.map((column) => [column.name, column.cell(full, NOW)]))
}

const spec = { containers: [{ name: 'a' }, { name: 'b' }] }
const running = { running: { startedAt: '2026-01-01T00:00:00Z' } }
const terminated = (exitCode: number, reason?: string, at = '2026-01-01T00:57:00Z') => ({
  terminated: { exitCode, ...(reason ? { reason } : {}), finishedAt: at },
})
const status = (name: string, state: object, more: object = {}) => ({
  name,
  state,
  ready: 'running' in state,
  restartCount: 0,
  image: '',
  imageID: '',
  ...more,
})
const cells = (podStatus: object, more: object = {}) => {
  const { Ready, Status, Restarts } = row(podDefinition, { spec, status: podStatus, ...more })
  return [Ready, Status, Restarts]
}

test('a pod’s row says what kubectl users expect', () => {
  assert.deepEqual(
    row(podDefinition, { spec: { ...spec, nodeName: 'n' }, status: { phase: 'Running', podIP: '10.0.0.2' } }),
    {
      Name: 'x',
      Ready: '0/2',
      Status: 'Running',
      Restarts: '0',
      Age: '60m',
      IP: '10.0.0.2',
      Node: 'n',
      'Nominated Node': '<none>',
      'Readiness Gates': '<none>',
    },
  )
})

test('a pod’s status is one word for what its containers do', () => {
  const both = (first: object, second: object, phase = 'Running') => ({
    phase,
    containerStatuses: [first, second],
  })
  const a = status('a', running)
  assert.deepEqual(cells({ phase: 'Pending' }), ['0/2', 'Pending', '0'])
  assert.deepEqual(cells(both(a, status('b', running))), ['2/2', 'Running', '0'])
  assert.deepEqual(
    cells(
      both(
        a,
        status(
          'b',
          { waiting: { reason: 'CrashLoopBackOff' } },
          { restartCount: 4, lastState: terminated(1) },
        ),
      ),
    ),
    ['1/2', 'CrashLoopBackOff', '4 (3m ago)'],
  )
  assert.deepEqual(
    cells(
      both(status('a', terminated(0, 'Completed')), status('b', terminated(0, 'Completed')), 'Succeeded'),
    ),
    ['0/2', 'Completed', '0'],
  )
  assert.deepEqual(cells(both(a, status('b', terminated(0, 'Completed')))), ['1/2', 'NotReady', '0'])
  assert.deepEqual(cells(both(status('a', terminated(137)), a)), ['1/2', 'ExitCode:137', '0'])
  assert.deepEqual(cells({ phase: 'Failed', reason: 'Evicted' }), ['0/2', 'Evicted', '0'])
})

test('a pod that starts shows its init containers, and one that goes shows that', () => {
  const initSpec = { ...spec, initContainers: [{ name: 'i' }, { name: 'side', restartPolicy: 'Always' }] }
  const init = (...initContainerStatuses: object[]) =>
    cells({ phase: 'Pending', initContainerStatuses }, { spec: initSpec })
  assert.deepEqual(init(status('i', running)), ['0/3', 'Init:0/2', '0'])
  assert.deepEqual(init(status('i', terminated(1, 'Error'))), ['0/3', 'Init:Error', '0'])
  assert.deepEqual(init(status('i', { waiting: { reason: 'ErrImagePull' } })), [
    '0/3',
    'Init:ErrImagePull',
    '0',
  ])
  assert.deepEqual(init(status('i', terminated(0)), status('side', running, { started: true })), [
    '1/3',
    'Pending',
    '0',
  ])
  assert.deepEqual(cells({ phase: 'Running' }, { metadata: { deletionTimestamp: '2026-01-01T00:00:00Z' } }), [
    '0/2',
    'Terminating',
    '0',
  ])
})

test('other rows', () => {
  const template = {
    spec: {
      containers: [
        { name: 'a', image: 'nginx' },
        { name: 'b', image: 'redis' },
      ],
    },
  }
  assert.deepEqual(
    row(deploymentDefinition, {
      spec: { replicas: 3, selector: { matchLabels: { app: 'x' } }, template },
      status: { readyReplicas: 2, updatedReplicas: 3 },
    }),
    {
      Name: 'x',
      Ready: '2/3',
      'Up-to-date': 3,
      Available: 0,
      Age: '60m',
      Containers: 'a,b',
      Images: 'nginx,redis',
      Selector: 'app=x',
    },
  )
  assert.deepEqual(
    row(serviceDefinition, {
      spec: { type: 'ClusterIP', clusterIP: '10.0.0.1', ports: [{ port: 80, protocol: 'TCP' }] },
    }),
    {
      Name: 'x',
      Type: 'ClusterIP',
      'Cluster-IP': '10.0.0.1',
      'External-IP': '<none>',
      'Port(s)': '80/TCP',
      Age: '60m',
      Selector: '<none>',
    },
  )
  const job = {
    spec: { completions: 2, template },
    status: { succeeded: 1, startTime: '2026-01-01T00:59:00Z' },
  }
  const { Status, Completions, Duration, Selector } = row(jobDefinition, job)
  assert.deepEqual([Status, Completions, Duration, Selector], ['Running', '1/2', '60s', '<none>'])
})

test('durations have at most two units', () => {
  const seconds = [
    0, 119, 120, 121, 599, 600, 10_799, 10_800, 28_799, 28_800, 172_800, 176_400, 691_200, 63_072_000,
    94_694_400, 400_000_000,
  ]
  assert.deepEqual(
    seconds.map((s) => renderDuration(s * 1_000)),
    [
      '0s',
      '119s',
      '2m',
      '2m1s',
      '9m59s',
      '10m',
      '179m',
      '3h',
      '7h59m',
      '8h',
      '2d',
      '2d1h',
      '8d',
      '2y',
      '3y1d',
      '12y',
    ],
  )
  assert.deepEqual([renderDuration(-500), renderDuration(-5_000)], ['0s', '<invalid>'])
})

test('numbers are numbers in a row, where upstream has them so', () => {
  assert.equal(row(controllerRevisionDefinition, { revision: 3 })['Revision'], 3)
  assert.equal(row(eventDefinition, { involvedObject: {}, count: 7 })['Count'], 7)
  const scaleTargetRef = { kind: 'Deployment', name: 'd' }
  const cell = row(horizontalPodAutoscalerDefinition, { spec: { maxReplicas: 4, scaleTargetRef } })
  assert.deepEqual([cell['MinPods'], cell['MaxPods'], cell['Replicas']], ['<unset>', 4, 0])
})
