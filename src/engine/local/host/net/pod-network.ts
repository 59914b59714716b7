import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, rmdirSync, writeFileSync } from 'node:fs'
import { Socket } from 'node:net'
import { networkInterfaces } from 'node:os'
import type { Duplex } from 'node:stream'
import { isDeepStrictEqual } from 'node:util'
import { IDS_PER_TENANT, isHostGranted, type Layout, type TenantName, paths } from '../../../../api/index.ts'
import {
  backendKey,
  type BandwidthCaps,
  backendsOf,
  type EgressPolicy,
  type IngressAnswer,
  type IngressBackend,
  type IngressGrant,
  type IngressRefusal,
  type JailId,
  portsOf,
  publishedPortText,
  type TenantIngress,
  type TenantEgress,
  type TenantNetwork,
  isJailId,
  parseTenantNetwork,
} from '../../../../jail/index.ts'
import { type Clock, type Logger, UndoStack, assert, sleep, systemClock } from '../../../../stdx/index.ts'
import { observeJsonFiles, observePins } from '../../observe/net/pins.ts'
import type { ConnectorView, DoorView } from '../../door/index.ts'
import type { PodNamespaces, PodNetwork, TenantPlacement } from '../../parts.ts'
import {
  type Bandwidth,
  bandwidthOf,
  GATEWAY,
  GENERATIONS,
  type Ipv4,
  type IsolationPlan,
  type IsolationRules,
  type NameView,
  planLimits,
  type PodElement,
  renderLimitsChanged,
  type RuleLimit,
  type ServiceTable,
  elementKey,
  interfaceName,
  ipv4Text,
  isolationElements,
  mergeIsolation,
  nextAddress,
  packetBytesMax,
  noIsolation,
  planIsolation,
  planIsolationRules,
  planLostBackends,
  planNames,
  planRulesRepair,
  planServices,
  planWaiting,
  renderIsolationChanged,
  renderServicesChanged,
  renderTenantAdded,
  renderTenantRemoved,
  tenantIndexOf,
  tenantMark,
} from '../../plan/net/index.ts'
import { PIDS_PER_TENANT_MAX } from '../../plan/oci/resources.ts'
import {
  CONNECT_TIMEOUT_MS,
  LINK_SWEEP_MS,
  OUTSIDE_CHECK_MS,
  RULES_REST,
  RULES_UNNOTICED_MS,
  SERVICES_RETRY_MS,
} from './limits.ts'
import { FailedLoads, type Load } from './failed-loads.ts'
import { PINNED, ensureHolder, pinNamespaces, unpinNamespaces } from './namespaces.ts'
import { NamesServer, forwarderClient } from './names-server.ts'
import { Nft } from './nft.ts'
import { Outside, type OutsideOptions } from './outside.ts'
import { Router } from './router.ts'
import { compileRules } from './rule-script.ts'
import { Uplink } from './uplink.ts'
import { ViewClient } from './view-client.ts'
import type { Detour } from './traffic-control.ts'
import { AF_INET, SOCK_STREAM, inNamespace, openSocket } from './syscalls.ts'

/** What we remember of a pod, in `runDir/net/pods`, so that a new agent finds its address. */
type PodRecord = {
  id: JailId
  namespace?: string
  labels?: readonly string[]
  index: number
  podUidBase: number
  address: Ipv4
  generation: number
  hostname: string
  hostnameRecords: readonly string[]
  /** Of its own, within its tenant's. */
  bandwidth?: BandwidthCaps
  largePackets?: boolean
  /** All namespaces, links, routes and rules are there. Never true before they are. */
  complete: boolean
}

type TenantRecord = {
  tenant: TenantName
  index: number
  network: TenantNetwork
  egress?: EgressPolicy
  /** Under which hosts and ports the outside reaches it. */
  grant?: IngressGrant
  /** Services that what it publishes leads to. The rest of that is not kept here: it has keys in it. */
  published?: readonly IngressBackend[]
  bandwidth?: BandwidthCaps
}

type TenantState = TenantRecord & {
  /** What the rules have now. */
  services: ServiceTable
  /** The jails that `network` names. */
  endpoints: ReadonlySet<string>
  plan: IsolationPlan | undefined
  /** What the rules have now, of pods too. */
  isolation: IsolationRules
  /** What the rules have now of how much it may send and receive. */
  limits: readonly RuleLimit[]
  /** Links of its pods let addresses outside pass. */
  outside: boolean
  /** What it publishes; nobody has said since we started when absent. */
  ingress?: TenantIngress
  /** The address given out last. */
  lastAddress?: Ipv4
}

const NOTHING: TenantNetwork = { services: [] }
const fresh = () => ({
  services: new Map<never, never>(),
  endpoints: new Set<string>(),
  plan: undefined,
  isolation: noIsolation(),
  limits: [],
  outside: false,
})

export type PodNetworkOptions = {
  layout: Layout
  log: Logger
  clock?: Clock
  /** Who may ask for names outside, beside root. */
  resolverUid?: number
  onEgressBlocked?: OutsideOptions['onBlocked']
  /** Who may reach pods for the front door; nobody when absent. */
  connectorUid?: number
  /** For tests that have a machine of their own. */
  machineNetns?: string
}

/** The pods' network on this machine. `close` stops its timers and leaves everything as it is. */
export function createPodNetwork(options: PodNetworkOptions): LocalPodNetwork {
  return new LocalPodNetwork(options)
}

