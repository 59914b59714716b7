import { type JsonValue, type ListSchema, type ObjectSchema, type Schema, schemaOf } from '../../api/index.ts'
import { isRecord } from '../json.ts'
import { renderPath } from './field-set.ts'
import { CONFIGURATION_PROBLEMS_MAX } from './limits.ts'
import { itemElement } from './structured-merge.ts'

/**
 * Why a configuration cannot be merged by its schema, in upstream's words: fields that the schema does not have, values of
 * another type, and items that cannot be told apart. Null is every type's.
 * @returns undefined when it can.
 */
export function configurationProblem(schema: ObjectSchema, value: JsonValue): string | undefined {
  const walk = new TypeWalk()
  walk.value(schema, value)
  const [first, ...more] = walk.problems
  if (first === undefined || more.length === 0) return first
  return ['errors:', ...[first, ...more].map((problem) => `  ${problem}`)].join('\n')
}

class TypeWalk {
  readonly problems: string[] = []
  private readonly path: string[] = []

  value(schema: Schema | undefined, value: JsonValue): void {
    if (value === null || !schema || this.problems.length >= CONFIGURATION_PROBLEMS_MAX) return
    switch (schema.type) {
      case 'object':
        if (!isRecord(value)) return this.wrong('map', value)
        for (const [key, item] of Object.entries(value)) {
          const field = Object.hasOwn(schema.fields, key) ? schema.fields[key] : undefined
          if (field) this.at(`f:${key}`, schemaOf(field), item)
          else if (schema.others) this.at(`f:${key}`, schema.others, item)
          else this.inside(`f:${key}`, () => this.note('field not declared in schema'))
        }
        return
      case 'map':
        // What holds itself stands for anything.
        if (schema.values === schema) return
        if (!isRecord(value)) return this.wrong('map', value)
        for (const [key, item] of Object.entries(value)) this.at(`f:${key}`, schema.values, item)
        return
      case 'list':
        if (Array.isArray(value)) this.items(schema, value)
        else this.wrong('list', value)
        return
      case 'string':
        // An int or a string may be anything as far as merging goes.
        if (schema.format === 'int-or-string') return
        if (schema.format === 'quantity') {
          if (typeof value === 'object') this.wrong('any scalar', value)
        } else if (typeof value !== 'string') this.wrong('string', value)
        return
      case 'integer':
      case 'number':
        if (typeof value !== 'number') this.wrong('numeric (int or float)', value)
        return
      case 'boolean':
        if (typeof value !== 'boolean') this.wrong('boolean', value)
        return
      case 'any':
        return
      default:
        schema satisfies never
    }
  }

  private items(list: ListSchema, items: readonly JsonValue[]): void {
    const seen = new Set<string>()
    for (const [index, item] of items.entries()) {
      const problem = identityProblem(list, item)
      if (problem !== undefined) return this.note(`element ${index}: ${problem}`)
      const element = list.listType === 'atomic' ? `i:${index}` : itemElement(list, item)
      if (seen.has(element)) this.note(`duplicate entries for key ${renderPath([element])}`)
      seen.add(element)
      this.at(element, list.items, item)
    }
  }

  private at(element: string, schema: Schema | undefined, value: JsonValue): void {
    this.inside(element, () => this.value(schema, value))
  }

  private inside(element: string, look: () => void): void {
    this.path.push(element)
    look()
    this.path.pop()
  }

  private wrong(expected: string, value: JsonValue): void {
    this.note(`expected ${expected}, got ${JSON.stringify(value).slice(0, 100)}`)
  }

  private note(problem: string): void {
    const at = renderPath(this.path)
    this.problems.push(at === '' ? problem : `${at}: ${problem}`)
  }
}

/** Why an item has no identity among the others. */
function identityProblem(
  { listType, listMapKeys = [], items }: ListSchema,
  item: JsonValue,
): string | undefined {
  if (listType === 'atomic') return undefined
  if (listType !== 'map') {
    const set = 'associative list without keys has an element that'
    if (item === null) return `${set}'s an explicit null`
    if (Array.isArray(item)) return 'not supported: associative list with lists as elements'
    return isRecord(item) ? `${set}'s a map type` : undefined
  }
  const keyed = 'associative list with keys'
  if (item === null) return `${keyed} may not have a null element`
  if (!isRecord(item)) return `${keyed} may not have non-map elements`
  const hasDefault = (key: string) => items.type === 'object' && items.fields[key]?.default !== undefined
  return listMapKeys.some((key) => item[key] !== undefined || hasDefault(key))
    ? undefined
    : `${keyed} has an element that omits all key fields [${listMapKeys.map((key) => JSON.stringify(key)).join(' ')}] (and doesn't have default values for any key fields)`
}
