import { type Attack, blocked, escaped } from '../attack.ts'
import { CANARY_PORT, type Party } from '../party.ts'

/** What programs/fetch.py says of each URL: the body, or why there is none. */
type Fetched = { url: string; body?: string; error?: string }

const fetchFrom = (party: Party, urls: readonly string[]) => party.ask<Fetched[]>('fetch', { urls })

const urlsOf = ({ canaries: { podIP, clusterIP, service, namespace } }: Party) => [
  `http://${podIP}:${CANARY_PORT}/`,
  `http://${clusterIP}:${CANARY_PORT}/`,
  `http://${service}.${namespace}.svc.cluster.local:${CANARY_PORT}/`,
]

export const networkAttacks: readonly Attack[] = [
  {
    id: 'network-reach-pod',
    title: "connects from a pod to the victim's pod, service and name",
    family: 'network',
    vector: 'pod network',
    standards: ['MTB-PL1-BC-NI-1', 'T1046'],
    needs: ['pods'],
    always: true,
    async control({ attacker }) {
      const fetched = await fetchFrom(attacker, urlsOf(attacker))
      const missed = fetched.find(({ body }) => !body?.includes(attacker.canaries.value))
      if (missed) throw new Error(`its own ${missed.url}: ${missed.error ?? missed.body}`)
      return `its own pod, service and name answer over the same client`
    },
    async attempt({ attacker, victim }) {
      const fetched = await fetchFrom(attacker, urlsOf(victim))
      const reached = fetched.filter(({ body }) => body !== undefined)
      const evidence = fetched.map(({ url, body, error }) => `${url}: ${body ?? error}`).join('; ')
      return reached.length > 0 ? escaped(evidence) : blocked('router rules or link filter', evidence)
    },
  },
]
