import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { TenantPosture } from '../layers.ts'
import { reversePathLayer } from '../platform-layers.ts'
import { syntheticWorld } from '../synthetic-world.testkit.ts'
import { parseSourceChecks, withoutGoneLinks } from './routing.ts'

const SAFE = ['rp_filter:1', 'accept_local:0', 'forwarding:1']
const linesOf = (name: string, values: readonly string[] = SAFE) => values.map((value) => `${name}/${value}`)
const text = (lines: readonly string[], there: readonly string[]) => [...lines, ...there, ''].join('\n')

/** The world as it is when of its links those named are left, of which that much could be read. */
function layerFor(links: readonly string[], lines: (name: string) => string[]) {
  const { tenants, machine } = syntheticWorld([{}, {}])
  const [tenant] = tenants
  assert.ok(tenant && !('problem' in machine.router))
  const all = tenant.links.map((link) => link.interfaceName)
  const left = links.filter((name) => all.includes(name))
  const sourceChecks = parseSourceChecks(text([...linesOf('all'), ...all.flatMap(lines)], ['all', ...left]))
  const { pods } = withoutGoneLinks({ ...machine.router, pods: tenant.links }, sourceChecks)
  const attacker: TenantPosture = { ...tenant, links: pods }
  return reversePathLayer(attacker, { ...machine, sourceChecks })
}
const linkNames = () => syntheticWorld([{}, {}]).tenants[0]?.links.map((link) => link.interfaceName) ?? []

test('a link that goes while its switches are read is no hole, wherever the reading had come to', () => {
  for (const read of [[], SAFE.slice(0, 1), SAFE.slice(0, 2), SAFE])
    assert.deepEqual(
      layerFor([], (name) => linesOf(name, read)).holds,
      true,
      `after ${read.length} of its switches`,
    )
})

test('a link that is still there is unsafe when a switch of it is turned, or cannot be read', () => {
  const names = linkNames()
  assert.ok(names.length > 0)
  for (const read of [
    [],
    SAFE.slice(0, 1),
    ['rp_filter:2', ...SAFE.slice(1)],
    ['rp_filter:1', 'accept_local:1', 'forwarding:1'],
  ])
    assert.equal(layerFor(names, (name) => linesOf(name, read)).holds, false, String(read))
  assert.equal(layerFor(names, (name) => linesOf(name)).holds, true)
})

test('when nothing can be read, no link counts as gone', () => {
  const { machine } = syntheticWorld([{}, {}])
  assert.ok(!('problem' in machine.router))
  for (const nothing of ['', '\n', 'sh: cannot\n'])
    assert.deepEqual(withoutGoneLinks(machine.router, parseSourceChecks(nothing)), machine.router)
})

test('no text makes a link safe that the text does not name with every switch', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.string(), fc.constantFrom(...linesOf('a'), 'a', 'all'))), (lines) => {
      for (const each of parseSourceChecks(lines.join('\n')))
        if (each.rpFilter === 1 && !each.acceptLocal)
          assert.ok(lines.join('\n').includes(`${each.interfaceName}/accept_local:0`))
    }),
  )
})
