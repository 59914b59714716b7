import {
  ApiError,
  type FieldError,
  type KubeObject,
  type UserInfo,
  badRequest,
  conflict,
  invalid,
  notFound,
  userExtra,
} from '../api/index.ts'
import { API_SERVER_AUDIENCE, IdentityRefused, inToken } from '../identity/index.ts'
import { type Context, renderTime } from './context.ts'
import { decodePart, decodeRequestBody } from './decode.ts'
import {
  REVIEW_AUDIENCES_MAX,
  TOKEN_SECONDS_DEFAULT,
  TOKEN_SECONDS_MAX,
  TOKEN_SECONDS_MIN,
} from './limits.ts'
import { parseWriteOptions } from './options.ts'
import { trackUpdate } from './patch/index.ts'
import { readStored } from './read.ts'
import { methodNotAllowed } from './refusals.ts'
import type { ApiResult, ResourceRequest, Target } from './request.ts'
import { managerOf } from './write.ts'

type TokenSpec = {
  audiences?: string[]
  expirationSeconds?: number
  boundObjectRef?: { apiVersion?: string; kind?: string; name?: string; uid?: string } | null
}

/** POST serviceaccounts/token: a token that ends by itself, and with the pod it is bound to. */
export async function requestToken(
  context: Context,
  request: ResourceRequest,
  target: Target,
): Promise<ApiResult> {
  const schema = target.subresource?.schema
  const { namespace, name } = target
  if (!schema || namespace === undefined) throw methodNotAllowed()
  const options = parseWriteOptions('CreateOptions', request.query)
  const body = await request.readBody()
  const review = decodePart({
    schema,
    kind: 'TokenRequest',
    version: 'v1',
    decoded: decodeRequestBody(body, 'TokenRequest'),
    fieldValidation: options.fieldValidation,
    warnings: request.warnings,
  })
  const account = readStored(context, target).object
  if (!context.tokenIssuer)
    throw new ApiError('ServiceUnavailable', 'This control plane does not issue tokens')
  const spec = (review['spec'] ?? {}) as TokenSpec
  const seconds = spec.expirationSeconds ?? TOKEN_SECONDS_DEFAULT
  refuseBadSpec(name, seconds)
  const boundTo = spec.boundObjectRef
    ? boundObject(context, namespace, spec.boundObjectRef, account)
    : undefined
  const audiences = spec.audiences?.length ? spec.audiences : [API_SERVER_AUDIENCE]
  const nowMs = context.clock.nowMs()
  let issued: { token: string; expiresAtMs: number }
  try {
    issued = await context.tokenIssuer.issue({
      account: { namespace, name, uid: account.metadata.uid, ...(boundTo ? { boundTo } : {}) },
      audiences,
      ttlSeconds: seconds,
      nowMs,
    })
  } catch (error) {
    if (!(error instanceof IdentityRefused)) throw error
    throw invalidToken(name, {
      reason: 'FieldValueInvalid',
      field: 'spec',
      message: `Invalid value: ${error.message}`,
    })
  }
  const managedFields = trackUpdate({
    schema,
    manager: managerOf(request, options),
    apiVersion: 'authentication.k8s.io/v1',
    subresource: 'token',
    nowMs,
    live: undefined,
    next: { ...review, metadata: {} } as unknown as KubeObject, // Only its fields are looked at.
  })
  const object = {
    kind: 'TokenRequest',
    apiVersion: 'authentication.k8s.io/v1',
    metadata: {
      name,
      namespace,
      creationTimestamp: renderTime(nowMs),
      ...(managedFields ? { managedFields } : {}),
    },
    spec: {
      audiences,
      expirationSeconds: Math.round(issued.expiresAtMs / 1_000) - Math.floor(nowMs / 1_000),
      boundObjectRef: spec.boundObjectRef ?? null,
    },
    status: { token: issued.token, expirationTimestamp: renderTime(issued.expiresAtMs) },
  } as unknown as KubeObject // It is never stored, so it has no uid and no version.
  return { kind: 'object', code: 201, shown: { object } }
}

function refuseBadSpec(name: string, seconds: number): void {
  const refuse = (why: string) =>
    invalidToken(name, {
      reason: 'FieldValueInvalid',
      field: 'spec.expirationSeconds',
      message: `Invalid value: ${seconds}: ${why}`,
    })
  if (seconds < TOKEN_SECONDS_MIN) throw refuse('may not specify a duration less than 10 minutes')
  if (seconds > TOKEN_SECONDS_MAX) throw refuse('may not specify a duration larger than 2^32 seconds')
}

