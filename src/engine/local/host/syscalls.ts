import koffi from 'koffi'

/**
 * The system calls that Node has no function for. They run on the main thread and return at once; none of them may
 * wait for anything. Numbers are those of asm-generic, which x86-64 and arm64 share from 424 on.
 */
const libc = koffi.load('libc.so.6')

const SYS_OPEN_TREE = 428
const SYS_MOVE_MOUNT = 429
const SYS_PIDFD_SEND_SIGNAL = 424
const SYS_PIDFD_OPEN = 434
const SYS_OPENAT2 = 437
const SYS_MOUNT_SETATTR = 442

const AT_FDCWD = -100
const AT_EMPTY_PATH = 0x1000
const AT_SYMLINK_NOFOLLOW = 0x100
const OPEN_TREE_CLONE = 1
const O_CLOEXEC = 0o2000000
const MOVE_MOUNT_F_EMPTY_PATH = 4
const MOUNT_ATTR_NOSUID = 2
const MOUNT_ATTR_NODEV = 4
const MOUNT_ATTR_IDMAP = 0x0010_0000

export const MS_RDONLY = 1
export const MS_NOSUID = 2
export const MS_NODEV = 4
export const MS_NOEXEC = 8
export const MS_BIND = 4_096
export const MS_REC = 16_384
export const MS_PRIVATE = 1 << 18
export const MS_SHARED = 1 << 20
const MNT_DETACH = 2
const UMOUNT_NOFOLLOW = 8

/** Node knows the other flags, some of which differ between architectures. */
export const O_PATH = 0o10000000
export const RESOLVE_NO_XDEV = 0x01
export const RESOLVE_NO_MAGICLINKS = 0x02
export const RESOLVE_IN_ROOT = 0x10

const raw = {
  mount: libc.func(
    'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
  ),
  umount2: libc.func('int umount2(const char *target, int flags)'),
  mkdirat: libc.func('int mkdirat(int dir, const char *path, uint32_t mode)'),
  fchownat: libc.func('int fchownat(int dir, const char *path, uint32_t uid, uint32_t gid, int flags)'),
  ioctl: libc.func('int ioctl(int fd, unsigned long request, uint64_t argument)'),
  ioctlBuffer: libc.func('int ioctl(int fd, unsigned long request, _Inout_ uint8_t *argument)'),
  socket: libc.func('int socket(int family, int type, int protocol)'),
  connect: libc.func('int connect(int fd, const uint8_t *address, uint32_t length)'),
  send: libc.func('intptr_t send(int fd, const uint8_t *data, size_t length, int flags)'),
  recv: libc.func('intptr_t recv(int fd, _Out_ uint8_t *data, size_t length, int flags)'),
  setpriority: libc.func('int setpriority(int which, uint32_t who, int value)'),
  pipe2: libc.func('int pipe2(_Out_ int *ends, int flags)'),
  recvmsg: libc.func('intptr_t recvmsg(int fd, _Inout_ uint8_t *message, int flags)'),
  shutdown: libc.func('int shutdown(int fd, int how)'),
  openTree: libc.func('syscall', 'long', ['long', 'int', 'const char *', 'uint32_t']),
  moveMount: libc.func('syscall', 'long', ['long', 'int', 'const char *', 'int', 'const char *', 'uint32_t']),
  mountSetattr: libc.func('syscall', 'long', [
    'long',
    'int',
    'const char *',
    'uint32_t',
    'const uint8_t *',
    'size_t',
  ]),
  openat2: libc.func('syscall', 'long', ['long', 'int', 'const char *', 'const uint8_t *', 'size_t']),
  pidfdOpen: libc.func('syscall', 'long', ['long', 'int', 'uint32_t']),
  pidfdSendSignal: libc.func('syscall', 'long', ['long', 'int', 'int', 'void *', 'uint32_t']),
}

/** What a system call said: `code` is the errno's name, as in Node's own errors. */
export class SyscallError extends Error {
  readonly code: string
  constructor(what: string, errno: number) {
    const code = Object.entries(koffi.os.errno).find(([, value]) => value === errno)?.[0] ?? `errno ${errno}`
    super(`${what}: ${code}`)
    this.name = 'SyscallError'
    this.code = code
  }
}

function check(result: unknown, what: () => string): number {
  const value = Number(result)
  if (value < 0) throw new SyscallError(what(), koffi.errno())
  return value
}

export function mount(
  source: string,
  target: string,
  type: string | null,
  flags: number,
  data: string | null,
): void {
  check(
    raw.mount(source, target, type, flags, data),
    () => `Cannot mount ${type ?? 'a bind'} "${source}" at "${target}"`,
  )
}

/** Takes the mount out of the tree at once, even if something still uses it; the last user frees it. */
export function umount(target: string): void {
  check(raw.umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW), () => `Cannot unmount "${target}"`)
}