export class LocalPodNetwork implements PodNetwork {
  readonly resolver = GATEWAY
  private readonly layout: Layout
  private readonly log: Logger
  private readonly clock: Clock
  private readonly netDir: string
  private readonly router: Router
  private readonly nft: Nft
  private readonly names: ViewClient<NameView>
  private readonly connector: ViewClient<ConnectorView>
  private readonly door: ViewClient<DoorView>
  private readonly connectorUid: number | undefined
  private readonly tenants = new Map<number, TenantState>()
  private readonly podRecords = new Map<JailId, PodRecord>()
  private readonly queues = new Map<string, Promise<unknown>>()
  private readonly departed = new Set<string>()
  private readonly outside: Outside
  private readonly namesServer: NamesServer
  private readonly loads: FailedLoads
  private sweep: (() => void) | undefined
  private look: (() => void) | undefined
  private loaded = false
  /** The program that holds namespaces while they are made. */
  private holder: string | undefined
  /** No rules are changed before. */
  private restedAtMs = 0

  constructor({
    layout,
    log,
    clock = systemClock,
    resolverUid = 0,
    onEgressBlocked,
    connectorUid,
    machineNetns = '/proc/self/ns/net',
  }: PodNetworkOptions) {
    this.layout = layout
    this.log = log
    this.clock = clock
    this.connectorUid = connectorUid
    this.netDir = `${layout.runDir}/net`
    this.router = new Router(paths.routerNetns(layout))
    this.nft = new Nft(this.router.pin, this.netDir)
    this.loads = new FailedLoads({ path: paths.failedLoads(layout), clock, log })
    this.outside = new Outside({
      layout,
      router: this.router,
      nft: this.nft,
      uplink: new Uplink({
        layout,
        router: this.router,
        nft: new Nft(machineNetns, this.netDir),
        machineNetns,
      }),
      clock,
      log,
      lookUp: forwarderClient(paths.forwarderSocket(layout)),
      pods: () => [...this.podRecords.values()].filter((pod) => pod.complete),
      ...(onEgressBlocked ? { onBlocked: onEgressBlocked } : {}),
    })
    this.namesServer = new NamesServer({
      path: paths.outsideSocket(layout),
      uid: resolverUid,
      log,
      resolve: (pod, name) => this.outside.resolve(pod, name),
      report: (tenant) => this.egress(tenant),
    })
    this.names = new ViewClient({
      socketPath: paths.dnsSocket(layout),
      daemon: 'resolver',
      log,
      clock,
      view: (index) => this.view(index),
      indexes: () => this.tenants.keys(),
    })
    this.connector = new ViewClient({
      socketPath: paths.connectorSocket(layout),
      daemon: 'connector',
      log,
      clock,
      view: (index) => this.connectorView(index),
      indexes: () => this.tenants.keys(),
    })
    this.door = new ViewClient({
      socketPath: paths.ingressSocket(layout),
      daemon: 'front door',
      log,
      clock,
      view: (index) => this.doorView(index),
      indexes: () => this.tenants.keys(),
    })
  }

  async ensureNode(): Promise<void> {
    await this.inTurn('rules', async () => {
      for (const dir of ['tenants', 'pods'])
        mkdirSync(`${this.netDir}/${dir}`, { recursive: true, mode: 0o700 })
      this.holder = ensureHolder(this.netDir)
      if (!this.loaded) this.load()
      const pins = observePins()
      this.router.ensure(pins.has(this.router.pin))
      const { shares } = this.router
      shares.forget()
      const missing = shares.probe()
      if (missing !== undefined)
        this.log.warn('this kernel cannot make packets wait; what is too much is only dropped', { missing })
      shares.removeOthers(this.sharing())
      this.repairPods(pins)
      const pods = [...this.podRecords.values()].filter((pod) => pod.complete)
      const services = new Map([...this.tenants.values()].map((t) => [t.index, this.planServices(t)]))
      const observed = await this.nft.observe()
      const before = observed?.isolation.classes ?? new Map<string, number>()
      const isolation = new Map([...this.tenants.values()].map((t) => [t.index, this.planRules(t, before)]))
      const state = {
        tenants: [...this.tenants.keys()],
        pods: pods.map((pod) => this.element(pod)),
        services,
        isolation: mergeIsolation(isolation.values()),
        limits: [...this.tenants.values()].flatMap((each) =>
          planLimits(each.index, bandwidthOf(each.bandwidth)),
        ),
        ...(this.connectorUid === undefined ? {} : { connectorUid: this.connectorUid }),
      }
      const script = planRulesRepair(observed, state)
      await this.loads.during(loadOfAll, () => this.nft.apply(script))
      for (const tenant of this.tenants.values()) {
        tenant.services = services.get(tenant.index) ?? new Map()
        tenant.isolation = isolation.get(tenant.index) ?? noIsolation()
        tenant.limits = planLimits(tenant.index, bandwidthOf(tenant.bandwidth))
      }
      this.log.info('pod network ready', {
        tenants: state.tenants.length,
        pods: pods.length,
        repaired: script !== '',
      })
      await this.refreshOutside()
    })
    await this.namesServer.start()
    this.names.start()
    if (this.connectorUid !== undefined) {
      for (const { index, grant } of this.tenants.values()) if (grant) this.router.ensureDoor(index)
      this.connector.start()
      this.door.start()
    }
    this.lookOutside()
  }

  async setTenantEgress(placement: TenantPlacement): Promise<void> {
    await this.inTurn('rules', async () => {
      const tenant = this.requireTenant(placement)
      if (isDeepStrictEqual(tenant.egress, placement.egress)) return
      const { egress: _before, ...rest } = tenant
      const { egress } = placement
      Object.assign(tenant, { egress: undefined }, egress === undefined ? {} : { egress })
      this.saveTenant({ ...rest, ...(egress === undefined ? {} : { egress }) })
      this.outside.setPolicy(tenant.index, egress)
      await this.refreshOutside()
    })
  }

