import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { until } from '../../src/stdx/index.ts'
import { kubectlMissing } from '../conformance/kubectl.ts'
import { PretendTenant } from './pretend-tenant.ts'

/** On a node of 4,000 thousandths of a core. */
const POD = (name: string, cpu: number, priorityClassName: string) => `
apiVersion: v1
kind: Pod
metadata: {name: ${name}}
spec:
  priorityClassName: ${priorityClassName}
  containers: [{name: c, image: "c:1", resources: {requests: {cpu: ${cpu}m}, limits: {cpu: ${cpu}m}}}]
`
const SET = (name: string, cpu: number, priorityClassName: string) => `
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: ${name}}
spec:
  replicas: 1
  selector: {matchLabels: {app: ${name}}}
  template:
    metadata: {labels: {app: ${name}}}
    spec:
      priorityClassName: ${priorityClassName}
      containers: [{name: c, image: "c:1", resources: {requests: {cpu: ${cpu}m}}}]
`

describe(
  'where pods run and who has to go for whom, with the real kubectl, API server and controllers',
  { skip: kubectlMissing && 'kubectl is not installed for this machine' },
  () => {
    let tenant: PretendTenant
    const ok = (args: readonly string[], input = '') => tenant.ok(args, input)
    const create = (input: string) => ok(['create', '-f', '-'], input)
    const pods = async () =>
      (
        await ok([
          'get',
          'pods',
          '-A',
          '-o',
          'jsonpath={range .items[*]}{.metadata.name} {.status.phase} {.metadata.uid}\n{end}',
        ])
      )
        .trim()
        .split('\n')
        .filter(Boolean)
        .map((line) => line.split(' ') as [name: string, phase: string, uid: string])
    const phasesOf = async (name: string) =>
      (await pods()).filter(([found]) => found.startsWith(name)).map(([, phase]) => phase)

    before(async () => {
      tenant = await PretendTenant.start('shop')
      for (const value of [1, 2, 3, 4])
        await ok(['create', 'priorityclass', `p${value}`, `--value=${value * 10}`])
    })
    after(async () => tenant?.[Symbol.asyncDispose]())

    test('a pod of a class of the system makes a less important one of its tenant go', async () => {
      await create(POD('high', 2_300, 'p4'))
      await create(POD('low', 1_600, 'p1'))
      await until(async () => (await pods()).every(([, phase]) => phase === 'Running'))
      await ok(['-n', 'kube-system', 'create', '-f', '-'], POD('critical', 1_500, 'system-cluster-critical'))
      await until(async () => (await phasesOf('critical')).includes('Running'))
      assert.deepEqual((await pods()).map(([name, phase]) => `${name} ${phase}`).sort(), [
        'critical Running',
        'high Running',
      ])
      assert.match(await ok(['get', 'events', '--field-selector=reason=Preempted']), /Preempted +pod\/low /)
      await ok(['delete', 'pod', 'high'])
      await ok(['-n', 'kube-system', 'delete', 'pod', 'critical'])
    })

    test('what keeps pods apart from each other keeps none waiting on the one node, and a warning says so', async () => {
      const apart = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: apart}
spec:
  replicas: 2
  selector: {matchLabels: {app: apart}}
  template:
    metadata: {labels: {app: apart}}
    spec:
      tolerations: [{key: node-role.kubernetes.io/control-plane, effect: NoSchedule}]
      nodeSelector: {kubernetes.io/os: linux, kubernetes.io/arch: amd64, kubernetes.io/hostname: bulkhead}
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: apart}}}
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: apart}}}
      containers: [{name: c, image: "c:1"}]
`
      const applied = await tenant.kubectl.run(['-n', 'shop', 'apply', '-f', '-'], { input: apart })
      assert.equal(applied.code, 0, applied.stderr)
      for (const field of ['affinity.podAntiAffinity', 'topologySpreadConstraints'])
        assert.ok(
          applied.stderr.includes(
            `Warning: spec.template.spec.${field}: has no effect: every pod of a tenant runs on the same virtual node`,
          ),
          applied.stderr,
        )
      await ok(['rollout', 'status', 'deploy/apart', '--timeout=20s'])
      await ok(['delete', 'deploy', 'apart', '--cascade=foreground', '--timeout=20s'])
    })

    test('a pod that wants any node but this one waits', async () => {
      const affinity = (operator: string) =>
        `{nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: ${operator}, values: [bulkhead]}]}]}}}`
      const pod = (name: string, operator: string) =>
        `apiVersion: v1\nkind: Pod\nmetadata: {name: ${name}}\nspec: {affinity: ${affinity(operator)}, containers: [{name: c, image: "c:1"}]}\n`
      await create(pod('elsewhere', 'NotIn'))
      await create(pod('here', 'In'))
      await until(async () => (await phasesOf('here')).join() === 'Running')
      assert.equal((await phasesOf('elsewhere')).join(), 'Pending')
      assert.match(
        await ok(['describe', 'pod', 'elsewhere']),
        /FailedScheduling .* 1 node\(s\) didn't match Pod's node affinity\/selector/,
      )
      await ok(['delete', 'pod', 'elsewhere', 'here'])
    })

    test('ReplicaSets of several classes: the least important ones give way and wait, the others stay', async () => {
      await create(SET('rs1', 800, 'p1'))
      await create(SET('rs2', 1_200, 'p2'))
      await create(SET('rs3', 1_800, 'p3'))
      await until(async () => (await pods()).filter(([, phase]) => phase === 'Running').length === 3)
      const [, , third] = (await pods()).find(([name]) => name.startsWith('rs3')) ?? []
      await create(POD('pod4', 2_000, 'p4'))
      await until(async () => (await phasesOf('pod4')).includes('Running'))
      // Whoever had to go is made again by its set, and waits.
      await until(async () => (await phasesOf('rs1')).join() === 'Pending')
      await until(async () => (await phasesOf('rs2')).join() === 'Pending')
      assert.equal((await pods()).find(([name]) => name.startsWith('rs3'))?.[2], third)
      await ok(['delete', 'pod', 'pod4'])
      await until(async () => (await pods()).every(([, phase]) => phase === 'Running'))
      await ok(['delete', 'rs', '--all', '--cascade=foreground', '--timeout=20s'])
    })
  },
)
