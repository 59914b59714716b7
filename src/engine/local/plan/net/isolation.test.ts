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
import { PODS, isolation } from './isolation.testkit.ts'

const canRunNft = (() => {
  try {
    execFileSync('unshare', ['--net', 'nft', 'list', 'ruleset'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})()

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
