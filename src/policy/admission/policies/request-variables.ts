import { type KubeObject, type TenantName, userExtra, userNames } from '../../../api/index.ts'
import {
  type AccessQuestion,
  AuthorizerValue,
  Budget,
  BudgetExceeded,
  Fault,
  MapValue,
  type Program,
  type Value,
} from '../../../cel/index.ts'
import type { AccessAttributes, Authorizer } from '../../rbac.ts'
import type { AdmissionRequest, ClusterView } from '../admission.ts'

/** What expressions see of one request, whichever policy they belong to. */
export function requestVariables(
  request: AdmissionRequest,
  cluster: ClusterView,
  { authorizer, tenant }: { authorizer: Authorizer; tenant: TenantName },
): Record<string, unknown> {
  const {
    operation,
    group,
    version,
    kind,
    resource,
    subresource = '',
    namespace,
    name,
    user,
    dryRun,
  } = request
  const shown = request.seen ?? { group, version, kind, object: request.object, old: request.old }
  const { name: username, groups } = userNames(user)
  const gvk = { group: shown.group, version: shown.version, kind: shown.kind }
  const gvr = { group, version, resource }
  const access = new AuthorizerValue((question) =>
    authorizer.authorize(askedFor(question, request, tenant), attributesOf(question)),
  )
  const about = {
    group,
    resource,
    ...(subresource === '' ? {} : { subresource }),
    ...(namespace === undefined ? {} : { namespace }),
    ...(name === '' ? {} : { name }),
  }
  const found =
    namespace === undefined ? undefined : cluster.get({ group: '', resource: 'namespaces', name: namespace })
  return {
    object: operation === 'DELETE' ? null : shown.object,
    oldObject: operation === 'DELETE' ? shown.object : (shown.old ?? null),
    request: {
      kind: gvk,
      resource: gvr,
      subResource: subresource,
      requestKind: gvk,
      requestResource: gvr,
      requestSubResource: subresource,
      name,
      namespace: namespace ?? '',
      operation,
      userInfo: {
        username,
        uid: user.kind === 'serviceAccount' ? user.uid : '',
        groups,
        extra: userExtra(user),
      },
      dryRun,
      options: {},
    },
    namespaceObject: found && resource !== 'namespaces' ? namespaceObject(found) : null,
    authorizer: access,
    'authorizer.requestResource': access.resourceCheck(about),
  }
}

function namespaceObject({ apiVersion, kind, metadata, spec, status }: KubeObject): unknown {
  const { managedFields: _left, ...seen } = metadata
  return { apiVersion, kind, metadata: seen, spec, status }
}

function askedFor({ serviceAccount }: AccessQuestion, { user }: AdmissionRequest, tenant: TenantName) {
  return serviceAccount ? ({ kind: 'serviceAccount', tenant, uid: '', ...serviceAccount } as const) : user
}

function attributesOf({ serviceAccount: _who, ...question }: AccessQuestion): AccessAttributes {
  return question
}

/** `variables` of a policy: each is computed when an expression asks for it, and once. */
export class PolicyVariables extends MapValue {
  readonly #programs: ReadonlyMap<string, Program>
  readonly #bindings: Readonly<Record<string, unknown>>
  readonly #budget: Budget
  readonly #known = new Map<string, Value | Fault>()

  constructor(
    programs: ReadonlyMap<string, Program>,
    bindings: Readonly<Record<string, unknown>>,
    budget: Budget,
  ) {
    super()
    this.#programs = programs
    this.#bindings = bindings
    this.#budget = budget
  }
  get size(): number {
    return this.#programs.size
  }
  override get(name: Value): Value | undefined {
    const value = typeof name === 'string' ? this.field(name) : undefined
    return value instanceof Fault ? undefined : value
  }
  override keys(): Iterable<Value> {
    return this.#programs.keys()
  }
  override field(name: string): Value | Fault | undefined {
    const known = this.#known.get(name)
    if (known !== undefined) return known
    const program = this.#programs.get(name)
    if (!program) return undefined
    // The checker lets a variable see only those before it, so this ends.
    const answer = program.evaluate({ ...this.#bindings, variables: this }, { budget: this.#budget })
    if (!answer.ok && answer.why === 'budget') throw new BudgetExceeded(answer.message)
    const value = answer.ok
      ? answer.value
      : new Fault(`composited variable "${name}" fails to evaluate: ${answer.message}`)
    this.#known.set(name, value)
    return value
  }
}