  async setTenantBandwidth(placement: TenantPlacement): Promise<void> {
    const { index, bandwidth } = placement
    await this.inTurnOfTenant(index, async () => {
      const tenant = this.requireTenant(placement)
      if (isDeepStrictEqual(tenant.bandwidth, bandwidth)) return
      const limits = planLimits(index, bandwidthOf(bandwidth))
      await this.loads.during(loadOf(tenant, 'bandwidth'), () =>
        this.applyRules([renderLimitsChanged(tenant.limits, limits)]),
      )
      tenant.limits = limits
      delete tenant.bandwidth
      if (bandwidth !== undefined) tenant.bandwidth = bandwidth
      this.saveTenant(tenant)
      for (const pod of this.podRecords.values())
        if (pod.index === index && pod.complete) this.linkRepaired(pod, { expected: true })
    })
    await this.inTurn('rules', async () => this.shareUplink())
  }

  async setTenantIngressGrant(placement: TenantPlacement): Promise<void> {
    await this.inTurnOfTenant(placement.index, async () => {
      const tenant = this.requireTenant(placement)
      const { ingress: grant } = placement
      if (isDeepStrictEqual(tenant.grant, grant)) return
      if (grant) {
        this.router.ensureDoor(tenant.index)
        tenant.grant = grant
      } else {
        delete tenant.grant
        delete tenant.published
        delete tenant.ingress
      }
      this.saveTenant(tenant)
    })
    this.connector.changed(placement.index)
    this.door.changed(placement.index)
  }

  async setTenantIngress(placement: TenantPlacement, ingress: TenantIngress): Promise<IngressAnswer> {
    const { index } = placement
    const refused = await this.inTurnOfTenant(index, async () => {
      const tenant = this.requireTenant(placement)
      const { grant = { hosts: [], ports: [] } } = tenant
      tenant.ingress = ingress
      tenant.published = backendsOf(ingress)
      this.saveTenant(tenant)
      return notGranted(grant, ingress)
    })
    if (!this.tenants.get(index)?.grant) return { refused }
    await this.connector.push(index)
    const answer = JSON.parse(await this.door.push(index)) as { refused?: IngressRefusal[] } // our own daemon's words
    return { refused: [...refused, ...(answer.refused ?? [])] }
  }

  private doorView(index: number): DoorView | undefined {
    const { tenant, grant, ingress } = this.tenants.get(index) ?? {}
    if (tenant === undefined || !grant) return undefined
    return { tenant, grant, ingress: ingress ?? null }
  }

  /** Where what the tenant publishes is: pods of its own that are ready, and no others. */
  private connectorView(index: number): ConnectorView | undefined {
    const { grant, published = [], network } = this.tenants.get(index) ?? {}
    if (!grant || !network) return undefined
    const services = new Map(network.services.map((each) => [`${each.namespace}/${each.name}`, each]))
    return {
      services: published.flatMap((backend) => {
        const service = services.get(`${backend.namespace}/${backend.service}`)
        const { port: number, protocol = 'TCP' } = backend
        const port = service?.ports.find((each) => each.port === number && each.protocol === protocol)
        if (!service || !port) return []
        const endpoints = port.endpoints.flatMap(({ jail, port: at, ready }) => {
          const address = ready || service.publishNotReadyAddresses ? this.addressOf(index, jail) : undefined
          return address === undefined ? [] : [{ address: ipv4Text(address), port: at }]
        })
        const affinity = service.sessionAffinitySeconds !== undefined
        return [{ key: backendKey(backend), affinity, endpoints }]
      }),
    }
  }

  /** What the pods of a tenant are, and what it says of them, has changed. */
  private tell(index: number): void {
    this.names.changed(index)
    this.connector.changed(index)
  }

  /** What `bulkhead egress` shows: of every tenant that has rules, or of one. */
  async egress(tenant?: string): Promise<TenantEgress[]> {
    return await this.inTurn('rules', async () => {
      await this.outside
        .count()
        .catch((error: unknown) => this.log.warn('cannot count connections outside', { error }))
      return [...this.tenants.values()]
        .filter((each) => (tenant === undefined ? each.egress : each.tenant === tenant))
        .map((each) => this.outside.report(each.index, each.tenant))
    })
  }

  /** The same for the tenant itself, as of the last look: whoever asks often makes nobody count. */
  tenantEgress(placement: TenantPlacement): TenantEgress {
    const tenant = this.requireTenant(placement)
    const { uplink, ...report } = this.outside.report(tenant.index, tenant.tenant)
    return {
      ...report,
      // What is wrong with the machine, and why the operator opened something, are the operator's.
      uplink: uplink === 'open' || uplink === 'not needed' ? uplink : 'unavailable',
      rules: report.rules.map(({ reason: _reason, ...rule }) => rule),
    }
  }

  /** Requires: its turn with the rules. Rules first, so that a link that lets more pass never stands alone. */
  private async refreshOutside(): Promise<void> {
    await this.outside.refresh()
    const { problem } = this.outside
    if (problem === undefined) this.loads.settle(loadOfOutside.key)
    else this.loads.fail(loadOfOutside, problem)
    this.shareUplink()
    for (const tenant of this.tenants.values()) {
      const outside = this.outside.isOutgoing(tenant.index)
      if (tenant.outside === outside) continue
      tenant.outside = outside
      this.tell(tenant.index)
      for (const pod of this.podRecords.values())
        if (pod.index === tenant.index && pod.complete) this.linkRepaired(pod, { expected: true })
    }
  }

  /** The machine's addresses change, rules end, and somebody may have flushed the machine's rules. */
  private lookOutside(): void {
    this.look?.()
    this.look = this.clock.after(OUTSIDE_CHECK_MS, () => {
      void this.inTurn('rules', async () => {
        await this.refreshOutside()
        await this.outside.count()
      })
        .catch((error: unknown) => this.log.warn('cannot look at the way outside', { error }))
        .finally(() => this.look && this.lookOutside())
    })
  }

