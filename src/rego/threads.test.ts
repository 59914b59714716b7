import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { after, test } from 'node:test'
import fc from 'fast-check'
import {
  addressesOf,
  type Answers,
  assemble,
  bundleOfModule,
  denyIfInputHas,
  op,
  packBundle,
} from '../../tests/testkit/rego.ts'
import { systemClock } from '../stdx/index.ts'
import { parseDecision } from './decision.ts'
import { type RegoAnswer, RegoThreads } from './threads.ts'

const threads = new RegoThreads({ clock: systemClock })
after(() => threads.close())

const bundleOf = async (wasm: Uint8Array, entrypoint?: string) => ({
  bytes: await bundleOfModule(wasm),
  entrypoint,
})
const ask = async (wasm: Uint8Array, input: unknown = {}, tenant = 'red'): Promise<RegoAnswer> =>
  threads.ask({ tenant, bundle: await bundleOf(wasm), input: JSON.stringify(input) })
const check = async (bytes: Uint8Array, entrypoint?: string) => {
  const found = await threads.check({ bytes, entrypoint })
  return found.kind === 'ready' ? `ready: ${found.entrypoint}` : found.why
}
/** A module that answers with a text, whatever it is asked. */
const saying = (answer: string, more: Partial<Answers> = {}) => {
  const texts = [answer]
  return assemble({ ...more, texts, evaluate: op.const(addressesOf({ ...more, texts })[0] ?? 0) })
}
const denied = (...violations: string[]) => ({ kind: 'decision', decision: { violations, warnings: [] } })
const failed = (answer: RegoAnswer) => (answer.kind === 'failed' ? answer.why : JSON.stringify(answer))

test('a policy denies what it finds in the input, with its message, and lets everything else through', async () => {
  const policy = denyIfInputHas('"replicas":3', 'three are too many')
  assert.deepEqual(await ask(policy, { spec: { replicas: 3 } }), denied('three are too many'))
  assert.deepEqual(await ask(policy, { spec: { replicas: 2 } }), denied())
})

test('a policy remembers nothing from one question to the next', async () => {
  // Counts in its memory how often it was asked, and denies from the second time on.
  const texts = ['[{"result":[]}]', '[{"result":["asked before"]}]']
  const [first = 0, again = 0] = addressesOf({ texts })
  const counter = 512
  const evaluate = [
    ...[...op.const(counter), 0x2d, 0, 0, 0x04, 0x7f, ...op.const(again), 0x05, ...op.const(first), 0x0b],
    ...[...op.const(counter), ...op.const(1), 0x3a, 0, 0],
  ]
  const policy = assemble({ texts, evaluate })
  for (let round = 0; round < 3; round++) assert.deepEqual(await ask(policy), denied())
})

test('booleans, sets, packages and objects with msg are decisions; anything else is none', () => {
  const of = (value: unknown) => {
    const decision = parseDecision(value)
    return decision && { deny: decision.violations, warn: decision.warnings }
  }
  assert.deepEqual(of(true), { deny: [], warn: [] })
  assert.deepEqual(of(false), { deny: ['it does not allow this'], warn: [] })
  assert.deepEqual(of([]), { deny: [], warn: [] })
  assert.deepEqual(of(['a', { msg: 'b', field: 'x' }]), { deny: ['a', 'b'], warn: [] })
  assert.deepEqual(of({ deny: [], warn: ['w'], helper: 7 }), { deny: [], warn: ['w'] })
  assert.deepEqual(of({ violation: [{ msg: 'v' }], allow: true }), { deny: ['v'], warn: [] })
  assert.deepEqual(of({ deny: [], allow: false }), { deny: ['it does not allow this'], warn: [] })
  assert.deepEqual(of(['line\nbreak\u001b[31m']), { deny: ['line break [31m'], warn: [] })
  for (const none of [
    undefined,
    null,
    1,
    'no',
    {},
    { warn: [] },
    { allow: 'yes' },
    { deny: 'no' },
    [1],
    [{}],
    [null],
  ])
    assert.equal(of(none), undefined, JSON.stringify(none))
})

test('no value whatever is read as a decision that allows unless it says so', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const decision = parseDecision(value)
      if (!decision || decision.violations.length > 0) return
      const package_ = value as Record<string, unknown>
      assert.ok(
        value === true ||
          (Array.isArray(value) && value.length === 0) ||
          package_['allow'] === true ||
          [package_['deny'], package_['violation']].some((set) => Array.isArray(set) && set.length === 0),
      )
    }),
  )
})

