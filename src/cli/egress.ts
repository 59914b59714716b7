import { stringify } from 'yaml'
import { egressPortText, type EgressPort } from '../api/index.ts'
import type { EgressSeen, TenantEgress } from '../jail/index.ts'
import { printable, renderTable } from './table.ts'

/** Suggested rules beyond this many would be nobody's to read. */
const SUGGESTED_MAX = 200
const SECOND = 1_000

/** One line for each tenant that has rules. */
export function renderEgressList(all: readonly TenantEgress[]): string {
  if (all.length === 0)
    return 'No tenant may reach anything outside; "spec.egress" of a Tenant says what it may'
  return renderTable(
    ['TENANT', 'MODE', 'RULES', 'EXPIRED', 'CONNECTIONS', 'BLOCKED', 'UPLINK'],
    all.map((each) => [
      each.tenant,
      modeOf(each),
      String(each.rules.length),
      String(each.rules.filter(({ expired }) => expired).length),
      String(each.rules.reduce((sum, { connections }) => sum + connections, 0)),
      String(each.seen.filter(({ allowed }) => !allowed).length),
      printable(each.uplink),
    ]),
  )
}

/** Every rule of a tenant with its use, and what no rule allows. */
export function renderEgress(egress: TenantEgress): string {
  const { rules, seen, now, since } = egress
  const parts = [
    `Tenant ${egress.tenant}: ${modeOf(egress)}, uplink ${printable(egress.uplink)}, counted since ${timeText(since)}`,
    rules.length === 0
      ? 'No rule: nothing outside can be reached'
      : renderTable(
          ['RULE', 'PORTS', 'NAMESPACES', 'CONNECTIONS', 'LAST USED', 'ENDS', 'REASON'],
          rules.map((rule) => [
            printable(rule.host ?? rule.cidr ?? ''),
            portsText(rule.ports),
            whomText(rule),
            String(rule.connections),
            rule.lastUsedMs === undefined ? 'never' : ago(now - rule.lastUsedMs),
            rule.untilMs === undefined ? 'never' : rule.expired ? 'expired' : timeText(rule.untilMs),
            printable(rule.reason ?? ''),
          ]),
        ),
  ]
  if (seen.length > 0)
    parts.push(
      'Wanted, and allowed by no rule:',
      renderTable(
        ['NAMESPACE', 'WHAT', 'PORT', 'TIMES', 'LAST', 'FATE'],
        newestFirst(seen).map((each) => [
          printable(each.namespace),
          printable(each.name ?? each.address ?? ''),
          each.port === undefined ? '(name)' : portsText([portOf(each)]),
          String(each.count),
          ago(now - each.lastMs),
          each.allowed ? 'let through' : 'blocked',
        ]),
      ),
    )
  return parts.join('\n\n')
}

/**
 * A manifest with the tenant's rules and one more for each thing that its pods wanted. `spec` is what the tenant has
 * otherwise, because applying replaces it.
 */
export function renderEgressSuggestion(egress: TenantEgress, spec: Record<string, unknown>): string {
  const before = (spec['egress'] ?? {}) as { allow?: unknown[] }
  const fresh = suggestions(egress)
  const notes = [
    `# ${fresh.length} rules for what pods of "${egress.tenant}" wanted and no rule allows. Read each before you apply them.`,
    ...(fresh.some(({ guessed }) => guessed)
      ? ['# Of some names only the name is known: port 443 is assumed.']
      : []),
  ]
  const document = {
    apiVersion: 'tenancy.bulkhead.dev/v1alpha1',
    kind: 'Tenant',
    metadata: { name: egress.tenant },
    spec: {
      ...spec,
      egress: { allow: [...(before.allow ?? []), ...fresh.map(({ rule }) => rule)].slice(0, SUGGESTED_MAX) },
    },
  }
  return `${notes.join('\n')}\n${stringify(document, { lineWidth: 0 }).trimEnd()}`
}

type Suggestion = { rule: Record<string, unknown>; guessed: boolean }

function suggestions({ seen }: TenantEgress): Suggestion[] {
  const targets = Map.groupBy(
    // A name is what people can judge, and what stays right when the address changes.
    seen.filter((each) => each.namespace !== ''),
    (each) => each.name ?? each.address ?? '',
  )
  return [...targets]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([target, wanted]) => {
      const ports = [
        ...new Set(wanted.flatMap((each) => (each.port === undefined ? [] : [egressPortText(portOf(each))]))),
      ]
      const namespaces = [...new Set(wanted.map((each) => each.namespace))].sort()
      const numbers = ports.sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10)).slice(0, 16)
      return {
        guessed: ports.length === 0,
        rule: {
          ...(wanted[0]?.name === undefined ? { cidr: `${target}/32` } : { host: target }),
          ports:
            ports.length === 0 ? [443] : numbers.map((port) => (/^\d+$/.test(port) ? Number(port) : port)),
          namespaces,
          reason: `learned: wanted ${wanted.reduce((sum, { count }) => sum + count, 0)} times`,
        },
      }
    })
}

function portOf({ port = 0, protocol = 'TCP' }: EgressSeen): EgressPort {
  return { protocol, port, endPort: port }
}

function modeOf({ learn, now }: TenantEgress): string {
  if (!learn) return 'Enforce'
  if (learn.untilMs <= now) return 'Enforce (learning has ended)'
  return `Learn until ${timeText(learn.untilMs)}, unlisted ${learn.unlisted}`
}

function whomText({ namespaces, podLabels = [] }: TenantEgress['rules'][number]): string {
  const where = namespaces?.join(', ') ?? 'all'
  return podLabels.length === 0 ? where : `${where} with ${podLabels.join(', ')}`
}

function portsText(ports: readonly EgressPort[]): string {
  return ports.map(egressPortText).join(', ')
}

function newestFirst(seen: readonly EgressSeen[]): readonly EgressSeen[] {
  return [...seen].sort((a, b) => b.lastMs - a.lastMs)
}

function timeText(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d{3}Z$/, 'Z')
}

function ago(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / SECOND))
  if (seconds < 120) return `${seconds}s ago`
  if (seconds < 7_200) return `${Math.floor(seconds / 60)}m ago`
  return seconds < 172_800 ? `${Math.floor(seconds / 3_600)}h ago` : `${Math.floor(seconds / 86_400)}d ago`
}