  async ensureTenant(placement: TenantPlacement): Promise<void> {
    const known = this.tenants.get(placement.index)
    if (known) return this.requireSame(known, placement)
    await this.inTurnOfTenant(placement.index, async () => {
      const existing = this.tenants.get(placement.index)
      if (existing) return this.requireSame(existing, placement)
      tenantMark(placement.index) // refuses an index without addresses
      const tenant: TenantState = {
        tenant: placement.tenant,
        index: placement.index,
        network: NOTHING,
        ...(placement.bandwidth === undefined ? {} : { bandwidth: placement.bandwidth }),
        ...fresh(),
        limits: planLimits(placement.index, bandwidthOf(placement.bandwidth)),
      }
      await this.loads.during(loadOf(tenant, 'tenant'), () =>
        this.applyRules([renderTenantAdded(placement.index), renderLimitsChanged([], tenant.limits)]),
      )
      this.tenants.set(placement.index, tenant)
      this.saveTenant(tenant)
      return undefined
    })
    this.tell(placement.index)
  }

  async removeTenant(name: TenantName): Promise<void> {
    const tenant = [...this.tenants.values()].find((t) => t.tenant === name)
    if (!tenant) return this.loads.settle(...loadsOf(name))
    const pods = [...this.podRecords.values()].filter((pod) => pod.index === tenant.index)
    for (const pod of pods) await this.removePod(pod.id)
    await this.inTurnOfTenant(tenant.index, async () => {
      if (this.tenants.get(tenant.index) !== tenant) return
      const left = [...this.podRecords.values()].some((pod) => pod.index === tenant.index)
      assert(!left, `The tenant "${name}" got a pod while it was removed`)
      const services = renderServicesChanged(tenant.services, new Map())
      const isolation = renderIsolationChanged(tenant.isolation, noIsolation())
      const limits = renderLimitsChanged(tenant.limits, [])
      await this.loads.during(loadOf(tenant, 'tenant'), () =>
        this.applyRules([services, isolation, limits, renderTenantRemoved(tenant.index)]),
      )
      this.loads.settle(...loadsOf(name))
      this.tenants.delete(tenant.index)
      this.router.shares.remove(tenant.index)
      await this.inTurn('rules', async () => {
        this.outside.setPolicy(tenant.index, undefined)
        this.outside.setNarrowings(tenant.index, undefined)
        await this.refreshOutside()
      })
      rmSync(this.tenantFile(tenant.index), { force: true })
    })
    this.tell(tenant.index)
  }

  async ensurePod(
    placement: TenantPlacement,
    pod: Parameters<PodNetwork['ensurePod']>[1],
  ): Promise<PodNamespaces> {
    assert(isJailId(pod.id), 'A jail id is not a UUID')
    return await this.inTurn(pod.id, async () => {
      const tenant = this.requireTenant(placement)
      const existing = this.podRecords.get(pod.id)
      if (existing && existing.index !== placement.index)
        throw new Error(`The jail "${pod.id}" belongs to another tenant than "${placement.tenant}"`)
      if (existing?.complete) {
        this.repairLink(existing)
        if (!isDeepStrictEqual(existing.hostnameRecords, pod.hostnameRecords)) {
          this.savePod({ ...existing, hostnameRecords: [...pod.hostnameRecords] })
          this.tell(placement.index)
        }
        const labels = pod.labels ?? []
        if (!isDeepStrictEqual(existing.labels ?? [], labels)) await this.relabel(existing.id, labels)
        return this.namespaces(existing)
      }
      const record: PodRecord = {
        id: pod.id,
        ...(pod.namespace === undefined ? {} : { namespace: pod.namespace }),
        ...(pod.labels === undefined ? {} : { labels: [...pod.labels] }),
        index: placement.index,
        podUidBase: placement.podUidBase,
        address: existing?.address ?? this.allocate(tenant),
        generation: existing ? (existing.generation + 1) % GENERATIONS : 0,
        hostname: pod.hostname,
        hostnameRecords: [...pod.hostnameRecords],
        ...(pod.bandwidth === undefined ? {} : { bandwidth: pod.bandwidth }),
        ...(pod.largePackets ? { largePackets: true } : {}),
        complete: false,
      }
      return await this.build(record)
    })
  }

  async renewPod(placement: TenantPlacement, id: JailId): Promise<PodNamespaces> {
    return await this.inTurn(id, async () => {
      this.requireTenant(placement)
      const existing = this.podRecords.get(id)
      if (!existing || existing.index !== placement.index)
        throw new Error(`The tenant "${placement.tenant}" has no jail "${id}" whose network could be renewed`)
      return await this.build({
        ...existing,
        generation: (existing.generation + 1) % GENERATIONS,
        complete: false,
      })
    })
  }

  async removePod(id: JailId): Promise<void> {
    await this.inTurn(id, async () => {
      const record = this.podRecords.get(id)
      if (!record) return
      await this.takeDown(record)
      rmSync(this.podFile(id), { force: true })
      this.podRecords.delete(id)
      // The engine keeps other things in the directory above, and removes it when those are gone.
      removeIfEmpty(`${this.layout.runDir}/pods/${id}`)
      await this.podChanged(record)
    })
  }

  async setTenantNetwork(placement: TenantPlacement, network: TenantNetwork): Promise<void> {
    const parsed = parseTenantNetwork(network)
    await this.ensureTenant(placement)
    await this.inTurnOfTenant(placement.index, async () => {
      const tenant = this.requireTenant(placement)
      await this.loads.during(loadOf(tenant, 'network'), async () => {
        const plan = parsed.isolation && planIsolation(tenant.index, parsed.isolation)
        await this.applyNetwork({ ...tenant, network: parsed, plan }, tenant)
      })
      // Where its pods are was in it.
      this.loads.settle(loadOf(tenant, 'endpoints').key)
      tenant.network = parsed
      tenant.endpoints = endpointsOf(parsed)
      this.saveTenant(tenant)
      await this.inTurn('rules', async () => {
        if (this.outside.setNarrowings(tenant.index, parsed.narrowings)) await this.refreshOutside()
      })
    })
    this.tell(placement.index)
  }

