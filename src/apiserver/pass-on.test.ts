import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, get, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import {
  type AddressInfo,
  connect,
  createServer as createTcpServer,
  type Server,
  type Socket,
} from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { SecureContextOptions } from 'node:tls'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { ApiError, podKind, type UserInfo } from '../api/index.ts'
import type { Engine } from '../jail/index.ts'
import { ControlPlane, type Json, TENANT } from '../../tests/conformance/control-plane.ts'
import { type Clock, FakeClock, systemClock, until } from '../stdx/index.ts'
import { PASSED_ON_MAX, POD_ANSWER_MS_MAX } from './limits.ts'
import { parsePlace, redirectBelow } from './pass-on.ts'

const NS = '/api/v1/namespaces/default'
const SLICES = '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices'
const eve: UserInfo = { kind: 'tenantUser', tenant: TENANT, name: 'eve', groups: [] }

/** A control plane whose pods are one server of the test's, and what was asked of the engine. */
async function startWith(
  server: Server,
  clock: Clock = systemClock,
): Promise<AsyncDisposable & { plane: ControlPlane; asked: [jail: string, port: number][] }> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const open = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    open.add(socket)
    socket.on('error', () => {})
  })
  const asked: [string, number][] = []
  const engine = {
    portForward: (jail: string, port: number) => {
      asked.push([jail, port])
      return port === 9
        ? Promise.reject(new Error('connect ECONNREFUSED /run/secret-place'))
        : Promise.resolve(connect((server.address() as AddressInfo).port, '127.0.0.1'))
    },
  } as unknown as Engine
  const plane = await ControlPlane.start({ engine, clock })
  return {
    plane,
    asked,
    async [Symbol.asyncDispose]() {
      await plane[Symbol.asyncDispose]()
      for (const socket of open) socket.destroy()
      server.close()
    },
  }
}

async function createPod(plane: ControlPlane, name: string): Promise<string> {
  const spec = { containers: [{ name: 'c', image: 'x', ports: [{ containerPort: 8080 }] }] }
  const made = await plane.ask('POST', `${NS}/pods`, { body: { metadata: { name }, spec } })
  assert.equal(made.code, 201, made.text)
  const controller = plane.server.client('pod-controller')
  const ref = { namespace: 'default', name }
  const pod = await controller.get(podKind, ref)
  await controller.update(podKind, { ...pod, spec: { ...pod.spec, nodeName: 'bulkhead' } })
  const placed = await controller.get(podKind, ref)
  const status = { ...placed.status, phase: 'Running' as const, podIP: '10.128.0.9' }
  await controller.update(podKind, { ...placed, status }, { subresource: 'status' })
  return pod.metadata.uid
}

async function answerEcho(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = await text(request)
  response.setHeader('set-cookie', 'a=b')
  response.setHeader('location', 'https://elsewhere.example/')
  response.setHeader('access-control-allow-origin', '*')
  response.writeHead(request.method === 'GET' ? 200 : 418, { 'content-type': 'text/x-own' })
  response.end(JSON.stringify({ method: request.method, url: request.url, headers: request.headers, body }))
}
const echo: RequestListener = (request, response) => void answerEcho(request, response)

test('a request goes on to the pod as it is, and its answer comes back, without what is the API’s own', async () => {
  await using pods = await startWith(createServer(echo))
  const { plane, asked } = pods
  const uid = await createPod(plane, 'web')
  const headers = {
    accept: 'text/plain',
    authorization: 'Bearer secret',
    cookie: 'session=1',
    'x-bulkhead-identity': 'e30',
    'if-none-match': '"1"',
  }
  const got = await plane.ask('GET', `${NS}/pods/web/proxy/a//b/..;/%2f?x=1&y`, { headers })
  assert.equal(got.code, 200, got.text)
  assert.equal(got.headers['content-type'], 'text/x-own')
  for (const header of ['set-cookie', 'location', 'access-control-allow-origin'])
    assert.equal(got.headers[header], undefined, header)
  const seen = JSON.parse(got.text) as Json
  assert.equal(seen.url, '/a//b/..;/%2f?x=1&y')
  assert.deepEqual(
    Object.keys(seen.headers)
      .filter((name) => name !== 'user-agent')
      .toSorted(),
    ['accept', 'connection', 'host', 'if-none-match'],
  )
  assert.equal(seen.headers.host, '10.128.0.9:8080')
  for (const method of ['POST', 'PUT', 'PATCH', 'DELETE']) {
    const { code, text: said } = await plane.ask(method, `${NS}/pods/http:web:81/proxy`, {
      raw: 'not json',
      type: 'text/odd',
    })
    assert.equal(code, 418)
    const { body, url, ...rest } = JSON.parse(said) as Json
    assert.deepEqual(
      [rest.method, body, url, rest.headers['content-type']],
      [method, 'not json', '/', 'text/odd'],
    )
  }
  assert.deepEqual(asked, [[uid, 8080], ...Array.from({ length: 4 }, () => [uid, 81])])
})

