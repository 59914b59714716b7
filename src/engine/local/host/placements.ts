import { createHash, randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import {
  hostsOverlap,
  IDS_PER_TENANT,
  type Layout,
  parseTenantName,
  PLATFORM_TENANT,
  type TenantName,
} from '../../../api/index.ts'
import { createDataKey, unwrapKey, wrapKey } from '../../../store/index.ts'
import {
  parseBandwidthCaps,
  parseDiskRates,
  parseEgressPolicy,
  type TenantPolicy,
  type TenantQuota,
  type TenantRank,
  type TenantRegoPolicy,
  type IngressGrant,
  parseIngressGrant,
  portsOf,
} from '../../../jail/index.ts'
import { KiB } from '../../../stdx/index.ts'
import type { TenantPlacement } from '../parts.ts'
import { destroyFile, writeDurably } from './durable-files.ts'

const KEK_BYTES = 32
const REGISTRIES_MAX = 50
const CLASSES: readonly TenantPlacement['isolationClass'][] = ['shared', 'affinity', 'sandboxed', 'dedicated']

const POD_SECURITY_LEVELS = ['privileged', 'baseline', 'restricted'] as const
const QUOTAS = [
  'pods',
  'objects',
  'cpuMillis',
  'memoryBytes',
  'storageBytes',
  'ephemeralStorageBytes',
] as const satisfies (keyof TenantQuota)[]
/** Of the operator, for one tenant. */
const POLICIES_MAX = 256
const POLICIES_BYTES_MAX = 256 * KiB
/** Compiled ones: what they take together in base64. */
const REGO_POLICIES_MAX = 32
const REGO_POLICIES_BYTES_MAX = 1_024 * KiB
const UID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

export type PlacementRequest = Pick<
  TenantPlacement,
  | 'isolationClass'
  | 'registries'
  | 'quota'
  | 'rank'
  | 'podSecurity'
  | 'policies'
  | 'regoPolicies'
  | 'egress'
  | 'ingress'
  | 'bandwidth'
  | 'diskRates'
> & {
  tenantUid: string
}

/** Many tenants have the same ones, so they are kept once, by what is in them. */
type SavedRegoPolicy = Omit<TenantRegoPolicy, 'bundle'> & { bundleSha256: string }

type SavedTenant = Omit<PlacementRequest, 'tenantUid' | 'regoPolicies'> & {
  regoPolicies?: readonly SavedRegoPolicy[]
  index: number
  tenantUid?: string
  /** It has begun to move away from this class and may still have a control plane and pods there. */
  movingFrom?: TenantPlacement['isolationClass']
}
type Saved = { nextIndex: number; tenants: Record<string, SavedTenant> }

/** @throws {TypeError} when the document is not a placement request. */
export function parsePlacementRequest(value: unknown): PlacementRequest {
  const {
    class: isolationClass,
    registries = [],
    uid,
    quota = {},
    rank,
    podSecurity,
    policies = [],
    regoPolicies = [],
    egress,
    ingress,
    bandwidth,
    diskRates,
    ...rest
  } = (value ?? {}) as Record<string, unknown>
  const unknown = Object.keys(rest)
  if (unknown.length > 0) throw new TypeError(`A placement has no field "${unknown[0]}"`)
  const known = CLASSES.find((name) => name === isolationClass)
  if (!known)
    throw new TypeError(
      `The isolation class ${JSON.stringify(isolationClass)} is none of ${CLASSES.join(', ')}`,
    )
  if (
    !Array.isArray(registries) ||
    registries.length > REGISTRIES_MAX ||
    !registries.every((r) => typeof r === 'string' && /^[a-zA-Z0-9.:/_-]{1,255}$/.test(r))
  )
    throw new TypeError(`"registries" must be at most ${REGISTRIES_MAX} strings of HOST[:PORT][/PATH]`)
  if (typeof uid !== 'string' || !UID.test(uid))
    throw new TypeError(`"uid" ${JSON.stringify(uid)} is not that of a Tenant`)
  const level = POD_SECURITY_LEVELS.find((name) => name === podSecurity)
  if (podSecurity !== undefined && !level)
    throw new TypeError(
      `"podSecurity" ${JSON.stringify(podSecurity)} is none of ${POD_SECURITY_LEVELS.join(', ')}`,
    )
  return {
    ...(level === undefined ? {} : { podSecurity: level }),
    isolationClass: known,
    registries: registries as string[], // every one was looked at above
    tenantUid: uid,
    quota: parseQuota(quota),
    ...(rank === undefined ? {} : { rank: parseRank(rank) }),
    ...parsePolicies(policies),
    ...parseRegoPolicies(regoPolicies),
    ...(egress === undefined ? {} : { egress: parseEgressPolicy(egress) }),
    ...(ingress === undefined ? {} : { ingress: parseIngressGrant(ingress) }),
    ...(bandwidth === undefined ? {} : { bandwidth: parseBandwidthCaps(bandwidth) }),
    ...(diskRates === undefined ? {} : { diskRates: parseDiskRates(diskRates) }),
  }
}

/** Only their form: the control plane that enforces them reads them, and does not serve when it cannot. */
function parsePolicies(value: unknown): Pick<PlacementRequest, 'policies'> {
  const isPolicy = (policy: unknown) => {
    const { name, spec, bindings } = (policy ?? {}) as Record<string, unknown>
    return typeof name === 'string' && typeof spec === 'object' && spec !== null && Array.isArray(bindings)
  }
  if (!Array.isArray(value) || value.length > POLICIES_MAX || !value.every(isPolicy))
    throw new TypeError(
      `"policies" must be at most ${POLICIES_MAX} policies with a name, a spec and bindings`,
    )
  const bytes = Buffer.byteLength(JSON.stringify(value))
  if (bytes > POLICIES_BYTES_MAX)
    throw new TypeError(
      `The admission policies for the tenant take ${bytes} bytes together, more than ${POLICIES_BYTES_MAX}`,
    )
  return value.length === 0 ? {} : { policies: value as TenantPolicy[] } // every one was looked at above
}

/** Only their form, as above. */
function parseRegoPolicies(value: unknown): Pick<PlacementRequest, 'regoPolicies'> {
  const isPolicy = (policy: unknown) => {
    const { name, bundle, entrypoint, matchConstraints } = (policy ?? {}) as Record<string, unknown>
    return (
      typeof name === 'string' &&
      typeof bundle === 'string' &&
      (entrypoint === undefined || typeof entrypoint === 'string') &&
      typeof matchConstraints === 'object' &&
      matchConstraints !== null
    )
  }
  if (!Array.isArray(value) || value.length > REGO_POLICIES_MAX || !value.every(isPolicy))
    throw new TypeError(
      `"regoPolicies" must be at most ${REGO_POLICIES_MAX} policies with a name, a bundle and matchConstraints`,
    )
  const bytes = Buffer.byteLength(JSON.stringify(value))
  if (bytes > REGO_POLICIES_BYTES_MAX)
    throw new TypeError(
      `The policies in Rego for the tenant take ${bytes} bytes together, more than ${REGO_POLICIES_BYTES_MAX}`,
    )
  return value.length === 0 ? {} : { regoPolicies: value as TenantRegoPolicy[] } // every one was looked at above
}

function parseQuota(value: unknown): TenantQuota {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new TypeError('"quota" must be an object')
  const fields = value as Record<string, unknown>
  const odd = Object.keys(fields).find((field) => !QUOTAS.some((known) => known === field))
  if (odd !== undefined) throw new TypeError(`A quota has no field "${odd}"`)
  const quota: TenantQuota = {}
  for (const field of QUOTAS) {
    const amount = amountOf(fields[field], `quota.${field}`)
    if (amount !== undefined) quota[field] = amount
  }
  return quota
}

function parseRank(value: unknown): TenantRank {
  const { priority, guaranteed = {}, ...rest } = (value ?? {}) as Record<string, unknown>
  const { cpuMillis, memoryBytes, ...others } = (guaranteed ?? {}) as Record<string, unknown>
  const odd = Object.keys({ ...rest, ...others })[0]
  if (odd !== undefined) throw new TypeError(`A rank has no field "${odd}"`)
  const amounts = {
    cpuMillis: amountOf(cpuMillis, 'rank.guaranteed.cpuMillis'),
    memoryBytes: amountOf(memoryBytes, 'rank.guaranteed.memoryBytes'),
  }
  const most = amountOf(priority, 'rank.priority')
  return {
    ...(most === undefined ? {} : { priority: most }),
    guaranteed: {
      ...(amounts.cpuMillis === undefined ? {} : { cpuMillis: amounts.cpuMillis }),
      ...(amounts.memoryBytes === undefined ? {} : { memoryBytes: amounts.memoryBytes }),
    },
  }
}

function amountOf(amount: unknown, field: string): number | undefined {
  if (amount === undefined) return undefined
  if (typeof amount !== 'number' || !Number.isSafeInteger(amount) || amount < 0)
    throw new TypeError(`"${field}" ${JSON.stringify(amount)} must be a whole number of at least 0`)
  return amount
}

/**
 * Which tenants are on this machine, with their uid ranges and data keys. An index is never given to a second tenant,
 * so that a file left over from one can never belong to another. Root only; the tenants' keys are wrapped by the
 * platform's key-encryption key.
 */
export class Placements {
  private readonly layout: Layout
  private readonly room: { cpuMillis: number; memoryBytes: number }
  private readonly platformUid: number
  private readonly workerUid: number
  private saved: Saved
  private tenantsAt: ReadonlyMap<number, TenantName>
  private readonly kek: Uint8Array
  private readonly bundles = new Map<string, string>()

  constructor({
    layout,
    platformUid,
    workerUid,
    room = { cpuMillis: Infinity, memoryBytes: Infinity },
  }: {
    layout: Layout
    platformUid: number
    workerUid: number
    /** What the machine has for pods: nobody is guaranteed more. */
    room?: { cpuMillis: number; memoryBytes: number }
  }) {
    this.room = room
    this.layout = layout
    this.platformUid = platformUid
    this.workerUid = workerUid
    this.kek = loadOrCreateKek(join(layout.stateDir, 'kek'))
    this.saved = existsSync(this.file)
      ? (JSON.parse(readFileSync(this.file, 'utf8')) as Saved)
      : { nextIndex: 0, tenants: {} } // our own file, root only
    this.tenantsAt = tenantsAt(this.saved)
  }

  all(): TenantPlacement[] {
    return Object.entries(this.saved.tenants).map(([name, saved]) =>
      this.placement(parseTenantName(name), saved),
    )
  }

  get(tenant: TenantName): TenantPlacement | undefined {
    const saved = this.savedOf(tenant)
    return saved && this.placement(tenant, saved)
  }

  /** Whose index it is. */
  at(index: number): TenantPlacement | undefined {
    const tenant = this.tenantsAt.get(index)
    return tenant === undefined ? undefined : this.get(tenant)
  }

  private savedOf(tenant: TenantName): SavedTenant | undefined {
    return Object.hasOwn(this.saved.tenants, tenant) ? this.saved.tenants[tenant] : undefined
  }

  /**
   * @throws {RangeError} when the machine has no place.
   * @throws {TypeError} when another tenant of this name is still here: what it left must not become somebody else's.
   */
  ensure(tenant: TenantName, request: PlacementRequest): TenantPlacement {
    const known = this.savedOf(tenant)
    if (known?.tenantUid !== undefined && known.tenantUid !== request.tenantUid)
      throw new TypeError(
        `An earlier tenant "${tenant}" is still on this machine, though its Tenant object is gone; delete this one, which removes both, and create it again`,
      )
    const taken = request.ingress && this.takenIngress(tenant, request.ingress)
    if (taken !== undefined) throw new TypeError(taken)
    const promised = request.rank && this.takenGuarantee(tenant, request.rank)
    if (promised !== undefined) throw new TypeError(promised)
    const index = known?.index ?? this.saved.nextIndex
    if (index >= this.layout.tenantsMax)
      throw new RangeError(
        `This machine has had ${this.layout.tenantsMax} tenants and has no uid range left for "${tenant}"`,
      )
    const from = known && (known.movingFrom ?? known.isolationClass)
    const moves = from !== undefined && (known?.movingFrom !== undefined || from !== request.isolationClass)
    const { regoPolicies, ...rest } = request
    const kept = regoPolicies?.map((policy) => this.keepBundle(policy))
    const next: SavedTenant = {
      ...rest,
      ...(kept ? { regoPolicies: kept } : {}),
      index,
      ...(moves ? { movingFrom: from } : {}),
    }
    const tenants = { ...this.saved.tenants, [tenant]: next }
    // The key first: a placement without its key could not be opened, a key without a placement harms nobody.
    if (!known) this.createKey(tenant)
    this.save({ nextIndex: Math.max(this.saved.nextIndex, index + 1), tenants })
    return this.placement(tenant, next)
  }

  /** A promise that could not be kept is not made. */
  private takenGuarantee(tenant: TenantName, { guaranteed = {} }: TenantRank): string | undefined {
    for (const [resource, what] of [
      ['cpuMillis', 'thousandths of a core'],
      ['memoryBytes', 'bytes of memory'],
    ] as const) {
      const wanted = guaranteed[resource] ?? 0
      const others = Object.entries(this.saved.tenants).reduce(
        (sum, [name, { rank }]) => sum + (name === tenant ? 0 : (rank?.guaranteed?.[resource] ?? 0)),
        0,
      )
      if (wanted > 0 && wanted + others > this.room[resource])
        return `The machine has ${this.room[resource]} ${what} for pods, of which other tenants are guaranteed ${others}: ${wanted} cannot be guaranteed`
    }
    return undefined
  }

  /** Who had a host or port first keeps it, until the operator takes it away there. */
  private takenIngress(tenant: TenantName, { hosts, ports }: IngressGrant): string | undefined {
    const { httpPort, httpsPort } = this.layout.ingress
    const own = new Map([
      [String(this.layout.gatewayPort), 'the gateway'],
      [String(httpPort), 'the front door'],
      [String(httpsPort), 'the front door'],
    ])
    const numbers = portsOf({ ports })
    const platforms = numbers.find((port) => own.has(port))
    if (platforms !== undefined)
      return `The port ${platforms} of spec.ingress is that of ${own.get(platforms)}`
    for (const { tenant: owner, ingress } of this.all()) {
      if (owner === tenant || !ingress) continue
      for (const host of hosts) {
        const theirs = ingress.hosts.find((each) => hostsOverlap(each, host))
        if (theirs !== undefined)
          return `The host "${host}" of spec.ingress belongs to the tenant "${owner}", which has "${theirs}"; take it away there first`
      }
      const theirs = new Set(portsOf(ingress))
      const port = numbers.find((each) => theirs.has(each))
      if (port !== undefined)
        return `The port ${port} of spec.ingress belongs to the tenant "${owner}"; take it away there first`
    }
    return undefined
  }

  /** A move has begun and is not known to have ended. */
  isMoving(tenant: TenantName): boolean {
    return this.savedOf(tenant)?.movingFrom !== undefined
  }

  /** The Linux user that runs the tenant's control plane when it has a process of its own. Nobody else has it ever. */
  ownUid(tenant: TenantName): number {
    const saved = this.savedOf(tenant)
    if (!saved) throw new RangeError(`There is no tenant "${tenant}" on this machine`)
    return this.layout.controlPlaneUidBase + saved.index
  }

  /** Requires: nothing of the tenant is left where it was. */
  moved(tenant: TenantName): void {
    const saved = this.savedOf(tenant)
    if (!saved?.movingFrom) return
    const { movingFrom: _over, ...settled } = saved
    this.save({ ...this.saved, tenants: { ...this.saved.tenants, [tenant]: settled } })
  }

  /** From here on nobody can ever read what the tenant's partition holds. It can be repeated after a crash. */
  destroyKey(tenant: TenantName): void {
    destroyFile(this.keyFile(tenant))
  }

  /** Requires: nothing of the tenant is left on the machine; its index is never used again. */
  forget(tenant: TenantName): void {
    const { [tenant]: _gone, ...tenants } = this.saved.tenants
    this.save({ ...this.saved, tenants })
  }

  dataKey(tenant: TenantName): Uint8Array {
    return unwrapKey({ kek: this.kek, wrapped: readFileSync(this.keyFile(tenant)), tenant })
  }

  /** The platform's own control plane has a data key like any tenant's. */
  platformDataKey(): Uint8Array {
    if (!existsSync(this.keyFile(PLATFORM_TENANT))) this.createKey(PLATFORM_TENANT)
    return this.dataKey(PLATFORM_TENANT)
  }

  get platform(): { controlPlaneUid: number } {
    return { controlPlaneUid: this.platformUid }
  }

  private placement(
    tenant: TenantName,
    {
      index,
      isolationClass,
      registries,
      tenantUid,
      quota,
      rank,
      podSecurity,
      policies,
      regoPolicies,
      egress,
      ingress,
      bandwidth,
      diskRates,
    }: SavedTenant,
  ): TenantPlacement {
    const ownProcess = isolationClass === 'sandboxed' || isolationClass === 'dedicated'
    return {
      tenant,
      index,
      isolationClass,
      registries,
      ...(tenantUid === undefined ? {} : { tenantUid }),
      ...(quota === undefined ? {} : { quota }),
      ...(rank === undefined ? {} : { rank }),
      ...(podSecurity === undefined ? {} : { podSecurity }),
      ...(policies === undefined ? {} : { policies }),
      ...(regoPolicies === undefined
        ? {}
        : { regoPolicies: regoPolicies.map((policy) => this.withBundle(policy)) }),
      ...(egress === undefined ? {} : { egress }),
      ...(ingress === undefined ? {} : { ingress }),
      ...(bandwidth === undefined ? {} : { bandwidth }),
      ...(diskRates === undefined ? {} : { diskRates }),
      podUidBase: this.layout.podUidBase + index * IDS_PER_TENANT,
      controlPlaneUid: ownProcess ? this.layout.controlPlaneUidBase + index : this.workerUid,
    }
  }

  private createKey(tenant: TenantName): void {
    writeDurably(this.keyFile(tenant), wrapKey({ kek: this.kek, dataKey: createDataKey(), tenant }))
  }

  private save(next: Saved): void {
    writeDurably(this.file, Buffer.from(JSON.stringify(next)))
    this.saved = next
    this.tenantsAt = tenantsAt(next)
    const used = new Set(
      Object.values(next.tenants).flatMap(({ regoPolicies = [] }) =>
        regoPolicies.map(({ bundleSha256 }) => bundleSha256),
      ),
    )
    for (const digest of this.bundleFiles()) if (!used.has(digest)) rmSync(this.bundleFile(digest))
    for (const digest of this.bundles.keys()) if (!used.has(digest)) this.bundles.delete(digest)
  }

  private keepBundle({ bundle, ...policy }: TenantRegoPolicy): SavedRegoPolicy {
    mkdirSync(join(this.layout.stateDir, 'rego'), { recursive: true, mode: 0o700 })
    const bundleSha256 = createHash('sha256').update(bundle).digest('hex')
    if (!existsSync(this.bundleFile(bundleSha256)))
      writeDurably(this.bundleFile(bundleSha256), Buffer.from(bundle))
    this.bundles.set(bundleSha256, bundle)
    return { ...policy, bundleSha256 }
  }

  private withBundle({ bundleSha256, ...policy }: SavedRegoPolicy): TenantRegoPolicy {
    const known = this.bundles.get(bundleSha256)
    const bundle = known ?? readFileSync(this.bundleFile(bundleSha256), 'utf8')
    this.bundles.set(bundleSha256, bundle)
    return { ...policy, bundle }
  }

  private bundleFiles(): string[] {
    const dir = join(this.layout.stateDir, 'rego')
    return existsSync(dir) ? readdirSync(dir).filter((name) => /^[0-9a-f]{64}$/.test(name)) : []
  }

  private bundleFile(digest: string): string {
    return join(this.layout.stateDir, 'rego', digest)
  }

  private get file(): string {
    return join(this.layout.stateDir, 'placements.json')
  }

  private keyFile(tenant: TenantName): string {
    return join(this.layout.stateDir, 'keys', `${tenant}.wrapped`)
  }
}

function tenantsAt({ tenants }: Saved): ReadonlyMap<number, TenantName> {
  return new Map(Object.entries(tenants).map(([name, { index }]) => [index, parseTenantName(name)]))
}

function loadOrCreateKek(path: string): Uint8Array {
  if (!existsSync(path)) writeDurably(path, randomBytes(KEK_BYTES))
  const { mode, uid } = statSync(path)
  if (uid !== 0 && uid !== process.getuid?.())
    throw new Error(`The platform's key "${path}" belongs to uid ${uid}`)
  if ((mode & 0o077) !== 0) throw new Error(`The platform's key "${path}" can be read by others than root`)
  const kek = readFileSync(path)
  if (kek.length !== KEK_BYTES)
    throw new Error(`The platform's key "${path}" has ${kek.length} bytes instead of ${KEK_BYTES}`)
  return new Uint8Array(kek)
}
