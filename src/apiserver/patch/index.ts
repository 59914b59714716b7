// What a patch makes of an object, and who owns its fields afterwards. Nothing here checks the result.
export { PATCH_TYPES, type PatchType, applyPatch, parsePatchType } from './apply-patch.ts'
export { type WriteOrigin, trackUpdate } from './managed-fields.ts'
export { type ApplyOrigin, serverSideApply } from './server-side-apply.ts'
export { configurationProblem } from './typed-configuration.ts'
