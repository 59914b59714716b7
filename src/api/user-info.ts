import type { TenantName } from './names.ts'

/**
 * Who is asking, as the gateway authenticated it. `tenantUser` and `serviceAccount` belong to exactly one tenant;
 * `operator` belongs to the platform's control plane only and is nobody in a tenant's.
 */
export type UserInfo =
  | { kind: 'tenantUser'; tenant: TenantName; name: string; groups: readonly string[] }
  | {
      kind: 'serviceAccount'
      tenant: TenantName
      namespace: string
      name: string
      uid: string
      /** Tokens can be bound to an object: they die with it. */
      boundTo?: { kind: 'Pod' | 'Secret'; name: string; uid: string }
      tokenId?: string
    }
  | { kind: 'operator'; name: string; groups: readonly string[] }
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
