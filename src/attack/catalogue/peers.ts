import { SECOND_MS, sleep, until } from '../../stdx/index.ts'
import { type AttackContext, blocked, escaped, type Outcome, untried } from '../attack.ts'
import { INTRUDER } from '../party.ts'
import type { ApiAnswer, RequestOptions } from '../tenant-api.ts'
import { allRefused, counted, said, worked } from './expect.ts'
import {
  CONFIG_MAPS,
  configMap,
  family,
  ownSecret,
  refusedAll,
  secretOf,
  type Sketch,
} from './own-and-other.ts'

/** Published failures of other platforms for tenants, and of Kubernetes, where they meet ours at the API. */

const RBAC_GROUP = 'rbac.authorization.k8s.io'
const RBAC = `/apis/${RBAC_GROUP}/v1`
const PODS = '/api/v1/namespaces/default/pods'
const CRDS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions'

const pod = (name: string, image: string, spec: object = {}, metadata: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, ...metadata },
  spec: {
    containers: [{ name: 'main', image, resources: { limits: { cpu: '10m', memory: '16Mi' } } }],
    ...spec,
  },
})

/** Each has to be refused; the control is the same object without what is wrong with it. */
function refusedPods(
  sketch: Omit<Sketch, 'control' | 'attempt'>,
  specs: (context: AttackContext) => readonly (readonly [spec: object, metadata?: object])[],
): Sketch {
  return {
    ...sketch,
    async control({ attacker, mark, image }) {
      await attacker.create(`${PODS}?dryRun=All`, pod(mark, image))
      return 'the same pod without it is accepted (dry run)'
    },
    async attempt(context) {
      const { attacker, mark, image } = context
      const answers: [string, ApiAnswer][] = []
      for (const [spec, metadata] of specs(context))
        answers.push([
          JSON.stringify(spec).slice(0, 120),
          await attacker.own(`${PODS}?dryRun=All`, {
            method: 'POST',
            body: pod(mark, image, spec, metadata),
          }),
        ])
      return allRefused(answers)
    },
  }
}

/** A user of the attacker's tenant with a role in one namespace only. */
async function userIn(
  { attacker }: AttackContext,
  name: string,
  rules: readonly object[],
  namespace = 'default',
) {
  await attacker.create(`${RBAC}/namespaces/${namespace}/roles`, {
    apiVersion: `${RBAC_GROUP}/v1`,
    kind: 'Role',
    metadata: { name },
    rules,
  })
  await attacker.create(`${RBAC}/namespaces/${namespace}/rolebindings`, {
    apiVersion: `${RBAC_GROUP}/v1`,
    kind: 'RoleBinding',
    metadata: { name },
    roleRef: { apiGroup: RBAC_GROUP, kind: 'Role', name },
    subjects: [{ kind: 'User', name: `user-${name}`, apiGroup: RBAC_GROUP }],
  })
  return attacker.as({ certificate: await attacker.issue({ user: `user-${name}`, groups: [] }) })
}