  async pods(): Promise<ReadonlyMap<JailId, PodNamespaces>> {
    assert(this.loaded, 'ensureNode comes first')
    const complete = [...this.podRecords.values()].filter((pod) => pod.complete)
    return new Map(complete.map((pod) => [pod.id, this.namespaces(pod)]))
  }

  async connect(id: JailId, port: number, signal: AbortSignal): Promise<Duplex> {
    const record = this.podRecords.get(id)
    if (!record?.complete) throw new Error(`The jail "${id}" has no network to connect to`)
    if (!Number.isInteger(port) || port < 1 || port > 65_535)
      throw new RangeError(`There is no TCP port ${port}`)
    const inside = `${this.nsDir(id)}/net`
    const address = ipv4Text(record.address)
    // A gVisor sandbox has taken the address out of the namespace; then the pod can only be reached over its link.
    const ways = inNamespace('net', inside, () => hasAddress(address))
      ? [
          { netns: inside, host: '127.0.0.1' },
          { netns: inside, host: address },
        ]
      : [{ netns: this.router.pin, host: address }]
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(CONNECT_TIMEOUT_MS)])
    const failures: unknown[] = []
    for (const way of ways) {
      try {
        return await connectFrom(way.netns, way.host, port, deadline)
      } catch (error) {
        failures.push(error)
        deadline.throwIfAborted()
      }
    }
    throw new Error(`Nothing in the jail "${id}" accepts connections on port ${port}`, { cause: failures[0] })
  }

  async reset(): Promise<void> {
    for (const client of [this.names, this.connector, this.door]) client.stop()
    this.stopTimers()
    this.namesServer.remove()
    await this.inTurn('rules', async () => {
      for (const pin of observePins())
        if (pin.startsWith(`${this.layout.runDir}/pods/`) && isPodPin(pin))
          unpinNamespaces(pin.replace(/\/[a-z]+$/, ''))
      if (!this.loaded && existsSync(this.netDir)) this.load()
      for (const id of this.podRecords.keys()) {
        unpinNamespaces(this.nsDir(id))
        removeIfEmpty(`${this.layout.runDir}/pods/${id}`)
      }
      mkdirSync(this.netDir, { recursive: true, mode: 0o700 })
      await this.outside.remove()
      this.router.remove()
      rmSync(this.router.pin, { force: true })
      rmSync(this.netDir, { recursive: true, force: true })
      this.podRecords.clear()
      this.tenants.clear()
      this.departed.clear()
      this.loaded = false
    })
  }

  close(): void {
    for (const client of [this.names, this.connector, this.door]) client.stop()
    this.stopTimers()
    this.namesServer.stop()
    this.router.close()
  }

  private stopTimers(): void {
    this.sweep?.()
    this.look?.()
    this.sweep = undefined
    this.look = undefined
  }

  /** Reads what an earlier agent wrote down. A record that cannot be read is a pod that is made anew. */
  private load(): void {
    this.loads.takeOver()
    for (const { name, text } of observeJsonFiles(`${this.netDir}/tenants`)) {
      const record = readRecord<TenantRecord>(text)
      if (!record || String(record.index) !== name) {
        this.log.error('unreadable tenant record', { name })
        continue
      }
      const network = parseTenantNetwork(record.network)
      this.outside.setPolicy(record.index, record.egress)
      this.outside.setNarrowings(record.index, network.narrowings)
      this.tenants.set(record.index, {
        ...record,
        network,
        ...fresh(),
        services: new Map(),
        endpoints: endpointsOf(network),
        plan: network.isolation && planIsolation(record.index, network.isolation),
        outside: this.outside.isOutgoing(record.index),
      })
    }
    for (const { name, text } of observeJsonFiles(`${this.netDir}/pods`)) {
      const record = readRecord<PodRecord>(text)
      if (
        !record ||
        record.id !== name ||
        !isJailId(name) ||
        tenantIndexOf(record.address) !== record.index
      ) {
        this.log.error('unreadable pod record', { name })
        rmSync(`${this.netDir}/pods/${name}.json`, { force: true })
        continue
      }
      this.podRecords.set(record.id, record)
    }
    this.loaded = true
  }

  /** Compares the records with links and pins; takes down what is half there or nobody's. */
  private repairPods(pins: ReadonlySet<string>): void {
    const links = this.router.links()
    const owned = new Set<string>()
    for (const record of this.podRecords.values()) {
      const { interfaceName: name } = this.element(record)
      const link = links.get(name)
      const whole =
        record.complete &&
        link !== undefined &&
        PINNED.every((kind) => pins.has(`${this.nsDir(record.id)}/${kind}`))
      if (whole && this.linkRepaired(record)) {
        owned.add(name)
      } else {
        unpinNamespaces(this.nsDir(record.id))
        this.savePod({ ...record, complete: false })
      }
    }
    for (const name of links.keys())
      if (name.startsWith(this.layout.interfacePrefix) && !owned.has(name)) this.router.deleteLink(name)
    for (const pin of pins) {
      const id =
        pin.startsWith(`${this.layout.runDir}/pods/`) && isPodPin(pin) ? pin.split('/').at(-3) : undefined
      if (id !== undefined && !this.podRecords.has(id as JailId))
        unpinNamespaces(pin.replace(/\/[a-z]+$/, ''))
    }
  }

  /** @throws when the link cannot be made to filter; then it is down. */
  private repairLink(record: PodRecord, { expected = false } = {}): void {
    const detour = this.ensureShare(record)
    this.sizePackets(record)
    if (this.router.repairPod(this.element(record), detour) && !expected)
      this.log.error("a pod's link did not filter as it must, and does again", { id: record.id })
  }

  /** One pod that cannot be repaired is made anew, and keeps no other from being repaired. */
  private linkRepaired(record: PodRecord, options: { expected?: boolean } = {}): boolean {
    try {
      this.repairLink(record, options)
      return true
    } catch (error) {
      this.log.error("cannot repair a pod's link", { id: record.id, error })
      return false
    }
  }

  /** Makes namespaces, links, routes and rules of a pod from nothing, after removing what there was. */
  private async build(record: PodRecord): Promise<PodNamespaces> {
    const dir = this.nsDir(record.id)
    const previous = this.podRecords.get(record.id)
    if (previous) await this.takeDown(previous)
    this.savePod(record)
    await using undo = new UndoStack()
    undo.add(async () => await this.takeDown(record))
    assert(this.holder !== undefined, 'ensureNode comes first')
    await pinNamespaces(this.holder, dir, {
      uidBase: record.podUidBase,
      idsCount: IDS_PER_TENANT,
      owner: { uid: this.layout.namespaceOwnerUidBase + record.index, tasksMax: PIDS_PER_TENANT_MAX },
    })
    const { hostname, podUidBase: gidBase } = record
    await this.inTurnOfTenant(record.index, async () => {
      const tenant = this.tenants.get(record.index)
      if (!tenant) throw new Error(`The tenant of the jail "${record.id}" is gone`)
      // Its policies are in force at the moment at which its first packet can be.
      const isolation = this.isolationOf(tenant, record)
      const element = { ...this.element(record), hostname, gidBase, idsCount: IDS_PER_TENANT }
      this.router.attachPod(dir, element, isolation, this.ensureShare(record))
      this.sizePackets(record)
      for (const each of isolation) tenant.isolation.elements.set(elementKey(each), each)
      this.savePod({ ...record, complete: true })
    })
    undo.release()
    await this.podChanged(record)
    return this.namespaces(record)
  }

  private async takeDown(record: PodRecord): Promise<void> {
    const element = this.element(record)
    await this.inTurnOfTenant(record.index, async () => {
      const tenant = this.tenants.get(record.index)
      const isolation = tenant ? this.isolationOf(tenant, record) : []
      this.router.shutOut(element, isolation)
      this.router.shares.setPod(record.index, record.address, undefined)
      for (const each of isolation) tenant?.isolation.elements.delete(elementKey(each))
      // Whatever is planned from now on does not count it.
      if (this.podRecords.get(record.id)?.complete) this.savePod({ ...record, complete: false })
    })
    unpinNamespaces(this.nsDir(record.id))
    this.departed.add(element.interfaceName)
    this.sweep ??= this.clock.after(LINK_SWEEP_MS, () => this.sweepLinks())
  }

  /** The kernel removes a link with its namespace, unless a process lingers in there: then we do. */
  private sweepLinks(): void {
    this.sweep = undefined
    const inUse = new Set(
      [...this.podRecords.values()].filter((p) => p.complete).map((p) => this.element(p).interfaceName),
    )
    try {
      for (const name of this.departed) if (!inUse.has(name)) this.router.deleteLink(name)
    } catch (error) {
      this.log.warn('cannot remove the link of a pod that is gone', { error })
    }
    this.departed.clear()
  }

  /** A pod that came or went may be an endpoint. Its own fate does not depend on that; what fails is tried again. */
  private async podChanged(record: PodRecord): Promise<void> {
    this.tell(record.index)
    await this.podOutside(record)
    if (!this.tenants.get(record.index)?.endpoints.has(record.id)) return
    try {
      await this.inTurnOfTenant(record.index, async () => {
        const tenant = this.tenants.get(record.index)
        if (tenant)
          await this.loads.during(loadOf(tenant, 'endpoints'), () => this.applyNetwork(tenant, tenant))
      })
    } catch (error) {
      this.log.error('cannot update the services of a tenant', { index: record.index, error })
      this.clock.after(SERVICES_RETRY_MS, () => void this.podChanged(record))
    }
  }

  /** @throws when the rules could not be changed: then it has the labels that it had, and whoever asked asks again. */
  private async relabel(id: JailId, labels: readonly string[]): Promise<void> {
    const before = this.podRecords.get(id)
    if (!before) return
    this.savePod({ ...before, labels: [...labels] })
    try {
      await this.inTurn('rules', async () => {
        await this.outside.podsChanged()
        this.outside.podRelabelled(before.index)
      })
    } catch (error) {
      this.savePod(before)
      throw error
    }
  }

  /** A pod that cannot reach outside yet is no reason not to have it; the next look tries again. */
  private async podOutside(record: PodRecord): Promise<void> {
    if (!this.outside.isNeeded) return
    try {
      await this.inTurn('rules', async () => {
        // Its address may be another's already.
        if (![...this.podRecords.values()].some((pod) => pod.complete && pod.address === record.address))
          this.outside.podGone(record.index, record.address)
        await this.outside.podsChanged()
      })
    } catch (error) {
      this.log.error('cannot update what a pod reaches outside', { id: record.id, error })
    }
  }

  /** Requires: it is the tenant's turn, so that none of its pods comes or goes meanwhile. */
  private async applyNetwork(desired: TenantState, current: TenantState): Promise<void> {
    const services = this.planServices(desired)
    const isolation = this.planRules(desired, current.isolation.classes)
    const lost = planLostBackends(current.services, services)
    await this.applyRules([
      renderServicesChanged(current.services, services),
      renderIsolationChanged(current.isolation, isolation),
    ])
    current.services = services
    current.isolation = isolation
    current.plan = desired.plan
    try {
      this.router.forgetConnections(current.index, lost)
    } catch (error) {
      // The rules are right; only clients that never pause go on talking to nobody.
      this.log.warn('cannot forget connections to endpoints that are gone', { index: current.index, error })
    }
  }

  /** All in one transaction. What cannot be loaded changes nothing. */
  private async applyRules(parts: readonly string[]): Promise<void> {
    const script = parts.filter((part) => part !== '').join('\n')
    if (script === '') return
    await this.inTurn('rules', async () => {
      const messages = compileRules(script)
      if (!messages) return await this.nft.apply(script)
      await this.untilRested()
      const beganMs = performance.now()
      this.router.ruleSocket.change(messages)
      const endedMs = performance.now()
      const tookMs = endedMs - beganMs
      if (tookMs >= RULES_UNNOTICED_MS) this.restedAtMs = endedMs + tookMs * RULES_REST
    })
  }

  /**
   * The kernel looks at the rules of all tenants when one's change, and nobody else is heard meanwhile: who changes rules
   * again and again has a part of this process's time only.
   */
  private async untilRested(): Promise<void> {
    const leftMs = this.restedAtMs - performance.now()
    // A timer that keeps the process alive: somebody waits for what comes after it.
    if (leftMs > 0) await sleep(leftMs)
  }

  private planRules(tenant: TenantState, before: ReadonlyMap<string, number>): IsolationRules {
    const pods = [...this.podRecords.values()].filter((pod) => pod.index === tenant.index && pod.complete)
    return planIsolationRules(tenant.index, tenant.plan, pods, before)
  }

  private isolationOf({ index, plan, isolation }: TenantState, { id, address }: PodRecord) {
    return isolationElements(index, plan, isolation.classes, id, address)
  }

  private planServices(tenant: TenantState): ServiceTable {
    return planServices(tenant.index, tenant.network, (jail) => this.addressOf(tenant.index, jail))
  }

  private view(index: number) {
    const tenant = this.tenants.get(index)
    if (!tenant) return undefined
    const pods = [...this.podRecords.values()].filter((pod) => pod.index === index && pod.complete)
    const names = planNames(tenant.network, pods, (jail) => this.addressOf(index, jail))
    return tenant.outside || tenant.egress?.learn ? { ...names, outside: true } : names
  }

  /** Only pods of the tenant itself have an address here; every other jail is nobody. */
  private addressOf(index: number, jail: string): Ipv4 | undefined {
    const pod = this.podRecords.get(jail as JailId)
    return pod?.index === index && pod.complete ? pod.address : undefined
  }

  private allocate(tenant: TenantState): Ipv4 {
    const used = new Set(
      [...this.podRecords.values()].filter((p) => p.index === tenant.index).map((p) => p.address),
    )
    // After a restart the highest address in use is as good a guess as any at what was given out last.
    const last = tenant.lastAddress ?? (used.size === 0 ? undefined : Math.max(...used))
    const address = nextAddress(tenant.index, used, last)
    tenant.lastAddress = address
    return address
  }

  private requireTenant(placement: TenantPlacement): TenantState {
    const tenant = this.tenants.get(placement.index)
    if (!tenant) throw new Error(`The tenant "${placement.tenant}" has no network; ensureTenant comes first`)
    this.requireSame(tenant, placement)
    return tenant
  }

  private requireSame(tenant: TenantState, placement: TenantPlacement): void {
    if (tenant.tenant !== placement.tenant)
      throw new Error(
        `The index ${placement.index} belongs to the tenant "${tenant.tenant}", not to "${placement.tenant}"`,
      )
  }

  /** Where a pod's packets wait for their turn; made when the tenant's first pod comes. */
  private ensureShare({ index, address, bandwidth }: PodRecord): Detour | undefined {
    const { shares } = this.router
    const whole = bandwidthOf(this.tenants.get(index)?.bandwidth)
    const links = shares.ensure(index, whole)
    shares.setPod(index, address, bandwidth)
    if (!links) return undefined
    const waits = planWaiting(index, whole, bandwidth)
    return {
      fromPod: { link: links.fromPod, waits: waits.fromPod },
      toPod: { link: links.toPod, waits: waits.toPod },
    }
  }

  /** gVisor reads its packets from the link itself, and has no room for larger ones. */
  private sizePackets(record: PodRecord): void {
    if (!record.largePackets) return
    const tenant = this.tenants.get(record.index)
    const whole = bandwidthOf(tenant?.bandwidth)
    const sizeOf = (way: keyof Bandwidth) =>
      packetBytesMax(Math.min(whole[way], record.bandwidth?.[way] ?? Infinity), tenant?.outside ?? false)
    this.router.sizePackets(this.nsDir(record.id), this.element(record), {
      fromPod: sizeOf('egressBitsPerSecond'),
      toPod: sizeOf('ingressBitsPerSecond'),
    })
  }

  private sharing(): Set<number> {
    return new Set([...this.podRecords.values()].map(({ index }) => index))
  }

  /** Requires: its turn with the rules. */
  private shareUplink(): void {
    const outgoing = [...this.tenants.values()].filter(({ index }) => this.outside.isOutgoing(index))
    const each = new Map<number, Bandwidth>(outgoing.map((t) => [t.index, bandwidthOf(t.bandwidth)]))
    try {
      this.router.shares.shareUplink(this.outside.bitsPerSecond, each)
    } catch (error) {
      this.log.error('the way outside is not shared as it should be', { error })
    }
  }

  private element(record: PodRecord): PodElement {
    const { address, index, generation } = record
    const outside = this.tenants.get(index)?.outside ?? false
    return {
      interfaceName: interfaceName(this.layout.interfacePrefix, address, generation),
      address,
      index,
      outside,
    }
  }

  private namespaces(record: PodRecord): PodNamespaces {
    const dir = this.nsDir(record.id)
    return {
      user: `${dir}/user`,
      net: `${dir}/net`,
      ipc: `${dir}/ipc`,
      uts: `${dir}/uts`,
      podIP: ipv4Text(record.address),
    }
  }

  private nsDir(id: JailId): string {
    return `${this.layout.runDir}/pods/${id}/ns`
  }

  private podFile(id: JailId): string {
    return `${this.netDir}/pods/${id}.json`
  }

  private tenantFile(index: number): string {
    return `${this.netDir}/tenants/${index}.json`
  }

  private savePod(record: PodRecord): void {
    this.podRecords.set(record.id, record)
    writeWhole(this.podFile(record.id), record)
  }

  private saveTenant({ tenant, index, network, egress, grant, published, bandwidth }: TenantRecord): void {
    const record: TenantRecord = {
      tenant,
      index,
      network,
      ...(egress === undefined ? {} : { egress }),
      ...(grant === undefined ? {} : { grant }),
      ...(published === undefined ? {} : { published }),
      ...(bandwidth === undefined ? {} : { bandwidth }),
    }
    writeWhole(this.tenantFile(index), record)
  }

  /**
   * One after the other for each tenant. Of each tenant at most one transaction waits for the router, so that nobody
   * waits for more than one of every other tenant.
   */
  private async inTurnOfTenant<T>(index: number, work: () => Promise<T>): Promise<T> {
    return await this.inTurn(`tenant ${index}`, work)
  }

  /** One after the other for each key. */
  private async inTurn<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.queues.get(key) ?? Promise.resolve()
    const turn = before.then(work, work)
    this.queues.set(key, turn)
    try {
      return await turn
    } finally {
      if (this.queues.get(key) === turn) this.queues.delete(key)
    }
  }
}

