import type { Json } from './control-plane.ts'
import type { Dice } from './dice.ts'

/** Custom kinds of any shape, and what clients do with an object of them. */

export type KindCase = { definition: Json; requests: readonly CaseRequest[] }
export type CaseRequest = {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  path: string
  /** `$resourceVersion` in it stands for the one that was seen last. */
  body?: Json
  type?: string
}

const APPLY = 'application/apply-patch+yaml'
const MERGE = 'application/merge-patch+json'
const JSON_PATCH = 'application/json-patch+json'
const MANAGERS: readonly string[] = ['ann', 'bob', 'cy', 'kubectl']
const FIELDS: readonly string[] = ['a', 'b', 'c', 'd']
const TEXTS: readonly string[] = ['x', 'y', 'z', '']

/** @param name what the kind is called, in a group of its own. */
export function randomKindCase(dice: Dice, name: string): KindCase {
  const group = `${name}.example.com`
  const specSchema = objectSchema(dice, 3)
  const hasScale = dice.percent(30)
  const hasStatus = hasScale || dice.percent(50)
  const schema: Json = {
    type: 'object',
    properties: {
      spec: {
        ...specSchema,
        properties: {
          ...specSchema.properties,
          ...(hasScale ? { replicas: { type: 'integer', ...(dice.percent(50) ? { default: 1 } : {}) } } : {}),
        },
      },
      status: {
        ...objectSchema(dice, 2),
        ...(dice.percent(30) ? { 'x-kubernetes-preserve-unknown-fields': true } : {}),
      },
    },
  }
  if (dice.percent(15)) schema.required = ['spec']
  if (!hasStatus && dice.percent(10)) schema['x-kubernetes-preserve-unknown-fields'] = true
  const status = schema.properties.status
  if (hasScale) status.properties = { ...status.properties, replicas: { type: 'integer' } }
  const subresources = {
    ...(hasStatus ? { status: {} } : {}),
    ...(hasScale
      ? { scale: { specReplicasPath: '.spec.replicas', statusReplicasPath: '.status.replicas' } }
      : {}),
  }
  const version = (versionName: string, storage: boolean, openAPIV3Schema: Json) => ({
    name: versionName,
    served: true,
    storage,
    schema: { openAPIV3Schema },
    ...(hasStatus || hasScale ? { subresources } : {}),
  })
  const versions = [version('v1', true, schema)]
  // Upstream forgets in one version what another one lets be written by sub-resources only.
  if (!hasStatus && dice.percent(50)) versions.push(version('v1beta1', false, schema))
  const definition = {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `things.${group}` },
    spec: {
      group,
      scope: 'Namespaced',
      names: { plural: 'things', singular: 'thing', kind: 'Thing', listKind: 'ThingList' },
      versions,
    },
  }
  const makes = new Requests(dice, group, definition)
  return { definition, requests: Array.from({ length: 8 + dice.below(8) }, (_, at) => makes.next(at)) }
}

function objectSchema(dice: Dice, depth: number): Json {
  const names = FIELDS.slice(0, 1 + dice.below(4))
  const properties = Object.fromEntries(names.map((name) => [name, anySchema(dice, depth - 1)]))
  const schema: Json = { type: 'object', properties }
  if (dice.percent(10)) schema.required = [dice.pick(names)]
  if (dice.percent(10)) schema['x-kubernetes-preserve-unknown-fields'] = true
  return schema
}

function anySchema(dice: Dice, depth: number): Json {
  const schema = plainSchema(dice, depth)
  if (dice.percent(12)) schema.nullable = true
  const isPlain = ['string', 'integer', 'boolean'].includes(schema.type as string)
  if (dice.percent(isPlain ? 20 : 6)) {
    const value = randomValue(dice, schema, { wild: false })
    if (value !== undefined) schema.default = value
  }
  return schema
}

