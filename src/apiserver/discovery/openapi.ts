import {
  type Field,
  type KindDefinition,
  type KindRegistry,
  type ObjectSchema,
  refusedFields,
  type Schema,
  type VirtualKind,
  groupVersion,
  schemaOf,
} from '../../api/index.ts'
import { type Document, Documents, renderBytes, renderDocument } from './document.ts'
import type { Json } from './openapi-messages.ts'
import { encodeOpenApiV2 } from './openapi-v2-protobuf.ts'
import { encodeOpenApiV3 } from './openapi-v3-protobuf.ts'

type Gvk = { group: string; version: string; kind: string }
type AnyKind = KindDefinition | VirtualKind

const META = 'io.k8s.apimachinery.pkg.apis.meta.v1'
const ENVELOPE_FIELDS: readonly string[] = ['apiVersion', 'kind', 'metadata']
const LIST_META = `${META}.ListMeta`

/** Scalars that have a name upstream, which `kubectl explain` shows. */
const NAMED_FORMATS: Readonly<Record<string, { name: string; schema: Json }>> = {
  quantity: {
    name: 'io.k8s.apimachinery.pkg.api.resource.Quantity',
    schema: {
      description: 'A number with a unit, such as 100m or 1Gi.',
      oneOf: [{ type: 'string' }, { type: 'number' }],
    },
  },
  'int-or-string': {
    name: 'io.k8s.apimachinery.pkg.util.intstr.IntOrString',
    schema: {
      description: 'A whole number, or text: a percentage or the name of a port.',
      format: 'int-or-string',
      oneOf: [{ type: 'integer' }, { type: 'string' }],
    },
  },
  'date-time': {
    name: `${META}.Time`,
    schema: {
      description: 'A time in UTC to the second, as RFC 3339 writes it.',
      type: 'string',
      format: 'date-time',
    },
  },
  'micro-time': {
    name: `${META}.MicroTime`,
    schema: {
      description: 'A time in UTC to the microsecond, as RFC 3339 writes it.',
      type: 'string',
      format: 'date-time',
    },
  },
}

/** The documents of one registry; they take some milliseconds to make. */
const documents = new WeakMap<KindRegistry, Map<string, Document>>()
const indexes = new WeakMap<KindRegistry, Document>()
const v2Documents = new Documents()
const v3InProtobuf = new Documents()

function documentsOf(registry: KindRegistry): Map<string, Document> {
  let known = documents.get(registry)
  if (!known) {
    known = new Map(
      groupVersionsOf(registry).map((gv) => [pathOf(gv), documentOf(kindsOf(registry, gv), gv)]),
    )
    documents.set(registry, known)
  }
  return known
}

/** The document of one group version by its first kind: when others come or go, what has not changed is not made again. */
const documentsByKind = new WeakMap<AnyKind, { kinds: readonly AnyKind[]; document: Document }>()

function documentOf(kinds: readonly AnyKind[], gv: { group: string; version: string }): Document {
  const [first] = kinds
  const known = first && documentsByKind.get(first)
  if (known?.kinds.length === kinds.length && known.kinds.every((kind, at) => kind === kinds[at]))
    return known.document
  const document = renderDocument(openApiV3(kinds, gv))
  if (first) documentsByKind.set(first, { kinds, document })
  return document
}

/** `/openapi/v3`: one path per group version, with the hash that makes each cacheable for ever. */
export function renderOpenApiIndex(registry: KindRegistry): Document {
  let index = indexes.get(registry)
  if (!index) {
    const paths: Json = {}
    for (const [path, { etag }] of documentsOf(registry))
      paths[path] = { serverRelativeURL: `/openapi/v3/${path}?hash=${etag.replaceAll('"', '')}` }
    indexes.set(registry, (index = renderDocument({ paths })))
  }
  return index
}

/** `/openapi/v3/api/v1` or `/openapi/v3/apis/GROUP/VERSION`, or undefined when there are no kinds of that group version. */
export function renderOpenApiV3(
  registry: KindRegistry,
  gv: { group: string; version: string },
  format: 'json' | 'protobuf',
): Document | undefined {
  const document = documentsOf(registry).get(pathOf(gv))
  if (!document || format === 'json') return document
  return v3InProtobuf.of(registry, pathOf(gv), () => {
    const decoded = JSON.parse(document.body.toString()) as Json // an object, as we made it
    return renderBytes(encodeOpenApiV3(decoded), OPENAPI_V3_PROTOBUF)
  })
}

