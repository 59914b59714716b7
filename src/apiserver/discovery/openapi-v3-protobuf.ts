import { any, encodeDocument, extensionsOf, type Json, named, pathItem } from './openapi-messages.ts'

/**
 * The messages of gnostic that a document of ours needs, with the numbers of their fields.
 * https://github.com/google/gnostic/blob/main/openapiv3/OpenAPIv3.proto
 */
const MESSAGES: Readonly<Record<string, string>> = {
  Any: '2 yaml string',
  NamedAny: '1 name string, 2 value Any',
  Document: '1 openapi string, 2 info Info, 4 paths Paths, 5 components Components',
  Info: '1 title string, 6 version string',
  Paths: '1 path NamedPathItem[]',
  NamedPathItem: '1 name string, 2 value PathItem',
  PathItem:
    '4 get Operation, 5 put Operation, 6 post Operation, 7 delete Operation, 10 patch Operation, 13 parameters ParameterItem[]',
  Operation:
    '3 description string, 6 parameters ParameterItem[], 7 requestBody RequestBodyItem, 8 responses Responses, ' +
    '13 specificationExtension NamedAny[]',
  ParameterItem: '1 parameter Parameter',
  Parameter: '1 name string, 2 in string, 3 description string, 4 required bool, 10 schema SchemaItem',
  RequestBodyItem: '1 requestBody RequestBody',
  RequestBody: '2 content MediaTypes, 3 required bool',
  MediaTypes: '1 additionalProperties NamedMediaType[]',
  NamedMediaType: '1 name string, 2 value MediaType',
  MediaType: '1 schema SchemaItem',
  Responses: '2 responseOrReference NamedResponseItem[]',
  NamedResponseItem: '1 name string, 2 value ResponseItem',
  ResponseItem: '1 response Response',
  Response: '1 description string, 3 content MediaTypes',
  Components: '1 schemas Properties',
  Properties: '1 additionalProperties NamedSchemaItem[]',
  NamedSchemaItem: '1 name string, 2 value SchemaItem',
  SchemaItem: '1 schema Schema, 2 reference Reference',
  Reference: '1 $ref string',
  ItemsItem: '1 schemaOrReference SchemaItem[]',
  AdditionalPropertiesItem: '1 schemaOrReference SchemaItem, 2 boolean bool',
  DefaultType: '1 number double, 2 boolean bool, 3 string string',
  ExternalDocs: '1 description string, 2 url string',
  Schema:
    '1 nullable bool, 6 externalDocs ExternalDocs, 7 example Any, 9 title string, 10 multipleOf double, 11 maximum double, ' +
    '12 exclusiveMaximum bool, 13 minimum double, 14 exclusiveMinimum bool, 15 maxLength int64, 16 minLength int64, ' +
    '17 pattern string, 18 maxItems int64, 19 minItems int64, 20 uniqueItems bool, 21 maxProperties int64, ' +
    '22 minProperties int64, 23 required string[], 24 enum Any[], 25 type string, 26 allOf SchemaItem[], 27 oneOf SchemaItem[], ' +
    '28 anyOf SchemaItem[], 29 not Schema, 30 items ItemsItem, 31 properties Properties, ' +
    '32 additionalProperties AdditionalPropertiesItem, 33 default DefaultType, 34 description string, 35 format string, ' +
    '36 specificationExtension NamedAny[]',
}

/** Requires: a document as `openApiV3` makes it, in which nothing is missing here; a test holds it against this. */
export function encodeOpenApiV3(document: Json): Buffer {
  const { openapi, info, paths, components } = document
  return encodeDocument(MESSAGES, {
    openapi,
    info,
    paths: { path: named(paths as Json, (item) => pathItem(item as Json, operationOf, parametersOf)) },
    components: { schemas: properties((components as Json)['schemas'] as Json) },
  })
}

function operationOf(operation: Json): Json {
  const { description, parameters, requestBody, responses } = operation
  return {
    description,
    ...parametersOf(parameters),
    ...(requestBody ? { requestBody: { requestBody: withContent(requestBody as Json) } } : {}),
    responses: {
      responseOrReference: named(responses as Json, (response) => ({
        response: withContent(response as Json),
      })),
    },
    ...extensionsOf(operation, 'specificationExtension'),
  }
}

function withContent({ content, ...rest }: Json): Json {
  const mediaType = (value: unknown) => ({ schema: schemaItem((value as Json)['schema']) })
  return { ...rest, content: { additionalProperties: named(content as Json, mediaType) } }
}

function parametersOf(parameters: unknown): Json {
  if (!Array.isArray(parameters)) return {}
  const inMessage = (parameter: Json) => ({
    parameter: { ...parameter, schema: schemaItem(parameter['schema']) },
  })
  return { parameters: (parameters as Json[]).map(inMessage) }
}

function properties(schemas: Json): Json {
  return { additionalProperties: named(schemas, schemaItem) }
}

function schemaItem(schema: unknown): Json {
  const { $ref } = schema as Json
  return $ref === undefined ? { schema: schemaOf(schema as Json) } : { reference: { $ref } }
}

function schemaOf(schema: Json): Json {
  const encoded: Json = { ...schema, ...extensionsOf(schema, 'specificationExtension') }
  const replace = (key: string, by: (value: unknown) => unknown) => {
    if (schema[key] !== undefined) encoded[key] = by(schema[key])
  }
  const items = (schemas: unknown) => (schemas as unknown[]).map(schemaItem)
  replace('default', defaultOf)
  replace('example', any)
  replace('enum', (values) => (values as unknown[]).map(any))
  replace('allOf', items)
  replace('oneOf', items)
  replace('anyOf', items)
  replace('not', (not) => schemaOf(not as Json))
  replace('items', (item) => ({ schemaOrReference: [schemaItem(item)] }))
  replace('properties', (fields) => properties(fields as Json))
  replace('additionalProperties', (values) =>
    typeof values === 'boolean' ? { boolean: values } : { schemaOrReference: schemaItem(values) },
  )
  return encoded
}

/** gnostic has no word for a default that is an object, a list or null. */
function defaultOf(value: unknown): Json | undefined {
  if (typeof value === 'number') return { number: value }
  if (typeof value === 'boolean') return { boolean: value }
  return typeof value === 'string' ? { string: value } : undefined
}
