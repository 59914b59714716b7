import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TenantName } from '../../api/index.ts'
import { FakeApiClient } from '../../client/index.ts'
import {
  type NodeClient,
  type NodeIsolation,
  NodeRefusal,
  type SleepEvent,
  type TenantPlacementAnswer,
  type TenantPlacementRequest,
} from '../../jail/index.ts'
import { FakeClock, silentLogger, until } from '../../stdx/index.ts'
import { NOW, object } from '../controllers.testkit.ts'
import { type Running, startPlatformControllers } from '../index.ts'
import { type Tenant, tenantKind } from '../kinds.ts'
import { planRank } from './tenant-controller.ts'

class FakeNode implements NodeClient {
  readonly placed = new Map<string, TenantPlacementRequest>()
  readonly asked: string[] = []
  offered: NodeIsolation['classes'] = {
    shared: { available: true },
    sandboxed: { available: true },
    dedicated: { available: false, why: 'it has one machine' },
  }
  fail: (() => void) | undefined
  /** Removal takes until this is called. */
  slow = false
  /** Tenants that sleep when somebody begins to watch. */
  asleep: string[] = []
  /** Tells whoever watches now. */
  tell: PromiseWithResolvers<SleepEvent | undefined> | undefined

  async isolation(): Promise<NodeIsolation> {
    this.fail?.()
    return { classes: this.offered }
  }
  async tenants(): Promise<TenantPlacementAnswer[]> {
    return [...this.placed].map(([tenant, { class: isolationClass }]) => ({
      tenant,
      index: 0,
      isolationClass,
      podUidBase: 1,
      controlPlaneUid: 600_000,
    }))
  }
  async ensureTenant(tenant: TenantName, wanted: TenantPlacementRequest): Promise<TenantPlacementAnswer> {
    this.fail?.()
    this.asked.push(`${tenant} ${wanted.class} ${wanted.registries.join(' ')}`)
    this.placed.set(tenant, wanted)
    return {
      tenant,
      index: 3,
      isolationClass: wanted.class,
      podUidBase: 268_632_064,
      controlPlaneUid: 600_003,
    }
  }
  async *watchSleep(signal: AbortSignal): AsyncGenerator<SleepEvent, void, undefined> {
    for (const tenant of this.asleep) yield { type: 'ASLEEP', tenant }
    yield { type: 'SYNCED' }
    while (!signal.aborted) {
      this.tell = Promise.withResolvers()
      signal.addEventListener('abort', () => this.tell?.resolve(undefined), { once: true })
      const event = await this.tell.promise
      if (event) yield event
    }
  }
  async removeTenant(tenant: TenantName): Promise<void> {
    this.fail?.()
    this.asked.push(`remove ${tenant}`)
    if (!this.slow) this.placed.delete(tenant)
  }
}

class World implements AsyncDisposable {
  readonly clock = new FakeClock(Date.parse(NOW))
  readonly client = new FakeApiClient({ clock: this.clock })
  readonly node = new FakeNode()
  private running: Running | undefined

  static async start(): Promise<World> {
    const world = new World()
    await world.resume()
    return world
  }

  async resume(): Promise<void> {
    const { clock, client, node } = this
    this.running = startPlatformControllers({
      client,
      clock,
      log: silentLogger,
      options: {
        node,
        serverUrl: (tenant) => `https://${tenant}.test:7443`,
        decide: ({ trust, code }) => {
          if (code === 'arbitrary') return { class: 'dedicated', reasons: ['It runs anything.'] }
          if (trust === 'trusted') return { class: 'shared', reasons: ['It is trusted.'] }
          if (code === 'own') return { class: undefined, reasons: ['Untrusted.'], refusal: 'This cannot be.' }
          return { class: 'sandboxed', reasons: ['It is untrusted.'] }
        },
      },
    })
    await this.running.started
  }

  async pause(): Promise<void> {
    await this.running?.stop()
  }

