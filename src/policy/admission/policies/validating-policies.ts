import {
  ApiError,
  expressionChars,
  type FieldError,
  forbidden,
  invalid,
  type KindRegistry,
  type KubeObject,
  POLICY_EXPRESSION_CHARS_MAX,
  STATUS_CODES,
  type StatusReason,
  type TenantName,
  type ValidatingAdmissionPolicy,
  type ValidatingAdmissionPolicyBinding,
  validatingAdmissionPolicyBindingKind,
  validatingAdmissionPolicyKind,
  type ValidatingAdmissionPolicySpec,
} from '../../../api/index.ts'
import { Budget } from '../../../cel/index.ts'
import { ADMISSION_BINDINGS_MAX, ADMISSION_POLICIES_MAX, POLICY_REQUEST_COST_MAX } from '../../limits.ts'
import type { AccessAttributes, Authorizer } from '../../rbac.ts'
import type { AdmissionPlugin, AdmissionRequest, ClusterView } from '../admission.ts'
import { type CompiledPolicy, compilePolicy, fieldErrorsOf } from './compile-policy.ts'
import { type BoundPolicy, judge, type Judgement, type PolicyBinding, type Violation } from './judge.ts'
import { paramDefinition } from './params.ts'
import { requestVariables } from './request-variables.ts'
import { typeCheck } from './type-checking.ts'

const GROUP = validatingAdmissionPolicyKind.group
const POLICIES = { group: GROUP, resource: validatingAdmissionPolicyKind.plural }
const BINDINGS = { group: GROUP, resource: validatingAdmissionPolicyBindingKind.plural }

/** The kinds that are served change with the tenant's own. */
type Surroundings = { authorizer: Authorizer; registry: () => KindRegistry; tenant: TenantName }

/** Rules of the platform's operator, which a tenant can neither see nor change. */
export type OperatorPolicies = readonly BoundPolicy[]

/**
 * ValidatingAdmissionPolicies: those of the control plane itself and those that the operator laid upon it. They do not
 * apply to themselves, so that nobody is locked out of mending them.
 */
