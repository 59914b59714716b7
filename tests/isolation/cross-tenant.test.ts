import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { networkInterfaces } from 'node:os'
import { after, before, describe, test } from 'node:test'
import { gvisorMissing, observeProcesses } from '../testkit/machine.ts'
import {
  configMap,
  container,
  deployment,
  type Manifest,
  pod,
  secret,
  service,
} from '../testkit/manifests.ts'
import { TestPlatform } from '../testkit/platform.ts'
import { type Registry, startBusyboxRegistry } from '../testkit/registry.ts'

/** Attacks of one tenant on another and on the machine, tried for real, through the API and from inside pods. */

const skip = gvisorMissing
const TENANTS = ['red', 'blue'] as const
type Tenant = (typeof TENANTS)[number]
const PAIRS = [
  ['red', 'blue'],
  ['blue', 'red'],
] as const
/** In each tenant's objects; seen by the other, the wall has a hole. */
const marker = (tenant: string) => `only-${tenant}-may-see-this-4f1c`

let platform: TestPlatform
let registry: Registry
let machine: Server
let machinePort: number

before(async () => {
  if (skip !== false) return
  registry = await startBusyboxRegistry()
  // Something on the machine that listens on all of its addresses, as many machines have.
  machine = createServer((_request, response) => response.end('the machine answers'))
  const { promise, resolve } = Promise.withResolvers<void>()
  machine.listen(0, '0.0.0.0', resolve)
  await promise
  const bound = machine.address()
  machinePort = typeof bound === 'object' && bound ? bound.port : 0
  platform = await TestPlatform.start({
    instance: 'tatk',
    slot: 12,
    tenants: [
      { name: 'red', registries: [registry.host] },
      { name: 'blue', trust: 'untrusted', registries: [registry.host] },
    ],
  })
  const image = `${registry.host}/busybox:1`
  await Promise.all(
    TENANTS.map(async (tenant) => {
      const secretly = marker(tenant)
      await platform.mustKubectl(tenant, 'create', 'namespace', `ns-of-${tenant}`)
      await platform.apply(tenant, [
        secret('treasure', { key: secretly }),
        configMap('treasure', { key: secretly }),
        {
          ...pod({
            name: 'server',
            labels: { app: `web-of-${tenant}` },
            image,
            script: `mkdir /www; echo ${secretly} > /www/index.html; exec httpd -f -p 8080 -h /www`,
          }),
        },
        service(`web-of-${tenant}`, `web-of-${tenant}`, 8080),
        pod({
          name: 'intruder',
          image,
          script: "trap exit TERM; echo 'in memory only' > /tmp/own; sleep 3600 & wait",
        }),
      ])
      await platform.mustKubectl(
        tenant,
        'wait',
        '--for=condition=Ready',
        'pod/server',
        'pod/intruder',
        '--timeout=60s',
      )
    }),
  )
})

after(async () => {
  if (skip !== false) return
  machine?.close()
  machine?.closeAllConnections()
  await platform?.[Symbol.asyncDispose]()
  await registry?.[Symbol.asyncDispose]()
})

const origin = () => `https://${platform.layout.gatewayAddress}:${platform.layout.gatewayPort}`

/** Runs a script in the tenant's pod. */
async function inPod(tenant: Tenant, script: string): Promise<string> {
  const ran = await platform.runKubectl(tenant, ['exec', '-i', 'intruder', '--', 'sh'], { input: script })
  assert.equal(
    ran.code,
    0,
    `the script in a pod of ${tenant} ended with ${ran.code}: ${ran.stderr}${ran.stdout}`,
  )
  return ran.stdout
}

