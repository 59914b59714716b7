import type { KubeObject } from '../meta.ts'
import { ageColumn, column, nameColumn } from './columns.ts'
import { applySecretDefaults, validateConfigMap, validateSecret } from './config-rules.ts'
import { ALL_VERBS, defineKind, type TypedKind } from './define-kind.ts'
import { objectFields } from './meta.ts'
import { dnsSubdomainProblem } from './names.ts'
import { localObjectReferenceSchema, objectReferenceSchema } from './pod-schema.ts'
import {
  boolean,
  bytes,
  list,
  listByKey,
  map,
  object,
  optional,
  string,
  type TypeOf,
} from './schema-builders.ts'

/** Configuration of applications, and who they are: ConfigMap, Secret, ServiceAccount. */

const CORE = 'io.k8s.api.core.v1'

export const configMapSchema = object(`${CORE}.ConfigMap`, 'Configuration as keys and values.', {
  ...objectFields,
  binaryData: optional(map(bytes), 'Keys and values that are not text, in base64.'),
  data: optional(map(string), 'Keys and values.'),
  immutable: optional(boolean, 'Once true, the data cannot change any more.'),
})
export type ConfigMap = KubeObject & { apiVersion: 'v1'; kind: 'ConfigMap' } & Pick<
    TypeOf<typeof configMapSchema>,
    'binaryData' | 'data' | 'immutable'
  >
export const configMapKind: TypedKind<ConfigMap> = {
  group: '',
  version: 'v1',
  kind: 'ConfigMap',
  plural: 'configmaps',
  namespaced: true,
}
export const configMapDefinition = defineKind(configMapKind, {
  singular: 'configmap',
  shortNames: ['cm'],
  verbs: ALL_VERBS,
  schema: configMapSchema,
  nameProblem: dnsSubdomainProblem,
  columns: [
    nameColumn,
    column('Data', 'How many keys.', (map) => keyCount(map.data) + keyCount(map.binaryData)),
    ageColumn,
  ],
  validate: validateConfigMap,
})

export const secretSchema = object(`${CORE}.Secret`, 'Confidential keys and values, stored encrypted.', {
  ...objectFields,
  data: optional(map(bytes), 'Keys and values, in base64.'),
  immutable: optional(boolean, 'Once true, the data cannot change any more.'),
  stringData: optional(map(string), 'Plain text that is written into `data`; never shown again.'),
  type: optional(string, 'What it is for, such as kubernetes.io/tls.', { default: 'Opaque' }),
})
export type Secret = KubeObject & { apiVersion: 'v1'; kind: 'Secret' } & Pick<
    TypeOf<typeof secretSchema>,
    'data' | 'immutable' | 'stringData' | 'type'
  >
export const secretKind: TypedKind<Secret> = {
  group: '',
  version: 'v1',
  kind: 'Secret',
  plural: 'secrets',
  namespaced: true,
}
export const secretDefinition = defineKind(secretKind, {
  singular: 'secret',
  verbs: ALL_VERBS,
  schema: secretSchema,
  nameProblem: dnsSubdomainProblem,
  fieldSelectors: { type: (secret) => secret.type ?? '' },
  columns: [
    nameColumn,
    column('Type', 'What it is for.', (secret) => secret.type ?? ''),
    column('Data', 'How many keys.', (secret) => keyCount(secret.data)),
    ageColumn,
  ],
  applyDefaults: applySecretDefaults,
  validate: validateSecret,
})

export const serviceAccountSchema = object(`${CORE}.ServiceAccount`, 'Who a pod is towards the API server.', {
  ...objectFields,
  automountServiceAccountToken: optional(boolean, 'Whether its pods get a token without asking.'),
  imagePullSecrets: optional(
    list(localObjectReferenceSchema),
    'Registry credentials that its pods get. Without effect here.',
    { warning: 'has no effect: registries are asked without credentials' },
  ),
  secrets: optional(
    listByKey(objectReferenceSchema, ['name']),
    'Secrets that its pods may use. For information.',
  ),
})
export type ServiceAccount = KubeObject & { apiVersion: 'v1'; kind: 'ServiceAccount' } & Pick<
    TypeOf<typeof serviceAccountSchema>,
    'automountServiceAccountToken' | 'imagePullSecrets' | 'secrets'
  >
export const serviceAccountKind: TypedKind<ServiceAccount> = {
  group: '',
  version: 'v1',
  kind: 'ServiceAccount',
  plural: 'serviceaccounts',
  namespaced: true,
}

function keyCount(map: object | undefined): number {
  return map ? Object.keys(map).length : 0
}
