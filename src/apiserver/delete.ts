import {
  ApiError,
  type KindDefinition,
  type KubeObject,
  type Status,
  conflict,
  deleteOptionsSchema,
} from '../api/index.ts'
import { RevisionConflict, type StoredObject } from '../store/index.ts'
import type { AdmissionRequest } from '../policy/index.ts'
import { admissionWarnings, refuseAdmission, refuseAgain, reviewAdmission } from './admit.ts'
import { type Context, inOrder, objectKey, presented, renderTime, shownAs, storedKind } from './context.ts'
import { addWarnings, decodePart, decodeRequestBody } from './decode.ts'
import { cloneJson, equalJson } from './json.ts'
import {
  DELETE_COLLECTION_BATCH,
  DELETE_COLLECTION_MAX,
  GRACE_SECONDS_MAX,
  WRITE_ATTEMPTS_MAX,
} from './limits.ts'
import { dryRunError, invalidOptions, parseBoolean, parseInteger, parseListOptions } from './options.ts'
import { listObjects, readStored } from './read.ts'
import type { ApiResult, ResourceRequest, Shown, Target } from './request.ts'
import { isNamespace, removeStored, writeStored } from './storing.ts'

const FOREGROUND = 'foregroundDeletion'
const ORPHAN = 'orphan'
const PODS_STAY =
  'its pods stay: propagationPolicy=Background removes them, propagationPolicy=Orphan keeps them without this warning'

/** metav1.DeleteOptions, from the body or the query. */
export type DeleteOptions = {
  gracePeriodSeconds: number | undefined
  propagationPolicy: 'Orphan' | 'Background' | 'Foreground' | undefined
  uid: string | undefined
  resourceVersion: string | undefined
  dryRun: boolean
}

/** Removes one object, or begins to: finalizers and a pod's grace period come first. */
export async function deleteObject(
  context: Context,
  request: ResourceRequest,
  target: Target,
): Promise<ApiResult> {
  const options = await readDeleteOptions(request)
  const { shown, gone } = await remove(context, request, target, options)
  const { definition } = target
  if (!gone || definition.gracePeriodSeconds || definition.showsDeleted)
    return { kind: 'object', code: 200, shown, definition }
  const { object } = shown
  const status: Status = {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Success',
    details: {
      name: object.metadata.name,
      ...(definition.group ? { group: definition.group } : {}),
      kind: definition.plural,
      uid: object.metadata.uid,
    },
  }
  return { kind: 'status', status }
}

/** Removes every object that a list with the same selectors would show. */
export async function deleteCollection(
  context: Context,
  request: ResourceRequest,
  target: Target,
): Promise<ApiResult> {
  const options = await readDeleteOptions(request)
  const { definition } = target
  const page = listObjects(context, target, { ...parseListOptions(request.query), watch: false })
  if (page.items.length > DELETE_COLLECTION_MAX)
    throw new ApiError(
      'RequestEntityTooLarge',
      `The request would delete ${page.items.length} ${definition.plural}, more than ${DELETE_COLLECTION_MAX} at once; give a limit`,
    )
  const items: Shown[] = []
  const removeOne = async (item: Shown) => {
    const { name, namespace } = item.object.metadata
    const single = { ...target, name, namespace }
    try {
      await remove(context, request, single, options)
      // As upstream: what the list showed, and not what became of it.
      items.push(item)
    } catch (error) {
      // Somebody else was faster: what was asked for is true.
      if (!(error instanceof ApiError && error.reason === 'NotFound')) throw error
    }
  }
  for (let at = 0; at < page.items.length; at += DELETE_COLLECTION_BATCH)
    await Promise.all(page.items.slice(at, at + DELETE_COLLECTION_BATCH).map(removeOne))
  items.sort(({ object: a }, { object: b }) => (a.metadata.name < b.metadata.name ? -1 : 1))
  return { kind: 'list', definition, items, metadata: page.metadata }
}

