import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { parseLayout } from '../api/index.ts'
import { renderTenant } from './describe-tenant.ts'
import { type CliDeps, type MachineStatus, runCli } from './run-cli.ts'

const directory = mkdtempSync(join(tmpdir(), 'bulkhead-cli-'))
after(() => rmSync(directory, { recursive: true, force: true }))
const GOLDEN = new URL('testdata/', import.meta.url)

const nothing: MachineStatus = {
  server: 'https://127.0.0.1:7443',
  stateDir: '/var/lib/bulkhead',
  ready: false,
  daemons: [],
  alarms: 0,
}

type Ran = { code: number; out: string; err: string; calls: string[] }

/** Runs the command against a machine that only remembers what it was asked. */
async function bulkhead(args: readonly string[], status: MachineStatus = nothing): Promise<Ran> {
  const ran: Ran = { code: 0, out: '', err: '', calls: [] }
  const call = (name: string) => async (options?: unknown) =>
    void ran.calls.push(options === undefined ? name : `${name} ${JSON.stringify(options)}`)
  const deps: CliDeps = {
    layout: parseLayout({ BULKHEAD_STATE_DIR: directory }),
    machine: {
      up: call('up'),
      down: call('down'),
      reset: call('reset'),
      status: async () => status,
      demo: async (options) => (await call('demo')(options), 0),
      egress: async (tenant) => (await call('egress')(tenant), []),
      watch: {
        alarms: () => ({
          alarms: [{ since: '2026-11-21T12:00:00Z', kind: 'sysctl', what: 'a switch was turned' }],
          proven: false,
          provenAt: '2026-11-21T12:00:10Z',
        }),
        waivers: () => [],
        waive: (wanted) => ({ id: 'w1', ...wanted }),
        revoke: (id) => id === 'w1',
        quarantines: () => [],
        quarantine: () => {},
        lift: (tenant) => tenant === 'red',
        quarantineOnAlarm: (on = false) => on,
      },
      verify: async (options) => (await call('verify')(options), 1),
      attack: async (options) => (await call('attack')(options), 1),
    },
    print: (text) => void (ran.out += `${text}\n`),
    printError: (text) => void (ran.err += `${text}\n`),
    version: '1.2.3',
  }
  ran.code = await runCli(args, deps)
  return ran
}

/** Compares with a file that people read and change by hand. */
function golden(name: string, text: string): void {
  const file = new URL(name, GOLDEN)
  const shown = text.replaceAll(directory, 'STATE_DIR')
  assert.equal(shown, readFileSync(file, 'utf8'))
}

test('help says everything there is, in 100 columns', async () => {
  const { code, out, err } = await bulkhead(['help'])
  assert.deepEqual([code, err], [0, ''])
  golden('help.txt', out)
  for (const line of out.split('\n')) assert.ok(line.length <= 100, line)
  for (const other of [[], ['--help'], ['-h']]) assert.equal((await bulkhead(other)).out, out)
})

test('what is wrong with a command is said in a sentence, and nothing is done', async () => {
  const wrong: string[][] = [
    ['nonsense'],
    ['up', 'now'],
    ['up', '--fast'],
    ['reset'],
    ['verify', '-o', 'xml'],
    ['alarm'],
    ['waive', 'kernel'],
    ['waive', 'revoke'],
    ['quarantine', 'add', 'red'],
    ['quarantine', 'on-alarm', 'maybe'],
    ['quarantine', 'lift', '../red'],
    ['verify', '--check', 'report.json', '--format', 'json'],
    ['tenant'],
    ['tenant', 'rename'],
    ['tenant', 'apply'],
    ['tenant', 'delete'],
    ['tenant', 'delete', 'red'],
    ['tenant', 'delete', 'RED', '--yes'],
    ['tenant', 'delete', 'red', 'blue', '--yes'],
    ['tenant', 'describe'],
    ['tenant', 'describe', '../etc'],
    ['egress'],
    ['egress', 'open'],
    ['egress', 'show'],
    ['egress', 'suggest', '../red'],
    ['kubeconfig'],
    ['kubeconfig', 'platform'],
    ['explain'],
    ['explain', 'pod.spec', '-o', 'yaml'],
    ['explain', 'pod.spec.hostNet'],
    ['kubeconfig', 'red', '--user'],
    ['\u001b[31mred\u001b[0m'],
  ]
  let text = ''
  for (const args of wrong) {
    const { code, out, err, calls } = await bulkhead(args)
    assert.deepEqual([code, out, calls], [2, '', []], args.join(' '))
    text += `$ bulkhead ${args.join(' ').replaceAll('\u001b', 'ESC')}\n${err}\n`
  }
  golden('usage-errors.txt', text)
})

