import {
  type CheckRules,
  type FieldError,
  type FieldErrorReason,
  type JsonSchema,
  type ValidationRule,
  forbiddenField,
  invalidValue,
  parseFieldPath,
  requiredValue,
  unsupportedValue,
} from '../api/index.ts'
import {
  BOOL,
  Budget,
  type CelType,
  compile,
  type DeclaredSize,
  declaredSizeOf,
  occurrencesMax,
  OptionalValue,
  optionalOf,
  type Program,
  STRING,
  typeOfStructuralSchema,
  valueOfJson,
} from '../cel/index.ts'
import { equalJson, isRecord } from './json.ts'
import {
  CUSTOM_RULES_ESTIMATE_MAX,
  CUSTOM_RULE_ESTIMATE_MAX,
  CUSTOM_RULES_CHARS_MAX,
  CUSTOM_RULES_COST_MAX,
  CUSTOM_RULES_PROBLEMS_MAX,
  CUSTOM_RULE_MESSAGE_CHARS_MAX,
} from './limits.ts'

// `x-kubernetes-validations`: rules in CEL in the schema of a custom kind.
// https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules

type CompiledRule = {
  rule: ValidationRule
  /** Of the value that the rule is about. */
  type: CelType
  program: Program
  /** Compares with the value before, and so asks nothing of a new one. */
  isTransition: boolean
  message: Program | undefined
}

/** The parts of a schema that lead to rules. */
type Node = {
  schema: JsonSchema
  rules: readonly CompiledRule[]
  properties: ReadonlyMap<string, Node>
  additional: Node | undefined
  items: Node | undefined
}

const REASONS: readonly FieldErrorReason[] = [
  'FieldValueRequired',
  'FieldValueForbidden',
  'FieldValueInvalid',
  'FieldValueDuplicate',
]

/**
 * What is wrong with the rules of a schema, and with its defaults by these rules. Requires: the schema is structural.
 * @param options.unchanged when it is stored like this: then no single rule of it has become too expensive.
 */
export function ruleProblems(
  schema: JsonSchema,
  path: string,
  { unchanged = false }: { unchanged?: boolean } = {},
): FieldError[] {
  const costs = new RuleCosts(unchanged)
  const compiler = new RuleCompiler(costs)
  compiler.node(schema, path, { root: true, correlatable: true, most: 1 })
  const problems = [...compiler.problems, ...costs.problems(path)]
  return problems.length > 0 ? problems : defaultProblems(compiler.defaults)
}

/** Defaults that their own rules refuse: nobody could leave the field out. All have one budget, as those of an object. */
function defaultProblems(defaults: readonly { node: Node; path: string }[]): FieldError[] {
  const check = new RuleCheck()
  for (const { node, path } of defaults) check.value(node, node.schema.default, undefined, path)
  return check.errors.slice(0, CUSTOM_RULES_PROBLEMS_MAX)
}

/** Judges objects by the rules, if there are any, of a schema that `ruleProblems` found nothing wrong with. */
export function compileRules(schema: JsonSchema): CheckRules | undefined {
  const compiler = new RuleCompiler()
  const root = compiler.node(schema, '', { root: true, correlatable: true, most: 1 })
  // Whoever stored the schema had other rules for rules: without them nothing can be said to be right.
  if (compiler.problems.length > 0) return () => compiler.problems
  if (!root) return undefined
  return (object, old) => {
    const check = new RuleCheck()
    check.value(root, object, old, '')
    return check.errors
  }
}

/** Where rules stand in a schema. */
type Place = {
  root?: boolean
  correlatable: boolean
  /** How many values an object has at this place at most, as far as the schema says so. */
  most: number | undefined
}

class RuleCompiler {
  readonly problems: FieldError[] = []
  /** Values that the schema itself gives to fields with rules. */
  readonly defaults: { node: Node; path: string }[] = []
  private chars = 0
  private readonly costs: RuleCosts | undefined

  /** @param costs adds up what rules may cost. */
  constructor(costs?: RuleCosts) {
    this.costs = costs
  }

