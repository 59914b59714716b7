import assert from 'node:assert/strict'
import { copyFile } from 'node:fs/promises'
import { after, before, test } from 'node:test'
import { stringify } from 'yaml'
import { paths } from '../../src/api/index.ts'
import { until } from '../../src/stdx/index.ts'
import { platformMissing as skip } from '../testkit/machine.ts'
import { TestPlatform } from '../testkit/platform.ts'

/** Rules in CEL on their way through stock kubectl: a tenant's own, and the operator's for chosen tenants. */

let platform: TestPlatform

before(async () => {
  if (skip !== false) return
  platform = await TestPlatform.start({
    instance: 'cea',
    slot: 20,
    tenants: [
      { name: 'red', registries: ['registry.test'] },
      { name: 'blue', registries: ['registry.test'] },
    ],
  })
  await copyFile(paths.operatorKubeconfig(platform.layout), platform.kubeconfig('platform'))
})
after(async () => {
  await platform?.[Symbol.asyncDispose]()
})

const policy = (name: string, expression: string, message: string) => ({
  apiVersion: 'admissionregistration.k8s.io/v1',
  kind: 'ValidatingAdmissionPolicy',
  metadata: { name },
  spec: {
    matchConstraints: {
      resourceRules: [
        {
          apiGroups: ['apps'],
          apiVersions: ['v1'],
          operations: ['CREATE', 'UPDATE'],
          resources: ['deployments'],
        },
        {
          apiGroups: ['apps'],
          apiVersions: ['v1'],
          operations: ['UPDATE'],
          resources: ['deployments/scale'],
        },
      ],
    },
    validations: [{ expression, message, reason: 'Forbidden' }],
  },
})
const binding = (name: string, spec: object = {}) => ({
  apiVersion: 'admissionregistration.k8s.io/v1',
  kind: 'ValidatingAdmissionPolicyBinding',
  metadata: { name },
  spec: { policyName: name, validationActions: ['Deny'], ...spec },
})
const deployment = (name: string, replicas: number) =>
  stringify({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name },
    spec: {
      replicas,
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels: { app: name } },
        spec: { containers: [{ name: 'web', image: 'registry.test/web:1' }] },
      },
    },
  })

const kubectl = (tenant: string, args: string[], input = '') => platform.runKubectl(tenant, args, { input })
const apply = (tenant: string, input: string) => kubectl(tenant, ['apply', '-f', '-'], input)

async function must(tenant: string, documents: readonly object[]): Promise<void> {
  const { code, stderr } = await apply(tenant, documents.map((document) => stringify(document)).join('---\n'))
  assert.equal(code, 0, stderr)
}

test('a tenant’s own rule holds for apply, edit and scale, and goes with its binding', { skip }, async () => {
  await must('red', [policy('few', 'object.spec.replicas <= 2', 'two are enough'), binding('few')])
  const refused = await apply('red', deployment('web', 3))
  assert.notEqual(refused.code, 0)
  assert.match(
    refused.stderr,
    /deployments\.apps "web" is forbidden: ValidatingAdmissionPolicy 'few' with binding 'few' denied request: two are enough/,
  )
  assert.equal((await apply('red', deployment('web', 0))).code, 0)
  const scaled = await kubectl('red', ['scale', 'deployment', 'web', '--replicas=3'])
  assert.notEqual(scaled.code, 0)
  assert.match(scaled.stderr, /two are enough/)
  // Another tenant has rules of its own.
  assert.equal(
    (await kubectl('blue', ['create', '--dry-run=server', '-f', '-'], deployment('web', 3))).code,
    0,
  )
  assert.equal((await kubectl('red', ['delete', 'validatingadmissionpolicybinding', 'few'])).code, 0)
  assert.equal(
    (await kubectl('red', ['create', '--dry-run=server', '-f', '-'], deployment('other', 3))).code,
    0,
  )
})

test(
  'a tenant cannot see, change or escape the operator’s rule, which holds for chosen tenants only',
  { skip },
  async () => {
    assert.equal((await kubectl('platform', ['label', 'tenant', 'blue', 'tier=free'])).code, 0)
    await must('platform', [
      policy('small', 'object.spec.replicas <= 1', 'one replica for free tenants'),
      binding('small', { tenantSelector: { matchLabels: { tier: 'free' } } }),
    ])
    const create = (tenant: string) =>
      kubectl(tenant, ['create', '--dry-run=server', '-f', '-'], deployment('big', 2))
    await until(async () => (await create('blue')).code !== 0, {
      timeoutMs: 60_000,
      what: 'the rule to reach the tenant',
    })
    assert.match(
      (await create('blue')).stderr,
      /ValidatingAdmissionPolicy 'small' of the platform with binding 'small' denied request: one replica for free tenants/,
    )
    assert.equal((await create('red')).code, 0)
    assert.equal(
      (await kubectl('blue', ['get', 'validatingadmissionpolicies', '-o', 'name'])).stdout.trim(),
      '',
    )
    await kubectl('blue', ['delete', 'validatingadmissionpolicy,validatingadmissionpolicybinding', '--all'])
    await must('blue', [policy('small', 'true', 'mine'), binding('small')])
    assert.notEqual((await create('blue')).code, 0)
    assert.equal((await kubectl('platform', ['delete', 'validatingadmissionpolicybinding', 'small'])).code, 0)
    await until(async () => (await create('blue')).code === 0, { timeoutMs: 60_000, what: 'the rule to go' })
  },
)

test(
  'the operator’s rule takes its parameters from the platform, and heeds a change of them',
  { skip },
  async () => {
    const limits = (max: string) => ({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'limits', namespace: 'rules' },
      data: { max },
    })
    const rule = policy('sized', 'object.spec.replicas <= int(params.data.max)', 'too many for this platform')
    const paramRef = { name: 'limits', namespace: 'rules', parameterNotFoundAction: 'Deny' }
    await must('platform', [
      { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'rules' } },
      limits('1'),
      { ...rule, spec: { ...rule.spec, paramKind: { apiVersion: 'v1', kind: 'ConfigMap' } } },
      binding('sized', { tenantSelector: {}, paramRef }),
    ])
    const create = (replicas: number) =>
      kubectl('red', ['create', '--dry-run=server', '-f', '-'], deployment('sized', replicas))
    await until(async () => (await create(2)).stderr.includes('too many for this platform'), {
      timeoutMs: 60_000,
      what: 'the rule to reach the tenant',
    })
    assert.equal((await create(1)).code, 0)
    await must('platform', [limits('2')])
    await until(async () => (await create(2)).code === 0, {
      timeoutMs: 60_000,
      what: 'the new value to hold',
    })
    assert.notEqual((await create(3)).code, 0)
    assert.equal((await kubectl('platform', ['delete', 'validatingadmissionpolicybinding', 'sized'])).code, 0)
  },
)