function plainSchema(dice: Dice, depth: number): Json {
  switch (dice.below(depth > 0 ? 16 : 5)) {
    case 0:
      return { type: 'integer', ...(dice.percent(20) ? { minimum: 1 } : {}) }
    case 1:
      return { type: 'boolean' }
    case 2:
      return { 'x-kubernetes-int-or-string': true }
    case 3:
    case 4:
      return {
        type: 'string',
        ...(dice.percent(30)
          ? dice.pick([
              { enum: ['x', 'y'] },
              { maxLength: 1 },
              { minLength: 1 },
              { pattern: '^[x-z]*$' },
              { format: 'date-time' },
            ])
          : {}),
      }
    case 5:
    case 6: {
      const schema = objectSchema(dice, depth)
      return dice.percent(30)
        ? { ...schema, 'x-kubernetes-map-type': dice.pick(['atomic', 'granular']) }
        : schema
    }
    case 7:
    case 8: {
      const schema: Json = { type: 'object', additionalProperties: anySchema(dice, depth - 1) }
      if (dice.percent(25)) schema['x-kubernetes-map-type'] = 'atomic'
      if (dice.percent(15)) schema.maxProperties = 1
      return schema
    }
    case 9:
      return {
        type: 'array',
        items: anySchema(dice, depth - 1),
        ...(dice.percent(30) ? { 'x-kubernetes-list-type': 'atomic' } : {}),
      }
    case 10:
    case 11:
      return {
        type: 'array',
        items: dice.pick<Json>([
          { type: 'string' },
          { type: 'integer' },
          { type: 'string', enum: ['x', 'y', 'z'] },
        ]),
        'x-kubernetes-list-type': 'set',
      }
    case 12:
    case 13:
      return keyedList(dice, depth)
    case 14:
      return { type: 'object', 'x-kubernetes-preserve-unknown-fields': true }
    default:
      return dice.percent(50)
        ? { 'x-kubernetes-preserve-unknown-fields': true }
        : {
            type: 'object',
            'x-kubernetes-embedded-resource': true,
            'x-kubernetes-preserve-unknown-fields': true,
          }
  }
}

function keyedList(dice: Dice, depth: number): Json {
  const two = dice.percent(40)
  const item = objectSchema(dice, depth - 1)
  item.properties = {
    ...item.properties,
    name: { type: 'string' },
    ...(two
      ? {
          port: dice.pick<Json>([
            { type: 'integer', default: 1 },
            { type: 'string', default: 'p' },
          ]),
        }
      : {}),
  }
  item.required = ['name']
  return {
    type: 'array',
    items: item,
    'x-kubernetes-list-type': 'map',
    'x-kubernetes-list-map-keys': two ? ['name', 'port'] : ['name'],
  }
}