describe('through the API', { skip }, () => {
  for (const [attacker, victim] of PAIRS) {
    test(`${attacker} asks for ${victim}'s objects in every spelling of the path`, async () => {
      const target = `tenants/${victim}`
      const own = `tenants/${attacker}`
      const objects = 'api/v1/namespaces/default/secrets/treasure'
      const spellings = [
        `/${target}/${objects}`,
        `//${target}/${objects}`,
        `/tenants//${victim}/${objects}`,
        `/./${target}/${objects}`,
        `/${own}/../${victim}/${objects}`,
        `/${own}/../../${target}/${objects}`,
        `/${own}/%2e%2e/${victim}/${objects}`,
        `/${own}/%2E%2E%2F${victim}/${objects}`,
        `/${own}/..%2f${victim}/${objects}`,
        `/${own}%2f..%2f${victim}/${objects}`,
        `/${own}/..;/${victim}/${objects}`,
        `/${own}\\..\\${victim}/${objects}`,
        `/${own}/%252e%252e/${victim}/${objects}`,
        `/${own}/api/v1/../../../${victim}/${objects}`,
        `/${own}/api/v1/namespaces/default/secrets/..%2f..%2f..%2f..%2f..%2f${victim}%2f${objects}`,
        `/tenants/${victim.toUpperCase()}/${objects}`,
        `/tenants/%${victim.charCodeAt(0).toString(16)}${victim.slice(1)}/${objects}`,
        `/tenants/${victim}%00/${objects}`,
        `/tenants/${victim}%20/${objects}`,
        `/tenants/${victim};tenant=${attacker}/${objects}`,
        `/tenants/${victim}?x=/tenants/${attacker}/${objects}`,
        `/tenants/${attacker},${victim}/${objects}`,
        `/tenants/${attacker}@${victim}/${objects}`,
        `/${target}/healthz`,
        `/${target}/version`,
        `/${target}/api`,
        `/${target}/openapi/v3`,
        `/${target}/${objects}?watch=1`,
        `/platform/apis/tenancy.bulkhead.dev/v1alpha1/tenants/${victim}`,
        `/platform/api/v1/secrets`,
        `/${own}/apis/tenancy.bulkhead.dev/v1alpha1/tenants`,
      ]
      const through: string[] = []
      for (const path of spellings) {
        const { code, body } = await platform.request(attacker, path, { server: origin() })
        if (code < 400 || code >= 500 || body.includes(marker(victim)) || body.includes(`ns-of-${victim}`))
          through.push(`${path}: ${code} ${body.slice(0, 100)}`)
      }
      assert.deepEqual(through, [])
      const genuine = await platform.request(attacker, `/${own}/${objects}`, { server: origin() })
      assert.equal(genuine.code, 200, 'the same request for its own object is answered')
    })

    test(`${attacker} cannot tell ${victim} from a tenant that does not exist`, async () => {
      for (const path of [
        '/api/v1/namespaces',
        '/api/v1/namespaces/default/secrets/treasure',
        '/version',
        '/',
      ])
        for (const method of ['GET', 'DELETE']) {
          const real = await platform.request(attacker, `/tenants/${victim}${path}`, {
            server: origin(),
            method,
          })
          const invented = await platform.request(attacker, `/tenants/ghost${path}`, {
            server: origin(),
            method,
          })
          assert.equal(real.code, invented.code)
          assert.equal(real.body.replaceAll(victim, 'ghost'), invented.body)
        }
    })

    test(`${attacker} says in headers that it is somebody of ${victim}`, async () => {
      const forged = Buffer.from(
        JSON.stringify({
          kind: 'tenantUser',
          tenant: victim,
          name: 'admin',
          groups: ['bulkhead:tenant-admins'],
        }),
      ).toString('base64url')
      const token = (await platform.mustKubectl(victim, 'create', 'token', 'default')).trim()
      const headers: Record<string, string>[] = [
        { 'x-bulkhead-identity': forged },
        { 'X-BULKHEAD-IDENTITY': forged },
        { 'x-bulkhead-tenant': victim },
        { 'x-remote-user': 'admin', 'x-remote-group': 'system:masters' },
        { 'impersonate-user': 'admin', 'impersonate-group': 'bulkhead:tenant-admins' },
        { 'x-forwarded-for': '127.0.0.1', 'x-forwarded-host': victim, forwarded: `host=${victim}` },
        { 'x-original-url': `/tenants/${victim}/api`, 'x-rewrite-url': `/tenants/${victim}/api` },
        { authorization: `Bearer ${token}` },
        { authorization: `Basic ${Buffer.from('admin:admin').toString('base64')}` },
        { authorization: 'Bearer x.y.z' },
      ]
      for (const extra of headers) {
        const across = await platform.request(
          attacker,
          `/tenants/${victim}/api/v1/namespaces/default/secrets/treasure`,
          { server: origin(), headers: extra },
        )
        assert.ok(
          across.code >= 400 && across.code < 500,
          `${JSON.stringify(Object.keys(extra))}: ${across.code} ${across.body}`,
        )
        assert.ok(!across.body.includes(marker(victim)))
        const home = await platform.request(attacker, '/api/v1/namespaces', { headers: extra })
        assert.ok(!home.body.includes(`ns-of-${victim}`), JSON.stringify(Object.keys(extra)))
        assert.ok(home.code < 500, `${JSON.stringify(Object.keys(extra))}: ${home.code} ${home.body}`)
      }
    })

    test(`${attacker} uses a token of ${victim}, and its kubeconfig with the other server`, async () => {
      const token = (await platform.mustKubectl(victim, 'create', 'token', 'default')).trim()
      const anonymous = ['--kubeconfig=/dev/null', `--certificate-authority=${await caFile(attacker)}`]
      const ask = (tenant: string, ...args: string[]) =>
        platform.runKubectl(attacker, [
          `--server=${origin()}/tenants/${tenant}`,
          `--token=${token}`,
          ...anonymous,
          ...args,
        ])
      const home = await ask(victim, 'auth', 'whoami', '-o', 'jsonpath={.status.userInfo.username}')
      assert.equal(
        home.stdout,
        'system:serviceaccount:default:default',
        `the token is genuine: ${home.stderr}`,
      )
      const across = await ask(attacker, 'get', 'secrets', '-A')
      assert.notEqual(across.code, 0)
      assert.match(across.stderr, /Unauthorized|Forbidden|logged in/)
      const swapped = await platform.kubectl(
        attacker,
        `--server=${origin()}/tenants/${victim}`,
        'get',
        'secrets',
        '-A',
      )
      assert.notEqual(swapped.code, 0)
      assert.match(swapped.stderr, /Forbidden/)
      const operator = await platform.kubectl(attacker, `--server=${origin()}/platform`, 'get', 'namespaces')
      assert.notEqual(operator.code, 0)
      assert.match(operator.stderr, /Forbidden/)
    })
  }
})

