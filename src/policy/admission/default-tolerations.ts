import { MINUTE_MS, SECOND_MS } from '../../stdx/index.ts'
import type { AdmissionPlugin } from './admission.ts'

type Toleration = { key?: string; operator?: string; effect?: string; tolerationSeconds?: number }

const NODE_GONE: readonly string[] = ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable']
const TOLERATED_SECONDS = (5 * MINUTE_MS) / SECOND_MS

/**
 * A pod that says nothing else puts up with a node that is away for five minutes. The node of a tenant never has these taints;
 * clients find the pods that they know.
 */
export const defaultTolerations: AdmissionPlugin = {
  name: 'DefaultTolerationSeconds',
  mutate({ operation, group, resource, subresource, object }) {
    if (group !== '' || resource !== 'pods' || subresource !== undefined || operation === 'DELETE') return
    const spec = object['spec'] as { tolerations?: Toleration[] }
    const given = spec.tolerations ?? []
    const missing = NODE_GONE.filter((taint) => !given.some((toleration) => covers(toleration, taint)))
    if (missing.length === 0) return
    spec.tolerations = [
      ...given,
      ...missing.map((key) => ({
        key,
        operator: 'Exists',
        effect: 'NoExecute',
        tolerationSeconds: TOLERATED_SECONDS,
      })),
    ]
  },
}

function covers({ key = '', effect = '' }: Toleration, taint: string): boolean {
  return (key === '' || key === taint) && (effect === '' || effect === 'NoExecute')
}
