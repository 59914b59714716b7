import type { Json } from './control-plane.ts'
import type { Dice } from './dice.ts'

/** Schemas with rules in CEL whose costs differ: some that a server takes, and some that it finds too expensive. */

const FIELDS: readonly string[] = ['a', 'b', 'c', 'd']
const PATTERNS: readonly string[] = ['^[a-z]+$', 'a', '(ab|cd)*e{2,9}']

export function randomRuleSchema(dice: Dice): Json {
  const spec = objectSchema(dice, 3)
  return {
    type: 'object',
    properties: { spec },
    ...(dice.percent(20) ? rules(dice, { type: 'object', properties: { spec } }) : {}),
  }
}

function objectSchema(dice: Dice, depth: number): Json {
  const names = FIELDS.slice(0, 1 + dice.below(3))
  const properties = Object.fromEntries(names.map((name) => [name, anySchema(dice, depth - 1)]))
  const required = names.filter(() => dice.percent(30))
  const schema: Json = { type: 'object', properties, ...(required.length > 0 ? { required } : {}) }
  return { ...schema, ...(dice.percent(50) ? rules(dice, schema) : {}) }
}

function anySchema(dice: Dice, depth: number): Json {
  const schema = plainSchema(dice, depth)
  return dice.percent(35) ? { ...schema, ...rules(dice, schema) } : schema
}

function plainSchema(dice: Dice, depth: number): Json {
  switch (dice.below(depth > 0 ? 10 : 5)) {
    case 0:
      return { type: 'integer' }
    case 1:
      return dice.pick([{ type: 'boolean' }, { type: 'number' }, { 'x-kubernetes-int-or-string': true }])
    case 2:
      return {
        type: 'string',
        ...dice.pick([
          { format: 'date-time' },
          { format: 'duration' },
          { enum: ['a', 'bcd'] },
          { format: 'byte' },
        ]),
      }
    case 3:
    case 4:
      return { type: 'string', ...limit(dice, 'maxLength') }
    case 5:
    case 6:
    case 7: {
      const items = dice.percent(60) ? plainSchema(dice, 0) : anySchema(dice, depth - 1)
      return { type: 'array', items, ...limit(dice, 'maxItems') }
    }
    case 8:
      return {
        type: 'object',
        additionalProperties: anySchema(dice, depth - 1),
        ...limit(dice, 'maxProperties'),
      }
    default:
      return objectSchema(dice, depth)
  }
}

function limit(dice: Dice, keyword: string): Json {
  return dice.percent(70) ? { [keyword]: dice.pick([1, 5, 10, 64, 100, 500, 1_000, 4_096]) } : {}
}

function rules(dice: Dice, schema: Json): Json {
  const count = 1 + dice.below(2)
  return {
    'x-kubernetes-validations': Array.from({ length: count }, () => ({
      rule: bool(dice, [{ text: 'self', schema }], 3),
      ...(dice.percent(15) ? { messageExpression: text(dice, [{ text: 'self', schema }], 2) } : {}),
    })),
  }
}

type Variable = { text: string; schema: Json }

const kindOf = ({ schema }: Variable): string => {
  if (schema['x-kubernetes-int-or-string']) return 'dyn'
  if (schema.type === 'object') return schema.additionalProperties ? 'map' : 'object'
  if (schema.type !== 'string') return schema.type
  return schema.format === undefined ? 'string' : schema.format
}

/** Everything that can be reached from the variables by names and indices. */
function reachable(variables: readonly Variable[]): Variable[] {
  return variables.flatMap((variable) => {
    const { text, schema } = variable
    if (kindOf(variable) === 'object')
      return [
        variable,
        ...reachable(
          Object.entries(schema.properties as Json).map(([name, inner]) => ({
            text: `${text}.${name}`,
            schema: inner as Json,
          })),
        ),
      ]
    if (kindOf(variable) === 'array')
      return [variable, ...reachable([{ text: `${text}[0]`, schema: schema.items }])]
    if (kindOf(variable) === 'map')
      return [variable, ...reachable([{ text: `${text}["k"]`, schema: schema.additionalProperties }])]
    return [variable]
  })
}

function choose(dice: Dice, variables: readonly Variable[], kind: string): Variable | undefined {
  const fitting = reachable(variables).filter((variable) => kindOf(variable) === kind)
  return fitting.length === 0 ? undefined : dice.pick(fitting)
}

function bool(dice: Dice, variables: readonly Variable[], depth: number): string {
  if (depth <= 0) return simple(dice, variables)
  switch (dice.below(9)) {
    case 0:
      return `${bool(dice, variables, depth - 1)} && ${bool(dice, variables, depth - 1)}`
    case 1:
      return `(${bool(dice, variables, depth - 1)} || ${bool(dice, variables, depth - 1)})`
    case 2:
      return `!(${bool(dice, variables, depth - 1)})`
    case 3:
      return `(${bool(dice, variables, depth - 1)} ? ${bool(dice, variables, depth - 1)} : ${bool(dice, variables, depth - 1)})`
    case 4:
    case 5:
    case 6:
      return loop(dice, variables, depth) ?? simple(dice, variables)
    default:
      return simple(dice, variables)
  }
}

