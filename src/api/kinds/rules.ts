import { isDeepStrictEqual } from 'node:util'
import type { FieldError } from '../status.ts'
import { invalidValue, requiredValue } from './field-errors.ts'
import { labelValueProblem, qualifiedNameProblem } from './names.ts'
import type { LabelSelector } from '../meta.ts'

/** Rules that several kinds share. */

/** No pod can make such a socket: the code behind it is the machine's, and rarely looked at. */
export const NO_SCTP = 'has no effect: pods cannot open SCTP sockets here'

export function labelErrors(
  labels: Readonly<Record<string, string>> | undefined,
  path: string,
): FieldError[] {
  const errors: FieldError[] = []
  for (const [key, value] of Object.entries(labels ?? {})) {
    const keyProblem = qualifiedNameProblem(key)
    if (keyProblem) errors.push(invalidValue(path, key, keyProblem))
    const valueProblem = labelValueProblem(value)
    if (valueProblem) errors.push(invalidValue(path, value, valueProblem))
  }
  return errors
}

export function labelSelectorErrors(selector: LabelSelector | undefined, path: string): FieldError[] {
  if (!selector) return []
  const errors = labelErrors(selector.matchLabels, `${path}.matchLabels`)
  selector.matchExpressions?.forEach(({ key, operator, values = [] }, index) => {
    const at = `${path}.matchExpressions[${index}]`
    const keyProblem = qualifiedNameProblem(key)
    if (keyProblem) errors.push(invalidValue(`${at}.key`, key, keyProblem))
    const needsValues = operator === 'In' || operator === 'NotIn'
    if (needsValues && values.length === 0)
      errors.push(requiredValue(`${at}.values`, "must be specified when `operator` is 'In' or 'NotIn'"))
    if (!needsValues && values.length > 0)
      errors.push({
        reason: 'FieldValueForbidden',
        field: `${at}.values`,
        message: "Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
      })
    values.forEach((value, valueIndex) => {
      const problem = labelValueProblem(value)
      if (problem) errors.push(invalidValue(`${at}.values[${valueIndex}]`, value, problem))
    })
  })
  return errors
}

export function isEmptySelector(selector: LabelSelector): boolean {
  return (
    Object.keys(selector.matchLabels ?? {}).length === 0 && (selector.matchExpressions?.length ?? 0) === 0
  )
}

/** Equal as upstream sees it, to which an absent list or map and an empty one are the same. */
export function equalField(left: unknown, right: unknown): boolean {
  return isDeepStrictEqual(left, right) || isDeepStrictEqual(withoutEmpty(left), withoutEmpty(right))
}

function withoutEmpty(value: unknown): unknown {
  if (Array.isArray(value)) return value.length === 0 ? undefined : value.map(withoutEmpty)
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).flatMap(([key, field]) => {
    const kept = Array.isArray(field) && field.length === 0 ? undefined : withoutEmpty(field)
    return kept === undefined ? [] : [[key, kept] as const]
  })
  return Object.fromEntries(entries)
}

export function immutableError(path: string, value: unknown, old: unknown): FieldError[] {
  return equalField(value, old) ? [] : [invalidValue(path, value, 'field is immutable')]
}

export function nonNegative(path: string, value: number | undefined): FieldError[] {
  return value !== undefined && value < 0
    ? [invalidValue(path, value, 'must be greater than or equal to 0')]
    : []
}

const PERCENT = /^\d{1,9}%$/

/** A whole number from 0, or a percentage. */
export function intOrPercentErrors(path: string, value: number | string | undefined): FieldError[] {
  if (value === undefined) return []
  if (typeof value === 'number') return nonNegative(path, value)
  return PERCENT.test(value)
    ? []
    : [
        invalidValue(
          path,
          value,
          "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
        ),
      ]
}
