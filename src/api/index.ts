// The vocabulary: kinds, their schemas, refused fields with reasons, defaults, and the words of a Status.
export * from './meta.ts'
export * from './status.ts'
export * from './schema.ts'
export * from './kind.ts'
export * from './versions.ts'
export * from './names.ts'
export * from './image-reference.ts'
export * from './user-info.ts'
export * from './layout.ts'
export * from './api-service.ts'
export * from './ip-block.ts'
export * from './bandwidth.ts'
export * from './egress.ts'
export * from './ingress.ts'
export * from './quantity.ts'
export * from './selectors.ts'
export * from './kinds/index.ts'
export {
  POLICY_EXPRESSION_CHARS_MAX,
  POLICY_MESSAGE_CHARS_MAX,
  SELECTOR_REQUIREMENTS_MAX,
  SELECTOR_VALUES_MAX,
} from './limits.ts'
export * from './refused-fields.ts'
export * from './validation.ts'
export * from './defaults.ts'
export { type CheckRules, defineCustomKinds } from './custom/define-custom-kind.ts'
export { estimateInstructions } from './custom/patterns.ts'
export { findByPath, parseFieldPath, valueAt } from './custom/json-path.ts'
export type { JsonSchema, ValidationRule } from './custom/json-schema.ts'
