import {
  LineCounter,
  type ScalarTag,
  type Tags,
  isAlias,
  isMap,
  isPair,
  isScalar,
  isSeq,
  parseDocument,
} from 'yaml'
import { type JsonValue, badRequest } from '../../api/index.ts'
import { WIRE_LIMITS, type WireLimits, YAML_ALIASES_MAX, YAML_BYTES_MAX } from './limits.ts'
import { type ParsedJson, checkJson, decodeUtf8, parseJson } from './strict-json.ts'

/** Tags that make something else than JSON out of a node; what carries one stays a string or is refused. */
const TAGS_LEFT_OUT: readonly string[] = [
  'tag:yaml.org,2002:binary',
  'tag:yaml.org,2002:omap',
  'tag:yaml.org,2002:pairs',
  'tag:yaml.org,2002:set',
  'tag:yaml.org,2002:timestamp',
]

/**
 * Parses one YAML 1.1 document into the JSON it stands for, as sigs.k8s.io/yaml does. JSON is YAML, and most bodies
 * that say they are YAML are JSON, so they take that way and have its limits.
 * @throws {ApiError} BadRequest
 */
export function parseYaml(body: string | Uint8Array, limits: WireLimits = WIRE_LIMITS): ParsedJson {
  const text = typeof body === 'string' ? body : decodeUtf8(body)
  if (/^\s*\{/.test(text)) {
    try {
      JSON.parse(text)
    } catch {
      return parseRealYaml(text, limits)
    }
    return parseJson(text, limits)
  }
  return parseRealYaml(text, limits)
}

function parseRealYaml(text: string, limits: WireLimits): ParsedJson {
  if (Buffer.byteLength(text) > YAML_BYTES_MAX)
    throw badRequest(`a YAML body has at most ${YAML_BYTES_MAX} bytes: send JSON instead`)
  if (flowDepth(text) > limits.depthMax)
    throw badRequest(`the request body is nested deeper than ${limits.depthMax} levels`)
  const lines = new LineCounter()
  let value: unknown
  let duplicateFields: string[]
  try {
    const document = parseDocument(text, {
      version: '1.1',
      merge: true,
      lineCounter: lines,
      prettyErrors: false,
      // Looking for equal keys is quadratic in the library; we look ourselves below.
      uniqueKeys: false,
      customTags: (tags) => tags.flatMap(asInGo),
    })
    const problem = document.errors[0] ?? document.warnings[0]
    if (problem) {
      const { line } = lines.linePos(problem.pos[0])
      const what =
        problem.code === 'MULTIPLE_DOCS' ? 'one document is expected' : problem.message.slice(0, 200)
      throw badRequest(`error converting YAML to JSON: yaml: line ${line}: ${what}`)
    }
    duplicateFields = findDuplicates(document.contents, limits)
    value = document.toJS({ maxAliasCount: YAML_ALIASES_MAX })
  } catch (error) {
    if (error instanceof Error && error.name === 'ApiError') throw error
    const what =
      error instanceof RangeError ? 'it is nested too deeply' : error instanceof Error ? error.message : ''
    throw badRequest(`error converting YAML to JSON: yaml: ${what}`, error)
  }
  checkJson(value, limits)
  return { value: value as JsonValue, duplicateFields }
}

/** YAML 1.1 reads `y` and `n` as booleans, but Go's YAML does not, and `y:` is an ordinary key there. */
function asInGo(tag: Tags[number]): Tags[number][] {
  if (typeof tag === 'string') return [tag]
  if (TAGS_LEFT_OUT.includes(tag.tag)) return []
  if (tag.tag !== 'tag:yaml.org,2002:bool' || !('test' in tag) || !(tag.test instanceof RegExp)) return [tag]
  return [
    // The two boolean tags of the library differ from its type only in what they carry besides.
    {
      ...(tag as ScalarTag),
      test: tag.test.test('yes')
        ? /^(?:[Yy]es|YES|[Tt]rue|TRUE|[Oo]n|ON)$/
        : /^(?:[Nn]o|NO|[Ff]alse|FALSE|[Oo]ff|OFF)$/,
    },
  ]
}

/** An upper bound of the nesting of `[` and `{`, which the library reads recursively. */
function flowDepth(text: string): number {
  let depth = 0
  let deepest = 0
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === 0x5b || code === 0x7b) deepest = Math.max(deepest, ++depth)
    else if (code === 0x5d || code === 0x7d) depth = Math.max(0, depth - 1)
  }
  return deepest
}

function findDuplicates(root: unknown, limits: WireLimits): string[] {
  const found = new Set<string>()
  let aliases = 0
  const visit = (node: unknown, path: string, depth: number): void => {
    if (depth > limits.depthMax)
      throw badRequest(`the request body is nested deeper than ${limits.depthMax} levels`)
    // Each alias makes the library search the document for its anchor, so many are as bad as an alias bomb.
    if (isAlias(node) && ++aliases > YAML_ALIASES_MAX)
      throw badRequest(`a YAML body has at most ${YAML_ALIASES_MAX} aliases`)
    if (isAlias(node) || !node) return
    if (isSeq(node)) return node.items.forEach((item, index) => visit(item, `${path}[${index}]`, depth + 1))
    if (!isMap(node)) return
    const seen = new Set<string>()
    for (const pair of node.items) {
      if (!isPair(pair)) continue
      if (!isScalar(pair.key)) throw badRequest('error converting YAML to JSON: yaml: a key must be a scalar')
      const key = String(pair.key.value)
      if (key === '__proto__') throw badRequest('the field name "__proto__" is not accepted')
      const field = path ? `${path}.${key}` : key
      if (seen.has(key) && key !== '<<' && found.size < limits.findingsMax) found.add(field)
      seen.add(key)
      visit(pair.value, field, depth + 1)
    }
  }
  visit(root, '', 0)
  return [...found]
}
