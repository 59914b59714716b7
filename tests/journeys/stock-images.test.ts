import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { until } from '../../src/stdx/index.ts'
import { BOTH_RUNTIMES, tenantsOfBothRuntimes } from '../testkit/both-runtimes.ts'
import { platformMissing } from '../testkit/machine.ts'
import { type Manifest, pod, secret } from '../testkit/manifests.ts'
import { TestPlatform } from '../testkit/platform.ts'
import { type Registry, startStockRegistry } from '../testkit/registry.ts'

/** Images as their makers publish them, unmodified, on both runtimes: red's on the machine's kernel, blue's on gVisor's. */

const PASSWORD = 'correct horse battery'

let platform: TestPlatform
let registry: Registry

before(async () => {
  if (platformMissing !== false) return
  registry = await startStockRegistry()
  platform = await TestPlatform.start({
    instance: 'jest',
    slot: 55,
    tenants: tenantsOfBothRuntimes(registry.host),
  })
})

after(async () => {
  if (platformMissing !== false) return
  await platform?.[Symbol.asyncDispose]()
  await registry?.[Symbol.asyncDispose]()
})

const postgresEnv = (more: Record<string, string> = {}) =>
  Object.entries({ POSTGRES_PASSWORD: PASSWORD, ...more }).map(([name, value]) => ({ name, value }))

/** Whoever is not root in the pod, with everything that Pod Security's restricted level asks for and more. */
const locked = (uid: number) => ({
  runAsUser: uid,
  runAsGroup: uid,
  runAsNonRoot: true,
  fsGroup: 3000,
  supplementalGroups: [4000],
})
const lockedContainer = {
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ['ALL'] },
}
const scratch = (...paths: string[]) => ({
  volumes: paths.map((_, index) => ({ name: `v${index}`, emptyDir: {} })),
  mounts: paths.map((mountPath, index) => ({ name: `v${index}`, mountPath })),
})

function manifests(host: string): Manifest[] {
  const nginxPaths = scratch('/var/lib/nginx', '/run', '/usr/share/nginx/html', '/tmp')
  const redisPaths = scratch('/data')
  const postgresPaths = scratch('/var/lib/postgresql', '/var/run/postgresql', '/tmp')
  return [
    secret('settings', { 'key.conf': 'secret of the group' }),
    pod({
      name: 'client',
      image: `${host}/busybox:1`,
      script: 'sleep 3600',
      securityContext: { readOnlyRootFilesystem: true },
    }),
    pod({ name: 'nginx', image: `${host}/nginx:1` }),
    pod({ name: 'redis', image: `${host}/redis:1` }),
    pod({ name: 'postgres', image: `${host}/postgres:1`, env: postgresEnv() }),
    pod({ name: 'redis-user', image: `${host}/redis:user` }),
    pod({
      name: 'nginx-locked',
      image: `${host}/nginx:1`,
      securityContext: lockedContainer,
      volumeMounts: nginxPaths.mounts,
      spec: { securityContext: locked(101), volumes: nginxPaths.volumes },
    }),
    pod({
      name: 'redis-locked',
      image: `${host}/redis:1`,
      securityContext: lockedContainer,
      volumeMounts: [
        ...redisPaths.mounts,
        { name: 'settings', mountPath: '/etc/settings' },
        { name: 'all', mountPath: '/etc/all' },
      ],
      spec: {
        securityContext: locked(999),
        volumes: [
          ...redisPaths.volumes,
          { name: 'settings', secret: { secretName: 'settings', defaultMode: 0o400 } },
          {
            name: 'all',
            projected: {
              sources: [{ secret: { name: 'settings' } }, { serviceAccountToken: { path: 'token' } }],
              defaultMode: 0o600,
            },
          },
        ],
      },
    }),
    pod({
      name: 'postgres-locked',
      image: `${host}/postgres:1`,
      env: postgresEnv({ PGDATA: '/var/lib/postgresql/data' }),
      securityContext: lockedContainer,
      volumeMounts: postgresPaths.mounts,
      spec: { securityContext: locked(70), volumes: postgresPaths.volumes },
    }),
    pod({ name: 'stranger', image: `${host}/redis:stranger`, spec: { restartPolicy: 'Never' } }),
    pod({
      name: 'root-refused',
      image: `${host}/redis:1`,
      spec: { securityContext: { runAsNonRoot: true } },
    }),
  ]
}

