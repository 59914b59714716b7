import type { Container, Pod, ResourceFieldSelector } from '../kinds.ts'
import { parseQuantity } from '../../api/index.ts'

/** What one node offers: the limit of a container that has none. */
export type NodeAmounts = { cpuMillis: number; memoryBytes: number; ephemeralStorageBytes: number }

/** Facts about a pod that only the engine knows. */
export type EngineFact = 'podIP' | 'podIPs' | 'hostIP'

/** A field of the pod as text, or the name of one that only the engine knows; undefined when there is no such field. */
export function podField(pod: Pod, fieldPath: string): string | { fromPod: EngineFact } | undefined {
  const { metadata } = pod
  switch (fieldPath) {
    case 'metadata.name':
      return metadata.name
    case 'metadata.namespace':
      return metadata.namespace ?? ''
    case 'metadata.uid':
      return metadata.uid
    case 'metadata.labels':
      return renderMap(metadata.labels)
    case 'metadata.annotations':
      return renderMap(metadata.annotations)
    case 'spec.nodeName':
      return pod.spec.nodeName ?? ''
    case 'spec.serviceAccountName':
      return pod.spec.serviceAccountName ?? ''
    case 'status.podIP':
      return { fromPod: 'podIP' }
    case 'status.podIPs':
      return { fromPod: 'podIPs' }
    case 'status.hostIP':
    case 'status.hostIPs':
      return { fromPod: 'hostIP' }
  }
  const subscript = /^metadata\.(labels|annotations)\['([^']{1,400})'\]$/.exec(fieldPath)
  const [, map, key] = subscript ?? []
  if (map === undefined || key === undefined) return undefined
  const entries = map === 'labels' ? metadata.labels : metadata.annotations
  return entries && Object.hasOwn(entries, key) ? entries[key] : ''
}

/** A request or limit in units of the divisor, rounded up. Undefined when there is no such resource. */
export function resourceField(
  selector: ResourceFieldSelector,
  container: Container,
  node: NodeAmounts,
): string | undefined {
  const [, kind, resource] =
    /^(limits|requests)\.(cpu|memory|ephemeral-storage)$/.exec(selector.resource) ?? []
  if (kind === undefined || resource === undefined) return undefined
  const { limits, requests } = container.resources ?? {}
  const text = kind === 'limits' ? limits?.[resource] : (requests?.[resource] ?? limits?.[resource])
  const nanos =
    text === undefined
      ? kind === 'limits'
        ? allocatableNanos(resource, node)
        : 0n
      : parseQuantity(text).nanos
  const divisor = parseQuantity(selector.divisor ?? '0').nanos
  const unit = divisor > 0n ? divisor : 1_000_000_000n
  return String((nanos + unit - 1n) / unit)
}

function allocatableNanos(resource: string, node: NodeAmounts): bigint {
  if (resource === 'cpu') return BigInt(node.cpuMillis) * 1_000_000n
  return BigInt(resource === 'memory' ? node.memoryBytes : node.ephemeralStorageBytes) * 1_000_000_000n
}

/** One `key="value"` per line, in order, as the kubelet writes them. */
function renderMap(map: Readonly<Record<string, string>> | undefined): string {
  return Object.entries(map ?? {})
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .join('\n')
}
