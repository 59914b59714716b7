import {
  anything,
  boolean,
  int32,
  int64,
  list,
  listByKey,
  map,
  object,
  oneOf,
  optional,
  required,
  setOf,
  string,
  time,
  type TypeOf,
} from './schema-builders.ts'

/** metav1: what all kinds share. Schema names are upstream's, without which kubectl does not know merge keys. */

const META = 'io.k8s.apimachinery.pkg.apis.meta.v1'

export const ownerReferenceSchema = object(
  `${META}.OwnerReference`,
  'An object that this one belongs to; when all owners are gone, so is this.',
  {
    apiVersion: required(string, 'Group and version of the owner.'),
    kind: required(string, 'Kind of the owner.'),
    name: required(string, 'Name of the owner, in the same namespace or cluster-scoped.'),
    uid: required(string, 'uid of the owner; a new object of the same name is not the owner.'),
    controller: optional(boolean, 'True for the one owner that manages this object.'),
    blockOwnerDeletion: optional(
      boolean,
      'With foreground deletion the owner waits until this object is gone.',
    ),
  },
  { atomic: true },
)

export const managedFieldsEntrySchema = object(
  `${META}.ManagedFieldsEntry`,
  'Which fields one writer set, for server-side apply.',
  {
    manager: optional(string, 'Name of the writer.'),
    operation: optional(string, 'Apply or Update.'),
    apiVersion: optional(string, 'Version of the kind that the fields are named in.'),
    time: optional(time, 'When the entry changed last.'),
    fieldsType: optional(string, 'Always FieldsV1.'),
    fieldsV1: optional(anything, 'The fields as a trie.'),
    subresource: optional(string, 'The sub-resource that was written, such as status.'),
  },
)

export const objectMetaSchema = object(
  `${META}.ObjectMeta`,
  'What every object has: its name, labels and history.',
  {
    name: optional(string, 'Unique among objects of its kind in its namespace; cannot change.'),
    generateName: optional(string, 'Prefix of a name that the server completes when `name` is absent.'),
    namespace: optional(string, 'The namespace it lives in; cannot change. Absent for cluster-scoped kinds.'),
    selfLink: optional(string, 'Not used any more; ignored.'),
    uid: optional(string, 'Given by the server; unique for all time.'),
    resourceVersion: optional(
      string,
      'Changes with every write; send it back to refuse a write over somebody else’s.',
    ),
    generation: optional(int64, 'Counts the changes of spec.'),
    creationTimestamp: optional(time, 'CreationTimestamp is a timestamp: when the server stored it first.'),
    deletionTimestamp: optional(time, 'When it is or was to be gone; set by a delete.'),
    deletionGracePeriodSeconds: optional(
      int64,
      'Seconds it may take to end once its deletion was asked for.',
    ),
    labels: optional(map(string), 'Keys and values that selectors look for.'),
    annotations: optional(
      map(string),
      'Keys and values that tools keep with an object; nobody selects by them.',
    ),
    ownerReferences: optional(listByKey(ownerReferenceSchema, ['uid']), 'Objects that this one belongs to.'),
    finalizers: optional(
      setOf(string, { patchStrategy: 'merge' }),
      'Names of those who must finish their work before the object goes away.',
    ),
    managedFields: optional(list(managedFieldsEntrySchema), 'Who set which field. Kept by the server.'),
  },
)
/** Metadata as written in a template, where nothing is filled in yet. */
export type TemplateMeta = TypeOf<typeof objectMetaSchema>

export const listMetaSchema = object(`${META}.ListMeta`, 'What every list has.', {
  selfLink: optional(string, 'Not used any more; ignored.'),
  resourceVersion: optional(string, 'The state of the store that the list shows; a watch can begin here.'),
  continue: optional(string, 'Ask again with this to get the next page.'),
  remainingItemCount: optional(int64, 'How many items come after this page, if known.'),
})

