import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { ALLOWED_GROUPS, REFUSED_GROUPS, renderSeccomp } from './seccomp.ts'

const allowed = ALLOWED_GROUPS.flatMap((group) => group.names)
const refused = REFUSED_GROUPS.flatMap((group) => group.names)

test('every system call is listed once, in a group that says why', () => {
  const all = [...allowed, ...refused]
  assert.deepEqual(
    all.filter((name, index) => all.indexOf(name) !== index),
    [],
  )
  for (const { why, names } of [...ALLOWED_GROUPS, ...REFUSED_GROUPS])
    assert.ok(why.length > 10 && names.every((n) => /^[a-z0-9_]+$/.test(n)))
})

test('what reaches into the kernel or across tenants is not allowed', () => {
  const dangerous =
    'mount umount2 pivot_root setns unshare bpf ptrace perf_event_open userfaultfd kexec_load init_module finit_module io_uring_setup keyctl add_key request_key open_by_handle_at clone3 clone socket personality process_vm_readv move_mount fsopen open_tree reboot swapon acct iopl ioperm modify_ldt'
  assert.deepEqual(
    allowed.filter((name) => dangerous.split(' ').includes(name)),
    [],
  )
})

test('clone, socket and personality are allowed only with looked-at arguments', () => {
  const { syscalls } = renderSeccomp('x64')
  for (const name of ['clone', 'socket', 'personality']) {
    const rules = syscalls.filter((rule) => rule.names.includes(name))
    assert.ok(
      rules.length > 0 && rules.every((rule) => rule.action === 'SCMP_ACT_ALLOW' && rule.args?.length === 1),
    )
  }
})

const REFERENCE = '/usr/share/containers/seccomp.json'
test(
  'nothing is allowed that the common profile of container engines refuses',
  { skip: existsSync(REFERENCE) ? false : `needs ${REFERENCE}` },
  () => {
    const profile = JSON.parse(readFileSync(REFERENCE, 'utf8')) as {
      syscalls: { names: string[]; action: string; includes?: { caps?: string[]; arches?: string[] } }[]
    }
    const theirs = new Set(
      profile.syscalls
        .filter(
          (r) =>
            r.action === 'SCMP_ACT_ALLOW' && (r.includes?.caps ?? []).every((c) => c === 'CAP_SYS_CHROOT'),
        )
        .flatMap((r) => r.names),
    )
    // Newer than that profile, or allowed there only under names of another capability, each for its reason.
    const known = new Set([
      'cachestat',
      'fchmodat2',
      'map_shadow_stack',
      'mseal',
      'futex_wait',
      'futex_wake',
      'futex_requeue',
      'futex_waitv',
      'io_pgetevents',
      'io_pgetevents_time64',
      'statmount',
      'listmount',
      'getxattrat',
      'setxattrat',
      'listxattrat',
      'removexattrat',
      // Only reads the caller's own policy.
      'get_mempolicy',
    ])
    assert.deepEqual(
      allowed.filter((name) => !theirs.has(name) && !known.has(name)),
      [],
    )
  },
)
