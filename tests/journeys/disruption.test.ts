import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { until } from '../../src/stdx/index.ts'
import { kubectlMissing } from '../conformance/kubectl.ts'
import { PretendTenant } from './pretend-tenant.ts'

const APPLICATION = `
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 2, selector: {matchLabels: {app: web}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "nginx:1"}]}
`

describe(
  'evictions with the real kubectl, API server and controllers',
  { skip: kubectlMissing && 'kubectl is not installed for this machine' },
  () => {
    let tenant: PretendTenant
    const ok = (args: readonly string[], input = '') => tenant.ok(args, input)
    const evict = (name: string, query = '') =>
      tenant.plane.ask('POST', `/api/v1/namespaces/shop/pods/${name}/eviction${query}`, {
        body: { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name } },
      })
    const pods = async () =>
      (await ok(['get', 'pods', '-o', 'jsonpath={.items[*].metadata.name}'])).split(' ')
    const allows = (count: number) =>
      until(async () => new RegExp(`^web +2 +N/A +${count} `, 'm').test(await ok(['get', 'pdb'])))

    before(async () => {
      tenant = await PretendTenant.start('shop')
    })
    after(async () => tenant?.[Symbol.asyncDispose]())

    test('a budget lets as many pods be evicted as it can spare, however many ask at once', async () => {
      await ok(['apply', '-f', '-'], APPLICATION)
      await ok(['rollout', 'status', 'deployment/web', '--timeout=20s'])
      await allows(1)
      // Replacements do not come up, so that nothing is to spare after the first.
      tenant.engine.autorun = false
      const names = await pods()
      assert.equal((await evict(names[0] ?? '', '?dryRun=All')).code, 201, 'a dry run takes nothing')
      const answers = await Promise.all(names.map((name) => evict(name)))
      assert.deepEqual(answers.map(({ code }) => code).sort(), [201, 429, 429])
      await allows(0)
      const left = (await pods()).find((name) => names.includes(name)) ?? ''
      const { code, body } = await evict(left)
      assert.equal(code, 429)
      assert.equal(body.message, "Cannot evict pod as it would violate the pod's disruption budget.")
      assert.deepEqual(body.details.causes, [
        {
          reason: 'DisruptionBudget',
          message: 'The disruption budget web needs 2 healthy pods and has 2 currently',
        },
      ])
    })

    test('a pod that does not run is no loss, and its replacements bring the budget back', async () => {
      const pending = (
        await ok(['get', 'pods', '--field-selector=status.phase=Pending', '-o', 'name'])
      ).trim()
      assert.equal((await evict(pending.slice('pod/'.length))).code, 201)
      tenant.engine.autorun = true
      await until(async () => {
        for (const { jail, status } of tenant.engine.jails.values())
          if (status.phase === 'Pending') tenant.engine.run(jail.id)
        return / 3\/3 /.test(await ok(['get', 'deployment', 'web']))
      })
      await allows(1)
    })

    test('a pod under two budgets cannot be evicted, and a budget cannot say two things', async () => {
      await ok(['create', 'pdb', 'second', '--selector=app=web', '--max-unavailable=1'])
      const [name = ''] = await pods()
      const { code, body } = await evict(name)
      assert.equal(code, 409)
      assert.match(body.message, /more than one PodDisruptionBudget/)
      assert.match(
        await tenant.refused([
          'patch',
          'pdb',
          'second',
          '--type=merge',
          '-p',
          '{"spec":{"minAvailable":"120%"}}',
        ]),
        /minAvailable and maxUnavailable cannot be both set[^]*spec.minAvailable: Invalid value: "120%": must not be greater than 100%/,
      )
      assert.match(await ok(['describe', 'pdb', 'second']), /Max unavailable: +1[^]*Allowed disruptions: +1/)
    })
  },
)