test('each method takes its own right at proxy, of the name as it is written, and a no says nothing of what is there', async () => {
  await using pods = await startWith(createServer(echo))
  const { plane, asked } = pods
  await createPod(plane, 'web')
  const rbac = '/apis/rbac.authorization.k8s.io/v1/namespaces/default'
  const roles = [
    { verbs: ['get'], apiGroups: [''], resources: ['pods/proxy'], resourceNames: ['web'] },
    { verbs: ['*'], apiGroups: [''], resources: ['pods', 'services', 'pods/portforward'] },
  ]
  await plane.ask('POST', `${rbac}/roles`, { body: { metadata: { name: 'r' }, rules: roles } })
  await plane.ask('POST', `${rbac}/rolebindings`, {
    body: {
      metadata: { name: 'b' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'r' },
      subjects: [{ kind: 'User', name: 'eve' }],
    },
  })
  assert.equal((await plane.ask('GET', `${NS}/pods/web/proxy/`, { user: eve })).code, 200)
  asked.length = 0
  for (const [method, path] of [
    ['POST', 'pods/web/proxy/'],
    ['GET', 'pods/web:80/proxy/'],
    ['GET', 'pods/http:web:/proxy/'],
    ['GET', 'services/web/proxy/'],
  ] as const)
    assert.equal((await plane.ask(method, `${NS}/${path}`, { user: eve })).code, 403, `${method} ${path}`)
  const [real, invented] = await Promise.all(
    ['web', 'wob'].map((name) => plane.ask('POST', `${NS}/pods/${name}/proxy/`, { user: eve })),
  )
  assert.equal(real?.text.replaceAll('web', 'wob'), invented?.text)
  assert.deepEqual(asked, [])
})

test('a service leads to one of its ready pods, by name or number of its port, and never to an address', async () => {
  await using pods = await startWith(createServer(echo))
  const { plane, asked } = pods
  const [ready] = [await createPod(plane, 'ready'), await createPod(plane, 'waiting')]
  const service = (name: string) => ({
    metadata: { name },
    spec: {
      ports: [
        { name: 'web', port: 80, targetPort: 8080 },
        { name: 'other', port: 81 },
      ],
    },
  })
  const slice = (name: string, endpoints: Json[]) => ({
    metadata: { name, labels: { 'kubernetes.io/service-name': name } },
    addressType: 'IPv4',
    ports: [{ name: 'web', port: 8080 }],
    endpoints,
  })
  const endpoint = (pod: string, isReady: boolean) => ({
    addresses: ['10.128.0.9'],
    conditions: { ready: isReady },
    targetRef: { kind: 'Pod', name: pod, namespace: 'default' },
  })
  const bare = { addresses: ['10.128.0.9'], conditions: { ready: true } }
  const elsewhere = { ...bare, targetRef: { kind: 'Pod', name: 'dns', namespace: 'kube-system' } }
  for (const [name, endpoints] of [
    ['web', [endpoint('ready', true), endpoint('waiting', false)]],
    ['bare', [bare, elsewhere, { ...bare, targetRef: { kind: 'Node', name: 'ready' } }]],
    ['none', []],
  ] as const) {
    assert.equal((await plane.ask('POST', `${NS}/services`, { body: service(name) })).code, 201)
    const made = await plane.ask('POST', SLICES, { body: slice(name, [...endpoints]) })
    assert.equal(made.code, 201, made.text)
  }
  for (const place of ['web:web', 'web:80', 'http:web:80', ':web:web'])
    assert.equal((await plane.ask('GET', `${NS}/services/${place}/proxy/`)).code, 200, place)
  assert.deepEqual(
    asked,
    Array.from({ length: 4 }, () => [ready, 8080]),
  )
  const codes: Record<string, number> = {
    'web:81': 503,
    'web:8080': 503,
    web: 503,
    'none:80': 503,
    'bare:80': 403,
    'missing:80': 404,
    'ftp:web:80': 400,
    'a:b:c:d': 400,
  }
  for (const [place, code] of Object.entries(codes)) {
    const answer = await plane.ask('GET', `${NS}/services/${place}/proxy/`)
    assert.deepEqual([answer.code, answer.body.kind], [code, 'Status'], place)
  }
  assert.equal(asked.length, 4)
})

