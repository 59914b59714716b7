import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createPublicKey, type JsonWebKey, verify as verifySignature } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { API_SERVICE, DAEMON_USERS, paths } from '../../src/api/index.ts'
import { until } from '../../src/stdx/index.ts'
import { gvisorMissing } from '../testkit/machine.ts'
import { pod, service } from '../testkit/manifests.ts'
import { vectorsOf, verify } from '../testkit/proof.ts'
import { TestPlatform } from '../testkit/platform.ts'
import { type Registry, startPythonRegistry } from '../testkit/registry.ts'

/** Attacks on, and through, the door by which pods reach their tenant's API, tried from inside pods. */

const skip = gvisorMissing
const execute = promisify(execFile)
/** One on the machine's kernel, one on gVisor's; pink shares red's process of control planes. */
const TENANTS = ['red', 'pink', 'blue'] as const
type Tenant = (typeof TENANTS)[number]
const ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount'

let platform: TestPlatform
let registry: Registry

const client = (name: string, spec: Record<string, unknown> = {}) =>
  pod({
    name,
    image: `${registry.host}/python:1`,
    script: 'trap exit TERM; sleep 3600 & wait',
    spec,
  })

const mayReadSecrets = (account: string) => ({
  apiVersion: 'rbac.authorization.k8s.io/v1',
  kind: 'ClusterRoleBinding',
  metadata: { name: account },
  roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'edit' },
  subjects: [{ kind: 'ServiceAccount', name: account, namespace: 'default' }],
})

before(async () => {
  if (skip !== false) return
  registry = await startPythonRegistry()
  platform = await TestPlatform.start({
    instance: 'icg',
    slot: 31,
    tenants: TENANTS.map((name) => ({
      name,
      trust: name === 'blue' ? 'untrusted' : 'trusted',
      registries: [registry.host],
    })),
  })
  await Promise.all(
    TENANTS.map(async (tenant) => {
      await platform.apply(tenant, [
        { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'operator' } },
        mayReadSecrets('operator'),
        client('operator', { serviceAccountName: 'operator' }),
      ])
      await platform.mustKubectl(tenant, 'wait', '--for=condition=Ready', 'pod/operator', '--timeout=120s')
    }),
  )
})

after(async () => {
  if (skip !== false) return
  await platform?.[Symbol.asyncDispose]()
  await registry?.[Symbol.asyncDispose]()
})

type Answer = { code: number; body: string; tookMs?: number } | { error: string }
type Question = { path?: string; token?: string | null; host?: string; headers?: Record<string, string> }

/** Asks as a program in a pod would, checking who answers by the certificate authority that the pod was given. */
const ASK = `
import http.client, json, ssl, sys
def ask(path='/api/v1/secrets', token='own', host='kubernetes.default.svc', headers={}):
    try:
        account = '${ACCOUNT}/'
        context = ssl.create_default_context(cafile=account + 'ca.crt')
        connection = http.client.HTTPSConnection(host, ${API_SERVICE.port}, timeout=10, context=context)
        if token == 'own': token = open(account + 'token').read()
        sent = dict(headers)
        if token is not None: sent['Authorization'] = 'Bearer ' + token
        connection.request('GET', path, headers=sent)
        answer = connection.getresponse()
        return {'code': answer.status, 'body': answer.read().decode()}
    except Exception as error:
        return {'error': type(error).__name__ + ': ' + str(error)}
`

async function python<T>(tenant: Tenant, name: string, script: string): Promise<T> {
  const ran = await platform.runKubectl(tenant, ['exec', '-i', name, '--', 'python3', '-'], { input: script })
  assert.equal(
    ran.code,
    0,
    `a program in a pod of ${tenant} ended with ${ran.code}: ${ran.stderr}${ran.stdout}`,
  )
  return JSON.parse(ran.stdout) as T
}

/** The questions of one program, one after the other. */
function ask(tenant: Tenant, name: string, questions: readonly Question[]): Promise<Answer[]> {
  const given = JSON.stringify(JSON.stringify(questions))
  return python(tenant, name, `${ASK}\nprint(json.dumps([ask(**q) for q in json.loads(${given})]))`)
}

const codes = (answers: readonly Answer[]) =>
  answers.map((answer) => ('code' in answer ? answer.code : answer.error))
