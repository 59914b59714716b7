import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync, statSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { stringify } from 'yaml'
import { parseTenantName, paths } from '../../src/api/index.ts'
import { MiB, until } from '../../src/stdx/index.ts'
import {
  gvisorMissing,
  KUBECTL,
  observeProcess,
  observeProcesses,
  platformMissing,
} from '../testkit/machine.ts'
import { configMap, deployment, pod } from '../testkit/manifests.ts'
import { run, TestPlatform } from '../testkit/platform.ts'
import { type Registry, startBusyboxRegistry } from '../testkit/registry.ts'

/** A tenant's life as its operator sees it: a quota, a move to another class, its end, and the next of its name. */

const skip = platformMissing
const CLI = new URL('../../src/main/cli.ts', import.meta.url).pathname
const red = parseTenantName('red')

type Spec = { trust?: string; code?: string; quota?: Record<string, string | number> }
type Tenant = {
  metadata: { uid: string }
  status: { isolationClass: string; placement: { index: number; podUidBase: number } }
}

let platform: TestPlatform
let registry: Registry

before(async () => {
  if (skip !== false) return
  registry = await startBusyboxRegistry()
  platform = await TestPlatform.start({ instance: 'tlif', slot: 9, tenants: [] })
})

after(async () => {
  if (skip !== false) return
  await platform?.[Symbol.asyncDispose]()
  await registry?.[Symbol.asyncDispose]()
})

async function applyTenant(name: string, spec: Spec = {}): Promise<void> {
  const file = join(platform.kubeconfig(`${name}.tenant`))
  const document = {
    apiVersion: 'tenancy.bulkhead.dev/v1alpha1',
    kind: 'Tenant',
    metadata: { name },
    spec: { trust: 'trusted', code: 'own', registries: [registry.host], ...spec },
  }
  await writeFile(file, stringify(document))
  await platform.mustCli('tenant', 'apply', '-f', file)
}

async function giveKubeconfig(name: string): Promise<void> {
  await platform.mustCli('kubeconfig', name, '-f', platform.kubeconfig(name))
}

/** The real kubectl as the platform's operator. */
async function operator(...args: string[]): Promise<string> {
  const config = paths.operatorKubeconfig(platform.layout)
  const ran = await run(
    KUBECTL,
    ['--kubeconfig', config, ...args],
    { PATH: '/usr/bin:/bin', HOME: '/nonexistent' },
    {},
  )
  assert.equal(ran.code, 0, ran.stderr)
  return ran.stdout
}

async function tenantObject(name: string): Promise<Tenant> {
  return JSON.parse(await operator('get', 'tenant', name, '-o', 'json')) as Tenant
}

const worker = (name: string, extra: Record<string, unknown> = {}) =>
  pod({ name, image: `${registry.host}/busybox:1`, script: 'sleep 3600', ...extra })

const limited = (name: string, memory: string, cpu: string) =>
  worker(name, { resources: { limits: { memory, cpu } } })

/** A file of a tenant's cgroup, whichever version of cgroups the machine has. */
function cgroupFile(tenant: string, v1: string, v2: string): string {
  const { cgroup } = platform.layout
  const files = [
    join('/sys/fs/cgroup', v1.split('.')[0] ?? '', cgroup, tenant, v1),
    join('/sys/fs/cgroup', cgroup, tenant, v2),
  ]
  const file = files.find((path) => existsSync(path))
  assert(file, `one of ${files.join(', ')} exists`)
  return readFileSync(file, 'utf8').trim()
}

/** Every file below a directory whose path or content has `needle`. */
function filesWith(directory: string, needle: string | Buffer): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true }).flatMap((entry) => {
    const path = join(entry.parentPath, entry.name)
    if (typeof needle === 'string') return path.includes(needle) ? [path] : []
    // Some go while others are read.
    return entry.isFile() && existsSync(path) && fileHas(path, needle) ? [path] : []
  })
}

