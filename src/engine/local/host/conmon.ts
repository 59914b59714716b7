import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { withDeadline } from '../../../stdx/index.ts'
import { CREATE_TIMEOUT_MS, LOG_BYTES_HARD_MAX, TOOL_OUTPUT_BYTES_MAX } from './limits.ts'

const CONMON = '/usr/bin/conmon'

export type MonitorOptions = {
  id: string
  bundle: string
  /** Program and arguments that run before `conmon`, such as nsenter. */
  prefix: readonly string[]
  runtime: string
  runtimeArgs: readonly string[]
  exits: string
  log: string
  tty: boolean
  stdin: boolean
  /** Keeps stdin open when the one who attached goes. */
  stdinStaysOpen: boolean
}

/** The runtime could not create the container; `message` is the runtime's own, for the operator. */
export class CreateRefused extends Error {}

/**
 * Starts conmon, which has the runtime create the container and from then on holds its output and its exit code,
 * whatever becomes of us. Returns the pid of the container's first process.
 * @throws {CreateRefused}
 */
export async function startMonitor(options: MonitorOptions, signal: AbortSignal): Promise<{ pid: number }> {
  const text = (flags: Readonly<Record<string, string>>) => Object.entries(flags).flat()
  const args = [
    ...text({ '--api-version': '1', '-c': options.id, '-u': options.id, '-n': options.id }),
    ...text({ '-r': options.runtime, '-b': options.bundle }),
    ...options.runtimeArgs.map((arg) => `--runtime-arg=${arg}`),
    ...text({ '-p': join(options.bundle, 'pid'), '-P': join(options.bundle, 'conmon.pid') }),
    ...text({ '--exit-dir': options.exits, '--persist-dir': options.bundle, '--log-level': 'error' }),
    ...text({ '-l': `k8s-file:${options.log}`, '--log-size-max': String(LOG_BYTES_HARD_MAX) }),
    '--full-attach',
    '--no-sync-log',
    ...(options.stdin ? ['-i'] : []),
    ...(options.stdin && options.stdinStaysOpen ? ['--leave-stdin-open'] : []),
    ...(options.tty ? ['-t'] : []),
  ]
  const [command = CONMON, ...rest] = [...options.prefix, CONMON, ...args]
  const child = spawn(command, rest, {
    cwd: options.bundle,
    env: { PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin', _OCI_SYNCPIPE: '3' },
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
  })
  const failed = once(child, 'error').then(([error]: unknown[]) => {
    throw new Error(`Cannot start "${command}"`, { cause: error })
  })
  failed.catch(() => {})
  let complaints = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    if (complaints.length < TOOL_OUTPUT_BYTES_MAX) complaints += chunk.toString()
  })
  const pipe = child.stdio[3] as Readable // Made by 'pipe' above.
  try {
    const line = await withDeadline(
      `Creating the container ${options.id}`,
      CREATE_TIMEOUT_MS,
      () => Promise.race([readLine(pipe), failed]),
      signal,
    )
    const pid = parseAnswer(line)
    if (typeof pid === 'number') return { pid }
    throw new CreateRefused(
      `The runtime did not create the container: ${pid || complaints || 'no reason given'}`,
    )
  } finally {
    pipe.destroy()
    child.stderr?.destroy()
  }
}

async function readLine(pipe: Readable): Promise<string> {
  let text = ''
  for await (const chunk of pipe.iterator({ destroyOnReturn: false })) {
    text += String(chunk)
    if (text.includes('\n') || text.length > TOOL_OUTPUT_BYTES_MAX) break
  }
  return text
}

/** conmon says `{"data": PID}` or, with a message, a number below zero; older versions call the number "pid". */
function parseAnswer(line: string): number | string {
  try {
    const answer: unknown = JSON.parse(line)
    if (typeof answer !== 'object' || answer === null) return line
    const { data, pid, message } = answer as { data?: unknown; pid?: unknown; message?: unknown }
    const number = data ?? pid
    if (typeof number === 'number' && number > 0) return number
    return typeof message === 'string' ? message : line
  } catch {
    return line
  }
}
