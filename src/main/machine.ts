import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Agent, request } from 'undici'
import { type Layout, paths, type TenantName } from '../api/index.ts'
import type { TenantEgress } from '../jail/index.ts'
import { type MachineStatus, printable } from '../cli/index.ts'
import {
  createCgroups,
  createContainerHost,
  createPodNetwork,
  daemonLimits,
  Daemons,
  ensureDirectory,
  ensureRunDir,
  observeMachineSize,
  removeDaemonUsers,
  removeRunDir,
  thawAll,
} from '../engine/local/index.ts'
import { createLogger, type Logger, systemClock, until } from '../stdx/index.ts'
import { daemonEnvironment } from './environment.ts'
import { lockCommand, requireMachine, requireOwnState, requirePort, requireRoot } from './preflight.ts'
import { readWatchState } from './verdict-files.ts'
import { serverUrl } from './server-url.ts'

const START_TIMEOUT_MS = 60_000
const LOG_LINES_SHOWN = 8

export type MachineContext = {
  layout: Layout
  print: (text: string) => void
  progress: (text: string) => void
}

function daemonsOf({ layout }: MachineContext, log: Logger): Daemons {
  return new Daemons({ layout, clock: systemClock, log })
}

const quiet = createLogger('bulkhead', { level: 'error' })

/**
 * Starts the node agent, which starts everything else, and waits until the gateway says that it is ready. When that
 * fails, nothing runs that did not run before.
 */
export async function up(context: MachineContext): Promise<void> {
  const { layout, print } = context
  requireRoot('bulkhead up')
  requireMachine()
  requireOwnState(layout)
  const daemons = daemonsOf(context, quiet)
  if (await isReady(layout, daemons)) {
    print(`The platform is running: ${serverUrl(layout)}`)
    return
  }
  if (daemons.pid('gateway') === undefined) await requirePort(layout)
  await alone(context, 'up', async () => {
    const before = daemons.names().filter((name) => daemons.pid(name) !== undefined)
    try {
      await start(context, daemons)
    } catch (error) {
      if (!before.includes('node')) await daemons.stop('node')
      // What survived an earlier agent goes on as it did.
      if (before.length === 0) await takeDown(context)
      throw error
    }
  })
}

async function start({ layout, print, progress }: MachineContext, daemons: Daemons): Promise<void> {
  const began = performance.now()
  ensureRunDir(layout)
  for (const dir of [join(layout.runDir, 'daemons'), join(layout.stateDir, 'logs')])
    ensureDirectory(dir, { mode: 0o700 })
  const logFile = paths.daemonLog(layout, 'node')
  const logFrom = existsSync(logFile) ? statSync(logFile).size : 0
  const running = daemons.pid('node')
  // One that systemd has started is there already, and is coming up.
  if (running === undefined || !isSystemds(running)) {
    progress('starting the node agent')
    await daemons.ensure({
      name: 'node',
      command: [process.execPath, fileURLToPath(new URL('node-agent.ts', import.meta.url))],
      uid: 0,
      gid: 0,
      cwd: '/',
      env: daemonEnvironment(process.env),
      privileged: true,
      limits: daemonLimits('node', observeMachineSize()),
    })
  }
  const seen = new Set<string>()
  let failure: LogLine | undefined
  try {
    await until(
      async () => {
        const lines = agentLog(logFile, logFrom)
        for (const { message, daemon, level } of lines) {
          // Waiting for each other is how the daemons come up; only what is done is progress.
          if (level !== 'info' || message === 'daemon adopted') continue
          const line = daemon === undefined ? message : `${message}: ${daemon}`
          if (!seen.has(line)) progress(line)
          seen.add(line)
        }
        failure = lines.find(({ message, level }) => level === 'error' && message === 'cannot start')
        return failure !== undefined || isReady(layout, daemons)
      },
      { timeoutMs: START_TIMEOUT_MS, everyMs: 50, what: 'A platform that is ready' },
    )
  } catch (cause) {
    const last = agentLog(logFile, logFrom).slice(-LOG_LINES_SHOWN)
    throw new Error(
      `The platform did not become ready. The agent's last words (${logFile}):\n${last.map((line) => `  ${printable(JSON.stringify(line))}`).join('\n')}`,
      { cause },
    )
  }
  if (failure) throw new Error(`The node agent cannot start: ${printable(reasonIn(failure))}`)
  // From here on the agent lives by itself; we only started it.
  daemons.release('node')
  print(
    `The platform is ready at ${serverUrl(layout)} after ${((performance.now() - began) / 1000).toFixed(1)} s`,
  )
  const { address, httpPort, httpsPort } = layout.ingress
  print(`What tenants publish is at http://${address}:${httpPort} and https://${address}:${httpsPort}`)
}

function reasonIn({ error }: LogLine): string {
  const { error: text } = (error ?? {}) as { error?: unknown }
  return typeof text === 'string' ? text : JSON.stringify(error)
}

/** One command at a time. A state directory that was made only for this, and is not needed after all, goes again. */
async function alone<T>(context: MachineContext, what: string, work: () => Promise<T>): Promise<T> {
  const { stateDir } = context.layout
  const isNew = !existsSync(stateDir)
  ensureDirectory(stateDir, { mode: 0o711 })
  const lock = lockCommand(context.layout, what)
  try {
    return await work()
  } catch (error) {
    if (isNew) rmSync(stateDir, { recursive: true, force: true })
    throw error
  } finally {
    lock.release()
  }
}

/** Stops daemons and pods. What tenants wrote stays, and so do images; the next start picks it up. */
export async function down(context: MachineContext): Promise<void> {
  const { layout, print } = context
  requireRoot('bulkhead down')
  if (!existsSync(layout.runDir)) {
    print('The platform is not running')
    return
  }
  await alone(context, 'down', () => takeDown(context))
  print(`Stopped. Tenants, objects and images are kept in ${layout.stateDir}`)
}

