import {
  type KindDefinition,
  type KubeObject,
  type LabelSelector,
  labelSelectorRequirements,
  renderLabelSelector,
  valueAt,
} from '../api/index.ts'

/** A workload as autoscaling/v1 Scale. */
export function scaleOf({ custom, group, plural }: KindDefinition, object: KubeObject): KubeObject {
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata
  const spec = object['spec'] as { selector?: LabelSelector } | undefined
  // A ReplicationController's selector is older than selectors with operators.
  const selector =
    group === '' && plural === 'replicationcontrollers'
      ? { matchLabels: spec?.selector as Record<string, string> }
      : spec?.selector
  const paths = custom?.scale
  const numberAt = (path: readonly string[]) => {
    const value = valueAt(object, path)
    return typeof value === 'number' ? value : 0
  }
  const wanted = numberAt(paths?.specReplicas ?? ['spec', 'replicas'])
  const ownSelector = paths?.labelSelector && valueAt(object, paths.labelSelector)
  const selectorOf = () => {
    const text = custom ? ownSelector : selector && renderLabelSelector(labelSelectorRequirements(selector))
    return typeof text === 'string' && text !== '' ? { selector: text } : {}
  }
  return {
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata: {
      name,
      ...(namespace === undefined ? {} : { namespace }),
      uid,
      resourceVersion,
      creationTimestamp,
    },
    // Go leaves a zero out here, and not in the status.
    spec: wanted === 0 ? {} : { replicas: wanted },
    status: {
      replicas: numberAt(paths?.statusReplicas ?? ['status', 'replicas']),
      ...selectorOf(),
    },
  }
}
