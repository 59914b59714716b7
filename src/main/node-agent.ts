import { rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Layout, paths, PLATFORM_TENANT } from '../api/index.ts'
import {
  assertIdsAreFree,
  createClaims,
  createContainerHost,
  createImages,
  createLocalEngine,
  createPodNetwork,
  createUseHost,
  daemonLimits,
  type DaemonRole,
  Daemons,
  ensureDaemonUsers,
  ensureDirectory,
  ensureRunDir,
  fillCodeCache,
  forgetCodeCache,
  type LinuxUser,
  observeMachineSize,
  Placements,
  roomOfMachine,
  shareCodeCache,
  stateDirectories,
} from '../engine/local/index.ts'
import { systemClock } from '../stdx/index.ts'
import { requestHosting, requestResting } from './control-channel.ts'
import { daemonEnvironment, runProgram } from './environment.ts'
import { servePlatformSocket } from './platform-socket.ts'
import { ensurePki } from './pki.ts'
import { parseSleepLimits, SleepSchedule } from './sleep-schedule.ts'
import { claimState, requireMachine } from './preflight.ts'
import { Verdicts } from './verdicts.ts'
import { daemonOf, groupOf, SHARED_WORKER, TenantHosting, untilSocket, workerOf } from './tenant-hosting.ts'
import { serveWakes } from './wake-channel.ts'

/** Only then the front door may listen where others than root cannot. */
const listensLow = ({ ingress: { httpPort, httpsPort } }: Layout) => Math.min(httpPort, httpsPort) < 1_024
const BOUND_LOGS_EVERY_MS = 5_000
const VERDICTS_EVERY_MS = 500
/** How often control planes are asked whether they have anything to do, and that they are there. */
const LOOK_FOR_REST_EVERY_MS = 5_000
const RESTING_MS_MAX = 10_000
const WAKE_DUE_EVERY_MS = 1_000
/** To read every process, every file and every network namespace, and to speak as others do when it probes. */
const VERIFIER_CAPABILITIES = ['sys_ptrace', 'dac_read_search', 'sys_admin', 'net_admin', 'setuid', 'setgid']

/**
 * The node agent: the one process of ours that is root. It has no network listener. It prepares the machine, starts
 * the other daemons under their own users, and carries out jails.
 */