function invalidToken(name: string, error: FieldError): ApiError {
  return invalid({ group: 'authentication.k8s.io', kind: 'TokenRequest', name }, [error])
}

type Bound = NonNullable<Extract<UserInfo, { kind: 'serviceAccount' }>['boundTo']>

/** The object that a token shall die with. A pod must run as the account, or its token would outlive the pod's right to it. */
function boundObject(
  { cluster }: Context,
  namespace: string,
  ref: NonNullable<TokenSpec['boundObjectRef']>,
  account: KubeObject,
): Bound {
  const { kind, name = '', uid } = ref
  if ((kind !== 'Pod' && kind !== 'Secret') || (ref.apiVersion !== undefined && ref.apiVersion !== 'v1'))
    throw new ApiError(
      'BadRequest',
      `cannot bind token for serviceaccount to object of type ${ref.apiVersion}, Kind=${kind}`,
    )
  const resource = kind === 'Pod' ? 'pods' : 'secrets'
  const found = cluster.get({ group: '', resource, namespace, name })
  if (!found) throw notFound({ group: '', resource, name })
  if (uid !== undefined && uid !== found.metadata.uid)
    throw conflict(
      { group: '', resource, name },
      `the UID in the bound object reference (${uid}) does not match the UID in record. The object might have been deleted and then recreated`,
    )
  if (
    kind === 'Pod' &&
    ((found['spec'] as { serviceAccountName?: string }).serviceAccountName ?? 'default') !==
      account.metadata.name
  )
    throw new ApiError(
      'BadRequest',
      `cannot bind token for serviceaccount ${JSON.stringify(account.metadata.name)} to pod running with different serviceaccount name.`,
    )
  const bound = { kind, name, uid: found.metadata.uid } as const
  const { nodeName = '' } = (found['spec'] ?? {}) as { nodeName?: string }
  const node = kind === 'Pod' ? cluster.get({ group: '', resource: 'nodes', name: nodeName }) : undefined
  return node ? { ...bound, node: { name: nodeName, uid: node.metadata.uid } } : bound
}

/** Whether the account of a token, and what the token is bound to, still exist: then it is as good as its signature. */
export function isAlive({ cluster }: Context, user: Extract<UserInfo, { kind: 'serviceAccount' }>): boolean {
  const { namespace, name, uid, boundTo } = user
  if (cluster.get({ group: '', resource: 'serviceaccounts', namespace, name })?.metadata.uid !== uid)
    return false
  if (!boundTo) return true
  const resource = boundTo.kind === 'Pod' ? 'pods' : 'secrets'
  return cluster.get({ group: '', resource, namespace, name: boundTo.name })?.metadata.uid === boundTo.uid
}

/** The status of a TokenReview. It says nothing about tokens of anybody but this tenant. */
export async function reviewToken(
  context: Context,
  { token = '', audiences = [] }: { token?: string; audiences?: string[] },
): Promise<Record<string, unknown>> {
  const { tokenIssuer, tenant, clock } = context
  if (!tokenIssuer) return { authenticated: false, error: 'this control plane does not issue tokens' }
  if (audiences.length > REVIEW_AUDIENCES_MAX)
    throw badRequest(`a TokenReview names at most ${REVIEW_AUDIENCES_MAX} audiences, not ${audiences.length}`)
  const wanted = audiences.length > 0 ? audiences : [API_SERVER_AUDIENCE]
  for (const audience of wanted) {
    try {
      const { user, audiences: named } = await tokenIssuer.verify(token, {
        audience: inToken(tenant, audience),
        nowMs: clock.nowMs(),
      })
      if (!isAlive(context, user)) break
      return {
        authenticated: true,
        user: {
          username: `system:serviceaccount:${user.namespace}:${user.name}`,
          uid: user.uid,
          groups: [
            'system:serviceaccounts',
            `system:serviceaccounts:${user.namespace}`,
            'system:authenticated',
          ],
          extra: userExtra(user),
        },
        audiences: wanted.filter((a) => named.includes(inToken(tenant, a))),
      }
    } catch (error) {
      if (!(error instanceof IdentityRefused)) throw error
    }
  }
  return { authenticated: false, user: {}, error: 'invalid bearer token' }
}
