import { KiB, sleep } from '../../stdx/index.ts'
import { type AttackContext, blocked, escaped, type Outcome } from '../attack.ts'
import { counted, worked } from './expect.ts'
import { CONFIG_MAPS, configMap, family, secretOf, type Sketch } from './own-and-other.ts'

const LANES = 24
const VICTIM_PAUSE_MS = 25
const OBJECTS = 1_200
const REQUESTS = 1_500
const WATCHES = 300
const BODIES = 40
const HANDSHAKES = 250

type Flood = Omit<Sketch, 'attempt' | 'control'> & {
  /** One of many; returns the answer's code. */
  one(context: AttackContext, i: number): Promise<number | string>
  times: number
  after?(context: AttackContext): Promise<void>
}

/** While the attacker does as much as it can, the victim reads and writes. Its times are evidence; its refusals are an escape. */
function flood({ one, times, after, ...sketch }: Flood): Sketch {
  return {
    standards: ['T1499', 'MS-TA9040'],
    ...sketch,
    async control({ victim }) {
      return worked(await victim.own(secretOf(victim)), 'before it, the victim reads its own secret')
    },
    async attempt(context) {
      const { victim, mark, signal } = context
      const codes: (number | string)[] = []
      const victimMs: number[] = []
      let next = 0
      const over = new AbortController()
      const lane = async () => {
        while (next < times && !signal.aborted) {
          const i = next++
          codes.push(
            await one(context, i).catch((error: unknown) =>
              error instanceof Error ? error.message.slice(0, 40) : String(error),
            ),
          )
        }
      }
      const refused: string[] = []
      const measure = async () => {
        for (let i = 0; !over.signal.aborted; i++) {
          const beganMs = performance.now()
          const read = await victim
            .own(secretOf(victim))
            .catch((error: unknown) => ({ code: 0, body: String(error) }))
          if (read.code !== 200) refused.push(`reads: ${read.code} ${read.body.slice(0, 80)}`)
          if (i % 5 === 0) {
            const written = await victim
              .own(CONFIG_MAPS, { method: 'POST', body: configMap(`${mark}-v${i}`) })
              .catch((error: unknown) => ({ code: 0, body: String(error) }))
            if (written.code !== 201) refused.push(`writes: ${written.code} ${written.body.slice(0, 80)}`)
          }
          victimMs.push(performance.now() - beganMs)
          // Its own share of requests is not what is measured.
          await sleep(VICTIM_PAUSE_MS)
        }
      }
      const measuring = measure()
      await Promise.all(Array.from({ length: LANES }, lane))
      over.abort()
      await measuring
      await after?.(context)
      return verdict({ codes, victimMs, refused })
    },
  }
}

function verdict({
  codes,
  victimMs,
  refused,
}: {
  codes: readonly (number | string)[]
  victimMs: readonly number[]
  refused: readonly string[]
}): Outcome {
  const sorted = victimMs.toSorted((a, b) => a - b)
  const at = (share: number) =>
    Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0)
  const evidence = `the attacker was answered ${counted(codes)}; the victim ${victimMs.length} times, in ${at(0.5)} ms in the middle and ${at(1)} ms at most`
  return refused.length > 0
    ? escaped(`the victim was refused: ${refused.slice(0, 3).join('; ')}; ${evidence}`)
    : blocked('limits per tenant', evidence)
}

export const floodAttacks = family('floods', 'control-plane saturation', [
  flood({
    id: 'flood-objects',
    title: `makes ${OBJECTS} objects as fast as it can, up to its quota`,
    replays: 'stores that all tenants share, full of one tenant’s objects',
    vector: 'object floods',
    times: OBJECTS,
    one: async ({ attacker, mark }, i) =>
      (
        await attacker.own(CONFIG_MAPS, {
          method: 'POST',
          body: { ...configMap(`${mark}-${i}`), data: { x: 'x'.repeat(4 * KiB) } },
        })
      ).code,
    after: async ({ attacker }) => void (await attacker.own(CONFIG_MAPS, { method: 'DELETE' })),
  }),
  flood({
    id: 'flood-requests',
    title: `sends ${REQUESTS} requests as fast as it can`,
    times: REQUESTS,
    one: async ({ attacker }) => (await attacker.own('/api/v1/secrets')).code,
  }),
  flood({
    id: 'flood-watches',
    title: `opens ${WATCHES} watches and leaves them`,
    times: WATCHES,
    one: async ({ attacker }) =>
      (await attacker.admin.listen(`${attacker.root}/api/v1/configmaps?watch=true`, 1_500)).code,
  }),
  flood({
    id: 'flood-bodies',
    title: `sends ${BODIES} bodies of three megabytes at once`,
    times: BODIES,
    one: async ({ attacker, mark }, i) =>
      (
        await attacker.own(CONFIG_MAPS, {
          method: 'POST',
          body: JSON.stringify({ ...configMap(`${mark}-b${i}`), data: { x: 'x'.repeat(3_000 * KiB) } }),
        })
      ).code,
  }),
  flood({
    id: 'flood-connections',
    title: `makes ${HANDSHAKES} connections with a handshake each`,
    times: HANDSHAKES,
    one: async ({ attacker }) => {
      const socket = await attacker.admin.socket()
      socket.destroy()
      return 'a handshake'
    },
  }),
  flood({
    id: 'flood-bad-tokens',
    title: 'sends tokens whose signatures have to be checked, and are not good',
    times: 600,
    one: async (context, i) => {
      const token = (await forged(context)).slice(0, -6) + String(i).padStart(6, 'A')
      const api = context.attacker.as({ token })
      const { code } = await api.request(`${context.victim.root}/api`)
      await api[Symbol.asyncDispose]()
      return code
    },
  }),
])

const genuine = new WeakMap<AttackContext, Promise<string>>()

function forged(context: AttackContext): Promise<string> {
  const known = genuine.get(context) ?? context.attacker.token()
  genuine.set(context, known)
  return known
}
