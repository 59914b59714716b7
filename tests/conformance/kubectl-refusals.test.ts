import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ControlPlane } from './control-plane.ts'
import { Kubectl, kubectlMissing } from './kubectl.ts'

/** What a person sees in a terminal when a manifest is refused. */

const MANIFEST = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      hostNetwork: true
      replicas: 3
      containers:
      - name: web
        image: elsewhere.test/web
        securityContext: {privileged: true}
`

const PROBLEMS = `* spec.template.spec.containers[0].securityContext.privileged: Forbidden: a privileged container has the machine's devices and kernel, which all tenants share (vector: kernel). Instead: leave it out; images that expect root run without it, because root in a pod is nobody on the machine
* spec.template.spec.hostNetwork: Forbidden: the pod would be on the machine's own network, past every rule that keeps tenants apart (vector: pod network). Instead: leave it out and make the pod reachable with a Service
* spec.template.spec.containers[0].image: Forbidden: elsewhere.test/web is not in a registry that this tenant may use (vector: images and image cache). Instead: use an image from registry.test
* spec.template.spec.replicas: Unknown field: check its spelling and its place
`

test(
  'kubectl shows every problem on a line of its own, whichever way it writes',
  { skip: kubectlMissing },
  async () => {
    await using plane = await ControlPlane.start()
    plane.server.setLimits({ registries: ['registry.test'] })
    await using kubectl = await Kubectl.open(`http://127.0.0.1:${plane.port}`)
    for (const args of [['create'], ['apply'], ['apply', '--server-side'], ['create', '--dry-run=server']]) {
      const { code, stderr } = await kubectl.run([...args, '-f', '-'], { input: MANIFEST })
      assert.equal(code, 1)
      assert.equal(stderr, `The Deployment "web" is invalid: \n${PROBLEMS}`, args.join(' '))
    }
    const { stdout } = await kubectl.run(['explain', 'pod.spec'])
    assert.match(stdout, /Refused here, with the reason: .*hostNetwork/s)
  },
)
