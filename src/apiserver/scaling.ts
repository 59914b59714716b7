import {
  type JsonValue,
  type KindDefinition,
  type KubeObject,
  badRequest,
  groupVersion,
  invalid,
} from '../api/index.ts'
import type { Context } from './context.ts'
import { decodePart, decodeRequestBody, readPatch } from './decode.ts'
import { cloneJson, isRecord } from './json.ts'
import { type WriteOptions, parseWriteOptions } from './options.ts'
import { applyPatch } from './patch/index.ts'
import { applyTo } from './patching.ts'
import { getObject } from './read.ts'
import { scaleOf } from './scale-of.ts'
import type { ApiResult, RequestVerb, ResourceRequest, Shown, Target } from './request.ts'
import { methodNotAllowed } from './refusals.ts'
import { type Writer, updateObject, writerOf } from './write.ts'

export function getScale(context: Context, target: Target, query: URLSearchParams): ApiResult {
  return scaleResult(target.definition, getObject(context, target, query))
}

/** Sets `spec.replicas` of a workload through autoscaling/v1 Scale. */
export async function updateScale(
  context: Context,
  request: ResourceRequest,
  target: Target,
  verb: RequestVerb,
): Promise<ApiResult> {
  const schema = target.subresource?.schema
  if ((verb !== 'update' && verb !== 'patch') || !schema) throw methodNotAllowed()
  const patched = verb === 'patch' ? await readPatch(request) : undefined
  const apply = patched?.type === 'apply'
  const options = parseWriteOptions(verb === 'update' ? 'UpdateOptions' : 'PatchOptions', request.query, {
    apply,
  })
  const decode = (value: JsonValue, duplicateFields: string[]) =>
    decodePart({
      schema,
      kind: 'Scale',
      version: 'v1',
      decoded: { value, duplicateFields, unknownFields: [] },
      fieldValidation: options.fieldValidation,
      warnings: request.warnings,
    }) as KubeObject
  if (patched?.type === 'apply') {
    const scale = decode(scaleConfiguration(patched.patch), patched.duplicateFields)
    return applyScale(context, request, target, options, scale)
  }
  let wantedScale: (old: KubeObject) => KubeObject
  if (patched) {
    const { type, patch, duplicateFields } = patched
    wantedScale = (old) =>
      decode(applyPatch(type, { live: scaleOf(target.definition, old), patch, schema }), duplicateFields)
  } else {
    const { value, duplicateFields } = decodeRequestBody(await request.readBody(), 'Scale')
    const scale = decode(value, duplicateFields)
    wantedScale = () => scale
  }
  const writer = writerOf(request, options, target)
  const updated = await updateObject(context, request, target, options, (old) => {
    const scale = wantedScale(old)
    refuseOtherName(scale, target)
    const { uid, resourceVersion } = scale.metadata
    const object = cloneJson(old)
    const replicas = (scale['spec'] as { replicas?: number } | undefined)?.replicas ?? 0
    setAt(object, replicasPath(target), replicas)
    object.metadata = { ...object.metadata, uid: uid ?? '', resourceVersion: resourceVersion ?? '' }
    return { object, writer }
  })
  return scaleResult(target.definition, updated)
}

/** @throws {ApiError} BadRequest for what is no configuration of a Scale. */
function scaleConfiguration(patch: JsonValue): JsonValue {
  if (!isRecord(patch)) throw badRequest('an apply patch must be an object')
  const { apiVersion, kind } = patch
  if (apiVersion === 'autoscaling/v1' && kind === 'Scale') return { metadata: {}, ...patch }
  const given = [apiVersion, kind].map((text) => (typeof text === 'string' ? text.slice(0, 256) : ''))
  throw badRequest(`invalid object type: ${given[0]}, Kind=${given[1]}`)
}

/** Applies a number of replicas: whoever does owns that field of the object, as sub-resource `scale`. */
async function applyScale(
  context: Context,
  request: ResourceRequest,
  target: Target,
  options: WriteOptions,
  scale: KubeObject,
): Promise<ApiResult> {
  const { definition, name, namespace } = target
  refuseOtherName(scale, target)
  const { replicas } = (scale['spec'] ?? {}) as { replicas?: number }
  if (replicas === undefined)
    throw invalid({ group: 'autoscaling', kind: 'Scale', name }, [
      { reason: 'FieldValueRequired', field: 'spec.replicas', message: 'Required value' },
    ])
  const { managedFields } = scale.metadata
  const applied = {
    apiVersion: groupVersion(definition),
    kind: definition.kind,
    metadata: {
      name,
      ...(namespace === undefined ? {} : { namespace }),
      ...(managedFields ? { managedFields } : {}),
    },
  } as KubeObject // A configuration has no more metadata than it names.
  setAt(applied, replicasPath(target), replicas)
  const writer: Writer = { ...writerOf(request, options, target), operation: 'Apply' }
  const updated = await updateObject(context, request, target, options, (old) => {
    const object = cloneJson(applyTo(context, target, { live: old, applied, force: options.force, writer }))
    const { uid = '', resourceVersion = '' } = scale.metadata
    object.metadata = { ...object.metadata, uid, resourceVersion }
    return { object, writer }
  })
  return scaleResult(definition, updated)
}

function scaleResult(definition: KindDefinition, { object }: Shown): ApiResult {
  return { kind: 'object', code: 200, shown: { object: scaleOf(definition, object) } }
}

function replicasPath({ definition }: Target): readonly string[] {
  return definition.custom?.scale?.specReplicas ?? ['spec', 'replicas']
}

function refuseOtherName({ metadata: { name, namespace } }: KubeObject, target: Target): void {
  if ((name && name !== target.name) || (namespace && namespace !== target.namespace))
    throw badRequest(
      `the name of the object (${namespace}/${name}) does not match the name on the URL (${target.namespace}/${target.name})`,
    )
}

/** Sets a number at a path of fields; what is in the way and no object is refused by the schema afterwards. */
function setAt(object: Record<string, unknown>, path: readonly string[], value: number): void {
  const [name = '', ...rest] = path
  if (rest.length === 0) {
    object[name] = value
    return
  }
  const inner = Object.hasOwn(object, name) ? object[name] : undefined
  const copy = isRecord(inner) ? { ...inner } : {}
  object[name] = copy
  setAt(copy, rest, value)
}
