import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import { paths } from '../../src/api/index.ts'
import { TABLE } from '../../src/engine/local/plan/net/index.ts'
import { sleep, until } from '../../src/stdx/index.ts'
import { gvisorMissing } from '../testkit/machine.ts'
import { pod, service } from '../testkit/manifests.ts'
import { TestPlatform } from '../testkit/platform.ts'
import { type Registry, startBusyboxRegistry } from '../testkit/registry.ts'

/** The continuous proof, on a platform that we break behind its back: alarm, quarantine, refusal, and all well again. */

const skip = gvisorMissing
const WATCHED = '/tmp/bulkhead-pfw-crun'
const SEEN_MS = 120_000

let platform: TestPlatform
let registry: Registry

before(async () => {
  if (skip !== false) return
  registry = await startBusyboxRegistry()
  platform = await TestPlatform.start({ instance: 'pfw', slot: 86, tenants: [] })
  // A copy of a runtime, so that the one of the machine stays as it is. What is watched is read when the verifier begins.
  copyFileSync('/usr/bin/crun', WATCHED)
  const decisions = paths.watchDecisions(platform.layout)
  mkdirSync(decisions, { recursive: true, mode: 0o700 })
  writeFileSync(join(decisions, 'policy.json'), JSON.stringify({ files: [WATCHED] }), { mode: 0o600 })
  const verifier = platform.daemons().get('verifier')
  assert.ok(verifier)
  process.kill(verifier.pid, 'SIGKILL')
  await until(() => (platform.daemons().get('verifier')?.pid ?? verifier.pid) !== verifier.pid, {
    what: 'Another verifier',
    timeoutMs: SEEN_MS,
  })
  await platform.applyTenants([
    { name: 'red', registries: [registry.host] },
    { name: 'blue', trust: 'untrusted', registries: [registry.host] },
  ])
  for (const tenant of ['red', 'blue']) await run(tenant, 'idle')
  await quiet()
})

after(async () => {
  if (skip !== false) return
  rmSync(WATCHED, { force: true })
  await platform?.[Symbol.asyncDispose]()
  await registry?.[Symbol.asyncDispose]()
})

async function run(tenant: string, name: string): Promise<void> {
  await platform.apply(tenant, [
    pod({
      name,
      image: `${registry.host}/busybox:1`,
      script: 'i=0; while true; do i=$((i+1)); echo $i; sleep 0.2; done',
    }),
  ])
  await platform.mustKubectl(tenant, 'wait', '--for=condition=Ready', `pod/${name}`, '--timeout=60s')
}

type State = {
  alarms: { kind: string; tenant?: string; what: string }[]
  refusals: { isolationClass: string; vector: string }[]
  proven: boolean
}

function state(): State {
  const file = paths.watchState(platform.layout)
  return existsSync(file)
    ? (JSON.parse(readFileSync(file, 'utf8')) as State)
    : { alarms: [], refusals: [], proven: false }
}

async function alarmed(kind: string, about = /./): Promise<State['alarms'][number]> {
  let alarm: State['alarms'][number] | undefined
  const raised = () => {
    alarm = state().alarms.find((each) => each.kind === kind && about.test(each.what))
    return alarm !== undefined
  }
  await until(raised, { what: `An alarm about a ${kind}`, timeoutMs: SEEN_MS })
  assert.ok(alarm)
  // What is recorded reaches its file a moment later.
  const recorded = () =>
    readFileSync(join(platform.layout.stateDir, 'audit/verifier/audit.log'), 'utf8')
      .split('\n')
      .some((line) => line.includes('"event":"alarm"') && line.includes(`"kind":"${kind}"`))
  await until(recorded, { what: `The record of an alarm about a ${kind}`, timeoutMs: SEEN_MS })
  return alarm
}

async function quiet(): Promise<void> {
  await until(() => state().alarms.length === 0 && state().proven, {
    what: 'The end of all alarms',
    timeoutMs: 3 * SEEN_MS,
  })
}

async function during<T>(child: ChildProcess, work: () => Promise<T>): Promise<T> {
  const ended = new Promise((resolve) => child.once('close', resolve))
  try {
    return await work()
  } finally {
    child.kill('SIGKILL')
    await ended
  }
}

/** What a process calls itself, unless it has ended since. */
function nameOf(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim()
  } catch {
    return undefined
  }
}

