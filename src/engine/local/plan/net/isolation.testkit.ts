import * as fc from 'fast-check'

/** Network policies of a tenant as its control plane may send them, for tests of what becomes of them. */

export const PODS = Array.from({ length: 6 }, (_, at) => `00000000-0000-4000-8000-00000000000${at}`)

const places = fc.uniqueArray(fc.nat(PODS.length - 1), { maxLength: PODS.length })
const names = ['ga', 'gb', 'gc']
/** Ranges that follow each other, as a planner would write them. */
const ranges = (max: number) =>
  fc.uniqueArray(fc.integer({ min: 1, max }), { maxLength: 6 }).map((ends) => {
    const sorted = ends.toSorted((a, b) => a - b)
    return sorted.flatMap((first, at) => {
      const next = sorted[at + 1]
      return at % 2 === 0 ? [{ first, last: next === undefined ? first : next }] : []
    })
  })
const dotted = (address: number) => [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join('.')
const rule = fc.record(
  {
    peers: fc.record({
      groups: fc.uniqueArray(fc.constantFrom(...names), { maxLength: 3 }),
      blocks: fc.oneof(
        fc.constant([{ first: '0.0.0.0', last: '255.255.255.255' }]),
        ranges(2 ** 32 - 1).map((all) =>
          all.map(({ first, last }) => ({ first: dotted(first), last: dotted(last) })),
        ),
      ),
    }),
    ports: fc
      .tuple(ranges(65_535), ranges(65_535), fc.boolean())
      .map(([tcp, udp, sctp]) => [
        ...tcp.map((range) => ({ protocol: 'TCP', ...range })),
        ...udp.map((range) => ({ protocol: 'UDP', ...range })),
        ...(sctp ? [{ protocol: 'SCTP', first: 1, last: 65_535 }] : []),
      ]),
  },
  { requiredKeys: [] },
)
const isolated = (withWithin: boolean) =>
  fc
    .tuple(
      places,
      fc.array(fc.tuple(rule, fc.option(fc.constantFrom(...names), { nil: undefined })), { maxLength: 4 }),
    )
    .map(([pods, rules]) => {
      const half = Math.ceil(pods.length / 2)
      const all = rules.map(([each, within]) => (withWithin && within ? { ...each, within } : each))
      return [
        { pods: pods.slice(0, half), rules: all },
        { pods: pods.slice(half), rules: all.slice(1) },
      ]
    })
export const isolation = fc.record({
  pods: fc.constant(PODS),
  groups: fc
    .tuple(...names.map(() => fc.record({ pods: places, resolver: fc.boolean() })))
    .map((groups) => groups.map((group, at) => ({ name: names[at], ...group }))),
  ingress: isolated(false),
  egress: isolated(true),
})