async function remove(
  context: Context,
  request: ResourceRequest,
  target: Target,
  options: DeleteOptions,
): Promise<{ shown: Shown; gone: boolean }> {
  const { definition, namespace, name } = target
  const { group, version, kind, plural: resource } = definition
  for (let attempt = 1; ; attempt++) {
    const stored = readStored(context, target)
    checkPreconditions(stored, definition, options)
    const admission: AdmissionRequest = {
      operation: 'DELETE',
      user: request.user,
      group,
      version,
      kind,
      resource,
      namespace,
      name,
      object: presented(definition, stored.object),
      dryRun: options.dryRun,
    }
    refuseAdmission(context, admission, request.auditNotes)
    const review = reviewAdmission(context, admission)
    if (review) {
      const refusal = await request.cost.waiting(review)
      if (refusal) throw refusal
      refuseAgain(context, admission)
    }
    addWarnings(request.warnings, admissionWarnings(context, admission))
    if (definition.orphansByDefault && options.propagationPolicy === undefined)
      addWarnings(request.warnings, [PODS_STAY])
    const current = presented(definition, stored.object)
    const plan = planDelete(definition, current, options, context.clock.nowMs())
    const shown = plan.remove && !definition.gracePeriodSeconds ? current : plan.object
    if (options.dryRun) return { shown: { object: shown }, gone: plan.remove }
    try {
      if (plan.remove) {
        const { revision } = await removeStored(context, definition, stored)
        // Only of a pod does upstream show what became of it; of the others, what they were.
        return definition.gracePeriodSeconds
          ? { shown: { object: atRevision(plan.object, revision) }, gone: true }
          : { shown: shownAs(definition, stored), gone: true }
      }
      if (equalJson(plan.object, current)) return { shown: shownAs(definition, stored), gone: false }
      const written = await writeStored(context, definition, plan.object, stored)
      return { shown: shownAs(definition, written), gone: false }
    } catch (error) {
      if (!(error instanceof RevisionConflict)) throw error
      if (attempt >= WRITE_ATTEMPTS_MAX) throw conflict({ group, resource, name })
      await context.store.settled(objectKey(definition, namespace, name))
    }
  }
}

function atRevision(object: KubeObject, revision: number): KubeObject {
  return { ...object, metadata: { ...object.metadata, resourceVersion: String(revision) } }
}

/**
 * What a DELETE makes of an object, as upstream's `rest.BeforeDelete` and the registry's `deletionFinalizersForGarbageCollection`:
 * it is marked and stays while something has to be finished first, and goes otherwise.
 */
export function planDelete(
  definition: KindDefinition,
  object: KubeObject,
  options: Pick<DeleteOptions, 'gracePeriodSeconds' | 'propagationPolicy'>,
  nowMs: number,
): { object: KubeObject; remove: boolean } {
  const next = definition.prepareForDelete?.(cloneJson(object), nowMs) ?? cloneJson(object)
  const meta = next.metadata
  const finalizers = finalizersAfter(definition, meta.finalizers ?? [], options.propagationPolicy)
  if (finalizers.length > 0) meta.finalizers = finalizers
  else delete meta.finalizers
  const graceSeconds = graceOf(definition, object, options.gracePeriodSeconds)
  const already = meta.deletionTimestamp !== undefined
  const waits = finalizers.length > 0 || graceSeconds > 0 || hasNamespaceFinalizers(definition, next)
  if (!already || (definition.gracePeriodSeconds && graceSeconds < (meta.deletionGracePeriodSeconds ?? 0))) {
    meta.deletionTimestamp = renderTime(nowMs + graceSeconds * 1_000)
    if (!isNamespace(definition)) meta.deletionGracePeriodSeconds = graceSeconds
    if (definition.hasGeneration && !already && meta.generation !== undefined) meta.generation++
  }
  if (isNamespace(definition))
    next['status'] = { ...(next['status'] as object | undefined), phase: 'Terminating' }
  // A pod that is ending already goes when its grace is over or somebody asks again with 0.
  const stillEnding = already && definition.gracePeriodSeconds && (meta.deletionGracePeriodSeconds ?? 0) > 0
  return { object: inOrder(next), remove: !waits && !stillEnding }
}

function hasNamespaceFinalizers(definition: KindDefinition, object: KubeObject): boolean {
  if (!isNamespace(definition)) return false
  const spec = object['spec'] as { finalizers?: string[] } | undefined
  return (spec?.finalizers?.length ?? 0) > 0
}

function finalizersAfter(
  { orphansByDefault }: KindDefinition,
  finalizers: readonly string[],
  asked: DeleteOptions['propagationPolicy'],
): string[] {
  const policy = asked ?? (orphansByDefault && !finalizers.includes(FOREGROUND) ? 'Orphan' : undefined)
  if (policy === undefined) return [...finalizers]
  const others = finalizers.filter((f) => f !== FOREGROUND && f !== ORPHAN)
  if (policy === 'Foreground') return [...others, FOREGROUND]
  return policy === 'Orphan' ? [...others, ORPHAN] : others
}