/** Can be cut off anywhere and repeated: the run directory goes last. */
async function takeDown(context: MachineContext): Promise<void> {
  const { layout, progress } = context
  if (!existsSync(layout.runDir)) return
  const daemons = daemonsOf(context, quiet)
  const agent = daemons.pid('node')
  if (agent !== undefined && isSystemds(agent))
    throw new Error(
      'The node agent is run by systemd, which would start it again; stop it with "systemctl stop bulkhead" first',
    )
  progress('stopping the node agent')
  await daemons.stop('node')
  progress('stopping the other daemons')
  await daemons.stopAll()
  const network = createPodNetwork({ layout, log: quiet })
  progress('stopping pods')
  thawAll(layout)
  await createContainerHost({
    layout,
    clock: systemClock,
    log: quiet,
    resolver: network.resolver,
    hostIP: network.resolver,
  }).reset()
  progress('removing networks')
  await network.reset()
  await createCgroups().remove(paths.daemonCgroups(layout))
  for (const name of readdirSync(layout.runDir))
    rmSync(join(layout.runDir, name), { recursive: true, force: true })
  removeRunDir(layout)
}

/** Stops everything and removes every trace: state, keys, images, users. */
export async function reset(context: MachineContext): Promise<void> {
  const { layout, print, progress } = context
  requireRoot('bulkhead reset')
  if (existsSync(layout.stateDir) || existsSync(layout.runDir)) {
    requireOwnState(layout)
    await alone(context, 'reset', async () => {
      await takeDown(context)
      progress(`removing ${layout.stateDir}`)
      rmSync(layout.stateDir, { recursive: true, force: true })
    })
  }
  // Platforms on one machine share the users, so only the main one takes them away, and only when it is the last.
  const isOurs = (name: string) => name.startsWith('bulkhead')
  const others = ['/var/lib', '/run'].flatMap((dir) => readdirSync(dir).filter(isOurs))
  if (layout.instance === 'main' && others.length === 0) removeDaemonUsers()
  print('Removed everything that the platform made on this machine')
}

/** What tenants reach outside, as the node agent knows it: of all that have rules, or of one. */
export async function tenantEgress({ layout }: MachineContext, tenant?: TenantName): Promise<TenantEgress[]> {
  const socketPath = paths.outsideSocket(layout)
  if (!existsSync(socketPath)) throw new Error('The platform is not running; "bulkhead up" starts it')
  const agent = new Agent({ connect: { socketPath } })
  try {
    const query = tenant === undefined ? '' : `?tenant=${tenant}`
    const answer = await request(`http://outside/v1/egress${query}`, {
      dispatcher: agent,
      headersTimeout: 10_000,
    })
    if (answer.statusCode !== 200) throw new Error(`The node agent answered ${answer.statusCode}`)
    return ((await answer.body.json()) as { items: TenantEgress[] }).items // our own agent's words
  } finally {
    await agent.destroy()
  }
}

export async function status(context: MachineContext): Promise<MachineStatus> {
  requireRoot('bulkhead status')
  const { layout } = context
  const daemons = daemonsOf(context, quiet)
  return {
    server: serverUrl(layout),
    stateDir: layout.stateDir,
    ready: await isReady(layout, daemons),
    alarms: readWatchState(layout)?.alarms.length ?? 0,
    daemons: daemons
      .names()
      .sort()
      .map((name) => {
        const pid = daemons.pid(name)
        if (pid === undefined) return { name, user: '-' }
        return { name, pid, user: userOf(pid), memoryBytes: memoryBytesOf(pid) }
      }),
  }
}

/** What the process has in memory now, shared pages counted by their share (proc(5), smaps_rollup). */
function memoryBytesOf(pid: number): number {
  try {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
    return Number(/^Pss:\s+(\d+) kB$/m.exec(text)?.[1] ?? 0) * 1_024
  } catch {
    return 0
  }
}

/** systemd gives every service that it starts this variable, and a command that starts an agent does not pass it on. */
function isSystemds(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8')
      .split('\0')
      .some((entry) => entry.startsWith('INVOCATION_ID='))
  } catch {
    return false
  }
}

function userOf(pid: number): string {
  try {
    return execFileSync('ps', ['-o', 'user:32=', '-p', String(pid)], { encoding: 'utf8' }).trim()
  } catch {
    return userInfo().username
  }
}

/** The agent that runs now has taken over everything, and the gateway answers. */
async function isReady(layout: Layout, daemons: Daemons): Promise<boolean> {
  const pid = daemons.pid('node')
  const ready = paths.agentReady(layout)
  if (pid === undefined || !existsSync(ready) || readFileSync(ready, 'utf8') !== String(pid)) return false
  const caFile = join(paths.pki(layout), 'server-ca.pem')
  if (!existsSync(caFile)) return false
  const agent = new Agent({ connect: { ca: readFileSync(caFile) } })
  try {
    const answer = await request(`${serverUrl(layout)}/readyz`, { dispatcher: agent, headersTimeout: 2_000 })
    await answer.body.dump()
    return answer.statusCode === 200
  } catch {
    return false
  } finally {
    await agent.destroy()
  }
}

type LogLine = { message: string; daemon?: string; level?: string; error?: unknown }

function agentLog(file: string, from: number): LogLine[] {
  if (!existsSync(file)) return []
  return readFileSync(file)
    .subarray(from)
    .toString()
    .split('\n')
    .flatMap((line) => {
      try {
        return [JSON.parse(line) as LogLine] // our own agent's words
      } catch {
        return line.trim() === '' ? [] : [{ message: line }]
      }
    })
}
