import { ageColumn, nameColumn } from './columns.ts'
import { serviceAccountKind, serviceAccountSchema } from './config.ts'
import { ALL_VERBS, defineKind } from './define-kind.ts'
import { dnsSubdomainProblem } from './names.ts'
import { tokenRequestSchema } from './reviews.ts'

export const serviceAccountDefinition = defineKind(serviceAccountKind, {
  singular: 'serviceaccount',
  showsDeleted: true,
  shortNames: ['sa'],
  verbs: ALL_VERBS,
  schema: serviceAccountSchema,
  subresources: [
    {
      name: 'token',
      verbs: ['create'],
      kind: { group: 'authentication.k8s.io', version: 'v1', kind: 'TokenRequest' },
      schema: tokenRequestSchema,
    },
  ],
  nameProblem: dnsSubdomainProblem,
  columns: [nameColumn, ageColumn],
})
