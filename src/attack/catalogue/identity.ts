import {
  createHmac,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type JsonWebKey,
  type KeyObject,
  sign,
} from 'node:crypto'
import { type AttackContext, blocked, escaped, type Outcome, type Party, untried } from '../attack.ts'
import type { ApiAnswer, Credential, TenantApi } from '../tenant-api.ts'
import { createKeyPair, renderPrivateKey } from '../../identity/index.ts'
import { HOUR_MS, until } from '../../stdx/index.ts'
import { allRefused, said, worked } from './expect.ts'
import { family, secretOf } from './own-and-other.ts'

const REVIEW = '/apis/authentication.k8s.io/v1/selfsubjectreviews'
const WHO = { apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview', metadata: {} }
const GROUP = 'rbac.authorization.k8s.io'
const AUDIENCE = 'https://bulkhead/tenants/'
const TENANT = 'bulkhead.dev/tenant'

type Claims = Record<string, unknown>
type Parts = { header: Claims; claims: Claims; signature: string }

function parseToken(token: string): Parts {
  const [header = '', claims = '', signature = ''] = token.split('.')
  const decode = (part: string) => JSON.parse(Buffer.from(part, 'base64url').toString()) as Claims // a token of ours
  return { header: decode(header), claims: decode(claims), signature }
}

const inNameOf = ({ name }: Party, claims: Claims): Claims => ({
  ...claims,
  [TENANT]: name,
  aud: [AUDIENCE + name],
})

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

function renderToken(header: Claims, claims: Claims, signer: (input: string) => string): string {
  const input = `${encode(header)}.${encode(claims)}`
  return `${input}.${signer(input)}`
}

const es256 = (key: KeyObject) => (input: string) =>
  sign('sha256', Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')

async function publicKeys(party: Party): Promise<(JsonWebKey & { kid: string })[]> {
  return (await party.must<{ keys: (JsonWebKey & { kid: string })[] }>('/openid/v1/jwks')).keys
}

/** Tokens are asked who they are, at the victim and at home; whoever gets an answer is somebody. */
async function tokensRefused(
  { attacker, victim }: AttackContext,
  tokens: Record<string, string>,
): Promise<Outcome> {
  const answers: [string, ApiAnswer][] = []
  for (const [what, token] of Object.entries(tokens))
    for (const party of [victim, attacker]) {
      const api = attacker.as({ token })
      answers.push([`${what} at ${party === victim ? "the victim's" : 'its own'} API`, await who(api, party)])
    }
  return allRefused(answers)
}

const who = (api: TenantApi, party: Party) => api.request(party.root + REVIEW, { method: 'POST', body: WHO })

/** A genuine token of the attacker's default account says who it is. */
async function tokenWorks({ attacker }: AttackContext): Promise<string> {
  return worked(
    await who(attacker.as({ token: await attacker.token() }), attacker),
    'the genuine token at its own API',
  )
}

/** A service account with a role, so that its token would be worth something. */
async function account(party: Party, name: string): Promise<void> {
  const metadata = { name, namespace: 'default' }
  await party.create('/api/v1/namespaces/default/serviceaccounts', {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata,
  })
  await party.create(`/apis/${GROUP}/v1/namespaces/default/rolebindings`, {
    apiVersion: `${GROUP}/v1`,
    kind: 'RoleBinding',
    metadata,
    roleRef: { apiGroup: GROUP, kind: 'ClusterRole', name: 'view' },
    subjects: [{ kind: 'ServiceAccount', ...metadata }],
  })
}

export const identityAttacks = family('identity', 'identities and tokens', [
  {
    id: 'token-algorithm-none',
    title: 'presents its token and the victim\'s names with the algorithm "none" and no signature',
    replays:
      'CVE-2022-23540: a library fell back to tokens without a signature where no algorithm was asked for',
    standards: ['T1550.001'],
    always: true,
    control: tokenWorks,
    async attempt(context) {
      const { header, claims } = parseToken(await context.attacker.token())
      const foreign = inNameOf(context.victim, claims)
      const none = (alg: string, said: Claims) => renderToken({ ...header, alg }, said, () => '')
      return tokensRefused(context, {
        none: none('none', claims),
        None: none('None', claims),
        'nOnE, foreign': none('nOnE', foreign),
        'empty algorithm': none('', foreign),
        'ES256 without signature': none('ES256', foreign),
      })
    },
  },
  {
    id: 'token-public-key-as-secret',
    title: "signs tokens with HS256 and the tenant's public key as the secret",
    replays:
      'CVE-2015-9235 and CVE-2016-10555: libraries used the public key as HMAC secret when the token asked for it',
    control: tokenWorks,
    async attempt(context) {
      const { attacker, victim } = context
      const [key] = await publicKeys(attacker)
      if (!key) return untried('there is no public key')
      const { header, claims } = parseToken(await attacker.token())
      const pem = createPublicKey({ key, format: 'jwk' })
      const secrets = [
        pem.export({ type: 'spki', format: 'pem' }),
        pem.export({ type: 'spki', format: 'der' }),
        JSON.stringify(key),
        '',
      ]
      const tokens = secrets.flatMap((secret, i) =>
        [claims, inNameOf(victim, claims)].map((said, j) => [
          `HS256 ${i}.${j}`,
          renderToken({ ...header, alg: 'HS256' }, said, (input) =>
            createHmac('sha256', secret).update(input).digest('base64url'),
          ),
        ]),
      )
      return tokensRefused(context, Object.fromEntries(tokens) as Record<string, string>)
    },
  },
  {
    id: 'token-other-key',
    title: 'signs tokens with a key of its own, and sends the key along in the header',
    replays: 'CVE-2018-0114: a library verified tokens with the key that they brought',
    control: tokenWorks,
    async attempt(context) {
      const { attacker, victim } = context
      const { header, claims } = parseToken(await attacker.token())
      const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
      const jwk = publicKey.export({ format: 'jwk' })
      const foreign = inNameOf(victim, claims)
      const signed = (extra: Claims, said: Claims = foreign) =>
        renderToken({ ...header, ...extra }, said, es256(privateKey))
      return tokensRefused(context, {
        'own key': signed({}, claims),
        'own key, foreign claims': signed({}),
        jwk: signed({ jwk }),
        jku: signed({ jku: 'http://127.0.0.1:1/jwks' }),
        x5u: signed({ x5u: 'file:///etc/passwd' }),
        'critical header': signed({ crit: ['b64'], b64: false }),
      })
    },
  },
  {
    id: 'token-key-id',
    title: "plays with the key id: paths, SQL, NUL, the victim's key, none, very long",
    replays: 'key ids that were joined into file names and queries',
    control: tokenWorks,
    async attempt(context) {
      const { attacker, victim } = context
      const genuine = await attacker.token()
      const { claims, header, signature } = parseToken(genuine)
      const [foreign] = await publicKeys(victim)
      const kids: unknown[] = [
        '../../../../dev/null',
        "' OR '1'='1",
        '\u0000',
        foreign?.kid,
        '',
        'a'.repeat(5_000),
        0,
        null,
        [header['kid']],
        { kid: header['kid'] },
        '__proto__',
        'constructor',
      ]
      return tokensRefused(
        context,
        Object.fromEntries(
          kids.map((kid, i) => [`kid ${i}`, renderToken({ ...header, kid }, claims, () => signature)]),
        ),
      )
    },
  },
  {
    id: 'token-changed-claims',
    title: 'changes issuer, audience, subject, times and account of a genuine token and keeps its signature',
    control: tokenWorks,
    always: true,
    async attempt(context) {
      const { attacker, victim } = context
      const { claims, header, signature } = parseToken(await attacker.token())
      const changed = (change: Claims) => renderToken(header, { ...claims, ...change }, () => signature)
      return tokensRefused(context, {
        // As tokens named their tenant before all had one issuer.
        issuer: changed({ iss: AUDIENCE + victim.name, [TENANT]: undefined }),
        both: changed(inNameOf(victim, claims)),
        subject: changed({ sub: 'system:serviceaccount:kube-system:admin' }),
        later: changed({ exp: 4_102_444_800 }),
        account: changed({
          'kubernetes.io': { namespace: 'kube-system', serviceaccount: { name: 'admin', uid: 'x' } },
        }),
        blank: changed({ [TENANT]: `${victim.name} ` }),
        path: changed({ iss: `${AUDIENCE}${attacker.name}/../${victim.name}`, [TENANT]: undefined }),
      })
    },
  },
  {
    id: 'token-not-a-token',
    title: 'sends empty, broken and doubled credentials',
    replays: 'CVE-2023-48312: a proxy for tenants took an empty token for an authenticated one',
    always: true,
    control: tokenWorks,
    async attempt({ attacker, victim }) {
      const token = await attacker.token()
      const nobody = attacker.as('nobody')
      const answers: [string, ApiAnswer][] = []
      for (const authorization of [
        '',
        'Bearer',
        'Bearer ',
        'Bearer null',
        'Bearer undefined',
        'Bearer ..',
        'Bearer a.b.c',
        `Bearer ${token}.`,
        `Bearer ${token}${token}`,
        `Token ${token}`,
        `Basic ${Buffer.from('admin:admin').toString('base64')}`,
        `Bearer ${'A'.repeat(9_000)}`,
        'Negotiate x',
        `Bearer ${token}, Bearer ${token}`,
      ])
        for (const party of [attacker, victim])
          answers.push([
            authorization.slice(0, 30),
            await nobody.write(party.root + secretOf(party), { headers: { authorization } }),
          ])
      answers.push([
        'two',
        await nobody.write(attacker.root + secretOf(attacker), {
          headers: { authorization: [`Bearer ${token}`, `Bearer ${token}`] },
        }),
      ])
      answers.push(['none', await nobody.request(victim.root + secretOf(victim))])
      return allRefused(answers)
    },
  },
  {
    id: 'token-of-victim-account',
    title: "has its own tenant's token service make a token for the victim's audience",
    replays: 'tokens without an audience check, good for every service that trusts the issuer',
    control: tokenWorks,
    always: true,
    async attempt(context) {
      const { attacker, victim } = context
      const token = await attacker.token({ spec: { audiences: [AUDIENCE + victim.name] } })
      const api = attacker.as({ token })
      return allRefused([
        ["at the victim's API", await api.request(victim.root + secretOf(victim))],
        ["who, at the victim's", await who(api, victim)],
        ['at its own API, for which it is not', await who(api, attacker)],
      ])
    },
  },
  {
    id: 'token-stolen',
    title: "uses a stolen token of the victim's at its own API, and its own at the victim's",
    standards: ['T1528', 'T1550.001'],
    async control({ victim }) {
      return worked(
        await who(victim.as({ token: await victim.token() }), victim),
        'the victim uses the same token',
      )
    },
    async attempt({ attacker, victim }) {
      const stolen = attacker.as({ token: await victim.token() })
      const own = attacker.as({ token: await attacker.token() })
      return allRefused([
        ["the victim's token at the attacker's API", await who(stolen, attacker)],
        ["the attacker's token at the victim's API", await who(own, victim)],
        ['the same for secrets', await own.request(victim.root + secretOf(victim))],
      ])
    },
  },
  {
    id: 'token-review-of-stranger',
    title: "has its own API review a token of the victim's",
    async control({ attacker }) {
      const answer = await review(attacker, await attacker.token())
      if (!/"authenticated":\s*true/.test(answer.body))
        throw new Error(`its own token is not authenticated: ${said(answer)}`)
      return 'its own token is authenticated by the same review'
    },
    async attempt({ attacker, victim }) {
      const answer = await review(attacker, await victim.token())
      return /"authenticated":\s*true/.test(answer.body)
        ? escaped(`the review says: ${answer.body.slice(0, 200)}`)
        : blocked('keys of its own for every tenant', `the review answers ${answer.code}, not authenticated`)
    },
  },
  {
    id: 'token-after-its-account',
    title: 'goes on using a token after its service account was deleted and made again',
    standards: ['T1550.001', 'CIS-K8S-5.1.6'],
    async control({ attacker, mark }) {
      await account(attacker, mark)
      return worked(
        await who(attacker.as({ token: await attacker.token({ account: mark }) }), attacker),
        'the token before that',
      )
    },
    async attempt({ attacker, mark }) {
      const path = `/api/v1/namespaces/default/serviceaccounts/${mark}`
      const api = attacker.as({ token: await attacker.token({ account: mark }) })
      await attacker.must(path, { method: 'DELETE' })
      const gone = await who(api, attacker)
      await attacker.create('/api/v1/namespaces/default/serviceaccounts', {
        apiVersion: 'v1',
        kind: 'ServiceAccount',
        metadata: { name: mark },
      })
      return allRefused([
        ['after the account has gone', gone],
        ['after another of the name has come', await who(api, attacker)],
      ])
    },
  },
  {
    id: 'token-after-its-pod',
    title: 'goes on using a token that is bound to a pod which is gone',
    standards: ['T1528'],
    control: async (context) => {
      await boundPod(context)
      return worked(
        await who(context.attacker.as({ token: await boundToken(context) }), context.attacker),
        'the token while its pod is there',
      )
    },
    async attempt(context) {
      const { attacker, mark } = context
      const api = attacker.as({ token: await boundToken(context) })
      await attacker.must(`/api/v1/namespaces/default/pods/${mark}?gracePeriodSeconds=0`, {
        method: 'DELETE',
      })
      await until(async () => (await attacker.own(`/api/v1/namespaces/default/pods/${mark}`)).code === 404, {
        timeoutMs: 20_000,
        what: 'The end of the pod',
      })
      return allRefused([['after its pod has gone', await who(api, attacker)]])
    },
  },
  {
    id: 'certificate-elsewhere',
    title:
      "presents its client certificate to the victim, with the same user and group names as the victim's",
    standards: ['T1078'],
    always: true,
    async attempt({ attacker, victim }) {
      const twin = attacker.as({
        certificate: await attacker.issue({
          user: 'admin',
          groups: ['bulkhead:tenant-admins', 'system:masters'],
        }),
      })
      return allRefused([
        ['secrets', await twin.request(victim.root + secretOf(victim))],
        ['who', await who(twin, victim)],
        ['the platform', await twin.request('/platform/apis/tenancy.bulkhead.dev/v1alpha1/tenants')],
      ])
    },
  },
  {
    id: 'certificate-self-made',
    title: "presents certificates that it signed itself, with the victim's identity in every field",
    replays:
      'CVE-2021-44532, where the names of a certificate became one string in which a name could hold another, and CVE-2002-0862, where any certificate could sign others',
    async attempt({ attacker, victim, signal }) {
      const answers: [string, ApiAnswer][] = []
      const spiffe = `spiffe://bulkhead/tenant/${victim.name}/uid/${victim.uid}/user/admin`
      const genuine = await attacker.issue({ user: 'admin', groups: ['bulkhead:tenant-admins'] })
      for (const [what, names, chained] of [
        ['the same identity', [spiffe], false],
        ['the same identity, signed with its own genuine certificate', [spiffe], true],
        ['two identities', [spiffe.replace(victim.name, attacker.name), spiffe], true],
        ['line ends in a name', [`${spiffe}\r\nURI:${spiffe}`], false],
        ['no name at all', [], false],
      ] as const) {
        signal.throwIfAborted()
        const api = attacker.as({ certificate: await selfMade(names, genuine, chained) })
        answers.push([what, await api.request(victim.root + secretOf(victim)).catch(ended)])
        answers.push([`${what}, at home`, await api.request(attacker.root + secretOf(attacker)).catch(ended)])
      }
      return allRefused(answers)
    },
  },
  {
    id: 'certificate-of-deleted-tenant',
    title: 'uses the certificate of a tenant that was deleted, after another of its name has come',
    standards: ['T1078'],
    replays: 'names that are given again, with the credentials of those who had them before',
    async attempt(context) {
      const before = await context.scratchTenant('shared')
      const old = context.attacker.as({
        certificate: await before.issue({ user: 'admin', groups: ['bulkhead:tenant-admins'] }),
      })
      const control = await who(old, before)
      if (control.code !== 201) return untried(`the certificate before that: ${said(control)}`)
      await context.deleteTenant(before)
      const gone = await who(old, before)
      const next = await context.scratchTenant('shared', before.name)
      const after = await who(old, next)
      const fresh = await next.own(REVIEW, { method: 'POST', body: WHO })
      if (fresh.code !== 201) return untried(`the new tenant's own certificate: ${said(fresh)}`)
      return allRefused([
        ['after the tenant has gone', gone],
        ['at the next tenant of its name', after],
      ])
    },
  },
  {
    id: 'two-credentials',
    title: 'presents a certificate of its own and a token of the victim at once',
    async attempt({ attacker, victim }) {
      const token = await victim.token()
      const headers = { authorization: `Bearer ${token}` }
      return allRefused([
        ["at the victim's", await attacker.admin.request(victim.root + secretOf(victim), { headers })],
        ['at home', await attacker.admin.request(attacker.root + secretOf(attacker), { headers })],
      ])
    },
  },
  {
    id: 'signing-keys-published',
    title: "looks for private parts of the signing keys in what is published, and asks for the victim's",
    vector: 'secrets',
    async attempt({ attacker, victim }) {
      const own = await attacker.own('/openid/v1/jwks')
      if (own.code !== 200) return untried(`its own public keys: ${said(own)}`)
      const keys = (JSON.parse(own.body) as { keys: Record<string, unknown>[] }).keys
      if (keys.some((key) => 'd' in key || 'k' in key || 'p' in key))
        return escaped('a private part of a signing key is published')
      return allRefused([
        ["the victim's keys", await attacker.admin.request(`${victim.root}/openid/v1/jwks`)],
      ])
    },
  },
])

const ended = (error: unknown): ApiAnswer => ({
  code: 0,
  body: error instanceof Error ? error.message : String(error),
  headers: {},
})

const review = (party: Party, token: string) =>
  party.own('/apis/authentication.k8s.io/v1/tokenreviews', {
    method: 'POST',
    body: { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', metadata: {}, spec: { token } },
  })

/** It never runs, because its image does not exist; a token can be bound to it all the same. */
async function boundPod({ attacker, mark, registry }: AttackContext): Promise<void> {
  await attacker.create('/api/v1/namespaces/default/pods', {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: mark },
    spec: {
      terminationGracePeriodSeconds: 0,
      containers: [
        {
          name: 'main',
          image: `${registry}/there-is-none:1`,
          resources: { limits: { cpu: '10m', memory: '16Mi' } },
        },
      ],
    },
  })
}

async function boundToken({ attacker, mark }: AttackContext): Promise<string> {
  const { metadata } = await attacker.must<{ metadata: { uid: string } }>(
    `/api/v1/namespaces/default/pods/${mark}`,
  )
  return attacker.token({
    spec: { boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name: mark, uid: metadata.uid } },
  })
}

/** A client certificate for `admin` with these URIs as names; `chained`: signed with the key of a genuine one, which is sent along. */
async function selfMade(uris: readonly string[], genuine: Credential, chained: boolean): Promise<Credential> {
  await import('reflect-metadata')
  const x509 = await import('@peculiar/x509')
  const keys = await createKeyPair()
  const issuerKey = createPrivateKey(genuine.key).export({ type: 'pkcs8', format: 'der' })
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
  const certificate = await x509.X509CertificateGenerator.create({
    subject: 'CN=admin, O=bulkhead:tenant-admins',
    issuer: new x509.X509Certificate(genuine.certificate)[chained ? 'subject' : 'issuer'],
    publicKey: keys.publicKey,
    signingKey: chained
      ? await crypto.subtle.importKey('pkcs8', new Uint8Array(issuerKey), algorithm, false, ['sign'])
      : keys.privateKey,
    signingAlgorithm: algorithm,
    serialNumber: '01',
    notBefore: new Date(Date.now() - HOUR_MS),
    notAfter: new Date(Date.now() + HOUR_MS),
    extensions: [
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth]),
      ...(uris.length === 0
        ? []
        : [new x509.SubjectAlternativeNameExtension(uris.map((value) => ({ type: 'url' as const, value })))]),
    ],
  })
  const pem = `${certificate.toString('pem')}\n`
  return {
    certificate: chained ? pem + genuine.certificate : pem,
    key: await renderPrivateKey(keys),
    ca: genuine.ca,
  }
}