/** A value of a schema; a wild one may also not fit it. */
function randomValue(dice: Dice, schema: Json, { wild }: { wild: boolean }): Json {
  if (wild && dice.percent(4)) return dice.pick<Json>([null, 1.5, 'wrong', [], {}, true])
  if (schema.nullable && dice.percent(25)) return null
  if (schema['x-kubernetes-int-or-string']) return dice.pick<Json>([1, 2, '50%', 'x'])
  const inner = (of: Json) => randomValue(dice, of, { wild })
  switch (schema.type) {
    case 'integer':
      return 1 + dice.below(wild ? 3 : 2) - (wild && dice.percent(10) ? 2 : 0)
    case 'boolean':
      return dice.percent(50)
    case 'string':
      if (schema.format === 'date-time') return wild && dice.percent(20) ? 'now' : '2026-01-02T03:04:05Z'
      return wild && dice.percent(8)
        ? 'long'
        : dice.pick(schema.enum ?? (schema.minLength ? ['x', 'y'] : TEXTS))
    case 'array': {
      const { items } = schema
      const length = dice.below(4)
      if (schema['x-kubernetes-list-type'] === 'set') {
        const values = Array.from({ length }, () => inner(items))
        return wild && dice.percent(8) ? values : unique(values, (value) => value)
      }
      if (schema['x-kubernetes-list-type'] !== 'map') return Array.from({ length }, () => inner(items))
      const made = Array.from({ length }, () => {
        const item = inner(items)
        if (typeof item !== 'object' || item === null || Array.isArray(item))
          return wild ? item : { name: 'x' }
        return wild && dice.percent(5) ? item : { ...item, name: dice.pick(['x', 'y', 'z']) }
      })
      return wild && dice.percent(8)
        ? made
        : unique(made, (item) => [item?.name, item?.port ?? items.properties.port?.default])
    }
    case 'object': {
      if (schema.additionalProperties)
        return Object.fromEntries(
          ['k', 'l', 'm']
            .filter(() => dice.percent(45))
            .map((key) => [key, inner(schema.additionalProperties)]),
        )
      const object: Json = {}
      for (const [name, property] of Object.entries((schema.properties ?? {}) as Record<string, Json>))
        if (
          dice.percent(schema.required?.includes(name) ? 95 : 55) ||
          (!wild && schema.required?.includes(name))
        )
          object[name] = inner(property)
      if (schema['x-kubernetes-embedded-resource'])
        Object.assign(
          object,
          { apiVersion: 'v1', kind: 'Thing' },
          dice.percent(50) ? { metadata: { name: 'inner' } } : {},
        )
      if (schema['x-kubernetes-preserve-unknown-fields'] && dice.percent(60))
        object.free = dice.pick<Json>([
          1,
          'x',
          [1, 2],
          { deep: { er: 1 } },
          { deep: { list: [{ name: 'x' }] } },
          [],
        ])
      if (wild && dice.percent(4)) object.unknown = 1
      return object
    }
    default:
      return dice.pick<Json>([1, 'x', ['x'], { p: 1 }, { p: { q: [] } }])
  }
}

function unique(values: Json[], keyOf: (value: Json) => unknown): Json[] {
  return [...new Map(values.map((value) => [JSON.stringify(keyOf(value)), value])).values()]
}

class Requests {
  private readonly dice: Dice
  private readonly group: string
  private readonly versions: readonly Json[]

  constructor(dice: Dice, group: string, definition: Json) {
    this.dice = dice
    this.group = group
    this.versions = definition.spec.versions
  }

  next(at: number): CaseRequest {
    const { dice } = this
    const version = dice.percent(75) ? this.versions[0] : dice.pick(this.versions)
    const choice = at === 0 ? dice.below(60) : dice.below(110)
    if (choice < 46) return this.apply(version)
    if (choice < 54) return at === 0 ? this.create(version) : this.update(version)
    if (choice < 60) return this.create(version)
    if (choice < 72) return this.update(version)
    if (choice < 84) return this.patch(version)
    if (choice < 92) return this.jsonPatch(version)
    if (choice < 98 && version.subresources?.scale) return this.scale(version)
    if (choice < 100) return { method: 'DELETE', path: this.path(version) }
    if (choice < 102)
      return {
        method: 'PATCH',
        path: this.path(version),
        type: 'application/strategic-merge-patch+json',
        body: {},
      }
    return { method: 'GET', path: this.path(version) }
  }

  private path(version: Json, query: Record<string, string> = {}, subresource?: string): string {
    const base = `/apis/${this.group}/${version.name}/namespaces/default/things/one${subresource ? `/${subresource}` : ''}`
    const parameters = new URLSearchParams(query).toString()
    return parameters === '' ? base : `${base}?${parameters}`
  }

  private options(): Record<string, string> {
    const { dice } = this
    return {
      ...(dice.percent(8) ? { dryRun: 'All' } : {}),
      ...(dice.percent(15) ? { fieldValidation: dice.pick(['Strict', 'Warn', 'Ignore']) } : {}),
    }
  }

  private writer(): Record<string, string> {
    return { fieldManager: this.dice.pick(MANAGERS), ...this.options() }
  }

  private subresource(version: Json, percent: number): string | undefined {
    return version.subresources?.status && this.dice.percent(percent) ? 'status' : undefined
  }

