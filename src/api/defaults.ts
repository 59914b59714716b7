import type { KindDefinition } from './kind.ts'
import type { KubeObject } from './meta.ts'
import { type ObjectSchema, type Schema, schemaOf } from './schema.ts'

/**
 * Fills in what the user left out, as upstream does: first the schema's own defaults, then the kind's.
 * Requires: `object` is a fresh copy that `checkObject` made. Changes and returns it.
 */
export function applyDefaults(
  kind: Pick<KindDefinition, 'schema' | 'applyDefaults' | 'custom'>,
  object: KubeObject,
): KubeObject {
  // A custom kind's defaults have rules of their own.
  const node = kind.custom ? undefined : nodeOf(kind.schema)
  if (node) fill(node, object)
  return kind.applyDefaults ? kind.applyDefaults(object) : object
}

/** Only the parts of a schema below which there is a default; everything else need not be looked at. */
type Node =
  | {
      type: 'object'
      defaults: readonly (readonly [string, unknown])[]
      children: readonly (readonly [string, Node])[]
    }
  | { type: 'each'; item: Node }

const nodes = new WeakMap<Schema, Node | false>()

function nodeOf(schema: Schema): Node | undefined {
  const known = nodes.get(schema)
  if (known !== undefined) return known || undefined
  // No schema of ours contains itself; if one did, its inner defaults would be missing rather than endless.
  nodes.set(schema, false)
  const made = makeNode(schema)
  nodes.set(schema, made ?? false)
  return made
}

function makeNode(schema: Schema): Node | undefined {
  if (schema.type === 'object') return makeObjectNode(schema)
  const inner = schema.type === 'list' ? schema.items : schema.type === 'map' ? schema.values : undefined
  const item = inner && nodeOf(inner)
  return item && { type: 'each', item }
}

function makeObjectNode(schema: ObjectSchema): Node | undefined {
  const defaults: [string, unknown][] = []
  const children: [string, Node][] = []
  for (const [name, field] of Object.entries(schema.fields)) {
    if (field.default !== undefined) defaults.push([name, field.default])
    const child = nodeOf(schemaOf(field))
    if (child) children.push([name, child])
  }
  return defaults.length === 0 && children.length === 0 ? undefined : { type: 'object', defaults, children }
}

function fill(node: Node, value: unknown): void {
  if (node.type === 'each') {
    if (Array.isArray(value)) for (const item of value) fill(node.item, item)
    else if (isObject(value)) for (const key of Object.keys(value)) fill(node.item, value[key])
    return
  }
  if (!isObject(value)) return
  for (const [name, given] of node.defaults) {
    const present = value[name]
    // Upstream's empty string is what others call absent.
    if (present === undefined || (present === '' && typeof given === 'string'))
      value[name] = typeof given === 'object' ? structuredClone(given) : given
  }
  for (const [name, child] of node.children) {
    const present = value[name]
    if (present !== undefined) fill(child, present)
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
