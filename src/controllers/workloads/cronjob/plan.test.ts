import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { NOW, object, podTemplate, TestControlPlane } from '../../controllers.testkit.ts'
import { type CronJob, cronJobKind, type CronJobStatus, type Job, jobKind } from '../../kinds.ts'
import { jobOf, planCronJob, withStarted } from './plan.ts'

const NOW_MS = Date.parse(NOW)
const at = (minutes: number) => new Date(NOW_MS + minutes * 60_000).toISOString().replace('.000', '')

function cronJob(spec: Partial<CronJob['spec']> = {}, status: CronJobStatus = {}): CronJob {
  return object(
    'CronJob',
    'batch/v1',
    'tick',
    {
      spec: {
        schedule: '*/10 * * * *',
        concurrencyPolicy: 'Allow',
        successfulJobsHistoryLimit: 3,
        failedJobsHistoryLimit: 1,
        jobTemplate: { metadata: { labels: { a: 'b' } }, spec: { template: podTemplate('tick') } },
        ...spec,
      },
      status,
    },
    { uid: 'cron' },
  )
}

function jobAt(minutes: number, end?: 'Complete' | 'Failed'): Job {
  return object(
    'Job',
    'batch/v1',
    `tick-${minutes}`,
    {
      spec: {},
      status: {
        startTime: at(minutes),
        ...(end ? { conditions: [{ type: end, status: 'True' }] } : {}),
        ...(end === 'Complete' ? { completionTime: at(minutes + 1) } : {}),
      },
    },
    { uid: `job-${minutes}` },
  )
}

const running = (...minutes: number[]): CronJobStatus => ({
  active: minutes.map((m) => ({ name: `tick-${m}`, uid: `job-${m}` })),
})
const plan = (given: CronJob, minutes: number, jobs: Job[] = []) =>
  planCronJob(given, jobs, NOW_MS + minutes * 60_000)
const start = (given: CronJob, minutes: number, jobs: Job[] = []) => {
  const { startMs } = plan(given, minutes, jobs)
  return startMs === undefined ? undefined : (startMs - NOW_MS) / 60_000
}

test('a job is started when its time has come, and the next time waited for', () => {
  assert.equal(start(cronJob(), 9), undefined)
  assert.equal(plan(cronJob(), 9).requeueAfterMs, 60_100)
  assert.equal(start(cronJob(), 10), 10)
  assert.equal(plan(cronJob(), 10).requeueAfterMs, 600_100)
  assert.equal(start(cronJob({}, { lastScheduleTime: at(10) }), 15), undefined)
})

test('of the times that were missed only the last is made up for', () => {
  assert.equal(start(cronJob(), 47), 40)
  assert.equal(start(cronJob({ startingDeadlineSeconds: 600 }), 47), 40)
  const late = plan(cronJob({ startingDeadlineSeconds: 60 }), 47)
  assert.equal(late.startMs, undefined)
  assert.deepEqual(
    late.told.map(({ reason }) => reason),
    ['MissSchedule'],
  )
  assert.equal(late.requeueAfterMs, 3 * 60_000 + 100)
  const asleep = plan(cronJob({ schedule: '* * * * *' }), 500)
  assert.deepEqual(
    asleep.told.map(({ reason }) => reason),
    ['TooManyMissedTimes'],
  )
  assert.equal(asleep.startMs, NOW_MS + 500 * 60_000)
})

test('nothing is started while it is suspended, being deleted, or has a schedule that never comes', () => {
  assert.deepEqual(plan(cronJob({ suspend: true }), 47).startMs, undefined)
  const dying = cronJob()
  dying.metadata.deletionTimestamp = NOW
  assert.equal(plan(dying, 47).startMs, undefined)
  const never = plan(cronJob({ schedule: '0 0 31 2 *' }), 47)
  assert.deepEqual([never.startMs, never.requeueAfterMs], [undefined, undefined])
  assert.deepEqual(
    never.told.map(({ reason }) => reason),
    ['InvalidSchedule'],
  )
})

test('a job that is not done is let be, waited for or replaced, as the policy says', () => {
  const jobs = [jobAt(0)]
  const of = (concurrencyPolicy: 'Allow' | 'Forbid' | 'Replace') =>
    plan(cronJob({ concurrencyPolicy }, running(0)), 10, jobs)
  assert.deepEqual([of('Allow').startMs, of('Allow').replace], [NOW_MS + 600_000, []])
  assert.equal(of('Forbid').startMs, undefined)
  assert.deepEqual(
    of('Forbid').told.map(({ reason }) => reason),
    ['JobAlreadyActive'],
  )
  assert.deepEqual([of('Replace').startMs, of('Replace').replace], [NOW_MS + 600_000, jobs])
})