const OPENAPI_V3_PROTOBUF = 'application/com.github.proto-openapi.spec.v3.v1.0+protobuf'
const OPENAPI_V2_PROTOBUF = 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf'

/** `/openapi/v2`, which clients ask for that are older than v3, or speak of validation in the client. */
export function renderOpenApiV2(registry: KindRegistry, format: 'json' | 'protobuf'): Document {
  return v2Documents.of(registry, format, () =>
    format === 'json'
      ? renderDocument(openApiV2(registry))
      : renderBytes(encodeOpenApiV2(openApiV2(registry)), OPENAPI_V2_PROTOBUF),
  )
}

function pathOf({ group, version }: { group: string; version: string }): string {
  return group === '' ? `api/${version}` : `apis/${group}/${version}`
}

function groupVersionsOf(registry: KindRegistry): { group: string; version: string }[] {
  const seen = new Map<string, { group: string; version: string }>()
  for (const { group, version } of [...registry.kinds, ...registry.virtualKinds])
    seen.set(`${group}/${version}`, { group, version })
  return [...seen.values()]
}

function kindsOf(registry: KindRegistry, { group, version }: { group: string; version: string }): AnyKind[] {
  return [...registry.kinds, ...registry.virtualKinds].filter(
    (k) => k.group === group && k.version === version,
  )
}

function openApiV3(kinds: readonly AnyKind[], gv: { group: string; version: string }): Json {
  const components = new Components('#/components/schemas/')
  const paths = Object.assign({}, ...kinds.map((kind) => new Paths(kind, components).all())) as Json
  return {
    openapi: '3.0.0',
    info: { title: `Bulkhead ${groupVersion(gv)}`, version: gv.version },
    paths,
    components: { schemas: components.all() },
  }
}

function openApiV2(registry: KindRegistry): Json {
  const components = new Components('#/definitions/')
  const kinds = [...registry.kinds, ...registry.virtualKinds]
  const paths = Object.assign({}, ...kinds.map((kind) => new Paths(kind, components).all())) as Json
  return { swagger: '2.0', info: { title: 'Bulkhead', version: 'v1' }, paths, definitions: components.all() }
}

/** The named schemas of a document, gathered while the paths refer to them. */
class Components {
  readonly v2: boolean
  private readonly prefix: string
  private readonly rendered = new Map<string, Json>()

  constructor(prefix: '#/components/schemas/' | '#/definitions/') {
    this.prefix = prefix
    this.v2 = prefix === '#/definitions/'
  }

  all(): Json {
    return Object.fromEntries([...this.rendered].sort(([a], [b]) => (a < b ? -1 : 1)))
  }

  /** A reference to an object schema, which is rendered on its first use. */
  object(schema: ObjectSchema, gvk?: Gvk): Json {
    const { name } = schema
    if (!this.rendered.has(name)) {
      const json: Json = {}
      // Known before its fields are, because types contain themselves.
      this.rendered.set(name, json)
      Object.assign(json, this.objectSchema(schema))
    }
    const known = this.rendered.get(name)
    if (gvk && known) {
      const gvks = (known['x-kubernetes-group-version-kind'] ??= []) as Gvk[]
      const same = gvks.some((g) => g.group === gvk.group && g.version === gvk.version && g.kind === gvk.kind)
      if (!same) gvks.push(gvk)
    }
    return this.reference(name)
  }

  list(kind: AnyKind): Json {
    const { group, version } = kind
    const name = `${kind.schema.name}List`
    if (!this.rendered.has(name)) {
      const items = this.object(kind.schema, { group, version, kind: kind.kind })
      const metadata = this.rendered.has(LIST_META) ? undefined : LIST_META_SCHEMA
      if (metadata) this.rendered.set(LIST_META, metadata)
      this.rendered.set(name, {
        description: `A list of ${kind.kind} objects.`,
        type: 'object',
        required: ['items'],
        properties: {
          apiVersion: { type: 'string' },
          items: { type: 'array', items },
          kind: { type: 'string' },
          metadata: this.referenceWith({ default: {} }, LIST_META),
        },
        'x-kubernetes-group-version-kind': [{ group, version, kind: `${kind.kind}List` }],
      })
    }
    return this.reference(name)
  }

