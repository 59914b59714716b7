import assert from 'node:assert/strict'
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import type { Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { type HarmlessCapability, parseLayout, paths } from '../../api/index.ts'
import {
  CHANNEL,
  FrameParser,
  RemoteEngine,
  renderFrame,
  type Frame,
  type Jail,
  type JailContainerStatus,
  type JailId,
  type JailStatus,
} from '../../jail/index.ts'
import { silentLogger, systemClock, until } from '../../stdx/index.ts'
import { JAIL_ID, sampleContainer, sampleJail, samplePlacement, sampleProbe } from './fakes/sample-jail.ts'
import { createClaims } from './host/claims.ts'
import { createContainerHost } from './host/container-host.ts'
import { whyNoContainers } from './host/container-host.testkit.ts'
import { ensureRunDir, removeRunDir } from './host/machine.ts'
import { createPodNetwork } from './host/net/pod-network.ts'
import { createLocalEngine, type LocalEngine } from './local-engine.ts'
import type { Images } from './parts.ts'
import { serveExchanges } from './pods/exchange-server.ts'
import { serveEngine, type EngineServer } from './server.ts'

/** Everything of the engine is real here but the registry: each image is busybox. */
class RealMachine implements AsyncDisposable {
  private readonly directory = mkdtempSync(join(tmpdir(), 'bulkhead-tlen-'))
  private readonly layout = parseLayout({
    BULKHEAD_INSTANCE: 'tlen',
    BULKHEAD_SLOT: '12',
    BULKHEAD_STATE_DIR: join(this.directory, 'state'),
  })
  private readonly placement = samplePlacement({ podUidBase: this.layout.podUidBase })
  private network = createPodNetwork({ layout: this.layout, log: silentLogger })
  private containers = this.openContainers()
  private engine: LocalEngine | undefined
  private server: EngineServer | undefined
  /** In this process here; who runs it is not what is tested. */
  private prober: Server | undefined
  readonly remote = new RemoteEngine({
    socketPath: paths.nodeTenantSocket(this.layout, this.placement.tenant),
  })
  // What the engine waits with does not keep a process alive on its own.
  private readonly awake = setInterval(() => {}, 60_000)

  static async open(): Promise<RealMachine> {
    const machine = new RealMachine()
    chmodSync(machine.directory, 0o711)
    ensureRunDir(machine.layout)
    mkdirSync(join(machine.layout.runDir, 'node'))
    const bin = join(machine.directory, 'layer', 'bin')
    mkdirSync(bin, { recursive: true })
    copyFileSync('/bin/busybox', join(bin, 'busybox'))
    for (const applet of ['sh', 'sleep', 'cat', 'httpd', 'echo', 'hostname', 'id'])
      symlinkSync('busybox', join(bin, applet))
    mkdirSync(join(machine.layout.runDir, 'prober'))
    machine.prober = await serveExchanges({
      socketPath: paths.proberSocket(machine.layout),
      log: silentLogger,
    })
    await machine.start()
    return machine
  }

  async hasGvisor(): Promise<boolean> {
    return (await this.remote.node()).runtimes.gvisor !== undefined
  }

  /** The first process of a container as the machine sees it. */
  async processStatus(id: JailId, name: string): Promise<string> {
    const pod = (await this.containers.observe()).find((o) => o.jail === id)
    const state = pod?.containers.find((c) => c.name === name)?.state
    assert(state?.kind === 'running')
    return readFileSync(`/proc/${state.pid}/status`, 'utf8')
  }

  /** As after `kill -9` and a new start: everything that a process held in memory is gone. */
  async restart(): Promise<void> {
    await this.stop()
    this.network = createPodNetwork({ layout: this.layout, log: silentLogger })
    this.containers = this.openContainers()
    await this.start()
  }

  private openContainers() {
    const { resolver } = this.network
    return createContainerHost({
      layout: this.layout,
      clock: systemClock,
      log: silentLogger,
      resolver,
      hostIP: resolver,
    })
  }

  private async start(): Promise<void> {
    await this.network.ensureNode()
    const images: Images = {
      ensure: async (_placement, reference) => ({
        imageID: `${reference}@sha256:${'0'.repeat(64)}`,
        layers: [join(this.directory, 'layer')],
        config: {
          entrypoint: [],
          cmd: ['/bin/sh'],
          env: ['PATH=/bin'],
          user: '',
          workingDir: '/',
          volumes: [],
        },
        pulled: false,
      }),
    }
    this.engine = createLocalEngine({
      layout: this.layout,
      clock: systemClock,
      log: silentLogger,
      images,
      network: this.network,
      containers: this.containers,
      claims: createClaims({
        layout: this.layout,
        clock: systemClock,
        log: silentLogger,
        dataKey: () => new Uint8Array(32),
      }),
      placement: () => this.placement,
    })
    await this.engine.start()
    this.server = await serveEngine({
      socketPath: paths.nodeTenantSocket(this.layout, this.placement.tenant),
      placement: this.placement,
      engine: this.engine.engineFor(this.placement),
      log: silentLogger,
    })
  }

  private async stop(): Promise<void> {
    await this.server?.close()
    await this.engine?.stop()
    this.network.close()
  }

  async pod(
    id: JailId,
    fits: (status: JailStatus, container: JailContainerStatus) => boolean,
  ): Promise<JailStatus> {
    let last: JailStatus | undefined
    try {
      return await until(
        async () => {
          last = (await this.remote.list()).find((s) => s.id === id)
          const container = last?.containers[0]
          return last && container && fits(last, container) ? last : undefined
        },
        { timeoutMs: 20_000 },
      )
    } catch (cause) {
      throw new Error(`The pod did not get there: ${JSON.stringify(last)}`, { cause })
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.engine?.removeTenant(this.placement.tenant)
    await this.stop()
    this.remote.close()
    this.prober?.close()
    await this.containers.reset()
    await this.network.reset()
    removeRunDir(this.layout)
    rmSync(this.directory, { recursive: true, force: true })
    clearInterval(this.awake)
  }
}

async function exec(
  machine: RealMachine,
  id: JailId,
  command: string[],
  input = '',
  container = 'app',
): Promise<{ out: string; status: unknown }> {
  const options = { command, stdin: input !== '', stdout: true, stderr: true, tty: false }
  const stream = await machine.remote.exec(id, container, options)
  if (input !== '') {
    stream.write(renderFrame(CHANNEL.stdin, Buffer.from(input)))
    stream.write(renderFrame(CHANNEL.close, Buffer.from([CHANNEL.stdin])))
  }
  const parser = new FrameParser()
  const frames: Frame[] = []
  for await (const chunk of stream as AsyncIterable<Buffer>) frames.push(...parser.parse(chunk))
  const of = (channel: number) =>
    Buffer.concat(frames.filter((f) => f.channel === channel).map((f) => f.payload)).toString()
  return { out: of(CHANNEL.stdout), status: JSON.parse(of(CHANNEL.status)) as unknown }
}

const WEB =
  'echo started; echo hello from the pod > /index.html; httpd -f -p 8080 -h / & trap "exit 0" TERM; wait'

function web(over: Partial<Jail> = {}): Jail {
  return sampleJail({
    terminationGracePeriodSeconds: 5,
    containers: [
      sampleContainer({
        command: ['/bin/sh', '-c', WEB],
        readinessProbe: sampleProbe({
          periodSeconds: 1,
          timeoutSeconds: 5,
          handler: { kind: 'httpGet', port: 8080, path: '/index.html', scheme: 'HTTP', headers: [] },
        }),
      }),
    ],
    ...over,
  })
}

const skip = whyNoContainers()

test('real pods live, are probed, reached, taken over and removed', { skip: skip ?? false }, async (t) => {
  await using machine = await RealMachine.open()
  const runtimes: Jail['runtime'][] = (await machine.hasGvisor()) ? ['runc', 'gvisor'] : ['runc']
  for (const runtime of runtimes)
    await t.test(runtime, async () => {
      await machine.remote.ensure(web({ runtime }))
      const ready = await machine.pod(JAIL_ID, (_status, container) => container.ready)
      assert.equal(ready.phase, 'Running')
      assert.match(ready.containers[0]?.containerID ?? '', runtime === 'gvisor' ? /^runsc:/ : /^(crun|runc):/)

      assert.equal(await text(await machine.remote.logs(JAIL_ID, 'app', {})), 'started\n')
      assert.deepEqual(await exec(machine, JAIL_ID, ['cat'], 'round trip'), {
        out: 'round trip',
        status: { metadata: {}, status: 'Success' },
      })
      const forwarded = await machine.remote.portForward(JAIL_ID, 8080)
      forwarded.end('GET /index.html HTTP/1.0\r\n\r\n')
      assert.match(await text(forwarded), /^HTTP\/1\.[01] 200 OK[^]*hello from the pod/)

      await machine.restart()
      assert.deepEqual(
        (await machine.pod(JAIL_ID, (_status, c) => c.ready)).containers[0],
        ready.containers[0],
      )

      await exec(machine, JAIL_ID, ['/bin/sh', '-c', 'kill -9 1; sleep 1']).catch(() => {})
      await exec(machine, JAIL_ID, ['/bin/sh', '-c', 'kill 1']).catch(() => {})
      const again = await machine.pod(JAIL_ID, (_status, c) => c.restartCount === 1 && c.ready)
      assert.equal(again.podIP, ready.podIP)

      await machine.remote.remove(JAIL_ID, {})
      await until(async () => (await machine.remote.list()).length === 0, { timeoutMs: 20_000 })
    })

  for (const runtime of runtimes)
    await t.test(`capabilities and addresses in texts, ${runtime}`, async () => {
      const sleeps = (name: string, capabilities?: readonly HarmlessCapability[]) =>
        sampleContainer({
          name,
          command: ['/bin/sh', '-c', 'echo "$1 $URL"; exec sleep 1000', 'sh', '$(podIP) $$(podIP)'],
          env: [{ name: 'URL', value: 'http://$(podIP)/$$x' }],
          ...(capabilities ? { capabilities } : {}),
        })
      await machine.remote.ensure(
        sampleJail({
          runtime,
          containers: [sleeps('none', []), sleeps('one', ['NET_BIND_SERVICE']), sleeps('all')],
        }),
      )
      const { podIP } = await machine.pod(JAIL_ID, (status) => status.containers.every((c) => c.ready))
      for (const [name, expected] of [
        ['none', '0000000000000000'],
        ['one', '0000000000000400'],
        ['all', '00000000800405fb'],
      ] as const) {
        // gVisor's own processes are what the machine sees of it; the container's are known inside only.
        const inside = await exec(machine, JAIL_ID, ['cat', '/proc/self/status'], '', name)
        for (const status of [
          inside.out,
          ...(runtime === 'runc' ? [await machine.processStatus(JAIL_ID, name)] : []),
        ])
          for (const set of ['CapPrm', 'CapEff', 'CapBnd'])
            assert.equal(
              new RegExp(`^${set}:\\s*(\\w+)$`, 'm').exec(status)?.[1],
              expected,
              `${set} of ${name}`,
            )
        assert.equal(
          await text(await machine.remote.logs(JAIL_ID, name, {})),
          `${podIP} $(podIP) http://${podIP}/$x\n`,
        )
      }
      await machine.remote.remove(JAIL_ID, { gracePeriodSeconds: 0 })
      await until(async () => (await machine.remote.list()).length === 0, { timeoutMs: 20_000 })
    })

  await t.test('init containers, exit codes and crash loops', async () => {
    const shell = (name: string, script: string) =>
      sampleContainer({ name, command: ['/bin/sh', '-c', script] })
    const volumes = [
      { name: 'work', kind: 'scratch' as const, medium: 'disk' as const, sizeBytesMax: 1 << 20 },
    ]
    const mounts = [{ volume: 'work', mountPath: '/work', readOnly: false }]
    await machine.remote.ensure(
      sampleJail({
        restartPolicy: 'Never',
        volumes,
        initContainers: [{ ...shell('init', 'echo from init > /work/a'), mounts }],
        containers: [{ ...shell('app', 'cat /work/a > /dev/termination-log; exit 42'), mounts }],
      }),
    )
    const failed = await machine.pod(JAIL_ID, (status) => status.phase === 'Failed')
    const state = failed.containers[0]?.state
    assert(state?.kind === 'terminated')
    assert.deepEqual([state.exitCode, state.reason, state.message], [42, 'Error', 'from init\n'])
    await machine.remote.remove(JAIL_ID, {})

    const other = '11111111-1111-4111-8111-111111111111' as JailId
    await machine.remote.ensure(
      sampleJail({ id: other, containers: [sampleContainer({ command: ['/bin/nope'] })] }),
    )
    const broken = await machine.pod(
      other,
      (_status, c) => c.state.kind === 'waiting' && c.state.reason === 'CrashLoopBackOff',
    )
    assert.equal(broken.containers[0]?.lastState?.reason, 'StartError')
    await machine.remote.remove(other, { gracePeriodSeconds: 0 })
    await until(async () => (await machine.remote.list()).length === 0, { timeoutMs: 20_000 })
  })
})
