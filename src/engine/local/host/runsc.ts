import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ensureMountNamespace, enterMountNamespace } from './mount-namespace.ts'
import type { Places } from './places.ts'
import type { ExecFiles, SandboxRuntime } from './runtime.ts'
import { runTool } from './tool.ts'

const RUNSC = '/usr/bin/runsc'

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
 * A container that joins a sandbox has no process of its own on the machine. A \`run\` that waits for its end stands in
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
  elif [ "$word" = --pid-file ]; then
    :
  elif [ "$previous" = --pid-file ]; then
    pidfile=$word
  else
    set -- "$@" "$word"
  fi
  previous=$word
done
if [ -z "$found" ]; then exec ${RUNSC} "$@"; fi
${RUNSC} "$@" <&0 &
echo $! > "$pidfile"
`

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

  /** \`run\` has begun it. */
  async begin(): Promise<void> {}

  async signal(id: string, signal: string): Promise<void> {
    await runTool([RUNSC, ...this.programArgs, 'kill', id, signal])
  }

  async killProcess(id: string, pid: number): Promise<void> {
    await runTool([RUNSC, ...this.programArgs, 'kill', '--pid', String(pid), id, 'KILL'])
  }

  helpers(id: string): number[] {
    try {
      const state: unknown = JSON.parse(readFileSync(this.stateFile(id), 'utf8'))
      const gofer = (state as { goferPid?: unknown }).goferPid
      return typeof gofer === 'number' && gofer > 0 ? [gofer] : []
    } catch {
      return []
    }
  }

  async forget(id: string): Promise<void> {
    if (existsSync(this.stateFile(id))) await runTool([RUNSC, ...this.programArgs, 'delete', '--force', id])
  }

  private stateFile(id: string): string {
    return join(this.root, `${id}_sandbox:${id}.state`)
  }
}
