import type { KindDefinition } from './kind.ts'
import { SELECTOR_CHARS_MAX, SELECTOR_REQUIREMENTS_MAX, SELECTOR_VALUES_MAX } from './limits.ts'
import type { KubeObject, LabelSelector } from './meta.ts'
import { labelValueProblem, qualifiedNameProblem } from './kinds/names.ts'
import { badRequest } from './status.ts'

/** One condition on labels. `Gt` and `Lt` compare whole numbers and exist only in queries. */
export type LabelRequirement = {
  key: string
  operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist' | 'Gt' | 'Lt'
  values: readonly string[]
}

type Labels = Readonly<Record<string, string>> | undefined

/**
 * Conditions of a query such as `app=web,tier in (a,b),!old`; none for an empty text.
 * @throws {ApiError} 400 when the text is not a selector.
 */
export function parseLabelSelector(text: string): LabelRequirement[] {
  if (text.length > SELECTOR_CHARS_MAX)
    throw badRequest(`A label selector has ${text.length} characters, more than ${SELECTOR_CHARS_MAX}`)
  const tokens = tokensOf(text)
  const requirements: LabelRequirement[] = []
  let at = 0
  const found = (expected: string) => `found '${(tokens[at] ?? '').slice(0, 256)}', expected: ${expected}`
  const fail = (expected: string): never => {
    throw badRequest(`unable to parse requirement: ${found(expected)}`)
  }
  const word = (expected: string): string => {
    const token = tokens[at]
    if (token === undefined || isSymbol(token)) return fail(expected)
    at++
    return token
  }
  const list = (): string[] => {
    // As upstream: only here without a comma.
    if (tokens[at] !== '(')
      throw badRequest(
        `unable to parse requirement: found '${(tokens[at] ?? '').slice(0, 256)}' expected: '('`,
      )
    at++
    const values: string[] = []
    for (;;) {
      // An empty value is written as nothing: `in (a,)`.
      const token = tokens[at]
      if (token === ',' || token === ')') values.push('')
      else values.push(word("identifier, ',' or ')'"))
      const next = tokens[at++]
      if (next === ')') return [...new Set(values)].sort()
      if (next !== ',') {
        at--
        fail("',' or ')'")
      }
    }
  }
  while (at < tokens.length) {
    if (requirements.length >= SELECTOR_REQUIREMENTS_MAX)
      throw badRequest(`A label selector has more than ${SELECTOR_REQUIREMENTS_MAX} conditions`)
    if (!begins(tokens[at])) throw badRequest(found("!, identifier, or 'end of string'"))
    requirements.push(checked(requirement()))
    if (at === tokens.length) break
    if (tokens[at] !== ',') throw badRequest(found("',' or 'end of string'"))
    at++
    if (!begins(tokens[at])) throw badRequest(found("identifier after ','"))
  }
  return requirements

  function requirement(): LabelRequirement {
    if (tokens[at] === '!') {
      at++
      return { key: word('identifier'), operator: 'DoesNotExist', values: [] }
    }
    const key = word('identifier')
    const operator = tokens[at]
    switch (operator) {
      case undefined:
      case ',':
        return { key, operator: 'Exists', values: [] }
      case 'in':
      case 'notin':
        at++
        return { key, operator: operator === 'in' ? 'In' : 'NotIn', values: list() }
      case '=':
      case '==':
      case '!=':
      case '>':
      case '<': {
        at++
        const next = tokens[at]
        const value = next === undefined || next === ',' ? '' : word('identifier')
        if (operator === '>') return { key, operator: 'Gt', values: [value] }
        if (operator === '<') return { key, operator: 'Lt', values: [value] }
        return { key, operator: operator === '!=' ? 'NotIn' : 'In', values: [value] }
      }
      default:
        return fail('in, notin, =, ==, !=, gt, lt')
    }
  }
}

/** What a requirement may begin with. */
function begins(token: string | undefined): boolean {
  return token !== undefined && (token === '!' || !isSymbol(token))
}

const SYMBOL_CHARS = '()!=<>,'

function isSymbol(token: string): boolean {
  return SYMBOL_CHARS.includes(token.charAt(0))
}

function tokensOf(text: string): string[] {
  const tokens: string[] = []
  let at = 0
  while (at < text.length) {
    const char = text.charAt(at)
    if (/\s/.test(char)) {
      at++
    } else if (SYMBOL_CHARS.includes(char)) {
      const pair = text.slice(at, at + 2)
      const token = pair === '==' || pair === '!=' ? pair : char
      tokens.push(token)
      at += token.length
    } else {
      const start = at
      while (at < text.length && !SYMBOL_CHARS.includes(text.charAt(at)) && !/\s/.test(text.charAt(at))) at++
      tokens.push(text.slice(start, at))
    }
  }
  return tokens
}

function checked(requirement: LabelRequirement): LabelRequirement {
  const { key, operator, values } = requirement
  const problem = qualifiedNameProblem(key)
  if (problem)
    throw badRequest(`unable to parse requirement: <nil>: Invalid value: "${key.slice(0, 256)}": ${problem}`)
  if (values.length > SELECTOR_VALUES_MAX)
    throw badRequest(`A label selector compares "${key}" with more than ${SELECTOR_VALUES_MAX} values`)
  for (const value of values) {
    const invalid =
      operator === 'Gt' || operator === 'Lt'
        ? /^[-+]?\d{1,18}$/.test(value)
          ? undefined
          : 'for Gt and Lt operators, the value must be an integer'
        : labelValueProblem(value)
    if (invalid)
      throw badRequest(
        `unable to parse requirement: values[0][${key}]: Invalid value: "${value.slice(0, 256)}": ${invalid}`,
      )
  }
  return requirement
}

