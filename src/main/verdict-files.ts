import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { type Layout, parseTenantName, paths, type TenantName } from '../api/index.ts'
import { MiB } from '../stdx/index.ts'
import { parseVector, type Vector, type Waiver } from '../verifier/index.ts'

/**
 * What the operator decides about the continuous proof, and what the proof decides about tenants, as files: the watching
 * process has no way to ask anybody, and nobody has a way to ask it.
 */

const FILE_BYTES_MAX = 4 * MiB
const WAIVERS_MAX = 1_000
const TEXT_CHARS_MAX = 500
/** Nobody answers for longer than this without saying so again. */
const WAIVER_DAYS_MAX = 366

export type WatchPolicy = {
  /** Whether an alarm about a tenant freezes its pods. */
  onAlarm: 'tell' | 'quarantine'
  /** Files to be watched besides the runtimes. */
  files: string[]
}

/** Written by the watching process; read by the node agent and the command. */
export type WatchState = {
  at: string
  alarms: { id: string; kind: string; since: string; tenant?: string; what: string }[]
  /** New pods are refused for these classes. */
  refusals: { isolationClass: string; vector: string; why: string }[]
  proven: boolean
  provenAt: string
}

export type Quarantine = { tenant: string; since: string; reason: string }

export function readWatchState(layout: Layout): WatchState | undefined {
  const value = readJson(paths.watchState(layout)) as Partial<WatchState> | undefined
  if (!value || !Array.isArray(value.alarms) || !Array.isArray(value.refusals)) return undefined
  const text = (part: unknown) => (typeof part === 'string' ? part : '')
  return {
    at: text(value.at),
    alarms: value.alarms.map((alarm) => ({
      id: text(alarm.id),
      kind: text(alarm.kind),
      since: text(alarm.since),
      what: text(alarm.what),
      ...(typeof alarm.tenant === 'string' ? { tenant: alarm.tenant } : {}),
    })),
    refusals: value.refusals.map((refusal) => ({
      isolationClass: text(refusal.isolationClass),
      vector: text(refusal.vector),
      why: text(refusal.why),
    })),
    proven: value.proven === true,
    provenAt: text(value.provenAt),
  }
}

export function writeWatchState(layout: Layout, state: WatchState): void {
  writeWhole(paths.watchState(layout), JSON.stringify(state), 0o600)
}

export function readWatchPolicy(layout: Layout): WatchPolicy {
  const { onAlarm, files } = (readJson(policyFile(layout)) ?? {}) as Partial<WatchPolicy>
  return {
    onAlarm: onAlarm === 'quarantine' ? 'quarantine' : 'tell',
    files: Array.isArray(files) ? files.filter((file) => typeof file === 'string').slice(0, 100) : [],
  }
}

export function writeWatchPolicy(layout: Layout, policy: WatchPolicy): void {
  writeWhole(policyFile(layout), JSON.stringify(policy), 0o600)
}

export function readWaivers(layout: Layout): Waiver[] {
  const value = readJson(waiversFile(layout))
  return Array.isArray(value) ? (value as Waiver[]) : [] // root's own file
}

/** @throws {TypeError} when it cannot be one. */
export function parseWaiver(
  wanted: { vector: string; tenant?: string; until: string; by: string; reason: string },
  nowMs: number,
): Omit<Waiver, 'id'> {
  const vector: Vector | undefined = parseVector(wanted.vector)
  if (!vector)
    throw new TypeError(`There is no vector "${wanted.vector.slice(0, 64)}"; "bulkhead verify" names them`)
  const untilMs = Date.parse(wanted.until)
  if (!Number.isFinite(untilMs) || untilMs <= nowMs)
    throw new TypeError(
      `--until "${wanted.until.slice(0, 64)}" must be a time to come, such as 2026-12-24T12:00:00Z`,
    )
  if (untilMs > nowMs + WAIVER_DAYS_MAX * 86_400_000)
    throw new TypeError(`A waiver lasts ${WAIVER_DAYS_MAX} days at most`)
  for (const name of ['by', 'reason'] as const)
    if (wanted[name].trim() === '' || wanted[name].length > TEXT_CHARS_MAX)
      throw new TypeError(`--${name} must say something, in ${TEXT_CHARS_MAX} characters at most`)
  return {
    vector,
    ...(wanted.tenant === undefined ? {} : { tenant: parseTenantName(wanted.tenant) }),
    until: new Date(untilMs).toISOString(),
    by: wanted.by.trim(),
    reason: wanted.reason.trim(),
  }
}

export function addWaiver(layout: Layout, waiver: Omit<Waiver, 'id'>, nowMs: number): Waiver {
  const others = readWaivers(layout).filter(({ until }) => Date.parse(until) > nowMs)
  if (others.length >= WAIVERS_MAX) throw new Error(`There are ${WAIVERS_MAX} waivers in force already`)
  const highest = Math.max(0, ...others.map(({ id }) => Number(id.slice(1)) || 0))
  const added = { id: `w${Math.max(highest, Math.floor(nowMs / 1000)) + 1}`, ...waiver }
  writeWhole(waiversFile(layout), JSON.stringify([...others, added]), 0o600)
  return added
}

/** Whether there was one. */
export function revokeWaiver(layout: Layout, id: string): boolean {
  const all = readWaivers(layout)
  const rest = all.filter((waiver) => waiver.id !== id)
  if (rest.length < all.length) writeWhole(waiversFile(layout), JSON.stringify(rest), 0o600)
  return rest.length < all.length
}

export function readQuarantines(layout: Layout): Quarantine[] {
  const directory = paths.quarantine(layout)
  if (!existsSync(directory)) return []
  return readdirSync(directory).flatMap((file) => {
    if (!file.endsWith('.json')) return []
    const { since, reason } = (readJson(join(directory, file)) ?? {}) as Partial<Quarantine>
    return [
      { tenant: file.slice(0, -'.json'.length), since: String(since ?? ''), reason: String(reason ?? '') },
    ]
  })
}

export function isQuarantined(layout: Layout, tenant: TenantName): boolean {
  return existsSync(quarantineFile(layout, tenant))
}

export function addQuarantine(layout: Layout, tenant: TenantName, reason: string, nowMs: number): void {
  writeWhole(
    quarantineFile(layout, tenant),
    JSON.stringify({ since: new Date(nowMs).toISOString(), reason: reason.slice(0, TEXT_CHARS_MAX) }),
    0o600,
  )
}

/** Whether it was in quarantine. */
export function liftQuarantine(layout: Layout, tenant: TenantName): boolean {
  const file = quarantineFile(layout, tenant)
  const was = existsSync(file)
  rmSync(file, { force: true })
  return was
}

function policyFile(layout: Layout): string {
  return join(paths.watchDecisions(layout), 'policy.json')
}
function waiversFile(layout: Layout): string {
  return join(paths.watchDecisions(layout), 'waivers.json')
}
function quarantineFile(layout: Layout, tenant: TenantName): string {
  return join(paths.quarantine(layout), `${tenant}.json`)
}

function readJson(path: string): unknown {
  try {
    if (statSync(path).size > FILE_BYTES_MAX) return undefined
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch {
    return undefined
  }
}

function writeWhole(path: string, text: string, mode: number): void {
  mkdirSync(join(path, '..'), { recursive: true, mode: 0o700 })
  const unfinished = `${path}.${process.pid}`
  writeFileSync(unfinished, text, { mode })
  renameSync(unfinished, path)
}
