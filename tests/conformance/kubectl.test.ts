import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { Agent } from 'undici'
import { ControlPlane } from './control-plane.ts'
import { type CommandResult, KUBECTL_VERSIONS, Kubectl, kubectlMissing } from './kubectl.ts'

const DEPLOYMENT = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "nginx:1", ports: [{containerPort: 80}]}
`
const CONFIG = (value: string) =>
  `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {mode: ${value}}\n`

for (const version of KUBECTL_VERSIONS) {
  describe(
    `the real kubectl ${version}`,
    { skip: kubectlMissing && 'kubectl is not installed for this machine' },
    () => {
      let plane: ControlPlane
      let kubectl: Kubectl

      before(async () => {
        plane = await ControlPlane.start()
        kubectl = await Kubectl.open(`http://127.0.0.1:${plane.port}`, version)
        await ok(['create', 'namespace', 'shop'])
      })
      after(async () => {
        await kubectl[Symbol.asyncDispose]()
        await plane[Symbol.asyncDispose]()
      })

      async function ok(args: readonly string[], input = ''): Promise<string> {
        const result = await kubectl.run(args, { input })
        assert.equal(result.code, 0, `kubectl ${args.join(' ')}\n${result.stdout}${result.stderr}`)
        return result.stdout
      }
      async function refused(args: readonly string[], input = ''): Promise<CommandResult> {
        const result = await kubectl.run(args, { input })
        assert.notEqual(result.code, 0, `kubectl ${args.join(' ')} went through:\n${result.stdout}`)
        return result
      }

      test('learns what there is: version, api-resources, api-versions, explain, cluster-info', async () => {
        assert.match(await ok(['version']), /Server Version: v1\.36\.0\+bulkhead/)
        assert.match(
          await ok(['api-resources', '--namespaced=true']),
          /^deployments +deploy +apps\/v1 +true +Deployment$/m,
        )
        assert.match(await ok(['api-versions']), /^rbac\.authorization\.k8s\.io\/v1$/m)
        const explained = await ok(['explain', 'pod.spec.containers'])
        assert.match(explained, /image\t<string>/)
        const [description, fields] = (await ok(['explain', 'pod.spec'])).split('FIELDS:')
        assert.match(description ?? '', /Refused here, with the reason: .*hostNetwork/s)
        assert.match(fields ?? '', /containers\t/)
        assert.doesNotMatch(fields ?? '', /hostNetwork/)
      })

      test('tells why a container is not added to a pod that runs, and what to do instead', async () => {
        const POD =
          'apiVersion: v1\nkind: Pod\nmetadata: {name: stuck}\nspec: {containers: [{name: c, image: c}]}'
        await ok(['create', '-f', '-'], POD)
        const { stderr } = await refused(['debug', 'stuck', '--image=tools'])
        assert.match(
          stderr,
          /Instead: use kubectl exec, or kubectl debug --copy-to=NAME --share-processes=false/,
        )
        const copy = ['--copy-to=copy', '--share-processes=false', '--attach=false']
        await ok(['debug', 'stuck', '--image=tools', ...copy])
        assert.match(
          (await refused(['debug', 'node/bulkhead', '--image=tools'])).stderr,
          /spec.hostPID: Forbidden/,
        )
        await ok(['delete', 'pod', 'stuck', 'copy', '--now'])
      })

      test('cordons, labels, drains and describes the node, which is the tenant’s own', async () => {
        assert.equal(await ok(['cordon', 'bulkhead']), 'node/bulkhead cordoned\n')
        assert.match(await ok(['get', 'nodes']), /^bulkhead +Unknown,SchedulingDisabled /m)
        assert.match(await ok(['drain', 'bulkhead']), /already cordoned\nnode\/bulkhead drained/)
        await ok(['label', 'node', 'bulkhead', 'disk=ssd'])
        const described = await ok(['describe', 'node', 'bulkhead'])
        assert.match(described, /disk=ssd/)
        assert.match(described, /Unschedulable: +true\nLease:\n +HolderIdentity: +bulkhead\n/)
        await ok(['uncordon', 'bulkhead'])
        await ok(['label', 'node', 'bulkhead', 'disk-'])
        for (const args of [
          ['taint', 'node', 'bulkhead', 'a=b:NoSchedule'],
          ['delete', 'node', 'bulkhead'],
        ])
          assert.match((await refused(args)).stderr, /only the platform (writes nodes|changes it)/)
      })

      test('serves the API to programs of this machine: on a port that is free, and on a socket', async () => {
        const throughProxy = async (args: readonly string[], ask: (text: string) => Promise<string>) => {
          let answer: Promise<string> | undefined
          const ran = await kubectl.run(['proxy', ...args], {
            onOutput: (text, end) => {
              answer = ask(text).finally(end)
            },
          })
          assert.ok(answer, ran.stderr)
          return JSON.parse(await answer) as { kind: string; versions: string[] }
        }
        const overPort = await throughProxy(['--port=0', '--disable-filter=true'], async (text) => {
          const port = /^Starting to serve on 127.0.0.1:(\d+)/.exec(text)?.[1] ?? assert.fail(text)
          return (await fetch(`http://127.0.0.1:${port}/api/`)).text()
        })
        assert.deepEqual([overPort.kind, overPort.versions], ['APIVersions', ['v1']])
        const directory = await mkdtemp(join(tmpdir(), 'proxy-'))
        const socketPath = join(directory, 'kubectl.sock')
        const overSocket = await throughProxy([`--unix-socket=${socketPath}`], async () => {
          const agent = new Agent({ connect: { socketPath } })
          const { body } = await agent.request({ origin: 'http://localhost', path: '/api/', method: 'GET' })
          const text = await body.text()
          await agent.close()
          return text
        })
        await rm(directory, { recursive: true })
        assert.deepEqual(overSocket, overPort)
      })

      test('applies on the client side and on the server side, diffs, and shows the result in every form', async () => {
        assert.equal(
          await ok(['apply', '-n', 'shop', '-f', '-'], DEPLOYMENT),
          'deployment.apps/web created\n',
        )
        assert.equal(
          await ok(['apply', '-n', 'shop', '-f', '-'], DEPLOYMENT),
          'deployment.apps/web unchanged\n',
        )
        const two = DEPLOYMENT.replace('nginx:1', 'nginx:2')
        const diff = await kubectl.run(['diff', '-n', 'shop', '-f', '-'], { input: two })
        assert.equal(diff.code, 1, diff.stderr)
        assert.match(diff.stdout, /\+ +- image: nginx:2|\+ +image: nginx:2/)
        assert.equal(await ok(['apply', '-n', 'shop', '-f', '-'], two), 'deployment.apps/web configured\n')
        assert.match(
          await ok(['apply', '--server-side', '-n', 'shop', '-f', '-'], CONFIG('slow')),
          /configmap\/settings serverside-applied/,
        )
        const conflict = await refused(
          ['apply', '--server-side', '--field-manager=other', '-n', 'shop', '-f', '-'],
          CONFIG('fast'),
        )
        assert.match(conflict.stderr, /conflict with "kubectl"/)
        await ok(
          ['apply', '--server-side', '--field-manager=other', '--force-conflicts', '-n', 'shop', '-f', '-'],
          CONFIG('fast'),
        )
        assert.equal(await ok(['get', 'cm', 'settings', '-n', 'shop', '-o', 'jsonpath={.data.mode}']), 'fast')
        assert.match(
          await ok(['get', 'deploy', '-n', 'shop']),
          /^NAME +READY +UP-TO-DATE +AVAILABLE +AGE\nweb +0\/2/,
        )
        assert.match(await ok(['get', 'deploy', '-A', '-o', 'wide']), /^shop +web +0\/2 .*nginx:2 +app=web$/m)
        assert.match(
          await ok(['get', 'deploy', 'web', '-n', 'shop', '-o', 'yaml']),
          /^ {6}- image: nginx:2$/m,
        )
        assert.match(await ok(['get', 'all', '-n', 'shop']), /deployment\.apps\/web/)
        assert.match(
          await ok(['get', 'deploy', '-n', 'shop', '-l', 'app in (web),app!=x', '-o', 'name']),
          /^deployment\.apps\/web$/m,
        )
        assert.match(await ok(['get', 'ns', '--field-selector', 'metadata.name=shop']), /^shop +Active/m)
        assert.match(
          await ok(['apply', '--dry-run=server', '-n', 'shop', '-f', '-'], CONFIG('dry')),
          /server dry run/,
        )
        assert.equal(await ok(['get', 'cm', 'settings', '-n', 'shop', '-o', 'jsonpath={.data.mode}']), 'fast')
      })

      test('changes objects in every way', async () => {
        await ok(['create', 'configmap', 'one', '-n', 'shop', '--from-literal=a=1'])
        await ok(['create', 'secret', 'generic', 'two', '-n', 'shop', '--from-literal=password=x'])
        await ok(['create', 'deployment', 'three', '-n', 'shop', '--image=nginx', '--replicas=1'])
        await ok(['create', 'serviceaccount', 'robot', '-n', 'shop'])
        await ok(['create', 'role', 'reader', '-n', 'shop', '--verb=get,list', '--resource=pods'])
        await ok([
          'create',
          'rolebinding',
          'reader',
          '-n',
          'shop',
          '--role=reader',
          '--serviceaccount=shop:robot',
        ])
        await ok(['expose', 'deployment', 'three', '-n', 'shop', '--port=80'])
        await ok(['patch', 'cm', 'one', '-n', 'shop', '-p', '{"data":{"b":"2"}}'])
        await ok(['patch', 'cm', 'one', '-n', 'shop', '--type=merge', '-p', '{"data":{"a":null}}'])
        await ok([
          'patch',
          'cm',
          'one',
          '-n',
          'shop',
          '--type=json',
          '-p',
          '[{"op":"add","path":"/data/c","value":"3"}]',
        ])
        assert.equal(
          await ok(['get', 'cm', 'one', '-n', 'shop', '-o', 'jsonpath={.data}']),
          '{"b":"2","c":"3"}',
        )
        await ok(['replace', '-n', 'shop', '-f', '-'], CONFIG('replaced'))
        await ok(['scale', 'deploy', 'three', '-n', 'shop', '--replicas=4', '--current-replicas=1'])
        assert.equal(
          await ok([
            'get',
            'deploy',
            'three',
            '-n',
            'shop',
            '-o',
            'jsonpath={.spec.replicas} {.metadata.generation}',
          ]),
          '4 2',
        )
        await ok(['set', 'image', 'deploy/three', '-n', 'shop', 'nginx=nginx:3'])
        await ok(['rollout', 'restart', 'deploy/three', '-n', 'shop'])
        await ok(['label', 'cm', 'one', '-n', 'shop', 'tier=gold'])
        await ok(['annotate', 'cm', 'one', '-n', 'shop', 'note=hello'])
        assert.match(
          await ok(['describe', 'cm', 'one', '-n', 'shop']),
          /Labels: +tier=gold\nAnnotations: +note: hello/,
        )
        assert.match(await ok(['describe', 'deploy', 'three', '-n', 'shop']), /Replicas: +4 desired/)
        assert.match(await ok(['describe', 'secret', 'two', '-n', 'shop']), /password: +1 bytes/)
        assert.match(await ok(['describe', 'svc', 'three', '-n', 'shop']), /IP: +10\.96\.\d+\.\d+/)
        assert.match(await ok(['events', '-n', 'shop']), /^$/)
        await ok(['wait', 'ns/shop', '--for=jsonpath={.status.phase}=Active', '--timeout=5s'])
        await ok(['delete', 'cm', 'one', '-n', 'shop'])
        await ok(['wait', 'cm/one', '-n', 'shop', '--for=delete', '--timeout=5s'])
        await ok(['delete', 'deploy,svc', '--all', '-n', 'shop'])
        assert.equal(await ok(['get', 'deploy,svc', '-n', 'shop', '-o', 'name']), '')
      })

      test('watches: a change in another command is printed', async () => {
        await ok(['create', 'configmap', 'watched', '-n', 'shop', '--from-literal=a=1'])
        let changed: Promise<string> | undefined
        const { stdout } = await kubectl.run(
          ['get', 'cm', 'watched', '-n', 'shop', '-w', '-o', 'jsonpath={.data.a};'],
          {
            untilOutput: /2;/,
            onOutput: () => {
              changed = ok(['patch', 'cm', 'watched', '-n', 'shop', '-p', '{"data":{"a":"2"}}'])
            },
          },
        )
        await changed
        assert.equal(stdout, '1;2;')
      })

      test('asks who it is and what it may', async () => {
        assert.match(
          await ok(['auth', 'whoami']),
          /Username +ann\nGroups +\[bulkhead:tenant-admins system:authenticated\]/,
        )
        assert.equal(await ok(['auth', 'can-i', '*', '*']), 'yes\n')
        assert.match(await ok(['auth', 'can-i', '--list', '-n', 'shop']), /\*\.\* +\[\] +\[\] +\[\*\]/)
        const token = (await ok(['create', 'token', 'robot', '-n', 'shop', '--duration=20m'])).trim()
        assert.equal(token.split('.').length, 3)
      })

      test('is told what is wrong, which field, and what to write instead', async () => {
        const privileged = `apiVersion: v1
kind: Pod
metadata: {name: bad, namespace: shop}
spec:
  hostNetwork: true
  containers: [{name: c, image: x, securityContext: {privileged: true}}]
`
        const { stderr } = await refused(['apply', '-f', '-'], privileged)
        assert.match(stderr, /spec\.hostNetwork/)
        assert.match(stderr, /privileged/)
        assert.match(
          (await refused(['create', '-n', 'shop', '-f', '-'], CONFIG('x') + 'bogus: 1\n')).stderr,
          /unknown field "bogus"/,
        )
        assert.match(
          (await refused(['get', 'cm', 'none', '-n', 'shop'])).stderr,
          /configmaps "none" not found/,
        )
        assert.match((await refused(['create', 'ns', 'shop'])).stderr, /namespaces "shop" already exists/)
        assert.match((await refused(['delete', 'ns', 'default'])).stderr, /this namespace may not be deleted/)
        assert.match((await refused(['logs', 'nothing', '-n', 'shop'])).stderr, /pods "nothing" not found/)
      })

      test('builds with kustomize, prunes what a set of manifests no longer has, and waits for a field', async () => {
        const kustomization = await kubectl.file(
          'kustomization.yaml',
          'namespace: shop\nnamePrefix: k-\nresources: [config.yaml]\ncommonAnnotations: {by: kustomize}\n',
        )
        await kubectl.file('config.yaml', CONFIG('slow'))
        assert.match(await ok(['apply', '-k', dirname(kustomization)]), /configmap\/k-settings created/)
        const set = [
          '-n',
          'shop',
          '--prune',
          '-l',
          'set=one',
          '--prune-allowlist=core/v1/ConfigMap',
          '-f',
          '-',
        ]
        const member = (name: string) =>
          `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ${name}, labels: {set: one}}\n`
        await ok(['apply', ...set], `${member('first')}---\n${member('second')}`)
        assert.match(await ok(['apply', ...set], member('second')), /configmap\/first pruned/)
        await ok([
          'wait',
          'cm/second',
          '-n',
          'shop',
          '--for=jsonpath={.metadata.labels.set}=one',
          '--timeout=5s',
        ])
        await ok(['delete', 'cm', '-n', 'shop', '-l', 'set=one'])
      })

      test('reconciles roles, and lists events of an object', async () => {
        const role = (verbs: string) =>
          `apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: keeper, namespace: shop}\nrules: [{apiGroups: [""], resources: [pods], verbs: [${verbs}]}]\n`
        assert.match(await ok(['auth', 'reconcile', '-f', '-'], role('get')), /keeper reconciled/)
        await ok(['auth', 'reconcile', '-f', '-'], role('get, list'))
        assert.equal(
          await ok(['get', 'role', 'keeper', '-n', 'shop', '-o', 'jsonpath={.rules[*].verbs}']),
          '["get"] ["list"]',
        )
        assert.match(
          (await kubectl.run(['events', '-n', 'shop'])).stderr,
          /No events found in shop namespace/,
        )
      })

      test('several managers share an object, and each gives up what it no longer writes', async () => {
        const as = (manager: string, data: string) =>
          ok(
            ['apply', '--server-side', `--field-manager=${manager}`, '-n', 'shop', '-f', '-'],
            `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared}\ndata: {${data}}\n`,
          )
        const data = () => ok(['get', 'cm', 'shared', '-n', 'shop', '-o', 'jsonpath={.data}'])
        await as('left', 'a: "1", common: x')
        await as('right', 'b: "2", common: x')
        assert.deepEqual(JSON.parse(await data()), { a: '1', b: '2', common: 'x' })
        await as('left', 'a: "1"')
        assert.deepEqual(JSON.parse(await data()), { a: '1', b: '2', common: 'x' }, 'right still holds it')
        await as('right', 'b: "2"')
        assert.deepEqual(JSON.parse(await data()), { a: '1', b: '2' })
        const managers = await ok([
          'get',
          'cm',
          'shared',
          '-n',
          'shop',
          '--show-managed-fields',
          '-o',
          'jsonpath={.metadata.managedFields[*].manager}',
        ])
        assert.equal(managers, 'left right')
      })
    },
  )
}
