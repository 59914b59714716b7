// Kubernetes' CEL for expressions and values that are a tenant's: checked when they are written, paid for while they run.
//
//   const compiled = compile('self.replicas <= 3', { variables: { self: typeOfStructuralSchema(schema) }, resultTypes: [BOOL] })
//   if (!compiled.ok) throw invalid(..., compiled.message)
//   const budget = new Budget(cost) // one for all expressions of a request
//   const answer = compiled.program.evaluate({ self: object }, { budget })
//   answer.ok ? answer.value : answer.message // answer.why tells a fault from a stopped evaluation
//
// Bindings are JSON as the API server holds it; it is read lazily, so a big object costs nothing that is not looked at.
// ints are bigints. Nothing here throws for anything a tenant can write, and nothing is kept between evaluations.
export { type BindingValues, type Compilation, compile, type Evaluation, Program } from './program.ts'
export { type DeclaredSize, declaredSizeOf, occurrencesMax } from './declared-size.ts'
export { Budget, BudgetExceeded } from './meter.ts'
export {
  AUTHORIZER,
  type AccessQuestion,
  type Authorization,
  AuthorizerValue,
  RESOURCE_CHECK,
} from './library/authorizer.ts'
export type { Problem } from './syntax.ts'
export { EVALUATION_COST_MAX, EXPRESSION_CHARS_MAX } from './limits.ts'
export {
  objectTypeOf,
  type StructuralSchema,
  typeOfSchema,
  typeOfStructuralSchema,
} from './structural-schema.ts'
export {
  BOOL,
  type CelType,
  DYN,
  INT,
  listOf,
  mapOf,
  NULL,
  optionalOf,
  renderType,
  STRING,
  TIMESTAMP,
} from './types.ts'
export {
  escapeName,
  Fault,
  ListValue,
  MapValue,
  OptionalValue,
  typeNameOf,
  type Value,
  valueOfJson,
} from './values.ts'
