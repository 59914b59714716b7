import type { Json } from './control-plane.ts'

/** A definition with one version of one kind, so that only its schema can be wrong. */
export function ruleDefinition(schema: Json): Json {
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: 'things.example.com' },
    spec: {
      group: 'example.com',
      scope: 'Namespaced',
      names: { plural: 'things', singular: 'thing', kind: 'Thing', listKind: 'ThingList' },
      versions: [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema: schema } }],
    },
  }
}

/**
 * What is said against the rules of a schema, in one order. Upstream names the schema of all versions by a field of its own
 * past (`spec.validation`), and shows a rule as a whole where ours shows its text.
 */
export function refusalsOf(status: Json): string[] {
  const causes: { field: string; reason: string; message: string }[] = status.details?.causes ?? []
  const texts = causes.map(({ field, reason, message }) => {
    const place = field.replace(/^spec\.validation\./, 'spec.versions[0].schema.')
    return `${place} ${reason}: ${message.replace(/^Invalid value: .*?: (?=compilation|messageExpression)/s, '')}`
  })
  return [...new Set(texts)].sort()
}
