import { AUTHORIZATION_COST } from '../limits.ts'
import type { Meter } from '../meter.ts'
import type { CelType } from '../types.ts'
import { Fault, OpaqueValue } from '../values.ts'
import { method, type Overload } from './overload.ts'

/** What an expression asks about: may the user (or a service account instead) do this? */
export type AccessQuestion = { serviceAccount?: { namespace: string; name: string } } & (
  | { kind: 'path'; path: string; verb: string }
  | {
      kind: 'resource'
      group: string
      resource: string
      subresource?: string
      namespace?: string
      name?: string
      verb: string
    }
)
/** Answers for the user whose request is looked at. */
export type Authorization = (question: AccessQuestion) => { allowed: boolean; reason: string }

const NAMES = {
  authorizer: 'kubernetes.authorization.Authorizer',
  path: 'kubernetes.authorization.PathCheck',
  group: 'kubernetes.authorization.GroupCheck',
  resource: 'kubernetes.authorization.ResourceCheck',
  decision: 'kubernetes.authorization.Decision',
} as const
export const AUTHORIZER: CelType = { type: 'opaque', name: NAMES.authorizer }
export const RESOURCE_CHECK: CelType = { type: 'opaque', name: NAMES.resource }

type ServiceAccount = AccessQuestion['serviceAccount']
type Place = { group: string; resource: string; subresource?: string; namespace?: string; name?: string }

abstract class Check extends OpaqueValue {
  readonly ask: Authorization
  readonly serviceAccount: ServiceAccount
  constructor(ask: Authorization, serviceAccount?: ServiceAccount) {
    super()
    this.ask = ask
    this.serviceAccount = serviceAccount
  }
  override equals(other: OpaqueValue): boolean {
    return other === this
  }
}
export class AuthorizerValue extends Check {
  override readonly typeName = NAMES.authorizer
  /** The same as asking for this resource, such as the one of the request. */
  resourceCheck(place: Place): OpaqueValue {
    return new ResourceCheck(this, place)
  }
}
class PathCheck extends Check {
  override readonly typeName = NAMES.path
  readonly path: string
  constructor({ ask, serviceAccount }: Check, path: string) {
    super(ask, serviceAccount)
    this.path = path
  }
}
class GroupCheck extends Check {
  override readonly typeName = NAMES.group
  readonly group: string
  constructor({ ask, serviceAccount }: Check, group: string) {
    super(ask, serviceAccount)
    this.group = group
  }
}
class ResourceCheck extends Check {
  override readonly typeName = NAMES.resource
  readonly place: Place
  constructor({ ask, serviceAccount }: Check, place: Place) {
    super(ask, serviceAccount)
    this.place = place
  }
}
class Decision extends OpaqueValue {
  override readonly typeName = NAMES.decision
  readonly allowed: boolean
  readonly reason: string
  constructor({ allowed, reason }: { allowed: boolean; reason: string }) {
    super()
    this.allowed = allowed
    this.reason = reason
  }
  override equals(other: OpaqueValue): boolean {
    return other === this
  }
}

function question(serviceAccount: ServiceAccount) {
  return serviceAccount === undefined ? {} : { serviceAccount }
}

export const authorizer: readonly Overload[] = [
  method('path', `${NAMES.authorizer}, string`, NAMES.path, (_meter, from: Check, path: string) =>
    path === '' ? new Fault('path must not be empty') : new PathCheck(from, path),
  ),
  method(
    'group',
    `${NAMES.authorizer}, string`,
    NAMES.group,
    (_meter, from: Check, group: string) => new GroupCheck(from, group),
  ),
  method(
    'serviceAccount',
    `${NAMES.authorizer}, string, string`,
    NAMES.authorizer,
    (_meter, { ask }: Check, namespace: string, name: string) =>
      namespace === '' || name === ''
        ? new Fault('a service account has a namespace and a name')
        : new AuthorizerValue(ask, { namespace, name }),
  ),
  method(
    'resource',
    `${NAMES.group}, string`,
    NAMES.resource,
    (_meter, from: GroupCheck, resource: string) => new ResourceCheck(from, { group: from.group, resource }),
  ),
  ...(['subresource', 'namespace', 'name'] as const).map((field) =>
    method(
      field,
      `${NAMES.resource}, string`,
      NAMES.resource,
      (_meter, from: ResourceCheck, value: string) =>
        new ResourceCheck(from, { ...from.place, [field]: value }),
    ),
  ),
  // Roles know no selectors, so who may do less than everything of a kind is not told that they may, as with upstream's RBAC.
  ...['fieldSelector', 'labelSelector'].map((name) =>
    method(
      name,
      `${NAMES.resource}, string`,
      NAMES.resource,
      (meter: Meter, from: ResourceCheck, selector: string) => {
        meter.read(selector.length)
        return from
      },
    ),
  ),
  method('check', `${NAMES.path}, string`, NAMES.decision, (meter: Meter, from: PathCheck, verb: string) => {
    meter.charge(AUTHORIZATION_COST)
    return new Decision(from.ask({ kind: 'path', path: from.path, verb, ...question(from.serviceAccount) }))
  }),
  method(
    'check',
    `${NAMES.resource}, string`,
    NAMES.decision,
    (meter: Meter, from: ResourceCheck, verb: string) => {
      meter.charge(AUTHORIZATION_COST)
      return new Decision(
        from.ask({ kind: 'resource', ...from.place, verb, ...question(from.serviceAccount) }),
      )
    },
  ),
  method('allowed', NAMES.decision, 'bool', (_meter, { allowed }: Decision) => allowed),
  method('reason', NAMES.decision, 'string', (_meter, { reason }: Decision) => reason),
  method('errored', NAMES.decision, 'bool', () => false),
  method('error', NAMES.decision, 'string', () => ''),
]
