import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parseTenantName, VERIFIER_USER } from '../api/index.ts'
import { FakeClock } from '../stdx/index.ts'
import { FairShare } from './fair-share.ts'
import {
  BYTES_PER_REQUEST,
  COST_MS_PER_REQUEST,
  DEFAULT_GATEWAY_LIMITS,
  type GatewayLimits,
  USER_SHARE,
} from './limits.ts'

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
    const admission = share.admitRequest(tenants[0]!, 'requests', `user-${i}`)
    if (!('release' in admission)) continue
    admitted++
    admission.release()
  }
  assert.equal(admitted, limits.tenant.requestsBurst)
  clock.advance(2_000)
  assert.ok('release' in share.admitRequest(tenants[0]!, 'requests'))
})

test('one user of a tenant cannot use up what the tenant has', () => {
  const clock = new FakeClock()
  const many: GatewayLimits = {
    ...limits,
    requestsMax: 100,
    tenant: { ...limits.tenant, requestsMax: 8, requestsBurst: 40, requestsPerSecond: 10 },
  }
  const share = new FairShare(many, clock)
  const ask = (user: string) => 'release' in share.admitRequest(tenants[0]!, 'requests', user)
  const admitted = Array.from({ length: 10 }, () => ask('greedy')).filter(Boolean).length
  assert.equal(admitted, 6)
  assert.ok(ask('modest'))
})

test('two users, or twenty, who ask and hold all they can leave room for one who has hardly asked', () => {
  for (const greedy of [2, 20]) {
    const clock = new FakeClock()
    const share = new FairShare(DEFAULT_GATEWAY_LIMITS, clock)
    const ask = (user: string) => share.admitRequest(tenants[0]!, 'requests', user)
    const flood = () => {
      for (let i = 0; i < 400; i++)
        for (let user = 0; user < greedy; user++) {
          const admission = ask(`greedy ${user}`)
          if ('release' in admission && i % 2 === 0) admission.release()
        }
    }
    flood()
    for (let second = 0; second < 5; second++) {
      const modest = ask('modest')
      assert.ok('release' in modest, `beside ${greedy}, in second ${second}`)
      modest.release()
      clock.advance(1_000)
      flood()
    }
  }
})

test('who keeps the processor busy waits for the next request, and nobody else of the tenant does', () => {
  const clock = new FakeClock()
  const share = new FairShare(DEFAULT_GATEWAY_LIMITS, clock)
  const once = (user: string) => {
    const admission = share.admitRequest(tenants[0]!, 'requests', user)
    if ('release' in admission) admission.release()
    return 'release' in admission
  }
  assert.ok(once('greedy'))
  share.chargeTime(tenants[0]!, 'greedy', COST_MS_PER_REQUEST)
  assert.ok(once('greedy'))
  share.chargeTime(tenants[0]!, 'greedy', COST_MS_PER_REQUEST * 320)
  assert.ok(!once('greedy'))
  assert.ok(once('modest'))
  clock.advance(10_000)
  assert.ok(once('greedy'))
  share.chargeTime(tenants[0]!, 'greedy', 999_999_999)
  assert.ok(!once('modest'), 'the tenant has had its share')
  clock.advance(60_000)
  assert.ok(once('modest'))
})

test('who moves megabytes waits for the next request, and others of the tenant do not', () => {
  const clock = new FakeClock()
  const share = new FairShare({ ...limits, tenant: { ...limits.tenant, requestsBurst: 40 } }, clock)
  const once = (user: string) => {
    const admission = share.admitRequest(tenants[0]!, 'requests', user)
    if ('release' in admission) admission.release()
    return 'release' in admission
  }
  assert.ok(once('greedy'))
  const meter = share.meter(tenants[0]!, 'greedy')
  for (let i = 0; i < 360; i++) meter(BYTES_PER_REQUEST / 10)
  assert.ok(!once('greedy'))
  assert.ok(once('modest'))
  clock.advance(3_600_000)
  assert.ok(once('greedy'))
})

test('names made up by the thousand share one place', () => {
  const clock = new FakeClock()
  const huge = { ...limits.tenant, requestsBurst: 10_000, requestsMax: 4_000 }
  const share = new FairShare({ ...limits, requestsMax: 10_000, tenant: huge }, clock)
  let admitted = 0
  for (let i = 0; i < 8_000; i++)
    if ('release' in share.admitRequest(tenants[0]!, 'requests', `user-${i}`)) admitted++
  assert.ok(admitted <= 4_000)
})

test("the verifier's user meets its limit long before anything is taken from its tenant or another", () => {
  const clock = new FakeClock()
  const share = new FairShare(DEFAULT_GATEWAY_LIMITS, clock)
  const [red, blue] = [parseTenantName('red'), parseTenantName('blue')]
  const admitted = (tenant: typeof red, user: string, most: number) => {
    let count = 0
    for (; count < most; count++) {
      const admission = share.admitRequest(tenant, 'requests', user)
      if ('refused' in admission) break
      admission.release()
    }
    return count
  }
  const { requestsBurst } = DEFAULT_GATEWAY_LIMITS.tenant
  const own = admitted(red, VERIFIER_USER, requestsBurst)
  assert.ok(own < requestsBurst / 10, String(own))
  assert.equal(admitted(blue, VERIFIER_USER, requestsBurst), own)
  assert.equal(admitted(red, 'alice', requestsBurst), requestsBurst * USER_SHARE)
  clock.advance(10_000)
  assert.equal(admitted(red, VERIFIER_USER, requestsBurst), own)
})
