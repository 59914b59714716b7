import { any, encodeDocument, extensionsOf, type Json, named, pathItem } from './openapi-messages.ts'

/**
 * The messages of gnostic that a document of ours needs, with the numbers of their fields.
 * https://github.com/google/gnostic/blob/main/openapiv2/OpenAPIv2.proto
 */
const MESSAGES: Readonly<Record<string, string>> = {
  Any: '2 yaml string',
  NamedAny: '1 name string, 2 value Any',
  Document: '1 swagger string, 2 info Info, 8 paths Paths, 9 definitions Properties',
  Info: '1 title string, 2 version string',
  Paths: '2 path NamedPathItem[]',
  NamedPathItem: '1 name string, 2 value PathItem',
  PathItem:
    '2 get Operation, 3 put Operation, 4 post Operation, 5 delete Operation, 8 patch Operation, 9 parameters ParametersItem[]',
  Operation:
    '3 description string, 6 produces string[], 7 consumes string[], 8 parameters ParametersItem[], 9 responses Responses, ' +
    '13 vendorExtension NamedAny[]',
  ParametersItem: '1 parameter Parameter',
  Parameter: '1 body BodyParameter, 2 nonBody NonBodyParameter',
  BodyParameter: '1 description string, 2 name string, 3 in string, 4 required bool, 5 schema Schema',
  NonBodyParameter: '3 query QueryParameter, 4 path PathParameter',
  QueryParameter: '1 required bool, 2 in string, 3 description string, 4 name string, 6 type string',
  PathParameter: '1 required bool, 2 in string, 3 description string, 4 name string, 5 type string',
  Responses: '1 responseCode NamedResponseValue[]',
  NamedResponseValue: '1 name string, 2 value ResponseValue',
  ResponseValue: '1 response Response',
  Response: '1 description string, 2 schema SchemaItem',
  SchemaItem: '1 schema Schema',
  Properties: '1 additionalProperties NamedSchema[]',
  NamedSchema: '1 name string, 2 value Schema',
  AdditionalPropertiesItem: '1 schema Schema, 2 boolean bool',
  TypeItem: '1 value string[]',
  ItemsItem: '1 schema Schema[]',
  ExternalDocs: '1 description string, 2 url string',
  Schema:
    '1 $ref string, 2 format string, 3 title string, 4 description string, 5 default Any, 6 multipleOf double, ' +
    '7 maximum double, 8 exclusiveMaximum bool, 9 minimum double, 10 exclusiveMinimum bool, 11 maxLength int64, ' +
    '12 minLength int64, 13 pattern string, 14 maxItems int64, 15 minItems int64, 16 uniqueItems bool, ' +
    '17 maxProperties int64, 18 minProperties int64, 19 required string[], 20 enum Any[], ' +
    '21 additionalProperties AdditionalPropertiesItem, 22 type TypeItem, 23 items ItemsItem, 25 properties Properties, ' +
    '29 externalDocs ExternalDocs, 30 example Any, 31 vendorExtension NamedAny[]',
}

/** Requires: a document as `openApiV2` makes it, in which nothing is missing here; a test holds it against this. */
export function encodeOpenApiV2(document: Json): Buffer {
  const { swagger, info, paths, definitions } = document
  return encodeDocument(MESSAGES, {
    swagger,
    info,
    paths: { path: named(paths as Json, (item) => pathItem(item as Json, operationOf, parametersOf)) },
    definitions: properties(definitions as Json),
  })
}

function operationOf(operation: Json): Json {
  const { description, produces, consumes, parameters, responses } = operation
  return {
    description,
    produces,
    consumes,
    ...parametersOf(parameters),
    responses: {
      responseCode: named(responses as Json, (response) => ({ response: responseOf(response as Json) })),
    },
    ...extensionsOf(operation, 'vendorExtension'),
  }
}

function responseOf({ description, schema }: Json): Json {
  return { description, ...(schema ? { schema: { schema: schemaOf(schema as Json) } } : {}) }
}

function parametersOf(parameters: unknown): Json {
  if (!Array.isArray(parameters)) return {}
  return {
    parameters: (parameters as Json[]).map((parameter) => ({
      parameter:
        parameter['in'] === 'body'
          ? { body: { ...parameter, schema: schemaOf(parameter['schema'] as Json) } }
          : { nonBody: { [parameter['in'] as string]: parameter } },
    })),
  }
}

function properties(schemas: Json): Json {
  return { additionalProperties: named(schemas, (schema) => schemaOf(schema as Json)) }
}

function schemaOf(schema: Json): Json {
  const encoded: Json = { ...schema, ...extensionsOf(schema, 'vendorExtension') }
  const replace = (key: string, by: (value: unknown) => unknown) => {
    if (schema[key] !== undefined) encoded[key] = by(schema[key])
  }
  replace('default', any)
  replace('example', any)
  replace('enum', (values) => (values as unknown[]).map(any))
  replace('type', (type) => ({ value: [type] }))
  replace('items', (items) => ({ schema: [schemaOf(items as Json)] }))
  replace('properties', (fields) => properties(fields as Json))
  replace('additionalProperties', (values) =>
    typeof values === 'boolean' ? { boolean: values } : { schema: schemaOf(values as Json) },
  )
  return encoded
}