for (const { tenant, trust, skip } of BOTH_RUNTIMES)
  describe(`stock images of a ${trust} tenant`, { skip }, () => {
    const kubectl = (...args: string[]) => platform.mustKubectl(tenant, ...args)
    const sh = (name: string, script: string) => kubectl('exec', name, '--', 'sh', '-c', script)
    const ip = (name: string) => kubectl('get', 'pod', name, '-o', 'jsonpath={.status.podIP}')
    const ready = (...names: string[]) =>
      kubectl('wait', '--for=condition=Ready', '--timeout=120s', ...names.map((name) => `pod/${name}`))

    /** Repeats until the server behind it has begun to answer. */
    const answer = (name: string, ...command: string[]) =>
      until(
        async () => {
          const ran = await platform.kubectl(tenant, 'exec', name, '--', ...command)
          return ran.code === 0 ? ran.stdout.trim() : undefined
        },
        { what: command.join(' '), timeoutMs: 60_000 },
      )
    const psql = (from: string, host: string, sql: string) =>
      answer(
        from,
        'env',
        `PGPASSWORD=${PASSWORD}`,
        'psql',
        '-qtA',
        '-h',
        host,
        '-U',
        'postgres',
        '-d',
        'app',
        '-c',
        sql,
      )
    /** Users of all processes in the pod, root's number as it is there. */
    const users = async (name: string) =>
      (
        await sh(name, "cat /proc/[0-9]*/status | sed -n 's/^Uid:[ \\t]*\\([0-9]*\\).*/\\1/p' | sort -nu")
      ).split('\n')

    before(async () => {
      await platform.apply(tenant, manifests(registry.host))
      await ready('client', 'nginx', 'redis', 'postgres', 'redis-user')
    })

    test('nginx starts as root, binds port 80, serves, and its workers are its own user', async () => {
      const url = `http://${await ip('nginx')}`
      assert.equal(await answer('client', 'timeout', '2', 'wget', '-qO-', `${url}/who`), 'nginx')
      assert.equal(await answer('client', 'timeout', '2', 'wget', '-qO-', url), 'built at start by 0')
      assert.ok((await users('nginx')).includes('101'))
    })

    test('redis hands its directory over, drops to its user, and keeps what it is given', async () => {
      const redis = ['redis-cli', '-h', await ip('redis')]
      assert.equal(await answer('redis-user', ...redis, 'SET', 'greeting', 'ahoy'), 'OK')
      assert.equal(await answer('redis-user', ...redis, 'GET', 'greeting'), 'ahoy')
      assert.equal(await answer('redis-user', ...redis, 'SAVE'), 'OK')
      assert.match(await sh('redis', 'stat -c "%u %n" /data/dump.rdb'), /^999 /)
      assert.match(await sh('redis', 'cat /proc/1/status'), /^Uid:\s+999\s+999\s+999\s+999$/m)
    })

    test('postgres refuses root, initializes as its user, and answers SQL', async () => {
      const host = await ip('postgres')
      assert.equal(
        await psql(
          'postgres',
          host,
          'CREATE TABLE IF NOT EXISTS t AS SELECT g FROM generate_series(1, 100000) g; SELECT sum(g) FROM t',
        ),
        '5000050000',
      )
      const parallel =
        'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; ' +
        'EXPLAIN (ANALYZE, TIMING OFF) SELECT count(*) FROM t WHERE g % 7 = 0'
      // Its parallel workers exchange rows through /dev/shm.
      assert.match(await psql('postgres', host, parallel), /Workers Launched: [1-9]/)
    })

    test('an image that names its user runs as it, with its groups', async () => {
      assert.equal(await sh('redis-user', 'id -u; id -g'), '999\n3000\n')
    })

    test('locked in, the same images serve without root, capabilities or a writable image', async () => {
      await ready('nginx-locked', 'redis-locked', 'postgres-locked')
      assert.equal(
        await answer('client', 'timeout', '2', 'wget', '-qO-', `http://${await ip('nginx-locked')}/who`),
        'nginx-locked',
      )
      assert.equal(await answer('redis-locked', 'redis-cli', 'SET', 'a', 'b'), 'OK')
      assert.equal(await psql('postgres-locked', await ip('postgres-locked'), 'SELECT 6 * 7'), '42')
      // Not in /tmp: gVisor lays memory of the pod's own over an empty one.
      assert.match(await sh('client', '(echo x > /etc/x) 2>&1 || true'), /Read-only file system/)
    })

    test('fsGroup owns volumes, new files in them, and what secrets and projections hold', async () => {
      assert.equal(await sh('redis-locked', 'id -u; id -g; id -G'), '999\n999\n999 3000 4000\n')
      assert.equal(await sh('redis-locked', 'stat -c "%a %u %g" /data'), '2777 0 3000\n')
      await sh('redis-locked', 'echo kept > /data/file')
      assert.equal(await sh('redis-locked', 'stat -c "%u %g" /data/file'), '999 3000\n')
      for (const [file, mode] of [
        ['/etc/settings/key.conf', '440'],
        ['/etc/all/key.conf', '640'],
      ] as const) {
        assert.equal(await sh('redis-locked', `stat -L -c "%a %u %g" ${file}`), `${mode} 0 3000\n`)
        assert.equal(await sh('redis-locked', `cat ${file}`), 'secret of the group')
      }
      assert.equal(await sh('redis-locked', 'stat -L -c "%a %u %g" /etc/all/token'), '640 999 3000\n')
    })

    test('a set-id program makes nobody root', async () => {
      assert.equal(await sh('redis-user', 'stat -c %a /usr/bin/id-as-root; id-as-root -u'), '4755\n999\n')
    })

    test('users and groups that cannot be are refused with their reason', async () => {
      const waiting = (name: string) =>
        until(
          async () => {
            const text = await kubectl(
              'get',
              'pod',
              name,
              '-o',
              'jsonpath={.status.containerStatuses[0].state}',
            )
            return text.includes('CreateContainer') ? text : undefined
          },
          { what: `The refusal of ${name}`, timeoutMs: 60_000 },
        )
      assert.match(await waiting('stranger'), /unable to find user \\?"nobody-there\\?"/)
      assert.match(await waiting('root-refused'), /runAsNonRoot and image will run as root/)
      for (const context of [{ runAsUser: 65_536 }, { fsGroup: 70_000 }, { supplementalGroups: [100_000] }]) {
        const beyond = pod({ name: 'beyond', image: 'x', spec: { securityContext: context } })
        const refused = await platform.runKubectl(tenant, ['create', '-f', '-'], {
          input: JSON.stringify(beyond),
        })
        assert.notEqual(refused.code, 0)
        assert.match(refused.stderr, new RegExp(`securityContext.${Object.keys(context)[0]}.*65535`, 's'))
      }
    })
  })
