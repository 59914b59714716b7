import {
  type EgressPort,
  type KubeObject,
  labelTexts,
  parseBandwidth,
  parseEgressPort,
  parseQuantity,
  quantityNumber,
  parseTenantName,
  type RegoPolicy,
  regoPolicyKind,
  type TenantName,
  type ValidatingAdmissionPolicy,
  type ValidatingAdmissionPolicyBinding,
  validatingAdmissionPolicyBindingKind,
  validatingAdmissionPolicyKind,
} from '../../api/index.ts'
import {
  type EventRecorder,
  type Informer,
  isNotFound,
  keyOf,
  type ReconcileResult,
} from '../../client/index.ts'
import {
  type BandwidthCaps,
  type DiskRates,
  type EgressPolicy,
  type IngressGrant,
  type NodeClient,
  NodeRefusal,
  type TenantQuota,
  type TenantRank,
} from '../../jail/index.ts'
import { semanticEqual, timestamp, withCondition } from '../conditions.ts'
import { type ControllerContext, QueueController } from '../controller.ts'
import {
  type ConfigMap,
  configMapKind,
  type IsolationClass,
  type Tenant,
  tenantKind,
  type TenantSpec,
  type TenantStatus,
} from '../kinds.ts'
import { mergePatch, writeStatus } from '../writes.ts'
import { planPolicies, planRegoPolicies } from './plan-policies.ts'

/** Keeps a Tenant until everything of it is gone from every machine. */
export const PLACEMENT_FINALIZER = 'tenancy.bulkhead.dev/placement'

/** How soon we look again whether a tenant is gone from a machine. Only while one is being removed. */
const REMOVAL_CHECK_MS = 1_000

const NANOS_PER_MILLI = 1_000_000n
const NANOS_PER_BYTE = 1_000_000_000n

/** The class that a tenant needs and why, or why there is none. */
export type DecideIsolation = (
  spec: TenantSpec,
) =>
  | { class: IsolationClass; reasons: readonly string[] }
  | { class: undefined; reasons: readonly string[]; refusal: string }

export type TenantControllerOptions = {
  node: NodeClient
  decide: DecideIsolation
  /** URL for a tenant's kubeconfig. */
  serverUrl: (tenant: TenantName) => string
}

type Told = { phase: NonNullable<TenantStatus['phase']>; reason: string; message: string }

/** Gives every Tenant a place of the class it needs, and takes everything away with it. */
export class TenantController extends QueueController {
  private readonly options: TenantControllerOptions
  private readonly tenants: Informer<Tenant>
  private readonly policies: Informer<ValidatingAdmissionPolicy>
  private readonly regoPolicies: Informer<RegoPolicy>
  private readonly bindings: Informer<ValidatingAdmissionPolicyBinding>
  private readonly configMaps: Informer<ConfigMap>
  private readonly events: EventRecorder

  constructor(context: ControllerContext, options: TenantControllerOptions) {
    super('tenant', context)
    this.options = options
    this.events = context.events('tenant-controller')
    this.tenants = this.follow(tenantKind, ({ key, old, object }) => [
      // Its own status must not wake it.
      ...(old && object && sameWish(old, object) ? [] : [key]),
      // A host that one has given back may be what another waits for.
      ...(old && !semanticEqual(old.spec.ingress, object?.spec.ingress) ? this.waitingForHosts() : []),
    ])
    const everybody = () => this.tenants.list().map((tenant) => keyOf(tenant))
    const changed = (a: KubeObject | undefined, b: KubeObject | undefined) =>
      !semanticEqual(a?.['spec'], b?.['spec'])
    this.policies = this.follow(validatingAdmissionPolicyKind, ({ old, object }) =>
      changed(old, object) ? everybody() : [],
    )
    this.regoPolicies = this.follow(regoPolicyKind, ({ old, object }) =>
      changed(old, object) ? everybody() : [],
    )
    this.bindings = this.follow(validatingAdmissionPolicyBindingKind, ({ old, object }) =>
      changed(old, object) ? everybody() : [],
    )
    this.configMaps = this.follow(configMapKind, ({ old, object }) =>
      this.areParams(object ?? old) ? everybody() : [],
    )
  }

