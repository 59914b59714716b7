import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { totalmem } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { parseTenantName, paths, PLATFORM_TENANT } from '../../src/api/index.ts'
import {
  gvisorMissing,
  internetSocketsSeenBy,
  namespaceOf,
  observeProcess,
  observeProcesses,
  platformMissing,
  type Process,
  socketsOf,
} from '../testkit/machine.ts'
import { configMap, pod, secret } from '../testkit/manifests.ts'
import { TestPlatform } from '../testkit/platform.ts'
import { type Registry, startBusyboxRegistry } from '../testkit/registry.ts'

/** The architecture's table of processes, compared with what the kernel says. */

const execute = promisify(execFile)
const skip = gvisorMissing
const PLANTED = 'planted-plaintext-5d41402abc4b2a76b9719d911017c592'
const NO_CAPABILITIES = '0'.repeat(16)

let platform: TestPlatform
let registry: Registry

before(async () => {
  if (skip !== false) return
  registry = await startBusyboxRegistry()
  const registries = [registry.host]
  platform = await TestPlatform.start({
    instance: 'tprc',
    slot: 10,
    tenants: [
      { name: 'red', registries },
      { name: 'pink', registries },
      { name: 'blue', trust: 'untrusted', registries },
    ],
  })
  for (const tenant of ['red', 'blue']) {
    await platform.apply(tenant, [
      secret('planted', { key: PLANTED }),
      configMap('planted', { key: PLANTED }),
      pod({ name: 'idle', image: `${registry.host}/busybox:1`, script: 'sleep 3600' }),
    ])
    await platform.mustKubectl(tenant, 'wait', '--for=condition=Ready', 'pod/idle', '--timeout=60s')
  }
})

after(async () => {
  if (skip !== false) return
  await platform?.[Symbol.asyncDispose]()
  await registry?.[Symbol.asyncDispose]()
})

/** As `setpriv` wants it. */
function userOf(name: string): { uid: number; gid: number } {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith(`${name}:`))
  const [, , uid, gid] = line?.split(':') ?? []
  return { uid: Number(uid), gid: Number(gid) }
}

function daemonProcesses(): Map<string, Process> {
  return new Map(
    [...platform.daemons()].map(([name, { pid }]) => {
      const seen = observeProcess(pid)
      assert.ok(seen, `${name} runs`)
      return [name, seen]
    }),
  )
}

