import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { platformMissing } from '../testkit/machine.ts'
import { TestPlatform } from '../testkit/platform.ts'
import { type Registry, startBusyboxRegistry } from '../testkit/registry.ts'

/** What a pod answers at `proxy`, from a real pod to a client outside. */
describe('pods at proxy', { skip: platformMissing }, () => {
  let platform: TestPlatform
  let registry: Registry
  const PROXY = '/api/v1/namespaces/default/pods/web/proxy'
  const ELSEWHERE = '/api/v1/namespaces/default/pods/web:8081/proxy/'

  before(async () => {
    registry = await startBusyboxRegistry()
    platform = await TestPlatform.start({
      instance: 'gp1',
      slot: 194,
      tenants: [{ name: 'red', registries: [registry.host] }],
    })
    const pages = [
      'mkdir -p /tmp/web/sub',
      'echo hello > /tmp/web/sub/index.html',
      'echo root > /tmp/web/index.html',
      'httpd -f -p 8080 -h /tmp/web',
    ]
    const away = [
      'HTTP/1.1 302 Found',
      'Location: https://evil.example/',
      'Set-Cookie: a=b',
      'Content-Length: 0',
    ]
    const sendAway = `while :; do printf '${[...away, '', ''].join('\\r\\n')}' | nc -l -p 8081; done`
    const container = (name: string, script: string, containerPort: number) => ({
      name,
      image: `${registry.host}/busybox:1`,
      command: ['sh', '-c', script],
      ports: [{ containerPort }],
    })
    await platform.apply('red', [
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'web' },
        spec: {
          terminationGracePeriodSeconds: 1,
          containers: [container('web', pages.join('; '), 8080), container('away', sendAway, 8081)],
        },
      },
    ])
    await platform.mustKubectl('red', 'wait', '--for=condition=Ready', 'pod/web', '--timeout=90s')
  })
  after(async () => {
    await platform?.[Symbol.asyncDispose]()
    await registry?.[Symbol.asyncDispose]()
  })

  test('kubectl finds pages behind redirects of the pod', async () => {
    for (const [path, page] of [
      [PROXY, 'root\n'],
      [`${PROXY}/`, 'root\n'],
      [`${PROXY}/sub`, 'hello\n'],
      [`${PROXY}/sub/index.html`, 'hello\n'],
    ] as const)
      assert.equal(await platform.mustKubectl('red', 'get', '--raw', path), page, path)
  })

  test('HEAD and OPTIONS reach the pod, and nothing else', async () => {
    const ask = async (method: string, path: string) => (await platform.request('red', path, { method })).code
    assert.equal(await ask('HEAD', `${PROXY}/`), 200)
    // The pod's own server knows no OPTIONS.
    assert.equal(await ask('OPTIONS', `${PROXY}/`), 501)
    assert.equal(await ask('OPTIONS', '/api/v1/namespaces/default/pods/web'), 405)
  })

  test('a pod cannot send who asks it to another host, or set a cookie', async () => {
    const { code, headers } = await platform.request('red', ELSEWHERE)
    assert.equal(code, 302)
    assert.deepEqual([headers['location'], headers['set-cookie']], [undefined, undefined])
  })
})
