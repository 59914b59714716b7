import { ApiError, type FieldError, badRequest, invalid } from '../api/index.ts'

/** metav1.ListOptions, parsed. */
export type ListOptions = {
  watch: boolean
  labelSelector: string
  fieldSelector: string
  limit: number
  continue: string
  /** undefined: not given. "0" means any. */
  resourceVersion: number | undefined
  resourceVersionMatch: 'Exact' | 'NotOlderThan' | undefined
  allowWatchBookmarks: boolean
  sendInitialEvents: boolean | undefined
  timeoutSeconds: number | undefined
}

/** metav1.CreateOptions, UpdateOptions and PatchOptions, parsed. */
export type WriteOptions = {
  dryRun: boolean
  fieldManager: string | undefined
  fieldValidation: 'Strict' | 'Warn' | 'Ignore'
  force: boolean
}

type OptionsKind = 'CreateOptions' | 'UpdateOptions' | 'PatchOptions' | 'DeleteOptions' | 'ListOptions'

const FIELD_MANAGER_CHARS_MAX = 128

/** @throws {ApiError} BadRequest or Invalid, as upstream. */
export function parseListOptions(query: URLSearchParams): ListOptions {
  const options: ListOptions = {
    watch: parseBoolean(query.get('watch')) ?? false,
    labelSelector: query.get('labelSelector') ?? '',
    fieldSelector: query.get('fieldSelector') ?? '',
    limit: parseInteger(query, 'limit') ?? 0,
    continue: query.get('continue') ?? '',
    resourceVersion: parseResourceVersion(query.get('resourceVersion')),
    resourceVersionMatch: undefined,
    allowWatchBookmarks: parseBoolean(query.get('allowWatchBookmarks')) ?? false,
    sendInitialEvents: parseBoolean(query.get('sendInitialEvents')),
    timeoutSeconds: parseInteger(query, 'timeoutSeconds'),
  }
  const match = query.get('resourceVersionMatch') ?? ''
  const problem = matchProblem(options, match)
  if (problem) throw invalidOptions('ListOptions', problem)
  if (match !== '') options.resourceVersionMatch = match as 'Exact' | 'NotOlderThan'
  return options
}

function matchProblem(options: ListOptions, match: string): FieldError | undefined {
  const field = 'resourceVersionMatch'
  const forbidden = (message: string): FieldError => ({
    reason: 'FieldValueForbidden',
    field,
    message: `Forbidden: ${message}`,
  })
  if (options.sendInitialEvents !== undefined) {
    if (!options.watch)
      return { ...forbidden('sendInitialEvents is forbidden for list'), field: 'sendInitialEvents' }
    if (match === '')
      return forbidden('sendInitialEvents requires setting resourceVersionMatch to NotOlderThan')
  }
  if (match === '') return undefined
  if (options.watch && options.sendInitialEvents === undefined)
    return forbidden('resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided')
  if (options.resourceVersion === undefined && !options.watch)
    return forbidden('resourceVersionMatch is forbidden unless resourceVersion is provided')
  if (options.continue !== '') return forbidden('resourceVersionMatch is forbidden when continue is provided')
  const supported = options.watch ? ['NotOlderThan'] : ['Exact', 'NotOlderThan']
  if (!supported.includes(match))
    return { reason: 'FieldValueNotSupported', field, message: unsupported(match, supported) }
  if (match === 'Exact' && options.resourceVersion === 0)
    return forbidden('resourceVersionMatch "exact" is forbidden for resourceVersion "0"')
  return undefined
}