/** In pieces, because a tenant's file system in a file is larger than what is read at once. */
function fileHas(path: string, needle: Buffer): boolean {
  const buffer = Buffer.alloc(64 * MiB)
  const fd = openSync(path, 'r')
  try {
    for (let position = 0; ; position += buffer.length - needle.length) {
      const size = readSync(fd, buffer, 0, buffer.length, position)
      if (buffer.subarray(0, size).includes(needle)) return true
      if (size < buffer.length) return false
    }
  } finally {
    closeSync(fd)
  }
}

describe('the quota of a tenant', { skip }, () => {
  test('is told when a pod would exceed it, and the kernel holds all pods together to it', async () => {
    await applyTenant('red', { quota: { pods: 2, memoryBytes: '100Mi', cpu: '500m' } })
    await giveKubeconfig('red')
    const refused = async (manifest: object) => {
      const ran = await platform.runKubectl('red', ['create', '-f', '-'], { input: stringify(manifest) })
      assert.equal(ran.code, 1, ran.stdout)
      return ran.stderr
    }
    assert.match(
      await refused(worker('unlimited')),
      /failed quota: must specify limits\.memory for: main; the operator limits the memory of all pods/,
    )
    assert.match(
      await refused(limited('big', '101Mi', '100m')),
      /exceeded quota: requested: limits\.memory=105906176, used: limits\.memory=0, limited: limits\.memory=104857600/,
    )
    await platform.apply('red', [limited('a', '60Mi', '400m')])
    assert.match(
      await refused(limited('b', '10Mi', '200m')),
      /requested: limits\.cpu=200m, used: limits\.cpu=400m, limited: limits\.cpu=500m/,
    )
    await platform.mustKubectl('red', 'wait', '--for=condition=Ready', 'pod/a', '--timeout=60s')
    const memory = Number(cgroupFile('red', 'memory.limit_in_bytes', 'memory.max'))
    assert.ok(
      memory >= 100 * 1024 * 1024 && memory < 150 * 1024 * 1024,
      `the tenant's cgroup has ${memory} bytes`,
    )
    assert.match(cgroupFile('red', 'cpu.cfs_quota_us', 'cpu.max'), /^50000\b/)
    assert.equal(cgroupFile('red', 'pids.max', 'pids.max'), '4096')
  })

  test('changes while its control plane and its pods go on', async () => {
    const containerID = async () =>
      await platform.mustKubectl(
        'red',
        'get',
        'pod',
        'a',
        '-o',
        'jsonpath={.status.containerStatuses[0].containerID}',
      )
    const [daemons, container] = [platform.daemons(), await containerID()]
    await applyTenant('red', { quota: { pods: 2, memoryBytes: '1Gi' } })
    await platform.apply('red', [limited('b', '200Mi', '1200m')])
    await platform.mustKubectl('red', 'wait', '--for=condition=Ready', 'pod/b', '--timeout=60s')
    assert.match(cgroupFile('red', 'cpu.cfs_quota_us', 'cpu.max'), /^(-1|max\b)/)
    assert.ok(Number(cgroupFile('red', 'memory.limit_in_bytes', 'memory.max')) >= 1024 ** 3)
    assert.deepEqual(platform.daemons(), daemons)
    assert.equal(await containerID(), container)
    const third = await platform.runKubectl('red', ['create', '-f', '-'], {
      input: stringify(limited('c', '1Mi', '1m')),
    })
    assert.match(third.stderr, /exceeded quota: the tenant uses 2 of 2 pods/)
    await applyTenant('red')
    await platform.apply('red', [worker('c')])
    await platform.mustKubectl('red', 'delete', 'pod', 'a', 'b', 'c', '--wait=true')
  })
})