async function caFile(tenant: string): Promise<string> {
  const { writeFile } = await import('node:fs/promises')
  const file = `${platform.kubeconfig(tenant)}.ca`
  await writeFile(file, (await platform.credentials(tenant)).ca)
  return file
}

describe('over the network, from inside pods', { skip }, () => {
  for (const [attacker, victim] of PAIRS) {
    test(`a pod of ${attacker} reaches for ${victim}'s pods, services and names`, async () => {
      const podIP = await platform.mustKubectl(
        victim,
        'get',
        'pod',
        'server',
        '-o',
        'jsonpath={.status.podIP}',
      )
      const intruderIP = await platform.mustKubectl(
        victim,
        'get',
        'pod',
        'intruder',
        '-o',
        'jsonpath={.status.podIP}',
      )
      const clusterIP = await platform.mustKubectl(
        victim,
        'get',
        'service',
        `web-of-${victim}`,
        '-o',
        'jsonpath={.spec.clusterIP}',
      )
      const ownIP = await platform.mustKubectl(
        attacker,
        'get',
        'pod',
        'server',
        '-o',
        'jsonpath={.status.podIP}',
      )
      const targets = [
        `http://${podIP}:8080/`,
        `http://${clusterIP}:8080/`,
        `http://${intruderIP}:8080/`,
        `http://web-of-${victim}:8080/`,
        `http://web-of-${victim}.default.svc.cluster.local:8080/`,
        `http://web-of-${victim}.default.svc.cluster.local.:8080/`,
      ]
      const controls = [
        `http://${ownIP}:8080/`,
        `http://web-of-${attacker}:8080/`,
        `http://web-of-${attacker}.default.svc.cluster.local:8080/`,
      ]
      const { reached, silent } = await fetchAll(attacker, [...targets, ...controls])
      assert.deepEqual(reached.sort(), controls.sort(), 'only its own are reached, and with the same client')
      assert.deepEqual(silent.sort(), targets.sort())

      const names = await inPod(
        attacker,
        [
          `web-of-${victim}.default.svc.cluster.local`,
          `web-of-${victim}.default.svc.cluster.local.${victim}`,
          `server.${podIP.replaceAll('.', '-')}.default.pod.cluster.local`,
          `${podIP}`,
          `kubernetes.io`,
        ]
          .map((name) => `echo "? ${name}"; timeout 4 nslookup ${name} 169.254.1.1 2>&1`)
          .join('\n')
          .concat('\ntrue\n'),
      )
      assert.ok(!names.includes(`Address: ${clusterIP}`) && !names.includes(`Address: ${podIP}`), names)
      assert.ok(!names.includes('name = '), `no name of a foreign address is told:\n${names}`)
    })

    test(`a pod of ${attacker} reaches for the machine and for metadata services`, async () => {
      const addresses = Object.values(networkInterfaces())
        .flatMap((list) => list ?? [])
        .map(({ address, family }) => (family === 'IPv6' ? `[${address.split('%')[0]}]` : address))
      const { gatewayPort } = platform.layout
      const ports = [machinePort, gatewayPort]
      const targets = [
        ...addresses.flatMap((address) => ports.map((port) => `http://${address}:${port}/`)),
        `http://${registry.host}/v2/`,
        'http://169.254.169.254/latest/meta-data/',
        'http://169.254.170.2/v2/metadata',
        'http://metadata.google.internal/',
        'http://[fd00:ec2::254]/latest/meta-data/',
        `http://169.254.1.1:${gatewayPort}/`,
        `http://169.254.1.1:${machinePort}/`,
        'http://169.254.1.1:80/',
        'http://10.96.0.1:443/',
        'http://1.1.1.1/',
      ]
      const { reached, silent } = await fetchAll(attacker, targets)
      assert.deepEqual(reached, [])
      assert.equal(silent.length, targets.length)
      const heard = await fetch(`http://127.0.0.1:${machinePort}/`)
      assert.equal(await heard.text(), 'the machine answers', 'it was there to be reached')
      const resolver = await inPod(
        attacker,
        `nslookup web-of-${attacker}.default.svc.cluster.local 169.254.1.1`,
      )
      assert.match(resolver, /Address: 10\.96\./, 'the one thing that may be reached there, can be')
    })
  }
})