function loop(dice: Dice, variables: readonly Variable[], depth: number): string | undefined {
  const name = `x${depth}${variables.length}`
  const list = choose(dice, variables, 'array')
  const map = choose(dice, variables, 'map')
  if (list && (!map || dice.percent(70))) {
    const inner = [...variables, { text: name, schema: list.schema.items as Json }]
    const body = () => bool(dice, inner, depth - 1)
    switch (dice.below(7)) {
      case 0:
        return `${list.text}.exists(${name}, ${body()})`
      case 1:
        return `${list.text}.exists_one(${name}, ${body()})`
      case 2:
        return `${list.text}.filter(${name}, ${body()}).size() < 3`
      case 3:
        return `${list.text}.map(${name}, ${text(dice, inner, 1)}).all(y, y.size() > ${list.text}.size())`
      case 4:
        return `${list.text}.all(i, ${name}, i < 9 && ${body()})`
      case 5:
        return `${list.text}.filter(${name}, ${body()}).all(z, z == ${list.text}[0])`
      default:
        return `${list.text}.all(${name}, ${body()})`
    }
  }
  if (!map) return undefined
  const inner = [
    ...variables,
    { text: `${map.text}[${name}]`, schema: map.schema.additionalProperties as Json },
  ]
  return `${map.text}.${dice.pick(['all', 'exists'])}(${name}, ${dice.percent(50) ? `${name}.startsWith("a")` : bool(dice, inner, depth - 1)})`
}

function simple(dice: Dice, variables: readonly Variable[]): string {
  const any = dice.pick(reachable(variables))
  const { text: it } = any
  switch (kindOf(any)) {
    case 'integer':
      return `${it} ${dice.pick(['<', '==', '>='])} ${dice.pick(['5', `${it} + 1`, `${it} * 2`])}`
    case 'number':
      return `${it} < 1.5`
    case 'boolean':
      return it
    case 'dyn':
      return `type(${it}) == ${dice.pick(['int', 'string'])}`
    case 'date-time':
      return `${it} > timestamp("2020-01-01T00:00:00Z")`
    case 'duration':
      return `${it} < duration("1h")`
    case 'byte':
      return `${it}.size() < 10`
    case 'string':
      return textTest(dice, variables, any)
    case 'array':
      return listTest(dice, variables, any)
    case 'map':
      return dice.pick([`${it}.size() > 2`, `"k" in ${it}`, `${it} == ${it}`])
    default:
      return dice.pick([
        `has(${it}.${Object.keys((any.schema.properties as Json) ?? {})[0] ?? 'metadata'})`,
        `${it} == ${it}`,
      ])
  }
}

function textTest(dice: Dice, variables: readonly Variable[], { text: it }: Variable): string {
  const other = () => text(dice, variables, 1)
  switch (dice.below(12)) {
    case 0:
      return `${it}.matches('${dice.pick(PATTERNS)}')`
    case 1:
      return `${it}.contains(${other()})`
    case 2:
      return `${it}.startsWith(${other()})`
    case 3:
      return `${it} == ${other()}`
    case 4:
      return `${it}.find('${dice.pick(PATTERNS)}') == ${other()}`
    case 5:
      return `${it}.split(",").all(p, p.size() < 5)`
    case 6:
      return `${it} in [${other()}, "b"]`
    case 7:
      return `isURL(${it}) && url(${it}).getHost() == ${other()}`
    case 8:
      return `isQuantity(${it}) && quantity(${it}).isLessThan(quantity("1"))`
    case 9:
      return `${it} < ${other()}`
    case 10:
      return `size(${it}) < 5 && ${it}.lowerAscii() == ${it}`
    default:
      return `(isIP(${it}) ? ip(${it}).family() == 4 : cidr(${it}).containsIP(ip(${it})))`
  }
}

function listTest(dice: Dice, variables: readonly Variable[], { text: it, schema }: Variable): string {
  const isText = kindOf({ text: '', schema: schema.items }) === 'string'
  const other = choose(dice, variables, 'array')
  const isSortable = ['string', 'integer', 'number', 'boolean'].includes(
    kindOf({ text: '', schema: schema.items }),
  )
  switch (dice.below(12)) {
    case 7:
      return `${it}.distinct().size() == ${it}.size()`
    case 8:
      return isSortable ? `${it}.sort() == ${it}` : `${it}.reverse() == ${it}`
    case 9:
      return `${it}.sortBy(s, ${isSortable ? 's' : `${it}.indexOf(s)`})[0] in ${it}`
    case 10:
      return `[${it}, ${it}.slice(0, 2)].flatten().all(f, f == ${it}[0])`
    case 11:
      return `lists.range(${dice.pick(['3', '2000', `size(${it})`])}).map(r, r + 1).sort()[0] == 1`
    case 0:
      return `${it}.size() < 5`
    case 1:
      return `${it} == ${it}`
    case 2:
      return isText ? `${it}.isSorted()` : `${it}[0] in ${it}`
    case 3:
      return isText ? `${it}.join(",").contains("a")` : `size(${it}) == 1`
    case 4:
      return isText ? `${it}.max() == ${text(dice, variables, 1)}` : `${it}.indexOf(${it}[0]) == 1`
    case 5:
      return `sets.contains(${it}, ${other && JSON.stringify(other.schema.items) === JSON.stringify(schema.items) ? other.text : it})`
    default:
      return `(${it} + ${it}).size() < 9`
  }
}

function text(dice: Dice, variables: readonly Variable[], depth: number): string {
  const known = choose(dice, variables, 'string')
  if (!known || dice.percent(20)) return dice.pick(['"a"', '"a long text for a change"', '""'])
  if (depth <= 0) return known.text
  switch (dice.below(8)) {
    case 0:
      return `(${known.text} + ${text(dice, variables, depth - 1)})`
    case 1:
      return `${known.text}.replace(${text(dice, variables, depth - 1)}, ${text(dice, variables, depth - 1)})`
    case 2:
      return `${known.text}.${dice.pick(['trim()', 'upperAscii()', 'substring(1)'])}`
    case 3:
      return `(${bool(dice, variables, 0)} ? ${known.text} : ${text(dice, variables, depth - 1)})`
    case 4:
      return `string(${dice.pick(['1', '1.5', known.text])})`
    default:
      return known.text
  }
}
