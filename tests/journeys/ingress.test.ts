import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { rm, writeFile } from 'node:fs/promises'
import { Agent, request as requestPlain } from 'node:http'
import { connect as connectHttp2 } from 'node:http2'
import { request as requestTls } from 'node:https'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, before, test } from 'node:test'
import { certificateFor } from '../../src/engine/local/door/door.testkit.ts'
import { until } from '../../src/stdx/index.ts'
import { gvisorMissing } from '../testkit/machine.ts'
import { deployment, service } from '../testkit/manifests.ts'
import { TestPlatform } from '../testkit/platform.ts'
import { type Registry, startBusyboxRegistry } from '../testkit/registry.ts'

/** Tenants publish what they run, and the world comes in. */

const skip = gvisorMissing
const SHOP = 'shop.example.com'
const BLUE = 'blue.example.com'
const PORT = 19_075
const UDP_PORT = 19_077
const pair = await certificateFor(SHOP)

let platform: TestPlatform
let registry: Registry

before(async () => {
  if (skip !== false) return
  registry = await startBusyboxRegistry()
  const registries = [registry.host]
  platform = await TestPlatform.start({
    instance: 'igj',
    slot: 75,
    tenants: [
      {
        name: 'red',
        registries,
        ingress: { hosts: [SHOP, '*.red.apps.example.com'], ports: [PORT, `${UDP_PORT}/UDP`] },
      },
      { name: 'blue', trust: 'untrusted', registries, ingress: { hosts: [BLUE] } },
    ],
  })
  await Promise.all([
    platform.apply('red', [...web('red'), ingress('web', [SHOP, '*.red.apps.example.com'])]),
    platform.apply('blue', [...web('blue'), ingress('web', [BLUE])]),
  ])
  for (const tenant of ['red', 'blue'])
    await platform.mustKubectl(tenant, 'rollout', 'status', 'deployment/web', '--timeout=120s')
})

after(async () => {
  await platform?.[Symbol.asyncDispose]()
  await registry?.[Symbol.asyncDispose]()
})

function web(who: string, text_ = who) {
  return [
    deployment({
      name: 'web',
      replicas: 2,
      image: `${registry.host}/busybox:1`,
      script: `mkdir -p /tmp/www && echo ${text_} > /tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www`,
      readinessProbe: { httpGet: { path: '/', port: 8080 }, periodSeconds: 1 },
      lifecycle: { preStop: { exec: { command: ['sleep', '2'] } } },
      spec: { terminationGracePeriodSeconds: 5 },
    }),
    service('web', 'web', 80, { ports: [{ name: 'http', port: 80, targetPort: 8080 }] }),
  ]
}

function ingress(name: string, hosts: readonly string[], spec: object = {}) {
  const backend = { service: { name: 'web', port: { name: 'http' } } }
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'Ingress',
    metadata: { name },
    spec: {
      rules: hosts.map((host) => ({ host, http: { paths: [{ path: '/', pathType: 'Prefix', backend }] } })),
      ...spec,
    },
  }
}

async function get(host: string, path = '/'): Promise<{ status: number; body: string; location?: string }> {
  const { address, httpPort } = platform.layout.ingress
  const { promise, resolve, reject } = Promise.withResolvers<{
    status: number
    body: string
    location?: string
  }>()
  const req = requestPlain(
    { host: address, port: httpPort, path, headers: { host }, agent: new Agent() },
    (res) => {
      text(res).then(
        (body) =>
          resolve({
            status: res.statusCode ?? 0,
            body,
            ...(res.headers.location ? { location: res.headers.location } : {}),
          }),
        reject,
      )
    },
  )
  req.on('error', reject)
  req.end()
  return await promise
}

/** Until it answers so: what is applied is served a moment later. */
const answers = (host: string, body: string) =>
  until(async () => (await get(host)).body === body, { timeoutMs: 30_000, what: `"${body}" at ${host}` })

test(
  'an Ingress publishes a service under the hosts that the operator granted, on either kernel',
  { skip },
  async () => {
    await answers(SHOP, 'red\n')
    await answers('a.red.apps.example.com', 'red\n')
    await answers(BLUE, 'blue\n')
    assert.equal((await get('other.example.com')).status, 404)
  },
)

