import { setImmediate as otherWork } from 'node:timers/promises'
import { WireType } from '@bufbuild/protobuf/wire'
import type { JsonValue } from '../../api/index.ts'
import { assert } from '../../stdx/index.ts'
import { type Field, type Json, type Leaf, MAGIC, type Message, messageOf } from './protobuf-messages.ts'

/** What protobuf says around every object: its type. */
type Typed = { apiVersion: string; kind: string }

/**
 * Encodes an object as `application/vnd.kubernetes.protobuf`, as upstream: the magic, and a `runtime.Unknown` around it.
 * Requires: the object has passed its schema.
 * @returns undefined when the kind has no protobuf encoding.
 */
export function encodeProtobuf(object: Typed): Buffer | undefined {
  const message = messageOf(object.apiVersion, object.kind)
  if (!message) return undefined
  const writer = new BackwardWriter()
  writeMessage(writer, message, object as unknown as Json)
  writeEnvelope(writer, object)
  return writer.finish()
}

/** A value as a message, with nothing around it. Requires: the value has the message's shape. */
export function encodeMessage(message: Message, value: object): Buffer {
  const writer = new BackwardWriter()
  writeMessage(writer, message, value as Json)
  return writer.finish()
}

/**
 * A list as protobuf, piece by piece from its end to its beginning, because a length stands before what it counts. Others
 * of this process have their turn between `itemsAtOnce` items.
 */
export async function* encodeProtobufList(
  list: Typed & { items: readonly unknown[] },
  itemsAtOnce: number,
): AsyncGenerator<Buffer> {
  const { apiVersion, kind, items, ...rest } = list
  const message = messageOf(apiVersion, kind)
  const field = message?.fields.find(({ name }) => name === 'items')
  assert(message && field, `${apiVersion} ${kind} is no list that has a protobuf encoding`)
  let bytes = 0
  for (let end = items.length; end > 0; end -= itemsAtOnce) {
    const writer = new BackwardWriter()
    const from = Math.max(0, end - itemsAtOnce)
    for (let at = end - 1; at >= from; at--)
      writeValue(writer, field.number, field.type, items[at] as JsonValue)
    bytes += writer.length
    yield writer.finish()
    await otherWork()
  }
  const writer = new BackwardWriter()
  writeMessage(writer, message, rest as Json)
  writeEnvelope(writer, { apiVersion, kind }, bytes)
  yield writer.finish()
}

/** One event of a watch: its length in four bytes, and a `WatchEvent` around an encoded object. */
export function frameWatchEvent(type: string, object: Uint8Array): Buffer {
  const writer = new BackwardWriter()
  writer.bytes(object)
  writer.lengthOf(1, 0)
  writer.lengthOf(2, 0)
  writer.string(type)
  writer.lengthOf(1, writer.length - Buffer.byteLength(type))
  const event = writer.finish()
  const length = Buffer.alloc(4)
  length.writeUInt32BE(event.length)
  return Buffer.concat([length, event])
}

/** `after`: bytes of the object that have been written elsewhere and come behind these. */
function writeEnvelope(writer: BackwardWriter, { apiVersion, kind }: Typed, after = 0): void {
  const raw = writer.length + after
  // Upstream writes an empty encoding and type too, behind the object; a reader needs neither.
  writer.varint(raw)
  writer.varint((2 << 3) | WireType.LengthDelimited)
  const end = writer.length
  writeValue(writer, 2, 'string', kind)
  writeValue(writer, 1, 'string', apiVersion)
  writer.lengthOf(1, end)
  writer.bytes(MAGIC)
}

function writeMessage(writer: BackwardWriter, message: Message, object: Json): void {
  const { fields, byName } = message
  if (byName) {
    // Of many fields few are there, in an order of their own; protobuf has them by number, as the list of fields.
    const present: Field[] = []
    for (const name in object) {
      const field = byName.get(name)
      if (!field) continue
      let at = present.length
      for (; at > 0 && present[at - 1]!.number > field.number; at--) present[at] = present[at - 1]! // below `at`
      present[at] = field
    }
    for (let at = present.length - 1; at >= 0; at--) writeField(writer, present[at]!, object) // at is within the list
    return
  }
  for (let at = fields.length - 1; at >= 0; at--) writeField(writer, fields[at]!, object) // at is within the list
}

function writeField(writer: BackwardWriter, field: Field, object: Json): void {
  const { number, type } = field
  if (field.embedded && typeof type === 'object') {
    const end = writer.length
    writeMessage(writer, type, object)
    if (writer.length > end) writer.lengthOf(number, end)
    return
  }
  const value = object[field.name]
  if (value === undefined || value === null) return
  if (field.map) {
    const map = value as Json
    // Sorted, as upstream: the same object is the same bytes.
    const keys = Object.keys(map).sort()
    for (let at = keys.length - 1; at >= 0; at--) {
      const key = keys[at]! // at is within the list
      const end = writer.length
      writeValue(writer, 2, type, map[key] ?? null)
      writeValue(writer, 1, 'string', key)
      writer.lengthOf(number, end)
    }
  } else if (field.repeated) {
    const list = value as JsonValue[]
    for (let at = list.length - 1; at >= 0; at--) writeValue(writer, number, type, list[at] ?? null)
  } else writeValue(writer, number, type, value)
}

