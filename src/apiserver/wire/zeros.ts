import { type KubeObject } from '../../api/index.ts'
import { isRecord } from '../json.ts'
import { type Leaf, type Message, messageOf } from './protobuf-messages.ts'

/** Every kind's metadata is this one's, and those of custom kinds are in no table. */
const ANY_KIND = messageOf('v1', 'ConfigMap')

/** Whose zero is JSON's absence where Go has no pointer. */
const SCALARS: readonly (Leaf | Message)[] = ['string', 'bytes', 'bool', 'int32', 'int64', 'double']

/**
 * Takes away what says nothing, as upstream's types do: empty lists and maps, and zeros where they mean that nothing was
 * written. A client in Go reads and writes an object back without them; if they were kept, that would be a change, and of
 * a pod's template the start of new pods. What a custom kind's own schema describes stays as it was written.
 * Requires: the object has passed its schema, and nobody else has it. Changes it.
 */
export function dropZeros(object: KubeObject): void {
  const message = messageOf(object.apiVersion, object.kind)
  if (message) return dropIn(message, object)
  const metadata = ANY_KIND?.fields.find(({ name }) => name === 'metadata')?.type
  if (typeof metadata === 'object') dropIn(metadata, object.metadata)
}

function dropIn(message: Message, value: unknown): void {
  if (Array.isArray(value)) for (const item of value) dropIn(message, item)
  if (!isRecord(value)) return
  if (message.either) {
    // In JSON there is nothing around one of two, of which an object can be only the message.
    const inner = message.fields.find(({ type }) => typeof type === 'object')?.type
    if (typeof inner === 'object') dropIn(inner, value)
    return
  }
  for (const { name, type, map, repeated, embedded, keepsZero } of message.fields) {
    if (embedded && typeof type === 'object') {
      dropIn(type, value)
      continue
    }
    const given = value[name]
    if (given === undefined || given === null) continue
    if (isNothing(given, map || repeated, type)) {
      if (!keepsZero) delete value[name]
    } else if (typeof type === 'object') {
      if (map && isRecord(given)) for (const one of Object.values(given)) dropIn(type, one)
      else dropIn(type, given)
    }
  }
}

function isNothing(value: unknown, many: boolean, type: Leaf | Message): boolean {
  if (many)
    return Array.isArray(value) ? value.length === 0 : isRecord(value) && Object.keys(value).length === 0
  return SCALARS.includes(type) && (value === '' || value === 0 || value === false)
}
