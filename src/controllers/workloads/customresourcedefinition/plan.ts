import type { CustomResourceDefinition } from '../../kinds.ts'
import { withCondition } from '../../conditions.ts'

type Names = CustomResourceDefinition['spec']['names']
type Status = NonNullable<CustomResourceDefinition['status']>

/** What is built in, which nobody else may be called in the same group. */
export type TakenKind = {
  group: string
  plural: string
  singular: string
  kind: string
  shortNames?: readonly string[]
}

/**
 * Which of its names a definition gets, and whether it is served. A name belongs to who had it first; who asks for one
 * that is taken waits until it is free.
 */
export function planStatus(
  definition: CustomResourceDefinition,
  others: readonly CustomResourceDefinition[],
  builtIn: readonly TakenKind[],
  nowMs: number,
): Status {
  const { spec, status = {} } = definition
  const { names } = spec
  const resources = new Set<string>()
  const kinds = new Set<string>()
  for (const kind of builtIn)
    if (kind.group === spec.group) {
      for (const name of [kind.plural, kind.singular, ...(kind.shortNames ?? [])]) resources.add(name)
      for (const name of [kind.kind, `${kind.kind}List`]) kinds.add(name)
    }
  for (const other of others) {
    const accepted = other.status?.acceptedNames
    if (!accepted || other.spec.group !== spec.group || other.metadata.uid === definition.metadata.uid)
      continue
    for (const name of [accepted.plural, accepted.singular, ...(accepted.shortNames ?? [])])
      if (name) resources.add(name)
    for (const name of [accepted.kind, accepted.listKind]) if (name) kinds.add(name)
  }
  const had: Names = status.acceptedNames ?? { plural: '', kind: '' }
  const problems: { reason: string; message: string }[] = []
  const accept = (
    field: 'plural' | 'singular' | 'kind' | 'listKind',
    taken: ReadonlySet<string>,
    reason: string,
  ) => {
    const wanted = names[field]
    if (!wanted) return had[field]
    if (!taken.has(wanted)) return wanted
    problems.push({ reason, message: `${JSON.stringify(wanted)} is already in use` })
    return had[field]
  }
  const plural = accept('plural', resources, 'PluralConflict') ?? ''
  const singular = accept('singular', resources, 'SingularConflict')
  const clashing = (names.shortNames ?? []).filter((name) => resources.has(name))
  if (clashing.length > 0)
    problems.push({
      reason: 'ShortNamesConflict',
      message: clashing.map((name) => `${JSON.stringify(name)} is already in use`).join(', '),
    })
  const shortNames = clashing.length > 0 ? had.shortNames : names.shortNames
  const kind = accept('kind', kinds, 'KindConflict') ?? ''
  const listKind = accept('listKind', kinds, 'ListKindConflict')
  const [problem] = problems.slice(-1)
  const namesAccepted = problem
    ? { type: 'NamesAccepted', status: 'False', ...problem }
    : { type: 'NamesAccepted', status: 'True', reason: 'NoConflicts', message: 'no conflicts found' }
  const established = status.conditions?.find(({ type }) => type === 'Established')
  const wasEstablished = established?.status === 'True'
  const acceptedNames: Names = {
    plural,
    ...(singular === undefined ? {} : { singular }),
    ...(shortNames ? { shortNames } : {}),
    kind,
    ...(listKind === undefined ? {} : { listKind }),
    ...(names.categories ? { categories: names.categories } : {}),
  }
  const nextEstablished =
    wasEstablished && established
      ? established
      : problem
        ? {
            type: 'Established',
            status: 'False',
            reason: 'NotAccepted',
            message: 'not all names are accepted',
          }
        : {
            type: 'Established',
            status: 'True',
            reason: 'InitialNamesAccepted',
            message: 'the initial names have been accepted',
          }
  const conditions = withCondition(
    withCondition(status.conditions, namesAccepted, nowMs),
    nextEstablished,
    nowMs,
  )
  return { ...status, conditions, acceptedNames, storedVersions: status.storedVersions ?? [] }
}