test('without a platform, commands that need one say what to do', async () => {
  let text = ''
  for (const args of [['tenant', 'list'], ['tenant', 'describe', 'red'], ['kubeconfig', 'red'], ['status']]) {
    const { code, out, err } = await bulkhead(args)
    assert.equal(code, 1)
    text += `$ bulkhead ${args.join(' ')}\n${out}${err}\n`
  }
  golden('no-platform.txt', text)
})

test('each command asks the machine for what it was told', async () => {
  const calls = async (...args: string[]) => {
    const { code, calls: seen } = await bulkhead(args)
    return [code, ...seen]
  }
  assert.deepEqual(await calls('up'), [0, 'up'])
  assert.deepEqual(await calls('down'), [0, 'down'])
  assert.deepEqual(await calls('reset', '--yes'), [0, 'reset'])
  assert.deepEqual(await calls('demo', '--no-wait'), [0, 'demo {"wait":false}'])
  assert.deepEqual(await calls('verify', '-o', 'json'), [1, 'verify {"format":"json"}'])
  assert.deepEqual(await calls('verify', '--check', 'report.html'), [1, 'verify {"check":"report.html"}'])
  assert.equal((await bulkhead(['version'])).out, 'bulkhead 1.2.3\n')
})

test('the status shows each daemon on a line, and fails unless all is well', async () => {
  const daemons = [
    { name: 'gateway', pid: 42, user: 'bulkhead-gateway', memoryBytes: 50 * 1024 ** 2 },
    { name: 'worker-shared', user: '-' },
  ]
  const half = await bulkhead(['status'], { ...nothing, daemons })
  assert.equal(half.code, 1)
  const well = await bulkhead(['status'], { ...nothing, ready: true, daemons: daemons.slice(0, 1) })
  assert.equal(well.code, 0)
  const alarmed = await bulkhead(['status'], {
    ...nothing,
    ready: true,
    daemons: daemons.slice(0, 1),
    alarms: 2,
  })
  assert.equal(alarmed.code, 0)
  golden('status.txt', `${half.out}\n${well.out}\n${alarmed.out}`)
})

test('a tenant is described in 100 columns, however long its reasons are, and cannot move the cursor', () => {
  const text = renderTenant({
    metadata: {
      name: 'red',
      uid: '00000000-0000-4000-8000-00000000000a',
      creationTimestamp: '2026-11-01T00:00:00Z',
    },
    spec: {
      trust: 'untrusted',
      code: 'thirdParty',
      sensitivity: 'normal',
      noisy: true,
      registries: ['a.example:5000/team', 'b.example'],
      quota: { pods: 10, memoryBytes: '4Gi', cpu: '2' },
    },
    status: {
      phase: 'Failed',
      isolationClass: 'sandboxed',
      reasons: [
        'An untrusted tenant must not share a kernel with others, because one mistake in the kernel would give it all of them.',
        'forged\u001b[2J\nreason',
      ],
      conditions: [
        {
          type: 'Ready',
          status: 'False',
          reason: 'PlacementFailed',
          message: `No room, ${'really '.repeat(20)}none`,
        },
      ],
    },
  })
  for (const line of text.split('\n')) assert.ok(line.length <= 100, line)
  golden('describe.txt', `${text}\n\n${renderTenant({ metadata: { name: 'new' }, spec: {} })}\n`)
})

test('what was decided about alarms and missing layers is shown and can be taken back', async () => {
  const alarms = await bulkhead(['alarm', 'list'])
  assert.equal(alarms.code, 1)
  assert.match(
    alarms.out,
    /NOT PROVEN at [^\n]+\nSINCE +KIND +TENANT +WHAT\n[^\n]+sysctl +- +a switch was turned/,
  )
  const by = ['--until', '2030-01-01T00:00:00Z', '--by', 'Ada', '--reason', 'until the new kernel']
  const waived = await bulkhead(['waive', 'kernel', '--tenant', 'red', ...by])
  assert.equal(waived.code, 0, waived.err)
  assert.match(waived.out, /w1 +kernel +red +2030-01-01T00:00:00Z +Ada +until the new kernel/)
  assert.equal((await bulkhead(['waive', 'revoke', 'w1'])).code, 0)
  assert.equal((await bulkhead(['waive', 'revoke', 'w2'])).code, 1)
  assert.equal((await bulkhead(['quarantine', 'lift', 'red'])).code, 0)
  assert.equal((await bulkhead(['quarantine', 'lift', 'blue'])).code, 1)
  assert.match((await bulkhead(['quarantine', 'list'])).out, /is only told\nNo tenant is in quarantine/)
})
