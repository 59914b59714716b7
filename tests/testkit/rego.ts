import { gzipSync } from 'node:zlib'
import { packTar } from 'modern-tar'

/**
 * Bundles as `opa build -t wasm` makes them, without OPA: its compiler is not to be had here as a package. The modules speak OPA’s
 * interface (ABI 1.2) and keep values as text; what they decide is one question to the input’s bytes, or what a test makes them do.
 */

type Bytes = readonly number[]

const I32 = 0x7f
const FUNCTION = 0x60
const CALLABLE = 0
const MEMORY = 2
const GLOBAL = 3
/** Where texts begin in the module’s memory, and where what it allocates does. */
const TEXTS_AT = 1_024
const HEAP_AT = 256 * 1_024

function unsigned(value: number): number[] {
  const bytes: number[] = []
  let rest = value
  do {
    const low = rest & 0x7f
    rest >>>= 7
    bytes.push(rest === 0 ? low : low | 0x80)
  } while (rest !== 0)
  return bytes
}

function signed(value: number): number[] {
  const bytes: number[] = []
  let rest = value | 0
  for (;;) {
    const low = rest & 0x7f
    rest >>= 7
    const done = (rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0)
    bytes.push(done ? low : low | 0x80)
    if (done) return bytes
  }
}

const text = (value: string): number[] => {
  const bytes = [...Buffer.from(value)]
  return [...unsigned(bytes.length), ...bytes]
}
const vector = (items: readonly Bytes[]): number[] => [...unsigned(items.length), ...items.flat()]
const section = (id: number, content: Bytes): number[] => [id, ...unsigned(content.length), ...content]

/** Instructions, as far as the modules here need them. */
export const op = {
  const: (value: number): number[] => [0x41, ...signed(value)],
  get: (local: number): number[] => [0x20, local],
  set: (local: number): number[] => [0x21, local],
  call: (index: number): number[] => [0x10, ...unsigned(index)],
  unreachable: [0x00],
  return: [0x0f],
  drop: [0x1a],
  forever: [0x03, 0x40, 0x0c, 0, 0x0b],
  grow: [0x40, 0],
} as const

export type Answers = {
  entrypoints?: readonly string[]
  /** Functions of Rego that the module says it calls. */
  builtins?: readonly string[]
  /** What the module does to answer; ends with an address of text on the stack. */
  evaluate?: Bytes
  /** What it does when it is only loaded. */
  start?: Bytes
  abi?: readonly [number, number]
  /** Functions that it wants from its host. */
  wants?: readonly { module: string; name: string }[]
  /** A memory, or a table, that it brings along: how large at first. */
  ownMemoryPages?: number
  ownTableEntries?: number
  /** Texts at addresses that `evaluate` may return. */
  texts?: readonly string[]
}

/** Addresses of `texts`, in order; they begin after what every module has. */
export function addressesOf(answers: Answers): number[] {
  return layOut(answers).addresses.slice(2)
}

function layOut({ entrypoints = ['test/deny'], builtins = [], texts = [] }: Answers) {
  const named = (names: readonly string[]) =>
    JSON.stringify(Object.fromEntries(names.map((name, index) => [name, index])))
  const all = [named(entrypoints), named(builtins), ...texts]
  const addresses: number[] = []
  const memory: number[] = []
  for (const one of all) {
    addresses.push(TEXTS_AT + memory.length)
    memory.push(...Buffer.from(one), 0)
  }
  return { addresses, memory }
}

