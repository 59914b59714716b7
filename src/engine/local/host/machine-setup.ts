import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  statfsSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import type { Layout } from '../../../api/index.ts'
import type { Logger } from '../../../stdx/index.ts'
import { observeDisk, observeDiskWeights } from '../observe/disk-device.ts'
import { observeMachineFacts, observeMachineSize } from '../observe/machine-facts.ts'
import {
  DAEMONS_DISK_WEIGHT,
  PODS_CPU_SHARES,
  PODS_DISK_WEIGHT,
  podsMemoryBytes,
} from '../plan/daemon-limits.ts'
import { renderInheritedFilter } from '../plan/oci/inherited-filter.ts'
import type { MachineFacts } from '../plan/oci/render-config.ts'
import { type Cgroups, createCgroups } from './cgroups.ts'
import { Crun } from './crun.ts'
import type { ExitWatcher } from './exit-watcher.ts'
import { CONTAINERS_TMPFS_BYTES_MAX } from './limits.ts'
import { ensureDirectory, isMountPoint } from './machine.ts'
import { ensureMountNamespace, enterMountNamespace } from './mount-namespace.ts'
import { mountMemory } from './mounts.ts'
import { ALL_TOOLS, type Places, type Tool } from './places.ts'
import { tryRuntime } from './probe.ts'
import { Runc } from './runc.ts'
import type { Runtime, SandboxRuntime } from './runtime.ts'
import { mount, MS_NODEV, MS_NOSUID, MS_PRIVATE, MS_SHARED } from './syscalls.ts'
import { renderConfineProgram } from './tiny-program.ts'
import { runTool } from './tool.ts'
import { prepareRunsc } from './runsc.ts'

export type Found<T> = { available: true; runtime: T } | { available: false; why: string }

/** What was found out about this machine when the host started. */
export type Machine = {
  cgroups: Cgroups
  facts: MachineFacts
  runc: Found<Runtime>
  gvisor: Found<SandboxRuntime>
  /** crun's compiled form of our seccomp profile. */
  seccompProgramBase64: string | undefined
}

const TMPFS_MAGIC = 0x0102_1994

/** Makes the directories and finds out, by trying, which runtimes work. Safe to repeat; disturbs no container. */
export async function setUpMachine(
  layout: Layout,
  places: Places,
  exits: ExitWatcher,
  tools: readonly Tool[],
  log: Logger,
): Promise<Machine> {
  ensurePlaces(layout, places)
  const cgroups = createCgroups()
  // Whatever tenants do, the rest of the machine keeps some memory and its turn on the processors.
  cgroups.ensure(places.cgroup, { cpuShares: PODS_CPU_SHARES })
  try {
    cgroups.setMemoryMax(
      places.cgroup,
      podsMemoryBytes(observeMachineSize().memoryBytes, layout.podMemoryBytes),
    )
  } catch (error) {
    log.warn('the memory of all pods cannot be limited while they use more', { error })
  }
  weighDisk(layout, places, cgroups, log)
  const facts: MachineFacts = { ...observeMachineFacts(), cgroupMount: true }
  let seccompProgramBase64: string | undefined
  const trial = { layout, places, cgroups, exits }
  const confine = prepareConfine(places, facts, cgroups)

  const runc = await firstThatWorks<Runtime>(
    [
      async () => {
        wanted(tools, 'crun')
        const crun = await prepareCrun(places, cgroups, confine)
        await tryRuntime(crun, facts, {
          ...trial,
          inspect: (id) => {
            const file = crun.seccompProgramFile(id)
            if (existsSync(file)) seccompProgramBase64 = readFileSync(file).toString('base64')
          },
        })
        return crun
      },
      async () => {
        wanted(tools, 'runc')
        const runc = new Runc({
          root: places.runtimeRoot('runc'),
          prefix: [confine],
          version: await version('/usr/sbin/runc'),
        })
        await tryRuntime(runc, facts, trial)
        return runc
      },
    ],
    log,
  )
  const gvisor = await firstThatWorks<SandboxRuntime>(
    [
      async () => {
        wanted(tools, 'runsc')
        const runsc = await prepareRunsc(places, await version('/usr/bin/runsc'))
        await tryRuntime(runsc, facts, trial)
        return runsc
      },
    ],
    log,
  )
  return { cgroups, facts, runc, gvisor, seccompProgramBase64 }
}

