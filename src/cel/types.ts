import { TYPE_DEPTH_MAX } from './limits.ts'

/** What the checker knows of a value before there is one. `dyn` is known only when the expression runs. */
export type CelType =
  | { readonly type: SimpleTypeName }
  | { readonly type: 'list'; readonly items: CelType; readonly identity?: ListIdentity }
  | { readonly type: 'map'; readonly keys: CelType; readonly values: CelType }
  | { readonly type: 'object'; readonly name: string; readonly fields: () => ObjectFields }
  | { readonly type: 'optional'; readonly of: CelType }
  | { readonly type: 'type'; readonly of: CelType }
  | { readonly type: 'opaque'; readonly name: string }
  /** Stands for any one type in the signature of a function. */
  | { readonly type: 'param'; readonly name: string }
type SimpleTypeName =
  | 'dyn'
  | 'null'
  | 'bool'
  | 'int'
  | 'uint'
  | 'double'
  | 'string'
  | 'bytes'
  | 'timestamp'
  | 'duration'

/** Lists of Kubernetes that are compared without regard to order; a `map` list finds items by the named fields. */
export type ListIdentity =
  | { readonly list: 'set' }
  | { readonly list: 'map'; readonly keys: readonly string[] }

/** How an expression calls a field → its name in JSON, and its type. */
export type ObjectFields = ReadonlyMap<string, { readonly property: string; readonly type: CelType }>

export const DYN: CelType = { type: 'dyn' }
export const NULL: CelType = { type: 'null' }
export const BOOL: CelType = { type: 'bool' }
export const INT: CelType = { type: 'int' }
export const UINT: CelType = { type: 'uint' }
export const DOUBLE: CelType = { type: 'double' }
export const STRING: CelType = { type: 'string' }
export const BYTES: CelType = { type: 'bytes' }
export const TIMESTAMP: CelType = { type: 'timestamp' }
export const DURATION: CelType = { type: 'duration' }
export const listOf = (items: CelType): CelType => ({ type: 'list', items })
export const mapOf = (keys: CelType, values: CelType): CelType => ({ type: 'map', keys, values })
export const optionalOf = (of: CelType): CelType => ({ type: 'optional', of })

const SIMPLE_NAMES: Readonly<Record<SimpleTypeName, string>> = {
  dyn: 'dyn',
  null: 'null_type',
  bool: 'bool',
  int: 'int',
  uint: 'uint',
  double: 'double',
  string: 'string',
  bytes: 'bytes',
  timestamp: 'google.protobuf.Timestamp',
  duration: 'google.protobuf.Duration',
}
/** Names of types that an expression may use as values, such as in `type(x) == int`. */
export const NAMED_TYPES: ReadonlyMap<string, CelType> = new Map<string, CelType>([
  ...Object.entries(SIMPLE_NAMES).flatMap(([type, name]): [string, CelType][] =>
    type === 'dyn' ? [] : [[name, { type: type as SimpleTypeName }]],
  ),
  ['list', listOf(DYN)],
  ['map', mapOf(DYN, DYN)],
  ['type', { type: 'type', of: DYN }],
  ['optional_type', optionalOf(DYN)],
  ...[
    'net.IP',
    'net.CIDR',
    'kubernetes.URL',
    'kubernetes.Quantity',
    'kubernetes.Semver',
    'kubernetes.NamedFormat',
  ].map((name): [string, CelType] => [name, { type: 'opaque', name }]),
])

export function renderType(type: CelType, depth = 0): string {
  if (depth > TYPE_DEPTH_MAX) return '...'
  const inner = (of: CelType) => renderType(of, depth + 1)
  switch (type.type) {
    case 'list':
      return `list(${inner(type.items)})`
    case 'map':
      return `map(${inner(type.keys)}, ${inner(type.values)})`
    case 'optional':
      return `optional_type(${inner(type.of)})`
    case 'type':
      return `type(${inner(type.of)})`
    case 'object':
    case 'opaque':
    case 'param':
      return type.name
    default:
      return SIMPLE_NAMES[type.type]
  }
}

/** What the parameters of a signature stand for at one place. */
export type Bindings = Map<string, CelType>

export function substitute(type: CelType, bindings: Bindings): CelType {
  switch (type.type) {
    case 'param':
      return bindings.get(type.name) ?? DYN
    case 'list':
      return listOf(substitute(type.items, bindings))
    case 'map':
      return mapOf(substitute(type.keys, bindings), substitute(type.values, bindings))
    case 'optional':
      return optionalOf(substitute(type.of, bindings))
    case 'type':
      return { type: 'type', of: substitute(type.of, bindings) }
    default:
      return type
  }
}

/** True when a value of type `given` may stand where `wanted` is; parameters of `wanted` learn what they stand for. */
export function isAssignable(wanted: CelType, given: CelType, bindings: Bindings, depth = 0): boolean {
  if (depth > TYPE_DEPTH_MAX) return true
  if (wanted.type === 'param') {
    const known = bindings.get(wanted.name)
    if (known === undefined) {
      bindings.set(wanted.name, given)
      return true
    }
    const joined = joinTypes(known, given)
    if (joined === undefined) return false
    bindings.set(wanted.name, joined)
    return true
  }
  if (wanted.type === 'dyn' || given.type === 'dyn') return true
  const inner = (a: CelType, b: CelType) => isAssignable(a, b, bindings, depth + 1)
  switch (wanted.type) {
    case 'list':
      return given.type === 'list' && inner(wanted.items, given.items)
    case 'map':
      return given.type === 'map' && inner(wanted.keys, given.keys) && inner(wanted.values, given.values)
    case 'optional':
      return given.type === 'optional' && inner(wanted.of, given.of)
    case 'type':
      return given.type === 'type'
    case 'object':
      return (given.type === 'object' && given.name === wanted.name) || given.type === 'null'
    case 'opaque':
      return given.type === 'opaque' && given.name === wanted.name
    case 'timestamp':
    case 'duration':
      return given.type === wanted.type || given.type === 'null'
    default:
      return given.type === wanted.type
  }
}

/** The type of something that is either; undefined when nothing can be both. */
export function joinTypes(a: CelType, b: CelType, depth = 0): CelType | undefined {
  if (depth > TYPE_DEPTH_MAX || a.type === 'dyn' || b.type === 'dyn') return DYN
  const join = (x: CelType, y: CelType) => joinTypes(x, y, depth + 1)
  if (a.type === 'list' && b.type === 'list') {
    const items = join(a.items, b.items)
    return items && { ...a, items }
  }
  if (a.type === 'map' && b.type === 'map') {
    const [keys, values] = [join(a.keys, b.keys), join(a.values, b.values)]
    return keys && values && mapOf(keys, values)
  }
  if (a.type === 'optional' && b.type === 'optional') {
    const of = join(a.of, b.of)
    return of && optionalOf(of)
  }
  const nullable = (type: CelType) =>
    type.type === 'object' ||
    type.type === 'timestamp' ||
    type.type === 'duration' ||
    type.type === 'optional'
  if (a.type === 'null' && nullable(b)) return b
  if (b.type === 'null' && nullable(a)) return a
  return isAssignable(a, b, new Map()) ? a : undefined
}
