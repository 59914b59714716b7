/** As Kubernetes orders versions: v2 > v1 > v2beta1 > v1beta2 > v1alpha1. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [versionRank(a), versionRank(b)]
  for (const [index, rank] of left.entries()) {
    const difference = rank - (right[index] ?? 0)
    if (difference !== 0) return difference
  }
  // Of those that are no versions of Kubernetes, the first in the alphabet comes first.
  return a < b ? 1 : a > b ? -1 : 0
}

function versionRank(version: string): number[] {
  const match = /^v(\d{1,9})(?:(alpha|beta)(\d{1,9}))?$/.exec(version)
  if (!match) return [0, 0, 0]
  const stability = match[2] === undefined ? 3 : match[2] === 'beta' ? 2 : 1
  return [stability, Number(match[1]), Number(match[3] ?? 0)]
}
