import {
  type Field,
  type KindDefinition,
  type ObjectSchema,
  platformRegistry,
  type Refusal,
  refusedFields,
  refusedValues,
  type Schema,
  schemaOf,
  tenantRegistry,
} from '../api/index.ts'
import { PATH_CHARS_MAX } from './limits.ts'
import { printable, wrapped } from './table.ts'

/** What may be written in a manifest and what may not, from the tables that decide it. Needs no platform. */

export type Explanation = {
  field: string
  verdict: 'allowed' | 'refused'
  type?: string
  description?: string
  required?: boolean
  default?: unknown
  /** Allowed, but without effect. */
  warning?: string
  why?: string
  vector?: string
  instead?: string
  /** Values that a refused field may have, because they mean "off". */
  accepted?: readonly unknown[]
  /** The only values that an allowed field may have. */
  values?: readonly string[]
  /** Values that Kubernetes has and that are refused; `*` is every other one. */
  refusedValues?: Record<string, Pick<Refusal, 'why' | 'vector' | 'instead'>>
  fields?: {
    allowed: { name: string; type: string; description: string }[]
    refused: { name: string; why: string }[]
  }
}

/** Nothing has this name; the message says what comes nearest. */
export class UnknownField extends Error {}

/** @throws {UnknownField} */
export function explainField(path: string): Explanation {
  if (path.length > PATH_CHARS_MAX) throw new UnknownField(`a field has at most ${PATH_CHARS_MAX} characters`)
  const [first = '', ...rest] = path.replace(/\[[^\]]*\]/g, '').split('.')
  const kind = kindOf(first)
  let schema: Schema = kind.schema
  let field: Field | undefined
  let owner: ObjectSchema = kind.schema
  let name = ''
  let at = kind.singular
  for (const segment of rest) {
    while (schema.type === 'list') schema = schema.items
    if (schema.type === 'map') {
      // A map has keys of the user's own; what can be said is about its values.
      at += `.${segment}`
      schema = schema.values
      field = undefined
      continue
    }
    if (schema.type !== 'object')
      throw new UnknownField(`"${at}" is ${withArticle(typeOf(schema))} and has no fields`)
    owner = schema
    name = segment
    const refusal = refusalOf(owner, segment)
    // Whatever is in it is refused with it.
    if (refusal) return refused(`${at}.${segment}`, refusal)
    field = Object.hasOwn(owner.fields, segment) ? owner.fields[segment] : undefined
    if (!field) throw unknown(at, segment, [...Object.keys(owner.fields), ...Object.keys(refusalsOf(owner))])
    schema = schemaOf(field)
    at += `.${segment}`
  }
  return allowed(at, schema, field, field ? refusedValues[owner.name]?.[name] : undefined)
}

function kindOf(text: string): KindDefinition {
  const kinds = [...tenantRegistry.kinds, ...platformRegistry.kinds]
  const word = text.toLowerCase()
  const names = (kind: KindDefinition) => [
    kind.singular,
    kind.plural,
    kind.kind.toLowerCase(),
    ...(kind.shortNames ?? []),
  ]
  const found = kinds.find((kind) => names(kind).includes(word))
  if (found) return found
  const near = nearest(
    word,
    kinds.map((kind) => kind.singular),
  )
  throw new UnknownField(
    `there is no kind "${printable(text)}"${near ? `; did you mean "${near}"?` : ''} (the first word is a kind, such as pod or deployment)`,
  )
}

function refusalsOf(owner: ObjectSchema): Readonly<Record<string, Refusal>> {
  return refusedFields[owner.name] ?? {}
}

function refusalOf(owner: ObjectSchema, name: string): Refusal | undefined {
  const refusals = refusalsOf(owner)
  return Object.hasOwn(refusals, name) ? refusals[name] : undefined
}

function unknown(at: string, name: string, siblings: readonly string[]): UnknownField {
  const near = nearest(name, siblings)
  return new UnknownField(
    `"${at}" has no field "${printable(name)}"${near ? `; did you mean "${at}.${near}"?` : `; "bulkhead explain ${at}" lists what it has`}`,
  )
}

function refused(field: string, { why, vector, instead, harmless }: Refusal): Explanation {
  return { field, verdict: 'refused', why, vector, instead, ...(harmless ? { accepted: harmless } : {}) }
}

function allowed(
  at: string,
  schema: Schema,
  field: Field | undefined,
  values: Readonly<Record<string, Refusal>> | undefined,
): Explanation {
  let scalar = schema
  while (scalar.type === 'list') scalar = scalar.items
  const description = field?.description ?? schema.description ?? 'The keys are yours to choose.'
  const named = scalar.type === 'string' ? scalar.enum : undefined
  return {
    field: at,
    verdict: 'allowed',
    type: typeOf(schema),
    description,
    ...(field?.required ? { required: true } : {}),
    ...(field?.default === undefined ? {} : { default: field.default }),
    ...(field?.warning === undefined ? {} : { warning: field.warning }),
    ...(named ? { values: named } : {}),
    ...(values
      ? {
          refusedValues: Object.fromEntries(
            Object.entries(values).map(([value, { why, vector, instead }]) => [
              value,
              { why, vector, instead },
            ]),
          ),
        }
      : {}),
    ...(scalar.type === 'object' ? { fields: fieldsOf(scalar) } : {}),
  }
}

