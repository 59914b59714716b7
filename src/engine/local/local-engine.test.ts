import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setImmediate as turn } from 'node:timers/promises'
import { test, type TestContext } from 'node:test'
import { ApiError, parseLayout } from '../../api/index.ts'
import type {
  Engine,
  EngineEvent,
  Jail,
  JailContainerState,
  JailEvent,
  JailId,
  JailStatus,
} from '../../jail/index.ts'
import { FakeClock, silentLogger } from '../../stdx/index.ts'
import {
  FakeClaims,
  FakeContainers,
  FakeDisk,
  FakeImages,
  FakeNetwork,
  FakeProber,
} from './fakes/fake-parts.ts'
import {
  blue,
  JAIL_ID,
  red,
  sampleContainer,
  sampleJail,
  samplePlacement,
  sampleProbe,
} from './fakes/sample-jail.ts'
import { createLocalEngine, type LocalEngine } from './local-engine.ts'
import { ImageError, type TenantPlacement } from './parts.ts'
import type { DiskUsage } from './plan/disk.ts'
import { ContainerError } from './plan/oci/container-error.ts'

const NO_USAGE: DiskUsage = {
  total: 0,
  files: 0,
  volumes: new Map(),
  layers: new Map(),
  logs: new Map(),
  full: [],
}

/** A machine whose containers, networks and files outlive the engines that come and go on it. */
class FakeMachine {
  readonly clock = new FakeClock()
  memoryAvailable = Infinity
  readonly containers = new FakeContainers(this.clock)
  readonly network = new FakeNetwork()
  readonly images = new FakeImages()
  readonly prober = new FakeProber()
  readonly disk = new FakeDisk()
  readonly claims = new FakeClaims()
  readonly runDir: string
  placement: TenantPlacement | undefined = samplePlacement()
  engine: LocalEngine
  red: Engine

  constructor(t: TestContext) {
    this.runDir = mkdtempSync(join(tmpdir(), 'bulkhead-engine-'))
    this.engine = this.create()
    this.red = this.engine.engineFor(samplePlacement())
    t.after(async () => {
      await this.engine.stop()
      rmSync(this.runDir, { recursive: true, force: true })
    })
  }

  private create(): LocalEngine {
    return createLocalEngine({
      layout: { ...parseLayout({}), runDir: this.runDir },
      clock: this.clock,
      log: silentLogger,
      images: this.images,
      network: this.network,
      containers: this.containers,
      prober: this.prober,
      disk: this.disk,
      claims: this.claims,
      placement: () => this.placement,
      memoryAvailable: async () => this.memoryAvailable,
    })
  }

  /** As after `kill -9`: the old engine does not get to say anything more. */
  async restart(): Promise<void> {
    await this.engine.stop()
    await this.settle()
    this.engine = this.create()
    await this.engine.start()
    this.red = this.engine.engineFor(this.placement ?? samplePlacement())
    await this.settle()
  }

  async ensure(over: Partial<Jail> = {}): Promise<void> {
    await this.red.ensure(sampleJail(over))
    await this.settle()
  }

  /** Lets everything that does not wait for time or for the outside happen. */
  async settle(): Promise<void> {
    for (let i = 0; i < 20; i++) {
      this.clock.advance(0)
      await turn()
    }
  }

  /** Second by second, so that what happens in one can set a timer for the next. */
  async pass(seconds: number): Promise<void> {
    for (let i = 0; i < seconds; i++) {
      this.clock.advance(1_000)
      await this.settle()
    }
  }

  async exit(name: string, code: number, options: { oomKilled?: boolean } = {}): Promise<void> {
    this.containers.exit(name, code, options)
    await this.settle()
  }

  async status(): Promise<JailStatus> {
    const [status] = await this.red.list()
    assert(status, 'The pod is not here')
    return status
  }

  async state(name = 'app'): Promise<JailContainerState> {
    const status = await this.status()
    const container = [...status.initContainers, ...status.containers].find((c) => c.name === name)
    assert(container)
    return container.state
  }

  /** All that a new watcher is told before it is in step. */
  async told(): Promise<EngineEvent[]> {
    const events: EngineEvent[] = []
    for await (const event of this.red.watch(new AbortController().signal)) {
      if (event.type === 'SYNCED') break
      events.push(event)
    }
    return events
  }

  async events(): Promise<string[]> {
    const events = (await this.told()).flatMap((e) => (e.type === 'EVENT' ? [e.event] : []))
    return events.map((e: JailEvent) => `${e.type} ${e.reason}: ${e.message}`)
  }
}

const other = '11111111-1111-4111-8111-111111111111' as JailId

test('a pod starts, runs, and says so', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure()
  const status = await machine.status()
  assert.deepEqual(status, {
    id: JAIL_ID,
    phase: 'Running',
    podIP: '10.1.0.2',
    hostIP: '10.0.0.10',
    startTime: '2026-01-01T00:00:00.000Z',
    initContainers: [],
    containers: [
      {
        name: 'app',
        image: 'registry.example/app:1',
        imageID: `registry.example/app:1@sha256:${'0'.repeat(64)}`,
        containerID: 'crun://app-0',
        state: { kind: 'running', startedAt: '2026-01-01T00:00:00.000Z' },
        ready: true,
        started: true,
        restartCount: 0,
      },
    ],
    initialized: true,
    terminating: false,
  })
  assert.deepEqual(await machine.events(), [
    'Normal Pulled: Successfully pulled image "registry.example/app:1" in 0s',
    'Normal Created: Created container: app',
    'Normal Started: Started container app',
  ])
})

test('what was accepted is on record before it is acknowledged, readable by root only', async (t) => {
  const machine = new FakeMachine(t)
  machine.images.gate = new Promise(() => {})
  await machine.ensure()
  const file = join(machine.runDir, 'pods', JAIL_ID, 'jail.json')
  assert.deepEqual(JSON.parse(readFileSync(file, 'utf8')), sampleJail())
  assert.equal(statSync(file).mode & 0o777, 0o600)
})

