import { type AttackContext, blocked, escaped, type Outcome, type Party } from '../attack.ts'
import { parseRaw } from '../tenant-api.ts'
import { said, worked } from './expect.ts'
import { family, secretOf, type Sketch } from './own-and-other.ts'

const REVIEW = '/apis/authentication.k8s.io/v1/selfsubjectreviews'
const WHO = { apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview', metadata: {} }

export const identityOf = (tenant: string, name = 'admin', groups = ['bulkhead:tenant-admins']) =>
  Buffer.from(JSON.stringify({ kind: 'tenantUser', tenant, name, groups })).toString('base64url')

/** A user of the attacker's own tenant without any right, which is what a header would have to change. */
async function lowly(attacker: Party) {
  return attacker.as({ certificate: await attacker.issue({ user: 'lowly', groups: [] }) })
}

type Headers = Record<string, string | string[]>
type Claim = Omit<Sketch, 'attempt' | 'control'> & {
  headers(names: { attacker: string; victim: string }): readonly Headers[]
}

/** Every set of headers is sent to the victim, and home by a user without rights. Neither may get anything. */
function claimed({ headers, ...sketch }: Claim): Sketch {
  return {
    ...sketch,
    async control({ attacker }) {
      const answer = await attacker.own(REVIEW, { method: 'POST', body: WHO })
      if (!answer.body.includes('"admin"')) throw new Error(`who am I: ${said(answer)}`)
      return worked(answer, 'its administrator is told its own name')
    },
    attempt: (context) =>
      tryHeaders(context, headers({ attacker: context.attacker.name, victim: context.victim.name })),
  }
}

async function tryHeaders({ attacker, victim }: AttackContext, sets: readonly Headers[]): Promise<Outcome> {
  const user = await lowly(attacker)
  const codes = new Set<number>()
  for (const headers of sets) {
    const names = Object.keys(headers).join(', ')
    const across = await attacker.admin.write(victim.root + secretOf(victim), { headers })
    if (across.code < 400 || across.code >= 500) return escaped(`${names}, to the victim: ${said(across)}`)
    const home = await user.write(attacker.root + secretOf(attacker), { headers })
    if (home.code < 400 || home.code >= 500)
      return escaped(`${names}, by a user without rights: ${said(home)}`)
    const review = await user.write(attacker.root + REVIEW, { method: 'POST', body: WHO, headers })
    if (review.code < 400 && !review.body.includes('"lowly"'))
      return escaped(`${names} makes somebody else: ${review.body.slice(0, 200)}`)
    for (const { code } of [across, home, review]) codes.add(code)
  }
  return blocked(
    'the gateway writes the identity itself',
    `${sets.length} sets of headers change neither the tenant nor the user; answers ${[...codes].join(', ')}`,
  )
}

export const headerAttacks = family('headers', 'identities and tokens', [
  claimed({
    id: 'header-identity',
    title: "writes the gateway's own identity header, as an administrator of the victim and of itself",
    standards: ['T1550.001'],
    always: true,
    headers: ({ attacker, victim }) => [
      { 'x-bulkhead-identity': identityOf(victim) },
      { 'X-BULKHEAD-IDENTITY': identityOf(attacker) },
      { 'x-bulkhead-identity': [identityOf(attacker), identityOf(victim)] },
      { 'x-bulkhead-identity': Buffer.from('{"kind":"component","name":"gateway"}').toString('base64url') },
      {
        'x-bulkhead-identity': Buffer.from(
          '{"kind":"operator","name":"root","groups":["system:masters"]}',
        ).toString('base64url'),
      },
      { 'x-bulkhead-tenant': victim, 'x-bulkhead-user': 'admin', 'x-bulkhead-groups': 'system:masters' },
      { 'x-bulkhead-request-id': 'x', 'x-bulkhead-audit-note': 'x' },
    ],
  }),
  claimed({
    id: 'header-hop-by-hop',
    title: "lists the gateway's identity header as hop-by-hop, so that a proxy takes it away",
    replays:
      'CVE-2022-1388: naming the header with the identity in Connection made a proxy drop it, and the server behind took that for its own host',
    always: true,
    headers: ({ attacker, victim }) =>
      [identityOf(victim), identityOf(attacker)].flatMap((identity): Headers[] => [
        { connection: 'close, x-bulkhead-identity' },
        {
          connection: 'close, X-Bulkhead-Identity, x-bulkhead-request-id',
          'x-bulkhead-identity': identity,
        },
        { connection: 'close, host, content-length, authorization', 'x-bulkhead-identity': identity },
        { te: 'trailers', connection: 'close, te', 'x-bulkhead-identity': identity },
        { 'proxy-connection': 'x-bulkhead-identity' },
      ]),
  }),
  claimed({
    id: 'header-impersonate',
    title: 'impersonates an administrator, a group of masters and a service account by header',
    standards: ['CIS-K8S-5.1.8'],
    always: true,
    headers: () => [
      { 'impersonate-user': 'admin' },
      { 'Impersonate-User': 'admin', 'Impersonate-Group': 'system:masters' },
      { 'impersonate-group': 'bulkhead:tenant-admins' },
      { 'impersonate-user': 'system:serviceaccount:kube-system:default' },
      { 'impersonate-uid': '0', 'impersonate-user': 'admin' },
      { 'impersonate-extra-scopes': 'everything', 'impersonate-user': 'admin' },
    ],
  }),
  claimed({
    id: 'header-remote-user',
    title: 'says who it is in the headers of an authenticating proxy',
    headers: () => [
      { 'x-remote-user': 'admin', 'x-remote-group': 'system:masters' },
      { 'X-Remote-User': 'admin', 'X-Remote-Extra-Scopes': 'all' },
      {
        'x-forwarded-user': 'admin',
        'x-forwarded-groups': 'bulkhead:tenant-admins',
        'x-forwarded-email': 'a@b',
      },
      { 'x-auth-request-user': 'admin', 'x-webauth-user': 'admin', remote_user: 'admin' },
      {
        'x-client-cert': 'CN=admin,O=bulkhead:tenant-admins',
        'ssl-client-verify': 'SUCCESS',
        'x-forwarded-client-cert': 'Subject="CN=admin"',
      },
    ],
  }),
  claimed({
    id: 'header-forwarded',
    title: 'says in forwarding headers that it comes from the machine, or asked for something else',
    replays: 'CVE-2018-14773: a framework let X-Original-URL replace the path that had been authorized',
    headers: ({ victim }) => [
      { 'x-forwarded-for': '127.0.0.1', 'x-real-ip': '127.0.0.1', 'x-forwarded-proto': 'https' },
      { 'x-forwarded-host': victim, forwarded: `for=127.0.0.1;host=${victim};proto=https` },
      {
        'x-original-url': `/tenants/${victim}/api/v1/secrets`,
        'x-rewrite-url': `/tenants/${victim}/api/v1/secrets`,
      },
      { 'x-forwarded-prefix': `/tenants/${victim}`, 'x-forwarded-uri': `/tenants/${victim}/api` },
      { via: '1.1 localhost', 'x-envoy-original-path': `/tenants/${victim}/api` },
    ],
  }),
  claimed({
    id: 'header-method-override',
    title: 'changes the method of a request after it was authorized',
    headers: () => [
      { 'x-http-method-override': 'GET' },
      { 'x-http-method': 'GET', 'x-method-override': 'GET' },
      { 'x-bulkhead-verb': 'get' },
    ],
  }),
  {
    id: 'header-host',
    title: 'names the victim as host: once, twice, with blanks, and in none',
    vector: 'tenant API',
    async attempt({ attacker, victim }) {
      const path = attacker.root + secretOf(victim)
      const heads = [
        `GET ${path} HTTP/1.1\r\nHost: ${victim.name}\r\n`,
        `GET ${path} HTTP/1.1\r\nHost: ${attacker.name}\r\nHost: ${victim.name}\r\n`,
        `GET ${path} HTTP/1.1\r\nHost: ${victim.name}.bulkhead\r\nX-Host: ${victim.name}\r\n`,
        `GET ${path} HTTP/1.1\r\n Host: ${victim.name}\r\n`,
        `GET ${path} HTTP/1.1\r\nHost:\r\n`,
        `GET ${path} HTTP/1.1\r\n`,
        `GET ${victim.root}${secretOf(victim)} HTTP/1.0\r\n`,
      ]
      return rawRefused(attacker, heads)
    },
  },
  {
    id: 'header-odd-spelling',
    title: 'spells the identity header so that one parser sees it and another does not',
    replays:
      'CVE-2019-16276: "name :" with a blank was a header to one server and none to the proxy before it',
    async attempt({ attacker, victim }) {
      const user = await lowly(attacker)
      const forged = identityOf(attacker.name)
      const line = `GET ${attacker.root}${secretOf(attacker)} HTTP/1.1\r\nHost: x\r\n`
      const heads = [
        `${line}x-bulkhead-identity : ${forged}\r\n`,
        `${line}x-bulkhead-identity\t: ${forged}\r\n`,
        `${line}x_bulkhead_identity: ${forged}\r\n`,
        `${line}x-bulkhead-identity\0: ${forged}\r\n`,
        `${line}Accept: */*\r\n x-bulkhead-identity: ${forged}\r\n`,
        `${line}Accept: */*\nx-bulkhead-identity: ${forged}\r\n`,
        `${line}Accept: */*\rx-bulkhead-identity: ${forged}\r\n`,
        `${line}x-bulkhead-identity: ${forged}\r\nx-bulkhead-identity: ${identityOf(victim.name)}\r\n`,
        `${line}: x\r\nx-bulkhead-identity: ${forged}\r\n`,
      ]
      return rawRefused(attacker, heads, user)
    },
  },
])

async function rawRefused(attacker: Party, heads: readonly string[], by = attacker.admin): Promise<Outcome> {
  const codes: number[] = []
  for (const head of heads) {
    const text = await by.raw(`${head}Connection: close\r\n\r\n`)
    const answer = parseRaw(text)
    codes.push(answer.code)
    if (
      answer.code >= 500 ||
      (answer.code >= 200 && answer.code < 300) ||
      text.includes(attacker.canaries.value)
    )
      return escaped(`${JSON.stringify(head).slice(0, 120)}: ${said(answer)}`)
  }
  return blocked(
    'request parsing, and the gateway writes the identity itself',
    `${heads.length} requests, answered ${[...new Set(codes)].join(', ')} (0: closed)`,
  )
}