export function validatingPolicies({
  authorizer,
  registry,
  tenant,
  operatorPolicies,
}: Surroundings & { operatorPolicies: () => OperatorPolicies }): AdmissionPlugin {
  /** Stored objects are never changed in place, so what was made of one stays right. */
  const compiled = new WeakMap<KubeObject, CompiledPolicy>()
  const warnings = new WeakMap<AdmissionRequest, string[]>()
  const notes = new WeakMap<AdmissionRequest, string[]>()
  const readyPolicy = (object: KubeObject): CompiledPolicy => {
    const before = compiled.get(object)
    if (before) return before
    const { spec = {} } = object as ValidatingAdmissionPolicy // of that kind
    const { policy } = compilePolicy(spec)
    compiled.set(object, policy)
    return policy
  }
  const ownPolicies = (cluster: ClusterView): BoundPolicy[] => {
    if (cluster.count(BINDINGS) === 0) return []
    const bindings = cluster.list(BINDINGS) as readonly ValidatingAdmissionPolicyBinding[] // of that kind
    const byPolicy = Map.groupBy(
      // On the platform, those are about tenants.
      bindings.filter(({ spec }) => spec.tenantSelector === undefined),
      ({ spec }) => spec.policyName,
    )
    return [...byPolicy].flatMap(([name, bindings]) => {
      const object = cluster.get({ ...POLICIES, name })
      return object ? [{ name, policy: readyPolicy(object), bindings }] : []
    })
  }

  const judged = (request: AdmissionRequest, cluster: ClusterView): ApiError | undefined => {
    const own = ownPolicies(cluster)
    const operators = operatorPolicies()
    if (own.length === 0 && operators.length === 0) return undefined
    const world = {
      request,
      cluster,
      registry: registry(),
      bindings: requestVariables(request, cluster, { authorizer, tenant }),
    }
    // The operator's first, and with a budget that nobody else can use up.
    for (const [policies, whose] of [
      [operators, 'of the platform '],
      [own, ''],
    ] as const) {
      if (policies.length === 0) continue
      const judgement = judge(policies, { ...world, budget: new Budget(POLICY_REQUEST_COST_MAX) })
      const noted = notesOf(judgement)
      if (noted.length > 0) notes.set(request, [...(notes.get(request) ?? []), ...noted])
      const denied = judgement.violations.find(({ actions }) => actions.includes('Deny'))
      if (denied) return refusal(request, denied, whose)
      const told = judgement.violations
        .filter(({ actions }) => actions.includes('Warn'))
        .map(
          ({ policy, binding, message }) =>
            `Validation failed for ValidatingAdmissionPolicy '${policy}' ${whose}with binding '${binding}': ${message}`,
        )
      if (told.length > 0) warnings.set(request, [...(warnings.get(request) ?? []), ...told])
    }
    return undefined
  }

  return {
    name: 'ValidatingAdmissionPolicy',
    mutate(request) {
      if (!isPolicy(request) || request.operation === 'DELETE' || request.subresource !== undefined) return
      const { object, old } = request
      const policy = object as ValidatingAdmissionPolicy // of that kind
      // What is wrong with it is told when it is validated, which comes after.
      if (!policy.spec || tooLarge(policy.spec)) return
      const changed = JSON.stringify(policy.spec) !== JSON.stringify(old?.['spec'])
      const generation = (old?.metadata.generation ?? 0) + (changed ? 1 : 0)
      policy.status = {
        ...policy.status,
        observedGeneration: generation,
        typeChecking: typeCheck(policy.spec, registry()),
      }
    },
    refuse(request, cluster) {
      // It can be asked twice about a request.
      warnings.delete(request)
      notes.delete(request)
      // The group of the policies themselves.
      if (request.group === GROUP) return refusePolicy(request, cluster, { authorizer, registry, tenant })
      return judged(request, cluster)
    },
    connect: judged,
    auditNotes: (request) => notes.get(request) ?? [],
    warnings: (request) => warnings.get(request) ?? [],
  }
}

/** The tenant's own objects must not decide what the operator's rules mean. */
const NO_PARAMS = { why: 'parameters of the policies of the platform are ConfigMaps of the platform' }

/** Reads the policies that the operator laid upon a control plane. @throws {TypeError} when one of them cannot be used. */
export function compileOperatorPolicies(
  policies: readonly {
    name: string
    spec: ValidatingAdmissionPolicySpec
    bindings: readonly {
      name: string
      spec: PolicyBinding['spec']
      params?: readonly KubeObject[]
    }[]
  }[],
): OperatorPolicies {
  return policies.map(({ name, spec, bindings }) => {
    const { policy, problems } = compilePolicy(spec)
    const [first] = problems
    if (first)
      throw new TypeError(
        `The policy "${name}" of the platform cannot be used: ${first.field}: ${first.message}`,
      )
    return {
      name,
      policy,
      bindings: bindings.map(({ name, spec, params = NO_PARAMS }) => ({ metadata: { name }, spec, params })),
    }
  })
}

function isPolicy({ group, resource }: AdmissionRequest): boolean {
  return group === POLICIES.group && resource === POLICIES.resource
}

/** What validation refuses for its size anyway is not looked at. */
function tooLarge(spec: ValidatingAdmissionPolicySpec): boolean {
  return expressionChars(spec) > POLICY_EXPRESSION_CHARS_MAX
}

function problemsOf(object: KubeObject): FieldError[] {
  const { spec } = object as ValidatingAdmissionPolicy // of that kind
  return spec && !tooLarge(spec) ? fieldErrorsOf(compilePolicy(spec).problems) : []
}

