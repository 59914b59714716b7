import { closeSync, openSync } from 'node:fs'
import koffi from 'koffi'

const libc = koffi.load('libc.so.6')
const native = {
  setns: libc.func('int setns(int fd, int nstype)'),
  unshare: libc.func('int unshare(int flags)'),
  mount: libc.func(
    'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
  ),
  umount2: libc.func('int umount2(const char *target, int flags)'),
  sethostname: libc.func('int sethostname(const char *name, size_t length)'),
  socket: libc.func('int socket(int domain, int type, int protocol)'),
  send: libc.func('long send(int fd, const uint8_t *buffer, size_t length, int flags)'),
  recv: libc.func('long recv(int fd, _Out_ uint8_t *buffer, size_t length, int flags)'),
  setsockopt: libc.func('int setsockopt(int fd, int level, int name, const uint8_t *value, uint32_t length)'),
}

export const CLONE_NEWUTS = 0x0400_0000
export const CLONE_NEWNET = 0x4000_0000
const MS_BIND = 4096
const MNT_DETACH = 2
export const AF_INET = 2
export const AF_NETLINK = 16
export const SOCK_STREAM = 1
export const SOCK_RAW = 3
const SOCK_CLOEXEC = 0o2_000_000
const SOCK_NONBLOCK = 0o4_000
export const MSG_DONTWAIT = 0x40
export const EAGAIN = 11
export const ENOENT = 2

/** A system call that the kernel refused; `code` as Node's own errors have it. */
export class SyscallError extends Error {
  readonly errno: number
  readonly code: string
  constructor(what: string, errno: number) {
    const code = errnoName(errno)
    super(`${what}: ${code}`)
    this.errno = errno
    this.code = code
  }
}

export function errnoName(errno: number): string {
  return Object.entries(koffi.os.errno).find(([, value]) => value === errno)?.[0] ?? `errno ${errno}`
}

function check(result: unknown, what: string): number {
  if (typeof result === 'number' && result >= 0) return result
  throw new SyscallError(what, koffi.errno())
}

export function bindMount(source: string, target: string): void {
  check(native.mount(source, target, null, MS_BIND, null), `Cannot bind "${source}" to "${target}"`)
}

/** Takes away what is mounted on `path`, every layer; does nothing when nothing is. */
export function unmountAll(path: string): void {
  for (let i = 0; i < 16; i++) {
    if (native.umount2(path, MNT_DETACH) === 0) continue
    const errno = koffi.errno()
    // EINVAL: not a mount point.
    if (errno === ENOENT || errno === koffi.os.errno['EINVAL']) return
    throw new SyscallError(`Cannot unmount "${path}"`, errno)
  }
}

export function openSocket(
  domain: number,
  type: number,
  protocol: number,
  { nonBlocking = false } = {},
): number {
  const flags = SOCK_CLOEXEC | (nonBlocking ? SOCK_NONBLOCK : 0)
  return check(native.socket(domain, type | flags, protocol), 'Cannot open a socket')
}

export function sendAll(fd: number, message: Buffer): void {
  check(native.send(fd, message, message.length, 0), `Cannot send ${message.length} bytes to the kernel`)
}

/** Returns undefined when `flags` has MSG_DONTWAIT and nothing is there. */
export function receive(fd: number, buffer: Buffer, flags: number): number | undefined {
  const result: unknown = native.recv(fd, buffer, buffer.length, flags)
  if (typeof result === 'number' && result >= 0) return result
  const errno = koffi.errno()
  if (errno === EAGAIN) return undefined
  throw new SyscallError('Cannot receive from the kernel', errno)
}

export function setSocketOption(fd: number, level: number, name: number, value: number): void {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32LE(value)
  check(
    native.setsockopt(fd, level, name, bytes, 4),
    `Cannot set the socket option ${name} of level ${level}`,
  )
}

export function setHostname(name: string): void {
  check(native.sethostname(name, Buffer.byteLength(name)), `Cannot set the host name "${name}"`)
}

const KINDS = { net: CLONE_NEWNET, uts: CLONE_NEWUTS } as const

/**
 * Runs `work` with this thread inside the namespace that `path` pins. Namespaces belong to threads (setns(2)) and
 * JavaScript has one, so nothing else can run in between: `work` must not return a promise. Should the way back fail,
 * the process ends, because everything after it would happen in a stranger's namespace.
 */
export function inNamespace<T>(
  kind: keyof typeof KINDS,
  path: string,
  work: () => T extends Promise<unknown> ? never : T,
): T {
  const home = openSync(`/proc/thread-self/ns/${kind}`, 'r')
  try {
    const fd = openSync(path, 'r')
    try {
      check(native.setns(fd, KINDS[kind]), `Cannot enter the namespace "${path}"`)
    } finally {
      closeSync(fd)
    }
    return returning(home, kind, work)
  } finally {
    closeSync(home)
  }
}

/** Makes a new network namespace, runs `work` in it, and comes back. `work` must pin it, or it is gone. */
export function inNewNetworkNamespace<T>(work: () => T extends Promise<unknown> ? never : T): T {
  const home = openSync('/proc/thread-self/ns/net', 'r')
  try {
    check(native.unshare(CLONE_NEWNET), 'Cannot make a network namespace')
    return returning(home, 'net', work)
  } finally {
    closeSync(home)
  }
}

function returning<T>(home: number, kind: keyof typeof KINDS, work: () => T): T {
  try {
    return work()
  } finally {
    if (native.setns(home, KINDS[kind]) !== 0) {
      process.stderr.write(`Cannot return from a ${kind} namespace: ${errnoName(koffi.errno())}\n`)
      process.abort()
    }
  }
}