test('an answer that goes on ends when the right to it is taken away, and a pod that says nothing is not waited for', async () => {
  const clock = new FakeClock()
  let heard = 0
  const server = createServer((request, response) => {
    heard++
    if (request.url === '/begins') response.write('first')
  })
  await using pods = await startWith(server, clock)
  const { plane } = pods
  await createPod(plane, 'web')
  const arrived = once(server, 'request')
  const silent = plane.ask('GET', `${NS}/pods/web/proxy/silent`)
  await arrived
  clock.advance(POD_ANSWER_MS_MAX)
  assert.equal((await silent).code, 503)

  // As many as there may be, and one more; when the pods have been given up, there is room again.
  const many = Array.from({ length: PASSED_ON_MAX + 1 }, () =>
    plane.ask('GET', `${NS}/pods/web/proxy/silent`),
  )
  assert.equal((await Promise.race(many)).code, 429)
  const waiting = Promise.all(many)
  await until(() => heard === PASSED_ON_MAX + 1)
  clock.advance(POD_ANSWER_MS_MAX)
  const codes = (await waiting).map(({ code }) => code)
  assert.deepEqual(codes.toSorted(), [429, ...Array.from({ length: PASSED_ON_MAX }, () => 503)])

  const rbac = '/apis/rbac.authorization.k8s.io/v1/namespaces/default'
  const rules = [{ verbs: ['get'], apiGroups: [''], resources: ['pods/proxy'] }]
  await plane.ask('POST', `${rbac}/roles`, { body: { metadata: { name: 'r' }, rules } })
  await plane.ask('POST', `${rbac}/rolebindings`, {
    body: {
      metadata: { name: 'b' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'r' },
      subjects: [{ kind: 'User', name: 'eve' }],
    },
  })
  const headers = { 'x-test-user': JSON.stringify(eve) }
  const answer = await new Promise<IncomingMessage>((resolve) =>
    get({ host: '127.0.0.1', port: plane.port, path: `${NS}/pods/web/proxy/begins`, headers }, resolve),
  )
  await once(answer, 'data')
  const over = Promise.withResolvers<string>()
  answer.once('error', () => over.resolve('broken off'))
  answer.once('end', () => over.resolve('whole'))
  await plane.ask('DELETE', `${rbac}/rolebindings/b`)
  clock.advance(10_000)
  assert.equal(await over.promise, 'broken off')
})

test('a policy of the tenant judges what is passed on, before the pod is looked up', async () => {
  await using pods = await startWith(createServer(echo))
  const { plane, asked } = pods
  await createPod(plane, 'web')
  const policies = '/apis/admissionregistration.k8s.io/v1'
  const rule = { apiGroups: [''], apiVersions: ['v1'], operations: ['CONNECT'], resources: ['pods/proxy'] }
  await plane.ask('POST', `${policies}/validatingadmissionpolicies`, {
    body: {
      metadata: { name: 'p' },
      spec: {
        matchConstraints: { resourceRules: [rule] },
        validations: [{ expression: "object.path.startsWith('/open')" }],
      },
    },
  })
  await plane.ask('POST', `${policies}/validatingadmissionpolicybindings`, {
    body: { metadata: { name: 'p' }, spec: { policyName: 'p', validationActions: ['Deny'] } },
  })
  for (const name of ['web', 'missing'])
    assert.equal((await plane.ask('GET', `${NS}/pods/${name}/proxy/closed`)).code, 422, name)
  assert.deepEqual(asked, [])
  assert.equal((await plane.ask('GET', `${NS}/pods/web/proxy/open`)).code, 200)
})

