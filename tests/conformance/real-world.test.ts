import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { UserInfo } from '../../src/api/index.ts'
import { DEFINITIONS } from './compare-custom-kinds.ts'
import { type Ask, ControlPlane, type Json, TENANT } from './control-plane.ts'

/** What manifests and operators of well-known projects do (docs/real-world.md), shown in a few words of our own. */

const NS = '/api/v1/namespaces/default'
const RBAC = '/apis/rbac.authorization.k8s.io/v1'
const WIDGETS = '/apis/example.com/v1/namespaces/default/widgets'

const widgets = (spec: Json, more: Json = {}): Json => ({
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'widgets.example.com' },
  spec: {
    group: 'example.com',
    scope: 'Namespaced',
    names: { plural: 'widgets', singular: 'widget', kind: 'Widget', listKind: 'WidgetList' },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        schema: { openAPIV3Schema: { type: 'object', properties: { spec } } },
        ...more,
      },
    ],
  },
})

async function define(plane: ControlPlane, definition: Json): Promise<void> {
  const made = await plane.ask('POST', DEFINITIONS, { body: definition })
  assert.equal(made.code, 201, made.text)
  const conditions = [{ type: 'Established', status: 'True' }]
  const status = { acceptedNames: definition.spec.names, conditions }
  const url = `${DEFINITIONS}/${definition.metadata.name}/status`
  assert.equal((await plane.ask('PUT', url, { body: { ...made.body, status } })).code, 200)
}

async function created(plane: ControlPlane, path: string, body: Json, options: Ask = {}): Promise<Json> {
  const answer = await plane.ask('POST', path, { body, ...options })
  assert.equal(answer.code, 201, answer.text)
  return answer.body
}

test('a service account without a namespace in a RoleBinding is that of its namespace, in a ClusterRoleBinding nobody', async () => {
  await using plane = await ControlPlane.start()
  await created(plane, '/api/v1/namespaces', { metadata: { name: 'other' } })
  const binding = {
    metadata: { name: 'robot' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'view' },
    subjects: [{ kind: 'ServiceAccount', name: 'robot' }],
  }
  await created(plane, `${RBAC}/namespaces/default/rolebindings`, binding)
  const robots = new Map<string, UserInfo>()
  for (const namespace of ['default', 'other']) {
    const account = { metadata: { name: 'robot' } }
    const { uid } = (await created(plane, `/api/v1/namespaces/${namespace}/serviceaccounts`, account))
      .metadata
    robots.set(namespace, { kind: 'serviceAccount', tenant: TENANT, namespace, name: 'robot', uid })
  }
  const codes: number[] = []
  for (const namespace of ['default', 'other'])
    for (const user of robots.values())
      codes.push((await plane.ask('GET', `/api/v1/namespaces/${namespace}/configmaps`, { user })).code)
  assert.deepEqual(codes, [200, 403, 403, 403])
  const refused = await plane.ask('POST', `${RBAC}/clusterrolebindings`, { body: binding })
  assert.deepEqual(
    [refused.code, refused.body.details.causes[0].field],
    [422, 'subjects[0].namespace'],
    refused.text,
  )
})

test('an operator may have a finalizer of one word, is warned of it once, and the object waits for it', async () => {
  await using plane = await ControlPlane.start()
  await define(plane, widgets({ type: 'object', properties: {} }))
  const metadata = { name: 'one', finalizers: ['finalizer.example.com', 'example.com/other'] }
  const made = await plane.ask('POST', WIDGETS, { body: { metadata } })
  assert.equal(made.code, 201, made.text)
  assert.equal(
    made.headers['warning'],
    '299 - "metadata.finalizers: \\"finalizer.example.com\\": prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other finalizer writers"',
  )
  const merge = (body: Json) =>
    plane.ask('PATCH', `${WIDGETS}/one`, { body, type: 'application/merge-patch+json' })
  assert.equal((await merge({ metadata: { labels: { a: 'b' } } })).headers['warning'], undefined)
  await plane.ask('DELETE', `${WIDGETS}/one`)
  assert.equal((await plane.ask('GET', `${WIDGETS}/one`)).code, 200)
  assert.equal((await merge({ metadata: { finalizers: null } })).code, 200)
  assert.equal((await plane.ask('GET', `${WIDGETS}/one`)).code, 404)
  const bad = await plane.ask('POST', WIDGETS, { body: { metadata: { name: 'two', finalizers: ['a b'] } } })
  assert.equal(bad.code, 422, bad.text)
  const builtIn = await plane.ask('POST', `${NS}/configmaps`, { body: { metadata } })
  assert.equal(builtIn.code, 422, builtIn.text)
})