const tokenOf = async (tenant: Tenant, name: string) =>
  (await platform.mustKubectl(tenant, 'exec', name, '--', 'cat', `${ACCOUNT}/token`)).trim()

test('each tenant reaches its own API under every name and sees its own objects only', { skip }, async () => {
  for (const tenant of TENANTS) {
    await platform.mustKubectl(tenant, 'create', 'secret', 'generic', `treasure-of-${tenant}`)
    const answers = await ask(tenant, 'operator', [
      { host: 'kubernetes' },
      { host: 'kubernetes.default' },
      { host: 'kubernetes.default.svc' },
      { host: 'kubernetes.default.svc.cluster.local' },
      { host: API_SERVICE.clusterIP },
    ])
    for (const answer of answers) {
      assert.ok('code' in answer && answer.code === 200, JSON.stringify(answer))
      for (const other of TENANTS)
        assert.equal(
          answer.body.includes(`treasure-of-${other}`),
          other === tenant,
          `${tenant} sees ${other}`,
        )
    }
  }
})

describe("a token stolen from another tenant's pod", { skip }, () => {
  for (const [thief, victim] of [
    ['blue', 'red'],
    ['red', 'blue'],
    ['pink', 'red'],
  ] as const) {
    test(`opens nothing for ${thief} of ${victim}'s, and shows not even that it is genuine`, async () => {
      const token = await tokenOf(victim, 'operator')
      const [head, claims] = token.split('.')
      const forged = `${head}.${claims}.${'A'.repeat(86)}`
      const answers = await ask(thief, 'operator', [
        { token },
        { token: forged },
        { token: 'nonsense' },
        { token: null },
        { token, path: `/tenants/${victim}/api/v1/secrets` },
        { token, headers: { 'x-bulkhead-identity': 'e30', host: `${victim}.example` } },
      ])
      assert.deepEqual(codes(answers), [401, 401, 401, 401, 401, 401])
      assert.equal(new Set(answers.map((answer) => 'body' in answer && answer.body)).size, 1)
    })
  }

  test('is still needed when the platform takes the pod for one of its victim', async () => {
    // The first of the two layers is taken away: from now on the gateway believes that blue's addresses are red's.
    const file = paths.tenantOfIndex(platform.layout, indexOf('blue'))
    assert.equal(readFileSync(file, 'utf8'), 'blue')
    writeFileSync(file, 'red')
    try {
      const answers = await ask('blue', 'operator', [{}, { token: null }, { token: 'nonsense' }])
      assert.deepEqual(codes(answers), [401, 401, 401])
    } finally {
      writeFileSync(file, 'blue')
    }
    assert.deepEqual(codes(await ask('blue', 'operator', [{}])), [200])
  })
})

/** As the node agent has told the gateways. */
function indexOf(tenant: Tenant): number {
  for (let index = 0; index < 16; index++) {
    try {
      if (readFileSync(paths.tenantOfIndex(platform.layout, index), 'utf8') === tenant) return index
    } catch {
      // Nobody has this index.
    }
  }
  throw new Error(`No addresses are those of "${tenant}"`)
}

test('paths out of the control plane lead to its own answers, and to nobody else', { skip }, async () => {
  const answers = await ask('blue', 'operator', [
    { path: '/tenants/red/api/v1/secrets' },
    { path: '/platform/apis/tenancy.bulkhead.dev/v1alpha1/tenants' },
    { path: '//tenants/red/api' },
    { path: '/api/v1/../../tenants/red/api' },
    { path: '/api/v1/namespaces/%2e%2e/secrets' },
  ])
  assert.ok(
    codes(answers).every((code) => [400, 403, 404].includes(Number(code))),
    JSON.stringify(answers),
  )
})