/** Policies and bindings themselves: their expressions, their number, and whether the writer may see the parameters. */
function refusePolicy(
  { operation, subresource, group, resource, name, object, old, user }: AdmissionRequest,
  cluster: ClusterView,
  { authorizer, registry }: Surroundings,
): ApiError | undefined {
  if (operation === 'DELETE' || subresource !== undefined) return undefined
  const of = [POLICIES, BINDINGS].find((each) => each.resource === resource)
  if (!of) return undefined
  const refuse = (tell: string) => forbidden({ group, resource, name }, { tell })
  const max = of === POLICIES ? ADMISSION_POLICIES_MAX : ADMISSION_BINDINGS_MAX
  if (operation === 'CREATE' && cluster.count(of) >= max) return refuse(`there are at most ${max} of them`)
  const mayGet = (what: Omit<Extract<AccessAttributes, { kind: 'resource' }>, 'kind' | 'verb'>) =>
    authorizer.authorize(user, { kind: 'resource', verb: 'get', ...what }).allowed
  if (of === POLICIES) {
    const problems = problemsOf(object)
    if (problems.length > 0) return invalid({ group, kind: object.kind, name }, problems)
    const { spec } = object as ValidatingAdmissionPolicy // of that kind
    if (
      !spec?.paramKind ||
      same(spec.paramKind, (old as ValidatingAdmissionPolicy | undefined)?.spec?.paramKind)
    )
      return undefined
    // A message could tell what is in parameters that the writer may not read.
    const definition = paramDefinition(spec.paramKind, registry())
    if (definition && !mayGet({ group: definition.group, resource: definition.plural }))
      return refuse(
        `user must have "get" permission on all objects of the referenced paramKind (kind=${spec.paramKind.kind}, apiVersion=${spec.paramKind.apiVersion})`,
      )
    return undefined
  }
  const { spec } = object as ValidatingAdmissionPolicyBinding // of that kind
  const before = (old as ValidatingAdmissionPolicyBinding | undefined)?.spec
  if (!spec.paramRef || same([spec.paramRef, spec.policyName], [before?.paramRef, before?.policyName]))
    return undefined
  const policy = cluster.get({ ...POLICIES, name: spec.policyName }) as ValidatingAdmissionPolicy | undefined
  const definition = policy?.spec?.paramKind && paramDefinition(policy.spec.paramKind, registry())
  const { name: paramName, namespace } = spec.paramRef
  const readable = definition
    ? mayGet({
        group: definition.group,
        resource: definition.plural,
        ...(paramName ? { name: paramName } : {}),
        ...(namespace ? { namespace } : {}),
      })
    : // Of which kind it will be is not known yet, so it could be any.
      mayGet({ group: '*', resource: '*' })
  return readable ? undefined : refuse('user must have "get" permission on the object referenced by paramRef')
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}

const REASONS: ReadonlySet<string> = new Set<StatusReason>([
  'Unauthorized',
  'Forbidden',
  'Invalid',
  'RequestEntityTooLarge',
])

/** As upstream: a Forbidden that takes the reason and code that the policy wants, Invalid by default. */
function refusal({ group, resource, name }: AdmissionRequest, violation: Violation, whose: string): ApiError {
  const { policy, binding, message } = violation
  const tell = `ValidatingAdmissionPolicy '${policy}' ${whose}with binding '${binding}' denied request: ${message}`
  const { message: full, details } = forbidden(
    { group, resource, ...(name === '' ? {} : { name }) },
    { tell },
  )
  const reason = REASONS.has(violation.reason ?? '') ? (violation.reason as StatusReason) : 'Invalid' // one of those
  return new ApiError(reason, full, {
    details: { ...details, causes: [{ message: tell }] },
    code: STATUS_CODES[reason],
  })
}

/** For the audit log: what annotations say, and every violation that a binding wants there. */
function notesOf({ violations, annotations }: Judgement): string[] {
  return [
    ...[...annotations].map(([key, values]) => `${key}: ${values.join(', ')}`),
    ...violations
      .filter(({ actions }) => actions.includes('Audit'))
      .map(
        ({ policy, binding, message }) =>
          `ValidatingAdmissionPolicy '${policy}' with binding '${binding}': ${message}`,
      ),
  ]
}
