import type { KubeObject } from '../meta.ts'
import { column, renderContainerImages, renderContainerNames, renderSelector } from './columns.ts'
import { ALL_VERBS, defineKind, statusSubresource, type TypedColumn, type TypedKind } from './define-kind.ts'
import { labelSelectorSchema } from './meta.ts'
import { dnsSubdomainProblem } from './names.ts'
import { podTemplateSpecSchema, type PodTemplateSpec } from './pod-schema.ts'
import { scaleSchema } from './scale.ts'
import { int32, int64, listByKey, object, optional, required, string, time } from './schema-builders.ts'

/** What the kinds that make pods from a template have in common. */

/** `/scale` of a workload. */
export const scaleSubresource = {
  name: 'scale',
  verbs: ['get', 'patch', 'update'],
  kind: { group: 'autoscaling', version: 'v1', kind: 'Scale' },
  schema: scaleSchema,
} as const

/** What conditions of workloads have besides their type. */
export const conditionFields = {
  lastTransitionTime: optional(time, 'When the status changed last.'),
  message: optional(string, 'A sentence for people.'),
  reason: optional(string, 'A word for programs.'),
  status: required(string, 'True, False or Unknown.'),
} as const

/** Conditions by type; `types` says which there are. */
export function conditionsField(name: string, types: string) {
  return optional(
    listByKey(
      object(name, 'One thing known about it.', { ...conditionFields, type: required(string, types) }),
      ['type'],
    ),
    'What is known about it.',
  )
}

export const minReadySecondsField = optional(
  int32,
  'A pod counts as available when it was ready for so long.',
)
export const revisionHistoryLimitField = optional(int32, 'How many old templates are kept for a rollback.', {
  default: 10,
})
export const selectorField = required(
  labelSelectorSchema,
  'Which pods are its own; must fit the template’s labels; cannot change.',
)
export const templateField = required(podTemplateSpecSchema, 'What its pods look like.')
export const observedGenerationField = optional(int64, 'The generation of spec that the status shows.')

/** An object of a kind with a template; `Spec` and `Status` are what its schemas say. */
export type Templated<ApiVersion, Kind, Spec, Status> = KubeObject & {
  apiVersion: ApiVersion
  kind: Kind
  spec: Omit<Spec, 'template'> & { template: PodTemplateSpec }
  status?: Status
}

/** The last columns of `kubectl get -o wide`. */
export function templateColumns<T extends KubeObject>(
  specOf: (object: T) => { template: PodTemplateSpec },
): TypedColumn<T>[] {
  return [
    column<T>(
      'Containers',
      'Names of the containers.',
      (object) => renderContainerNames(specOf(object).template.spec.containers),
      { priority: 1 },
    ),
    column<T>(
      'Images',
      'Images of the containers.',
      (object) => renderContainerImages(specOf(object).template.spec.containers),
      { priority: 1 },
    ),
  ]
}

export function selectorColumn<T extends KubeObject>(
  selectorOf: (object: T) => Parameters<typeof renderSelector>[0],
): TypedColumn<T> {
  return column<T>('Selector', 'Which pods are its own.', (object) => renderSelector(selectorOf(object)), {
    priority: 1,
  })
}

type Definition<T extends KubeObject> = Parameters<typeof defineKind<T>>[1]

/** A kind that is shown by `kubectl get all`, counts generations and keeps a status. */
export function defineWorkload<T extends KubeObject>(
  kind: TypedKind<T>,
  {
    subresources = [],
    ...definition
  }: Omit<Definition<T>, 'categories' | 'verbs' | 'hasGeneration' | 'hasStatus'>,
) {
  return defineKind<T>(kind, {
    nameProblem: dnsSubdomainProblem,
    ...definition,
    categories: ['all'],
    verbs: ALL_VERBS,
    subresources: [...subresources, statusSubresource],
    hasGeneration: true,
    hasStatus: true,
  })
}
