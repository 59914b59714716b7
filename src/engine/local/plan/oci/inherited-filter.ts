import { assert } from '../../../../stdx/index.ts'
import { AND, type FilterInstruction, IF_AT_LEAST, IF_EQUAL, LOAD_WORD, RETURN } from '../net/classic-bpf.ts'

/**
 * The filter that conmon and the runtime start under, and that everything in a container inherits: for what neither a
 * runtime nor a program in a pod needs. It shares nothing with the filter of the OCI configuration but the kernel that
 * applies it: not the list, not the compiler, not the process that installs it. Where the runtime leaves its own out,
 * or compiles it wrongly, this one stands.
 */

type Architecture = 'x64' | 'arm64'
/** On x86-64 and on arm64, where the call exists. */
type Numbers = readonly [x64: number | undefined, arm64: number | undefined]

/** Does not exist for what runs under the filter. What makes namespaces and mounts is missing: runtimes need it. */
export const INHERITED_REFUSALS: readonly { why: string; calls: Readonly<Record<string, Numbers>> }[] = [
  {
    why: 'rings that perform system calls out of reach of filters',
    calls: { io_uring_setup: [425, 425], io_uring_enter: [426, 426], io_uring_register: [427, 427] },
  },
  {
    why: 'measuring and stopping the kernel in the middle of its work',
    calls: { perf_event_open: [298, 241], userfaultfd: [323, 282], lookup_dcookie: [212, 18] },
  },
  {
    why: 'looking into other processes',
    calls: {
      ptrace: [101, 117],
      process_vm_readv: [310, 270],
      process_vm_writev: [311, 271],
      process_madvise: [440, 440],
      kcmp: [312, 272],
      pidfd_getfd: [438, 438],
      move_pages: [279, 239],
      migrate_pages: [256, 238],
    },
  },
  {
    why: 'keys of the kernel; a session of its own, which runtimes make, is below',
    calls: { add_key: [248, 217], request_key: [249, 218] },
  },
  {
    why: 'other code for the kernel',
    calls: {
      init_module: [175, 105],
      finit_module: [313, 273],
      delete_module: [176, 106],
      kexec_load: [246, 104],
      kexec_file_load: [320, 294],
    },
  },
  {
    why: 'the machine’s clock, log, accounting, swap, quotas and power',
    calls: {
      settimeofday: [164, 170],
      clock_settime: [227, 112],
      clock_adjtime: [305, 266],
      adjtimex: [159, 171],
      syslog: [103, 116],
      acct: [163, 89],
      swapon: [167, 224],
      swapoff: [168, 225],
      quotactl: [179, 60],
      quotactl_fd: [443, 443],
      reboot: [169, 142],
      vhangup: [153, 58],
    },
  },
  {
    why: 'files past every path, and everybody’s files at once',
    calls: { open_by_handle_at: [304, 265], fanotify_init: [300, 262], fanotify_mark: [301, 263] },
  },
  {
    why: 'calls that hardly anybody needs any more, or only with hardware',
    calls: {
      iopl: [172, undefined],
      ioperm: [173, undefined],
      modify_ldt: [154, undefined],
      uselib: [134, undefined],
      ustat: [136, undefined],
      sysfs: [139, undefined],
      _sysctl: [156, undefined],
      nfsservctl: [180, 42],
      vmsplice: [278, 75],
      memfd_secret: [447, 447],
    },
  },
]

const BPF: Numbers = [321, 280]
const SOCKET: Numbers = [41, 198]
const SOCKETPAIR: Numbers = [53, 199]
const IOCTL: Numbers = [16, 29]
const KEYCTL: Numbers = [250, 219]
const PERSONALITY: Numbers = [135, 92]

const ARCHITECTURES = {
  x64: { index: 0, audit: 0xc000_003e },
  arm64: { index: 1, audit: 0xc000_00b7 },
} as const
/** The second table of system calls that x86-64 has. */
const X32_BIT = 0x4000_0000

const ALLOW = 0x7fff_0000
const answer = (errno: number) => 0x0005_0000 | errno
const EPERM = 1
const ENOSYS = 38
const EPROTONOSUPPORT = 93

const AF_UNIX = 1
const AF_INET = 2
const AF_INET6 = 10
const AF_NETLINK = 16
const SOCK_TYPE_MASK = 0xf
const STREAM_AND_DATAGRAM = [1, 2]
/** Any, ICMP, TCP, UDP, ICMPv6, UDP-Lite, MPTCP. Others, such as SCTP, are code that is loaded on demand. */
const PROTOCOLS = [0, 1, 6, 17, 58, 136, 262]
/** Addresses and routes, and the pod's own sockets. */
const NETLINK_PROTOCOLS = [0, 4]
/** Joining a session of one's own, its permissions and its description: what runtimes do before they start a program. */
const KEYCTL_COMMANDS = [1, 5, 6]
const TERMINAL_INPUT = [0x5412, 0x541c]
const PERSONALITY_ASKS = 0xffff_ffff
/** A 32-bit uname and addresses that are not random. */
const PERSONALITY_HARMLESS = 0x2_0008

type Step =
  | { label: string }
  | { code: typeof LOAD_WORD | typeof AND | typeof RETURN; k: number }
  /** Goes on with the next step when it names nothing. */
  | { code: typeof IF_EQUAL | typeof IF_AT_LEAST; k: number; then: string }
  | { code: typeof IF_EQUAL; k: number; otherwise: string }

