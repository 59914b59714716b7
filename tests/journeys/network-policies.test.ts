import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { until } from '../../src/stdx/index.ts'
import { BOTH_RUNTIMES, tenantsOfBothRuntimes } from '../testkit/both-runtimes.ts'
import { platformMissing } from '../testkit/machine.ts'
import { TestPlatform } from '../testkit/platform.ts'
import { type Registry, startBusyboxRegistry } from '../testkit/registry.ts'

/** An application that is closed as a tenant would close it, on both runtimes: red's on the machine's kernel, blue's on gVisor's. */

let platform: TestPlatform
let registry: Registry

before(async () => {
  if (platformMissing !== false) return
  registry = await startBusyboxRegistry()
  platform = await TestPlatform.start({
    instance: 'npj',
    slot: 36,
    tenants: tenantsOfBothRuntimes(registry.host),
  })
})

after(async () => {
  if (platformMissing !== false) return
  await platform?.[Symbol.asyncDispose]()
  await registry?.[Symbol.asyncDispose]()
})

/** `script` runs as the pod; the label `app` is its name. */
const pod = (name: string, script: string, more = '') => `
apiVersion: v1
kind: Pod
metadata: {name: ${name}, labels: {app: ${name}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: main
      image: ${registry.host}/busybox:1
      command: [sh, -c, ${JSON.stringify(script)}]
${more}`

const WEB = `      ports: [{name: http, containerPort: 8080}]
      readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
`
const application = () =>
  [
    pod('web', 'mkdir /tmp/www; echo hello > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www', WEB),
    pod('client', 'exec sleep 3600'),
    pod('stranger', 'exec sleep 3600'),
    `
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}`,
  ].join('\n---')

const CLOSED = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: nobody}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: names}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
    - to:
        - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
          podSelector: {matchLabels: {k8s-app: kube-dns}}
      ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
    - from: [{podSelector: {matchExpressions: [{key: role, operator: In, values: [client]}]}}]
      ports: [{port: http}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: clients}
spec:
  podSelector: {matchLabels: {role: client}}
  policyTypes: [Egress]
  egress: [{to: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: http}]}]
`

for (const { tenant, skip } of BOTH_RUNTIMES)
  describe(`network policies of ${tenant}`, { skip }, () => {
    const kubectl = (...args: string[]) => platform.mustKubectl(tenant, ...args)
    const reaches = async (from: string, target = 'http://web/') => {
      const { stdout } = await platform.kubectl(
        tenant,
        ...['exec', from, '--', 'timeout', '3', 'wget', '-q', '-O-', target],
      )
      return stdout.trim() === 'hello'
    }

    test('without policies everybody reaches the server', async () => {
      await platform.apply(tenant, application())
      await kubectl('wait', '--for=condition=Ready', 'pod', '--all', '--timeout=60s')
      assert.equal(await reaches('client'), true)
      assert.equal(await reaches('stranger'), true)
    })

    test('closed to all but those with a label, which may come and go', async () => {
      await kubectl('label', 'pod', 'client', 'role=client')
      await platform.apply(tenant, CLOSED)
      const listed = await kubectl('get', 'netpol')
      assert.match(listed, /^NAME +POD-SELECTOR +AGE$/m)
      assert.match(listed, /^clients +role=client +\d+s$/m)
      assert.match(listed, /^nobody +<none> +\d+s$/m)
      await until(async () => !(await reaches('stranger')))
      await until(async () => await reaches('client'))
      assert.equal(await reaches('stranger'), false)
      await kubectl('label', 'pod', 'stranger', 'role=client')
      await until(async () => await reaches('stranger'))
      await kubectl('label', 'pod', 'stranger', 'role-')
      await until(async () => !(await reaches('stranger')))
      assert.match(await kubectl('describe', 'netpol', 'web'), /To Port: http\/TCP/)
    })

    test('probes go on, and what starts now is closed from its first moment', async () => {
      const script =
        'timeout 3 wget -q -O- http://web/ && echo open || echo closed; echo asked; exec sleep 3600'
      await platform.apply(tenant, pod('late', script))
      await until(async () => (await kubectl('logs', 'late')).includes('asked'), { timeoutMs: 60_000 })
      assert.equal((await kubectl('logs', 'late')).replaceAll(/^[^oca].*\n/gm, ''), 'closed\nasked\n')
      // The server has been asked by its probe all the time.
      await kubectl('wait', '--for=condition=Ready', 'pod', 'web', '--timeout=5s')
      const { restartCount, ready } = (
        await platform.getJson<{ status: { containerStatuses: { restartCount: number; ready: boolean }[] } }>(
          tenant,
          ...['pod', 'web'],
        )
      ).status.containerStatuses[0] ?? { restartCount: -1, ready: false }
      assert.deepEqual({ restartCount, ready }, { restartCount: 0, ready: true })
    })

    test("a namespace's labels decide, also when they change", async () => {
      await kubectl('create', 'namespace', 'friends')
      await platform.runKubectl(tenant, ['-n', 'friends', 'apply', '-f', '-'], {
        input: pod('friend', 'exec sleep 3600'),
      })
      await kubectl('-n', 'friends', 'wait', '--for=condition=Ready', 'pod/friend', '--timeout=60s')
      await platform.apply(
        tenant,
        `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: friends}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{namespaceSelector: {matchLabels: {trusted: "yes"}}}]}]`,
      )
      const friend = async () => {
        const address = (await kubectl('get', 'pod', 'web', '-o', 'jsonpath={.status.podIP}')).trim()
        const { stdout } = await platform.kubectl(
          tenant,
          ...['-n', 'friends', 'exec', 'friend', '--', 'timeout', '3'],
          ...['wget', '-q', '-O-', `http://${address}:8080/`],
        )
        return stdout.trim() === 'hello'
      }
      assert.equal(await friend(), false)
      await kubectl('label', 'namespace', 'friends', 'trusted=yes')
      await until(friend)
      await kubectl('label', 'namespace', 'friends', 'trusted-')
      await until(async () => !(await friend()))
    })

    test('without policies again everybody is open', async () => {
      await kubectl('delete', 'netpol', '--all')
      await until(async () => await reaches('stranger'))
    })

    test('what upstream refuses is refused in its words', async () => {
      const { code, stderr } = await platform.runKubectl(tenant, ['apply', '-f', '-'], {
        input: `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: wrong}
spec:
  podSelector: {}
  ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/8]}, podSelector: {}}], ports: [{port: 90, endPort: 80}]}]`,
      })
      assert.equal(code, 1)
      assert.match(
        stderr,
        /spec\.ingress\[0\]\.from\[0\]: Forbidden: may not specify both ipBlock and another peer/,
      )
      assert.match(
        stderr,
        /spec\.ingress\[0\]\.from\[0\]\.ipBlock\.except\[0\]: Invalid value: "11.0.0.0\/8": must be a strict subset of `cidr`/,
      )
      assert.match(
        stderr,
        /spec\.ingress\[0\]\.ports\[0\]\.endPort: Invalid value: 90: must be greater than or equal to `port`/,
      )
    })
  })

test('bulkhead verify finds every layer while policies are in force', { skip: platformMissing }, async () => {
  for (const { tenant, skip } of BOTH_RUNTIMES) if (skip === false) await platform.apply(tenant, CLOSED)
  const { code, stdout } = await platform.cli('verify')
  assert.equal(code, 0, stdout)
})
