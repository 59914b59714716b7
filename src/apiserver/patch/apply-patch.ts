import { ApiError, type JsonValue, type KubeObject, type ObjectSchema } from '../../api/index.ts'
import { applyJsonPatch } from './json-patch.ts'
import { applyMergePatch } from './merge-patch.ts'
import { applyStrategicMergePatch } from './strategic-merge.ts'

export const PATCH_TYPES = {
  json: 'application/json-patch+json',
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  apply: 'application/apply-patch+yaml',
} as const
export type PatchType = keyof typeof PATCH_TYPES

/** @throws {ApiError} UnsupportedMediaType. `supported` is what the kind offers: all of them unless it says otherwise. */
export function parsePatchType(
  mediaType: string | undefined,
  supported: readonly PatchType[] = ['json', 'merge', 'strategic', 'apply'],
): PatchType {
  const type = supported.find((name) => PATCH_TYPES[name] === mediaType)
  if (type) return type
  throw new ApiError(
    'UnsupportedMediaType',
    'the body of the request was in an unknown format - accepted media types include: ' +
      supported.map((name) => PATCH_TYPES[name]).join(', '),
  )
}

/**
 * Applies a patch that is not an apply patch and returns a new object, which must pass everything an update must pass:
 * nothing about it has been checked.
 * @throws {ApiError} BadRequest, Invalid, RequestEntityTooLarge
 */
export function applyPatch(
  patchType: Exclude<PatchType, 'apply'>,
  { live, patch, schema }: { live: KubeObject; patch: JsonValue; schema: ObjectSchema },
): JsonValue {
  // Objects are JSON; only their type says less.
  const document = live as unknown as JsonValue
  switch (patchType) {
    case 'json':
      return applyJsonPatch(document, patch)
    case 'merge':
      return applyMergePatch(document, patch)
    case 'strategic':
      return applyStrategicMergePatch(document, patch, schema)
    default:
      patchType satisfies never
      throw new Error('An unknown patch type')
  }
}
