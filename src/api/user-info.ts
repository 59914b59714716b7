import type { TenantName } from './names.ts'

/**
 * Who is asking, as the gateway authenticated it. `tenantUser` and `serviceAccount` belong to exactly one tenant;
 * `operator` belongs to the platform's control plane only and is nobody in a tenant's. `credentialId` tells one certificate of
 * somebody from another.
 */
export type UserInfo =
  | {
      kind: 'tenantUser'
      tenant: TenantName
      name: string
      groups: readonly string[]
      credentialId?: string
    }
  | {
      kind: 'serviceAccount'
      tenant: TenantName
      namespace: string
      name: string
      uid: string
      /** Tokens can be bound to an object: they die with it. `node` is where the pod was by then. */
      boundTo?: { kind: 'Pod' | 'Secret'; name: string; uid: string; node?: { name: string; uid: string } }
      tokenId?: string
    }
  | { kind: 'operator'; name: string; groups: readonly string[]; credentialId?: string }
  /** A part of the control plane itself. Exists only inside its process and never comes in from outside. */
  | { kind: 'component'; name: string }
  | { kind: 'anonymous' }

/** The user and groups as RBAC and `kubectl auth whoami` know them. */
export function userNames(user: UserInfo): { name: string; groups: readonly string[] } {
  switch (user.kind) {
    case 'tenantUser':
    case 'operator':
      return { name: user.name, groups: [...user.groups, 'system:authenticated'] }
    case 'serviceAccount':
      return {
        name: `system:serviceaccount:${user.namespace}:${user.name}`,
        groups: [
          'system:serviceaccounts',
          `system:serviceaccounts:${user.namespace}`,
          'system:authenticated',
        ],
      }
    case 'component':
      return { name: `system:${user.name}`, groups: ['system:masters', 'system:authenticated'] }
    case 'anonymous':
      return { name: 'system:anonymous', groups: ['system:unauthenticated'] }
    default:
      user satisfies never
      throw new Error('An unknown kind of user')
  }
}

const EXTRA = 'authentication.kubernetes.io/'

/** What upstream tells about the credential beside the names, to reviews and to policies. */
export function userExtra(user: UserInfo): Record<string, string[]> {
  const told: Record<string, string | undefined> = {}
  if (user.kind === 'tenantUser' || user.kind === 'operator') told['credential-id'] = user.credentialId
  if (user.kind === 'serviceAccount') {
    if (user.tokenId !== undefined) told['credential-id'] = `JTI=${user.tokenId}`
    if (user.boundTo?.kind === 'Pod') {
      told['pod-name'] = user.boundTo.name
      told['pod-uid'] = user.boundTo.uid
      told['node-name'] = user.boundTo.node?.name
      told['node-uid'] = user.boundTo.node?.uid
    }
  }
  return Object.fromEntries(
    Object.entries(told).flatMap(([name, value]) => (value === undefined ? [] : [[EXTRA + name, [value]]])),
  )
}