test('whatever a pod answers, the API goes on: what is no HTTP is a refusal that tells nothing of ours', async () => {
  let answer = Buffer.alloc(0)
  const server = createTcpServer((socket) => {
    socket.once('data', () => socket.end(answer))
  })
  await using pods = await startWith(server)
  const { plane } = pods
  await createPod(plane, 'web')
  const ask = (port = 80) => plane.ask('GET', `${NS}/pods/web:${port}/proxy/`)
  const refused = [
    '',
    'SSH-2.0-x\r\n',
    'HTTP/1.1 200 OK\r\nx: ' + 'y'.repeat(100_000) + '\r\n\r\n',
    'HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n',
    'HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab',
    'HTTP/1.1 99 No\r\n\r\n',
    'HTTP/1.1 700 No\r\ncontent-length: 0\r\n\r\n',
    'HTTP/1.1 200 OK\r\ncontent-type: a\nb\r\n\r\n',
  ]
  for (const bytes of refused) {
    answer = Buffer.from(bytes)
    const { code, body } = await ask()
    assert.deepEqual([code, body.reason], [503, 'ServiceUnavailable'], bytes.slice(0, 60))
  }
  const { code, body } = await ask(9)
  assert.equal(code, 503)
  assert.doesNotMatch(body.message, /secret-place|ECONN/)
  // Half an answer must not look like a whole one.
  answer = Buffer.from('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc')
  await assert.rejects(ask())
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), fc.boolean(), async (bytes, begins) => {
      answer = Buffer.concat([Buffer.from(begins ? 'HTTP/1.1 200 OK\r\n' : ''), bytes])
      const outcome = await ask().then(
        ({ code }) => code,
        () => 0,
      )
      // 0: broken off in the middle.
      assert.ok(outcome === 0 || (outcome >= 200 && outcome < 600), String(outcome))
    }),
    { numRuns: 40 },
  )
  assert.equal((await plane.ask('GET', '/version')).code, 200)
})

test('a pod is asked over TLS, whatever its certificate, when the scheme is https', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'bulkhead-tls-'))
  try {
    const [key, cert] = [join(dir, 'key'), join(dir, 'cert')]
    const subject = ['-subj', '/CN=pod', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1']
    execFileSync('openssl', ['req', '-x509', '-nodes', '-keyout', key, '-out', cert, ...subject], {
      stdio: 'ignore',
    })
    const server = createSecureServer({ key: readFileSync(key), cert: readFileSync(cert) }, echo)
    await using pods = await startWith(server)
    const { plane } = pods
    await createPod(plane, 'web')
    assert.equal((await plane.ask('GET', `${NS}/pods/https:web:443/proxy/x`)).body.url, '/x')
    assert.equal((await plane.ask('GET', `${NS}/pods/web:443/proxy/x`)).code, 503)
  } finally {
    rmSync(dir, { recursive: true })
  }
})

test('a tenant cannot end the process of others with an address in its pod’s status that is no header', async () => {
  const clock = new FakeClock()
  const server = createServer(echo)
  await using pods = await startWith(server, clock)
  const { plane } = pods
  await createPod(plane, 'web')
  const arrived: Socket[] = []
  server.on('connection', (socket: Socket) => arrived.push(socket))
  const lost: unknown[] = []
  const onLost = (error: unknown) => lost.push(error)
  process.on('unhandledRejection', onLost)
  try {
    for (const podIP of ['10.128.0.9\r\nx: y', '中']) {
      await plane.ask('PATCH', `${NS}/pods/web/status`, {
        raw: JSON.stringify({ status: { podIP } }),
        type: 'application/merge-patch+json',
      })
      assert.equal((await plane.ask('GET', `${NS}/pods/web/proxy/`)).code, 503)
      // Nothing of it stays.
      await until(() => arrived.every(({ destroyed }) => destroyed))
      clock.advance(POD_ANSWER_MS_MAX)
    }
    await new Promise(setImmediate)
    assert.deepEqual(lost, [])
  } finally {
    process.off('unhandledRejection', onLost)
  }
})

test('a pod cannot keep the process of others busy with answers before the answer, or with crumbs of one', async () => {
  let head = ''
  let piece = ''
  const server = createTcpServer((socket) => {
    const flood = () => {
      while (!socket.destroyed && socket.write(piece));
    }
    socket.once('data', () => {
      socket.write(head)
      flood()
    })
    socket.on('drain', flood)
  })
  // Time stands still: not a deadline ends it.
  await using pods = await startWith(server, new FakeClock())
  const { plane } = pods
  await createPod(plane, 'web')
  const ask = () => plane.ask('GET', `${NS}/pods/web/proxy/`)
  piece = 'HTTP/1.1 103 Early Hints\r\n\r\n'.repeat(1_000)
  assert.equal((await ask()).code, 503)
  head = 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n'
  piece = '1\r\na\r\n'.repeat(1_000)
  await assert.rejects(ask())
})

