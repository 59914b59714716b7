import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { linkFilterLayer } from '../layers.ts'
import { runBpf } from './classic-bpf.ts'
import { type PodLink, parseFilters } from './network.ts'

/** What iproute2 6.1 printed about the link of a pod with the address 10.128.0.1, in the tenant's 10.128.0.0/21. */
const text = readFileSync(new URL('testdata/link-filters.json', import.meta.url), 'utf8')

type Entry = {
  kind: string
  protocol: string
  pref: number
  chain: number
  options?: Record<string, unknown>
}

function changed(change: (entries: Entry[]) => unknown): string {
  const entries = JSON.parse(text) as Entry[] // the file above
  change(entries)
  return JSON.stringify(entries)
}

const link = (address: string, mac: string, egressFilters: PodLink['egressFilters'] = []): PodLink => ({
  interfaceName: 'bh1',
  address,
  mac,
  egressFilters,
  ingressFilters: [],
})
const stranger = link('10.128.8.1', '02:42:0a:80:08:01')
const neighbour = link('10.128.7.254', '02:42:0a:80:07:fe')

/** Whether the layer holds for a victim with these filters. */
function holds(filters: string, attacker: PodLink): boolean {
  const tenant = (links: PodLink[]) => ({ name: 'x', isolationClass: 'shared', processes: [], links })
  const victim = link('10.128.0.1', '02:42:0a:80:00:01', parseFilters(filters))
  return linkFilterLayer(tenant([attacker]), tenant([victim])).holds
}

test("a link's filters are read as the tool prints them", () => {
  const [program, ...others] = parseFilters(text)
  assert.deepEqual(others, [])
  assert.equal(program?.length, 14)
  assert.deepEqual(program?.[0], { code: 0x80, jt: 0, jf: 0, k: 0 })
  assert.equal(runBpf(program ?? [], new Uint8Array(13)), 2)
})

test("the filter of a pod drops what another tenant's pod sends, and not what its neighbour sends", () => {
  assert.ok(holds(text, stranger))
  assert.ok(!holds(text, neighbour))
})

test('a link without a filter is no layer', () => {
  for (const nothing of ['[]', '', '{}', 'null', '[{"protocol":"all","pref":1,"kind":"bpf","chain":0}]'])
    assert.ok(!holds(nothing, stranger), nothing)
})

test('a filter that may not be asked, or does not decide, is no layer', () => {
  const open = (entry: Entry): Entry => ({
    ...entry,
    options: { ...entry.options, bytecode: { length: 1, insns: [{ code: 6, jt: 0, jf: 0, k: 0 }] } },
  })
  const changes: Record<string, (entries: Entry[], filter: Entry, options: Record<string, unknown>) => void> =
    {
      'another one lets everything pass first': (entries, filter) => entries.unshift(open(filter)),
      'another kind comes first': (entries, filter) => entries.unshift({ ...filter, kind: 'u32' }),
      'it is not asked about every protocol': (_, filter) => (filter.protocol = 'ip'),
      'it is on a chain that something must lead to': (_, filter) => (filter.chain = 5),
      'its answer is only a class': (_, __, options) => delete options['direct-action'],
      'only the hardware runs it': (_, __, options) => (options['skip_sw'] = true),
      'it is a program of another kind': (_, __, options) => delete options['bytecode'],
      'it lets everything pass': (entries, filter) => entries.splice(1, 1, open(filter)),
    }
  for (const [what, change] of Object.entries(changes)) {
    const harmed = changed((entries) => {
      const filter = entries[1]
      assert.ok(filter?.options)
      change(entries, filter, filter.options)
    })
    assert.ok(!holds(harmed, stranger), what)
  }
})

test('whatever the tool prints, reading it does not fail', () => {
  const odd = fc.oneof(fc.anything(), fc.constantFrom('__proto__', -1, 2 ** 32, 1.5, '6'))
  fc.assert(
    fc.property(fc.json(), odd, odd, (json, one, other) => {
      assert.ok(Array.isArray(parseFilters(json)))
      const insns = [{ code: one, jt: other, jf: 0, k: one }]
      const harmed = changed((entries) => Object.assign(entries[1]?.options ?? {}, { bytecode: { insns } }))
      for (const program of parseFilters(harmed)) void runBpf(program, new Uint8Array(60))
    }),
    { numRuns: 300 },
  )
})
