import assert from 'node:assert/strict'
import { copyFile } from 'node:fs/promises'
import { after, before, test } from 'node:test'
import { stringify } from 'yaml'
import { paths } from '../../src/api/index.ts'
import { until } from '../../src/stdx/index.ts'
import { platformMissing as skip } from '../testkit/machine.ts'
import { TestPlatform } from '../testkit/platform.ts'
import { assemble, bundleOfModule, denyIfInputHas, op } from '../testkit/rego.ts'

/** The operator's policies in Rego on their way through stock kubectl to a tenant in each kind of process. */

let platform: TestPlatform

before(async () => {
  if (skip !== false) return
  platform = await TestPlatform.start({
    instance: 'opa',
    slot: 100,
    tenants: [
      { name: 'red', registries: ['registry.test'] },
      { name: 'blue', registries: ['registry.test'], trust: 'untrusted' },
    ],
  })
  await copyFile(paths.operatorKubeconfig(platform.layout), platform.kubeconfig('platform'))
})
after(async () => {
  await platform?.[Symbol.asyncDispose]()
})

const kubectl = (tenant: string, args: string[], input = '') => platform.runKubectl(tenant, args, { input })

async function lay(name: string, wasm: Uint8Array, spec: object = {}) {
  const policy = {
    apiVersion: 'tenancy.bulkhead.dev/v1alpha1',
    kind: 'RegoPolicy',
    metadata: { name },
    spec: {
      bundle: Buffer.from(await bundleOfModule(wasm)).toString('base64'),
      tenantSelector: {},
      matchConstraints: {
        resourceRules: [
          {
            apiGroups: ['apps'],
            apiVersions: ['v1'],
            operations: ['CREATE', 'UPDATE'],
            resources: ['deployments'],
          },
        ],
      },
      ...spec,
    },
  }
  return kubectl('platform', ['apply', '--server-side', '-f', '-'], stringify(policy))
}

const deployment = (image: string) =>
  stringify({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'web' },
    spec: {
      replicas: 0,
      selector: { matchLabels: { app: 'web' } },
      template: {
        metadata: { labels: { app: 'web' } },
        spec: { containers: [{ name: 'web', image: `registry.test/${image}` }] },
      },
    },
  })
const create = (tenant: string, image: string) =>
  kubectl(tenant, ['create', '--dry-run=server', '-f', '-'], deployment(image))

test(
  'a Deployment that the operator’s policy in Rego denies is refused with its message and name',
  { skip },
  async () => {
    const { code, stderr } = await lay(
      'versions',
      denyIfInputHas(':latest"', 'name a version instead of latest'),
    )
    assert.equal(code, 0, stderr)
    for (const tenant of ['red', 'blue']) {
      await until(async () => (await create(tenant, 'web:latest')).code !== 0, {
        timeoutMs: 60_000,
        what: `the policy to reach ${tenant}`,
      })
      assert.match(
        (await create(tenant, 'web:latest')).stderr,
        /deployments\.apps "web" is forbidden: RegoPolicy 'versions' of the platform denied request: name a version instead of latest/,
      )
      const allowed = await create(tenant, 'web:1')
      assert.equal(allowed.code, 0, allowed.stderr)
      assert.notEqual((await kubectl(tenant, ['get', 'regopolicies'])).code, 0)
    }
  },
)

test(
  'a policy that never ends refuses what it judges, while everything else of all tenants goes on',
  { skip },
  async () => {
    const { code, stderr } = await lay('endless', assemble({ evaluate: [...op.forever, ...op.const(0)] }), {
      tenantSelector: { matchLabels: { tier: 'odd' } },
    })
    assert.equal(code, 0, stderr)
    assert.equal((await create('red', 'web:1')).code, 0)
    assert.equal((await kubectl('platform', ['label', 'tenant', 'red', 'tier=odd'])).code, 0)
    await until(async () => (await create('red', 'web:1')).code !== 0, {
      timeoutMs: 60_000,
      what: 'the policy to reach the tenant',
    })
    const [stuck, read, other] = await Promise.all([
      create('red', 'web:1'),
      kubectl('red', ['create', 'configmap', 'c', '--from-literal=a=b']),
      create('blue', 'web:1'),
    ])
    assert.match(
      stuck.stderr,
      /RegoPolicy 'endless' of the platform could not decide: it did not come to an end/,
    )
    assert.equal(read.code, 0, read.stderr)
    assert.equal(other.code, 0, other.stderr)
    assert.equal((await kubectl('platform', ['delete', 'regopolicy', 'endless'])).code, 0)
    await until(async () => (await create('red', 'web:1')).code === 0, {
      timeoutMs: 60_000,
      what: 'the policy to go',
    })
  },
)

test('the operator is told at once when a policy could never be asked', { skip }, async () => {
  const refused = await lay('calls', assemble({ builtins: ['http.send'] }))
  assert.notEqual(refused.code, 0)
  assert.match(
    refused.stderr,
    /spec\.bundle: Invalid value: .* it calls "http\.send", which policies cannot use here/,
  )
})
