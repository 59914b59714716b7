import type { KubeObject } from '../meta.ts'
import type { FieldError } from '../status.ts'
import { ageColumn, column, nameColumn } from './columns.ts'
import { ALL_VERBS, defineKind, type TypedKind } from './define-kind.ts'
import { requiredValue } from './field-errors.ts'
import { objectFields } from './meta.ts'
import { dnsSubdomainProblem } from './names.ts'
import { immutableError, nonNegative } from './rules.ts'
import { anything, int64, object, optional, required } from './schema-builders.ts'

export const controllerRevisionSchema = object(
  'io.k8s.api.apps.v1.ControllerRevision',
  'A template as it was once, for a rollback. Made by StatefulSets and DaemonSets.',
  {
    ...objectFields,
    data: optional(anything, 'The state to go back to; cannot change.'),
    revision: required(int64, 'Counts the states.'),
  },
)
export type ControllerRevision = KubeObject & {
  apiVersion: 'apps/v1'
  kind: 'ControllerRevision'
  data?: unknown
  revision: number
}
export const controllerRevisionKind: TypedKind<ControllerRevision> = {
  group: 'apps',
  version: 'v1',
  kind: 'ControllerRevision',
  plural: 'controllerrevisions',
  namespaced: true,
}
export const controllerRevisionDefinition = defineKind(controllerRevisionKind, {
  singular: 'controllerrevision',
  verbs: ALL_VERBS,
  schema: controllerRevisionSchema,
  nameProblem: dnsSubdomainProblem,
  columns: [
    nameColumn,
    column('Controller', 'Whose state it was.', renderController),
    column('Revision', 'Counts the states.', ({ revision }) => revision),
    ageColumn,
  ],
  validate: validateControllerRevision,
})

function renderController({ metadata }: ControllerRevision): string {
  const owner = metadata.ownerReferences?.find((reference) => reference.controller)
  if (!owner) return '<none>'
  const [group, version] = owner.apiVersion.split('/')
  const kind = owner.kind.toLowerCase()
  return `${version === undefined ? kind : `${kind}.${group}`}/${owner.name}`
}

function validateControllerRevision(
  { data, revision }: ControllerRevision,
  _context: unknown,
  old?: ControllerRevision,
): FieldError[] {
  const errors = nonNegative('revision', revision)
  if (data === undefined || data === null) errors.push(requiredValue('data', 'data is mandatory'))
  if (old) errors.push(...immutableError('data', data, old.data))
  return errors
}
