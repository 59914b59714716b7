import assert from 'node:assert/strict'
import { test } from 'node:test'
import { tests as conformance } from '@bufbuild/cel-spec/testdata/conformance.js'
import { compile, type CelType, DYN } from './index.ts'
import {
  BOOL,
  BYTES,
  DOUBLE,
  DURATION,
  INT,
  listOf,
  mapOf,
  NULL,
  optionalOf,
  STRING,
  TIMESTAMP,
  UINT,
} from './types.ts'
import { Meter } from './meter.ts'
import {
  Duration,
  EntriesMap,
  equalValues,
  ListValue,
  mapKeyOf,
  OptionalValue,
  parseDuration,
  parseTimestamp,
  Timestamp,
  typeNameOf,
  TypeValue,
  Uint,
  type Value,
} from './values.ts'

type Json = { [key: string]: unknown }
type Suite = {
  name: string
  suites?: Suite[]
  tests?: { original: Json & { name?: string; expr: string } }[]
}
type Case = { path: string; original: Json & { expr: string } }

function casesOf(suite: Suite, path = ''): Case[] {
  return [
    ...(suite.tests ?? []).map(({ original }) => ({
      path: `${path}/${original.name ?? original.expr}`,
      original,
    })),
    ...(suite.suites ?? []).flatMap((inner) =>
      casesOf(inner, path === '' ? inner.name : `${path}/${inner.name}`),
    ),
  ]
}

/** Protobuf messages, proto extensions and libraries that Kubernetes does not offer have no place here. */
const NOT_OURS =
  /TestAllTypes|google\.protobuf|NestedTestAllTypes|math\.|base64\.|proto\.|cel\.block|cel\.iterVar|cel\.index|cel\.@|network/

function isOurs({ path, original }: Case): boolean {
  return (
    !NOT_OURS.test(
      JSON.stringify({ ...original, value: undefined }).replaceAll(
        /google\.protobuf\.(?:Timestamp|Duration)/g,
        '',
      ),
    ) &&
    original['container'] === undefined &&
    original['disableMacros'] !== true &&
    original['disableCheck'] !== true &&
    original['checkOnly'] !== true &&
    !/^(?:proto2|proto3|enums|block_ext|encoders_ext|math_ext|network_ext|proto2_ext|namespace|wrappers|dynamic|unknowns)\//.test(
      path,
    )
  )
}

class Unmapped extends Error {}

function valueOf(json: Json): Value {
  const [[kind, raw] = ['', undefined]] = Object.entries(json)
  switch (kind) {
    case 'nullValue':
      return null
    case 'boolValue':
      return raw as boolean
    case 'int64Value':
      return BigInt(raw as string)
    case 'uint64Value':
      return new Uint(BigInt(raw as string))
    case 'doubleValue':
      return Number(raw as string)
    case 'stringValue':
      return raw as string
    case 'bytesValue':
      return new Uint8Array(Buffer.from(raw as string, 'base64'))
    case 'listValue':
      return ListValue.of((((raw as Json)['values'] as Json[] | undefined) ?? []).map(valueOf))
    case 'mapValue': {
      const entries = (((raw as Json)['entries'] as { key: Json; value: Json }[] | undefined) ?? []).map(
        ({ key, value }) => [valueOf(key), valueOf(value)] as const,
      )
      return new EntriesMap(new Map(entries.map((entry) => [mapKeyOf(entry[0]) as string, entry])))
    }
    case 'typeValue':
      return new TypeValue(raw as string)
    case 'objectValue': {
      const { '@type': type, value } = raw as { '@type': string; value?: unknown }
      if (type.endsWith('google.protobuf.Timestamp')) return parseTimestamp(value as string) as Timestamp
      if (type.endsWith('google.protobuf.Duration')) return parseDuration(value as string) as Duration
      throw new Unmapped(type)
    }
    default:
      throw new Unmapped(kind)
  }
}

function typeOf(json: Json): CelType {
  const [[kind, raw] = ['', undefined]] = Object.entries(json)
  switch (kind) {
    case 'primitive':
      return { BOOL, INT64: INT, UINT64: UINT, DOUBLE, STRING, BYTES }[raw as 'BOOL'] ?? DYN
    case 'wellKnown':
      return { TIMESTAMP, DURATION, ANY: DYN }[raw as 'TIMESTAMP'] ?? DYN
    case 'null':
      return NULL
    case 'listType':
      return listOf(typeOf(((raw as Json)['elemType'] as Json) ?? {}))
    case 'mapType':
      return mapOf(typeOf((raw as Json)['keyType'] as Json), typeOf((raw as Json)['valueType'] as Json))
    case 'abstractType':
      return optionalOf(DYN)
    default:
      return DYN
  }
}

function failureOf({ original }: Case): string | undefined {
  const declared = (original['typeEnv'] as { name: string; ident?: { type: Json } }[] | undefined) ?? []
  const bindings = Object.entries(
    (original['bindings'] as { [name: string]: { value: Json } } | undefined) ?? {},
  )
  const variables = {
    ...Object.fromEntries(bindings.map(([name]) => [name, DYN])),
    ...Object.fromEntries(declared.map(({ name, ident }) => [name, typeOf(ident?.type ?? {})])),
  }
  const compiled = compile(original.expr, { variables })
  const wantsError = original['evalError'] !== undefined
  if (!compiled.ok) return wantsError ? undefined : compiled.message
  const values = Object.fromEntries(bindings.map(([name, { value }]) => [name, valueOf(value)]))
  const answer = compiled.program.evaluate(values)
  if (wantsError) return answer.ok ? 'no error' : undefined
  if (!answer.ok) return answer.message
  const expected = original['typedResult'] as { result?: Json } | undefined
  const wanted = valueOf((original['value'] as Json | undefined) ?? expected?.result ?? { boolValue: true })
  const got = answer.value instanceof OptionalValue ? (answer.value.value ?? null) : answer.value
  if (typeof wanted === 'number' && Number.isNaN(wanted)) return Number.isNaN(got) ? undefined : 'not NaN'
  if (typeNameOf(wanted) !== typeNameOf(got)) return `${typeNameOf(got)} instead of ${typeNameOf(wanted)}`
  return equalValues(got, wanted, new Meter()) ? undefined : `another value: ${String(got)}`
}

test('expressions mean what the specification of CEL says', () => {
  const failures: Record<string, string> = {}
  let passed = 0
  for (const one of casesOf(conformance as Suite).filter(isOurs)) {
    let failure: string | undefined
    try {
      failure = failureOf(one)
    } catch (error) {
      if (error instanceof Unmapped) continue
      throw error
    }
    if (failure === undefined) passed++
    else failures[one.path] = `${one.original.expr}  =>  ${failure}`
  }
  assert.deepEqual(failures, {})
  // So that a change of the suite's form does not empty the test.
  assert.ok(passed > 1_250, `only ${passed} cases were tried`)
})