test('an endless policy is ended, its tenant is refused, and other policies and tenants go on', async () => {
  const endless = assemble({ evaluate: [...op.forever, ...op.const(0)] })
  const good = denyIfInputHas('bad', 'no')
  const [stuck, fine] = await Promise.all([ask(endless), ask(good, { bad: 1 })])
  assert.match(failed(stuck), /did not come to an end within/)
  assert.deepEqual(fine, denied('no'))
})

test('a policy that never ends for a tenant is paused for that tenant, and others with the same policy get their answers', async () => {
  const policy = denyIfInputHas('loop', 'x', { found: op.forever })
  const evil = () => ask(policy, { loop: 1 }, 'evil')
  const answers = await Promise.all([evil(), evil(), evil(), evil(), evil(), ask(policy, {}, 'good')])
  for (const answer of answers.slice(0, 5)) assert.match(failed(answer), /did not come to an end/)
  assert.deepEqual(answers[5], denied())
  assert.match(failed(await evil()), /3 times in a row, and is not asked for some seconds/)
  assert.deepEqual(await ask(policy, {}, 'good'), denied())
})

test('what evil modules try ends with a refusal, and the next policy gets its answer', async (t) => {
  const evil: Record<string, { wasm: Uint8Array; why: RegExp }> = {
    'a trap': { wasm: assemble({ evaluate: op.unreachable }), why: /failed: unreachable/ },
    'growing until there is no more, then writing there': {
      wasm: assemble({
        evaluate: [
          // Again and again by 16 pages until that fails, then to the first byte beyond.
          ...[0x03, 0x40, ...op.const(16), ...op.grow, ...op.const(-1), 0x47, 0x0d, 0, 0x0b],
          ...[0x3f, 0, ...op.const(16), 0x74, ...op.const(1), 0x3a, 0, 0, ...op.const(0)],
        ],
      }),
      why: /failed: memory access out of bounds/,
    },
    'an address outside of its memory': {
      wasm: assemble({ evaluate: op.const(0x7fff_0000) }),
      why: /failed|did not come to an end/,
    },
    'a negative address': {
      wasm: assemble({ evaluate: op.const(-1) }),
      why: /failed|did not come to an end/,
    },
    'text that is no JSON': { wasm: saying('{"result"'), why: /failed/ },
    'no result set': { wasm: saying('{"result":[]}'), why: /no result set/ },
    'no value': { wasm: saying('[]'), why: /no decision/ },
    'two values': { wasm: saying('[{"result":[]},{"result":[]}]'), why: /no result set/ },
    'a value that is no decision': { wasm: saying('[{"result":{"ok":true}}]'), why: /no decision/ },
    'calling itself without end': {
      wasm: assemble({ evaluate: recursion() }),
      why: /failed: Maximum call stack/,
    },
    'an answer of tens of megabytes': {
      wasm: assemble({ evaluate: flood() }),
      why: /failed|memory|did not come to an end/,
    },
  }
  for (const [name, { wasm, why }] of Object.entries(evil))
    await t.test(name, async () => {
      assert.match(failed(await ask(wasm, {}, name)), why)
      assert.deepEqual(await ask(denyIfInputHas('bad', 'no'), { bad: 1 }), denied('no'))
    })
})

/** `opa_eval` is the eighth function; it calls itself with what it was called with. */
function recursion(): number[] {
  return [...[0, 1, 2, 3, 4, 5, 6].flatMap((local) => op.get(local)), ...op.call(7)]
}

/** As much memory as there is, full of one letter. */
function flood(): number[] {
  const [at] = [7]
  return [
    ...[0x03, 0x40, ...op.const(16), ...op.grow, ...op.const(-1), 0x47, 0x0d, 0, 0x0b],
    ...[...op.const(4_096), ...op.set(at)],
    ...[0x03, 0x40, ...op.get(at), ...op.const(0x61), 0x3a, 0, 0, ...op.get(at), ...op.const(1), 0x6a],
    ...[0x22, at, 0x3f, 0, ...op.const(16), 0x74, ...op.const(1), 0x6b, 0x49, 0x0d, 0, 0x0b],
    ...op.const(4_096),
  ]
}

