import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { ApiError, type JsonValue, badRequest } from '../../api/index.ts'
import { assert } from '../../stdx/index.ts'
import { WIRE_LIMITS, type WireLimits } from './limits.ts'
import table from './protobuf-fields.json' with { type: 'json' }
import { parseJson } from './strict-json.ts'

/** `k8s\0`, which begins every protobuf body. */
const MAGIC = Buffer.from([0x6b, 0x38, 0x73, 0x00])

/** Messages that are one JSON value, and scalars; the table names them, everything else is a message. */
type Leaf =
  | 'string'
  | 'bool'
  | 'int32'
  | 'int64'
  | 'bytes'
  | 'time'
  | 'microTime'
  | 'quantity'
  | 'intOrString'
  | 'json'
  | 'strings'

type Field = {
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
type Message = { name: string; fields: readonly Field[]; byNumber: ReadonlyMap<number, Field> }

type Json = { [key: string]: JsonValue }

/** `apps/v1/Deployment` → its message, built from the table when the first protobuf body comes. */
let kinds: ReadonlyMap<string, Message> | undefined

function messageOf(apiVersion: string, kind: string): Message | undefined {
  kinds ??= buildMessages()
  // Every group version has DeleteOptions of its own, and all are the same message.
  if (kind === 'DeleteOptions' || kind === 'Status') return kinds.get(`meta.k8s.io/v1/${kind}`)
  return kinds.get(`${apiVersion}/${kind}`)
}

function buildMessages(): ReadonlyMap<string, Message> {
  const rows = table.messages as readonly (readonly (string | number)[])[]
  const messages = rows.map((row) => ({
    name: String(row[0]),
    fields: [] as Field[],
    byNumber: new Map<number, Field>(),
  }))
  rows.forEach((row, index) => {
    const message = messages[index]
    assert(message)
    for (let at = 1; at < row.length; at += 4) {
      const [number, name, type, flags] = row.slice(at, at + 4)
      const of = typeof type === 'number' ? messages[type] : type
      assert(typeof number === 'number' && typeof name === 'string' && typeof flags === 'string' && of)
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
  })
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

export type DecodedProtobuf = {
  value: JsonValue
  /** Fields with a number that Kubernetes 1.36 does not have, as `spec.(protobuf field 99)`. */
  unknownFields: string[]
}

/**
 * Decodes `application/vnd.kubernetes.protobuf` into what the same object is in JSON, including fields that we refuse,
 * so that one admission path sees them all.
 * @throws {ApiError} BadRequest, or UnsupportedMediaType for a kind that has no protobuf encoding.
 */
export function decodeProtobuf(body: Uint8Array, limits: WireLimits = WIRE_LIMITS): DecodedProtobuf {
  if (body.length < MAGIC.length || MAGIC.some((byte, index) => body[index] !== byte))
    throw badRequest('provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]')
  const decoder = new Decoder(limits)
  try {
    return decoder.unknown(body.subarray(MAGIC.length))
  } catch (error) {
    if (error instanceof ApiError) throw error
    // The reader throws plain errors and RangeErrors on anything malformed.
    throw badRequest(`proto: ${error instanceof Error ? error.message : 'malformed message'}`, error)
  }
}

class Decoder {
  private values = 0
  private readonly path: string[] = []
  private readonly unknownFields = new Set<string>()
  private readonly limits: WireLimits

  constructor(limits: WireLimits) {
    this.limits = limits
  }

  /** runtime.Unknown: the type's name around the object's bytes. */
  unknown(bytes: Uint8Array): DecodedProtobuf {
    const reader = new BinaryReader(bytes)
    let apiVersion = ''
    let kind = ''
    let raw: Uint8Array = new Uint8Array()
    while (reader.pos < reader.len) {
      const [number, wireType] = reader.tag()
      if (number <= 4) expectWireType(wireType, WireType.LengthDelimited, `runtime.Unknown field ${number}`)
      switch (number) {
        case 1: {
          const meta = new BinaryReader(reader.bytes())
          while (meta.pos < meta.len) {
            const [metaNumber, metaWireType] = meta.tag()
            if (metaNumber > 2) skip(meta, metaWireType)
            else expectWireType(metaWireType, WireType.LengthDelimited, 'runtime.TypeMeta')
            if (metaNumber === 1) apiVersion = meta.string(true)
            if (metaNumber === 2) kind = meta.string(true)
          }
          break
        }
        case 2:
          raw = reader.bytes()
          break
        case 3: {
          const encoding = reader.string(true)
          if (encoding)
            throw badRequest(`the content encoding "${encoding}" of a protobuf body is not supported`)
          break
        }
        case 4: {
          const type = reader.string(true)
          if (type && type !== 'application/vnd.kubernetes.protobuf')
            throw badRequest(`the content type "${type}" within a protobuf body is not supported`)
          break
        }
        default:
          skip(reader, wireType)
      }
    }
    if (!kind || !apiVersion)
      throw badRequest(`Object 'Kind' is missing in the protobuf body of version "${apiVersion}"`)
    const message = messageOf(apiVersion, kind)
    if (!message)
      throw new ApiError(
        'UnsupportedMediaType',
        `the kind "${kind}" of version "${apiVersion}" has no protobuf encoding - accepted media types include: ` +
          'application/json, application/yaml',
      )
    const value: Json = { apiVersion, kind }
    this.message(message, raw, value, 1)
    return { value, unknownFields: [...this.unknownFields] }
  }

  private message(message: Message, bytes: Uint8Array, into: Json, depth: number): void {
    if (depth > this.limits.depthMax)
      throw badRequest(`the request body is nested deeper than ${this.limits.depthMax} levels`)
    const reader = new BinaryReader(bytes)
    const seen = new Set<number>()
    while (reader.pos < reader.len) {
      const [number, wireType] = reader.tag()
      const field = message.byNumber.get(number)
      if (!field) {
        this.noteUnknown(number)
        skip(reader, wireType)
        continue
      }
      this.count()
      this.path.push(field.name)
      if (field.map) this.mapEntry(field, reader, wireType, into, depth)
      else if (field.repeated) this.item(field, reader, wireType, into, depth)
      else {
        // Protobuf would merge the two; no encoder of Kubernetes writes a field twice.
        if (seen.has(number)) throw badRequest(`proto: the field "${this.path.join('.')}" appears twice`)
        seen.add(number)
        if (field.embedded && typeof field.type === 'object') {
          expectWireType(wireType, WireType.LengthDelimited, field.name)
          this.message(field.type, reader.bytes(), into, depth)
        } else {
          const value = this.value(field.type, reader, wireType, depth)
          if (value !== undefined && (field.keepsZero || !isZero(value))) into[field.name] = value
        }
      }
      this.path.pop()
    }
  }

  private item(field: Field, reader: BinaryReader, wireType: WireType, into: Json, depth: number): void {
    const list = (into[field.name] ??= []) as JsonValue[]
    const numeric = field.type === 'int32' || field.type === 'int64' || field.type === 'bool'
    if (numeric && wireType === WireType.LengthDelimited) {
      const packed = new BinaryReader(reader.bytes())
      while (packed.pos < packed.len) {
        this.count()
        list.push(this.value(field.type, packed, WireType.Varint, depth) ?? null)
      }
      return
    }
    this.path.push(String(list.length))
    list.push(this.value(field.type, reader, wireType, depth) ?? null)
    this.path.pop()
  }

  private mapEntry(field: Field, reader: BinaryReader, wireType: WireType, into: Json, depth: number): void {
    expectWireType(wireType, WireType.LengthDelimited, field.name)
    const map = (into[field.name] ??= {}) as Json
    const entry = new BinaryReader(reader.bytes())
    let key = ''
    let value: JsonValue | undefined
    while (entry.pos < entry.len) {
      const [number, entryWireType] = entry.tag()
      if (number === 1) {
        expectWireType(entryWireType, WireType.LengthDelimited, field.name)
        key = entry.string(true)
      } else if (number === 2) value = this.value(field.type, entry, entryWireType, depth)
      else skip(entry, entryWireType)
    }
    if (key === '__proto__') throw badRequest('the field name "__proto__" is not accepted')
    map[key] = value ?? zeroOf(field.type)
  }

  /** undefined is a zero time, which JSON writes as null. */
  private value(
    type: Leaf | Message,
    reader: BinaryReader,
    wireType: WireType,
    depth: number,
  ): JsonValue | undefined {
    switch (type) {
      case 'bool':
        expectWireType(wireType, WireType.Varint, this.path.join('.'))
        return reader.bool()
      case 'int32':
        expectWireType(wireType, WireType.Varint, this.path.join('.'))
        return reader.int32()
      case 'int64':
        expectWireType(wireType, WireType.Varint, this.path.join('.'))
        return this.integer(reader.int64())
      default:
    }
    expectWireType(wireType, WireType.LengthDelimited, this.path.join('.'))
    switch (type) {
      case 'string':
        return reader.string(true)
      case 'bytes':
        return Buffer.from(reader.bytes()).toString('base64')
      case 'time':
      case 'microTime':
        return this.time(reader.bytes(), type === 'microTime')
      case 'quantity':
        return this.single(reader.bytes(), (r) => r.string(true)) ?? '0'
      case 'intOrString':
        return this.intOrString(reader.bytes())
      case 'strings':
        return this.strings(reader.bytes())
      case 'json': {
        const raw = this.single(reader.bytes(), (r) => r.bytes())
        if (raw === undefined || raw.length === 0) return undefined
        return parseJson(raw, { ...this.limits, valuesMax: this.limits.valuesMax - this.values }).value
      }
      default: {
        const value: Json = {}
        this.message(type, reader.bytes(), value, depth + 1)
        return value
      }
    }
  }

  /** The field 1 of a message that has no other. */
  private single<T>(bytes: Uint8Array, read: (reader: BinaryReader) => T): T | undefined {
    const reader = new BinaryReader(bytes)
    let value: T | undefined
    while (reader.pos < reader.len) {
      const [number, wireType] = reader.tag()
      if (number === 1 && wireType === WireType.LengthDelimited) value = read(reader)
      else {
        this.noteUnknown(number)
        skip(reader, wireType)
      }
    }
    return value
  }

  private strings(bytes: Uint8Array): JsonValue[] {
    const reader = new BinaryReader(bytes)
    const items: string[] = []
    while (reader.pos < reader.len) {
      const [number, wireType] = reader.tag()
      if (number !== 1) {
        this.noteUnknown(number)
        skip(reader, wireType)
        continue
      }
      expectWireType(wireType, WireType.LengthDelimited, this.path.join('.'))
      this.count()
      items.push(reader.string(true))
    }
    return items
  }

  private numbers(bytes: Uint8Array): { seconds: number; nanos: number } {
    const reader = new BinaryReader(bytes)
    const numbers = { seconds: 0, nanos: 0 }
    while (reader.pos < reader.len) {
      const [number, wireType] = reader.tag()
      if (number > 2) {
        this.noteUnknown(number)
        skip(reader, wireType)
        continue
      }
      expectWireType(wireType, WireType.Varint, this.path.join('.'))
      if (number === 1) numbers.seconds = this.integer(reader.int64())
      else numbers.nanos = reader.int32()
    }
    return numbers
  }

  private time(bytes: Uint8Array, micro: boolean): string | undefined {
    const { seconds, nanos } = this.numbers(bytes)
    if ((seconds === 0 && nanos === 0) || seconds === GO_ZERO_TIME_SECONDS) return undefined
    if (seconds < GO_ZERO_TIME_SECONDS || seconds > TIME_SECONDS_MAX || nanos < 0 || nanos >= 1e9)
      throw badRequest(`proto: "${this.path.join('.')}" is not a time of the years 1 to 9999`)
    const toSeconds = new Date(seconds * 1000).toISOString().slice(0, 19)
    return micro ? `${toSeconds}.${String(Math.floor(nanos / 1000)).padStart(6, '0')}Z` : `${toSeconds}Z`
  }

  private intOrString(bytes: Uint8Array): number | string {
    const reader = new BinaryReader(bytes)
    let isString = false
    let int = 0
    let string = ''
    while (reader.pos < reader.len) {
      const [number, wireType] = reader.tag()
      const what = this.path.join('.')
      if (number === 1 || number === 2) {
        expectWireType(wireType, WireType.Varint, what)
        if (number === 1) isString = this.integer(reader.int64()) !== 0
        else int = reader.int32()
      } else if (number === 3) {
        expectWireType(wireType, WireType.LengthDelimited, what)
        string = reader.string(true)
      } else skip(reader, wireType)
    }
    return isString ? string : int
  }

  private integer(value: bigint | string): number {
    const number = Number(value)
    if (!Number.isSafeInteger(number))
      throw badRequest(
        `proto: "${this.path.join('.')}" is ${value}: whole numbers beyond ${Number.MAX_SAFE_INTEGER} are not accepted`,
      )
    return number
  }

  private count(): void {
    if (++this.values > this.limits.valuesMax)
      throw badRequest(`the request body has more than ${this.limits.valuesMax} values`)
  }

  private noteUnknown(number: number): void {
    this.count()
    if (this.unknownFields.size < this.limits.findingsMax)
      this.unknownFields.add([...this.path, `(protobuf field ${number})`].join('.'))
  }
}

/** time.Time{} of Go: the first second of the year 1. */
const GO_ZERO_TIME_SECONDS = -62_135_596_800
const TIME_SECONDS_MAX = 253_402_300_799

function expectWireType(actual: WireType, expected: WireType, what: string): void {
  if (actual !== expected) throw badRequest(`proto: wrong wireType = ${actual} for field ${what}`)
}

/** Groups, which proto3 and Kubernetes do not use, nest without a length: refused. */
function skip(reader: BinaryReader, wireType: WireType): void {
  if (wireType === WireType.StartGroup || wireType === WireType.EndGroup)
    throw badRequest(`proto: illegal wireType ${wireType}`)
  reader.skip(wireType)
}

function isZero(value: JsonValue): boolean {
  return value === '' || value === 0 || value === false
}

function zeroOf(type: Leaf | Message): JsonValue {
  switch (type) {
    case 'bool':
      return false
    case 'int32':
    case 'int64':
    case 'intOrString':
      return 0
    case 'string':
    case 'bytes':
      return ''
    case 'quantity':
      return '0'
    case 'strings':
      return []
    case 'time':
    case 'microTime':
    case 'json':
      return null
    default:
      return {}
  }
}

/**
 * Encodes an object for a client that accepts nothing but protobuf.
 * @returns undefined when the kind has no protobuf encoding. Requires: the object has passed its schema.
 */
export function encodeProtobuf(object: { apiVersion: string; kind: string }): Uint8Array | undefined {
  const { apiVersion, kind } = object
  const message = messageOf(apiVersion, kind)
  if (!message) return undefined
  const raw = encodeMessage(message, object as unknown as Json)
  const meta = new BinaryWriter().tag(1, LENGTH).string(apiVersion).tag(2, LENGTH).string(kind).finish()
  const unknown = new BinaryWriter().tag(1, LENGTH).bytes(meta).tag(2, LENGTH).bytes(raw)
  unknown.tag(3, LENGTH).string('').tag(4, LENGTH).string('')
  return Buffer.concat([MAGIC, unknown.finish()])
}

const LENGTH = WireType.LengthDelimited

function encodeMessage(message: Message, object: Json): Uint8Array {
  const writer = new BinaryWriter()
  for (const field of message.fields) {
    if (field.embedded && typeof field.type === 'object') {
      const inner = encodeMessage(field.type, object)
      if (inner.length > 0) writer.tag(field.number, LENGTH).bytes(inner)
      continue
    }
    const value = Object.hasOwn(object, field.name) ? object[field.name] : undefined
    if (value === undefined || value === null) continue
    if (field.map) {
      for (const [key, item] of Object.entries(value as Json)) {
        const entry = new BinaryWriter().tag(1, LENGTH).string(key)
        encodeValue(entry, 2, field.type, item)
        writer.tag(field.number, LENGTH).bytes(entry.finish())
      }
    } else if (field.repeated)
      for (const item of value as JsonValue[]) encodeValue(writer, field.number, field.type, item)
    else encodeValue(writer, field.number, field.type, value)
  }
  return writer.finish()
}

function encodeValue(writer: BinaryWriter, number: number, type: Leaf | Message, value: JsonValue): void {
  switch (type) {
    case 'bool':
      writer.tag(number, WireType.Varint).bool(value === true)
      return
    case 'int32':
      writer.tag(number, WireType.Varint).int32(Number(value))
      return
    case 'int64':
      writer.tag(number, WireType.Varint).int64(Number(value))
      return
    case 'string':
      writer.tag(number, LENGTH).string(String(value))
      return
    case 'bytes':
      writer.tag(number, LENGTH).bytes(Buffer.from(String(value), 'base64'))
      return
    case 'quantity':
      writer.tag(number, LENGTH).bytes(new BinaryWriter().tag(1, LENGTH).string(String(value)).finish())
      return
    case 'json':
      writer
        .tag(number, LENGTH)
        .bytes(new BinaryWriter().tag(1, LENGTH).string(JSON.stringify(value)).finish())
      return
    case 'strings': {
      const items = new BinaryWriter()
      for (const item of value as JsonValue[]) items.tag(1, LENGTH).string(String(item))
      writer.tag(number, LENGTH).bytes(items.finish())
      return
    }
    case 'intOrString': {
      const either = new BinaryWriter()
      either.tag(1, WireType.Varint).int64(typeof value === 'string' ? 1 : 0)
      either.tag(2, WireType.Varint).int32(typeof value === 'number' ? value : 0)
      either.tag(3, LENGTH).string(typeof value === 'string' ? value : '')
      writer.tag(number, LENGTH).bytes(either.finish())
      return
    }
    case 'time':
    case 'microTime': {
      const text = String(value)
      const ms = Date.parse(text)
      if (Number.isNaN(ms)) return
      // Date keeps milliseconds; a MicroTime has three digits more.
      const micros = type === 'microTime' ? Number((/\.(\d{1,6})/.exec(text)?.[1] ?? '0').padEnd(6, '0')) : 0
      const time = new BinaryWriter().tag(1, WireType.Varint).int64(Math.floor(ms / 1000))
      time.tag(2, WireType.Varint).int32(micros * 1000)
      writer.tag(number, LENGTH).bytes(time.finish())
      return
    }
    default:
      writer.tag(number, LENGTH).bytes(encodeMessage(type, value as Json))
  }
}
