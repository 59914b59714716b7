import type { KubeObject } from '../meta.ts'
import type { VirtualKind } from '../kind.ts'
import { fieldSelectorRequirementSchema, labelSelectorRequirementSchema, objectFields } from './meta.ts'
import {
  boolean,
  int64,
  list,
  map,
  object,
  optional,
  required,
  string,
  time,
  type TypeOf,
} from './schema-builders.ts'

/** Questions that the server answers and never stores: may I, who am I, is this token good, give me a token. */

const AUTHORIZATION = 'io.k8s.api.authorization.v1'
const AUTHENTICATION = 'io.k8s.api.authentication.v1'

const nonResourceAttributes = object(`${AUTHORIZATION}.NonResourceAttributes`, 'A request for a path.', {
  path: optional(string, 'The path.'),
  verb: optional(string, 'The HTTP verb in lower case.'),
})
const resourceAttributes = object(`${AUTHORIZATION}.ResourceAttributes`, 'A request for a resource.', {
  fieldSelector: optional(
    object(`${AUTHORIZATION}.FieldSelectorAttributes`, 'Limits a list to fields. Without effect here.', {
      rawSelector: optional(string, 'As in a query.'),
      requirements: optional(list(fieldSelectorRequirementSchema), 'Taken apart.'),
    }),
    'Limits a list to fields. Without effect here.',
  ),
  group: optional(string, 'Group of the resource; * all.'),
  labelSelector: optional(
    object(`${AUTHORIZATION}.LabelSelectorAttributes`, 'Limits a list to labels. Without effect here.', {
      rawSelector: optional(string, 'As in a query.'),
      requirements: optional(list(labelSelectorRequirementSchema), 'Taken apart.'),
    }),
    'Limits a list to labels. Without effect here.',
  ),
  name: optional(string, 'Name of the object; all when absent.'),
  namespace: optional(string, 'Namespace; all or none when absent.'),
  resource: optional(string, 'The resource; * all.'),
  subresource: optional(string, 'The sub-resource.'),
  verb: optional(string, 'The verb; * all.'),
  version: optional(string, 'Version of the resource; * all.'),
})
const accessReviewStatus = object(`${AUTHORIZATION}.SubjectAccessReviewStatus`, 'The answer.', {
  allowed: required(boolean, 'Whether it is allowed.'),
  denied: optional(boolean, 'Whether it is forbidden whatever others say.'),
  evaluationError: optional(string, 'What went wrong while finding out.'),
  reason: optional(string, 'Why.'),
})

export const selfSubjectAccessReviewSchema = object(
  `${AUTHORIZATION}.SelfSubjectAccessReview`,
  'Asks whether you may do something.',
  {
    ...objectFields,
    spec: required(
      object(`${AUTHORIZATION}.SelfSubjectAccessReviewSpec`, 'The question; exactly one of the two.', {
        nonResourceAttributes: optional(nonResourceAttributes, 'A request for a path.'),
        resourceAttributes: optional(resourceAttributes, 'A request for a resource.'),
      }),
      'The question.',
    ),
    status: optional(accessReviewStatus, 'The answer.'),
  },
)
const subjectAccessReviewSpec = object(`${AUTHORIZATION}.SubjectAccessReviewSpec`, 'The question.', {
  extra: optional(map(list(string)), 'More about the user.'),
  groups: optional(list(string), 'Groups of the user.'),
  nonResourceAttributes: optional(nonResourceAttributes, 'A request for a path.'),
  resourceAttributes: optional(resourceAttributes, 'A request for a resource.'),
  uid: optional(string, 'uid of the user.'),
  user: optional(string, 'The user.'),
})
export const subjectAccessReviewSchema = object(
  `${AUTHORIZATION}.SubjectAccessReview`,
  'Asks whether somebody may do something.',
  {
    ...objectFields,
    spec: required(subjectAccessReviewSpec, 'The question.'),
    status: optional(accessReviewStatus, 'The answer.'),
  },
)
export const localSubjectAccessReviewSchema = object(
  `${AUTHORIZATION}.LocalSubjectAccessReview`,
  'Asks whether somebody may do something in one namespace.',
  {
    ...objectFields,
    spec: required(subjectAccessReviewSpec, 'The question.'),
    status: optional(accessReviewStatus, 'The answer.'),
  },
)
export const selfSubjectRulesReviewSchema = object(
  `${AUTHORIZATION}.SelfSubjectRulesReview`,
  'Asks what you may do in a namespace.',
  {
    ...objectFields,
    spec: required(
      object(`${AUTHORIZATION}.SelfSubjectRulesReviewSpec`, 'The question.', {
        namespace: optional(string, 'The namespace.'),
      }),
      'The question.',
    ),
    status: optional(
      object(`${AUTHORIZATION}.SubjectRulesReviewStatus`, 'The answer.', {
        evaluationError: optional(string, 'What went wrong while finding out.'),
        incomplete: required(boolean, 'Whether there may be more.'),
        nonResourceRules: required(
          list(
            object(`${AUTHORIZATION}.NonResourceRule`, 'Verbs on paths.', {
              nonResourceURLs: optional(list(string), 'The paths.'),
              verbs: required(list(string), 'The verbs.'),
            }),
          ),
          'Verbs on paths.',
        ),
        resourceRules: required(
          list(
            object(`${AUTHORIZATION}.ResourceRule`, 'Verbs on resources.', {
              apiGroups: optional(list(string), 'Groups of the resources.'),
              resourceNames: optional(list(string), 'Names of objects.'),
              resources: optional(list(string), 'The resources.'),
              verbs: required(list(string), 'The verbs.'),
            }),
          ),
          'Verbs on resources.',
        ),
      }),
      'The answer.',
    ),
  },
)

