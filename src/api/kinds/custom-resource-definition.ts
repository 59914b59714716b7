import type { KubeObject } from '../meta.ts'
import type { JsonSchema } from '../custom/json-schema.ts'
import {
  applyCustomResourceDefinitionDefaults,
  checkCustomResourceDefinition,
  markCustomResourceDefinition,
  prepareCustomResourceDefinition,
  validateCustomResourceDefinition,
} from './custom-resource-definition-rules.ts'
import { createdAtColumn, nameColumn } from './columns.ts'
import { ALL_VERBS, defineKind, statusSubresource, type TypedKind } from './define-kind.ts'
import { objectFields } from './meta.ts'
import {
  anything,
  boolean,
  int32,
  int64,
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

/** A kind of the tenant's own. */

const APIEXTENSIONS = 'io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1'

const names = object(`${APIEXTENSIONS}.CustomResourceDefinitionNames`, 'What the kind is called.', {
  categories: optional(list(string), 'Groups of kinds that clients ask for together, such as all.'),
  kind: required(string, 'Name of the kind, such as CronTab.'),
  listKind: optional(string, 'Name of a list of them; CronTabList for CronTab.'),
  plural: required(string, 'Path segment, such as crontabs.'),
  shortNames: optional(list(string), 'Short names for command lines.'),
  singular: optional(string, 'Name of one for command lines; the kind in lower case.'),
})

const column = object(`${APIEXTENSIONS}.CustomResourceColumnDefinition`, 'A column of kubectl get.', {
  description: optional(string, 'What it shows.'),
  format: optional(string, 'How clients show it.'),
  jsonPath: required(string, 'Where in the object the value is, such as .spec.replicas.'),
  name: required(string, 'Its title.'),
  priority: optional(int32, '0 is always shown, others only with -o wide.'),
  type: required(string, 'integer, number, string, boolean or date.'),
})

const scale = object(
  `${APIEXTENSIONS}.CustomResourceSubresourceScale`,
  'Where /scale finds and writes its numbers.',
  {
    labelSelectorPath: optional(string, 'Text of a label selector, below .spec or .status.'),
    specReplicasPath: required(string, 'How many are wanted, below .spec.'),
    statusReplicasPath: required(string, 'How many there are, below .status.'),
  },
)

const version = object(`${APIEXTENSIONS}.CustomResourceDefinitionVersion`, 'One version of the kind.', {
  additionalPrinterColumns: optional(list(column), 'Columns of kubectl get; Age when absent.'),
  deprecated: optional(boolean, 'Whether who uses it is warned.'),
  deprecationWarning: optional(string, 'What the warning says.'),
  name: required(string, 'Such as v1 or v2beta1.'),
  schema: optional(
    object(`${APIEXTENSIONS}.CustomResourceValidation`, 'What may be in an object.', {
      openAPIV3Schema: optional(anything, 'A structural schema in the notation of OpenAPI v3.'),
    }),
    'What may be in an object.',
  ),
  selectableFields: optional(
    list(
      object(`${APIEXTENSIONS}.SelectableField`, 'A field that lists and watches can select by.', {
        jsonPath: required(string, 'Where it is, such as .spec.color.'),
      }),
    ),
    'Fields that lists and watches can select by.',
  ),
  served: required(boolean, 'Whether clients can use it.'),
  storage: required(boolean, 'Whether objects are stored as this version; true for exactly one.'),
  subresources: optional(
    object(`${APIEXTENSIONS}.CustomResourceSubresources`, 'What has a path of its own below an object.', {
      scale: optional(scale, '/scale, by which kubectl scale changes a number.'),
      status: optional(anything, '/status, by which controllers say what they see. Always {}.'),
    }),
    'What has a path of its own below an object.',
  ),
})

const condition = object(
  `${APIEXTENSIONS}.CustomResourceDefinitionCondition`,
  'Something that is so or not.',
  {
    lastTransitionTime: optional(time, 'When the status changed last.'),
    message: optional(string, 'A sentence for people.'),
    observedGeneration: optional(int64, 'The generation of spec that was looked at.'),
    reason: optional(string, 'A word for programs.'),
    status: required(string, 'True, False or Unknown.'),
    type: required(string, 'Established, NamesAccepted, Terminating or the like.'),
  },
)

const spec = object(`${APIEXTENSIONS}.CustomResourceDefinitionSpec`, 'What the kind is.', {
  conversion: optional(
    object(
      `${APIEXTENSIONS}.CustomResourceConversion`,
      'How an object of one version becomes one of another.',
      {
        strategy: required(string, 'None: only apiVersion changes.'),
      },
    ),
    'How an object of one version becomes one of another.',
  ),
  group: required(string, 'API group, such as stable.example.com.'),
  names: required(names, 'What the kind is called.'),
  preserveUnknownFields: optional(boolean, 'Must be false: fields that no schema has are dropped.'),
  scope: required(oneOf('Cluster', 'Namespaced'), 'Whether objects are in namespaces. Cannot change.'),
  versions: required(list(version), 'Versions of the kind.'),
})

const status = object(`${APIEXTENSIONS}.CustomResourceDefinitionStatus`, 'What has become of it.', {
  acceptedNames: optional(names, 'The names in use; they differ from spec when others had them first.'),
  conditions: optional(listByKey(condition, ['type'], {}), 'Whether the kind is served, and why not.'),
  observedGeneration: optional(int64, 'The generation of spec that the status shows.'),
  storedVersions: optional(list(string), 'Versions that objects may be stored as.'),
})

export const customResourceDefinitionSchema = object(
  `${APIEXTENSIONS}.CustomResourceDefinition`,
  'A kind of your own, served like those that are built in.',
  {
    ...objectFields,
    spec: required(spec, 'What the kind is.'),
    status: optional(status, 'What has become of it. Kept by the platform.'),
  },
)

export type CustomResourceNames = TypeOf<typeof names>
export type CustomResourceVersion = Omit<TypeOf<typeof version>, 'schema'> & {
  schema?: { openAPIV3Schema?: JsonSchema }
}
export type CustomResourceDefinitionCondition = TypeOf<typeof condition>
export type CustomResourceDefinition = KubeObject & {
  apiVersion: 'apiextensions.k8s.io/v1'
  kind: 'CustomResourceDefinition'
  spec: Omit<TypeOf<typeof spec>, 'versions'> & { versions: CustomResourceVersion[] }
  status?: TypeOf<typeof status>
}

export const customResourceDefinitionKind: TypedKind<CustomResourceDefinition> = {
  group: 'apiextensions.k8s.io',
  version: 'v1',
  kind: 'CustomResourceDefinition',
  plural: 'customresourcedefinitions',
  namespaced: false,
}

export const customResourceDefinitionDefinition = defineKind(customResourceDefinitionKind, {
  singular: 'customresourcedefinition',
  shortNames: ['crd', 'crds'],
  categories: ['api-extensions'],
  verbs: ALL_VERBS,
  schema: customResourceDefinitionSchema,
  check: (value, options) => checkCustomResourceDefinition(customResourceDefinitionSchema, value, options),
  hasGeneration: true,
  hasStatus: true,
  subresources: [statusSubresource],
  columns: [nameColumn, createdAtColumn],
  applyDefaults: applyCustomResourceDefinitionDefaults,
  prepareForCreate: (definition) => prepareCustomResourceDefinition(definition),
  prepareForUpdate: (definition, old) => prepareCustomResourceDefinition(definition, old),
  prepareForDelete: markCustomResourceDefinition,
  validate: (definition, { subresource }, old) =>
    validateCustomResourceDefinition(definition, subresource, old),
})
