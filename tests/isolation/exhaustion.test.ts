import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { until } from '../../src/stdx/index.ts'
import { Bystander } from '../testkit/bystander.ts'
import { gvisorMissing } from '../testkit/machine.ts'
import { TestPlatform } from '../testkit/platform.ts'
import { type Registry, startBusyboxRegistry } from '../testkit/registry.ts'
import { API_ATTACKS, cleanUp, type Exhaustion, POD_ATTACKS, type Scene } from './exhaustion-attacks.ts'

/** One tenant uses up what it can while another goes about its business, which must go on all the time. */

const ANSWERS = 5

describe('a tenant that uses up what it can', { skip: gvisorMissing }, () => {
  let platform: TestPlatform
  let registry: Registry
  let bystander: Bystander
  const scene = (tenant: string): Scene => ({ platform, tenant, image: `${registry.host}/busybox:1` })

  before(async () => {
    registry = await startBusyboxRegistry()
    const registries = [registry.host]
    platform = await TestPlatform.start({
      instance: 'haex',
      slot: 80,
      tenants: [
        { name: 'victim', registries },
        { name: 'attacker', registries },
        { name: 'wild', trust: 'untrusted', registries },
        { name: 'leaving', registries },
      ],
    })
    bystander = await Bystander.start(platform, 'victim', `${registry.host}/busybox:1`)
    await bystander.succeeds(ANSWERS)
  })
  after(async () => {
    await bystander?.[Symbol.asyncDispose]()
    await platform?.[Symbol.asyncDispose]()
    await registry?.[Symbol.asyncDispose]()
  })

  const attack = (tenant: string, { name, limit, carryOut }: Exhaustion) =>
    void test(`${name} of "${tenant}" meets ${limit}, and the others are served`, async () => {
      const daemons = platform.daemons()
      try {
        await carryOut(scene(tenant))
        await bystander.succeeds(ANSWERS)
      } finally {
        await cleanUp(scene(tenant))
      }
      await bystander.succeeds(ANSWERS)
      assert.deepEqual(platform.daemons(), daemons, 'no daemon has ended')
    })

  for (const each of POD_ATTACKS) for (const tenant of ['attacker', 'wild']) attack(tenant, each)
  for (const each of API_ATTACKS) attack('attacker', each)

  test('a shared worker that hangs does not keep a tenant from being removed, and comes back for the others', async () => {
    const hung = platform.daemons().get('worker-shared')
    assert.ok(hung)
    process.kill(hung.pid, 'SIGSTOP')
    await platform.mustCli('tenant', 'delete', 'leaving', '--yes')
    await until(() => platform.daemons().get('worker-shared')?.pid !== hung.pid, {
      timeoutMs: 30_000,
      what: 'Another shared worker',
    })
    await bystander.succeeds(ANSWERS)
  })
})