describe('with forged endpoints', { skip }, () => {
  for (const [attacker, victim] of PAIRS) {
    test(`${attacker} points services of its own at ${victim}'s pod, in every object that names addresses`, async () => {
      const victimIP = await ipOf(victim, 'server')
      const send = (method: string, path: string, body: object) =>
        platform.request(attacker, path, {
          method,
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(body),
        })
      const namespace = '/api/v1/namespaces/default'
      await platform.apply(attacker, [
        { ...service('bait', 'nobody', 8080), spec: { ports: [{ port: 8080 }] } },
        service('lying', 'lying', 8080),
        pod({
          name: 'lying',
          labels: { app: 'lying' },
          image: `${registry.host}/busybox:1`,
          script: 'sleep 3600',
        }),
      ])
      await platform.mustKubectl(attacker, 'wait', '--for=condition=Ready', 'pod/lying', '--timeout=30s')
      const endpoint = {
        addresses: [victimIP],
        conditions: { ready: true },
        targetRef: { kind: 'Pod', name: 'server', namespace: 'default' },
      }
      // Whether each is refused or taken down again is the API's to say; what counts is where packets go.
      const answers = [
        await send('POST', '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices', {
          apiVersion: 'discovery.k8s.io/v1',
          kind: 'EndpointSlice',
          metadata: { name: 'bait-1', labels: { 'kubernetes.io/service-name': 'bait' } },
          addressType: 'IPv4',
          ports: [{ name: '', port: 8080, protocol: 'TCP' }],
          endpoints: [endpoint],
        }),
        await send('POST', `${namespace}/endpoints`, {
          apiVersion: 'v1',
          kind: 'Endpoints',
          metadata: { name: 'bait' },
          subsets: [{ addresses: [{ ip: victimIP }], ports: [{ port: 8080 }] }],
        }),
        await send('POST', `${namespace}/services`, {
          ...service('renamed', 'x', 8080),
          spec: { type: 'ExternalName', externalName: `web-of-${victim}.default.svc.cluster.local` },
        }),
      ]
      const lying = await platform.getJson<Manifest & { status: object }>(attacker, 'pod', 'lying')
      answers.push(
        await send('PUT', `${namespace}/pods/lying/status`, {
          ...lying,
          status: { ...lying.status, podIP: victimIP, podIPs: [{ ip: victimIP }] },
        }),
      )
      for (const { code, body } of answers) assert.ok(code < 500, body)
      const urls = ['bait', 'lying', 'renamed'].map((name) => `http://${name}:8080/`)
      const { reached } = await fetchAll(attacker, urls)
      assert.deepEqual(reached, [], `answers were ${answers.map(({ code }) => code).join(', ')}`)
      await platform.kubectl(attacker, 'delete', 'service', 'bait', 'lying', 'renamed', '--ignore-not-found')
      await platform.kubectl(attacker, 'delete', 'pod', 'lying', '--now')
    })
  }
})

function ipOf(tenant: Tenant, name: string): Promise<string> {
  return platform.mustKubectl(tenant, 'get', 'pod', name, '-o', 'jsonpath={.status.podIP}')
}

/** Tries every URL at once from the tenant's pod. */
async function fetchAll(
  tenant: Tenant,
  urls: readonly string[],
): Promise<{ reached: string[]; silent: string[] }> {
  const tries = urls.map(
    (url) =>
      // Any HTTP answer counts, also an error: then something was there that spoke.
      `(if out=$(timeout 5 wget -q -O - '${url}' 2>&1) || echo "$out" | grep -q HTTP/; then echo 'reached ${url}'; else echo 'silent ${url}'; fi) &`,
  )
  const lines = (await inPod(tenant, `${tries.join('\n')}\nwait\n`)).trim().split('\n')
  const of = (what: string) =>
    lines.flatMap((line) => (line.startsWith(`${what} `) ? [line.slice(what.length + 1)] : []))
  return { reached: of('reached'), silent: of('silent') }
}

/** Each is true when it went through. `sandboxed`: gVisor's own kernel may allow it, which reaches nothing. */
const KERNEL_ATTACKS: Record<string, { script: string; sandboxed?: 'harmless' }> = {
  'set the program that the machine runs for core dumps': {
    script: 'echo "|/tmp/x" > /proc/sys/kernel/core_pattern',
  },
  'change a kernel setting': { script: 'echo 1 > /proc/sys/kernel/randomize_va_space' },
  'remount /proc/sys writable': { script: 'mount -o remount,rw /proc/sys' },
  'ask the kernel to restart': { script: 'echo b > /proc/sysrq-trigger' },
  'read the memory of the kernel': { script: 'dd if=/proc/kcore bs=1 count=1 2>/dev/null | grep -q .' },
  'read timers of others': { script: 'test -s /proc/timer_list' },
  'read keys of others': { script: 'grep -q . /proc/keys' },
  'write to sysfs': { script: 'echo 1 > /sys/kernel/rcu_expedited' },
  'write to a cgroup': {
    script: 'find /sys/fs/cgroup -name memory.limit_in_bytes -exec sh -c "echo -1 > {}" \\; | grep -q .',
  },
  'mount a file system': { script: 'mkdir -p /tmp/m && mount -t tmpfs none /tmp/m' },
  'mount another /proc': { script: 'mkdir -p /tmp/p && mount -t proc proc /tmp/p' },
  'mount a device': { script: 'mkdir -p /tmp/d && mount /dev/vda /tmp/d' },
  'make a user namespace': { script: 'unshare --user true', sandboxed: 'harmless' },
  'make a network namespace': { script: 'unshare --net true', sandboxed: 'harmless' },
  'make a mount namespace': { script: 'unshare --mount true', sandboxed: 'harmless' },
  'make a block device': { script: 'mknod /tmp/disk b 254 0 && dd if=/tmp/disk of=/dev/null count=1' },
  'make a device of memory': { script: 'mknod /tmp/mem c 1 1 && dd if=/tmp/mem of=/dev/null count=1' },
  'load a module': { script: 'insmod /bin/busybox' },
  'set the clock': { script: 'date -s 2001-01-01; date +%Y | grep -q 2001' },
  'set the name of the machine': { script: 'hostname elsewhere' },
  'read the messages of the kernel': { script: 'dmesg | grep -q "Linux version"' },
  'send packets of its own making': { script: 'arping -c 1 -w 1 -I eth0 169.254.1.1 | grep -q reply' },
  'change its own address': { script: 'ip address add 10.128.255.1/32 dev eth0' },
  'change its own routes': { script: 'ip route add 192.0.2.0/24 via 169.254.1.1 dev eth0 onlink' },
  'raise its limit of open files': { script: 'ulimit -Hn 100000000' },
  'change the root of the file system': { script: 'mkdir -p /tmp/r && pivot_root /tmp/r /tmp/r' },
  'enter a namespace of the first process': {
    script: 'nsenter -t 1 -m -u -i -n true && ls /var/lib/bulkhead*',
  },
  'see processes of the machine': {
    script: 'ls /proc/[0-9]*/cmdline | xargs cat | tr "\\0" " " | grep -qE "[b]ulkhead-|[c]onmon"',
  },
  'climb out of /proc/1/root': { script: 'ls /proc/1/root/var/lib | grep -q bulkhead' },
}

