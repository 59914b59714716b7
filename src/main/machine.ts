import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Agent, request } from 'undici'
import { type Layout, paths } from '../api/index.ts'
import { printable } from '../cli/index.ts'
import {
  createContainerHost,
  createPodNetwork,
  Daemons,
  ensureDirectory,
  ensureRunDir,
  removeDaemonUsers,
  removeRunDir,
} from '../engine/local/index.ts'
import { createLogger, type Logger, systemClock, until } from '../stdx/index.ts'
import { daemonEnvironment } from './environment.ts'
import { serverUrl } from './server-url.ts'

const START_TIMEOUT_MS = 60_000
const LOG_LINES_SHOWN = 8

export type MachineContext = {
  layout: Layout
  print: (text: string) => void
  progress: (text: string) => void
}

/** What this machine lacks, in words that say what to do. Empty when the platform can run here. */
export function missingOnThisMachine(): string[] {
  const missing: string[] = []
  const has = (path: string, words: RegExp) => existsSync(path) && words.test(readFileSync(path, 'utf8'))
  if (process.platform !== 'linux') return ['this is not Linux']
  if (process.getuid?.() !== 0) return ['root: namespaces, mounts and nftables need it (try sudo)']
  if (!has('/proc/filesystems', /\boverlay$/m)) missing.push('overlayfs in the kernel (modprobe overlay)')
  if (!has('/proc/self/status', /^Seccomp:/m)) missing.push('seccomp in the kernel')
  if (!has('/proc/sys/user/max_user_namespaces', /^[1-9]/))
    missing.push('user namespaces (sysctl user.max_user_namespaces is 0 or absent)')
  if (!existsSync('/sys/fs/cgroup')) missing.push('cgroups (mount them at /sys/fs/cgroup)')
  for (const [program, pack] of [
    ['conmon', 'conmon'],
    ['nft', 'nftables'],
    ['ip', 'iproute2'],
    ['setpriv', 'util-linux'],
    ['nsenter', 'util-linux'],
  ] as const)
    if (!['/usr/sbin', '/usr/bin', '/sbin', '/bin'].some((dir) => existsSync(join(dir, program))))
      missing.push(`the program "${program}" (apt-get install ${pack})`)
  if (!['/usr/bin/crun', '/usr/sbin/runc', '/usr/bin/runc'].some((path) => existsSync(path)))
    missing.push('crun or runc (apt-get install crun)')
  return missing
}

function daemonsOf({ layout }: MachineContext, log: Logger): Daemons {
  return new Daemons({ layout, clock: systemClock, log })
}

const quiet = createLogger('bulkhead', { level: 'error' })

/** Starts the node agent, which starts everything else, and waits until the gateway says that it is ready. */
export async function up(context: MachineContext): Promise<void> {
  const { layout, print, progress } = context
  const missing = missingOnThisMachine()
  if (missing.length > 0)
    throw new Error(`This machine lacks what the platform needs:\n  - ${missing.join('\n  - ')}`)
  const began = performance.now()
  ensureRunDir(layout)
  for (const dir of [join(layout.runDir, 'daemons'), join(layout.stateDir, 'logs')])
    ensureDirectory(dir, { mode: 0o700 })
  const daemons = daemonsOf(context, quiet)
  if (await isReady(layout, daemons)) {
    print(`The platform is running: ${serverUrl(layout)}`)
    return
  }
  progress('starting the node agent')
  const logFile = paths.daemonLog(layout, 'node')
  const logFrom = existsSync(logFile) ? statSync(logFile).size : 0
  await daemons.ensure({
    name: 'node',
    command: [process.execPath, fileURLToPath(new URL('node-agent.ts', import.meta.url))],
    uid: 0,
    gid: 0,
    cwd: '/',
    env: daemonEnvironment(process.env),
    privileged: true,
  })
  const seen = new Set<string>()
  try {
    await until(
      async () => {
        for (const { message, daemon, level } of agentLog(logFile, logFrom)) {
          // Waiting for each other is how the daemons come up; only what is done is progress.
          if (level !== 'info' || message === 'daemon adopted') continue
          const line = daemon === undefined ? message : `${message}: ${daemon}`
          if (!seen.has(line)) progress(line)
          seen.add(line)
        }
        return isReady(layout, daemons)
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
  // From here on the agent lives by itself; we only started it.
  daemons.release('node')
  print(
    `The platform is ready at ${serverUrl(layout)} after ${((performance.now() - began) / 1000).toFixed(1)} s`,
  )
}

/** Stops daemons and pods. What tenants wrote stays, and so do images; the next start picks it up. */
export async function down(context: MachineContext): Promise<void> {
  const { layout, print, progress } = context
  if (!existsSync(join(layout.runDir, 'daemons'))) {
    print('The platform is not running')
    return
  }
  const daemons = daemonsOf(context, quiet)
  progress('stopping the node agent')
  await daemons.stop('node')
  progress('stopping the other daemons')
  await daemons.stopAll()
  const network = createPodNetwork({ layout, log: quiet })
  progress('stopping pods')
  await createContainerHost({
    layout,
    clock: systemClock,
    log: quiet,
    resolver: network.resolver,
    hostIP: network.resolver,
  }).reset()
  progress('removing networks')
  await network.reset()
  for (const name of readdirSync(layout.runDir))
    rmSync(join(layout.runDir, name), { recursive: true, force: true })
  removeRunDir(layout)
  print(`Stopped. Tenants, objects and images are kept in ${layout.stateDir}`)
}

/** Stops everything and removes every trace: state, keys, images, users. */
export async function reset(context: MachineContext): Promise<void> {
  const { layout, print, progress } = context
  await down(context)
  progress(`removing ${layout.stateDir}`)
  rmSync(layout.stateDir, { recursive: true, force: true })
  const others = readdirSync('/var/lib').filter((name) => name.startsWith('bulkhead'))
  if (others.length === 0) removeDaemonUsers()
  print('Removed everything that the platform made on this machine')
}

export async function status(
  context: MachineContext,
): Promise<{ daemons: { name: string; pid?: number; user: string }[] }> {
  const dir = join(context.layout.runDir, 'daemons')
  if (!existsSync(dir)) return { daemons: [] }
  const daemons = daemonsOf(context, quiet)
  const names = readdirSync(dir).flatMap((file) =>
    file.endsWith('.json') ? [file.slice(0, -'.json'.length)] : [],
  )
  return {
    daemons: names.sort().map((name) => {
      const pid = daemons.pid(name)
      return { name, ...(pid === undefined ? {} : { pid }), user: pid === undefined ? '-' : userOf(pid) }
    }),
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
