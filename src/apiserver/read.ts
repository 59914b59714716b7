import { ApiError, type KindDefinition, type ListMeta, badRequest, notFound } from '../api/index.ts'
import { RevisionCompacted, type StoreKey, type StoredObject } from '../store/index.ts'
import { type Context, keyPrefix, objectKey, shownAs, storedAs } from './context.ts'
import { ContinueExpired } from './continue-token.ts'
import { LIST_BATCH } from './limits.ts'
import type { ListOptions } from './options.ts'
import type { Shown, Target } from './request.ts'
import { type Selection, parseSelection } from './selection.ts'

/** @throws {ApiError} NotFound */
export function readStored(context: Context, { definition, namespace, name }: Target): StoredObject {
  const stored = context.store.get(objectKey(definition, namespace, name))
  if (!stored) throw notFound({ group: definition.group, resource: definition.plural, name })
  return stored
}

/** GET of one object. `resourceVersion` means "not older than", and everything here is the newest. */
export function getObject(context: Context, target: Target, query: URLSearchParams): Shown {
  const version = query.get('resourceVersion') ?? ''
  if (version !== '') {
    if (!/^\d{1,20}$/.test(version))
      throw badRequest(`resourceVersion: Invalid value: ${JSON.stringify(version)}: must be a whole number`)
    if (Number(version) > context.store.revision)
      throw tooLargeVersion(Number(version), context.store.revision)
  }
  return shownAs(target.definition, readStored(context, target))
}

export type ListPage = { items: Shown[]; metadata: ListMeta }

/**
 * A page of a list. The pages that follow from one `continue` show the same revision.
 * @throws {ApiError} BadRequest, Invalid, Expired, or Timeout for a revision that is not there yet.
 */
export function listObjects(context: Context, target: Target, options: ListOptions): ListPage {
  const { definition, namespace } = target
  const selection = parseSelection(definition, options)
  const prefix = keyPrefix(storedAs(definition), namespace)
  const { limit } = options
  if (options.continue !== '') {
    if (options.resourceVersion !== undefined && options.resourceVersion !== 0)
      throw badRequest('specifying resource version is not allowed when using continue')
    const position = context.continueTokens.parse(prefix, options.continue)
    try {
      return listPage(context, { prefix, definition, selection, limit, ...position })
    } catch (error) {
      if (error instanceof RevisionCompacted)
        throw new ContinueExpired(
          context.continueTokens.render(prefix, { revision: 0, startAfter: position.startAfter }),
        )
      throw error
    }
  }
  const wanted = options.resourceVersion ?? 0
  if (wanted > context.store.revision) throw tooLargeVersion(wanted, context.store.revision)
  const exact =
    options.resourceVersionMatch === 'Exact' || (options.resourceVersionMatch === undefined && limit > 0)
  try {
    return listPage(context, {
      prefix,
      definition,
      selection,
      limit,
      revision: exact ? wanted : 0,
      startAfter: '',
    })
  } catch (error) {
    if (error instanceof RevisionCompacted)
      throw new ApiError('Expired', `The provided resource version ${wanted} is too old to list.`)
    throw error
  }
}

type PageRequest = {
  prefix: string
  definition: KindDefinition
  selection: Selection
  /** 0: everything. */
  limit: number
  /** 0: the newest. */
  revision: number
  startAfter: string
}

function listPage(context: Context, page: PageRequest): ListPage {
  const { store, continueTokens } = context
  const { prefix, definition, selection, limit } = page
  const items: Shown[] = []
  let revision = page.revision
  let startAfter = page.startAfter
  // A selector can leave out much of what is read, so we read on until the page is full.
  for (;;) {
    // Each read of an older revision goes through the history, so a small page must not mean many small reads.
    const batchMax = selection.everything ? limit - items.length : Math.max(limit, LIST_BATCH)
    const batch = store.list(prefix, {
      ...(limit > 0 ? { limit: batchMax } : {}),
      ...(startAfter === '' ? {} : { startAfter: startAfter as StoreKey }),
      ...(revision === 0 ? {} : { atRevision: revision }),
    })
    revision = batch.revision
    let read = 0
    for (const stored of batch.items) {
      if (limit > 0 && items.length >= limit) break
      const shown = shownAs(definition, stored)
      if (selection.everything || selection.matches(shown.object)) items.push(shown)
      startAfter = stored.key
      read++
    }
    if (read === batch.items.length && !batch.more)
      return { items, metadata: { resourceVersion: String(revision) } }
    if (limit > 0 && items.length >= limit) break
  }
  const remaining = store.count(prefix, startAfter as StoreKey)
  return {
    items,
    metadata: {
      resourceVersion: String(revision),
      continue: continueTokens.render(prefix, { revision, startAfter }),
      // With a selector nobody knows without reading everything.
      ...(selection.everything && remaining > 0 ? { remainingItemCount: remaining } : {}),
    },
  }
}

export function tooLargeVersion(wanted: number, current: number): ApiError {
  return new ApiError('Timeout', `Timeout: Too large resource version: ${wanted}, current: ${current}`, {
    details: {
      causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }],
      retryAfterSeconds: 1,
    },
  })
}
