/**
 * What a tenant notices of another that uses up what it can: `node bench/exhaustion.ts`. Prints, for each attack of
 * `tests/isolation/exhaustion-attacks.ts`, how long the bystander's reads of its API and its HTTP requests between its
 * own pods take before, during and after. Both are attempted one after the other, with 100 ms in between.
 */
import { API_ATTACKS, cleanUp, type Exhaustion, POD_ATTACKS } from '../tests/isolation/exhaustion-attacks.ts'
import { type Attempt, Bystander } from '../tests/testkit/bystander.ts'
import { TestPlatform } from '../tests/testkit/platform.ts'
import { startBusyboxRegistry } from '../tests/testkit/registry.ts'
import { machineFacts } from './kit/samples.ts'

const QUIET_MS = 3_000

function render(attempts: readonly Attempt[]): string {
  const good = attempts.filter(({ ok }) => ok).map(({ ms }) => ms)
  const sorted = good.sort((a, b) => a - b)
  const at = (part: number) =>
    (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? NaN).toFixed(1)
  const failed = attempts.length - good.length
  return `${at(0.5)} (${at(0.99)})${failed > 0 ? `, ${failed} of ${attempts.length} failed` : ''}`
}

const pause = () => new Promise((resolve) => setTimeout(resolve, QUIET_MS))

console.log(machineFacts())
await using registry = await startBusyboxRegistry()
const image = `${registry.host}/busybox:1`
const registries = [registry.host]
await using platform = await TestPlatform.start({
  instance: 'haeb',
  slot: 81,
  tenants: [
    { name: 'victim', registries },
    { name: 'attacker', registries },
    { name: 'wild', trust: 'untrusted', registries },
  ],
})
await using bystander = await Bystander.start(platform, 'victim', image)
await bystander.succeeds(20)
console.log('\n| ms, p50 (p99) | API before | during | after | pods before | during | after |')
console.log('|---|---|---|---|---|---|---|')

async function measure({ name, carryOut }: Exhaustion, tenant: string): Promise<void> {
  const scene = { platform, tenant, image }
  bystander.take()
  await pause()
  const before = bystander.take()
  let outcome = ''
  try {
    await carryOut(scene)
    await pause()
  } catch (error) {
    outcome = ` **${error instanceof Error ? error.message : String(error)}**`
  }
  const during = bystander.take()
  await cleanUp(scene)
  bystander.take()
  await pause()
  const after = bystander.take()
  const cells = [before.api, during.api, after.api, before.pod, during.pod, after.pod].map(render)
  console.log(`| ${name}, ${tenant === 'wild' ? 'gVisor' : 'crun'}${outcome} | ${cells.join(' | ')} |`)
}

for (const attack of POD_ATTACKS) for (const tenant of ['attacker', 'wild']) await measure(attack, tenant)
for (const attack of API_ATTACKS) await measure(attack, 'attacker')