test(
  'each daemon runs under the user of the table, and none but the node agent and the verifier can do anything special',
  { skip },
  () => {
    const seen = [...daemonProcesses()].map(([name, p]) => ({
      name,
      title: p.args[0],
      uid: p.uid,
      gid: p.gid,
      capEff: p.capEff,
      capPrm: p.capPrm,
      capBnd: p.capBnd,
      noNewPrivs: p.noNewPrivs,
      groups: p.groups,
    }))
    const powerless = {
      capEff: NO_CAPABILITIES,
      capPrm: NO_CAPABILITIES,
      capBnd: NO_CAPABILITIES,
      noNewPrivs: true,
      groups: [],
    }
    // SETGID, SETUID, DAC_READ_SEARCH, NET_ADMIN, SYS_PTRACE, SYS_ADMIN: it looks at everything, and writes nothing of others.
    const READING = '00000000002810c4'
    const { layout } = platform
    const node = seen.find(({ name }) => name === 'node')
    assert.equal(node?.uid, 0)
    assert.equal(node.title, 'bulkhead-node')
    const [blue] = seen.filter(({ name }) => name === 'worker-blue')
    assert.ok(
      blue && blue.uid >= layout.controlPlaneUidBase && blue.uid < layout.controlPlaneUidBase + 4_096,
      `the control plane of a sandboxed tenant has a user of its own, not ${blue?.uid}`,
    )
    assert.deepEqual(
      seen.filter(({ name }) => name !== 'node').sort((a, b) => (a.name < b.name ? -1 : 1)),
      [
        {
          name: 'connector',
          title: 'bulkhead-connector',
          ...userOf('bulkhead-conn'),
          ...powerless,
        },
        { name: 'dns', title: 'bulkhead-dns', ...userOf('bulkhead-dns'), ...powerless },
        { name: 'gateway', title: 'bulkhead-gateway', ...userOf('bulkhead-gateway'), ...powerless },
        { name: 'images', title: 'bulkhead-images', ...userOf('bulkhead-images'), ...powerless },
        { name: 'ingress', title: 'bulkhead-ingress', ...userOf('bulkhead-ingress'), ...powerless },
        { name: 'names', title: 'bulkhead-names', ...userOf('bulkhead-names'), ...powerless },
        { name: 'platform', title: 'bulkhead-platform', ...userOf('bulkhead-platform'), ...powerless },
        {
          name: 'pod-gateway',
          title: 'bulkhead-pod-gateway',
          uid: userOf('bulkhead-pod-gateway').uid,
          // The sockets of control planes are this group's to connect to.
          gid: userOf('bulkhead-gateway').gid,
          ...powerless,
        },
        { name: 'prober', title: 'bulkhead-prober', ...userOf('bulkhead-prober'), ...powerless },
        {
          name: 'verifier',
          title: 'bulkhead-verifier',
          ...userOf('bulkhead-verifier'),
          ...powerless,
          capEff: READING,
          capPrm: READING,
          capBnd: READING,
        },
        { name: 'worker-blue', title: 'bulkhead-worker blue', uid: blue.uid, gid: blue.uid, ...powerless },
        {
          name: 'worker-shared',
          title: 'bulkhead-worker shared',
          ...userOf('bulkhead-worker'),
          ...powerless,
        },
      ],
    )
    assert.equal(new Set(seen.map(({ uid }) => uid)).size, seen.length, 'no two daemons share a user')
  },
)

test(
  'every process of the platform is in the table: daemons, one monitor per container, and pods',
  { skip },
  () => {
    const { layout } = platform
    const daemons = new Set([...platform.daemons().values()].map(({ pid }) => pid))
    const others = observeProcesses().filter(
      (p) =>
        p.pid !== process.pid &&
        !daemons.has(p.pid) &&
        (p.args.some((arg) => arg.includes(`${layout.runDir}/`)) ||
          p.cgroups.some((path) => path.split('/').includes(layout.cgroup))),
    )
    const kinds = others.map((p) => {
      if (p.args[0] === '/usr/bin/conmon') return p.uid === 0 ? 'monitor' : `monitor as ${p.uid}`
      return p.uid >= layout.podUidBase && p.uid < layout.podUidBase + 3 * 65_536
        ? 'pod'
        : `${p.uid}: ${p.args.join(' ')}`
    })
    assert.deepEqual([...new Set(kinds)].sort(), ['monitor', 'pod'])
    assert.equal(kinds.filter((kind) => kind === 'monitor').length, 2)
  },
)

