/**
 * Every refusal of the API in Kubernetes' words: metav1.Status with a reason and an HTTP code.
 * https://github.com/kubernetes/apimachinery/blob/master/pkg/api/errors/errors.go
 */

/** reason → HTTP code. `docs/status-codes.md` is kept equal to this table by a test. */
export const STATUS_CODES = {
  BadRequest: 400,
  Unauthorized: 401,
  Forbidden: 403,
  NotFound: 404,
  MethodNotAllowed: 405,
  NotAcceptable: 406,
  Timeout: 504,
  AlreadyExists: 409,
  Conflict: 409,
  Gone: 410,
  Expired: 410,
  RequestEntityTooLarge: 413,
  UnsupportedMediaType: 415,
  Invalid: 422,
  TooManyRequests: 429,
  InternalError: 500,
  ServiceUnavailable: 503,
} as const

export type StatusReason = keyof typeof STATUS_CODES

export type StatusCause = { reason?: string; message: string; field?: string }
export type StatusDetails = {
  name?: string
  group?: string
  kind?: string
  uid?: string
  causes?: StatusCause[]
  retryAfterSeconds?: number
}
export type Status = {
  kind: 'Status'
  apiVersion: 'v1'
  metadata: Record<string, never>
  status: 'Success' | 'Failure'
  message?: string
  reason?: StatusReason
  details?: StatusDetails
  code?: number
}

/**
 * A refusal. `tell` goes to the client, `log` only into our log, so that neither leaks into the other.
 */
export class ApiError extends Error {
  readonly reason: StatusReason
  readonly code: number
  readonly details: StatusDetails | undefined
  readonly log: Record<string, unknown>

  constructor(
    reason: StatusReason,
    tell: string,
    {
      details,
      log = {},
      cause,
      code,
    }: { details?: StatusDetails; log?: Record<string, unknown>; cause?: unknown; code?: number } = {},
  ) {
    super(tell, cause === undefined ? undefined : { cause })
    this.name = 'ApiError'
    this.reason = reason
    this.code = code ?? STATUS_CODES[reason]
    this.details = details
    this.log = log
  }

  toStatus(): Status {
    return {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message: this.message,
      reason: this.reason,
      ...(this.details ? { details: this.details } : {}),
      code: this.code,
    }
  }
}

/** What an error is about: `group` is "" for the core group, `resource` the plural path segment. */
export type ResourceRef = { group: string; resource: string; name?: string }

function qualified({ group, resource }: ResourceRef): string {
  return group ? `${resource}.${group}` : resource
}

function detailsOf({ group, resource, name }: ResourceRef): StatusDetails {
  return { ...(name === undefined ? {} : { name }), ...(group ? { group } : {}), kind: resource }
}

export function badRequest(tell: string, cause?: unknown): ApiError {
  return new ApiError('BadRequest', tell, { cause })
}

export function notFound(ref: ResourceRef & { name: string }): ApiError {
  return new ApiError('NotFound', `${qualified(ref)} "${ref.name}" not found`, { details: detailsOf(ref) })
}

export function alreadyExists(ref: ResourceRef & { name: string }): ApiError {
  return new ApiError('AlreadyExists', `${qualified(ref)} "${ref.name}" already exists`, {
    details: detailsOf(ref),
  })
}

export function conflict(
  ref: ResourceRef & { name: string },
  why = 'the object has been modified; please apply your changes to the latest version and try again',
  causes?: StatusCause[],
): ApiError {
  return new ApiError(
    'Conflict',
    `Operation cannot be fulfilled on ${qualified(ref)} "${ref.name}": ${why}`,
    {
      details: { ...detailsOf(ref), ...(causes ? { causes } : {}) },
    },
  )
}

export function forbidden(
  ref: ResourceRef,
  { tell, log = {} }: { tell: string; log?: Record<string, unknown> },
): ApiError {
  const object = ref.name === undefined ? '' : ` "${ref.name}"`
  return new ApiError('Forbidden', `${qualified(ref)}${object} is forbidden: ${tell}`, {
    details: detailsOf(ref),
    log,
  })
}

export function expired(tell = 'The resourceVersion for the provided watch is too old.'): ApiError {
  return new ApiError('Expired', tell)
}

/** The reasons of `field.Error`, as they appear in `details.causes[].reason`. */
export type FieldErrorReason =
  | 'FieldValueRequired'
  | 'FieldValueInvalid'
  | 'FieldValueDuplicate'
  | 'FieldValueNotFound'
  | 'FieldValueNotSupported'
  | 'FieldValueForbidden'
  | 'FieldValueTooLong'
  | 'FieldValueTooMany'
  | 'FieldValueTypeInvalid'

/** One problem with one field: `field` is a path as upstream writes it, `spec.containers[0].image`. */
export type FieldError = { reason: FieldErrorReason; field: string; message: string }

/** 422 with every problem at once. `group` and `kind` are those of the object the user wrote. */
export function invalid(
  object: { group: string; kind: string; name: string },
  errors: readonly FieldError[],
): ApiError {
  const list = errors.map((e) => `${e.field}: ${e.message}`)
  const all = list.length === 1 ? list[0] : `[${list.join(', ')}]`
  const qualifiedKind = object.group ? `${object.kind}.${object.group}` : object.kind
  return new ApiError('Invalid', `${qualifiedKind} "${object.name}" is invalid: ${all}`, {
    details: {
      name: object.name,
      ...(object.group ? { group: object.group } : {}),
      kind: object.kind,
      causes: errors.map(({ reason, field, message }) => ({ reason, message, field })),
    },
  })
}

/** The one answer to any unexpected failure: it tells nothing, and the log has the cause. */
export function internalError(cause: unknown): ApiError {
  return new ApiError('InternalError', 'Internal error occurred', { cause })
}
