import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { allBits, Column, numbersIn } from '../bits.ts'
import { type Packet, Ruleset } from './ruleset.ts'

const text = readFileSync(new URL('testdata/router-ruleset.json', import.meta.url), 'utf8')
const red = { iifname: 'bh1', etherSaddr: '02:42:0a:80:00:02', saddr: '10.128.0.2' }
const blue = { interfaceName: 'bh2', address: '10.128.16.2' }

function packet(change: Partial<Packet>): Packet {
  return {
    ...red,
    oifname: blue.interfaceName,
    daddr: blue.address,
    l4proto: 'tcp',
    dport: 80,
    nfproto: 'ipv4',
    ctState: 'new',
    ...change,
  }
}

const through = ['prerouting', 'forward', 'postrouting'] as const

test('a pod cannot reach a pod of another tenant', () => {
  const { verdict, by } = new Ruleset(text).evaluate(packet({}), through)
  assert.equal(verdict, 'drop')
  assert.match(by, /deny/)
})

test('a pod reaches a pod of its own tenant', () => {
  assert.equal(
    new Ruleset(text).evaluate(packet({ daddr: red.saddr, oifname: 'bh1' }), through).verdict,
    'accept',
  )
})

test('a forged source address, IPv6 and the metadata address are dropped at the entrance', () => {
  const ruleset = new Ruleset(text)
  for (const change of [
    { saddr: blue.address },
    { etherSaddr: '02:00:00:00:00:01' },
    { nfproto: 'ipv6' as const },
    { daddr: '169.254.169.254' },
  ])
    assert.match(ruleset.evaluate(packet(change), ['prerouting']).by, /origin/, JSON.stringify(change))
})

test('of the router itself only the resolver answers', () => {
  const ruleset = new Ruleset(text)
  const to = (daddr: string, dport: number) =>
    ruleset.evaluate(packet({ daddr, dport, l4proto: 'udp' }), ['prerouting', 'input']).verdict
  assert.deepEqual(
    [to('169.254.1.1', 53), to('169.254.1.1', 22), to('10.0.0.1', 53)],
    ['accept', 'drop', 'drop'],
  )
})

test('a ruleset that was flushed lets packets through, and the model says so', () => {
  assert.equal(new Ruleset('{"nftables":[]}').evaluate(packet({}), through).verdict, 'accept')
})

test('an expression that the model does not know makes the answer unknown, never a drop', () => {
  const document = JSON.parse(text) as { nftables: { rule?: { chain: string; expr: unknown[] } }[] }
  for (const { rule } of document.nftables) if (rule?.chain === 'origin') rule.expr.unshift({ tproxy: {} })
  assert.equal(new Ruleset(JSON.stringify(document)).evaluate(packet({}), through).verdict, 'unknown')
})

/** One forward chain that accepts what matches and drops the rest. */
function accepting(match: object, sets: object[] = []): Ruleset {
  const base = { family: 'inet', table: 't' }
  const chain = { ...base, name: 'f', type: 'filter', hook: 'forward', prio: 0, policy: 'drop' }
  return new Ruleset(
    JSON.stringify({
      nftables: [
        { table: { family: 'inet', name: 't' } },
        ...sets.map((set) => ({ set: { ...base, ...set } })),
        { chain },
        {
          rule: {
            ...base,
            chain: 'f',
            handle: 1,
            expr: [{ match: { op: '==', ...match } }, { accept: null }],
          },
        },
      ],
    }),
  )
}

test('ranges and prefixes hold what is within them, wherever they are written', () => {
  const saddr = { payload: { protocol: 'ip', field: 'saddr' } }
  const within = { range: ['10.128.0.1', '10.128.0.3'] }
  const prefix = { prefix: { addr: '10.128.0.0', len: 30 } }
  const elsewhere = { range: ['10.128.0.3', '10.255.255.255'] }
  for (const right of [within, prefix, { set: ['1.1.1.1', within] }, '@s'])
    assert.equal(
      accepting({ left: saddr, right }, [{ name: 's', elem: [prefix, '9.9.9.9'] }]).evaluate(packet({}), [
        'forward',
      ]).verdict,
      'accept',
      JSON.stringify(right),
    )
  for (const right of [elsewhere, { set: [elsewhere] }, '@s', { prefix: { addr: '10.128.0.0', len: 31 } }])
    assert.equal(
      accepting({ left: saddr, right }, [{ name: 's', elem: [elsewhere] }]).evaluate(packet({}), ['forward'])
        .verdict,
      'drop',
      JSON.stringify(right),
    )
  const wide = { range: ['0.0.0.0', '255.255.255.255'] }
  assert.equal(accepting({ left: saddr, right: wide }).evaluate(packet({}), ['forward']).verdict, 'accept')
})

