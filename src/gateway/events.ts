import { type TenantName, type UserInfo, userNames } from '../api/index.ts'
import type { Clock } from '../stdx/index.ts'
import {
  AUDIT_NOTE_CHARS_MAX,
  AUDIT_PATH_CHARS_MAX,
  AUDIT_REASON_CHARS_MAX,
  AUDIT_REFUSALS_BURST,
  AUDIT_REFUSALS_PER_SECOND,
} from './limits.ts'

/** Takes lines of the audit log. */
export interface AuditSink {
  /** False while the record cannot be kept: then nothing is let through. */
  readonly ready: boolean
  /** A whole line with its line end. */
  write(line: string): void
}

export type RequestEvent = {
  /** A stream is recorded when it begins, too, because it may stay open for hours. */
  stage: 'ResponseStarted' | 'ResponseComplete'
  requestId: string
  startedMs: number
  nowMs: number
  /** Absent when nobody was authenticated; then the path's tenant is merely a claim. */
  user?: UserInfo | undefined
  /** The tenant whose pod asked, which its address tells even then. */
  home?: TenantName | undefined
  method: string
  url: string
  /** 0 when the client left before there was one. */
  code: number
  sourceAddress: string
  protocol: 'HTTP/1.1' | 'HTTP/2'
  /** For us: why it was refused. */
  reason?: string | undefined
  /** What the control plane's policies say about it; merely claimed, as everything that a control plane says. */
  note?: string | undefined
  /** Refusals of the same tenant (or of strangers) before this one that were only counted. */
  unrecorded?: number | undefined
}

/**
 * Bounds the records of refusals that a client gets for nothing and as fast as it asks. Otherwise a flood of them would
 * push everybody's records out of the log, or keep the log from being ready.
 */
export class FreeRefusals {
  private readonly clock: Clock
  private readonly buckets = new Map<string, { tokens: number; countedAtMs: number; unrecorded: number }>()

  constructor(clock: Clock) {
    this.clock = clock
  }

  /** How many were left out before this one, or undefined when it is left out as well. `who` is a tenant, or "". */
  record(who: string): number | undefined {
    const nowMs = this.clock.nowMs()
    const bucket = this.buckets.get(who) ?? {
      tokens: AUDIT_REFUSALS_BURST,
      countedAtMs: nowMs,
      unrecorded: 0,
    }
    this.buckets.set(who, bucket)
    const earned = (Math.max(0, nowMs - bucket.countedAtMs) / 1_000) * AUDIT_REFUSALS_PER_SECOND
    bucket.tokens = Math.min(AUDIT_REFUSALS_BURST, bucket.tokens + earned)
    bucket.countedAtMs = nowMs
    if (bucket.tokens < 1) {
      bucket.unrecorded++
      return undefined
    }
    bucket.tokens -= 1
    const { unrecorded } = bucket
    bucket.unrecorded = 0
    return unrecorded
  }
}

/** Records one request. Queries are left out: the arguments of exec are in there. */
export function auditRequest(sink: AuditSink, event: RequestEvent): void {
  const {
    stage,
    requestId,
    startedMs,
    nowMs,
    user,
    home,
    method,
    url,
    code,
    sourceAddress,
    protocol,
    reason,
    note,
    unrecorded,
  } = event
  const path = url.split('?', 1)[0]! // split gives at least one part
  // JSON escapes quotes, line ends and control bytes; the rest is written as ASCII, so that no reader is deceived.
  const line = JSON.stringify({
    time: new Date(nowMs).toISOString(),
    stage,
    requestId,
    tenant: (user && 'tenant' in user ? user.tenant : home) ?? null,
    user: user ? { kind: user.kind, name: userNames(user).name, groups: userNames(user).groups } : null,
    method,
    path: path.slice(0, AUDIT_PATH_CHARS_MAX),
    code,
    durationMs: Math.max(0, Math.round(nowMs - startedMs)),
    sourceAddress,
    protocol,
    ...(reason === undefined ? {} : { reason: reason.slice(0, AUDIT_REASON_CHARS_MAX) }),
    ...(note === undefined ? {} : { note: note.slice(0, AUDIT_NOTE_CHARS_MAX) }),
    ...(unrecorded ? { unrecorded } : {}),
  })
  sink.write(`${line.replace(/[^ -~]/g, escapeUnit)}\n`)
}

function escapeUnit(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`
}