describe('at the kernel, from inside pods', { skip }, () => {
  for (const tenant of TENANTS) {
    test(`root in a pod of ${tenant} tries what root of a machine could do`, async () => {
      const before = machineState()
      const { sandboxed } = { sandboxed: tenant === 'blue' }
      const attacks = Object.entries(KERNEL_ATTACKS)
      const script = attacks
        .map(
          ([, attack], i) =>
            `if (${attack.script}) >/dev/null 2>&1; then echo "through ${i}"; else echo "held ${i}"; fi`,
        )
        .join('\n')
      const output = await inPod(tenant, script)
      const through = [...output.matchAll(/^through (\d+)$/gm)].map(([, i]) => attacks[Number(i)])
      assert.equal(output.trim().split('\n').length, attacks.length, 'every attack was made')
      assert.deepEqual(
        through
          .filter((entry) => !(sandboxed && entry?.[1].sandboxed === 'harmless'))
          .map((entry) => entry?.[0]),
        [],
      )
      assert.deepEqual(machineState(), before, 'nothing of the machine has changed')
    })

    test(`a pod of ${tenant} finds no device but those that everybody has`, async () => {
      const devices = (await inPod(tenant, 'ls /dev')).trim().split('\n').sort()
      const harmless = [
        'fd',
        'full',
        'mqueue',
        'null',
        'ptmx',
        'pts',
        'random',
        'shm',
        'stderr',
        'stdin',
        'stdout',
      ]
      // gVisor's are its own, down to a network file system of nobody; the other runtime links to a masked file.
      const more = tenant === 'blue' ? ['fuse', 'net'] : ['core']
      const expected = [...harmless, ...more, 'termination-log', 'tty', 'urandom', 'zero']
      assert.deepEqual(
        devices.filter((device) => !expected.includes(device)),
        [],
      )
    })

    test(`a pod of ${tenant} attacks processes of the machine by number`, async () => {
      const pids = [1, process.pid, ...[...platform.daemons().values()].map(({ pid }) => pid)]
      const output = await inPod(
        tenant,
        pids
          // Process 1 of the pod is its own; what a signal to it shows is nothing.
          .map(
            (pid) =>
              `grep -aqE 'bulkhead|node' /proc/${pid}/cmdline /proc/${pid}/environ /proc/${pid}/maps 2>/dev/null && echo "saw ${pid}"`,
          )
          .join('\n')
          .concat('\ntrue\n'),
      )
      assert.equal(output, '')
      const signals = await inPod(
        tenant,
        `for pid in ${pids.slice(1).join(' ')}; do kill -9 $pid 2>/dev/null && echo "signalled $pid"; done; true`,
      )
      assert.equal(signals, '')
      assert.ok(pids.slice(1).every((pid) => observeProcesses().some((p) => p.pid === pid)))
    })
  }

  test('root in a pod is nobody on the machine, and another nobody for each tenant', () => {
    const { layout } = platform
    const users = new Map<string, Set<number>>()
    for (const p of observeProcesses()) {
      for (const path of p.cgroups) {
        const parts = path.split('/')
        const tenant = parts[parts.indexOf(layout.cgroup) + 1]
        if (!parts.includes(layout.cgroup) || tenant === undefined || p.args[0] === '/usr/bin/conmon')
          continue
        users.set(tenant, (users.get(tenant) ?? new Set<number>()).add(p.uid))
      }
    }
    assert.deepEqual([...users.keys()].sort(), ['blue', 'red'])
    const ranges = [...users].map(([tenant, uids]) => {
      const range = [...new Set([...uids].map((uid) => Math.floor((uid - layout.podUidBase) / 65_536)))]
      assert.equal(range.length, 1, `${tenant} has one range of users: ${[...uids].join(', ')}`)
      assert.ok((range[0] ?? -1) >= 0)
      return range[0]
    })
    assert.equal(new Set(ranges).size, 2)
  })
})