  node(schema: JsonSchema, path: string, { root = false, correlatable, most }: Place): Node | undefined {
    const given = schema['x-kubernetes-validations'] ?? []
    const type = given.length > 0 ? typeOfStructuralSchema(schema, { root }) : undefined
    if (given.length > 0 && !type)
      this.note(
        forbiddenField(
          `${path}.x-kubernetes-validations`,
          'rules need a type that says what they are about, and this schema has none',
        ),
      )
    const size = type && this.costs ? declaredSizeOf(schema, { root }) : undefined
    const times = size && (most ?? occurrencesMax(size))
    const rules = type
      ? given.flatMap(
          (rule, index) =>
            this.rule(rule, type, `${path}.x-kubernetes-validations[${index}]`, {
              correlatable,
              size,
              times,
            }) ?? [],
        )
      : []
    const below = repeats(schema)
    const mostBelow = most === undefined || below === undefined ? undefined : multiplied(most, below)
    const properties = new Map<string, Node>()
    for (const [name, field] of Object.entries(schema.properties ?? {})) {
      const node = this.node(field, `${path}.properties[${name}]`, { correlatable, most: mostBelow })
      if (node) properties.set(name, node)
    }
    const { additionalProperties, items } = schema
    const additional =
      typeof additionalProperties === 'object'
        ? this.node(additionalProperties, `${path}.additionalProperties`, { correlatable, most: mostBelow })
        : undefined
    const item =
      items &&
      this.node(items, `${path}.items`, {
        correlatable: correlatable && schema['x-kubernetes-list-type'] === 'map',
        most: mostBelow,
      })
    if (rules.length === 0 && properties.size === 0 && !additional && !item) return undefined
    const made = { schema, rules, properties, additional, items: item }
    if (schema.default !== undefined) this.defaults.push({ node: made, path: `${path}.default` })
    return made
  }

  private rule(
    rule: ValidationRule,
    type: CelType,
    path: string,
    {
      correlatable,
      size,
      times = 1,
    }: { correlatable: boolean; size: DeclaredSize | undefined; times: number | undefined },
  ): CompiledRule | undefined {
    const before = this.problems.length
    const { messageExpression, optionalOldSelf } = rule
    this.plain(rule, path)
    this.chars += rule.rule.length + (messageExpression?.length ?? 0)
    if (this.chars > CUSTOM_RULES_CHARS_MAX) {
      this.note(
        invalidValue(
          `${path}.rule`,
          '…',
          `all rules of a version together may have ${CUSTOM_RULES_CHARS_MAX} characters`,
        ),
      )
      return undefined
    }
    if (rule.rule.trim() === '') {
      this.note(requiredValue(`${path}.rule`, 'rule is not specified'))
      return undefined
    }
    const variables = { self: type, oldSelf: optionalOldSelf ? optionalOf(type) : type }
    const compiled = compile(rule.rule, { variables, resultTypes: [BOOL], size })
    if (!compiled.ok)
      this.note(invalidValue(`${path}.rule`, rule.rule, `compilation failed: ${compiled.message}`))
    const message =
      messageExpression === undefined
        ? undefined
        : compile(messageExpression, { variables, resultTypes: [STRING], size })
    if (message && !message.ok)
      this.note(
        invalidValue(
          `${path}.messageExpression`,
          messageExpression,
          `messageExpression compilation failed: ${message.message}`,
        ),
      )
    if (compiled.ok && compiled.estimatedCost !== undefined)
      this.costs?.add(`${path}.rule`, 'rule', multiplied(compiled.estimatedCost, times))
    if (message?.ok && message.estimatedCost !== undefined)
      this.costs?.add(`${path}.messageExpression`, 'messageExpression', message.estimatedCost)
    const usesOld = compiled.ok && compiled.program.uses('oldSelf')
    if (usesOld && !correlatable)
      this.note(
        invalidValue(
          `${path}.rule`,
          rule.rule,
          'oldSelf cannot be used on the uncorrelatable portion of the schema: the items of lists without x-kubernetes-list-type: map',
        ),
      )
    if (optionalOldSelf && compiled.ok && !usesOld)
      this.note(
        invalidValue(`${path}.optionalOldSelf`, true, 'may not be set if oldSelf is not used in rule'),
      )
    if (!compiled.ok || (message && !message.ok) || this.problems.length > before) return undefined
    return {
      rule,
      type,
      program: compiled.program,
      isTransition: usesOld && !optionalOldSelf,
      message: message?.program,
    }
  }

