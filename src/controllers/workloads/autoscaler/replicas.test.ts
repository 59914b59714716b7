import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { PodMetrics } from '../../../api/index.ts'
import { object } from '../../controllers.testkit.ts'
import type { MetricSpec, Pod } from '../../kinds.ts'
import { planReplicas } from './replicas.ts'

const NOW_MS = Date.parse('2026-01-01T02:00:00Z')
const TOLERANCE = { up: 0.1, down: 0.1 }

type Sketch = {
  /** Millicores; undefined when nobody knows. */
  uses?: number
  ready?: boolean
  phase?: 'Pending' | 'Running' | 'Failed'
  going?: true
  request?: string | undefined
}

function world(sketches: readonly Sketch[]) {
  const usage = new Map<string, PodMetrics>()
  const pods = sketches.map(({ uses, ready = true, phase = 'Running', going, ...rest }, index): Pod => {
    const name = `p${index}`
    const request = 'request' in rest ? rest.request : '1'
    if (uses !== undefined)
      usage.set(name, {
        timestamp: new Date(NOW_MS).toISOString(),
        window: '15.000s',
        containers: [
          { name: 'c', usage: { cpu: `${uses}m`, memory: `${uses}Mi` } },
          { name: 'side', usage: { cpu: '0', memory: '0' } },
        ],
      } as unknown as PodMetrics)
    const resources = request === undefined ? {} : { requests: { cpu: request, memory: '1Gi' } }
    return object(
      'Pod',
      'v1',
      name,
      {
        spec: {
          containers: [
            { name: 'c', resources },
            { name: 'side', resources: { requests: { cpu: '0', memory: '0' } } },
          ],
        },
        status: {
          phase,
          startTime: '2026-01-01T00:00:00Z',
          conditions: [
            {
              type: 'Ready',
              status: ready ? 'True' : 'False',
              lastTransitionTime: '2026-01-01T00:00:05Z',
            },
          ],
        },
      },
      going ? { deletionTimestamp: '2026-01-01T01:59:00Z' } : {},
    )
  })
  return { pods, usage }
}

const utilization = (averageUtilization: number, name = 'cpu'): MetricSpec => ({
  type: 'Resource',
  resource: { name, target: { type: 'Utilization', averageUtilization } },
})
const average = (averageValue: string, name = 'cpu'): MetricSpec => ({
  type: 'Resource',
  resource: { name, target: { type: 'AverageValue', averageValue } },
})

function plan(sketches: readonly Sketch[], metric: MetricSpec, currentReplicas = sketches.length) {
  const result = planReplicas({
    ...world(sketches),
    metric,
    currentReplicas,
    statusReplicas: currentReplicas,
    tolerance: TOLERANCE,
    nowMs: NOW_MS,
  })
  return 'failure' in result ? result.failure : result.replicas
}
const using = (...millis: number[]): Sketch[] => millis.map((uses) => ({ uses }))

test('the number follows what pods use of what they request', () => {
  assert.equal(plan(using(300, 500, 700), utilization(30)), 5)
  assert.equal(plan(using(100, 300, 500, 250, 250), utilization(50)), 3)
  assert.equal(plan(using(1_010, 1_030, 1_020), utilization(100)), 3, 'within the tolerance')
  assert.equal(plan(using(1_110, 1_110, 1_110), utilization(100)), 4)
  assert.equal(plan(using(500, 500), average('250m')), 4)
  assert.equal(plan(using(512, 512), average('256Mi', 'memory')), 4)
})

test('pods that are not ready or not measured make no change larger', () => {
  const metric = utilization(30)
  // Three would ask for five; the one that starts is taken to use nothing.
  assert.equal(plan([{ uses: 300, ready: false }, ...using(500, 700)], metric), 4)
  assert.equal(plan([{ uses: 400, ready: false }, { uses: 500, ready: false }, { uses: 700 }], metric), 3)
  assert.equal(plan([{ phase: 'Pending' }, ...using(500, 700)], metric), 4)
  // Missing ones count as idle upwards, and as using all they request downwards.
  assert.equal(plan([{}, ...using(250, 250)], utilization(100)), 2)
  assert.equal(plan([{}, ...using(100, 250)], utilization(50)), 3)
  assert.equal(plan([{}, ...using(350)], utilization(30)), 2, 'not even the direction is certain')
})

test('pods that have failed or are going do not count', () => {
  assert.equal(plan([...using(500, 700), { uses: 10_000, phase: 'Failed' }], utilization(50), 2), 3)
  assert.equal(plan([...using(500, 700), { uses: 10_000, going: true }], utilization(50), 2), 3)
})

test('what cannot be computed is told', () => {
  assert.match(
    String(plan([{}], utilization(50))),
    /^unable to get metrics for resource cpu: no metrics returned/,
  )
  assert.match(
    String(plan([{ uses: 1, request: undefined }], utilization(50))),
    /^failed to get cpu utilization: missing request for cpu in container c of Pod p0$/,
  )
  assert.match(String(plan([], utilization(50))), /^no pods returned by selector/)
})

test('one container can be followed alone', () => {
  const metric = (container: string): MetricSpec => ({
    type: 'ContainerResource',
    containerResource: { name: 'cpu', container, target: { type: 'Utilization', averageUtilization: 50 } },
  })
  assert.equal(plan(using(1_000), metric('c')), 2)
  assert.match(String(plan(using(1_000), metric('other'))), /no metrics returned/)
})

test('whatever pods do, more use never asks for fewer pods, and nothing is asked for that is no number', () => {
  const sketch = fc.record({ uses: fc.nat(5_000), ready: fc.boolean() }, { requiredKeys: [] })
  fc.assert(
    fc.property(
      fc.array(sketch, { minLength: 1, maxLength: 10 }),
      fc.integer({ min: 1, max: 300 }),
      fc.nat(3_000),
      (sketches, target, more) => {
        const before = plan(sketches, utilization(target))
        if (typeof before === 'string') return
        assert.ok(Number.isSafeInteger(before) && before >= 0)
        const busier = sketches.map((each) =>
          each.uses === undefined ? each : { ...each, uses: each.uses + more },
        )
        const after = plan(busier, utilization(target))
        assert.ok(typeof after === 'number' && after >= before, `${before} and then ${after}`)
      },
    ),
  )
})
