import { createHash } from 'node:crypto'
import { ApiError, type TenantName } from '../../api/index.ts'
import {
  type Change,
  ensureDeleted,
  type EventRecorder,
  type Informer,
  isNotFound,
  type ReconcileResult,
} from '../../client/index.ts'
import type {
  Engine,
  EngineEvent,
  Jail,
  JailEvent,
  JailId,
  JailRuntime,
  JailStatus,
} from '../../jail/index.ts'
import { type ControllerContext, QueueController } from '../controller.ts'
import {
  type ConfigMap,
  configMapKind,
  type PersistentVolumeClaim,
  persistentVolumeClaimKind,
  type Pod,
  podKind,
  type PodStatus,
  type Secret,
  secretKind,
  type Service,
  type ServiceAccount,
  serviceAccountKind,
  serviceKind,
} from '../kinds.ts'
import { messageOf, writeStatus } from '../writes.ts'
import type { NodeAmounts } from './downward-api.ts'
import { planJail, referencesOf, tokensNeeded } from './plan-jail.ts'
import { planPodStatus, podStatusChanged, type Seen } from './plan-status.ts'
import type { ApiServerAddress } from './service-variables.ts'
import { type IssueToken, TokenCache } from './token-cache.ts'

export type PodControllerOptions = {
  engine: Engine
  tenant: TenantName
  runtime: JailRuntime
  clusterDomain: string
  /** Where pods reach the API server; absent when they cannot. */
  apiServer?: ApiServerAddress | undefined
  /** Absent: pods get no tokens unless they ask, and then wait. */
  issueToken?: IssueToken | undefined
  node: NodeAmounts
  /** Whether the network policies of a pod are in force; who has to wait is looked at again with `lookAgain`. */
  networkReady?: (uid: string) => true | { refusal: string | undefined }
  /** Called when the engine has named everything it has, also after it was away. */
  onEngineSynced?: () => void
  /** Events of the engine up to here were told by an earlier life of this controller. */
  heardTo?: number
}

/** No room on the machine, or none left of what the tenant may have. */
const TOO_MANY_REQUESTS = 429

/** What this process has told the engine about a pod. */
type Ensured = {
  digest: string
  /** Why the engine will not have it. */
  refusal?: string
}

/**
 * The control plane's half of a kubelet: makes a jail of every pod that has a node, writes down how the jail is, and
 * takes it away with the pod. Keys are uids, so that a pod and the next of its name are never confused.
 */
export class PodController extends QueueController {
  private readonly options: PodControllerOptions
  private readonly pods: Informer<Pod>
  private readonly configMaps: Informer<ConfigMap>
  private readonly secrets: Informer<Secret>
  private readonly claims: Informer<PersistentVolumeClaim>
  private readonly services: Informer<Service>
  private readonly accounts: Informer<ServiceAccount>
  private readonly events: EventRecorder
  private readonly tokens: TokenCache | undefined
  /** What the engine has, as far as it told us. */
  private readonly jails = new Map<string, JailStatus>()
  private readonly ensured = new Map<string, Ensured>()
  /** Removals that were asked for, with their grace period. */
  private readonly removing = new Map<string, number | undefined>()
  /** Jails heard of since the watch began; undefined before. */
  private heard: Set<string> = new Set()
  /** Until the engine has named every jail it has, absence means nothing. */
  private engineSynced = false
  private lastSequence: number

  constructor(context: ControllerContext, options: PodControllerOptions) {
    super('pod', context, { concurrency: 8 })
    this.options = options
    this.lastSequence = options.heardTo ?? -1
    this.events = context.events('kubelet')
    this.tokens = options.issueToken
      ? new TokenCache({ issue: options.issueToken, clock: context.clock })
      : undefined
    this.pods = this.follow(podKind, ({ old, object }) =>
      [old, object].flatMap((pod) => (pod ? [pod.metadata.uid] : [])),
    )
    this.pods.byUid('')
    this.configMaps = this.follow(configMapKind, (change) => this.podsUsing('configmaps', change))
    this.secrets = this.follow(secretKind, (change) => this.podsUsing('secrets', change))
    this.claims = this.follow(persistentVolumeClaimKind, (change) =>
      this.podsUsing('persistentvolumeclaims', change),
    )
    this.accounts = context.informers.of(serviceAccountKind)
    this.services = context.informers.of(serviceKind)
    this.hear<EngineEvent>({
      what: 'the engine',
      open: (signal) => options.engine.watch(signal),
      onOpen: () => {
        this.heard = new Set()
        this.removing.clear()
      },
      onEvent: (event) => this.heardOf(event),
      onLost: () => (this.engineSynced = false),
    })
  }

