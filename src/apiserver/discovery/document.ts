import { createHash } from 'node:crypto'
import type { KindRegistry } from '../../api/index.ts'

/** An answer that is the same for everyone until the kinds change. */
export type Document = { body: Buffer; contentType: string; etag: string }

export function renderDocument(value: unknown, contentType = 'application/json'): Document {
  return renderBytes(Buffer.from(JSON.stringify(value)), contentType)
}

export function renderBytes(body: Buffer, contentType: string): Document {
  const hash = createHash('sha256').update(body).digest('hex').toUpperCase()
  return { body, contentType, etag: `"${hash}"` }
}

/**
 * Documents of registries, each made when it is asked for and kept until the memory is wanted: tenants with kinds of their
 * own have registries of their own, and a megabyte that nobody asks for again would cost more than the rest of an idle tenant.
 */
export class Documents {
  private readonly kept = new WeakMap<KindRegistry, Map<string, WeakRef<Document>>>()

  of(registry: KindRegistry, name: string, render: () => Document): Document {
    let known = this.kept.get(registry)
    if (!known) this.kept.set(registry, (known = new Map<string, WeakRef<Document>>()))
    const found = known.get(name)?.deref()
    if (found) return found
    const document = render()
    known.set(name, new WeakRef(document))
    return document
  }
}

/** True when the client already has the document (RFC 9110, `If-None-Match`): answer 304 without a body. */
export function isUnchanged({ etag }: Document, ifNoneMatch: string | undefined): boolean {
  if (ifNoneMatch === undefined) return false
  return ifNoneMatch.split(',').some((tag) => tag.trim() === '*' || tag.trim().replace(/^W\//, '') === etag)
}
