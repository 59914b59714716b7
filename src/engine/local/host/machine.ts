import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  openSync,
  fstatSync,
  fchownSync,
  constants,
  closeSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statfsSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { DAEMON_USERS, IDS_PER_TENANT, type Layout } from '../../../api/index.ts'

/** Of open(2); Node has no name for it. */
const O_PATH = 0o10_000_000
/** statfs(2): the magic number of tmpfs. */
const TMPFS_MAGIC = 0x01021994
const RUN_DIR_BYTES_MAX = '4g'

export type LinuxUser = { name: string; uid: number; gid: number }
export type DaemonUsers = Record<keyof typeof DAEMON_USERS, LinuxUser>

/** Two platforms that start at the same moment must not both write /etc/passwd: useradd(8) gives up, it does not wait. */
const USERS_LOCK = '/run/lock/bulkhead-users'
const ADD_USER =
  'getent passwd "$1" >/dev/null || useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$1"'
const REMOVE_USER = 'if getent passwd "$1" >/dev/null; then userdel "$1"; fi'

/** The Linux users of the daemons: system users without home, shell or password. Made when absent. */
export function ensureDaemonUsers(): DaemonUsers {
  const users = Object.entries(DAEMON_USERS).map(([role, name]) => {
    if (!findUser(name)) underUsersLock(ADD_USER, name)
    const user = findUser(name)
    if (!user) throw new Error(`Cannot make the Linux user "${name}"`)
    return [role, user]
  })
  return Object.fromEntries(users) as DaemonUsers // one entry per key of DAEMON_USERS
}

/** Requires: no process of theirs runs and no file of theirs matters any more. */
export function removeDaemonUsers(): void {
  for (const name of Object.values(DAEMON_USERS)) underUsersLock(REMOVE_USER, name)
}

/** Runs one of our own two scripts with one of our own names as its argument. */
function underUsersLock(script: string, name: string): void {
  mkdirSync(dirname(USERS_LOCK), { recursive: true })
  execFileSync('flock', [USERS_LOCK, 'sh', '-c', script, 'sh', name], { stdio: ['ignore', 'ignore', 'pipe'] })
}

function findUser(name: string): LinuxUser | undefined {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith(`${name}:`))
  const [, , uid, gid] = line?.split(':') ?? []
  return uid === undefined || gid === undefined ? undefined : { name, uid: Number(uid), gid: Number(gid) }
}

/**
 * The run directory lives in memory, because jails with their secrets are kept in it, and is a private mount, because
 * namespaces are pinned below it.
 */
export function ensureRunDir(layout: Layout): void {
  mkdirSync(layout.runDir, { recursive: true, mode: 0o755 })
  if (isMountPoint(layout.runDir)) {
    if (statfsSync(layout.runDir).type !== TMPFS_MAGIC)
      throw new Error(
        `"${layout.runDir}" is a mount that is not tmpfs; secrets of pods must not reach a disk`,
      )
    return
  }
  execFileSync('mount', [
    '-t',
    'tmpfs',
    '-o',
    `mode=0755,nosuid,nodev,size=${RUN_DIR_BYTES_MAX}`,
    `bulkhead-${layout.instance}`,
    layout.runDir,
  ])
  execFileSync('mount', ['--make-private', layout.runDir])
}

/** Requires: nothing runs or is mounted below it any more. */
export function removeRunDir(layout: Layout): void {
  while (existsSync(layout.runDir) && isMountPoint(layout.runDir)) execFileSync('umount', [layout.runDir])
  if (existsSync(layout.runDir)) rmdirSync(layout.runDir)
}

/**
 * Whether something is mounted exactly there: what is then belongs to another mount than the directory that it is in. The
 * list of all mounts would say so too, and is longer the more pods there are. See proc_pid_fdinfo(5).
 */
export function isMountPoint(path: string): boolean {
  const own = mountOf(path)
  return own !== undefined && own !== mountOf(dirname(path))
}

/** The number of the mount that a path is in; undefined when there is no such path. */
function mountOf(path: string): string | undefined {
  let fd: number
  try {
    fd = openSync(path, O_PATH | constants.O_NOFOLLOW)
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined
    throw error
  }
  try {
    const id = /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1]
    if (id === undefined) throw new Error(`The kernel does not say which mount "${path}" is in`)
    return id
  } finally {
    closeSync(fd)
  }
}

/** Makes a directory belong to exactly this owner, with exactly this mode. Parents are made for root, traversable. */
export function ensureDirectory(
  path: string,
  { uid = 0, gid = 0, mode }: { uid?: number; gid?: number; mode: number },
): void {
  if (!existsSync(dirname(path))) ensureDirectory(dirname(path), { mode: 0o711 })
  mkdirSync(path, { recursive: true, mode: 0o700 })
  chownSync(path, uid, gid)
  chmodSync(path, mode)
}

