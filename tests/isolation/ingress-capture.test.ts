import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { after, before, test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { promisify } from 'node:util'
import { parseTenantName, paths } from '../../src/api/index.ts'
import { until } from '../../src/stdx/index.ts'
import { gvisorMissing } from '../testkit/machine.ts'
import { pod, service } from '../testkit/manifests.ts'
import { TestPlatform } from '../testkit/platform.ts'
import { type Registry, startBusyboxRegistry } from '../testkit/registry.ts'

/** A tenant that wants another's hosts, ports and pods: through its API, past it, and from inside the front door. */

const execute = promisify(execFile)
const skip = gvisorMissing
const RED = 'red.example.com'
const BLUE = 'blue.example.com'
const BLUE_PORT = 19_176
const RED_PORT = 19_177

let platform: TestPlatform
let registry: Registry
const address: Record<string, string> = {}

before(async () => {
  if (skip !== false) return
  registry = await startBusyboxRegistry()
  const registries = [registry.host]
  platform = await TestPlatform.start({
    instance: 'igc',
    slot: 76,
    tenants: [
      { name: 'red', registries, ingress: { hosts: [RED, '*.red.example.com'], ports: [RED_PORT] } },
      {
        name: 'blue',
        trust: 'untrusted',
        registries,
        ingress: { hosts: [BLUE, '*.blue.example.com'], ports: [BLUE_PORT] },
      },
    ],
  })
  for (const tenant of ['red', 'blue']) {
    await platform.apply(tenant, [
      pod({
        name: 'web',
        labels: { app: 'web' },
        image: `${registry.host}/busybox:1`,
        script: `mkdir /tmp/w; echo page of ${tenant} > /tmp/w/index.html; exec httpd -f -p 8080 -h /tmp/w`,
        readinessProbe: { httpGet: { path: '/', port: 8080 }, periodSeconds: 1 },
      }),
      service('web', 'web', 80, { ports: [{ port: 80, targetPort: 8080 }] }),
      service('tcp', 'web', tenant === 'red' ? RED_PORT : BLUE_PORT, {
        type: 'LoadBalancer',
        ports: [{ port: tenant === 'red' ? RED_PORT : BLUE_PORT, targetPort: 8080 }],
      }),
      ingress('web', tenant === 'red' ? RED : BLUE),
    ])
    await platform.mustKubectl(tenant, 'wait', '--for=condition=Ready', 'pod/web', '--timeout=60s')
    address[tenant] = await platform.mustKubectl(
      tenant,
      'get',
      'pod',
      'web',
      '-o',
      'jsonpath={.status.podIP}',
    )
  }
  for (const [host, tenant] of [
    [RED, 'red'],
    [BLUE, 'blue'],
  ] as const)
    await until(async () => (await ask(host)).includes(`page of ${tenant}`), {
      timeoutMs: 30_000,
      what: host,
    })
})

after(async () => {
  await platform?.[Symbol.asyncDispose]()
  await registry?.[Symbol.asyncDispose]()
})

function ingress(name: string, host: string, spec: object = {}) {
  const backend = { service: { name: 'web', port: { number: 80 } } }
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'Ingress',
    metadata: { name },
    spec: { rules: [{ host, http: { paths: [{ path: '/', pathType: 'Prefix', backend }] } }], ...spec },
  }
}

/** Bytes to the front door, and all that comes back. */
function send(bytes: string, port = platform.layout.ingress.httpPort): Promise<string> {
  const socket = connect(port, platform.layout.ingress.address)
  socket.on('error', () => {})
  socket.setTimeout(5_000, () => socket.destroy())
  socket.write(bytes)
  return text(socket).catch(() => '')
}

const ask = (host: string) => send(`GET / HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`)

async function refusal(tenant: string, manifest: object): Promise<string> {
  const { code, stderr } = await platform.runKubectl(tenant, ['apply', '-f', '-'], {
    input: JSON.stringify(manifest),
  })
  return code === 0 ? '' : stderr
}

function userOf(name: string): { uid: string; gid: string } {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith(`${name}:`))
  const [, , uid = '', gid = ''] = line?.split(':') ?? []
  assert.match(uid, /^\d+$/, name)
  return { uid, gid }
}

/** Runs a script under another user, in the router's network namespace if wanted; what it prints. */
async function runAs(
  { uid, gid }: { uid: string; gid: string },
  script: string,
  args: readonly string[],
  { inRouter = false } = {},
): Promise<string> {
  const own = [
    'setpriv',
    `--reuid=${uid}`,
    `--regid=${gid}`,
    '--clear-groups',
    process.execPath,
    '-e',
    script,
    ...args,
  ]
  const all = inRouter ? ['nsenter', `--net=${paths.routerNetns(platform.layout)}`, ...own] : own
  const [program = '', ...rest] = all
  const { stdout } = await execute(program, rest, {
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    timeout: 30_000,
  })
  return stdout.trim()
}