test('kubectl shows the class, the hosts and where the front door is', { skip }, async () => {
  const shown = await until(
    async () => {
      const out = await platform.mustKubectl('red', 'get', 'ingress', 'web')
      return out.includes('127.0.0.1') ? out : undefined
    },
    { what: 'An address in the status' },
  )
  assert.match(
    shown,
    /NAME +CLASS +HOSTS +ADDRESS +PORTS +AGE\nweb +bulkhead +shop\.example\.com,\*\.red\.apps\.example\.com +127\.0\.0\.1 +80/,
  )
  assert.match(
    await platform.mustKubectl('red', 'get', 'ingressclass'),
    /bulkhead +bulkhead\.dev\/front-door +<none>/,
  )
  assert.match(await platform.mustKubectl('red', 'describe', 'ingress', 'web'), /Host +Path +Backends/)
})

test('a host that was not granted is refused with those that were', { skip }, async () => {
  for (const host of [
    BLUE,
    'SHOP.example.com',
    'shop.example.com.',
    '*.example.com',
    'a.b.red.apps.example.com',
  ]) {
    const refused = await platform.runKubectl('red', ['apply', '-f', '-'], {
      input: JSON.stringify(ingress('stolen', [host])),
    })
    assert.notEqual(refused.code, 0, host)
    if (!/[A-Z]|\.$/.test(host))
      assert.match(refused.stderr, /was not granted.*shop\.example\.com, \*\.red\.apps\.example\.com/s, host)
  }
})

test(
  'HTTPS is served with the Secret of the Ingress, over HTTP/1.1 and HTTP/2, and HTTP is sent there',
  { skip },
  async () => {
    const files = { cert: join(tmpdir(), 'igj-cert.pem'), key: join(tmpdir(), 'igj-key.pem') }
    await writeFile(files.cert, pair.certificate)
    await writeFile(files.key, pair.key)
    try {
      await platform.mustKubectl(
        'red',
        'create',
        'secret',
        'tls',
        'shop',
        `--cert=${files.cert}`,
        `--key=${files.key}`,
      )
    } finally {
      await Promise.all(Object.values(files).map((file) => rm(file)))
    }
    await platform.apply('red', [
      ingress('web', [SHOP, '*.red.apps.example.com'], { tls: [{ hosts: [SHOP], secretName: 'shop' }] }),
    ])
    const { address, httpsPort } = platform.layout.ingress
    const overTls = () => {
      const { promise, resolve, reject } = Promise.withResolvers<string>()
      const req = requestTls(
        {
          host: address,
          port: httpsPort,
          servername: SHOP,
          ca: pair.authority,
          headers: { host: SHOP },
          agent: false,
        },
        (res) => void text(res).then(resolve, reject),
      )
      req.on('error', reject)
      req.end()
      return promise
    }
    await until(async () => (await overTls().catch(() => '')) === 'red\n', {
      timeoutMs: 30_000,
      what: 'HTTPS',
    })
    const session = connectHttp2(`https://${address}:${httpsPort}`, {
      servername: SHOP,
      ca: pair.authority,
    })
    try {
      const stream = session.request({ ':path': '/', ':authority': SHOP })
      assert.equal(await text(stream), 'red\n')
    } finally {
      session.destroy()
    }
    const plain = await get(SHOP, '/a?b')
    assert.deepEqual([plain.status, plain.location], [308, `https://${SHOP}:${httpsPort}/a?b`])
    // A host without a certificate stays as it was.
    assert.equal((await get('a.red.apps.example.com')).body, 'red\n')
  },
)