/**
 * Gives the files in a directory to its new owner. Links stay as they are, symbolic ones and files with a second name,
 * so that nothing outside can be given away, also while the old owner still changes the directory.
 */
export function giveFilesTo(directory: string, { uid, gid }: { uid: number; gid: number }): void {
  for (const entry of readdirSync(directory, { withFileTypes: true }))
    if (entry.isFile()) giveFileTo(join(directory, entry.name), { uid, gid })
}

function giveFileTo(path: string, { uid, gid }: { uid: number; gid: number }): void {
  let fd: number
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    // Removed since we looked, or a link now.
    if (['ENOENT', 'ELOOP', 'ENXIO'].includes((error as NodeJS.ErrnoException).code ?? '')) return
    throw error
  }
  try {
    const stat = fstatSync(fd)
    if (stat.isFile() && stat.nlink === 1) fchownSync(fd, uid, gid)
  } finally {
    closeSync(fd)
  }
}

/** Ranges of uids that no user, group or subordinate id range of this machine uses. */
export function assertIdsAreFree(layout: Layout): void {
  const { podUidBase, namespaceOwnerUidBase, tenantsMax } = layout
  assertRangeIsFree(podUidBase, podUidBase + tenantsMax * IDS_PER_TENANT, 'that pods use')
  assertRangeIsFree(namespaceOwnerUidBase, namespaceOwnerUidBase + tenantsMax, "that own pods' namespaces")
}

function assertRangeIsFree(first: number, end: number, whose: string): void {
  const overlaps = (from: number, to: number) => from < end && to > first
  for (const file of ['/etc/passwd', '/etc/group']) {
    for (const line of readFileSync(file, 'utf8').split('\n')) {
      const [name, , id] = line.split(':')
      if (id !== undefined && overlaps(Number(id), Number(id) + 1))
        throw new Error(`"${name}" in ${file} has the id ${id}, inside the range from ${first} ${whose}`)
    }
  }
  for (const file of ['/etc/subuid', '/etc/subgid']) {
    if (!existsSync(file)) continue
    for (const line of readFileSync(file, 'utf8').split('\n')) {
      const [name, from, count] = line.split(':')
      if (count !== undefined && overlaps(Number(from), Number(from) + Number(count)))
        throw new Error(`"${name}" has ids from ${from} in ${file}, inside the range from ${first} ${whose}`)
    }
  }
}

export function stateDirectories(layout: Layout, users: DaemonUsers): void {
  ensureDirectory(layout.stateDir, { mode: 0o711 })
  for (const dir of ['tenants', 'images', 'pki', 'audit'])
    ensureDirectory(join(layout.stateDir, dir), { mode: 0o711 })
  for (const dir of ['keys', 'logs', 'volumes']) ensureDirectory(join(layout.stateDir, dir), { mode: 0o700 })
  ensureDirectory(join(layout.stateDir, 'images/blobs'), { ...users.images, mode: 0o700 })
  ensureDirectory(join(layout.stateDir, 'audit/gateway'), { ...users.gateway, mode: 0o700 })
  ensureDirectory(join(layout.stateDir, 'audit/pod-gateway'), { ...users.podGateway, mode: 0o700 })
  ensureDirectory(join(layout.stateDir, 'access'), { ...users.ingress, mode: 0o700 })
  ensureDirectory(join(layout.stateDir, 'platform'), { ...users.platform, mode: 0o700 })
  for (const dir of ['node', 'cp', 'worker', 'pods'])
    ensureDirectory(join(layout.runDir, dir), { mode: 0o711 })
  ensureDirectory(join(layout.runDir, 'daemons'), { mode: 0o700 })
  ensureDirectory(join(layout.runDir, 'images'), { ...users.images, mode: 0o700 })
  ensureDirectory(join(layout.runDir, 'dns'), { ...users.dns, mode: 0o700 })
  ensureDirectory(join(layout.runDir, 'ingress'), { ...users.ingress, mode: 0o700 })
  ensureDirectory(join(layout.runDir, 'connector'), { ...users.connector, mode: 0o711 })
  // Sockets in it take the directory's group, so they are the front door's to connect to and nobody else's.
  ensureDirectory(join(layout.runDir, 'connector/to'), {
    uid: users.connector.uid,
    gid: users.ingress.gid,
    mode: 0o2750,
  })
  ensureDirectory(join(layout.runDir, 'prober'), { ...users.prober, mode: 0o700 })
  ensureDirectory(join(layout.runDir, 'forwarder'), { ...users.forwarder, mode: 0o700 })
}
