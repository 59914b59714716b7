import {
  type ApiError,
  type CheckResult,
  type FieldError,
  type JsonValue,
  type KindDefinition,
  type KubeObject,
  type ObjectSchema,
  badRequest,
  checkObject,
  decodingError,
  groupVersion,
  invalid,
  strictDecodingError,
} from '../api/index.ts'
import { isRecord } from './json.ts'
import { PROBLEMS_MAX, WARNINGS_MAX } from './limits.ts'
import type { WriteOptions } from './options.ts'
import { type PatchType, parsePatchType } from './patch/index.ts'
import type { RequestBody, ResourceRequest, Target } from './request.ts'
import { type DecodedBody, decodeBody, decodePatchBody, dropZeros, mediaType } from './wire/index.ts'

type FieldValidation = WriteOptions['fieldValidation']

export type FurtherProblems = (
  check: Pick<CheckResult, 'errors' | 'refused'> & { filled: KubeObject },
) => FieldError[]

/** @throws {ApiError} BadRequest, UnsupportedMediaType or RequestEntityTooLarge. */
export function decodeRequestBody(body: RequestBody | undefined, expectedKind: string): DecodedBody {
  if (body?.kind === 'value')
    return { value: body.value as JsonValue, duplicateFields: [], unknownFields: [] }
  return decodeBody(body ?? { contentType: undefined }, body?.bytes ?? Buffer.alloc(0), { expectedKind })
}

export async function readPatch(
  request: ResourceRequest,
  supported?: readonly PatchType[],
): Promise<{ type: PatchType; patch: JsonValue; duplicateFields: string[] }> {
  const body = await request.readBody()
  const type = parsePatchType(mediaType(body?.contentType), supported)
  if (body?.kind === 'value') return { type, patch: body.value as JsonValue, duplicateFields: [] }
  const { value, duplicateFields } = decodePatchBody(
    body ?? { contentType: undefined },
    body?.bytes ?? Buffer.alloc(0),
  )
  return { type, patch: value, duplicateFields }
}

/**
 * Reads an object of a kind from what a client sent: type, schema, refused fields, `fieldValidation`, the place it
 * belongs to. The result is a fresh copy.
 * @throws {ApiError} BadRequest for what cannot be read, Invalid for what is refused, with every problem.
 */
export function decodeObject({
  definition,
  decoded,
  fieldValidation,
  target,
  warnings,
  partial = false,
  applied = partial,
  patched = false,
  also,
}: {
  definition: KindDefinition
  decoded: DecodedBody
  fieldValidation: FieldValidation
  target: Target
  warnings: string[]
  /** An applied configuration names only some fields, so nothing is missing from it. */
  partial?: boolean
  /** A configuration, or what became of one: null in it says something. */
  applied?: boolean
  /** It is what a patch made of an object. */
  patched?: boolean
  /** What else is wrong with an object that is refused anyway. */
  also: FurtherProblems
}): KubeObject {
  requireKind(definition, decoded.value)
  const subresource = target.subresource?.name
  const options = { ...(subresource === undefined ? {} : { subresource }), keepNulls: applied }
  const check = checkObject(definition, decoded.value, options)
  // Who writes a status may leave out, or take away, what is kept from the stored object anyway.
  const keepsRest = subresource === 'status' && !definition.custom
  const errors = check.errors.filter(
    ({ reason, field }) =>
      reason !== 'FieldValueRequired' || !(partial || (keepsRest && !field.startsWith('status'))),
  )
  const further = (): FieldError[] =>
    partial
      ? []
      : also({
          ...check,
          filled: checkObject(definition, decoded.value, { ...options, fillGaps: true }).object,
        })
  const object = judged({
    ...definition,
    check: { ...check, errors },
    decoded,
    fieldValidation,
    warnings,
    patched,
    further,
  })
  object.kind = definition.kind
  object.apiVersion = groupVersion(definition)
  // The schema lets metadata be absent.
  const metadata = (object.metadata ?? {}) as KubeObject['metadata']
  object.metadata = metadata
  if (metadata.namespace && metadata.namespace !== target.namespace)
    throw badRequest(
      target.namespace === undefined
        ? 'namespace specified on an object of a kind that has none'
        : 'the namespace of the provided object does not match the namespace sent on the request',
    )
  if (target.namespace !== undefined) metadata.namespace = target.namespace
  // Who applies a configuration owns also what it leaves empty.
  if (!applied || patched) dropZeros(object)
  return object
}

/**
 * Reads a body that is not the object itself: a Scale, an Eviction, a review, DeleteOptions. A `status` in it is ours to
 * say, and clients that write protobuf always send an empty one.
 */
