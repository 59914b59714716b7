import { assert } from '../../stdx/index.ts'
import { type MessageRow, encodeMessage, linkMessages } from '../wire/index.ts'

/** What both versions of OpenAPI's documents have in common as protobuf. */

export type Json = { [key: string]: unknown }

/** Encodes a value as the message `Document` of a table of messages by name: their fields with number, name and type; lists end in `[]`. */
export function encodeDocument(messages: Readonly<Record<string, string>>, document: Json): Buffer {
  const message = linkMessages(rowsOf(messages)).find(({ name }) => name === 'Document')
  assert(message, 'It is in the table')
  return encodeMessage(message, document)
}

function rowsOf(messages: Readonly<Record<string, string>>): MessageRow[] {
  const names = Object.keys(messages)
  return Object.entries(messages).map(([message, fields]) => [
    message,
    ...fields.split(', ').flatMap((field) => {
      const [number, name = '', listed = ''] = field.split(' ')
      const type = listed.replace('[]', '')
      return [
        Number(number),
        name,
        names.includes(type) ? names.indexOf(type) : type,
        type === listed ? '' : 'r',
      ]
    }),
  ])
}

export function named(values: Json, map: (value: unknown) => unknown): Json[] {
  return Object.entries(values).map(([name, value]) => ({ name, value: map(value) }))
}

/** gnostic keeps what can be anything as YAML, as which we write JSON. */
export function any(value: unknown): Json {
  return { yaml: `${JSON.stringify(value)}\n` }
}

/** Each version has a name of its own for the field in which they are. */
export function extensionsOf(of: Json, field: 'vendorExtension' | 'specificationExtension'): Json {
  const extensions = Object.entries(of).filter(([name]) => name.startsWith('x-'))
  return extensions.length === 0 ? {} : { [field]: named(Object.fromEntries(extensions), any) }
}

/** What there is at a path: operations by their methods, and what they have in common. */
export function pathItem(
  { parameters, ...operations }: Json,
  operationOf: (operation: Json) => Json,
  parametersOf: (parameters: unknown) => Json,
): Json {
  return {
    ...Object.fromEntries(
      Object.entries(operations).map(([method, operation]) => [method, operationOf(operation as Json)]),
    ),
    ...parametersOf(parameters),
  }
}