  create(spec: Partial<Tenant['spec']>): Promise<Tenant> {
    return this.client.create<Tenant>(
      tenantKind,
      object(
        'Tenant',
        'tenancy.bulkhead.dev/v1alpha1',
        'red',
        {
          spec: { trust: 'trusted', code: 'own', registries: ['registry.test'], ...spec },
          status: { phase: 'Pending' },
        },
        { namespace: undefined },
      ),
    )
  }

  get red(): Tenant | undefined {
    return this.client.find(tenantKind, { name: 'red' })
  }

  async until<T>(what: string, condition: () => T): Promise<NonNullable<T>> {
    return until(
      () => {
        const value = condition()
        if (!value) this.clock.advance(100)
        return value
      },
      { what, everyMs: 1, timeoutMs: 20_000 },
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pause()
  }
}

test('a tenant gets its class, its reasons and a place, and says so', async () => {
  await using world = await World.start()
  await world.create({ trust: 'untrusted', code: 'thirdParty' })
  await world.until('It is ready', () => world.red?.status?.controlPlane !== undefined)
  assert.deepEqual(world.red?.status, {
    phase: 'Ready',
    controlPlane: 'Awake',
    isolationClass: 'sandboxed',
    reasons: ['It is untrusted.'],
    placement: { index: 3, podUidBase: 268_632_064, controlPlaneUser: '600003' },
    server: 'https://red.test:7443',
    observedGeneration: 1,
    conditions: [
      {
        type: 'Ready',
        status: 'True',
        reason: 'ControlPlaneAnswers',
        message: 'The control plane answers',
        lastTransitionTime: world.red?.status?.conditions?.[0]?.lastTransitionTime,
      },
    ],
  })
  assert.deepEqual(world.red.metadata.finalizers, ['tenancy.bulkhead.dev/placement'])
  assert.deepEqual(world.node.asked, ['red sandboxed registry.test'])
})

test('the operator’s order goes to the machine in its units, and nothing does when there is none', () => {
  assert.deepEqual(planRank({}), {})
  assert.deepEqual(planRank({ priority: 7 }), { rank: { priority: 7, guaranteed: {} } })
  assert.deepEqual(planRank({ guaranteed: { cpu: '0.5', memoryBytes: '1Gi' } }), {
    rank: { guaranteed: { cpuMillis: 500, memoryBytes: 2 ** 30 } },
  })
})

test('a quota goes to the machine in its units, and again when it changes', async () => {
  await using world = await World.start()
  await world.create({ quota: { pods: 3, memoryBytes: '1.5Gi', cpu: '0.25', objects: 500 } })
  await world.until('It is ready', () => world.red?.status?.phase === 'Ready')
  const { uid } = world.red!.metadata // until() has seen it
  const placed = () => world.node.placed.get('red')
  assert.deepEqual(placed(), {
    class: 'shared',
    registries: ['registry.test'],
    uid,
    quota: { pods: 3, objects: 500, cpuMillis: 250, memoryBytes: 1_610_612_736 },
  })
  await world.client.patch(
    tenantKind,
    { name: 'red' },
    { spec: { quota: { pods: null, memoryBytes: '100E', cpu: '1500u', objects: null } } },
    { type: 'application/merge-patch+json' },
  )
  await world.until('It is told', () => placed()?.quota?.pods === undefined)
  assert.deepEqual(placed()?.quota, { cpuMillis: 1 })
})

test('a tenant whose class nobody offers is refused with what is missing, and nothing is made for it', async () => {
  await using world = await World.start()
  await world.create({ code: 'arbitrary' })
  await world.until('It is refused', () => world.red?.status?.phase === 'Refused')
  const message = 'No machine can offer the isolation class "dedicated": it has one machine'
  assert.deepEqual(world.red?.status?.reasons, ['It runs anything.', message])
  assert.equal(world.red.status.conditions?.[0]?.message, message)
  assert.deepEqual(world.node.asked, [])
})

test('a tenant that the policy refuses is never placed, and is placed when its description changes', async () => {
  await using world = await World.start()
  await world.create({ trust: 'untrusted', code: 'own' })
  await world.until('It is refused', () => world.red?.status?.phase === 'Refused')
  assert.deepEqual(world.red?.status?.reasons, ['Untrusted.', 'This cannot be.'])
  await world.client.patch(
    tenantKind,
    { name: 'red' },
    { spec: { trust: 'trusted' } },
    { type: 'application/merge-patch+json' },
  )
  await world.until('It is ready', () => world.red?.status?.phase === 'Ready')
  assert.equal(world.red.status?.isolationClass, 'shared')
})

test('a node agent that fails is asked again; one that refuses is not', async () => {
  await using world = await World.start()
  let failures = 2
  world.node.fail = () => {
    if (failures-- > 0) throw new NodeRefusal('The disk is full', 500)
  }
  await world.create({})
  await world.until('It is ready after all', () => world.red?.status?.phase === 'Ready')

  world.node.fail = () => {
    failures -= 1
    throw new NodeRefusal('That is no registry', 422)
  }
  failures = 0
  await world.client.patch(
    tenantKind,
    { name: 'red' },
    { spec: { registries: ['other.test'] } },
    { type: 'application/merge-patch+json' },
  )
  await world.until('It failed', () => world.red?.status?.phase === 'Failed')
  world.clock.advance(600_000)
  await new Promise((resolve) => setImmediate(resolve))
  assert.equal(failures, -1)
  assert.equal(world.red?.status?.conditions?.[0]?.message, 'That is no registry')
})

test('a tenant stays until everything of it is gone from the machine', async () => {
  await using world = await World.start()
  await world.create({})
  await world.until('It is ready', () => world.red?.status?.phase === 'Ready')
  world.node.slow = true
  await world.client.delete(tenantKind, { name: 'red' })
  await world.until('It is being removed', () => world.red?.status?.phase === 'Terminating')
  await world.pause()
  await world.resume()
  await world.until(
    'It is asked for again',
    () => world.node.asked.filter((a) => a === 'remove red').length >= 2,
  )
  assert.ok(world.red)
  world.node.slow = false
  await world.until('It is gone', () => !world.red)
  assert.equal(world.node.placed.size, 0)
})

test('a platform that comes back asks for every place again and writes nothing', async () => {
  await using world = await World.start()
  await world.create({})
  await world.until('It is ready', () => world.red?.status?.phase === 'Ready')
  await world.pause()
  const writes = world.client.writes.length
  await world.resume()
  await world.until('It asked', () => world.node.asked.length === 2)
  await world.pause()
  assert.deepEqual(world.client.writes.slice(writes), [])
})

test('what cannot be removed is told, and removed when it can be', async () => {
  await using world = await World.start()
  await world.create({})
  await world.until('It is ready', () => world.red?.status?.phase === 'Ready')
  world.node.fail = () => {
    throw new NodeRefusal('The volumes "x" cannot be destroyed', 500)
  }
  await world.client.delete(tenantKind, { name: 'red' })
  const told = () => world.red?.status?.conditions?.[0]
  await world.until('It says why', () => told()?.reason === 'RemovalFailed')
  assert.equal(told()?.message, 'The volumes "x" cannot be destroyed')
  assert.equal(world.red?.status?.phase, 'Terminating')
  world.node.fail = undefined
  world.clock.advance(60_000)
  await world.until('It is gone', () => world.red === undefined)
})

test('a Tenant says whether its control plane sleeps, also after the platform was away', async () => {
  await using world = await World.start()
  await world.create({})
  const said = (controlPlane: string) =>
    world.until(`control plane ${controlPlane}`, () => world.red?.status?.controlPlane === controlPlane)
  await said('Awake')
  world.node.tell?.resolve({ type: 'ASLEEP', tenant: 'red' })
  await said('Asleep')
  assert.equal(world.red?.status?.phase, 'Ready')
  await world.pause()
  await world.resume()
  await said('Awake')
  world.node.asleep = ['red']
  await world.pause()
  await world.resume()
  await said('Asleep')
  world.node.tell?.resolve({ type: 'AWAKE', tenant: 'red' })
  await said('Awake')
})
