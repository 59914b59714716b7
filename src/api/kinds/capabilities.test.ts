import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { droppedCapabilityProblem, effectiveCapabilities, HARMLESS_CAPABILITIES } from './capabilities.ts'

test('a capability can be dropped by any name that a runtime understands, and no other', () => {
  for (const name of ['ALL', 'all', 'NET_RAW', 'net_raw', 'CAP_CHOWN', 'cap_sys_admin'])
    assert.equal(droppedCapabilityProblem(name), undefined, name)
  for (const name of ['', 'CHWON', 'CAP_', 'CAP_CAP_CHOWN', 'NET_RAW ', '__proto__', 'constructor'])
    assert.match(droppedCapabilityProblem(name) ?? '', /must be ALL or the name/, name)
})

test('nothing but harmless capabilities is ever left, and nothing that was dropped by name', () => {
  const names = fc.array(fc.oneof(fc.constantFrom('ALL', 'SYS_ADMIN', ...HARMLESS_CAPABILITIES), fc.string()))
  fc.assert(
    fc.property(names, names, (add, drop) => {
      const left = effectiveCapabilities({ add, drop })
      for (const name of left) {
        assert.ok(HARMLESS_CAPABILITIES.includes(name))
        assert.ok(!drop.includes(name))
        assert.ok(add.includes(name) || !drop.includes('ALL'))
      }
    }),
  )
})