  /** What is no expression. */
  private plain({ message, messageExpression, reason, fieldPath }: ValidationRule, path: string): void {
    if (message !== undefined && message.trim() === '')
      this.note(invalidValue(`${path}.message`, message, 'message must be non-empty if specified'))
    else if (message !== undefined && /[\r\n]/.test(message.trim()))
      this.note(invalidValue(`${path}.message`, message, 'message must not contain line breaks'))
    else if ((message?.length ?? 0) > CUSTOM_RULE_MESSAGE_CHARS_MAX)
      this.note(
        invalidValue(`${path}.message`, '…', `must have at most ${CUSTOM_RULE_MESSAGE_CHARS_MAX} characters`),
      )
    if (messageExpression !== undefined && messageExpression.trim() === '')
      this.note(
        requiredValue(`${path}.messageExpression`, 'messageExpression must be non-empty if specified'),
      )
    if (reason !== undefined && !REASONS.includes(reason as FieldErrorReason))
      this.note(unsupportedValue(`${path}.reason`, reason, REASONS))
    if (fieldPath !== undefined && !parseFieldPath(fieldPath))
      this.note(
        invalidValue(
          `${path}.fieldPath`,
          fieldPath,
          'fieldPath must be a valid path of fields, such as .spec.replicas',
        ),
      )
  }

  private note(problem: FieldError): void {
    if (this.problems.length < CUSTOM_RULES_PROBLEMS_MAX) this.problems.push(problem)
  }
}

/** What the rules of a schema may cost, as estimated when they are written. */
class RuleCosts {
  private readonly tooHigh: FieldError[] = []
  private readonly unchanged: boolean
  private total = 0
  private expensive: { path: string; cost: number }[] = []

  constructor(unchanged: boolean) {
    this.unchanged = unchanged
  }

  add(path: string, what: 'rule' | 'messageExpression', cost: number): void {
    this.total += cost
    if (cost > CUSTOM_RULE_ESTIMATE_MAX && !this.unchanged && this.tooHigh.length < CUSTOM_RULES_PROBLEMS_MAX)
      this.tooHigh.push(
        forbiddenField(path, exceeds(`estimated ${what} cost`, cost, CUSTOM_RULE_ESTIMATE_MAX)),
      )
    if (cost < CUSTOM_RULES_ESTIMATE_MAX / 100) return
    this.expensive = [...this.expensive, { path, cost }].sort((a, b) => b.cost - a.cost).slice(0, 4)
  }

  problems(schemaPath: string): FieldError[] {
    if (this.total <= CUSTOM_RULES_ESTIMATE_MAX) return this.tooHigh
    const all = 'x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema'
    return [
      ...this.tooHigh,
      ...this.expensive.map(({ path }) =>
        forbiddenField(
          path,
          'contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema',
        ),
      ),
      forbiddenField(schemaPath, exceeds(all, this.total, CUSTOM_RULES_ESTIMATE_MAX)),
    ]
  }
}

function exceeds(what: string, cost: number, max: number): string {
  const times = cost / max
  const factor = times > 100 ? 'more than 100x' : `${times.toFixed(times < 1.5 ? 6 : 1)}x`
  return `${what} exceeds budget by factor of ${factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)`
}

/** Each may be infinite, and nothing is nothing however often it is there. */
function multiplied(a: number, b: number): number {
  return a === 0 || b === 0 ? 0 : a * b
}

/** How many values of a kind stand below one of this; undefined when there is no saying. */
function repeats({ type, additionalProperties, maxItems, maxProperties }: JsonSchema): number | undefined {
  const most = type === 'array' ? maxItems : type === 'object' && additionalProperties ? maxProperties : 1
  return most === undefined ? undefined : Math.max(0, most)
}

