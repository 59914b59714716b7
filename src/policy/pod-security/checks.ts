import type { Container } from '../../api/index.ts'
import { containersOf, type PodTemplate } from '../pod-templates.ts'

/**
 * The Pod Security Standards, as far as our schemas leave anything to check: what `baseline` forbids cannot be written
 * down here, except for annotations of old. A test fails when a schema comes to allow more than a level does.
 * https://kubernetes.io/docs/concepts/security/pod-security-standards/
 */

export const POD_SECURITY_LEVELS = ['privileged', 'baseline', 'restricted'] as const
export type PodSecurityLevel = (typeof POD_SECURITY_LEVELS)[number]

/** Why a pod is not of a level: in a word, and which containers must do what. */
export type Violation = { reason: string; detail: string }

export type Check = {
  level: Exclude<PodSecurityLevel, 'privileged'>
  /** The minor versions of Kubernetes whose standard has this rule. */
  from: number
  to?: number
  violation(pod: PodTemplate): Violation | undefined
}

const quoted = (names: readonly string[]): string => names.map((name) => JSON.stringify(name)).join(', ')
const plural = (word: string, count: number): string => (count === 1 ? word : `${word}s`)
const containers = (names: readonly string[]): string =>
  `${plural('container', names.length)} ${quoted(names)}`

function named(pod: PodTemplate, matches: (container: Container) => boolean): string[] {
  return containersOf(pod.spec).flatMap(({ container }) => (matches(container) ? [container.name] : []))
}

const APP_ARMOR = 'container.apparmor.security.beta.kubernetes.io/'
const SECCOMP_POD = 'seccomp.security.alpha.kubernetes.io/pod'
const SECCOMP_CONTAINER = 'container.seccomp.security.alpha.kubernetes.io/'

/** Annotations by which manifests of old choose a profile; nothing reads them here. */
export function isProfileAnnotation(key: string): boolean {
  return key.startsWith(APP_ARMOR) || key === SECCOMP_POD || key.startsWith(SECCOMP_CONTAINER)
}

function appArmorAnnotations({ annotations }: PodTemplate): Violation | undefined {
  const bad = Object.entries(annotations)
    .filter(([key]) => key.startsWith(APP_ARMOR))
    .filter(([, value]) => value !== '' && value !== 'runtime/default' && !value.startsWith('localhost/'))
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .sort()
  return bad.length === 0
    ? undefined
    : { reason: plural('forbidden AppArmor profile', bad.length), detail: bad.join(', ') }
}

function seccompAnnotations(pod: PodTemplate): Violation | undefined {
  const keys = [SECCOMP_POD, ...named(pod, () => true).map((name) => SECCOMP_CONTAINER + name)]
  const bad = keys
    .filter((key) => Object.hasOwn(pod.annotations, key))
    .map((key) => [key, pod.annotations[key] ?? ''] as const)
    .filter(([, value]) => value !== 'runtime/default' && value !== 'docker/default')
    .filter(([, value]) => !value.startsWith('localhost/'))
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .sort()
  return bad.length === 0
    ? undefined
    : { reason: 'seccompProfile', detail: `forbidden ${plural('annotation', bad.length)} ${bad.join(', ')}` }
}

function escalation(pod: PodTemplate): Violation | undefined {
  const bad = named(pod, (c) => c.securityContext?.allowPrivilegeEscalation !== false)
  return bad.length === 0
    ? undefined
    : {
        reason: 'allowPrivilegeEscalation != false',
        detail: `${containers(bad)} must set securityContext.allowPrivilegeEscalation=false`,
      }
}

function capabilities(pod: PodTemplate): Violation | undefined {
  const keeping = named(pod, (c) => !c.securityContext?.capabilities?.drop?.includes('ALL'))
  const extra = (c: Container) =>
    (c.securityContext?.capabilities?.add ?? []).filter((added) => added !== 'NET_BIND_SERVICE')
  const adding = named(pod, (c) => extra(c).length > 0)
  const added = new Set(containersOf(pod.spec).flatMap(({ container }) => extra(container)))
  const details = [
    ...(keeping.length > 0
      ? [`${containers(keeping)} must set securityContext.capabilities.drop=["ALL"]`]
      : []),
    ...(adding.length > 0
      ? [
          `${containers(adding)} must not include ${quoted([...added].sort())} in securityContext.capabilities.add`,
        ]
      : []),
  ]
  return details.length === 0
    ? undefined
    : { reason: 'unrestricted capabilities', detail: details.join('; ') }
}

function setters(pod: boolean, bad: readonly string[]): string {
  return [...(pod ? ['pod'] : []), ...(bad.length > 0 ? [containers(bad)] : [])].join(' and ')
}

function nonRoot(pod: PodTemplate): Violation | undefined {
  const reason = 'runAsNonRoot != true'
  const whole = pod.spec.securityContext?.runAsNonRoot
  const bad = named(pod, (c) => c.securityContext?.runAsNonRoot === false)
  if (whole === false || bad.length > 0)
    return {
      reason,
      detail: `${setters(whole === false, bad)} must not set securityContext.runAsNonRoot=false`,
    }
  const silent = whole ? [] : named(pod, (c) => c.securityContext?.runAsNonRoot === undefined)
  return silent.length === 0
    ? undefined
    : { reason, detail: `pod or ${containers(silent)} must set securityContext.runAsNonRoot=true` }
}

function rootUser(pod: PodTemplate): Violation | undefined {
  const whole = pod.spec.securityContext?.runAsUser === 0
  const bad = named(pod, (c) => c.securityContext?.runAsUser === 0)
  return whole || bad.length > 0
    ? { reason: 'runAsUser=0', detail: `${setters(whole, bad)} must not set runAsUser=0` }
    : undefined
}

function seccompProfile(pod: PodTemplate): Violation | undefined {
  const silent = pod.spec.securityContext?.seccompProfile
    ? []
    : named(pod, (c) => c.securityContext?.seccompProfile === undefined)
  return silent.length === 0
    ? undefined
    : {
        reason: 'seccompProfile',
        detail: `pod or ${containers(silent)} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"`,
      }
}

/** In the order in which upstream tells them. */
export const CHECKS: readonly Check[] = [
  { level: 'baseline', from: 0, violation: appArmorAnnotations },
  { level: 'baseline', from: 0, to: 18, violation: seccompAnnotations },
  { level: 'restricted', from: 8, violation: escalation },
  { level: 'restricted', from: 22, violation: capabilities },
  { level: 'restricted', from: 0, violation: nonRoot },
  { level: 'restricted', from: 23, violation: rootUser },
  { level: 'restricted', from: 19, violation: seccompProfile },
]
