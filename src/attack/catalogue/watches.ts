import { type AttackContext, blocked, escaped, untried } from '../attack.ts'
import { allRefused, counted, said } from './expect.ts'
import { CONFIG_MAPS, configMap, family } from './own-and-other.ts'

const WATCH_MS = 1_500
const PROBED = 5

type List = {
  metadata: { resourceVersion: string; continue?: string }
  items: { metadata: { name: string } }[]
}

/** A watch of its own sees its own writes, over the same request. */
async function watchWorks({ attacker, mark }: AttackContext): Promise<string> {
  const { metadata } = await attacker.must<List>(CONFIG_MAPS)
  await attacker.create(CONFIG_MAPS, configMap(`${mark}-seen`))
  const seen = await attacker.admin.listen(
    `${attacker.root}${CONFIG_MAPS}?watch=true&resourceVersion=${metadata.resourceVersion}`,
    WATCH_MS,
  )
  if (!seen.body.includes(`${mark}-seen`))
    throw new Error(`its own watch does not see its own write: ${said(seen)}`)
  return 'a watch of its own sees its own write'
}

export const watchAttacks = family('watches', 'tenant API', [
  {
    id: 'watch-victim',
    title: "watches the victim's objects, in every form of a watch, while the victim writes",
    standards: ['MTB-PL1-CC-TI-2'],
    always: true,
    control: watchWorks,
    async attempt({ attacker, victim, mark }) {
      const paths = [
        '/api/v1/secrets?watch=true',
        '/api/v1/watch/secrets',
        '/api/v1/events?watch=1&allowWatchBookmarks=true',
        '/api/v1/configmaps?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan',
        '/api/v1/configmaps?follow=true&watch=yes',
      ]
      const watching = paths.map((path) => attacker.admin.listen(victim.root + path, WATCH_MS))
      await victim.create(CONFIG_MAPS, configMap(`${mark}-write`))
      const answers = await Promise.all(watching)
      return allRefused(answers.map((answer, i) => [paths[i] ?? '', answer] as const))
    },
  },
  {
    id: 'watch-with-foreign-version',
    title: "watches and lists its own API from the victim's resource versions, and from the future",
    replays: 'watch caches that were shared, and answered from whatever version they were asked for',
    control: watchWorks,
    async attempt({ attacker, victim, mark }) {
      const { metadata } = await victim.must<List>('/api/v1/secrets')
      await victim.create(CONFIG_MAPS, configMap(`${mark}-theirs`))
      const codes: number[] = []
      for (const version of [
        metadata.resourceVersion,
        '0',
        '1',
        '9999999999',
        '-1',
        'x',
        '18446744073709551616',
        `${metadata.resourceVersion}.0`,
      ])
        for (const query of [
          `watch=true&resourceVersion=${version}`,
          `resourceVersion=${version}&resourceVersionMatch=Exact&limit=500`,
        ]) {
          const answer = await attacker.admin.listen(
            `${attacker.root}/api/v1/configmaps?${query}`,
            WATCH_MS / 3,
          )
          codes.push(answer.code)
          if (answer.body.includes(`${mark}-theirs`)) return escaped(`${query} shows the victim's object`)
          if (answer.code >= 500 && answer.code !== 504) return escaped(`${query}: ${said(answer)}`)
        }
      return blocked("the tenant's own store", `answers ${counted(codes)}, with its own objects only`)
    },
  },
  {
    id: 'list-continue-token',
    title: "goes on with the victim's continue token, at its own API and at the victim's",
    async control({ attacker, mark }) {
      const token = await continueToken(attacker, mark)
      const next = await attacker.own(`/api/v1/configmaps?limit=1&continue=${encodeURIComponent(token)}`)
      if (next.code !== 200) throw new Error(`its own token: ${said(next)}`)
      return 'its own token leads to the next page'
    },
    async attempt({ attacker, victim, mark }) {
      const foreign = encodeURIComponent(await continueToken(victim, `${mark}-v`))
      const own = await continueToken(attacker, `${mark}-o`)
      const changed = Buffer.from(own, 'base64url')
      changed[changed.length - 1] = (changed.at(-1) ?? 0) ^ 1
      const at = (path: string) => attacker.admin.request(path)
      return allRefused([
        ['at home', await at(`${attacker.root}/api/v1/configmaps?limit=1&continue=${foreign}`)],
        ["at the victim's", await at(`${victim.root}/api/v1/configmaps?limit=1&continue=${foreign}`)],
        [
          'changed',
          await at(`${attacker.root}/api/v1/configmaps?limit=1&continue=${changed.toString('base64url')}`),
        ],
        [
          'of upstream',
          await at(
            `${attacker.root}/api/v1/configmaps?limit=1&continue=${Buffer.from('{"v":"meta.k8s.io/v1","rv":1,"start":"../../secrets/"}').toString('base64url')}`,
          ),
        ],
        [
          'in another list',
          await at(`${attacker.root}/api/v1/namespaces?limit=1&continue=${encodeURIComponent(own)}`),
        ],
      ])
    },
  },
  {
    id: 'watch-version-counter',
    title: 'reads off the version counter of its own API whether the victim writes',
    replays:
      'control planes on one shared store, whose one counter tells each tenant how much the others write',
    vector: 'co-location',
    async control({ attacker, mark }) {
      const before = await version(attacker)
      await attacker.create(CONFIG_MAPS, configMap(`${mark}-own`))
      const after = await version(attacker)
      if (after <= before) throw new Error('its own writes do not move the counter')
      return `its own write moves the counter from ${before} to ${after}`
    },
    async attempt({ attacker, victim, mark }) {
      const idle = await version(attacker)
      const idleAgain = await version(attacker)
      if (idle !== idleAgain) return untried(`its own controllers write meanwhile: ${idle}, ${idleAgain}`)
      for (let i = 0; i < PROBED; i++) await victim.create(CONFIG_MAPS, configMap(`${mark}-v${i}`))
      const after = await version(attacker)
      // One may be its own controllers'; as many as the victim wrote are not.
      return after - idle >= PROBED
        ? escaped(`${PROBED} writes of the victim moved the attacker's counter from ${idle} to ${after}`)
        : blocked(
            "the tenant's own store",
            `the counter stays at ${idle} (now ${after}) while the victim writes ${PROBED} objects`,
          )
    },
  },
  {
    id: 'list-selectors',
    title: "looks for the victim's objects with selectors of labels and fields at its own API",
    async attempt({ attacker, victim }) {
      const { canaries } = victim
      const queries = [
        `labelSelector=canary=${canaries.value}`,
        'labelSelector=canary',
        `fieldSelector=metadata.namespace=${canaries.namespace},metadata.name=${canaries.secret}`,
        `fieldSelector=metadata.name=${canaries.secret}`,
        `fieldSelector=metadata.namespace=../../${victim.name}`,
        `labelSelector=${'a'.repeat(3_000)}`,
        `labelSelector=a in (${Array.from({ length: 2_000 }, (_, i) => i).join(',')})`,
        'fieldSelector=spec.secret=x',
        'labelSelector=%00',
      ]
      const codes: number[] = []
      for (const query of queries) {
        const answer = await attacker.own(`/api/v1/secrets?${query.replaceAll(' ', '%20')}`)
        codes.push(answer.code)
        if (answer.code >= 500) return escaped(`${query.slice(0, 60)}: ${said(answer)}`)
        if (answer.body.includes(`"${canaries.secret}"`))
          return escaped(`${query.slice(0, 60)} shows the victim's secret`)
      }
      return blocked("the tenant's own store", `answers ${counted(codes)}, with its own objects only`)
    },
  },
])

async function continueToken(party: AttackContext['attacker'], mark: string): Promise<string> {
  for (const name of ['a', 'b']) await party.create(CONFIG_MAPS, configMap(`${mark}-${name}`))
  const { metadata } = await party.must<List>('/api/v1/configmaps?limit=1')
  if (!metadata.continue) throw new Error('a list of two has no second page')
  return metadata.continue
}

async function version(party: AttackContext['attacker']): Promise<number> {
  return Number((await party.must<List>(CONFIG_MAPS)).metadata.resourceVersion)
}