  plain(name: string, schema: Json): Json {
    if (!this.rendered.has(name)) this.rendered.set(name, schema)
    return this.reference(name)
  }

  private reference(name: string): Json {
    return { $ref: `${this.prefix}${name}` }
  }

  /** v3 forbids siblings of `$ref`, v2 has no other way. */
  private referenceWith(siblings: Json, name: string): Json {
    if (this.v2) return { ...siblings, ...this.reference(name) }
    return Object.keys(siblings).length === 0
      ? this.reference(name)
      : { ...siblings, allOf: [this.reference(name)] }
  }

  private objectSchema(schema: ObjectSchema): Json {
    if (schema.openApi) return this.customSchema(schema, schema.openApi)
    const fields = Object.entries(schema.fields).sort(([a], [b]) => (a < b ? -1 : 1))
    const required = fields.filter(([, field]) => field.required).map(([name]) => name)
    return {
      ...describe(withRefusals(schema)),
      type: 'object',
      ...(required.length > 0 ? { required } : {}),
      ...(fields.length > 0
        ? { properties: Object.fromEntries(fields.map(([name, field]) => [name, this.field(field)])) }
        : {}),
      ...(schema.atomic ? { 'x-kubernetes-map-type': 'atomic' } : {}),
    }
  }

  /** A tenant's own schema as it was written, in v2 as far as that has words for it. */
  private customSchema({ fields }: ObjectSchema, openApi: Json): Json {
    // As upstream: whoever reads v2 would take the few fields that can be named for all that there are.
    if (this.v2 && openApi['x-kubernetes-preserve-unknown-fields'] === true) return { type: 'object' }
    const envelope = Object.fromEntries(
      ENVELOPE_FIELDS.flatMap((name) => {
        const field = fields[name]
        return field ? [[name, this.field(field)]] : []
      }),
    )
    const schema = this.v2 ? inV2(openApi) : openApi
    return {
      ...schema,
      type: 'object',
      properties: { ...(schema['properties'] as Json | undefined), ...envelope },
    }
  }

  private field(field: Field): Json {
    const schema = schemaOf(field)
    // A reader shows what is said about a field and about its type, one after the other.
    const isTwice =
      schema.type === 'object' && (field.description ?? schema.description) === schema.description
    const text = isTwice ? undefined : (field.description ?? schema.description)
    const description = field.warning === undefined ? text : [text, field.warning].filter(Boolean).join('\n')
    return this.schema(schema, {
      ...describe(description),
      ...(field.default === undefined ? {} : { default: field.default }),
      ...(field.patchStrategy === undefined ? {} : { 'x-kubernetes-patch-strategy': field.patchStrategy }),
    })
  }

  private schema(schema: Schema, siblings: Json = {}): Json {
    switch (schema.type) {
      case 'object':
        this.object(schema)
        return this.referenceWith(siblings, schema.name)
      case 'map':
        return {
          ...siblings,
          type: 'object',
          additionalProperties: this.schema(schema.values),
          ...(schema.atomic ? { 'x-kubernetes-map-type': 'atomic' } : {}),
        }
      case 'list':
        return {
          ...siblings,
          type: 'array',
          items: this.schema(schema.items),
          'x-kubernetes-list-type': schema.listType,
          ...(schema.listMapKeys ? { 'x-kubernetes-list-map-keys': schema.listMapKeys } : {}),
          ...(schema.patchMergeKey === undefined
            ? {}
            : { 'x-kubernetes-patch-merge-key': schema.patchMergeKey }),
          ...(schema.patchStrategy === undefined
            ? {}
            : { 'x-kubernetes-patch-strategy': schema.patchStrategy }),
          ...(schema.minItems === undefined ? {} : { minItems: schema.minItems }),
          ...(schema.maxItems === undefined ? {} : { maxItems: schema.maxItems }),
        }
      case 'string': {
        const named = schema.format === undefined ? undefined : NAMED_FORMATS[schema.format]
        if (named) {
          this.plain(named.name, this.v2 && named.schema['oneOf'] ? { type: 'string' } : named.schema)
          return this.referenceWith(siblings, named.name)
        }
        return {
          ...siblings,
          type: 'string',
          ...(schema.format === undefined ? {} : { format: schema.format }),
          ...(schema.enum ? { enum: schema.enum } : {}),
          ...(schema.minLength === undefined ? {} : { minLength: schema.minLength }),
          ...(schema.maxLength === undefined ? {} : { maxLength: schema.maxLength }),
        }
      }
      case 'integer':
        return {
          ...siblings,
          type: 'integer',
          format: schema.format,
          ...(schema.minimum === undefined ? {} : { minimum: schema.minimum }),
          ...(schema.maximum === undefined ? {} : { maximum: schema.maximum }),
        }
      case 'number':
        return { ...siblings, type: 'number', format: 'double' }
      case 'boolean':
        return { ...siblings, type: 'boolean' }
      case 'any':
        return { ...siblings, type: 'object', 'x-kubernetes-preserve-unknown-fields': true }
      default:
        schema satisfies never
        return {}
    }
  }
}

