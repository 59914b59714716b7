import * as fc from 'fast-check'

/** Values that nobody expects, for bodies of requests. */

/** An answer is never 500: that would mean that input reached a place that did not expect it. */
export const NOT_OURS = [501, 503, 504]

const key = fc.oneof(
  fc.constantFrom(
    'apiVersion',
    'kind',
    'metadata',
    'name',
    'namespace',
    'labels',
    'annotations',
    'finalizers',
    'ownerReferences',
    'managedFields',
    'spec',
    'status',
    'data',
    'containers',
    'image',
    'ports',
    'port',
    'selector',
    'matchLabels',
    'template',
    'replicas',
    'rules',
    'verbs',
    'roleRef',
    'subjects',
    'aggregationRule',
    '$patch',
    '$retainKeys',
    '$setElementOrder/containers',
    '__proto__',
    'constructor',
    'op',
    'path',
    'value',
  ),
  fc.string({ maxLength: 8 }),
)
const scalar = fc.oneof(
  fc.constantFrom<unknown>(
    'v1',
    'ConfigMap',
    'Pod',
    'c1',
    'p1',
    'default',
    'delete',
    'replace',
    '/data/a',
    '/metadata',
    'add',
    'remove',
    'test',
    null,
    true,
    0,
    -1,
    1.5,
    1e308,
    2 ** 53,
    '',
  ),
  fc.string({ maxLength: 8 }),
)
export const { tree } = fc.letrec<{ tree: unknown }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 5, withCrossShrink: true },
    scalar,
    fc.array(tie('tree'), { maxLength: 3 }),
    fc.array(fc.tuple(key, tie('tree')), { maxLength: 5 }).map((entries) => Object.fromEntries(entries)),
  ),
}))

/** Puts `value` where `steps` lead, counted along the keys. Changes `node`. */
export function mutate(node: unknown, steps: readonly number[], value: unknown): unknown {
  if (typeof node !== 'object' || node === null || steps.length === 0) return value
  const keys = Object.keys(node)
  const at = keys[steps[0]! % Math.max(keys.length, 1)]
  if (at === undefined) return value
  ;(node as Record<string, unknown>)[at] = mutate(
    (node as Record<string, unknown>)[at],
    steps.slice(1),
    value,
  )
  return node
}
