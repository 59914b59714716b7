import { spawn } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { join } from 'node:path'
import { type Call, renderCallsProgram } from '../tiny-program.ts'
import { HELPER_TIMEOUT_MS } from './limits.ts'
import { bindMount, unmountAll } from './syscalls.ts'
import { withDeadline } from '../../../../stdx/index.ts'

export const PINNED = ['user', 'net', 'ipc', 'uts'] as const

const RLIMIT_NPROC = 6
const PR_SET_KEEPCAPS = 8
const PR_SET_DUMPABLE = 4
const CAPABILITY_VERSION_3 = 0x2008_0522
const CAP_SYS_ADMIN = 21
const CLONE_NEWUTS = 0x0400_0000
const CLONE_NEWIPC = 0x0800_0000
const CLONE_NEWUSER = 0x1000_0000
const CLONE_NEWNET = 0x4000_0000
const AT_FDCWD = -100
const O_WRONLY = 1
const ALL_DESCRIPTORS = 0xffff_ffff
const FIRST_FREE_DESCRIPTOR = 3
/** What the program reads first: struct rlimit64, and the user that it becomes. */
const ORDER_BYTES = 20
const USER_AT = 16

/**
 * Becomes the owner and makes the namespaces; then says so, and waits until nobody holds the other end of its input. As
 * short as it is because it stands in the way of every pod: the usual tools take five programs for it.
 */
export const HOLD_NAMESPACES: readonly Call[] = [
  { name: 'close_range', args: [FIRST_FREE_DESCRIPTOR, ALL_DESCRIPTORS, 0], gives: 0 },
  { name: 'read', args: [0, { at: 0 }, ORDER_BYTES], gives: ORDER_BYTES },
  { name: 'prlimit64', args: [0, RLIMIT_NPROC, { at: 0 }, 0], gives: 0 },
  { name: 'setgroups', args: [0, 0], gives: 0 },
  { name: 'setresgid', args: [{ in: USER_AT }, { in: USER_AT }, { in: USER_AT }], gives: 0 },
  // Some machines let nobody without CAP_SYS_ADMIN make user namespaces.
  { name: 'prctl', args: [PR_SET_KEEPCAPS, 1, 0, 0, 0], gives: 0 },
  { name: 'setresuid', args: [{ in: USER_AT }, { in: USER_AT }, { in: USER_AT }], gives: 0 },
  {
    name: 'capset',
    // Effective, permitted and inheritable ones from 0 to 31, then the same of those above.
    args: [numbers(CAPABILITY_VERSION_3, 0), numbers(1 << CAP_SYS_ADMIN, 1 << CAP_SYS_ADMIN, 0, 0, 0, 0)],
    gives: 0,
  },
  { name: 'unshare', args: [CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS], gives: 0 },
  /**
   * Nobody in the pod can make another user namespace, or another of these in one: the kernel counts them per user
   * namespace (namespaces(7), /proc/sys/user). The system call filter refuses it before; this holds without it.
   */
  ...PINNED.flatMap((kind): Call[] => [
    {
      name: 'openat',
      args: [AT_FDCWD, Buffer.from(`/proc/sys/user/max_${kind}_namespaces\0`), O_WRONLY, 0],
      gives: FIRST_FREE_DESCRIPTOR,
    },
    { name: 'write', args: [FIRST_FREE_DESCRIPTOR, Buffer.from('0'), 1], gives: 1 },
    { name: 'close', args: [FIRST_FREE_DESCRIPTOR], gives: 0 },
  ]),
  // Who becomes another user belongs to root until then, which not every machine's root can look into.
  { name: 'prctl', args: [PR_SET_DUMPABLE, 1, 0, 0, 0], gives: 0 },
  { name: 'write', args: [1, Buffer.from('\n'), 1], gives: 1 },
  { name: 'read', args: [0, { at: 0 }, 1], gives: 0 },
]

/** Writes the program that holds namespaces while they are made, and says where it is. Safe to repeat. */
export function ensureHolder(directory: string): string {
  const program = join(directory, 'hold-namespaces')
  const { arch } = process
  if (arch !== 'x64' && arch !== 'arm64')
    throw new Error(`There are no programs for the architecture "${arch}"`)
  // Replaced and not rewritten: a program that somebody runs cannot be written.
  writeFileSync(`${program}.next`, renderCallsProgram(arch, HOLD_NAMESPACES), { mode: 0o700 })
  renameSync(`${program}.next`, program)
  return program
}

/**
 * Makes the four namespaces of a pod, owned by a user namespace with the uids from `uidBase`, and pins each as a file
 * in `dir`. A process with threads cannot make user namespaces for itself (unshare(2)), so a short-lived one does.
 *
 * It runs as `owner.uid`, which is the tenant's alone: the kernel counts tasks, inotify instances, message queues and the
 * like of everybody in a user namespace for whoever made it too, and holds them together to what that one might have at
 * that moment (user_namespaces(7), ucounts in kernel/ucount.c). Made by root, they would share root's counts with all others.
 */
export async function pinNamespaces(
  holder: string,
  dir: string,
  { uidBase, idsCount, owner }: { uidBase: number; idsCount: number; owner: NamespaceOwner },
): Promise<void> {
  const order = Buffer.alloc(ORDER_BYTES)
  order.writeBigUInt64LE(BigInt(owner.tasksMax), 0)
  order.writeBigUInt64LE(BigInt(owner.tasksMax), 8)
  order.writeUInt32LE(owner.uid, USER_AT)
  // It ends with our end of the pipe, so nothing stays behind should we be killed now.
  const helper = spawn(holder, [], { stdio: ['pipe', 'pipe', 'ignore'], env: {} })
  try {
    await withDeadline('Making namespaces', HELPER_TIMEOUT_MS, async (signal) => {
      const exited = once(helper, 'exit', { signal }).then(([code, killedBy]: unknown[]) => {
        const step = HOLD_NAMESPACES[Number(code) - 1]?.name ?? String(killedBy ?? code)
        throw new Error(`Cannot make namespaces: ${step} failed (step ${String(code)})`)
      })
      exited.catch(() => {})
      // Without a process there may be no pipes either.
      if (helper.pid === undefined) return await exited
      helper.stdin.on('error', () => {}) // the exit says it better
      helper.stdin.write(order)
      // What it says is the proof that the namespaces are there.
      await Promise.race([once(helper.stdout, 'data', { signal }), exited])
    })
    const proc = `/proc/${helper.pid}`
    writeFileSync(`${proc}/uid_map`, `0 ${uidBase} ${idsCount}\n`)
    writeFileSync(`${proc}/gid_map`, `0 ${uidBase} ${idsCount}\n`)
    mkdirSync(dir, { recursive: true, mode: 0o700 })
    for (const kind of PINNED) {
      const target = `${dir}/${kind}`
      if (existsSync(target)) unmountAll(target)
      closeSync(openSync(target, 'w', 0o400))
      bindMount(`${proc}/ns/${kind}`, target)
    }
  } finally {
    helper.kill('SIGKILL')
  }
}

/** As the kernel's structs have them. */
function numbers(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4)
  for (const [at, value] of values.entries()) bytes.writeUInt32LE(value >>> 0, at * 4)
  return bytes
}

export type NamespaceOwner = {
  uid: number
  /** Tasks of all namespaces of this owner together. */
  tasksMax: number
}

/** Lets the namespaces go; the kernel removes them with what is in them once no process is left. */
export function unpinNamespaces(dir: string): void {
  if (!existsSync(dir)) return
  for (const kind of PINNED) unmountAll(`${dir}/${kind}`)
  rmSync(dir, { recursive: true, force: true })
}
