import {
  ApiError,
  type FieldError,
  type KindDefinition,
  type KubeObject,
  type WriteContext,
  alreadyExists,
  applyDefaults,
  badRequest,
  collectProblems,
  conflict,
  groupVersion,
  invalid,
  invalidValue,
  userNames,
  validateObject,
} from '../api/index.ts'
import type { AdmissionRequest } from '../policy/index.ts'
import { RevisionConflict, type StoredObject } from '../store/index.ts'
import {
  admissionWarnings,
  furtherRefusals,
  mutateAdmission,
  refuseAdmission,
  refuseAgain,
  reviewAdmission,
} from './admit.ts'
import { type Context, inOrder, objectKey, presented, renderTime, shownAs, storedKind } from './context.ts'
import { cloneJson, equalJson, isRecord } from './json.ts'
import { GENERATE_NAME_ATTEMPTS_MAX, PROBLEMS_MAX, WRITE_ATTEMPTS_MAX } from './limits.ts'
import { addWarnings, type FurtherProblems } from './decode.ts'
import type { WriteOptions } from './options.ts'
import { trackUpdate } from './patch/index.ts'
import { readStored } from './read.ts'
import { noSuchResource } from './refusals.ts'
import { scaleOf } from './scale-of.ts'
import type { ResourceRequest, Shown, Target } from './request.ts'
import {
  checkSize,
  isCustomResourceDefinition,
  isNamespace,
  isService,
  removeStored,
  storedForm,
  tryAddresses,
  writeStored,
} from './storing.ts'

/** No vowels and nothing that looks like another character, as upstream. */
const NAME_CHARACTERS = 'bcdfghjklmnpqrstvwxz2456789'
const GENERATED_CHARACTERS = 5
const NAME_CHARS_MAX = 63

/** How a write is recorded in managedFields. */
export type Writer = { manager: string; operation: 'Update' | 'Apply'; subresource: string | undefined }

export function writerOf(request: ResourceRequest, options: WriteOptions, target: Target): Writer {
  return {
    manager: managerOf(request, options),
    operation: 'Update',
    subresource: target.subresource?.name,
  }
}

/** Under what name a write is recorded. */
export function managerOf(
  request: ResourceRequest,
  { fieldManager }: Pick<WriteOptions, 'fieldManager'>,
): string {
  return fieldManager ?? defaultManager(request)
}

/** The first part of the user agent, as upstream; a component's own name within this process. */
function defaultManager({ user, userAgent }: ResourceRequest): string {
  if (user.kind === 'component') return userNames(user).name.replace(/^system:/, '')
  const first = userAgent.split('/', 1)[0] ?? ''
  return first.replace(/[^\x20-\x7e]/g, '').slice(0, 128) || 'unknown'
}

/**
 * Stores a new object. `object` is decoded, checked against its schema and ours to change.
 * @throws {ApiError}
 */
export async function createObject(
  context: Context,
  request: ResourceRequest,
  target: Target,
  object: KubeObject,
  options: WriteOptions,
  writer: Writer,
): Promise<Shown> {
  const generateName = object.metadata.name ? undefined : object.metadata.generateName
  for (let attempt = 1; ; attempt++) {
    const candidate = generateName === undefined ? object : cloneJson(object)
    if (generateName !== undefined) candidate.metadata.name = generatedName(context, generateName)
    const { object: ready, admission } = prepareNew(context, request, target, candidate, options, writer)
    const review = reviewAdmission(context, admission)
    if (review) {
      const refusal = await request.cost.waiting(review)
      if (refusal) throw refusal
      refuseOutdated(context, request, target.definition, admission)
    }
    if (options.dryRun) {
      if (context.store.get(objectKey(target.definition, target.namespace, ready.metadata.name)))
        throw existsAlready(context, target, ready.metadata.name)
      tryAddresses(context, target.definition, ready)
      return { object: ready }
    }
    try {
      const write = () => writeStored(context, target.definition, ready, undefined)
      const { group, plural: resource } = target.definition
      const creation = { group, resource, namespace: target.namespace, object: ready }
      request.cost.stop()
      return shownAs(target.definition, await context.inFlight.during(creation, write))
    } catch (error) {
      if (!(error instanceof RevisionConflict)) throw error
      if (error.actual === 0 && attempt < WRITE_ATTEMPTS_MAX) {
        // Another create or delete of the name is on its way; what it leaves decides.
        await request.cost.waiting(context.store.settled(error.key))
        if (!context.store.get(error.key)) continue
      }
      if (generateName === undefined || attempt >= GENERATE_NAME_ATTEMPTS_MAX)
        throw existsAlready(context, target, ready.metadata.name)
    }
  }
}