test('a token ends with its pod, and with its service account', { skip }, async () => {
  for (const tenant of ['red', 'blue'] as const) {
    await platform.apply(tenant, [
      { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'shortlived' } },
      mayReadSecrets('shortlived'),
      client('first', { serviceAccountName: 'shortlived' }),
      client('second', { serviceAccountName: 'shortlived' }),
    ])
    await platform.mustKubectl(
      tenant,
      'wait',
      '--for=condition=Ready',
      'pod/first',
      'pod/second',
      '--timeout=120s',
    )
    const [first, second] = [await tokenOf(tenant, 'first'), await tokenOf(tenant, 'second')]
    const questions = [{ token: first }, { token: second }]
    assert.deepEqual(codes(await ask(tenant, 'operator', questions)), [200, 200])
    await platform.mustKubectl(tenant, 'delete', 'pod', 'first')
    assert.deepEqual(codes(await ask(tenant, 'operator', questions)), [401, 200])
    await platform.mustKubectl(tenant, 'delete', 'serviceaccount', 'shortlived')
    // Another of the same name is another account.
    await platform.mustKubectl(tenant, 'create', 'serviceaccount', 'shortlived')
    assert.deepEqual(codes(await ask(tenant, 'operator', questions)), [401, 401])
    await platform.mustKubectl(tenant, 'delete', 'pod', 'second')
  }
})

test('a pod that is to have no token has none, and is nobody', { skip }, async () => {
  await platform.apply('red', [client('mute', { automountServiceAccountToken: false })])
  await platform.mustKubectl('red', 'wait', '--for=condition=Ready', 'pod/mute', '--timeout=120s')
  const listed = await platform.kubectl('red', 'exec', 'mute', '--', 'ls', '/var/run/secrets')
  assert.notEqual(listed.code, 0, listed.stdout)
  const unchecked = `
import http.client, json, ssl
connection = http.client.HTTPSConnection('kubernetes.default.svc', 443, timeout=10, context=ssl._create_unverified_context())
connection.request('GET', '/api/v1/secrets')
print(json.dumps(connection.getresponse().status))`
  assert.equal(await python('red', 'mute', unchecked), 401)
})

test(
  'who issues a token, and with which keys, a pod finds at the issuer that the token names, and it fits its own tenant’s only',
  { skip },
  async () => {
    const part = (token: string, index: number) => Buffer.from(token.split('.')[index] ?? '', 'base64url')
    const issued = await Promise.all(
      (['red', 'blue'] as const).map(async (tenant) => {
        const token = await tokenOf(tenant, 'operator')
        const { iss } = JSON.parse(part(token, 1).toString()) as { iss: string }
        const at = async (url: string) => {
          const { protocol, host, pathname } = new URL(url)
          assert.equal(protocol, 'https:')
          const [answer] = await ask(tenant, 'operator', [{ host, path: pathname }])
          assert.ok(answer && 'code' in answer && answer.code === 200, JSON.stringify(answer))
          return answer.body
        }
        const configuration = await at(`${iss}/.well-known/openid-configuration`)
        const { issuer, jwks_uri } = JSON.parse(configuration) as { issuer: string; jwks_uri: string }
        assert.equal(issuer, iss)
        const keys = await at(jwks_uri)
        const { alg, kid } = JSON.parse(part(token, 0).toString()) as { alg: string; kid: string }
        assert.equal(alg, 'ES256')
        const found = (JSON.parse(keys) as { keys: (JsonWebKey & { kid: string })[] }).keys.find(
          (key) => key.kid === kid,
        )
        assert.ok(found, 'the key of the token is among those that are published')
        return { token, key: createPublicKey({ key: found, format: 'jwk' }) }
      }),
    )
    for (const [own, { token }] of issued.entries())
      for (const [index, { key }] of issued.entries()) {
        const signed = Buffer.from(token.slice(0, token.lastIndexOf('.')))
        const fits = verifySignature('sha256', signed, { key, dsaEncoding: 'ieee-p1363' }, part(token, 2))
        assert.equal(fits, own === index)
      }
  },
)

