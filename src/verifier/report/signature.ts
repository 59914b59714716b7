import { createHash, createPublicKey, type KeyObject, sign, verify } from 'node:crypto'

/**
 * A report carries its signature within itself, in any format: one token with who signed, when, and the signature over
 * every byte of the file with the signature's own characters replaced. So nothing can be changed, added or left out.
 */
const TOKEN =
  /bulkhead-signature:v1:([A-Za-z0-9.@_-]{1,128}):([0-9a-f]{64}):(\d{4}-\d{2}-\d{2}T[\d:.]{8,12}Z):([A-Za-z0-9+/]{86}==)/g
/** An Ed25519 signature has 64 bytes: 88 characters. */
const PLACEHOLDER = `${'A'.repeat(86)}==`

export type Signer = { name: string; key: KeyObject }

export type Checked =
  | { valid: true; signer: string; keyId: string; signedAt: string }
  | { valid: false; problem: string }

/** What a renderer puts into its file for `signReport` to fill in. */
export function signaturePlace({ name, key }: Signer, nowMs: number): string {
  return `bulkhead-signature:v1:${name.replaceAll(/[^A-Za-z0-9.@_-]/g, '_').slice(0, 128)}:${keyIdOf(key)}:${new Date(nowMs).toISOString()}:${PLACEHOLDER}`
}

/** SHA-256 of the public key, in DER. */
export function keyIdOf(key: KeyObject): string {
  const publicKey = key.type === 'private' ? createPublicKey(key) : key
  return createHash('sha256')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest('hex')
}

/** @throws when the text has not exactly one place for a signature. */
export function signReport(text: string, { key }: Signer): string {
  const found = [...text.matchAll(TOKEN)]
  if (found.length !== 1 || found[0]?.[4] !== PLACEHOLDER)
    throw new Error(`A report has ${found.length} places for a signature, and must have one`)
  const signature = sign(null, Buffer.from(text), key).toString('base64')
  const at = found[0].index + found[0][0].length - PLACEHOLDER.length
  return text.slice(0, at) + signature + text.slice(at + PLACEHOLDER.length)
}

/** Takes bytes, because decoding would hide changes of those that are no text. */
export function checkReport(bytes: Buffer, key: KeyObject): Checked {
  const text = bytes.toString('latin1')
  const found = [...text.matchAll(TOKEN)]
  const [match] = found
  if (!match || found.length !== 1)
    return { valid: false, problem: `it has ${found.length} signatures, and a report has one` }
  const [token, signer = '', keyId = '', signedAt = '', signature = ''] = match
  const own = keyIdOf(key)
  if (keyId !== own)
    return { valid: false, problem: `it was signed with the key ${keyId}, and this platform's is ${own}` }
  const raw = Buffer.from(signature, 'base64')
  // Base64 has spellings that decode to the same bytes.
  if (raw.toString('base64') !== signature) return { valid: false, problem: 'its signature is misspelt' }
  const at = match.index + token.length - signature.length
  const signed = Buffer.concat([
    bytes.subarray(0, at),
    Buffer.from(PLACEHOLDER),
    bytes.subarray(at + signature.length),
  ])
  return verify(null, signed, key, raw)
    ? { valid: true, signer, keyId, signedAt }
    : { valid: false, problem: 'it was changed after it was signed' }
}