function existsAlready({ store }: Context, { definition, namespace }: Target, name: string): ApiError {
  const { group, plural } = definition
  const error = alreadyExists({ group, resource: plural, name })
  const there = store.get(objectKey(definition, namespace, name))?.object
  if (there?.metadata.deletionTimestamp === undefined) return error
  return new ApiError(error.reason, `object is being deleted: ${error.message}`, {
    ...(error.details ? { details: error.details } : {}),
  })
}

function generatedName(context: Context, prefix: string): string {
  const suffix = [...context.entropy.bytes(GENERATED_CHARACTERS)]
    .map((byte) => NAME_CHARACTERS[byte % NAME_CHARACTERS.length])
    .join('')
  return prefix.slice(0, NAME_CHARS_MAX - GENERATED_CHARACTERS) + suffix
}

/** What would be stored, and what policies were told about it. */
type Prepared = { object: KubeObject; admission: AdmissionRequest }

/**
 * What was let in before some policies took their time is asked about again.
 * Afterwards: it holds in this very turn only, so the write begins at once.
 * @throws {ApiError}
 */
function refuseOutdated(
  context: Context,
  request: ResourceRequest,
  definition: KindDefinition,
  admission: AdmissionRequest,
): void {
  requireCurrent(context, definition)
  refuseAgain(context, admission)
  warn(context, request, definition, admission)
}

function prepareNew(
  context: Context,
  request: ResourceRequest,
  { definition, namespace, subresource }: Target,
  decoded: KubeObject,
  options: WriteOptions,
  writer: Writer,
): Prepared {
  const { clock, entropy } = context
  const nowMs = clock.nowMs()
  requireCurrent(context, definition)
  if (definition.custom?.terminating)
    throw new ApiError(
      'MethodNotAllowed',
      `create not allowed while custom resource definition ${definition.plural}.${definition.group} is terminating`,
    )
  const sent = decoded.metadata
  if (sent.resourceVersion) throw badRequest('resourceVersion should not be set on objects to be created')
  const { name, generateName, labels, annotations, ownerReferences, finalizers, managedFields } = sent
  let object: KubeObject = {
    ...decoded,
    metadata: {
      name,
      ...(generateName ? { generateName } : {}),
      ...(namespace === undefined ? {} : { namespace }),
      uid: entropy.uuid(),
      // The store fills it in; it stands here so that it is read where people expect it.
      resourceVersion: '',
      ...(definition.hasGeneration ? { generation: 1 } : {}),
      creationTimestamp: renderTime(nowMs),
      ...(labels ? { labels } : {}),
      ...(annotations ? { annotations } : {}),
      ...(ownerReferences ? { ownerReferences } : {}),
      ...(finalizers ? { finalizers } : {}),
      ...(managedFields ? { managedFields } : {}),
    },
  }
  const writeContext: WriteContext = {
    user: request.user,
    nowMs,
    ...(subresource ? { subresource: subresource.name } : {}),
  }
  if (definition.hasStatus) delete object['status']
  object = applyDefaults(definition, object)
  // What the server itself fills in from here on belongs to no manager.
  object = recordFields(definition, object, undefined, writer, nowMs)
  if (definition.prepareForCreate) object = definition.prepareForCreate(object, writeContext)
  const admission: AdmissionRequest = {
    operation: 'CREATE',
    user: request.user,
    group: definition.group,
    version: definition.version,
    kind: definition.kind,
    resource: definition.plural,
    namespace,
    name,
    object,
    dryRun: options.dryRun,
  }
  mutateAdmission(context, admission)
  refuseInvalid(context, definition, admission, validateObject(definition, object, writeContext))
  refuseAdmission(context, admission, request.auditNotes)
  warn(context, request, definition, admission)
  object = inOrder(object)
  if (options.dryRun) {
    checkSize(object)
    const { resourceVersion: _none, ...metadata } = object.metadata
    return { object: { ...object, metadata: metadata as KubeObject['metadata'] }, admission }
  }
  return { object, admission }
}