  private object(version: Json, metadata: Json, wild = true): Json {
    const { dice } = this
    const schema = version.schema.openAPIV3Schema
    const object = randomValue(dice, schema, { wild })
    const body = typeof object === 'object' && object !== null && !Array.isArray(object) ? object : {}
    // Upstream forgets who owns what when somebody sends a wrong status to where it does not count.
    if (version.subresources?.status && body.status !== undefined)
      body.status = randomValue(dice, schema.properties.status, { wild: false })
    // Upstream says in words of Go's why it cannot count what is no number.
    if (version.subresources?.scale && body.spec !== undefined) {
      if (typeof body.spec !== 'object' || body.spec === null || Array.isArray(body.spec)) body.spec = {}
      if (body.spec.replicas !== undefined) body.spec.replicas = dice.below(4) - 1
    }
    if (dice.percent(25)) metadata.labels = { [dice.pick(['l', 'm'])]: dice.pick(['x', 'y']) }
    const type = { apiVersion: `${this.group}/${version.name}`, kind: 'Thing' }
    // As `kubectl apply` leaves it, for those who apply by the server later.
    if (dice.percent(12))
      metadata.annotations = {
        'kubectl.kubernetes.io/last-applied-configuration': `${JSON.stringify({ ...type, metadata: { name: 'one' }, ...body })}\n`,
      }
    if (dice.percent(8)) metadata.finalizers = ['example.com/f']
    return { ...type, metadata, ...body }
  }

  private apply(version: Json): CaseRequest {
    const force: Record<string, string> = this.dice.percent(35) ? { force: 'true' } : {}
    const path = this.path(version, { ...this.writer(), ...force }, this.subresource(version, 15))
    return {
      method: 'PATCH',
      path,
      type: APPLY,
      body: this.object(version, { name: 'one', namespace: 'default' }),
    }
  }

  private create(version: Json): CaseRequest {
    const path = this.path(version, this.writer()).replace('/one', '')
    return { method: 'POST', path, body: this.object(version, { name: 'one' }) }
  }

  private update(version: Json): CaseRequest {
    const subresource = this.subresource(version, 30)
    const path = this.path(version, this.writer(), subresource)
    const metadata: Json = {
      name: 'one',
      ...(this.dice.percent(95) ? { resourceVersion: '$resourceVersion' } : {}),
    }
    if (this.dice.percent(6)) metadata.managedFields = this.dice.pick<Json>([[], [{}]])
    return { method: 'PUT', path, body: this.object(version, metadata, !subresource) }
  }

  private patch(version: Json): CaseRequest {
    const subresource = this.subresource(version, 25)
    const { apiVersion: _version, kind: _kind, metadata, ...body } = this.object(version, {}, !subresource)
    const path = this.path(version, this.writer(), subresource)
    const keys = Object.keys(body)
    const part = this.dice.percent(60) || keys.length === 0 ? body : { [this.dice.pick(keys)]: null }
    return {
      method: 'PATCH',
      path,
      type: MERGE,
      body: { ...part, ...(metadata.labels || metadata.annotations ? { metadata } : {}) },
    }
  }

  private jsonPatch(version: Json): CaseRequest {
    const { dice } = this
    const { properties } = version.schema.openAPIV3Schema.properties.spec
    const name = dice.pick(Object.keys(properties))
    const subresource = this.subresource(version, 10)
    const value = randomValue(dice, properties[name], { wild: !subresource })
    const operation = dice.pick<Json>([
      { op: 'add', path: `/spec/${name}`, value },
      { op: 'replace', path: `/spec/${name}`, value },
      { op: 'remove', path: `/spec/${name}` },
      { op: 'test', path: `/spec/${name}`, value },
      { op: 'copy', from: `/spec/${name}`, path: `/spec/${dice.pick(FIELDS)}` },
    ])
    const path = this.path(version, this.writer(), subresource)
    return { method: 'PATCH', path, type: JSON_PATCH, body: [operation] }
  }

  private scale(version: Json): CaseRequest {
    const body = { spec: { replicas: 1 + this.dice.below(3) } }
    return { method: 'PATCH', path: this.path(version, this.writer(), 'scale'), type: MERGE, body }
  }
}
