import { type UserInfo, userNames } from '../api/index.ts'
import { AUDIT_PATH_CHARS_MAX, AUDIT_REASON_CHARS_MAX } from './limits.ts'

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
  method: string
  url: string
  /** 0 when the client left before there was one. */
  code: number
  sourceAddress: string
  protocol: 'HTTP/1.1' | 'HTTP/2'
  /** For us: why it was refused. */
  reason?: string | undefined
}

/** Records one request. Queries are left out: the arguments of exec are in there. */
export function auditRequest(sink: AuditSink, event: RequestEvent): void {
  const { stage, requestId, startedMs, nowMs, user, method, url, code, sourceAddress, protocol, reason } =
    event
  const path = url.split('?', 1)[0]! // split gives at least one part
  // JSON escapes quotes, line ends and control bytes; the rest is written as ASCII, so that no reader is deceived.
  const line = JSON.stringify({
    time: new Date(nowMs).toISOString(),
    stage,
    requestId,
    tenant: user && 'tenant' in user ? user.tenant : null,
    user: user ? { kind: user.kind, name: userNames(user).name, groups: userNames(user).groups } : null,
    method,
    path: path.slice(0, AUDIT_PATH_CHARS_MAX),
    code,
    durationMs: Math.max(0, Math.round(nowMs - startedMs)),
    sourceAddress,
    protocol,
    ...(reason === undefined ? {} : { reason: reason.slice(0, AUDIT_REASON_CHARS_MAX) }),
  })
  sink.write(`${line.replace(/[^ -~]/g, escapeUnit)}\n`)
}

function escapeUnit(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`
}