function fieldsOf(schema: ObjectSchema): NonNullable<Explanation['fields']> {
  return {
    allowed: Object.entries(schema.fields)
      .map(([name, field]) => ({
        name,
        type: typeOf(schemaOf(field)),
        description: field.description ?? '',
      }))
      .sort(byName),
    refused: Object.entries(refusalsOf(schema))
      .map(([name, { why }]) => ({ name, why }))
      .sort(byName),
  }
}

function byName(a: { name: string }, b: { name: string }): number {
  return a.name < b.name ? -1 : 1
}

function typeOf(schema: Schema): string {
  switch (schema.type) {
    case 'list':
      return `[]${typeOf(schema.items)}`
    case 'map':
      return `map of ${typeOf(schema.values)}`
    case 'object':
      return schema.name.slice(schema.name.lastIndexOf('.') + 1)
    case 'string':
      return schema.format === 'byte' ? 'base64' : (schema.format ?? 'string')
    default:
      return schema.type
  }
}

function withArticle(word: string): string {
  return /^[aeiou]/i.test(word) ? `an ${word}` : `a ${word}`
}

/** The word that takes the fewest changes of letters, if few are enough. */
function nearest(word: string, words: readonly string[]): string | undefined {
  const changesMax = Math.max(2, Math.floor(word.length / 3))
  let best: { word: string; changes: number } | undefined
  for (const candidate of words) {
    const changes = letterChanges(word.toLowerCase().slice(0, 64), candidate.toLowerCase())
    if (changes <= changesMax && (!best || changes < best.changes)) best = { word: candidate, changes }
  }
  return best?.word
}

/** https://en.wikipedia.org/wiki/Levenshtein_distance, one row at a time. */
function letterChanges(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++)
      next.push(
        Math.min(
          (row[j] ?? 0) + 1,
          (next[j - 1] ?? 0) + 1,
          (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1),
        ),
      )
    row = next
  }
  return row[b.length] ?? 0
}

const COLUMNS = 80
const NAME_CHARS = 28
const LABEL_CHARS = 11

/** For a terminal of 80 columns; colours only repeat what the words say. */
export function renderExplanation(explanation: Explanation, { colour = false } = {}): string {
  const paint = (code: number, text: string) => (colour ? `\u001b[${code}m${text}\u001b[0m` : text)
  const [green, red, bold] = [32, 31, 1]
  const { field, verdict, type, fields } = explanation
  const head = `${paint(bold, field)}  ${paint(verdict === 'allowed' ? green : red, verdict)}${type === undefined ? '' : `, ${type}`}`
  const row = (label: string, text: string | undefined) =>
    text === undefined
      ? []
      : wrapped(text, LABEL_CHARS, COLUMNS).map(
          (line, index) => `${(index === 0 ? `${label}:` : '').padEnd(LABEL_CHARS)}${line}`,
        )
  const facts = [
    ...(explanation.description === undefined ? [] : wrapped(explanation.description, 0, COLUMNS)),
    ...row('Why', explanation.why),
    ...row('Opens', explanation.vector === 'unsupported' ? 'nothing; it is not built' : explanation.vector),
    ...row('Instead', explanation.instead),
    ...row('Accepted', explanation.accepted?.map((value) => JSON.stringify(value)).join(', ')),
    ...row('Effect', explanation.warning),
    ...row('Required', explanation.required ? 'yes' : undefined),
    ...row('Default', explanation.default === undefined ? undefined : JSON.stringify(explanation.default)),
    ...row('Values', explanation.values?.join(', ')),
  ]
  const list = (title: string, code: number, items: readonly (readonly [string, string])[]) =>
    items.length === 0
      ? []
      : [
          '',
          paint(code, title),
          ...items.flatMap(([name, text]) => {
            const lines = text === '' ? [''] : wrapped(text, NAME_CHARS, COLUMNS)
            const fits = name.length + 4 <= NAME_CHARS
            return [
              ...(fits ? [] : [`  ${name}`]),
              ...lines.map((line, index) =>
                `${(index === 0 && fits ? `  ${name}` : '').padEnd(NAME_CHARS)}${line}`.trimEnd(),
              ),
            ]
          }),
        ]
  return [
    head,
    '',
    ...facts,
    ...list(
      'Refused values',
      red,
      Object.entries(explanation.refusedValues ?? {}).map(([value, { why, instead }]) => [
        value === '*' ? 'any other' : value,
        `${why}. Instead: ${instead}`,
      ]),
    ),
    ...list('Allowed', green, fields?.allowed.map(({ name, description }) => [name, description]) ?? []),
    ...list('Refused', red, fields?.refused.map(({ name, why }) => [name, why]) ?? []),
  ].join('\n')
}
