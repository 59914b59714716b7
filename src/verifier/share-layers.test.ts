import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TenantPosture } from './layers.ts'
import type { BpfInstruction } from './posture/classic-bpf.ts'
import type { LinkShare } from './posture/network.ts'
import { linkShareLayer } from './share-layers.ts'

const EVERYTHING: readonly BpfInstruction[] = [{ code: 6, jt: 0, jf: 0, k: 0xffff_ffff }]
const NOTHING: readonly BpfInstruction[] = [{ code: 6, jt: 0, jf: 0, k: 0 }]
/** All but frames with 10.128.0.0/21 at that place; the first of these addresses is the front door's. */
const exceptOwn = (at: number, prefix = 0xffff_f800, door = 0x0a80_0000): readonly BpfInstruction[] => [
  { code: 0x20, jt: 0, jf: 0, k: at },
  { code: 0x15, jt: 3, jf: 0, k: door },
  { code: 0x54, jt: 0, jf: 0, k: prefix },
  { code: 0x15, jt: 0, jf: 1, k: (0x0a80_0000 & prefix) >>> 0 },
  { code: 6, jt: 0, jf: 0, k: 0 },
  { code: 6, jt: 0, jf: 0, k: 0xffff_ffff },
]
const [SOURCE, TARGET] = [26, 30]

type Programs = { sent: readonly BpfInstruction[]; received: readonly BpfInstruction[] }

function tenant(name: string, at: number, pods: readonly Programs[]): TenantPosture {
  const share = (link: string, waits: readonly BpfInstruction[]): LinkShare => ({
    link,
    bitsPerSecond: 1e9,
    waits,
  })
  return {
    name,
    isolationClass: 'shared',
    processes: [],
    links: pods.map(({ sent, received }, n) => ({
      interfaceName: `${name}${n}`,
      mac: `02:00:00:00:00:0${n}`,
      address: `10.128.${at}.${n + 1}`,
      egressFilters: [],
      ingressFilters: [],
      shares: { sent: share(`send-${name}`, sent), received: share(`receive-${name}`, received) },
    })),
  }
}

const other = tenant('blue', 8, [{ sent: EVERYTHING, received: EVERYTHING }])
const problemsOf = (...pods: Programs[]) => {
  const { holds, evidence } = linkShareLayer(tenant('red', 0, pods), other)
  return holds ? undefined : evidence.join()
}

test('what stays within a tenant waits at one end, and everything else at both', () => {
  const [all, own] = [EVERYTHING, exceptOwn]
  assert.equal(problemsOf({ sent: all, received: all }), undefined)
  assert.equal(problemsOf({ sent: own(TARGET), received: all }, { sent: all, received: all }), undefined)
  assert.equal(problemsOf({ sent: all, received: own(SOURCE) }, { sent: all, received: all }), undefined)
})

test('a tenant whose packets wait at neither end, or nowhere on their way out, is found', () => {
  const [all, own] = [EVERYTHING, exceptOwn]
  assert.match(
    problemsOf({ sent: own(TARGET), received: all }, { sent: all, received: own(SOURCE) }) ?? '',
    /sent over the link red0 between 10\.128\.0\.1 and \S+, and received over the link red1 \S+ \S+ and 10\.128\.0\.2, waits for nothing/,
  )
  // Networks that are not the tenant's alone, down to a neighbour's.
  for (const prefix of [0xffff_f000, 0xffff_0000, 0xff80_0000, 0x8000_0000])
    assert.match(
      problemsOf({ sent: own(TARGET, prefix), received: all }) ?? '',
      /and \d+\.\d+\.\d+\.1 waits for nothing/,
    )
  assert.match(
    problemsOf({ sent: all, received: own(SOURCE, undefined, 0) }) ?? '',
    /^what is received over the link red0 between 10\.128\.0\.0 and 10\.128\.0\.1 waits for nothing$/,
  )
  assert.match(problemsOf({ sent: NOTHING, received: all }) ?? '', /and 169\.254\.1\.1 waits for nothing/)
  assert.match(
    problemsOf({ sent: all, received: [] }) ?? '',
    /between 10\.96\.0\.1 and 10\.128\.0\.1 waits for nothing/,
  )
})