/** What a pod would change if it could. */
function machineState() {
  return Object.fromEntries(
    [
      '/proc/sys/kernel/core_pattern',
      '/proc/sys/kernel/randomize_va_space',
      '/proc/sys/kernel/hostname',
      '/sys/kernel/rcu_expedited',
    ].map((file) => [file, readFileSync(file, 'utf8')]),
  )
}

type Hostile = { name: string; path: RegExp; manifest: (image: string) => Manifest }

const hostilePod = (
  name: string,
  path: RegExp,
  spec: Record<string, unknown>,
  main: Record<string, unknown> = {},
) => ({
  name,
  path,
  manifest: (image: string) => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'hostile' },
    spec: { containers: [container({ image, ...main })], ...spec },
  }),
})
const inContainer = (name: string, field: string, main: Record<string, unknown>) =>
  hostilePod(name, new RegExp(`spec\\.containers\\[0\\]\\.${field}`), {}, main)

const HOSTILE: readonly Hostile[] = [
  inContainer('a privileged container', 'securityContext\\.privileged', {
    securityContext: { privileged: true },
  }),
  inContainer('added capabilities', 'securityContext\\.capabilities', {
    securityContext: { capabilities: { add: ['SYS_ADMIN'] } },
  }),
  inContainer('all capabilities', 'securityContext\\.capabilities', {
    securityContext: { capabilities: { add: ['ALL'] } },
  }),
  inContainer('raw sockets', 'securityContext\\.capabilities', {
    securityContext: { capabilities: { add: ['NET_RAW'] } },
  }),
  inContainer('no system call filter', 'securityContext\\.seccompProfile', {
    securityContext: { seccompProfile: { type: 'Unconfined' } },
  }),
  inContainer('an unmasked /proc', 'securityContext\\.procMount', {
    securityContext: { procMount: 'Unmasked' },
  }),
  inContainer('a port of the machine', 'ports\\[0\\]\\.hostPort', {
    ports: [{ containerPort: 80, hostPort: 80 }],
  }),
  inContainer('a device', 'volumeDevices', { volumeDevices: [{ name: 'x', devicePath: '/dev/x' }] }),
  inContainer('a mount that reaches the machine', 'volumeMounts\\[0\\]\\.mountPropagation', {
    volumeMounts: [{ name: 'x', mountPath: '/x', mountPropagation: 'Bidirectional' }],
  }),
  inContainer('a path that climbs out of a volume', 'volumeMounts\\[0\\]\\.subPath', {
    volumeMounts: [{ name: 'x', mountPath: '/x', subPath: '../../etc' }],
  }),
  hostilePod('a directory of the machine', /spec\.volumes\[0\]\.hostPath/, {
    volumes: [{ name: 'x', hostPath: { path: '/' } }],
  }),
  hostilePod('storage of the machine', /spec\.volumes\[0\]\.nfs/, {
    volumes: [{ name: 'x', nfs: { server: 'x', path: '/' } }],
  }),
  hostilePod('the network of the machine', /spec\.hostNetwork/, { hostNetwork: true }),
  hostilePod('the processes of the machine', /spec\.hostPID/, { hostPID: true }),
  hostilePod('the memory of the machine', /spec\.hostIPC/, { hostIPC: true }),
  hostilePod('the users of the machine', /spec\.hostUsers/, { hostUsers: true }),
  hostilePod('another runtime', /spec\.runtimeClassName/, { runtimeClassName: 'runc' }),
  hostilePod('settings of the kernel', /spec\.securityContext\.sysctls/, {
    securityContext: { sysctls: [{ name: 'kernel.msgmax', value: '1' }] },
  }),
  hostilePod('no filter for the pod', /spec\.securityContext\.seccompProfile/, {
    securityContext: { seccompProfile: { type: 'Unconfined' } },
  }),
  hostilePod('a container added later', /spec\.ephemeralContainers/, {
    ephemeralContainers: [{ name: 'x', image: 'x' }],
  }),
  hostilePod('a field that nobody knows', /spec\.containerBreakout/, { containerBreakout: true }),
  {
    name: 'the network of the machine, in a template',
    path: /spec\.template\.spec\.hostNetwork/,
    manifest: (image) => deployment({ name: 'hostile', image, spec: { hostNetwork: true } }),
  },
  {
    name: 'a privileged init container in a template',
    path: /spec\.template\.spec\.initContainers\[0\]\.securityContext\.privileged/,
    manifest: (image) =>
      deployment({
        name: 'hostile',
        image,
        spec: {
          initContainers: [container({ name: 'first', image, securityContext: { privileged: true } })],
        },
      }),
  },
  {
    name: 'a service on a port of the machine',
    path: /spec\.(?:ports\[0\]\.nodePort|type|externalIPs)/,
    manifest: () => service('hostile', 'x', 80, { type: 'NodePort' }),
  },
  {
    name: 'a service on an address of the machine',
    path: /spec\.externalIPs/,
    manifest: () => service('hostile', 'x', 80, { externalIPs: ['127.0.0.1'] }),
  },
]

