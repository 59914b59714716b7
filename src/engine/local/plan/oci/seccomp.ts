import type { OciSeccomp, OciSeccompRule } from './config-types.ts'

/** Answer to a system call nobody listed: the program believes in an older kernel and falls back. */
const ENOSYS = 38
const EPERM = 1

type Group = { why: string; names: readonly string[] }

/**
 * System calls that containers may use on the host's kernel, with what would not work without them. What is in no
 * group does not exist for them. Only names of 64-bit kernels: the 32-bit calling conventions are shut altogether.
 */
export const ALLOWED_GROUPS: readonly Group[] = [
  {
    why: 'Every program reads and writes the files it has open.',
    names: words('read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek'),
  },
  {
    why: 'Servers and package managers copy between descriptors without a detour through their own memory.',
    names: words('sendfile copy_file_range splice tee'),
  },
  {
    why: 'Databases reserve space, tell the kernel how they will read, and make what they wrote durable.',
    names: words(
      'readahead fadvise64 fallocate ftruncate truncate fsync fdatasync sync syncfs sync_file_range cachestat',
    ),
  },
  {
    why: 'Every program opens and closes files; openat2 is the only safe way below a directory somebody else writes.',
    names: words('open openat openat2 creat close close_range'),
  },
  {
    why: 'Shells redirect, and programs change flags and locks of what they have open.',
    names: words('dup dup2 dup3 fcntl flock pipe pipe2'),
  },
  {
    why: 'Event loops count events, signals and time through descriptors; run-times pass memory along as one.',
    names: words(
      'eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_gettime timerfd_settime memfd_create',
    ),
  },
  {
    why: 'Programs watch their configuration; the kernel limits watches per user of the tenant.',
    names: words('inotify_init inotify_init1 inotify_add_watch inotify_rm_watch'),
  },
  {
    why: 'Programs look files up, and move about in the tree the container has.',
    names: words('access faccessat faccessat2 chdir fchdir getcwd readlink readlinkat getdents getdents64'),
  },
  {
    why: 'Entrypoints hand files to the user they drop to; each call is checked against the user namespace.',
    names: words('chmod fchmod fchmodat fchmodat2 chown fchown fchownat lchown umask'),
  },
  {
    why: 'Programs make, rename and remove files; a user namespace can make no device node, only fifos and sockets.',
    names: words(
      'link linkat symlink symlinkat unlink unlinkat rename renameat renameat2 mkdir mkdirat rmdir mknod mknodat',
    ),
  },
  {
    why: 'Archivers and make set the times of files.',
    names: words('utime utimes utimensat futimesat'),
  },
  {
    why: 'Watchers compare files by handle; opening one by its handle is refused below.',
    names: words('name_to_handle_at'),
  },
  {
    why: 'Daemons lock themselves into a directory (CAP_SYS_CHROOT, in the user namespace only).',
    names: words('chroot'),
  },
  {
    why: 'Every program asks for size, kind and owner of files.',
    names: words('stat lstat fstat newfstatat statx'),
  },
  {
    why: 'Programs ask how full a file system is, and which are mounted in their own mount namespace.',
    names: words('statfs fstatfs statmount listmount'),
  },
  {
    why: 'Package managers keep file capabilities and ACLs, which hold inside the user namespace only.',
    names: words(`getxattr lgetxattr fgetxattr getxattrat listxattr llistxattr flistxattr listxattrat setxattr
      lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat`),
  },
  {
    why: 'Event loops wait for many descriptors at once.',
    names: words(
      'poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2',
    ),
  },
  {
    why: 'Databases read and write files asynchronously; the kernel bounds it with fs.aio-max-nr.',
    names: words('io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents'),
  },
  {
    why: 'Every program maps, protects and gives back memory of its own.',
    names: words('brk mmap munmap mremap mprotect madvise mincore msync mseal'),
  },
  {
    why: 'Programs keep secrets out of swap, bounded by RLIMIT_MEMLOCK.',
    names: words('mlock mlock2 munlock mlockall munlockall'),
  },
  {
    why: 'Run-times order memory between threads, protect their own pages by keys and stacks by shadows, and ask for NUMA.',
    names: words('membarrier pkey_alloc pkey_free pkey_mprotect map_shadow_stack get_mempolicy'),
  },
  {
    why: 'Older databases share memory and semaphores by System V names, which the pod’s own ipc namespace holds.',
    names: words('shmget shmat shmdt shmctl semget semop semctl semtimedop msgget msgsnd msgrcv msgctl'),
  },
  {
    why: 'POSIX message queues, which the pod’s own ipc namespace holds and RLIMIT_MSGQUEUE bounds.',
    names: words('mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr'),
  },
  {
    why: 'Programs start, replace, await and end processes; clone is below, with its flags looked at.',
    names: words('fork vfork execve execveat exit exit_group wait4 waitid pidfd_open pidfd_send_signal'),
  },
  {
    why: 'C libraries and run-times set up each thread.',
    names: words(
      'set_tid_address set_robust_list get_robust_list set_thread_area get_thread_area arch_prctl rseq',
    ),
  },
  {
    why: 'Programs ask who they are; all ids are those of the pod’s namespaces.',
    names:
      words(`getpid getppid gettid getpgid getpgrp getsid getuid geteuid getgid getegid getresuid getresgid
      getgroups capget`),
  },
  {
    why: 'Servers start as root of the pod and drop to another user; the kernel checks each id against the user namespace.',
    names: words('setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid capset'),
  },
  {
    why: 'Shells and supervisors make sessions and process groups.',
    names: words('setpgid setsid'),
  },
  {
    why: 'Run-times name threads, ask for a signal when a parent dies, and give up privileges for good.',
    names: words('prctl'),
  },
  {
    why: 'Programs read their limits and lower them; raising one needs a capability that no pod has.',
    names: words('getrlimit setrlimit prlimit64 getrusage times'),
  },
  {
    why: 'Batch work lowers its own priority; raising one needs a capability that no pod has.',
    names: words('getpriority setpriority ioprio_get ioprio_set'),
  },
  {
    why: 'Supervisors signal processes of the pod’s own pid namespace.',
    names: words('kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pause alarm getitimer setitimer'),
  },
  {
    why: 'Every program handles signals; C libraries call some of these on the way back from a handler.',
    names: words(`sigaltstack rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigsuspend
      rt_sigtimedwait restart_syscall`),
  },
  {
    why: 'Threads wait for each other.',
    names: words('futex futex_wait futex_wake futex_requeue futex_waitv'),
  },
  {
    why: 'Run-times size their pools by processors and give way; the cgroup bounds what any scheduling can take.',
    names: words(`sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam
      sched_setparam sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min
      sched_rr_get_interval getcpu`),
  },
  {
    why: 'Every program reads time, sleeps and sets timers; nothing here sets a clock.',
    names:
      words(`time gettimeofday clock_gettime clock_getres clock_nanosleep nanosleep timer_create timer_delete
      timer_getoverrun timer_gettime timer_settime`),
  },
  {
    why: 'Programs use sockets that are open already; opening one is below, with its family looked at.',
    names:
      words(`bind connect listen accept accept4 getsockname getpeername getsockopt setsockopt shutdown sendto
      sendmsg sendmmsg recvfrom recvmsg recvmmsg`),
  },
  {
    why: 'Programs ask for the kernel’s name, memory and load, and need random numbers.',
    names: words('uname sysinfo getrandom'),
  },
  {
    why: 'Browsers and daemons lock themselves in further; neither call can widen anything.',
    names: words('seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self'),
  },
]

