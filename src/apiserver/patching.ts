import {
  ApiError,
  type JsonValue,
  type KindDefinition,
  type KubeObject,
  badRequest,
  conflict,
  forbidden,
  groupVersion,
} from '../api/index.ts'
import { describeDenial } from '../policy/index.ts'
import { type Context, objectKey } from './context.ts'
import { decodeObject, type FurtherProblems, readPatch } from './decode.ts'
import { isRecord } from './json.ts'
import { parseWriteOptions } from './options.ts'
import { applyPatch, configurationProblem, serverSideApply } from './patch/index.ts'
import type { ApiResult, ResourceRequest, Target } from './request.ts'
import { type Writer, createObject, furtherProblems, updateObject, writerOf } from './write.ts'

/** Server-side apply of `applied` as `writer`, without any check of the result. */
export function applyTo(
  { clock }: Context,
  { definition }: Target,
  {
    live,
    applied,
    force,
    writer,
  }: { live: KubeObject | undefined; applied: KubeObject; force: boolean; writer: Writer },
): KubeObject {
  return serverSideApply({
    live,
    applied,
    force,
    manager: writer.manager,
    subresource: writer.subresource,
    schema: definition.schema,
    hasStatus: definition.hasStatus,
    apiVersion: groupVersion(definition),
    nowMs: clock.nowMs(),
  })
}

/** PATCH of an object or its status. The result goes through everything that an update goes through. */
export async function patchObject(
  context: Context,
  request: ResourceRequest,
  target: Target,
): Promise<ApiResult> {
  const { definition } = target
  const { type, patch, duplicateFields } = await readPatch(
    request,
    definition.custom ? ['json', 'merge', 'apply'] : undefined,
  )
  const options = parseWriteOptions('PatchOptions', request.query, { apply: type === 'apply' })
  const { fieldValidation } = options
  const writer = writerOf(request, options, target)
  if (type !== 'apply') {
    const shown = await updateObject(context, request, target, options, (old) => {
      const value = applyPatch(type, { live: old, patch, schema: definition.schema })
      const also = furtherProblems(context, request, target, old)
      const object = decodePatched(request, target, { value, duplicateFields, fieldValidation, also })
      return { object, writer }
    })
    return { kind: 'object', code: 200, shown, definition }
  }
  const configuration = readConfiguration(definition, target, patch)
  const exists = () => context.store.get(objectKey(definition, target.namespace, target.name)) !== undefined
  // Only the object itself can be made by applying; what is a part of one is not found before anything else is said.
  if (definition.custom && (!target.subresource || exists())) {
    const problem = configurationProblem(definition.schema, configuration)
    if (problem !== undefined) throw badRequest(untyped(definition, configuration, problem))
  }
  const applied = decodeObject({
    definition,
    decoded: { value: configuration, duplicateFields, unknownFields: [] },
    // What the schema does not know has been refused above, or goes silently, as upstream.
    fieldValidation: definition.custom && duplicateFields.length === 0 ? 'Ignore' : fieldValidation,
    target,
    warnings: request.warnings,
    // What is not there yet is made of the configuration alone, which must then be whole.
    partial: exists(),
    applied: true,
    also: furtherProblems(context, request, target),
  })
  const applier: Writer = { ...writer, operation: 'Apply' }
  const apply = (live: KubeObject | undefined) => {
    const merged = applyTo(context, target, { live, applied, force: options.force, writer: applier })
    const also = furtherProblems(context, request, target, live)
    const value = merged as unknown as JsonValue // objects are JSON
    return decodePatched(request, target, {
      value,
      duplicateFields: [],
      fieldValidation: 'Ignore',
      applied: true,
      also,
    })
  }
  if (!exists() && !target.subresource) {
    if (applied.metadata.uid)
      throw conflict(
        { group: definition.group, resource: definition.plural, name: target.name },
        `uid mismatch: the provided object specified uid ${applied.metadata.uid}, and no existing object was found`,
      )
    // Creating by PATCH takes the right to create as well; with `patch` alone nothing new comes to be.
    authorizeCreate(context, request, target)
    try {
      const created = await createObject(context, request, target, apply(undefined), options, applier)
      return { kind: 'object', code: 201, shown: created, definition }
    } catch (error) {
      // Somebody else created it meanwhile: then it is there to be changed.
      if (!(error instanceof ApiError && error.reason === 'AlreadyExists' && exists())) throw error
    }
  }
  const shown = await updateObject(context, request, target, options, (old) => ({
    object: apply(old),
    writer: applier,
  }))
  return { kind: 'object', code: 200, shown, definition }
}

/** A patch may write anything, so its result is read like a body from outside. */
function decodePatched(
  request: ResourceRequest,
  target: Target,
  {
    value,
    duplicateFields,
    fieldValidation,
    applied = false,
    also,
  }: {
    value: JsonValue
    duplicateFields: string[]
    fieldValidation: 'Strict' | 'Warn' | 'Ignore'
    applied?: boolean
    also: FurtherProblems
  },
): KubeObject {
  const { definition, name } = target
  const decoded = { value, duplicateFields, unknownFields: [] }
  const { warnings } = request
  const object = decodeObject({
    definition,
    decoded,
    fieldValidation,
    target,
    warnings,
    applied,
    patched: true,
    also,
  })
  if (object.metadata.name !== name)
    throw badRequest(
      `the name of the object (${object.metadata.name}) does not match the name on the URL (${name})`,
    )
  return object
}

function readConfiguration(
  definition: KindDefinition,
  { name, namespace }: Target,
  patch: JsonValue,
): JsonValue {
  if (!isRecord(patch)) throw badRequest('an apply patch must be an object')
  const { apiVersion, kind } = patch
  const [group, version] = splitVersion(typeof apiVersion === 'string' ? apiVersion : '')
  if (group !== definition.group || version !== definition.version || kind !== definition.kind)
    throw badRequest(`invalid object type: ${group}/${version}, Kind=${typeof kind === 'string' ? kind : ''}`)
  const metadata = isRecord(patch['metadata']) ? patch['metadata'] : {}
  if (metadata['managedFields'] !== undefined && metadata['managedFields'] !== null)
    throw badRequest('metadata.managedFields must be nil')
  if (metadata['name'] === undefined)
    return { ...patch, metadata: { ...metadata, name, ...(namespace === undefined ? {} : { namespace }) } }
  return patch
}

/** Upstream says the same with a 500, as if it were to blame. */
function untyped(definition: KindDefinition, configuration: JsonValue, problem: string): string {
  const { metadata } = configuration as { metadata: { name?: unknown; namespace?: unknown } } // as readConfiguration makes it
  const shown = [metadata.namespace, metadata.name].map((name) => (typeof name === 'string' ? name : ''))
  return `failed to create typed patch object (${shown.join('/')}; ${groupVersion(definition)}, Kind=${definition.kind}): ${problem}`
}

function splitVersion(apiVersion: string): [string, string] {
  const slash = apiVersion.indexOf('/')
  return slash < 0 ? ['', apiVersion] : [apiVersion.slice(0, slash), apiVersion.slice(slash + 1)]
}

function authorizeCreate({ authorizer }: Context, { user }: ResourceRequest, target: Target): void {
  const { group, plural: resource } = target.definition
  const { namespace, name } = target
  const attributes = { kind: 'resource', verb: 'create', group, resource, namespace, name } as const
  if (!authorizer.authorize(user, attributes).allowed)
    throw forbidden({ group, resource, name }, { tell: describeDenial(user, attributes) })
}