describe('with hostile manifests', { skip }, () => {
  test('each is refused where it is applied, names the field, and leaves nothing behind', async () => {
    const image = `${registry.host}/busybox:1`
    const wrong: string[] = []
    for (const tenant of TENANTS) {
      for (const { name, path, manifest } of HOSTILE) {
        const object = manifest(image)
        const [collection] = {
          Pod: ['/api/v1/namespaces/default/pods'],
          Service: ['/api/v1/namespaces/default/services'],
          Deployment: ['/apis/apps/v1/namespaces/default/deployments'],
        }[object.kind] ?? ['/nowhere']
        for (const validation of ['Strict', 'Ignore']) {
          const answer = await platform.request(tenant, `${collection}?fieldValidation=${validation}`, {
            method: 'POST',
            headers: { 'content-type': 'application/json' },
            body: JSON.stringify(object),
          })
          const isUnknown = name === 'a field that nobody knows'
          // Ignoring what no version of Kubernetes ever had is what the client asked for.
          if (isUnknown && validation === 'Ignore') {
            await platform.kubectl(tenant, 'delete', 'pod', 'hostile', '--now')
            continue
          }
          if (answer.code !== 422 && answer.code !== 400) wrong.push(`${tenant}: ${name} got ${answer.code}`)
          if (!path.test(answer.body)) wrong.push(`${tenant}: ${name}: ${answer.body}`)
        }
      }
      const left = await platform.mustKubectl(tenant, 'get', 'pods,deployments,services', '-o', 'name')
      assert.ok(!left.includes('hostile'), `${tenant}: nothing was written: ${left}`)
    }
    assert.deepEqual(wrong, [])
  })

  test('kubectl apply shows the field, the reason and what to write instead', async () => {
    const image = `${registry.host}/busybox:1`
    const object = HOSTILE[0]?.manifest(image)
    const ran = await platform.runKubectl('red', ['apply', '-f', '-'], { input: JSON.stringify(object) })
    assert.notEqual(ran.code, 0)
    assert.match(ran.stderr, /spec\.containers\[0\]\.securityContext\.privileged: Forbidden: .*leave it out/)
  })

  test('a tenant cannot place pods, bind them to a machine or change them into something else', async () => {
    const send = (method: string, path: string, body: object) =>
      platform.request('red', path, {
        method,
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      })
    const pods = '/api/v1/namespaces/default/pods'
    const intruder = await platform.getJson<Manifest>('red', 'pod', 'intruder')
    const bound = await send('POST', `${pods}/intruder/binding`, {
      apiVersion: 'v1',
      kind: 'Binding',
      metadata: { name: 'intruder' },
      target: { kind: 'Node', name: 'elsewhere' },
    })
    assert.ok(bound.code >= 400 && bound.code < 500, `binding: ${bound.code} ${bound.body}`)
    const late = await send('PUT', `${pods}/intruder/ephemeralcontainers`, intruder)
    assert.ok(late.code >= 400 && late.code < 500, `ephemeral containers: ${late.code} ${late.body}`)
    const placed = await send('POST', pods, {
      ...pod({ name: 'placed', image: `${registry.host}/busybox:1`, script: 'true' }),
      spec: { nodeName: 'elsewhere', containers: [container({ image: `${registry.host}/busybox:1` })] },
    })
    assert.ok(placed.code >= 400 && placed.code < 500, `nodeName: ${placed.code} ${placed.body}`)
    const moved = await send('PUT', `${pods}/intruder`, {
      ...intruder,
      spec: { ...(intruder['spec'] as object), hostNetwork: true },
    })
    assert.ok(moved.code >= 400 && moved.code < 500, `an update to hostNetwork: ${moved.code} ${moved.body}`)
  })
})

