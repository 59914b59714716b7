import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { CATALOGUE } from '../../src/attack/index.ts'
import { until } from '../../src/stdx/index.ts'
import { gvisorMissing } from '../testkit/machine.ts'
import { TestPlatform } from '../testkit/platform.ts'

/** The command itself, on a real platform: the share of the catalogue for every change, and what it leaves behind. */

const skip = gvisorMissing
const CLI = new URL('../../src/main/cli.ts', import.meta.url).pathname
const ATTACK_MS = 240_000

type Outcome =
  | { kind: 'blocked'; by: string; evidence: string }
  | { kind: 'escaped' | 'untried'; evidence?: string; why?: string }
type Report = {
  results: {
    id: string
    control?: string
    outcome: Outcome
    unexpected?: string[]
    attacker: { isolationClass: string }
  }[]
}

const BYSTANDER = `apiVersion: tenancy.bulkhead.dev/v1alpha1
kind: Tenant
metadata: {name: bystander, labels: {bulkhead.dev/attack-run: "${'0'.repeat(32)}"}}
spec: {trust: trusted, code: own, registries: []}
`

let platform: TestPlatform

before(async () => {
  if (skip !== false) return
  platform = await TestPlatform.start({ instance: 'atst', slot: 91, tenants: [] })
  // Looks like a tenant of an attack, and is somebody's.
  const file = join(platform.layout.stateDir, 'bystander.yaml')
  await writeFile(file, BYSTANDER)
  await platform.mustCli('tenant', 'apply', '-f', file)
})
after(() => platform?.[Symbol.asyncDispose]())

const tenants = async () =>
  (await platform.mustCli('tenant', 'list'))
    .split('\n')
    .slice(1)
    .map((line) => line.split(' ')[0])
    .filter(Boolean)

/** As the command of this platform, for what `platform.cli` cannot do: being interrupted and being killed. */
function attack(...args: string[]) {
  const child = spawn(process.execPath, [CLI, 'attack', ...args], {
    env: {
      PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      NO_COLOR: '1',
      BULKHEAD_INSTANCE: platform.layout.instance,
      BULKHEAD_SLOT: '91',
      BULKHEAD_STATE_DIR: platform.layout.stateDir,
    },
  })
  const ended = new Promise<{ code: number | null; out: string; err: string }>((resolve) => {
    let [out, err] = ['', '']
    child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
    child.once('close', (code) => resolve({ code, out, err }))
  })
  return { child, ended }
}

/** An attack that has made its two tenants, and goes on. */
async function attackWithTenants() {
  const running = attack('--family', 'oracles')
  await until(async () => (await tenants()).length === 3, {
    timeoutMs: 60_000,
    everyMs: 50,
    what: 'Tenants of the attack',
  })
  return running
}

test(
  'every attack of the share for every change is really made, in both directions, and none escapes',
  { skip, timeout: 2 * ATTACK_MS },
  async () => {
    const { child, ended } = attack('--quick', '--format', 'json')
    const tooLong = setTimeout(() => child.kill('SIGTERM'), ATTACK_MS)
    const { code, out, err } = await ended
    clearTimeout(tooLong)
    assert.ok(out.startsWith('{'), `ended with ${code}: ${err}`)
    const { results } = JSON.parse(out) as Report
    assert.deepEqual(
      results.filter(({ outcome, unexpected }) => outcome.kind !== 'blocked' || unexpected !== undefined),
      [],
    )
    const quick = CATALOGUE.filter(({ always }) => always).map(({ id }) => id)
    for (const isolationClass of ['shared', 'sandboxed'])
      assert.deepEqual(
        results.filter(({ attacker }) => attacker.isolationClass === isolationClass).map(({ id }) => id),
        quick,
      )
    assert.ok(
      results.every(({ control }) => control !== undefined),
      'each after its control',
    )
    assert.equal(code, 0, err)
    assert.deepEqual(await tenants(), ['bystander'])
  },
)

test(
  'interrupted, it takes its tenants with it and touches no other',
  { skip, timeout: ATTACK_MS },
  async () => {
    const { child, ended } = await attackWithTenants()
    child.kill('SIGINT')
    const { code } = await ended
    assert.equal(code, 130)
    assert.deepEqual(await tenants(), ['bystander'])
  },
)

test(
  'killed, it leaves tenants that the next run removes, and only those',
  { skip, timeout: ATTACK_MS },
  async () => {
    const { child, ended } = await attackWithTenants()
    child.kill('SIGKILL')
    await ended
    const left = (await tenants()).filter((name) => name !== 'bystander')
    assert.equal(left.length, 2)
    const records = join(platform.layout.stateDir, 'attack/runs')
    const [record = ''] = readdirSync(records)
    const recorded = JSON.parse(readFileSync(join(records, record), 'utf8')) as { name: string }[]
    assert.deepEqual(recorded.map(({ name }) => name).toSorted(), left.toSorted())
    const { code, err } = await attack('--id', 'path-direct').ended
    assert.equal(code, 0, err)
    assert.deepEqual(await tenants(), ['bystander'])
    assert.deepEqual(readdirSync(records), [])
  },
)
