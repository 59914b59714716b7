import { type Layout, parseLayout } from '../api/index.ts'
import { createLogger, type Logger } from '../stdx/index.ts'

/**
 * Starts a program: reads the layout from the environment, names the process as `ps` shows it, and ends the process
 * with one clear line when the program cannot go on. `stop` runs on SIGTERM and SIGINT.
 */
export function runProgram(
  name: string,
  start: (context: { layout: Layout; log: Logger }) => Promise<{ stop(): Promise<void> }>,
): void {
  process.title = name
  const log = createLogger(name)
  process.on('unhandledRejection', (error) => {
    log.error('unhandled rejection', { error })
    process.exit(1)
  })
  process.on('uncaughtException', (error) => {
    log.error('uncaught exception', { error })
    process.exit(1)
  })
  // Timers of our clock do not keep a process alive, and a daemon that waits for one must not end.
  setInterval(() => {}, 1 << 30)
  const started = Promise.try(() => start({ layout: parseLayout(process.env), log }))
  started.then(
    () => log.info('started', { pid: process.pid, uid: process.getuid?.() }),
    (error: unknown) => {
      log.error('cannot start', { error })
      process.exit(1)
    },
  )
  let stopping = false
  const stop = (signal: string) => {
    if (stopping) return
    stopping = true
    log.info('stopping', { signal })
    void started
      .then((program) => program.stop())
      .catch((error: unknown) => log.error('stopping failed', { error }))
      .finally(() => process.exit(0))
  }
  process.on('SIGTERM', () => stop('SIGTERM'))
  process.on('SIGINT', () => stop('SIGINT'))
}

/** The environment a daemon of this instance is started with: the layout, and nothing of the operator's shell. */
export function daemonEnvironment(env: NodeJS.ProcessEnv): Record<string, string> {
  const kept = [
    'BULKHEAD_INSTANCE',
    'BULKHEAD_SLOT',
    'BULKHEAD_STATE_DIR',
    'BULKHEAD_ADDRESS',
    'BULKHEAD_PORT',
    'BULKHEAD_UPLINK',
    'BULKHEAD_INGRESS_ADDRESS',
    'BULKHEAD_INGRESS_HTTP_PORT',
    'BULKHEAD_INGRESS_HTTPS_PORT',
    'BULKHEAD_INGRESS_PROXIES',
    'BULKHEAD_DNS',
    'BULKHEAD_POD_MEMORY',
    'BULKHEAD_SLEEP_AFTER_SECONDS',
  ]
  const layout = kept.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]]]))
  return { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', ...(Object.fromEntries(layout) as Record<string, string>) }
}

/** @throws when a daemon was started by hand without what the agent passes to it. */
export function requiredEnvironment(name: string): string {
  const value = process.env[name]
  if (value === undefined || value === '')
    throw new Error(`${name} is not set; this program is started by the node agent`)
  return value
}
