import { API_SERVICE } from '../../../api/index.ts'
import { ensureCreated, ensureDeleted, type Informer, type ReconcileResult } from '../../../client/index.ts'
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

const KEY = `${API_SERVICE.namespace}/${API_SERVICE.name}`
const PORT = { name: 'https', port: API_SERVICE.port, protocol: 'TCP' } as const
const LABELS = { component: 'apiserver', provider: 'kubernetes' }
const SLICE_LABELS = { 'kubernetes.io/service-name': API_SERVICE.name }

/** It has a slice of its own. */
const ENDPOINTS_LABELS = { 'endpointslice.kubernetes.io/skip-mirror': 'true' }
const NAMED = { name: API_SERVICE.name, namespace: API_SERVICE.namespace }

/**
 * Keeps the service `kubernetes` as programs expect to find it. It only says where the API is: connections to its address
 * get there whatever is written here, so a tenant that changes it for a moment misleads nobody but its own readers.
 */
export class ApiServiceController extends QueueController {
  private readonly services: Informer<Service>
  private readonly endpoints: Informer<Endpoints>
  private readonly slices: Informer<EndpointSlice>

  constructor(context: ControllerContext) {
    super('apiservice', context)
    const ours = ({ key }: { key: string }) => (key === KEY ? [KEY] : [])
    this.services = this.follow(serviceKind, ours)
    this.endpoints = this.follow(endpointsKind, ours)
    this.slices = this.follow(endpointSliceKind, ours)
  }

  override start(): void {
    super.start()
    this.queue.add(KEY)
  }

  protected async reconcile(): Promise<ReconcileResult> {
    await this.convergeService()
    await this.convergeEndpoints()
    await this.convergeSlice()
    return undefined
  }

  private async convergeService(): Promise<void> {
    const { client } = this.context
    const current = this.services.find(NAMED)
    if (current?.metadata.deletionTimestamp) return
    const ports = [{ ...PORT, targetPort: API_SERVICE.port }]
    if (!current) {
      await ensureCreated(() =>
        client.create(serviceKind, {
          apiVersion: 'v1',
          kind: 'Service',
          metadata: { ...NAMED, labels: LABELS },
          spec: { type: 'ClusterIP', clusterIP: API_SERVICE.clusterIP, ports },
        }),
      )
      return
    }
    const { clusterIP, selector, type, ports: now } = current.spec
    // Of the time before the name was reserved, or headless: an address cannot change.
    if (clusterIP !== API_SERVICE.clusterIP || type !== 'ClusterIP') {
      return ensureDeleted(client, serviceKind, current)
    }
    if (selector === undefined && semanticEqual(now, ports)) return
    const { selector: _gone, ...spec } = current.spec
    await client.update(serviceKind, { ...current, spec: { ...spec, ports } })
  }

  private async convergeEndpoints(): Promise<void> {
    const { client } = this.context
    const current = this.endpoints.find(NAMED)
    if (current?.metadata.deletionTimestamp) return
    const subsets = [{ addresses: [{ ip: API_SERVICE.clusterIP }], ports: [PORT] }]
    if (!current)
      await ensureCreated(() =>
        client.create(endpointsKind, {
          apiVersion: 'v1',
          kind: 'Endpoints',
          metadata: { ...NAMED, labels: ENDPOINTS_LABELS },
          subsets,
        }),
      )
    else if (
      !semanticEqual(current.subsets, subsets) ||
      !semanticEqual(current.metadata.labels, ENDPOINTS_LABELS)
    )
      await client.update(endpointsKind, {
        ...current,
        metadata: { ...current.metadata, labels: ENDPOINTS_LABELS },
        subsets,
      })
  }

  private async convergeSlice(): Promise<void> {
    const { client } = this.context
    const current = this.slices.find(NAMED)
    if (current?.metadata.deletionTimestamp) return
    const content = {
      endpoints: [{ addresses: [API_SERVICE.clusterIP], conditions: { ready: true } }],
      ports: [PORT],
    }
    if (!current)
      await ensureCreated(() =>
        client.create(endpointSliceKind, {
          apiVersion: 'discovery.k8s.io/v1',
          kind: 'EndpointSlice',
          metadata: { ...NAMED, labels: SLICE_LABELS },
          addressType: 'IPv4',
          ...content,
        }),
      )
    else if (!semanticEqual({ endpoints: current.endpoints, ports: current.ports }, content))
      await client.update(endpointSliceKind, { ...current, ...content })
  }
}
