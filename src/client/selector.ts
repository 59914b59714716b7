import type { LabelSelector, LabelSelectorRequirement } from '../api/index.ts'

type Labels = Readonly<Record<string, string>> | undefined

function labelOf(labels: Labels, key: string): string | undefined {
  // A tenant may ask for the label "constructor", which every plain object inherits.
  return labels && Object.hasOwn(labels, key) ? labels[key] : undefined
}

function requirementHolds(requirement: LabelSelectorRequirement, labels: Labels): boolean {
  const value = labelOf(labels, requirement.key)
  switch (requirement.operator) {
    case 'In':
      return value !== undefined && (requirement.values ?? []).includes(value)
    case 'NotIn':
      return value === undefined || !(requirement.values ?? []).includes(value)
    case 'Exists':
      return value !== undefined
    case 'DoesNotExist':
      return value === undefined
    default:
      requirement.operator satisfies never
      return false
  }
}

/** As metav1.LabelSelector: an absent selector matches nothing, an empty one everything. */
export function selectorMatches(selector: LabelSelector | undefined, labels: Labels): boolean {
  if (!selector) return false
  return (
    labelsMatch(selector.matchLabels ?? {}, labels) &&
    (selector.matchExpressions ?? []).every((requirement) => requirementHolds(requirement, labels))
  )
}

/** The plain form of Services: every wanted label has its value. An empty one matches everything. */
export function labelsMatch(wanted: Readonly<Record<string, string>>, labels: Labels): boolean {
  return Object.entries(wanted).every(([key, value]) => labelOf(labels, key) === value)
}