  /** The one that changed may be what a policy for tenants takes its parameters from. */
  private areParams({ metadata: { namespace } }: ConfigMap): boolean {
    return this.bindings
      .list()
      .some(({ spec }) => spec.tenantSelector && spec.paramRef?.namespace === namespace)
  }

  private waitingForHosts(): string[] {
    const failed = this.tenants
      .list()
      .filter(({ spec, status }) => spec.ingress && status?.phase === 'Failed')
    return failed.map((tenant) => keyOf(tenant))
  }

  protected async reconcile(key: string): Promise<ReconcileResult> {
    const tenant = this.tenants.get(key)
    if (!tenant) return undefined
    const name = parseTenantName(tenant.metadata.name)
    if (tenant.metadata.deletionTimestamp) return this.remove(tenant, name)
    if (!tenant.metadata.finalizers?.includes(PLACEMENT_FINALIZER)) {
      // Before anything exists that would have to be taken away. The change itself brings us back.
      const finalizers = [...(tenant.metadata.finalizers ?? []), PLACEMENT_FINALIZER]
      await mergePatch(this.context.client, tenantKind, tenant, { metadata: { finalizers } })
      return undefined
    }
    return this.place(tenant, name)
  }

  private async place(tenant: Tenant, name: TenantName): Promise<undefined> {
    const { node, decide, serverUrl } = this.options
    const { signal } = this.stopping
    const decision = decide(tenant.spec)
    const reasons = [...decision.reasons]
    if (decision.class === undefined) {
      await this.tell(
        tenant,
        { reasons: [...reasons, decision.refusal] },
        refused('IsolationRefused', decision.refusal),
      )
      return undefined
    }
    const isolationClass = decision.class
    let current = tenant
    try {
      const offered = (await node.isolation(signal)).classes[isolationClass]
      if (!offered?.available) {
        const why = offered ? offered.why : 'the machine does not know the class'
        const message = `No machine can offer the isolation class "${isolationClass}": ${why}`
        await this.tell(
          tenant,
          { isolationClass, reasons: [...reasons, message] },
          refused('ClassNotAvailable', message),
        )
        return undefined
      }
      const policies = planPolicies(
        tenant,
        this.policies.list(),
        this.bindings.list(),
        this.configMaps.list(),
      )
      const regoPolicies = planRegoPolicies(tenant, this.regoPolicies.list())
      const placing = node.ensureTenant(
        name,
        {
          class: isolationClass,
          registries: tenant.spec.registries,
          uid: tenant.metadata.uid,
          quota: planQuota(tenant.spec.quota),
          ...planRank(tenant.spec),
          ...(policies.length === 0 ? {} : { policies }),
          ...(regoPolicies.length === 0 ? {} : { regoPolicies }),
          ...(tenant.spec.podSecurity === undefined ? {} : { podSecurity: tenant.spec.podSecurity.enforce }),
          ...(tenant.spec.ingress === undefined ? {} : { ingress: planIngress(tenant.spec.ingress) }),
          ...(tenant.spec.egress === undefined ? {} : { egress: planEgress(tenant.spec.egress) }),
          ...planBandwidth(tenant.spec.network?.bandwidth),
          ...planDiskRates(tenant.spec.disk),
        },
        signal,
      )
      // Nobody waits for what is said meanwhile.
      const telling =
        tenant.status?.phase === 'Ready'
          ? tenant
          : this.tell(
              tenant,
              { isolationClass, reasons },
              {
                phase: 'Provisioning',
                reason: 'Provisioning',
                message: 'The control plane is being started',
              },
            )
      const [told, placed] = await Promise.allSettled([telling, placing])
      if (told.status === 'rejected') throw told.reason
      current = told.value
      if (placed.status === 'rejected') throw placed.reason
      const { index, podUidBase, controlPlaneUid } = placed.value
      await this.tell(
        current,
        {
          isolationClass,
          reasons,
          placement: { index, podUidBase, controlPlaneUser: String(controlPlaneUid) },
          server: serverUrl(name),
        },
        { phase: 'Ready', reason: 'ControlPlaneAnswers', message: 'The control plane answers' },
      )
    } catch (error) {
      if (signal.aborted || !(error instanceof NodeRefusal)) throw error
      await this.tell(
        current,
        { isolationClass, reasons },
        { phase: 'Failed', reason: 'PlacementFailed', message: error.message },
      )
      // Asking again for what was refused changes nothing; a failure of the moment is tried again.
      if (error.code !== 422) throw error
    }
    return undefined
  }