test('a tenant cannot put its own pod in the place of its API', { skip }, async () => {
  const taken = await platform.runKubectl('red', ['apply', '-f', '-'], {
    input: JSON.stringify(service('thief', 'thief', 443, { clusterIP: API_SERVICE.clusterIP })),
  })
  assert.match(taken.stderr, /provided IP is already allocated/)
  const [{ podIP = '', uid = '' } = {}] = [
    await platform.getJson<{ status: { podIP: string }; metadata: { uid: string } }>(
      'red',
      'pod',
      'operator',
    ),
  ].map(({ status, metadata }) => ({ podIP: status.podIP, uid: metadata.uid }))
  await platform.apply('red', [
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: 'thief', labels: { 'kubernetes.io/service-name': API_SERVICE.name } },
      addressType: 'IPv4',
      ports: [{ name: 'https', port: 8443, protocol: 'TCP' }],
      endpoints: [
        { addresses: [podIP], targetRef: { kind: 'Pod', name: 'operator', namespace: 'default', uid } },
      ],
    },
  ])
  await platform.mustKubectl(
    'red',
    'patch',
    'service',
    API_SERVICE.name,
    '-p',
    '{"spec":{"selector":{"a":"b"}}}',
  )
  const restored = async () => {
    const ran = await platform.kubectl('red', 'get', 'service', API_SERVICE.name, '-o', 'json')
    if (ran.code !== 0) return false
    const { spec } = JSON.parse(ran.stdout) as { spec: Record<string, unknown> }
    return spec['selector'] === undefined && spec['clusterIP'] === API_SERVICE.clusterIP
  }
  await until(restored, { timeoutMs: 20_000, what: 'The service of the API without a selector' })
  await platform.mustKubectl('red', 'delete', 'service', API_SERVICE.name)
  await until(restored, { timeoutMs: 20_000, what: 'The service of the API again' })
  assert.deepEqual(codes(await ask('red', 'operator', [{}, { host: API_SERVICE.clusterIP }])), [200, 200])
})

test(
  'pods that hold all the connections they get take nothing from other tenants or from people',
  { skip },
  async () => {
    for (const attacker of ['red', 'blue'] as const) {
      const flood = `
import json, socket, time
open_sockets = []
for n in range(600):
    try:
        s = socket.create_connection(('${API_SERVICE.clusterIP}', 443), timeout=2)
        open_sockets.append(s)
    except Exception: pass
time.sleep(1)
alive = 0
for s in open_sockets:
    s.setblocking(False)
    try:
        if s.recv(1) != b'': alive += 1
    except BlockingIOError: alive += 1
    except OSError: pass
print(json.dumps(alive), flush=True)
time.sleep(6)`
      const counted = Promise.withResolvers<number>()
      const flooding = platform.runKubectl(attacker, ['exec', '-i', 'operator', '--', 'python3', '-'], {
        input: flood,
        onOutput: (text) => counted.resolve(Number(text)),
      })
      const held = await Promise.race([counted.promise, flooding.then(({ stderr }) => assert.fail(stderr))])
      assert.ok(held > 0 && held <= 128, `${held} connections of one pod are open`)
      for (const other of TENANTS.filter((tenant) => tenant !== attacker))
        assert.deepEqual(codes(await ask(other, 'operator', [{}, {}, {}])), [200, 200, 200])
      await platform.mustKubectl(attacker, 'get', 'pods')
      // Its connections end with it, and not before.
      await flooding
    }
  },
)

test("a tenant's own NetworkPolicy keeps a pod from its API like from any address", { skip }, async () => {
  const policy = (egress: object[]) => ({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name: 'egress' },
    spec: { podSelector: { matchLabels: { isolated: 'egress' } }, policyTypes: ['Egress'], egress },
  })
  const unchecked = `
import http.client, json, ssl
connection = http.client.HTTPSConnection('${API_SERVICE.clusterIP}', 443, timeout=3, context=ssl._create_unverified_context())
try:
    connection.request('GET', '/api')
    print(json.dumps(connection.getresponse().status))
except OSError as error: print(json.dumps('no way'))`
  for (const tenant of ['red', 'blue'] as const) {
    await platform.apply(tenant, [policy([])])
    const isolated = client('isolated')
    isolated.metadata['labels'] = { isolated: 'egress' }
    await platform.apply(tenant, [isolated])
    await platform.mustKubectl(tenant, 'wait', '--for=condition=Ready', 'pod/isolated', '--timeout=120s')
    assert.equal(await python(tenant, 'isolated', unchecked), 'no way')
    assert.deepEqual(codes(await ask(tenant, 'operator', [{}])), [200], 'a pod that no policy selects')
    const api = [{ to: [{ ipBlock: { cidr: '169.254.1.1/32' } }], ports: [{ port: 6443 }] }]
    await platform.apply(tenant, [policy(api)])
    await until(async () => (await python(tenant, 'isolated', unchecked)) === 401, {
      timeoutMs: 30_000,
      what: 'An answer of the API to a pod that may ask it',
    })
    await platform.mustKubectl(tenant, 'delete', 'pod/isolated', 'networkpolicy/egress')
  }
})

