import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { NetworkPolicySpec } from '../../src/api/index.ts'
import type { FlowEnd, NetworkRules, ReachablePod } from '../../src/policy/index.ts'

export type ReachTable = { [from: string]: { [to: string]: string } }
export type TableStep = {
  step: number
  probe: string
  policies: { metadata: { name: string; namespace: string }; spec: NetworkPolicySpec }[]
  expected: ReachTable
}

/** Who can reach whom, for 230 sets of policies that network plugins of Kubernetes are compared by. */
export const truthTables = JSON.parse(
  readFileSync(join(import.meta.dirname, '../conformance/testdata/network-policy-truth-tables.json'), 'utf8'),
) as { case: string; steps: TableStep[] }[]

const PROTOCOLS = ['SCTP', 'TCP', 'UDP'] as const
export type TablePort = { protocol: (typeof PROTOCOLS)[number]; port: number }
const PORTS: readonly TablePort[] = PROTOCOLS.flatMap((protocol) =>
  [80, 81].map((port) => ({ protocol, port })),
)

type Labels = Record<string, string>
type Changes = { pods?: Record<string, Labels>; namespaces?: Record<string, Labels> }

/**
 * What steps changed besides policies. The tables do not carry it: new pods and namespaces are known by the rows that
 * appear, and labels by the selectors that begin to match; each change is the smallest that explains the rows.
 */
const CHANGES: Record<string, Changes> = {
  'should allow ingress access on one named port 2': {
    pods: { 'w/a': { pod: 'a' } },
    namespaces: { w: { ns: 'w' } },
  },
  'Create/delete namespace 2': {
    pods: { 'y-2/a': { pod: 'a' }, 'y-2/b': { pod: 'b' } },
    namespaces: { 'y-2': { ns: 'y' } },
  },
  'Update namespace so that policy applies, then again so it no longer applies 2': {
    namespaces: { y: { ns: 'y', 'new-ns': 'qrs' } },
  },
  'Update pod so that policy applies, then again so it no longer applies 2': {
    pods: { 'y/b': { pod: 'b', 'new-label': 'abc' } },
  },
  'should allow ingress access from updated namespace 2': {
    namespaces: { y: { ns: 'y', ns2: 'updated' } },
  },
  'should allow ingress access from updated pod 2': { pods: { 'x/b': { pod: 'b', pod2: 'updated' } } },
  'should deny ingress access to updated pod 2': { pods: { 'x/a': { pod: 'a', target: 'isolated' } } },
}

/** The table of this step was damaged before it came to us: its rows have lost their columns. */
export const UNREADABLE_STEPS: readonly string[] = ['Create/delete pod 2']

export type TableWorld = {
  ends: ReadonlyMap<string, FlowEnd & { pod: ReachablePod }>
  rules: NetworkRules
  /** What each letter of a cell is about. */
  ports: readonly TablePort[]
}

/** The pods, namespaces and policies that the step's table is about. */
export function worldOf(name: string, { step, policies, probe, expected }: TableStep): TableWorld {
  // Two cases have one name; only one of them has the pod that the change makes.
  const known = CHANGES[`${name} ${step}`] ?? {}
  const changes = Object.keys(known.pods ?? {}).every((pod) => expected[pod]) ? known : {}
  const namespaces = new Map<string, Labels>()
  for (const namespace of ['x', 'y', 'z']) namespaces.set(namespace, { ns: namespace })
  for (const [namespace, labels] of Object.entries(changes.namespaces ?? {}))
    namespaces.set(namespace, labels)
  const pods = new Map<string, Labels>()
  for (const namespace of ['x', 'y', 'z'])
    for (const pod of ['a', 'b', 'c']) pods.set(`${namespace}/${pod}`, { pod })
  for (const [pod, labels] of Object.entries(changes.pods ?? {})) pods.set(pod, labels)
  const ends = new Map(
    [...pods].map(([key, labels], at) => [
      key,
      {
        // Within the /28 that some policies name, as the tables show.
        address: 0xc0a8_0100n + BigInt(at + 1),
        family: 4 as const,
        pod: { namespace: key.split('/')[0] ?? '', labels, namedPorts: NAMED_PORTS },
      },
    ]),
  )
  // A probe of one port, by number or by name, shows one letter.
  const single = /^port (?:serve-)?(\d+)(?:-tcp)?, protocol TCP$/.exec(probe)?.[1]
  return {
    ends,
    ports: single === undefined ? PORTS : [{ protocol: 'TCP', port: Number(single) }],
    rules: {
      policies: policies.map(({ metadata, spec }) => ({ namespace: metadata.namespace, spec })),
      namespaces: new Map(
        [...namespaces].map(([namespace, labels]) => [
          namespace,
          { ...labels, 'kubernetes.io/metadata.name': namespace },
        ]),
      ),
    },
  }
}

const NAMED_PORTS = PORTS.map((each) => ({
  ...each,
  name: `serve-${each.port}-${each.protocol.toLowerCase()}`,
}))

/** The table of a world, as `allowed` says. */
export function tableOf(
  { ends, ports }: TableWorld,
  allowed: (from: string, to: string, port: TablePort) => boolean,
): ReachTable {
  return Object.fromEntries(
    [...ends.keys()].map((from) => [
      from,
      Object.fromEntries(
        [...ends.keys()].map((to) => [
          to,
          ports.map((port) => (allowed(from, to, port) ? '.' : 'X')).join(' '),
        ]),
      ),
    ]),
  )
}