test(
  'each daemon, and what watches the containers of a tenant, is in a cgroup of its own that it cannot outgrow',
  { skip },
  () => {
    const group = (args: readonly string[], { cgroups }: Process) => {
      const [own = ''] = cgroups.filter((path) => path.split('/')[1] === `${platform.layout.cgroup}-daemons`)
      assert.ok(own, `${args.join(' ')} is in a cgroup of the daemons: ${cgroups.join(' ')}`)
      return own.split('/').slice(2).join('/')
    }
    const limit = (path: string, v1: string, v2: string) => {
      const [controller = ''] = v1.split('.')
      const inside = `${platform.layout.cgroup}-daemons/${path}`
      const files = [`/sys/fs/cgroup/${controller}/${inside}/${v1}`, `/sys/fs/cgroup/${inside}/${v2}`]
      return readFileSync(files.find((file) => existsSync(file)) ?? '', 'utf8').trim()
    }
    const daemons = [...daemonProcesses()]
    assert.deepEqual(
      daemons.map(([name, p]) => [name, group(p.args, p)]),
      daemons.map(([name]) => [name, name]),
    )
    const monitors = observeProcesses().filter(
      (p) =>
        p.args[0] === '/usr/bin/conmon' && p.args.some((arg) => arg.includes(`${platform.layout.runDir}/`)),
    )
    const watched = monitors.map((p) => group(p.args, p))
    assert.deepEqual(watched.sort(), ['monitors/blue', 'monitors/red'])
    for (const path of [...daemons.map(([name]) => name), ...watched]) {
      const tasks = Number(limit(path, 'pids.max', 'pids.max'))
      assert.ok(tasks > 0 && tasks <= 16_384, `${path}: ${tasks} tasks`)
      // Whoever mends everything else must not be ended for lack of memory.
      if (path === 'node') continue
      const memory = Number(limit(path, 'memory.limit_in_bytes', 'memory.max'))
      assert.ok(memory > 0 && memory <= totalmem() / 2, `${path}: ${memory} bytes`)
    }
  },
)

test('the node agent has no IP socket at all, in any state', { skip }, () => {
  const agent = platform.daemons().get('node')
  assert.ok(agent)
  const own = socketsOf(agent.pid)
  const held = internetSocketsSeenBy(agent.pid).filter(({ inode }) => own.has(inode))
  assert.deepEqual(held, [])
})

test(
  'the gateway and the front door have the only listeners in the namespace of the machine, and what pods reach is in that of the router',
  { skip },
  async () => {
    const { layout } = platform
    const { address: door, httpPort, httpsPort } = layout.ingress
    const doors = [`${door}:${httpPort}`, `${door}:${httpsPort}`]
    const listening: Record<string, string[]> = {}
    for (const [name, { pid }] of platform.daemons()) {
      const own = socketsOf(pid)
      // 0A is LISTEN, 07 an unconnected UDP socket (net/tcp_states.h).
      const open = internetSocketsSeenBy(pid)
        .filter(
          ({ inode, protocol, state }) => own.has(inode) && (state === '0A' || !protocol.startsWith('tcp')),
        )
        .map(({ protocol, local }) => `${protocol} ${address(local)}`)
        .sort()
      if (open.length > 0) listening[name] = open
    }
    assert.deepEqual(listening, {
      gateway: [`tcp ${layout.gatewayAddress}:${layout.gatewayPort}`],
      ingress: doors.map((port) => `tcp ${port}`),
      dns: ['tcp 169.254.1.1:53', 'udp 169.254.1.1:53'],
      'pod-gateway': ['tcp 169.254.1.1:6443'],
    })
    const machine = namespaceOf(process.pid, 'net')
    const elsewhere = [...platform.daemons()].filter(([, { pid }]) => namespaceOf(pid, 'net') !== machine)
    assert.deepEqual(
      elsewhere.map(([name]) => name),
      ['connector', 'dns', 'platform', 'pod-gateway', 'prober', 'worker-blue', 'worker-shared'],
    )
    const routers = ['connector', 'dns', 'pod-gateway']
    const inRouter = elsewhere.filter(([name]) => routers.includes(name))
    const offline = elsewhere.filter(([name]) => !routers.includes(name))
    // Control planes speak on unix sockets only: whoever takes one over reaches nothing else, nor another's namespace.
    assert.equal(new Set(offline.map(([, { pid }]) => namespaceOf(pid, 'net'))).size, offline.length)
    for (const [name, { pid }] of offline) {
      const links = readFileSync(`/proc/${pid}/net/dev`, 'utf8').split('\n').slice(2).filter(Boolean)
      assert.deepEqual(
        links.map((line) => line.trim().split(':')[0]),
        ['lo'],
        name,
      )
    }
    for (const [name, { pid }] of inRouter)
      assert.equal(
        namespaceOf(pid, 'net'),
        `net:[${statSync(paths.routerNetns(layout)).ino}]`,
        `${name} is in the namespace of the router`,
      )
    const { stdout } = await execute('ss', ['-Hltnup'])
    const ours = new Map([...platform.daemons()].map(([name, { pid }]) => [pid, name]))
    const shown = stdout.split('\n').flatMap((line) => {
      const pid = Number(/pid=(\d+)/.exec(line)?.[1])
      return ours.has(pid) ? [`${ours.get(pid)} ${line.trim().split(/\s+/)[4]}`] : []
    })
    assert.deepEqual(shown.sort(), [
      `gateway ${layout.gatewayAddress}:${layout.gatewayPort}`,
      ...doors.map((port) => `ingress ${port}`),
    ])
  },
)

