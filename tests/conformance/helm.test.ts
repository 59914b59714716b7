import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { gvisorMissing, HELM } from '../testkit/machine.ts'
import { type Ran, run, TestPlatform } from '../testkit/platform.ts'
import { type Registry, startBusyboxRegistry } from '../testkit/registry.ts'

const CHART = new URL('testdata/charts/shop', import.meta.url).pathname
const HELM_TIMEOUT_MS = 150_000

/** Which Helm is tried by which tenant: both releases, on both runtimes. */
const PAIRS = [
  { major: 3, tenant: 'red', runtime: 'crun' },
  { major: 4, tenant: 'blue', runtime: 'gVisor' },
] as const

describe('the real Helm', { skip: gvisorMissing }, () => {
  let platform: TestPlatform
  let registry: Registry
  let directory: string

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'bulkhead-helm-'))
    registry = await startBusyboxRegistry()
    platform = await TestPlatform.start({
      instance: 'clh',
      slot: 70,
      tenants: [
        { name: 'red', trust: 'trusted', registries: [registry.host] },
        { name: 'blue', trust: 'untrusted', registries: [registry.host] },
      ],
    })
  })
  after(async () => {
    await platform?.[Symbol.asyncDispose]()
    await registry?.[Symbol.asyncDispose]()
    await rm(directory, { recursive: true, force: true })
  })

  for (const { major, tenant, runtime } of PAIRS) {
    const helm = (...args: string[]): Promise<Ran> =>
      run(
        HELM[major],
        args,
        {
          PATH: '/usr/bin:/bin',
          HOME: join(directory, tenant),
          KUBECONFIG: platform.kubeconfig(tenant),
        },
        { timeoutMs: HELM_TIMEOUT_MS },
      )
    const ok = async (...args: string[]): Promise<string> => {
      const ran = await helm(...args)
      assert.equal(ran.code, 0, `helm ${args.join(' ')}\n${ran.stdout}${ran.stderr}`)
      return ran.stdout
    }
    const image = () => ['--set', `image.registry=${registry.host}`]
    const get = (...args: string[]) => platform.mustKubectl(tenant, 'get', ...args)
    const password = () => get('secret', 'one-shop-password', '-o', 'jsonpath={.data.password}')

    describe(`${major} on ${runtime}`, () => {
      test('shows what it would install, and the server finds nothing wrong with it', async () => {
        assert.match(await ok('template', 'one', CHART, ...image()), /kind: StatefulSet/)
        assert.match(await ok('install', 'one', CHART, '--dry-run=server', ...image()), /kind: NetworkPolicy/)
        assert.equal(await get('deploy,sts,cm,secret', '-l', 'app.kubernetes.io/name=shop', '-o', 'name'), '')
      })

      test('installs a chart with hooks, claims and policies, and waits until it is there', async () => {
        assert.match(
          await ok('install', 'one', CHART, '--wait', '--timeout', '120s', ...image()),
          /says hello/,
        )
        assert.match(await get('deploy', 'one-shop-web'), /1\/1/)
        assert.match(await get('sts', 'one-shop-data'), /1\/1/)
        assert.match(await get('pvc', 'data-one-shop-data-0'), /Bound/)
        for (const hook of ['pre-install', 'post-install'])
          assert.equal(await platform.mustKubectl(tenant, 'logs', `job/one-shop-${hook}`), `${hook} of one\n`)
        assert.match(await ok('list'), /^one\s+default\s+1\s.*deployed\s+shop-0\.1\.0/m)
        assert.match(await ok('status', 'one'), /STATUS: deployed/)
        assert.match(await ok('get', 'manifest', 'one'), /kind: PodDisruptionBudget/)
        assert.match(await ok('get', 'values', 'one'), /registry:/)
      })

      test('tests the release from inside the cluster', async () => {
        assert.match(await ok('test', 'one', '--timeout', '60s'), /Phase:\s+Succeeded/)
      })

      test('upgrades, keeps what the chart looked up, and runs the hook before', async () => {
        const before = await password()
        await ok(
          'upgrade',
          'one',
          CHART,
          '--wait',
          '--timeout',
          '120s',
          '--set',
          'greeting=moin',
          '--set',
          'replicas=2',
          ...image(),
        )
        assert.match(await get('deploy', 'one-shop-web'), /2\/2/)
        assert.equal(await password(), before)
        assert.equal(
          await platform.mustKubectl(tenant, 'logs', 'job/one-shop-pre-upgrade'),
          'pre-upgrade of one\n',
        )
        assert.match(await ok('test', 'one', '--timeout', '60s'), /Phase:\s+Succeeded/)
        assert.match(await ok('history', 'one'), /^1\s.*superseded[^]*^2\s.*deployed/m)
      })

      test('goes back to an earlier revision', async () => {
        await ok('rollback', 'one', '1', '--wait', '--timeout', '120s')
        assert.equal(await get('cm', 'one-shop', '-o', 'jsonpath={.data.greeting}'), 'hello')
        assert.match(await get('deploy', 'one-shop-web'), /1\/1/)
        assert.match(await ok('history', 'one'), /^3\s.*deployed/m)
      })

      test('an upgrade that fails is undone', async () => {
        const flag = major === 3 ? '--atomic' : '--rollback-on-failure'
        const failed = await helm(
          'upgrade',
          'one',
          CHART,
          flag,
          '--timeout',
          '12s',
          '--set',
          'failOnStart=true',
          ...image(),
        )
        assert.notEqual(failed.code, 0)
        assert.match(await ok('history', 'one'), /^4\s.*failed[^]*^5\s.*deployed\s.*Rollback to 3/m)
        assert.match(await get('deploy', 'one-shop-web'), /1\/1/)
      })

      test('a chart that asks for what is not safe is refused with the field and what to write', async () => {
        const refused = await helm(
          'install',
          'two',
          CHART,
          '--set',
          'image.registry=registry.invalid',
          '--no-hooks',
        )
        assert.notEqual(refused.code, 0)
        assert.match(refused.stderr, /spec\.template\.spec\.containers\[0\]\.image/)
        await helm('uninstall', 'two', '--no-hooks')
      })

      test('keeps a release of nearly a mebibyte in its Secret', async () => {
        await ok(
          'upgrade',
          '--install',
          'big',
          CHART,
          '--no-hooks',
          '--set',
          'ballastBytes=650000',
          ...image(),
        )
        const stored = await get('secret', 'sh.helm.release.v1.big.v1', '-o', 'jsonpath={.data.release}')
        assert.ok(stored.length > 500_000, `${stored.length} bytes`)
        assert.match(await ok('get', 'manifest', 'big'), /ballast/)
        await ok('uninstall', 'big', '--no-hooks')
      })

      test('uninstalls everything but the claims, which hold data', async () => {
        assert.match(await ok('uninstall', 'one', '--wait', '--timeout', '60s'), /release "one" uninstalled/)
        const left = await get(
          'deploy,sts,svc,cm,secret,sa,role,rolebinding,pdb,netpol',
          '-l',
          'app.kubernetes.io/instance=one',
          '-o',
          'name',
        )
        assert.equal(left, '')
        assert.match(await get('pvc', '-o', 'name'), /data-one-shop-data-0/)
        assert.equal(await ok('list', '-q'), '')
      })
    })
  }
})
