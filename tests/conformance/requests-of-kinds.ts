import { type KindDefinition, groupVersion, tenantRegistry } from '../../src/api/index.ts'
import type { Json } from './control-plane.ts'

/** The same requests for every kind: what clients do with objects, and what they get wrong. */

export type KindRequest = {
  name: string
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  path: string
  body?: Json
  type?: string
  accept?: string
  /** The status that Kubernetes answers with. */
  code: number
  /** Of a refusal. */
  reason?: string
}

const template = { metadata: { labels: { app: 'x' } }, spec: { containers: [{ name: 'c', image: 'x:1' }] } }
const selector = { matchLabels: { app: 'x' } }
const roleRef = (kind: string) => ({ apiGroup: 'rbac.authorization.k8s.io', kind, name: 'none' })
const job = { template: { spec: { ...template.spec, restartPolicy: 'Never' } } }

/** The least that an object of each kind has, by `plural.group`. */
export const EXAMPLES: Readonly<Record<string, Json>> = {
  'namespaces.': {},
  'pods.': { spec: template.spec },
  'services.': { spec: { clusterIP: 'None', ports: [{ port: 80 }], selector: { app: 'x' } } },
  'endpoints.': { subsets: [{ addresses: [{ ip: '10.1.2.3' }], ports: [{ port: 80 }] }] },
  'configmaps.': { data: { a: '1' } },
  'secrets.': { stringData: { a: '1' } },
  'serviceaccounts.': {},
  'resourcequotas.': { spec: { hard: { configmaps: '100' } } },
  'limitranges.': { spec: { limits: [{ type: 'Container', default: { cpu: '1' } }] } },
  'persistentvolumeclaims.': {
    spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '16Mi' } } },
  },
  'events.': { involvedObject: { kind: 'Pod', namespace: 'kinds', name: 'p' }, reason: 'Tried' },
  'events.events.k8s.io': {
    eventTime: '2026-01-01T00:00:00.000000Z',
    regarding: { kind: 'Pod', namespace: 'kinds', name: 'p' },
    reason: 'Tried',
    action: 'Trying',
    type: 'Normal',
    reportingController: 'example.com/tester',
    reportingInstance: 'one',
  },
  'podtemplates.': { template },
  'replicationcontrollers.': { spec: { replicas: 0, selector: { app: 'x' }, template } },
  'deployments.apps': { spec: { replicas: 0, selector, template } },
  'replicasets.apps': { spec: { replicas: 0, selector, template } },
  'statefulsets.apps': { spec: { replicas: 0, selector, serviceName: 's', template } },
  'daemonsets.apps': { spec: { selector, template } },
  'controllerrevisions.apps': { revision: 1, data: { a: 1 } },
  'jobs.batch': { spec: { suspend: true, ...job } },
  'cronjobs.batch': { spec: { schedule: '0 0 1 1 *', jobTemplate: { spec: job } } },
  'poddisruptionbudgets.policy': { spec: { minAvailable: 1, selector } },
  'networkpolicies.networking.k8s.io': { spec: { podSelector: {} } },
  'egresspolicies.network.bulkhead.dev': { spec: { allow: [{ host: 'api.example.com' }] } },
  'endpointslices.discovery.k8s.io': { addressType: 'IPv4', endpoints: [{ addresses: ['10.1.2.3'] }] },
  'roles.rbac.authorization.k8s.io': {
    rules: [{ apiGroups: [''], resources: ['pods'], verbs: ['get'] }],
  },
  'rolebindings.rbac.authorization.k8s.io': { roleRef: roleRef('Role') },
  'clusterroles.rbac.authorization.k8s.io': {
    rules: [{ apiGroups: [''], resources: ['pods'], verbs: ['get'] }],
  },
  'clusterrolebindings.rbac.authorization.k8s.io': { roleRef: roleRef('ClusterRole') },
  'ingresses.networking.k8s.io': {
    spec: {
      rules: [
        {
          host: 'a.example.com',
          http: {
            paths: [
              { path: '/', pathType: 'Prefix', backend: { service: { name: 's', port: { number: 80 } } } },
            ],
          },
        },
      ],
    },
  },
  'horizontalpodautoscalers.autoscaling': {
    spec: { maxReplicas: 2, scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'none' } },
  },
  'priorityclasses.scheduling.k8s.io': { value: 10 },
  'leases.coordination.k8s.io': { spec: { holderIdentity: 'me', leaseDurationSeconds: 10 } },
  'customresourcedefinitions.apiextensions.k8s.io': {
    spec: {
      group: 'example.com',
      scope: 'Namespaced',
      names: { plural: 'kinds', singular: 'kind', kind: 'Kind', listKind: 'KindList' },
      versions: [
        { name: 'v1', served: true, storage: true, schema: { openAPIV3Schema: { type: 'object' } } },
      ],
    },
  },
  'validatingadmissionpolicies.admissionregistration.k8s.io': {
    spec: {
      matchConstraints: {
        resourceRules: [
          { apiGroups: ['none'], apiVersions: ['v1'], resources: ['none'], operations: ['CREATE'] },
        ],
      },
      validations: [{ expression: 'true' }],
    },
  },
  'validatingadmissionpolicybindings.admissionregistration.k8s.io': {
    spec: { policyName: 'none', validationActions: ['Deny'] },
  },
  'validatingwebhookconfigurations.admissionregistration.k8s.io': {},
  'mutatingwebhookconfigurations.admissionregistration.k8s.io': {},
}

