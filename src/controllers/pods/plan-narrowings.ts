import { labelSelectorRequirements, parseEgressPort } from '../../api/index.ts'
import type { EgressNarrowing, NarrowedTo, PodLabelRequirement } from '../../jail/index.ts'
import type { EgressPolicy } from '../kinds.ts'

/** What a tenant leaves of what the operator has opened; undefined when it narrows nothing. Pure. */
export function planNarrowings(policies: readonly EgressPolicy[]): EgressNarrowing[] | undefined {
  if (policies.length === 0) return undefined
  return policies
    .toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1))
    .map(({ metadata, spec: { podSelector = {}, allow = [] } }) => ({
      namespace: metadata.namespace ?? '',
      selector: labelSelectorRequirements(podSelector) as PodLabelRequirement[], // those of objects compare no numbers
      allow: allow.map(({ host, cidr, ports }): NarrowedTo => ({
        ...(host === undefined ? {} : { host }),
        ...(cidr === undefined ? {} : { cidr }),
        ...(ports ? { ports: ports.flatMap((port) => parseEgressPort(port) ?? []) } : {}),
      })),
    }))
}

function keyOf({ metadata }: EgressPolicy): string {
  return `${metadata.namespace}/${metadata.name}`
}
