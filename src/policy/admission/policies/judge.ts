import {
  type KindRegistry,
  type KubeObject,
  POLICY_MESSAGE_CHARS_MAX,
  type ValidatingAdmissionPolicyBinding,
} from '../../../api/index.ts'
import type { Budget } from '../../../cel/index.ts'
import type { AdmissionRequest, ClusterView } from '../admission.ts'
import type { CompiledPolicy } from './compile-policy.ts'
import { matchesRequest } from './matching.ts'
import { paramsOf } from './params.ts'
import { PolicyVariables } from './request-variables.ts'

export type PolicyBinding = {
  readonly metadata: { readonly name: string }
  readonly spec: ValidatingAdmissionPolicyBinding['spec']
  /** What its parameters are, when that does not follow from this control plane's objects. */
  readonly params?: readonly KubeObject[] | { why: string }
}

/** A policy with the bindings that make it hold. */
export type BoundPolicy = {
  readonly name: string
  readonly policy: CompiledPolicy
  readonly bindings: readonly PolicyBinding[]
}

/** A validation that did not hold, and what its binding wants done about it. */
export type Violation = {
  readonly policy: string
  readonly binding: string
  readonly message: string
  readonly reason: string | undefined
  readonly actions: readonly ('Deny' | 'Warn' | 'Audit')[]
}

export type Judgement = {
  readonly violations: readonly Violation[]
  /** `POLICY/KEY` → values. */
  readonly annotations: ReadonlyMap<string, readonly string[]>
}

type World = {
  readonly request: AdmissionRequest
  readonly cluster: ClusterView
  readonly registry: KindRegistry
  readonly bindings: Readonly<Record<string, unknown>>
  readonly budget: Budget
}

/** Asks every policy about a request. What cannot be evaluated is a violation unless the policy says otherwise. */
export function judge(policies: readonly BoundPolicy[], world: World): Judgement {
  const violations: Violation[] = []
  const annotations = new Map<string, string[]>()
  for (const bound of policies) judgeOne(bound, world, violations, annotations)
  return { violations, annotations }
}

function judgeOne(
  { name, policy, bindings }: BoundPolicy,
  world: World,
  violations: Violation[],
  annotations: Map<string, string[]>,
): void {
  const { request, cluster, registry, budget } = world
  const { spec } = policy
  if (!matchesRequest(spec.matchConstraints, request, cluster, registry)) return
  const failing = spec.failurePolicy !== 'Ignore'
  for (const binding of bindings) {
    if (!matchesRequest(binding.spec.matchResources, request, cluster, registry)) continue
    const violated = (message: string, reason?: string) => {
      const { validationActions: actions } = binding.spec
      violations.push({ policy: name, binding: binding.metadata.name, message, reason, actions })
    }
    // What cannot be decided is a no whatever the binding would do about a validation.
    const failed = (message: string) => {
      if (failing)
        violations.push({
          policy: name,
          binding: binding.metadata.name,
          message,
          reason: undefined,
          actions: ['Deny'],
        })
    }
    if (policy.broken !== undefined) {
      failed(policy.broken)
      continue
    }
    const found = paramsOf(spec.paramKind, binding, request, cluster, registry)
    if ('why' in found) {
      failed(`failed to configure binding: ${found.why}`)
      continue
    }
    for (const params of found.params) {
      const known = { ...world.bindings, params }
      const wanted = conditionsHold(policy, known, budget)
      if (typeof wanted === 'string') failed(wanted)
      if (wanted !== true) continue
      const seen = { ...known, variables: new PolicyVariables(policy.variables, known, budget) }
      validate(policy, seen, { budget, failing, violated })
      for (const { key, program } of policy.auditAnnotations) {
        const answer = program.evaluate(seen, { budget })
        if (!answer.ok) {
          if (failing) violated(`failed to evaluate audit annotation ${key}: ${answer.message}`)
        } else if (typeof answer.value === 'string' && answer.value.trim() !== '') {
          const at = `${name}/${key}`
          const values = annotations.get(at) ?? []
          annotations.set(at, [...new Set([...values, answer.value.slice(0, POLICY_MESSAGE_CHARS_MAX)])])
        }
      }
    }
  }
}

/** One that is false decides, even when another has no value; otherwise the reason why nothing can be said. */
function conditionsHold(
  { matchConditions }: CompiledPolicy,
  known: Readonly<Record<string, unknown>>,
  budget: Budget,
): boolean | string {
  let why: string | undefined
  for (const { name, program } of matchConditions) {
    const answer = program.evaluate(known, { budget })
    if (answer.ok && answer.value === false) return false
    if (!answer.ok) why ??= `matchCondition "${name}" resulted in error: ${answer.message}`
    else if (answer.value !== true) why ??= `matchCondition "${name}" is no boolean`
  }
  return why ?? true
}

function validate(
  policy: CompiledPolicy,
  seen: Readonly<Record<string, unknown>>,
  {
    budget,
    failing,
    violated,
  }: { budget: Budget; failing: boolean; violated: (message: string, reason?: string) => void },
): void {
  for (const { program, expression, message, messageProgram, reason } of policy.validations) {
    const answer = program.evaluate(seen, { budget })
    if (!answer.ok) {
      if (failing) violated(`expression '${expression}' resulted in error: ${answer.message}`)
      continue
    }
    if (answer.value === true) continue
    const told = messageProgram?.evaluate(seen, { budget })
    const own = told?.ok && typeof told.value === 'string' ? told.value.trim() : ''
    // A message that cannot be shown is as good as none.
    const usable = own !== '' && own.length <= POLICY_MESSAGE_CHARS_MAX && !/[\r\n]/.test(own)
    violated(usable ? own : (message?.trim() ?? `failed expression: ${expression.trim()}`), reason)
  }
}
