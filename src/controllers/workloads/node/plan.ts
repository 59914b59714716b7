import { renderQuantity } from '../../../api/index.ts'
import type { JailRuntime, NodeFacts } from '../../../jail/index.ts'
import { withCondition } from '../../conditions.ts'
import type { Node, NodeStatus, PodSpec } from '../../kinds.ts'

const KUBELET_VERSION = 'v1.33.0+bulkhead'
const WITHHELD = 'withheld'

const PRESSURES = {
  memory: {
    true: [
      'MemoryPressure',
      'True',
      'KubeletHasInsufficientMemory',
      'kubelet has insufficient memory available',
    ],
    false: [
      'MemoryPressure',
      'False',
      'KubeletHasSufficientMemory',
      'kubelet has sufficient memory available',
    ],
  },
  disk: {
    true: ['DiskPressure', 'True', 'KubeletHasDiskPressure', 'kubelet has disk pressure'],
    false: ['DiskPressure', 'False', 'KubeletHasNoDiskPressure', 'kubelet has no disk pressure'],
  },
} as const
const CONDITIONS = [
  ['PIDPressure', 'False', 'KubeletHasSufficientPID', 'kubelet has sufficient PID available'],
  ['Ready', 'True', 'KubeletReady', 'kubelet is posting ready status'],
] as const

/** Labels that everybody expects of a node, whatever else is on it. */
export function planLabels(node: Node, { architecture }: NodeFacts): Record<string, string> {
  return {
    ...node.metadata.labels,
    'kubernetes.io/arch': architecture,
    'kubernetes.io/hostname': node.metadata.name,
    'kubernetes.io/os': 'linux',
  }
}

/** The node as a tenant may see it: its own share, and nothing that tells about the machine or its other tenants. */
export function planNodeStatus(
  node: Node,
  {
    allocatable: { cpuMillis, memoryBytes, ephemeralStorageBytes, pods },
    architecture,
    pressures,
  }: NodeFacts,
  { runtime, nowMs }: { runtime: JailRuntime; nowMs: number },
): NodeStatus {
  const amounts = {
    cpu: renderQuantity({ nanos: BigInt(cpuMillis) * 1_000_000n, notation: 'decimal' }),
    'ephemeral-storage': `${Math.floor(ephemeralStorageBytes / 1_024)}Ki`,
    memory: `${Math.floor(memoryBytes / 1_024)}Ki`,
    pods: String(pods),
  }
  let conditions = node.status?.conditions
  const pressure = (what: 'memory' | 'disk') =>
    PRESSURES[what][pressures.some((felt) => felt.what === what) ? 'true' : 'false']
  for (const [type, status, reason, message] of [pressure('memory'), pressure('disk'), ...CONDITIONS])
    conditions = withCondition(conditions, { type, status, reason, message }, nowMs)
  // Nothing beats here: a condition was told last when it changed last.
  conditions = conditions?.map((condition) =>
    condition.lastTransitionTime === undefined
      ? condition
      : { ...condition, lastHeartbeatTime: condition.lastTransitionTime },
  )
  return {
    addresses: [{ type: 'Hostname', address: node.metadata.name }],
    allocatable: amounts,
    capacity: amounts,
    ...(conditions ? { conditions } : {}),
    nodeInfo: {
      architecture,
      bootID: '',
      containerRuntimeVersion: `bulkhead://${runtime}`,
      kernelVersion: WITHHELD,
      kubeProxyVersion: '',
      kubeletVersion: KUBELET_VERSION,
      machineID: '',
      operatingSystem: 'linux',
      osImage: WITHHELD,
      systemUUID: '',
    },
  }
}

type NodeSelectorTerm = NonNullable<
  NonNullable<
    NonNullable<PodSpec['affinity']>['nodeAffinity']
  >['requiredDuringSchedulingIgnoredDuringExecution']
>['nodeSelectorTerms'][number]
type Requirement = NonNullable<NodeSelectorTerm['matchExpressions']>[number]

/** Whether a pod's `nodeSelector` and required node affinity let it onto the node, as upstream decides. */
export function fitsNode({ nodeSelector = {}, affinity }: PodSpec, node: Node): boolean {
  const labels = new Map(Object.entries(node.metadata.labels ?? {}))
  if (!Object.entries(nodeSelector).every(([key, value]) => labels.get(key) === value)) return false
  const required = affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution
  if (!required) return true
  const fields = new Map([['metadata.name', node.metadata.name]])
  return required.nodeSelectorTerms.some(({ matchExpressions = [], matchFields = [] }) => {
    // A term that demands nothing matches nothing.
    if (matchExpressions.length === 0 && matchFields.length === 0) return false
    return (
      matchExpressions.every((requirement) => holds(requirement, labels)) &&
      matchFields.every((requirement) => holds(requirement, fields))
    )
  })
}

function holds({ key, operator, values = [] }: Requirement, of: ReadonlyMap<string, string>): boolean {
  const value = of.get(key)
  switch (operator) {
    case 'In':
      return value !== undefined && values.includes(value)
    case 'NotIn':
      return value === undefined || !values.includes(value)
    case 'Exists':
      return value !== undefined
    case 'DoesNotExist':
      return value === undefined
    case 'Gt':
    case 'Lt': {
      const [own, bound] = [integerOf(value), integerOf(values[0])]
      if (own === undefined || bound === undefined) return false
      return operator === 'Gt' ? own > bound : own < bound
    }
    default:
      operator satisfies never
      return false
  }
}

function integerOf(text: string | undefined): bigint | undefined {
  return text !== undefined && /^[+-]?\d{1,19}$/.test(text) ? BigInt(text.replace('+', '')) : undefined
}
