import {
  type KindRegistry,
  type KubeObject,
  matchesLabelSelector,
  type ValidatingAdmissionPolicySpec,
} from '../../../api/index.ts'
import { POLICY_PARAMS_MAX } from '../../limits.ts'
import type { AdmissionRequest, ClusterView } from '../admission.ts'
import type { PolicyBinding } from './judge.ts'

type ParamKind = NonNullable<ValidatingAdmissionPolicySpec['paramKind']>

/** The kind that a policy's parameters are of, when this control plane serves it. */
export function paramDefinition({ apiVersion = '', kind = '' }: ParamKind, registry: KindRegistry) {
  const slash = apiVersion.indexOf('/')
  const [group, version] =
    slash < 0 ? ['', apiVersion] : [apiVersion.slice(0, slash), apiVersion.slice(slash + 1)]
  return registry.findKind({ group, version, kind })
}

/** What `params` is, one after the other: nothing to check when the list is empty, and why it cannot be said. */
export function paramsOf(
  paramKind: ParamKind | undefined,
  { spec: { paramRef }, params: given }: Pick<PolicyBinding, 'spec' | 'params'>,
  request: AdmissionRequest,
  cluster: ClusterView,
  registry: KindRegistry,
): { params: readonly (KubeObject | null)[] } | { why: string } {
  if (!paramKind || !paramRef) return { params: [null] }
  if (given) return 'why' in given ? given : among(given, paramRef)
  const definition = paramDefinition(paramKind, registry)
  if (!definition)
    return {
      why: `failed to find resource referenced by paramKind: '${paramKind.apiVersion}, Kind=${paramKind.kind}'`,
    }
  const of = { group: definition.group, resource: definition.plural }
  if (!definition.namespaced && paramRef.namespace)
    return { why: 'paramRef.namespace must not be provided for a cluster-scoped `paramKind`' }
  const namespace = definition.namespaced ? paramRef.namespace || request.namespace : undefined
  if (definition.namespaced && namespace === undefined)
    return {
      why: 'cannot use namespaced paramRef in policy binding that matches cluster-scoped resources',
    }
  const place = namespace === undefined ? of : { ...of, namespace }
  if (paramRef.name) {
    const found = cluster.get({ ...place, name: paramRef.name })
    return among(found ? [found] : [], paramRef)
  }
  const params = cluster
    .list(place)
    .filter(({ metadata }) => matchesLabelSelector(paramRef.selector, metadata.labels ?? {}))
  return among(params, paramRef)
}

function among(
  params: readonly KubeObject[],
  { parameterNotFoundAction }: NonNullable<PolicyBinding['spec']['paramRef']>,
): { params: readonly KubeObject[] } | { why: string } {
  if (params.length > POLICY_PARAMS_MAX)
    return { why: `the selector of paramRef finds ${params.length} objects, more than ${POLICY_PARAMS_MAX}` }
  if (params.length === 0 && parameterNotFoundAction !== 'Allow')
    return { why: 'no params found for policy binding with `Deny` parameterNotFoundAction' }
  return { params }
}