test('host capture: no way to write the name of another tenant’s host gets it', { skip }, async () => {
  for (const host of [
    BLUE,
    '*.example.com',
    '*.blue.example.com',
    'x.blue.example.com',
    'BLUE.example.com',
    `${BLUE}.`,
    'bluе.example.com',
    'xn--blu-qxd.example.com',
    '*.com',
    '',
    '*',
  ])
    assert.notEqual(await refusal('red', ingress('capture', host)), '', `"${host}"`)
  assert.match(
    await refusal('red', ingress('capture', BLUE)),
    /was not granted.*red\.example\.com, \*\.red\.example\.com/s,
  )
  assert.match(await ask(BLUE), /page of blue/)
})

test(
  'host capture past the API: a control plane that was taken over publishes another’s host, and nobody comes',
  { skip },
  async () => {
    const backend = { namespace: 'default', service: 'web', port: 80 }
    const route = (host: string) => ({
      host,
      path: '/',
      exact: false,
      backend,
      protocol: 'http',
      redirect: false,
    })
    const body = {
      routes: [RED, BLUE, '*.blue.example.com', '*.example.com'].map(route),
      certificates: [],
      ports: [
        { port: BLUE_PORT, backend },
        { port: RED_PORT, backend: { ...backend, service: 'tcp', port: RED_PORT } },
      ],
    }
    const script = `
    const req = require('node:http').request({ socketPath: process.argv[1], method: 'PUT', path: '/v1/ingress',
      headers: { 'content-type': 'application/json' } }, (res) => res.pipe(process.stdout))
    req.on('error', (error) => console.log(error.code))
    req.end(process.argv[2])`
    const socket = paths.nodeTenantSocket(platform.layout, parseTenantName('red'))
    const told = await runAs(userOf('bulkhead-worker'), script, [socket, JSON.stringify(body)])
    const { refused } = JSON.parse(told) as { refused: { what: string }[] }
    assert.deepEqual(
      refused.map(({ what }) => what).sort(),
      ['*.blue.example.com', '*.example.com', String(BLUE_PORT), BLUE].sort(),
    )
    assert.match(await ask(BLUE), /page of blue/)
    assert.doesNotMatch(await ask('x.blue.example.com'), /page of/)
    assert.match(await send('GET / HTTP/1.0\r\n\r\n', BLUE_PORT), /page of blue/)
    assert.match(await ask(RED), /page of red/)
  },
)

test(
  'LoadBalancer port capture: a port of another tenant, of the platform or of the machine is refused',
  { skip },
  async () => {
    const { httpPort, httpsPort } = platform.layout.ingress
    for (const port of [BLUE_PORT, httpPort, httpsPort, platform.layout.gatewayPort, 22])
      assert.match(
        await refusal('red', service('capture', 'web', port, { type: 'LoadBalancer' })),
        /was not granted.*19177/s,
        String(port),
      )
    assert.match(
      await refusal('red', service('capture', 'web', 80, { type: 'ClusterIP', externalIPs: ['127.0.0.1'] })),
      /Forbidden/,
    )
    assert.match(await send('GET / HTTP/1.0\r\n\r\n', BLUE_PORT), /page of blue/)
  },
)

test('a third tenant is not granted what another has, and who had it goes on', { skip }, async () => {
  for (const grant of [
    { hosts: [BLUE] },
    { hosts: ['*.example.com'] },
    { hosts: ['deep.blue.example.com'] },
    { ports: [`${BLUE_PORT - 3}-${BLUE_PORT + 3}`] },
    { ports: [platform.layout.gatewayPort] },
  ]) {
    await platform.applyTenants([{ name: 'third', ingress: grant }]).catch(() => {})
    const described = await until(
      async () => {
        const { stdout, stderr } = await platform.cli('tenant', 'describe', 'third')
        const told = (stdout + stderr).replaceAll(/\s+/g, ' ')
        return /belongs to the tenant|is that of/.test(told) ? told : undefined
      },
      { timeoutMs: 30_000, what: `A refusal of ${JSON.stringify(grant)}` },
    )
    assert.match(described, /Failed/)
  }
  // What its owner gives up is found by whoever was refused.
  await platform.applyTenants([{ name: 'third', ingress: { hosts: ['*.red.example.com'] } }]).catch(() => {})
  const registries = [registry.host]
  await platform.applyTenants([{ name: 'red', registries, ingress: { hosts: [RED], ports: [RED_PORT] } }])
  await until(async () => /Ready: +True/.test((await platform.cli('tenant', 'describe', 'third')).stdout), {
    timeoutMs: 30_000,
    what: 'The third tenant',
  })
  await platform.mustCli('tenant', 'delete', 'third', '--yes')
  assert.match(await ask(BLUE), /page of blue/)
})