  private async remove(tenant: Tenant, name: TenantName): Promise<ReconcileResult> {
    if (!tenant.metadata.finalizers?.includes(PLACEMENT_FINALIZER)) return undefined
    const { node } = this.options
    const { signal } = this.stopping
    const phase = 'Terminating'
    const current =
      tenant.status?.phase === phase
        ? tenant
        : await this.tell(
            tenant,
            {},
            { phase, reason: phase, message: 'Pods, data and key are being removed' },
          )
    try {
      await node.removeTenant(name, signal)
    } catch (error) {
      if (signal.aborted || !(error instanceof NodeRefusal)) throw error
      await this.tell(current, {}, { phase, reason: 'RemovalFailed', message: error.message })
      // Again and again, until an operator has mended what is in the way.
      throw error
    }
    const left = (await node.tenants(signal)).some((placement) => placement.tenant === name)
    if (left) return { requeueAfterMs: REMOVAL_CHECK_MS }
    const finalizers = (current.metadata.finalizers ?? []).filter(
      (finalizer) => finalizer !== PLACEMENT_FINALIZER,
    )
    try {
      await mergePatch(this.context.client, tenantKind, current, { metadata: { finalizers } })
    } catch (error) {
      if (!isNotFound(error)) throw error
    }
    return undefined
  }

  private async tell(
    tenant: Tenant,
    facts: Partial<TenantStatus>,
    { phase, reason, message }: Told,
  ): Promise<Tenant> {
    const nowMs = this.context.clock.nowMs()
    const ready = phase === 'Ready'
    const condition = {
      type: 'Ready',
      status: ready ? 'True' : 'False',
      reason,
      message,
      lastTransitionTime: timestamp(nowMs),
    }
    const status: TenantStatus = {
      ...tenant.status,
      ...facts,
      phase,
      observedGeneration: tenant.metadata.generation ?? 0,
      conditions: withCondition(tenant.status?.conditions, condition, nowMs),
    }
    if (semanticEqual(tenant.status, status)) return tenant
    if (tenant.status?.phase !== phase)
      this.events.record(tenant, {
        type: phase === 'Refused' || phase === 'Failed' ? 'Warning' : 'Normal',
        reason,
        message,
      })
    return writeStatus(this.context.client, tenantKind, tenant, status)
  }
}

/** In the machine's units. More than a number can say is no limit. */
export function planQuota({
  pods,
  objects,
  cpu,
  memoryBytes,
  storage,
  ephemeralStorage,
}: NonNullable<TenantSpec['quota']> = {}): TenantQuota {
  const cpuMillis = cpu === undefined ? Infinity : Number(parseQuantity(cpu).nanos / NANOS_PER_MILLI)
  const bytesOf = (amount: string | undefined) =>
    amount === undefined ? Infinity : Number(parseQuantity(amount).nanos / NANOS_PER_BYTE)
  const [bytes, storageBytes, ephemeralBytes] = [memoryBytes, storage, ephemeralStorage].map(bytesOf)
  return {
    ...(pods === undefined ? {} : { pods }),
    ...(objects === undefined ? {} : { objects }),
    ...(Number.isSafeInteger(cpuMillis) ? { cpuMillis } : {}),
    ...(Number.isSafeInteger(bytes) ? { memoryBytes: bytes } : {}),
    ...(Number.isSafeInteger(storageBytes) ? { storageBytes } : {}),
    ...(Number.isSafeInteger(ephemeralBytes) ? { ephemeralStorageBytes: ephemeralBytes } : {}),
  }
}