/** One object's way through its rules, with one budget for all of them. */
class RuleCheck {
  readonly errors: FieldError[] = []
  private readonly budget = new Budget(CUSTOM_RULES_COST_MAX)
  private stopped = false

  value(node: Node, value: unknown, old: unknown, path: string): void {
    if (this.stopped || value === undefined || value === null) return
    const { schema, rules } = node
    // What stays as it was is not judged again, unless a rule is about the change itself.
    const same = rules.length > 0 && old !== undefined && equalJson(value, old)
    for (const rule of rules) {
      if (this.stopped) return
      if (rule.isTransition ? old !== undefined : !same) this.judge(rule, schema, value, old, path)
    }
    if (Array.isArray(value)) {
      if (!node.items) return
      const keys = schema['x-kubernetes-list-map-keys'] ?? []
      const before =
        keys.length > 0 && Array.isArray(old)
          ? new Map(old.map((item: unknown) => [identityOf(item, keys), item]))
          : undefined
      for (const [index, item] of value.entries())
        this.value(node.items, item, before?.get(identityOf(item, keys)), `${path}[${index}]`)
      return
    }
    if (!isRecord(value)) return
    const was = isRecord(old) ? old : {}
    const own = (object: Record<string, unknown>, key: string) =>
      Object.hasOwn(object, key) ? object[key] : undefined
    for (const [name, inner] of node.properties)
      this.value(inner, own(value, name), own(was, name), path === '' ? name : `${path}.${name}`)
    if (node.additional)
      for (const key of Object.keys(value))
        if (!schema.properties || !Object.hasOwn(schema.properties, key))
          this.value(node.additional, value[key], own(was, key), path === '' ? key : `${path}.${key}`)
  }

  private judge(
    { rule, type, program, message }: CompiledRule,
    schema: JsonSchema,
    self: unknown,
    old: unknown,
    path: string,
  ): void {
    const oldSelf = rule.optionalOldSelf
      ? new OptionalValue(old === undefined ? undefined : valueOfJson(old, type))
      : old
    const bindings = { self, oldSelf }
    const answer = program.evaluate(bindings, { budget: this.budget })
    if (answer.ok && answer.value === true) return
    const at = path === '' ? '<nil>' : path
    const shown = schema.type ?? 'object'
    if (!answer.ok) {
      if (this.budget.remaining < 0) {
        this.stopped = true
        this.errors.push(
          invalidValue(
            at,
            shown,
            'validation failed due to running out of cost budget, no further validation rules will be run',
          ),
        )
        return
      }
      this.errors.push(
        invalidValue(at, shown, `${answer.message} evaluating rule: ${rule.message ?? rule.rule}`),
      )
      return
    }
    let text = rule.message?.trim() ?? `failed rule: ${rule.rule}`
    const said = message?.evaluate(bindings, { budget: this.budget })
    if (said?.ok && typeof said.value === 'string') {
      const trimmed = said.value.trim()
      if (trimmed !== '' && trimmed.length <= CUSTOM_RULE_MESSAGE_CHARS_MAX && !/[\r\n]/.test(trimmed))
        text = trimmed
    }
    this.errors.push(
      errorOf(rule, rule.fieldPath ? `${path}${rule.fieldPath}`.replace(/^\./, '') : at, shown, text),
    )
    if (this.errors.length >= CUSTOM_RULES_PROBLEMS_MAX) this.stopped = true
  }
}

function errorOf({ reason }: ValidationRule, field: string, shown: string, text: string): FieldError {
  switch (reason) {
    case 'FieldValueRequired':
      return requiredValue(field, text)
    case 'FieldValueForbidden':
      return { reason: 'FieldValueForbidden', field, message: `Forbidden: ${text}` }
    case 'FieldValueDuplicate':
      return {
        reason: 'FieldValueDuplicate',
        field,
        message: `Duplicate value: ${JSON.stringify(shown)}: ${text}`,
      }
    default:
      return invalidValue(field, shown, text)
  }
}

function identityOf(item: unknown, keys: readonly string[]): string {
  return JSON.stringify(
    isRecord(item) ? keys.map((key) => (Object.hasOwn(item, key) ? item[key] : null)) : item,
  )
}