/**
 * Mounts a copy of the tree at `source` (a path, or an open descriptor) at `target`: its ids shifted by a user
 * namespace, or without set-id programs and devices. It has these properties from the moment it can be seen.
 */
export function mountTree({
  source,
  target,
  usernsFd,
  harmless = false,
}: {
  source: string | number
  target: string
  usernsFd?: number
  harmless?: boolean
}): void {
  const [dir, path, flags] = typeof source === 'number' ? [source, '', AT_EMPTY_PATH] : [AT_FDCWD, source, 0]
  const tree = check(
    raw.openTree(SYS_OPEN_TREE, dir, path, OPEN_TREE_CLONE | O_CLOEXEC | flags),
    () => `Cannot clone the mount of "${source}"`,
  )
  try {
    if (usernsFd !== undefined || harmless) {
      const attributes = Buffer.alloc(32)
      const set =
        (usernsFd === undefined ? 0 : MOUNT_ATTR_IDMAP) |
        (harmless ? MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV : 0)
      attributes.writeBigUInt64LE(BigInt(set), 0)
      attributes.writeBigUInt64LE(BigInt(usernsFd ?? 0), 24)
      check(
        raw.mountSetattr(SYS_MOUNT_SETATTR, tree, '', AT_EMPTY_PATH, attributes, attributes.length),
        () =>
          `Cannot shift the ids of "${source}" (needs Linux 5.19 and a file system that supports idmapped mounts)`,
      )
    }
    check(
      raw.moveMount(SYS_MOVE_MOUNT, tree, '', AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH),
      () => `Cannot mount "${source}" at "${target}"`,
    )
  } finally {
    closeFd(tree)
  }
}

/** openat2(2): opens `path` below the directory `dir` under the rules of `resolve`. Afterwards: close it. */
export function openat2(dir: number, path: string, flags: number, resolve: number): number {
  const how = Buffer.alloc(24)
  how.writeBigUInt64LE(BigInt(flags | O_CLOEXEC), 0)
  how.writeBigUInt64LE(BigInt(resolve), 16)
  return check(
    raw.openat2(SYS_OPENAT2, dir, path, how, how.length),
    () => `Cannot open ${JSON.stringify(path)}`,
  )
}

export function mkdirAt(dir: number, name: string, mode: number, owner: { uid: number; gid: number }): void {
  check(raw.mkdirat(dir, name, mode), () => `Cannot make the directory ${JSON.stringify(name)}`)
  check(
    raw.fchownat(dir, name, owner.uid, owner.gid, AT_SYMLINK_NOFOLLOW),
    () => `Cannot give away the directory ${JSON.stringify(name)}`,
  )
}

/** A descriptor that stays with this very process, whoever gets its pid later. Undefined when there is none. */
export function pidfdOpen(pid: number): number | undefined {
  const fd = Number(raw.pidfdOpen(SYS_PIDFD_OPEN, pid, 0))
  return fd < 0 ? undefined : fd
}

/** Returns false when the process has ended. */
export function pidfdSendSignal(pidfd: number, signal: number): boolean {
  return Number(raw.pidfdSendSignal(SYS_PIDFD_SEND_SIGNAL, pidfd, signal, null, 0)) === 0
}

const AF_UNIX = 1
const SOCK_SEQPACKET = 5
const SOCK_NONBLOCK = 0o4000
const SOCK_CLOEXEC = 0o2000000
const MSG_DONTWAIT = 0x40
const MSG_NOSIGNAL = 0x4000
const SHUT_WR = 1

/** Connects to a packet socket that conmon listens on. Node's own sockets are streams only. */
export function connectPackets(path: string): number {
  const name = Buffer.from(path)
  if (name.length > 107) throw new Error(`The socket path "${path}" is longer than 107 bytes`)
  const address = Buffer.alloc(2 + name.length + 1)
  address.writeUInt16LE(AF_UNIX, 0)
  name.copy(address, 2)
  const fd = check(
    raw.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
    () => 'Cannot make a socket',
  )
  try {
    check(raw.connect(fd, address, address.length), () => `Cannot connect to "${path}"`)
    return fd
  } catch (error) {
    closeFd(fd)
    throw error
  }
}

/** Sends one packet; false when the other side is not ready to take it. */
export function sendPacket(fd: number, packet: Buffer): boolean {
  const sent = Number(raw.send(fd, packet, packet.length, MSG_DONTWAIT | MSG_NOSIGNAL))
  if (sent >= 0) return true
  if (koffi.errno() === koffi.os.errno['EAGAIN']) return false
  throw new SyscallError('Cannot send to the container', koffi.errno())
}

