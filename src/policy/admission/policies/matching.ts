import {
  type KindRegistry,
  type KubeObject,
  type LabelSelector,
  type MatchResources,
  matchesLabelSelector,
  type NamedRule,
} from '../../../api/index.ts'
import type { AdmissionRequest, ClusterView } from '../admission.ts'

/** Whether a request is one of those that a policy or binding is about. */
export function matchesRequest(
  match: MatchResources | undefined,
  request: AdmissionRequest,
  cluster: ClusterView,
  registry: KindRegistry,
): boolean {
  if (!match) return true
  const { resourceRules = [], excludeResourceRules = [], namespaceSelector, objectSelector } = match
  const exact = match.matchPolicy === 'Exact'
  const fits = (rule: NamedRule) => ruleFits(rule, request, exact, registry)
  if (excludeResourceRules.some(fits)) return false
  // A binding without rules narrows nothing; a policy always has some.
  if (resourceRules.length > 0 && !resourceRules.some(fits)) return false
  return namespaceFits(namespaceSelector, request, cluster) && objectFits(objectSelector, request)
}

function ruleFits(
  {
    apiGroups = [],
    apiVersions = [],
    resources = [],
    operations = [],
    resourceNames = [],
    scope = '*',
  }: NamedRule,
  { group, version, resource, subresource, operation, namespace, name }: AdmissionRequest,
  exact: boolean,
  registry: KindRegistry,
): boolean {
  const has = (list: readonly string[], item: string) => list.includes('*') || list.includes(item)
  if (!has(apiGroups, group) || !has(operations, operation)) return false
  // The other versions of a resource are the same objects, whichever of them a rule names.
  const sameObject = (other: string) =>
    !exact && registry.find({ group, version: other, resource }) !== undefined
  if (!has(apiVersions, version) && !apiVersions.some(sameObject)) return false
  if (scope !== '*' && (scope === 'Namespaced') !== (namespace !== undefined)) return false
  if (resourceNames.length > 0 && !resourceNames.includes(name)) return false
  return resources.some((wanted) => {
    const [wantedResource, wantedSub] = wanted.split('/') as [string, string | undefined]
    if (wantedResource !== '*' && wantedResource !== resource) return false
    return wantedSub === '*' || wantedSub === subresource
  })
}

/** A namespace is judged by its own labels, everything else by those of the namespace it is in. */
function namespaceFits(
  selector: LabelSelector | undefined,
  { group, resource, subresource, namespace, object, old }: AdmissionRequest,
  cluster: ClusterView,
): boolean {
  if (!selector || isEmpty(selector)) return true
  if (group === '' && resource === 'namespaces' && subresource === undefined)
    return matchesLabelSelector(selector, (old ?? object).metadata.labels ?? {})
  if (namespace === undefined) return true
  const found = cluster.get({ group: '', resource: 'namespaces', name: namespace })
  return matchesLabelSelector(selector, found?.metadata.labels ?? {})
}

function objectFits(
  selector: LabelSelector | undefined,
  { operation, object, old }: AdmissionRequest,
): boolean {
  if (!selector || isEmpty(selector)) return true
  // What has no labels is nothing that a selector is about, as upstream.
  if (operation === 'CONNECT') return false
  const fits = (one: KubeObject | undefined) =>
    one !== undefined && matchesLabelSelector(selector, one.metadata.labels ?? {})
  return fits(object) || fits(old)
}

function isEmpty({ matchLabels, matchExpressions }: LabelSelector): boolean {
  return Object.keys(matchLabels ?? {}).length === 0 && (matchExpressions?.length ?? 0) === 0
}
