import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Attack, type AttackContext, blocked, type Outcome, untried } from './attack.ts'
import { EVIDENCE_CHARS_MAX } from './limits.ts'
import type { Party } from './party.ts'
import { renderMarkdown, renderResult, renderSummary } from './report.ts'
import { type Result, runAttacks, type Scene } from './run-attacks.ts'

/** A tenant without a platform: only what the runner itself needs of it. */
function party(name: string): Party & { hear(text: string): void } {
  const listeners: { value: string; onHeard: () => void }[] = []
  return {
    name,
    isolationClass: 'shared',
    canaries: { value: `canary-of-${name}` },
    listenFor(value: string, onHeard: () => void) {
      listeners.push({ value, onHeard })
      return () => void (listeners.length = 0)
    },
    hear: (text: string) =>
      listeners.filter(({ value }) => text.includes(value)).forEach(({ onHeard }) => onHeard()),
  } as unknown as Party & { hear(text: string): void } // the runner uses nothing else
}

function scene(extra: Partial<Scene> = {}): Scene & { removed: string[] } {
  const removed: string[] = []
  return {
    parties: [party('red'), party('blue')],
    registry: '127.0.0.1:1',
    image: 'x',
    signal: new AbortController().signal,
    pods: true,
    makeTenant: async () => party('scratch'),
    removeTenant: async ({ name }) => void removed.push(name),
    removed,
    ...extra,
  }
}

function attack(attempt: (context: AttackContext) => Promise<Outcome>, extra: Partial<Attack> = {}): Attack {
  return {
    id: 'a',
    title: 'tries',
    family: 'paths',
    vector: 'tenant API',
    control: async () => 'works',
    attempt,
    ...extra,
  }
}

const kinds = (results: readonly Result[]) => results.map(({ outcome }) => outcome.kind)
const nothing = blocked('nothing', 'refused')

test('each attack is made by each of the two on the other', async () => {
  const pairs: string[] = []
  const results = await runAttacks(
    [attack(async ({ attacker, victim }) => (pairs.push(`${attacker.name}>${victim.name}`), nothing))],
    scene(),
  )
  assert.deepEqual(pairs, ['red>blue', 'blue>red'])
  assert.deepEqual(kinds(results), ['blocked', 'blocked'])
})

test('an attack whose control does not work is not blocked but untried, and is not made', async () => {
  let made = 0
  const broken = attack(async () => (made++, nothing), {
    control: async () => {
      throw new Error('connection refused')
    },
  })
  const results = await runAttacks([broken], scene())
  assert.deepEqual(kinds(results), ['untried', 'untried'])
  assert.match(JSON.stringify(results[0]?.outcome), /control does not work: connection refused/)
  assert.equal(made, 0)
})

test("an attack that says it was blocked has escaped when the victim's canary reached the attacker", async () => {
  const leaky = attack(async ({ attacker, victim }) => {
    ;(attacker as ReturnType<typeof party>).hear(`... ${victim.canaries.value} ...`)
    return nothing
  })
  const silent = attack(async ({ attacker }) => {
    ;(attacker as ReturnType<typeof party>).hear(attacker.canaries.value)
    return nothing
  })
  const thrown = attack(async ({ attacker, victim }) => {
    ;(attacker as ReturnType<typeof party>).hear(victim.canaries.value)
    throw new Error('then it broke')
  })
  const results = await runAttacks([leaky, silent, thrown], scene())
  assert.deepEqual(kinds(results), ['escaped', 'blocked', 'escaped', 'escaped', 'blocked', 'escaped'])
})

test('an attack that throws is untried, and the tenants that it made are removed', async () => {
  const stage = scene()
  const failing = attack(async ({ scratchTenant }) => {
    await scratchTenant()
    throw new Error('x'.repeat(2_000))
  })
  const results = await runAttacks([failing], stage)
  assert.deepEqual(kinds(results), ['untried', 'untried'])
  const [{ outcome } = { outcome: nothing }] = results
  assert.ok(outcome.kind === 'untried' && outcome.why.length <= EVIDENCE_CHARS_MAX + 1)
  assert.deepEqual(stage.removed, ['scratch', 'scratch'])
})

test('what an attack needs and is not there makes it untried, and it cannot use the machine in secret', async () => {
  const needy = attack(async () => nothing, { needs: ['machine'] })
  const pods = attack(async () => nothing, { needs: ['pods'] })
  const secretly = attack(async ({ machine }) => (machine.userOf('bulkhead-gateway'), nothing))
  assert.deepEqual(
    kinds(await runAttacks([needy, pods, secretly], scene({ pods: false }))),
    Array(6).fill('untried'),
  )
})

test('a layer that nobody expected is told, because an accident may have stopped the attack', async () => {
  const id = 'path-direct'
  const by = (layer: string) => attack(async () => blocked(layer, 'seen'), { id })
  const results = await runAttacks([by('gateway binds to one tenant'), by('limits per tenant')], scene())
  assert.deepEqual(
    results.slice(0, 2).map(({ unexpected }) => unexpected),
    [undefined, ['limits per tenant']],
  )
  assert.match(renderResult(results[1]!, { verbose: true }), /not expected: limits per tenant/) // there are four
})

test('an interrupted run ends at once', async () => {
  const interrupt = new AbortController()
  const endless = attack(() => {
    setImmediate(() => interrupt.abort(new Error('interrupted')))
    return new Promise(() => {})
  })
  await assert.rejects(runAttacks([endless], scene({ signal: interrupt.signal })), /interrupted/)
})

test('a report of hostile evidence has 80 columns, no control characters and no table cells of its own', () => {
  const hostile = `\u001b[2J\n| forged | row |\n<script>\u202e${'x'.repeat(300)}`
  const result: Result = {
    id: 'a',
    title: hostile,
    family: 'paths',
    vector: 'tenant API',
    standards: [],
    attacker: { name: 'red', isolationClass: 'shared' },
    victim: { name: 'blue', isolationClass: 'shared' },
    outcome: { kind: 'escaped', evidence: hostile },
    tookMs: 1,
  }
  const odd = { ...result, outcome: untried(hostile) }
  for (const text of [renderResult(result, { verbose: true }), renderSummary([result, odd])])
    for (const line of text.split('\n')) {
      assert.ok(line.length <= 80, `${line.length}: ${line}`)
      // oxlint-disable-next-line no-control-regex -- their absence is the point
      assert.doesNotMatch(line, /[\u0000-\u001f\u007f-\u009f\u202a-\u202e]/)
    }
  const markdown = renderMarkdown([attack(async () => nothing)], [result], 'tried')
  const rows = markdown.split('\n').filter((line) => line.startsWith('| `a`'))
  assert.equal(rows.length, 1)
  assert.equal(rows[0]?.replaceAll('\\|', '').split('|').length, 8)
  assert.doesNotMatch(markdown, /<script>/)
})