test('header tricks on one connection reach the tenant of the host and nobody else', { skip }, async () => {
  const smuggled = `GET / HTTP/1.1\r\nhost: ${BLUE}\r\nconnection: close\r\n\r\n`
  for (const bytes of [
    `GET / HTTP/1.1\r\nhost: ${RED}\r\nx-forwarded-host: ${BLUE}\r\nx-original-host: ${BLUE}\r\nconnection: close\r\n\r\n`,
    `GET http://${BLUE}/ HTTP/1.1\r\nhost: ${RED}\r\nconnection: close\r\n\r\n`,
    `GET / HTTP/1.1\r\nhost: ${RED}\r\nhost: ${BLUE}\r\nconnection: close\r\n\r\n`,
    `GET / HTTP/1.1\r\nhost: ${RED}@${BLUE}\r\nconnection: close\r\n\r\n`,
    `GET //${BLUE}/../ HTTP/1.1\r\nhost: ${RED}\r\nconnection: close\r\n\r\n`,
    `POST / HTTP/1.1\r\nhost: ${RED}\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
    `POST / HTTP/1.1\r\nhost: ${RED}\r\ntransfer-encoding: identity, chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n${smuggled}`,
    `POST / HTTP/1.1\r\nhost: ${RED}\r\ntransfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n${smuggled}`,
  ])
    assert.doesNotMatch(await send(bytes), /page of blue/, bytes)
})

test('secret of another namespace: no certificate is served from there', { skip }, async () => {
  for (const secretName of ['kube-system/tls', '../tls', 'default/tls'])
    assert.match(
      await refusal('red', ingress('web', RED, { tls: [{ hosts: [RED], secretName }] })),
      /secretName/,
      secretName,
    )
  assert.match(
    await refusal('red', ingress('web', RED, { tls: [{ hosts: [BLUE], secretName: 'own' }] })),
    /was not granted/,
  )
  // Nothing has a certificate, so nobody can speak TLS; nor is one of the platform's shown.
  for (const servername of [RED, BLUE, 'kubernetes.default.svc'])
    await assert.rejects(
      new Promise((resolve, reject) => {
        const { address: host, httpsPort: port } = platform.layout.ingress
        const socket = connectTls({ host, port, servername, rejectUnauthorized: false }, () =>
          resolve(socket.destroy()),
        )
        socket.on('error', reject)
      }),
      servername,
    )
})

const CONNECT = `
  const [host, port, localAddress] = process.argv.slice(1)
  const socket = require('node:net').connect({ host, port: Number(port), ...(localAddress ? { localAddress } : {}) })
  socket.setTimeout(1500, () => { console.log('silence'); process.exit(0) })
  socket.on('connect', () => { console.log('connected'); process.exit(0) })
  socket.on('error', (error) => { console.log(error.code); process.exit(0) })`

/** The address that a tenant's pods see the front door under, by the index that the platform shows. */
async function doorOf(tenant: string): Promise<string> {
  const [a, b = '', c = ''] = (address[tenant] ?? '').split('.')
  return `${a}.${b}.${Number(c) & 0xf8}.0`
}

test(
  'inside the front door: the connector reaches no other tenant’s pods, for two reasons of the kernel',
  { skip },
  async () => {
    const netns = `--net=${paths.routerNetns(platform.layout)}`
    const nft = (...args: string[]) => execFileSync('nsenter', [netns, 'nft', ...args], { encoding: 'utf8' })
    const denied = () =>
      [
        ...nft('list', 'counters', 'table', 'inet', 'bulkhead').matchAll(
          /counter denied_\d+ \{\s*packets (\d+)/g,
        ),
      ].reduce((sum, [, packets]) => sum + Number(packets), 0)
    const connector = userOf('bulkhead-conn')
    const from = async (user: ReturnType<typeof userOf>, target: string, door: string) =>
      runAs(user, CONNECT, [address[target] ?? '', '8080', door], { inRouter: true })
    const [redDoor, blueDoor] = [await doorOf('red'), await doorOf('blue')]
    assert.equal(await from(connector, 'blue', blueDoor), 'connected')
    assert.equal(await from(connector, 'red', redDoor), 'connected')
    // The router's rules, which count what they drop on its way out.
    const before = denied()
    assert.equal(await from(connector, 'blue', redDoor), 'silence')
    assert.equal(await from(connector, 'red', blueDoor), 'silence')
    assert.equal(await from(connector, 'blue', ''), 'silence')
    assert.ok(denied() > before, 'the rules have dropped something')
    // Only the connector may, not who else is in there.
    for (const user of ['bulkhead-dns', 'bulkhead-pod-gateway', 'bulkhead-ingress'])
      assert.equal(await from(userOf(user), 'blue', blueDoor), 'silence', user)
    // And without those rules, the filter on the victim's link.
    const added = nft('-a', '-e', 'insert', 'rule', 'inet', 'bulkhead', 'output', 'accept')
    const handle = /handle (\d+)/.exec(added)?.[1] ?? ''
    try {
      assert.equal(await from(connector, 'blue', redDoor), 'silence')
      assert.equal(await from(connector, 'red', blueDoor), 'silence')
      assert.equal(await from(connector, 'red', redDoor), 'connected')
    } finally {
      nft('delete', 'rule', 'inet', 'bulkhead', 'output', 'handle', handle)
    }
  },
)

test(
  'inside the front door: a tenant’s socket leads to that tenant only, and only the front door may use it',
  { skip },
  async () => {
    const ingressUser = userOf('bulkhead-ingress')
    const script = `
    const socket = require('node:net').connect(process.argv[1], () => socket.write(process.argv[2] + '\\n'))
    socket.setTimeout(8000, () => { console.log('silence'); process.exit(0) })
    socket.on('data', (data) => { console.log(String(data).trim()); process.exit(0) })
    socket.on('error', (error) => { console.log(error.code); process.exit(0) })
    socket.on('close', () => { console.log('closed'); process.exit(0) })`
    const speak = (user: ReturnType<typeof userOf>, index: number, line: string) =>
      runAs(user, script, [paths.connectorTenantSocket(platform.layout, index), line])
    assert.equal(await speak(ingressUser, 0, 'default/web:80 192.0.2.1'), 'ok')
    for (const line of [
      `${address['blue']}:8080 x`,
      'default/tcp:19176 x',
      'kube-system/kube-dns:53 x',
      'default/kubernetes:443 x',
      '__proto__ x',
      '',
      '../1 default/web:80',
    ])
      assert.equal(await speak(ingressUser, 0, line), 'none', line)
    assert.match(await speak(ingressUser, 0, 'x'.repeat(2_000)), /none|closed|ECONNRESET|EPIPE/)
    for (const user of ['bulkhead-worker', 'bulkhead-gateway', 'bulkhead-dns'])
      assert.match(await speak(userOf(user), 0, 'default/web:80 x'), /EACCES|closed|ECONNRESET/, user)
    // Whoever can open the file is still asked who they are.
    assert.match(
      await runAs({ uid: userOf('bulkhead-images').uid, gid: ingressUser.gid }, script, [
        paths.connectorTenantSocket(platform.layout, 0),
        'default/web:80 x',
      ]),
      /EACCES|closed|ECONNRESET|EPIPE/,
    )
  },
)

test(
  'pods cannot use the front door’s own addresses, nor answer for another through it',
  { skip },
  async () => {
    for (const tenant of ['red', 'blue'])
      for (const target of [await doorOf('red'), await doorOf('blue')]) {
        const answer = await platform.kubectl(
          tenant,
          ...['exec', 'web', '--', 'sh', '-c'],
          `timeout 2 wget -q -O - http://${target}:8080/ || echo nothing`,
        )
        assert.doesNotMatch(answer.stdout, /page of/, `${tenant} to ${target}`)
      }
  },
)

test('a flood for one tenant leaves the other answered', { skip }, async () => {
  const flood = Array.from({ length: 700 }, () => {
    const socket = connect(platform.layout.ingress.httpPort, platform.layout.ingress.address)
    socket.on('error', () => {})
    // Each waits for a body that does not come.
    socket.write(`POST / HTTP/1.1\r\nhost: ${RED}\r\ncontent-length: 10\r\n\r\n`)
    return socket
  })
  try {
    for (let n = 0; n < 5; n++) assert.match(await ask(BLUE), /page of blue/)
  } finally {
    for (const socket of flood) socket.destroy()
  }
  await until(async () => /page of red/.test(await ask(RED)), {
    timeoutMs: 30_000,
    what: 'red after its flood',
  })
})