test('requests without end from pods meet a limit that is not the one of people', { skip }, async () => {
  const flood = `${ASK}
import threading
account = '${ACCOUNT}/'
token = open(account + 'token').read()
seen = {}
def run():
    context = ssl.create_default_context(cafile=account + 'ca.crt')
    connection = http.client.HTTPSConnection('kubernetes.default.svc', 443, timeout=20, context=context)
    for n in range(60):
        connection.request('GET', '/api/v1/namespaces/default', headers={'Authorization': 'Bearer ' + token})
        answer = connection.getresponse(); answer.read()
        seen[answer.status] = seen.get(answer.status, 0) + 1
threads = [threading.Thread(target=run) for n in range(10)]
[t.start() for t in threads]; [t.join() for t in threads]
print(json.dumps(seen))`
  const flooding = python<Record<string, number>>('red', 'operator', flood)
  await platform.mustKubectl('red', 'get', 'pods')
  assert.deepEqual(codes(await ask('pink', 'operator', [{}])), [200])
  const seen = await flooding
  assert.ok((seen['200'] ?? 0) > 0 && (seen['429'] ?? 0) > 0, JSON.stringify(seen))
})

test(
  'whoever takes over the gateway cannot call into pods, nor become an administrator',
  { skip },
  async () => {
    const { layout } = platform
    const users = readFileSync('/etc/passwd', 'utf8').split('\n')
    const idOf = (name: string, field: number) =>
      users.find((line) => line.startsWith(`${name}:`))?.split(':')[field]
    const as = [`--reuid=${idOf(DAEMON_USERS.podGateway, 2)}`, `--regid=${idOf(DAEMON_USERS.gateway, 3)}`]
    const { status } = await platform.getJson<{ status: { podIP: string } }>('red', 'pod', 'operator')
    const script = `const socket = require('node:net').connect({ host: '${status.podIP}', port: 80 })
    const say = (text) => { console.log(text); process.exit(0) }
    socket.on('connect', () => say('connected')).on('error', ({ code }) => say(code))
    setTimeout(() => say('silence'), 2000)`
    const call = await execute('nsenter', [
      `--net=${paths.routerNetns(layout)}`,
      'setpriv',
      ...as,
      '--clear-groups',
      process.execPath,
      '-e',
      script,
    ])
    // Refused would mean that the pod was asked.
    assert.match(call.stdout, /^(?:silence|EPERM)$/m)
    const report = await verify(platform)
    assert.equal(report.ok, true, JSON.stringify(report.findings))
    const evidence = vectorsOf(report)
      .flatMap(({ layers }) => layers.flatMap((layer) => layer.evidence))
      .join('\n')
    assert.match(evidence, /the pods' gateway, as a user of red: 401/)
  },
)

test('a listener that is not ours in the namespace of the router is told of', { skip }, async () => {
  const script = `require('node:net').createServer().listen(4444, '169.254.1.1', () => console.log('listening'))`
  const child = execFile('nsenter', [
    `--net=${paths.routerNetns(platform.layout)}`,
    process.execPath,
    '-e',
    script,
  ])
  try {
    await new Promise((resolve) => child.stdout?.once('data', resolve))
    const { code, stdout } = await platform.cli('verify', '-o', 'json')
    assert.equal(code, 1)
    const { findings } = JSON.parse(stdout) as { findings: string[] }
    assert.deepEqual(findings, [
      "a process of uid 0 has tcp 169.254.1.1:4444 open in the router's namespace, where pods can reach it",
    ])
  } finally {
    child.kill('SIGKILL')
  }
})

test('killed, the gateway comes back, and nobody else is taken for it in between', { skip }, async () => {
  const pid = platform.daemons().get('pod-gateway')?.pid
  assert.ok(pid)
  process.kill(pid, 'SIGKILL')
  await until(async () => codes(await ask('red', 'operator', [{}]))[0] === 200, {
    timeoutMs: 30_000,
    everyMs: 200,
    what: 'An answer of the API in a pod',
  })
  assert.notEqual(platform.daemons().get('pod-gateway')?.pid, pid)
  assert.deepEqual(codes(await ask('blue', 'operator', [{}])), [200])
})
