import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { ALLOWED_GROUPS, allBut, FILTERED_CALLS, REFUSED_GROUPS, renderSeccomp } from './seccomp.ts'

const allowed = ALLOWED_GROUPS.flatMap((group) => group.names)
const refused = REFUSED_GROUPS.flatMap((group) => group.names)

const filtered = FILTERED_CALLS.map(({ name }) => name)

test('every system call is listed once, in a small group that says why', () => {
  const all = [...allowed, ...refused, ...new Set(filtered)]
  assert.deepEqual(
    all.filter((name, index) => all.indexOf(name) !== index),
    [],
  )
  const groups = [...ALLOWED_GROUPS, ...REFUSED_GROUPS]
  assert.deepEqual(
    groups.filter(({ names }) => names.length > 18 || !names.every((n) => /^[a-z0-9_]+$/.test(n))),
    [],
  )
  assert.equal(new Set(groups.map(({ why }) => why)).size, groups.length)
  for (const { why } of [...ALLOWED_GROUPS, ...FILTERED_CALLS]) assert.match(why, /^[A-Z].{20,150}\.$/)
})

test('what reaches into the kernel or across tenants is not allowed', () => {
  const dangerous = `mount umount2 pivot_root setns unshare bpf ptrace perf_event_open userfaultfd kexec_load
    kexec_file_load init_module finit_module delete_module create_module io_uring_setup io_uring_enter
    io_uring_register keyctl add_key request_key open_by_handle_at clone3 clone socket socketpair socketcall
    personality ioctl process_vm_readv process_vm_writev process_madvise pidfd_getfd kcmp move_mount fsopen fsconfig
    fsmount fspick open_tree mount_setattr reboot swapon swapoff acct iopl ioperm modify_ldt uselib ustat sysfs
    lookup_dcookie quotactl quotactl_fd fanotify_init fanotify_mark vmsplice move_pages migrate_pages mbind
    set_mempolicy set_mempolicy_home_node remap_file_pages memfd_secret nfsservctl vm86 syslog settimeofday
    clock_settime clock_adjtime adjtimex sethostname setdomainname vhangup`.split(/\s+/)
  assert.deepEqual(
    allowed.filter((name) => dangerous.includes(name)),
    [],
  )
})

test('what is allowed with some arguments is in no rule without arguments', () => {
  const { syscalls } = renderSeccomp('x64')
  for (const name of filtered) {
    const rules = syscalls.filter((rule) => rule.names.includes(name))
    assert.ok(
      rules.length > 0 && rules.every((rule) => rule.action === 'SCMP_ACT_ALLOW' && rule.args?.length),
    )
    // Runtimes take two comparisons of one argument for two rules, of which either is enough.
    for (const { args = [] } of rules) assert.equal(new Set(args.map((a) => a.index)).size, args.length)
  }
})

test('all values but the refused ones fit exactly one rule, whatever the upper half of the argument says', () => {
  const uint32 = fc.integer({ min: 0, max: 0xffff_ffff })
  fc.assert(
    fc.property(
      fc.array(uint32, { minLength: 1, maxLength: 4 }),
      fc.array(fc.oneof(uint32, fc.integer({ min: 0, max: 31 })), { maxLength: 20 }),
      uint32,
      (refusedValues, others, upper) => {
        const rules = allBut(1, refusedValues)
        const fits = (value: number) => {
          const argument = (BigInt(upper) << 32n) | BigInt(value)
          return rules.filter((r) => (argument & BigInt(r.value)) === BigInt(r.valueTwo ?? 0)).length
        }
        for (const value of refusedValues) assert.equal(fits(value), 0)
        // Small ones are turned into neighbours that differ from a refused value in one bit.
        for (const other of others) {
          const value = other < 32 ? ((refusedValues[0] ?? 0) ^ (1 << other)) >>> 0 : other
          assert.equal(fits(value), refusedValues.includes(value) ? 0 : 1)
        }
      },
    ),
  )
})

/** Of Debian's linux-libc-dev, and what kernels got since. */
const HEADERS = ['/usr/include/x86_64-linux-gnu/asm/unistd_64.h', '/usr/include/asm-generic/unistd.h']
const NEWER =
  words(`cachestat fchmodat2 map_shadow_stack mseal futex_wait futex_wake futex_requeue statmount listmount
  getxattrat setxattrat listxattrat removexattrat`)
test(
  'every name is a system call of a 64-bit kernel, so that none is listed in vain',
  { skip: HEADERS.every((file) => existsSync(file)) ? false : 'needs linux-libc-dev' },
  () => {
    const known = new Set(
      HEADERS.flatMap((file) =>
        [...readFileSync(file, 'utf8').matchAll(/^#define __NR(?:3264)?_(\w+) /gm)].map(([, name]) => name),
      ),
    )
    const only32bit = /_time64$|^(send|recv)file64$|^(clock_\w+|timer_\w+|timerfd_\w+)64$/
    assert.deepEqual(
      [...allowed, ...refused, ...filtered].filter(
        (name) => (!known.has(name) && !NEWER.includes(name)) || only32bit.test(name),
      ),
      [],
    )
  },
)

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
      ...NEWER,
      'futex_waitv',
      'io_pgetevents',
      // Only reads the caller's own policy.
      'get_mempolicy',
    ])
    assert.deepEqual(
      allowed.filter((name) => !theirs.has(name) && !known.has(name)),
      [],
    )
  },
)

function words(text: string): readonly string[] {
  return text.split(/\s+/)
}

test('sockets of IP exist for well-known protocols only', () => {
  for (const architecture of ['x64', 'arm64'] as const) {
    const rules = renderSeccomp(architecture).syscalls.filter(({ names }) => names.includes('socket'))
    const allows = (family: number, protocol: number) =>
      rules.some(({ args = [] }) =>
        args.every(({ index, value }) => value === (index === 0 ? family : protocol)),
      )
    for (const family of [2, 10]) {
      for (const protocol of [0, 1, 6, 17, 58]) assert.ok(allows(family, protocol), `${protocol}`)
      // IPIP, DCCP, IPv6 in IP, GRE, ESP, SCTP, and any by name of it.
      for (const protocol of [4, 33, 41, 47, 50, 132, 255])
        assert.ok(!allows(family, protocol), `${protocol}`)
    }
  }
})
