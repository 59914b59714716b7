import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, statfsSync, statSync } from 'node:fs'
import { request } from 'node:https'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Agent, request as fetch } from 'undici'
import { until } from '../../src/stdx/index.ts'
import { observeProcesses } from '../testkit/machine.ts'
import { pod } from '../testkit/manifests.ts'
import type { TestPlatform } from '../testkit/platform.ts'

export type Scene = { platform: TestPlatform; tenant: string; image: string }

/** `carryOut` resolves once the attack is at its height and the named limit has been seen to hold. */
export type Exhaustion = { name: string; limit: string; carryOut: (scene: Scene) => Promise<void> }

const execute = promisify(execFile)
const MiB = 2 ** 20
const PATIENCE = { timeoutMs: 120_000, everyMs: 200 }
const TASKS_OF_TENANT_MAX = 16_384
/** As in `src/engine/local/host/limits.ts`, and one file that was moved aside. */
const LOG_BYTES_MAX = 2 * 16 * MiB
const CONNECTIONS_OF_TENANT_MAX = 10_000
/** Those of the bystander, which the kernel remembers for two minutes. */
const OTHERS_CONNECTIONS_MAX = 3_000
const STREAMS_OF_USER_MAX = 768
const SESSIONS_OF_POD_MAX = 32

type PodSeen = {
  metadata: { uid: string }
  status: {
    phase: string
    reason?: string
    message?: string
    containerStatuses?: { lastState: State; state: State; restartCount: number }[]
  }
}
type State = { terminated?: { reason: string }; waiting?: { reason: string } }

async function run(
  scene: Scene,
  name: string,
  script: string,
  main: Record<string, unknown> = {},
  spec: Record<string, unknown> = {},
): Promise<void> {
  const { platform, tenant, image } = scene
  const made = pod({ name, image, script, ...main })
  await platform.apply(tenant, [{ ...made, spec: { ...(made['spec'] as object), ...spec } }])
}

const seen = ({ platform, tenant }: Scene, name: string) => platform.getJson<PodSeen>(tenant, `pod/${name}`)

const limits = (resource: string, value: string) => ({
  resources: { limits: { [resource]: value }, requests: { [resource]: value } },
})

/** Nothing more can be written, which the tenant is told; gVisor's own file in there may be measured to be too large. */
async function fullOrEvicted(scene: Scene, name: string): Promise<void> {
  const { platform, tenant } = scene
  const told = async () => {
    const { items } = await platform.getJson<{
      items: { reason: string; involvedObject: { name: string } }[]
    }>(tenant, 'events')
    return items.some(
      ({ reason, involvedObject }) =>
        involvedObject.name === name && (reason === 'EphemeralStorageFull' || reason === 'Evicted'),
    )
  }
  await until(told, { ...PATIENCE, what: `The end of what ${name} may write` })
}

function bytesOnDisk({ platform }: Scene, uid: string): number {
  try {
    const { blocks, bfree, bsize } = statfsSync(join(platform.layout.runDir, 'containers', uid, 'disk'))
    return (blocks - bfree) * bsize
  } catch {
    return 0 // It has gone.
  }
}

function tasksOf({ platform, tenant }: Scene): number {
  const own = `/${platform.layout.cgroup}/${tenant}/`
  let tasks = 0
  for (const p of observeProcesses())
    if (p.cgroups.some((path) => path.includes(own)))
      try {
        tasks += readdirSync(`/proc/${p.pid}/task`).length
      } catch {
        // It has ended.
      }
  return tasks
}

/** A request line and headers of the tenant's user over a connection of its own. */
async function credentials({ platform, tenant }: Scene) {
  const { server, ca, certificate, key } = await platform.credentials(tenant)
  return { url: new URL(server), ca, cert: certificate, key }
}

/** Opens a command in a pod as kubectl does; the code of the answer. */
async function openExec(scene: Scene, name: string): Promise<{ code: number; close: () => void }> {
  const { url, ...tls } = await credentials(scene)
  const done = Promise.withResolvers<{ code: number; close: () => void }>()
  const path = `${url.pathname.replace(/\/$/, '')}/api/v1/namespaces/default/pods/${name}/exec?command=sleep&command=30&stdout=true`
  const req = request({
    host: url.hostname,
    port: url.port,
    path,
    ...tls,
    agent: false,
    headers: {
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': randomBytes(16).toString('base64'),
      'sec-websocket-protocol': 'v5.channel.k8s.io',
    },
  })
  req.on('upgrade', (_answer, socket) => {
    socket.on('error', () => {})
    done.resolve({ code: 101, close: () => socket.destroy() })
  })
  req.on('response', (answer) => {
    answer.resume()
    done.resolve({ code: answer.statusCode ?? 0, close: () => {} })
  })
  req.on('error', () => done.resolve({ code: 0, close: () => {} }))
  req.end()
  return done.promise
}

