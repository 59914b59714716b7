import { type FieldError, invalidValue } from '../../api/index.ts'
import type { PodTemplate } from '../pod-templates.ts'
import { CHECKS, POD_SECURITY_LEVELS, type PodSecurityLevel, type Violation } from './checks.ts'

/** A level as some version of Kubernetes defines it. */
export type LevelVersion = { level: PodSecurityLevel; version: number | 'latest' }
export type PodSecurityPolicy = Record<'enforce' | 'audit' | 'warn', LevelVersion>

const PREFIX = 'pod-security.kubernetes.io/'
const NONE: LevelVersion = { level: 'privileged', version: 'latest' }
const VERSION = /^v1\.(0|[1-9]\d{0,8})$/

/**
 * What the labels of a namespace ask for. Labels that cannot be read count as the strictest where they enforce, and are
 * ignored where they only advise, as upstream.
 */
export function parsePodSecurityLabels(labels: Readonly<Record<string, string>> = {}): Parsed {
  // A stored namespace's labels stay as they are, and are asked about several times for each pod.
  const known = parsedLabels.get(labels)
  if (known) return known
  const parsed = parseLabels(labels)
  if (Object.isFrozen(labels)) parsedLabels.set(labels, parsed)
  return parsed
}

type Parsed = { readonly policy: PodSecurityPolicy; readonly errors: FieldError[] }
const parsedLabels = new WeakMap<object, Parsed>()

function parseLabels(labels: Readonly<Record<string, string>>): Parsed {
  const errors: FieldError[] = []
  const read = (mode: keyof PodSecurityPolicy): LevelVersion => {
    const parsed: LevelVersion = { ...NONE }
    const wrong = (label: string, value: string, why: string) =>
      errors.push(invalidValue(`metadata.labels[${label}]`, value, why))
    const level = labels[PREFIX + mode]
    if (level !== undefined) {
      const known = POD_SECURITY_LEVELS.find((name) => name === level)
      parsed.level = known ?? (mode === 'enforce' ? 'restricted' : 'privileged')
      if (!known) wrong(PREFIX + mode, level, `must be one of ${POD_SECURITY_LEVELS.join(', ')}`)
    }
    const label = `${PREFIX}${mode}-version`
    const version = labels[label]
    if (version !== undefined && version !== 'latest') {
      const minor = VERSION.exec(version)?.[1]
      if (minor === undefined) wrong(label, version, 'must be "latest" or "v1.x"')
      else parsed.version = Number(minor)
    }
    return parsed
  }
  return { policy: { enforce: read('enforce'), audit: read('audit'), warn: read('warn') }, errors }
}

export function compareLevels(a: PodSecurityLevel, b: PodSecurityLevel): number {
  return POD_SECURITY_LEVELS.indexOf(a) - POD_SECURITY_LEVELS.indexOf(b)
}

/** Everything by which a pod is not of a level. */
export function podSecurityViolations({ level, version }: LevelVersion, pod: PodTemplate): Violation[] {
  const minor = version === 'latest' ? Number.POSITIVE_INFINITY : version
  return CHECKS.filter(
    (check) =>
      compareLevels(check.level, level) <= 0 &&
      check.from <= minor &&
      (check.to === undefined || minor <= check.to),
  ).flatMap((check) => check.violation(pod) ?? [])
}

export function renderLevel({ level, version }: LevelVersion): string {
  return `"${level}:${version === 'latest' ? version : `v1.${version}`}"`
}

/** Upstream's words, which people search for. */
export function renderViolations(of: LevelVersion, violations: readonly Violation[]): string {
  const list = violations.map(({ reason, detail }) => `${reason} (${detail})`).join(', ')
  return `PodSecurity ${renderLevel(of)}: ${list}`
}