/** What answers datagrams in every pod of red's web: with what it got, and whom it is from. No image here has such a program. */
async function datagramServers(port: number): Promise<ChildProcess[]> {
  const script = `const s = require('node:dgram').createSocket('udp4')
    s.on('message', (m, from) => s.send(m + ' from ' + from.address, from.port, from.address))
    s.bind(${port}, () => console.log('ready'))`
  const uids = await platform.mustKubectl(
    'red',
    'get',
    'pods',
    '-l',
    'app=web',
    '-o',
    'jsonpath={.items[*].metadata.uid}',
  )
  return await Promise.all(
    uids.split(' ').map(async (uid) => {
      const netns = `--net=${platform.layout.runDir}/pods/${uid}/ns/net`
      const child = spawn('nsenter', [netns, process.execPath, '-e', script], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      await once(child.stdout, 'data')
      return child
    }),
  )
}

test(
  'a Service of type LoadBalancer carries datagrams too, on a port that was granted for them',
  { skip },
  async (t) => {
    const servers = await datagramServers(5_353)
    const socket = createSocket('udp4')
    t.after(() => {
      socket.close()
      for (const each of servers) each.kill('SIGKILL')
    })
    const heard: string[] = []
    socket.on('message', (datagram) => heard.push(datagram.toString()))
    const ports = (port: number, protocol: string) => [{ port, protocol, targetPort: 5_353 }]
    const balanced = (port: number, protocol = 'UDP') =>
      service('udp', 'web', port, { type: 'LoadBalancer', ports: ports(port, protocol) })
    for (const [wrong, why] of [
      [balanced(PORT), /port 19075\/UDP of the front door was not granted.*19077\/UDP/s],
      [balanced(UDP_PORT, 'TCP'), /port 19077 of the front door was not granted/],
      [balanced(UDP_PORT, 'SCTP'), /only TCP and UDP are carried/],
    ] as const)
      assert.match(
        (await platform.runKubectl('red', ['apply', '-f', '-'], { input: JSON.stringify(wrong) })).stderr,
        why,
      )
    await platform.apply('red', [balanced(UDP_PORT)])
    const asked = async (text_: string) => {
      socket.send(text_, UDP_PORT, platform.layout.ingress.address)
      await new Promise((resolve) => setTimeout(resolve, 200))
      return heard.some((each) => each.startsWith(text_))
    }
    await until(() => asked('hello'), { timeoutMs: 30_000, what: 'An answer over UDP' })
    // The first address of the tenant's block, as for TCP.
    assert.match(heard[0] ?? '', /^hello from 10\.\d+\.\d+\.0$/)
    assert.match(
      await platform.mustKubectl('red', 'get', 'service', 'udp', '-o', 'yaml'),
      /port: 19077\n +protocol: UDP/,
    )

    // Policies hold for datagrams as they do for connections.
    await platform.apply('red', [
      {
        apiVersion: 'networking.k8s.io/v1',
        kind: 'NetworkPolicy',
        metadata: { name: 'closed' },
        spec: { podSelector: { matchLabels: { app: 'web' } }, policyTypes: ['Ingress'] },
      },
    ])
    const fresh = async (n: number) => {
      const other = createSocket('udp4')
      const answered = new Promise<boolean>((resolve) => {
        other.on('message', () => resolve(true))
        setTimeout(() => resolve(false), 1_000)
      })
      other.send(`fresh ${n}`, UDP_PORT, platform.layout.ingress.address)
      const result = await answered
      other.close()
      return result
    }
    let n = 0
    await until(async () => !(await fresh(n++)), { timeoutMs: 30_000, what: 'Silence' })
    await platform.mustKubectl('red', 'delete', 'networkpolicy', 'closed')
    await until(() => fresh(n++), { timeoutMs: 30_000, what: 'An answer again' })
    await platform.mustKubectl('red', 'delete', 'service', 'udp')
    await until(async () => !(await fresh(n++)), { timeoutMs: 30_000, what: 'The end of the service' })
  },
)

test('a Service of type LoadBalancer has a port of the front door that was granted', { skip }, async () => {
  const balanced = service('tcp', 'web', PORT, {
    type: 'LoadBalancer',
    ports: [{ port: PORT, targetPort: 8080 }],
  })
  const refused = await platform.runKubectl('red', ['apply', '-f', '-'], {
    input: JSON.stringify({
      ...balanced,
      spec: { ...(balanced['spec'] as object), ports: [{ port: 19_076 }] },
    }),
  })
  assert.match(refused.stderr, /port 19076 of the front door was not granted.*19075/s)
  await platform.apply('red', [balanced])
  await until(
    async () => (await platform.mustKubectl('red', 'get', 'service', 'tcp')).includes('127.0.0.1'),
    {
      what: 'An external address',
    },
  )
  const answer = await until(
    async () => {
      const socket = connect(PORT, platform.layout.ingress.address)
      socket.on('error', () => {})
      socket.write('GET / HTTP/1.0\r\n\r\n')
      const all = await text(socket).catch(() => '')
      return all.includes('red') ? all : undefined
    },
    { timeoutMs: 30_000, what: 'An answer over TCP' },
  )
  assert.match(answer, /200 OK/)
  await platform.mustKubectl('red', 'delete', 'service', 'tcp')
  await until(
    () =>
      new Promise<boolean>((resolve) => {
        const socket = connect(PORT, platform.layout.ingress.address, () => resolve(false))
        socket.on('error', () => resolve(true))
        socket.on('close', () => resolve(true))
      }),
    { what: 'The end of the port' },
  )
})

test('while a deployment rolls, nobody is turned away', { skip }, async () => {
  const host = 'roll.red.apps.example.com'
  const rolling = new AbortController()
  const failures: unknown[] = []
  let asked = 0
  const asking = (async () => {
    while (!rolling.signal.aborted) {
      const { status } = await get(host).catch((error: unknown) => ({ status: String(error) }))
      asked++
      if (status !== 200) failures.push(status)
    }
  })()
  await platform.mustKubectl('red', 'rollout', 'restart', 'deployment/web')
  await platform.mustKubectl('red', 'rollout', 'status', 'deployment/web', '--timeout=120s')
  rolling.abort()
  await asking
  assert.ok(asked > 0)
  assert.deepEqual(failures, [])
})

test(
  'a policy that lets nobody in holds for the front door, and one that lets everybody in does too',
  { skip },
  async () => {
    const policy = (ingressRules: object[]) => ({
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name: 'web' },
      spec: { podSelector: { matchLabels: { app: 'web' } }, policyTypes: ['Ingress'], ingress: ingressRules },
    })
    for (const [rules, status] of [
      [[], 503],
      // Pods of the tenant are not what comes from outside.
      [[{ from: [{ podSelector: {} }] }], 503],
      [[{ from: [{ ipBlock: { cidr: '0.0.0.0/0' } }] }], 200],
      [[{}], 200],
    ] as const) {
      await platform.apply('blue', [policy([...rules])])
      await until(async () => (await get(BLUE)).status === status, {
        timeoutMs: 30_000,
        what: `${status} under ${JSON.stringify(rules)}`,
      })
    }
    await platform.mustKubectl('blue', 'delete', 'networkpolicy', 'web')
  },
)

