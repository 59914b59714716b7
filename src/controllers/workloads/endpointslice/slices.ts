import type { KubeObject } from '../../../api/index.ts'
import { type ApiClient, ensureDeleted } from '../../../client/index.ts'
import { controllerReference } from '../../conditions.ts'
import { endpointSliceKind } from '../../kinds.ts'
import type { SliceSteps } from './plan.ts'

export const SERVICE_NAME = 'kubernetes.io/service-name'
export const MANAGED_BY = 'endpointslice.kubernetes.io/managed-by'

/** What all slices of one owner have in common. */
export type SliceMetadata = { labels: Record<string, string>; annotations?: Record<string, string> }

/** Carries out what was planned for the slices that `owner` has. */
export async function applySliceSteps(
  client: ApiClient,
  steps: SliceSteps,
  owner: KubeObject,
  metadata: SliceMetadata,
): Promise<void> {
  for (const { slice, content } of steps.update)
    await client.update(endpointSliceKind, {
      ...slice,
      ...content,
      metadata: { ...slice.metadata, ...metadata },
    })
  for (const content of steps.create)
    await client.create(endpointSliceKind, {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: {
        generateName: `${owner.metadata.name}-`,
        namespace: owner.metadata.namespace,
        ...metadata,
        ownerReferences: [controllerReference(owner)],
      },
      addressType: 'IPv4',
      ...content,
    })
  for (const slice of steps.remove) await ensureDeleted(client, endpointSliceKind, slice)
}
