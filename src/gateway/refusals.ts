import { ApiError } from '../api/index.ts'

// The answers that the gateway gives by itself. Those that say who may do what are constants: they cannot depend on
// anything that the caller may not know, such as whether a tenant exists.

export const unauthorized = new ApiError('Unauthorized', 'Unauthorized')

export const noAccess = new ApiError('Forbidden', 'You have no access to what this path names, if it exists')

export const impersonation = new ApiError(
  'Forbidden',
  'Impersonation is not offered here: remove the Impersonate-* headers (kubectl: --as, --as-group, --as-uid)',
)

export const methodNotAllowed = new ApiError(
  'MethodNotAllowed',
  'The method is not one of GET, HEAD, POST, PUT, PATCH, DELETE',
)

export const upgradeNotAllowed = new ApiError(
  'BadRequest',
  'An upgrade must be to "websocket" with GET, or to "SPDY/3.1" with GET or POST, and without a body',
)

export const headersTooLarge = new ApiError(
  'BadRequest',
  'The request has too many headers, or too large ones',
  { code: 431 },
)

export const doubledLength = new ApiError('BadRequest', 'The request states its length in more than one way')

export const auditUnavailable = new ApiError(
  'ServiceUnavailable',
  'The request cannot be recorded at the moment, so it is not let through',
  { details: { retryAfterSeconds: 1 } },
)

export const controlPlaneUnavailable = new ApiError(
  'ServiceUnavailable',
  'The control plane does not answer at the moment',
  {
    details: { retryAfterSeconds: 1 },
  },
)

export const controlPlaneTooSlow = new ApiError('Timeout', 'The control plane did not answer in time')

export const closing = new ApiError('ServiceUnavailable', 'The gateway is shutting down', {
  details: { retryAfterSeconds: 1 },
})

/** Nobody reads it. */
export const clientLeft = new ApiError('ServiceUnavailable', 'The client has left')

export function badPath(why: string): ApiError {
  return new ApiError('BadRequest', why)
}

export const bodyBrokenOff = new ApiError('BadRequest', 'The body of the request ended early')

export function bodyTooLarge(bodyBytesMax: number): ApiError {
  return new ApiError('RequestEntityTooLarge', `The body has more than ${bodyBytesMax} bytes`)
}

export function tooMany(what: string, retryAfterSeconds: number): ApiError {
  return new ApiError('TooManyRequests', `${what}, please try again later`, {
    details: { retryAfterSeconds },
  })
}
