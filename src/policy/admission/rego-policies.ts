import { randomUUID } from 'node:crypto'
import {
  ApiError,
  forbidden,
  invalid,
  invalidValue,
  type KindRegistry,
  type MatchResources,
  type RegoPolicy,
  regoPolicyKind,
  type RegoPolicySpec,
  type TenantName,
} from '../../api/index.ts'
import type { PolicyBundle, RegoThreads } from '../../rego/index.ts'
import { REGO_POLICIES_MAX } from '../limits.ts'
import type { Authorizer } from '../rbac.ts'
import type { AdmissionPlugin, AdmissionRequest, ClusterView } from './admission.ts'
import { matchesRequest } from './policies/matching.ts'
import { requestVariables } from './policies/request-variables.ts'

/** A policy of the operator in Rego that holds in a control plane. */
export type HeldRegoPolicy = { name: string; bundle: PolicyBundle; matchConstraints: MatchResources }

/** Those of one control plane, and who is asked. */
export type RegoPolicies = { policies: readonly HeldRegoPolicy[]; threads: RegoThreads | undefined }

/** Policies in Rego that the operator laid upon a control plane. What they cannot or do not decide is refused. */
export function regoPolicies({
  authorizer,
  registry,
  tenant,
  policies,
}: {
  authorizer: Authorizer
  registry: () => KindRegistry
  tenant: TenantName
  policies: () => RegoPolicies
}): AdmissionPlugin {
  const warnings = new WeakMap<AdmissionRequest, string[]>()
  const review = (
    request: AdmissionRequest,
    cluster: ClusterView,
  ): Promise<ApiError | undefined> | undefined => {
    const held = policies()
    if (held.policies.length === 0) return undefined
    const asked = held.policies.filter(({ matchConstraints }) =>
      matchesRequest(matchConstraints, request, cluster, registry()),
    )
    if (asked.length === 0) return undefined
    const input = renderInput(request, cluster, { authorizer, tenant })
    const ask = async (policy: HeldRegoPolicy): Promise<ApiError | undefined> => {
      const { name, bundle } = policy
      const answer = await held.threads?.ask({ tenant, bundle, input })
      const whose = `RegoPolicy '${name}' of the platform`
      switch (answer?.kind) {
        case 'decision': {
          const { violations, warnings: told } = answer.decision
          if (told.length > 0)
            warnings.set(request, [
              ...(warnings.get(request) ?? []),
              ...told.map((text) => `${whose}: ${text}`),
            ])
          return violations.length > 0
            ? refusal(request, `${whose} denied request: ${violations.join('; ')}`)
            : undefined
        }
        case 'busy':
          return new ApiError('TooManyRequests', `${whose} cannot be asked at the moment: ${answer.why}`, {
            details: { retryAfterSeconds: 1 },
          })
        case 'failed':
          return refusal(request, `${whose} could not decide: ${answer.why}`)
        case undefined:
          return refusal(request, `${whose} cannot be asked here`)
        default:
          answer satisfies never
          return refusal(request, `${whose} could not decide`)
      }
    }
    return Promise.all(asked.map(ask)).then((answers) => answers.find((answer) => answer !== undefined))
  }
  return {
    name: 'RegoPolicy',
    review,
    connect: review,
    warnings: (request) => warnings.get(request) ?? [],
  }
}

function refusal({ group, resource, name }: AdmissionRequest, tell: string): ApiError {
  return forbidden(
    { group, resource, ...(name === '' ? {} : { name }) },
    { tell, log: { rule: 'rego-policy' } },
  )
}

/** What a policy sees as `input`: a request as AdmissionReview has it, besides whose it is. */
function renderInput(
  request: AdmissionRequest,
  cluster: ClusterView,
  { authorizer, tenant }: { authorizer: Authorizer; tenant: TenantName },
): string {
  const {
    object,
    oldObject,
    request: seen,
    namespaceObject,
  } = requestVariables(request, cluster, { authorizer, tenant })
  return JSON.stringify({
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: { ...(seen as object), uid: randomUUID(), object, oldObject },
    tenant,
    namespaceObject,
  })
}

/** For the platform's own control plane: a policy that could never be asked is refused when it is written. */
export function regoPolicyChecks(threads: RegoThreads): AdmissionPlugin {
  const of = { group: regoPolicyKind.group, resource: regoPolicyKind.plural }
  const isPolicy = ({ group, resource, operation }: AdmissionRequest) =>
    group === of.group && resource === of.resource && operation !== 'DELETE'
  return {
    name: 'RegoPolicyChecks',
    refuse(request, cluster) {
      if (!isPolicy(request) || request.operation !== 'CREATE') return undefined
      return cluster.count(of) >= REGO_POLICIES_MAX
        ? forbidden({ ...of, name: request.name }, { tell: `there are at most ${REGO_POLICIES_MAX} of them` })
        : undefined
    },
    review(request) {
      if (!isPolicy(request) || request.subresource !== undefined) return undefined
      const { spec } = request.object as RegoPolicy // of that kind
      const { group, kind, name } = request
      return threads
        .check(bundleOf(spec))
        .then((found) =>
          found.kind === 'ready'
            ? undefined
            : invalid({ group, kind, name }, [
                invalidValue('spec.bundle', `${spec.bundle.slice(0, 16)}…`, found.why),
              ]),
        )
    },
  }
}

export function bundleOf({
  bundle,
  entrypoint,
}: Pick<RegoPolicySpec, 'bundle' | 'entrypoint'>): PolicyBundle {
  return { bytes: Buffer.from(bundle, 'base64'), entrypoint }
}