test("a rule about one protocol's port is about no other protocol", () => {
  const left = { payload: { protocol: 'udp', field: 'dport' } }
  const ruleset = accepting({ left, right: { range: [1, 65_535] } })
  const verdict = (l4proto: Packet['l4proto']) => ruleset.evaluate(packet({ l4proto }), ['forward']).verdict
  assert.deepEqual([verdict('tcp'), verdict('udp'), verdict('icmp')], ['drop', 'accept', 'drop'])
})

test('a concatenation with a range is compared part by part, and one with what the model does not know is unknown', () => {
  const left = { concat: [{ meta: { key: 'l4proto' } }, { payload: { protocol: 'th', field: 'dport' } }] }
  const verdict = (change: Partial<Packet>, part: object) =>
    accepting({ left, right: '@s' }, [{ name: 's', elem: [{ concat: ['tcp', part] }] }]).evaluate(
      packet(change),
      ['forward'],
    ).verdict
  const range = { range: [80, 90] }
  assert.equal(verdict({ dport: 85 }, range), 'accept')
  assert.equal(verdict({ dport: 91 }, range), 'drop')
  assert.equal(verdict({ dport: 85, l4proto: 'udp' }, range), 'drop')
  assert.equal(verdict({}, { invented: 1 }), 'unknown')
})

/** Rules of all the shapes that the model knows, over few addresses, links and marks, so that they meet. */
const address = fc.constantFrom('10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.1.1')
const prefix = fc.constantFrom({ prefix: { addr: '10.0.0.0', len: 30 } }, { range: ['10.0.0.2', '10.0.1.1'] })
const link = fc.constantFrom('a', 'b', 'c')
const mark = fc.nat(3)
const ip = (field: string) => ({ payload: { protocol: 'ip', field } })
const meta = (key: string) => ({ meta: { key } })
const ctMark = { ct: { key: 'mark' } }
const source = fc.constantFrom<object>(ip('saddr'), ip('daddr'))
const verdict = fc.constantFrom<object>(
  { accept: null },
  { drop: null },
  { return: null },
  { continue: null },
  { jump: { target: 'other' } },
  { goto: { target: 'other' } },
)
const statement = fc.oneof(
  { weight: 3, arbitrary: verdict },
  fc
    .tuple(
      fc.constantFrom('==', '!='),
      source,
      fc.oneof<fc.Arbitrary<unknown>[]>(address, prefix, fc.constant('@some')),
    )
    .map(([op, left, right]) => ({ match: { op, left, right } })),
  fc
    .tuple(fc.constantFrom('==', '!='), link)
    .map(([op, right]) => ({ match: { op, left: meta('oifname'), right } })),
  fc
    .constantFrom('==', '!=')
    .map((op) => ({ match: { op, left: { concat: [meta('mark'), ctMark] }, right: '@pair' } })),
  fc
    .constantFrom('==', '!=')
    .map((op) => ({ match: { op, left: { concat: [meta('oifname'), ip('daddr')] }, right: '@place' } })),
  fc
    .tuple(fc.constantFrom<object>(meta('mark'), ctMark), source)
    .map(([key, from]) => ({ mangle: { key, value: { map: { key: from, data: '@mark' } } } })),
  mark.map((value) => ({ mangle: { key: ctMark, value } })),
  source.map((key) => ({ vmap: { key, data: '@fate' } })),
)
const rules = fc.array(fc.array(statement, { minLength: 1, maxLength: 4 }), { maxLength: 5 })
const element = fc.oneof<fc.Arbitrary<unknown>[]>(address, prefix)

