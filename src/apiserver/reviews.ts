import {
  ApiError,
  type FieldError,
  type KubeObject,
  type TenantName,
  type UserInfo,
  type VirtualKind,
  badRequest,
  groupVersion,
  invalid,
  userExtra,
  userNames,
} from '../api/index.ts'
import type { AccessAttributes } from '../policy/index.ts'
import { type Context, renderTime } from './context.ts'
import { decodePart, decodeRequestBody } from './decode.ts'
import { parseWriteOptions } from './options.ts'
import { trackUpdate } from './patch/index.ts'
import { methodNotAllowed, noSuchResource } from './refusals.ts'
import type { ApiResult, ResourceRequest } from './request.ts'
import { reviewToken } from './token-request.ts'
import { managerOf } from './write.ts'

type AttributesInSpec = {
  resourceAttributes?: {
    namespace?: string
    verb?: string
    group?: string
    resource?: string
    subresource?: string
    name?: string
  }
  nonResourceAttributes?: { path?: string; verb?: string }
}
type Spec = AttributesInSpec & {
  user?: string
  groups?: string[]
  namespace?: string
  token?: string
  audiences?: string[]
}

/** Questions that are answered and never stored: what may I, what may they, who am I, whose token is this. */
export async function answerReview(context: Context, request: ResourceRequest): Promise<ApiResult> {
  const { group, version, resource } = request.path
  const virtual = context.registry.virtualKinds.find(
    (v) => v.group === group && v.version === version && v.plural === resource,
  )
  if (!virtual) throw noSuchResource()
  if (request.method !== 'POST') throw methodNotAllowed()
  const options = parseWriteOptions('CreateOptions', request.query)
  const review = decodePart({
    schema: virtual.schema,
    kind: virtual.kind,
    version: groupVersion(virtual),
    decoded: decodeRequestBody(await request.readBody(), virtual.kind),
    fieldValidation: options.fieldValidation,
    warnings: request.warnings,
  })
  const spec = (review['spec'] ?? {}) as Spec
  const status = await answer(context, request, virtual, spec)
  const nowMs = context.clock.nowMs()
  // These two are answered by an object that the server makes; the others come back with their answer.
  const own = virtual.kind === 'SelfSubjectReview' || virtual.kind === 'SelfSubjectRulesReview'
  const asked = { ...review, metadata: {} } as unknown as KubeObject
  const managedFields = own
    ? undefined
    : trackUpdate({
        schema: virtual.schema,
        manager: managerOf(request, options),
        apiVersion: groupVersion(virtual),
        nowMs,
        live: undefined,
        next: asked,
      })
  const object = {
    kind: virtual.kind,
    apiVersion: groupVersion(virtual),
    metadata: {
      creationTimestamp: virtual.kind === 'SelfSubjectReview' ? renderTime(nowMs) : null,
      ...(managedFields ? { managedFields } : {}),
    },
    ...(virtual.kind === 'SelfSubjectReview' ? {} : { spec: own ? {} : spec }),
    status,
  } as unknown as KubeObject // Reviews have no name, and upstream shows them without one.
  return { kind: 'object', code: 201, shown: { object } }
}

async function answer(
  context: Context,
  { user, path }: ResourceRequest,
  virtual: VirtualKind,
  spec: Spec,
): Promise<Record<string, unknown>> {
  const { authorizer } = context
  switch (virtual.kind) {
    case 'SelfSubjectAccessReview':
      return accessStatus(authorizer.authorize(user, attributesOf(virtual, spec)))
    case 'LocalSubjectAccessReview':
      if (spec.resourceAttributes?.namespace !== path.namespace)
        throw badRequest(`spec.resourceAttributes.namespace must match namespace: ${path.namespace}`)
      return accessStatus(
        authorizer.authorize(userOf(context.tenant, virtual, spec), attributesOf(virtual, spec)),
      )
    case 'SubjectAccessReview':
      return accessStatus(
        authorizer.authorize(userOf(context.tenant, virtual, spec), attributesOf(virtual, spec)),
      )
    case 'SelfSubjectRulesReview': {
      if (!spec.namespace) throw badRequest('no namespace on request')
      const { rules, incomplete } = authorizer.rulesFor(user, spec.namespace)
      return {
        resourceRules: rules
          .filter((r) => r.resources?.length)
          .map(({ verbs, apiGroups, resources, resourceNames }) => ({
            verbs,
            apiGroups,
            resources,
            ...(resourceNames?.length ? { resourceNames } : {}),
          })),
        nonResourceRules: rules
          .filter((r) => r.nonResourceURLs?.length)
          .map(({ verbs, nonResourceURLs }) => ({ verbs, nonResourceURLs })),
        incomplete,
      }
    }
    case 'SelfSubjectReview': {
      const { name, groups } = userNames(user)
      const extra = userExtra(user)
      return {
        userInfo: {
          username: name,
          ...(user.kind === 'serviceAccount' ? { uid: user.uid } : {}),
          groups,
          ...(Object.keys(extra).length > 0 ? { extra } : {}),
        },
      }
    }
    case 'TokenReview':
      return reviewToken(context, spec)
    default:
      throw new ApiError('NotFound', `${virtual.kind} is not answered here`)
  }
}

function accessStatus({ allowed, reason }: { allowed: boolean; reason: string }): Record<string, unknown> {
  return { allowed, ...(reason ? { reason } : {}) }
}

function attributesOf({ group, kind }: VirtualKind, spec: Spec): AccessAttributes {
  const { resourceAttributes: resource, nonResourceAttributes: path } = spec
  if ((resource === undefined) === (path === undefined))
    throw invalid({ group, kind, name: '' }, [
      {
        reason: 'FieldValueInvalid',
        field: 'spec.resourceAttributes',
        message:
          'Invalid value: exactly one of nonResourceAttributes or resourceAttributes must be specified',
      },
    ])
  if (path) return { kind: 'path', verb: path.verb ?? '', path: path.path ?? '' }
  return {
    kind: 'resource',
    verb: resource?.verb ?? '',
    group: resource?.group ?? '',
    resource: resource?.resource ?? '',
    subresource: resource?.subresource || undefined,
    namespace: resource?.namespace || undefined,
    name: resource?.name || undefined,
  }
}

const SERVICE_ACCOUNT = /^system:serviceaccount:([^:]+):([^:]+)$/

function userOf(
  tenant: TenantName,
  { group, kind }: VirtualKind,
  { user = '', groups = [] }: Spec,
): UserInfo {
  if (user === '' && groups.length === 0) {
    const error: FieldError = {
      reason: 'FieldValueInvalid',
      field: 'spec.user',
      message: 'Invalid value: "": at least one of user or group must be specified',
    }
    throw invalid({ group, kind, name: '' }, [error])
  }
  const account = SERVICE_ACCOUNT.exec(user)
  if (account) return { kind: 'serviceAccount', tenant, namespace: account[1]!, name: account[2]!, uid: '' } // both groups took part
  return { kind: 'tenantUser', tenant, name: user, groups }
}
