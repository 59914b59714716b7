import { createDecipheriv, hkdfSync } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Layout } from '../../api/index.ts'
import { readEnds } from './partitions.ts'

/** What became of sealed pieces of a tenant's partition when they were opened with a key. */
export type KeyTrial = { opened: number; tried: number }

export type KeyTrials = { own: KeyTrial; other?: KeyTrial & { tenant: string } } | { problem: string }

// What a partition looks like is written down here once more: a reader that shared the store's code would share its mistakes.
const PAGE_BYTES = 4_096
const SALT_BYTES = 32
const NONCE_BYTES = 12
const TAG_BYTES = 16
const KEY_BYTES = 32
const KEY_CHECK_TEXT = 'bulkhead partition'
const KEY_CHECK_BYTES = NONCE_BYTES + KEY_CHECK_TEXT.length + TAG_BYTES
const REVISIONS_PER_KEY = 2 ** 20
/** The row with the salt is in one of the first pages: it was written when the partition was made. */
const PAGES_WITH_HEADER_MAX = 16
const ROWS_TRIED_MAX = 64
/** SQLite's type of a leaf of a table, and the bytes before its cell pointers: https://www.sqlite.org/fileformat2.html */
const TABLE_LEAF = 0x0d
const LEAF_HEAD_BYTES = 8
/** Of rows longer than this a part is elsewhere. */
const LOCAL_PAYLOAD_MAX = PAGE_BYTES - 35

/**
 * The key of a tenant's data as root finds it on the disk, unwrapped with the platform's.
 * @throws when there is none, or it is not this tenant's.
 */
export function readDataKey({ stateDir }: Layout, tenant: string): Buffer {
  const wrapped = readFileSync(join(stateDir, 'keys', `${tenant}.wrapped`))
  const sealed = wrapped.subarray(1)
  return open(readFileSync(join(stateDir, 'kek')), sealed, `bulkhead/data-key/v1\0${tenant}`)
}

/** Tries a tenant's own key on its partition, and that of another tenant if there is one. Only root can. */
export function tryKeys(
  layout: Layout,
  { tenant, partition, other }: { tenant: string; partition: string; other?: string },
): KeyTrials {
  try {
    const own = readDataKey(layout, tenant)
    const trial = () => {
      const [file] = readEnds(partition) ?? []
      if (!file) throw new Error(`there is no file "${partition}"`)
      return { file, own: tryKey(file, { tenant, key: own }) }
    }
    const first = trial()
    // Somebody may have been writing while we read.
    const seen = first.own.opened === first.own.tried ? first : trial()
    if (other === undefined) return { own: seen.own }
    const foreign = tryKey(seen.file, { tenant, key: readDataKey(layout, other) })
    return { own: seen.own, other: { tenant: other, ...foreign } }
  } catch (error) {
    return { problem: error instanceof Error ? error.message : String(error) }
  }
}

/** Opens the mark and up to 64 rows of a partition. Of a file that is no partition, nothing can be opened. */
export function tryKey(file: Buffer, { tenant, key }: { tenant: string; key: Buffer }): KeyTrial {
  const context = (purpose: string, revision: number) =>
    `bulkhead/store/v1\0${purpose}\0${tenant}\0${revision}`
  const derive = (salt: Buffer, name: string) =>
    Buffer.from(hkdfSync('sha256', key, salt, `bulkhead/store/v1 ${name}`, KEY_BYTES))
  const salt = saltsOf(file).find(({ candidate, keyCheck }) =>
    opens(derive(candidate, 'key-check 0'), keyCheck, context('key-check', 0)),
  )?.candidate
  if (!salt) return { opened: 0, tried: 1 }
  const rows = rowsOf(file)
  const opened = rows.filter(({ revision, sealed }) =>
    opens(derive(salt, `row ${Math.floor(revision / REVISIONS_PER_KEY)}`), sealed, context('row', revision)),
  )
  return { opened: 1 + opened.length, tried: 1 + rows.length }
}

/** The only row of the first table fills the end of its page: the salt, then the mark that only the right key opens. */
function saltsOf(file: Buffer): { candidate: Buffer; keyCheck: Buffer }[] {
  const pages = Math.min(Math.floor(file.length / PAGE_BYTES), PAGES_WITH_HEADER_MAX)
  return Array.from({ length: pages }, (_, page) => {
    const end = (page + 1) * PAGE_BYTES
    const middle = end - KEY_CHECK_BYTES
    return { candidate: file.subarray(middle - SALT_BYTES, middle), keyCheck: file.subarray(middle, end) }
  })
}

/** Rows of the form (revision, sealed), as they stand in the leaves of tables. The file is not to be trusted. */
function rowsOf(file: Buffer): { revision: number; sealed: Buffer }[] {
  const rows: { revision: number; sealed: Buffer }[] = []
  for (let at = PAGE_BYTES; at + PAGE_BYTES <= file.length; at += PAGE_BYTES) {
    const page = file.subarray(at, at + PAGE_BYTES)
    if (page[0] !== TABLE_LEAF) continue
    const cells = Math.min(page.readUInt16BE(3), (PAGE_BYTES - LEAF_HEAD_BYTES) / 2)
    for (let cell = 0; cell < cells; cell++) {
      if (rows.length >= ROWS_TRIED_MAX) return rows
      const row = rowAt(page, page.readUInt16BE(LEAF_HEAD_BYTES + 2 * cell))
      if (row) rows.push(row)
    }
  }
  return rows
}

function rowAt(page: Buffer, start: number): { revision: number; sealed: Buffer } | undefined {
  let at = start
  const varint = (): number => {
    let value = 0
    for (let i = 0; i < 8; i++) {
      const byte = page[at++] ?? 0
      value = value * 128 + (byte & 0x7f)
      if (byte < 0x80) return value
    }
    return NaN
  }
  const [payload, revision] = [varint(), varint()]
  const head = at
  const [headBytes, keyType, blobType] = [varint(), varint(), varint()]
  const blobBytes = (blobType - 12) / 2
  // The revision is the row's own number, so that its column is null; the other column is a blob.
  const isRow =
    payload <= LOCAL_PAYLOAD_MAX &&
    Number.isSafeInteger(revision) &&
    keyType === 0 &&
    at - head === headBytes &&
    Number.isInteger(blobBytes) &&
    blobBytes > NONCE_BYTES + TAG_BYTES &&
    headBytes + blobBytes === payload &&
    at + blobBytes <= page.length
  return isRow ? { revision, sealed: page.subarray(at, at + blobBytes) } : undefined
}

function opens(key: Buffer, sealed: Buffer, context: string): boolean {
  try {
    open(key, sealed, context)
    return true
  } catch {
    return false
  }
}

/** AES-256-GCM: nonce, then what is sealed, then the tag. */
function open(key: Buffer, sealed: Buffer, context: string): Buffer {
  const end = sealed.length - TAG_BYTES
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, NONCE_BYTES), {
    authTagLength: TAG_BYTES,
  })
  decipher.setAAD(Buffer.from(context))
  decipher.setAuthTag(sealed.subarray(end))
  return Buffer.concat([decipher.update(sealed.subarray(NONCE_BYTES, end)), decipher.final()])
}