function writeValue(writer: BackwardWriter, number: number, type: Leaf | Message, value: JsonValue): void {
  const end = writer.length
  switch (type) {
    case 'bool':
      writer.varint(value === true ? 1 : 0)
      writer.varint((number << 3) | WireType.Varint)
      return
    case 'int32':
    case 'int64':
      writer.integer(Number(value))
      writer.varint((number << 3) | WireType.Varint)
      return
    case 'double':
      writer.double(Number(value))
      writer.varint((number << 3) | WireType.Bit64)
      return
    case 'string':
      writer.string(String(value))
      break
    case 'bytes':
      writer.bytes(Buffer.from(String(value), 'base64'))
      break
    case 'quantity':
      writeValue(writer, 1, 'string', value)
      break
    case 'json':
      writer.string(JSON.stringify(value))
      writer.lengthOf(1, end)
      break
    case 'strings': {
      const items = value as JsonValue[]
      for (let at = items.length - 1; at >= 0; at--) writeValue(writer, 1, 'string', items[at] ?? null)
      break
    }
    case 'intOrString':
      writeValue(writer, 3, 'string', typeof value === 'string' ? value : '')
      writeValue(writer, 2, 'int32', typeof value === 'number' ? value : 0)
      writeValue(writer, 1, 'int64', typeof value === 'string' ? 1 : 0)
      break
    case 'time':
    case 'microTime': {
      const text = String(value)
      const ms = Date.parse(text)
      if (Number.isNaN(ms)) return
      // Date keeps milliseconds; a MicroTime has three digits more.
      const micros = type === 'microTime' ? Number((/\.(\d{1,6})/.exec(text)?.[1] ?? '0').padEnd(6, '0')) : 0
      writeValue(writer, 2, 'int32', micros * 1000)
      writeValue(writer, 1, 'int64', Math.floor(ms / 1000))
      break
    }
    default:
      writeMessage(writer, type, type.either ? insideEither(type, value) : (value as Json))
  }
  writer.lengthOf(number, end)
}

/** A schema or something else, in the field that it has in protobuf. */
function insideEither({ fields }: Message, value: JsonValue): Json {
  const isSchema = typeof value === 'object' && !Array.isArray(value)
  const other = fields.find(({ name }) => name !== 'schema')
  assert(other, 'There are two')
  // Of the two booleans upstream sets both when there is a schema.
  if (isSchema) return other.type === 'bool' ? { allows: true, schema: value } : { schema: value }
  return { [other.name]: value }
}

const FIRST_BYTES = 4_096

/** Bytes from the last to the first, so that whatever has been written can be counted when its length is due. */
class BackwardWriter {
  private buffer = Buffer.allocUnsafe(FIRST_BYTES)
  /** Where what has been written begins. */
  private start = FIRST_BYTES

  /** Bytes written so far. */
  get length(): number {
    return this.buffer.length - this.start
  }

  finish(): Buffer {
    return this.buffer.subarray(this.start)
  }

  private make(room: number): void {
    if (this.start >= room) return
    const { length } = this
    const larger = Buffer.allocUnsafe(Math.max(this.buffer.length * 2, length + room))
    this.buffer.copy(larger, larger.length - length, this.start)
    this.start = larger.length - length
    this.buffer = larger
  }

  /** The tag of a field whose content has been written since the writer had `end` bytes, and the content's length. */
  lengthOf(number: number, end: number): void {
    this.varint(this.length - end)
    this.varint((number << 3) | WireType.LengthDelimited)
  }

  bytes(bytes: Uint8Array): void {
    this.make(bytes.length)
    this.start -= bytes.length
    this.buffer.set(bytes, this.start)
  }

  string(text: string): void {
    // Short and plain is what most text is; the call that encodes the rest costs more than such a loop.
    if (text.length <= SHORT_CHARS) {
      this.make(text.length)
      const { buffer } = this
      let at = this.start
      for (let i = text.length - 1; i >= 0; i--) {
        const code = text.charCodeAt(i)
        if (code > 0x7f) return this.anyString(text)
        buffer[--at] = code
      }
      this.start = at
      return
    }
    this.anyString(text)
  }

  private anyString(text: string): void {
    const bytes = Buffer.byteLength(text)
    this.make(bytes)
    this.start -= bytes
    this.buffer.write(text, this.start, 'utf8')
  }

  /** A whole number below 2^31 that is not negative. */
  varint(value: number): void {
    this.make(VARINT_BYTES_MAX)
    const { buffer } = this
    if (value < 0x80) {
      buffer[--this.start] = value
      return
    }
    let groups = 1
    for (let rest = value >>> 7; rest > 0; rest >>>= 7) groups++
    this.start -= groups
    let rest = value
    for (let at = this.start; groups > 1; groups--) {
      buffer[at++] = (rest & 0x7f) | 0x80
      rest >>>= 7
      if (groups === 2) buffer[at] = rest
    }
  }

  /** Any whole number, a negative one in ten bytes as its two's complement. */
  integer(value: number): void {
    if (value >= 0 && value < 2 ** 31) return this.varint(value)
    this.make(VARINT_BYTES_MAX)
    const groups: number[] = []
    for (let rest = BigInt.asUintN(64, BigInt(Math.trunc(value) || 0)); ; rest >>= 7n) {
      const last = rest < 0x80n
      groups.push(Number(rest & 0x7fn) | (last ? 0 : 0x80))
      if (last) break
    }
    this.start -= groups.length
    this.buffer.set(groups, this.start)
  }

  double(value: number): void {
    this.make(8)
    this.start -= 8
    this.buffer.writeDoubleLE(value, this.start)
  }
}

const SHORT_CHARS = 40
const VARINT_BYTES_MAX = 10