describe('a tenant whose class changes', { skip: gvisorMissing }, () => {
  const objects = async () => {
    const { items } = await platform.getJson<{
      items: { metadata: { uid: string }; data?: unknown; spec?: unknown }[]
    }>('red', 'configmap/kept', 'deployment/web')
    return items.map(({ metadata: { uid }, data, spec }) => ({ uid, data, spec }))
  }
  const kernel = async () => {
    await platform.mustKubectl('red', 'rollout', 'status', 'deployment/web', '--timeout=90s')
    return await until(
      async () => {
        const ran = await platform.kubectl('red', 'exec', 'deployment/web', '--', 'dmesg')
        return `${ran.stdout}${ran.stderr}`.trim() || undefined
      },
      { timeoutMs: 60_000 },
    )
  }
  const partitionOwner = () => statSync(paths.partition(platform.layout, red)).uid

  test('moves to a process, a user and a kernel of its own, and keeps every object as it is', async () => {
    await platform.apply('red', [
      configMap('kept', { key: 'value' }),
      deployment({ name: 'web', image: `${registry.host}/busybox:1`, script: 'sleep 3600' }),
    ])
    assert.doesNotMatch(await kernel(), /gVisor/i)
    const before = { objects: await objects(), tenant: await tenantObject('red'), owner: partitionOwner() }
    assert.equal(before.tenant.status.isolationClass, 'shared')

    await applyTenant('red', { trust: 'untrusted', code: 'thirdParty' })
    const moved = await tenantObject('red')
    assert.equal(moved.status.isolationClass, 'sandboxed')
    const own = platform.daemons().get('worker-red')
    assert.equal(own?.uid, platform.layout.controlPlaneUidBase + moved.status.placement.index)
    assert.equal(partitionOwner(), own.uid)
    assert.notEqual(before.owner, own.uid)
    assert.deepEqual(await objects(), before.objects)
    assert.match(await kernel(), /gVisor/i)

    await applyTenant('red')
    assert.equal((await tenantObject('red')).status.isolationClass, 'shared')
    assert.equal(platform.daemons().get('worker-red'), undefined)
    assert.equal(observeProcess(own.pid), undefined)
    assert.equal(partitionOwner(), before.owner)
    assert.deepEqual(await objects(), before.objects)
    assert.doesNotMatch(await kernel(), /gVisor/i)
    const after = await tenantObject('red')
    assert.deepEqual(
      [after.metadata.uid, after.status.placement],
      [before.tenant.metadata.uid, before.tenant.status.placement],
    )
  })
})

describe('a node agent that is killed in the middle', { skip: gvisorMissing }, () => {
  const killAgent = () => {
    const agent = platform.daemons().get('node')
    assert.ok(agent)
    process.kill(agent.pid, 'SIGKILL')
  }
  /** Starts a change, kills the agent as soon as it has begun, and starts the agent anew. */
  const cutOff = async (begun: () => boolean, args: string[]) => {
    await operator(...args)
    await until(begun, { timeoutMs: 30_000, everyMs: 1 })
    killAgent()
    await platform.mustCli('up')
  }
  const placements = () =>
    JSON.parse(readFileSync(join(platform.layout.stateDir, 'placements.json'), 'utf8')) as {
      tenants: Record<string, { isolationClass: string; movingFrom?: string }>
    }

  test('of a move ends it: the tenant is in one place, with its objects and pods', async () => {
    await applyTenant('torn')
    await giveKubeconfig('torn')
    const web = deployment({ name: 'web', image: `${registry.host}/busybox:1`, script: 'sleep 3600' })
    await platform.apply('torn', [configMap('kept', { key: 'value' }), web])
    await platform.mustKubectl('torn', 'rollout', 'status', 'deployment/web', '--timeout=90s')
    const patch = JSON.stringify({ spec: { trust: 'untrusted', code: 'thirdParty' } })
    await cutOff(
      () => placements().tenants['torn']?.movingFrom !== undefined,
      ['patch', 'tenant', 'torn', '--type=merge', '-p', patch],
    )
    await operator(
      'wait',
      'tenant',
      'torn',
      '--for=jsonpath={.status.isolationClass}=sandboxed',
      '--timeout=60s',
    )
    await until(() => placements().tenants['torn']?.movingFrom === undefined, { timeoutMs: 60_000 })
    await until(async () => (await platform.kubectl('torn', 'get', 'ns')).code === 0, { timeoutMs: 60_000 })
    assert.ok(platform.daemons().has('worker-torn'))
    assert.equal(
      await platform.mustKubectl('torn', 'get', 'configmap', 'kept', '-o', 'jsonpath={.data.key}'),
      'value',
    )
    await platform.mustKubectl('torn', 'rollout', 'status', 'deployment/web', '--timeout=90s')
    const output = await until(
      async () => (await platform.kubectl('torn', 'exec', 'deployment/web', '--', 'dmesg')).stdout,
      { timeoutMs: 60_000 },
    )
    assert.match(output, /gVisor/i)
  })

  test('of a removal ends it: nothing is left', async () => {
    await cutOff(
      () => !existsSync(paths.tenantUid(platform.layout, parseTenantName('torn'))),
      ['delete', 'tenant', 'torn', '--wait=false'],
    )
    await until(async () => (await platform.cli('tenant', 'describe', 'torn')).code === 1, {
      timeoutMs: 60_000,
    })
    assert.equal(placements().tenants['torn'], undefined)
    assert.deepEqual(filesWith(platform.layout.stateDir, '/torn'), [])
    assert.deepEqual(filesWith(platform.layout.runDir, '/torn'), [])
    assert.equal(platform.daemons().has('worker-torn'), false)
  })
})