/** What a trusted and an untrusted tenant try alike, from inside their pods. */
export const POD_ATTACKS: readonly Exhaustion[] = [
  {
    name: 'a fork bomb',
    limit: 'tasks of a container, a pod and a tenant (pids)',
    async carryOut(scene) {
      await run(scene, 'forks', 'while :; do sleep 3600 & done')
      let most = 0
      await until(
        async () => {
          most = Math.max(most, tasksOf(scene))
          const [status] = (await seen(scene, 'forks')).status.containerStatuses ?? []
          return most > 500 || (status?.restartCount ?? 0) > 0
        },
        { ...PATIENCE, what: 'A fork bomb at its height' },
      )
      if (most > TASKS_OF_TENANT_MAX) throw new Error(`A tenant has ${most} tasks`)
    },
  },
  {
    name: 'a memory bomb',
    limit: "the container's memory (resources.limits.memory)",
    async carryOut(scene) {
      await run(scene, 'memory', 'exec tail /dev/zero', limits('memory', '64Mi'))
      await until(
        async () => {
          const [status] = (await seen(scene, 'memory')).status.containerStatuses ?? []
          return [status?.state, status?.lastState].some((state) => state?.terminated !== undefined)
        },
        { ...PATIENCE, what: 'The end of a memory bomb' },
      )
    },
  },
  {
    name: 'a disk filler',
    limit: "the pod's disk (ephemeral-storage)",
    async carryOut(scene) {
      await run(
        scene,
        'disk',
        'dd if=/dev/zero of=/filler bs=1048576 count=128 2>/dev/null; exec sleep 3600',
        limits('ephemeral-storage', '32Mi'),
      )
      await fullOrEvicted(scene, 'disk')
      const bytes = bytesOnDisk(scene, (await seen(scene, 'disk')).metadata.uid)
      if (bytes > 32 * MiB) throw new Error(`A pod with 32 MiB has written ${bytes} bytes`)
    },
  },
  {
    name: 'an inode filler: files without content',
    limit: "the pod's number of files",
    async carryOut(scene) {
      await run(
        scene,
        'inodes',
        'i=0; while [ $i -lt 11000 ]; do : > /d/$i; i=$((i+1)); done; exec sleep 3600',
        { ...limits('ephemeral-storage', '64Mi'), volumeMounts: [{ name: 'd', mountPath: '/d' }] },
        // On gVisor the root file system is one file of the machine's, a volume is not.
        { volumes: [{ name: 'd', emptyDir: {} }] },
      )
      await fullOrEvicted(scene, 'inodes')
    },
  },
  {
    name: 'a log flood',
    limit: 'the bytes of a log',
    async carryOut(scene) {
      await run(
        scene,
        'logs',
        'exec yes 0123456789012345678901234567890123456789012345678901234567890123456789',
      )
      const { platform } = scene
      let written = 0
      await until(
        async () => {
          const { uid } = (await seen(scene, 'logs')).metadata
          const dir = join(platform.layout.runDir, 'containers', uid, 'disk/logs/main')
          const size = existsSync(dir)
            ? readdirSync(dir).reduce(
                (sum, file) => sum + (statSync(join(dir, file), { throwIfNoEntry: false })?.size ?? 0),
                0,
              )
            : 0
          if (size > LOG_BYTES_MAX + MiB) throw new Error(`A log has ${size} bytes`)
          written = Math.max(written, size)
          return written > 8 * MiB
        },
        { ...PATIENCE, what: 'A log flood at its height' },
      )
    },
  },
  {
    name: 'a socket flood at its API',
    limit: 'connections of one address at the pods’ gateway',
    async carryOut(scene) {
      await run(
        scene,
        'sockets',
        'i=0; while [ $i -lt 300 ]; do sleep 3600 | nc 10.96.0.1 443 >/dev/null 2>&1 & i=$((i+1)); done; exec sleep 3600',
      )
      await scene.platform.mustKubectl(
        scene.tenant,
        ...['wait', '--for=condition=Ready', 'pod/sockets', '--timeout=60s'],
      )
    },
  },
]

