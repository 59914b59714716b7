import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parseTenantNetwork } from '../../../../jail/index.ts'
import {
  type IsolationRules,
  isolationElements,
  mergeIsolation,
  noIsolation,
  parseRules,
  planIsolation,
  planIsolationRules,
  planRulesRepair,
  renderIsolationChanged,
  renderRuleset,
  renderTenantAdded,
  tenantPool,
} from './index.ts'

const PODS = Array.from({ length: 6 }, (_, at) => `00000000-0000-4000-8000-00000000000${at}`)
const canRunNft = (() => {
  try {
    execFileSync('unshare', ['--net', 'nft', 'list', 'ruleset'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})()

const places = fc.uniqueArray(fc.nat(PODS.length - 1), { maxLength: PODS.length })
const names = ['ga', 'gb', 'gc']
/** Ranges that follow each other, as a planner would write them. */
const ranges = (max: number) =>
  fc.uniqueArray(fc.integer({ min: 1, max }), { maxLength: 6 }).map((ends) => {
    const sorted = ends.toSorted((a, b) => a - b)
    return sorted.flatMap((first, at) => {
      const next = sorted[at + 1]
      return at % 2 === 0 ? [{ first, last: next === undefined ? first : next }] : []
    })
  })
const dotted = (address: number) => [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join('.')
const rule = fc.record(
  {
    peers: fc.record({
      groups: fc.uniqueArray(fc.constantFrom(...names), { maxLength: 3 }),
      blocks: fc.oneof(
        fc.constant([{ first: '0.0.0.0', last: '255.255.255.255' }]),
        ranges(2 ** 32 - 1).map((all) =>
          all.map(({ first, last }) => ({ first: dotted(first), last: dotted(last) })),
        ),
      ),
    }),
    ports: fc
      .tuple(ranges(65_535), ranges(65_535), fc.boolean())
      .map(([tcp, udp, sctp]) => [
        ...tcp.map((range) => ({ protocol: 'TCP', ...range })),
        ...udp.map((range) => ({ protocol: 'UDP', ...range })),
        ...(sctp ? [{ protocol: 'SCTP', first: 1, last: 65_535 }] : []),
      ]),
  },
  { requiredKeys: [] },
)
const isolated = (withWithin: boolean) =>
  fc
    .tuple(
      places,
      fc.array(fc.tuple(rule, fc.option(fc.constantFrom(...names), { nil: undefined })), { maxLength: 4 }),
    )
    .map(([pods, rules]) => {
      const half = Math.ceil(pods.length / 2)
      const all = rules.map(([each, within]) => (withWithin && within ? { ...each, within } : each))
      return [
        { pods: pods.slice(0, half), rules: all },
        { pods: pods.slice(half), rules: all.slice(1) },
      ]
    })
const isolation = fc.record({
  pods: fc.constant(PODS),
  groups: fc
    .tuple(...names.map(() => fc.record({ pods: places, resolver: fc.boolean() })))
    .map((groups) => groups.map((group, at) => ({ name: names[at], ...group }))),
  ingress: isolated(false),
  egress: isolated(true),
})

function rulesOf(document: object | undefined, index: number, before?: IsolationRules): IsolationRules {
  const parsed = parseTenantNetwork({ services: [], ...(document ? { isolation: document } : {}) })
  const plan = parsed.isolation && planIsolation(index, parsed.isolation)
  const pods = PODS.slice(0, 4).map((id, at) => ({ id, address: tenantPool(index).first + at }))
  return planIsolationRules(index, plan, pods, before?.classes ?? new Map())
}

test(
  'nft takes every change from one set of policies to another, and what it then says needs no repair',
  { skip: !canRunNft },
  () => {
    const dir = mkdtempSync(join(tmpdir(), 'bulkhead-isolation-'))
    try {
      const samples = fc.sample(fc.tuple(fc.option(isolation, { nil: undefined }), isolation), {
        numRuns: 60,
        seed: 11,
      })
      const commands: string[] = []
      const expected: IsolationRules[] = []
      let five = noIsolation()
      let six = noIsolation()
      writeFileSync(
        join(dir, 'start.nft'),
        renderRuleset({
          tenants: [5, 6],
          pods: [],
          services: new Map(),
          isolation: noIsolation(),
          limits: [],
        }),
      )
      for (const [at, [first, second]] of samples.entries()) {
        const [nextFive, nextSix] = [rulesOf(first, 5, five), rulesOf(second, 6, six)]
        const script = [renderIsolationChanged(five, nextFive), renderIsolationChanged(six, nextSix)].join(
          '\n',
        )
        five = nextFive
        six = nextSix
        writeFileSync(join(dir, `${at}.nft`), script)
        commands.push(`nft -f ${dir}/${at}.nft`, 'nft -j list table inet bulkhead', 'echo')
        expected.push(mergeIsolation([five, six]))
      }
      writeFileSync(join(dir, 'end.nft'), renderIsolationChanged(mergeIsolation([five, six]), noIsolation()))
      commands.push(`nft -f ${dir}/end.nft`, 'nft -j list table inet bulkhead', 'echo')
      expected.push(noIsolation())
      const output = execFileSync(
        'unshare',
        ['--net', 'sh', '-ec', [`nft -f ${dir}/start.nft`, ...commands].join('\n')],
        { encoding: 'utf8', maxBuffer: 256 * 1024 * 1024 },
      )
      const listed = output.split('\n').filter((line) => line.startsWith('{'))
      assert.equal(listed.length, expected.length)
      for (const [at, line] of listed.entries()) {
        const observed = parseRules(JSON.parse(line))
        const state = {
          tenants: [5, 6],
          pods: [],
          services: new Map(),
          isolation: expected[at] ?? noIsolation(),
          limits: [],
        }
        assert.equal(planRulesRepair(observed, state), '', `after change ${at}`)
        assert.deepEqual(observed?.isolation.classes, new Map(expected[at]?.classes))
      }
    } finally {
      rmSync(dir, { recursive: true })
    }
  },
)

test('a pod that nobody has told us of is led nowhere but to the end, one that nothing isolates nowhere', () => {
  const [known = '', open = ''] = PODS
  const document = {
    pods: [known, open],
    groups: [],
    ingress: [{ pods: [0], rules: [] }],
    egress: [],
  }
  const parsed = parseTenantNetwork({ services: [], isolation: document })
  const plan = parsed.isolation && planIsolation(5, parsed.isolation)
  const { first } = tenantPool(5)
  const { classes, elements } = planIsolationRules(5, plan, [], new Map())
  const of = (id: string) => isolationElements(5, plan, classes, id, first)
  const closed = 6 * 65_536
  assert.deepEqual(of(known), [{ set: 'ingress4', text: `10.128.40.1 : ${closed + 1}` }])
  assert.deepEqual(of(open), [])
  assert.deepEqual(of(PODS[5] ?? ''), [
    { set: 'ingress4', text: `10.128.40.1 : ${closed}` },
    { set: 'egress4', text: `10.128.40.1 : ${closed}` },
  ])
  assert.ok(elements.has(`policies ${closed} : goto deny`))
  assert.deepEqual(isolationElements(5, undefined, new Map(), known, first), [])
})

test("one tenant's change names nothing of another tenant", () => {
  fc.assert(
    fc.property(isolation, fc.option(isolation, { nil: undefined }), (before, after) => {
      const from = rulesOf(before, 5)
      const script = renderIsolationChanged(from, rulesOf(after, 5, from))
      for (const [, mark] of script.matchAll(/\b(?:group|blocks|ports|policy)_(\d+)_/g))
        assert.equal(mark, '6')
      for (const [, number] of script.matchAll(/ : (?:jump|goto)? ?(\d+)/g))
        assert.equal(Math.floor(Number(number) / 65_536), 6)
      const pods = [...script.matchAll(/element inet bulkhead (?:ingress4|egress4) \{([^}]*)\}/g)]
      for (const [, list = ''] of pods)
        for (const [address] of list.matchAll(/\d+\.\d+\.\d+\.\d+/g)) assert.match(address, /^10\.128\.40\./)
    }),
    { numRuns: 200 },
  )
})

test('a chain that stays keeps its class, and no two chains have one', () => {
  fc.assert(
    fc.property(isolation, isolation, (one, other) => {
      const from = rulesOf(one, 5)
      const to = rulesOf(other, 5, from)
      for (const [chain, number] of to.classes)
        if (from.classes.has(chain)) assert.equal(number, from.classes.get(chain))
      assert.equal(new Set(to.classes.values()).size, to.classes.size)
      assert.equal(renderIsolationChanged(to, rulesOf(other, 5, to)), '')
    }),
    { numRuns: 200 },
  )
})

test('a tenant without policies has no rules of its own', () => {
  assert.equal(renderIsolationChanged(noIsolation(), rulesOf(undefined, 5)), '')
  assert.ok(!renderTenantAdded(5).includes('polic'))
})
