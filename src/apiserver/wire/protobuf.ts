import { BinaryReader, WireType } from '@bufbuild/protobuf/wire'
import { ApiError, type JsonValue, badRequest } from '../../api/index.ts'
import { WIRE_LIMITS, type WireLimits } from './limits.ts'
import { type Field, type Json, type Leaf, MAGIC, type Message, messageOf } from './protobuf-messages.ts'
import { parseJson } from './strict-json.ts'

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
        this.passOver(reader, bytes, number, wireType)
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
          // Go never leaves a struct away, also one that is a number or a boolean in JSON.
          const kept = field.keepsZero || typeof field.type === 'object' || field.type === 'intOrString'
          if (value !== undefined && (kept || !isZero(value))) into[field.name] = value
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
      case 'double': {
        expectWireType(wireType, WireType.Bit64, this.path.join('.'))
        const number = reader.double()
        if (!Number.isFinite(number)) throw badRequest(`proto: "${this.path.join('.')}" is not a number`)
        return number
      }
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
        return type.either ? eitherOf(value) : value
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
        this.passOver(reader, bytes, number, wireType)
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
        this.passOver(reader, bytes, number, wireType)
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
        this.passOver(reader, bytes, number, wireType)
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

  /** A field that is not known. Empty ones are not reported: older clients write fields that have gone, unset. */
  private passOver(reader: BinaryReader, bytes: Uint8Array, number: number, wireType: WireType): void {
    this.count()
    const start = reader.pos
    skip(reader, wireType)
    const isEmpty = reader.pos === start + 1 && bytes[start] === 0
    if (isEmpty) return
    if (this.unknownFields.size < this.limits.findingsMax)
      this.unknownFields.add([...this.path, `(protobuf field ${number})`].join('.'))
  }
}

/** What JSON says of a message that holds a schema or something else. */
function eitherOf({ schema, jSONSchemas, property, allows }: Json): JsonValue {
  return schema ?? jSONSchemas ?? property ?? allows ?? false
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
    case 'double':
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
