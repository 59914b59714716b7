import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { sleep, withDeadline } from '../../../stdx/index.ts'
import { observeProcess } from '../observe/processes.ts'
import { PIDS_PER_SANDBOX_USER_MAX } from '../plan/oci/resources.ts'
import { BEGIN_TIMEOUT_MS } from './limits.ts'
import { ensureMountNamespace, enterMountNamespace } from './mount-namespace.ts'
import type { Places } from './places.ts'
import type { ExecFiles, SandboxRuntime } from './runtime.ts'
import { runTool } from './tool.ts'

const RUNSC = '/usr/bin/runsc'
const BEGIN_RETRY_MS = 4

/**
 * conmon knows `create` and `start` as two steps; here one `run` does both, which saves a start of the program. Its
 * arguments are passed on as they are, so nothing in them is ever read by the shell.
 */
const RUN_AT_ONCE = `#!/bin/sh
set -eu
found=
for word do
  shift
  if [ -z "$found" ] && [ "$word" = create ]; then
    found=1
    set -- "$@" run --detach
  else
    set -- "$@" "$word"
  fi
done
exec ${RUNSC} "$@"
`

/**
 * A container that joins a sandbox has no process of its own on the machine. A `run` that waits for its end stands in
 * for it: it carries the output, and its exit code is the container's.
 */
const RUN_AND_WAIT = `#!/bin/sh
set -eu
found=
pidfile=
previous=
for word do
  shift
  if [ -z "$found" ] && [ "$word" = create ]; then
    found=1
    set -- "$@" run
  elif [ "$previous" = --pid-file ]; then
    pidfile=$word
    set -- "$@" "$word.created"
  else
    set -- "$@" "$word"
  fi
  previous=$word
done
${RUNSC} "$@" <&0 &
waiter=$!
while [ ! -s "$pidfile.created" ]; do
  kill -0 "$waiter" 2>/dev/null || { wait "$waiter"; exit 1; }
  sleep 0.01
done
echo "$waiter" > "$pidfile"
`

type RunscState = { status?: string; sandbox?: { pid?: number } | null }

/** Only the process that sets up the network looks at /proc/sys/net; the gofers need one untouched proc mount. */
const HIDE_NETWORK_SETTINGS = (clean: string) => `
mount -t proc proc ${clean}
mount -t tmpfs none /proc/sys/net
`

export async function prepareRunsc(places: Places, version: string): Promise<Runsc> {
  const program = join(places.bin, 'runsc-run')
  const memberProgram = join(places.bin, 'runsc-member')
  writeFileSync(program, RUN_AT_ONCE)
  writeFileSync(memberProgram, RUN_AND_WAIT)
  for (const file of [program, memberProgram]) chmodSync(file, 0o700)
  let prefix: string[] = []
  if (await rootNetworkIsMistaken()) {
    const clean = join(places.private, 'proc')
    mkdirSync(clean, { recursive: true })
    const namespace = places.mountNamespace('runsc')
    await ensureMountNamespace(namespace, HIDE_NETWORK_SETTINGS(clean))
    prefix = enterMountNamespace(namespace)
  }
  // Inherited by the sandbox, which runs as a user of the tenant; the runtime itself is root and not held to it.
  prefix.push('prlimit', `--nproc=${PIDS_PER_SANDBOX_USER_MAX}:${PIDS_PER_SANDBOX_USER_MAX}`, '--')
  return new Runsc({ root: places.runtimeRoot('runsc'), version, prefix, program, memberProgram })
}

/** runsc takes this file for the sign of the machine's own network namespace; newer kernels have it in every one. */
async function rootNetworkIsMistaken(): Promise<boolean> {
  try {
    await runTool(['unshare', '-n', 'test', '-e', '/proc/sys/net/core/rmem_default'])
    return true
  } catch {
    return false
  }
}

/** https://gvisor.dev/docs/ */
export class Runsc implements SandboxRuntime {
  readonly tool = 'runsc'
  readonly terminals = 'passed-on'
  readonly version: string
  readonly prefix: readonly string[]
  readonly program: string
  readonly memberProgram: string
  readonly programArgs: readonly string[]
  private readonly root: string

  constructor(options: {
    root: string
    version: string
    prefix: readonly string[]
    program: string
    memberProgram: string
  }) {
    this.root = options.root
    this.version = options.version
    this.prefix = options.prefix
    this.program = options.program
    this.memberProgram = options.memberProgram
    this.programArgs = [
      `--root=${options.root}`,
      // systrap is faster per system call and costs an idle sandbox 3 % of a processor.
      '--platform=ptrace',
      '--network=sandbox',
      '--oci-seccomp',
      '--host-uds=none',
      '--host-fifo=none',
    ]
  }

  execCommand(id: string, { processFile, pidFile, log }: ExecFiles): string[] {
    return [
      RUNSC,
      ...this.programArgs,
      `--log=${log}`,
      'exec',
      '--process',
      processFile,
      '--internal-pid-file',
      pidFile,
      id,
    ]
  }

  /** `run` begins it by itself; this waits until it has. */
  async begin(id: string, signal: AbortSignal): Promise<void> {
    await withDeadline(
      `Starting the container ${id}`,
      BEGIN_TIMEOUT_MS,
      async (deadline) => {
        // No state means that it has ended already.
        while (['creating', 'created'].includes(this.readState(id)?.status ?? ''))
          await sleep(BEGIN_RETRY_MS, deadline)
      },
      signal,
    )
  }

  async signal(id: string, signal: string): Promise<void> {
    await runTool([RUNSC, ...this.programArgs, 'kill', id, signal])
  }

  async killProcess(id: string, pid: number): Promise<void> {
    await runTool([RUNSC, ...this.programArgs, 'kill', '--pid', String(pid), id, 'KILL'])
  }

  exists(id: string): boolean {
    return this.stateFile(id) !== undefined
  }

  async forget(id: string): Promise<void> {
    const file = this.stateFile(id)
    if (file === undefined) return
    const sandbox = this.readState(id)?.sandbox?.pid
    if (typeof sandbox === 'number' && observeProcess(sandbox))
      await runTool([RUNSC, ...this.programArgs, 'delete', '--force', id])
    // runsc would wait seconds for helpers that are dead but not reaped; nothing else than files is left.
    for (const path of [file, file.replace(/\.state$/, '.lock'), join(this.root, `runsc-${id}.sock`)])
      rmSync(path, { force: true })
  }

  private readState(id: string): RunscState | undefined {
    const file = this.stateFile(id)
    if (file === undefined) return undefined
    try {
      return JSON.parse(readFileSync(file, 'utf8')) as RunscState // runsc writes it for itself.
    } catch {
      // Being replaced, or removed.
      return existsSync(file) ? { status: 'creating' } : undefined
    }
  }

  private stateFile(id: string): string | undefined {
    const name = readdirSync(this.root).find((n) => n.startsWith(`${id}_sandbox:`) && n.endsWith('.state'))
    return name === undefined ? undefined : join(this.root, name)
  }
}
