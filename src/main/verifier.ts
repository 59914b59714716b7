import { existsSync, writeFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { parseTenantName, paths } from '../api/index.ts'
import { ControlPlaneClient, readKubeconfig } from '../cli/index.ts'
import { AuditFile } from '../gateway/index.ts'
import { SECOND_MS, systemClock } from '../stdx/index.ts'
import {
  type Alarm,
  Alarms,
  type ApiProbes,
  type ExpectedTenant,
  type LayerResult,
  type Report,
  verify,
  Watcher,
} from '../verifier/index.ts'
import { runProgram } from './environment.ts'
import {
  addQuarantine,
  isQuarantined,
  readWaivers,
  readWatchPolicy,
  writeWatchState,
} from './verdict-files.ts'
import { apiProbes, expectedTenants } from './verify.ts'

const LOOK_EVERY_MS_MIN = 1_500
/** A look is followed by so many times its length without one, and by no more than this. */
const REST_FACTOR = 6
const LOOK_EVERY_MS_MAX = 5 * SECOND_MS
const PROVE_EVERY_MS = 60 * SECOND_MS
const PROVE_AGAIN_MS_MIN = 5 * SECOND_MS
/** Speaking to the gateway and to control planes leaves lines in audit logs, so what they answered is believed so long. */
const PROBES_FRESH_MS = 600 * SECOND_MS
/** A control plane that starts anew takes a moment. */
const FAILURES_TOLD = 3
const TENANTS_FRESH_MS = 5 * SECOND_MS
const RUNTIMES = ['/usr/bin/crun', '/usr/sbin/runc', '/usr/bin/runsc', '/usr/bin/conmon', process.execPath]

/**
 * Proves the separation again and again while the platform runs: looks every few seconds for what drifted, and at
 * everything once a minute. It may read all of the machine and change nothing of it; it listens nowhere. What it finds
 * goes into files: the audit log, numbers for monitoring, and the state that the node agent acts on.
 */
runProgram('bulkhead-verifier', async ({ layout, log }) => {
  const clock = systemClock
  const audit = await AuditFile.open({ path: join(layout.stateDir, 'audit/verifier/audit.log'), clock, log })
  const { files } = readWatchPolicy(layout)
  const watcher = new Watcher({ layout, files: [...RUNTIMES, ...files].filter((file) => existsSync(file)) })
  const alarms = new Alarms()
  const counted = { raised: 0, looks: 0, proofs: 0 }
  let tenants: ExpectedTenant[] = []
  let tenantsAtMs = -Infinity
  let report: Report | undefined
  let refusals: Refusals = new Map()
  let refusedBefore: Refusals = new Map()
  let provenAtMs = -Infinity
  let proveSoon = true
  let shares = new Map<string, LayerResult>()
  let probes: { since: number; client: ControlPlaneClient; value: ApiProbes } | undefined
  /** Looks in a row that failed. */
  let failures = 0

  const platform = () => new ControlPlaneClient(readKubeconfig(paths.operatorKubeconfig(layout)))
  const record = (event: string, details: object) =>
    audit.write(
      JSON.stringify({
        time: new Date(clock.nowMs()).toISOString(),
        component: 'verifier',
        event,
        ...details,
      }),
    )

  const refreshTenants = async () => {
    if (clock.nowMs() - tenantsAtMs < TENANTS_FRESH_MS) return
    await using client = platform()
    tenants = await expectedTenants(client)
    shares = new Map([...shares].filter(([name]) => tenants.some((tenant) => tenant.name === name)))
    tenantsAtMs = clock.nowMs()
  }

  const prove = async () => {
    const nowMs = clock.nowMs()
    if (probes && nowMs - probes.since > PROBES_FRESH_MS) await forgetProbes()
    if (!probes) {
      const client = platform()
      const isAwake = (tenant: string) => existsSync(paths.apiSocket(layout, parseTenantName(tenant)))
      probes = {
        since: nowMs,
        client,
        value: remembered(apiProbes({ layout, platform: client }), isAwake, shares),
      }
    }
    report = await verify({ layout, tenants, waivers: readWaivers(layout), probes: probes.value, nowMs })
    if (!report.ok) {
      proveSoon = true
      await forgetProbes()
    }
    // A question that was not answered in time is no missing layer: what fails twice in a row is.
    const failing = refusalsOf(report)
    refusals = new Map([...failing].filter(([key]) => refusedBefore.has(key)))
    refusedBefore = failing
    provenAtMs = nowMs
    counted.proofs++
    log.info('proven', { ok: report.ok, tenants: tenants.length, tookMs: clock.nowMs() - nowMs })
  }

  const forgetProbes = async () => {
    await probes?.client[Symbol.asyncDispose]()
    probes = undefined
  }

  const tell = (change: { raised: Alarm[]; ended: Alarm[] }) => {
    for (const alarm of change.raised) {
      counted.raised++
      proveSoon = true
      log.warn('alarm', { kind: alarm.kind, tenant: alarm.tenant, what: alarm.what })
      record('alarm', { kind: alarm.kind, tenant: alarm.tenant, what: alarm.what })
      quarantine(alarm)
    }
    for (const alarm of change.ended) {
      proveSoon = true
      log.info('alarm over', { kind: alarm.kind, tenant: alarm.tenant, what: alarm.what })
      record('alarm over', { kind: alarm.kind, tenant: alarm.tenant, what: alarm.what })
    }
  }

  const quarantine = ({ kind, tenant, what }: Alarm) => {
    // Rules that are refused leave those of before: nothing is open that was not, and the tenant itself waits for them.
    if (kind === 'load') return
    if (tenant === undefined || readWatchPolicy(layout).onAlarm !== 'quarantine') return
    if (!tenants.some(({ name }) => name === tenant)) return
    const name = parseTenantName(tenant)
    if (isQuarantined(layout, name)) return
    addQuarantine(layout, name, what, clock.nowMs())
    log.warn('tenant in quarantine', { tenant, what })
    record('quarantine', { tenant, what })
  }

  const publish = () => {
    writeWatchState(layout, {
      at: new Date(clock.nowMs()).toISOString(),
      alarms: alarms.all,
      refusals: [...refusals.values()],
      proven: report?.ok === true,
      provenAt: report?.observedAt ?? '',
    })
    const metrics = paths.watchMetrics(layout)
    writeFileSync(`${metrics}.new`, renderMetrics(alarms.all, counted, report), { mode: 0o644 })
    renameSync(`${metrics}.new`, metrics)
  }

  let stopped = false
  const look = async () => {
    const began = clock.nowMs()
    try {
      const drifts = watcher.look(tenants, clock.nowMs())
      if (failures >= FAILURES_TOLD)
        drifts.push({ kind: 'blind', what: 'not everything can be looked at; the log says why' })
      tell(alarms.update(drifts, clock.nowMs()))
      counted.looks++
      const due = proveSoon ? PROVE_AGAIN_MS_MIN : PROVE_EVERY_MS
      // What is wrong is known at once; the whole proof follows, and says which vectors it cost.
      publish()
      await refreshTenants()
      if (clock.nowMs() - provenAtMs >= due) {
        proveSoon = false
        await prove()
        publish()
      }
      failures = 0
    } catch (error) {
      // Control planes come and go, so once is nothing; looking goes on.
      failures++
      proveSoon = true
      await forgetProbes().catch(() => {})
      log.warn('cannot look', { error })
    }
    const rest = Math.max(
      LOOK_EVERY_MS_MIN,
      Math.min(LOOK_EVERY_MS_MAX, REST_FACTOR * (clock.nowMs() - began)),
    )
    if (!stopped) setTimeout(() => void look(), rest)
  }
  void look()
  return {
    async stop() {
      stopped = true
      await audit[Symbol.asyncDispose]()
    },
  }
})

type Refusals = Map<string, { isolationClass: string; vector: string; why: string }>

/** Which classes get no new pods: those of attackers on a vector that fails and that nobody waived. */
function refusalsOf(report: Report): Refusals {
  const classes = new Map(report.tenants.map(({ name, isolationClass }) => [name, isolationClass]))
  const refusals: Refusals = new Map()
  for (const { attackers, vectors } of report.groups) {
    for (const { vector, state, waiver, layers } of vectors) {
      if (state !== 'fails' || waiver !== undefined) continue
      const missing = layers.filter(({ holds }) => !holds)
      for (const attacker of attackers) {
        const isolationClass = classes.get(attacker) ?? ''
        refusals.set(`${isolationClass} ${vector}`, {
          isolationClass,
          vector,
          why: missing.map(({ layer }) => layer).join(', '),
        })
      }
    }
  }
  return refusals
}

/** https://prometheus.io/docs/instrumenting/exposition_formats/ */
function renderMetrics(
  alarms: readonly Alarm[],
  { raised, looks, proofs }: { raised: number; looks: number; proofs: number },
  report: Report | undefined,
): string {
  const failing =
    report?.groups.flatMap(({ vectors }) => vectors.filter(({ state }) => state === 'fails')) ?? []
  const numbers: [string, string, string, number][] = [
    ['bulkhead_alarms', 'gauge', 'Alarms that last.', alarms.length],
    ['bulkhead_alarms_raised_total', 'counter', 'Alarms since the verifier began.', raised],
    ['bulkhead_looks_total', 'counter', 'Looks for drift.', looks],
    ['bulkhead_proofs_total', 'counter', 'Whole proofs.', proofs],
    [
      'bulkhead_proven',
      'gauge',
      'Whether every vector had its layers in the last proof.',
      report?.ok ? 1 : 0,
    ],
    ['bulkhead_vectors_failing', 'gauge', 'Vectors without enough layers, by kind of pair.', failing.length],
    [
      'bulkhead_proof_timestamp_seconds',
      'gauge',
      'When the last proof looked.',
      report ? Date.parse(report.observedAt) / 1000 : 0,
    ],
  ]
  return numbers
    .map(([name, type, help, value]) => `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${name} ${value}\n`)
    .join('')
}

/** Each question is asked once; what failed is asked again, and so is who slept and is awake. */
function remembered(
  probes: ApiProbes,
  isAwake: (tenant: string) => boolean,
  /** What asking for more than a share showed the last time. */
  shares: Map<string, LayerResult>,
): ApiProbes {
  const known = new Map<string, Promise<unknown>>()
  const once = <T>(key: string, ask: () => Promise<T>): Promise<T> => {
    const before = known.get(key) as Promise<T> | undefined // the same key has the same kind of answer
    if (before) return before
    const answer = ask()
    known.set(key, answer)
    answer.catch(() => known.delete(key))
    return answer
  }
  return {
    gatewayBinding: (a, v) => once(`binding ${a} ${v} ${isAwake(a)}`, () => probes.gatewayBinding(a, v)),
    controlPlane: (a, v) =>
      once(`refusing ${a.uid} ${v.uid} ${isAwake(v.name)}`, () => probes.controlPlane(a, v)),
    gatewayShares: (a, other) =>
      once(`shares ${a} ${other}`, async () => {
        const before = shares.get(a)
        // Asking would wake it, and the gateway counts for it as it did before.
        if (before?.holds === true && !isAwake(a)) return before
        const now = await probes.gatewayShares(a, other)
        shares.set(a, now)
        return now
      }),
    gatewayBounds: (a) => once(`gateway ${a}`, () => probes.gatewayBounds(a)),
    controlPlaneBounds: (a) => once(`plane ${a.uid} ${isAwake(a.name)}`, () => probes.controlPlaneBounds(a)),
    signingKeys: (a) => once(`keys ${a} ${isAwake(a)}`, () => probes.signingKeys(a)),
  }
}
