import { closeSync, openSync, readFileSync, readdirSync, readSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { MiB, until } from '../../stdx/index.ts'
import { type AttackContext, blocked, escaped, type MachineAccess, type Outcome } from '../attack.ts'
import { CONFIG_MAPS, configMap, family } from './own-and-other.ts'

const TAIL_BYTES = 4 * MiB
const ESCAPES = '\u001b[2J\u001b]0;owned\u0007\u009b31m'

const auditLog = ({ stateDir }: MachineAccess) => join(stateDir, 'audit/gateway/audit.log')

function tail(path: string): string {
  const { size } = statSync(path)
  const bytes = Buffer.alloc(Math.min(size, TAIL_BYTES))
  const fd = openSync(path, 'r')
  try {
    readSync(fd, bytes, 0, bytes.length, size - bytes.length)
  } finally {
    closeSync(fd)
  }
  const text = bytes.toString()
  // The first line may be cut.
  return size > TAIL_BYTES ? text.slice(text.indexOf('\n') + 1) : text
}

async function recorded({ machine, attacker, mark }: AttackContext): Promise<string> {
  await attacker.own(`/api/v1/namespaces/${mark}-plain`)
  await until(() => tail(auditLog(machine)).includes(`${mark}-plain`), { what: 'The record of a request' })
  return 'the record of a plain request is there'
}

/** The lines that came of this attack; each has to be one JSON document about one request. */
async function judged({ machine, attacker, mark }: AttackContext, last: string): Promise<Outcome> {
  await attacker.own(`/api/v1/namespaces/${last}`)
  const text = await until(
    () => {
      const now = tail(auditLog(machine))
      return now.includes(last) ? now : undefined
    },
    { what: 'The record of the last request' },
  )
  const lines = text.split('\n').filter((line) => line.includes(mark))
  for (const line of lines) {
    const odd = [...line].find(
      (c) =>
        c < ' ' ||
        (c >= '\u007f' && c <= '\u009f') ||
        c === '\u2028' ||
        c === '\u2029' ||
        (c >= '\u202a' && c <= '\u202e'),
    )
    if (odd !== undefined)
      return escaped(
        `a record holds the control character U+${odd.codePointAt(0)?.toString(16)}: ${JSON.stringify(line.slice(0, 200))}`,
      )
    let event: { tenant?: unknown; user?: unknown; forged?: unknown }
    try {
      event = JSON.parse(line) as typeof event
    } catch {
      return escaped(`a record is no JSON: ${JSON.stringify(line.slice(0, 200))}`)
    }
    if (event.forged !== undefined || event.user === `forged-${mark}`)
      return escaped(`a record was forged: ${line.slice(0, 200)}`)
  }
  return blocked(
    'records are JSON, written by the gateway',
    `${lines.length} records, each one JSON document without control characters`,
  )
}

export const auditAttacks = family('audit', 'logs and metrics', [
  {
    id: 'audit-forged-records',
    title: 'puts line ends and whole records into paths, queries, names and headers, to forge the audit log',
    replays: 'log forging: what a client sent became lines of a log',
    needs: ['machine'],
    always: true,
    control: recorded,
    async attempt(context) {
      const { attacker, mark } = context
      const record = JSON.stringify({
        forged: true,
        user: `forged-${mark}`,
        tenant: context.victim.name,
        code: 200,
      })
      const encoded = encodeURIComponent(`x"}\n${record}\n{"x":"`)
      for (const path of [
        `/api/v1/namespaces/${mark}${encoded}`,
        `/api/v1/namespaces?${mark}=${encoded}`,
        `/api/v1/namespaces?${mark}=%0d%0a${encoded}`,
        `/api/v1/${mark}%e2%80%a8${encoded}`,
      ])
        await attacker.own(path)
      for (const value of [`${mark} ${record}`, `${mark}\\n${record}`, `${mark}","user":"forged-${mark}`])
        for (const name of ['user-agent', 'kubectl-command', 'x-forwarded-for', 'traceparent', 'accept'])
          await attacker.own('/version', { headers: { [name]: value } })
      await attacker.admin.raw(
        `GET ${attacker.root}/version HTTP/1.1\r\nHost: x\r\nUser-Agent: ${mark}\n${record}\nx: y\r\nConnection: close\r\n\r\n`,
      )
      await attacker.own(CONFIG_MAPS, { method: 'POST', body: configMap(`x\n${record}`) })
      return judged(context, `${mark}-last`)
    },
  },
  {
    id: 'audit-escape-sequences',
    title: 'writes terminal escapes and characters that turn the reading direction where operators read',
    replays: 'CVE-2021-25743: kubectl printed escape sequences of objects to the terminal',
    needs: ['machine'],
    control: recorded,
    async attempt(context) {
      const { attacker, machine, mark } = context
      const hostile = `${mark}${ESCAPES}\u202e`
      await attacker.own(CONFIG_MAPS, { method: 'POST', body: configMap(hostile) })
      await attacker.own('/api/v1/namespaces/default/pods', {
        method: 'POST',
        body: {
          apiVersion: 'v1',
          kind: 'Pod',
          metadata: { name: `${mark}-pod`, annotations: { x: hostile } },
          spec: { containers: [{ name: 'c', image: `${hostile}/x:1` }] },
        },
      })
      await attacker.own(`/api/v1/namespaces/${encodeURIComponent(hostile)}`)
      await attacker.admin.raw(
        Buffer.from(
          `GET ${attacker.root}/version HTTP/1.1\r\nHost: x\r\nUser-Agent: ${mark}${ESCAPES}\r\nConnection: close\r\n\r\n`,
          'latin1',
        ),
      )
      const dir = join(machine.stateDir, 'logs')
      for (const name of readdirSync(dir)) {
        const path = join(dir, name)
        const text = statSync(path).size > TAIL_BYTES ? tail(path) : readFileSync(path, 'utf8')
        const line = text
          .split('\n')
          .find(
            (one) => one.includes(mark) && [...one].some((c) => c < ' ' || c === '\u009b' || c === '\u202e'),
          )
        if (line !== undefined) return escaped(`${name}: ${JSON.stringify(line.slice(0, 200))}`)
      }
      return judged(context, `${mark}-end`)
    },
  },
  {
    id: 'audit-flooded',
    title: 'floods the audit log with refusals, to push the record of something else out of it',
    replays: 'logs that rotate by size, and that anybody can fill',
    needs: ['machine'],
    control: recorded,
    async attempt(context) {
      const { attacker, victim, machine, mark } = context
      await attacker.own(`/api/v1/namespaces/${mark}-deed`)
      const size = statSync(auditLog(machine)).size
      const nobody = attacker.as('nobody')
      const sent = 1_200
      for (let i = 0; i < sent; i += 40)
        await Promise.all(
          Array.from({ length: 40 }, () => nobody.request(`${victim.root}/api/v1/${'x'.repeat(1_000)}`)),
        )
      const grown = statSync(auditLog(machine)).size - size
      const there = tail(auditLog(machine)).includes(`${mark}-deed`)
      return there && grown < sent * 1_000
        ? blocked(
            'refusals that cost nothing are counted, not recorded one by one',
            `${sent} refusals of 1,000 bytes made the log ${grown} bytes longer; the deed before them is still recorded`,
          )
        : escaped(`the log grew by ${grown} bytes${there ? '' : ', and the record of the deed is gone'}`)
    },
  },
])
