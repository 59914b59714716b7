import { ContainerError } from './container-error.ts'

/** Everything about a process's identity that the OCI config needs; ids are inside the pod's user namespace. */
export type ResolvedUser = { uid: number; gid: number; additionalGids: readonly number[]; home: string }

export type UserWish = {
  /** `USER` of the image: "", "uid", "uid:gid", "name", "name:group". */
  imageUser: string
  runAsUser?: number | undefined
  runAsGroup?: number | undefined
  runAsNonRoot: boolean
  supplementalGroups: readonly number[]
  fsGroup?: number | undefined
}

const ID_MAX = 65_535
const GROUPS_MAX = 128

type PasswdEntry = { name: string; uid: number; gid: number; home: string }
type GroupEntry = { name: string; gid: number; members: readonly string[] }

/**
 * Decides who a container runs as. `passwd` and `group` are the image's own files, so they are hostile: they can name
 * any user but only within 0 to 65535, all of which belong to the tenant.
 * @throws {ContainerError} CreateContainerConfigError with the kubelet's words.
 */
export function resolveUser(wish: UserWish, passwd: string, group: string): ResolvedUser {
  const users = parsePasswd(passwd)
  const groups = parseGroup(group)
  const [userPart = '', groupPart = ''] = wish.imageUser.split(':', 2)

  let entry: PasswdEntry | undefined
  let uid: number
  if (wish.runAsUser !== undefined) {
    uid = wish.runAsUser
    entry = users.find((u) => u.uid === uid)
  } else {
    const id = parseId(userPart === '' ? '0' : userPart)
    entry = id === undefined ? users.find((u) => u.name === userPart) : users.find((u) => u.uid === id)
    if (id === undefined && !entry)
      throw new ContainerError(
        'CreateContainerError',
        `unable to find user ${clip(userPart)} in the image's /etc/passwd`,
      )
    uid = id ?? entry?.uid ?? 0
  }

  let gid: number
  if (wish.runAsGroup !== undefined) gid = wish.runAsGroup
  else if (wish.runAsUser === undefined && groupPart !== '') {
    const id = parseId(groupPart) ?? groups.find((g) => g.name === groupPart)?.gid
    if (id === undefined)
      throw new ContainerError(
        'CreateContainerError',
        `unable to find group ${clip(groupPart)} in the image's /etc/group`,
      )
    gid = id
  } else gid = entry?.gid ?? 0

  for (const id of [
    uid,
    gid,
    ...wish.supplementalGroups,
    ...(wish.fsGroup === undefined ? [] : [wish.fsGroup]),
  ])
    if (!Number.isInteger(id) || id < 0 || id > ID_MAX)
      throw new ContainerError(
        'CreateContainerConfigError',
        `user or group ${id} is not within 0 to ${ID_MAX}`,
      )
  if (wish.runAsNonRoot && uid === 0)
    throw new ContainerError(
      'CreateContainerConfigError',
      'container has runAsNonRoot and image will run as root',
    )

  const memberOf = entry ? groups.filter((g) => g.members.includes(entry.name)).map((g) => g.gid) : []
  const additional = new Set([
    ...wish.supplementalGroups,
    ...(wish.fsGroup === undefined ? [] : [wish.fsGroup]),
    ...memberOf,
  ])
  additional.delete(gid)
  return {
    uid,
    gid,
    additionalGids: [...additional].slice(0, GROUPS_MAX).sort((a, b) => a - b),
    home: entry && isSafeHome(entry.home) ? entry.home : '/',
  }
}

export function parsePasswd(text: string): PasswdEntry[] {
  return text.split('\n').flatMap((line) => {
    const [name = '', , uidText = '', gidText = '', , home = ''] = line.split(':')
    const uid = parseId(uidText)
    const gid = parseId(gidText)
    return name === '' || uid === undefined || gid === undefined ? [] : [{ name, uid, gid, home }]
  })
}

export function parseGroup(text: string): GroupEntry[] {
  return text.split('\n').flatMap((line) => {
    const [name = '', , gidText = '', members = ''] = line.split(':')
    const gid = parseId(gidText)
    return name === '' || gid === undefined ? [] : [{ name, gid, members: members.split(',') }]
  })
}

function parseId(text: string): number | undefined {
  if (!/^\d{1,5}$/.test(text)) return undefined
  const id = Number(text)
  return id <= ID_MAX ? id : undefined
}

function isSafeHome(home: string): boolean {
  return home.startsWith('/') && home.length <= 1_024 && !/[\0\n]/.test(home)
}

function clip(text: string): string {
  return JSON.stringify(text.slice(0, 64))
}
