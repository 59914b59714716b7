import { ApiError, type JsonValue, badRequest } from '../../api/index.ts'
import { cloneJson, equalJson, isRecord } from '../json.ts'
import { BODY_DEPTH_MAX } from '../wire/limits.ts'
import { checkJson } from '../wire/strict-json.ts'
import {
  JSON_PATCH_COPY_BYTES_MAX,
  JSON_PATCH_OPERATIONS_MAX,
  JSON_PATCH_WORK_MAX,
  JSON_POINTER_SEGMENTS_MAX,
} from './limits.ts'

type Operation =
  | { op: 'add' | 'replace' | 'test'; path: string[]; value: JsonValue }
  | { op: 'remove'; path: string[] }
  | { op: 'move' | 'copy'; path: string[]; from: string[] }

/**
 * Applies an RFC 6902 patch to a copy of `document`.
 * @throws {ApiError} BadRequest for what is not a list of objects; Invalid when one is no operation or does not fit the document;
 *   RequestEntityTooLarge for too many operations or too large copies.
 */
export function applyJsonPatch(document: JsonValue, patch: JsonValue): JsonValue {
  const operations = parseOperations(patch)
  const run = new Run(cloneJson(document))
  for (const [index, operation] of operations.entries()) {
    try {
      run.apply(operation)
    } catch (error) {
      if (!(error instanceof DoesNotFit)) throw error
      throw refused(`operation ${index} of the JSON patch: ${error.message}`)
    }
  }
  // Copies and moves can nest a document deeper than any body may be.
  checkJson(run.document)
  return run.document
}

function refused(message: string): ApiError {
  return new ApiError('Invalid', 'the server rejected our request due to an error in our request', {
    details: { causes: [{ message }] },
  })
}

function parseOperations(patch: JsonValue): Operation[] {
  if (!Array.isArray(patch)) throw badRequest('error decoding patch: a JSON patch is a list of operations')
  if (patch.length > JSON_PATCH_OPERATIONS_MAX)
    throw new ApiError(
      'RequestEntityTooLarge',
      `The allowed maximum operations in a JSON patch is ${JSON_PATCH_OPERATIONS_MAX}, got ${patch.length}`,
    )
  return patch.map((operation, index) => {
    if (!isRecord(operation))
      throw badRequest(`error decoding patch: operation ${index} of the JSON patch is not an object`)
    // Upstream finds these only when it carries the operation out.
    const bad = (what: string) => refused(`operation ${index} of the JSON patch ${what}`)
    const { op, path, from } = operation
    if (typeof path !== 'string') throw bad('has no path')
    const pointer = parsePointer(path)
    if (!pointer) throw bad(`has the path ${JSON.stringify(path.slice(0, 256))}, which is not a JSON pointer`)
    switch (op) {
      case 'add':
      case 'replace':
      case 'test':
        if (operation['value'] === undefined) {
          if (op === 'test') return { op, path: pointer, value: null }
          throw bad('has no value')
        }
        return { op, path: pointer, value: operation['value'] }
      case 'remove':
        return { op, path: pointer }
      case 'move':
      case 'copy': {
        const source = typeof from === 'string' ? parsePointer(from) : undefined
        if (!source) throw bad('has no valid "from"')
        return { op, path: pointer, from: source }
      }
      default:
        throw bad(`has the unknown op ${JSON.stringify(op)?.slice(0, 64)}`)
    }
  })
}

/** The segments of an RFC 6901 pointer, or undefined when it is none or would reach a prototype. */
function parsePointer(text: string): string[] | undefined {
  if (text === '') return []
  if (!text.startsWith('/')) return undefined
  const segments = text.slice(1).split('/')
  if (segments.length > JSON_POINTER_SEGMENTS_MAX || segments.some((s) => /~(?![01])/.test(s)))
    return undefined
  const names = segments.map((s) => s.replaceAll('~1', '/').replaceAll('~0', '~'))
  return names.includes('__proto__') ? undefined : names
}

class DoesNotFit extends Error {}

class Run {
  document: JsonValue
  private copiedBytes = 0
  private work = 0

  constructor(document: JsonValue) {
    this.document = document
  }

  apply(operation: Operation): void {
    switch (operation.op) {
      case 'add':
        return this.add(operation.path, cloneJson(operation.value))
      case 'replace':
        // As upstream's library: a field that is not there is added.
        if (!this.hasParent(operation.path)) this.get(operation.path)
        return this.set(operation.path, cloneJson(operation.value))
      case 'remove':
        return void this.remove(operation.path)
      case 'test':
        return this.test(operation.path, operation.value)
      case 'copy':
        return this.add(operation.path, this.copy(operation.from))
      case 'move': {
        const { path, from } = operation
        if (from.length < path.length && from.every((segment, at) => path[at] === segment))
          throw new DoesNotFit('a value cannot be moved into itself')
        const moved = this.remove(from)
        this.spend(valuesOf(moved))
        return this.add(path, moved)
      }
      default:
        operation satisfies never
    }
  }

