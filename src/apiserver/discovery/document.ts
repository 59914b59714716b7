import { createHash } from 'node:crypto'

/** An answer that is the same for everyone until the kinds change. */
export type Document = { body: Buffer; contentType: string; etag: string }

export function renderDocument(value: unknown, contentType = 'application/json'): Document {
  return renderBytes(Buffer.from(JSON.stringify(value)), contentType)
}

export function renderBytes(body: Buffer, contentType: string): Document {
  const hash = createHash('sha256').update(body).digest('hex').toUpperCase()
  return { body, contentType, etag: `"${hash}"` }
}

/** True when the client already has the document (RFC 9110, `If-None-Match`): answer 304 without a body. */
export function isUnchanged({ etag }: Document, ifNoneMatch: string | undefined): boolean {
  if (ifNoneMatch === undefined) return false
  return ifNoneMatch.split(',').some((tag) => tag.trim() === '*' || tag.trim().replace(/^W\//, '') === etag)
}
