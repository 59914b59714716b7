import { createRequire } from 'node:module'
import { setFlagsFromString } from 'node:v8'
import { BundleRefused, type UnpackedBundle } from './bundle.ts'
import { ENTRYPOINTS_MAX, MEMORY_PAGES_MAX, TABLE_ENTRIES_MAX } from './limits.ts'

// What the package describes as a module and what it exports as one differ.
const opa = createRequire(import.meta.url)(
  '@open-policy-agent/opa-wasm',
) as typeof import('@open-policy-agent/opa-wasm')

// A module could bring a memory or a table of its own, which no limit of ours would bind.
setFlagsFromString(`--wasm-max-mem-pages=${MEMORY_PAGES_MAX}`)
setFlagsFromString(`--wasm-max-table-size=${TABLE_ENTRIES_MAX}`)

/** Everything that OPA's modules ask their host for. */
const IMPORTS: Readonly<Record<string, WebAssembly.ImportExportKind>> = {
  memory: 'memory',
  opa_abort: 'function',
  opa_println: 'function',
  opa_builtin0: 'function',
  opa_builtin1: 'function',
  opa_builtin2: 'function',
  opa_builtin3: 'function',
  opa_builtin4: 'function',
}
const ABI = { major: 1, minor: 2 }
/** As OPA's modules ask for; they let it grow. */
const PAGES_INITIAL = 8
/**
 * Functions of Rego that a module leaves to its host and that only compute. Network, clocks, randomness, environment and
 * signatures are not among them: the same object is judged alike today and tomorrow.
 */
const FUNCTIONS: readonly string[] = [
  'sprintf',
  'json.is_valid',
  'regex.split',
  'yaml.is_valid',
  'yaml.marshal',
  'yaml.unmarshal',
]

/** A compiled policy. Every question gets an instance and a memory that nobody used before. */
export class PolicyModule {
  private readonly module: WebAssembly.Module
  private readonly data: object
  readonly entrypoint: string

  /** @throws {BundleRefused} */
  constructor({ wasm, data }: UnpackedBundle, entrypoint: string | undefined) {
    this.data = data as object // parseBundle lets nothing else through
    try {
      this.module = new WebAssembly.Module(wasm)
    } catch (cause) {
      throw new BundleRefused('its policy.wasm is no WebAssembly that can be compiled', { cause })
    }
    for (const { module, name, kind } of WebAssembly.Module.imports(this.module))
      if (module !== 'env' || !Object.hasOwn(IMPORTS, name) || IMPORTS[name] !== kind)
        throw new BundleRefused(
          `its policy.wasm wants the ${kind} ${JSON.stringify(`${module}.${name}`.slice(0, 100))} of its host, which OPA’s modules do not`,
        )
    const { builtins, entrypoints } = this.look()
    const missing = builtins.filter((name) => !FUNCTIONS.includes(name)).sort()
    if (missing.length > 0)
      throw new BundleRefused(
        `it calls ${missing
          .slice(0, 10)
          .map((name) => JSON.stringify(name.slice(0, 100)))
          .join(', ')}, which policies cannot use here`,
      )
    this.entrypoint = chosen(entrypoint, entrypoints)
  }

  /** The value of the entrypoint for an input, or undefined when it has none. Throws what the module throws. */
  evaluate(input: unknown): unknown {
    const policy = this.instance()
    policy.setData(this.data)
    const results: unknown = policy.evaluate(input, this.entrypoint)
    if (!Array.isArray(results) || results.length > 1) throw new Error('the answer is no result set')
    const [first] = results as readonly unknown[]
    return (first as { result?: unknown } | undefined)?.result
  }

  private instance() {
    return opa.loadPolicySync(this.module, { initial: PAGES_INITIAL, maximum: MEMORY_PAGES_MAX })
  }

  private look(): { builtins: string[]; entrypoints: string[] } {
    const memory = new WebAssembly.Memory({ initial: PAGES_INITIAL, maximum: MEMORY_PAGES_MAX })
    const unexpected = () => {
      throw new Error('called while it was only looked at')
    }
    try {
      const env = Object.fromEntries(
        Object.entries(IMPORTS).map(([name, kind]) => [name, kind === 'memory' ? memory : unexpected]),
      )
      const { exports } = new WebAssembly.Instance(this.module, { env })
      const version = [exports['opa_wasm_abi_version'], exports['opa_wasm_abi_minor_version']].map((global) =>
        global instanceof WebAssembly.Global ? Number(global.value) : Number.NaN,
      )
      if (version[0] !== ABI.major || !((version[1] ?? 0) >= ABI.minor))
        throw new BundleRefused(
          `its policy.wasm has ${version.some(Number.isNaN) ? 'no version' : `version ${version.join('.')}`} of OPA’s interface, and ${ABI.major}.${ABI.minor} or a later ${ABI.major}.x is needed`,
        )
      const namesAt = (name: string): string[] => {
        const call = (of: string, ...args: number[]) =>
          (exports[of] as (...args: number[]) => number)(...args)
        return Object.keys(readJson(memory, call('opa_json_dump', call(name))))
      }
      return { builtins: namesAt('builtins'), entrypoints: namesAt('entrypoints') }
    } catch (cause) {
      if (cause instanceof BundleRefused) throw cause
      const why = cause instanceof Error ? cause.message.slice(0, 200) : 'it failed'
      throw new BundleRefused(`its policy.wasm is no module of OPA: ${why}`, { cause })
    }
  }
}

function chosen(wanted: string | undefined, entrypoints: readonly string[]): string {
  const [first, second] = entrypoints
  if (first === undefined || entrypoints.length > ENTRYPOINTS_MAX)
    throw new BundleRefused(`it has ${entrypoints.length} entrypoints instead of 1 to ${ENTRYPOINTS_MAX}`)
  const known = entrypoints
    .slice(0, 10)
    .map((name) => JSON.stringify(name.slice(0, 100)))
    .join(', ')
  if (wanted === undefined) {
    if (second !== undefined) throw new BundleRefused(`it has several entrypoints; name one of ${known}`)
    return first
  }
  if (!entrypoints.includes(wanted))
    throw new BundleRefused(`it has no entrypoint ${JSON.stringify(wanted)}, only ${known}`)
  return wanted
}

/** @throws when there is no text of JSON at the address. */
function readJson(memory: WebAssembly.Memory, address: number): object {
  const bytes = new Uint8Array(memory.buffer)
  const end = bytes.indexOf(0, address >>> 0)
  if (end < 0) throw new Error('it points outside of its memory')
  const value: unknown = JSON.parse(new TextDecoder().decode(bytes.subarray(address >>> 0, end)))
  if (typeof value !== 'object' || value === null) throw new Error('a list of names is no object')
  return value
}
