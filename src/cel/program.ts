import { type CompiledExpression, compileExpression } from './compile.ts'
import type { DeclaredSize } from './declared-size.ts'
import { estimateCost } from './estimate.ts'
import { EVALUATION_COST_MAX } from './limits.ts'
import { type Budget, BudgetExceeded, Meter } from './meter.ts'
import { type Problem, renderProblem } from './syntax.ts'
import { type CelType, isAssignable, renderType } from './types.ts'
import { Fault, type Value, valueOfJson } from './values.ts'

export type CompileOptions = {
  /** Every variable that there may be. One without a binding is an error where it is used. */
  readonly variables: Readonly<Record<string, CelType>>
  /** The expression must be of one of these; any when it is left out. */
  readonly resultTypes?: readonly CelType[]
  /** What one evaluation may cost; never more than the room's own limit. */
  readonly costMax?: number
  /** How large the value can be that the expression is about, if its cost is to be estimated. */
  readonly size?: DeclaredSize | undefined
}
export type Compilation =
  | {
      readonly ok: true
      readonly program: Program
      /** The most that an evaluation costs by upstream's count, when a size was given; may be infinite. */
      readonly estimatedCost: number | undefined
    }
  | {
      readonly ok: false
      /** All problems, each with the line and a caret, as upstream shows them. */
      readonly message: string
      readonly problems: readonly Problem[]
    }
export type Evaluation =
  | { readonly ok: true; readonly value: Value; readonly cost: number }
  /** `budget`: it was stopped. `fault`: it has no value, such as after a division by zero. */
  | { readonly ok: false; readonly why: 'budget' | 'fault'; readonly message: string; readonly cost: number }

/** JSON, or values of this room, by variable. */
export type BindingValues = Readonly<Record<string, unknown>>

/** Reads and checks an expression. Never throws for anything that a tenant can write. */
export function compile(expression: string, options: CompileOptions): Compilation {
  const compiled = compileExpression(expression, options.variables)
  const refused = (problems: readonly Problem[]): Compilation => ({
    ok: false,
    problems,
    message: problems.map((problem) => renderProblem(expression, problem)).join('\n'),
  })
  if (!('run' in compiled)) return refused(compiled)
  const { resultTypes } = options
  if (resultTypes && !resultTypes.some((wanted) => isAssignable(wanted, compiled.type, new Map())))
    return {
      ok: false,
      problems: [
        { message: `must evaluate to ${resultTypes.map((type) => renderType(type)).join(' or ')}`, at: 0 },
      ],
      message: `must evaluate to ${resultTypes.map((type) => renderType(type)).join(' or ')}`,
    }
  const { checked, ...rest } = compiled
  return {
    ok: true,
    program: new Program(rest, Math.min(options.costMax ?? EVALUATION_COST_MAX, EVALUATION_COST_MAX)),
    estimatedCost: options.size && estimateCost(checked, options.size),
  }
}

/** An expression that is ready. It holds nothing between two evaluations. */
export class Program {
  readonly #compiled: Omit<CompiledExpression, 'checked'>
  readonly #costMax: number

  constructor(compiled: Omit<CompiledExpression, 'checked'>, costMax: number) {
    this.#compiled = compiled
    this.#costMax = costMax
  }

  get resultType(): CelType {
    return this.#compiled.type
  }

  uses(variable: string): boolean {
    return this.#compiled.used.has(variable)
  }

  /** Never throws for anything that a tenant can write. `budget` is spent as it goes. */
  evaluate(bindings: BindingValues, { budget }: { budget?: Budget } = {}): Evaluation {
    const { variables, slots, patterns, run } = this.#compiled
    const meter = new Meter(this.#costMax, budget)
    for (const [source, pattern] of patterns) meter.patterns.set(source, pattern)
    const values: (Value | Fault)[] = Array.from({ length: slots })
    for (const [name, { slot, type }] of variables)
      if (Object.hasOwn(bindings, name) && bindings[name] !== undefined)
        values[slot] = valueOfJson(bindings[name], type)
    try {
      const value = run({ slots: values, meter })
      return value instanceof Fault
        ? { ok: false, why: 'fault', message: value.message, cost: meter.cost }
        : { ok: true, value, cost: meter.cost }
    } catch (error) {
      if (error instanceof BudgetExceeded)
        return { ok: false, why: 'budget', message: error.message, cost: meter.cost }
      // Variables that use each other add their levels up to more than our stack has.
      if (error instanceof RangeError)
        return { ok: false, why: 'budget', message: 'operation cancelled: too many levels', cost: meter.cost }
      throw error
    }
  }
}
