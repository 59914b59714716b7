import type { JsonValue } from '../../api/index.ts'
import { cloneJson, isRecord } from '../json.ts'

/** Applies an RFC 7386 merge patch and returns a new document: null deletes, objects merge, the rest replaces. */
export function applyMergePatch(document: JsonValue | undefined, patch: JsonValue): JsonValue {
  if (!isRecord(patch)) return cloneJson(patch)
  const merged: { [key: string]: JsonValue } = {}
  if (isRecord(document)) {
    for (const [key, value] of Object.entries(document))
      if (!Object.hasOwn(patch, key)) merged[key] = cloneJson(value)
  }
  const before = isRecord(document) ? document : {}
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) continue
    merged[key] = applyMergePatch(Object.hasOwn(before, key) ? before[key] : undefined, value)
  }
  return merged
}