test('a pod cannot choose a group or a chain of certificates that take the process of others long to calculate with', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'bulkhead-tls-'))
  try {
    const [keyFile, certFile] = [join(dir, 'key'), join(dir, 'cert')]
    const subject = ['-subj', '/CN=pod', '-newkey', 'rsa:2048']
    execFileSync('openssl', ['req', '-x509', '-nodes', '-keyout', keyFile, '-out', certFile, ...subject], {
      stdio: 'ignore',
    })
    const [key, cert] = [readFileSync(keyFile, 'utf8'), readFileSync(certFile, 'utf8')]
    const attacks: [code: number, SecureContextOptions][] = [
      [200, { cert: cert.repeat(4) }],
      [503, { cert: cert.repeat(40) }],
      [200, { cert, maxVersion: 'TLSv1.2' }],
      [503, { cert, maxVersion: 'TLSv1.2', ciphers: 'DHE-RSA-AES128-GCM-SHA256', dhparam: 'auto' }],
    ]
    for (const [expected, options] of attacks) {
      await using pods = await startWith(createSecureServer({ key, ...options }, echo))
      const { plane } = pods
      await createPod(plane, 'web')
      const { code } = await plane.ask('GET', `${NS}/pods/https:web:443/proxy/x`)
      assert.equal(code, expected, Object.keys(options).join())
    }
  } finally {
    rmSync(dir, { recursive: true })
  }
})

test('whatever a pod says instead of TLS, and wherever it breaks off, is a refusal', async () => {
  let said = Buffer.alloc(0)
  let breaksOff = (_socket: Socket) => {}
  const server = createTcpServer((socket) => {
    socket.once('data', () => socket.write(said, () => breaksOff(socket)))
  })
  await using pods = await startWith(server)
  const { plane } = pods
  await createPod(plane, 'web')
  const ends = [(socket: Socket) => socket.resetAndDestroy(), (socket: Socket) => socket.end()]
  // A record of a handshake, an alert, or what is none of both.
  const openings = [[22, 3, 3, 0, 200, 2, 0, 0, 196], [21, 3, 3, 0, 2], []]
  await fc.assert(
    fc.asyncProperty(
      fc.uint8Array({ maxLength: 300 }),
      fc.constantFrom(...openings),
      fc.constantFrom(...ends),
      async (bytes, opening, end) => {
        said = Buffer.concat([Buffer.from(opening), bytes])
        breaksOff = end
        assert.equal((await plane.ask('GET', `${NS}/pods/https:web:443/proxy/`)).code, 503)
      },
    ),
    { numRuns: 60 },
  )
})

test('HEAD and OPTIONS go on to the pod, and elsewhere there is neither', async () => {
  const server = createServer((request, response) => {
    response.setHeader('allow', 'x')
    response.setHeader('content-length', 5)
    response.setHeader('content-type', `text/${request.method?.toLowerCase()}`)
    response.end('five!')
  })
  await using pods = await startWith(server)
  const { plane } = pods
  await createPod(plane, 'web')
  const head = await plane.ask('HEAD', `${NS}/pods/web/proxy/`)
  assert.deepEqual([head.code, head.text, head.headers['content-type']], [200, '', 'text/head'])
  assert.equal(head.headers['content-length'], '5')
  const options = await plane.ask('OPTIONS', `${NS}/pods/web/proxy/a`)
  assert.deepEqual(
    [options.code, options.text, options.headers['content-type']],
    [200, 'five!', 'text/options'],
  )
  assert.equal(options.headers['allow'], undefined)
  for (const method of ['HEAD', 'OPTIONS'])
    for (const path of [`${NS}/pods/web`, `${NS}/pods`, `${NS}/pods/web/log`, `${NS}/pods/web/proxyx`])
      assert.equal((await plane.ask(method, path)).code, 405, `${method} ${path}`)

  // Reading is enough for HEAD; for OPTIONS there is no verb but all of them.
  const rbac = '/apis/rbac.authorization.k8s.io/v1/namespaces/default'
  const role = (verbs: string[]) => ({
    metadata: { name: 'r' },
    rules: [{ verbs, apiGroups: [''], resources: ['pods/proxy'] }],
  })
  const codes = () =>
    Promise.all(
      ['HEAD', 'OPTIONS'].map(
        async (method) => (await plane.ask(method, `${NS}/pods/web/proxy/`, { user: eve })).code,
      ),
    )
  await plane.ask('POST', `${rbac}/rolebindings`, {
    body: {
      metadata: { name: 'b' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'r' },
      subjects: [{ kind: 'User', name: 'eve' }],
    },
  })
  assert.deepEqual(await codes(), [403, 403])
  const every = ['get', 'create', 'update', 'patch', 'delete', 'list', 'watch', 'deletecollection']
  for (const [verbs, expected] of [
    [['get'], [200, 403]],
    [every, [200, 403]],
    [['*'], [200, 200]],
  ] as const) {
    await plane.ask('DELETE', `${rbac}/roles/r`)
    await plane.ask('POST', `${rbac}/roles`, { body: role([...verbs]) })
    assert.deepEqual(await codes(), expected, verbs.join())
  }
})