export const peerAttacks = family('rights', 'tenant API', [
  {
    id: 'tenant-name-is-a-prefix',
    title: "has a name with which the victim's begins, and the other way round, wherever names meet",
    replays:
      "CVE-2024-42480: a tenant's rights in the shared store were a prefix, and other tenants' names began with it",
    standards: ['MTB-PL1-BC-CPI-2'],
    async attempt({ attacker, victim, scratchTenant }) {
      const neighbour = await scratchTenant('shared', victim.name.slice(0, -1))
      const longer = victim.name.slice(neighbour.name.length)
      const answers: [string, ApiAnswer][] = []
      for (const [who, path] of [
        [neighbour, `${victim.root}${secretOf(victim)}`],
        [neighbour, `${neighbour.root}${longer}${secretOf(victim)}`],
        [neighbour, `${neighbour.root}/../${victim.name}${secretOf(victim)}`],
        [neighbour, `${neighbour.root}*${secretOf(victim)}`],
        [victim, `${neighbour.root}/api/v1/namespaces`],
      ] as const)
        answers.push([path, await who.admin.request(path)])
      const own = await neighbour.own('/api/v1/namespaces?limit=500')
      const secrets = await neighbour.own('/api/v1/secrets?limit=500')
      worked(own, 'the neighbour lists its own')
      if (own.body.includes(victim.canaries.namespace) || secrets.body.includes(victim.canaries.secret))
        return escaped("the victim's objects are in its lists")
      attacker.hear(own.body + secrets.body)
      return allRefused(answers)
    },
  },
  {
    id: 'namespace-adopted',
    title: 'takes over namespaces by patching owners, labels and finalizers onto those of the system',
    replays:
      'CVE-2022-46167, CVE-2024-39690 and CVE-2025-55205: whoever could patch a namespace made it their tenant’s, by owner references and labels that the platform believed',
    standards: ['MTB-PL1-BC-CPI-2'],
    async attempt({ attacker, victim, mark }) {
      const patched: string[] = []
      for (const name of [
        'kube-system',
        'kube-public',
        'default',
        victim.canaries.namespace,
        'bulkhead-system',
      ])
        for (const metadata of [
          {
            ownerReferences: [
              {
                apiVersion: 'tenancy.bulkhead.dev/v1alpha1',
                kind: 'Tenant',
                name: victim.name,
                uid: victim.uid,
              },
            ],
          },
          {
            labels: {
              'capsule.clastix.io/tenant': victim.name,
              'bulkhead.dev/tenant': victim.name,
              'kubernetes.io/metadata.name': victim.canaries.namespace,
              mark,
            },
          },
        ]) {
          const { code } = await attacker.own(`/api/v1/namespaces/${name}`, {
            method: 'PATCH',
            type: 'application/merge-patch+json',
            body: { metadata },
          })
          if (code >= 500) return escaped(`${name}: ${code}`)
          patched.push(`${code}`)
        }
      const theirs = await victim.must<{ metadata: object }>(
        `/api/v1/namespaces/${victim.canaries.namespace}`,
      )
      if (JSON.stringify(theirs.metadata).includes(mark)) return escaped("the victim's namespace is changed")
      const seen = await attacker.own('/api/v1/secrets?limit=500')
      if (seen.body.includes(victim.canaries.secret)) return escaped("the victim's secrets are in its list")
      return blocked(
        "the tenant's own store",
        `patches answered ${counted(patched)}; nothing of the victim's came with them`,
      )
    },
  },
  {
    id: 'same-user-in-two-tenants',
    title:
      'is a user of the same name and groups in both tenants, and asks with the rights of the one in the other',
    replays: 'CVE-2023-46254: a proxy for tenants listed what owners of the same name had elsewhere',
    vector: 'identities and tokens',
    async attempt({ attacker, victim }) {
      const subject = { user: 'twin', groups: ['bulkhead:tenant-admins', 'twins'] }
      const mine = attacker.as({ certificate: await attacker.issue(subject) })
      const theirs = victim.as({ certificate: await victim.issue(subject) })
      worked(await mine.request(`${attacker.root}/api/v1/secrets`), 'at home')
      worked(await theirs.request(`${victim.root}/api/v1/secrets`), "the victim's twin at home")
      return allRefused([
        ["at the victim's", await mine.request(`${victim.root}/api/v1/secrets`)],
        ["the victim's namespaces", await mine.request(`${victim.root}/api/v1/namespaces`)],
      ])
    },
  },
  {
    id: 'kind-by-wrong-scope',
    title: 'reaches objects of the whole cluster by the path of a namespace in which it has a role',
    replays:
      'CVE-2019-11247: custom resources of the cluster were served below namespaces, to whoever had a role in one',
    vector: 'identities and tokens',
    async attempt(context) {
      const { attacker, mark } = context
      const group = `${mark}.example`
      await attacker.create(CRDS, {
        apiVersion: 'apiextensions.k8s.io/v1',
        kind: 'CustomResourceDefinition',
        metadata: { name: `wides.${group}` },
        spec: {
          group,
          scope: 'Cluster',
          names: { plural: 'wides', singular: 'wide', kind: 'Wide' },
          versions: [
            { name: 'v1', served: true, storage: true, schema: { openAPIV3Schema: { type: 'object' } } },
          ],
        },
      })
      await until(async () => (await attacker.own(`/apis/${group}/v1/wides`)).code === 200, {
        timeoutMs: 10 * SECOND_MS,
        everyMs: 100,
        what: 'The new kind',
      })
      await attacker.create(`/apis/${group}/v1/wides`, {
        apiVersion: `${group}/v1`,
        kind: 'Wide',
        metadata: { name: 'one' },
      })
      const user = await userIn(context, `scope-${mark}`, [
        { apiGroups: ['*'], resources: ['*'], verbs: ['*'] },
      ])
      const base = `${attacker.root}/apis/${group}/v1`
      worked(await user.request(`${attacker.root}${CONFIG_MAPS}`), 'in its namespace')
      const answers: [string, ApiAnswer][] = []
      for (const [path, options] of [
        [`${base}/namespaces/default/wides/one`, {}],
        [`${base}/namespaces/default/wides`, {}],
        [`${base}/namespaces/default/wides/one`, { method: 'DELETE' }],
        [`${base}/wides/one`, {}],
        [`${attacker.root}/api/v1/namespaces/default/nodes`, {}],
        [`${attacker.root}/api/v1/namespaces/default/persistentvolumes`, {}],
        [`${attacker.root}${RBAC}/namespaces/default/clusterroles`, {}],
      ] as const satisfies readonly (readonly [string, RequestOptions])[])
        answers.push([path, await user.request(path, options)])
      return allRefused(answers)
    },
  },
  {
    id: 'kind-names-that-climb',
    title:
      'reads kinds that it has no right to, by names of resources and groups with dots and escapes in them',
    replays: 'CVE-2022-3162: users who could read one kind read others of its group by paths in its name',
    vector: 'identities and tokens',
    async attempt(context) {
      const { attacker, mark } = context
      const user = await userIn(context, `climbs-${mark}`, [
        { apiGroups: [''], resources: ['configmaps'], verbs: ['get', 'list', 'watch'] },
      ])
      worked(await user.request(`${attacker.root}${CONFIG_MAPS}`), 'what it may read')
      const base = `${attacker.root}/api/v1/namespaces`
      const answers: [string, ApiAnswer][] = []
      for (const path of [
        `${base}/default/configmaps/..%2fsecrets`,
        `${base}/default/configmaps/%2e%2e/secrets`,
        `${base}/default/configmaps%2f..%2fsecrets`,
        `${base}/default/configmaps/../secrets`,
        `${base}/default/secrets?resource=configmaps`,
        `${base}/${attacker.canaries.namespace}/configmaps/../secrets/${attacker.canaries.secret}`,
        `${base}/default/configmaps;/secrets`,
        `${base}/default/Secrets`,
        `${base}/default/secrets/`,
      ])
        answers.push([path, await user.request(path)])
      const own = answers.filter(([, { body }]) => body.includes(attacker.canaries.secret))
      return own.length > 0 ? escaped(`${own[0]?.[0]} shows a secret`) : allRefused(answers)
    },
  },
  {
    id: 'policy-past-ephemeral-containers',
    title: 'brings what policies refuse by ephemeral containers, updates, status and binding of its pods',
    replays:
      'CVE-2023-2727, CVE-2023-2728 and CVE-2024-3177: policies about images and secrets that were not asked about ephemeral containers and envFrom; CVE-2021-25735: and about old objects',
    vector: 'kernel',
    needs: ['pods'],
    control: ownSecret,
    async attempt(context) {
      const { attacker } = context
      const { namespace } = attacker.canaries
      const path = `/api/v1/namespaces/${namespace}/pods/${INTRUDER}`
      const evil = { name: 'e', image: '127.0.0.1:1/evil:1', securityContext: { privileged: true } }
      const merge = { method: 'PATCH', type: 'application/strategic-merge-patch+json' } as const
      const outcome = await refusedAll(
        context,
        [
          { path: `${path}/ephemeralcontainers`, ...merge, body: { spec: { ephemeralContainers: [evil] } } },
          { path, ...merge, body: { spec: { ephemeralContainers: [evil] } } },
          { path, ...merge, body: { spec: { containers: [{ name: 'main', image: '127.0.0.1:1/evil:1' }] } } },
          {
            path,
            ...merge,
            body: { spec: { containers: [{ name: 'main', securityContext: { privileged: true } }] } },
          },
          { path, ...merge, body: { spec: { hostNetwork: true } } },
          {
            path: `${path}/binding`,
            method: 'POST',
            body: {
              apiVersion: 'v1',
              kind: 'Binding',
              metadata: { name: INTRUDER },
              target: { kind: 'Node', name: 'other' },
            },
          },
        ].map(({ path: own, ...options }) => ({ path: attacker.root + own, ...options })),
      )
      if (outcome.kind !== 'blocked') return outcome
      const seen = await attacker.must<{ spec: { containers: object[]; ephemeralContainers?: object[] } }>(
        path,
      )
      return seen.spec.ephemeralContainers || JSON.stringify(seen.spec).includes('evil')
        ? escaped(`the pod has it: ${JSON.stringify(seen.spec).slice(0, 200)}`)
        : outcome
    },
  },
  refusedPods(
    {
      id: 'pod-kernel-parameters',
      title: 'sets kernel parameters by sysctls, with separators in names and values',
      replays: 'CVE-2022-0811: "+" in a sysctl set others, core_pattern among them',
      vector: 'kernel',
      standards: ['MTB-PL1-BC-CPI-5', 'T1611'],
    },
    () =>
      [
        ['kernel.core_pattern', '|/x'],
        ['kernel.shm_rmid_forced', '1+kernel.core_pattern=|/x #'],
        ['kernel.shm_rmid_forced+kernel.core_pattern', '1'],
        ['net/../kernel/core_pattern', '|/x'],
        ['net.ipv4.ip_forward', '1'],
        ['vm.overcommit_memory', '1'],
        ['kernel.msgmax', '65536\nkernel.core_pattern=|/x'],
      ].map(([name, value]) => [{ securityContext: { sysctls: [{ name, value }] } }]),
  ),
  refusedPods(
    {
      id: 'pod-volumes-that-run',
      title: 'asks for volumes that make the machine fetch, mount or run something',
      replays:
        'CVE-2024-10220 and CVE-2025-1767: a gitRepo volume ran hooks of its repository on the node; CVE-2018-11235 before them; CVE-2025-13281: a driver that asked whatever address a volume named',
      vector: 'storage',
      standards: ['T1611', 'MTB-PL1-BC-HI-1'],
    },
    ({ victim }) =>
      [
        {
          gitRepo: {
            repository: 'https://127.0.0.1/x',
            directory: 'x/.git/modules',
            revision: '--upload-pack=x',
          },
        },
        { hostPath: { path: '/var/run' } },
        { iscsi: { targetPortal: '127.0.0.1', iqn: 'x', lun: 0 } },
        { nfs: { server: victim.canaries.podIP, path: '/' } },
        { glusterfs: { endpoints: 'x', path: '/' } },
        { rbd: { monitors: ['127.0.0.1'], image: 'x' } },
        { flexVolume: { driver: '../../../bin/sh' } },
        { csi: { driver: 'secrets-store.csi.k8s.io', volumeAttributes: { x: '../../..' } } },
        { portworxVolume: { volumeID: 'x' } },
        { quobyte: { registry: '127.0.0.1:1', volume: 'x' } },
        { awsElasticBlockStore: { volumeID: 'x' } },
        { image: { reference: '127.0.0.1:1/x:1' } },
        { configMap: { name: 'x', items: [{ key: 'x', path: '../../etc/x' }] } },
        { projected: { sources: [{ serviceAccountToken: { path: '/../../x', audience: victim.name } }] } },
      ].map((volume) => [{ volumes: [{ name: 'v', ...volume }] }]),
  ),
  refusedPods(
    {
      id: 'pod-profiles-of-the-machine',
      title: "names profiles, users and labels of the machine's, empty and climbing ones",
      replays: 'CVE-2023-2431: an empty name of a seccomp profile meant none',
      vector: 'kernel',
      standards: ['MTB-PL1-BC-CPI-5'],
    },
    () => [
      [{ securityContext: { seccompProfile: { type: 'Localhost', localhostProfile: '' } } }],
      [
        {
          securityContext: { seccompProfile: { type: 'Localhost', localhostProfile: '../../../etc/passwd' } },
        },
      ],
      [{ securityContext: { seccompProfile: { type: 'Unconfined' } } }],
      [{ securityContext: { appArmorProfile: { type: 'Unconfined' } } }],
      [{ securityContext: { seLinuxOptions: { type: 'spc_t' } } }],
      [{ securityContext: { windowsOptions: { hostProcess: true } } }],
      [{ securityContext: { runAsUser: -1 } }],
      [{ securityContext: { runAsUser: 4_294_967_296 } }],
      [{ securityContext: { supplementalGroups: [4_294_967_296] } }],
      [{ securityContext: { fsGroup: -1 } }],
    ],
  ),
  {
    id: 'node-proxy',
    title: 'asks nodes and services through the API: proxy, addresses of its own choice, status of nodes',
    replays:
      'CVE-2022-3294: nodes whose address a user chose were asked with the rights of the API server; CVE-2020-8559: redirects of a node were followed with credentials; CVE-2025-5187: owners that a node wrote onto itself; CVE-2018-1002105: proxied upgrades',
    vector: 'node identity',
    standards: ['MS-TA9028'],
    async attempt(context) {
      const { attacker, victim } = context
      const merge = { method: 'PATCH', type: 'application/merge-patch+json' } as const
      const { items } = await attacker.must<{ items: { metadata: { name: string } }[] }>('/api/v1/nodes')
      const node = items[0]?.metadata.name ?? 'node'
      const own = attacker.root
      return refusedAll(context, [
        { path: `${own}/api/v1/nodes/${node}/proxy/pods` },
        { path: `${own}/api/v1/nodes/${node}:10250/proxy/run` },
        { path: `${own}/api/v1/nodes/http:127.0.0.1:22/proxy/` },
        { path: `${own}/api/v1/namespaces/default/services/http:kubernetes:443/proxy/` },
        { path: `${own}/api/v1/namespaces/default/pods/${victim.canaries.podIP ?? 'x'}:8080/proxy/` },
        { path: `${own}/api/v1/proxy/nodes/${node}/` },
        {
          path: `${own}/api/v1/nodes/${node}/status`,
          ...merge,
          body: { status: { addresses: [{ type: 'InternalIP', address: '127.0.0.1' }] } },
        },
        { path: `${own}/api/v1/nodes/${node}`, ...merge, body: { spec: { taints: [] } } },
        { path: `${own}/api/v1/nodes/${node}`, method: 'DELETE' },
        {
          path: `${own}/api/v1/nodes`,
          method: 'POST',
          body: { apiVersion: 'v1', kind: 'Node', metadata: { name: 'mine' } },
        },
      ])
    },
  },
  {
    id: 'node-tells-of-others',
    title: 'looks in nodes, metrics, events and versions for what the machine and other tenants have',
    vector: 'co-location',
    standards: ['T1613'],
    async attempt({ attacker, victim, machine, mark }) {
      const base = `/api/v1/namespaces/${victim.canaries.namespace}/events`
      await victim.own(base, {
        method: 'POST',
        body: {
          apiVersion: 'v1',
          kind: 'Event',
          metadata: { name: mark },
          involvedObject: { kind: 'Pod', name: 'x', namespace: victim.canaries.namespace },
          reason: 'Told',
          message: victim.canaries.value,
          type: 'Normal',
        },
      })
      const paths = [
        '/api/v1/nodes',
        '/api/v1/events?limit=500',
        '/apis/events.k8s.io/v1/events?limit=500',
        '/apis/metrics.k8s.io/v1beta1/nodes',
        '/apis/metrics.k8s.io/v1beta1/pods',
        '/api/v1/componentstatuses',
        '/version',
        '/metrics',
        '/apis/custom.metrics.k8s.io/v1beta1',
        '/apis/storage.k8s.io/v1/csinodes',
        '/apis/coordination.k8s.io/v1/leases',
      ]
      const codes: string[] = []
      for (const path of paths) {
        const { code, body } = await attacker.own(path)
        codes.push(`${code}`)
        for (const word of [
          victim.name,
          victim.canaries.value,
          mark,
          machine.stateDir || '\0',
          machine.runDir || '\0',
        ])
          if (body.includes(word)) return escaped(`${path} says ${word}`)
      }
      return blocked(
        "the tenant's own control plane has nothing of others",
        `${paths.length} places, answered ${counted(codes)}`,
      )
    },
  },
  {
    id: 'rego-policy-of-a-tenant',
    title: "writes policies of the operator's kinds, and changes and reads those that hold for it",
    vector: 'platform components',
    attempt: (context) =>
      refusedAll(
        context,
        ['regopolicies', 'tenants', 'validatingadmissionpolicies', 'clusters', 'grants'].flatMap((kind) => [
          { path: `${context.attacker.root}/apis/tenancy.bulkhead.dev/v1alpha1/${kind}` },
          {
            path: `${context.attacker.root}/apis/tenancy.bulkhead.dev/v1alpha1/${kind}`,
            method: 'POST',
            body: {
              apiVersion: 'tenancy.bulkhead.dev/v1alpha1',
              kind: 'RegoPolicy',
              metadata: { name: context.mark },
              spec: {},
            },
          },
        ]),
      ),
  },
  {
    id: 'policy-cost-bomb',
    title: 'lays admission policies on itself whose expressions cost as much as they can, and writes',
    vector: 'control-plane saturation',
    standards: ['T1499'],
    attempt: (context) => costly(context),
  },
  {
    id: 'kind-schema-bomb',
    title: 'defines kinds with schemas that are enormous, deep, full of patterns, defaults and alternatives',
    replays: 'CVE-2020-8552: requests of a user that filled the memory of an API server',
    vector: 'control-plane saturation',
    standards: ['T1499'],
    async attempt({ attacker, victim, mark }) {
      const deep = (levels: number): object =>
        levels === 0 ? { type: 'string' } : { type: 'object', properties: { a: deep(levels - 1) } }
      const schemas: [string, object][] = [
        [
          'wide',
          {
            type: 'object',
            properties: Object.fromEntries(
              Array.from({ length: 20_000 }, (_, i) => [`p${i}`, { type: 'string' }]),
            ),
          },
        ],
        ['deep', deep(400)],
        [
          'choices',
          {
            type: 'object',
            properties: { x: { type: 'string', enum: Array.from({ length: 50_000 }, (_, i) => `e${i}`) } },
          },
        ],
        [
          'either',
          {
            type: 'object',
            anyOf: Array.from({ length: 3_000 }, (_, i) => ({ properties: { x: { maximum: i } } })),
          },
        ],
        [
          'pattern',
          {
            type: 'object',
            properties: { x: { type: 'string', pattern: '(((a{1,100}){1,100}){1,100}){1,100}' } },
          },
        ],
        [
          'defaults',
          {
            type: 'object',
            properties: {
              x: { type: 'string', default: 'x'.repeat(500_000) },
              y: { type: 'string', default: 'x'.repeat(500_000) },
            },
          },
        ],
        [
          'rules',
          {
            type: 'object',
            'x-kubernetes-validations': Array.from({ length: 2_000 }, () => ({ rule: 'true', message: 'x' })),
          },
        ],
      ]
      const answers: string[] = []
      const served: number[] = []
      for (const [name, openAPIV3Schema] of schemas) {
        const asked = attacker
          .own(CRDS, {
            method: 'POST',
            body: {
              apiVersion: 'apiextensions.k8s.io/v1',
              kind: 'CustomResourceDefinition',
              metadata: { name: `${name}s.${mark}.example` },
              spec: {
                group: `${mark}.example`,
                scope: 'Namespaced',
                names: { plural: `${name}s`, singular: name, kind: name[0]?.toUpperCase() + name.slice(1) },
                versions: [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema } }],
              },
            },
          })
          .catch((error: unknown) => ({ code: 0, body: String(error), headers: {} }))
        const over = { is: false }
        void asked.then(() => (over.is = true))
        do {
          served.push((await victim.own(secretOf(victim))).code)
          await sleep(20)
        } while (!over.is)
        const answer = await asked
        if (answer.code >= 500 || answer.code === 0) return escaped(`${name}: ${said(answer)}`)
        answers.push(`${name}: ${answer.code}`)
        if (answer.code < 400) await attacker.own(`${CRDS}/${name}s.${mark}.example`, { method: 'DELETE' })
      }
      return served.every((code) => code === 200)
        ? blocked(
            "limits per tenant, admission (the API's schema)",
            `${answers.join(', ')}; the victim was answered ${counted(served)}`,
          )
        : escaped(`the victim was answered ${counted(served)}`)
    },
  },
  {
    id: 'priority-over-others',
    title: 'asks for more than the machine has with the highest priority, so that pods of the victim go',
    vector: 'memory',
    standards: ['MTB-PL1-CC-FNS-1', 'T1499'],
    needs: ['pods'],
    control: ownSecret,
    async attempt({ attacker, victim, mark, image }) {
      const priority = '/apis/scheduling.k8s.io/v1/priorityclasses'
      const made = await attacker.own(priority, {
        method: 'POST',
        body: {
          apiVersion: 'scheduling.k8s.io/v1',
          kind: 'PriorityClass',
          metadata: { name: mark },
          value: 1_000_000_000,
        },
      })
      if (made.code >= 400) return untried(`a PriorityClass: ${said(made)}`)
      const system = await attacker.own(`${PODS}?dryRun=All`, {
        method: 'POST',
        body: pod(mark, image, { priorityClassName: 'system-node-critical' }),
      })
      const names = Array.from({ length: 4 }, (_, i) => `${mark}-${i}`)
      for (const name of names) {
        const made2 = pod(name, image, { priorityClassName: mark, terminationGracePeriodSeconds: 0 })
        made2.spec.containers = [
          { name: 'main', image, resources: { limits: { cpu: '64', memory: '64Gi' } } },
        ]
        await attacker.own(PODS, { method: 'POST', body: made2 })
      }
      const path = `/api/v1/namespaces/${victim.canaries.namespace}/pods/${victim.canaries.pod}`
      type Seen = { metadata: { uid: string; deletionTimestamp?: string }; status: { phase?: string } }
      const before = await victim.must<Seen>(path)
      await sleep(6 * SECOND_MS)
      const after = await victim.own(path)
      const phases = await Promise.all(
        names.map(async (name) => (await attacker.own(`${PODS}/${name}`)).body.includes('"Running"')),
      )
      for (const name of names)
        await attacker.own(`${PODS}/${name}?gracePeriodSeconds=0`, { method: 'DELETE' })
      await attacker.own(`${priority}/${mark}`, { method: 'DELETE' })
      if (
        after.code !== 200 ||
        !after.body.includes(before.metadata.uid) ||
        after.body.includes('deletionTimestamp')
      )
        return escaped(`the victim's pod: ${said(after)}`)
      return blocked(
        'no pod makes another tenant’s go',
        `${phases.filter(Boolean).length} of ${names.length} of its pods run, the victim's pod goes on; the system's own priority: ${system.code}`,
      )
    },
  },
])