/** `0100007F:1D18` of /proc/net/tcp: hexadecimal in the byte order of the machine. */
function address(local: string): string {
  const [host = '', port = ''] = local.split(':')
  const bytes = Buffer.from(host, 'hex')
  if (bytes.length !== 4) return local
  return `${[...bytes.reverse()].join('.')}:${Number.parseInt(port, 16)}`
}

test('every unix socket belongs to who may use it', { skip }, () => {
  const { layout } = platform
  const { uid: worker, gid: workers } = userOf('bulkhead-worker')
  const { gid: gateways } = userOf('bulkhead-gateway')
  const { uid: platformUser, gid: platformGroup } = userOf('bulkhead-platform')
  const blue = platform.daemons().get('worker-blue')?.uid
  const both = ({ uid, gid }: { uid: number; gid: number }) => `${uid}:${gid}`
  const describe = (path: string) => {
    const { uid, gid, mode } = statSync(path)
    return `${uid}:${gid} ${(mode & 0o777).toString(8)}`
  }
  const sockets: Record<string, string> = {}
  const walk = (dir: string) => {
    for (const entry of readdirSync(dir, { withFileTypes: true })) {
      const path = join(dir, entry.name)
      if (entry.isSocket()) sockets[path.slice(layout.runDir.length + 1)] = describe(path)
      else if (entry.isDirectory() && !path.startsWith(`${layout.runDir}/containers`)) walk(path)
    }
  }
  walk(layout.runDir)
  assert.deepEqual(sockets, {
    'connector/connector.sock': `${both(userOf('bulkhead-conn'))} 600`,
    'cp/blue/api.sock': `${blue}:${gateways} 660`,
    'cp/pink/api.sock': `${worker}:${gateways} 660`,
    'cp/platform/api.sock': `${platformUser}:${gateways} 660`,
    'cp/red/api.sock': `${worker}:${gateways} 660`,
    'dns/dns.sock': `${both(userOf('bulkhead-dns'))} 600`,
    'forwarder/forwarder.sock': `${both(userOf('bulkhead-names'))} 600`,
    'ingress/ingress.sock': `${both(userOf('bulkhead-ingress'))} 600`,
    'images/images.sock': `${both(userOf('bulkhead-images'))} 600`,
    'node/blue.sock': `${blue}:0 600`,
    'node/pink.sock': `${worker}:0 600`,
    'node/platform.sock': `${platformUser}:0 600`,
    'node/red.sock': `${worker}:0 600`,
    'outside.sock': `${userOf('bulkhead-dns').uid}:0 600`,
    'prober/prober.sock': `${both(userOf('bulkhead-prober'))} 600`,
    'wake.sock': `0:${gateways} 660`,
    'worker/blue/control.sock': `${blue}:${blue} 600`,
    'worker/platform/control.sock': `${platformUser}:${platformGroup} 600`,
    'worker/shared/control.sock': `${worker}:${workers} 600`,
  })
})