/** A module of OPA’s shape. */
export function assemble(answers: Answers): Uint8Array {
  const { abi = [1, 2], wants = [], evaluate = op.unreachable, start } = answers
  const { addresses, memory } = layOut(answers)
  const [entrypoints = 0, builtins = 0] = addresses
  const types = [
    [FUNCTION, 0, 1, I32],
    [FUNCTION, 1, I32, 1, I32],
    [FUNCTION, 2, I32, I32, 1, I32],
    [FUNCTION, 7, I32, I32, I32, I32, I32, I32, I32, 1, I32],
    [FUNCTION, 1, I32, 0],
    [FUNCTION, 0, 0],
  ]
  const heap = 0
  const functions: { name?: string; type: number; locals?: number; body: Bytes }[] = [
    { name: 'entrypoints', type: 0, body: op.const(entrypoints) },
    { name: 'builtins', type: 0, body: op.const(builtins) },
    { name: 'opa_json_dump', type: 1, body: op.get(0) },
    { name: 'opa_json_parse', type: 2, body: op.get(0) },
    // Gives what is free and moves the boundary by as much as was asked for.
    { name: 'opa_malloc', type: 1, body: [0x23, heap, 0x23, heap, ...op.get(0), 0x6a, 0x24, heap] },
    { name: 'opa_heap_ptr_get', type: 0, body: [0x23, heap] },
    { name: 'opa_heap_ptr_set', type: 4, body: [...op.get(0), 0x24, heap] },
    { name: 'opa_eval', type: 3, locals: 2, body: evaluate },
    ...(start ? [{ type: 5, body: start }] : []),
  ]
  const global = (mutable: number, value: number) => [I32, mutable, ...op.const(value), 0x0b]
  const code = ({ locals = 0, body }: (typeof functions)[number]) => {
    const whole = [...(locals > 0 ? [1, ...unsigned(locals), I32] : [0]), ...body, 0x0b]
    return [...unsigned(whole.length), ...whole]
  }
  const own = answers.ownMemoryPages
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, vector(types)),
    ...section(
      2,
      vector([
        ...(own === undefined ? [[...text('env'), ...text('memory'), MEMORY, 0, 2]] : []),
        ...wants.map(({ module, name }) => [...text(module), ...text(name), CALLABLE, 1]),
      ]),
    ),
    ...section(3, vector(functions.map(({ type }) => [type]))),
    ...(answers.ownTableEntries === undefined
      ? []
      : section(4, vector([[0x70, 0, ...unsigned(answers.ownTableEntries)]]))),
    ...(own === undefined ? [] : section(5, vector([[0, ...unsigned(own)]]))),
    ...section(6, vector([global(1, HEAP_AT), global(0, abi[0]), global(0, abi[1])])),
    ...section(
      7,
      vector([
        ...functions.flatMap(({ name }, index) =>
          name === undefined ? [] : [[...text(name), CALLABLE, ...unsigned(wants.length + index)]],
        ),
        [...text('opa_wasm_abi_version'), GLOBAL, 1],
        [...text('opa_wasm_abi_minor_version'), GLOBAL, 2],
      ]),
    ),
    ...(start ? section(8, unsigned(wants.length + functions.length - 1)) : []),
    ...section(10, vector(functions.map(code))),
    ...section(11, vector([[0, ...op.const(TEXTS_AT), 0x0b, ...unsigned(memory.length), ...memory]])),
  ])
}

/**
 * A module that denies, with a message, whatever has certain text in its input; `deny` may be any value. `found` is done before
 * that.
 */
export function denyIfInputHas(
  needle: string,
  deny: unknown,
  { found = [], ...options }: Answers & { found?: Bytes } = {},
): Uint8Array {
  const texts = [
    needle,
    JSON.stringify([{ result: [] }]),
    JSON.stringify([{ result: typeof deny === 'string' ? [deny] : deny }]),
  ]
  const [needleAt = 0, allowed = 0, denied = 0] = addressesOf({ ...options, texts })
  const length = Buffer.byteLength(needle)
  const [input, inputLength, i, j] = [3, 4, 7, 8]
  const evaluate = [
    ...[0x02, 0x40, 0x03, 0x40],
    ...[...op.get(i), ...op.const(length), 0x6a, ...op.get(inputLength), 0x4b],
    ...[0x04, 0x40, ...op.const(allowed), ...op.return, 0x0b],
    ...[...op.const(0), ...op.set(j), 0x02, 0x40, 0x03, 0x40],
    ...[...op.get(j), ...op.const(length), 0x46, 0x0d, 3],
    ...[...op.get(input), ...op.get(i), 0x6a, ...op.get(j), 0x6a, 0x2d, 0, 0],
    ...[...op.const(needleAt), ...op.get(j), 0x6a, 0x2d, 0, 0],
    ...[0x47, 0x0d, 1],
    ...[...op.get(j), ...op.const(1), 0x6a, ...op.set(j), 0x0c, 0, 0x0b, 0x0b],
    ...[...op.get(i), ...op.const(1), 0x6a, ...op.set(i), 0x0c, 0, 0x0b, 0x0b],
    ...found,
    ...op.const(denied),
  ]
  return assemble({ ...options, texts, evaluate })
}

/** Packs files as `opa build` does. */
export async function packBundle(files: Readonly<Record<string, Uint8Array | string>>): Promise<Uint8Array> {
  const entries = Object.entries(files).map(([name, content]) => {
    const body = typeof content === 'string' ? Buffer.from(content) : content
    return {
      header: { name, size: body.length, type: 'file' as const, mode: 0o600, mtime: new Date(0) },
      body,
    }
  })
  return gzipSync(await packTar(entries))
}

export const bundleOfModule = (wasm: Uint8Array) => packBundle({ '/data.json': '{}', '/policy.wasm': wasm })