/** How the tenant stands among the others, in the machine's units. */
export function planRank({
  priority,
  guaranteed: { cpu, memoryBytes } = {},
}: Pick<TenantSpec, 'priority' | 'guaranteed'>): { rank?: TenantRank } {
  const { cpuMillis, memoryBytes: bytes } = planQuota({
    ...(cpu === undefined ? {} : { cpu }),
    ...(memoryBytes === undefined ? {} : { memoryBytes }),
  })
  const guaranteed = {
    ...(cpuMillis === undefined ? {} : { cpuMillis }),
    ...(bytes === undefined ? {} : { memoryBytes: bytes }),
  }
  if (priority === undefined && Object.keys(guaranteed).length === 0) return {}
  return { rank: { ...(priority === undefined ? {} : { priority }), guaranteed } }
}

export function planDiskRates({
  readBytes,
  writeBytes,
  ...operations
}: NonNullable<TenantSpec['disk']> = {}): {
  diskRates?: DiskRates
} {
  const bytes = (amount: string) => Math.min(DISK_BYTES_MAX, quantityNumber(parseQuantity(amount)))
  const diskRates: DiskRates = {
    ...operations,
    ...(readBytes === undefined ? {} : { readBytes: bytes(readBytes) }),
    ...(writeBytes === undefined ? {} : { writeBytes: bytes(writeBytes) }),
  }
  return Object.keys(diskRates).length === 0 ? {} : { diskRates }
}

/** Requires: the spec was validated, so both can be read. */
export function planBandwidth({
  ingress,
  egress,
}: NonNullable<NonNullable<TenantSpec['network']>['bandwidth']> = {}): { bandwidth?: BandwidthCaps } {
  const bandwidth: BandwidthCaps = {}
  const [ingressBits, egressBits] = [ingress, egress].map((text) => text && parseBandwidth(text))
  if (ingressBits) bandwidth.ingressBitsPerSecond = ingressBits
  if (egressBits) bandwidth.egressBitsPerSecond = egressBits
  return ingressBits || egressBits ? { bandwidth } : {}
}

/** More than any disk can do in a second. */
const DISK_BYTES_MAX = 2 ** 50

/** The port of HTTPS is what nearly every rule is about. */
const EGRESS_PORTS_DEFAULT: readonly EgressPort[] = [{ protocol: 'TCP', port: 443, endPort: 443 }]

/** Requires: the spec was validated, so every port and time can be read. */
export function planEgress({
  mode,
  learnUntil,
  unlisted = 'Block',
  allow = [],
}: NonNullable<TenantSpec['egress']>): EgressPolicy {
  return {
    allow: allow.map(({ ports, until, podLabels, ...rule }) => ({
      ...rule,
      ...(podLabels === undefined ? {} : { podLabels: labelTexts(podLabels) }),
      ports: ports?.flatMap((port) => parseEgressPort(port) ?? []) ?? EGRESS_PORTS_DEFAULT,
      ...(until === undefined ? {} : { untilMs: Date.parse(until) }),
    })),
    ...(mode === 'Learn' && learnUntil !== undefined
      ? { learn: { untilMs: Date.parse(learnUntil), unlisted } }
      : {}),
  }
}

/** Requires: the spec was validated, so every port can be read. */
export function planIngress({ hosts = [], ports = [] }: NonNullable<TenantSpec['ingress']>): IngressGrant {
  return { hosts, ports: ports.flatMap((port) => parseEgressPort(port) ?? []) }
}

function refused(reason: string, message: string): Told {
  return { phase: 'Refused', reason, message }
}

function sameWish(old: Tenant, object: Tenant): boolean {
  return (
    old.metadata.uid === object.metadata.uid &&
    old.metadata.deletionTimestamp === object.metadata.deletionTimestamp &&
    semanticEqual(old.metadata.finalizers, object.metadata.finalizers) &&
    semanticEqual(old.metadata.labels, object.metadata.labels) &&
    semanticEqual(old.spec, object.spec)
  )
}
