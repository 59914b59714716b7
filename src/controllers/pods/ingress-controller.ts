import { createHash } from 'node:crypto'
import { ApiError, parseEgressPort, type TypedKind } from '../../api/index.ts'
import { type EventRecorder, type Informer, isNotFound, type ReconcileResult } from '../../client/index.ts'
import {
  type Engine,
  INGRESS_CERTIFICATES_MAX,
  type IngressAddress,
  type IngressRefusal,
  type TenantIngress,
} from '../../jail/index.ts'
import { semanticEqual } from '../conditions.ts'
import { type ControllerContext, QueueController } from '../controller.ts'
import { type Ingress, ingressKind, type Secret, secretKind, type Service, serviceKind } from '../kinds.ts'
import { NETWORK_DEBOUNCE_MS } from '../limits.ts'
import { messageOf, writeStatus } from '../writes.ts'
import { type IngressPlan, planIngress, withRefusals } from './plan-ingress.ts'

/** There is one front door, so there is one key. */
const INGRESS = 'ingress'

/**
 * Tells the engine what the tenant publishes, as one whole and only when it changed, and tells the tenant where it is
 * and what of it is not served.
 */
export class IngressController extends QueueController {
  private readonly engine: Engine
  private readonly address: IngressAddress
  private readonly ingresses: Informer<Ingress>
  private readonly services: Informer<Service>
  private readonly secrets: Informer<Secret>
  private readonly events: EventRecorder
  private told: { digest: string; refused: readonly IngressRefusal[] } | undefined
  /** What was said about each object, so that it is said once. */
  private complaints = new Map<string, string>()

  constructor(context: ControllerContext, { engine, address }: { engine: Engine; address: IngressAddress }) {
    super('ingress', context, { concurrency: 1 })
    this.engine = engine
    this.address = address
    this.events = context.events('front-door')
    this.ingresses = this.follow(ingressKind, ({ old, object }) =>
      old && object && sameWish(old, object) ? [] : this.soon(),
    )
    this.services = this.follow(serviceKind, ({ old, object }) =>
      old && object && sameWish(old, object) ? [] : this.soon(),
    )
    this.secrets = this.follow(secretKind, ({ old, object }) =>
      [old, object].some((each) => each?.type === 'kubernetes.io/tls') ? this.soon() : [],
    )
  }

  override start(): void {
    super.start()
    this.tellAgain()
  }

  /** Tells even what was told: the engine may have been away, and what is granted may have changed. */
  tellAgain(): void {
    this.told = undefined
    this.queue.add(INGRESS)
  }

  protected async reconcile(): Promise<ReconcileResult> {
    const [ingresses, services] = [this.ingresses.list(), this.services.list()]
    const planned = planIngress({
      ingresses,
      services,
      secret: ({ namespace, name }) => this.secrets.get(`${namespace}/${name}`),
    })
    const ingress = {
      ...planned.ingress,
      certificates: planned.ingress.certificates.slice(0, INGRESS_CERTIFICATES_MAX),
    }
    const digest = createHash('sha256').update(JSON.stringify(ingress)).digest('base64')
    if (this.told?.digest !== digest) this.told = { digest, refused: await this.tell(ingress) }
    const plan = withRefusals(planned, this.told.refused)
    for (const each of ingresses) await this.show(ingressKind, each, plan)
    for (const each of services)
      if (each.spec.type === 'LoadBalancer' || each.status?.loadBalancer?.ingress?.length)
        await this.show(serviceKind, each, plan)
    const living = new Set([...ingresses, ...services].map(({ metadata }) => metadata.uid))
    for (const uid of this.complaints.keys()) if (!living.has(uid)) this.complaints.delete(uid)
    return undefined
  }

  private async tell(ingress: TenantIngress): Promise<readonly IngressRefusal[]> {
    try {
      return (await this.engine.setIngress(ingress, this.stopping.signal)).refused
    } catch (error) {
      // What it refuses now it refuses again, until something changes.
      if (!(error instanceof ApiError) || error.code >= 500 || error.code === 429) throw error
      this.context.log.error('the engine refuses what is published', { error })
      return [{ what: '*', why: messageOf(error) }]
    }
  }

  private async show<T extends Ingress | Service>(
    kind: TypedKind<T>,
    object: T,
    { problems, published }: IngressPlan,
  ): Promise<void> {
    const { uid } = object.metadata
    const complaint = problems.get(uid)?.slice(0, 8).join('; ') ?? ''
    if (complaint !== (this.complaints.get(uid) ?? '')) {
      this.complaints.set(uid, complaint)
      if (complaint !== '')
        this.events.record(object, { type: 'Warning', reason: 'NotPublished', message: complaint })
    }
    const names = published.get(uid) ?? new Set()
    const { ip, httpPort, httpsPort } = this.address
    const texts =
      object.kind === 'Service'
        ? [...names]
        : [httpPort, ...(object.spec.tls?.length ? [httpsPort] : [])].map(String)
    const ports = texts.flatMap((text) => {
      const { port, protocol } = parseEgressPort(text) ?? {}
      return port === undefined || protocol === undefined ? [] : [{ port, protocol }]
    })
    const wanted =
      object.kind === 'Service' ? (object.spec.ports ?? []).length > 0 && names.size > 0 : names.size > 0
    const loadBalancer = wanted ? { ingress: [{ ip, ports }] } : {}
    if (semanticEqual(object.status?.loadBalancer ?? {}, loadBalancer)) return
    try {
      await writeStatus(this.context.client, kind, object, { ...object.status, loadBalancer })
    } catch (error) {
      if (!isNotFound(error)) throw error
    }
  }

  /** Many changes come at once, and each telling replaces everything. */
  private soon(): string[] {
    this.queue.addAfter(INGRESS, NETWORK_DEBOUNCE_MS)
    return []
  }
}

function sameWish<T extends Ingress | Service>(old: T, object: T): boolean {
  return (
    old.metadata.uid === object.metadata.uid &&
    old.metadata.deletionTimestamp === object.metadata.deletionTimestamp &&
    semanticEqual(old.metadata.annotations, object.metadata.annotations) &&
    semanticEqual(old.spec, object.spec)
  )
}