/** A process of a tenant's pod, and the files through which one is put into the tenant's cgroup. */
function ofTenant(tenant: string): { pid: number; procs: string[] } {
  const root = '/sys/fs/cgroup'
  const groups = [root, ...readdirSync(root).map((dir) => join(root, dir))]
    .map((dir) => join(dir, platform.layout.cgroup, tenant))
    .filter((dir) => existsSync(join(dir, 'cgroup.procs')))
  const pids = groups.flatMap((dir) =>
    execFileSync('find', [dir, '-name', 'cgroup.procs', '-exec', 'cat', '{}', '+'], { encoding: 'utf8' })
      .split('\n')
      .filter(Boolean)
      .map(Number),
  )
  const pid = pids.find((each) => nameOf(each) === 'sh')
  assert.ok(pid !== undefined || tenant !== 'red')
  return { pid: pid ?? pids[0] ?? 0, procs: groups.map((dir) => join(dir, 'cgroup.procs')) }
}

const inRouter = (...command: string[]) =>
  execFileSync('nsenter', [`--net=${paths.routerNetns(platform.layout)}`, '--', ...command])

const logLines = async (tenant: string) =>
  Number((await platform.mustKubectl(tenant, 'logs', 'idle', '--tail=1')).trim())

test(
  'a switch of the kernel that is turned raises an alarm, and turning it back ends it',
  { skip },
  async () => {
    const file = '/proc/sys/net/ipv4/conf/all/accept_local'
    inRouter('sh', '-c', `echo 1 >${file}`)
    try {
      await alarmed('sysctl', /accept_local/)
      const shown = await platform.cli('alarm', 'list')
      assert.equal(shown.code, 1)
      assert.match(shown.stdout, /accept_local/)
      assert.match(readFileSync(paths.watchMetrics(platform.layout), 'utf8'), /^bulkhead_alarms [1-9]/m)
    } finally {
      inRouter('sh', '-c', `echo 0 >${file}`)
    }
    await quiet()
  },
)

/** One that starts mends what it finds. */
async function anotherAgent(): Promise<void> {
  const agent = platform.daemons().get('node')
  assert.ok(agent)
  process.kill(agent.pid, 'SIGKILL')
  await until(() => !existsSync(`/proc/${agent.pid}`), { what: 'The end of the agent' })
  await platform.mustCli('up')
}

/** The router's end of the pod of a tenant: whoever has its address as the only one of a link's route. */
function linkOf(tenant: string): string {
  const { pid } = ofTenant(tenant)
  const inPod = execFileSync(
    'nsenter',
    ['-t', String(pid), '-n', 'ip', '-4', '-o', 'addr', 'show', 'scope', 'global'],
    {
      encoding: 'utf8',
    },
  )
  const address = /inet (\d+\.\d+\.\d+\.\d+)/.exec(inPod)?.[1]
  assert.ok(address)
  const route = inRouter('ip', 'route', 'get', address).toString()
  const link = / dev (\S+)/.exec(route)?.[1]
  assert.ok(link, route)
  return link
}

test(
  'filters that are taken off the link of a pod raise an alarm, whichever way they were for',
  { skip },
  async () => {
    for (const way of ['egress', 'ingress']) {
      const link = linkOf('red')
      inRouter('tc', 'filter', 'del', 'dev', link, way)
      const alarm = await alarmed('ruleset')
      assert.match(alarm.what, /^link filter: /, way)
      await anotherAgent()
      await quiet()
    }
  },
)

/** A service that leads to the tenant's idle pod, with an address of our choice. */
const leadingToIdle = (clusterIP: string) =>
  service(`at-${clusterIP.replaceAll('.', '-')}`, 'idle', 80, { clusterIP })

/** The rules that lead the tenants' services somewhere, by `MARK . ADDRESS`. */
function serviceRules(): string[] {
  const all = inRouter('nft', 'list', 'map', 'inet', TABLE, 'services4').toString()
  return [...all.matchAll(/(0x\w+) \. (\d+\.\d+\.\d+\.\d+) \. tcp . \d+ : (?:goto|drop)/g)].map(
    ([, mark, address]) => `${mark} ${address}`,
  )
}