/** Words of schemas that v2 does not know. */
const NOT_IN_V2: readonly string[] = ['allOf', 'anyOf', 'oneOf', 'not', 'nullable']

/**
 * As much of a custom kind's schema as v2 can say, as upstream: what may be null or anything is not described further,
 * because clients would refuse what they should not.
 */
function inV2(schema: Json): Json {
  const kept: Json = {}
  const open = schema['nullable'] === true || schema['x-kubernetes-preserve-unknown-fields'] === true
  for (const [name, value] of Object.entries(schema)) {
    if (NOT_IN_V2.includes(name)) continue
    if (open && ['properties', 'items', 'additionalProperties', 'required'].includes(name)) continue
    if ((schema['nullable'] === true || schema['x-kubernetes-int-or-string'] === true) && name === 'type')
      continue
    kept[name] = value
  }
  const { properties, items, additionalProperties, required } = kept
  if (isJson(properties)) {
    kept['properties'] = Object.fromEntries(
      Object.entries(properties).map(([name, value]) => [name, isJson(value) ? inV2(value) : value]),
    )
    if (Array.isArray(required)) {
      const given = required.filter((name: string) => !nullableIn(properties, name))
      if (given.length > 0) kept['required'] = given
      else delete kept['required']
    }
  }
  if (isJson(items)) kept['items'] = inV2(items)
  if (isJson(additionalProperties)) kept['additionalProperties'] = inV2(additionalProperties)
  return kept
}

function nullableIn(properties: Json, name: string): boolean {
  const property = Object.hasOwn(properties, name) ? properties[name] : undefined
  return isJson(property) && property['nullable'] === true
}