/** Where the disk is divided by weights, the platform has more of it than all pods, and tenants have equal parts. */
function weighDisk(layout: Layout, places: Places, cgroups: Cgroups, log: Logger): void {
  const device = observeDisk(layout.stateDir)
  const found = device === undefined ? undefined : observeDiskWeights(device)
  if (!found?.weighs) {
    log.info('the disk is not divided by weights: whoever asks for more of it has more, up to its limits', {
      device,
      scheduler: found?.scheduler,
    })
    return
  }
  try {
    cgroups.setDiskWeight(places.cgroup, PODS_DISK_WEIGHT)
    cgroups.setDiskWeight(places.daemonCgroups, DAEMONS_DISK_WEIGHT)
  } catch (error) {
    log.warn('the disk cannot be divided by weights', { device, error })
  }
}

async function firstThatWorks<T extends Runtime>(
  candidates: readonly (() => Promise<T>)[],
  log: Logger,
): Promise<Found<T>> {
  const reasons: string[] = []
  for (const candidate of candidates) {
    try {
      const runtime = await candidate()
      return { available: true, runtime }
    } catch (error) {
      log.warn('container runtime does not work here', { error })
      reasons.push(error instanceof Error ? error.message : String(error))
    }
  }
  return { available: false, why: reasons.join('; ') }
}

function wanted(tools: readonly Tool[], tool: Tool): void {
  if (!tools.includes(tool)) throw new Error(`${tool} is not to be used`)
}

function ensurePlaces(layout: Layout, places: Places): void {
  ensureDirectory(layout.stateDir, { mode: 0o711 })
  ensureDirectory(places.ephemeral, { mode: 0o700 })
  ensureDirectory(layout.runDir, { mode: 0o755 })
  mkdirSync(places.run, { recursive: true })
  if (!isMountPoint(places.run)) {
    // Secrets live here, so they must not be written to a swap device either. Kernels before 6.4 cannot promise that.
    const size = `mode=0711,size=${CONTAINERS_TMPFS_BYTES_MAX}`
    try {
      mount('tmpfs', places.run, 'tmpfs', MS_NODEV | MS_NOSUID, `${size},noswap`)
    } catch {
      mount('tmpfs', places.run, 'tmpfs', MS_NODEV | MS_NOSUID, size)
    }
    // The mount namespaces that runtimes work in must see the roots that we mount later.
    mount('none', places.run, null, MS_SHARED, null)
  }
  if (statfsSync(places.run).type !== TMPFS_MAGIC)
    throw new Error(`"${places.run}" is not in memory; secrets of pods must not reach a disk`)
  ensureDirectory(places.private, { mode: 0o700 })
  if (!isMountPoint(places.private)) {
    mountMemory(places.private, { bytesMax: '1m', inodesMax: 1_024, mode: '0700', uid: 0, gid: 0 })
    // Neither pinned mount namespaces nor half-made roots may spread.
    mount('none', places.private, null, MS_PRIVATE, null)
  }
  for (const directory of [places.workshop, places.exits, places.bin, places.terminals])
    ensureDirectory(directory, { mode: 0o700 })
  for (const tool of ALL_TOOLS) ensureDirectory(places.runtimeRoot(tool), { mode: 0o711 })
}

/** What monitors and runtimes start through, so that whatever they do or forget, containers inherit it. */
function prepareConfine(places: Places, { architecture }: MachineFacts, { version }: Cgroups): string {
  const program = join(places.bin, 'confine')
  const filter = renderInheritedFilter(architecture, { deviceFilters: version === 'v2' })
  // Replaced and not rewritten: a program that somebody runs cannot be written.
  writeFileSync(`${program}.next`, renderConfineProgram(architecture, filter), { mode: 0o700 })
  renameSync(`${program}.next`, program)
  return program
}

async function prepareCrun(places: Places, cgroups: Cgroups, confine: string): Promise<Crun> {
  const crunVersion = await version('/usr/bin/crun')
  const root = places.runtimeRoot('crun')
  if (!cgroups.hybrid) return new Crun({ root, prefix: [confine], version: crunVersion })
  // crun refuses version 1 cgroups when the version 2 hierarchy beside them has controllers, so it does not get to see it.
  const namespace = places.mountNamespace('crun')
  await ensureMountNamespace(namespace, 'umount /sys/fs/cgroup/unified')
  return new Crun({ root, prefix: [...enterMountNamespace(namespace), confine], version: crunVersion })
}

async function version(program: string): Promise<string> {
  accessSync(program, constants.X_OK)
  const [line = ''] = (await runTool([program, '--version'])).split('\n', 1)
  return line.trim()
}