test(
  'a ruleset that does not load leaves the one before in place, and is an alarm until it does load',
  { skip },
  async () => {
    for (const tenant of ['red', 'blue']) await platform.mustKubectl(tenant, 'label', 'pod/idle', 'app=idle')
    const ofTenants = (address: string) => serviceRules().filter((rule) => rule.endsWith(` ${address}`))
    await platform.apply('red', [leadingToIdle('10.96.77.1')])
    await until(() => ofTenants('10.96.77.1').length === 1, { what: 'A service', timeoutMs: SEEN_MS })
    const [before = ''] = ofTenants('10.96.77.1')
    const [mark = ''] = before.split(' ')

    // Somebody else's entry stands where the next service of the tenant has to be.
    const foreign = `{ ${mark} . 10.96.77.2 . tcp . 80 : drop }`
    inRouter('nft', 'add', 'element', 'inet', TABLE, 'services4', foreign)
    await platform.apply('red', [leadingToIdle('10.96.77.2'), leadingToIdle('10.96.77.3')])
    const alarm = await alarmed('load')
    assert.equal(alarm.tenant, 'red')
    assert.match(alarm.what, /services and network policies.*Cannot change the rules by .*EEXIST/)
    assert.deepEqual(ofTenants('10.96.77.1'), [before])
    assert.deepEqual(ofTenants('10.96.77.3'), [], 'all of it or nothing')
    const shown = await platform.cli('alarm', 'list')
    assert.equal(shown.code, 1)
    assert.match(shown.stdout, /load +red +the rules could not be loaded/)

    // Another tenant's load does not make it go away, only one of the same.
    await platform.apply('blue', [leadingToIdle('10.96.77.4')])
    await until(() => ofTenants('10.96.77.4').length === 1, {
      what: "Another tenant's service",
      timeoutMs: SEEN_MS,
    })
    await settled()
    assert.ok(state().alarms.some(({ kind }) => kind === 'load'))
    assert.ok(!existsSync(join(paths.quarantine(platform.layout), 'red.json')))

    inRouter('nft', 'delete', 'element', 'inet', TABLE, 'services4', foreign)
    await until(() => ofTenants('10.96.77.3').length === 1, {
      what: 'What was refused, loaded after all',
      timeoutMs: SEEN_MS,
    })
    await quiet()
  },
)

/** How things are now is what the watcher compares with from here on, also one that has just begun. */
async function settled(): Promise<void> {
  const from = Date.now()
  await until(
    () =>
      Date.parse((JSON.parse(readFileSync(paths.watchState(platform.layout), 'utf8')) as { at: string }).at) >
      from + 8_000,
    {
      what: 'Looks of the watcher',
      timeoutMs: SEEN_MS,
    },
  )
}

test(
  'something that is mounted into a pod from outside raises an alarm, and taking it off ends it',
  { skip },
  async () => {
    await settled()
    const { pid } = ofTenant('red')
    const inPod = (...command: string[]) => execFileSync('nsenter', ['-t', String(pid), '-m', ...command])
    inPod('mount', '-t', 'tmpfs', 'none', '/dev/shm')
    try {
      assert.equal((await alarmed('mount')).tenant, 'red')
    } finally {
      inPod('umount', '/dev/shm')
    }
    await quiet()
  },
)

test('a process that enters the namespaces of a pod from outside raises an alarm', { skip }, async () => {
  const { pid } = ofTenant('red')
  await during(spawn('nsenter', ['-t', String(pid), '-n', 'sleep', '300'], { stdio: 'ignore' }), async () => {
    const alarm = await alarmed('namespace')
    assert.equal(alarm.tenant, 'red')
  })
  await quiet()
})

test('a file system of a tenant that could grow raises an alarm', { skip }, async () => {
  const file = join(platform.layout.stateDir, 'ephemeral/red')
  const { size } = statSync(file)
  truncateSync(file, size + 1_048_576)
  assert.equal((await alarmed('disk')).tenant, 'red')
  truncateSync(file, size)
  await quiet()
})

test('a binary of a runtime that is replaced raises an alarm', { skip }, async () => {
  writeFileSync(WATCHED, 'something else')
  assert.ok((await alarmed('binary')).what.includes(WATCHED))
  copyFileSync('/usr/bin/crun', WATCHED)
  await quiet()
})

