import type { TenantName } from '../../../api/index.ts'
import type { JailId } from '../../../jail/index.ts'
import type { Clock, Logger } from '../../../stdx/index.ts'
import type { UseHost } from '../host/use-host.ts'
import { USE_LOOK_EVERY_MS, USE_LOOK_EVERY_MS_MAX, USE_LOOK_REST_FACTOR } from '../limits.ts'
import type { UsingProcess } from '../observe/uses.ts'
import { isBeyond, planUse, type TenantUse, type UseStep } from '../plan/use.ts'
import { later } from './timers.ts'

export type MeasuredDisk = { bytes: number; files: number; pods: number; at: string }

export type WatchedTenant = {
  tenant: TenantName
  index: number
  limits: TenantUse['limits']
  /** What its pods were last measured to have written; published beside the rest. */
  disk?: MeasuredDisk | undefined
  /** Ends a pod for what its tenant's pods used together. */
  evict(pod: JailId, message: string): void
}

const NICE_BEHIND = 19
const TICKS_PER_SECOND = 100

/**
 * Looks again and again at what each tenant's processes use, by their users and without any cgroup, and acts where that is
 * more than the cgroups should have let it use: a second pair of eyes, which a mistake about cgroups does not close.
 */
export class UseWatch {
  private readonly options: UseWatchOptions
  private before = new Map<string, number>()
  private beforeMs = 0
  private readonly yielding = new Set<TenantName>()

  constructor(options: UseWatchOptions) {
    this.options = options
  }

  /** Until `closing`. */
  start(): void {
    this.later(USE_LOOK_EVERY_MS)
  }

  private later(delayMs: number): void {
    const { clock, closing } = this.options
    later(clock, delayMs, closing, () => this.look())
  }

  private look(): void {
    const { clock, log, host, cpus } = this.options
    const startedMs = clock.nowMs()
    try {
      const processes = host.observe()
      const uses = this.count(processes, startedMs)
      const disks = new Map(this.options.tenants().map(({ tenant, disk }) => [tenant, disk]))
      const known = new Set(uses.map(({ tenant }) => tenant))
      for (const tenant of this.yielding) if (!known.has(tenant)) this.yielding.delete(tenant)
      for (const step of planUse(uses, { cpus, yielding: this.yielding })) this.act(step, processes)
      host.publish({
        at: new Date(startedMs).toISOString(),
        tenants: uses.map((use) => ({
          ...use,
          pods: use.pods.length,
          disk: disks.get(use.tenant),
          yields: this.yielding.has(use.tenant),
        })),
      })
    } catch (error) {
      log.error('cannot see what tenants use', { error })
    }
    const rest = (clock.nowMs() - startedMs) * USE_LOOK_REST_FACTOR
    this.later(Math.min(USE_LOOK_EVERY_MS_MAX, Math.max(USE_LOOK_EVERY_MS, rest)))
  }

  private count(processes: readonly UsingProcess[], nowMs: number): TenantUse[] {
    const seconds = Math.max(1, nowMs - this.beforeMs) / 1_000
    const ticks = new Map<string, number>()
    const spent = (process: UsingProcess) => {
      const key = `${process.pid} ${process.startTicks}`
      ticks.set(key, process.cpuTicks)
      // What is new since the last look has spent all of it since then; in the first look nothing is known.
      return this.beforeMs === 0 ? 0 : process.cpuTicks - (this.before.get(key) ?? 0)
    }
    const own = Map.groupBy(processes, ({ index }) => index)
    const uses = this.options.tenants().map(({ tenant, index, limits }): TenantUse => {
      const theirs = own.get(index) ?? []
      const sum = (some: readonly UsingProcess[], read: (process: UsingProcess) => number) =>
        some.reduce((total, process) => total + read(process), 0)
      const measure = (memoryOf: (process: UsingProcess) => number) => ({
        memoryBytes: sum(theirs, memoryOf),
        pods: [...Map.groupBy(theirs, ({ pod }) => pod)].map(([pod, some]) => ({
          pod,
          memoryBytes: sum(some, memoryOf),
          tasks: sum(some, ({ tasks }) => tasks),
        })),
      })
      const use = {
        tenant,
        limits,
        cpus: sum(theirs, spent) / TICKS_PER_SECOND / seconds,
        tasks: sum(theirs, ({ tasks }) => tasks),
        ...measure(({ memoryBytes }) => memoryBytes),
      }
      // What processes share was counted for each of them, so before anything ends it is counted with care.
      return isBeyond(use) === 'memory'
        ? { ...use, ...measure(({ pid }) => this.options.host.ownMemory(pid)) }
        : use
    })
    this.before = ticks
    this.beforeMs = nowMs
    return uses
  }

  private act(step: UseStep, processes: readonly UsingProcess[]): void {
    const { log, host, tenants } = this.options
    const tenant = tenants().find((each) => each.tenant === step.tenant)
    if (!tenant) return
    const own = processes.filter(({ index }) => index === tenant.index)
    switch (step.kind) {
      case 'yield':
      case 'return':
        host.setNice(new Set(own.map(({ uid }) => uid)), step.kind === 'yield' ? NICE_BEHIND : 0)
        if (step.kind === 'yield') this.yielding.add(step.tenant)
        else this.yielding.delete(step.tenant)
        return
      case 'end': {
        log.error('a tenant uses more than its cgroup should let it; its largest pod ends', { ...step })
        // First by force: when there are no tasks left, no program of ours can be started to do it.
        for (const process of own) if (process.pod === step.pod) host.kill(process)
        if (step.pod !== undefined)
          tenant.evict(
            step.pod as JailId, // of the name of a cgroup that we made
            `The pods of this tenant used more ${step.what} together than they may. `,
          )
        return
      }
      default:
        step satisfies never
    }
  }
}

export type UseWatchOptions = {
  clock: Clock
  log: Logger
  host: UseHost
  cpus: number
  tenants: () => readonly WatchedTenant[]
  closing: AbortSignal
}
