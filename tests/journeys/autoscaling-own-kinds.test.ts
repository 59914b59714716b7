import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { FakeClock, MiB, until } from '../../src/stdx/index.ts'
import { kubectlMissing } from '../conformance/kubectl.ts'
import { PretendTenant } from './pretend-tenant.ts'

const DEFINITION = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: fleets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: fleets, singular: fleet, kind: Fleet}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale:
        specReplicasPath: .spec.size
        statusReplicasPath: .status.size
        labelSelectorPath: .status.selector
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {size: {type: integer}}}
          status: {type: object, properties: {size: {type: integer}, selector: {type: string}}}
`
const FLEET = 'apiVersion: example.com/v1\nkind: Fleet\nmetadata: {name: boats}\nspec: {size: 2}\n'
const SCALER = `
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: boats}
spec:
  scaleTargetRef: {apiVersion: example.com/v1, kind: Fleet, name: boats}
  minReplicas: 2
  maxReplicas: 10
  metrics:
  - {type: Resource, resource: {name: memory, target: {type: AverageValue, averageValue: 100Mi}}}
  behavior:
    scaleUp: {stabilizationWindowSeconds: 0, policies: [{type: Pods, value: 3, periodSeconds: 60}]}
    scaleDown: {stabilizationWindowSeconds: 120}
`
const POD = (name: string) =>
  `apiVersion: v1\nkind: Pod\nmetadata: {name: ${name}, labels: {fleet: boats}}\nspec: {containers: [{name: c, image: "c:1"}]}\n`

describe(
  'autoscaling of a tenant’s own kind, on a clock that the test moves',
  { skip: kubectlMissing && 'kubectl is not installed for this machine' },
  () => {
    const clock = new FakeClock(Date.parse('2026-01-01T00:00:00Z'))
    let tenant: PretendTenant
    const ok = (args: readonly string[], input = '') => tenant.ok(args, input)
    const sizeOf = () => ok(['get', 'fleet', 'boats', '-o', 'jsonpath={.spec.size}'])
    const conditions = async () => {
      const text = await ok(['get', 'hpa', 'boats', '-o', 'jsonpath={.status.conditions}'])
      return new Map(
        (JSON.parse(text || '[]') as { type: string; status: string; reason: string }[]).map(
          ({ type, status, reason }) => [type, `${status} ${reason}`],
        ),
      )
    }
    /** Lets time pass until the autoscaler has come to something. */
    const passUntil = (condition: () => Promise<boolean>) =>
      until(
        async () => {
          clock.advance(5_000)
          await tenant.settled()
          return condition()
        },
        { timeoutMs: 30_000, everyMs: 1 },
      )

    before(async () => {
      tenant = await PretendTenant.start('shop', { clock })
      await ok(['create', '-f', '-'], DEFINITION)
      await until(async () => {
        clock.advance(100)
        return (await tenant.kubectl.run(['get', 'fleets'])).code === 0
      })
    })
    after(async () => tenant?.[Symbol.asyncDispose]())

    test('without a target, or without a number of pods, it says what is missing', async () => {
      await ok(['create', '-f', '-'], SCALER)
      await passUntil(async () => (await conditions()).get('AbleToScale') === 'False FailedGetScale')
      await ok(['create', '-f', '-'], FLEET)
      // Nobody has written yet which pods are meant.
      await passUntil(async () => (await conditions()).get('ScalingActive') === 'False InvalidSelector')
      await ok([
        'patch',
        'fleet',
        'boats',
        '--subresource=status',
        '--type=merge',
        '-p',
        '{"status":{"size":2,"selector":"fleet=boats"}}',
      ])
      await passUntil(
        async () => (await conditions()).get('ScalingActive') === 'False FailedGetResourceMetric',
      )
    })

    test('it grows no faster than its policies allow, up to its maximum', async () => {
      for (const name of ['one', 'two']) await ok(['create', '-f', '-'], POD(name))
      tenant.engine.memoryBytes = 400 * MiB
      await passUntil(async () => (await sizeOf()) === '5')
      assert.equal((await conditions()).get('ScalingLimited'), 'True ScaleUpLimit')
      for (const name of ['three', 'four', 'five']) await ok(['create', '-f', '-'], POD(name))
      await passUntil(async () => (await sizeOf()) === '8')
      await passUntil(async () => (await sizeOf()) === '10')
      assert.equal((await conditions()).get('ScalingLimited'), 'True TooManyReplicas')
      assert.match(await ok(['get', 'hpa', 'boats']), /boats +Fleet\/boats +memory: \S+\/100Mi +2 +10 /)
    })

    test('it shrinks when less was enough for long enough, down to its minimum', async () => {
      tenant.engine.memoryBytes = 10 * MiB
      await passUntil(async () => (await conditions()).get('AbleToScale') === 'True ScaleDownStabilized')
      assert.equal(await sizeOf(), '10')
      await passUntil(async () => (await sizeOf()) === '2')
      // A change that is too small to matter.
      tenant.engine.memoryBytes = 105 * MiB
      for (let times = 0; times < 5; times += 1) {
        clock.advance(15_000)
        await tenant.settled()
      }
      assert.equal(await sizeOf(), '2')
    })

    test('its own size of zero switches it off', async () => {
      await ok(['scale', 'fleet', 'boats', '--replicas=0'])
      await passUntil(async () => (await conditions()).get('ScalingActive') === 'False ScalingDisabled')
      assert.equal(await sizeOf(), '0')
      assert.match(
        await tenant.refused(['patch', 'hpa', 'boats', '--type=merge', '-p', '{"spec":{"minReplicas":0}}']),
        /spec.minReplicas: Invalid value: 0: must be greater than or equal to 1/,
      )
    })
  },
)