  lookAgain(uids: readonly string[]): void {
    for (const uid of uids) this.queue.add(uid)
  }

  /** Up to where it has heard of the engine's events. */
  get heardTo(): number {
    return this.lastSequence
  }

  override get atRest(): boolean {
    return super.atRest && this.engineSynced
  }

  protected async reconcile(uid: string): Promise<ReconcileResult> {
    if (!this.engineSynced) return undefined
    const pod = this.pods.byUid(uid)
    if (!pod) return this.removeJail(uid as JailId, undefined)
    if (!pod.spec.nodeName) return undefined
    if (pod.metadata.deletionTimestamp) return this.end(pod)
    if (isFinal(pod)) return undefined
    return this.converge(pod)
  }

  // --- a pod that shall run ------------------------------------------------------------------------------------------

  private async converge(pod: Pod): Promise<ReconcileResult> {
    const { uid } = pod.metadata
    const known = this.jails.get(uid)
    if (!known && isLost(pod)) {
      await this.write(pod, {
        ...pod.status,
        phase: 'Failed',
        reason: 'ContainerStatusUnknown',
        message: 'The pod was running and the machine does not know it any more',
      })
      return undefined
    }
    const network = known ? true : (this.options.networkReady?.(uid) ?? true)
    if (network !== true) {
      if (network.refusal !== undefined)
        this.events.record(pod, {
          type: 'Warning',
          reason: 'FailedCreatePodSandBox',
          message: `network policies are not applied: ${network.refusal}`,
        })
      return undefined
    }
    const account = this.accounts.find({
      namespace: pod.metadata.namespace ?? '',
      name: pod.spec.serviceAccountName ?? 'default',
    })
    const renewInMs = await this.ensureTokens(pod, account)
    const plan = this.plan(pod, account)
    if (plan.jail) await this.ensure(pod, plan.jail)
    // A pod that runs keeps what it has when something it was made from is gone.
    else if (!known) {
      this.events.record(pod, {
        type: 'Warning',
        ...plan.waiting.event,
        ...(plan.waiting.container === undefined
          ? {}
          : { fieldPath: `spec.containers{${plan.waiting.container}}` }),
      })
      await this.show(pod, { waiting: plan.waiting })
    }
    const jail = this.jails.get(uid)
    const refusal = this.ensured.get(uid)?.refusal
    if (jail) await this.show(pod, { jail })
    else if (plan.jail && refusal !== undefined)
      await this.show(pod, { waiting: { reason: 'CreateContainerConfigError', message: refusal } })
    return renewInMs === undefined ? undefined : { requeueAfterMs: renewInMs }
  }

  private async ensureTokens(pod: Pod, account: ServiceAccount | undefined): Promise<number | undefined> {
    const { name, namespace = '', uid } = pod.metadata
    const serviceAccount = pod.spec.serviceAccountName ?? 'default'
    try {
      return await this.tokens?.ensure({ name, uid, namespace, serviceAccount }, tokensNeeded(pod, account))
    } catch (error) {
      if (isRefusal(error) || isNotFound(error)) {
        const message = `MountVolume.SetUp failed for volume "kube-api-access" : failed to fetch token: ${messageOf(error)}`
        this.events.record(pod, { type: 'Warning', reason: 'FailedMount', message })
        if (!this.jails.has(uid)) await this.show(pod, { waiting: { reason: 'ContainerCreating', message } })
      }
      // The account may be made at any moment, so this is tried again.
      throw error
    }
  }

