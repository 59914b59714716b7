import type { Jail, JailContainer } from '../../../jail/index.ts'
import { assert, SECOND_MS } from '../../../stdx/index.ts'
import { renderDuration, restartDueMs } from './backoff.ts'
import { isSidecar, podInMessages, type ContainerMemory, type PodMemory } from './pod-memory.ts'

export type PodPlan = {
  /** Containers to start now. */
  start: string[]
  /** Containers to stop now; a stop that is under way may be named again. */
  stop: string[]
  /** The pod's deadline has passed. */
  expire: boolean
  /** All init containers are through. */
  initialized: boolean
  /** Nothing runs and nothing will. */
  finish: boolean
  /** Nothing runs and removal was asked for. */
  remove: boolean
  /** Look again then, because time alone changes the plan. */
  wakeAtMs?: number
}

/** What to do for a pod now. Pure, and says the same again until something happens. */
export function planPod(jail: Jail, memory: PodMemory, nowMs: number): PodPlan {
  const plan: PodPlan = {
    start: [],
    stop: [],
    expire: false,
    initialized: memory.initialized,
    finish: false,
    remove: false,
  }
  if (memory.terminating) {
    plan.stop = stops(jail, memory)
    plan.remove = !busy(memory)
    return plan
  }
  if (memory.finished) return plan
  const deadlineMs =
    jail.activeDeadlineSeconds === undefined
      ? undefined
      : memory.acceptedAtMs + jail.activeDeadlineSeconds * SECOND_MS
  plan.expire = !memory.failed && deadlineMs !== undefined && nowMs >= deadlineMs
  if (memory.failed || plan.expire || initFailed(jail, memory) || completed(jail, memory)) {
    plan.stop = stops(jail, memory)
    plan.finish = !busy(memory)
    return plan
  }
  if (deadlineMs !== undefined) wake(plan, deadlineMs)
  plan.initialized = planInit(jail, memory, nowMs, plan)
  if (plan.initialized)
    for (const container of jail.containers) startWhenDue(jail, memory, container, nowMs, plan)
  return plan
}

/** Returns true when the main containers may start. */
function planInit(jail: Jail, memory: PodMemory, nowMs: number, plan: PodPlan): boolean {
  for (const container of jail.initContainers) {
    const seen = containerMemory(memory, container.name)
    if (isSidecar(container)) {
      startWhenDue(jail, memory, container, nowMs, plan)
      if (!memory.initialized && !(seen.process.kind === 'running' && seen.started)) return false
    } else if (!memory.initialized && !(seen.process.kind === 'exited' && seen.exit?.exitCode === 0)) {
      startWhenDue(jail, memory, container, nowMs, plan)
      return false
    }
  }
  return true
}

function startWhenDue(
  jail: Jail,
  memory: PodMemory,
  container: JailContainer,
  nowMs: number,
  plan: PodPlan,
): void {
  const dueMs = startDueMs(jail, container, containerMemory(memory, container.name))
  if (dueMs === undefined) return
  if (dueMs <= nowMs) plan.start.push(container.name)
  else wake(plan, dueMs)
}

/** When a container that does not run should start; undefined when it runs or is done for good. */
export function startDueMs(jail: Jail, container: JailContainer, seen: ContainerMemory): number | undefined {
  if (seen.process.kind === 'none') return seen.retryAtMs ?? 0
  if (seen.process.kind !== 'exited' || !restarts(jail, container, seen)) return undefined
  if (seen.replaced || !seen.exit) return seen.retryAtMs ?? 0
  return Math.max(seen.retryAtMs ?? 0, restartDueMs(seen.backoff, Date.parse(seen.exit.finishedAt)))
}

/** Whether a container that has ended is to run again. */
export function restarts(jail: Jail, container: JailContainer, seen: ContainerMemory): boolean {
  if (seen.replaced || isSidecar(container)) return true
  const failed = seen.exit?.exitCode !== 0
  if (jail.initContainers.includes(container)) return failed && jail.restartPolicy !== 'Never'
  return jail.restartPolicy === 'Always' || (jail.restartPolicy === 'OnFailure' && failed)
}

/** The waiting state of a container that would start, were it not for its back-off. */
export function crashLoop(
  jail: Jail,
  container: JailContainer,
  seen: ContainerMemory,
  nowMs: number,
): { reason: string; message: string } | undefined {
  if (seen.process.kind !== 'exited' || !seen.exit || seen.replaced || !restarts(jail, container, seen))
    return undefined
  const dueMs = restartDueMs(seen.backoff, Date.parse(seen.exit.finishedAt))
  if (dueMs <= nowMs || !seen.backoff) return undefined
  return {
    reason: 'CrashLoopBackOff',
    message: `back-off ${renderDuration(seen.backoff.delayMs)} restarting failed container=${container.name} pod=${podInMessages(jail)}`,
  }
}

function initFailed(jail: Jail, memory: PodMemory): boolean {
  return (
    jail.restartPolicy === 'Never' &&
    !memory.initialized &&
    jail.initContainers.some((c) => {
      const seen = containerMemory(memory, c.name)
      return !isSidecar(c) && !seen.replaced && seen.process.kind === 'exited' && seen.exit?.exitCode !== 0
    })
  )
}

/** Every main container has ended for good; sidecars do not keep a pod alive. */
function completed(jail: Jail, memory: PodMemory): boolean {
  return (
    memory.initialized &&
    jail.containers.every((c) => {
      const seen = containerMemory(memory, c.name)
      return seen.process.kind === 'exited' && !restarts(jail, c, seen)
    })
  )
}

function busy(memory: PodMemory): boolean {
  return memory.containers.some((c) => c.process.kind === 'running' || c.process.kind === 'starting')
}

/** Main and init containers at once; sidecars afterwards, the last one first (KEP-753). */
function stops(jail: Jail, memory: PodMemory): string[] {
  const running = (c: JailContainer) => containerMemory(memory, c.name).process.kind === 'running'
  const sidecars = jail.initContainers.filter(isSidecar)
  const others = [...jail.initContainers.filter((c) => !isSidecar(c)), ...jail.containers]
  const first = others.filter(running).map((c) => c.name)
  const starting = others.some((c) => containerMemory(memory, c.name).process.kind === 'starting')
  if (first.length > 0 || starting) return first
  const last = sidecars.findLast(running)
  return last ? [last.name] : []
}

export function containerMemory(memory: PodMemory, name: string): ContainerMemory {
  const found = memory.containers.find((c) => c.name === name)
  assert(found, 'A container of a pod is not remembered')
  return found
}

function wake(plan: PodPlan, atMs: number): void {
  plan.wakeAtMs = Math.min(plan.wakeAtMs ?? atMs, atMs)
}