const REFUSE = 'refuse'
const ALLOWED = 'allow'

/**
 * https://docs.kernel.org/userspace-api/seccomp_filter.html. Pure.
 * @param deviceFilters on version 2 cgroups, where runtimes load programs that decide about devices.
 */
export function renderInheritedFilter(
  architecture: Architecture,
  { deviceFilters }: { deviceFilters: boolean },
): FilterInstruction[] {
  const { index, audit } = ARCHITECTURES[architecture]
  const number = (numbers: Numbers) => {
    const found = numbers[index]
    return found === undefined ? [] : [found]
  }
  const refused = [
    ...INHERITED_REFUSALS.flatMap(({ calls }) => Object.values(calls).flatMap(number)),
    ...(deviceFilters ? [] : number(BPF)),
  ]
  const looked = (name: string, numbers: Numbers, body: readonly Step[]): Step[] =>
    number(numbers).flatMap((k) => [
      { code: IF_EQUAL, k, otherwise: `after ${name}` },
      ...body,
      { label: `after ${name}` },
    ])
  return assemble([
    { code: LOAD_WORD, k: 4 },
    { code: IF_EQUAL, k: audit, otherwise: REFUSE },
    { code: LOAD_WORD, k: 0 },
    ...(architecture === 'x64' ? [{ code: IF_AT_LEAST, k: X32_BIT, then: REFUSE } as const] : []),
    ...refused.map((k) => ({ code: IF_EQUAL, k, then: REFUSE }) as const),
    ...looked('socket', SOCKET, socketSteps('socket')),
    ...looked('socketpair', SOCKETPAIR, socketSteps('socketpair')),
    ...looked('ioctl', IOCTL, [
      { code: LOAD_WORD, k: argumentAt(1) },
      ...oneOf(TERMINAL_INPUT, REFUSE),
      { code: RETURN, k: ALLOW },
    ]),
    ...looked('keyctl', KEYCTL, [
      { code: LOAD_WORD, k: argumentAt(0) },
      ...oneOf(KEYCTL_COMMANDS, ALLOWED),
      { code: RETURN, k: answer(ENOSYS) },
    ]),
    ...looked('personality', PERSONALITY, [
      { code: LOAD_WORD, k: argumentAt(0) },
      { code: IF_EQUAL, k: PERSONALITY_ASKS, then: ALLOWED },
      { code: AND, k: ~PERSONALITY_HARMLESS >>> 0 },
      { code: IF_EQUAL, k: 0, then: ALLOWED },
      { code: RETURN, k: answer(ENOSYS) },
    ]),
    { label: ALLOWED },
    { code: RETURN, k: ALLOW },
    { label: REFUSE },
    { code: RETURN, k: answer(ENOSYS) },
  ])
}

/** The kernel reads these arguments as 32 bits, so the lower half is all there is. */
function argumentAt(index: number): number {
  return 16 + 8 * index
}

function oneOf(values: readonly number[], then: string): Step[] {
  return values.map((k) => ({ code: IF_EQUAL, k, then }))
}

function socketSteps(call: string): Step[] {
  const [netlink, internet, protocol] = [`${call} netlink`, `${call} internet`, `${call} protocol`]
  return [
    { code: LOAD_WORD, k: argumentAt(0) },
    { code: IF_EQUAL, k: AF_UNIX, then: ALLOWED },
    { code: IF_EQUAL, k: AF_NETLINK, then: netlink },
    ...oneOf([AF_INET, AF_INET6], internet),
    { code: RETURN, k: answer(ENOSYS) },
    { label: netlink },
    { code: LOAD_WORD, k: argumentAt(2) },
    ...oneOf(NETLINK_PROTOCOLS, ALLOWED),
    { code: RETURN, k: answer(ENOSYS) },
    { label: internet },
    { code: LOAD_WORD, k: argumentAt(1) },
    { code: AND, k: SOCK_TYPE_MASK },
    ...oneOf(STREAM_AND_DATAGRAM, protocol),
    // As the kernel answers whoever lacks the capability.
    { code: RETURN, k: answer(EPERM) },
    { label: protocol },
    { code: LOAD_WORD, k: argumentAt(2) },
    ...oneOf(PROTOCOLS, ALLOWED),
    { code: RETURN, k: answer(EPROTONOSUPPORT) },
  ]
}

function assemble(steps: readonly Step[]): FilterInstruction[] {
  const places = new Map<string, number>()
  let length = 0
  for (const step of steps)
    if ('label' in step) places.set(step.label, length)
    else length++
  const distance = (from: number, label: string | undefined) => {
    const to = label === undefined ? from + 1 : places.get(label)
    assert(to !== undefined, `The filter jumps to "${label}", which is nowhere`)
    const jump = to - from - 1
    assert(jump >= 0 && jump < 256, `The filter cannot jump to "${label}" from instruction ${from}`)
    return jump
  }
  return steps
    .flatMap((step) => ('label' in step ? [] : [step]))
    .map((step, at) => ({
      code: step.code,
      jt: 'then' in step ? distance(at, step.then) : 0,
      jf: 'otherwise' in step ? distance(at, step.otherwise) : 0,
      k: step.k,
    }))
}
