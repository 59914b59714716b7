import { chownSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { IDS_PER_TENANT, type Layout, parseTenantName } from '../../../api/index.ts'
import type { Jail, JailContainer, JailId } from '../../../jail/index.ts'
import { withDeadline } from '../../../stdx/index.ts'
import { readPidFile } from '../observe/containers.ts'
import type { OciConfig } from '../plan/oci/config-types.ts'
import { type MachineFacts, renderConfig } from '../plan/oci/render-config.ts'
import type { TenantPlacement } from '../parts.ts'
import type { Cgroups } from './cgroups.ts'
import { startMonitor } from './conmon.ts'
import type { ExitWatcher } from './exit-watcher.ts'
import { unmountBelow } from './mounts.ts'
import { containerIdOf, type Places } from './places.ts'
import { signalProcess } from './processes.ts'
import type { Runtime } from './runtime.ts'
import { renderExitProgram } from './tiny-program.ts'

const PROBE_JAIL = '00000000-0000-4000-8000-000000000000' as JailId
const PROBE_TIMEOUT_MS = 30_000
const EXIT_CODE = 42
const SIGKILL = 9

/**
 * Runs the smallest possible container exactly as tenants' containers are run. A runtime that cannot do that here is
 * not offered. `inspect` is called while the container is created and has not begun.
 * @throws with the runtime's reason.
 */
export async function tryRuntime(
  runtime: Runtime,
  facts: MachineFacts,
  {
    layout,
    places,
    cgroups,
    exits,
    inspect = () => {},
  }: {
    layout: Layout
    places: Places
    cgroups: Cgroups
    exits: ExitWatcher
    inspect?: (id: string) => void
  },
): Promise<void> {
  const id = containerIdOf(PROBE_JAIL, runtime.tool, process.pid)
  const directory = join(places.run, `.probe-${id}`)
  const bundle = join(directory, 'bundle')
  const cgroup = `${places.cgroup}/probe-${id}`
  try {
    mkdirSync(join(bundle, 'rootfs'), { recursive: true })
    const base = layout.podUidBase + (layout.tenantsMax - 1) * IDS_PER_TENANT
    const rootfs = join(bundle, 'rootfs')
    const file = join(bundle, 'empty')
    writeFileSync(join(rootfs, 'exit'), renderExitProgram(facts.architecture, EXIT_CODE), { mode: 0o755 })
    writeFileSync(file, '')
    mkdirSync(join(bundle, 'shm'))
    for (const path of [rootfs, file, join(bundle, 'shm')]) chownSync(path, base, base)
    cgroups.ensure(cgroup, { pidsMax: 1_024 })
    const config = renderProbe(runtime, facts, { base, rootfs, file, shm: join(bundle, 'shm'), cgroup })
    writeFileSync(join(bundle, 'config.json'), JSON.stringify(config))
    await withDeadline(`Trying ${runtime.tool}`, PROBE_TIMEOUT_MS, async (signal) => {
      await startMonitor(
        {
          id,
          bundle,
          prefix: runtime.prefix,
          runtime: runtime.program,
          runtimeArgs: runtime.programArgs,
          exits: places.exits,
          log: join(bundle, 'log'),
          tty: false,
          stdin: false,
          stdinStaysOpen: false,
        },
        signal,
      )
      inspect(id)
      await runtime.begin(id, signal)
      const code = await exits.wait(id, () => readExitCode(places.exit(id)), signal)
      if (code !== EXIT_CODE)
        throw new Error(`A program that ends with ${EXIT_CODE} ended with ${code} under ${runtime.tool}`)
    })
  } finally {
    for (const name of ['pid', 'conmon.pid']) {
      const left = readPidFile(join(bundle, name))
      if (left) signalProcess(left, SIGKILL)
    }
    await runtime.forget(id).catch(() => {})
    await cgroups.remove(cgroup).catch(() => {})
    unmountBelow(directory)
    rmSync(directory, { recursive: true, force: true })
    rmSync(places.exit(id), { force: true })
  }
}

function readExitCode(path: string): number | undefined {
  try {
    return Number(readFileSync(path, 'utf8'))
  } catch {
    return undefined
  }
}

function renderProbe(
  runtime: Runtime,
  facts: MachineFacts,
  {
    base,
    rootfs,
    file,
    shm,
    cgroup,
  }: { base: number; rootfs: string; file: string; shm: string; cgroup: string },
): OciConfig {
  const container: JailContainer = {
    name: 'probe',
    image: 'probe',
    imagePullPolicy: 'Never',
    command: ['/exit'],
    env: [],
    supplementalGroups: [],
    runAsNonRoot: false,
    readOnlyRootFilesystem: false,
    mounts: [],
    resources: { cpuMillisRequest: 0, memoryBytesRequest: 0 },
    ports: [],
    lifecycle: {},
    terminationMessagePath: '/dev/termination-log',
    terminationMessagePolicy: 'File',
    stdin: false,
    stdinOnce: false,
    tty: false,
  }
  const placement: TenantPlacement = {
    tenant: parseTenantName('probe'),
    index: 0,
    isolationClass: 'shared',
    podUidBase: base,
    controlPlaneUid: 0,
    registries: [],
  }
  const jail: Jail = {
    id: PROBE_JAIL,
    tenant: placement.tenant,
    namespace: 'probe',
    pod: 'probe',
    hostname: 'probe',
    runtime: 'runc',
    restartPolicy: 'Never',
    terminationGracePeriodSeconds: 0,
    initContainers: [],
    containers: [container],
    volumes: [],
    dns: { searches: [], options: [] },
    hostAliases: [],
  }
  const config = renderConfig({
    tool: runtime.tool,
    jail,
    container,
    placement,
    image: { entrypoint: [], cmd: [], env: [], user: '', workingDir: '', volumes: [] },
    user: { uid: 0, gid: 0, additionalGids: [], home: '/' },
    addresses: { podIP: '', hostIP: '' },
    namespaces: { user: '', net: '', ipc: '', uts: '' },
    sources: { hosts: file, hostname: file, resolvConf: file, terminationLog: file, shm, volumes: [] },
    rootfs,
    cgroupsPath: `/${cgroup}/container`,
    facts,
  })
  // There is no pod whose namespaces could be joined.
  return {
    ...config,
    linux: { ...config.linux, namespaces: config.linux.namespaces.map(({ type }) => ({ type })) },
  }
}