/**
 * Refused with EPERM, because programs know these calls and expect a "no" rather than an old kernel. A name belongs
 * here only for the sake of the error; leaving it out refuses it too.
 */
export const REFUSED_GROUPS: readonly Group[] = [
  {
    why: 'new namespaces would give full capabilities over kernel code that containers never reach otherwise',
    names: words('unshare setns'),
  },
  {
    why: 'mounts: file system parsers are not meant for hostile input',
    names: words(
      'mount umount2 pivot_root move_mount open_tree fsopen fsmount fsconfig fspick mount_setattr',
    ),
  },
  {
    why: 'looking into other processes: one more way across users of the same tenant',
    names: words('ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd'),
  },
  {
    why: 'code that runs in the kernel, and its measuring instruments',
    names: words(
      'bpf perf_event_open userfaultfd init_module finit_module delete_module kexec_load kexec_file_load',
    ),
  },
  {
    why: 'rings that perform system calls out of reach of this filter',
    names: words('io_uring_setup io_uring_enter io_uring_register'),
  },
  { why: 'keyrings that are not namespaced', names: words('keyctl add_key request_key') },
  {
    why: 'the machine’s clock, name, log, accounting, swap, quotas and power',
    names:
      words(`settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname syslog acct swapon
      swapoff quotactl reboot vhangup`),
  },
  { why: 'file handles reach around every path', names: words('open_by_handle_at') },
]

type Argument = NonNullable<OciSeccompRule['args']>[number]
type Filtered = { name: string; why: string; rules: readonly (readonly Argument[])[] }

const AF_UNIX = 1
const AF_INET = 2
const AF_INET6 = 10
const AF_NETLINK = 16
/** What the type of the socket implies, ICMP, TCP, UDP, ICMPv6, UDP-Lite and MPTCP: others, as SCTP, are loaded on demand. */
const INTERNET_PROTOCOLS = [0, 1, 6, 17, 58, 136, 262]
/** Every CLONE_NEW* flag that clone(2) takes. */
const CLONE_NEW_FLAGS = 0x7e02_0000
const TIOCSTI = 0x5412
const TIOCLINUX = 0x541c

