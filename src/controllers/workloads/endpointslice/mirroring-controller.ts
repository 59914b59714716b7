import { type Informer, keyOf, type ReconcileResult } from '../../../client/index.ts'
import { semanticEqual } from '../../conditions.ts'
import { type ControllerContext, QueueController } from '../../controller.ts'
import {
  type Endpoints,
  endpointsKind,
  type EndpointSlice,
  endpointSliceKind,
  type Service,
  serviceKind,
} from '../../kinds.ts'
import { planMirror, planSliceSteps } from './plan.ts'
import { applySliceSteps, MANAGED_BY, SERVICE_NAME, type SliceMetadata } from './slices.ts'

const MIRRORER = 'endpointslicemirroring-controller.k8s.io'
const SKIP = 'endpointslice.kubernetes.io/skip-mirror'
/** On what elections keep in Endpoints, which are no endpoints. */
const LEADER = 'control-plane.alpha.kubernetes.io/leader'
/** Annotations that are about the Endpoints themselves. */
const NOT_COPIED: readonly string[] = [
  'kubectl.kubernetes.io/last-applied-configuration',
  'endpoints.kubernetes.io/last-change-trigger-time',
]

/** Endpoints that somebody wrote by hand, for a service without a selector, as EndpointSlices. */
export class EndpointSliceMirroringController extends QueueController {
  private readonly services: Informer<Service>
  private readonly endpoints: Informer<Endpoints>
  private readonly slices: Informer<EndpointSlice>

  constructor(context: ControllerContext) {
    super('endpointslice-mirroring', context)
    this.endpoints = this.follow(endpointsKind, ({ key }) => [key])
    // A service has the name of its Endpoints.
    this.services = this.follow(serviceKind, ({ key, old, object }) =>
      (old?.spec.selector === undefined) === (object?.spec.selector === undefined) && old && object
        ? []
        : [key],
    )
    this.slices = this.follow(endpointSliceKind, ({ old, object }) => {
      const { metadata } = object ?? old
      const name = metadata.labels?.[MANAGED_BY] === MIRRORER ? metadata.labels[SERVICE_NAME] : undefined
      return name === undefined ? [] : [keyOf({ metadata: { namespace: metadata.namespace ?? '', name } })]
    })
  }

  protected async reconcile(key: string): Promise<ReconcileResult> {
    const endpoints = this.endpoints.get(key)
    // Slices of Endpoints that are gone are the garbage collector's.
    if (!endpoints || endpoints.metadata.deletionTimestamp) return undefined
    const existing = this.slices
      .byOwner(endpoints.metadata.uid)
      .filter((slice) => slice.metadata.labels?.[MANAGED_BY] === MIRRORER && !this.slices.isGoing(slice))
    const metadata = mirroredMetadata(endpoints)
    const steps = planSliceSteps(
      existing,
      this.isMirrored(key, endpoints) ? planMirror(endpoints) : [],
      ({ metadata: { labels, annotations = {} } }) =>
        semanticEqual(labels, metadata.labels) && semanticEqual(annotations, metadata.annotations),
    )
    await applySliceSteps(this.context.client, steps, endpoints, metadata)
    return undefined
  }

  private isMirrored(key: string, { metadata: { labels, annotations } }: Endpoints): boolean {
    const service = this.services.get(key)
    if (!service || service.metadata.deletionTimestamp) return false
    // Those with a selector have slices of their own, and those that are only a name have none.
    if (service.spec.selector !== undefined || service.spec.type === 'ExternalName') return false
    return labels?.[SKIP] !== 'true' && annotations?.[LEADER] === undefined
  }
}

function mirroredMetadata({ metadata }: Endpoints): Required<SliceMetadata> {
  const annotations = Object.entries(metadata.annotations ?? {}).filter(([key]) => !NOT_COPIED.includes(key))
  return {
    labels: { ...metadata.labels, [SERVICE_NAME]: metadata.name, [MANAGED_BY]: MIRRORER },
    annotations: Object.fromEntries(annotations),
  }
}