/** Sends a request from a process with another user; what comes back, or why nothing did. */
async function ask(user: { uid: number; gid?: number }, socketPath: string, path: string): Promise<string> {
  const script = `
    const { request } = require('node:http')
    const req = request({ socketPath: process.argv[1], path: process.argv[2], timeout: 5000 }, (res) => {
      res.resume().on('end', () => console.log('answered ' + res.statusCode))
    })
    req.on('timeout', () => { console.log('silence'); process.exit(0) })
    req.on('error', (error) => console.log(error.code))
    req.end()`
  const { stdout } = await execute(
    'setpriv',
    [
      `--reuid=${user.uid}`,
      `--regid=${user.gid ?? user.uid}`,
      '--clear-groups',
      process.execPath,
      '-e',
      script,
      socketPath,
      path,
    ],
    { env: { PATH: '/usr/bin:/bin' } },
  )
  return stdout.trim()
}

const REFUSED = ['EACCES', 'ECONNRESET', 'EPIPE']

test(
  'nobody but its one user is answered on a socket, whatever the mode of the file says',
  { skip },
  async () => {
    const { layout } = platform
    const worker = userOf('bulkhead-worker')
    const gateway = userOf('bulkhead-gateway')
    const podGateway = { uid: userOf('bulkhead-pod-gateway').uid, gid: gateway.gid }
    const blue = platform.daemons().get('worker-blue')?.uid ?? 0
    const podRoot = layout.podUidBase
    const sockets = [
      {
        path: paths.nodeTenantSocket(layout, parseTenantName('red')),
        ask: '/v1/node',
        allowed: [worker.uid],
      },
      { path: paths.nodeTenantSocket(layout, parseTenantName('blue')), ask: '/v1/node', allowed: [blue] },
      {
        path: paths.nodePlatformSocket(layout),
        ask: '/v1/tenants',
        allowed: [userOf('bulkhead-platform').uid],
      },
      {
        path: paths.apiSocket(layout, parseTenantName('red')),
        ask: '/api',
        allowed: [gateway.uid, podGateway.uid],
      },
      {
        path: paths.apiSocket(layout, parseTenantName('blue')),
        ask: '/api',
        allowed: [gateway.uid, podGateway.uid],
      },
      { path: paths.apiSocket(layout, PLATFORM_TENANT), ask: '/api', allowed: [gateway.uid] },
      { path: paths.workerControlSocket(layout, 'shared'), ask: '/v1/tenants/red', allowed: [0] },
      { path: paths.workerControlSocket(layout, 'blue'), ask: '/v1/tenants/blue', allowed: [0] },
      { path: paths.imagesSocket(layout), ask: '/', allowed: [0] },
      { path: paths.wakeSocket(layout), ask: '/v1/awake/red', allowed: [gateway.uid, podGateway.uid] },
    ]
    const strangers: { uid: number; gid?: number }[] = [
      { uid: 0, gid: 0 },
      worker,
      { uid: blue },
      gateway,
      podGateway,
      userOf('bulkhead-platform'),
      userOf('bulkhead-images'),
      { uid: podRoot },
      { uid: 65_534 },
      // Who got into the group of the gateway can open the file, and must still be nobody.
      { uid: 65_534, gid: gateway.gid },
    ]
    const outcomes: string[] = []
    await Promise.all(
      sockets.map(async (socket) => {
        for (const stranger of strangers) {
          const expected = socket.allowed.includes(stranger.uid)
          const answer = await ask(stranger, socket.path, socket.ask)
          const as = expected ? answer.startsWith('answered') : REFUSED.includes(answer)
          if (!as)
            outcomes.push(
              `${socket.path.slice(layout.runDir.length)} as ${stranger.uid}:${stranger.gid ?? stranger.uid}: ${answer}`,
            )
        }
      }),
    )
    assert.deepEqual(outcomes, [], 'only the users of the table are answered')
  },
)

