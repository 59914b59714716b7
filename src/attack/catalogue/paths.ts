import type { AttackContext } from '../attack.ts'
import { parseRaw } from '../tenant-api.ts'
import { allRefused } from './expect.ts'
import { family, ownWrite, refusedAll, secretOf, type Sketch } from './own-and-other.ts'

type Spelling = Omit<Sketch, 'attempt'> & {
  paths(names: {
    own: string
    other: string
    secret: string
    attacker: string
    victim: string
  }): readonly string[]
}

/** The same secret of the victim, written in another way. */
function spelled({ paths, ...sketch }: Spelling): Sketch {
  return {
    ...sketch,
    attempt: (context) =>
      refusedAll(
        context,
        paths(namesOf(context)).map((path) => ({ path })),
      ),
  }
}

function namesOf({ attacker, victim }: AttackContext) {
  return {
    own: attacker.root,
    other: victim.root,
    secret: secretOf(victim),
    attacker: attacker.name,
    victim: victim.name,
  }
}

const fullWidth = (text: string) =>
  encodeURIComponent([...text].map((c) => String.fromCodePoint(c.codePointAt(0)! + 0xfee0)).join('')) // printable ASCII

const TOO_LONG = 40_000

export const pathAttacks = family('paths', 'tenant API', [
  spelled({
    id: 'path-direct',
    title: "reads the victim's objects by their own address",
    standards: ['MTB-PL1-CC-TI-2', 'T1552.007'],
    always: true,
    paths: ({ other, secret }) => [
      other + secret,
      `${other}/api/v1/secrets`,
      `${other}/api/v1/namespaces`,
      `${other}/api`,
      `${other}/version`,
      `${other}/openapi/v3`,
      `${other}/healthz`,
      `${other}/openid/v1/jwks`,
      other,
    ],
  }),
  spelled({
    id: 'path-dot-segments',
    title: "walks from its own API to the victim's with dots and empty segments",
    replays: 'CVE-2021-41773: a web server that joined a path before it had taken the dots out of it',
    always: true,
    paths: ({ own, other, secret, victim }) => [
      `/${other}${secret}`,
      `/.${other}${secret}`,
      `${own}/../${victim}${secret}`,
      `${own}/../..${other}${secret}`,
      `${own}/api/v1/../../../${victim}${secret}`,
      `/tenants//${victim}${secret}`,
      `/tenants/./${victim}${secret}`,
      `${own}//../${victim}${secret}`,
    ],
  }),
  spelled({
    id: 'path-encoded-dots',
    title: "walks to the victim's API with dots and slashes that are percent-encoded, once and twice",
    replays: 'CVE-2021-42013: dots that were encoded twice came through the mend of CVE-2021-41773',
    always: true,
    paths: ({ own, other, secret, victim }) => [
      `${own}/%2e%2e/${victim}${secret}`,
      `${own}/%2E%2E%2F${victim}${secret}`,
      `${own}/..%2f${victim}${secret}`,
      `${own}%2f..%2f${victim}${secret}`,
      `${own}/%252e%252e/${victim}${secret}`,
      `${own}/%25252e%25252e/${victim}${secret}`,
      `${own}/api/v1/namespaces/default/secrets/${'..%2f'.repeat(7)}${victim}${secret.replaceAll('/', '%2f')}`,
      `/%74enants/${victim}${secret}`,
      `/tenants%2f${victim}${secret}`,
      `${other}%2f..${secret}`,
    ],
  }),
  spelled({
    id: 'path-overlong-utf8',
    title: 'writes dots and slashes in overlong UTF-8, as old decoders read them',
    replays: 'CVE-2000-0884: a web server that decoded overlong UTF-8 after it had checked the path',
    paths: ({ own, secret, victim }) => [
      `${own}/%c0%ae%c0%ae/${victim}${secret}`,
      `${own}/..%c0%af${victim}${secret}`,
      `${own}/%e0%80%ae%e0%80%ae/${victim}${secret}`,
      `${own}/%uff0e%uff0e/${victim}${secret}`,
      `${own}/${fullWidth('..')}/${victim}${secret}`,
    ],
  }),
  spelled({
    id: 'path-parameters',
    title: 'hides the victim behind path parameters that some servers cut off',
    replays: 'CVE-2020-5902: a proxy and the server behind it disagreed about "..;/"',
    paths: ({ own, other, secret, attacker, victim }) => [
      `${own}/..;/${victim}${secret}`,
      `${own};/../${victim}${secret}`,
      `/tenants/${victim};tenant=${attacker}${secret}`,
      `/tenants/${attacker},${victim}${secret}`,
      `/tenants/${attacker}@${victim}${secret}`,
      `/tenants/${attacker}:${victim}${secret}`,
      `/;${other}${secret}`,
    ],
  }),
  spelled({
    id: 'path-control-characters',
    title: "ends the victim's name with NUL, line ends and blanks",
    paths: ({ other, secret, victim }) => [
      `${other}%00${secret}`,
      `${other}%0a${secret}`,
      `${other}%0d%0aHost:%20x${secret}`,
      `${other}%20${secret}`,
      `${other}%09${secret}`,
      `/tenants/%00${victim}${secret}`,
      `${other}%ff${secret}`,
      `${other}%e2%80%8b${secret}`,
    ],
  }),
  spelled({
    id: 'path-other-letters',
    title: "spells the victim's name in capitals, escapes, look-alikes and with backslashes",
    paths: ({ own, secret, victim }) => [
      `/tenants/${victim.toUpperCase()}${secret}`,
      `/TENANTS/${victim}${secret}`,
      `/tenants/%${victim.charCodeAt(0).toString(16)}${victim.slice(1)}${secret}`,
      `/tenants/${fullWidth(victim)}${secret}`,
      `${own}\\..\\${victim}${secret}`,
      `/tenants\\${victim}${secret}`,
      `${own}/..%5c${victim}${secret}`,
    ],
  }),
  spelled({
    id: 'path-in-query',
    title: 'names the victim in the query of a request to nobody, or after a question mark',
    paths: ({ secret, attacker, victim }) => [
      `/tenants?tenant=${victim}&path=${secret}`,
      `/tenants/${victim}?x=/tenants/${attacker}${secret}`,
      `/tenants/?name=${victim}${secret}`,
      `${secret}?tenant=${victim}`,
      `/metrics?tenant=${victim}`,
      `/tenants/${victim}${secret}?tenant=${attacker}&namespace=default&pretty=true`,
      `/tenants/${victim}${secret}?impersonate=admin&as=admin&sudo=true`,
    ],
  }),
  spelled({
    id: 'path-too-long',
    title: 'sends paths that are longer than any parser expects',
    paths: ({ own, secret, victim }) => [
      `${own}/${'../'.repeat(500)}tenants/${victim}${secret}`,
      `/tenants/${victim}${'a'.repeat(TOO_LONG)}${secret}`,
      `/tenants/${'a'.repeat(TOO_LONG)}/../${victim}${secret}`,
      `/tenants/${victim}${secret}?${'x=y&'.repeat(TOO_LONG / 4)}`,
    ],
  }),
  spelled({
    id: 'path-platform',
    title: "asks the platform's own API, which knows all tenants",
    standards: ['MTB-PL1-BC-CPI-2', 'MS-TA9029'],
    vector: 'platform components',
    always: true,
    paths: ({ own, victim }) => [
      '/platform/apis/tenancy.bulkhead.dev/v1alpha1/tenants',
      `/platform/apis/tenancy.bulkhead.dev/v1alpha1/tenants/${victim}`,
      `/platform/apis/tenancy.bulkhead.dev/v1alpha1/tenants/${victim}/credentials`,
      '/platform/api/v1/secrets',
      '/platform',
      '/tenants/platform/api/v1/secrets',
      `${own}/apis/tenancy.bulkhead.dev/v1alpha1/tenants`,
      `${own}/../../platform/api/v1/secrets`,
    ],
  }),
  spelled({
    id: 'path-debug-endpoints',
    title: 'looks for endpoints of components that would tell about everybody',
    replays: 'CVE-2019-11248: a kubelet answered debug/pprof to whoever asked on its health port',
    paths: ({ own }) =>
      [
        '/metrics',
        '/debug/pprof/',
        '/debug/pprof/heap',
        '/configz',
        '/logs/',
        '/statusz',
        '/flagz',
        '/proxy/',
        '/.well-known/openid-configuration',
        '/swagger.json',
        '/api/v1/nodes',
        '/api/v1/nodes/localhost/proxy/runningpods/',
        '/api/v1/componentstatuses',
        '/stats/summary',
        '/runningpods/',
      ]
        .flatMap((path) => [path, `${own}${path}`])
        // Its own token issuer and its own virtual node are for a tenant to see, also where a path names nobody.
        .filter((path) => !/\/(?:\.well-known\/openid-configuration|api\/v1\/nodes)$/.test(path)),
  }),
  {
    id: 'path-absolute-form',
    title: 'puts a whole URL where the path belongs, with another host and tenant than the header says',
    async attempt({ attacker, victim }) {
      const { admin, root } = attacker
      const { origin } = admin
      const host = new URL(origin).host
      const lines = [
        `GET ${origin}${victim.root}${secretOf(victim)} HTTP/1.1\r\nHost: ${host}`,
        `GET https://${victim.name}${root}${secretOf(attacker)} HTTP/1.1\r\nHost: ${victim.name}`,
        `GET http://localhost${victim.root}${secretOf(victim)} HTTP/1.1\r\nHost: ${host}${root}`,
        `GET ${host}${victim.root}${secretOf(victim)} HTTP/1.1\r\nHost: ${host}`,
        `GET @${victim.name}/ HTTP/1.1\r\nHost: ${host}`,
        `GET * HTTP/1.1\r\nHost: ${host}`,
      ]
      const answers = []
      for (const line of lines) {
        const text = await admin.raw(`${line}\r\nConnection: close\r\n\r\n`)
        answers.push([line.split('\r')[0] ?? '', parseRaw(text)] as const)
      }
      return allRefused(answers)
    },
  },
  {
    id: 'path-methods',
    title: "tries every method on the victim's objects, and methods that proxies know",
    control: ownWrite,
    async attempt(context) {
      const path = context.victim.root + secretOf(context.victim)
      const outcome = await refusedAll(
        context,
        [
          'GET',
          'HEAD',
          'POST',
          'PUT',
          'PATCH',
          'DELETE',
          'OPTIONS',
          'TRACE',
          'PROPFIND',
          'MOVE',
          'COPY',
          'PURGE',
          'LINK',
          'SEARCH',
        ].map((method) => ({
          path,
          method,
          ...(['POST', 'PUT', 'PATCH'].includes(method) ? { body: {} } : {}),
        })),
      )
      const there = await context.victim.own(secretOf(context.victim))
      return there.code === 200
        ? outcome
        : { kind: 'escaped', evidence: `the victim's secret is gone: ${there.code}` }
    },
  },
  {
    id: 'path-every-route',
    title: 'asks the victim for every resource of discovery, with every verb and sub-resource',
    standards: ['MTB-PL1-CC-TI-2', 'MTB-PL1-CC-CPI-1'],
    async attempt(context) {
      const requests = (await routesOf(context)).flatMap((route) => [
        { path: route },
        { path: `${route}?watch=true` },
        { path: route, method: 'POST', body: {} },
        { path: `${route}/canary` },
        { path: `${route}/canary`, method: 'DELETE' },
        { path: `${route}/canary`, method: 'PATCH', body: {}, type: 'application/merge-patch+json' },
        { path: `${route}/canary/status` },
        { path: `${route}/canary/scale` },
        { path: `${route}/canary/log` },
        { path: `${route}/canary/eviction`, method: 'POST', body: {} },
        { path: `${route}/canary/token`, method: 'POST', body: {} },
      ])
      return refusedAll(context, requests)
    },
  },
])

/** Paths of all resources in the victim's canary namespace, from the attacker's own discovery. */
async function routesOf({ attacker, victim }: AttackContext): Promise<string[]> {
  type Resources = { resources: { name: string; namespaced: boolean }[] }
  const { groups } = await attacker.must<{ groups: { preferredVersion: { groupVersion: string } }[] }>(
    '/apis',
  )
  const bases = ['/api/v1', ...groups.map(({ preferredVersion }) => `/apis/${preferredVersion.groupVersion}`)]
  const lists = await Promise.all(bases.map((base) => attacker.must<Resources>(base)))
  return lists.flatMap(({ resources }, i) =>
    resources
      .filter(({ name }) => !name.includes('/'))
      .map(
        ({ name, namespaced }) =>
          `${victim.root}${bases[i]}${namespaced ? `/namespaces/${victim.canaries.namespace}` : ''}/${name}`,
      ),
  )
}
