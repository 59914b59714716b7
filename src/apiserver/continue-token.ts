import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { ApiError, badRequest, expired } from '../api/index.ts'

/** Where a list goes on: the revision all its pages show (0: the newest), and the last key it gave. */
export type ListPosition = { revision: number; startAfter: string }

const KEY_ID_BYTES = 6
const MAC_BYTES = 16
const TOKEN_CHARS_MAX = 2_048

/**
 * Opaque, authenticated positions in lists. The token is bound to the prefix that was listed, so it cannot be carried
 * into another namespace. The key lives as long as the process; a token from before says `Expired`, and clients list again.
 */
export class ContinueTokens {
  private readonly key = randomBytes(32)
  private readonly keyId = createHmac('sha256', this.key).update('key id').digest().subarray(0, KEY_ID_BYTES)

  render(prefix: string, { revision, startAfter }: ListPosition): string {
    const payload = Buffer.from(JSON.stringify([revision, startAfter]))
    return Buffer.concat([this.keyId, this.mac(prefix, payload), payload]).toString('base64url')
  }

  /** @throws {ApiError} BadRequest for anything we did not write, Expired for what an earlier process wrote. */
  parse(prefix: string, token: string): ListPosition {
    const bytes = token.length <= TOKEN_CHARS_MAX ? Buffer.from(token, 'base64url') : Buffer.alloc(0)
    const payload = bytes.subarray(KEY_ID_BYTES + MAC_BYTES)
    if (payload.length === 0) throw invalidToken()
    if (!timingSafeEqual(bytes.subarray(0, KEY_ID_BYTES), this.keyId))
      throw expired('The provided continue parameter is too old to display a consistent list result.')
    if (!timingSafeEqual(bytes.subarray(KEY_ID_BYTES, KEY_ID_BYTES + MAC_BYTES), this.mac(prefix, payload)))
      throw invalidToken()
    // Only we could have written it, so its shape is known.
    const [revision, startAfter] = JSON.parse(payload.toString()) as [number, string]
    return { revision, startAfter }
  }

  private mac(prefix: string, payload: Buffer): Buffer {
    return createHmac('sha256', this.key)
      .update(`${prefix.length}:${prefix}`)
      .update(payload)
      .digest()
      .subarray(0, MAC_BYTES)
  }
}

function invalidToken() {
  return badRequest('invalid continue token: continue key is not valid')
}

/** The state that the pages show is forgotten; `continueToken` goes on with the newest state instead. */
export class ContinueExpired extends ApiError {
  readonly continueToken: string

  constructor(continueToken: string) {
    super(
      'Expired',
      'The provided continue parameter is too old to display a consistent list result. You can start a new list without ' +
        'the continue parameter, or use the continue token in this response to retrieve the remainder of the results. ' +
        'Objects that were created, changed or deleted in between may then be missing or appear twice.',
    )
    this.continueToken = continueToken
  }
}
