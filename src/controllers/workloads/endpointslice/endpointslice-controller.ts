import { matchesLabelSelector } from '../../../api/index.ts'
import { type Informer, keyOf, type ReconcileResult } from '../../../client/index.ts'
import { controllerReference, semanticEqual } from '../../conditions.ts'
import { type ControllerContext, QueueController } from '../../controller.ts'
import {
  type Endpoints,
  endpointsKind,
  type EndpointSlice,
  endpointSliceKind,
  type Pod,
  podKind,
  type Service,
  serviceKind,
} from '../../kinds.ts'
import { isReady } from '../pods.ts'
import { planSlices, planSliceSteps, planSubsets } from './plan.ts'
import { applySliceSteps, MANAGED_BY, SERVICE_NAME } from './slices.ts'

const MANAGER = 'endpointslice-controller.k8s.io'
const HEADLESS = 'service.kubernetes.io/headless'

/** Writes down which pods carry out each service, as EndpointSlices and, for older readers, as Endpoints. */
export class EndpointSliceController extends QueueController {
  private readonly services: Informer<Service>
  private readonly pods: Informer<Pod>
  private readonly slices: Informer<EndpointSlice>
  private readonly endpoints: Informer<Endpoints>

  constructor(context: ControllerContext) {
    super('endpointslice', context)
    this.services = this.follow(serviceKind, ({ key }) => [key])
    this.pods = this.follow(podKind, ({ old, object }) => this.servicesOf(old, object))
    this.slices = this.follow(endpointSliceKind, ({ old, object }) => serviceKeysOf(object ?? old))
    // Endpoints have the name of their service.
    this.endpoints = this.follow(endpointsKind, ({ key }) => (this.services.get(key) ? [key] : []))
  }

  protected async reconcile(key: string): Promise<ReconcileResult> {
    const service = this.services.get(key)
    // Slices and Endpoints of a service that is gone are the garbage collector's.
    if (!service || service.metadata.deletionTimestamp) return undefined
    // Without a selector somebody else says which pods they are.
    if (!service.spec.selector || Object.keys(service.spec.selector).length === 0) return undefined
    if (service.spec.type === 'ExternalName') return undefined
    const selector = service.spec.selector
    const pods = this.pods
      .list(service.metadata.namespace)
      .filter((pod) => matchesLabelSelector({ matchLabels: selector }, pod.metadata.labels))
    await this.convergeSlices(service, pods)
    await this.convergeEndpoints(service, pods)
    return undefined
  }

  private async convergeSlices(service: Service, pods: readonly Pod[]): Promise<void> {
    const { client } = this.context
    const existing = this.slices
      .byOwner(service.metadata.uid)
      .filter((slice) => slice.metadata.labels?.[MANAGED_BY] === MANAGER && !this.slices.isGoing(slice))
    const labels = {
      ...service.metadata.labels,
      ...headlessLabel(service),
      [SERVICE_NAME]: service.metadata.name,
      [MANAGED_BY]: MANAGER,
    }
    await applySliceSteps(client, planSliceSteps(existing, planSlices(service, pods)), service, { labels })
  }

  private async convergeEndpoints(service: Service, pods: readonly Pod[]): Promise<void> {
    const { client } = this.context
    const subsets = planSubsets(service, pods)
    const { name, namespace } = service.metadata
    const current = this.endpoints.find({ ...(namespace === undefined ? {} : { namespace }), name })
    const labels = { ...service.metadata.labels, ...headlessLabel(service) }
    if (!current) {
      await client.create(endpointsKind, {
        apiVersion: 'v1',
        kind: 'Endpoints',
        metadata: { name, namespace, labels, ownerReferences: [controllerReference(service)] },
        subsets,
      })
      return
    }
    if (current.metadata.deletionTimestamp) return
    if (semanticEqual(current.subsets, subsets) && semanticEqual(current.metadata.labels, labels)) return
    await client.update(endpointsKind, { ...current, metadata: { ...current.metadata, labels }, subsets })
  }

  private servicesOf(old: Pod | undefined, object: Pod | undefined): Set<string> {
    const keys = new Set<string>()
    if (old && object && !concernsServices(old, object)) return keys
    const pod = object ?? old
    if (!pod) return keys
    for (const service of this.context.informers.of(serviceKind).list(pod.metadata.namespace)) {
      const { selector } = service.spec
      if (!selector) continue
      if ([old, object].some((p) => p && matchesLabelSelector({ matchLabels: selector }, p.metadata.labels)))
        keys.add(keyOf(service))
    }
    return keys
  }
}

/** Most changes of a pod do not matter to a service. */
function concernsServices(old: Pod, object: Pod): boolean {
  return (
    old.metadata.uid !== object.metadata.uid ||
    old.status?.podIP !== object.status?.podIP ||
    old.status?.phase !== object.status?.phase ||
    isReady(old) !== isReady(object) ||
    old.metadata.deletionTimestamp !== object.metadata.deletionTimestamp ||
    !semanticEqual(old.metadata.labels, object.metadata.labels)
  )
}

function headlessLabel(service: Service): Record<string, string> {
  return service.spec.clusterIP === 'None' ? { [HEADLESS]: '' } : {}
}

function serviceKeysOf(slice: EndpointSlice): string[] {
  const name = slice.metadata.labels?.[SERVICE_NAME]
  return name === undefined ? [] : [keyOf({ metadata: { namespace: slice.metadata.namespace ?? '', name } })]
}
