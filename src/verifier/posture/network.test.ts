import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { linkFilterLayer } from '../layers.ts'
import { runBpf } from './classic-bpf.ts'
import { type PodLink, parseDetour, parseFilters, parseQueue } from './network.ts'

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

/** What iproute2 6.1 printed about the link of a tenant, with a pod that has a cap of its own. */
const QUEUE = [
  'qdisc htb 1: root refcnt 2 r2q 10 default 0xffff direct_packets_stat 0 direct_qlen 32',
  'qdisc bfifo 7fff: parent 1:ffff limit 1250000b',
  'class htb 1:ffff parent 1:1 leaf 7fff: prio 0 rate 8Kbit ceil 1Gbit burst 131072b cburst 1250000b ',
  'class htb 1:1 root rate 1Gbit ceil 1Gbit burst 1250000b cburst 1250000b ',
  'class htb 1:1001 parent 1:1 leaf 9001: prio 0 rate 8Kbit ceil 40Mbit burst 131072b cburst 131072b ',
].join('\n')

test('a queue lets through what its classes can have together, and one that can be passed by is none', () => {
  assert.equal(parseQueue(QUEUE), 1e9)
  const changed: [string, string, string, number | undefined][] = [
    ['somebody has more besides', '$', '\nclass htb 1:9 root rate 2Gbit ceil 3Gbit burst 1b', 4e9],
    [
      'a class is guaranteed more than the whole',
      'rate 8Kbit ceil 40Mbit',
      'rate 5Gbit ceil 9Gbit',
      5e9 + 8e3,
    ],
    ['whoever has no class does not wait', 'class htb 1:ffff', 'class htb 1:fffe', undefined],
    ['there is no number for it', 'default 0xffff ', '', undefined],
    ['it is of another kind', 'qdisc htb 1: root', 'qdisc prio 1: root', undefined],
    ['a class hangs nowhere', '1:1001 parent 1:1 ', '1:1001 parent 1:7 ', undefined],
    ['a rate cannot be read', 'ceil 1Gbit burst 1250000b', 'ceil 1Zbit burst 1250000b', undefined],
  ]
  for (const [what, from, to, bits] of changed)
    assert.equal(parseQueue(from === '$' ? QUEUE + to : QUEUE.replace(from, to)), bits, what)
  fc.assert(fc.property(fc.string({ unit: 'grapheme-ascii' }), (any) => void parseQueue(any)))
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...QUEUE.split(/(?=[ \n])/)), { maxLength: 60 }), (parts) => {
      const bits = parseQueue(parts.join(''))
      assert.ok(bits === undefined || bits > 0)
    }),
  )
})

test('what a filter lets pass goes through another link only if nothing can pass it by', () => {
  const filter = (pref: number, options: object) => ({
    protocol: 'all',
    pref,
    kind: 'bpf',
    chain: 0,
    options,
  })
  const decides = (...ends: number[]) =>
    filter(1, {
      handle: '0x1',
      'direct-action': true,
      bytecode: { length: ends.length, insns: ends.map((k) => ({ code: 6, jt: 0, jf: 0, k })) },
    })
  const redirect = { kind: 'mirred', mirred_action: 'redirect', direction: 'egress', to_dev: 'send-0' }
  const leads = (change: object = {}, program = 0xffff_ffff) =>
    filter(2, {
      handle: '0x1',
      bytecode: { length: 1, insns: [{ code: 6, jt: 0, jf: 0, k: program }] },
      actions: [{ ...redirect, ...change }],
    })
  const ask = (...filters: object[]) => parseDetour(JSON.stringify(filters))
  assert.deepEqual(ask(decides(2, 0xffff_ffff), leads()), {
    link: 'send-0',
    waits: [{ code: 6, jt: 0, jf: 0, k: 0xffff_ffff }],
  })
  const wrong: Record<string, object[]> = {
    'the first one can end the matter': [decides(2, 0), leads()],
    'there is no second': [decides(2, 0xffff_ffff)],
    'another comes between': [decides(2, 0xffff_ffff), decides(0), leads()],
    'it copies': [decides(2), leads({ mirred_action: 'mirror' })],
    'it goes back in': [decides(2), leads({ direction: 'ingress' })],
    'it does something else': [decides(2), leads({ kind: 'gact' })],
  }
  for (const [what, filters] of Object.entries(wrong)) assert.equal(ask(...filters), undefined, what)
  fc.assert(fc.property(fc.json(), (any) => void parseDetour(any)))
})
