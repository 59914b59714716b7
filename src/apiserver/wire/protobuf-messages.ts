import type { JsonValue } from '../../api/index.ts'
import { assert } from '../../stdx/index.ts'
import table from './protobuf-fields.json' with { type: 'json' }

/** `k8s\0`, which begins every protobuf body. */
export const MAGIC: Buffer = Buffer.from([0x6b, 0x38, 0x73, 0x00])

/** Messages that are one JSON value, and scalars; the table names them, everything else is a message. */
export type Leaf =
  | 'string'
  | 'bool'
  | 'int32'
  | 'int64'
  | 'double'
  | 'bytes'
  | 'time'
  | 'microTime'
  | 'quantity'
  | 'intOrString'
  | 'json'
  | 'strings'

export type Field = {
  number: number
  /** As in JSON. */
  name: string
  type: Leaf | Message
  map: boolean
  repeated: boolean
  /** A struct that Go embeds: its fields are the parent's in JSON. */
  embedded: boolean
  /** Zero is a value; elsewhere protobuf's zero is JSON's absence. */
  keepsZero: boolean
}
export type Message = {
  name: string
  fields: readonly Field[]
  byNumber: ReadonlyMap<number, Field>
  /** Of messages with many fields, none of them embedded: whoever encodes one asks for what is there. */
  byName: ReadonlyMap<string, Field> | undefined
  /** In JSON there is one of the message's two fields and nothing around it, see `EITHER`. */
  either: boolean
}

export type Json = { [key: string]: JsonValue }

/** `apps/v1/Deployment` → its message, built from the table when the first protobuf body comes. */
let kinds: ReadonlyMap<string, Message> | undefined

/** These belong to no group: their version is `v1`, or that of what asks for them. */
const GROUPLESS: readonly string[] = [
  'APIGroup',
  'APIGroupList',
  'APIResourceList',
  'APIVersions',
  'PartialObjectMetadata',
  'Status',
]

export function messageOf(apiVersion: string, kind: string): Message | undefined {
  kinds ??= buildMessages()
  const groupless = apiVersion === 'v1' || apiVersion === 'meta.k8s.io/v1beta1'
  // Every group version has DeleteOptions of its own, and all are the same message.
  const meta = kind === 'DeleteOptions' || (groupless && GROUPLESS.includes(kind))
  return kinds.get(meta ? `meta.k8s.io/v1/${kind}` : `${apiVersion}/${kind}`)
}

/** `JSONSchemaPropsOrArray`, `…OrBool` and `…OrStringArray`: a schema, or what the other field holds. */
const EITHER = /\.JSONSchemaPropsOr(Array|Bool|StringArray)$/

const MANY_FIELDS = 8

/** A message's name and, for each field: number, name, a leaf or the index of a message, flags. */
export type MessageRow = readonly (string | number)[]

/** Messages from the rows of a table, which refer to each other. */
export function linkMessages(rows: readonly MessageRow[]): readonly Message[] {
  const messages = rows.map((row) => ({
    name: String(row[0]),
    fields: [] as Field[],
    byNumber: new Map<number, Field>(),
    byName: undefined as ReadonlyMap<string, Field> | undefined,
    either: EITHER.test(String(row[0])),
  }))
  rows.forEach((row, index) => {
    const message = messages[index]
    assert(message)
    for (let at = 1; at < row.length; at += 4) {
      const [number, name, type, flags] = row.slice(at, at + 4)
      const of = typeof type === 'number' ? messages[type] : type
      assert(typeof number === 'number' && typeof name === 'string' && typeof flags === 'string' && of)
      // The encoder looks fields up without asking whether they are the object's own.
      assert(!(name in {}), `Every object has "${name}"`)
      const field: Field = {
        number,
        name,
        // The generator writes nothing but these names and indexes.
        type: of as Leaf | Message,
        map: flags.includes('m'),
        repeated: flags.includes('r'),
        embedded: flags.includes('e'),
        keepsZero: flags.includes('z'),
      }
      message.fields.push(field)
      message.byNumber.set(number, field)
    }
    const { fields } = message
    if (fields.length >= MANY_FIELDS && !fields.some(({ embedded }) => embedded))
      message.byName = new Map(fields.map((field) => [field.name, field]))
  })
  return messages
}

function buildMessages(): ReadonlyMap<string, Message> {
  const messages = linkMessages(table.messages as readonly MessageRow[])
  return new Map(
    Object.entries(table.kinds).map(([kind, index]) => {
      const message = messages[index]
      assert(message)
      return [kind, message]
    }),
  )
}

/** True when objects of the kind can be sent and received as protobuf. */
export function hasProtobuf(apiVersion: string, kind: string): boolean {
  return messageOf(apiVersion, kind) !== undefined
}
