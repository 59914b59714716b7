import { isDeepStrictEqual } from 'node:util'
import { type FieldError, forbidden, forbiddenField, invalid, type KubeObject } from '../../api/index.ts'
import { PODS_CHECKED_MAX } from '../limits.ts'
import { isProfileAnnotation, type PodSecurityLevel, type Violation } from '../pod-security/checks.ts'
import {
  compareLevels,
  type LevelVersion,
  parsePodSecurityLabels,
  podSecurityViolations,
  renderLevel,
  renderViolations,
} from '../pod-security/policy.ts'
import { podTemplateOf } from '../pod-templates.ts'
import type { AdmissionPlugin, AdmissionRequest, ClusterView } from './admission.ts'

/**
 * Pod Security Standards by the labels of namespaces, and the level that the operator requires of the whole tenant.
 * Upstream lets a Deployment in that can never have a pod; here what describes pods is refused like a pod.
 */
export function podSecurity(minimum: () => PodSecurityLevel): AdmissionPlugin {
  return {
    name: 'PodSecurity',
    refuse(request, cluster) {
      const { group, kind, resource, name } = request
      if (isNamespace(request)) {
        const errors = changedLabelErrors(request)
        return errors.length > 0 ? invalid({ group, kind, name }, errors) : undefined
      }
      const why = violated(request, cluster, minimum())
      return why && forbidden({ group, resource, name }, { tell: why.tell, log: { rule: 'pod-security' } })
    },
    problems(request, cluster) {
      if (isNamespace(request)) return changedLabelErrors(request)
      const why = violated(request, cluster, minimum())
      return why ? [forbiddenField(why.path, why.tell)] : []
    },
    auditNotes: (request, cluster) =>
      wouldViolate(request, cluster, 'audit').map((told) => `PodSecurity: ${told}`),
    warnings(request, cluster) {
      if (request.operation === 'DELETE' || request.subresource !== undefined) return []
      if (isNamespace(request)) return namespaceWarnings(request, cluster, minimum())
      const pod = podTemplateOf(request, request.object)
      if (!pod) return []
      const annotations = Object.keys(pod.annotations).filter(isProfileAnnotation)
      const metadata = pod.path.replace(/spec$/, 'metadata')
      return [
        ...annotations.map(
          (key) => `${metadata}.annotations[${key}]: has no effect: the platform chooses the profiles`,
        ),
        ...wouldViolate(request, cluster, 'warn'),
      ]
    },
  }
}

function isNamespace({ group, resource, subresource, operation }: AdmissionRequest): boolean {
  return group === '' && resource === 'namespaces' && subresource === undefined && operation !== 'DELETE'
}

function namespaceOf(cluster: ClusterView, name: string): KubeObject | undefined {
  return cluster.get({ group: '', resource: 'namespaces', name })
}

/** Only what changes is judged, so that labels of before do not hinder other changes. */
function changedLabelErrors({ object, old }: AdmissionRequest): FieldError[] {
  const { errors } = parsePodSecurityLabels(object.metadata.labels)
  return old && isDeepStrictEqual(errors, parsePodSecurityLabels(old.metadata.labels).errors) ? [] : errors
}

/** True for a write that decides what new pods look like. */
function decidesAboutPods(request: AdmissionRequest): boolean {
  const { operation, subresource, resource, user, object, old } = request
  if (operation === 'DELETE' || subresource !== undefined) return false
  // What a controller copies from a template was judged there; its pods are judged whoever makes them.
  if (user.kind === 'component' && (resource !== 'pods' || old)) return false
  return !old || !isDeepStrictEqual(podTemplateOf(request, object), podTemplateOf(request, old))
}

function violated(
  request: AdmissionRequest,
  cluster: ClusterView,
  minimum: PodSecurityLevel,
): { path: string; tell: string } | undefined {
  const { namespace, object } = request
  const pod = podTemplateOf(request, object)
  if (!pod || namespace === undefined || !decidesAboutPods(request)) return undefined
  const { enforce } = parsePodSecurityLabels(namespaceOf(cluster, namespace)?.metadata.labels).policy
  const operators: LevelVersion = { level: minimum, version: 'latest' }
  const levels = compareLevels(enforce.level, minimum) >= 0 ? [enforce, operators] : [operators, enforce]
  for (const level of levels) {
    const violations = podSecurityViolations(level, pod)
    if (violations.length === 0) continue
    const whose = level === operators ? '; the operator requires this level of the whole tenant' : ''
    return { path: pod.path, tell: `violates ${renderViolations(level, violations)}${whose}` }
  }
  return undefined
}

/** What a label that only advises says about a write. */
function wouldViolate(request: AdmissionRequest, cluster: ClusterView, mode: 'audit' | 'warn'): string[] {
  const { operation, namespace, subresource, object } = request
  const pod = podTemplateOf(request, object)
  if (!pod || operation === 'DELETE' || subresource !== undefined || namespace === undefined) return []
  const level = parsePodSecurityLabels(namespaceOf(cluster, namespace)?.metadata.labels).policy[mode]
  const violations = podSecurityViolations(level, pod)
  return violations.length > 0 ? [`would violate ${renderViolations(level, violations)}`] : []
}

function namespaceWarnings(
  { name, object, old }: AdmissionRequest,
  cluster: ClusterView,
  minimum: PodSecurityLevel,
): string[] {
  const labels = object.metadata.labels ?? {}
  const { enforce } = parsePodSecurityLabels(labels).policy
  const was = parsePodSecurityLabels(old?.metadata.labels).policy.enforce
  const warnings: string[] = []
  if (Object.hasOwn(labels, ENFORCE) && compareLevels(enforce.level, minimum) < 0)
    warnings.push(
      `metadata.labels[${ENFORCE}]: has no effect: the operator requires ${renderLevel({ level: minimum, version: 'latest' })} of the whole tenant`,
    )
  const relaxed = enforce.version === was.version && compareLevels(enforce.level, was.level) <= 0
  if (!old || relaxed || enforce.level === 'privileged') return warnings
  return [...warnings, ...podsThatViolate(enforce, name, cluster)]
}

const ENFORCE = 'pod-security.kubernetes.io/enforce'

/** Pods that are there stay; their owner is told, as upstream does. */
function podsThatViolate(enforce: LevelVersion, namespace: string, cluster: ClusterView): string[] {
  const of = { group: '', resource: 'pods' }
  const pods = cluster.list({ ...of, namespace })
  const byReason = new Map<string, string[]>()
  for (const object of pods.slice(0, PODS_CHECKED_MAX)) {
    const pod = podTemplateOf(of, object)
    const violations: Violation[] = pod ? podSecurityViolations(enforce, pod) : []
    if (violations.length === 0) continue
    const reason = violations.map((violation) => violation.reason).join(', ')
    byReason.set(reason, [...(byReason.get(reason) ?? []), object.metadata.name])
  }
  const unchecked =
    pods.length > PODS_CHECKED_MAX
      ? [
          `new PodSecurity enforce level only checked against the first ${PODS_CHECKED_MAX} of ${pods.length} existing pods`,
        ]
      : []
  if (byReason.size === 0) return unchecked
  const lines = [...byReason].map(([reason, names]) => {
    const others = names.length - 1
    const rest = others === 0 ? '' : ` (and ${others} other ${others === 1 ? 'pod' : 'pods'})`
    return `${names.sort()[0]}${rest}: ${reason}`
  })
  return [
    ...unchecked,
    `existing pods in namespace "${namespace}" violate the new PodSecurity enforce level ${renderLevel(enforce)}`,
    ...lines.sort(),
  ]
}