async function costly({ attacker, victim, mark }: AttackContext): Promise<Outcome> {
  const group = 'admissionregistration.k8s.io/v1'
  const base = `/apis/${group}`
  const list = '[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20]'
  const expressions = [
    `${list}.all(a, ${list}.all(b, ${list}.all(c, ${list}.all(d, ${list}.all(e, ${list}.all(f, a + b + c + d + e + f > 0))))))`,
    `object.metadata.name.matches('(a+)+(b+)+(c+)+$') || true`,
    `size(${'['.repeat(60)}object${']'.repeat(60)}) > 0`,
    `${list}.map(a, object).map(b, [b, b, b, b]).map(c, [c, c, c, c]).size() > 0`,
  ]
  const answers: string[] = []
  const served: number[] = []
  try {
    for (const [i, expression] of expressions.entries()) {
      const name = `${mark}-${i}`
      const made = await attacker.own(`${base}/validatingadmissionpolicies`, {
        method: 'POST',
        body: {
          apiVersion: group,
          kind: 'ValidatingAdmissionPolicy',
          metadata: { name },
          spec: {
            matchConstraints: {
              resourceRules: [
                { apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE'], resources: ['configmaps'] },
              ],
            },
            validations: Array.from({ length: 8 }, () => ({ expression })),
          },
        },
      })
      if (made.code >= 500) return escaped(`a policy: ${said(made)}`)
      answers.push(`policy ${made.code}`)
      if (made.code < 400)
        await attacker.own(`${base}/validatingadmissionpolicybindings`, {
          method: 'POST',
          body: {
            apiVersion: group,
            kind: 'ValidatingAdmissionPolicyBinding',
            metadata: { name },
            spec: { policyName: name, validationActions: ['Deny'] },
          },
        })
    }
    const over = { is: false }
    const writing = Promise.all(
      Array.from({ length: 12 }, (_, i) =>
        attacker
          .own(CONFIG_MAPS, { method: 'POST', body: configMap(`${mark}-w${i}`) })
          .then(({ code }) => answers.push(`write ${code}`)),
      ),
    ).finally(() => (over.is = true))
    do {
      served.push((await victim.own(secretOf(victim))).code)
      await sleep(20)
    } while (!over.is)
    await writing
  } finally {
    for (const i of expressions.keys())
      for (const kind of ['validatingadmissionpolicybindings', 'validatingadmissionpolicies'])
        await attacker.own(`${base}/${kind}/${mark}-${i}`, { method: 'DELETE' })
  }
  const failed = answers.find((answer) => / (?:5\d\d|0)$/.test(answer))
  if (failed !== undefined) return escaped(failed)
  return served.every((code) => code === 200)
    ? blocked(
        'limits on what expressions may cost',
        `${counted(answers)}; the victim was answered ${counted(served)}`,
      )
    : escaped(`the victim was answered ${counted(served)}`)
}