/** Takes one packet; undefined when there is none yet, an empty one at the end. */
export function receivePacket(fd: number, into: Buffer): Buffer | undefined {
  const length = Number(raw.recv(fd, into, into.length, MSG_DONTWAIT))
  if (length >= 0) return into.subarray(0, length)
  const errno = koffi.errno()
  if (errno === koffi.os.errno['EAGAIN']) return undefined
  if (errno === koffi.os.errno['ECONNRESET']) return into.subarray(0, 0)
  throw new SyscallError('Cannot receive from the container', errno)
}

const MSG_CMSG_CLOEXEC = 0x4000_0000
const SOL_SOCKET = 1
const SCM_RIGHTS = 1
/** Large enough that the memory is outside the collector's reach and stays where it is. */
const FIXED_BYTES = 512

/**
 * Takes one open file that the peer of a unix socket passes on (unix(7), SCM_RIGHTS). Undefined when there is none yet.
 * Afterwards: close it.
 */
export function receiveDescriptor(socketFd: number): number | undefined {
  // struct iovec, then the bytes it points to.
  const data = Buffer.alloc(FIXED_BYTES)
  data.writeBigUInt64LE(koffi.address(data) + 16n, 0)
  data.writeBigUInt64LE(256n, 8)
  const control = Buffer.alloc(FIXED_BYTES)
  const message = Buffer.alloc(FIXED_BYTES)
  message.writeBigUInt64LE(koffi.address(data), 16)
  message.writeBigUInt64LE(1n, 24)
  message.writeBigUInt64LE(koffi.address(control), 32)
  // struct cmsghdr and exactly one descriptor: the kernel closes any more.
  message.writeBigUInt64LE(24n, 40)
  const result = Number(raw.recvmsg(socketFd, message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC))
  if (result < 0) {
    if (koffi.errno() === koffi.os.errno['EAGAIN']) return undefined
    throw new SyscallError('Cannot receive a descriptor', koffi.errno())
  }
  if (result === 0) throw new Error('The other side closed before it passed a descriptor')
  const passed =
    message.readBigUInt64LE(40) >= 20n &&
    control.readBigUInt64LE(0) >= 20n &&
    control.readInt32LE(8) === SOL_SOCKET &&
    control.readInt32LE(12) === SCM_RIGHTS
  return passed ? control.readInt32LE(16) : undefined
}

/** Tells the other side that nothing more will be sent. */
export function shutdownWrite(fd: number): void {
  raw.shutdown(fd, SHUT_WR)
}

/** Both ends of a pipe, neither inherited by accident. Afterwards: close both. */
export function pipe(): { read: number; write: number } {
  const ends = new Int32Array(2)
  check(raw.pipe2(ends, O_CLOEXEC), () => 'Cannot make a pipe')
  return { read: ends[0] ?? -1, write: ends[1] ?? -1 }
}

/** ioctl(2) with a structure that the kernel reads and answers in. */
export function ioctl(fd: number, request: number, argument: Buffer, what: string): void {
  check(raw.ioctlBuffer(fd, request, argument), () => what)
}

/** ioctl(2) with a plain number, which answers with one. */
export function ioctlNumber(fd: number, request: number, argument: number, what: string): number {
  return check(raw.ioctl(fd, request, argument), () => what)
}

const TIOCSPTLCK = 0x4004_5431
const TIOCGPTPEER = 0x5441
const TIOCSWINSZ = 0x5414
const O_RDWR_NOCTTY = 0o2 | 0o400

/** Unlocks a fresh /dev/ptmx and opens its other end. Afterwards: close it. */
export function openTerminalPeer(master: number): number {
  check(raw.ioctlBuffer(master, TIOCSPTLCK, Buffer.alloc(4)), () => 'Cannot unlock a terminal')
  return check(raw.ioctl(master, TIOCGPTPEER, O_RDWR_NOCTTY | O_CLOEXEC), () => 'Cannot open a terminal')
}

export function resizeTerminal(fd: number, { rows, columns }: { rows: number; columns: number }): void {
  const size = Buffer.alloc(8)
  size.writeUInt16LE(rows, 0)
  size.writeUInt16LE(columns, 2)
  check(raw.ioctlBuffer(fd, TIOCSWINSZ, size), () => 'Cannot resize a terminal')
}

const close = libc.func('int close(int fd)')
export function closeFd(fd: number): void {
  close(fd)
}

const PRIO_USER = 2

/** Of every task of a user of the machine; nothing when there is none (setpriority(2)). */
export function setNiceOfUser(uid: number, nice: number): void {
  if (Number(raw.setpriority(PRIO_USER, uid, nice)) < 0 && koffi.errno() !== koffi.os.errno['ESRCH'])
    throw new SyscallError(`Cannot set the priority of uid ${uid}`, koffi.errno())
}