/** A definition may change or go while a request's body is on its way; its old rules must not count then. */
function requireCurrent({ registry }: Context, definition: KindDefinition): void {
  if (!definition.custom) return
  const { group, version, plural } = definition
  const current = registry.find({ group, version, resource: plural })
  if (!current) throw noSuchResource()
  if (current !== definition)
    throw new ApiError(
      'ServiceUnavailable',
      `The definition of ${plural}.${group} has changed; please try again`,
      {
        details: { retryAfterSeconds: 1 },
      },
    )
}

/** What an update makes of the object that is there. Called again when somebody else's write came in between. */
export type Change = (
  old: KubeObject,
) => { object: KubeObject; writer: Writer } | Promise<{ object: KubeObject; writer: Writer }>

/**
 * Replaces what is stored by what `change` makes of it. `object` from there is decoded, checked and ours; its
 * `metadata.resourceVersion`, when it has one, must be the stored one.
 * @throws {ApiError}
 */
export async function updateObject(
  context: Context,
  request: ResourceRequest,
  target: Target,
  options: WriteOptions,
  change: Change,
): Promise<Shown> {
  const { definition } = target
  for (let attempt = 1; ; attempt++) {
    const stored = readStored(context, target)
    const { object: wanted, writer } = await change(presented(definition, stored.object))
    // `change` may have waited; the newest object decides, and compare-and-swap would refuse anything else anyway.
    const prepared = prepareUpdate(context, request, target, wanted, stored, options, writer)
    if (prepared === undefined) return shownAs(definition, stored)
    const { object, admission } = prepared
    const review = reviewAdmission(context, admission)
    if (review) {
      const refusal = await request.cost.waiting(review)
      if (refusal) throw refusal
      // The object itself is looked after by compare-and-swap, a rehearsal by nobody.
      refuseOutdated(context, request, definition, admission)
    }
    const done = isFinished(definition, object)
    if (options.dryRun) {
      tryAddresses(context, definition, object, stored.object)
      return { object: presented(definition, object) }
    }
    request.cost.stop()
    try {
      if (done) {
        if (isNamespace(definition)) refuseContent(context, object)
        if (isCustomResourceDefinition(definition)) context.customKinds.refuseContent(object, context.cluster)
        await removeStored(context, definition, stored)
        const { resourceVersion } = stored.object.metadata
        return { object: { ...object, metadata: { ...object.metadata, resourceVersion } } }
      }
      return shownAs(definition, await writeStored(context, definition, object, stored))
    } catch (error) {
      if (!(error instanceof RevisionConflict)) throw error
      // The next try sees the newest object; a version that the client named is then found to be old.
      if (attempt >= WRITE_ATTEMPTS_MAX) throw modified(definition, target.name)
      await request.cost.waiting(context.store.settled(stored.key))
    }
  }
}

function modified({ group, plural }: KindDefinition, name: string): ApiError {
  return conflict({ group, resource: plural, name })
}

/** The object as it would be stored, or undefined when nothing changes. */
function prepareUpdate(
  context: Context,
  request: ResourceRequest,
  { definition, namespace, name, subresource }: Target,
  wanted: KubeObject,
  stored: StoredObject,
  options: WriteOptions,
  writer: Writer,
): Prepared | undefined {
  requireCurrent(context, definition)
  const old = presented(definition, stored.object)
  const { resourceVersion, uid } = wanted.metadata
  const another = uid && uid !== old.metadata.uid
  // In what replaces an object the uid says which one is meant; in a patch it is a field like any other, as upstream.
  const asPatch = request.method === 'PATCH' && subresource?.name !== 'scale'
  if (another && !asPatch)
    throw conflict(
      { group: definition.group, resource: definition.plural, name },
      `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${old.metadata.uid}`,
    )
  if (definition.custom && !resourceVersion && subresource?.name !== 'scale')
    throw invalid({ group: definition.group, kind: definition.plural, name }, [
      invalidValue('metadata.resourceVersion', 0, 'must be specified for an update'),
    ])
  if (resourceVersion && resourceVersion !== old.metadata.resourceVersion) throw modified(definition, name)
  if (another)
    throw invalid({ ...storedKind(definition), name }, [
      invalidValue('metadata.uid', uid, 'field is immutable'),
    ])
  const nowMs = context.clock.nowMs()
  let object = withServerMetadata(scopeToSubresource(definition, subresource?.name, wanted, old), old)
  const writeContext: WriteContext = {
    user: request.user,
    nowMs,
    ...(subresource ? { subresource: subresource.name } : {}),
  }
  object = recordFields(definition, applyDefaults(definition, object), old, writer, nowMs)
  if (definition.prepareForUpdate) object = definition.prepareForUpdate(object, old, writeContext)
  if (isService(definition)) context.addresses.keep(object, old)
  const admission: AdmissionRequest = {
    operation: 'UPDATE',
    user: request.user,
    group: definition.group,
    version: definition.version,
    kind: definition.kind,
    resource: definition.plural,
    subresource: subresource?.name,
    namespace,
    name,
    object,
    old,
    ...(subresource?.name === 'scale'
      ? {
          seen: {
            group: 'autoscaling',
            version: 'v1',
            kind: 'Scale',
            object: scaleOf(definition, object),
            old: scaleOf(definition, old),
          },
        }
      : {}),
    dryRun: options.dryRun,
  }
  mutateAdmission(context, admission)
  refuseInvalid(context, definition, admission, validateObject(definition, object, writeContext, old))
  refuseAdmission(context, admission, request.auditNotes)
  warn(context, request, definition, admission)
  if (definition.hasGeneration && specChanged(definition, object, old))
    object.metadata.generation = (old.metadata.generation ?? 0) + 1
  object = inOrder(object)
  // The same, and stored as the version that it shall be stored as.
  if (equalJson(storedForm(definition, object, stored.object), stored.object)) return undefined
  if (options.dryRun) checkSize(object)
  return { object, admission }
}