describe('the commands', { skip }, () => {
  test('refuse in one sentence, and leave nothing half-started', async () => {
    const { layout } = platform
    const other = (env: Record<string, string>) => {
      const PATH = '/usr/sbin:/usr/bin:/sbin:/bin'
      return run(
        process.execPath,
        [CLI, 'up'],
        { PATH, BULKHEAD_INSTANCE: 'tlig', BULKHEAD_SLOT: '13', ...env },
        {},
      )
    }
    const taken = await other({ BULKHEAD_PORT: String(layout.gatewayPort) })
    assert.equal(taken.code, 1)
    assert.match(taken.stderr, /^bulkhead: Port \d+ of 127\.0\.0\.1 is taken by another program; [^\n]*\n$/)
    const held = await other({ BULKHEAD_STATE_DIR: layout.stateDir })
    assert.equal(held.code, 1)
    assert.match(
      held.stderr,
      /^bulkhead: "[^"]+" holds another platform [^\n]*; set BULKHEAD_STATE_DIR [^\n]*\n$/,
    )
    for (const path of ['/run/bulkhead-tlig', '/var/lib/bulkhead-tlig']) assert.equal(existsSync(path), false)
    assert.equal((await platform.cli('status')).code, 0)
  })

  test('can be cut off anywhere and said again, and keep what tenants have', async () => {
    await applyTenant('kept')
    await giveKubeconfig('kept')
    await platform.apply('kept', [configMap('kept', { key: 'value' })])
    const { layout } = platform
    const env = {
      PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
      BULKHEAD_INSTANCE: layout.instance,
      BULKHEAD_SLOT: '9',
      BULKHEAD_STATE_DIR: layout.stateDir,
    }
    /** Kills the command as soon as it says that it has come so far. */
    const interrupted = async (command: string, at: RegExp) => {
      const child = spawn(process.execPath, [CLI, command], { env, stdio: ['ignore', 'ignore', 'pipe'] })
      let text = ''
      child.stderr.on('data', (chunk: Buffer) => {
        text += chunk.toString()
        if (at.test(text)) child.kill('SIGKILL')
      })
      await once(child, 'close')
    }
    await interrupted('down', /stopping the other daemons/)
    await interrupted('down', /stopping pods/)
    await platform.mustCli('down')
    assert.match(await platform.mustCli('down'), /is not running/)
    assert.equal(existsSync(platform.layout.runDir), false)
    await interrupted('up', /starting the node agent/)
    await interrupted('up', /daemon started/)
    await platform.mustCli('up')
    assert.match(await platform.mustCli('up'), /is running/)
    await until(async () => (await platform.kubectl('kept', 'get', 'configmap', 'kept')).code === 0, {
      timeoutMs: 60_000,
    })
  })
})