test('both halves of the front door and the node agent can be killed', { skip }, async () => {
  for (const name of ['ingress', 'connector', 'node']) {
    const pid = platform.daemons().get(name)?.pid
    assert.ok(pid, `${name} runs`)
    process.kill(pid, 'SIGKILL')
    if (name === 'node') await platform.mustCli('up')
    await until(async () => (await get(BLUE).catch(() => ({ body: '' }))).body === 'blue\n', {
      timeoutMs: 60_000,
      what: `blue after the end of "${name}"`,
    })
    await until(
      async () => (await get('a.red.apps.example.com').catch(() => ({ body: '' }))).body === 'red\n',
      {
        timeoutMs: 60_000,
        what: `red after the end of "${name}"`,
      },
    )
  }
})

test(
  'a host that the operator takes away is served no more, and goes to whom it is given',
  { skip },
  async () => {
    const registries = [registry.host]
    const both = await platform.cli('tenant', 'list')
    assert.equal(both.code, 0)
    await platform.applyTenants([{ name: 'red', registries, ingress: { hosts: ['*.red.apps.example.com'] } }])
    await until(async () => (await get(SHOP)).status === 404, { what: 'A host that is gone' })
    await platform.applyTenants([
      { name: 'blue', trust: 'untrusted', registries, ingress: { hosts: [BLUE, SHOP] } },
    ])
    await platform.apply('blue', [ingress('web', [BLUE, SHOP])])
    await answers(SHOP, 'blue\n')
    await platform.mustKubectl('red', 'wait', '--for=condition=Available', 'deployment/web', '--timeout=60s')
  },
)