/** A sub-resource changes its own part only, and a plain update everything but the status. */
function scopeToSubresource(
  definition: KindDefinition,
  subresource: string | undefined,
  wanted: KubeObject,
  old: KubeObject,
): KubeObject {
  switch (subresource) {
    case undefined: {
      if (!definition.hasStatus) return wanted
      const { status: _sent, ...rest } = wanted
      return (
        old['status'] === undefined ? rest : { ...rest, status: cloneJson(old['status']) }
      ) as KubeObject
    }
    case 'status': {
      const kept = cloneJson(old)
      const { annotations, managedFields, resourceVersion } = wanted.metadata
      if (definition.custom) {
        const { status: _was, ...rest } = kept
        return {
          ...rest,
          metadata: { ...rest.metadata, resourceVersion, ...(managedFields ? { managedFields } : {}) },
          ...(wanted['status'] === undefined ? {} : { status: wanted['status'] }),
        } as KubeObject
      }
      const { annotations: _old, ...metadata } = kept.metadata
      return {
        ...kept,
        metadata: {
          ...metadata,
          resourceVersion,
          ...(annotations ? { annotations } : {}),
          ...(managedFields ? { managedFields } : {}),
        },
        status: wanted['status'] ?? {},
      }
    }
    case 'finalize':
      return { ...cloneJson(old), spec: wanted['spec'] }
    default:
      return wanted
  }
}

/** Gives an object the metadata that only the server decides about, in the order in which it is shown. */
function withServerMetadata(object: KubeObject, old: KubeObject): KubeObject {
  const { labels, annotations, ownerReferences, finalizers, managedFields } = object.metadata
  const was = old.metadata
  return {
    ...object,
    metadata: {
      name: was.name,
      ...(was.generateName === undefined ? {} : { generateName: was.generateName }),
      ...(was.namespace === undefined ? {} : { namespace: was.namespace }),
      uid: was.uid,
      resourceVersion: was.resourceVersion,
      ...(was.generation === undefined ? {} : { generation: was.generation }),
      creationTimestamp: was.creationTimestamp,
      ...(was.deletionTimestamp === undefined ? {} : { deletionTimestamp: was.deletionTimestamp }),
      ...(was.deletionGracePeriodSeconds === undefined
        ? {}
        : { deletionGracePeriodSeconds: was.deletionGracePeriodSeconds }),
      ...(labels ? { labels } : {}),
      ...(annotations ? { annotations } : {}),
      ...(ownerReferences?.length ? { ownerReferences } : {}),
      ...(finalizers?.length ? { finalizers } : {}),
      ...(managedFields ? { managedFields } : {}),
    },
  }
}

function specChanged(
  { hasStatus, filledIn = [] }: KindDefinition,
  object: KubeObject,
  old: KubeObject,
): boolean {
  for (const field of new Set([...Object.keys(object), ...Object.keys(old)])) {
    if (field === 'metadata' || (field === 'status' && hasStatus)) continue
    const [is, was] = [object[field], old[field]]
    if (!equalJson(is, field === 'spec' ? withFilledIn(was, is, filledIn) : was)) return true
  }
  return false
}