export function decodePart({
  schema,
  kind,
  version,
  decoded,
  fieldValidation,
  warnings,
}: {
  schema: ObjectSchema
  kind: string
  version: string
  decoded: DecodedBody
  fieldValidation: FieldValidation
  warnings: string[]
}): Record<string, unknown> {
  let { value } = decoded
  if (isRecord(value)) {
    const { status: _ours, ...rest } = value
    value = rest
    const given = value['kind']
    if (given !== undefined && given !== kind)
      throw badRequest(
        `${typeof given === 'string' ? given : JSON.stringify(given)} cannot be handled as a ${kind}`,
      )
  }
  const check = checkObject(schema, value)
  return judged({ group: '', version, kind, check, decoded, fieldValidation, warnings })
}

/**
 * What is only unreadable or unknown gets upstream's 400. As soon as anything else is wrong too, one 422 tells all of it.
 * @throws {ApiError} for everything that was found.
 */
function judged({
  group,
  version,
  kind,
  check,
  decoded,
  fieldValidation,
  warnings,
  patched = false,
  further = () => [],
}: {
  group: string
  version: string
  kind: string
  check: CheckResult
  decoded: DecodedBody
  fieldValidation: FieldValidation
  warnings: string[]
  patched?: boolean
  further?: () => FieldError[]
}): KubeObject {
  const gvk = { group, version, kind }
  const { object } = check
  const unknown = [...new Set([...check.unknownFields, ...decoded.unknownFields])]
  const duplicates = [...new Set(decoded.duplicateFields)]
  const odd = [
    ...unknown.map((f) => `unknown field ${JSON.stringify(f)}`),
    ...duplicates.map((f) => `duplicate field ${JSON.stringify(f)}`),
  ]
  const strict = fieldValidation === 'Strict' && odd.length > 0
  if (fieldValidation === 'Warn') addWarnings(warnings, odd)
  const found = [...check.errors, ...check.refused]
  if (found.length === 0 && !strict) {
    addWarnings(warnings, check.warnings)
    return object
  }
  const problems = new Map(
    [...found, ...further()].map((problem) => [`${problem.reason} ${problem.field}`, problem]),
  )
  const all = [...problems.values()]
  if (all.every(({ reason }) => reason === 'FieldValueTypeInvalid')) {
    const unreadable = decodingError(gvk, check)
    const refusal = unreadable ?? strictDecodingError(gvk, odd)
    // Upstream tells who patches with another code than who sends the whole.
    if (patched) throw unreadablePatch({ group, kind, name: object.metadata?.name ?? '' }, refusal.message)
    if (!unreadable || !strict) throw refusal
  }
  if (strict) all.push(...unknown.map(unknownField), ...duplicates.map(duplicateField))
  // `metadata` may be anything but wrong in shape here.
  throw invalid(
    { group, kind, name: object.metadata?.name ?? object.metadata?.generateName ?? '' },
    all.slice(0, PROBLEMS_MAX),
  )
}

function unreadablePatch(about: { group: string; kind: string; name: string }, message: string): ApiError {
  return invalid(about, [{ reason: 'FieldValueInvalid', field: 'patch', message }])
}

function unknownField(field: string): FieldError {
  return { reason: 'FieldValueInvalid', field, message: 'Unknown field: check its spelling and its place' }
}

function duplicateField(field: string): FieldError {
  return { reason: 'FieldValueDuplicate', field, message: 'Duplicate field: it is written twice' }
}

export function addWarnings(warnings: string[], more: readonly string[]): void {
  for (const warning of more)
    if (warnings.length < WARNINGS_MAX && !warnings.includes(warning)) warnings.push(warning)
}

/** A body without a type is read as what its URL says; one of another type is refused. */
function requireKind(definition: KindDefinition, value: JsonValue): void {
  if (!isRecord(value))
    throw badRequest(
      `the object provided is unrecognized (must be of type ${definition.kind}): it is not an object`,
    )
  const { apiVersion, kind } = value
  const expected = groupVersion(definition)
  const version = typeof apiVersion === 'string' && apiVersion !== '' ? apiVersion : expected
  const given = typeof kind === 'string' && kind !== '' ? kind : definition.kind
  if ((apiVersion ?? expected) === version && version === expected && given === definition.kind) return
  if (version !== expected && given === definition.kind)
    throw badRequest(
      `the API version in the data (${version}) does not match the expected API version (${expected})`,
    )
  const internalGroup = definition.group === '' ? 'core' : definition.group.split('.', 1)[0]
  throw badRequest(
    `${given} in version ${JSON.stringify(version)} cannot be handled as a ${definition.kind}: ` +
      `converting (${version}.${given}) to (${internalGroup}.${definition.kind}): unknown conversion`,
  )
}
