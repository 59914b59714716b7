import type { KubeObject } from '../meta.ts'
import { column, nameColumn, renderContainerImages, renderContainerNames, renderMap } from './columns.ts'
import { ALL_VERBS, defineKind, type TypedKind } from './define-kind.ts'
import { objectFields } from './meta.ts'
import { dnsSubdomainProblem } from './names.ts'
import { podTemplateSpecSchema, type PodTemplateSpec } from './pod-schema.ts'
import { object, optional } from './schema-builders.ts'
import { applyTemplateDefaults, templateErrors } from './workload-rules.ts'

export const podTemplateSchema = object(
  'io.k8s.api.core.v1.PodTemplate',
  'A template of pods that a program of yours makes pods from. Nothing of the platform does.',
  { ...objectFields, template: optional(podTemplateSpecSchema, 'What the pods look like.', { default: {} }) },
)
export type PodTemplate = KubeObject & { apiVersion: 'v1'; kind: 'PodTemplate'; template: PodTemplateSpec }
export const podTemplateKind: TypedKind<PodTemplate> = {
  group: '',
  version: 'v1',
  kind: 'PodTemplate',
  plural: 'podtemplates',
  namespaced: true,
}
export const podTemplateDefinition = defineKind(podTemplateKind, {
  singular: 'podtemplate',
  showsDeleted: true,
  verbs: ALL_VERBS,
  schema: podTemplateSchema,
  hasGeneration: true,
  nameProblem: dnsSubdomainProblem,
  columns: [
    nameColumn,
    column('Containers', 'Names of the containers.', ({ template }) =>
      renderContainerNames(template.spec.containers),
    ),
    column('Images', 'Images of the containers.', ({ template }) =>
      renderContainerImages(template.spec.containers),
    ),
    column('Pod Labels', 'Labels of the pods.', ({ template }) => renderMap(template.metadata?.labels)),
  ],
  applyDefaults: (object) => {
    applyTemplateDefaults(object.template)
    return object
  },
  validate: ({ template }) => templateErrors(template, 'template'),
})