/** What a spec was, with those of `fields` that have come since. */
function withFilledIn(was: unknown, is: unknown, fields: readonly string[]): unknown {
  if (fields.length === 0 || !isRecord(was) || !isRecord(is)) return was
  const filled = fields.filter((field) => was[field] === undefined && is[field] !== undefined)
  return filled.length === 0
    ? was
    : { ...was, ...Object.fromEntries(filled.map((field) => [field, is[field]])) }
}

/** True when an object was only waiting for what this write takes away. */
function isFinished(definition: KindDefinition, object: KubeObject): boolean {
  const { deletionTimestamp, finalizers, deletionGracePeriodSeconds } = object.metadata
  if (deletionTimestamp === undefined || (finalizers?.length ?? 0) > 0) return false
  if (isNamespace(definition)) {
    const spec = object['spec'] as { finalizers?: string[] } | undefined
    return (spec?.finalizers?.length ?? 0) === 0
  }
  return (deletionGracePeriodSeconds ?? 0) === 0
}

/** A namespace must be empty when it goes, or what is left in it could never be reached again. */
function refuseContent({ registry, cluster }: Context, namespace: KubeObject): void {
  const { name } = namespace.metadata
  const left = registry.kinds.find(
    ({ namespaced, group, plural }) =>
      namespaced && cluster.count({ group, resource: plural, namespace: name }) > 0,
  )
  if (left)
    throw conflict(
      { group: '', resource: 'namespaces', name },
      `the namespace still has content (${left.plural})`,
    )
}

function refuseInvalid(
  context: Context,
  definition: KindDefinition,
  admission: AdmissionRequest,
  errors: readonly FieldError[],
): void {
  if (errors.length === 0) return
  const { name } = admission.object.metadata
  const all = [...errors, ...furtherRefusals(context, admission)]
  throw invalid({ ...storedKind(definition), name }, all.slice(0, PROBLEMS_MAX))
}

/** What else is wrong with an object that cannot be accepted as it was sent: rules and policies judge the rest of it. */
export function furtherProblems(
  context: Context,
  { user }: ResourceRequest,
  { definition, namespace, name, subresource }: Target,
  old?: KubeObject,
): FurtherProblems {
  return ({ errors, refused, filled }) => {
    const writeContext: WriteContext = {
      user,
      nowMs: context.clock.nowMs(),
      ...(subresource ? { subresource: subresource.name } : {}),
    }
    const { namespace: _sent, ...metadata } = filled.metadata
    const object = old
      ? withServerMetadata(scopeToSubresource(definition, subresource?.name, filled, old), old)
      : { ...filled, metadata: { ...metadata, ...(namespace === undefined ? {} : { namespace }) } }
    if (definition.hasStatus && !old) delete object['status']
    const admission: AdmissionRequest = {
      operation: old ? 'UPDATE' : 'CREATE',
      user,
      group: definition.group,
      version: definition.version,
      kind: definition.kind,
      resource: definition.plural,
      subresource: subresource?.name,
      namespace,
      name,
      object,
      old,
      dryRun: true,
    }
    return [
      ...collectProblems(definition, { errors, refused, filled: object }, writeContext, old),
      ...furtherRefusals(context, admission),
    ]
  }
}

/** Who set which field. An apply has decided about it already: what defaults add belongs to nobody. */
function recordFields(
  definition: KindDefinition,
  object: KubeObject,
  old: KubeObject | undefined,
  { manager, operation, subresource }: Writer,
  nowMs: number,
): KubeObject {
  if (operation === 'Apply') return object
  const managedFields = trackUpdate({
    schema: definition.schema,
    hasStatus: definition.hasStatus,
    apiVersion: groupVersion(definition),
    manager,
    subresource,
    nowMs,
    live: old,
    next: object,
  })
  const { managedFields: _sent, ...metadata } = object.metadata
  return { ...object, metadata: { ...metadata, ...(managedFields ? { managedFields } : {}) } }
}

function warn(
  context: Context,
  { warnings }: ResourceRequest,
  definition: KindDefinition,
  admission: AdmissionRequest,
): void {
  if (admission.subresource === undefined)
    addWarnings(warnings, definition.warnings?.(admission.object, admission.old) ?? [])
  addWarnings(warnings, admissionWarnings(context, admission))
}