export const labelSelectorRequirementSchema = object(
  `${META}.LabelSelectorRequirement`,
  'One condition on a label.',
  {
    key: required(string, 'The label’s key.'),
    operator: required(oneOf('In', 'NotIn', 'Exists', 'DoesNotExist'), 'How to compare.'),
    values: optional(list(string), 'What In and NotIn compare with; empty for the others.'),
  },
)
export const labelSelectorSchema = object(
  `${META}.LabelSelector`,
  'Selects objects by their labels; all conditions must hold. Empty selects everything.',
  {
    matchLabels: optional(map(string), 'Labels that must have exactly these values.'),
    matchExpressions: optional(list(labelSelectorRequirementSchema), 'Further conditions.'),
  },
  { atomic: true },
)

export const fieldSelectorRequirementSchema = object(
  `${META}.FieldSelectorRequirement`,
  'One condition on a field.',
  {
    key: required(string, 'The field.'),
    operator: required(string, 'In, NotIn, Exists or DoesNotExist.'),
    values: optional(list(string), 'What In and NotIn compare with.'),
  },
)

export const conditionSchema = object(
  `${META}.Condition`,
  'One thing that is known about an object’s state.',
  {
    type: required(string, 'What is known, such as Ready.'),
    status: required(string, 'True, False or Unknown.'),
    observedGeneration: optional(int64, 'The generation of spec that this was concluded from.'),
    lastTransitionTime: required(time, 'When the status changed last.'),
    reason: required(string, 'A word for programs.'),
    message: required(string, 'A sentence for people.'),
  },
)

const preconditionsSchema = object(
  `${META}.Preconditions`,
  'What must be true for a delete to be carried out.',
  {
    uid: optional(string, 'The object still has this uid.'),
    resourceVersion: optional(string, 'The object is still at this version.'),
  },
)
export const deleteOptionsSchema = object(`${META}.DeleteOptions`, 'How to delete.', {
  apiVersion: optional(string, 'Version of this kind.'),
  kind: optional(string, 'DeleteOptions.'),
  dryRun: optional(list(string), '`All` checks everything and stores nothing.'),
  gracePeriodSeconds: optional(int64, 'Seconds the object may take to end; 0 ends it at once.'),
  orphanDependents: optional(boolean, 'Old spelling of propagationPolicy: Orphan.'),
  preconditions: optional(preconditionsSchema, 'Conditions for the delete.'),
  propagationPolicy: optional(string, 'What happens to owned objects: Orphan, Background or Foreground.'),
})

const statusCauseSchema = object(`${META}.StatusCause`, 'One of several problems.', {
  reason: optional(string, 'A word for programs.'),
  message: optional(string, 'A sentence for people.'),
  field: optional(string, 'The path of the field, such as spec.containers[0].image.'),
})
const statusDetailsSchema = object(`${META}.StatusDetails`, 'What an answer is about.', {
  name: optional(string, 'Name of the object.'),
  group: optional(string, 'Its group.'),
  kind: optional(string, 'Its kind or resource.'),
  uid: optional(string, 'Its uid.'),
  causes: optional(list(statusCauseSchema), 'All problems.'),
  retryAfterSeconds: optional(int32, 'When to try again.'),
})
export const statusSchema = object(
  `${META}.Status`,
  'The answer to a request that does not return an object.',
  {
    apiVersion: optional(string, 'v1.'),
    kind: optional(string, 'Status.'),
    metadata: optional(listMetaSchema, 'Empty.'),
    status: optional(string, 'Success or Failure.'),
    message: optional(string, 'What happened.'),
    reason: optional(string, 'A word for programs.'),
    details: optional(statusDetailsSchema, 'What it is about.'),
    code: optional(int32, 'The HTTP code.'),
  },
)

/** What a Table row and metadata-only reads carry. */
export const partialObjectMetadataSchema = object(
  `${META}.PartialObjectMetadata`,
  'An object of any kind, of which only the metadata is shown.',
  {
    apiVersion: optional(string, 'meta.k8s.io/v1.'),
    kind: optional(string, 'PartialObjectMetadata.'),
    metadata: optional(objectMetaSchema, 'The object’s metadata.'),
  },
)

/** The fields that begin every kind's schema, described with the first words that upstream's tests of explain look for. */
export const objectFields = {
  apiVersion: optional(string, 'APIVersion defines the kind’s group and version, such as apps/v1.'),
  kind: optional(string, 'The kind.'),
  metadata: optional(objectMetaSchema, "Standard object's metadata: name, labels and history."),
} as const
