import assert from 'node:assert/strict'
import { X509Certificate, createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { after, before, describe, test } from 'node:test'
import { parse } from 'yaml'
import { platformMissing } from '../testkit/machine.ts'
import { TestPlatform } from '../testkit/platform.ts'

/** What follows from a credential alone: whose API a path without a tenant means, and who somebody is. */

describe('a tenant’s kubeconfig', { skip: platformMissing }, () => {
  let platform: TestPlatform
  const raw = (tenant: string, path: string, ...args: string[]) =>
    platform.kubectl(tenant, 'get', '--raw', path, ...args)

  before(async () => {
    platform = await TestPlatform.start({
      instance: 'kk1',
      slot: 165,
      tenants: [{ name: 'red' }, { name: 'blue', trust: 'untrusted' }],
    })
    for (const tenant of ['red', 'blue'])
      await platform.mustKubectl(tenant, 'create', 'configmap', `of-${tenant}`)
  })
  after(() => platform?.[Symbol.asyncDispose]())

  test('opens its own API where a path names no tenant', async () => {
    for (const [tenant, other] of [
      ['red', 'blue'],
      ['blue', 'red'],
    ] as const) {
      const own = await raw(tenant, '/api/v1/namespaces/default/configmaps')
      assert.match(own.stdout, new RegExp(`of-${tenant}"`), own.stderr)
      assert.ok(!own.stdout.includes(`of-${other}`))
      assert.match((await raw(tenant, '/version')).stdout, /bulkhead/)
      assert.match((await raw(tenant, '/openapi/v2')).stdout, /^\{"swagger":"2\.0"/)
      assert.equal((await raw(tenant, '/healthz')).stdout, 'ok')
      for (const path of [
        '/metrics',
        `/tenants/${other}/api/v1/secrets`,
        '/tenants/invented/version',
        '/platform',
      ])
        assert.match((await raw(tenant, path)).stderr, /Forbidden|You have no access/, path)
    }
  })

  test('says with which certificate, or which token, somebody asks', async () => {
    const file = parse(await readFile(platform.kubeconfig('red'), 'utf8')) as {
      users: { user: { 'client-certificate-data': string } }[]
    }
    const pem = Buffer.from(file.users[0]?.user['client-certificate-data'] ?? '', 'base64')
    const hash = createHash('sha256').update(new X509Certificate(pem).raw).digest('hex')
    const who = async (...args: string[]) =>
      platform.mustKubectl('red', 'auth', 'whoami', '-o', 'json', ...args)
    const extraOf = (text: string) =>
      (JSON.parse(text) as { status: { userInfo: { extra: Record<string, string[]> } } }).status.userInfo
        .extra
    assert.deepEqual(extraOf(await who()), {
      'authentication.kubernetes.io/credential-id': [`X509SHA256=${hash}`],
    })
    const token = (await platform.mustKubectl('red', 'create', 'token', 'default')).trim()
    const claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as {
      jti: string
      iss: string
    }
    assert.equal(claims.iss, 'https://kubernetes.default.svc.cluster.local')
    const review = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec: { token } }
    const reviewed = await platform.runKubectl('red', ['create', '-o', 'json', '-f', '-'], {
      input: JSON.stringify(review),
    })
    const { status } = JSON.parse(reviewed.stdout) as { status: { user: { extra: object } } }
    assert.deepEqual(status.user.extra, {
      'authentication.kubernetes.io/credential-id': [`JTI=${claims.jti}`],
    })
    // Another tenant knows nothing of it.
    const foreign = await platform.runKubectl('blue', ['create', '-o', 'json', '-f', '-'], {
      input: JSON.stringify(review),
    })
    assert.doesNotMatch(foreign.stdout, /"authenticated": true/)
  })
})
