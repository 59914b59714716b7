import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { decideIsolation, decidePlacement, type TenantRisk } from './isolation-class.ts'

const risks = fc.record(
  {
    trust: fc.constantFrom('trusted' as const, 'untrusted' as const),
    code: fc.constantFrom('own' as const, 'unaudited' as const, 'arbitrary' as const),
    sensitivity: fc.constantFrom('normal' as const, 'regulated' as const),
    noisy: fc.boolean(),
    needs: fc.subarray(['own-machines', 'sandbox', 'native-kernel'] as const),
  },
  { requiredKeys: [] },
) as fc.Arbitrary<TenantRisk>

test('the table of the design holds, row by row', () => {
  const rows: [TenantRisk, string][] = [
    [{}, 'sandboxed'],
    [{ trust: 'untrusted' }, 'sandboxed'],
    [{ trust: 'trusted' }, 'shared'],
    [{ trust: 'trusted', code: 'own' }, 'shared'],
    [{ trust: 'trusted', noisy: true }, 'affinity'],
    [{ trust: 'trusted', sensitivity: 'regulated' }, 'affinity'],
    [{ trust: 'trusted', code: 'unaudited' }, 'sandboxed'],
    [{ trust: 'untrusted', code: 'own' }, 'sandboxed'],
    [{ trust: 'untrusted', code: 'arbitrary' }, 'dedicated'],
    [{ trust: 'untrusted', sensitivity: 'regulated' }, 'dedicated'],
  ]
  assert.deepEqual(
    rows.map(([risk]) => decideIsolation(risk).class),
    rows.map(([, expected]) => expected),
  )
})

test('an untrusted tenant never shares a kernel, whatever else is said of it', () => {
  fc.assert(
    fc.property(risks, (risk) => {
      const decision = decideIsolation({ ...risk, trust: 'untrusted' })
      assert.ok(decision.class === undefined || ['sandboxed', 'dedicated'].includes(decision.class))
    }),
  )
})

test('every decision has a reason', () => {
  fc.assert(fc.property(risks, (risk) => decideIsolation(risk).reasons.length > 0))
})

test('no engine that lacks the class is chosen, and the refusal says what is missing', () => {
  const can = { offered: true } as const
  const cannot = { offered: false, missing: ['runsc', 'a node pool of its own'] } as const
  const weak = {
    engine: 'local',
    classes: { shared: can, affinity: cannot, sandboxed: cannot, dedicated: cannot },
  }
  assert.deepEqual(decidePlacement('shared', [weak]), { engine: 'local' })
  assert.deepEqual(decidePlacement('dedicated', [weak]), {
    engine: undefined,
    refusal:
      'No engine offers the isolation class "dedicated": engine "local" lacks runsc, a node pool of its own',
  })
})