  private plan(pod: Pod, serviceAccount: ServiceAccount | undefined) {
    const namespace = pod.metadata.namespace ?? ''
    const { tokens } = this
    const { tenant, runtime, clusterDomain, apiServer, node } = this.options
    return planJail(pod, {
      tenant,
      runtime,
      clusterDomain,
      apiServer,
      node,
      serviceAccount,
      configMap: (name) => this.configMaps.find({ namespace, name }),
      secret: (name) => this.secrets.find({ namespace, name }),
      claim: (name) => this.claims.find({ namespace, name }),
      services: this.services.list(namespace),
      token: tokens && ((request) => tokens.get(pod.metadata.uid, request)),
    })
  }

  private async ensure(pod: Pod, jail: Jail): Promise<void> {
    const { uid } = pod.metadata
    const before = this.ensured.get(uid)
    const digest = createHash('sha256').update(JSON.stringify(jail)).digest('base64')
    if (before?.digest === digest && (before.refusal !== undefined || this.jails.has(uid))) return
    try {
      const status = await this.options.engine.ensure(jail, this.stopping.signal)
      this.ensured.set(uid, { digest })
      this.heard.add(uid)
      // The watch may have told us something newer while we waited; a status without an event changes nothing.
      if (!this.jails.has(uid)) this.jails.set(uid, status)
    } catch (error) {
      if (!isRefusal(error)) {
        // It is tried again, and whoever waits for the pod shall know what for.
        if (error instanceof ApiError && error.code === TOO_MANY_REQUESTS && !this.jails.has(uid))
          this.events.record(pod, {
            type: 'Warning',
            reason: 'FailedCreatePodSandBox',
            message: error.message,
          })
        throw error
      }
      const message = tellOfRefusal(error)
      this.ensured.set(uid, { digest, refusal: message })
      if (this.jails.has(uid)) {
        // It runs with what it was made from.
        this.context.log.info('the engine keeps a jail as it is', { pod: uid, error })
        return
      }
      this.events.record(pod, { type: 'Warning', reason: 'FailedCreatePodSandBox', message })
    }
  }

  private async show(pod: Pod, seen: Seen): Promise<void> {
    // The latest that we know: a status is written for the whole object.
    const current = this.pods.byUid(pod.metadata.uid) ?? pod
    await this.write(current, planPodStatus(current, seen, this.context.clock.nowMs()))
  }

  private async write(pod: Pod, status: PodStatus): Promise<void> {
    if (podStatusChanged(pod, status)) await writeStatus(this.context.client, podKind, pod, status)
  }

  // --- a pod that shall end ------------------------------------------------------------------------------------------

  private async end(pod: Pod): Promise<ReconcileResult> {
    const { uid, deletionGracePeriodSeconds } = pod.metadata
    const jail = this.jails.get(uid)
    if (jail) {
      await this.removeJail(uid as JailId, deletionGracePeriodSeconds ?? 0)
      await this.show(pod, { jail })
      return undefined
    }
    // The engine has named every jail it has, and this is none of them. Whoever keeps the pod shall see that it ended.
    if (pod.metadata.finalizers?.length && !isFinal(pod))
      await this.write(pod, { ...pod.status, phase: 'Failed' })
    await ensureDeleted(this.context.client, podKind, pod, { gracePeriodSeconds: 0 })
    return undefined
  }