test('a crashing container is restarted at once, then after 10, 20, 40, 80, 160, 300, 300 seconds', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure()
  await machine.exit('app', 1)
  assert.equal(machine.containers.starts().length, 2)
  for (const seconds of [10, 20, 40, 80, 160, 300, 300]) {
    await machine.exit('app', 1)
    const state = await machine.state()
    const shown = seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${seconds % 60}s`
    assert.deepEqual(state, {
      kind: 'waiting',
      reason: 'CrashLoopBackOff',
      message: `back-off ${shown} restarting failed container=app pod=web-0_default(${JAIL_ID})`,
    })
    assert.equal((await machine.status()).containers[0]?.lastState?.exitCode, 1)
    assert.equal((await machine.status()).phase, 'Running')
    const before = machine.containers.starts().length
    await machine.pass(seconds - 1)
    assert.equal(machine.containers.starts().length, before)
    await machine.pass(1)
    assert.equal(machine.containers.starts().length, before + 1)
  }
  assert.equal((await machine.status()).containers[0]?.restartCount, 8)
  assert(
    (await machine.events()).includes(
      `Warning BackOff: Back-off restarting failed container app in pod web-0_default(${JAIL_ID})`,
    ),
  )
})

test('a container that ran for more than ten minutes starts over with the shortest back-off', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure()
  for (const seconds of [0, 10, 20]) {
    await machine.exit('app', 1)
    await machine.pass(seconds)
  }
  await machine.pass(601)
  await machine.exit('app', 1)
  assert.equal(machine.containers.isRunning('app'), true)
  await machine.exit('app', 1)
  assert.match(JSON.stringify(await machine.state()), /back-off 10s/)
})

test('restart policies decide what happens after an end', async (t) => {
  const cases = [
    ['Always', 0, 'Running', 2],
    ['OnFailure', 0, 'Succeeded', 1],
    ['OnFailure', 3, 'Running', 2],
    ['Never', 0, 'Succeeded', 1],
    ['Never', 3, 'Failed', 1],
  ] as const
  for (const [restartPolicy, code, phase, starts] of cases) {
    const machine = new FakeMachine(t)
    await machine.ensure({ restartPolicy })
    await machine.exit('app', code)
    assert.equal((await machine.status()).phase, phase, `${restartPolicy} ${code}`)
    assert.equal(machine.containers.starts().length, starts, `${restartPolicy} ${code}`)
    // A pod that is done gives its network back and keeps its result.
    assert.equal(machine.network.made.has(JAIL_ID), starts === 2)
  }
})

test('an end is told with its code, reason and last words', async (t) => {
  const machine = new FakeMachine(t)
  machine.containers.messages.set('app', 'out of cheese')
  await machine.ensure({ restartPolicy: 'Never' })
  await machine.pass(5)
  await machine.exit('app', 137, { oomKilled: true })
  assert.deepEqual(await machine.state(), {
    kind: 'terminated',
    exitCode: 137,
    reason: 'OOMKilled',
    message: 'out of cheese',
    startedAt: '2026-01-01T00:00:00.000Z',
    finishedAt: '2026-01-01T00:00:05.000Z',
    containerID: 'crun://app-0',
  })
})

test('last words are taken from the log when the container says to', async (t) => {
  const machine = new FakeMachine(t)
  const container = sampleContainer({ terminationMessagePolicy: 'FallbackToLogsOnError' })
  await machine.ensure({ restartPolicy: 'Never', containers: [container] })
  await machine.exit('app', 1)
  const state = await machine.state()
  assert(state.kind === 'terminated')
  assert.equal(state.message, 'app 0 false')
})

test('a container whose monitor was lost is restarted and said to have ended unknown', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure()
  machine.containers.lose('app')
  await machine.settle()
  const [container] = (await machine.status()).containers
  assert.equal(container?.lastState?.reason, 'ContainerStatusUnknown')
  assert.equal(container?.lastState?.exitCode, 137)
  assert.equal(container?.state.kind, 'running')
})

test('init containers run one after the other, and the others only then', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure({
    initContainers: [sampleContainer({ name: 'one' }), sampleContainer({ name: 'two' })],
  })
  assert.deepEqual(machine.containers.starts(), ['one 0'])
  assert.equal((await machine.status()).phase, 'Pending')
  assert.deepEqual(await machine.state(), { kind: 'waiting', reason: 'PodInitializing' })
  await machine.exit('one', 0)
  assert.deepEqual(machine.containers.starts(), ['one 0', 'two 0'])
  await machine.exit('two', 1)
  assert.deepEqual(machine.containers.starts(), ['one 0', 'two 0', 'two 1'])
  await machine.exit('two', 0)
  assert.deepEqual(machine.containers.starts(), ['one 0', 'two 0', 'two 1', 'app 0'])
  const status = await machine.status()
  assert.equal(status.phase, 'Running')
  assert.equal(status.initialized, true)
  assert.deepEqual(
    status.initContainers.map((c) => c.ready),
    [true, true],
  )
  await machine.exit('app', 1)
  assert.deepEqual(machine.containers.starts().slice(4), ['app 1'])
})

test('a pod that must not restart fails with its init container', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure({
    restartPolicy: 'Never',
    initContainers: [
      sampleContainer({ name: 'side', restartPolicy: 'Always' }),
      sampleContainer({ name: 'init' }),
    ],
  })
  await machine.exit('init', 7)
  const status = await machine.status()
  assert.equal(status.phase, 'Failed')
  assert.equal(machine.containers.isRunning('side'), false)
  assert.equal(status.initialized, false)
})

test('a sidecar is started before, restarted during and stopped after the containers it serves', async (t) => {
  const machine = new FakeMachine(t)
  machine.prober.results.set(1, { ok: false, message: 'not yet' })
  const sidecar = sampleContainer({
    name: 'side',
    restartPolicy: 'Always',
    startupProbe: sampleProbe({
      handler: { kind: 'tcpSocket', port: 1 },
      periodSeconds: 1,
      failureThreshold: 99,
    }),
  })
  await machine.ensure({
    restartPolicy: 'Never',
    initContainers: [sidecar, sampleContainer({ name: 'init' })],
  })
  assert.deepEqual(machine.containers.starts(), ['side 0'])
  machine.prober.results.delete(1)
  await machine.pass(1)
  assert.deepEqual(machine.containers.starts(), ['side 0', 'init 0'])
  await machine.exit('init', 0)
  assert.deepEqual(machine.containers.starts(), ['side 0', 'init 0', 'app 0'])
  await machine.exit('side', 1)
  assert.deepEqual(machine.containers.starts().slice(3), ['side 1'])
  assert.equal((await machine.status()).phase, 'Running')
  const side = machine.containers.latest('side')
  await machine.exit('app', 0)
  assert.deepEqual(side.signals, ['SIGTERM'])
  assert.equal((await machine.status()).phase, 'Succeeded')
})

test('an image that cannot be pulled is tried again after 10, 20, 40 seconds', async (t) => {
  const machine = new FakeMachine(t)
  machine.images.failures.set('registry.example/app:1', new ImageError('ErrImagePull', 'manifest unknown'))
  await machine.ensure()
  assert.deepEqual(await machine.state(), {
    kind: 'waiting',
    reason: 'ErrImagePull',
    message: 'manifest unknown',
  })
  assert.equal((await machine.status()).phase, 'Pending')
  await machine.pass(1)
  assert.deepEqual(await machine.state(), {
    kind: 'waiting',
    reason: 'ImagePullBackOff',
    message: 'Back-off pulling image "registry.example/app:1": ErrImagePull: manifest unknown',
  })
  await machine.pass(8)
  assert.equal(machine.images.asked.length, 1)
  await machine.pass(1)
  assert.equal(machine.images.asked.length, 2)
  await machine.pass(19)
  assert.equal(machine.images.asked.length, 2)
  machine.images.failures.clear()
  await machine.pass(1)
  assert.equal((await machine.status()).phase, 'Running')
  assert.equal((await machine.status()).containers[0]?.restartCount, 0)
  const events = await machine.events()
  for (const event of [
    'Normal Pulling: Pulling image "registry.example/app:1"',
    'Warning Failed: Failed to pull image "registry.example/app:1": manifest unknown',
    'Warning Failed: Error: ErrImagePull',
    'Normal BackOff: Back-off pulling image "registry.example/app:1"',
    'Warning Failed: Error: ImagePullBackOff',
  ])
    assert(events.includes(event), event)
})

test('a container that cannot be created waits with the reason, and nothing of ours is told', async (t) => {
  const machine = new FakeMachine(t)
  const asRoot = 'container has runAsNonRoot and image will run as root'
  machine.containers.startFailures.set('app', new ContainerError('CreateContainerConfigError', asRoot))
  await machine.ensure()
  assert.deepEqual(await machine.state(), {
    kind: 'waiting',
    reason: 'CreateContainerConfigError',
    message: asRoot,
  })
  machine.containers.startFailures.set('app', new Error('EIO: /var/lib/bulkhead/secret'))
  await machine.pass(10)
  assert.deepEqual(await machine.state(), {
    kind: 'waiting',
    reason: 'CreateContainerError',
    message: 'the machine could not create the container',
  })
  assert(!JSON.stringify(await machine.told()).includes('/var/lib'))
  machine.containers.startFailures.clear()
  await machine.pass(20)
  assert.equal((await machine.status()).containers[0]?.restartCount, 0)
})

test('a command that cannot be executed counts as an end', async (t) => {
  const machine = new FakeMachine(t)
  machine.containers.startFailures.set(
    'app',
    new ContainerError('RunContainerError', 'exec: "nope": not found'),
  )
  await machine.ensure({ restartPolicy: 'Never' })
  const state = await machine.state()
  assert(state.kind === 'terminated')
  assert.deepEqual(
    [state.exitCode, state.reason, state.message],
    [128, 'StartError', 'exec: "nope": not found'],
  )
  assert.equal((await machine.status()).phase, 'Failed')

  const again = new FakeMachine(t)
  again.containers.startFailures.set(
    'app',
    new ContainerError('RunContainerError', 'exec: "nope": not found'),
  )
  await again.ensure()
  assert.match(JSON.stringify(await again.state()), /CrashLoopBackOff/)
})

test('a network that cannot be made is tried again', async (t) => {
  const machine = new FakeMachine(t)
  machine.network.failWith = new Error('netlink: /run/bulkhead/x')
  await machine.ensure()
  assert.deepEqual(await machine.state(), { kind: 'waiting', reason: 'ContainerCreating' })
  assert(
    (await machine.events()).some(
      (e) => e.startsWith('Warning FailedCreatePodSandBox: ') && !e.includes('/run'),
    ),
  )
  machine.network.failWith = undefined
  await machine.pass(1)
  assert.equal((await machine.status()).phase, 'Running')
})

test('liveness that fails three times kills and restarts the container', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure({
    containers: [sampleContainer({ livenessProbe: sampleProbe({ initialDelaySeconds: 5 }) })],
  })
  assert.equal(machine.prober.probed.length, 0)
  machine.prober.results.set(80, { ok: false, message: 'connection refused' })
  await machine.pass(5)
  assert.equal(machine.prober.probed.length, 1)
  await machine.pass(10)
  assert.deepEqual(machine.containers.latest('app').signals, [])
  await machine.pass(10)
  // It ended on SIGTERM, and its first restart waits for nothing.
  assert.deepEqual(machine.containers.starts(), ['app 0', 'app 1'])
  const events = await machine.events()
  assert(events.includes('Warning Unhealthy: Liveness probe failed: connection refused'))
  assert(events.includes('Normal Killing: Container app failed liveness probe, will be restarted'))
  assert.equal((await machine.status()).containers[0]?.lastState?.exitCode, 143)
})

test('readiness follows its thresholds and never restarts', async (t) => {
  const machine = new FakeMachine(t)
  machine.prober.results.set(80, { ok: false, message: 'no' })
  const readinessProbe = sampleProbe({ successThreshold: 2, failureThreshold: 2, periodSeconds: 1 })
  await machine.ensure({ containers: [sampleContainer({ readinessProbe })] })
  const ready = async () => (await machine.status()).containers[0]?.ready
  assert.equal(await ready(), false)
  machine.prober.results.clear()
  await machine.pass(1)
  assert.equal(await ready(), false)
  await machine.pass(1)
  assert.equal(await ready(), true)
  machine.prober.results.set(80, { ok: false, message: 'no' })
  await machine.pass(1)
  assert.equal(await ready(), true)
  await machine.pass(1)
  assert.equal(await ready(), false)
  assert.equal(machine.containers.starts().length, 1)
})

test('liveness waits until startup has succeeded', async (t) => {
  const machine = new FakeMachine(t)
  machine.prober.results.set(1, { ok: false, message: 'no' })
  const container = sampleContainer({
    startupProbe: sampleProbe({
      handler: { kind: 'tcpSocket', port: 1 },
      periodSeconds: 1,
      failureThreshold: 5,
    }),
    livenessProbe: sampleProbe({ handler: { kind: 'tcpSocket', port: 2 }, periodSeconds: 1 }),
  })
  await machine.ensure({ containers: [container] })
  await machine.pass(3)
  assert(machine.prober.probed.every((h) => h.kind === 'tcpSocket' && h.port === 1))
  assert.equal((await machine.status()).containers[0]?.started, false)
  machine.prober.results.clear()
  await machine.pass(1)
  assert.equal((await machine.status()).containers[0]?.started, true)
  assert(machine.prober.probed.some((h) => h.kind === 'tcpSocket' && h.port === 2))
})

test('startup that never succeeds kills the container', async (t) => {
  const machine = new FakeMachine(t)
  machine.prober.results.set(80, { ok: false, message: 'no' })
  await machine.ensure({ containers: [sampleContainer({ startupProbe: sampleProbe({ periodSeconds: 1 }) })] })
  await machine.pass(1)
  await machine.pass(1)
  assert.deepEqual(machine.containers.starts(), ['app 0', 'app 1'])
})

test('a pod that is removed is told to end, gets its grace, is killed, and is gone', async (t) => {
  const machine = new FakeMachine(t)
  machine.containers.ignoresTerm.add('app')
  await machine.ensure()
  await machine.red.remove(JAIL_ID, { gracePeriodSeconds: 5 })
  await machine.settle()
  assert.equal((await machine.status()).terminating, true)
  assert.deepEqual(machine.containers.latest('app').signals, ['SIGTERM'])
  await machine.pass(4)
  assert.equal(machine.containers.isRunning('app'), true)
  await machine.pass(1)
  assert.deepEqual(await machine.red.list(), [])
  assert.deepEqual([machine.containers.pods.size, machine.network.made.size], [0, 0])
  assert.deepEqual(readdirSync(join(machine.runDir, 'pods')), [])
})

test('a second removal can only make the grace shorter', async (t) => {
  const machine = new FakeMachine(t)
  machine.containers.ignoresTerm.add('app')
  await machine.ensure()
  await machine.red.remove(JAIL_ID, { gracePeriodSeconds: 100 })
  await machine.red.remove(JAIL_ID, { gracePeriodSeconds: 1_000 })
  await machine.settle()
  await machine.red.remove(JAIL_ID, { gracePeriodSeconds: 0 })
  await machine.settle()
  assert.deepEqual(await machine.red.list(), [])
})

test('preStop runs first, and what is left of the grace comes after it', async (t) => {
  const machine = new FakeMachine(t)
  const hook = Promise.withResolvers<void>()
  machine.prober.hookGate = hook.promise
  machine.containers.ignoresTerm.add('app')
  const container = sampleContainer({ lifecycle: { preStop: { kind: 'exec', command: ['drain'] } } })
  await machine.ensure({ containers: [container] })
  await machine.red.remove(JAIL_ID, { gracePeriodSeconds: 10 })
  await machine.settle()
  assert.deepEqual(machine.prober.hooked, [{ kind: 'exec', command: ['drain'] }])
  const { signals } = machine.containers.latest('app')
  await machine.pass(9)
  assert.deepEqual(signals, [])
  hook.resolve()
  await machine.settle()
  assert.deepEqual(signals, ['SIGTERM'])
  await machine.pass(1)
  assert.deepEqual(signals, ['SIGTERM'])
  await machine.pass(1)
  assert.deepEqual(signals, ['SIGTERM', 'SIGKILL'])
})

test("an image's stop signal is used", async (t) => {
  const machine = new FakeMachine(t)
  machine.images.stopSignal = 'SIGQUIT'
  await machine.ensure()
  const { signals } = machine.containers.latest('app')
  await machine.red.remove(JAIL_ID, {})
  await machine.settle()
  assert.deepEqual(signals, ['SIGQUIT'])
})

test('postStart that fails ends the container, and probes wait for it', async (t) => {
  const machine = new FakeMachine(t)
  machine.prober.results.set('hook', { ok: false, message: 'exit 3' })
  const container = sampleContainer({
    lifecycle: { postStart: { kind: 'exec', command: ['hook'] } },
    livenessProbe: sampleProbe(),
  })
  await machine.ensure({ restartPolicy: 'Never', containers: [container] })
  assert.equal(machine.prober.probed.length, 0)
  assert.equal((await machine.status()).phase, 'Failed')
  assert((await machine.events()).includes('Warning FailedPostStartHook: PostStartHook failed: exit 3'))
})

test('sidecars end after the others, the last one first', async (t) => {
  const machine = new FakeMachine(t)
  machine.containers.ignoresTerm.add('app')
  await machine.ensure({
    initContainers: ['a', 'b'].map((name) => sampleContainer({ name, restartPolicy: 'Always' })),
  })
  const signals = ['app', 'b', 'a'].map((name) => machine.containers.latest(name).signals)
  for (const name of ['a', 'b']) machine.containers.ignoresTerm.add(name)
  await machine.red.remove(JAIL_ID, { gracePeriodSeconds: 30 })
  await machine.settle()
  assert.deepEqual(signals, [['SIGTERM'], [], []])
  await machine.exit('app', 0)
  assert.deepEqual(signals, [['SIGTERM'], ['SIGTERM'], []])
  await machine.exit('b', 0)
  assert.deepEqual(signals, [['SIGTERM'], ['SIGTERM'], ['SIGTERM']])
  await machine.exit('a', 0)
  assert.deepEqual(await machine.red.list(), [])
})

test('a pod is removed while its image is being pulled, and a removal that fails is tried again', async (t) => {
  const machine = new FakeMachine(t)
  machine.images.gate = new Promise(() => {})
  await machine.ensure()
  machine.containers.removeFailure = new Error('busy')
  await machine.red.remove(JAIL_ID, {})
  await machine.settle()
  assert.equal((await machine.status()).terminating, true)
  machine.containers.removeFailure = undefined
  await machine.pass(1)
  assert.deepEqual(await machine.red.list(), [])
})

test('a pod past its deadline is stopped and has failed', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure({ activeDeadlineSeconds: 60 })
  await machine.pass(59)
  assert.equal((await machine.status()).phase, 'Running')
  await machine.pass(1)
  const status = await machine.status()
  assert.deepEqual([status.phase, status.reason], ['Failed', 'DeadlineExceeded'])
  assert.equal(machine.containers.isRunning('app'), false)
  await machine.pass(1_000)
  assert.equal(machine.containers.starts().length, 1)
})

test('a changed image replaces the container, another container is refused', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure({ restartPolicy: 'Never' })
  await machine.ensure({
    restartPolicy: 'Never',
    containers: [sampleContainer({ image: 'registry.example/app:2' })],
  })
  assert.deepEqual(machine.containers.starts(), ['app 0', 'app 1'])
  assert.equal(machine.containers.latest('app').spec.container.image, 'registry.example/app:2')
  const other = sampleJail({ pod: 'db-0', containers: [sampleContainer({ name: 'db' })] })
  await assert.rejects(machine.red.ensure(other), (error: unknown) => {
    assert(error instanceof ApiError)
    assert.equal(error.code, 422)
    assert.deepEqual(
      error.details?.causes?.map((c) => c.field),
      ['pod', 'containers'],
    )
    return true
  })
})

test('a changed environment counts from the next start, other changes do not count', async (t) => {
  const machine = new FakeMachine(t)
  const env = (value: string) => [{ name: 'COLOR', value }]
  await machine.ensure({ containers: [sampleContainer({ env: env('red') })] })
  await machine.ensure({
    hostname: 'other',
    containers: [sampleContainer({ env: env('blue'), args: ['--blue'], runAsUser: 7 })],
  })
  assert.deepEqual(machine.containers.starts(), ['app 0'], 'what runs goes on undisturbed')
  await machine.exit('app', 1)
  const { spec } = machine.containers.latest('app')
  assert.deepEqual(spec.container, sampleContainer({ env: env('blue'), args: ['--blue'] }))
  assert.equal(spec.jail.hostname, 'web-0')
  await machine.restart()
  await machine.ensure({ containers: [sampleContainer({ env: env('green') })] })
  await machine.pass(10)
  await machine.exit('app', 1)
  await machine.pass(10)
  assert.deepEqual(machine.containers.latest('app').spec.container, sampleContainer({ env: env('green') }))
})

test('a pod that occupies more disk than it may is evicted for good, and its data goes', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure({
    volumes: [{ name: 'cache', kind: 'scratch', medium: 'disk', sizeBytesMax: 2 ** 20 }],
  })
  const app = machine.containers.latest('app')
  machine.disk.usage = { ...NO_USAGE, volumes: new Map([['cache', 2 ** 20]]) }
  await machine.pass(30)
  assert.equal((await machine.status()).phase, 'Running', 'a limit may be reached')
  machine.containers.ignoresTerm.add('app')
  machine.disk.usage = { ...NO_USAGE, volumes: new Map([['cache', 2 ** 20 + 4_096]]) }
  await machine.pass(10)
  assert.deepEqual(app.signals, ['SIGTERM'])
  await machine.pass(1)
  assert.deepEqual(app.signals, ['SIGTERM', 'SIGKILL'], 'an evicted pod has a second')
  const message = 'Usage of EmptyDir volume "cache" exceeds the limit "1Mi". '
  const { phase, reason, message: told } = await machine.status()
  assert.deepEqual({ phase, reason, told }, { phase: 'Failed', reason: 'Evicted', told: message })
  assert((await machine.events()).includes(`Warning Evicted: ${message}`))
  assert.deepEqual(machine.disk.released, [JAIL_ID])
  await machine.restart()
  await machine.pass(20)
  assert.deepEqual(machine.containers.starts(), ['app 0'])
  assert.equal((await machine.status()).reason, 'Evicted')
})

test('a pod with more files than it may have is evicted, however small they are', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure()
  machine.disk.usage = { ...NO_USAGE, files: 2 ** 20 }
  await machine.pass(30)
  assert.equal((await machine.status()).phase, 'Running')
  machine.disk.usage = { ...NO_USAGE, files: 2 ** 20 + 1 }
  await machine.pass(20)
  const { reason, message } = await machine.status()
  assert.deepEqual(
    { reason, message },
    {
      reason: 'Evicted',
      message: 'Pod ephemeral local storage has 1048577 files, which exceeds the limit of 1048576. ',
    },
  )
})

test('a pod is told once that a file system of its is full, and again when it was not meanwhile', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure()
  const full = { ...NO_USAGE, full: [{ of: { kind: 'pod' as const }, what: 'bytes' as const }] }
  const toldAt = async () => {
    const all = (await machine.told()).flatMap((e) => (e.type === 'EVENT' ? [e.event] : []))
    return all.find(({ reason }) => reason === 'EphemeralStorageFull')?.at
  }
  assert.equal(await toldAt(), undefined)
  machine.disk.usage = full
  await machine.pass(30)
  const first = await toldAt()
  await machine.pass(30)
  assert.ok(first)
  assert.equal(await toldAt(), first)
  machine.disk.usage = NO_USAGE
  await machine.pass(30)
  machine.disk.usage = full
  await machine.pass(30)
  assert.notEqual(await toldAt(), first)
  assert.equal((await machine.status()).phase, 'Running')
})

test('pods of a tenant that have more than its share of the disk are evicted', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure()
  const bytes = 1_000 * 2 ** 20
  machine.disk.ofTenant = { bytes, bytesFree: bytes, files: 100, filesFree: 100 }
  machine.disk.usage = { ...NO_USAGE, total: 900 * 2 ** 20 }
  await machine.pass(30)
  assert.equal((await machine.status()).phase, 'Running', 'a share may be used up')
  machine.disk.usage = { ...NO_USAGE, total: 900 * 2 ** 20 + 1 }
  await machine.pass(20)
  assert.match((await machine.status()).message ?? '', /together occupy more than 900Mi of its 1000Mi/)
})

test('when the disk is nearly full, pods go until it is not', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure()
  await machine.restart()
  machine.disk.usage = { ...NO_USAGE, total: 4_096 }
  await machine.pass(5)
  assert.equal((await machine.status()).phase, 'Running')
  machine.disk.free = { ...machine.disk.free, filesFree: 2 ** 24 / 25 - 1 }
  await machine.pass(20)
  const { reason, message } = await machine.status()
  assert.deepEqual(
    { reason, message },
    { reason: 'Evicted', message: 'The node was low on resource: ephemeral-storage. ' },
  )
})

test('a pod that cannot be measured again and again is evicted, one that could once is not', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure()
  machine.disk.failure = new Error('too slow')
  await machine.pass(40)
  machine.disk.failure = undefined
  await machine.pass(10)
  machine.disk.failure = new Error('too slow')
  await machine.pass(40)
  assert.equal((await machine.status()).phase, 'Running')
  await machine.pass(10)
  assert.equal((await machine.status()).reason, 'Evicted')
})

test('changed files reach a running pod', async (t) => {
  const machine = new FakeMachine(t)
  const volumes = (text_: string) => [
    {
      name: 'config',
      kind: 'files' as const,
      files: [{ path: 'a', mode: 0o644, contentBase64: Buffer.from(text_).toString('base64') }],
    },
  ]
  await machine.ensure({ volumes: volumes('one') })
  await machine.ensure({ volumes: volumes('one') })
  assert(!machine.containers.calls.includes('updateFiles config'))
  await machine.ensure({ volumes: volumes('two') })
  assert(machine.containers.calls.includes('updateFiles config'))
})

test('an untrusted tenant gets gVisor whatever its jail says, with a fresh network per sandbox', async (t) => {
  const machine = new FakeMachine(t)
  machine.placement = samplePlacement({ isolationClass: 'sandboxed' })
  machine.red = machine.engine.engineFor(machine.placement)
  await machine.ensure({ runtime: 'runc' })
  assert.equal(machine.containers.latest('app').spec.jail.runtime, 'gvisor')
  assert(!machine.network.calls.includes(`renewPod ${JAIL_ID}`))
  await machine.exit('app', 1)
  assert.equal(machine.network.calls.filter((c) => c === `renewPod ${JAIL_ID}`).length, 1)
  assert.match(machine.containers.latest('app').spec.namespaces.net, /\/1\/net$/)
})

test('two gVisor containers that ended together renew the network once', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure({
    runtime: 'gvisor',
    containers: [sampleContainer({ name: 'a' }), sampleContainer({ name: 'b' })],
  })
  machine.containers.exit('a', 1)
  machine.containers.exit('b', 1)
  await machine.settle()
  assert.equal(machine.network.calls.filter((c) => c === `renewPod ${JAIL_ID}`).length, 1)
  assert.equal(
    machine.containers.latest('a').spec.namespaces.net,
    machine.containers.latest('b').spec.namespaces.net,
  )
})

test('logs are those of the right start', async (t) => {
  const machine = new FakeMachine(t)
  const log = async (previous = false) => await text(await machine.red.logs(JAIL_ID, 'app', { previous }))
  await machine.ensure()
  assert.equal(await log(), 'app 0 false')
  await assert.rejects(log(true), /previous terminated container "app" in pod "web-0" not found/)
  await machine.exit('app', 1)
  assert.equal(await log(), 'app 1 false')
  assert.equal(await log(true), 'app 0 true')
  await machine.exit('app', 1)
  assert.equal(await log(), 'app 1 false')
  assert.equal(await log(true), 'app 1 true')
})

test('what cannot be asked of a pod is refused with a reason', async (t) => {
  const machine = new FakeMachine(t)
  machine.images.gate = new Promise(() => {})
  await machine.ensure()
  const options = { command: ['id'], stdin: false, stdout: true, stderr: true, tty: false }
  await assert.rejects(
    machine.red.exec(JAIL_ID, 'app', options),
    /container "app" in pod "web-0" is not running/,
  )
  await assert.rejects(
    machine.red.exec(JAIL_ID, 'nope', options),
    /container nope is not valid for pod web-0/,
  )
  await assert.rejects(machine.red.exec(other, 'app', options), { reason: 'NotFound' })
  await assert.rejects(machine.red.portForward(JAIL_ID, 80), { reason: 'BadRequest' })
  await assert.rejects(machine.red.logs(JAIL_ID, 'app', {}), /is waiting to start: ContainerCreating/)
})

test('sessions of a tenant are bounded, and a closed one makes room', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure()
  const open = () => machine.red.portForward(JAIL_ID, 80)
  const streams = await Promise.all(Array.from({ length: 64 }, open))
  await assert.rejects(open(), { reason: 'TooManyRequests' })
  streams[0]?.destroy()
  await machine.settle()
  await open()
})

test('a tenant has room for so many pods', async (t) => {
  const machine = new FakeMachine(t)
  machine.images.gate = new Promise(() => {})
  const ensure = (index: number) =>
    machine.red.ensure(
      sampleJail({ id: `00000000-0000-4000-8000-${String(index).padStart(12, '0')}` as JailId }),
    )
  const { allocatable } = await machine.red.node()
  for (let i = 0; i < allocatable.pods; i++) await ensure(i)
  await assert.rejects(ensure(allocatable.pods), { reason: 'TooManyRequests' })
  await ensure(0)
})

test('when memory is nearly used up, who took more than was asked for goes, and the pod says why', async (t) => {
  const machine = new FakeMachine(t)
  machine.memoryAvailable = 0
  await machine.engine.start()
  await machine.ensure()
  machine.containers.used.set(JAIL_ID, [{ name: 'app', run: 'app', cpuNanos: 0, workingSetBytes: 2 ** 20 }])
  machine.clock.advance(1_000)
  await machine.settle()
  const [status] = await machine.red.list()
  assert.equal(status?.reason, 'Evicted')
  assert.match(
    status?.message ?? '',
    /^The node was low on resource: memory\. Container app was using 1024Ki, /,
  )
  const pressures = async () => (await machine.red.node()).pressures.map(({ what }) => what)
  assert.deepEqual(await pressures(), ['memory'])
  const blueEngine = machine.engine.engineFor(samplePlacement({ tenant: blue, index: 1 }))
  assert.deepEqual((await blueEngine.node()).pressures, [], 'others learn nothing about their neighbours')
  await machine.pass(301)
  assert.deepEqual(await pressures(), [])
})

test('room is given once: to pods that come, to those that are about to, and to nobody beyond the quota', async (t) => {
  const machine = new FakeMachine(t)
  machine.images.gate = new Promise(() => {})
  const blueEngine = machine.engine.engineFor(samplePlacement({ tenant: blue, index: 1 }))
  const { allocatable } = await machine.red.node()
  const id = (index: number) => `00000000-0000-4000-8000-${String(index).padStart(12, '0')}` as JailId
  const half = { cpuMillis: Math.floor(allocatable.cpuMillis / 2), memoryBytes: 1 }
  assert.deepEqual(await machine.red.reserve(id(1), half), { missing: [] })
  assert.deepEqual(await machine.red.reserve(id(1), half), { missing: [] }, 'asking again changes nothing')
  assert.deepEqual(await blueEngine.reserve(id(2), half), { missing: [] })
  assert.deepEqual(await machine.red.reserve(id(3), half), { missing: ['cpu'] })
  // Only one's own pods can be thought away.
  assert.deepEqual(await machine.red.reserve(id(3), { ...half, without: [id(2)] }), { missing: ['cpu'] })
  assert.deepEqual(await machine.red.reserve(id(3), { ...half, without: [id(1)] }), { missing: [] })
  assert.deepEqual(await machine.red.reserve(id(3), half), { missing: ['cpu'] }, 'a question keeps nothing')
  const resources = { cpuMillisRequest: half.cpuMillis, memoryBytesRequest: 1 }
  const jail = (index: number) => sampleJail({ id: id(index), containers: [sampleContainer({ resources })] })
  await assert.rejects(machine.red.ensure(jail(3)), { reason: 'TooManyRequests' })
  await machine.red.ensure(jail(1))
  assert.deepEqual(await machine.red.reserve(id(3), half), { missing: ['cpu'] })
  machine.clock.advance(61_000)
  assert.deepEqual(await machine.red.reserve(id(3), half), { missing: [] }, 'blue’s pod never came')
})

test('a tenant that was put before another gets its room: gracefully, kept for it, and nobody hears for whom', async (t) => {
  const machine = new FakeMachine(t)
  const high = machine.engine.engineFor(samplePlacement({ tenant: blue, index: 1, rank: { priority: 5 } }))
  const { allocatable } = await machine.red.node()
  const id = (index: number) => `00000000-0000-4000-8000-${String(index).padStart(12, '0')}` as JailId
  const all = { cpuMillis: allocatable.cpuMillis, memoryBytes: 1 }
  const resources = { cpuMillisRequest: all.cpuMillis, memoryBytesRequest: 1 }
  const jail = (index: number, over: Partial<Jail> = {}) =>
    sampleJail({ id: id(index), containers: [sampleContainer({ name: 'app', resources })], ...over })
  machine.containers.ignoresTerm.add('app')
  await machine.red.reserve(id(1), all)
  await machine.ensure(jail(1, { priority: 2_000_000_000, terminationGracePeriodSeconds: 1_000_000 }))
  // It is on its way out, and cannot take its time.
  await machine.red.remove(id(1), {})
  await machine.settle()

  assert.deepEqual(await high.reserve(id(2), all), { missing: ['cpu'] })
  assert.deepEqual(await high.reserve(id(2), all), { missing: ['cpu'] }, 'asking again takes nobody else')
  await machine.pass(29)
  assert.deepEqual((await machine.red.list()).length, 1)
  await machine.pass(3)
  assert.deepEqual(await machine.red.list(), [])
  // What it left is kept, also from the tenant that had it.
  assert.deepEqual(await machine.red.reserve(id(3), all), { missing: ['cpu'] })
  assert.deepEqual(await high.reserve(id(2), all), { missing: [] })
  await high.ensure({ ...jail(2), tenant: blue })
  await machine.settle()
  assert.deepEqual(await machine.red.reserve(id(3), all), { missing: ['cpu'] }, 'nobody goes for a lower one')
  const [status] = await high.list()
  assert.equal(status?.reason, undefined)
})

test('a pod that makes room for another tenant fails with a reason that names nobody', async (t) => {
  const machine = new FakeMachine(t)
  const high = machine.engine.engineFor(samplePlacement({ tenant: blue, index: 1, rank: { priority: 1 } }))
  const { allocatable } = await machine.red.node()
  const all = { cpuMillis: allocatable.cpuMillis, memoryBytes: 1 }
  const resources = { cpuMillisRequest: 10, memoryBytesRequest: 1 }
  await machine.ensure({ containers: [sampleContainer({ name: 'app', resources })] })
  assert.deepEqual(await high.reserve(other, { ...all, without: [JAIL_ID] }), { missing: ['cpu'] })
  await machine.settle()
  assert.equal((await machine.red.list())[0]?.reason, undefined, 'a question makes nobody go')
  await high.reserve(other, all)
  await machine.pass(3)
  const [status] = await machine.red.list()
  assert.equal(status?.phase, 'Failed')
  assert.equal(status?.reason, 'Preempted')
  assert.equal(status?.message, 'Preempted in order to admit a more important pod. ')
  assert.deepEqual(await high.reserve(other, all), { missing: [] })
})

test('a watcher sees changes as they happen and the removal at the end', async (t) => {
  const machine = new FakeMachine(t)
  const seen: string[] = []
  const controller = new AbortController()
  const reading = (async () => {
    for await (const event of machine.red.watch(controller.signal))
      seen.push(event.type === 'STATUS' ? `STATUS ${event.status.phase}` : event.type)
  })()
  await machine.ensure()
  await machine.red.remove(JAIL_ID, {})
  await machine.settle()
  controller.abort()
  await reading
  assert.equal(seen[0], 'SYNCED')
  assert(seen.includes('STATUS Running'))
  assert(seen.includes('EVENT'))
  assert(seen.includes('REMOVED'))
})

test('removing a tenant kills its pods at once', async (t) => {
  const machine = new FakeMachine(t)
  machine.containers.ignoresTerm.add('app')
  await machine.ensure()
  await machine.ensure({ id: other })
  await machine.engine.removeTenant(red)
  assert.deepEqual(await machine.red.list(), [])
  assert.equal(machine.containers.pods.size, 0)
})

test('the next tenant of a name hears nothing of the one before, whose engine takes no more pods', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure()
  const before = machine.red
  await machine.engine.removeTenant(red)
  await assert.rejects(before.ensure(sampleJail({ id: other })), /is being removed from this machine/)
  const next = machine.engine.engineFor(samplePlacement())
  assert.deepEqual(await next.list(), [])
  for await (const event of next.watch(new AbortController().signal)) {
    assert.deepEqual(event, { type: 'SYNCED' })
    break
  }
})

test('a tenant has room for no more pods than its quota, whatever its control plane lets in', async (t) => {
  const machine = new FakeMachine(t)
  const engine = machine.engine.engineFor({ ...samplePlacement(), quota: { pods: 1 } })
  await engine.ensure(sampleJail())
  await engine.ensure(sampleJail())
  await assert.rejects(engine.ensure(sampleJail({ id: other })), /More than 1 pods of one tenant/)
  await machine.settle()
})

// Recovery: the engine dies in each state and comes back.

test('a running pod is taken over untouched', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure()
  await machine.exit('app', 1)
  const before = await machine.status()
  const calls = machine.containers.calls.length
  await machine.restart()
  assert.deepEqual(await machine.status(), before)
  assert.equal(machine.containers.calls.length, calls)
  await machine.exit('app', 1)
  assert.match(JSON.stringify(await machine.state()), /back-off 10s/)
  await machine.pass(10)
  assert.equal((await machine.status()).containers[0]?.restartCount, 2)
})

test('an end that came while the engine was dead is told and acted on', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure()
  await machine.engine.stop()
  machine.containers.exit('app', 42)
  await machine.restart()
  const [container] = (await machine.status()).containers
  assert.equal(container?.lastState?.exitCode, 42)
  assert.equal(container?.state.kind, 'running')
  assert.equal(container?.restartCount, 1)
})

test('a back-off goes on where it was', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure()
  await machine.exit('app', 1)
  await machine.exit('app', 1)
  await machine.pass(4)
  await machine.restart()
  assert.match(JSON.stringify(await machine.state()), /CrashLoopBackOff/)
  await machine.pass(5)
  assert.equal(machine.containers.isRunning('app'), false)
  await machine.pass(1)
  assert.equal(machine.containers.isRunning('app'), true)
})

test('a pod whose image was being pulled is started', async (t) => {
  const machine = new FakeMachine(t)
  machine.images.gate = new Promise(() => {})
  await machine.ensure()
  await machine.engine.stop()
  machine.images.gate = undefined
  await machine.restart()
  assert.equal((await machine.status()).phase, 'Running')
  assert.equal((await machine.status()).containers[0]?.restartCount, 0)
})

test('a removal that was interrupted is carried through', async (t) => {
  const machine = new FakeMachine(t)
  machine.containers.ignoresTerm.add('app')
  await machine.ensure()
  await machine.red.remove(JAIL_ID, { gracePeriodSeconds: 10 })
  await machine.settle()
  await machine.restart()
  assert.equal((await machine.status()).terminating, true)
  await machine.pass(10)
  assert.deepEqual(await machine.red.list(), [])
  assert.equal(machine.network.made.size, 0)
})

test('init containers that are through do not run again', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure({ initContainers: [sampleContainer({ name: 'init' })] })
  await machine.exit('init', 0)
  await machine.restart()
  await machine.exit('app', 1)
  assert.deepEqual(machine.containers.starts(), ['init 0', 'app 0', 'app 1'])
})

test('a finished pod stays finished', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure({ restartPolicy: 'Never' })
  await machine.exit('app', 0)
  const before = await machine.status()
  await machine.restart()
  assert.deepEqual(await machine.status(), before)
  assert.equal(before.phase, 'Succeeded')
})

test('a deadline counts on while the engine is dead', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure({ activeDeadlineSeconds: 60 })
  await machine.engine.stop()
  machine.clock.advance(61_000)
  await machine.restart()
  assert.equal((await machine.status()).reason, 'DeadlineExceeded')
})

test('a container that vanished is told as unknown and restarted', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure()
  await machine.engine.stop()
  machine.containers.containers.clear()
  await machine.restart()
  const [container] = (await machine.status()).containers
  assert.equal(container?.lastState?.reason, 'ContainerStatusUnknown')
  assert.equal(container?.state.kind, 'running')
})

test('probes go on after a restart, and what was ready stays ready', async (t) => {
  const machine = new FakeMachine(t)
  const container = sampleContainer({
    startupProbe: sampleProbe({ handler: { kind: 'tcpSocket', port: 1 } }),
    readinessProbe: sampleProbe({ handler: { kind: 'tcpSocket', port: 2 } }),
  })
  await machine.ensure({ containers: [container] })
  assert.equal((await machine.status()).containers[0]?.ready, true)
  machine.prober.results.set(1, { ok: false, message: 'startup is over' })
  const before = machine.prober.probed.length
  await machine.restart()
  assert.equal((await machine.status()).containers[0]?.ready, true)
  await machine.pass(10)
  assert(machine.prober.probed.slice(before).every((h) => h.kind === 'tcpSocket' && h.port === 2))
  assert(machine.prober.probed.length > before)
})

test('what nobody knows is removed', async (t) => {
  const machine = new FakeMachine(t)
  await machine.ensure()
  machine.containers.pods.set(other, sampleJail({ id: other }))
  machine.network.made.set(other, { generation: 0 })
  await machine.restart()
  assert.deepEqual([...machine.containers.pods.keys()], [JAIL_ID])
  assert.deepEqual([...machine.network.made.keys()], [JAIL_ID])

  machine.placement = undefined
  await machine.restart()
  assert.deepEqual([machine.containers.pods.size, machine.network.made.size], [0, 0])
})
