import { execFileSync, fork } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { parseLayout, paths } from '../src/api/index.ts'
import { createPodNetwork, ensureRunDir, removeRunDir } from '../src/engine/local/index.ts'
import type { JailId } from '../src/jail/index.ts'
import { silentLogger } from '../src/stdx/index.ts'
import { placementOf } from '../tests/testkit/network.ts'
import type { WayRequest } from './kit/both-ends.ts'
import { machineFacts, printRows, type Row } from './kit/samples.ts'

// What a packet between two pods of a tenant takes of one processor: with everything, without what makes it wait, and without
// any rules, in turns. Unlike rates it says the same on a machine that has other things to do.
const ROUNDS = Number(process.argv[2] ?? 7)
const MILLIS = 100
const WAYS = ['trips', 'connections', 'chunks'] as const
const TITLES = {
  trips: 'A datagram there and one back',
  connections: 'A connection from its first packet to its last',
  chunks: '64 KiB of a stream',
}

const layout = parseLayout({ BULKHEAD_INSTANCE: 'ntp', BULKHEAD_SLOT: '196' })
const network = createPodNetwork({ layout, log: silentLogger })
const placement = {
  ...placementOf(layout, 'bench', 0),
  // As fast as it goes: what is measured is what limits cost, not that they hold.
  bandwidth: { ingressBitsPerSecond: 1e11, egressBitsPerSecond: 1e11 },
}
const inRouter = (...command: string[]) =>
  execFileSync('nsenter', [`--net=${paths.routerNetns(layout)}`, ...command], { encoding: 'utf8' })

function withoutWaiting(): void {
  const links = JSON.parse(inRouter('ip', '-j', 'link', 'show', 'type', 'veth')) as { ifname: string }[] // ip's own JSON
  for (const { ifname } of links)
    for (const hook of ['ingress', 'egress'])
      inRouter('tc', 'filter', 'del', 'dev', ifname, hook, 'pref', '2')
}

/** Each is brought about from the one before it. */
const STATES: readonly (readonly [string, () => unknown])[] = [
  ['everything', async () => await network.ensureNode()],
  ['rules with their limits, nothing waits', withoutWaiting],
  ['no rules', () => inRouter('nft', 'flush', 'ruleset')],
]

let stop = () => {}
try {
  await network.reset()
  removeRunDir(layout)
  ensureRunDir(layout)
  await network.ensureNode()
  await network.ensureTenant(placement)
  const startPod = async () => {
    const id = randomUUID() as JailId
    const pod = await network.ensurePod(placement, {
      id,
      hostname: 'bench',
      hostnameRecords: [],
      largePackets: true,
    })
    return { id, ...pod }
  }
  const [one, two] = [await startPod(), await startPod()]
  await network.setTenantNetwork(placement, {
    services: [],
    isolation: {
      pods: [one.id, two.id],
      groups: [{ name: 'friends', pods: [0, 1], resolver: false }],
      ingress: [{ pods: [0, 1], rules: [{ peers: { groups: ['friends'], blocks: [] } }] }],
      egress: [{ pods: [0, 1], rules: [{ peers: { groups: ['friends'], blocks: [] } }] }],
    },
  })
  const child = fork(`${import.meta.dirname}/kit/both-ends.ts`)
  stop = () => child.kill('SIGKILL')
  await once(child, 'message')
  execFileSync('taskset', ['-pc', '1', String(child.pid)], { stdio: 'ignore' })
  const values = new Map<string, number[]>()
  for (let round = 0; round < ROUNDS; round++)
    for (const [state, bringAbout] of STATES) {
      await bringAbout()
      for (const way of WAYS) {
        const said = once(child, 'message')
        child.send({
          way,
          from: one.net,
          to: two.net,
          address: two.podIP,
          millis: MILLIS,
        } satisfies WayRequest)
        const [value] = (await said) as [unknown]
        if (typeof value !== 'number') throw new Error(String(value))
        values.set(`${way} ${state}`, [...(values.get(`${way} ${state}`) ?? []), value])
      }
    }
  console.log(machineFacts())
  for (const way of WAYS) {
    const rows = STATES.toReversed().map(([what]): Row => {
      const row = { what, values: values.get(`${way} ${what}`) ?? [] }
      return what === 'no rules' ? row : { ...row, against: { what: 'no rules' } }
    })
    printRows(TITLES[way], 'µs of a processor', rows)
  }
} finally {
  stop()
  await network.reset()
  network.close()
  removeRunDir(layout)
}
