import {
  type KindDefinition,
  type KubeObject,
  type ListMeta,
  type ObjectMeta,
  badRequest,
} from '../api/index.ts'

/** How much of each object a table's row carries. */
export type IncludeObject = 'None' | 'Metadata' | 'Object'

/** Versions of meta.k8s.io that a client may ask for; both have the same fields. */
export type MetaVersion = 'v1' | 'v1beta1'

export type PartialObjectMetadata = {
  kind: 'PartialObjectMetadata'
  apiVersion: `meta.k8s.io/${MetaVersion}`
  metadata: ObjectMeta
}

export type PartialObjectMetadataList = {
  kind: 'PartialObjectMetadataList'
  apiVersion: `meta.k8s.io/${MetaVersion}`
  metadata: ListMeta
  items: PartialObjectMetadata[]
}

type ColumnDefinition = { name: string; type: string; format: string; description: string; priority: number }
type Row = { cells: (string | number | boolean | null)[]; object: KubeObject | PartialObjectMetadata | null }

/** metav1.Table: what `kubectl get` prints. */
export type Table = {
  kind: 'Table'
  apiVersion: `meta.k8s.io/${MetaVersion}`
  metadata: Partial<ListMeta>
  columnDefinitions: ColumnDefinition[]
  rows: Row[]
}

/** @throws {ApiError} BadRequest */
export function parseIncludeObject(value: string | null): IncludeObject {
  if (value === null || value === '') return 'Metadata'
  if (value === 'None' || value === 'Metadata' || value === 'Object') return value
  throw badRequest(`unrecognized includeObject value: ${JSON.stringify(value.slice(0, 64))}`)
}

export type TableOptions = {
  nowMs: number
  includeObject: IncludeObject
  /** The list's; a table of one object takes that object's resourceVersion. */
  metadata?: ListMeta
  version?: MetaVersion
}

/** The table of some objects of one kind: a list, or a single one. */
export function renderTable(
  definition: Pick<KindDefinition, 'columns'>,
  objects: readonly KubeObject[],
  options: TableOptions,
): Table {
  const { nowMs, includeObject, metadata, version = 'v1' } = options
  const single = objects.length === 1 ? objects[0] : undefined
  const resourceVersion = single?.metadata.resourceVersion
  return {
    kind: 'Table',
    apiVersion: `meta.k8s.io/${version}`,
    metadata: metadata ?? (resourceVersion === undefined ? {} : { resourceVersion }),
    columnDefinitions: columnDefinitions(definition),
    rows: objects.map((object) => ({
      cells: definition.columns.map((column) => column.cell(object, nowMs)),
      object: rowObject(object, includeObject, version),
    })),
  }
}

function columnDefinitions({ columns }: Pick<KindDefinition, 'columns'>): ColumnDefinition[] {
  return columns.map(({ name, type, format = '', description, priority = 0 }) => ({
    name,
    type,
    format,
    description,
    priority,
  }))
}

function rowObject(object: KubeObject, include: IncludeObject, version: MetaVersion): Row['object'] {
  switch (include) {
    case 'None':
      return null
    case 'Metadata':
      return renderPartialObjectMetadata(object, version)
    case 'Object':
      return object
    default:
      include satisfies never
      return null
  }
}

export function renderPartialObjectMetadata(
  object: KubeObject,
  version: MetaVersion = 'v1',
): PartialObjectMetadata {
  return { kind: 'PartialObjectMetadata', apiVersion: `meta.k8s.io/${version}`, metadata: object.metadata }
}

export function renderPartialObjectMetadataList(
  objects: readonly KubeObject[],
  metadata: ListMeta,
  version: MetaVersion = 'v1',
): PartialObjectMetadataList {
  return {
    kind: 'PartialObjectMetadataList',
    apiVersion: `meta.k8s.io/${version}`,
    metadata,
    items: objects.map((object) => renderPartialObjectMetadata(object, version)),
  }
}