/** Calls that are allowed with some arguments only. A call is allowed when all arguments of one of its rules fit. */
export const FILTERED_CALLS: readonly Filtered[] = [
  {
    name: 'clone',
    why: 'Threads and processes, without any new namespace.',
    rules: [[maskedEqual(0, CLONE_NEW_FLAGS, 0)]],
  },
  {
    name: 'socket',
    why: 'UNIX, INET and INET6. Other families are rarely used kernel code with a long record of bugs, loaded on demand.',
    rules: [
      [equal(0, AF_UNIX)],
      ...[AF_INET, AF_INET6].flatMap((family) =>
        INTERNET_PROTOCOLS.map((protocol) => [equal(0, family), equal(2, protocol)]),
      ),
    ],
  },
  {
    name: 'socket',
    why: 'NETLINK for addresses and routes (0) and for the pod’s own sockets (4), which C libraries and ss ask for.',
    rules: [0, 4].map((protocol) => [equal(0, AF_NETLINK), equal(2, protocol)]),
  },
  {
    name: 'socketpair',
    why: 'UNIX only: asking for a pair of another family loads its code as well.',
    rules: [[equal(0, AF_UNIX)]],
  },
  {
    name: 'personality',
    why: 'Linux, its 32-bit uname and address randomization off, for debuggers and emulators, and asking only.',
    rules: [0x0, 0x8, 0x20000, 0x20008, 0xffff_ffff].map((domain) => [equal(0, domain)]),
  },
  {
    name: 'ioctl',
    why: 'Terminals and sockets, without typing into a terminal for others (TIOCSTI) or into a console (TIOCLINUX).',
    rules: allBut(1, [TIOCSTI, TIOCLINUX]).map((argument) => [argument]),
  },
]

function equal(index: number, value: number): Argument {
  return { index, value, op: 'SCMP_CMP_EQ' }
}

function maskedEqual(index: number, mask: number, value: number): Argument {
  return { index, value: mask, valueTwo: value, op: 'SCMP_CMP_MASKED_EQ' }
}

/**
 * Every 32-bit value but these, as rules of which one must fit: for each bit, whatever parts there from all of them.
 * The kernel ignores the upper half of such an argument, so comparing all of it could be got around (CVE-2019-10063).
 */
export function allBut(index: number, refused: readonly number[]): Argument[] {
  const rules: Argument[] = []
  const descend = (bit: number, prefix: number, inside: readonly number[]) => {
    if (bit < 0) return
    const mask = (0xffff_ffff << bit) >>> 0
    for (const digit of [0, 1]) {
      const here = (prefix | (digit << bit)) >>> 0
      const below = inside.filter((value) => (value & mask) >>> 0 === here)
      if (below.length === 0) rules.push(maskedEqual(index, mask, here))
      else descend(bit - 1, here, below)
    }
  }
  descend(31, 0, refused)
  return rules
}

const ARCHITECTURES = { x64: 'SCMP_ARCH_X86_64', arm64: 'SCMP_ARCH_AARCH64' } as const

/**
 * Only the machine's own calling convention: the 32-bit ones are a second copy of the kernel's attack surface. gVisor's
 * sentry applies the same filter to its own system calls (--oci-seccomp).
 */
export function renderSeccomp(
  architecture: keyof typeof ARCHITECTURES,
  { sentry = false }: { sentry?: boolean } = {},
): OciSeccomp {
  const allowed: OciSeccompRule[] = [
    ...ALLOWED_GROUPS.map(({ names }) => ({ names: [...names], action: 'SCMP_ACT_ALLOW' as const })),
    ...FILTERED_CALLS.flatMap(({ name, rules }) =>
      rules.map((args) => ({ names: [name], action: 'SCMP_ACT_ALLOW' as const, args: [...args] })),
    ),
  ]
  const refused: OciSeccompRule[] = REFUSED_GROUPS.map(({ names }) => ({
    names: [...names],
    action: 'SCMP_ACT_ERRNO' as const,
    errnoRet: EPERM,
  }))
  return {
    // clone3 hides its flags in memory, where a filter cannot look: ENOSYS makes C libraries use clone instead. runsc
    // knows no error but EPERM; asking a tracer, which nobody can be, is ENOSYS too (seccomp(2), SECCOMP_RET_TRACE).
    ...(sentry
      ? { defaultAction: 'SCMP_ACT_TRACE' as const }
      : { defaultAction: 'SCMP_ACT_ERRNO' as const, defaultErrnoRet: ENOSYS }),
    architectures: [ARCHITECTURES[architecture]],
    syscalls: [...allowed, ...refused],
  }
}

function words(text: string): readonly string[] {
  return text.split(/\s+/)
}
