import type { OciSeccomp, OciSeccompRule } from './config-types.ts'

/** Answer to a system call nobody listed: the program believes in an older kernel and falls back. */
const ENOSYS = 38
const EPERM = 1

type Group = { why: string; names: readonly string[] }

/** System calls that containers may use on the host's kernel. What is in no group does not exist for them. */
export const ALLOWED_GROUPS: readonly Group[] = [
  {
    why: 'reading, writing and positioning of open files',
    names: words(`read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek _llseek
      sendfile sendfile64 copy_file_range splice tee readahead fadvise64 fadvise64_64 arm_fadvise64_64
      fallocate ftruncate ftruncate64 truncate truncate64 fsync fdatasync sync syncfs sync_file_range`),
  },
  {
    why: 'opening, closing and duplicating descriptors',
    names:
      words(`open openat openat2 creat close close_range dup dup2 dup3 fcntl fcntl64 flock ioctl pipe pipe2
      eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
      timerfd_settime64 memfd_create memfd_secret inotify_init inotify_init1 inotify_add_watch inotify_rm_watch`),
  },
  {
    why: 'files and directories by name',
    names:
      words(`access faccessat faccessat2 chdir fchdir getcwd chmod fchmod fchmodat fchmodat2 chown chown32
      fchown fchown32 fchownat lchown lchown32 link linkat symlink symlinkat readlink readlinkat unlink unlinkat
      rename renameat renameat2 mkdir mkdirat rmdir mknod mknodat umask getdents getdents64 utime utimes utimensat
      utimensat_time64 futimesat name_to_handle_at chroot`),
  },
  {
    why: 'facts about files and file systems',
    names: words(`stat stat64 lstat lstat64 fstat fstat64 fstatat64 newfstatat statx statfs statfs64 fstatfs
      fstatfs64 statmount listmount`),
  },
  {
    why: 'extended attributes, for file capabilities and ACLs inside the user namespace',
    names: words(`getxattr lgetxattr fgetxattr getxattrat listxattr llistxattr flistxattr listxattrat setxattr
      lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat`),
  },
  {
    why: 'waiting for many descriptors',
    names:
      words(`poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 epoll_create epoll_create1
      epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2`),
  },
  {
    why: 'asynchronous file input and output as databases use it',
    names: words(`io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64`),
  },
  {
    why: 'the process’s own memory',
    names: words(`brk mmap mmap2 munmap mremap mprotect madvise mincore msync mlock mlock2 munlock mlockall
      munlockall membarrier pkey_alloc pkey_free pkey_mprotect map_shadow_stack mseal cachestat get_mempolicy`),
  },
  {
    why: 'System V and POSIX messages, semaphores and shared memory of the pod’s own ipc namespace',
    names: words(`ipc shmget shmat shmdt shmctl semget semop semctl semtimedop semtimedop_time64 msgget msgsnd
      msgrcv msgctl mq_open mq_unlink mq_timedsend mq_timedsend_time64 mq_timedreceive mq_timedreceive_time64
      mq_notify mq_getsetattr`),
  },
  {
    why: 'starting, replacing and awaiting processes; clone is below, with its flags looked at',
    names: words(`fork vfork execve execveat exit exit_group wait4 waitid waitpid set_tid_address
      set_robust_list get_robust_list set_thread_area get_thread_area arch_prctl rseq pidfd_open
      pidfd_send_signal`),
  },
  {
    why: 'process identity, groups, sessions and limits; the kernel checks each against the user namespace',
    names:
      words(`getpid getppid gettid getpgid getpgrp setpgid getsid setsid getuid getuid32 geteuid geteuid32
      getgid getgid32 getegid getegid32 getresuid getresuid32 getresgid getresgid32 getgroups getgroups32
      setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32 setresuid setresuid32 setresgid
      setresgid32 setgroups setgroups32 setfsuid setfsuid32 setfsgid setfsgid32 capget capset prctl getrlimit
      ugetrlimit setrlimit prlimit64 getrusage getpriority setpriority ioprio_get ioprio_set times`),
  },
  {
    why: 'signals, including those the C library restores itself with',
    names: words(`kill tkill tgkill pause alarm getitimer setitimer signal sigaction sigaltstack sigpending
      sigprocmask sigreturn sigsuspend rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
      rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo restart_syscall`),
  },
  {
    why: 'locks between threads',
    names: words(`futex futex_time64 futex_wait futex_wake futex_requeue futex_waitv`),
  },
  {
    why: 'scheduling within the container’s own share',
    names: words(`sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam
      sched_setparam sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min
      sched_rr_get_interval sched_rr_get_interval_time64 getcpu`),
  },
  {
    why: 'reading time and sleeping; nothing here sets a clock',
    names:
      words(`time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_nanosleep
      clock_nanosleep_time64 nanosleep timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64
      timer_settime timer_settime64`),
  },
  {
    why: 'sockets that are open already; opening one is below, with its family looked at',
    names:
      words(`bind connect listen accept accept4 getsockname getpeername getsockopt setsockopt shutdown send
      sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64 socketpair`),
  },
  {
    why: 'facts about the system that masked files do not hide either, and random numbers',
    names: words(`uname sysinfo getrandom`),
  },
  {
    why: 'programs that lock themselves in further',
    names: words(`seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self`),
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
    names: words('bpf perf_event_open userfaultfd init_module finit_module delete_module kexec_load'),
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

/** socket(2) families: UNIX, INET, INET6 and NETLINK. Others are rarely used kernel code with a long record of bugs. */
const SOCKET_FAMILIES = [1, 2, 10, 16] as const

/** Every CLONE_NEW* flag that clone(2) takes. */
const CLONE_NEW_FLAGS = 0x7e02_0000

/** Execution domains of personality(2): Linux, its 32-bit uname and address randomization off, and asking only. */
const PERSONALITIES = [0x0, 0x8, 0x20000, 0x20008, 0xffff_ffff] as const

const ARCHITECTURES = { x64: 'SCMP_ARCH_X86_64', arm64: 'SCMP_ARCH_AARCH64' } as const

/** Only the machine's own calling convention: the 32-bit ones are a second copy of the kernel's attack surface. */
export function renderSeccomp(architecture: keyof typeof ARCHITECTURES): OciSeccomp {
  const allowed: OciSeccompRule[] = [
    ...ALLOWED_GROUPS.map(({ names }) => ({ names: [...names], action: 'SCMP_ACT_ALLOW' as const })),
    {
      names: ['clone'],
      action: 'SCMP_ACT_ALLOW',
      args: [{ index: 0, value: CLONE_NEW_FLAGS, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }],
    },
    ...SOCKET_FAMILIES.map((value) => ({
      names: ['socket'],
      action: 'SCMP_ACT_ALLOW' as const,
      args: [{ index: 0, value, op: 'SCMP_CMP_EQ' as const }],
    })),
    ...PERSONALITIES.map((value) => ({
      names: ['personality'],
      action: 'SCMP_ACT_ALLOW' as const,
      args: [{ index: 0, value, op: 'SCMP_CMP_EQ' as const }],
    })),
  ]
  const refused: OciSeccompRule[] = REFUSED_GROUPS.map(({ names }) => ({
    names: [...names],
    action: 'SCMP_ACT_ERRNO' as const,
    errnoRet: EPERM,
  }))
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    // clone3 hides its flags in memory, where a filter cannot look: ENOSYS makes C libraries use clone instead.
    defaultErrnoRet: ENOSYS,
    architectures: [ARCHITECTURES[architecture]],
    syscalls: [...allowed, ...refused],
  }
}

function words(text: string): readonly string[] {
  return text.split(/\s+/)
}
