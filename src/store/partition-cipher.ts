import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  hkdfSync,
  type KeyObject,
  randomBytes,
} from 'node:crypto'
import type { TenantName } from '../api/index.ts'
import { KEY_BYTES } from './data-key.ts'
import { REVISIONS_PER_KEY } from './limits.ts'

export const FORMAT = 1
export const SALT_BYTES = 32
const NONCE_BYTES = 12
const TAG_BYTES = 16
/** So many bytes longer is what is sealed. */
export const SEAL_BYTES = NONCE_BYTES + TAG_BYTES
const MARK_BYTES = 32
const KEY_CHECK = Buffer.from('bulkhead partition')
const HEAD_BYTES = 3 * 8 + MARK_BYTES

/** What the newest transaction left: enough to notice any row that was removed, added or put back. */
export type Head = {
  revision: number
  /** Changes up to and including this revision are no longer in the history. */
  compactedTo: number
  rows: number
  /** The exclusive or of the marks of all rows. */
  marks: Uint8Array
}

/**
 * Seals what a partition writes down. Every sealed piece is bound to the tenant, its purpose and its revision, and
 * the keys come from the data key and the partition's own salt, so no piece fits anywhere but where it was written.
 * Nonces are random and not the revision: a transaction that was cut off may have left bytes of the same revision.
 */
export class PartitionCipher {
  private readonly tenant: TenantName
  private readonly salt: Uint8Array
  private readonly root: KeyObject
  private readonly marks: KeyObject
  private readonly keys = new Map<string, KeyObject>()

  constructor({ tenant, dataKey, salt }: { tenant: TenantName; dataKey: Uint8Array; salt: Uint8Array }) {
    if (dataKey.length !== KEY_BYTES)
      throw new TypeError(`A data key has ${KEY_BYTES} bytes, not ${dataKey.length}`)
    this.tenant = tenant
    this.salt = salt
    this.root = createSecretKey(dataKey)
    this.marks = this.derive('marks')
  }

  /** Writes the sealed row to the beginning of `into`, and returns its length. */
  sealRow(revision: number, plain: Uint8Array, into: Uint8Array): number {
    const { cipher, nonce } = this.cipherFor('row', revision)
    into.set(nonce, 0)
    into.set(cipher.update(plain), NONCE_BYTES)
    // GCM has as many bytes as it was given, so nothing is left for the end.
    cipher.final()
    into.set(cipher.getAuthTag(), NONCE_BYTES + plain.length)
    return plain.length + SEAL_BYTES
  }

  /** @throws when the row was changed, moved, or belongs to another partition. */
  openRow(revision: number, sealed: Uint8Array): Buffer {
    return this.open('row', revision, sealed)
  }

  sealHead(head: Head): Buffer {
    const plain = Buffer.alloc(HEAD_BYTES)
    plain.writeBigUInt64BE(BigInt(head.revision), 0)
    plain.writeBigUInt64BE(BigInt(head.compactedTo), 8)
    plain.writeBigUInt64BE(BigInt(head.rows), 16)
    plain.set(head.marks, 24)
    return this.seal('head', head.revision, plain)
  }

  openHead(revision: number, sealed: Uint8Array): Head {
    const plain = this.open('head', revision, sealed)
    if (plain.length !== HEAD_BYTES) throw new Error('The head of the partition has a wrong size')
    return {
      revision: Number(plain.readBigUInt64BE(0)),
      compactedTo: Number(plain.readBigUInt64BE(8)),
      rows: Number(plain.readBigUInt64BE(16)),
      marks: new Uint8Array(plain.subarray(24)),
    }
  }

  sealKeyCheck(): Buffer {
    return this.seal('key-check', 0, KEY_CHECK)
  }

  /** False when this is not the key that the partition was made with. */
  fits(keyCheck: Uint8Array): boolean {
    try {
      return this.open('key-check', 0, keyCheck).equals(KEY_CHECK)
    } catch {
      return false
    }
  }

  /**
   * Adds the row of `revision` to a set of rows, or takes it out: exclusive or is its own inverse. Nobody without
   * the key can find another set with the same marks.
   */
  toggleMark(marks: Uint8Array, revision: number): void {
    const mark = createHmac('sha256', this.marks).update(`${revision}`).digest()
    for (let i = 0; i < MARK_BYTES; i++) marks[i] = marks[i]! ^ mark[i]! // both have MARK_BYTES
  }

  static emptyMarks(): Uint8Array {
    return new Uint8Array(MARK_BYTES)
  }

  private seal(purpose: string, revision: number, plain: Uint8Array): Buffer {
    const { cipher, nonce } = this.cipherFor(purpose, revision)
    return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()])
  }

  private cipherFor(purpose: string, revision: number) {
    const nonce = randomBytes(NONCE_BYTES)
    const cipher = createCipheriv('aes-256-gcm', this.keyFor(purpose, revision), nonce)
    cipher.setAAD(this.context(purpose, revision))
    return { cipher, nonce }
  }

  private open(purpose: string, revision: number, sealed: Uint8Array): Buffer {
    if (sealed.length < NONCE_BYTES + TAG_BYTES)
      throw new Error(`A sealed ${purpose} has only ${sealed.length} bytes`)
    const key = this.keyFor(purpose, revision)
    const nonce = sealed.subarray(0, NONCE_BYTES)
    const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES })
    decipher.setAAD(this.context(purpose, revision))
    decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES))
    const plain = decipher.update(sealed.subarray(NONCE_BYTES, sealed.length - TAG_BYTES))
    decipher.final()
    return plain
  }

  private context(purpose: string, revision: number): Buffer {
    return Buffer.from(`bulkhead/store/v${FORMAT}\0${purpose}\0${this.tenant}\0${revision}`)
  }

  private keyFor(purpose: string, revision: number): KeyObject {
    const name = `${purpose} ${Math.floor(revision / REVISIONS_PER_KEY)}`
    const known = this.keys.get(name)
    if (known) return known
    // Rows are read and written in order, so more than a few keys are never in use at once.
    if (this.keys.size >= 8) this.keys.clear()
    const key = this.derive(name)
    this.keys.set(name, key)
    return key
  }

  private derive(name: string): KeyObject {
    const bytes = hkdfSync('sha256', this.root, this.salt, `bulkhead/store/v${FORMAT} ${name}`, KEY_BYTES)
    return createSecretKey(Buffer.from(bytes))
  }
}
