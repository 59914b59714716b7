import {
  type FieldRequirement,
  type KindDefinition,
  type KubeObject,
  badRequest,
  fieldMatcher,
  matchesLabels,
  parseFieldSelector,
  parseLabelSelector,
} from '../api/index.ts'

/** Which objects a list or a watch is about. */
export type Selection = { everything: boolean; matches(object: KubeObject): boolean }

/** @throws {ApiError} BadRequest */
export function parseSelection(
  definition: KindDefinition,
  { labelSelector, fieldSelector }: { labelSelector: string; fieldSelector: string },
): Selection {
  if (labelSelector === '' && fieldSelector === '') return { everything: true, matches: () => true }
  const labels = parseLabelSelector(labelSelector)
  const fields = parseFieldSelector(fieldSelector)
  refuseUnknown(definition, fields)
  const matchesFields = fieldMatcher(definition, fields)
  return {
    everything: false,
    matches: (object) => matchesLabels(labels, object.metadata.labels) && matchesFields(object),
  }
}

/** Upstream's words for kinds that have no selectors of their own. */
function refuseUnknown({ fieldSelectors }: KindDefinition, fields: readonly FieldRequirement[]): void {
  if (fieldSelectors) return
  const unknown = fields.find(({ field }) => field !== 'metadata.name' && field !== 'metadata.namespace')
  if (unknown)
    throw badRequest(
      `${JSON.stringify(unknown.field.slice(0, 256))} is not a known field selector: only "metadata.name", "metadata.namespace"`,
    )
}

/** The one name that a field selector asks for, which RBAC's resourceNames may then allow. */
export function nameInFieldSelector(text: string): string | undefined {
  if (!text.includes('metadata.name')) return undefined
  try {
    return parseFieldSelector(text).find(
      ({ field, operator }) => field === 'metadata.name' && operator === '=',
    )?.value
  } catch {
    return undefined
  }
}