/** Where the name is not free to choose. */
export const NAMES: Readonly<Record<string, string>> = {
  'customresourcedefinitions.apiextensions.k8s.io': 'kinds.example.com',
}

export function exampleKey({ group, plural }: Pick<KindDefinition, 'group' | 'plural'>): string {
  return `${plural}.${group}`
}

const MADE_BY_PLATFORM = [
  'ingressclasses.networking.k8s.io',
  'nodes.',
  'persistentvolumes.',
  'storageclasses.storage.k8s.io',
]

/** Kinds whose objects clients make. */
export function writableKinds(): KindDefinition[] {
  return tenantRegistry.kinds.filter(
    (kind) =>
      kind.verbs.includes('create') &&
      kind.verbs.includes('patch') &&
      !MADE_BY_PLATFORM.includes(exampleKey(kind)),
  )
}

/** Everything that is asked about one kind, in order. Requires: there is a namespace `kinds`. */
export function requestsOf(kind: KindDefinition): KindRequest[] {
  const key = exampleKey(kind)
  const gv = groupVersion(kind)
  const root = `/${kind.group ? 'apis' : 'api'}/${gv}${kind.namespaced ? '/namespaces/kinds' : ''}/${kind.plural}`
  const all = `/${kind.group ? 'apis' : 'api'}/${gv}/${kind.plural}`
  const name = NAMES[key] ?? 'x-one'
  const one = `${root}/${name}`
  const object = (more: Json = {}): Json => ({
    apiVersion: gv,
    kind: kind.kind,
    ...EXAMPLES[key],
    metadata: { name, labels: { set: 'one' }, ...more },
  })
  const has = (verb: string) => (kind.verbs as readonly string[]).includes(verb)
  const merge = 'application/merge-patch+json'
  const requests: KindRequest[] = [
    { name: 'get what is not there', method: 'GET', path: one, code: 404, reason: 'NotFound' },
    {
      name: 'patch what is not there',
      method: 'PATCH',
      path: one,
      type: merge,
      body: {},
      code: 404,
      reason: 'NotFound',
    },
    { name: 'delete what is not there', method: 'DELETE', path: one, code: 404, reason: 'NotFound' },
    { name: 'create for trial', method: 'POST', path: `${root}?dryRun=All`, body: object(), code: 201 },
    { name: 'no trial is left', method: 'GET', path: one, code: 404, reason: 'NotFound' },
    {
      name: 'create with a bad trial',
      method: 'POST',
      path: `${root}?dryRun=Some`,
      body: object(),
      code: 422,
      reason: 'Invalid',
    },
    {
      name: 'create with a field that is not there',
      method: 'POST',
      path: `${root}?fieldValidation=Strict`,
      body: { ...object(), bogus: 1 },
      code: 400,
      reason: 'BadRequest',
    },
    {
      name: 'create with a bad name',
      method: 'POST',
      path: root,
      body: object({ name: 'a/b' }),
      code: 422,
      reason: 'Invalid',
    },
    {
      name: 'create as another kind',
      method: 'POST',
      path: root,
      body: { ...object(), kind: 'Other' },
      code: 400,
      reason: 'BadRequest',
    },
    {
      name: 'create with a bad label',
      method: 'POST',
      path: root,
      body: object({ labels: { 'a b': 'c' } }),
      code: 422,
      reason: 'Invalid',
    },
    { name: 'create with no body', method: 'POST', path: root, body: '', code: 400, reason: 'BadRequest' },
    { name: 'create', method: 'POST', path: root, body: object(), code: 201 },
    { name: 'create again', method: 'POST', path: root, body: object(), code: 409, reason: 'AlreadyExists' },
    { name: 'get', method: 'GET', path: one, code: 200 },
    {
      name: 'get as a table',
      method: 'GET',
      path: one,
      accept: 'application/json;as=Table;g=meta.k8s.io;v=v1',
      code: 200,
    },
    {
      name: 'get the metadata',
      method: 'GET',
      path: one,
      accept: 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1',
      code: 200,
    },
    {
      name: 'get as something else',
      method: 'GET',
      path: one,
      accept: 'text/html',
      code: 406,
      reason: 'NotAcceptable',
    },
    { name: 'list', method: 'GET', path: `${root}?labelSelector=set%3Done`, code: 200 },
    { name: 'list everywhere', method: 'GET', path: `${all}?labelSelector=set%3Done`, code: 200 },
    { name: 'list by name', method: 'GET', path: `${root}?fieldSelector=metadata.name%3D${name}`, code: 200 },
    {
      name: 'list the metadata',
      method: 'GET',
      path: `${root}?labelSelector=set%3Done`,
      accept: 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1',
      code: 200,
    },
    {
      name: 'list with a bad selector',
      method: 'GET',
      path: `${root}?labelSelector=a%20in%20b`,
      code: 400,
      reason: 'BadRequest',
    },
    {
      name: 'list by a field that is not there',
      method: 'GET',
      path: `${root}?fieldSelector=spec.bogus%3Dx`,
      code: 400,
      reason: 'BadRequest',
    },
    { name: 'list with a bad token', method: 'GET', path: `${root}?continue=nonsense`, code: 400 },
    {
      name: 'list with a version of the future',
      method: 'GET',
      path: `${root}?resourceVersion=99999999`,
      code: 504,
      reason: 'Timeout',
    },
    {
      name: 'list with a match and no version',
      method: 'GET',
      path: `${root}?resourceVersionMatch=Exact`,
      code: 422,
      reason: 'Invalid',
    },
    {
      name: 'watch with events that nothing matches',
      method: 'GET',
      path: `${root}?watch=true&sendInitialEvents=true`,
      code: 422,
      reason: 'Invalid',
    },
    {
      name: 'merge',
      method: 'PATCH',
      path: one,
      type: merge,
      body: { metadata: { labels: { more: 'yes' } } },
      code: 200,
    },
    {
      name: 'merge for trial',
      method: 'PATCH',
      path: `${one}?dryRun=All`,
      type: merge,
      body: { metadata: { labels: { trial: 'yes' } } },
      code: 200,
    },
    {
      name: 'merge with an old version',
      method: 'PATCH',
      path: one,
      type: merge,
      body: { metadata: { resourceVersion: '1' } },
      code: 409,
      reason: 'Conflict',
    },
    {
      name: 'merge with another uid',
      method: 'PATCH',
      path: one,
      type: merge,
      body: { metadata: { uid: 'other' } },
      code: 422,
      reason: 'Invalid',
    },
    {
      name: 'patch with a failing test',
      method: 'PATCH',
      path: one,
      type: 'application/json-patch+json',
      body: [{ op: 'test', path: '/kind', value: 'Other' }],
      code: 422,
      reason: 'Invalid',
    },
    {
      name: 'patch where nothing is',
      method: 'PATCH',
      path: one,
      type: 'application/json-patch+json',
      body: [{ op: 'remove', path: '/no/such' }],
      code: 422,
      reason: 'Invalid',
    },
    {
      name: 'patch with what is no patch',
      method: 'PATCH',
      path: one,
      type: merge,
      body: [],
      code: 400,
      reason: 'BadRequest',
    },
    {
      name: 'patch in a way that is not there',
      method: 'PATCH',
      path: one,
      type: 'application/bogus',
      body: {},
      code: 415,
      reason: 'UnsupportedMediaType',
    },
    {
      name: 'apply without a manager',
      method: 'PATCH',
      path: one,
      type: 'application/apply-patch+yaml',
      body: object(),
      code: 422,
      reason: 'Invalid',
    },
    {
      name: 'apply',
      method: 'PATCH',
      path: `${one}?fieldManager=tester`,
      type: 'application/apply-patch+yaml',
      body: { apiVersion: gv, kind: kind.kind, metadata: { name, labels: { applied: 'yes' } } },
      code: 200,
    },
    {
      name: 'apply against another manager',
      method: 'PATCH',
      path: `${one}?fieldManager=other`,
      type: 'application/apply-patch+yaml',
      body: { apiVersion: gv, kind: kind.kind, metadata: { name, labels: { applied: 'no' } } },
      code: 409,
      reason: 'Conflict',
    },
    {
      name: 'update with an old version',
      method: 'PUT',
      path: one,
      body: object({ resourceVersion: '1' }),
      code: 409,
      reason: 'Conflict',
    },
    {
      name: 'update another name',
      method: 'PUT',
      path: one,
      body: object({ name: 'x-two' }),
      code: 400,
      reason: 'BadRequest',
    },
    {
      name: 'post to an object',
      method: 'POST',
      path: one,
      body: object(),
      code: 405,
      reason: 'MethodNotAllowed',
    },
    {
      name: 'put to a collection',
      method: 'PUT',
      path: root,
      body: object(),
      code: 405,
      reason: 'MethodNotAllowed',
    },
    ...(kind.subresources ?? [])
      .filter(({ name: sub, verbs }) => ['status', 'scale'].includes(sub) && verbs.includes('get'))
      .map(({ name: sub }): KindRequest => ({
        name: `get ${sub}`,
        method: 'GET',
        path: `${one}/${sub}`,
        code: 200,
      })),
    ...(kind.subresources ?? [])
      .filter(({ name: sub, verbs }) => sub === 'status' && verbs.includes('patch'))
      .map((): KindRequest => ({
        name: 'patch status',
        method: 'PATCH',
        path: `${one}/status`,
        type: merge,
        body: { metadata: { annotations: { seen: 'yes' } } },
        code: 200,
      })),
    {
      name: 'get a part that is not there',
      method: 'GET',
      path: `${one}/bogus`,
      code: 404,
      reason: 'NotFound',
    },
    {
      name: 'delete another one',
      method: 'DELETE',
      path: one,
      body: { kind: 'DeleteOptions', apiVersion: 'v1', preconditions: { uid: 'other' } },
      code: 409,
      reason: 'Conflict',
    },
    {
      name: 'delete with a bad policy',
      method: 'DELETE',
      path: `${one}?propagationPolicy=Never`,
      code: 422,
      reason: 'Invalid',
    },
    { name: 'delete for trial', method: 'DELETE', path: `${one}?dryRun=All&gracePeriodSeconds=0`, code: 200 },
    { name: 'it is still there', method: 'GET', path: one, code: 200 },
  ]
  if (has('deletecollection'))
    requests.push(
      {
        name: 'delete all that are not there',
        method: 'DELETE',
        path: `${root}?labelSelector=set%3Dnone`,
        code: 200,
      },
      {
        name: 'delete all',
        method: 'DELETE',
        path: `${root}?labelSelector=set%3Done&gracePeriodSeconds=0&propagationPolicy=Background`,
        code: 200,
      },
    )
  else requests.push({ name: 'delete', method: 'DELETE', path: one, code: 200 })
  return requests
}