test('many packets at once meet the fate that each meets', () => {
  const scene = fc.record({
    first: rules,
    other: rules,
    some: fc.array(element, { maxLength: 3 }),
    marks: fc.array(fc.tuple(element, mark), { maxLength: 4 }),
    fates: fc.array(fc.tuple(element, verdict), { maxLength: 3 }),
    pair: fc.array(fc.tuple(mark, mark), { maxLength: 4 }),
    place: fc.array(fc.tuple(link, element), { maxLength: 4 }),
    policy: fc.constantFrom('accept', 'drop'),
    packets: fc.array(fc.record({ saddr: address, daddr: address, oifname: link }), {
      minLength: 1,
      maxLength: 6,
    }),
  })
  fc.assert(
    fc.property(scene, ({ first, other, some, marks, fates, pair, place, policy, packets }) => {
      const table = { family: 'inet', table: 't' }
      const named = (kind: string, name: string, elem: unknown) => ({ [kind]: { ...table, name, elem } })
      const chained = (chain: string, all: object[][]) =>
        all.map((expr, handle) => ({ rule: { ...table, chain, handle, expr } }))
      const ruleset = new Ruleset(
        JSON.stringify({
          nftables: [
            { table: { family: 'inet', name: 't' } },
            { chain: { ...table, name: 'first', hook: 'forward', prio: 0, type: 'filter', policy } },
            { chain: { ...table, name: 'other' } },
            named('set', 'some', some),
            named('map', 'mark', marks),
            named('map', 'fate', fates),
            named(
              'set',
              'pair',
              pair.map((concat) => ({ concat })),
            ),
            named(
              'set',
              'place',
              place.map((concat) => ({ concat })),
            ),
            ...chained('first', first),
            // Nothing jumps back, or it would never end.
            ...chained(
              'other',
              other.map((expr) =>
                expr.filter((each) => !('jump' in each || 'goto' in each || 'vmap' in each)),
              ),
            ),
          ],
        }),
      )
      const rest: Packet = {
        ...{ iifname: 'x', oifname: '', etherSaddr: '', saddr: '', daddr: '' },
        ...{ l4proto: 'tcp', dport: 80, nfproto: 'ipv4', ctState: 'new' },
      }
      const column = (field: 'saddr' | 'daddr' | 'oifname') =>
        new Column(packets.map((packet) => packet[field]))
      const dropped = ruleset.dropped(
        { ...rest, saddr: column('saddr'), daddr: column('daddr'), oifname: column('oifname') },
        ['forward'],
        allBits(packets.length),
      )
      assert.deepEqual(
        [...numbersIn(dropped)],
        packets.flatMap((packet, at) =>
          ruleset.evaluate({ ...rest, ...packet }, ['forward']).verdict === 'drop' ? [at] : [],
        ),
      )
    }),
    { numRuns: 1_500 },
  )
})

test('limits that a packet counts for are those whose rule drops what is over them', () => {
  const table = { family: 'inet', table: 't' }
  const limit = (name: string, rate: number, more: object = {}) => ({
    limit: { ...table, name, rate, per: 'second', inv: true, rate_unit: 'bytes', ...more },
  })
  const rule = (...expr: object[]) => ({ rule: { ...table, chain: 'c', handle: 1, expr } })
  const byMark = { map: { key: { meta: { key: 'mark' } }, data: '@m' } }
  const marked = rule({ mangle: { key: { meta: { key: 'mark' } }, value: 7 } })
  const ask = (...rules: object[]) =>
    new Ruleset(
      JSON.stringify({
        nftables: [
          { table: { family: 'inet', name: 't' } },
          { chain: { ...table, name: 'c', type: 'filter', hook: 'prerouting', prio: 0, policy: 'accept' } },
          { map: { ...table, name: 'm', type: 'mark', map: 'limit', elem: [[7, 'mine']] } },
          limit('mine', 1_000),
          limit('until', 5, { inv: false }),
          limit('slow', 60, { per: 'minute' }),
          ...rules,
        ],
      }),
    ).limitsOn(packet({}), ['prerouting'])
  const mine = [{ name: 'mine', rate: 1_000, unit: 'bytes' }]
  assert.deepEqual(ask(marked, rule({ limit: byMark }, { counter: 'x' }, { drop: null })), mine)
  assert.deepEqual(ask(rule({ limit: 'mine' }, { drop: null })), mine)
  for (const [what, ...rules] of [
    ['nobody has marked it', rule({ limit: byMark }, { drop: null })],
    ['what is over is only counted', marked, rule({ limit: byMark }, { counter: 'x' })],
    ['it is accepted before', marked, rule({ accept: null }), rule({ limit: byMark }, { drop: null })],
    ['it is dropped anyway', rule({ limit: 'mine' }, { drop: null }), rule({ drop: null })],
    ['what is below is dropped', rule({ limit: 'until' }, { drop: null })],
    ['it is not by the second', rule({ limit: 'slow' }, { drop: null })],
    ['there is no such limit', rule({ limit: 'gone' }, { drop: null })],
  ] as const)
    assert.deepEqual(ask(...rules), [], what)
})