runProgram('bulkhead-node', async ({ layout, log }) => {
  if (process.getuid?.() !== 0)
    throw new Error('The node agent must run as root: it makes namespaces, mounts and rules')
  process.umask(0o022)
  requireMachine()
  claimState(layout)
  const clock = systemClock
  const sleepLimits = parseSleepLimits(process.env)
  const users = ensureDaemonUsers()
  ensureRunDir(layout)
  assertIdsAreFree(layout)
  stateDirectories(layout, users)
  await ensurePki(layout, users)

  const placements = new Placements({
    layout,
    platformUid: users.platform.uid,
    workerUid: users.worker.uid,
    room: roomOfMachine(layout),
  })
  const daemons = new Daemons({ layout, clock, log })
  daemons.registerSelf('node')
  const size = observeMachineSize()
  const daemon = (
    name: string,
    program: string,
    role: DaemonRole,
    { uid, gid }: LinuxUser,
    options: {
      args?: string[]
      env?: Record<string, string>
      netns?: string
      offline?: true
      capabilities?: readonly string[]
    } = {},
  ) =>
    daemons.ensure({
      name,
      command: [process.execPath, fileURLToPath(new URL(program, import.meta.url)), ...(options.args ?? [])],
      uid,
      gid,
      cwd: '/',
      limits: daemonLimits(role, size),
      env: {
        ...daemonEnvironment(process.env),
        GATEWAY_UID: String(users.gateway.uid),
        POD_GATEWAY_UID: String(users.podGateway.uid),
        INGRESS_UID: String(users.ingress.uid),
        ...options.env,
      },
      ...(options.netns === undefined ? {} : { netns: options.netns }),
      ...(options.offline ? { offline: true } : {}),
      ...(options.capabilities === undefined ? {} : { capabilities: options.capabilities }),
    })

  const network = createPodNetwork({
    layout,
    log,
    resolverUid: users.dns.uid,
    connectorUid: users.connector.uid,
    // The engine is there before any pod is.
    onEgressBlocked: ({ id, index }, message) => {
      const placement = placements.at(index)
      if (placement) engine.podEvent(placement, id, { type: 'Warning', reason: 'EgressBlocked', message })
    },
  })
  const containers = createContainerHost({
    layout,
    clock,
    log,
    resolver: network.resolver,
    // Pods learn no address of the machine; what stands in for it is where their resolver answers.
    hostIP: network.resolver,
  })
  const images = createImages({
    layout,
    log,
    clock,
    decompressor: users.decompressor,
    layersInUse: () => containers.layersInUse(),
  })
  await Promise.all([
    network.ensureNode(),
    images.start(),
    daemon('images', 'images.ts', 'images', users.images),
  ])
  await Promise.all([
    daemon('dns', 'dns.ts', 'dns', users.dns, { netns: paths.routerNetns(layout) }),
    daemon('prober', 'prober.ts', 'prober', users.prober, { offline: true }),
    daemon('names', 'forwarder.ts', 'names', users.forwarder),
    daemon('connector', 'connector.ts', 'connector', users.connector, {
      netns: paths.routerNetns(layout),
    }),
    daemon('ingress', 'ingress.ts', 'ingress', users.ingress, {
      capabilities: listensLow(layout) ? ['net_bind_service'] : [],
    }),
  ])
  const claims = createClaims({ layout, clock, log, dataKey: (tenant) => placements.dataKey(tenant) })
  const runtimes = await containers.runtimes()
  log.info('runtimes', { runtimes })
  const verdicts = new Verdicts({ layout, clock, log })
  const engine = createLocalEngine({
    layout,
    clock,
    log,
    images,
    network,
    containers,
    claims,
    uses: createUseHost(layout),
    placement: (tenant) => placements.get(tenant),
    onProberHung: () => {
      daemons.restart('prober').catch((error: unknown) => log.error('cannot end the prober', { error }))
    },
    // Both are there before any pod is.
    onChange: (tenant) => schedule.changed(tenant),
    refusal: ({ tenant, isolationClass }) => verdicts.refusal({ tenant, isolationClass }),
  })

  const hosted = new Map<string, number>()
  const programs = {
    async worker(name: string, uid: number) {
      const directory = dirname(paths.workerControlSocket(layout, name))
      const running = daemons.pid(daemonOf(name))
      if (running === undefined) rmSync(join(directory, 'control.sock'), { force: true })
      const gid = groupOf(users, uid)
      ensureDirectory(directory, { uid, gid, mode: 0o700 })
      const role = name === SHARED_WORKER ? 'sharedWorker' : 'worker'
      shareCodeCache(paths.codeCache(layout), uid)
      await daemon(
        daemonOf(name),
        'worker.ts',
        role,
        { name, uid, gid },
        { args: [name], offline: true, env: { NODE_COMPILE_CACHE: paths.codeCache(layout) } },
      )
      await untilSocket(paths.workerControlSocket(layout, name), `The control planes' process "${name}"`)
      const pid = daemons.pid(daemonOf(name))
      if (pid !== undefined) hosted.set(name, pid)
    },
    async stopWorker(name: string) {
      hosted.delete(name)
      schedule.forgetWorker(name)
      await daemons.stop(daemonOf(name))
    },
    async removeWorker(name: string, uid: number) {
      hosted.delete(name)
      schedule.forgetWorker(name)
      await daemons.remove(daemonOf(name), uid)
      forgetCodeCache(paths.codeCache(layout), uid)
      rmSync(dirname(paths.workerControlSocket(layout, name)), { recursive: true, force: true })
    },
  }
  const hosting = new TenantHosting({
    layout,
    users,
    placements,
    network,
    images,
    claims,
    engine,
    daemons,
    programs,
    release: (tenant) => {
      verdicts.release(tenant)
      schedule.forget(tenant)
    },
    // The socket is there before anybody is hosted.
    onSleep: (tenant, asleep) => platformSocket.tellSleep(tenant, asleep),
    log,
  })
  const schedule = new SleepSchedule({
    hosts: hosting,
    resting: (worker) =>
      requestResting(paths.workerControlSocket(layout, worker), AbortSignal.timeout(RESTING_MS_MAX)),
    workerOf: (tenant) => {
      const placement = placements.get(tenant)
      return placement && workerOf(placement)
    },
    onHung: (worker) => {
      daemons
        .restart(daemonOf(worker))
        .catch((error: unknown) => log.error('cannot end control planes that hang', { worker, error }))
    },
    limits: sleepLimits,
    clock,
    log,
  })

  const platformPlane = async () => {
    const control = paths.workerControlSocket(layout, PLATFORM_TENANT)
    if (daemons.pid('platform') === undefined) rmSync(control, { force: true })
    ensureDirectory(dirname(control), { ...users.platform, mode: 0o700 })
    ensureDirectory(dirname(paths.apiSocket(layout, PLATFORM_TENANT)), {
      uid: users.platform.uid,
      gid: users.gateway.gid,
      mode: 0o2750,
    })
    await daemon('platform', 'platform.ts', 'platform', users.platform, { offline: true })
    await untilSocket(control, "The platform's control plane")
    const pid = daemons.pid('platform')
    await requestHosting(
      control,
      { tenant: PLATFORM_TENANT, dataKey: placements.platformDataKey(), isolationClass: 'shared' },
      AbortSignal.timeout(30_000),
    )
    if (pid !== undefined) hosted.set(PLATFORM_TENANT, pid)
  }

  await engine.start()
  const platformSocket = await servePlatformSocket({
    layout,
    hosting,
    placements,
    runtimes,
    platformUid: users.platform.uid,
    log,
  })
  const wakes = await serveWakes({
    layout,
    uids: [users.gateway.uid, users.podGateway.uid],
    gid: users.gateway.gid,
    wake: (tenant) => schedule.wake(tenant),
    log,
  })
  await programs.worker(SHARED_WORKER, users.worker.uid)
  await Promise.all([hosting.hostAll(), platformPlane()])
  await Promise.all([
    daemon('gateway', 'gateway.ts', 'gateway', users.gateway),
    // The sockets of control planes are the gateways' group's to connect to.
    daemon(
      'pod-gateway',
      'pod-gateway.ts',
      'podGateway',
      { ...users.podGateway, gid: users.gateway.gid },
      { netns: paths.routerNetns(layout) },
    ),
  ])

  // It looks at everything and changes nothing, and what it finds it writes into files of its own.
  for (const directory of [
    dirname(paths.watchState(layout)),
    paths.quarantine(layout),
    join(layout.stateDir, 'audit/verifier'),
  ])
    ensureDirectory(directory, { ...users.verifier, mode: 0o700 })
  ensureDirectory(paths.watchDecisions(layout), { mode: 0o700 })
  await daemon('verifier', 'verifier.ts', 'verifier', users.verifier, { capabilities: VERIFIER_CAPABILITIES })

  // Not before: what starts with the platform must not wait for it.
  fillCodeCache(paths.codeCache(layout), fileURLToPath(new URL('worker-modules.ts', import.meta.url))).catch(
    (error: unknown) => log.warn('control planes will start slowly', { error }),
  )

  writeFileSync(paths.agentReady(layout), String(process.pid), { mode: 0o600 })

  // A process with control planes that was started anew has forgotten its tenants and their keys: tell it again.
  let stopped = false
  const failed = (error: unknown) => {
    log.error("cannot host the platform's control plane", { error })
    return false
  }
  const watchWorkers = async () => {
    for (const [name, pid] of hosted) {
      const now = daemons.pid(daemonOf(name))
      if (now === pid) continue
      if (now === undefined) continue
      log.warn('control planes have a new process', { worker: name, pid: now })
      schedule.forgetWorker(name)
      const again =
        name === PLATFORM_TENANT ? platformPlane().then(() => true, failed) : hosting.hostAll(name)
      // Forgetting the process makes the next look try again.
      const succeeded = await again
      if (hosted.has(name)) hosted.set(name, succeeded ? now : 0)
    }
  }
  const loop = async () => {
    await watchWorkers().catch((error: unknown) => log.error('cannot host again', { error }))
    if (!stopped) setTimeout(() => void loop(), 250)
  }
  void loop()
  const bounding = setInterval(() => {
    try {
      daemons.boundLogs()
    } catch (error) {
      log.warn('cannot bound the logs', { error })
    }
  }, BOUND_LOGS_EVERY_MS)

  const judging = setInterval(() => {
    try {
      verdicts.refresh(placements.all().map(({ tenant }) => tenant))
    } catch (error) {
      log.error('cannot carry out what the verifier decided', { error })
    }
  }, VERDICTS_EVERY_MS)

  const looking = setInterval(() => {
    for (const worker of hosted.keys()) void schedule.look(worker)
  }, LOOK_FOR_REST_EVERY_MS)
  const wakingDue = setInterval(() => schedule.wakeDue(), WAKE_DUE_EVERY_MS)

  return {
    /** Leaves the daemons and the pods running: the next agent takes them over. */
    async stop() {
      stopped = true
      clearInterval(bounding)
      clearInterval(judging)
      clearInterval(looking)
      clearInterval(wakingDue)
      wakes.close()
      wakes.closeAllConnections()
      await hosting.close()
      await engine.stop()
      platformSocket.close()
    },
  }
})
