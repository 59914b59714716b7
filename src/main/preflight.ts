import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import type { Layout } from '../api/index.ts'
import { ensureDirectory, type Lock, tryLock } from '../engine/local/index.ts'

/** @throws when this process cannot change the machine. */
export function requireRoot(what: string): void {
  if (process.getuid?.() !== 0)
    throw new Error(
      `${what} needs root, because it makes namespaces, mounts and rules of the network (try sudo)`,
    )
}

/** Where the daemons look, whatever the PATH of whoever starts us says. */
const BINARIES = ['/usr/sbin', '/usr/bin', '/sbin', '/bin']

/** What this machine lacks, in words that say what to do. Empty when the platform can run here. */
export function missingOnThisMachine(binaries: readonly string[] = BINARIES): string[] {
  const missing: string[] = []
  const has = (path: string, words: RegExp) => existsSync(path) && words.test(readFileSync(path, 'utf8'))
  if (process.platform !== 'linux') return ['Linux']
  if (!has('/proc/filesystems', /\boverlay$/m)) missing.push('overlayfs in the kernel (modprobe overlay)')
  if (!has('/proc/self/status', /^Seccomp:/m)) missing.push('seccomp in the kernel')
  if (!has('/proc/sys/user/max_user_namespaces', /^[1-9]/))
    missing.push('user namespaces (sysctl user.max_user_namespaces is 0 or absent)')
  if (!existsSync('/sys/fs/cgroup')) missing.push('cgroups (mount them at /sys/fs/cgroup)')
  const installed = (program: string) => binaries.some((dir) => existsSync(join(dir, program)))
  for (const [program, pack] of [
    ['conmon', 'conmon'],
    ['nft', 'nftables'],
    ['ip', 'iproute2'],
    ['mkfs.ext4', 'e2fsprogs'],
    ['setpriv', 'util-linux'],
    ['nsenter', 'util-linux'],
    ['useradd', 'passwd'],
  ] as const)
    if (!installed(program)) missing.push(`the program "${program}" (apt-get install ${pack})`)
  if (!installed('crun') && !installed('runc')) missing.push('crun or runc (apt-get install crun)')
  return missing
}

/** @throws with one sentence that names everything this machine lacks. */
export function requireMachine(binaries = BINARIES): void {
  const missing = missingOnThisMachine(binaries)
  if (missing.length > 0)
    throw new Error(`The platform cannot run here: this machine lacks ${missing.join(', ')}`)
}

/** @throws when clients could not reach the gateway where the layout says. Requires: the gateway does not run. */
export async function requirePort({ gatewayAddress, gatewayPort }: Layout): Promise<void> {
  const server = createServer()
  const outcome = Promise.withResolvers<string | undefined>()
  server.once('error', ({ code, message }: NodeJS.ErrnoException) => outcome.resolve(code ?? message))
  server.listen({ host: gatewayAddress, port: gatewayPort, exclusive: true }, () =>
    outcome.resolve(undefined),
  )
  const code = await outcome.promise
  await new Promise((resolve) => server.close(resolve))
  if (code === 'EADDRINUSE')
    throw new Error(
      `Port ${gatewayPort} of ${gatewayAddress} is taken by another program; stop it ("ss -ltnp" names it) or set BULKHEAD_PORT`,
    )
  if (code !== undefined)
    throw new Error(
      `Cannot listen on port ${gatewayPort} of ${gatewayAddress} (${code}); set BULKHEAD_ADDRESS and BULKHEAD_PORT to what this machine has`,
    )
}

/** Whose state it is: its files belong to the users of one instance and slot, and would be nobody's under another. */
function ownerOf({ instance, podUidBase }: Layout): string {
  return `instance ${instance}, ids from ${podUidBase}`
}

const ownerFile = (layout: Layout) => join(layout.stateDir, 'owner')

/** @throws when the state directory is that of another platform. */
export function requireOwnState(layout: Layout): void {
  if (!existsSync(ownerFile(layout))) return
  const owner = readFileSync(ownerFile(layout), 'utf8')
  if (owner !== ownerOf(layout))
    throw new Error(
      `"${layout.stateDir}" holds another platform (${owner}), and this is ${ownerOf(layout)}; set BULKHEAD_STATE_DIR to another directory`,
    )
}

/**
 * Makes the state directory this instance's, for as long as this process lives.
 * @throws when it is another's, or when another agent works in it.
 */
export function claimState(layout: Layout): void {
  ensureDirectory(layout.stateDir, { mode: 0o711 })
  requireOwnState(layout)
  const lock = tryLock(join(layout.stateDir, 'agent.lock'), `process ${process.pid}`)
  if ('heldBy' in lock) throw new Error(`Another node agent (${lock.heldBy}) works in "${layout.stateDir}"`)
  writeFileSync(ownerFile(layout), ownerOf(layout), { mode: 0o600 })
}

/**
 * Lets no second command change the platform at the same time. The state directory must exist.
 * @throws when one does already.
 */
export function lockCommand(layout: Layout, what: string): Lock {
  const lock = tryLock(join(layout.stateDir, 'command.lock'), `"bulkhead ${what}", process ${process.pid}`)
  if ('heldBy' in lock)
    throw new Error(`Another command (${lock.heldBy}) works on this platform; wait until it is done`)
  return lock
}
