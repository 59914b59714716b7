import type { KubeObject } from '../meta.ts'
import { ageColumn, column, nameColumn } from './columns.ts'
import { defineKind, statusSubresource, type TypedKind } from './define-kind.ts'
import { objectFields } from './meta.ts'
import { dnsLabelProblem } from './names.ts'
import {
  list,
  listByKey,
  object,
  oneOf,
  optional,
  required,
  string,
  time,
  type TypeOf,
} from './schema-builders.ts'

const CORE = 'io.k8s.api.core.v1'

const namespaceCondition = object(`${CORE}.NamespaceCondition`, 'One thing known about a namespace.', {
  lastTransitionTime: optional(time, 'When the status changed last.'),
  message: optional(string, 'A sentence for people.'),
  reason: optional(string, 'A word for programs.'),
  status: required(string, 'True, False or Unknown.'),
  type: required(string, 'What is known.'),
})
const namespaceSpec = object(`${CORE}.NamespaceSpec`, 'Who must finish before it goes away.', {
  finalizers: optional(list(string), 'Names of those who must finish before it goes away.'),
})
const namespaceStatus = object(`${CORE}.NamespaceStatus`, 'How it is.', {
  conditions: optional(listByKey(namespaceCondition, ['type']), 'What hinders its deletion.'),
  phase: optional(oneOf('Active', 'Terminating'), 'Active, or Terminating while it is emptied.'),
})
export const namespaceSchema = object(`${CORE}.Namespace`, 'A part of the tenant, with names of its own.', {
  ...objectFields,
  spec: optional(namespaceSpec, 'Who must finish before it goes away.'),
  status: optional(namespaceStatus, 'How it is. Kept by the platform.'),
})
export type Namespace = KubeObject & {
  apiVersion: 'v1'
  kind: 'Namespace'
  spec?: TypeOf<typeof namespaceSpec>
  status?: TypeOf<typeof namespaceStatus>
}

export const namespaceKind: TypedKind<Namespace> = {
  group: '',
  version: 'v1',
  kind: 'Namespace',
  plural: 'namespaces',
  namespaced: false,
}

/** Lets selectors find a namespace by its name. */
const NAME_LABEL = 'kubernetes.io/metadata.name'

export const namespaceDefinition = defineKind(namespaceKind, {
  singular: 'namespace',
  shortNames: ['ns'],
  verbs: ['create', 'delete', 'get', 'list', 'patch', 'update', 'watch'],
  schema: namespaceSchema,
  subresources: [{ name: 'finalize', verbs: ['update'] }, statusSubresource],
  hasStatus: true,
  nameProblem: dnsLabelProblem,
  fieldSelectors: {
    name: (namespace) => namespace.metadata.name,
    'status.phase': (namespace) => namespace.status?.phase ?? '',
  },
  columns: [
    nameColumn,
    column('Status', 'Active or Terminating.', (namespace) => namespace.status?.phase ?? ''),
    ageColumn,
  ],
  applyDefaults: (namespace) => {
    const { name, labels } = namespace.metadata
    if (name && labels?.[NAME_LABEL] !== name) namespace.metadata.labels = { ...labels, [NAME_LABEL]: name }
    return namespace
  },
  prepareForCreate: (namespace) => ({
    ...namespace,
    spec: { finalizers: [...new Set([...(namespace.spec?.finalizers ?? []), 'kubernetes'])] },
    status: { phase: 'Active' as const },
  }),
  prepareForUpdate: (namespace, old, { subresource }) =>
    // Only `/finalize` may take finalizers away, so that a namespace is never gone before it is empty.
    subresource === 'finalize' || !old.spec ? namespace : { ...namespace, spec: old.spec },
})
