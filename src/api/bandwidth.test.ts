import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { BANDWIDTH_ANNOTATIONS, BANDWIDTH_BITS_MAX, BANDWIDTH_BITS_MIN, parseBandwidth } from './bandwidth.ts'
import { validatePod } from './kinds/pod-rules.ts'
import { validateTenant } from './kinds/tenant-rules.ts'
import type { Pod, Tenant } from './kinds/index.ts'
import type { WriteContext } from './kind.ts'

const context = { user: { kind: 'anonymous' } } as WriteContext // the rules look at nothing else

test('a bandwidth is a quantity of bits per second within what upstream takes', () => {
  assert.deepEqual(
    ['1k', '10M', '1.5G', '1P', '4Ki', '2e6'].map(parseBandwidth),
    [1_000, 10_000_000, 1_500_000_000, 1e15, 4_096, 2_000_000],
  )
  for (const wrong of ['', '999', '0', '-1M', '1001T', '2P', '10 M', '10Mbit', '1m', 'NaN', '1e400', '∞'])
    assert.equal(parseBandwidth(wrong), undefined, wrong)
  fc.assert(
    fc.property(fc.string(), (text) => {
      const bits = parseBandwidth(text)
      assert.ok(bits === undefined || (bits >= BANDWIDTH_BITS_MIN && bits <= BANDWIDTH_BITS_MAX))
    }),
  )
})

test('a pod with a bandwidth that is none is refused, and one that is there is left alone', () => {
  const pod = (annotations: Record<string, string>) =>
    ({
      metadata: { name: 'p', annotations },
      spec: { containers: [{ name: 'c', image: 'r.test/i' }] },
    }) as unknown as Pod // as far as the rules look
  const fields = (wanted: Pod, old?: Pod) => validatePod(wanted, context, old).map(({ field }) => field)
  const [ingress, egress] = [BANDWIDTH_ANNOTATIONS.ingress, BANDWIDTH_ANNOTATIONS.egress]
  assert.deepEqual(fields(pod({ [ingress]: '10M', [egress]: '1G' })), [])
  const wrong = pod({ [ingress]: 'fast', [egress]: '1' })
  const both = [ingress, egress].map((name) => `metadata.annotations[${name}]`)
  assert.deepEqual(fields(wrong), both)
  assert.deepEqual(fields(wrong, pod({})), both)
  assert.deepEqual(fields(wrong, wrong), [])
})

test("an operator's cap that is none is refused", () => {
  const tenant = (bandwidth: Record<string, string>) =>
    ({ spec: { trust: 'trusted', code: 'own', registries: [], network: { bandwidth } } }) as unknown as Tenant // as above
  assert.deepEqual(validateTenant(tenant({ ingress: '1G', egress: '500M' }), context), [])
  assert.deepEqual(
    validateTenant(tenant({ ingress: '10', egress: '5P' }), context).map(({ field }) => field),
    ['spec.network.bandwidth.ingress', 'spec.network.bandwidth.egress'],
  )
})
