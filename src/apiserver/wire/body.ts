import { ApiError, type JsonValue, badRequest } from '../../api/index.ts'
import { BODY_BYTES_MAX, BODY_SUMMARY_BYTES, WIRE_LIMITS, type WireLimits } from './limits.ts'
import { decodeProtobuf } from './protobuf.ts'
import { parseJson } from './strict-json.ts'
import { parseYaml } from './yaml.ts'

/** One decoded request body, the same whatever it was written in. */
export type DecodedBody = {
  value: JsonValue
  /** Paths of keys given twice, for `fieldValidation`. */
  duplicateFields: string[]
  /** Protobuf fields that no message of ours has, for `fieldValidation`. */
  unknownFields: string[]
}

export type BodyHeaders = {
  contentType: string | undefined
  contentEncoding?: string | undefined
}

const JSON_TYPES: readonly string[] = ['application/json']
const YAML_TYPES: readonly string[] = ['application/yaml']
const PROTOBUF_TYPES: readonly string[] = ['application/vnd.kubernetes.protobuf']

/**
 * Decodes the body of a create, update or delete.
 * @param expectedKind what the resource holds, for the message about a body that is not even an object.
 * @throws {ApiError} BadRequest, UnsupportedMediaType, or RequestEntityTooLarge.
 */
export function decodeBody(
  headers: BodyHeaders,
  body: Uint8Array,
  { expectedKind, limits = WIRE_LIMITS }: { expectedKind?: string; limits?: WireLimits } = {},
): DecodedBody {
  refuseEncodedBody(headers, body)
  // Upstream reads a body without a type as JSON.
  const type = mediaType(headers.contentType) ?? 'application/json'
  try {
    if (JSON_TYPES.includes(type)) return { ...parseJson(body, limits), unknownFields: [] }
    if (YAML_TYPES.includes(type)) return { ...parseYaml(body, limits), unknownFields: [] }
    if (PROTOBUF_TYPES.includes(type)) return { ...decodeProtobuf(body, limits), duplicateFields: [] }
  } catch (error) {
    throw expectedKind !== undefined && error instanceof ApiError && error.reason === 'BadRequest'
      ? badRequest(
          `the object provided is unrecognized (must be of type ${expectedKind}): couldn't get version/kind; ` +
            `${error.message} (${summarize(body)})`,
          error,
        )
      : error
  }
  throw unsupportedMediaType([...JSON_TYPES, ...YAML_TYPES, ...PROTOBUF_TYPES])
}

/** Decodes the body of a patch. An apply patch is YAML, the other kinds are JSON. */
export function decodePatchBody(
  headers: BodyHeaders,
  body: Uint8Array,
  limits: WireLimits = WIRE_LIMITS,
): DecodedBody {
  refuseEncodedBody(headers, body)
  const yaml = mediaType(headers.contentType) === 'application/apply-patch+yaml'
  try {
    return { ...(yaml ? parseYaml(body, limits) : parseJson(body, limits)), unknownFields: [] }
  } catch (error) {
    if (error instanceof ApiError && yaml) throw badRequest(`error decoding YAML: ${error.message}`, error)
    throw error
  }
}

/** `type/subtype` of a Content-Type in lower case, without its parameters. */
export function mediaType(contentType: string | undefined): string | undefined {
  const type = contentType?.split(';', 1)[0]?.trim().toLowerCase()
  return type ? type : undefined
}

function unsupportedMediaType(accepted: readonly string[]): ApiError {
  return new ApiError(
    'UnsupportedMediaType',
    `the body of the request was in an unknown format - accepted media types include: ${accepted.join(', ')}`,
  )
}

function refuseEncodedBody({ contentEncoding }: BodyHeaders, body: Uint8Array): void {
  if (contentEncoding && contentEncoding.toLowerCase() !== 'identity')
    throw new ApiError(
      'UnsupportedMediaType',
      `the body of the request has the content encoding "${contentEncoding.slice(0, 64)}", which is not accepted`,
    )
  if (body.length > BODY_BYTES_MAX)
    throw new ApiError('RequestEntityTooLarge', `Request entity too large: limit is ${BODY_BYTES_MAX}`)
}

/** The beginning of a body for an error message: as text if it looks like JSON, else in hexadecimal. */
function summarize(body: Uint8Array): string {
  if (body.length === 0) return '<empty>'
  const encoding = body[0] === 0x7b ? 'utf8' : 'hex'
  const start = Buffer.from(body.subarray(0, BODY_SUMMARY_BYTES)).toString(encoding)
  return body.length > BODY_SUMMARY_BYTES ? `${start} ...` : start
}