describe('the end of a tenant', { skip }, () => {
  const noAccess = async (name: string) => {
    const { server } = await platform.credentials(name)
    const own = await platform.request(name, '/api/v1/namespaces')
    const nobodys = await platform.request(name, '/api/v1/namespaces', {
      server: server.replace(`/tenants/${name}`, '/tenants/never-was'),
    })
    assert.equal(own.code, 403)
    assert.deepEqual([own.code, own.body], [nobodys.code, nobodys.body])
    for (const answer of [own, nobodys]) delete answer.headers['date']
    assert.deepEqual(own.headers, nobodys.headers)
  }
  /** Everything on the machine that is of a tenant. */
  const traces = (name: string, podUidBase: number) => {
    const { layout } = platform
    return [
      ...filesWith(layout.runDir, `/${name}`),
      ...filesWith(layout.stateDir, `/${name}`),
      ...observeProcesses()
        .filter(({ uid }) => uid >= podUidBase && uid < podUidBase + 65_536)
        .map(({ pid }) => `process ${pid}`),
      ...['', 'memory', 'cpu', 'pids']
        .map((hierarchy) => join('/sys/fs/cgroup', hierarchy, layout.cgroup, name))
        .filter((path) => existsSync(path)),
    ]
  }

  test('takes its pods, data and key with it, and its credentials open nothing any more, not even the next of its name', async () => {
    if (!existsSync(platform.kubeconfig('red'))) {
      await applyTenant('red')
      await giveKubeconfig('red')
    }
    await platform.apply('red', [configMap('gone', { key: 'value' }), worker('sleeper')])
    await platform.mustKubectl('red', 'wait', '--for=condition=Ready', 'pod/sleeper', '--timeout=60s')
    const first = await tenantObject('red')
    const { layout } = platform
    const wrapped = readFileSync(join(layout.stateDir, 'keys/red.wrapped'))
    const before = traces('red', first.status.placement.podUidBase)
    assert.ok(before.length > 5 && before.some((trace) => trace.startsWith('process')), before.join('\n'))
    assert.deepEqual(filesWith(layout.stateDir, wrapped), [join(layout.stateDir, 'keys/red.wrapped')])

    const refused = await platform.cli('tenant', 'delete', 'red')
    assert.equal(refused.code, 2)
    assert.match(refused.stderr, /say --yes if that is meant/)
    const deleted = await platform.cli('tenant', 'delete', 'red', '--yes')
    assert.equal(deleted.code, 0, deleted.stderr)
    assert.equal(deleted.stdout, 'tenant "red" is gone, with its pods, its data and its key\n')

    assert.deepEqual(traces('red', first.status.placement.podUidBase), [])
    assert.deepEqual(filesWith(layout.stateDir, wrapped), [])
    assert.equal(
      filesWith(layout.stateDir, Buffer.from('"red"')).filter(
        (path) => !path.includes('/audit/') && !path.includes('/logs/'),
      ).length,
      0,
    )
    await noAccess('red')

    await applyTenant('red')
    const next = await tenantObject('red')
    assert.notEqual(next.metadata.uid, first.metadata.uid)
    assert.ok(next.status.placement.index > first.status.placement.index)
    await noAccess('red')
    await giveKubeconfig('red')
    const { items } = await platform.getJson<{ items: { metadata: { name: string } }[] }>(
      'red',
      'configmap,pod',
      '-A',
    )
    assert.deepEqual([...new Set(items.map(({ metadata }) => metadata.name))], ['kube-root-ca.crt'])
  })

  test('comes the same way when the operator uses kubectl', async () => {
    await applyTenant('green')
    await giveKubeconfig('green')
    const { status } = await tenantObject('green')
    await operator('delete', 'tenant', 'green', '--timeout=60s')
    assert.deepEqual(traces('green', status.placement.podUidBase), [])
    await noAccess('green')
    assert.equal((await platform.cli('tenant', 'describe', 'green')).code, 1)
  })
})