test(
  'what is stored can be read by its own daemon only, and holds no secret in the clear',
  { skip },
  async () => {
    const { layout } = platform
    const red = paths.partition(layout, parseTenantName('red'))
    const blue = paths.partition(layout, parseTenantName('blue'))
    const secrets = [
      red,
      blue,
      join(layout.stateDir, 'platform/store.sqlite'),
      join(layout.stateDir, 'kek'),
      join(layout.stateDir, 'operator.kubeconfig'),
      join(layout.stateDir, 'audit/gateway/audit.log'),
      join(layout.stateDir, 'audit/pod-gateway/audit.log'),
      join(layout.stateDir, 'audit/verifier/audit.log'),
      ...readdirSync(join(layout.stateDir, 'keys')).map((file) => join(layout.stateDir, 'keys', file)),
      ...readdirSync(paths.pki(layout))
        .filter((file) => file.endsWith('.key') || file.includes('key'))
        .map((file) => join(paths.pki(layout), file)),
      ...readdirSync(join(layout.stateDir, 'logs')).map((file) => join(layout.stateDir, 'logs', file)),
    ]
    const users = new Map(
      [...daemonProcesses()]
        .filter(([name]) => name !== 'node')
        .map(([name, { uid, gid }]) => [name, { uid, gid }]),
    )
    users.set('root of a pod', { uid: layout.podUidBase, gid: layout.podUidBase })
    users.set('nobody', { uid: 65_534, gid: 65_534 })
    const readers: Record<string, string[]> = {}
    for (const [name, { uid, gid }] of users) {
      const script = `for file; do if head -c1 "$file" >/dev/null 2>&1; then echo "$file"; fi; done`
      const { stdout } = await execute('setpriv', [
        `--reuid=${uid}`,
        `--regid=${gid}`,
        '--clear-groups',
        'sh',
        '-c',
        script,
        'sh',
        ...secrets,
      ])
      for (const file of stdout.trim().split('\n').filter(Boolean))
        (readers[file.slice(layout.stateDir.length + 1)] ??= []).push(name)
    }
    assert.deepEqual(readers, {
      'audit/gateway/audit.log': ['gateway'],
      'audit/pod-gateway/audit.log': ['pod-gateway'],
      'audit/verifier/audit.log': ['verifier'],
      'pki/client-ca.key': ['platform'],
      'pki/gateway.key': ['gateway'],
      'pki/pod-gateway.key': ['pod-gateway'],
      'platform/store.sqlite': ['platform'],
      'tenants/blue/store.sqlite': ['worker-blue'],
      'tenants/red/store.sqlite': ['worker-shared'],
    })
    for (const path of [join(layout.stateDir, 'kek'), join(layout.stateDir, 'keys')]) {
      const { uid, mode } = statSync(path)
      assert.deepEqual([uid, mode & 0o077], [0, 0], `${path} is root's alone`)
    }
    const found = await execute('grep', ['-rlaF', PLANTED, layout.stateDir]).then(
      ({ stdout }) => stdout.trim().split('\n'),
      (error: { code: number; stdout: string; stderr: string }) => {
        assert.equal(error.code, 1, error.stderr)
        return []
      },
    )
    assert.deepEqual(found, [], 'no file on the disk holds the plaintext')
    const base64 = Buffer.from(PLANTED).toString('base64').slice(0, 40)
    assert.equal(
      await execute('grep', ['-rlaF', base64, layout.stateDir]).then(
        ({ stdout }) => stdout,
        () => 'nothing',
      ),
      'nothing',
    )
  },
)

test(
  'no daemon gets a secret through its arguments or its environment',
  { skip: platformMissing || skip },
  () => {
    for (const [name, p] of daemonProcesses()) {
      const environment = readFileSync(`/proc/${p.pid}/environ`, 'utf8').split('\0').filter(Boolean)
      const names = environment.map((entry) => entry.split('=')[0] ?? '').sort()
      assert.deepEqual(
        names.filter(
          (variable) =>
            !['PATH', 'GATEWAY_UID', 'POD_GATEWAY_UID', 'INGRESS_UID', 'NODE_COMPILE_CACHE'].includes(
              variable,
            ) && !variable.startsWith('BULKHEAD_'),
        ),
        [],
        `${name} has only the layout in its environment`,
      )
    }
  },
)