function isJson(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** What a manifest of elsewhere may have here, so that nobody looks for it among the fields in vain. */
function withRefusals({ name, description }: ObjectSchema): string | undefined {
  const refused = Object.keys(refusedFields[name] ?? {})
  // What the platform does not report is nothing that anybody could write.
  if (refused.length === 0 || name.endsWith('Status')) return description
  const list = `Refused here, with the reason: ${refused.sort().join(', ')}.`
  return description === undefined ? list : `${description}\n\n${list}`
}

function isCustom(kind: AnyKind): boolean {
  return 'custom' in kind && kind.custom !== undefined
}

function describe(description: string | undefined): Json {
  return description === undefined ? {} : { description }
}

const LIST_META_SCHEMA: Json = {
  description: 'What every list has.',
  type: 'object',
  properties: {
    continue: { description: 'Ask again with this to get the next page.', type: 'string' },
    remainingItemCount: {
      description: 'How many items come after this page, if known.',
      type: 'integer',
      format: 'int64',
    },
    resourceVersion: {
      description: 'The state that the list shows; a watch can begin here.',
      type: 'string',
    },
  },
}

const PATCH_NAME = `${META}.Patch`
const PATCH_SCHEMA: Json = {
  description: 'Changes to an object, in one of the patch formats.',
  type: 'object',
}

const PATCH_TYPES: readonly string[] = [
  'application/apply-patch+yaml',
  'application/json-patch+json',
  'application/merge-patch+json',
  'application/strategic-merge-patch+json',
]
const BODY_TYPES: readonly string[] = [
  'application/json',
  'application/yaml',
  'application/vnd.kubernetes.protobuf',
]

/** Query parameters by name. kubectl sends objects for server-side validation only where `fieldValidation` is listed. */
const QUERY: Readonly<Record<string, { type: string; description: string }>> = {
  allowWatchBookmarks: { type: 'boolean', description: 'Whether a watch may send bookmarks.' },
  continue: { type: 'string', description: 'Where the page before this one ended.' },
  dryRun: { type: 'string', description: 'All: check everything, store nothing.' },
  fieldManager: { type: 'string', description: 'Who owns the fields that this request sets.' },
  fieldSelector: { type: 'string', description: 'Only objects with these fields.' },
  fieldValidation: {
    type: 'string',
    description: 'Strict, Warn or Ignore: what to do about fields that are unknown or given twice.',
  },
  force: { type: 'boolean', description: 'Take over fields that others own. Only for apply patches.' },
  gracePeriodSeconds: { type: 'integer', description: 'How long the object may take to end.' },
  labelSelector: { type: 'string', description: 'Only objects with these labels.' },
  limit: { type: 'integer', description: 'How many objects one page has at most.' },
  propagationPolicy: {
    type: 'string',
    description: 'Orphan, Background or Foreground: what becomes of dependents.',
  },
  resourceVersion: { type: 'string', description: 'The state to read, or to watch from.' },
  resourceVersionMatch: { type: 'string', description: 'NotOlderThan or Exact.' },
  sendInitialEvents: { type: 'boolean', description: 'Whether a watch begins with what is there.' },
  timeoutSeconds: { type: 'integer', description: 'When to end the list or watch.' },
  watch: { type: 'boolean', description: 'Send changes as they happen.' },
}
const LIST_QUERY = [
  'allowWatchBookmarks',
  'continue',
  'fieldSelector',
  'labelSelector',
  'limit',
  'resourceVersion',
  'resourceVersionMatch',
  'sendInitialEvents',
  'timeoutSeconds',
  'watch',
]
const WRITE_QUERY = ['dryRun', 'fieldManager', 'fieldValidation']
const DELETE_QUERY = ['dryRun', 'gracePeriodSeconds', 'propagationPolicy']

type Operation = {
  action: string
  description: string
  query?: readonly string[]
  body?: Json
  bodyTypes?: readonly string[]
  answer: Json
  gvk: Gvk
}

/** The paths of one kind, with what kubectl looks for in them. */
class Paths {
  private readonly kind: AnyKind
  private readonly components: Components
  private readonly gvk: Gvk

  constructor(kind: AnyKind, components: Components) {
    this.kind = kind
    this.components = components
    this.gvk = { group: kind.group, version: kind.version, kind: kind.kind }
  }

  all(): Json {
    const { kind, components, gvk } = this
    const root = `/${pathOf(kind)}`
    const collection = kind.namespaced
      ? `${root}/namespaces/{namespace}/${kind.plural}`
      : `${root}/${kind.plural}`
    const object = components.object(kind.schema, gvk)
    if (!('columns' in kind))
      return {
        [collection]: this.path(collection, {
          post: { ...this.write('post', `create a ${kind.kind}`, object), answer: object, gvk },
        }),
      }
    const can = (verb: KindDefinition['verbs'][number]) => kind.verbs.includes(verb)
    const list = can('list') ? components.list(kind) : object
    const listing: Operation = {
      action: 'list',
      description: `list or watch objects of kind ${kind.kind}`,
      query: LIST_QUERY,
      answer: list,
      gvk,
    }
    const item = `${collection}/{name}`
    const paths: Json = {
      [collection]: this.path(collection, {
        get: can('list') && listing,
        post: can('create') && {
          ...this.write('post', `create a ${kind.kind}`, object),
          answer: object,
          gvk,
        },
        delete: can('deletecollection') && {
          action: 'deletecollection',
          description: `delete a collection of ${kind.kind}`,
          query: [...DELETE_QUERY, 'fieldSelector', 'labelSelector'],
          answer: list,
          gvk,
        },
      }),
      [item]: this.path(item, {
        get: can('get') && {
          action: 'get',
          description: `read the specified ${kind.kind}`,
          answer: object,
          gvk,
        },
        put: can('update') && {
          ...this.write('put', `replace the specified ${kind.kind}`, object),
          answer: object,
          gvk,
        },
        patch: can('patch') && this.patch(`partially update the specified ${kind.kind}`, object, gvk),
        delete: can('delete') && {
          action: 'delete',
          description: `delete a ${kind.kind}`,
          query: DELETE_QUERY,
          answer: object,
          gvk,
        },
      }),
    }
    if (kind.namespaced && can('list')) {
      const everywhere = `${root}/${kind.plural}`
      paths[everywhere] = this.path(everywhere, { get: listing })
    }
    for (const sub of kind.subresources ?? []) {
      const at = `${item}/${sub.name}`
      const subGvk = sub.kind ?? gvk
      const subObject = sub.schema ? components.object(sub.schema, subGvk) : object
      const what = `${sub.name} of the specified ${kind.kind}`
      const allows = (verb: (typeof sub.verbs)[number]) => sub.verbs.includes(verb)
      const connect: Operation | false = allows('connect') && {
        action: 'connect',
        description: `connect to ${what}`,
        answer: { type: 'string' },
        gvk: subGvk,
      }
      paths[at] = this.path(at, {
        get:
          (allows('get') && { action: 'get', description: `read ${what}`, answer: subObject, gvk: subGvk }) ||
          connect,
        post:
          (allows('create') && {
            ...this.write('post', `create ${what}`, subObject),
            answer: subObject,
            gvk: subGvk,
          }) ||
          connect,
        put: allows('update') && {
          ...this.write('put', `replace ${what}`, subObject),
          answer: subObject,
          gvk: subGvk,
        },
        patch: allows('patch') && this.patch(`partially update ${what}`, subObject, subGvk),
      })
    }
    return paths
  }

  private write(action: string, description: string, body: Json): Omit<Operation, 'answer' | 'gvk'> {
    return { action, description, query: WRITE_QUERY, body, bodyTypes: BODY_TYPES }
  }

  private patch(description: string, answer: Json, gvk: Gvk): Operation {
    return {
      action: 'patch',
      description,
      query: [...WRITE_QUERY, 'force'],
      body: this.components.plain(PATCH_NAME, PATCH_SCHEMA),
      // Nothing says how the lists of a custom kind would merge.
      bodyTypes: isCustom(this.kind)
        ? PATCH_TYPES.filter((type) => !type.includes('strategic'))
        : PATCH_TYPES,
      answer,
      gvk,
    }
  }

  private path(path: string, operations: Record<string, Operation | false>): Json {
    const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name)
    return {
      ...Object.fromEntries(
        Object.entries(operations).flatMap(([method, op]) => (op ? [[method, this.operation(op)]] : [])),
      ),
      ...(names.length > 0
        ? { parameters: names.map((name) => this.parameter({ name, in: 'path', required: true }, 'string')) }
        : {}),
    }
  }

  private operation({ action, description, query = [], body, bodyTypes = [], answer, gvk }: Operation): Json {
    const { v2 } = this.components
    const parameters = query.map((name) =>
      this.parameter(
        { name, in: 'query', ...describe(QUERY[name]?.description) },
        QUERY[name]?.type ?? 'string',
      ),
    )
    if (v2 && body) parameters.push({ name: 'body', in: 'body', required: true, schema: body })
    return {
      description,
      ...(v2 && bodyTypes.length > 0 ? { consumes: bodyTypes } : {}),
      ...(v2 ? { produces: ['application/json'] } : {}),
      ...(parameters.length > 0 ? { parameters } : {}),
      ...(!v2 && body
        ? {
            requestBody: {
              required: true,
              content: Object.fromEntries(bodyTypes.map((t) => [t, { schema: body }])),
            },
          }
        : {}),
      responses: {
        200: v2
          ? { description: 'OK', schema: answer }
          : { description: 'OK', content: { 'application/json': { schema: answer } } },
      },
      'x-kubernetes-action': action,
      'x-kubernetes-group-version-kind': gvk,
    }
  }

  private parameter(parameter: Json, type: string): Json {
    return this.components.v2 ? { ...parameter, type } : { ...parameter, schema: { type } }
  }
}
