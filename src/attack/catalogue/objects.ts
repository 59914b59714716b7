import { sleep, until } from '../../stdx/index.ts'
import { type AttackContext, blocked, escaped, type Outcome } from '../attack.ts'
import type { ApiAnswer, RequestOptions } from '../tenant-api.ts'
import { allRefused, counted, refuser, said } from './expect.ts'
import { CONFIG_MAPS, configMap, family, ownWrite, secretOf } from './own-and-other.ts'

/** Its own controllers have had the time to act on what it wrote. */
const CONTROLLERS_MS = 3_000

/** Sent to its own API: nothing may break (5xx), and what is accepted is watched by the attack itself. */
async function answersTo(
  { attacker }: AttackContext,
  requests: readonly ({ path: string } & RequestOptions)[],
): Promise<ApiAnswer[]> {
  const answers: ApiAnswer[] = []
  for (const { path, ...options } of requests)
    answers.push(await attacker.admin.request(attacker.root + path, options))
  return answers
}

function broken(answers: readonly ApiAnswer[]): Outcome | undefined {
  const failed = answers.find(({ code }) => code >= 500)
  return failed && escaped(`the control plane fails over it: ${said(failed)}`)
}

function summary(answers: readonly ApiAnswer[]): Outcome {
  const refusals = answers.filter(({ code }) => code >= 400)
  return blocked(
    refusals.length === 0 ? "the tenant's own store" : [...new Set(refusals.map(refuser))].join(', '),
    `answers ${counted(answers.map(({ code }) => code))}; the victim's objects are as they were`,
  )
}

/** What the victim has, with versions: any change shows. */
async function snapshot({ victim }: AttackContext): Promise<string> {
  type Item = { metadata: { name: string; resourceVersion: string } }
  const paths = ['/api/v1/secrets', '/api/v1/configmaps', '/api/v1/namespaces', '/apis/apps/v1/deployments']
  const lists = await Promise.all(paths.map((path) => victim.must<{ items: Item[] }>(path)))
  return JSON.stringify(
    lists.map(({ items }) => items.map(({ metadata }) => [metadata.name, metadata.resourceVersion])),
  )
}

async function unharmed(
  context: AttackContext,
  before: string,
  answers: readonly ApiAnswer[],
): Promise<Outcome> {
  const out = broken(answers)
  if (out) return out
  const after = await snapshot(context)
  return after === before
    ? summary(answers)
    : escaped(`the victim's objects have changed: ${after.slice(0, 200)}`)
}

const NAMES = [
  '..',
  '.',
  '../x',
  '..%2fx',
  'a/b',
  'a%00b',
  'a\u0000b',
  'a\nb',
  'A',
  '-',
  'a'.repeat(254),
  'x\u202ey',
  '%2e%2e',
  'ｘ',
  "'; DROP TABLE objects; --",
  '__proto__',
  'constructor',
  '',
]