test('a bundle that could never be asked says why', async () => {
  const good = denyIfInputHas('x', 'y')
  const of = async (wasm: Uint8Array, entrypoint?: string) => check(await bundleOfModule(wasm), entrypoint)
  assert.equal(await of(good), 'ready: test/deny')
  assert.match(await of(good, 'test/allow'), /no entrypoint "test\/allow", only "test\/deny"/)
  assert.match(
    await of(saying('[]', { entrypoints: ['a', 'b'] })),
    /several entrypoints; name one of "a", "b"/,
  )
  assert.match(await of(saying('[]', { entrypoints: [] })), /0 entrypoints/)
  assert.match(
    await of(saying('[]', { builtins: ['http.send', 'sprintf', 'opa.runtime'] })),
    /it calls "http.send", "opa.runtime", which policies cannot use/,
  )
  assert.match(
    await of(saying('[]', { builtins: ['constructor', 'toString'] })),
    /calls "constructor", "toString"/,
  )
  assert.match(await of(saying('[]', { abi: [2, 0] })), /version 2.0 of OPA’s interface/)
  assert.match(await of(saying('[]', { abi: [1, 1] })), /version 1.1 of OPA’s interface/)
  const wants = { wants: [{ module: 'wasi_snapshot_preview1', name: 'fd_write' }] }
  assert.match(
    await of(saying('[]', wants)),
    /wants the function "wasi_snapshot_preview1.fd_write" of its host/,
  )
  assert.match(
    await of(saying('[]', { ownMemoryPages: 60_000 })),
    /no WebAssembly that can be compiled|no module of OPA/,
  )
  assert.match(
    await of(saying('[]', { ownTableEntries: 9_000_000 })),
    /no WebAssembly that can be compiled|no module of OPA/,
  )
  assert.match(await of(Uint8Array.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0])), /no version of OPA’s interface/)
  assert.match(await of(randomBytes(1_000)), /no WebAssembly/)
  assert.match(await of(Buffer.concat([good, Buffer.alloc(5 * 1024 * 1024)])), /unpacked it takes more than/)
  assert.match(await check(gzipSync(Buffer.alloc(100 * 1024 * 1024))), /unpacked it takes more than/)
  assert.match(await check(randomBytes(300 * 1024)), /it takes 307200 bytes, more than/)
  assert.match(await check(Buffer.from('no bundle')), /not compressed by gzip/)
  assert.match(await check(await packBundle({ '/data.json': '{}' })), /no policy.wasm/)
  for (const json of ['[]', '{', 'null'])
    assert.match(
      await check(await packBundle({ '/policy.wasm': good, '/data.json': json })),
      /data.json is no/,
    )
  assert.match(
    await check(await packBundle({ '/policy.wasm': good, '/.signatures.json': '{}' })),
    /signatures of bundles are not checked/,
  )
})

test('a module that never ends while it is loaded is ended, and says so', async () => {
  const why = await check(await bundleOfModule(assemble({ start: op.forever })))
  assert.match(why, /could not be loaded within/)
})

test('no bundle whatever ends the process or is taken for a policy', async () => {
  const good = denyIfInputHas('x', 'y')
  await fc.assert(
    fc.asyncProperty(fc.nat(good.length - 1), fc.nat(255), async (at, byte) => {
      const broken = Uint8Array.from(good)
      broken[at] = byte
      const found = await check(await bundleOfModule(broken))
      assert.equal(typeof found, 'string')
    }),
    { numRuns: 30 },
  )
})

const noCompiler = spawnSync('opa', ['version']).status === 0 ? false : 'needs the compiler "opa"'

test('Rego that OPA compiled decides, with sprintf, data and a package', { skip: noCompiler }, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'rego-'))
  t.after(() => rmSync(dir, { recursive: true }))
  const compile = (rego: string, entrypoint: string) => {
    writeFileSync(join(dir, 'policy.rego'), rego)
    writeFileSync(join(dir, 'data.json'), '{"most": 2}')
    const out = join(dir, 'bundle.tar.gz')
    execFileSync('opa', ['build', '-t', 'wasm', '-e', entrypoint, '-o', out, 'policy.rego', 'data.json'], {
      cwd: dir,
    })
    return { bytes: readFileSync(out), entrypoint: undefined }
  }
  const bundle = compile(
    `package p
deny contains msg if {
	input.request.object.spec.replicas > data.most
	msg := sprintf("%d replicas are more than %d", [input.request.object.spec.replicas, data.most])
}
warn contains "no team" if not input.request.object.metadata.labels.team
default allow := false
allow if input.tenant == "red"
`,
    'p',
  )
  const about = async (tenant: string, replicas: number) => {
    const input = JSON.stringify({ tenant, request: { object: { metadata: {}, spec: { replicas } } } })
    const answer = await threads.ask({ tenant, bundle, input })
    return answer.kind === 'decision' ? answer.decision : answer
  }
  const warnings = ['no team']
  assert.deepEqual(await about('red', 3), { violations: ['3 replicas are more than 2'], warnings })
  assert.deepEqual(await about('red', 2), { violations: [], warnings })
  assert.deepEqual(await about('blue', 1), { violations: ['it does not allow this'], warnings })
  const calling = compile(
    'package p\ndeny contains "x" if http.send({"method": "get", "url": "http://x"}).status_code == 200\n',
    'p/deny',
  )
  assert.match(await check(calling.bytes), /it calls "http.send"/)
})
