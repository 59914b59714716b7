import { blocked, escaped, type Outcome } from '../attack.ts'
import { said } from './expect.ts'
import { family, secretOf } from './own-and-other.ts'

const PATHS = [
  '',
  '/',
  '/version',
  '/healthz',
  '/api',
  '/api/v1/namespaces',
  '/api/v1/secrets',
  '/apis/apps/v1/deployments',
  '/openapi/v3',
  '/nonsense',
  '/api/v1/namespaces/default/pods/x/exec?command=id',
]
const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD']
/** Of one request and another; they say when and which, not what. */
const DIFFERS_ALWAYS = ['date', 'audit-id']
const TIMED = 150
const ROUNDS = 3
/** Standard deviations: chance alone gets there once in hundreds of millions of rounds. */
const SIGNIFICANT = 6

export const oracleAttacks = family('oracles', 'tenant API', [
  {
    id: 'oracle-bytes',
    title: 'tells a tenant that exists from one that does not by codes, headers and bytes, over all methods',
    replays: 'answers of 403 for what is there and 404 for what is not',
    standards: ['T1613'],
    always: true,
    async attempt({ attacker, victim, nobody }) {
      let compared = 0
      for (const path of PATHS)
        for (const method of METHODS) {
          const ask = async (tenant: string) => {
            const { code, body, headers } = await attacker.admin.request(`/tenants/${tenant}${path}`, {
              method,
              ...(['POST', 'PUT', 'PATCH'].includes(method) ? { body: {} } : {}),
            })
            for (const name of DIFFERS_ALWAYS) delete headers[name]
            return JSON.stringify({ code, body, headers }).replaceAll(tenant, 'X')
          }
          const [real, invented] = [await ask(victim.name), await ask(nobody)]
          if (real !== invented)
            return escaped(`${method} ${path}: ${real.slice(0, 150)} against ${invented.slice(0, 150)}`)
          compared++
        }
      return blocked(
        'authorization before anything is looked up',
        `${compared} pairs of answers are the same, byte for byte`,
      )
    },
  },
  {
    id: 'oracle-bytes-anonymous',
    title: 'asks the same without any credential, and with a bad one',
    async attempt({ attacker, victim, nobody }) {
      let compared = 0
      for (const api of [attacker.as('nobody'), attacker.as({ token: 'a.b.c' })])
        for (const path of PATHS) {
          const ask = async (tenant: string) => {
            const { code, body } = await api.request(`/tenants/${tenant}${path}`)
            return JSON.stringify({ code, body }).replaceAll(tenant, 'X')
          }
          const [real, invented] = [await ask(victim.name), await ask(nobody)]
          if (real !== invented)
            return escaped(`${path}: ${real.slice(0, 150)} against ${invented.slice(0, 150)}`)
          compared++
        }
      return blocked(
        'authorization before anything is looked up',
        `${compared} pairs of answers are the same`,
      )
    },
  },
  {
    id: 'oracle-objects',
    title: "a user without rights tells its own tenant's objects that exist from those that do not",
    vector: 'identities and tokens',
    async attempt({ attacker, nobody }) {
      const user = attacker.as({ certificate: await attacker.issue({ user: 'lowly', groups: [] }) })
      const { secret } = attacker.canaries
      for (const method of METHODS) {
        const ask = async (name: string) => {
          const { code, body } = await user.request(
            `${attacker.root}${secretOf(attacker)}`.replace(secret, name),
            { method, ...(['POST', 'PUT', 'PATCH'].includes(method) ? { body: {} } : {}) },
          )
          return JSON.stringify({ code, body }).replaceAll(name, 'X')
        }
        const invented = nobody.slice(0, secret.length).replaceAll('-', 'x')
        const [real, other] = [await ask(secret), await ask(invented)]
        if (real !== other) return escaped(`${method}: ${real.slice(0, 150)} against ${other.slice(0, 150)}`)
      }
      return blocked(
        'authorization before anything is looked up',
        `${METHODS.length} pairs of answers are the same`,
      )
    },
  },
  {
    id: 'oracle-timing',
    title: 'tells a tenant that exists from one that does not by the time of answers, statistically',
    replays: 'logins that take longer for names that exist',
    standards: ['T1613'],
    attempt: ({ attacker, victim, nobody, signal }) =>
      timing(signal, (which) =>
        attacker.admin.request(`/tenants/${which === 'real' ? victim.name : nobody}/api/v1/namespaces`),
      ),
  },
  {
    id: 'oracle-timing-objects',
    title: "a user without rights tells its own tenant's objects by the time of answers, statistically",
    replays: 'refusals that came later for what had to be looked up first',
    vector: 'identities and tokens',
    standards: ['T1613'],
    async attempt({ attacker, nobody, signal }) {
      const user = attacker.as({ certificate: await attacker.issue({ user: 'lowly', groups: [] }) })
      const { secret } = attacker.canaries
      const invented = nobody.slice(0, secret.length).replaceAll('-', 'x')
      return timing(signal, (which) =>
        user.request(
          `${attacker.root}${secretOf(attacker)}`.replace(secret, which === 'real' ? secret : invented),
        ),
      )
    },
  },
  {
    id: 'oracle-cluster-ip',
    title: "asks for the victim's cluster IP for a service of its own, to learn that it is taken",
    replays: 'address ranges that tenants share, and whose refusals tell who has what',
    async attempt({ attacker, victim, mark }) {
      const ask = (name: string, clusterIP: string) =>
        attacker.own('/api/v1/namespaces/default/services?dryRun=All', {
          method: 'POST',
          body: {
            apiVersion: 'v1',
            kind: 'Service',
            metadata: { name },
            spec: { clusterIP, ports: [{ port: 80 }] },
          },
        })
      const taken = victim.canaries.clusterIP ?? ''
      const free = taken.replace(/\d+$/, (last) => String((Number(last) % 250) + 1))
      const [real, invented] = [await ask(mark, taken), await ask(mark, free)]
      return real.code === invented.code
        ? blocked(
            "a service range of every tenant's own",
            `${taken}, the victim's: ${real.code}; ${free}, nobody's: ${invented.code}`,
          )
        : escaped(`${taken}, the victim's: ${said(real)}; ${free}, nobody's: ${said(invented)}`)
    },
  },
])

