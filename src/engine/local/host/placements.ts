import { randomBytes } from 'node:crypto'
import {
  existsSync,
  openSync,
  closeSync,
  fsyncSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import {
  IDS_PER_TENANT,
  type Layout,
  parseTenantName,
  PLATFORM_TENANT,
  type TenantName,
} from '../../../api/index.ts'
import { createDataKey, unwrapKey, wrapKey } from '../../../store/index.ts'
import type { TenantPlacement } from '../parts.ts'

const KEK_BYTES = 32
const REGISTRIES_MAX = 50
const CLASSES: readonly TenantPlacement['isolationClass'][] = ['shared', 'affinity', 'sandboxed', 'dedicated']

export type PlacementRequest = Pick<TenantPlacement, 'isolationClass' | 'registries'>

type Saved = { nextIndex: number; tenants: Record<string, PlacementRequest & { index: number }> }

/** @throws {TypeError} when the document is not a placement request. */
export function parsePlacementRequest(value: unknown): PlacementRequest {
  const { class: isolationClass, registries = [], ...rest } = (value ?? {}) as Record<string, unknown>
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
  return { isolationClass: known, registries: registries as string[] }
}

/**
 * Which tenants are on this machine, with their uid ranges and data keys. An index is never given to a second tenant,
 * so that a file left over from one can never belong to another. Root only; the tenants' keys are wrapped by the
 * platform's key-encryption key.
 */
export class Placements {
  private readonly layout: Layout
  private readonly platformUid: number
  private readonly workerUid: number
  private saved: Saved
  private readonly kek: Uint8Array

  constructor({
    layout,
    platformUid,
    workerUid,
  }: {
    layout: Layout
    platformUid: number
    workerUid: number
  }) {
    this.layout = layout
    this.platformUid = platformUid
    this.workerUid = workerUid
    this.kek = loadOrCreateKek(join(layout.stateDir, 'kek'))
    this.saved = existsSync(this.file)
      ? (JSON.parse(readFileSync(this.file, 'utf8')) as Saved)
      : { nextIndex: 0, tenants: {} } // our own file, root only
  }

  all(): TenantPlacement[] {
    return Object.entries(this.saved.tenants).map(([name, saved]) =>
      this.placement(parseTenantName(name), saved),
    )
  }

  get(tenant: TenantName): TenantPlacement | undefined {
    const saved = Object.hasOwn(this.saved.tenants, tenant) ? this.saved.tenants[tenant] : undefined
    return saved && this.placement(tenant, saved)
  }

  ensure(tenant: TenantName, request: PlacementRequest): TenantPlacement {
    const known = this.get(tenant)
    const index = known?.index ?? this.saved.nextIndex
    if (index >= this.layout.tenantsMax)
      throw new RangeError(
        `This machine has had ${this.layout.tenantsMax} tenants and has no uid range left for "${tenant}"`,
      )
    const tenants = { ...this.saved.tenants, [tenant]: { ...request, index } }
    // The key first: a placement without its key could not be opened, a key without a placement harms nobody.
    if (!known) this.createKey(tenant)
    this.save({ nextIndex: Math.max(this.saved.nextIndex, index + 1), tenants })
    return this.placement(tenant, { ...request, index })
  }

  /** Forgets the tenant and destroys its data key: what its partition holds can never be read again. */
  remove(tenant: TenantName): void {
    const { [tenant]: _gone, ...tenants } = this.saved.tenants
    this.save({ ...this.saved, tenants })
    destroyFile(this.keyFile(tenant))
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
    { index, isolationClass, registries }: PlacementRequest & { index: number },
  ): TenantPlacement {
    const ownProcess = isolationClass === 'sandboxed' || isolationClass === 'dedicated'
    return {
      tenant,
      index,
      isolationClass,
      registries,
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
  }

  private get file(): string {
    return join(this.layout.stateDir, 'placements.json')
  }

  private keyFile(tenant: TenantName): string {
    return join(this.layout.stateDir, 'keys', `${tenant}.wrapped`)
  }
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

function writeDurably(path: string, bytes: Uint8Array): void {
  const temporary = `${path}.new`
  rmSync(temporary, { force: true })
  const fd = openSync(temporary, 'wx', 0o600)
  try {
    writeSync(fd, bytes)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
  renameSync(temporary, path)
  const directory = openSync(join(path, '..'), 'r')
  fsyncSync(directory)
  closeSync(directory)
}

/** Overwrites before unlinking; the key's bytes matter more than a disk that may keep copies, for they are wrapped too. */
function destroyFile(path: string): void {
  if (!existsSync(path)) return
  const fd = openSync(path, 'r+')
  try {
    writeSync(fd, Buffer.alloc(statSync(path).size))
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
  writeFileSync(path, '')
  rmSync(path)
}
