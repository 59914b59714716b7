import { type JsonValue, type KubeObject, badRequest } from '../api/index.ts'
import type { Context } from './context.ts'
import { decodePart, decodeRequestBody, readPatch } from './decode.ts'
import { cloneJson, isRecord } from './json.ts'
import { parseWriteOptions } from './options.ts'
import { applyPatch } from './patch/index.ts'
import { getObject } from './read.ts'
import { scaleOf } from './scale-of.ts'
import type { ApiResult, RequestVerb, ResourceRequest, Target } from './request.ts'
import { methodNotAllowed } from './refusals.ts'
import { updateObject, writerOf } from './write.ts'

export function getScale(context: Context, target: Target, query: URLSearchParams): ApiResult {
  return { kind: 'object', code: 200, object: scaleOf(target.definition, getObject(context, target, query)) }
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
  const options = parseWriteOptions(verb === 'update' ? 'UpdateOptions' : 'PatchOptions', request.query)
  const decode = (value: JsonValue, duplicateFields: string[]) =>
    decodePart({
      schema,
      kind: 'Scale',
      version: 'v1',
      decoded: { value, duplicateFields, unknownFields: [] },
      fieldValidation: options.fieldValidation,
      warnings: request.warnings,
    }) as KubeObject
  let wantedScale: (old: KubeObject) => KubeObject
  if (verb === 'update') {
    const { value, duplicateFields } = decodeRequestBody(await request.readBody(), 'Scale')
    const scale = decode(value, duplicateFields)
    wantedScale = () => scale
  } else {
    const { type, patch, duplicateFields } = await readPatch(request)
    if (type === 'apply') throw badRequest('server-side apply of a scale is not supported; use a merge patch')
    wantedScale = (old) =>
      decode(applyPatch(type, { live: scaleOf(target.definition, old), patch, schema }), duplicateFields)
  }
  const writer = writerOf(request, options, target)
  const updated = await updateObject(context, request, target, options, (old) => {
    const scale = wantedScale(old)
    const { name, namespace, uid, resourceVersion } = scale.metadata
    if ((name && name !== target.name) || (namespace && namespace !== target.namespace))
      throw badRequest(
        `the name of the object (${namespace}/${name}) does not match the name on the URL (${target.namespace}/${target.name})`,
      )
    const object = cloneJson(old)
    const replicas = (scale['spec'] as { replicas?: number } | undefined)?.replicas ?? 0
    const path = target.definition.custom?.scale?.specReplicas ?? ['spec', 'replicas']
    setAt(object, path, replicas)
    object.metadata = { ...object.metadata, uid: uid ?? '', resourceVersion: resourceVersion ?? '' }
    return { object, writer }
  })
  return { kind: 'object', code: 200, object: scaleOf(target.definition, updated) }
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