test('a client that reads an object and writes it back without what says nothing has changed nothing', async () => {
  await using plane = await ControlPlane.start()
  const deployments = '/apis/apps/v1/namespaces/default/deployments'
  const deployment = (labels: Json, pod: Json, container: Json) => ({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'web', ...labels },
    spec: {
      replicas: 0,
      selector: { matchLabels: { app: 'web' } },
      template: {
        metadata: { labels: { app: 'web' } },
        spec: { ...pod, containers: [{ name: 'web', image: 'busybox:1', ...container }] },
      },
    },
  })
  const empty = deployment(
    { labels: {}, annotations: {} },
    { volumes: [], nodeSelector: {}, hostNetwork: false },
    { env: [], args: [], tty: false, resources: {} },
  )
  const made = await created(plane, deployments, empty)
  const { spec } = made
  assert.deepEqual(
    [made.metadata.labels, spec.replicas, spec.template.spec.volumes, spec.template.spec.hostNetwork],
    [undefined, 0, undefined, undefined],
  )
  assert.deepEqual(Object.keys(spec.template.spec.containers[0]).sort(), [
    'image',
    'imagePullPolicy',
    'name',
    'resources',
    'terminationMessagePath',
    'terminationMessagePolicy',
  ])
  const body = deployment({}, {}, { resources: {} })
  const back = await plane.ask('PUT', `${deployments}/web`, { body })
  assert.deepEqual([back.code, back.body.metadata.generation], [200, 1])
  const apply = { body: empty, type: 'application/apply-patch+yaml' }
  const applied = await plane.ask('PATCH', `${deployments}/web?fieldManager=ann&force=true`, apply)
  assert.deepEqual([applied.code, applied.body.metadata.generation], [200, 1])
  const owned = applied.body.metadata.managedFields.find((entry: Json) => entry.manager === 'ann').fieldsV1
  assert.deepEqual(owned['f:metadata'], { 'f:annotations': {}, 'f:labels': {} })
})

test('a StatefulSet that names the type of its strategy alone is given no partition', async () => {
  await using plane = await ControlPlane.start()
  const strategies: Json[] = []
  for (const [at, updateStrategy] of [
    undefined,
    {},
    { type: 'RollingUpdate' },
    { type: 'OnDelete' },
  ].entries()) {
    const template = {
      metadata: { labels: { app: 'web' } },
      spec: { containers: [{ name: 'web', image: 'busybox:1' }] },
    }
    const spec = { serviceName: 'web', selector: { matchLabels: { app: 'web' } }, template, updateStrategy }
    const sets = '/apis/apps/v1/namespaces/default/statefulsets'
    strategies.push(
      (await created(plane, sets, { metadata: { name: `web-${at}` }, spec })).spec.updateStrategy,
    )
  }
  const whole = { type: 'RollingUpdate', rollingUpdate: { partition: 0 } }
  assert.deepEqual(strategies, [whole, whole, { type: 'RollingUpdate' }, { type: 'OnDelete' }])
})

test('a column with empty brackets shows the first item', async () => {
  await using plane = await ControlPlane.start()
  const column = { name: 'Host', type: 'string', jsonPath: '.spec.hosts[].name' }
  const spec = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true }
  await define(plane, widgets(spec, { additionalPrinterColumns: [column] }))
  const cells: Json[] = []
  for (const [at, hosts] of [[{ name: 'a' }, { name: 'b' }], []].entries()) {
    await created(plane, WIDGETS, { metadata: { name: `w${at}` }, spec: { hosts } })
    const accept = 'application/json;as=Table;v=v1;g=meta.k8s.io'
    cells.push((await plane.ask('GET', `${WIDGETS}/w${at}`, { accept })).body.rows[0].cells)
  }
  assert.deepEqual(cells, [
    ['w0', 'a'],
    ['w1', null],
  ])
})

test('OpenAPI says by which fields objects can be selected', async () => {
  await using plane = await ControlPlane.start()
  const spec = { type: 'object', properties: { color: { type: 'string' } } }
  await define(plane, widgets(spec, { selectableFields: [{ jsonPath: '.spec.color' }] }))
  const { paths } = (await plane.ask('GET', '/openapi/v3')).body
  const v3 = (await plane.ask('GET', paths['apis/example.com/v1'].serverRelativeURL)).body
  const v2 = (await plane.ask('GET', '/openapi/v2')).body
  for (const schema of [
    v3.components.schemas['com.example.v1.Widget'],
    v2.definitions['com.example.v1.Widget'],
  ])
    assert.deepEqual(schema['x-kubernetes-selectable-fields'], [{ fieldPath: 'spec.color' }])
})

test('rules are asked when only values are wrong, and it is said when they cannot be', async () => {
  await using plane = await ControlPlane.start()
  await define(
    plane,
    widgets({
      type: 'object',
      required: ['mode'],
      properties: {
        mode: { type: 'string', enum: ['b', 'a'] },
        size: { type: 'integer', maximum: 5 },
      },
      'x-kubernetes-validations': [{ rule: 'self.size != 9', message: 'never nine' }],
    }),
  )
  const problems = async (spec: Json) => {
    const { body } = await plane.ask('POST', WIDGETS, { body: { metadata: { name: 'one' }, spec } })
    return body.details.causes.map((cause: Json) => `${cause.field}: ${cause.message}`)
  }
  assert.deepEqual(await problems({ mode: 'a', size: 9 }), [
    'spec.size: Invalid value: 9: spec.size in body should be less than or equal to 5',
    'spec: Invalid value: "object": never nine',
  ])
  const unchecked =
    '<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation'
  assert.deepEqual(await problems({ size: 1 }), ['spec.mode: Required value', unchecked])
  assert.deepEqual(await problems({ mode: 'c', size: 1 }), [
    'spec.mode: Unsupported value: "c": supported values: "b", "a"',
    unchecked,
  ])
})
