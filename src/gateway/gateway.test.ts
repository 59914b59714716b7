import assert from 'node:assert/strict'
import { createHash, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import type { Duplex } from 'node:stream'
import { after, before, beforeEach, describe, test } from 'node:test'
import { parseTenantName, type TenantName } from '../api/index.ts'
import {
  createAuthority,
  createTokenKey,
  issueServerCertificate,
  audienceOf,
  TokenIssuer,
} from '../identity/index.ts'
import { until } from '../stdx/index.ts'
import { JWKS_FRESH_MS, JWKS_RETRY_MS, JWKS_STALE_MS, LINK_IDLE_MS_MAX } from './limits.ts'
import { type Answered, askHttp2, type Credentials, FakeControlPlane, Harbour } from './testdata/harbour.ts'

const red = parseTenantName('red')
const blue = parseTenantName('blue')

let harbour: Harbour
let alice: Credentials
let bob: Credentials
let olga: Credentials
let builder: Credentials

before(async () => {
  harbour = await Harbour.start({ bodyBytesMax: 100_000 })
  alice = await harbour.certificate(red)
  bob = await harbour.certificate(blue, { user: 'bob' })
  olga = await harbour.certificate(undefined, { user: 'olga', groups: [] })
  builder = { token: await harbour.token(harbour.red) }
})
after(() => harbour[Symbol.asyncDispose]())
beforeEach(() => {
  for (const plane of [harbour.red, harbour.blue, harbour.platform]) {
    plane.seen.length = 0
    plane.handler = undefined
    plane.upgradeHandler = undefined
  }
  harbour.audit.lines.length = 0
})

const ALICE = { kind: 'tenantUser', tenant: 'red', name: 'alice', groups: ['dev'] }
const credentialIdOf = ({ cert = '' }: Credentials) =>
  `X509SHA256=${createHash('sha256').update(new X509Certificate(cert).raw).digest('hex')}`

type Ask = Harbour['h1']
const versions: [string, Ask][] = [
  ['HTTP/1.1', (...args) => harbour.h1(...args)],
  ['HTTP/2', (...args) => harbour.h2(...args)],
]

/** All that a client can compare, but for the time of day. */
function bytesOf({ code, headers, body }: Answered): string {
  return JSON.stringify([code, { ...headers, date: undefined }, body])
}

function nothingPassed(): void {
  assert.deepEqual(
    [harbour.red, harbour.blue, harbour.platform].flatMap((plane) =>
      plane.seen.map((seen) => `${plane.tenant} ${seen.url}`),
    ),
    [],
  )
}

for (const [version, ask] of versions)
  describe(`over ${version}`, () => {
    test("a tenant's user reaches its own control plane as who the certificate says", async () => {
      const { code, body } = await ask('/tenants/red/api/v1/pods?limit=5', alice)
      assert.deepEqual([code, body], [200, '{"tenant":"red","url":"/api/v1/pods?limit=5"}'])
      assert.deepEqual(harbour.red.seen[0]?.user, {
        kind: 'tenantUser',
        tenant: 'red',
        name: 'alice',
        groups: ['dev'],
        credentialId: credentialIdOf(alice),
      })
      await ask('/tenants/red', alice)
      await ask('/tenants/red?x', alice)
      assert.deepEqual(
        harbour.red.seen.slice(1).map((seen) => seen.url),
        ['/', '/?x'],
      )
    })

    test('a service account reaches the control plane that made its token', async () => {
      const { code } = await ask('/tenants/red/api', builder)
      assert.equal(code, 200)
      const [seen] = harbour.red.seen
      assert.deepEqual(
        { ...seen?.user, tokenId: '' },
        {
          kind: 'serviceAccount',
          tenant: 'red',
          namespace: 'default',
          name: 'builder',
          uid: 'uid',
          tokenId: '',
        },
      )
      assert.equal(seen?.headers.authorization, undefined)
    })

    test("an operator reaches the platform's control plane and no tenant's", async () => {
      assert.equal((await ask('/platform/apis', olga)).body, '{"tenant":"platform","url":"/apis"}')
      assert.equal((await ask('/tenants/red/api', olga)).code, 403)
      assert.equal(harbour.red.seen.length, 0)
    })

    test('a path that names no tenant is for the one of the credential, and recorded so', async () => {
      for (const path of ['/api/v1/pods?limit=5', '/openapi/v2', '/version', '/healthz?verbose', '/'])
        for (const [credentials, tenant] of [
          [alice, 'red'],
          [builder, 'red'],
          [bob, 'blue'],
        ] as const)
          assert.equal((await ask(path, credentials)).body, JSON.stringify({ tenant, url: path }))
      assert.deepEqual(
        harbour.audit.events.map(({ tenant, path, code }) => [tenant, path, code]).slice(0, 3),
        ['red', 'red', 'blue'].map((tenant) => [tenant, '/api/v1/pods', 200]),
      )
    })

    test('an operator names whom a path is for, and a stranger gets what strangers get', async () => {
      const refused = bytesOf(await ask('/tenants/invented/api', olga))
      for (const path of ['/api/v1/pods', '/version', '/'])
        assert.equal(bytesOf(await ask(path, olga)), refused)
      const stranger = bytesOf(await ask('/tenants/red/api'))
      for (const path of ['/api/v1/pods', '/version', '/']) assert.equal(bytesOf(await ask(path)), stranger)
      nothingPassed()
    })

    test('a body arrives as it was sent', async () => {
      const body = 'é'.repeat(20_000)
      for (const method of ['POST', 'PUT', 'PATCH', 'DELETE'])
        await ask('/tenants/red/api', alice, { method, body })
      assert.deepEqual(
        harbour.red.seen.map((seen) => [seen.method, seen.body === body]),
        ['POST', 'PUT', 'PATCH', 'DELETE'].map((method) => [method, true]),
      )
    })

    test('HEAD and DELETE without a body arrive without one', async () => {
      assert.deepEqual((await ask('/tenants/red/api', alice, { method: 'HEAD' })).body, '')
      await ask('/tenants/red/api', alice, { method: 'DELETE' })
      assert.deepEqual(
        harbour.red.seen.map((seen) => [seen.method, seen.headers['transfer-encoding'], seen.body]),
        [
          ['HEAD', undefined, ''],
          ['DELETE', undefined, ''],
        ],
      )
    })

    test('health is answered to anybody, and says nothing', async () => {
      for (const path of ['/healthz', '/readyz', '/livez']) {
        const { code, body } = await ask(path)
        assert.deepEqual([code, body], [200, 'ok'])
      }
      assert.equal((await ask('/healthz/x')).code, 401)
    })

    describe('an attack on tenancy', () => {
      test("a tenant cannot tell another tenant's name from an invented one", async () => {
        const answers = new Set<string>()
        for (const path of [
          '/tenants/blue',
          '/tenants/blue/api/v1/secrets',
          '/tenants/invented/api/v1/secrets',
          '/tenants/platform/api',
          '/platform/api',
          '/tenants/BLUE/api',
          '/metrics',
        ])
          answers.add(bytesOf(await ask(path, alice)))
        assert.equal(answers.size, 1)
        assert.match([...answers][0]!, /^\[403,/)
        const tokens = new Set<string>()
        for (const path of ['/tenants/blue/api', '/tenants/invented/api'])
          tokens.add(bytesOf(await ask(path, builder)))
        assert.deepEqual(tokens, answers)
        nothingPassed()
      })

      test('whoever is nobody gets the same bytes for everything', async () => {
        const answers = new Set<string>()
        for (const path of [
          '/',
          '/tenants/red/api',
          '/tenants/invented/api',
          '/platform',
          '/../..',
          '/tenants/red/..%2f',
        ])
          for (const credentials of [{}, { token: 'x' }, { token: 'a.b.c' }])
            answers.add(bytesOf(await ask(path, credentials)))
        assert.equal(answers.size, 1)
        assert.match([...answers][0]!, /^\[401,/)
        nothingPassed()
      })

      for (const path of [
        '/tenants/red/../blue/api',
        '/tenants/red/%2e%2e/blue/api',
        '/tenants/red/%2E./blue/api',
        '/tenants/red/..%2fblue/api',
        '/tenants/red/..%5cblue/api',
        '/tenants/red/..\\blue/api',
        '/tenants/red\\..\\blue/api',
        '/tenants/red/./api',
        '/tenants/red//api',
        '/tenants/red/api//v1',
        '/tenants/red/api%00',
        '/tenants/red/api%0d%0ax-bulkhead-identity:x',
        '/tenants/red/api%252e%252e',
        '/tenants/red/api%zz',
        '/tenants/red/api?a#b',
        '//tenants/red/api',
        '/./tenants/red/api',
        '/x/../tenants/red/api',
        '/tenants//red/api',
        '/tenants/%72ed/api',
        '/tenants/red%2fapi',
        '/tenants/red%00/api',
        '/tenants/red;x=/api',
        '/tenants/red.blue/api',
        '/tenants/RED/api',
        '/TENANTS/red/api',
        '/tenants/r\u00e9d/api',
        '/%74enants/red/api',
        '/platform/../tenants/red/api',
        'tenants/red/api',
        '/api/../tenants/blue/api',
        '/api/%2e%2e/tenants/blue/api',
        '/api%2fv1',
        '/api//v1',
        '/api/v1/..',
        '/api/v1/namespaces/a%2f..%2fb/pods',
        '/./api',
        '//api/v1',
        'https://localhost/api/v1',
        'https://localhost/tenants/red/api',
        'http://169.254.169.254/',
        '*',
      ])
        test(`the path ${path} reaches nobody`, async () => {
          let code: number
          try {
            ;({ code } = await ask(path, alice))
          } catch {
            // The client library or the parser would not have it at all.
            code = 400
          }
          assert.ok([400, 403].includes(code), `${code}`)
          nothingPassed()
        })
    })

    describe('an attack with headers', () => {
      test('an identity, forwarding or hop-by-hop header of a client does not get through', async () => {
        const forged = Buffer.from(
          JSON.stringify({ kind: 'operator', name: 'mallory', groups: [] }),
        ).toString('base64url')
        await ask('/tenants/red/api', alice, {
          headers: {
            'x-bulkhead-identity': forged,
            'X-Bulkhead-Identity': forged,
            'x-bulkhead-request-id': 'mine',
            'x-bulkhead-anything': 'x',
            'x-remote-user': 'system:admin',
            'x-remote-group': 'system:masters',
            'x-remote-extra-scopes': 'x',
            'x-forwarded-for': '10.0.0.1',
            'x-forwarded-host': 'x',
            forwarded: 'for=x',
            'x-real-ip': '10.0.0.1',
            'x-original-url': '/tenants/blue/api',
            'x-rewrite-url': '/tenants/blue/api',
            'x-http-method-override': 'DELETE',
            cookie: 'a=b',
            'proxy-authorization': 'Basic x',
            ...(version === 'HTTP/2' ? {} : { te: 'trailers', 'keep-alive': 'x', 'proxy-connection': 'x' }),
            accept: 'application/json',
            'user-agent': 'kubectl/v1.34',
          },
        })
        const [seen] = harbour.red.seen
        assert.deepEqual(seen?.user, { ...ALICE, credentialId: credentialIdOf(alice) })
        assert.deepEqual(Object.keys(seen?.headers ?? {}).sort(), [
          'accept',
          'user-agent',
          'x-bulkhead-identity',
          'x-bulkhead-request-id',
        ])
        assert.notEqual(seen?.headers['x-bulkhead-request-id'], 'mine')
      })

      test('impersonation is refused with a reason', async () => {
        for (const name of [
          'impersonate-user',
          'Impersonate-Group',
          'impersonate-uid',
          'impersonate-extra-x',
        ]) {
          const { code, body } = await ask('/tenants/red/api', alice, { headers: { [name]: 'system:admin' } })
          assert.equal(code, 403)
          assert.match(body, /Impersonation is not offered/)
        }
        nothingPassed()
      })

      test('a command of many words passes, as exec puts it into the request line', async () => {
        assert.equal((await ask(`/tenants/red/api?command=${'a'.repeat(20_000)}`, alice)).code, 200)
      })

      test('huge and very many headers are refused', async () => {
        for (const headers of [
          { accept: 'x'.repeat(40_000) },
          Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`x-${i}`, 'x'])),
        ]) {
          const outcome = await ask('/tenants/red/api', alice, { headers }).then(
            ({ code }) => code,
            () => 431,
          )
          assert.equal(outcome, 431)
        }
        nothingPassed()
      })

      test('a method that Kubernetes does not have is refused', async () => {
        for (const method of ['OPTIONS', 'TRACE', 'PROPFIND'])
          assert.equal((await ask('/tenants/red/api', alice, { method })).code, 405)
        for (const method of ['TRACE', 'PROPFIND'])
          assert.equal(
            (await ask('/tenants/red/api/v1/namespaces/n/pods/web/proxy/', alice, { method })).code,
            405,
          )
        nothingPassed()
      })
    })

    describe('an attack on authentication', () => {
      test('a certificate of another authority is nobody', async () => {
        const authority = await createAuthority({ name: 'clients', nowMs: harbour.clock.nowMs() })
        const { code, body } = await ask('/tenants/red/api', await harbour.certificate(red, { authority }))
        assert.deepEqual([code, body], [401, (await ask('/')).body])
        nothingPassed()
      })

      test('an expired or future certificate is nobody', async () => {
        const nowMs = harbour.clock.nowMs()
        const expired = await harbour.certificate(red, { nowMs: nowMs - 7_200_000 })
        assert.equal((await ask('/tenants/red/api', expired)).code, 401)
        const future = await harbour.certificate(red, { nowMs: nowMs + 7_200_000 })
        assert.equal((await ask('/tenants/red/api', future)).code, 401)
        nothingPassed()
      })

      test('a server certificate, even one of the right authority, is nobody', async () => {
        const { certificatePem, privateKeyPem } = await issueServerCertificate({
          authority: harbour.clientCa,
          dnsNames: ['alice'],
          nowMs: harbour.clock.nowMs(),
        })
        assert.equal((await ask('/tenants/red/api', { cert: certificatePem, key: privateKeyPem })).code, 401)
        nothingPassed()
      })

      test('the authority itself, self-signed, is nobody', async () => {
        const { certificatePem, privateKeyPem } = harbour.clientCa
        assert.equal((await ask('/tenants/red/api', { cert: certificatePem, key: privateKeyPem })).code, 401)
        nothingPassed()
      })

      test('a bad certificate is not made good by a token, and two good credentials are one too many', async () => {
        const authority = await createAuthority({ name: 'clients', nowMs: harbour.clock.nowMs() })
        const bad = await harbour.certificate(red, { authority })
        assert.equal((await ask('/tenants/red/api', { ...bad, ...builder })).code, 401)
        assert.equal((await ask('/tenants/red/api', { ...alice, ...builder })).code, 401)
        assert.equal((await ask('/tenants/red/api', { ...bob, ...builder })).code, 401)
        nothingPassed()
      })

      test('a token of another tenant, an expired one, or one for another audience is nobody', async () => {
        const { token: blueToken } = { token: await harbour.token(harbour.blue) }
        assert.equal((await ask('/tenants/red/api', { token: blueToken })).code, 403)
        const expired = await harbour.token(harbour.red, { nowMs: harbour.clock.nowMs() - 7_200_000 })
        const future = await harbour.token(harbour.red, { nowMs: harbour.clock.nowMs() + 7_200_000 })
        const foreign = await harbour.token(harbour.red, { audiences: ['vault', audienceOf(blue)] })
        for (const token of [expired, future, foreign])
          assert.equal((await ask('/tenants/red/api', { token })).code, 401)
        nothingPassed()
      })

      test("a token that one tenant signs in another's name is nobody", async () => {
        const key = await createTokenKey()
        // Blue's own control plane may be hostile: it publishes a key, and signs for red with the same one.
        const before = harbour.blue.issuer
        harbour.blue.issuer = await TokenIssuer.open({ tenant: blue, keys: [key] })
        const forger = await TokenIssuer.open({ tenant: red, keys: [key] })
        const { token } = await forger.issue({
          account: { namespace: 'default', name: 'builder', uid: 'uid' },
          nowMs: harbour.clock.nowMs(),
        })
        for (const path of ['/tenants/red/api', '/tenants/blue/api'])
          assert.equal((await ask(path, { token })).code, 401)
        harbour.blue.issuer = before
        nothingPassed()
      })

      test('a token without signature, or signed with the public key as a secret, is nobody', async () => {
        const { createHmac } = await import('node:crypto')
        const [, payload] = builder.token!.split('.')
        const { kid } = harbour.red.issuer!.jwks().keys[0]!
        const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
        const none = `${part({ alg: 'none', kid })}.${payload}.`
        const signed = `${part({ alg: 'HS256', kid })}.${payload}`
        const secret = JSON.stringify(harbour.red.issuer!.jwks().keys[0])
        const hmac = `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`
        for (const token of [none, hmac]) assert.equal((await ask('/tenants/red/api', { token })).code, 401)
        nothingPassed()
      })

      test('another scheme, an odd header or two tokens are nobody', async () => {
        const bearer = `Bearer ${builder.token}`
        for (const authorization of [
          'Basic YTpi',
          'Bearer',
          'Bearer ',
          `${bearer}, ${bearer}`,
          `${bearer} x`,
          `Token ${builder.token}`,
          `Bearer ${'a'.repeat(9_000)}`,
        ])
          assert.equal(
            (await ask('/tenants/red/api', {}, { headers: { authorization } })).code,
            401,
            authorization.slice(0, 20),
          )
        nothingPassed()
      })
    })

    describe('a link to a control plane', () => {
      const carry = async (path: string, ...users: Credentials[]) => {
        const links: Duplex[] = []
        for (const plane of [harbour.red, harbour.blue])
          plane.handler = (_request, response, socket) => {
            links.push(socket)
            response.end('{}')
          }
        for (const user of users) assert.equal((await ask(path, user)).code, 200)
        return links
      }

      test("is shared by a tenant's users, and by nobody else", async () => {
        const users = [alice, await harbour.certificate(red, { user: 'carol' }), builder]
        const links = await carry('/api', ...users, bob, ...users, bob)
        const [first, , , blues] = links
        assert.deepEqual(
          links.map((link) => (link === first ? 'red' : link === blues ? 'blue' : 'another')),
          ['red', 'red', 'red', 'blue', 'red', 'red', 'red', 'blue'],
        )
        assert.notEqual(first, blues)
      })

      test('is closed soon when nobody asks, and made again when somebody does', async () => {
        const [link] = await carry('/api', alice)
        harbour.clock.advance(LINK_IDLE_MS_MAX)
        await until(() => link?.destroyed === true)
        const [next] = await carry('/api', alice)
        assert.notEqual(next, link)
      })

      test('outlives an answer that was broken off', async () => {
        const links: Duplex[] = []
        harbour.red.handler = (_request, response, socket) => {
          links.push(socket)
          response.writeHead(200, { 'content-length': '100' })
          response.write('half')
          setImmediate(() => response.destroy())
        }
        await assert.rejects(async () => assert.equal((await ask('/tenants/red/api', alice)).body, ''))
        links.push(...(await carry('/tenants/red/api', alice)))
        assert.equal(links[0], links[1])
      })
    })

    describe('a control plane', () => {
      test('that is down is told as 503 with a time to come back', async () => {
        const tenant = parseTenantName('down')
        const { code, headers, body } = await ask('/tenants/down/api', await harbour.certificate(tenant))
        assert.deepEqual(
          [code, headers['retry-after'], (JSON.parse(body) as { reason: string }).reason],
          [503, '1', 'ServiceUnavailable'],
        )
      })

      test('that hangs up in the middle does not look finished', async () => {
        harbour.red.handler = (_request, response) => {
          response.writeHead(200, { 'content-length': '100' })
          response.write('half')
          setImmediate(() => response.destroy())
        }
        const outcome = await ask('/tenants/red/api', alice).then(
          ({ body, code }) => `finished ${code} ${body}`,
          () => 'broken off',
        )
        assert.equal(outcome, 'broken off')
      })

      test('cannot set cookies or policies for the others', async () => {
        harbour.red.handler = (_request, response) => {
          response.setHeader('warning', ['299 - "a"', '299 - "b"'])
          response.writeHead(200, {
            'set-cookie': 'a=b',
            'content-security-policy': 'default-src *',
            'strict-transport-security': 'max-age=0',
            'access-control-allow-origin': '*',
            location: 'https://attacker.example',
            'x-bulkhead-identity': 'x',
            connection: 'close',
            'content-type': 'text/html',
            'audit-id': 'mine',
          })
          response.end('<script>')
        }
        const { headers } = await ask('/tenants/red/api', alice)
        for (const name of [
          'set-cookie',
          'strict-transport-security',
          'access-control-allow-origin',
          'location',
          'x-bulkhead-identity',
        ])
          assert.equal(headers[name], undefined, name)
        assert.equal(headers['content-security-policy'], "default-src 'none'; sandbox")
        assert.notEqual(headers['audit-id'], 'mine')
        assert.match(String(headers['warning']), /"a".*"b"/)
      })

      test('sends readers nowhere but to other paths of the pod that they asked', async () => {
        let location: string | string[] = ''
        harbour.red.handler = (_request, response) => {
          response.setHeader('location', location)
          response.writeHead(302)
          response.end()
        }
        const sent = async (path: string, to: string | string[]) => {
          location = to
          return (await ask(`/tenants/red${path}`, alice)).headers['location']
        }
        const proxy = '/api/v1/namespaces/n/pods/web/proxy'
        assert.equal(await sent(`${proxy}/a/b`, '../c?d'), '../c?d')
        assert.equal(await sent(proxy, './proxy/'), './proxy/')
        for (const to of [
          '../../c',
          '/tenants/blue/',
          'https://evil.example/',
          './\\evil.example',
          ['./a', './b'],
        ])
          assert.equal(await sent(`${proxy}/a/b`, to), undefined, String(to))
        assert.equal(await sent('/api/v1/namespaces/n/pods/web', './proxy/'), undefined)
      })

      test('that answers before it has read the body is heard', async () => {
        harbour.red.handler = (_request, response) => {
          response.writeHead(403, { 'content-type': 'text/plain' })
          response.end('no')
        }
        const { code, body } = await ask('/tenants/red/api', alice, {
          method: 'POST',
          body: 'x'.repeat(50_000),
        })
        assert.deepEqual([code, body], [403, 'no'])
      })
    })

    test('a body without a length that ends in a frame of its own, or with its bytes, arrives', async () => {
      if (version !== 'HTTP/2') return
      const session = harbour.session(alice)
      for (let n = 0; n < 30; n++) {
        const stream = session.request({ ':path': '/tenants/red/api', ':method': 'POST' })
        const answered = once(stream, 'response')
        stream.resume()
        if (n % 3 === 0) stream.end('half')
        else {
          stream.write('half')
          if (n % 3 === 1) await new Promise((resolve) => setImmediate(resolve))
          stream.end()
        }
        const [{ ':status': code }] = (await answered) as [{ ':status': number }]
        assert.equal(code, 200)
      }
      assert.deepEqual(new Set(harbour.red.seen.map(({ body }) => body)), new Set(['half']))
      session.destroy()
    })

    test('a body that its client breaks off never arrives as a whole one', async () => {
      let outcome = ''
      harbour.red.handler = (request) =>
        void request.readBody(1_000).then(
          (body) => (outcome = `whole: ${String(body)}`),
          () => (outcome = 'broken off'),
        )
      const frame = (kind: number, flags: number, payload: Buffer, stream = 1) => {
        const head = Buffer.from([0, 0, payload.length, kind, flags, 0, 0, 0, stream])
        return Buffer.concat([head, payload])
      }
      const text = (value: string) => Buffer.from([value.length, ...Buffer.from(value)])
      const pairs = { ':method': 'POST', ':scheme': 'https', ':path': '/tenants/red/api', ':authority': 'x' }
      const headers = Object.entries(pairs).flatMap(([name, value]) => [
        Buffer.from([0]),
        text(name),
        text(value),
      ])
      const begun =
        version === 'HTTP/2'
          ? Buffer.concat([
              Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
              frame(4, 0, Buffer.alloc(0), 0),
              frame(1, 4, Buffer.concat(headers)),
              frame(0, 0, Buffer.from('half')),
            ])
          : 'POST /tenants/red/api HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n'
      // RFC 9113, 7: NO_ERROR, INTERNAL_ERROR, CANCEL; or the connection just ends.
      for (const code of version === 'HTTP/2' ? [0, 2, 8, undefined] : [undefined]) {
        outcome = ''
        const before = harbour.red.seen.length
        const socket = await harbour.raw(alice, version === 'HTTP/2' ? { ALPNProtocols: ['h2'] } : {})
        socket.resume()
        socket.write(begun)
        await until(() => harbour.red.seen.length > before)
        if (code === undefined) socket.destroy()
        else socket.write(frame(3, 0, Buffer.from([0, 0, 0, code])))
        await until(() => outcome !== '')
        assert.equal(outcome, 'broken off', `${code}`)
        socket.destroy()
      }
    })

    test('a body that is too large is refused, announced or not', async () => {
      const body = 'x'.repeat(100_001)
      const announced = await ask('/tenants/red/api', alice, {
        method: 'POST',
        body,
        headers: { 'content-length': '100001' },
      })
      assert.equal(announced.code, 413)
      nothingPassed()
      if (version === 'HTTP/2') {
        const outcome = await ask('/tenants/red/api', alice, { method: 'POST', body })
        assert.equal(outcome.code, 413)
      } else {
        const outcome = await ask('/tenants/red/api', alice, {
          method: 'POST',
          body,
          headers: { 'transfer-encoding': 'chunked' },
        })
        assert.equal(outcome.code, 413)
      }
      nothingPassed()
    })
  })