  private async removeJail(id: JailId, gracePeriodSeconds: number | undefined): Promise<undefined> {
    if (!this.jails.has(id)) {
      this.forget(id)
      return undefined
    }
    // A shorter grace period may be asked for later.
    if (this.removing.has(id) && this.removing.get(id) === gracePeriodSeconds) return undefined
    const options = gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds }
    await this.options.engine.remove(id, options, this.stopping.signal)
    this.removing.set(id, gracePeriodSeconds)
    return undefined
  }

  private forget(uid: string): void {
    this.ensured.delete(uid)
    this.removing.delete(uid)
    this.tokens?.forget(uid)
  }

  // --- what the engine tells -----------------------------------------------------------------------------------------

  private heardOf(event: EngineEvent): void {
    switch (event.type) {
      case 'STATUS':
        this.heard.add(event.status.id)
        this.jails.set(event.status.id, event.status)
        this.queue.add(event.status.id)
        return
      case 'REMOVED':
        this.jails.delete(event.id)
        this.forget(event.id)
        this.queue.add(event.id)
        return
      case 'SYNCED':
        for (const id of this.jails.keys()) if (!this.heard.has(id)) this.jails.delete(id)
        for (const id of this.ensured.keys()) if (!this.jails.has(id)) this.ensured.delete(id)
        this.engineSynced = true
        this.options.onEngineSynced?.()
        for (const id of this.jails.keys()) this.queue.add(id)
        for (const pod of this.pods.list()) this.queue.add(pod.metadata.uid)
        return
      case 'EVENT':
        this.tell(event.event)
        return
      default:
        event satisfies never
    }
  }

  private tell({ id, sequence, type, reason, message, container }: JailEvent): void {
    if (sequence <= this.lastSequence) return
    this.lastSequence = sequence
    const pod = this.pods.byUid(id)
    if (!pod) return
    const list = pod.spec.initContainers?.some((c) => c.name === container) ? 'initContainers' : 'containers'
    const fieldPath = container === undefined ? {} : { fieldPath: `spec.${list}{${container}}` }
    this.events.record(pod, { type, reason, message, ...fieldPath })
  }

  /** Pods that are made from a ConfigMap, Secret or claim that changed. */
  private podsUsing(
    plural: 'configmaps' | 'secrets' | 'persistentvolumeclaims',
    { old, object }: Change<ConfigMap | Secret | PersistentVolumeClaim>,
  ): string[] {
    const { namespace, name } = (object ?? old).metadata
    return this.context.informers
      .of(podKind)
      .list(namespace)
      .filter((pod) => !isFinal(pod) && referencesOf(pod).has(`${plural}/${name}`))
      .map((pod) => pod.metadata.uid)
  }
}

/** What an engine will not have, in words of the pod that the user wrote. */
export function tellOfRefusal({ message, details }: Pick<ApiError, 'message' | 'details'>): string {
  const causes = details?.causes ?? []
  if (causes.length === 0) return message
  const told = causes.map(({ field = '', message: why = '' }) => `${podFieldOf(field)}: ${why}`)
  return `the pod cannot be run as it is: ${told.join(', ')}`
}

/** Jails are written after pods, so few fields have another name. */
const POD_FIELDS: readonly (readonly [RegExp, string])[] = [
  [/\.mounts\[/, '.volumeMounts['],
  [/\.volume$/, '.name'],
  [/\.resources\.cpuMillis(Request|Limit)$/, '.resources'],
  [/\.resources\.memoryBytes(Request|Limit)$/, '.resources'],
  [/\.resources\.ephemeralStorageBytesLimit$/, '.resources.limits'],
  [/\.sizeBytesMax$/, '.emptyDir.sizeLimit'],
  [/Probe\.handler/, 'Probe'],
  [/^(dns)\b/, 'dnsConfig'],
]

function podFieldOf(field: string): string {
  if (field === '') return 'spec'
  if (field === 'pod' || field === 'namespace' || field === 'id')
    return `metadata.${field === 'pod' ? 'name' : field === 'id' ? 'uid' : field}`
  return `spec.${POD_FIELDS.reduce((path, [pattern, name]) => path.replace(pattern, name), field)}`
}

function isFinal({ status }: Pod): boolean {
  return status?.phase === 'Succeeded' || status?.phase === 'Failed'
}

/** It has run, must not run again, and is nowhere. */
function isLost({ spec, status }: Pod): boolean {
  if (spec.restartPolicy !== 'Never') return false
  const containers = [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? [])]
  return containers.some((container) => Boolean(container.containerID))
}

/** The engine looked at the jail and will not have it; asking again changes nothing. */
function isRefusal(error: unknown): error is ApiError {
  return error instanceof ApiError && [400, 403, 409, 413, 422].includes(error.code)
}