export const objectAttacks = family('objects', 'tenant API', [
  {
    id: 'object-labels',
    title: "says in labels and annotations, of namespaces too, that its objects are the victim's",
    replays: "platforms that decide by a namespace's labels who its tenant is",
    always: true,
    control: ownWrite,
    async attempt(context) {
      const { victim, mark } = context
      const before = await snapshot(context)
      const claims = {
        'bulkhead.dev/tenant': victim.name,
        'tenancy.bulkhead.dev/tenant': victim.name,
        'capsule.clastix.io/tenant': victim.name,
        'kubernetes.io/metadata.name': victim.canaries.namespace,
        'vcluster.loft.sh/managed-by': victim.name,
      }
      const metadata = { labels: claims, annotations: { ...claims, 'bulkhead.dev/uid': victim.uid } }
      const answers = await answersTo(context, [
        {
          path: '/api/v1/namespaces',
          method: 'POST',
          body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: mark, ...metadata } },
        },
        { path: CONFIG_MAPS, method: 'POST', body: configMap(mark, metadata) },
        {
          path: `/api/v1/namespaces/${mark}`,
          method: 'PATCH',
          type: 'application/merge-patch+json',
          body: { metadata },
        },
        { path: `/api/v1/secrets?labelSelector=bulkhead.dev/tenant=${victim.name}` },
      ])
      const seen = await victim.own(`${CONFIG_MAPS}/${mark}`)
      if (seen.code !== 404) return escaped(`the victim has the attacker's object: ${said(seen)}`)
      return unharmed(context, before, answers)
    },
  },
  {
    id: 'object-owner-reference',
    title: "makes the victim's objects the owners of its own, and its own the owners of the victim's",
    async control({ attacker, mark }) {
      // Its own collector does remove what an owner has left behind, so it does look at owners.
      const orphan = `${mark}-orphan`
      await attacker.create(
        CONFIG_MAPS,
        configMap(orphan, {
          ownerReferences: [owner('ConfigMap', 'nobody', '00000000-0000-4000-8000-000000000000')],
        }),
      )
      await until(async () => (await attacker.own(`${CONFIG_MAPS}/${orphan}`)).code === 404, {
        timeoutMs: 30_000,
        everyMs: 200,
        what: 'The end of an orphan',
      })
      return "the tenant's own collector acts on owners"
    },
    async attempt(context) {
      const { victim, mark } = context
      const secret = await victim.must<{ metadata: { uid: string } }>(secretOf(victim))
      const before = await snapshot(context)
      const reference = owner('Secret', victim.canaries.secret, secret.metadata.uid)
      const answers = await answersTo(context, [
        {
          path: CONFIG_MAPS,
          method: 'POST',
          body: configMap(mark, {
            ownerReferences: [{ ...reference, blockOwnerDeletion: true, controller: true }],
            finalizers: ['attack.example/hold'],
          }),
        },
        { path: `${CONFIG_MAPS}/${mark}?propagationPolicy=Foreground`, method: 'DELETE' },
        {
          path: `${CONFIG_MAPS}/${mark}`,
          method: 'PATCH',
          type: 'application/merge-patch+json',
          body: { metadata: { finalizers: null } },
        },
      ])
      await sleep(CONTROLLERS_MS)
      return unharmed(context, before, answers)
    },
  },
  {
    id: 'object-uid',
    title: "makes and deletes objects by the uid and version of the victim's",
    control: ownWrite,
    always: true,
    async attempt(context) {
      const { attacker, victim, mark } = context
      const secret = await victim.must<{ metadata: { uid: string; resourceVersion: string } }>(
        secretOf(victim),
      )
      const before = await snapshot(context)
      const { uid, resourceVersion } = secret.metadata
      const answers = await answersTo(context, [
        {
          path: CONFIG_MAPS,
          method: 'POST',
          body: configMap(mark, {
            uid,
            selfLink: victim.root,
            generation: 7,
            creationTimestamp: '2001-01-01T00:00:00Z',
          }),
        },
        { path: CONFIG_MAPS, method: 'POST', body: configMap(`${mark}-v`, { resourceVersion }) },
        {
          path: secretOf(attacker),
          method: 'DELETE',
          body: { apiVersion: 'v1', kind: 'DeleteOptions', preconditions: { uid } },
        },
        { path: secretOf(victim), method: 'DELETE' },
        { path: `/api/v1/secrets?fieldSelector=metadata.uid=${uid}` },
      ])
      const made = await attacker.own(`${CONFIG_MAPS}/${mark}`)
      if (made.code === 200 && made.body.includes(uid))
        return escaped("an object of the attacker has the victim's uid")
      const own = await attacker.own(secretOf(attacker))
      return own.code === 200
        ? unharmed(context, before, answers)
        : escaped('the precondition was not looked at')
    },
  },
  {
    id: 'object-names',
    title: 'gives objects names that are paths, control characters, queries and keys of JavaScript',
    control: ownWrite,
    async attempt(context) {
      const before = await snapshot(context)
      const answers = await answersTo(
        context,
        NAMES.flatMap((name) => [
          { path: CONFIG_MAPS, method: 'POST', body: configMap(name) },
          {
            path: CONFIG_MAPS,
            method: 'POST',
            body: { ...configMap('x'), metadata: { generateName: name } },
          },
          {
            path: '/api/v1/namespaces',
            method: 'POST',
            body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name } },
          },
        ]),
      )
      const namespaces = answers.filter(
        ({ code }, i) => code < 400 && i % 3 !== 1 && !/^[a-z0-9.-]*$/.test(NAMES[Math.floor(i / 3)] ?? ''),
      )
      return namespaces.length > 0
        ? escaped(`a hostile name was taken: ${said(namespaces[0] as ApiAnswer)}`)
        : unharmed(context, before, answers)
    },
  },
  {
    id: 'object-move',
    title:
      'patches its own objects into other namespaces, kinds and names, and puts them under foreign addresses',
    control: ownWrite,
    async attempt(context) {
      const { attacker, victim, mark } = context
      await attacker.create(CONFIG_MAPS, configMap(mark))
      const before = await snapshot(context)
      const path = `${CONFIG_MAPS}/${mark}`
      const patch = (body: object, type = 'application/merge-patch+json') => ({
        path,
        method: 'PATCH',
        body,
        type,
      })
      const answers = await answersTo(context, [
        patch({ metadata: { namespace: victim.canaries.namespace } }),
        patch({ metadata: { name: victim.canaries.configMap } }),
        patch({ kind: 'Secret' }),
        patch({ apiVersion: 'tenancy.bulkhead.dev/v1alpha1', kind: 'Tenant' }),
        patch(
          [{ op: 'replace', path: '/metadata/namespace', value: 'kube-system' }],
          'application/json-patch+json',
        ),
        patch([{ op: 'copy', from: '', path: '/data/x' }], 'application/json-patch+json'),
        patch([{ op: 'add', path: '/__proto__/polluted', value: 'x' }], 'application/json-patch+json'),
        { path, method: 'PUT', body: configMap(mark, { namespace: 'kube-system' }) },
        { path, method: 'PUT', body: configMap('another') },
        { path: CONFIG_MAPS, method: 'POST', body: configMap(`${mark}-2`, { namespace: 'kube-system' }) },
      ])
      const through = answers.find(({ code }) => code < 400)
      return through ? escaped(`accepted: ${said(through)}`) : unharmed(context, before, answers)
    },
  },
  {
    id: 'body-hostile-json',
    title: 'sends bodies that break parsers: prototypes, depth, doubled keys, numbers, cut text, 3 MB',
    replays:
      'CVE-2019-10744 and CVE-2020-8203: merging what a client sent changed the prototype of all objects',
    control: ownWrite,
    async attempt(context) {
      const { mark, victim } = context
      const before = await snapshot(context)
      const text = JSON.stringify(configMap(mark))
      const bodies = [
        text.replace('{', '{"__proto__":{"polluted":"yes"},'),
        text.replace('"data":{', '"data":{"__proto__":"x","constructor":"y",'),
        `{"constructor":{"prototype":{"polluted":"yes"}},${text.slice(1)}`,
        `${'['.repeat(50_000)}${']'.repeat(50_000)}`,
        `${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}`,
        text.replace('"metadata":{', '"metadata":{"name":"first","namespace":"kube-system",'),
        text.slice(0, -3),
        `\ufeff${text}`,
        text.replace('"by"', '"by\\ud800"'),
        '1e999999',
        'null',
        '"x"',
        `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"${mark}","generation":1e400}}`,
        `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"${mark}"},"data":{"x":"${'a'.repeat(3_200_000)}"}}`,
        '',
        '\u0000'.repeat(1_000),
      ]
      const answers = await answersTo(
        context,
        bodies.map((body) => ({ path: CONFIG_MAPS, method: 'POST', body })),
      )
      const polluted = await victim.create<{ polluted?: string; metadata: object }>(
        CONFIG_MAPS,
        configMap(`${mark}-clean`),
      )
      if (JSON.stringify(polluted).includes('polluted'))
        return escaped('an object of the victim has what the attacker put into a prototype')
      await victim.must(`${CONFIG_MAPS}/${mark}-clean`, { method: 'DELETE' })
      return unharmed(context, before, answers)
    },
  },
  {
    id: 'body-yaml-bomb',
    title: 'sends YAML whose aliases unfold into gigabytes, and YAML with tags and merges',
    replays: 'CVE-2019-11253: a few hundred bytes of YAML used up the memory of an API server',
    vector: 'control-plane saturation',
    standards: ['T1499'],
    control: ownWrite,
    always: true,
    async attempt(context) {
      const before = await snapshot(context)
      const bomb = [
        'a: &a [x,x,x,x,x,x,x,x,x]',
        ...[...'bcdefghi'].map((c, i) => `${c}: &${c} [${Array(9).fill(`*${'abcdefgh'[i]}`).join(',')}]`),
      ].join('\n')
      const head = `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ${context.mark}}\n`
      const bodies = [
        `${head}${bomb}\n`,
        `${head}data: &d {x: y, <<: *d}\n`,
        `${head}data: !!js/function 'function () { return process.exit() }'\n`,
        `${head}data: !!python/object/apply:os.system ['id']\n`,
        `${head}---\n${head}`,
        `%YAML 9.9\n---\n${head}`,
        `${head}data:\n${' '.repeat(10)}? [${'['.repeat(5_000)}\n`,
      ]
      return unharmed(
        context,
        before,
        await answersTo(
          context,
          bodies.map((body) => ({ path: CONFIG_MAPS, method: 'POST', body, type: 'application/yaml' })),
        ),
      )
    },
  },
  {
    id: 'body-patch-bomb',
    title: 'sends a JSON patch of ten thousand operations and patches that double an object again and again',
    replays: 'CVE-2019-1002100: a JSON patch kept an API server busy for everybody',
    vector: 'control-plane saturation',
    standards: ['T1499'],
    control: ownWrite,
    async attempt(context) {
      const { attacker, victim, mark } = context
      await attacker.create(CONFIG_MAPS, configMap(mark))
      const before = await snapshot(context)
      const path = `${CONFIG_MAPS}/${mark}`
      const doubled = [
        { op: 'add', path: '/data/k', value: 'x'.repeat(1_000) },
        ...Array.from({ length: 60 }, (_, i) => ({ op: 'copy', from: '/data', path: `/data/d${i}` })),
      ]
      const many = Array.from({ length: 10_000 }, (_, i) => ({
        op: 'add',
        path: `/metadata/annotations/x${i}`,
        value: 'y',
      }))
      const [bomb, served] = await Promise.all([
        answersTo(
          context,
          [doubled, many].map((body) => ({
            path,
            method: 'PATCH',
            type: 'application/json-patch+json',
            body,
          })),
        ),
        victim.own(secretOf(victim)),
      ])
      return served.code === 200
        ? unharmed(context, before, bomb)
        : escaped(`the victim was answered ${served.code} meanwhile`)
    },
  },
  {
    id: 'body-protobuf',
    title: 'sends protobuf that is cut, nested, of another kind, and that hides what JSON would show',
    replays: 'admission that looked at JSON bodies only, while clients could send protobuf',
    control: ownWrite,
    async attempt(context) {
      const before = await snapshot(context)
      const { mark } = context
      const magic = Buffer.from('k8s\0')
      const field = (number: number, bytes: Buffer | string) => {
        const content = Buffer.from(bytes as string)
        return Buffer.concat([Buffer.of((number << 3) | 2), varint(content.length), content])
      }
      const unknown = (apiVersion: string, kind: string, raw: Buffer) =>
        Buffer.concat([magic, field(1, Buffer.concat([field(1, apiVersion), field(2, kind)])), field(2, raw)])
      const metadata = field(1, Buffer.concat([field(1, mark), field(3, 'kube-system')]))
      // Pod.spec (2): containers (2) with name (1), image (2) and securityContext (15) with privileged (2, a varint).
      const privileged = field(
        2,
        field(2, Buffer.concat([field(1, 'c'), field(2, context.image), field(15, Buffer.of(16, 1))])),
      )
      const nested = Array.from({ length: 500 }).reduce<Buffer>((inner) => field(2, inner), Buffer.from('x'))
      const bodies: [string, Buffer][] = [
        [CONFIG_MAPS, unknown('v1', 'ConfigMap', metadata)],
        [CONFIG_MAPS, unknown('v1', 'Secret', field(1, field(1, mark)))],
        [CONFIG_MAPS, unknown('tenancy.bulkhead.dev/v1alpha1', 'Tenant', metadata)],
        [CONFIG_MAPS, unknown('v1', 'ConfigMap', nested)],
        [CONFIG_MAPS, Buffer.concat([magic, Buffer.of(0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f)])],
        [CONFIG_MAPS, Buffer.concat([magic, Buffer.alloc(1_000, 0xff)])],
        [CONFIG_MAPS, Buffer.from('k8s\0')],
        [
          '/api/v1/namespaces/default/pods',
          unknown('v1', 'Pod', Buffer.concat([field(1, field(1, mark)), privileged])),
        ],
      ]
      const answers = await answersTo(
        context,
        bodies.map(([path, body]) => ({
          path,
          method: 'POST',
          body,
          type: 'application/vnd.kubernetes.protobuf',
        })),
      )
      const through = answers.find(({ code }) => code < 400)
      return through ? escaped(`accepted: ${said(through)}`) : unharmed(context, before, answers)
    },
  },
  {
    id: 'object-unsafe-pod',
    title:
      'asks for pods with the machine: privileged, host namespaces, host paths, devices, foreign runtimes',
    vector: 'kernel',
    standards: ['MTB-PL1-BC-CPI-5', 'CIS-K8S-5.2.2', 'T1610', 'T1611'],
    always: true,
    async control({ attacker, mark, image }) {
      await attacker.create('/api/v1/namespaces/default/pods?dryRun=All', pod(mark, image, {}, {}))
      return 'the same pod without the field is accepted (dry run)'
    },
    async attempt(context) {
      const { mark, image, victim } = context
      const specs: [object, object?][] = [
        [{ hostNetwork: true }],
        [{ hostPID: true }],
        [{ hostIPC: true }],
        [{ hostUsers: true }],
        [{ nodeName: 'localhost' }],
        [{ runtimeClassName: 'runc' }],
        [{ volumes: [{ name: 'v', hostPath: { path: '/' } }] }],
        [{ volumes: [{ name: 'v', nfs: { server: '127.0.0.1', path: '/' } }] }],
        [{ volumes: [{ name: 'v', csi: { driver: 'x' } }] }],
        [{}, { securityContext: { privileged: true } }],
        [{}, { securityContext: { capabilities: { add: ['SYS_ADMIN'] } } }],
        [{}, { securityContext: { procMount: 'Unmasked' } }],
        [{}, { securityContext: { seccompProfile: { type: 'Unconfined' } } }],
        [{}, { volumeDevices: [{ name: 'v', devicePath: '/dev/sda' }] }],
        [{}, { image: `127.0.0.1:1/${victim.name}:1` }],
        [{}, { ports: [{ containerPort: 80, hostPort: 80 }] }],
      ]
      const answers = await answersTo(
        context,
        specs.map(([spec, container = {}]) => ({
          path: '/api/v1/namespaces/default/pods',
          method: 'POST',
          body: pod(mark, image, spec, container),
        })),
      )
      return allRefused(answers.map((answer, i) => [JSON.stringify(specs[i]), answer] as const))
    },
  },
])

function pod(name: string, image: string, spec: object, container: object): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec: {
      ...spec,
      containers: [
        { name: 'main', image, resources: { limits: { cpu: '10m', memory: '16Mi' } }, ...container },
      ],
    },
  }
}

function owner(kind: string, name: string, uid: string) {
  return { apiVersion: 'v1', kind, name, uid }
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  let rest = value
  for (; rest >= 128; rest >>>= 7) bytes.push((rest & 127) | 128)
  return Buffer.of(...bytes, rest)
}