  private get(path: readonly string[]): JsonValue {
    let value = this.document
    for (const [at, segment] of path.entries()) {
      const next = Array.isArray(value) ? value[index(segment, value.length - 1)] : member(value, segment)
      if (next === undefined) throw missing(path.slice(0, at + 1))
      value = next
    }
    return value
  }

  /** True for a field of an object that is there, whether the field is or not. */
  private hasParent(path: readonly string[]): boolean {
    return path.length > 0 && isRecord(this.get(path.slice(0, -1)))
  }

  private set(path: readonly string[], value: JsonValue): void {
    const last = path.at(-1)
    if (last === undefined) {
      this.document = value
      return
    }
    const parent = this.get(path.slice(0, -1))
    if (Array.isArray(parent)) parent[index(last, parent.length - 1)] = value
    else if (isRecord(parent)) parent[last] = value
    else throw missing(path)
  }

  private add(path: readonly string[], value: JsonValue): void {
    const last = path.at(-1)
    const parent = last === undefined ? undefined : this.get(path.slice(0, -1))
    if (!Array.isArray(parent) || last === undefined) return this.set(path, value)
    const at = last === '-' ? parent.length : index(last, parent.length)
    this.spend(parent.length - at)
    parent.splice(at, 0, value)
  }

  private remove(path: readonly string[]): JsonValue {
    const last = path.at(-1)
    if (last === undefined) throw new DoesNotFit('the whole document cannot be removed')
    const removed = this.get(path)
    const parent = this.get(path.slice(0, -1))
    if (Array.isArray(parent)) {
      this.spend(parent.length)
      parent.splice(index(last, parent.length - 1), 1)
    } else if (isRecord(parent)) delete parent[last]
    return removed
  }

  private test(path: readonly string[], expected: JsonValue): void {
    let actual: JsonValue | undefined
    try {
      actual = this.get(path)
    } catch (error) {
      // Testing for null is how a patch says that a field must be absent.
      if (!(error instanceof DoesNotFit) || expected !== null || !this.hasParent(path)) throw error
      actual = null
    }
    this.spend(JSON.stringify(expected).length)
    if (!equalJson(actual, expected)) throw new DoesNotFit(`testing path ${pointer(path)} failed`)
  }

  private copy(from: readonly string[]): JsonValue {
    // As upstream's library: what is not there is copied as null.
    const isAbsent =
      this.hasParent(from) && member(this.get(from.slice(0, -1)), from.at(-1) ?? '') === undefined
    const source = isAbsent ? null : this.get(from)
    this.spend(valuesOf(source))
    const bytes = JSON.stringify(source).length
    this.spend(bytes)
    this.copiedBytes += bytes
    if (this.copiedBytes > JSON_PATCH_COPY_BYTES_MAX)
      throw new ApiError(
        'RequestEntityTooLarge',
        `Unable to complete the copy, the accumulated size increase of copy is ${this.copiedBytes}, ` +
          `exceeding the limit ${JSON_PATCH_COPY_BYTES_MAX}`,
      )
    return cloneJson(source)
  }

  private spend(work: number): void {
    this.work += work
    if (this.work > JSON_PATCH_WORK_MAX)
      throw new ApiError(
        'RequestEntityTooLarge',
        'The JSON patch takes too much work: send the whole object instead',
      )
  }
}

/** How many values there are in `value`. Each copy can nest by another level, and reading it is recursive. */
function valuesOf(value: JsonValue, depth = 0): number {
  if (typeof value !== 'object' || value === null) return 1
  if (depth >= BODY_DEPTH_MAX)
    throw new DoesNotFit(`the document becomes deeper than ${BODY_DEPTH_MAX} levels`)
  let values = 1
  for (const item of Object.values(value)) values += valuesOf(item, depth + 1)
  return values
}

function member(value: JsonValue, key: string): JsonValue | undefined {
  return isRecord(value) && Object.hasOwn(value, key) ? value[key] : undefined
}

function index(segment: string, maximum: number): number {
  const at = /^(0|[1-9]\d{0,8})$/.test(segment) ? Number(segment) : -1
  if (at < 0 || at > maximum) throw new DoesNotFit(`there is no item "${segment.slice(0, 64)}" in a list`)
  return at
}

function missing(path: readonly string[]): DoesNotFit {
  return new DoesNotFit(`the document has nothing at ${pointer(path)}`)
}

function pointer(path: readonly string[]): string {
  return `"${path
    .map((s) => `/${s.replaceAll('~', '~0').replaceAll('/', '~1')}`)
    .join('')
    .slice(0, 512)}"`
}