describe('a connection', () => {
  test('is refused below TLS 1.3', async () => {
    await assert.rejects(harbour.raw(alice, { maxVersion: 'TLSv1.2' }))
  })

  test('is never resumed, so that a certificate is looked at each time', async () => {
    const socket = await harbour.raw(alice)
    const saved = once(socket, 'session')
    socket.write('GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')
    socket.resume()
    const [session] = (await saved) as [Buffer]
    await once(socket, 'close')
    const again = await harbour.raw({}, { session })
    assert.equal(again.isSessionReused(), false)
    again.destroy()
  })

  test('outlives its certificate, and is nobody from then on', async () => {
    const own = await Harbour.start()
    try {
      const session = own.session(await own.certificate(red, { ttlSeconds: 60 }))
      assert.equal((await askHttp2(session, '/tenants/red/api')).code, 200)
      own.clock.advance(60_000)
      assert.equal((await askHttp2(session, '/tenants/red/api')).code, 401)
      session.destroy()
    } finally {
      await own[Symbol.asyncDispose]()
    }
  })
})

describe('request smuggling', () => {
  const bearer = () => `authorization: Bearer ${builder.token}\r\n`
  const hidden = () => `GET /tenants/red/hidden HTTP/1.1\r\nhost: x\r\n${bearer()}\r\n`

  for (const [attack, head] of Object.entries({
    'Content-Length and Transfer-Encoding': 'content-length: 5\r\ntransfer-encoding: chunked\r\n',
    'Transfer-Encoding and Content-Length': 'transfer-encoding: chunked\r\ncontent-length: 5\r\n',
    'two different lengths': 'content-length: 5\r\ncontent-length: 6\r\n',
    'two equal lengths': 'content-length: 5\r\ncontent-length: 5\r\n',
    'a list of lengths': 'content-length: 5, 5\r\n',
    'a signed length': 'content-length: +5\r\n',
    'a hexadecimal length': 'content-length: 0x5\r\n',
    'a negative length': 'content-length: -5\r\n',
    'a huge length': 'content-length: 99999999999999999999\r\n',
    'an unknown encoding': 'transfer-encoding: xchunked\r\n',
    'an encoding after chunked': 'transfer-encoding: chunked, identity\r\n',
    'an encoding before chunked': 'transfer-encoding: gzip, chunked\r\n',
    'two encodings': 'transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n',
    'a space before the colon': 'transfer-encoding : chunked\r\n',
    'a folded header': 'transfer-encoding:\r\n chunked\r\n',
    'a folded length': 'x: y\r\n content-length: 5\r\n',
    'a bare line feed': 'x: y\ncontent-length: 5\r\n',
    'a bare carriage return': 'x: y\rcontent-length: 5\r\n',
    'a null byte': 'x: a\0b\r\n',
    'a vertical tab before the encoding': 'transfer-encoding: \x0bchunked\r\n',
  }))
    test(`with ${attack} gets nothing through behind the first request`, async () => {
      const text = await harbour.rawAnswer(
        `POST /tenants/red/first HTTP/1.1\r\nhost: x\r\nconnection: close\r\n${bearer()}${head}\r\n0\r\n\r\n${hidden()}`,
      )
      const codes = [...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map((match) => Number(match[1]))
      assert.ok(codes.length <= 1 && codes.every((code) => code >= 400), text.slice(0, 400))
      nothingPassed()
    })

  test('with malformed chunks gets nothing through', async () => {
    for (const chunks of [
      '5;\r\nhello\r\n0\r\n\r\n'.replace('5;', 'G'),
      '-1\r\n',
      '0x5\r\nhello\r\n',
      '5\nhello\n0\n\n',
      '5\r\nhelloXX0\r\n\r\n',
    ]) {
      await harbour.rawAnswer(
        `POST /tenants/red/first HTTP/1.1\r\nhost: x\r\nconnection: close\r\n${bearer()}transfer-encoding: chunked\r\n\r\n${chunks}${hidden()}`,
      )
      assert.deepEqual(
        harbour.red.seen.filter((seen) => seen.url === '/hidden'),
        [],
        chunks,
      )
      assert.deepEqual(
        harbour.red.seen.filter((seen) => seen.body !== ''),
        [],
        chunks,
      )
    }
  })

  test('with a length that HTTP/2 does not keep gets nothing through', async () => {
    for (const length of ['3', '50']) {
      const outcome = await harbour
        .h2('/tenants/red/api', alice, {
          method: 'POST',
          body: `hello${hidden()}`.slice(0, 20),
          headers: { 'content-length': length },
        })
        .then(
          ({ code }) => code,
          () => 0,
        )
      assert.ok(outcome === 0 || outcome >= 400, `${outcome}`)
      assert.deepEqual(
        harbour.red.seen.filter((seen) => seen.url === '/hidden'),
        [],
      )
    }
  })

  test('two requests in one write are two requests, each with its own identity', async () => {
    const text = await harbour.rawAnswer(
      `GET /tenants/red/one HTTP/1.1\r\nhost: x\r\n${bearer()}\r\nGET /tenants/red/two HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`,
    )
    assert.deepEqual(
      [...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map((match) => match[1]),
      ['200', '401'],
    )
    assert.deepEqual(
      harbour.red.seen.map((seen) => seen.url),
      ['/one'],
    )
  })

  test('a header that the connection header lists is left out', async () => {
    await harbour.rawAnswer(
      `GET /tenants/red/api HTTP/1.1\r\nhost: x\r\nconnection: close, Accept ,x-bulkhead-identity\r\naccept: text/html\r\n${bearer()}\r\n`,
    )
    assert.equal(harbour.red.seen[0]?.headers.accept, undefined)
    assert.ok(harbour.red.seen[0]?.user)
  })
})

describe('an upgrade', () => {
  const headOf = (lines: string[]) => `${lines.join('\r\n')}\r\n\r\n`
  const websocket = (...more: string[]) =>
    headOf([
      'GET /tenants/red/api/v1/namespaces/default/pods/p/exec?command=sh HTTP/1.1',
      'host: x',
      'connection: Upgrade',
      'upgrade: websocket',
      'sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==',
      'sec-websocket-version: 13',
      'sec-websocket-protocol: v5.channel.k8s.io',
      'x-bulkhead-identity: forged',
      ...more,
    ])

  function echo(protocol: string) {
    return (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      socket.on('error', () => {})
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: ${protocol}\r\nset-cookie: a=b\r\n` +
          'x-bulkhead-audit-note: noted\r\nwarning: 299 - "careful"\r\n' +
          `sec-websocket-protocol: ${request.headers['sec-websocket-protocol'] ?? ''}\r\n\r\nwelcome`,
      )
      if (head.length > 0) socket.write(head)
      socket.pipe(socket)
    }
  }

  async function reads(socket: Duplex, wanted: RegExp): Promise<string> {
    let text = ''
    socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')))
    await until(() => wanted.test(text) || socket.destroyed, { what: `${wanted}` })
    assert.match(text, wanted)
    return text
  }

  test('to WebSocket becomes one stream of bytes', async () => {
    harbour.red.upgradeHandler = echo('websocket')
    const socket = await harbour.raw(alice)
    socket.write(`${websocket()}early `)
    socket.write('late')
    const text = await reads(socket, /welcome[\s\S]*late/)
    assert.match(text, /^HTTP\/1\.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n/)
    assert.match(text, /sec-websocket-protocol: v5.channel.k8s.io/)
    assert.match(text, /welcomeearly late$/)
    assert.match(text, /warning: 299 - "careful"/)
    assert.doesNotMatch(text, /set-cookie|audit-note/)
    const [seen] = harbour.red.seen
    assert.deepEqual(seen?.user, { ...ALICE, credentialId: credentialIdOf(alice) })
    assert.equal(seen?.headers['sec-websocket-version'], '13')
    socket.destroy()
    await until(() => harbour.audit.events.some((event) => event['stage'] === 'ResponseComplete'))
    assert.deepEqual(
      harbour.audit.events.map((event) => [event['stage'], event['code'], event['path'], event['note']]),
      [
        ['ResponseStarted', 101, '/tenants/red/api/v1/namespaces/default/pods/p/exec', 'noted'],
        ['ResponseComplete', 101, '/tenants/red/api/v1/namespaces/default/pods/p/exec', 'noted'],
      ],
    )
    assert.doesNotMatch(harbour.audit.lines.join(''), /command/)
  })

  test('to SPDY/3.1 with POST and a token works, too, and ends with the other side', async () => {
    harbour.red.upgradeHandler = echo('SPDY/3.1')
    const socket = await harbour.raw()
    socket.write(
      headOf([
        'POST /tenants/red/api/v1/namespaces/default/pods/p/exec HTTP/1.1',
        'host: x',
        'connection: upgrade',
        'upgrade: spdy/3.1',
        'x-stream-protocol-version: v4.channel.k8s.io',
        'x-stream-protocol-version: v3.channel.k8s.io',
        'content-length: 0',
        `authorization: Bearer ${builder.token}`,
      ]),
    )
    await reads(socket, /welcome/)
    assert.match(
      String(harbour.red.seen[0]?.headers['x-stream-protocol-version']),
      /v4.channel.k8s.io, v3.channel.k8s.io/,
    )
    const closed = once(socket, 'close')
    for (const one of harbour.red.sockets) one.destroy()
    await closed
  })

  test('that nobody is authenticated for is 401, in the bytes of any other', async () => {
    const text = await harbour.rawAnswer(websocket())
    assert.match(text, /^HTTP\/1\.1 401 Unauthorized\r\n/)
    assert.ok(text.endsWith((await harbour.h1('/')).body))
    nothingPassed()
  })

  test("to another tenant's control plane is 403", async () => {
    assert.match(await harbour.rawAnswer(websocket(), bob), /^HTTP\/1\.1 403 /)
    nothingPassed()
  })

  for (const [attack, lines] of Object.entries({
    'another protocol': ['GET /tenants/red/api HTTP/1.1', 'host: x', 'connection: Upgrade', 'upgrade: h2c'],
    'two protocols': [
      'GET /tenants/red/api HTTP/1.1',
      'host: x',
      'connection: Upgrade',
      'upgrade: websocket, h2c',
    ],
    'two upgrade headers': [
      'GET /tenants/red/api HTTP/1.1',
      'host: x',
      'connection: Upgrade',
      'upgrade: websocket',
      'upgrade: SPDY/3.1',
    ],
    'WebSocket by POST': [
      'POST /tenants/red/api HTTP/1.1',
      'host: x',
      'connection: Upgrade',
      'upgrade: websocket',
      'content-length: 0',
    ],
    'SPDY by DELETE': [
      'DELETE /tenants/red/api HTTP/1.1',
      'host: x',
      'connection: Upgrade',
      'upgrade: SPDY/3.1',
    ],
    'a body': [
      'POST /tenants/red/api HTTP/1.1',
      'host: x',
      'connection: Upgrade',
      'upgrade: SPDY/3.1',
      'content-length: 5',
    ],
    chunks: [
      'POST /tenants/red/api HTTP/1.1',
      'host: x',
      'connection: Upgrade',
      'upgrade: SPDY/3.1',
      'transfer-encoding: chunked',
    ],
    'a tunnel': ['CONNECT 169.254.169.254:80 HTTP/1.1', 'host: x'],
  }))
    test(`confused by ${attack} is refused and the connection closed`, async () => {
      const text = await harbour.rawAnswer(
        `${headOf(lines)}GET /tenants/red/hidden HTTP/1.1\r\nhost: x\r\n\r\n`,
        alice,
      )
      assert.ok(text === '' || /^HTTP\/1\.1 4\d\d /.test(text), text.slice(0, 200))
      assert.ok([...text.matchAll(/HTTP\/1\.1 /g)].length <= 1)
      nothingPassed()
    })

  test('that the control plane refuses is answered, and the connection is not kept for another request', async () => {
    harbour.red.upgradeHandler = (_request, socket) => {
      socket.end(
        'HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: 2\r\nset-cookie: a=b\r\nx-bulkhead-audit-note: refused\r\n\r\n{}',
      )
    }
    const text = await harbour.rawAnswer(
      `${websocket()}GET /tenants/red/hidden HTTP/1.1\r\nhost: x\r\n\r\n`,
      alice,
    )
    assert.match(text, /^HTTP\/1\.1 403 Forbidden\r\n/)
    assert.match(text, /\{\}$/)
    assert.doesNotMatch(text, /set-cookie|audit-note/)
    assert.equal(harbour.red.seen.length, 1)
    await until(() => harbour.audit.events.some((event) => event['note'] === 'refused'))
  })

  test('that the control plane turns into another protocol is broken off', async () => {
    harbour.red.upgradeHandler = echo('h2c')
    assert.match(await harbour.rawAnswer(websocket(), alice), /^HTTP\/1\.1 503 /)
  })

  test('of a control plane that hangs up is 503', async () => {
    assert.match(await harbour.rawAnswer(websocket(), alice), /^HTTP\/1\.1 503 /)
  })
})

describe('a stream', () => {
  /** Writes one line each time `next` is called, and tells when the gateway has hung up. */
  function watchOf(plane: FakeControlPlane) {
    const hungUp = Promise.withResolvers<void>()
    let write: ((text: string) => void) | undefined
    plane.handler = (_request, response) => {
      response.writeHead(200, { 'content-type': 'application/json' })
      response.flushHeaders()
      write = (text) => void response.write(text)
      response.on('close', () => hungUp.resolve())
    }
    return { hungUp: hungUp.promise, next: (text: string) => write?.(text) }
  }

  test('arrives piece by piece, over HTTP/1.1', async () => {
    const watch = watchOf(harbour.red)
    const { key, cert } = alice as { key: string; cert: string }
    const request = httpsRequest({
      host: '127.0.0.1',
      port: harbour.port,
      ca: harbour.serverCa.certificatePem,
      key,
      cert,
      path: '/tenants/red/api/v1/pods?watch=1',
      agent: false,
    })
    request.end()
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    for (const text of ['one', 'two']) {
      const data = once(response, 'data')
      watch.next(text)
      assert.equal(String((await data)[0]), text)
    }
    response.destroy()
    await watch.hungUp
    const recorded = () =>
      harbour.audit.events.filter((event) => event['path'] === '/tenants/red/api/v1/pods')
    await until(() => recorded().length === 2)
    assert.deepEqual(
      recorded().map((event) => [event['stage'], event['code']]),
      [
        ['ResponseStarted', 200],
        ['ResponseComplete', 200],
      ],
    )
  })

  test('arrives piece by piece, over HTTP/2, and cancelling it reaches the control plane', async () => {
    const watch = watchOf(harbour.red)
    const session = harbour.session(alice)
    const stream = session.request({ ':path': '/tenants/red/api/v1/pods?watch=true' })
    await once(stream, 'response')
    for (const text of ['one', 'two']) {
      const data = once(stream, 'data')
      watch.next(text)
      assert.equal(String((await data)[0]), text)
    }
    stream.close(8)
    await watch.hungUp
    session.destroy()
  })

  test('ends with the certificate it was opened with', async () => {
    const own = await Harbour.start()
    try {
      const watch = watchOf(own.red)
      const session = own.session(await own.certificate(red, { ttlSeconds: 120 }))
      const stream = session.request({ ':path': '/tenants/red/api/v1/pods?watch=true' })
      await once(stream, 'response')
      stream.resume()
      const closed = once(stream, 'close')
      own.clock.advance(120_000)
      await closed
      await watch.hungUp
      session.destroy()
    } finally {
      await own[Symbol.asyncDispose]()
    }
  })

  test('to a client that does not read stops the control plane instead of filling memory', async () => {
    let written = 0
    let drained = false
    harbour.red.handler = (_request, response) => {
      response.writeHead(200)
      const chunk = Buffer.alloc(64 * 1024)
      const more = () => {
        while (written < 512 * 1024 * 1024) {
          written += chunk.length
          if (!response.write(chunk)) break
        }
      }
      response.on('drain', () => {
        drained = true
        more()
      })
      more()
    }
    const socket = await harbour.raw(alice)
    socket.pause()
    socket.write('GET /tenants/red/big HTTP/1.1\r\nhost: x\r\n\r\n')
    let before = -1
    await until(
      () => {
        const still = drained && written === before
        before = written
        return still
      },
      { everyMs: 150 },
    )
    assert.ok(written < 64 * 1024 * 1024, `${written}`)
    socket.destroy()
  })
})

describe('keys of tokens', () => {
  test('are asked for once and not per request, and again for a key that is new', async () => {
    const own = await Harbour.start()
    try {
      const token = await own.token(own.red)
      for (let i = 0; i < 5; i++) assert.equal((await own.h1('/tenants/red/api', { token })).code, 200)
      assert.equal(own.red.keySetsAsked, 1)
      const key = await createTokenKey()
      own.red.issuer = await TokenIssuer.open({ tenant: red, keys: [key] })
      const next = await own.token(own.red)
      // A flood of invented key ids must not become a flood of questions.
      assert.equal((await own.h1('/tenants/red/api', { token: next })).code, 401)
      assert.equal(own.red.keySetsAsked, 1)
      own.clock.advance(JWKS_RETRY_MS)
      assert.equal((await own.h1('/tenants/red/api', { token: next })).code, 200)
      assert.equal((await own.h1('/tenants/red/api', { token })).code, 401)
      assert.equal(own.red.keySetsAsked, 2)
    } finally {
      await own[Symbol.asyncDispose]()
    }
  })

  test('that were withdrawn are forgotten soon, and old ones do not live on because nobody answers', async () => {
    const own = await Harbour.start()
    try {
      const token = await own.token(own.red, { ttlSeconds: 7_200 })
      assert.equal((await own.h1('/tenants/red/api', { token })).code, 200)
      const { issuer } = own.red
      own.red.issuer = undefined
      own.clock.advance(JWKS_FRESH_MS)
      assert.equal((await own.h1('/tenants/red/api', { token })).code, 200)
      own.clock.advance(JWKS_STALE_MS)
      assert.equal((await own.h1('/tenants/red/api', { token })).code, 401)
      own.red.issuer = await TokenIssuer.open({ tenant: red, keys: [await createTokenKey()] })
      own.clock.advance(JWKS_RETRY_MS)
      assert.equal((await own.h1('/tenants/red/api', { token })).code, 401)
      own.red.issuer = issuer
    } finally {
      await own[Symbol.asyncDispose]()
    }
  })

  test('of a control plane that publishes nonsense make nobody anybody', async () => {
    const own = await Harbour.start()
    try {
      const token = await own.token(own.red)
      own.red.issuer = { jwks: () => ({ keys: 'x'.repeat(100_000) }) } as unknown as TokenIssuer
      assert.equal((await own.h1('/tenants/red/api', { token })).code, 401)
    } finally {
      await own[Symbol.asyncDispose]()
    }
  })
})

describe('fair share', () => {
  async function withHarbour(
    limits: Parameters<typeof Harbour.start>[0],
    run: (own: Harbour) => Promise<void>,
  ): Promise<void> {
    const own = await Harbour.start(limits)
    try {
      await run(own)
    } finally {
      await own[Symbol.asyncDispose]()
    }
  }

  test('a tenant that sends too fast is told to wait, and the others notice nothing', async () => {
    await withHarbour({ tenant: { requestsBurst: 3, requestsPerSecond: 1 } }, async (own) => {
      const [redUser, blueUser] = [await own.certificate(red), await own.certificate(blue)]
      const session = own.session(redUser)
      const codes = []
      for (let i = 0; i < 5; i++) codes.push((await askHttp2(session, '/tenants/red/api')).code)
      assert.deepEqual(codes, [200, 200, 200, 429, 429])
      const refused = await askHttp2(session, '/tenants/red/api')
      assert.deepEqual(
        [refused.headers['retry-after'], (JSON.parse(refused.body) as { reason: string }).reason],
        // The tenant has one again after a second, and of that each of its users three quarters.
        ['2', 'TooManyRequests'],
      )
      assert.equal((await own.h1('/tenants/blue/api', blueUser)).code, 200)
      own.clock.advance(2_000)
      assert.equal((await askHttp2(session, '/tenants/red/api')).code, 200)
      session.destroy()
    })
  })

  test('requests and streams at a time are bounded for each tenant apart, and given back', async () => {
    await withHarbour({ tenant: { requestsMax: 2, streamsMax: 1 } }, async (own) => {
      const waiting: (() => void)[] = []
      own.red.handler = (_request, response) => void waiting.push(() => response.end('ok'))
      const session = own.session(await own.certificate(red))
      const first = [1, 2].map(() => askHttp2(session, '/tenants/red/api'))
      await until(() => waiting.length === 2)
      assert.equal((await askHttp2(session, '/tenants/red/api')).code, 429)
      const watch = askHttp2(session, '/tenants/red/api?watch=1')
      await until(() => waiting.length === 3)
      assert.equal((await askHttp2(session, '/tenants/red/api?watch=true')).code, 429)
      assert.equal((await own.h1('/tenants/blue/api', await own.certificate(blue))).code, 200)
      for (const finish of waiting.splice(0)) finish()
      assert.deepEqual(
        (await Promise.all([...first, watch])).map(({ code }) => code),
        [200, 200, 200],
      )
      own.red.handler = undefined
      assert.equal((await askHttp2(session, '/tenants/red/api')).code, 200)
      session.destroy()
    })
  })

  test('connections are bounded for each tenant, and given back', async () => {
    await withHarbour({ tenant: { connectionsMax: 1 } }, async (own) => {
      const redUser = await own.certificate(red)
      const session = own.session(redUser)
      assert.equal((await askHttp2(session, '/tenants/red/api')).code, 200)
      assert.equal((await own.h1('/tenants/red/api', redUser)).code, 429)
      assert.equal((await own.h1('/tenants/blue/api', await own.certificate(blue))).code, 200)
      session.destroy()
      await until(async () => (await own.h1('/tenants/red/api', redUser)).code === 200)
    })
  })

  test('connections are bounded for each address, before anybody is known', async () => {
    await withHarbour({ connectionsPerAddressMax: 2 }, async (own) => {
      const sockets = [await own.raw(), await own.raw()]
      await assert.rejects(own.raw())
      for (const socket of sockets) socket.destroy()
      await until(async () => (await own.h1('/healthz')).code === 200)
    })
  })

  test('a client that never finishes its request is sent away', async () => {
    await withHarbour({ receiveHeadMsMax: 100, receiveMsMax: 200 }, async (own) => {
      const credentials = await own.certificate(red)
      for (const bytes of [
        'GET /tenants/red/api HTTP/1.1\r\nhost: x\r\nx-slow:',
        'POST /tenants/red/api HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc',
      ]) {
        await own.rawAnswer(bytes, credentials)
        assert.equal(own.red.seen.length, 0)
      }
    })
  })

  test('a tenant cannot be given so much that it takes half of everything', () => {
    return assert.rejects(Harbour.start({ tenant: { requestsMax: 2_000 } }))
  })
})

describe('a tenant that is not the one a credential was made for', () => {
  const UIDS = ['00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-00000000000b'] as const

  test('is refused like one that never existed: after its end, and for the next of its name', async () => {
    let present: string | undefined = UIDS[0]
    await using own = await Harbour.start(undefined, (tenant) => (tenant === red ? present : undefined))
    const first = await own.certificate(red, { tenantUid: UIDS[0] })
    const unbound = await own.certificate(red)
    const operator = await own.certificate(undefined)
    const token = { token: await own.token(own.red) }
    const ask = async (credentials: Credentials, tenant = 'red') =>
      bytesOf(await own.h1(`/tenants/${tenant}/api`, credentials))
    const never = await ask(first, 'never-was')
    assert.match(never, /^\[403,/)

    assert.match(await ask(first), /^\[200,/)
    assert.match(await ask(token), /^\[200,/)
    assert.equal(await ask(unbound), never)
    present = undefined
    for (const credentials of [first, unbound, token]) assert.equal(await ask(credentials), never)
    present = UIDS[1]
    for (const credentials of [first, unbound]) assert.equal(await ask(credentials), never)
    assert.match(await ask(await own.certificate(red, { tenantUid: UIDS[1] })), /^\[200,/)
    assert.equal((await own.h1('/platform/api', operator)).code, 200)
    assert.equal(await ask(await own.certificate(blue, { tenantUid: UIDS[1] }), 'blue'), never)
  })
})

describe('the audit log', () => {
  test('has one line for each request, refused ones included, and no credential or query', async () => {
    await harbour.h1('/tenants/red/api?token=hunter2', alice)
    await harbour.h2('/tenants/blue/api', alice)
    await harbour.h1('/tenants/red/api', {}, { headers: { authorization: 'Bearer hunter3.x.y' } })
    await until(() => harbour.audit.lines.length === 3)
    assert.deepEqual(
      harbour.audit.events.map(({ tenant, code, method, path, protocol, sourceAddress }) => [
        tenant,
        code,
        method,
        path,
        protocol,
        sourceAddress,
      ]),
      [
        ['red', 200, 'GET', '/tenants/red/api', 'HTTP/1.1', '127.0.0.1'],
        ['red', 403, 'GET', '/tenants/blue/api', 'HTTP/2', '127.0.0.1'],
        [null, 401, 'GET', '/tenants/red/api', 'HTTP/1.1', '127.0.0.1'],
      ],
    )
    assert.doesNotMatch(harbour.audit.lines.join(''), /hunter/)
    assert.deepEqual(harbour.audit.events[0]?.['user'], {
      kind: 'tenantUser',
      name: 'alice',
      groups: ['dev', 'system:authenticated'],
    })
  })

  test('has what the control plane’s policies note, bounded, and the client does not see it', async () => {
    harbour.red.handler = (_request, response) => {
      response.setHeader('x-bulkhead-audit-note', `"}forged ${'x'.repeat(5_000)}`)
      response.end('{}')
    }
    const { headers } = await harbour.h1('/tenants/red/api', alice)
    assert.equal(headers['x-bulkhead-audit-note'], undefined)
    await until(() => harbour.audit.lines.length >= 1)
    const { note } = harbour.audit.events.at(-1) as { note: string }
    assert.match(note, /^"}forged x+$/)
    assert.equal(note.length, 1_024)
  })

  test('stays one line of ASCII for each request, whatever is in it', async () => {
    const odd = await harbour.certificate(red, { user: 'aé"\\{}漢字', groups: [] })
    await harbour.rawAnswer(
      'GET /tenants/red/a%0A%22%7Bx\xe9\u0085 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n',
      odd,
    )
    await harbour.h1('/tenants/red/api', odd)
    await until(() => harbour.audit.lines.length >= 1)
    for (const line of harbour.audit.lines) assert.match(line, /^[ -~]+\n$/)
    assert.equal((harbour.audit.events.at(-1)!['user'] as { name: string }).name, 'aé"\\{}漢字')
  })

  test('that cannot be kept lets nothing through', async () => {
    harbour.audit.ready = false
    try {
      assert.equal((await harbour.h1('/tenants/red/api', alice)).code, 503)
      assert.equal((await harbour.h2('/readyz')).code, 503)
      nothingPassed()
    } finally {
      harbour.audit.ready = true
    }
  })
})

describe('closing', () => {
  test('lets a request finish, takes no more, and then is gone', async () => {
    const own = await Harbour.start()
    try {
      const finish = Promise.withResolvers<void>()
      own.red.handler = (_request, response) => void finish.promise.then(() => response.end('done'))
      const running = own.h1('/tenants/red/api', await own.certificate(red))
      await until(() => own.red.seen.length === 1)
      const closed = own.gateway.close()
      await assert.rejects(own.h1('/healthz'))
      finish.resolve()
      assert.equal((await running).body, 'done')
      await closed
    } finally {
      await own[Symbol.asyncDispose]()
    }
  })

  test('cuts off what does not end', async () => {
    const own = await Harbour.start()
    try {
      own.red.handler = (_request, response) => response.flushHeaders()
      const session = own.session(await own.certificate(red))
      const stream = session.request({ ':path': '/tenants/red/api?watch=1' })
      await once(stream, 'response')
      const closed = own.gateway.close()
      own.clock.advance(5_000)
      await closed
    } finally {
      await own[Symbol.asyncDispose]()
    }
  })
})

test('a control plane that comes back is used again', async () => {
  const tenant = 'phoenix' as TenantName
  const credentials = await harbour.certificate(tenant)
  const path = `${harbour.directory}/phoenix.sock`
  for (let i = 0; i < 2; i++) {
    assert.equal((await harbour.h1('/tenants/phoenix/api', credentials)).code, 503)
    const plane = await FakeControlPlane.start(tenant, path)
    assert.equal((await harbour.h1('/tenants/phoenix/api', credentials)).code, 200)
    await plane[Symbol.asyncDispose]()
    rmSync(path, { force: true })
  }
})