test(
  'a process of the machine among those of a tenant puts the tenant into quarantine, if the operator wants it, until it is lifted',
  { skip },
  async () => {
    await platform.mustCli('quarantine', 'on-alarm', 'yes')
    const { procs } = ofTenant('red')
    const stray = spawn('sleep', ['300'], { stdio: 'ignore' })
    await during(stray, async () => {
      for (const file of procs) writeFileSync(file, `${stray.pid}\n`)
      assert.equal((await alarmed('cgroup')).tenant, 'red')
      await until(() => existsSync(join(paths.quarantine(platform.layout), 'red.json')), {
        what: 'The quarantine',
        timeoutMs: SEEN_MS,
      })
      // Taken out again, or it would be frozen too and could not end.
      for (const file of procs) writeFileSync(join(dirname(file), '../..', 'cgroup.procs'), `${stray.pid}\n`)
    })
    await platform.mustCli('quarantine', 'on-alarm', 'no')
    const frozen = await until(
      async () => {
        const before = await logLines('red')
        await sleep(1_500)
        return (await logLines('red')) === before
      },
      { what: 'A tenant that stands still', timeoutMs: SEEN_MS },
    ).then(() => true)
    assert.ok(frozen)
    assert.match(await platform.mustCli('quarantine', 'list'), /red/)
    const before = await logLines('blue')
    await until(async () => (await logLines('blue')) > before, {
      what: 'Another tenant that goes on',
      timeoutMs: SEEN_MS,
    })

    const stopped = await logLines('red')
    await platform.mustCli('quarantine', 'lift', 'red')
    await until(async () => (await logLines('red')) > stopped, {
      what: 'A tenant that goes on',
      timeoutMs: SEEN_MS,
    })
    await quiet()
  },
)

test(
  'rules that are flushed raise an alarm and refuse new pods, until they are back or somebody answers for them',
  { skip },
  async () => {
    inRouter('nft', 'flush', 'ruleset')
    await alarmed('ruleset')
    const refused = () =>
      state().refusals.some(
        ({ isolationClass, vector }) => isolationClass === 'shared' && vector === 'pod network',
      )
    await until(refused, { what: 'A refusal of new pods', timeoutMs: SEEN_MS })
    await platform.apply('red', [
      pod({ name: 'late', image: `${registry.host}/busybox:1`, script: 'sleep 3600' }),
    ])
    const described = () => platform.mustKubectl('red', 'get', 'events', '-o', 'yaml')
    await until(async () => (await described()).includes('layer of isolation is missing'), {
      what: 'A reason for the pod that waits',
      timeoutMs: SEEN_MS,
    })
    const until2030 = new Date(Date.now() + 3_600_000).toISOString()
    for (const vector of ['pod network', 'DNS', 'metadata and host services', 'egress', 'bandwidth'])
      await platform.mustCli('waive', vector, '--until', until2030, '--by', 'Ada', '--reason', 'a test')
    await until(() => !refused(), { what: 'New pods in spite of it', timeoutMs: 2 * SEEN_MS })
    const report = await platform.cli('verify')
    assert.equal(report.code, 1, 'what is waived is still not proven')
    assert.match(report.stdout, /waived: .*Ada/)

    await anotherAgent()
    await platform.mustKubectl('red', 'wait', '--for=condition=Ready', 'pod/late', '--timeout=90s')
    await quiet()
    const [, id = ''] = /^(w\d+)/m.exec(await platform.mustCli('waive', 'list')) ?? []
    await platform.mustCli('waive', 'revoke', id)
    assert.ok(!(await platform.mustCli('waive', 'list')).includes(id))
  },
)

test(
  'the verifier can read everything and change nothing: no file, no process, no listener',
  { skip },
  () => {
    const verifier = platform.daemons().get('verifier')
    assert.ok(verifier)
    const status = readFileSync(`/proc/${verifier.pid}/status`, 'utf8')
    // SETGID 6, SETUID 7, DAC_READ_SEARCH 2, NET_ADMIN 12, SYS_PTRACE 19, SYS_ADMIN 21.
    const mask = [2, 6, 7, 12, 19, 21].reduce((sum, bit) => sum | (1n << BigInt(bit)), 0n)
    for (const set of ['CapEff', 'CapPrm', 'CapBnd'])
      assert.equal(BigInt(`0x${new RegExp(`^${set}:\\s*(\\w+)`, 'm').exec(status)?.[1]}`), mask, set)
    assert.match(status, /^NoNewPrivs:\s*1$/m)
    assert.doesNotMatch(status, /^Uid:\s*0/m)
    const sockets = execFileSync('ss', ['-Hltnup'], { encoding: 'utf8' })
    assert.ok(!sockets.includes(`pid=${verifier.pid},`))
  },
)