/** A pod that no machine runs, or that has ended, needs no time to end. */
function graceOf(definition: KindDefinition, object: KubeObject, asked: number | undefined): number {
  if (!definition.gracePeriodSeconds) return 0
  const spec = object['spec'] as { nodeName?: string } | undefined
  const status = object['status'] as { phase?: string } | undefined
  if (!spec?.nodeName || status?.phase === 'Succeeded' || status?.phase === 'Failed') return 0
  return Math.min(Math.max(0, asked ?? definition.gracePeriodSeconds(object)), GRACE_SECONDS_MAX)
}

function checkPreconditions(stored: StoredObject, definition: KindDefinition, options: DeleteOptions): void {
  const { uid, resourceVersion, name } = stored.object.metadata
  const { group, kind } = storedKind(definition)
  const refuse = (why: string) =>
    new ApiError(
      'Conflict',
      `Operation cannot be fulfilled on ${group ? `${kind}.${group}` : kind} ${JSON.stringify(name)}: ${why}`,
      {
        details: { name, ...(group ? { group } : {}), kind },
      },
    )
  if (options.uid !== undefined && options.uid !== uid)
    throw refuse(
      `the UID in the precondition (${options.uid}) does not match the UID in record (${uid}). ` +
        'The object might have been deleted and then recreated',
    )
  if (options.resourceVersion !== undefined && options.resourceVersion !== resourceVersion)
    throw refuse(
      `the ResourceVersion in the precondition (${options.resourceVersion}) does not match the ResourceVersion in record ` +
        `(${resourceVersion}). The object might have been modified`,
    )
}

/** @throws {ApiError} BadRequest or Invalid. */
export async function readDeleteOptions(request: ResourceRequest): Promise<DeleteOptions> {
  const body = await request.readBody()
  const { query } = request
  if (!body) {
    const orphan = parseBoolean(query.get('orphanDependents'))
    return checkedOptions({
      gracePeriodSeconds: parseInteger(query, 'gracePeriodSeconds'),
      propagationPolicy: query.get('propagationPolicy') || undefined,
      orphanDependents: orphan,
      dryRun: query.getAll('dryRun').filter((v) => v !== ''),
    })
  }
  const checked = decodePart({
    schema: deleteOptionsSchema,
    kind: 'DeleteOptions',
    version: 'v1',
    decoded: decodeRequestBody(body, 'DeleteOptions'),
    fieldValidation: 'Ignore',
    warnings: request.warnings,
  }) as DeleteOptionsBody
  return checkedOptions({
    ...checked,
    uid: checked.preconditions?.uid,
    resourceVersion: checked.preconditions?.resourceVersion,
    // Either place is enough: a body must not turn a rehearsal into the real thing.
    dryRun: [...(checked.dryRun ?? []), ...query.getAll('dryRun').filter((v) => v !== '')],
  })
}

type DeleteOptionsBody = {
  gracePeriodSeconds?: number
  propagationPolicy?: string
  orphanDependents?: boolean
  preconditions?: { uid?: string; resourceVersion?: string }
  dryRun?: string[]
}

function checkedOptions(raw: {
  gracePeriodSeconds?: number | undefined
  propagationPolicy?: string | undefined
  orphanDependents?: boolean | undefined
  uid?: string | undefined
  resourceVersion?: string | undefined
  dryRun: readonly string[]
}): DeleteOptions {
  const dryRunProblem = dryRunError(raw.dryRun)
  if (dryRunProblem) throw invalidOptions('DeleteOptions', dryRunProblem)
  const policies: readonly (string | undefined)[] = [undefined, 'Orphan', 'Background', 'Foreground']
  if (!policies.includes(raw.propagationPolicy))
    throw invalidOptions('DeleteOptions', {
      reason: 'FieldValueNotSupported',
      field: 'propagationPolicy',
      message:
        `Unsupported value: ${JSON.stringify(raw.propagationPolicy)}: supported values: ` +
        '"Foreground", "Background", "Orphan", "nil"',
    })
  if (raw.orphanDependents !== undefined && raw.propagationPolicy !== undefined)
    throw invalidOptions('DeleteOptions', {
      reason: 'FieldValueInvalid',
      field: 'propagationPolicy',
      message: `Invalid value: ${JSON.stringify(raw.propagationPolicy)}: orphanDependents and deletionPropagation cannot be both set`,
    })
  const policy = raw.propagationPolicy as DeleteOptions['propagationPolicy']
  return {
    gracePeriodSeconds: raw.gracePeriodSeconds,
    propagationPolicy:
      policy ??
      (raw.orphanDependents === undefined ? undefined : raw.orphanDependents ? 'Orphan' : 'Background'),
    uid: raw.uid,
    resourceVersion: raw.resourceVersion,
    dryRun: raw.dryRun.length > 0,
  }
}