const LOADS = ['tenant', 'network', 'endpoints', 'bandwidth'] as const
const LOADS_IN_WORDS = {
  tenant: 'what makes it a tenant of the network, or no longer one',
  network: 'its services and network policies as it wants them',
  endpoints: 'where the pods behind its services are',
  bandwidth: 'how much it may send and receive',
} satisfies Record<(typeof LOADS)[number], string>
const loadOfAll: Load = { key: 'all', what: 'the rules of all tenants' }
const loadOfOutside: Load = { key: 'outside', what: 'what pods reach outside' }

function loadOf({ tenant }: Pick<TenantRecord, 'tenant'>, what: (typeof LOADS)[number]): Load {
  return { key: `${what} ${tenant}`, tenant, what: LOADS_IN_WORDS[what] }
}

function loadsOf(tenant: TenantName): string[] {
  return LOADS.map((what) => loadOf({ tenant }, what).key)
}

/**
 * A TCP connection whose socket is born in another network namespace and stays there. Only the birth happens inside, in
 * one synchronous step; Node then treats it like any other socket.
 */
async function connectFrom(netns: string, host: string, port: number, signal: AbortSignal): Promise<Socket> {
  signal.throwIfAborted()
  const fd = inNamespace('net', netns, () => openSocket(AF_INET, SOCK_STREAM, 0, { nonBlocking: true }))
  // Without `manualStart` Node would read from a socket that is not connected yet, and see it closed.
  const socket = new Socket({ fd, manualStart: true, allowHalfOpen: true } as ConstructorParameters<
    typeof Socket
  >[0])
  const connected = Promise.withResolvers<void>()
  const abort = () => socket.destroy(signal.reason instanceof Error ? signal.reason : new Error('Aborted'))
  signal.addEventListener('abort', abort, { once: true })
  socket.once('error', connected.reject)
  socket.once('close', () => connected.reject(new Error(`The connection to port ${port} was closed`)))
  try {
    socket.connect({ host, port }, connected.resolve)
    await connected.promise
    socket.off('error', connected.reject)
    return socket
  } catch (error) {
    socket.destroy()
    throw error
  } finally {
    signal.removeEventListener('abort', abort)
  }
}

