import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { type Layout, parseLayout, paths } from '../../../api/index.ts'
import { FakeClock, MiB, silentLogger, until } from '../../../stdx/index.ts'
import { createCgroups } from './cgroups.ts'
import { Daemons } from './daemons.ts'

const directory = mkdtempSync(join(tmpdir(), 'bulkhead-daemons-'))
after(() => rmSync(directory, { recursive: true, force: true }))

const layout: Layout = { ...parseLayout({ BULKHEAD_STATE_DIR: directory }), runDir: join(directory, 'run') }
const daemons = new Daemons({ layout, clock: new FakeClock(0), log: silentLogger })

test('a log that has grown too large starts anew, and the last part before that is kept', () => {
  mkdirSync(join(directory, 'logs'))
  const log = paths.daemonLog(layout, 'gateway')
  appendFileSync(log, 'first\n')
  daemons.boundLogs(10)
  assert.equal(readFileSync(log, 'utf8'), 'first\n')
  appendFileSync(log, 'second\n')
  daemons.boundLogs(10)
  appendFileSync(log, 'third\n')
  daemons.boundLogs(10)
  const kept = paths.daemonLog(layout, 'gateway.old')
  assert.match(readFileSync(kept, 'utf8'), /second\n$/)
  assert.equal(readFileSync(log, 'utf8'), 'third\n')
  appendFileSync(log, 'fourth\n')
  daemons.boundLogs(10)
  assert.match(readFileSync(kept, 'utf8'), /fourth\n$/)
  assert.doesNotMatch(readFileSync(kept, 'utf8'), /second/)
})

test('a daemon that something else has started is found by its name', () => {
  assert.deepEqual([daemons.names(), daemons.pid('node')], [[], undefined])
  daemons.registerSelf('node')
  assert.deepEqual([daemons.names(), daemons.pid('node')], [['node'], process.pid])
})

test('a daemon that is removed leaves no record and no log', async () => {
  appendFileSync(paths.daemonLog(layout, 'worker-red'), 'x')
  appendFileSync(paths.daemonLog(layout, 'worker-red.old'), 'x')
  // A uid that nobody on the machine has.
  await daemons.remove('worker-red', 4_294_000_000)
  for (const log of ['worker-red', 'worker-red.old'])
    assert.equal(existsSync(paths.daemonLog(layout, log)), false)
  await assert.rejects(daemons.remove('worker-red', 0), /Root is not a user/)
})

test('of a log that a daemon has blown up, only the end is ever copied', () => {
  const log = paths.daemonLog(layout, 'worker-evil')
  appendFileSync(log, 'x')
  // As large as the disk would let it be; sparse, so that the test is not.
  truncateSync(log, 2 ** 40)
  appendFileSync(log, 'end\n')
  daemons.boundLogs(10)
  assert.equal(statSync(log).size, 0)
  assert.match(readFileSync(paths.daemonLog(layout, 'worker-evil.old'), 'utf8'), /^\0*end\n$/)
})

test(
  'a user whose processes go on forking is gone when its daemon is removed',
  { skip: process.getuid?.() !== 0 && 'needs root' },
  async () => {
    const uid = 4_294_000_001
    const child = spawn(
      'prlimit',
      [
        ...['--nproc=40', '--', 'setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--'],
        // Each lives for a moment only, so that a list of them is out of date when it is read.
        ...[
          'sh',
          '-c',
          'echo on; f() { (sleep 0.01; f) & (sleep 0.01; f) & }; f; while :; do f; sleep 0.01; done',
        ],
      ],
      { stdio: ['ignore', 'pipe', 'ignore'] },
    )
    await once(child.stdout, 'data')
    const ended = once(child, 'exit')
    await daemons.remove('worker-evil', uid)
    await ended
  },
)

test(
  'a daemon that needs no network has none, cannot fork without end and leaves no core with keys in it',
  { skip: process.getuid?.() !== 0 && 'needs root' },
  async () => {
    const uid = 4_294_000_002
    const command = [
      '/bin/sh',
      '-c',
      'cat /proc/self/net/dev; grep -E "core|processes" /proc/self/limits; grep CapBnd /proc/self/status; echo end',
    ]
    const spec = { name: 'worker-curious', command, uid, gid: uid, env: { PATH: '/usr/bin:/bin' }, cwd: '/' }
    await daemons.ensure({ ...spec, offline: true })
    const log = paths.daemonLog(layout, 'worker-curious')
    const text = () => readFileSync(log, 'utf8')
    await until(() => text().includes('end\n'), { timeoutMs: 10_000, what: 'What the daemon sees' })
    assert.deepEqual(
      [...text().matchAll(/^\s*(\w+):\s+\d+\s+\d+\s/gm)].map(([, link]) => link),
      ['lo'],
    )
    assert.match(text(), /^Max core file size +1 +1 /m)
    assert.match(text(), /^Max processes +1024 +1024 /m)
    assert.match(text(), /^CapBnd:\s+0+$/m)
    await daemons.remove('worker-curious', uid)
  },
)

test(
  'a daemon that takes more memory than it may is ended alone, and comes back',
  { skip: process.getuid?.() !== 0 && 'needs root' },
  async () => {
    const own: Layout = { ...layout, cgroup: `bulkhead-t${process.pid}` }
    const clock = new FakeClock(0)
    const greedy = new Daemons({ layout: own, clock, log: silentLogger })
    const uid = 4_294_000_003
    // `tail` keeps in memory the last line, and this one has no end.
    const command = [
      '/bin/sh',
      '-c',
      'cat /proc/self/cgroup /proc/self/oom_score_adj; echo begins; head -c 1G /dev/zero | tail; echo ended',
    ]
    await greedy.ensure({
      name: 'worker-greedy',
      command,
      uid,
      gid: uid,
      env: { PATH: '/usr/bin:/bin' },
      cwd: '/',
      limits: { cpuShares: 100, memoryBytesMax: 32 * MiB, pidsMax: 8, oomScoreAdj: 500 },
    })
    const text = () => readFileSync(paths.daemonLog(own, 'worker-greedy'), 'utf8')
    await until(() => text().includes('ended\n'), { timeoutMs: 20_000, what: 'What becomes of it' })
    assert.match(text(), new RegExp(`memory:/bulkhead-t${process.pid}-daemons/worker-greedy|0::/bulkhead-t`))
    assert.match(text(), /^500$/m)
    const cgroups = createCgroups()
    const group = `${paths.daemonCgroups(own)}/worker-greedy`
    assert.ok(cgroups.oomKills(group) > 0, 'the kernel has ended something in its group')
    const begun = () => text().split('begins\n').length - 1
    assert.equal(begun(), 1)
    await until(
      () => {
        clock.advance(1_000)
        return begun() > 1
      },
      { timeoutMs: 20_000, what: 'Its next start' },
    )
    await greedy.remove('worker-greedy', uid)
    assert.equal(cgroups.exists(group), false)
    await cgroups.remove(paths.daemonCgroups(own))
  },
)
