import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parseTenantName } from '../api/index.ts'
import { FakeClock } from '../stdx/index.ts'
import { FairShare } from './fair-share.ts'
import { DEFAULT_GATEWAY_LIMITS } from './limits.ts'

const tenants = ['red', 'blue', 'green'].map(parseTenantName)
const limits = {
  ...DEFAULT_GATEWAY_LIMITS,
  requestsMax: 5,
  streamsMax: 5,
  tenant: {
    connectionsMax: 2,
    requestsMax: 2,
    streamsMax: 2,
    requestsPerSecond: 1,
    requestsBurst: 4,
    connectionsPerSecond: 1,
    connectionsBurst: 4,
  },
}

test('nobody gets more than a share, whatever is asked and given back in whatever order', () => {
  const step = fc.record({
    tenant: fc.constantFrom(...tenants),
    kind: fc.constantFrom('connections' as const, 'requests' as const, 'streams' as const),
    waitMs: fc.constantFrom(0, 0, 500, 5_000),
    give: fc.option(fc.nat(10), { nil: undefined }),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const clock = new FakeClock()
      const share = new FairShare(limits, clock)
      const held: { of: string; release: () => void }[] = []
      for (const { tenant, kind, waitMs, give } of steps) {
        clock.advance(waitMs)
        if (give !== undefined) {
          for (const { release } of held.splice(give, 1)) {
            release()
            release()
          }
          continue
        }
        const admission =
          kind === 'connections' ? share.admitConnection(tenant) : share.admitRequest(tenant, kind)
        if ('release' in admission) held.push({ of: `${tenant} ${kind}`, release: admission.release })
        else assert.equal(admission.refused.code, 429)
        const count = (text: string) => held.filter(({ of }) => of.endsWith(text)).length
        assert.ok(count(`${tenant} ${kind}`) <= 2)
        assert.ok(count(' requests') <= 5 && count(' streams') <= 5)
      }
      for (const { release } of held) release()
      clock.advance(60_000)
      assert.equal(share.tenantsTracked, 0)
    }),
  )
})

test('a tenant that comes and goes does not get its burst again', () => {
  const clock = new FakeClock()
  const share = new FairShare(limits, clock)
  let admitted = 0
  for (let i = 0; i < 20; i++) {
    const admission = share.admitRequest(tenants[0]!, 'requests')
    if (!('release' in admission)) continue
    admitted++
    admission.release()
  }
  assert.equal(admitted, limits.tenant.requestsBurst)
  clock.advance(2_000)
  assert.ok('release' in share.admitRequest(tenants[0]!, 'requests'))
})
