import type { Container, KubeObject, PodSpec } from '../api/index.ts'

/** Where each kind that describes pods does so, by `plural.group`. A test holds it against the schemas. */
export const POD_TEMPLATES: ReadonlyMap<string, readonly string[]> = new Map([
  ['pods.', []],
  ['podtemplates.', ['template']],
  ['replicationcontrollers.', ['spec', 'template']],
  ['daemonsets.apps', ['spec', 'template']],
  ['deployments.apps', ['spec', 'template']],
  ['replicasets.apps', ['spec', 'template']],
  ['statefulsets.apps', ['spec', 'template']],
  ['jobs.batch', ['spec', 'template']],
  ['cronjobs.batch', ['spec', 'jobTemplate', 'spec', 'template']],
])

/** The pods that an object describes, and where it does so. */
export type PodTemplate = {
  /** Of its spec, as people write it: `spec`, `spec.template.spec`. */
  path: string
  annotations: Readonly<Record<string, string>>
  spec: PodSpec
}

export function podTemplateOf(
  { group, resource }: { group: string; resource: string },
  object: KubeObject,
): PodTemplate | undefined {
  const path = POD_TEMPLATES.get(`${resource}.${group}`)
  if (!path) return undefined
  let at: unknown = object
  for (const field of path) at = (at as Record<string, unknown> | undefined)?.[field]
  // What stands there went through the schema of the kind, in which it is a pod or the template of one.
  const { metadata, spec } = (at ?? {}) as Partial<Pick<KubeObject, 'metadata'>> & { spec?: PodSpec }
  if (!spec?.containers) return undefined
  return { path: [...path, 'spec'].join('.'), annotations: metadata?.annotations ?? {}, spec }
}

/** Every container of a pod, in the order in which upstream looks at them, with its path within the spec. */
export function containersOf(spec: PodSpec): { path: string; container: Container }[] {
  return (['initContainers', 'containers'] as const).flatMap((field) =>
    (spec[field] ?? []).map((container, index) => ({ path: `${field}[${index}]`, container })),
  )
}