/**
 * Asks for what is there and for what is not in turn and compares the times by rank (Mann and Whitney), which neither needs a
 * distribution nor minds a few slow answers. Says also how large a difference would have been seen.
 */
async function timing(
  signal: AbortSignal,
  ask: (which: 'real' | 'invented') => Promise<unknown>,
): Promise<Outcome> {
  const words: string[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const times: Record<'real' | 'invented', number[]> = { real: [], invented: [] }
    for (let i = 0; i < TIMED; i++) {
      signal.throwIfAborted()
      const order = i % 2 === 0 ? (['real', 'invented'] as const) : (['invented', 'real'] as const)
      for (const which of order) {
        const beganMs = performance.now()
        await ask(which)
        times[which].push(performance.now() - beganMs)
      }
    }
    const z = rankTest(times.real, times.invented)
    const seen = [5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000].find(
      (us) =>
        Math.abs(
          rankTest(
            times.real.map((ms) => ms + us / 1_000),
            times.invented,
          ),
        ) > SIGNIFICANT,
    )
    words.push(
      `z ${z.toFixed(1)}, medians ${median(times.real).toFixed(2)} and ${median(times.invented).toFixed(2)} ms; from ${seen ?? 'more than 5000'} µs on a difference would have been seen`,
    )
    // Chance and load do not do the same thing three times.
    if (Math.abs(z) <= SIGNIFICANT)
      return blocked('authorization before anything is looked up', `${2 * TIMED} answers: ${words.at(-1)}`)
  }
  return escaped(words.join(' | '))
}

/** Standard deviations that the rank sum of `a` lies from what it is when both are alike. */
export function rankTest(a: readonly number[], b: readonly number[]): number {
  const all = [
    ...a.map((value) => ({ value, first: true })),
    ...b.map((value) => ({ value, first: false })),
  ].sort((x, y) => x.value - y.value)
  const sum = all.reduce((total, { first }, i) => total + (first ? i + 1 : 0), 0)
  const mean = (a.length * (a.length + b.length + 1)) / 2
  return (sum - mean) / Math.sqrt((a.length * b.length * (a.length + b.length + 1)) / 12)
}

function median(values: readonly number[]): number {
  return values.toSorted((x, y) => x - y)[Math.floor(values.length / 2)] ?? 0
}