test('a pod sends readers to other paths of its own, and to nobody else', async () => {
  let location = ''
  const server = createServer((_request, response) => {
    response.writeHead(302, { location })
    response.end()
  })
  await using pods = await startWith(server)
  const { plane } = pods
  await createPod(plane, 'web')
  const sent = async (path: string, to: string) => {
    location = to
    const answer = await plane.ask('POST', `${NS}/pods/web/proxy${path}`)
    assert.equal(answer.code, 302)
    return answer.headers['location']
  }
  assert.equal(await sent('/a/b', '/login?next=%2Fa#x'), '../login?next=%2Fa#x')
  assert.equal(await sent('/a/b', 'c'), '../a/c')
  assert.equal(await sent('/a/b/', '../../../../c'), '../../c')
  assert.equal(await sent('/a', 'http://10.128.0.9:8080/c'), './c')
  assert.equal(await sent('/a', '//10.128.0.9:8080/c'), './c')
  assert.equal(await sent('', '/c'), './proxy/c')
  assert.equal(await sent('/a', '/https://evil.example'), './https://evil.example')
  for (const elsewhere of [
    'https://evil.example/',
    '//evil.example/',
    '/\\evil.example',
    'http://10.128.0.9/',
    'https://10.128.0.9:8080/',
    'http://10.128.0.9:8080@evil.example/',
    'http://a:b@10.128.0.9:8080/',
    'javascript:alert(1)',
    'http://[',
    `/${'a'.repeat(5_000)}`,
  ]) {
    const shown = await sent('/a', elsewhere)
    assert.ok(shown === undefined || shown === './evil.example', elsewhere)
  }
  const root = await plane.ask('GET', `${NS}/pods/web/proxy?a=b`)
  assert.deepEqual([root.code, root.headers['location']], [301, './proxy/?a=b'])
  assert.equal((await plane.ask('GET', `${NS}/pods/none/proxy`)).code, 404)
})

test('wherever a pod sends readers, they stay below its proxy', () => {
  const piece = fc.constantFrom(
    '/',
    '//',
    '..',
    '.',
    'a',
    ':',
    '%2e',
    '?',
    '#',
    '@',
    '\\',
    'http:',
    '10.0.0.1:80',
    'é',
    ' ',
  )
  const place = fc.array(fc.constantFrom('a', 'b;c', '..;'), { maxLength: 3 })
  const root = '/api/v1/namespaces/n/pods/web/proxy'
  fc.assert(
    fc.property(place, fc.array(piece, { maxLength: 8 }), (parts, pieces) => {
      const path = parts.map((part) => `/${part}`).join('')
      const shown = redirectBelow(path, `http://10.0.0.1:80${path || '/'}`, pieces.join(''))
      if (shown === undefined) return
      const { origin, pathname } = new URL(shown, `https://gateway/tenants/red${root}${path}`)
      assert.equal(origin, 'https://gateway')
      assert.ok(pathname.startsWith(`/tenants/red${root}/`), pathname)
      assert.match(shown, /^[!-~]+$/)
    }),
    { numRuns: 3_000 },
  )
  assert.equal(redirectBelow('/a', 'http://a b:80/a', '/c'), undefined)
})

test('a place is a name with what belongs to it, or a refusal', () => {
  assert.deepEqual(parsePlace('web'), { scheme: 'http', name: 'web', port: '' })
  assert.deepEqual(parsePlace('https:web:'), { scheme: 'https', name: 'web', port: '' })
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(fc.constantFrom('http', 'https', 'a', '80', '')).map((parts) => parts.join(':')),
      ),
      (place) => {
        try {
          const { scheme, name, port } = parsePlace(place)
          assert.ok(name !== '' && !name.includes(':') && !port.includes(':') && /^https?$/.test(scheme))
        } catch (error) {
          assert.ok(error instanceof ApiError && error.code === 400)
        }
      },
    ),
  )
})
