import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import type { TenantName } from '../api/index.ts'

/** AES-256 keys: a tenant's data key, and the platform's key-encryption key. */
export const KEY_BYTES = 32
const NONCE_BYTES = 12
const TAG_BYTES = 16
const WRAP_VERSION = 1
const WRAPPED_BYTES = 1 + NONCE_BYTES + KEY_BYTES + TAG_BYTES

/** The key is not the one that was used, or the bytes were changed. */
export class KeyUnwrapError extends Error {}

export function createDataKey(): Uint8Array {
  return new Uint8Array(randomBytes(KEY_BYTES))
}

/** Seals a tenant's data key under the key-encryption key. The result fits that tenant only. */
export function wrapKey({
  kek,
  dataKey,
  tenant,
}: {
  kek: Uint8Array
  dataKey: Uint8Array
  tenant: TenantName
}): Uint8Array {
  requireKey(kek, 'key-encryption key')
  requireKey(dataKey, 'data key')
  const nonce = randomBytes(NONCE_BYTES)
  const cipher = createCipheriv('aes-256-gcm', kek, nonce)
  cipher.setAAD(wrapContext(tenant))
  const sealed = Buffer.concat([cipher.update(dataKey), cipher.final()])
  return new Uint8Array(Buffer.concat([Buffer.from([WRAP_VERSION]), nonce, sealed, cipher.getAuthTag()]))
}

/** @throws {KeyUnwrapError} for another key, another tenant or changed bytes. */
export function unwrapKey({
  kek,
  wrapped,
  tenant,
}: {
  kek: Uint8Array
  wrapped: Uint8Array
  tenant: TenantName
}): Uint8Array {
  requireKey(kek, 'key-encryption key')
  if (wrapped.length !== WRAPPED_BYTES || wrapped[0] !== WRAP_VERSION)
    throw new KeyUnwrapError(
      `The wrapped data key of tenant "${tenant}" has ${wrapped.length} bytes or a format we do not know`,
    )
  const body = wrapped.subarray(1)
  const decipher = createDecipheriv('aes-256-gcm', kek, body.subarray(0, NONCE_BYTES), {
    authTagLength: TAG_BYTES,
  })
  decipher.setAAD(wrapContext(tenant))
  decipher.setAuthTag(body.subarray(body.length - TAG_BYTES))
  try {
    const opened = decipher.update(body.subarray(NONCE_BYTES, body.length - TAG_BYTES))
    return new Uint8Array(Buffer.concat([opened, decipher.final()]))
  } catch (cause) {
    throw new KeyUnwrapError(
      `Cannot unwrap the data key of tenant "${tenant}": wrong key, wrong tenant or changed bytes`,
      {
        cause,
      },
    )
  }
}

function wrapContext(tenant: TenantName): Buffer {
  return Buffer.from(`bulkhead/data-key/v${WRAP_VERSION}\0${tenant}`)
}

function requireKey(key: Uint8Array, what: string): void {
  if (key.length !== KEY_BYTES) throw new TypeError(`A ${what} has ${KEY_BYTES} bytes, not ${key.length}`)
}
