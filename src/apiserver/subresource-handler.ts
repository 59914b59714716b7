import type { KubeObject, UserInfo } from '../api/index.ts'

/**
 * Answers a create at a sub-resource that this room knows nothing about, such as `tenants/credentials`. It has been
 * authorized, and `body` has been checked against the sub-resource's schema.
 */
export type SubresourceHandler = (request: {
  user: UserInfo
  /** The object that the sub-resource belongs to. */
  object: KubeObject
  body: KubeObject
  dryRun: boolean
}) => Promise<KubeObject>
