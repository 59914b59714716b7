import { spawn } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { HELPER_TIMEOUT_MS } from './limits.ts'
import { bindMount, unmountAll } from './syscalls.ts'
import { withDeadline } from '../../../../stdx/index.ts'

export const PINNED = ['user', 'net', 'ipc', 'uts'] as const

/**
 * Nobody in the pod can make another user namespace, or another of these in one: the kernel counts them per user
 * namespace (namespaces(7), /proc/sys/user). The system call filter refuses it before; this holds without it.
 */
const NO_NESTING = PINNED.map((kind) => `echo 0 >/proc/sys/user/max_${kind}_namespaces`).join('; ')

/**
 * Makes the four namespaces of a pod, owned by a user namespace with the uids from `uidBase`, and pins each as a file
 * in `dir`. A process with threads cannot make user namespaces for itself (unshare(2)), so a short-lived one does.
 *
 * It runs as `owner.uid`, which is the tenant's alone: the kernel counts tasks, inotify instances, message queues and the
 * like of everybody in a user namespace for whoever made it too, and holds them together to what that one might have at
 * that moment (user_namespaces(7), ucounts in kernel/ucount.c). Made by root, they would share root's counts with all others.
 */
export async function pinNamespaces(
  dir: string,
  { uidBase, idsCount, owner }: { uidBase: number; idsCount: number; owner: NamespaceOwner },
): Promise<void> {
  const { uid, tasksMax } = owner
  // `cat` ends with our end of the pipe, so nothing stays behind should we be killed now.
  const helper = spawn(
    'setpriv',
    [
      ...[`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups'],
      // Some machines let nobody without it make user namespaces.
      ...['--inh-caps=+sys_admin', '--ambient-caps=+sys_admin', '--'],
      ...['prlimit', `--nproc=${tasksMax}:${tasksMax}`, '--'],
      ...['unshare', '--user', '--net', '--ipc', '--uts', '--keep-caps'],
      ...['sh', '-ec', `${NO_NESTING}; exec cat`],
    ],
    { stdio: ['pipe', 'pipe', 'pipe'] },
  )
  try {
    await withDeadline('Making namespaces', HELPER_TIMEOUT_MS, async (signal) => {
      const errors: Buffer[] = []
      helper.stderr.on('data', (chunk: Buffer) => errors.push(chunk))
      helper.stdin.on('error', () => {}) // the exit below says it better
      helper.stdin.write('\n')
      // Its echo is the proof that the namespaces are there.
      const exited = once(helper, 'exit', { signal }).then(() => {
        throw new Error(`Cannot make namespaces: ${Buffer.concat(errors).toString('utf8').slice(0, 500)}`)
      })
      exited.catch(() => {})
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
