import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { after, before, test } from 'node:test'
import { stringify } from 'yaml'
import { platformMissing as skip } from '../testkit/machine.ts'
import { TestPlatform } from '../testkit/platform.ts'

/** What the operator decided about images and pods, on its way from the Tenant to whoever writes a workload. */

let platform: TestPlatform

before(async () => {
  if (skip === false) platform = await TestPlatform.start({ instance: 'japp', slot: 50, tenants: [] })
})
after(async () => {
  await platform?.[Symbol.asyncDispose]()
})

async function applyTenant(spec: object): Promise<void> {
  const file = platform.kubeconfig('red.tenant')
  const document = {
    apiVersion: 'tenancy.bulkhead.dev/v1alpha1',
    kind: 'Tenant',
    metadata: { name: 'red' },
    spec: { trust: 'trusted', code: 'own', ...spec },
  }
  await writeFile(file, stringify(document))
  await platform.mustCli('tenant', 'apply', '-f', file)
}

const deployment = stringify({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'web' },
  spec: {
    replicas: 0,
    selector: { matchLabels: { app: 'web' } },
    template: {
      metadata: { labels: { app: 'web' } },
      spec: { containers: [{ name: 'web', image: 'elsewhere.test/web:1' }] },
    },
  },
})

async function create(): Promise<{ code: number; stderr: string }> {
  return platform.runKubectl('red', ['create', '--dry-run=server', '-f', '-'], { input: deployment })
}

test(
  'what the operator allows and requires meets the tenant at apply, and changes while it runs',
  { skip },
  async () => {
    await applyTenant({ registries: ['registry.test'] })
    await platform.mustCli('kubeconfig', 'red', '-f', platform.kubeconfig('red'))
    const elsewhere = await create()
    assert.notEqual(elsewhere.code, 0)
    assert.equal(
      elsewhere.stderr.trim(),
      'The Deployment "web" is invalid: spec.template.spec.containers[0].image: Forbidden: elsewhere.test/web is not in a registry that this tenant may use (vector: images and image cache). Instead: use an image from registry.test',
    )
    await applyTenant({ registries: ['elsewhere.test'] })
    assert.equal((await create()).code, 0)
    await applyTenant({ registries: ['elsewhere.test'], podSecurity: { enforce: 'restricted' } })
    const bare = await create()
    assert.notEqual(bare.code, 0)
    assert.match(
      bare.stderr,
      /deployments\.apps "web" is forbidden: violates PodSecurity "restricted:latest": .*; the operator requires this level/,
    )
  },
)