describe('with input that is no request at all', { skip }, () => {
  test('the answer is a Status that blames the client, and no daemon stumbles', async () => {
    const logsBefore = await platform.daemonLogs()
    const json = 'application/json'
    const configMaps = '/api/v1/namespaces/default/configmaps'
    const valid = JSON.stringify(configMap('valid', { a: 'b' }))
    const bodies: [string, string, string | Uint8Array][] = [
      ['nothing', json, ''],
      ['not JSON', json, '{"apiVersion":'],
      ['a list', json, '[]'],
      ['null', json, 'null'],
      ['a number', json, '1e999'],
      ['deep lists', json, '['.repeat(200_000)],
      ['deep objects', json, '{"a":'.repeat(100_000) + '1' + '}'.repeat(100_000)],
      ['a huge body', json, JSON.stringify(configMap('huge', { a: 'x'.repeat(8 * 1024 * 1024) }))],
      [
        'the same key twice',
        json,
        '{"apiVersion":"v1","kind":"ConfigMap","kind":"Pod","metadata":{"name":"x"}}',
      ],
      ['no text', json, new Uint8Array([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d])],
      ['another kind', json, JSON.stringify(secret('x', {}))],
      ['metadata that is text', json, '{"apiVersion":"v1","kind":"ConfigMap","metadata":"x"}'],
      ['a name that is a number', json, '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":1}}'],
      ['a name that is a path', json, JSON.stringify(configMap('../../x', {}))],
      [
        'a prototype',
        json,
        '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"__proto__"},"__proto__":{"x":1}}',
      ],
      [
        'values that are lists',
        json,
        '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"a":[]}}',
      ],
      ['plain text', 'text/plain', valid],
      ['a form', 'multipart/form-data; boundary=x', '--x--'],
      ['broken YAML', 'application/yaml', 'a: [b\n c: {'],
      [
        'YAML that grows',
        'application/yaml',
        `a: &a [x,x,x,x,x,x,x,x,x]\n${'bcdefghi'
          .split('')
          .map((name, i) => `${name}: &${name} [${Array(9).fill(`*${'abcdefgh'[i]}`).join(',')}]`)
          .join('\n')}\n`,
      ],
      ['a YAML tag', 'application/yaml', '!!js/function "function(){}"'],
      ['protobuf without its magic', 'application/vnd.kubernetes.protobuf', 'nonsense'],
      [
        'protobuf that is cut off',
        'application/vnd.kubernetes.protobuf',
        Buffer.from('k8s\0\x0a\xff\xff\xff\x7f', 'latin1'),
      ],
      [
        'random protobuf',
        'application/vnd.kubernetes.protobuf',
        Buffer.concat([Buffer.from('k8s\0'), Buffer.alloc(5_000, 0x9a)]),
      ],
    ]
    const wrong: string[] = []
    const expectStatus = (what: string, answer: { code: number; body: string }) => {
      const isClients = answer.code >= 400 && answer.code < 500
      let status: { kind?: string; code?: number } = {}
      try {
        status = JSON.parse(answer.body) as typeof status
      } catch {
        // Told below.
      }
      // Kubernetes says this in plain text where no resource can be meant.
      if (answer.code === 404 && answer.body === '404 page not found\n') return
      if (!isClients || status.kind !== 'Status' || status.code !== answer.code)
        wrong.push(`${what}: ${answer.code} ${answer.body.slice(0, 200)}`)
    }
    // The server may hang up on a body that it will not read to its end.
    const send: typeof platform.request = (...args) =>
      platform.request(...args).catch((error: unknown) => ({ code: 0, body: String(error), headers: {} }))
    for (const [what, type, body] of bodies) {
      const headers = { 'content-type': type }
      expectStatus(
        what,
        await send('red', `${configMaps}?fieldValidation=Strict`, { method: 'POST', headers, body }),
      )
    }
    await platform.apply('red', [configMap('valid', { a: 'b' })])
    for (const [what, type, body] of [
      ['a JSON patch that is an object', 'application/json-patch+json', '{}'],
      ['a JSON patch of an unknown kind', 'application/json-patch+json', '[{"op":"explode","path":"/"}]'],
      ['a JSON patch of nothing', 'application/json-patch+json', '[{"op":"remove","path":"/data/nothing"}]'],
      [
        'a JSON patch of the prototype',
        'application/json-patch+json',
        '[{"op":"add","path":"/__proto__/x","value":1}]',
      ],
      ['a merge patch that is a list', 'application/merge-patch+json', '[]'],
      ['a strategic patch that is text', 'application/strategic-merge-patch+json', '"x"'],
      [
        'a strategic directive of an unknown kind',
        'application/strategic-merge-patch+json',
        '{"data":{"$patch":"explode"}}',
      ],
      ['an apply of nothing', 'application/apply-patch+yaml', ''],
      ['a patch of an unknown type', 'application/x-patch', '{}'],
    ] as const)
      expectStatus(
        what,
        await send('red', `${configMaps}/valid?fieldManager=test`, {
          method: 'PATCH',
          headers: { 'content-type': type },
          body,
        }),
      )
    for (const query of [
      'limit=x',
      'limit=-1',
      'continue=garbage',
      'resourceVersion=x',
      'resourceVersion=-1',
      'labelSelector=((',
      'labelSelector=a%20in%20(',
      'fieldSelector=nothing.here=1',
      'fieldSelector=%00',
      'watch=1&resourceVersion=x',
      'timeoutSeconds=x&watch=1',
    ])
      expectStatus(query, await send('red', `${configMaps}?${query}`))
    for (const path of [
      '/api/v2/pods',
      '/apis/none/v1/x',
      '/api/v1/namespaces/default/pods/x/explode',
      '/api/v1/namespaces/%ff/pods',
      '/api/v1/namespaces/default/pods/%00',
      `/api/v1/namespaces/${'x'.repeat(5_000)}/pods`,
      '/api/v1/namespaces/__proto__/pods/constructor',
      '/constructor',
      '/%',
    ])
      expectStatus(path.slice(0, 60), await send('red', path))
    for (const method of ['PROPFIND', 'OPTIONS', 'POST'])
      expectStatus(method, await send('red', '/api/v1/namespaces/default/pods/intruder', { method }))
    assert.deepEqual(wrong, [])
    for (const [name, log] of await platform.daemonLogs()) {
      const added = log.slice(logsBefore.get(name)?.length ?? 0)
      assert.doesNotMatch(added, /"stack"|\n\s+at |unhandled|uncaught/, `the log of ${name}`)
    }
    assert.equal((await platform.request('red', configMaps)).code, 200, 'and it goes on')
  })
})
