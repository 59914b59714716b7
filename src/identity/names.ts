import { isDnsLabel, isDnsSubdomain, parseTenantName, type TenantName, type UserInfo } from '../api/index.ts'
import { GROUP_CHARS_MAX, GROUPS_MAX, TOKEN_FIELD_CHARS_MAX, USER_NAME_BYTES_MAX } from './limits.ts'

/** Whoever is asking has not shown who they are. The message is for our log; clients all get the same answer. */
export class IdentityRefused extends Error {}

/** Names below this prefix belong to Kubernetes itself. */
const SYSTEM_PREFIX = 'system:'
/** The one group of Kubernetes' own that somebody may give: a tenant's (or the platform's) administrators. */
const ADMINISTRATORS = 'system:masters'

/** Control bytes, line ends and what bidirectional or invisible text is made of would deceive a reader of the audit log. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}\p{Cn}]/u

/** @throws {IdentityRefused} when `value` cannot name a person or a machine outside of the cluster. */
export function parseUserName(value: unknown): string {
  const name = parsePrintable(value, 'user name')
  if (Buffer.byteLength(name) > USER_NAME_BYTES_MAX)
    throw new IdentityRefused(`A user name has more than ${USER_NAME_BYTES_MAX} bytes`)
  if (name.startsWith(SYSTEM_PREFIX))
    throw new IdentityRefused(
      `The user name "${name}" begins with "${SYSTEM_PREFIX}", which Kubernetes keeps for itself`,
    )
  return name
}

/** @throws {IdentityRefused} when `values` are not groups that a certificate may carry. */
export function parseGroups(values: unknown): string[] {
  if (!Array.isArray(values) || values.length > GROUPS_MAX)
    throw new IdentityRefused(`Groups must be a list of at most ${GROUPS_MAX}`)
  const groups = values.map((value: unknown) => {
    const group = parsePrintable(value, 'group')
    if (group.length > GROUP_CHARS_MAX)
      throw new IdentityRefused(
        `The group "${group.slice(0, GROUP_CHARS_MAX)}…" has more than ${GROUP_CHARS_MAX} characters`,
      )
    if (group.startsWith(SYSTEM_PREFIX) && group !== ADMINISTRATORS)
      throw new IdentityRefused(
        `The group "${group}" begins with "${SYSTEM_PREFIX}", which Kubernetes keeps for itself`,
      )
    return group
  })
  if (new Set(groups).size !== groups.length) throw new IdentityRefused('A group is there twice')
  return groups
}

function parsePrintable(value: unknown, what: string): string {
  if (
    typeof value !== 'string' ||
    value === '' ||
    value.length > 4 * USER_NAME_BYTES_MAX ||
    UNPRINTABLE.test(value)
  )
    throw new IdentityRefused(`A ${what} must be printable text and not empty`)
  if (value.trim() !== value) throw new IdentityRefused(`A ${what} must not begin or end with a space`)
  return value
}

type ServiceAccountInfo = Extract<UserInfo, { kind: 'serviceAccount' }>

/** @throws {IdentityRefused} unless every part is what a service account's must be. */
export function parseServiceAccount(tenant: TenantName, fields: Record<string, unknown>): ServiceAccountInfo {
  const { namespace, name, uid, boundTo, tokenId } = fields
  if (typeof namespace !== 'string' || !isDnsLabel(namespace))
    throw new IdentityRefused('The namespace of a service account is not a DNS label')
  if (typeof name !== 'string' || !isDnsSubdomain(name))
    throw new IdentityRefused('The name of a service account is not a DNS subdomain')
  return {
    kind: 'serviceAccount',
    tenant,
    namespace,
    name,
    uid: parseId(uid, 'uid of a service account'),
    ...(boundTo === undefined ? {} : { boundTo: parseBoundTo(boundTo) }),
    ...(tokenId === undefined ? {} : { tokenId: parseId(tokenId, 'token id') }),
  }
}

function parseBoundTo(value: unknown): NonNullable<ServiceAccountInfo['boundTo']> {
  if (!isRecord(value)) throw new IdentityRefused('What a token is bound to must be an object')
  const { kind, name, uid, node } = value
  if (kind !== 'Pod' && kind !== 'Secret')
    throw new IdentityRefused('A token is bound to something other than a Pod or Secret')
  if (typeof name !== 'string' || !isDnsSubdomain(name))
    throw new IdentityRefused(`The ${kind} that a token is bound to has no valid name`)
  return {
    kind,
    name,
    uid: parseId(uid, `uid of a ${kind}`),
    ...(node === undefined ? {} : { node: parseNode(kind, node) }),
  }
}

function parseNode(kind: 'Pod' | 'Secret', node: unknown): { name: string; uid: string } {
  if (kind !== 'Pod' || !isRecord(node) || typeof node['name'] !== 'string' || !isDnsSubdomain(node['name']))
    throw new IdentityRefused('The token has a node that is none, or is bound to no pod')
  return { name: node['name'], uid: parseId(node['uid'], 'uid of a node') }
}

const ID = /^[A-Za-z0-9._:-]+$/

export function parseId(value: unknown, what: string): string {
  if (typeof value !== 'string' || value.length > TOKEN_FIELD_CHARS_MAX || !ID.test(value))
    throw new IdentityRefused(
      `The ${what} must be 1 to ${TOKEN_FIELD_CHARS_MAX} letters, digits, ".", "_", ":" or "-"`,
    )
  return value
}

export function parseTenant(value: unknown): TenantName {
  try {
    return parseTenantName(value)
  } catch (cause) {
    throw new IdentityRefused('The identity names no valid tenant', { cause })
  }
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