/** What does not depend on where the tenant's pods run. */
export const API_ATTACKS: readonly Exhaustion[] = [
  {
    name: 'a conntrack flood: questions to the resolver from every port',
    limit: `connections of a tenant (${CONNECTIONS_OF_TENANT_MAX})`,
    async carryOut(scene) {
      const { platform, tenant } = scene
      await run(scene, 'conntrack', 'exec sleep 86398')
      await platform.mustKubectl(
        tenant,
        ...['wait', '--for=condition=Ready', 'pod/conntrack', '--timeout=60s'],
      )
      const inside = observeProcesses().find((p) => p.args.join(' ') === 'sleep 86398')
      if (!inside) throw new Error('The attacker does not run')
      const script = `
        const { createSocket } = require('node:dgram')
        const query = Buffer.from('1234010000010000000000000161076578616d706c650000010001', 'hex')
        const once = (port) => new Promise((resolve) => {
          const socket = createSocket('udp4').on('error', resolve)
          socket.bind(port, () => socket.send(query, 53, '169.254.1.1', () => socket.close(resolve)))
        })
        ;(async () => {
          for (let port = 20000; port < 35000; port += 50)
            await Promise.all(Array.from({ length: 50 }, (_, i) => once(port + i)))
          process.exit(0)
        })()`
      await execute('nsenter', [...[`--target=${inside.pid}`, '--net', '--', process.execPath, '-e', script]])
      const count = await execute('nsenter', [
        `--net=${platform.layout.runDir}/router.netns`,
        ...['cat', '/proc/sys/net/netfilter/nf_conntrack_count'],
      ])
      const open = Number(count.stdout)
      if (open < CONNECTIONS_OF_TENANT_MAX / 2) throw new Error(`Only ${open} connections were made`)
      if (open > CONNECTIONS_OF_TENANT_MAX + OTHERS_CONNECTIONS_MAX)
        throw new Error(`${open} connections are open`)
    },
  },
  {
    name: 'thousands of tiny objects',
    limit: "requests per second of a user (429), then the tenant's number of objects",
    async carryOut(scene) {
      const codes = new Map<number, number>()
      for (let round = 0; round < 20; round++)
        await Promise.all(
          Array.from({ length: 50 }, async (_, i) => {
            const { code } = await scene.platform.request(
              scene.tenant,
              '/api/v1/namespaces/default/configmaps',
              {
                method: 'POST',
                headers: { 'content-type': 'application/json' },
                body: JSON.stringify({
                  apiVersion: 'v1',
                  kind: 'ConfigMap',
                  metadata: { name: `tiny-${round}-${i}` },
                }),
              },
            )
            codes.set(code, (codes.get(code) ?? 0) + 1)
          }),
        )
      if (!codes.has(429)) throw new Error(`Nobody was told to wait: ${JSON.stringify([...codes])}`)
    },
  },
  {
    name: 'a thousand watches',
    limit: 'streams of a user and a tenant (429)',
    async carryOut(scene) {
      const { url, ca, cert, key } = await credentials(scene)
      const agent = new Agent({ connect: { ca, cert, key }, connections: null, pipelining: 1 })
      const codes = new Map<number, number>()
      try {
        for (let round = 0; round < 25; round++) {
          await Promise.all(
            Array.from({ length: 40 }, async () => {
              const answer = await fetch(
                `${url.href.replace(/\/$/, '')}/api/v1/namespaces/default/configmaps?watch=1&resourceVersion=0`,
                { dispatcher: agent, headersTimeout: 30_000 },
              ).catch(() => undefined)
              answer?.body.on('error', () => {}).resume()
              const code = answer?.statusCode ?? 0
              codes.set(code, (codes.get(code) ?? 0) + 1)
            }),
          )
        }
        const open = codes.get(200) ?? 0
        if (open > STREAMS_OF_USER_MAX) throw new Error(`${open} watches are open`)
        if (open < 50) throw new Error(`Only ${JSON.stringify([...codes])} were opened`)
      } finally {
        await agent.destroy()
      }
    },
  },
  {
    name: 'a flood of exec',
    limit: `sessions of a pod (${SESSIONS_OF_POD_MAX})`,
    async carryOut(scene) {
      await run(scene, 'execs', 'exec sleep 3600')
      await scene.platform.mustKubectl(
        scene.tenant,
        ...['wait', '--for=condition=Ready', 'pod/execs', '--timeout=60s'],
      )
      const opened = await Promise.all(Array.from({ length: 60 }, () => openExec(scene, 'execs')))
      try {
        const own = `${scene.platform.layout.cgroup}-daemons/monitors/${scene.tenant}`
        const ours = observeProcesses().filter(
          (p) => p.args.includes('exec') && p.cgroups.some((path) => path.endsWith(own)),
        )
        if (ours.length > SESSIONS_OF_POD_MAX) throw new Error(`${ours.length} commands run`)
        if (ours.length === 0) throw new Error('No command runs beside the pods')
      } finally {
        for (const { close } of opened) close()
      }
    },
  },
  {
    name: 'pulls of images that are not there',
    limit: 'pulls of a tenant at once, and back-off',
    async carryOut(scene) {
      const { platform, tenant, image } = scene
      const host = image.split('/')[0] ?? ''
      await platform.apply(
        tenant,
        Array.from({ length: 20 }, (_, i) => pod({ name: `pull-${i}`, image: `${host}/nothing-${i}:1` })),
      )
      await until(
        async () => {
          const { items } = await platform.getJson<{ items: PodSeen[] }>(tenant, 'pods')
          return items.some(({ status }) =>
            /ErrImagePull|ImagePullBackOff/.test(status.containerStatuses?.[0]?.state.waiting?.reason ?? ''),
          )
        },
        { ...PATIENCE, what: 'The first refusal of the registry' },
      )
    },
  },
]

/** Takes away everything the attack has left in the attacker's namespace. */
export async function cleanUp({ platform, tenant }: Scene): Promise<void> {
  await platform.mustKubectl(tenant, 'delete', 'pods', '--all', '--wait=true', '--timeout=80s')
}
