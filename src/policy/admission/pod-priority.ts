import { forbidden, type Pod, type PriorityClass } from '../../api/index.ts'
import type { AdmissionPlugin, AdmissionRequest, ClusterView, ResourceName } from './admission.ts'

const CLASSES: ResourceName = { group: 'scheduling.k8s.io', resource: 'priorityclasses' }

/**
 * Gives pods the number of their priority class, and only one class of a control plane is the default. Numbers rank the
 * pods of one tenant among each other: they never leave its control plane as anything that another tenant's pods are
 * compared with.
 */
export const podPriority: AdmissionPlugin = {
  name: 'Priority',
  mutate(request, cluster) {
    if (!isNewPod(request)) return
    const { spec } = request.object as Pod // of that kind
    // A pod without a spec is refused when it is validated, which comes after.
    if (!spec?.containers) return
    const found = classOf(spec.priorityClassName, cluster)
    if (found) spec.priorityClassName = found.metadata.name
    spec.priority ??= found?.value ?? 0
    spec.preemptionPolicy ??= found?.preemptionPolicy ?? 'PreemptLowerPriority'
  },
  refuse(request, cluster) {
    const { group, resource, name, object, operation, subresource } = request
    const refuse = (tell: string) => forbidden({ group, resource, name }, { tell })
    if (group === CLASSES.group && resource === CLASSES.resource && operation !== 'DELETE') {
      const wanted = object as PriorityClass // of that kind
      const other = wanted.globalDefault ? defaultClass(cluster, name) : undefined
      return other && subresource === undefined
        ? refuse(
            `PriorityClass ${other.metadata.name} is already marked as default. Only one default can exist`,
          )
        : undefined
    }
    if (!isNewPod(request)) return undefined
    const { priorityClassName, priority, preemptionPolicy } = (object as Pod).spec // of that kind
    const found = classOf(priorityClassName, cluster)
    if (priorityClassName && !found)
      return refuse(`no PriorityClass with name ${priorityClassName} was found`)
    const [value, policy] = [found?.value ?? 0, found?.preemptionPolicy ?? 'PreemptLowerPriority']
    if (priority !== value)
      return refuse(
        `the integer value of priority (${priority}) must not be provided in pod spec; priority admission controller computed ${value} from the given PriorityClass name`,
      )
    if (preemptionPolicy !== policy)
      return refuse(
        `the string value of PreemptionPolicy (${preemptionPolicy}) must not be provided in pod spec; priority admission controller computed ${policy} from the given PriorityClass name`,
      )
    return undefined
  },
}

function isNewPod({ operation, group, resource, subresource }: AdmissionRequest): boolean {
  return operation === 'CREATE' && group === '' && resource === 'pods' && subresource === undefined
}

function classOf(name: string | undefined, cluster: ClusterView): PriorityClass | undefined {
  if (!name) return defaultClass(cluster)
  return cluster.get({ ...CLASSES, name }) as PriorityClass | undefined // of that kind
}

function defaultClass(cluster: ClusterView, but?: string): PriorityClass | undefined {
  const classes = cluster.list(CLASSES) as readonly PriorityClass[] // of that kind
  return classes.find(({ metadata, globalDefault }) => globalDefault && metadata.name !== but)
}