/** Conditions of a selector as it stands in an object. */
export function labelSelectorRequirements(selector: LabelSelector): LabelRequirement[] {
  return [
    ...Object.entries(selector.matchLabels ?? {}).map(([key, value]): LabelRequirement => ({
      key,
      operator: 'In',
      values: [value],
    })),
    ...(selector.matchExpressions ?? []).map(({ key, operator, values = [] }) => ({ key, operator, values })),
  ]
}

/** The text that `parseLabelSelector` reads back. */
export function renderLabelSelector(requirements: readonly LabelRequirement[]): string {
  return requirements
    .map(({ key, operator, values }) => {
      switch (operator) {
        case 'In':
          return values.length === 1 ? `${key}=${values[0]}` : `${key} in (${values.join(',')})`
        case 'NotIn':
          return values.length === 1 ? `${key}!=${values[0]}` : `${key} notin (${values.join(',')})`
        case 'Exists':
          return key
        case 'DoesNotExist':
          return `!${key}`
        case 'Gt':
          return `${key}>${values[0]}`
        case 'Lt':
          return `${key}<${values[0]}`
        default:
          operator satisfies never
          return ''
      }
    })
    .join(',')
}

export function matchesLabels(requirements: readonly LabelRequirement[], labels: Labels): boolean {
  return requirements.every(({ key, operator, values }) => {
    // Own properties only: a label named like a method of objects is not there unless it was set.
    const value = labels && Object.hasOwn(labels, key) ? labels[key] : undefined
    switch (operator) {
      case 'In':
        return value !== undefined && values.includes(value)
      case 'NotIn':
        return value === undefined || !values.includes(value)
      case 'Exists':
        return value !== undefined
      case 'DoesNotExist':
        return value === undefined
      case 'Gt':
      case 'Lt': {
        if (value === undefined || !/^[-+]?\d{1,18}$/.test(value)) return false
        const [left, right] = [BigInt(value), BigInt(values[0] ?? '0')]
        return operator === 'Gt' ? left > right : left < right
      }
      default:
        operator satisfies never
        return false
    }
  })
}

/** An absent selector selects nothing, an empty one everything. */
export function matchesLabelSelector(selector: LabelSelector | undefined, labels: Labels): boolean {
  return selector !== undefined && matchesLabels(labelSelectorRequirements(selector), labels)
}

export type FieldRequirement = { field: string; operator: '=' | '!='; value: string }

/**
 * Conditions of a query such as `metadata.name=web,status.phase!=Running`. `\` before `,`, `=` or `\` takes its meaning.
 * @throws {ApiError} 400 when the text is not a selector.
 */
export function parseFieldSelector(text: string): FieldRequirement[] {
  if (text.length > SELECTOR_CHARS_MAX)
    throw badRequest(`A field selector has ${text.length} characters, more than ${SELECTOR_CHARS_MAX}`)
  const requirements: FieldRequirement[] = []
  for (const term of splitUnescaped(text)) {
    if (term === '') continue
    if (requirements.length >= SELECTOR_REQUIREMENTS_MAX)
      throw badRequest(`A field selector has more than ${SELECTOR_REQUIREMENTS_MAX} conditions`)
    const match = /^([^=!\\]*)(==|!=|=)/.exec(term)
    if (!match)
      throw badRequest(`invalid selector: '${text.slice(0, 256)}'; can't understand '${term.slice(0, 256)}'`)
    const [found, field = '', operator] = match
    requirements.push({
      field,
      operator: operator === '!=' ? '!=' : '=',
      value: unescaped(term.slice(found.length)),
    })
  }
  return requirements
}

function splitUnescaped(text: string): string[] {
  const terms: string[] = []
  let start = 0
  for (let at = 0; at < text.length; at++) {
    if (text[at] === '\\') at++
    else if (text[at] === ',') {
      terms.push(text.slice(start, at))
      start = at + 1
    }
  }
  terms.push(text.slice(start))
  return terms
}

function unescaped(value: string): string {
  let result = ''
  for (let at = 0; at < value.length; at++) {
    const char = value.charAt(at)
    if (char === '\\') {
      const next = value.charAt(++at)
      if (next !== '\\' && next !== ',' && next !== '=')
        throw badRequest(`invalid field selector: invalid escape sequence '\\${next}'`)
      result += next
    } else if (char === '=') {
      throw badRequest("invalid field selector: unescaped '='")
    } else {
      result += char
    }
  }
  return result
}

/**
 * A test of objects of `kind` for the conditions.
 * @throws {ApiError} 400 for a field that this kind cannot be selected by.
 */
export function fieldMatcher(
  kind: Pick<KindDefinition, 'fieldSelectors'>,
  requirements: readonly FieldRequirement[],
): (object: KubeObject) => boolean {
  const tests = requirements.map(({ field, operator, value }) => {
    const read = fieldReader(kind, field)
    if (!read) throw badRequest(`field label not supported: ${field.slice(0, 256)}`)
    return (object: KubeObject) => (read(object) === value) === (operator === '=')
  })
  return (object) => tests.every((test) => test(object))
}

function fieldReader(
  kind: Pick<KindDefinition, 'fieldSelectors'>,
  field: string,
): ((object: KubeObject) => string) | undefined {
  if (field === 'metadata.name') return (object) => object.metadata.name
  if (field === 'metadata.namespace') return (object) => object.metadata.namespace ?? ''
  return kind.fieldSelectors && Object.hasOwn(kind.fieldSelectors, field)
    ? kind.fieldSelectors[field]
    : undefined
}
