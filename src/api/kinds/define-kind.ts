import type { KindDefinition, TableColumn, WriteContext } from '../kind.ts'
import type { KubeObject, Verb } from '../meta.ts'
import type { FieldError } from '../status.ts'

/** At `proxy` a method is a verb of its own, as upstream. */
export const PROXY_VERBS: readonly Verb[] = ['create', 'delete', 'get', 'patch', 'update']
export const ALL_VERBS: readonly Verb[] = [
  'create',
  'delete',
  'deletecollection',
  'get',
  'list',
  'patch',
  'update',
  'watch',
]

/** `/status` of any kind. */
export const statusSubresource = { name: 'status', verbs: ['get', 'patch', 'update'] } as const

/** Names a kind for clients; fits `KindRef` of the client room. `T` is the type of its objects. */
export type TypedKind<T extends KubeObject> = {
  readonly group: string
  readonly version: string
  readonly kind: string
  readonly plural: string
  readonly namespaced: boolean
  /** Never set; carries the type. */
  readonly __object?: T
}

type TypedHooks<T extends KubeObject> = {
  fieldSelectors?: Readonly<Record<string, (object: T) => string>>
  applyDefaults?: (object: T) => T
  validate?: (object: T, context: WriteContext, old?: T) => FieldError[]
  prepareForCreate?: (object: T, context: WriteContext) => T
  prepareForUpdate?: (object: T, old: T, context: WriteContext) => T
  prepareForDelete?: (object: T, nowMs: number) => T
  gracePeriodSeconds?: (object: T) => number
  warnings?: (object: T, old?: T) => string[]
  columns: readonly TypedColumn<T>[]
}
export type TypedColumn<T extends KubeObject> = Omit<TableColumn, 'cell'> & {
  cell(object: T, nowMs: number): string | number | boolean | null
}

/** A definition whose hooks know the type of the kind's objects. */
export function defineKind<T extends KubeObject>(
  kind: TypedKind<T>,
  definition: Omit<
    KindDefinition,
    keyof TypedHooks<T> | 'group' | 'version' | 'kind' | 'plural' | 'namespaced'
  > &
    TypedHooks<NoInfer<T>>,
): KindDefinition {
  const { group, version, kind: name, plural, namespaced } = kind
  // The hooks only ever see objects that `checkObject` let through the schema that `T` was made from.
  return { group, version, kind: name, plural, namespaced, ...definition } as unknown as KindDefinition
}