test('the status knows which jobs run and when one was complete last', () => {
  const jobs = [jobAt(0, 'Complete'), jobAt(10), jobAt(20, 'Failed')]
  const { status, told } = plan(cronJob({ suspend: true }, running(0, 10, 30)), 30, jobs)
  assert.deepEqual(status, { ...running(10), lastSuccessfulTime: at(1) })
  assert.deepEqual(
    told.map(({ message }) => message),
    ['Saw completed job: tick-0, condition: Complete', 'Active job went missing: tick-30'],
  )
})

test('jobs that have ended are kept up to the limits, the newest', () => {
  const jobs = [
    ...[50, 10, 20, 40, 30].map((minutes) => jobAt(minutes, 'Complete')),
    ...[5, 15].map((minutes) => jobAt(minutes, 'Failed')),
    jobAt(60),
  ]
  const names = (given: CronJob) => plan(given, 61, jobs).forget.map((job) => job.metadata.name)
  assert.deepEqual(names(cronJob()), ['tick-10', 'tick-20', 'tick-5'])
  assert.deepEqual(names(cronJob({ successfulJobsHistoryLimit: 0, failedJobsHistoryLimit: 5 })).length, 5)
})

test('a job is named for its minute, and says its time in the time zone', () => {
  const job = jobOf(cronJob({ timeZone: 'Asia/Kolkata' }), NOW_MS)
  const metadata = job['metadata'] as Job['metadata']
  assert.equal(metadata.name, `tick-${NOW_MS / 60_000}`)
  assert.deepEqual(metadata.labels, { a: 'b' })
  assert.deepEqual(metadata.annotations, {
    'batch.kubernetes.io/cronjob-scheduled-timestamp': '2026-01-01T05:30:00+05:30',
  })
})

test('no time has two jobs, and none is passed over while somebody looks every minute', () => {
  fc.assert(
    fc.property(
      fc.constantFrom('* * * * *', '*/7 * * * *', '5,6,50 * * * *', '@hourly', '@every 3m'),
      fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 40 }),
      (schedule, waits) => {
        let current = cronJob({ schedule })
        const started: number[] = []
        let minutes = 0
        for (const wait of waits) {
          minutes += wait
          const { startMs, status } = plan(current, minutes)
          if (startMs === undefined) continue
          assert.ok(startMs > (started.at(-1) ?? NOW_MS) && startMs <= NOW_MS + minutes * 60_000)
          started.push(startMs)
          current = { ...current, status: withStarted({ ...status, active: [] }, jobAt(minutes), startMs) }
        }
        const again = plan(current, minutes)
        assert.equal(again.startMs, undefined)
      },
    ),
  )
})

test('a CronJob starts its jobs on time, keeps a few, and survives a crash after each write', async () => {
  await using plane = await TestControlPlane.start()
  await plane.client.create(cronJobKind, cronJob({ schedule: '*/2 * * * *', successfulJobsHistoryLimit: 1 }))
  const jobs = () => plane.client.all(jobKind)
  const status = () => plane.client.find(cronJobKind, { namespace: 'default', name: 'tick' })?.status
  const finish = async (job: Job) => {
    const { namespace = '', name } = job.metadata
    await plane.client.change<Job>(jobKind, { namespace, name }, (changed) => {
      const completionTime = new Date(plane.clock.nowMs()).toISOString()
      changed.status = {
        ...changed.status,
        conditions: [{ type: 'Complete', status: 'True' }],
        completionTime,
      }
    })
  }
  await plane.settle()
  plane.clock.advance(120_200)
  await plane.until('The first job is there', () => status()?.active?.length === 1)
  const [first] = jobs()
  assert.equal(first?.metadata.name, `tick-${NOW_MS / 60_000 + 2}`)
  await plane.pause()
  // The status was lost, as if the control plane had died before it wrote it.
  await plane.client.change<CronJob>(cronJobKind, { namespace: 'default', name: 'tick' }, (changed) => {
    changed.status = {}
  })
  await plane.resume()
  await plane.until('The job is known again', () => status()?.active?.[0]?.uid === first?.metadata.uid)
  assert.equal(jobs().length, 1)
  assert.ok(first)
  await finish(first)
  await plane.until('The job is seen to be complete', () => status()?.lastSuccessfulTime)
  plane.clock.advance(120_200)
  await plane.until('The second job is there', () => jobs().length === 2)
  const second = jobs().find((job) => job.metadata.uid !== first.metadata.uid)
  assert.ok(second)
  await finish(second)
  await plane.until('Only the newest is kept', () => jobs().length === 1)
})