/** Requires: the thread is in the namespace meant; networkInterfaces asks the kernel from this thread. */
function hasAddress(address: string): boolean {
  return Object.values(networkInterfaces()).some((all) => all?.some((each) => each.address === address))
}

/** A reader sees the old content or the new, never half. */
function writeWhole(path: string, value: unknown): void {
  writeFileSync(`${path}.new`, JSON.stringify(value), { mode: 0o600 })
  renameSync(`${path}.new`, path)
}

function readRecord<T>(text: string): T | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as T) : undefined // ours: the directory is root's alone
  } catch {
    return undefined
  }
}

function endpointsOf(network: TenantNetwork): Set<string> {
  return new Set(network.services.flatMap((s) => s.ports.flatMap((p) => p.endpoints.map((e) => e.jail))))
}

function isPodPin(path: string): boolean {
  return PINNED.some((kind) => path.endsWith(`/ns/${kind}`))
}

function removeIfEmpty(dir: string): void {
  if (existsSync(dir) && readdirSync(dir).length === 0) rmdirSync(dir)
}

function notGranted(grant: IngressGrant, { routes, ports }: TenantIngress): IngressRefusal[] {
  const hosts = new Set(routes.map(({ host }) => host).filter((host) => !isHostGranted(grant.hosts, host)))
  const granted = new Set(portsOf(grant))
  return [
    ...[...hosts].map((host) => ({ what: host, why: 'the operator has not granted this host' })),
    ...ports
      .map(publishedPortText)
      .filter((port) => !granted.has(port))
      .map((port) => ({ what: port, why: 'the operator has not granted this port' })),
  ]
}