const userInfo = object(`${AUTHENTICATION}.UserInfo`, 'A user.', {
  extra: optional(map(list(string)), 'More about the user.'),
  groups: optional(list(string), 'Groups.'),
  uid: optional(string, 'uid.'),
  username: optional(string, 'Name.'),
})
export const selfSubjectReviewSchema = object(`${AUTHENTICATION}.SelfSubjectReview`, 'Asks who you are.', {
  ...objectFields,
  status: optional(
    object(`${AUTHENTICATION}.SelfSubjectReviewStatus`, 'The answer.', {
      userInfo: optional(userInfo, 'You.'),
    }),
    'The answer.',
  ),
})
export const tokenReviewSchema = object(`${AUTHENTICATION}.TokenReview`, 'Asks whose token this is.', {
  ...objectFields,
  spec: required(
    object(`${AUTHENTICATION}.TokenReviewSpec`, 'The question.', {
      audiences: optional(list(string), 'Who shall accept it; the API server when absent.'),
      token: required(string, 'The token.'),
    }),
    'The question.',
  ),
  status: optional(
    object(`${AUTHENTICATION}.TokenReviewStatus`, 'The answer.', {
      audiences: optional(list(string), 'Which of the audiences may accept it.'),
      authenticated: optional(boolean, 'Whether it is good.'),
      error: optional(string, 'Why not.'),
      user: optional(userInfo, 'Whose it is.'),
    }),
    'The answer.',
  ),
})
export const tokenRequestSchema = object(
  `${AUTHENTICATION}.TokenRequest`,
  'Asks for a token of a service account.',
  {
    ...objectFields,
    spec: optional(
      object(`${AUTHENTICATION}.TokenRequestSpec`, 'The question.', {
        audiences: optional(list(string), 'Who shall accept it; the API server when absent.'),
        boundObjectRef: optional(
          object(`${AUTHENTICATION}.BoundObjectReference`, 'The token dies with this Pod or Secret.', {
            apiVersion: optional(string, 'v1.'),
            kind: optional(string, 'Pod or Secret.'),
            name: optional(string, 'Its name.'),
            uid: optional(string, 'Its uid.'),
          }),
          'The token dies with this Pod or Secret.',
        ),
        expirationSeconds: optional(int64, 'How long it shall be valid.', { default: 3_600 }),
      }),
      'The question.',
      { default: {} },
    ),
    status: optional(
      object(`${AUTHENTICATION}.TokenRequestStatus`, 'The answer.', {
        expirationTimestamp: optional(time, 'When it ends.'),
        token: optional(string, 'The token.'),
      }),
      'The answer.',
    ),
  },
)

type Answer<K extends string, S> = KubeObject & { kind: K } & Pick<S, keyof S & ('spec' | 'status')>
export type SelfSubjectAccessReview = Answer<
  'SelfSubjectAccessReview',
  TypeOf<typeof selfSubjectAccessReviewSchema>
>
export type SubjectAccessReview = Answer<'SubjectAccessReview', TypeOf<typeof subjectAccessReviewSchema>>
export type LocalSubjectAccessReview = Answer<
  'LocalSubjectAccessReview',
  TypeOf<typeof localSubjectAccessReviewSchema>
>
export type SelfSubjectRulesReview = Answer<
  'SelfSubjectRulesReview',
  TypeOf<typeof selfSubjectRulesReviewSchema>
>
export type SelfSubjectReview = Answer<'SelfSubjectReview', TypeOf<typeof selfSubjectReviewSchema>>
export type TokenReview = Answer<'TokenReview', TypeOf<typeof tokenReviewSchema>>
export type TokenRequest = Answer<'TokenRequest', TypeOf<typeof tokenRequestSchema>>
export type ResourceAttributes = TypeOf<typeof resourceAttributes>
export type NonResourceAttributes = TypeOf<typeof nonResourceAttributes>

const authorization = { group: 'authorization.k8s.io', version: 'v1' } as const
const authentication = { group: 'authentication.k8s.io', version: 'v1' } as const

export const reviewKinds: readonly VirtualKind[] = [
  {
    ...authorization,
    kind: 'SelfSubjectAccessReview',
    plural: 'selfsubjectaccessreviews',
    singular: 'selfsubjectaccessreview',
    namespaced: false,
    schema: selfSubjectAccessReviewSchema,
  },
  {
    ...authorization,
    kind: 'SubjectAccessReview',
    plural: 'subjectaccessreviews',
    singular: 'subjectaccessreview',
    namespaced: false,
    schema: subjectAccessReviewSchema,
  },
  {
    ...authorization,
    kind: 'LocalSubjectAccessReview',
    plural: 'localsubjectaccessreviews',
    singular: 'localsubjectaccessreview',
    namespaced: true,
    schema: localSubjectAccessReviewSchema,
  },
  {
    ...authorization,
    kind: 'SelfSubjectRulesReview',
    plural: 'selfsubjectrulesreviews',
    singular: 'selfsubjectrulesreview',
    namespaced: false,
    schema: selfSubjectRulesReviewSchema,
  },
  {
    ...authentication,
    kind: 'SelfSubjectReview',
    plural: 'selfsubjectreviews',
    singular: 'selfsubjectreview',
    namespaced: false,
    schema: selfSubjectReviewSchema,
  },
  {
    ...authentication,
    kind: 'TokenReview',
    plural: 'tokenreviews',
    singular: 'tokenreview',
    namespaced: false,
    schema: tokenReviewSchema,
  },
]