/** @throws {ApiError} Invalid, as upstream. */
export function parseWriteOptions(
  kind: OptionsKind,
  query: URLSearchParams,
  { apply = false } = {},
): WriteOptions {
  const fieldManager = query.get('fieldManager') ?? ''
  const fieldValidation = query.get('fieldValidation') || 'Warn'
  const force = parseBoolean(query.get('force'))
  const errors: FieldError[] = []
  const dryRun = query.getAll('dryRun').filter((v) => v !== '')
  const dryRunProblem = dryRunError(dryRun)
  if (dryRunProblem) errors.push(dryRunProblem)
  if (apply && fieldManager === '')
    errors.push({
      reason: 'FieldValueRequired',
      field: 'fieldManager',
      message: 'Required value: is required for apply patch',
    })
  if (!apply && force !== undefined && kind === 'PatchOptions')
    errors.push({
      reason: 'FieldValueForbidden',
      field: 'force',
      message: 'Forbidden: may not be specified for non-apply patch',
    })
  if (fieldManager.length > FIELD_MANAGER_CHARS_MAX)
    errors.push({
      reason: 'FieldValueTooLong',
      field: 'fieldManager',
      message: `Too long: may not be more than ${FIELD_MANAGER_CHARS_MAX} bytes`,
    })
  else if (!/^[\P{C}\p{Co}]*$/u.test(fieldManager))
    errors.push({
      reason: 'FieldValueInvalid',
      field: 'fieldManager',
      message: `Invalid value: ${JSON.stringify(fieldManager)}: should only contain printable characters`,
    })
  const supported = ['Ignore', 'Strict', 'Warn']
  if (!supported.includes(fieldValidation))
    errors.push({
      reason: 'FieldValueNotSupported',
      field: 'fieldValidation',
      message: unsupported(fieldValidation, supported),
    })
  if (errors.length > 0) throw invalidOptions(kind, ...errors)
  return {
    dryRun: dryRun.length > 0,
    fieldManager: fieldManager === '' ? undefined : fieldManager,
    fieldValidation: fieldValidation as WriteOptions['fieldValidation'],
    force: force ?? false,
  }
}

export function dryRunError(values: readonly string[]): FieldError | undefined {
  if (values.every((v) => v === 'All')) return undefined
  return {
    reason: 'FieldValueNotSupported',
    field: 'dryRun',
    message: `Unsupported value: [${values.map((v) => JSON.stringify(v)).join(', ')}]: supported values: "All"`,
  }
}

function unsupported(value: string, supported: readonly string[]): string {
  return `Unsupported value: ${JSON.stringify(value)}: supported values: ${supported.map((s) => JSON.stringify(s)).join(', ')}`
}

/** 422 about the options of a request, which have no name. */
export function invalidOptions(kind: OptionsKind, ...errors: FieldError[]): ApiError {
  const error = invalid({ group: 'meta.k8s.io', kind, name: '' }, errors)
  const { name: _none, ...details } = error.details ?? {}
  return new ApiError('Invalid', error.message, { details })
}

/** Go's conversion: a parameter that is there is true unless it says "false", in any case, or "0". Python's says "False". */
export function parseBoolean(value: string | null): boolean | undefined {
  return value === null ? undefined : value.toLowerCase() !== 'false' && value !== '0'
}

/** @throws {ApiError} BadRequest unless it is a whole number from 0 to 2^53. */
export function parseInteger(query: URLSearchParams, name: string): number | undefined {
  const value = query.get(name)
  if (value === null || value === '') return undefined
  const number = /^\d{1,16}$/.test(value) ? Number(value) : Number.NaN
  if (!Number.isSafeInteger(number))
    throw badRequest(
      `The parameter ${name}=${JSON.stringify(value)} must be a whole number that is not negative`,
    )
  return number
}

/** @throws {ApiError} BadRequest. Upstream answers this with 500; we never do. */
function parseResourceVersion(value: string | null): number | undefined {
  if (value === null || value === '') return undefined
  const number = /^\d{1,20}$/.test(value) ? Number(value) : Number.NaN
  const quoted = JSON.stringify(value.slice(0, 64))
  if (Number.isNaN(number))
    throw badRequest(
      `resourceVersion: Invalid value: ${quoted}: strconv.ParseUint: parsing ${quoted}: invalid syntax`,
    )
  return number
}
