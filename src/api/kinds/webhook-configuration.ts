import type { KubeObject } from '../meta.ts'
import { ageColumn, column, nameColumn } from './columns.ts'
import { ALL_VERBS, defineKind, type TypedKind } from './define-kind.ts'
import { objectFields } from './meta.ts'
import { dnsSubdomainProblem } from './names.ts'
import { object } from './schema-builders.ts'

/**
 * Clients find these kinds and read that there are none; one that names a webhook is refused with what to write instead
 * (`refusedFields`), so nothing is ever called.
 */
const ADMISSION = 'io.k8s.api.admissionregistration.v1'

export type WebhookConfiguration = KubeObject & {
  apiVersion: 'admissionregistration.k8s.io/v1'
  kind: 'ValidatingWebhookConfiguration' | 'MutatingWebhookConfiguration'
}

export const validatingWebhookConfigurationDefinition = definitionOf(
  'ValidatingWebhookConfiguration',
  'Webhooks that check objects. There can be none: write a ValidatingAdmissionPolicy.',
)
export const mutatingWebhookConfigurationDefinition = definitionOf(
  'MutatingWebhookConfiguration',
  'Webhooks that change objects. There can be none: write the fields into the manifest.',
)

function definitionOf(kind: WebhookConfiguration['kind'], description: string) {
  const typed: TypedKind<WebhookConfiguration> = {
    group: 'admissionregistration.k8s.io',
    version: 'v1',
    kind,
    plural: `${kind.toLowerCase()}s`,
    namespaced: false,
  }
  return defineKind(typed, {
    singular: kind.toLowerCase(),
    categories: ['api-extensions'],
    verbs: ALL_VERBS,
    schema: object(`${ADMISSION}.${kind}`, description, objectFields),
    hasGeneration: true,
    nameProblem: dnsSubdomainProblem,
    columns: [nameColumn, column('Webhooks', 'None.', () => 0, { type: 'integer' }), ageColumn],
  })
}
