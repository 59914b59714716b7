import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { FakeClock, until } from '../../src/stdx/index.ts'
import { kubectlMissing } from '../conformance/kubectl.ts'
import { PretendTenant } from './pretend-tenant.ts'

const BACKUP = `
apiVersion: batch/v1
kind: CronJob
metadata: {name: backup}
spec:
  schedule: "30 3 * * *"
  timeZone: Europe/Berlin
  concurrencyPolicy: Forbid
  jobTemplate:
    spec:
      template:
        spec: {restartPolicy: Never, containers: [{name: c, image: "backup:1"}]}
`

describe(
  'CronJobs with the real kubectl, API server and controllers, on a clock that the test moves',
  { skip: kubectlMissing && 'kubectl is not installed for this machine' },
  () => {
    const clock = new FakeClock(Date.parse('2026-03-28T12:00:00Z'))
    let tenant: PretendTenant
    const ok = (args: readonly string[], input = '') => tenant.ok(args, input)

    before(async () => {
      tenant = await PretendTenant.start('shop', { clock })
    })
    after(async () => tenant?.[Symbol.asyncDispose]())

    /** Moves the clock and lets everybody do what is due. */
    const pass = async (minutes: number) => {
      await tenant.settled()
      clock.advance(minutes * 60_000 + 200)
      await tenant.settled()
    }
    const jobs = () => ok(['get', 'jobs', '-o', 'jsonpath={.items[*].metadata.name}'])

    test('a job runs at its hour of the clock on the wall, also the night that clocks are moved', async () => {
      await ok(['apply', '-f', '-'], BACKUP)
      assert.match(await ok(['get', 'cj']), /^backup +30 3 \* \* \* +Europe\/Berlin +False +0 +<none> /m)
      // Half past three of summer time is half past one of UTC.
      await pass(13 * 60 + 29)
      assert.equal(await jobs(), '')
      await pass(1)
      const name = `backup-${Date.parse('2026-03-29T01:30:00Z') / 60_000}`
      await until(async () => (await jobs()) === name)
      assert.match(await ok(['get', 'cj', 'backup']), /False +1 +\d+s/)
      const [{ jail } = assert.fail()] = tenant.engine.jails.values()
      tenant.engine.exit(jail.id, 0)
      await ok(['wait', `job/${name}`, '--for=condition=complete', '--timeout=20s'])
      await until(async () => / 0 +\d+s/.test(await ok(['get', 'cj', 'backup'])))
    })

    test('a job is started by hand, and none while it is suspended', async () => {
      await ok(['create', 'job', '--from=cronjob/backup', 'by-hand'])
      await ok(['patch', 'cj', 'backup', '-p', '{"spec":{"suspend":true}}'])
      await pass(48 * 60)
      assert.equal((await jobs()).split(' ').length, 2)
      await ok(['create', 'cronjob', 'other', '--image=x:1', '--schedule=@hourly'])
      await pass(60)
      assert.match(await jobs(), /other-\d+/)
    })

    test('schedules, time zones and names that cannot be are refused in words that help', async () => {
      const broken = BACKUP.replace('30 3', '61 3').replace('Berlin', 'Berlinn')
      assert.equal(
        (await tenant.refused(['create', '-f', '-'], broken.replace('name: backup', 'name: other2'))).trim(),
        'The CronJob "other2" is invalid: \n' +
          '* spec.schedule: Invalid value: "61 3 * * *": end of range (61) above maximum (59): 61\n' +
          '* spec.timeZone: Invalid value: "Europe/Berlinn": unknown time zone Europe/Berlinn',
      )
      const long = BACKUP.replace('name: backup', `name: ${'x'.repeat(53)}`)
      assert.match(await tenant.refused(['create', '-f', '-'], long), /must be no more than 52 characters/)
    })

    test('its jobs and their pods go with it', async () => {
      let deleted = false
      const deletion = ok(['delete', 'cj', 'backup', 'other', '--cascade=foreground', '--timeout=20s'])
      void deletion.finally(() => (deleted = true))
      // Who lost a race tries again a little later, which it never is on a clock that stands still.
      await until(
        () => {
          clock.advance(20)
          return deleted
        },
        { timeoutMs: 25_000 },
      )
      await deletion
      assert.equal(await ok(['get', 'jobs,pods', '-o', 'name']), '')
    })

    test('each index of an Indexed Job is done once, by a pod that knows which it is', async () => {
      const spec = '{restartPolicy: Never, containers: [{name: c, image: "c:1"}]}'
      await ok(
        ['apply', '-f', '-'],
        `apiVersion: batch/v1\nkind: Job\nmetadata: {name: parts}\nspec: {completionMode: Indexed, completions: 3, parallelism: 3, template: {spec: ${spec}}}`,
      )
      await until(() => tenant.engine.jails.size === 3)
      const parts = [...tenant.engine.jails.values()].map(({ jail }) => jail)
      assert.deepEqual(
        parts.map(({ hostname, containers }) => [
          hostname,
          containers[0]?.env.find(({ name }) => name === 'JOB_COMPLETION_INDEX'),
        ]),
        [0, 1, 2].map((index) => [`parts-${index}`, { name: 'JOB_COMPLETION_INDEX', value: String(index) }]),
      )
      const ended = (index: number, exitCode: number) => {
        const found = [...tenant.engine.jails.values()].find(
          ({ jail, status }) => jail.hostname === `parts-${index}` && status.phase === 'Running',
        )
        if (found) tenant.engine.exit(found.jail.id, exitCode)
        return found
      }
      assert.ok(ended(0, 0) && ended(1, 1) && ended(2, 0))
      const status = () =>
        ok(['get', 'job', 'parts', '-o', 'jsonpath={.status.completedIndexes} {.status.failed}'])
      await until(async () => (await status()) === '0,2 1')
      // The failed one comes again, after the usual wait.
      await until(() => {
        clock.advance(1_000)
        return ended(1, 0)
      })
      await ok(['wait', 'job/parts', '--for=condition=complete', '--timeout=20s'])
      assert.equal(await status(), '0-2 1')
    })
  },
)
