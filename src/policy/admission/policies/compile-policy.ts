import { type FieldError, invalidValue, type ValidatingAdmissionPolicySpec } from '../../../api/index.ts'
import {
  AUTHORIZER,
  BOOL,
  type CelType,
  compile,
  DYN,
  listOf,
  mapOf,
  NULL,
  objectTypeOf,
  type Program,
  RESOURCE_CHECK,
  STRING,
} from '../../../cel/index.ts'

/** A policy that is ready: every expression read and checked. */
export type CompiledPolicy = {
  readonly spec: ValidatingAdmissionPolicySpec
  readonly matchConditions: readonly { name: string; program: Program }[]
  readonly variables: ReadonlyMap<string, Program>
  readonly validations: readonly {
    program: Program
    expression: string
    message: string | undefined
    messageProgram: Program | undefined
    reason: string | undefined
  }[]
  readonly auditAnnotations: readonly { key: string; program: Program }[]
  /** Why it cannot be asked, when one of its expressions cannot be used any more. */
  readonly broken: string | undefined
}

/** One expression that cannot be used, at its field. */
export type ExpressionProblem = { field: string; expression: string; message: string }

/** What is known of the objects; nothing, unless a policy is checked against a kind's schema. */
export type ObjectTypes = { object: CelType; params: CelType }
const UNKNOWN: ObjectTypes = { object: DYN, params: DYN }

const gvk = objectTypeOf('kubernetes.GroupVersionKind', { group: STRING, version: STRING, kind: STRING })
const gvr = objectTypeOf('kubernetes.GroupVersionResource', {
  group: STRING,
  version: STRING,
  resource: STRING,
})
const requestType = objectTypeOf('kubernetes.AdmissionRequest', {
  kind: gvk,
  resource: gvr,
  subResource: STRING,
  requestKind: gvk,
  requestResource: gvr,
  requestSubResource: STRING,
  name: STRING,
  namespace: STRING,
  operation: STRING,
  userInfo: objectTypeOf('kubernetes.UserInfo', {
    username: STRING,
    uid: STRING,
    groups: listOf(STRING),
    extra: mapOf(STRING, listOf(STRING)),
  }),
  dryRun: { type: 'bool' },
  options: DYN,
})

export function compilePolicy(
  spec: ValidatingAdmissionPolicySpec,
  types: ObjectTypes = UNKNOWN,
): { policy: CompiledPolicy; problems: ExpressionProblem[] } {
  const problems: ExpressionProblem[] = []
  const known: Record<string, CelType> = {
    object: types.object,
    oldObject: types.object,
    request: requestType,
    namespaceObject: DYN,
    authorizer: AUTHORIZER,
    'authorizer.requestResource': RESOURCE_CHECK,
    ...(spec.paramKind ? { params: types.params } : {}),
  }
  const ready = (
    field: string,
    expression: string,
    variables: Readonly<Record<string, CelType>>,
    resultTypes?: readonly CelType[],
  ): Program | undefined => {
    const compiled = compile(expression, { variables, ...(resultTypes ? { resultTypes } : {}) })
    if (compiled.ok) return compiled.program
    problems.push({ field, expression, message: compiled.message })
    return undefined
  }
  const matchConditions = (spec.matchConditions ?? []).flatMap(({ name, expression }, index) => {
    const program = ready(`spec.matchConditions[${index}].expression`, expression, known, [BOOL])
    return program ? [{ name, program }] : []
  })
  const variables = new Map<string, Program>()
  const variableTypes: Record<string, CelType> = {}
  let all = known
  for (const [index, { name, expression }] of (spec.variables ?? []).entries()) {
    all = { ...known, variables: objectTypeOf('variables', { ...variableTypes }) }
    const program = ready(`spec.variables[${index}].expression`, expression, all)
    variableTypes[name] = program?.resultType ?? DYN
    if (program) variables.set(name, program)
  }
  all = { ...known, variables: objectTypeOf('variables', variableTypes) }
  const validations = (spec.validations ?? []).flatMap(
    ({ expression, message, messageExpression, reason }, index) => {
      const at = `spec.validations[${index}]`
      const program = ready(`${at}.expression`, expression, all, [BOOL])
      const messageProgram =
        messageExpression === undefined
          ? undefined
          : ready(`${at}.messageExpression`, messageExpression, all, [STRING])
      return program ? [{ program, expression, message, messageProgram, reason }] : []
    },
  )
  const auditAnnotations = (spec.auditAnnotations ?? []).flatMap(({ key, valueExpression }, index) => {
    const program = ready(`spec.auditAnnotations[${index}].valueExpression`, valueExpression, all, [
      STRING,
      NULL,
    ])
    return program ? [{ key, program }] : []
  })
  const [first] = problems
  const broken = first && `${first.field} cannot be compiled: ${first.message}`
  return { policy: { spec, matchConditions, variables, validations, auditAnnotations, broken }, problems }
}

/** In upstream's words. */
export function fieldErrorsOf(problems: readonly ExpressionProblem[]): FieldError[] {
  return problems.map(({ field, expression, message }) =>
    invalidValue(field, expression, `compilation failed: ${message}`),
  )
}
