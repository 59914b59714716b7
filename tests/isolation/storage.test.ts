import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { chmodSync, readdirSync, statfsSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { paths } from '../../src/api/index.ts'
import { until } from '../../src/stdx/index.ts'
import { gvisorMissing } from '../testkit/machine.ts'
import { vectorsOf, verify } from '../testkit/proof.ts'
import { TestPlatform } from '../testkit/platform.ts'
import { type Registry, startBusyboxRegistry } from '../testkit/registry.ts'

/** Attacks on the volumes of others, on the machine's disk and on the machine through volumes. */

const SECRET = 'THE-BYTES-OF-BLUE'

describe('volumes under attack', { skip: gvisorMissing }, () => {
  let platform: TestPlatform
  let registry: Registry
  const kubectl = (tenant: string, ...args: string[]) => platform.mustKubectl(tenant, ...args)
  const sh = (tenant: string, pod: string, script: string) =>
    platform.kubectl(tenant, 'exec', pod, '--', 'sh', '-c', script)

  const claim = (name: string, storage = '16Mi') =>
    `apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: ${name}}\nspec: {accessModes: [ReadWriteMany], resources: {requests: {storage: ${storage}}}}\n`
  const user = (name: string, claimName: string, subPath = '') =>
    `apiVersion: v1\nkind: Pod\nmetadata: {name: ${name}}\nspec:\n  terminationGracePeriodSeconds: 0\n` +
    `  volumes: [{name: data, persistentVolumeClaim: {claimName: ${claimName}}}]\n` +
    `  containers: [{name: main, image: "${registry.host}/busybox:1", command: [sleep, "3600"], volumeMounts: [{name: data, mountPath: /data${subPath && `, subPath: ${subPath}`}}]}]\n`
  const start = async (tenant: string, name: string, claimName: string, subPath = '') => {
    await platform.apply(tenant, `${claim(claimName)}---\n${user(name, claimName, subPath)}`)
    await kubectl(tenant, 'wait', '--for=condition=Ready', `pod/${name}`, '--timeout=60s')
  }
  const idOf = (tenant: string, name: string) =>
    kubectl(tenant, 'get', 'pvc', name, '-o', 'jsonpath={.metadata.uid}')

  before(async () => {
    registry = await startBusyboxRegistry()
    const registries = [registry.host]
    platform = await TestPlatform.start({
      instance: 'pv2',
      slot: 47,
      tenants: [
        { name: 'red', registries },
        { name: 'blue', trust: 'untrusted', registries },
      ],
    })
    await start('red', 'attacker', 'mine')
    await start('blue', 'victim', 'treasure')
    assert.equal((await sh('blue', 'victim', `echo ${SECRET} >/data/secret; sync`)).code, 0)
  })
  after(async () => {
    await platform?.[Symbol.asyncDispose]()
    await registry?.[Symbol.asyncDispose]()
  })

  /** As a control plane that was taken over: its user, on its socket of the node agent. */
  function asControlPlane(
    tenant: string,
    method: string,
    path: string,
    body?: object,
  ): { code: number; text: string } {
    const placement = platformPlacement(tenant)
    const script = `
      const { request } = require('node:http')
      const outgoing = request({ socketPath: ${JSON.stringify(paths.nodeTenantSocket(platform.layout, placement.tenant))}, method: '${method}', path: '${path}' })
      outgoing.on('response', async (answer) => {
        let text = ''
        for await (const chunk of answer) text += chunk
        console.log(JSON.stringify({ code: answer.statusCode, text }))
      })
      outgoing.end(${JSON.stringify(body === undefined ? '' : JSON.stringify(body))})`
    const uid = String(placement.controlPlaneUid)
    const ran = spawnSync(
      'setpriv',
      [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', process.execPath, '-e', script],
      {
        encoding: 'utf8',
        cwd: '/',
      },
    )
    assert.equal(ran.status, 0, ran.stderr)
    return JSON.parse(ran.stdout) as { code: number; text: string }
  }
  function platformPlacement(tenant: string) {
    const saved = JSON.parse(
      execFileSync('cat', [join(platform.layout.stateDir, 'placements.json')], { encoding: 'utf8' }),
    ) as { tenants: Record<string, { index: number; isolationClass: string }> }
    const { index = 0, isolationClass = '' } = saved.tenants[tenant] ?? {}
    const own = isolationClass === 'sandboxed'
    const worker = Number(execFileSync('id', ['-u', 'bulkhead-worker'], { encoding: 'utf8' }))
    return {
      tenant: tenant as Parameters<typeof paths.nodeTenantSocket>[1],
      controlPlaneUid: own ? platform.layout.controlPlaneUidBase + index : worker,
    }
  }

  test('a control plane that was taken over cannot mount another tenant’s volume by its id', async () => {
    const stolen = await idOf('blue', 'treasure')
    const listed = asControlPlane('red', 'GET', '/v1/volumes')
    assert.equal(listed.code, 200)
    assert.ok(!listed.text.includes(stolen))
    const id = randomUUID()
    const jail = {
      id,
      tenant: 'red',
      namespace: 'default',
      pod: 'thief',
      hostname: 'thief',
      runtime: 'runc',
      restartPolicy: 'Never',
      terminationGracePeriodSeconds: 0,
      initContainers: [],
      containers: [
        {
          name: 'main',
          image: `${registry.host}/busybox:1`,
          imagePullPolicy: 'IfNotPresent',
          command: ['cat', '/data/secret'],
          env: [],
          supplementalGroups: [],
          runAsNonRoot: false,
          readOnlyRootFilesystem: false,
          mounts: [{ volume: 'data', mountPath: '/data', readOnly: false }],
          resources: { cpuMillisRequest: 0, memoryBytesRequest: 0 },
          ports: [],
          lifecycle: {},
          terminationMessagePath: '/dev/termination-log',
          terminationMessagePolicy: 'File',
          stdin: false,
          stdinOnce: false,
          tty: false,
        },
      ],
      volumes: [{ name: 'data', kind: 'claim', claim: stolen, readOnly: false }],
      dns: { searches: [], options: [] },
      hostAliases: [],
    }
    assert.equal(asControlPlane('red', 'PUT', `/v1/jails/${id}`, jail).code, 200)
    // The control plane that is in its right mind removes what it does not know, so either is an end.
    await until(
      async () => {
        const log = (await platform.daemonLogs()).get('node') ?? ''
        return log.includes(id)
      },
      { timeoutMs: 20_000 },
    )
    const seen = asControlPlane('red', 'GET', '/v1/jails').text
    assert.ok(!seen.includes('"exitCode":0'), seen)
    asControlPlane('red', 'DELETE', `/v1/jails/${id}?gracePeriodSeconds=0`)
    for (const path of [`/v1/volumes/${stolen}`, `/v1/volumes/..%2Fblue%2F${stolen}`])
      asControlPlane('red', 'DELETE', path)
    assert.equal((await sh('blue', 'victim', 'cat /data/secret')).stdout.trim(), SECRET)
    assert.equal(
      asControlPlane('red', 'PUT', `/v1/jails/${randomUUID()}`, { ...jail, tenant: 'blue' }).code,
      400 + 22,
    )
  })

  test('a sub-path that is a link to the machine leads nowhere but into the volume', async () => {
    const escape = `ln -s /var/lib/bulkhead-pv2/volumes/blue /data/blue; ln -s ../../../../../../ /data/up; ln -s /etc /data/etc`
    assert.equal((await sh('red', 'attacker', escape)).code, 0)
    for (const [index, subPath] of ['blue', 'up', 'etc'].entries()) {
      await platform.apply('red', user(`by-link-${index}`, 'mine', subPath))
      await until(
        async () =>
          /Running|CreateContainerConfigError/.test(await kubectl('red', 'get', 'pod', `by-link-${index}`)),
        { timeoutMs: 30_000, everyMs: 200 },
      )
      const { stdout } = await sh('red', `by-link-${index}`, 'ls -A /data; cat /data/passwd')
      assert.doesNotMatch(stdout, /treasure|root:|[0-9a-f]{8}-[0-9a-f]{4}/, subPath)
    }
    await kubectl('red', 'delete', 'pod', 'by-link-0', 'by-link-1', 'by-link-2')
  })

  test('a volume is no way to the machine: no device, no set-id program, no mount, nothing beside it', async () => {
    const { stdout } = await sh(
      'red',
      'attacker',
      'mknod /data/disk b 7 0; cat /data/disk 2>&1 | head -c 64; ls /dev/loop* 2>&1; cp /bin/busybox /data/su; chmod 4755 /data/su; ' +
        'mount -o remount,suid,dev /data 2>&1; mount --bind / /data 2>&1; ls /data/.. | tr "\\n" " "; grep " /data " /proc/mounts',
    )
    assert.doesNotMatch(stdout, /treasure|bulkhead-pv2/)
    assert.match(stdout, / \/data ext4 [^\n]*nosuid,nodev/)
  })

  test('filling the disk and the inodes of a volume harms neither a neighbour nor the machine', async () => {
    const free = () => statfsSync(platform.layout.stateDir)
    const before = free()
    const filled = await sh(
      'red',
      'attacker',
      'cat /dev/zero >/data/fill 2>/dev/null; df -k /data | tail -n1; rm /data/fill',
    )
    assert.match(filled.stdout, /100%/)
    await sh('red', 'attacker', 'mkdir /data/i; i=0; while : >/data/i/$i; do i=$((i+1)); done 2>/dev/null')
    assert.notEqual((await sh('red', 'attacker', 'touch /data/one-more')).code, 0)
    const after = free()
    assert.ok((before.bavail - after.bavail) * before.bsize < 512 * 2 ** 20, 'the space was reserved before')
    assert.equal((await sh('blue', 'victim', `echo ok >/data/more && cat /data/more`)).stdout.trim(), 'ok')
  })

  test('a claim beyond what the tenant may have gets no volume, and says why', async () => {
    await platform.apply('red', claim('huge', '900Ti'))
    await until(
      async () =>
        /ProvisioningFailed .*(may have|no room)/.test(await kubectl('red', 'describe', 'pvc', 'huge')),
      {
        timeoutMs: 30_000,
        everyMs: 200,
      },
    )
    await kubectl('red', 'delete', 'pvc', 'huge')
  })

  test('a volume made after another was deleted shows no old bytes, and the disk has none in the clear', async () => {
    const image = join(platform.layout.stateDir, 'volumes', 'blue', await idOf('blue', 'treasure'), 'image')
    assert.equal(spawnSync('grep', ['-c', SECRET, image]).status, 1, 'what is on the disk is encrypted')
    await kubectl('blue', 'delete', 'pod/victim', 'pvc/treasure')
    await until(() => readdirSync(join(platform.layout.stateDir, 'volumes', 'blue')).length === 0, {
      timeoutMs: 20_000,
    })
    await start('red', 'scavenger', 'fresh')
    assert.equal((await sh('red', 'scavenger', 'ls -A /data; grep -r THE-BYTES /data')).stdout, '')
    await start('blue', 'victim', 'treasure')
    assert.equal(
      (await sh('blue', 'victim', 'ls -A /data')).stdout,
      '',
      'the next claim of the name is another one',
    )
  })

  test('the proof sees two layers at storage, and names the one that is taken away', async () => {
    const storage = async () => vectorsOf(await verify(platform)).filter(({ vector }) => vector === 'storage')
    const well = await storage()
    assert.equal(well.length, 2)
    assert.ok(
      well.every(({ state }) => state === 'holds'),
      JSON.stringify(well),
    )
    const directory = join(platform.layout.stateDir, 'volumes', 'blue')
    chmodSync(directory, 0o755)
    try {
      const gone = (await storage()).flatMap(({ victim, layers }) =>
        layers.filter(({ holds }) => !holds).map(({ layer, evidence }) => ({ victim, layer, evidence })),
      )
      assert.deepEqual(
        gone.map(({ victim, layer }) => ({ victim, layer })),
        [{ victim: 'blue', layer: 'volume files' }],
      )
      assert.ok(gone[0]?.evidence.some((text) => text.includes(directory)))
    } finally {
      chmodSync(directory, 0o700)
    }
  })
})
