import assert from 'node:assert/strict'
import { FakeEngine } from '../../src/controllers/controllers.testkit.ts'
import { issueTokensThrough, type Running, startTenantControllers } from '../../src/controllers/index.ts'
import { type Clock, silentLogger, systemClock } from '../../src/stdx/index.ts'
import { ControlPlane, TENANT } from '../conformance/control-plane.ts'
import { Kubectl } from '../conformance/kubectl.ts'

/** A tenant with the real API server, controllers and kubectl, whose engine only pretends to run containers. */
export class PretendTenant implements AsyncDisposable {
  readonly engine: FakeEngine
  readonly plane: ControlPlane
  readonly kubectl: Kubectl
  private readonly namespace: string
  private readonly clock: Clock
  private running: Running | undefined

  private constructor(parts: {
    engine: FakeEngine
    plane: ControlPlane
    kubectl: Kubectl
    namespace: string
    clock: Clock
  }) {
    this.engine = parts.engine
    this.plane = parts.plane
    this.kubectl = parts.kubectl
    this.namespace = parts.namespace
    this.clock = parts.clock
  }

  /** `clock` is the controllers' and the API server's; commands and connections keep the real time. */
  static async start(
    namespace: string,
    { clock = systemClock }: { clock?: Clock } = {},
  ): Promise<PretendTenant> {
    const engine = new FakeEngine(clock)
    const plane = await ControlPlane.start({ engine, clock })
    const kubectl = await Kubectl.open(`http://127.0.0.1:${plane.port}`)
    const tenant = new PretendTenant({ engine, plane, kubectl, namespace, clock })
    await tenant.resume()
    await tenant.ok(['create', 'namespace', namespace])
    return tenant
  }

  /** Output of a kubectl command that must succeed. */
  async ok(args: readonly string[], input = ''): Promise<string> {
    const result = await this.kubectl.run(['-n', this.namespace, ...args], { input })
    assert.equal(result.code, 0, `kubectl ${args.join(' ')}\n${result.stdout}${result.stderr}`)
    return result.stdout
  }

  /** What a kubectl command that must fail says. */
  async refused(args: readonly string[], input = ''): Promise<string> {
    const result = await this.kubectl.run(['-n', this.namespace, ...args], { input })
    assert.notEqual(result.code, 0, `kubectl ${args.join(' ')}\n${result.stdout}`)
    return result.stderr
  }

  async resume(): Promise<void> {
    this.running = await startControllers(this.plane, this.engine, this.clock)
  }

  /** The controllers stop, as when the control plane sleeps; the API server and the pods go on. */
  async pause(): Promise<void> {
    await this.running?.stop()
    this.running = undefined
  }

  /** Resolves when nothing was written for many turns of the event loop. */
  async settled(): Promise<void> {
    for (let quiet = 0, before = -1; quiet < 200;) {
      await new Promise((resolve) => setImmediate(resolve))
      const now = this.plane.store.revision
      quiet = now === before ? quiet + 1 : 0
      before = now
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pause()
    await this.kubectl[Symbol.asyncDispose]()
    await this.plane[Symbol.asyncDispose]()
  }
}

/** A tenant's controllers beside its API server; resolves when they know what there is. */
export async function startControllers(
  plane: ControlPlane,
  engine: FakeEngine,
  clock: Clock = systemClock,
): Promise<Running> {
  const client = plane.server.client('controller-manager')
  const running = startTenantControllers({
    client,
    engine,
    tenant: TENANT,
    clock,
    log: silentLogger,
    options: {
      runtime: 'runc',
      caPem: 'authority',
      issueToken: issueTokensThrough(client),
      node: { cpuMillis: 4_000, memoryBytes: 2 ** 32, ephemeralStorageBytes: 2 ** 34 },
    },
  })
  await running.started
  return running
}
