import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { type NamespaceOwner, ensureHolder, pinNamespaces, unpinNamespaces } from './namespaces.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root'
const UID_BASE = 1_900_000_000
const OWNER = 2_900_000

test(
  'nobody in a pod can make a user namespace, even with every capability and no filter',
  { skip },
  async () => {
    const directory = mkdtempSync(join(tmpdir(), 'bulkhead-namespaces-'))
    const pins = join(directory, 'pod')
    try {
      await pinNamespaces(ensureHolder(directory), pins, {
        uidBase: UID_BASE,
        idsCount: 65_536,
        owner: { uid: OWNER, tasksMax: 1_000 },
      })
      const asRootOfPod = (...command: string[]) =>
        spawnSync('nsenter', [`--user=${pins}/user`, '--setuid=0', '--setgid=0', ...command], {
          encoding: 'utf8',
        })
      // It is root there, with all capabilities over what belongs to the namespace.
      assert.match(asRootOfPod('cat', '/proc/self/status').stdout, /^CapEff:\t0*1ff/m)
      for (const kind of ['--user', '--net', '--ipc', '--uts']) {
        const { status, stderr } = asRootOfPod('unshare', kind, 'true')
        assert.notEqual(status, 0, kind)
        assert.match(stderr, /No space left on device/, kind)
      }
    } finally {
      unpinNamespaces(pins)
      rmSync(directory, { recursive: true, force: true })
    }
  },
)

test('a machine without free descriptors makes no pod, and the agent goes on', { skip }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'bulkhead-namespaces-'))
  try {
    const wish = JSON.stringify({ uidBase: UID_BASE, idsCount: 65_536, owner: { uid: OWNER, tasksMax: 10 } })
    const agent = `
      import { openSync } from 'node:fs'
      import { ensureHolder, pinNamespaces } from ${JSON.stringify(new URL('namespaces.ts', import.meta.url).href)}
      const holder = ensureHolder(${JSON.stringify(directory)})
      const refused = (work) => work.then(() => 'made', ({ code, message }) => code ?? message)
      try { for (;;) openSync('/dev/null') } catch {}
      const pins = refused(pinNamespaces(holder, ${JSON.stringify(join(directory, 'pod'))}, ${wish}))
      console.log(await pins, 'and goes on')
    `
    const { status, stdout, stderr } = spawnSync(
      'prlimit',
      ['--nofile=60:60', '--', process.execPath, '--input-type=module', '-e', agent],
      { encoding: 'utf8' },
    )
    assert.deepEqual({ status, stdout, stderr }, { status: 0, stdout: 'EMFILE and goes on\n', stderr: '' })
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
})

type Pods = {
  /** What the script prints. */
  run(pod: number, uid: number, script: string): string
  /** The same of a script that goes on until the pods go. */
  hold(pod: number, uid: number, script: string): Promise<string>
}

/** Namespaces of pods, one for each owner, without any cgroup. */
async function withPods(
  owners: readonly NamespaceOwner[],
  work: (pods: Pods) => Promise<void>,
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'bulkhead-namespaces-'))
  const pins = (pod: number) => join(directory, String(pod))
  const held: ChildProcess[] = []
  const inside = (pod: number, uid: number, script: string) => [
    ...[`--user=${pins(pod)}/user`, `--ipc=${pins(pod)}/ipc`, `--setuid=${uid}`, `--setgid=${uid}`],
    ...['perl', '-e', script],
  ]
  try {
    for (const [pod, owner] of owners.entries())
      await pinNamespaces(ensureHolder(directory), pins(pod), {
        uidBase: UID_BASE + pod * 65_536,
        idsCount: 65_536,
        owner,
      })
    await work({
      run(pod, uid, script) {
        const { stdout, stderr } = spawnSync('nsenter', inside(pod, uid, script), { encoding: 'utf8' })
        return stdout + stderr
      },
      async hold(pod, uid, script) {
        const child = spawn('nsenter', inside(pod, uid, `$| = 1; ${script}; <STDIN>`))
        held.push(child)
        const [said] = (await once(child.stdout, 'data')) as [Buffer]
        return said.toString()
      },
    })
  } finally {
    for (const child of held) {
      const ended = once(child, 'exit')
      child.stdin?.end()
      await ended
    }
    for (const [pod] of owners.entries()) unpinNamespaces(pins(pod))
    rmSync(directory, { recursive: true, force: true })
  }
}

/** As many children as it gets, up to a number, and how many that are. They end with their parent. */
const fork = (most: number) =>
  `my $c = 0; pipe(my $r, my $w); for (1..${most}) { my $pid = fork(); last unless defined $pid; if (!$pid) { close $w; <$r>; exit } $c++ } print $c`

test(
  'a tenant has no more tasks than its own, as another user, in another pod and without a cgroup',
  { skip },
  async () => {
    const owner = { uid: OWNER, tasksMax: 60 }
    await withPods([owner, owner, { uid: OWNER + 1, tasksMax: 60 }], async ({ run, hold }) => {
      assert.equal(await hold(0, 0, fork(40)), '40')
      // Other users of the pod, and root of another pod, have what is left.
      for (const uid of [0, 1, 65_000]) assert.ok(Number(run(0, uid, fork(300))) < 20, `user ${uid}`)
      assert.ok(Number(run(1, 0, fork(300))) < 20)
      // Another tenant has all of its own.
      assert.equal(run(2, 0, fork(50)), '50')
    })
  },
)

// inotify_init1(2) on arm64 and on x86-64. Each keeps a descriptor, of which there are more than of these.
const INOTIFY = `my $c = 0; $c++ while $c < 5000 && syscall(${process.arch === 'arm64' ? 26 : 294}, 0) >= 0; print $c`

test("what one tenant uses up of the kernel's objects is not taken from another", { skip }, async () => {
  const [red, blue] = [OWNER, OWNER + 1].map((uid) => ({ uid, tasksMax: 1_000 }))
  assert.ok(red && blue)
  await withPods([red, red, blue], async ({ run, hold }) => {
    const all = await hold(0, 0, INOTIFY)
    assert.ok(Number(all) > 0)
    assert.equal(run(1, 7, INOTIFY), '0', 'another pod of the tenant')
    assert.equal(run(2, 0, INOTIFY), all, 'another tenant')
    // Nor from the machine, whose root made the namespaces.
    assert.equal(
      spawnSync('perl', ['-e', `print syscall(${process.arch === 'arm64' ? 26 : 294}, 0) >= 0 ? 1 : 0`], {
        encoding: 'utf8',
      }).stdout,
      '1',
    )
  })
})
