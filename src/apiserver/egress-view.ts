import { createHash } from 'node:crypto'
import { badRequest, type Egress, egressPortText, namespaceKind } from '../api/index.ts'
import type { EgressSeen, TenantEgress } from '../jail/index.ts'
import { type Context, keyPrefix, renderTime } from './context.ts'
import { EGRESS_OBJECTS_MAX } from './limits.ts'

type Seen = Pick<
  Egress,
  'apiVersion' | 'kind' | 'state' | 'destination' | 'ports' | 'podLabels' | 'until' | 'count' | 'lastTime'
>

/** What pods of a namespace, or of each, may reach outside, and what they wanted. The machine is asked now. */
export async function allEgress(context: Context, namespace: string | undefined): Promise<Egress[]> {
  const egress = await context.engine?.egress()
  if (!egress) return []
  const names =
    namespace === undefined
      ? context.store
          .list(keyPrefix({ group: namespaceKind.group, resource: namespaceKind.plural }, undefined))
          .items.map(({ object }) => object.metadata.name)
      : [namespace]
  if (names.length * (egress.rules.length + 1) > EGRESS_OBJECTS_MAX)
    throw badRequest(
      `${names.length} namespaces with ${egress.rules.length} rules each are too many to list at once; ask for one namespace`,
    )
  return names.flatMap((each) => planEgressView(egress, each))
}

/** Pure. */
export function planEgressView(egress: TenantEgress, namespace: string): Egress[] {
  const rules = egress.rules.flatMap((rule): Seen[] => {
    if (rule.namespaces && !rule.namespaces.includes(namespace)) return []
    const { podLabels, untilMs, lastUsedMs } = rule
    return [
      {
        ...EGRESS,
        state: rule.expired ? 'Expired' : 'Open',
        destination: rule.host ?? rule.cidr ?? '',
        ports: rule.ports.map(egressPortText),
        ...(podLabels
          ? { podLabels: Object.fromEntries(podLabels.map((label) => splitAt(label, label.indexOf('=')))) }
          : {}),
        ...(untilMs === undefined ? {} : { until: renderTime(untilMs) }),
        count: rule.connections,
        ...(lastUsedMs === undefined ? {} : { lastTime: renderTime(lastUsedMs) }),
      },
    ]
  })
  const seen = egress.seen
    .filter((each) => each.namespace === namespace)
    .map((each): Seen => ({
      ...EGRESS,
      state: each.allowed ? 'Learning' : 'Blocked',
      destination: each.name ?? each.address ?? '',
      ...portsOf(each),
      count: each.count,
      lastTime: renderTime(each.lastMs),
    }))
  const objects = [...rules, ...seen].map((object) => {
    const name = nameOf(object)
    return [name, { ...object, metadata: metadataOf(name, namespace, egress.since) }] as const
  })
  // The operator may have written the same rule twice.
  return [...new Map(objects).values()].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
}

const EGRESS = { apiVersion: 'network.bulkhead.dev/v1alpha1', kind: 'Egress' } as const

function metadataOf(name: string, namespace: string, sinceMs: number): Egress['metadata'] {
  return { name, namespace, creationTimestamp: renderTime(sinceMs) } as Egress['metadata'] // without the uid and version of what is stored
}

function portsOf({ port, protocol = 'TCP' }: EgressSeen): { ports?: string[] } {
  return port === undefined ? {} : { ports: [egressPortText({ protocol, port, endPort: port })] }
}

/** Stays the same while what it is about does. */
function nameOf({ state, destination, ports, podLabels, until }: Seen): string {
  const isRule = state === 'Open' || state === 'Expired'
  const about = JSON.stringify([isRule ? 'rule' : state, destination, ports, podLabels, until])
  const hash = createHash('sha256').update(about).digest('hex').slice(0, 10)
  // What a pod asked the resolver for is any text of letters, digits, "-", "_" and ".".
  const slug = destination
    .slice(0, 200)
    .replaceAll('*', 'any')
    .split('.')
    .map((label) => label.replaceAll(/[^a-z0-9]+/g, '-').replaceAll(/^-|-$/g, ''))
    .filter((label) => label !== '')
    .join('.')
  return slug === '' ? hash : `${slug}-${hash}`
}

function splitAt(text: string, at: number): [string, string] {
  return [text.slice(0, at), text.slice(at + 1)]
}
