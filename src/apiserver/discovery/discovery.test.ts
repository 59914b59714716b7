import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type KindDefinition,
  type KindRegistry,
  type ObjectSchema,
  compareVersions,
  platformRegistry,
  tenantRegistry,
} from '../../api/index.ts'
import {
  type Document,
  isUnchanged,
  renderAggregatedDiscovery,
  renderApiGroup,
  renderApiGroupList,
  renderApiResourceList,
  renderApiVersions,
  renderOpenApiIndex,
  renderOpenApiV2,
  renderOpenApiV3,
} from './index.ts'

type Json = { [key: string]: Json } & Json[]

// The documents are ours; their shape is what the tests are about.
const read = (document: Document | undefined) => JSON.parse(document?.body.toString() ?? 'null') as Json

const spec: ObjectSchema = {
  type: 'object',
  name: 'test.WidgetSpec',
  description: 'What is wanted.',
  fields: {
    size: { schema: { type: 'string', format: 'quantity' }, required: true },
    port: { schema: { type: 'string', format: 'int-or-string' } },
    parts: {
      schema: {
        type: 'list',
        items: { type: 'object', name: 'test.Part', fields: { inner: { schema: () => spec } } },
        listType: 'map',
        listMapKeys: ['name'],
        patchMergeKey: 'name',
        patchStrategy: 'merge',
      },
      description: 'Its parts.',
      warning: 'Without effect here.',
    },
  },
}
const schema: ObjectSchema = {
  type: 'object',
  name: 'test.Widget',
  fields: {
    metadata: { schema: { type: 'object', name: 'test.Meta', fields: {} } },
    spec: { schema: spec, description: 'The spec.' },
  },
}
const widget = (version: string): KindDefinition => ({
  group: 'example.com',
  version,
  kind: 'Widget',
  plural: 'widgets',
  singular: 'widget',
  shortNames: ['wd'],
  categories: ['all'],
  namespaced: true,
  verbs: ['list', 'get', 'create', 'patch'],
  schema,
  columns: [],
  subresources: [
    { name: 'scale', verbs: ['get', 'patch'], kind: { group: 'autoscaling', version: 'v1', kind: 'Scale' } },
    { name: 'exec', verbs: ['connect'] },
  ],
})
const registry: KindRegistry = {
  kinds: [widget('v1beta1'), widget('v2'), widget('v10')],
  virtualKinds: [
    {
      group: '',
      version: 'v1',
      kind: 'Question',
      plural: 'questions',
      singular: 'question',
      namespaced: false,
      schema,
    },
  ],
  find: () => undefined,
  findKind: () => undefined,
}

const WIDGETS = {
  resource: 'widgets',
  responseKind: { group: '', version: '', kind: 'Widget' },
  scope: 'Namespaced',
  singularResource: 'widget',
  verbs: ['create', 'get', 'list', 'patch'],
  shortNames: ['wd'],
  categories: ['all'],
  subresources: [
    {
      subresource: 'exec',
      responseKind: { group: '', version: '', kind: 'Widget' },
      verbs: ['create', 'get'],
    },
    {
      subresource: 'scale',
      responseKind: { group: 'autoscaling', version: 'v1', kind: 'Scale' },
      verbs: ['get', 'patch'],
    },
  ],
}

test('aggregated discovery names every resource once, the newest version first', () => {
  const apis = renderAggregatedDiscovery(registry, 'apis')
  assert.equal(apis.contentType, 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList')
  assert.deepEqual(read(apis), {
    kind: 'APIGroupDiscoveryList',
    apiVersion: 'apidiscovery.k8s.io/v2',
    metadata: {},
    items: [
      {
        metadata: { name: 'example.com' },
        versions: ['v10', 'v2', 'v1beta1'].map((version) => ({
          version,
          resources: [WIDGETS],
          freshness: 'Current',
        })),
      },
    ],
  })
  const api = read(renderAggregatedDiscovery(registry, 'api', 'v2beta1'))
  assert.equal(api['apiVersion'], 'apidiscovery.k8s.io/v2beta1')
  assert.deepEqual(api['items']?.[0]?.['metadata'], {})
})

test('legacy discovery says the same in more answers', () => {
  assert.deepEqual(read(renderApiVersions(registry, 'host:1')), {
    kind: 'APIVersions',
    versions: ['v1'],
    serverAddressByClientCIDRs: [{ clientCIDR: '0.0.0.0/0', serverAddress: 'host:1' }],
  })
  const group = {
    name: 'example.com',
    versions: ['v10', 'v2', 'v1beta1'].map((version) => ({
      groupVersion: `example.com/${version}`,
      version,
    })),
    preferredVersion: { groupVersion: 'example.com/v10', version: 'v10' },
  }
  assert.deepEqual(read(renderApiGroupList(registry)), {
    kind: 'APIGroupList',
    apiVersion: 'v1',
    groups: [group],
  })
  assert.deepEqual(read(renderApiGroup(registry, 'example.com')), {
    kind: 'APIGroup',
    apiVersion: 'v1',
    ...group,
  })
  assert.deepEqual(read(renderApiResourceList(registry, { group: 'example.com', version: 'v2' })), {
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion: 'example.com/v2',
    resources: [
      {
        name: 'widgets',
        singularName: 'widget',
        namespaced: true,
        kind: 'Widget',
        verbs: ['create', 'get', 'list', 'patch'],
        shortNames: ['wd'],
        categories: ['all'],
      },
      { name: 'widgets/exec', singularName: '', namespaced: true, kind: 'Widget', verbs: ['create', 'get'] },
      {
        name: 'widgets/scale',
        singularName: '',
        namespaced: true,
        group: 'autoscaling',
        version: 'v1',
        kind: 'Scale',
        verbs: ['get', 'patch'],
      },
    ],
  })
  assert.equal(renderApiGroup(registry, ''), undefined)
  assert.equal(renderApiGroup(registry, 'nope'), undefined)
  assert.equal(renderApiResourceList(registry, { group: 'example.com', version: 'v1' }), undefined)
})

test('versions are ordered as Kubernetes orders them', () => {
  const versions = ['v1alpha1', 'foo', 'v1beta2', 'v2', 'v1', 'v10', 'v11beta1', 'v1beta1']
  assert.deepEqual(versions.sort(compareVersions), [
    'foo',
    'v1alpha1',
    'v1beta1',
    'v1beta2',
    'v11beta1',
    'v1',
    'v2',
    'v10',
  ])
})

test('a client that has a document is told so, and a document is made once', () => {
  const document = renderAggregatedDiscovery(registry, 'apis')
  assert.equal(renderAggregatedDiscovery(registry, 'apis'), document)
  assert.equal(isUnchanged(document, undefined), false)
  assert.equal(isUnchanged(document, '"x"'), false)
  assert.equal(isUnchanged(document, `"x", W/${document.etag}`), true)
})

test('the OpenAPI index leads to every group version under its hash', () => {
  const paths = read(renderOpenApiIndex(registry))['paths'] ?? {}
  assert.deepEqual(Object.keys(paths).sort(), [
    'api/v1',
    'apis/example.com/v10',
    'apis/example.com/v1beta1',
    'apis/example.com/v2',
  ])
  const document = renderOpenApiV3(registry, { group: 'example.com', version: 'v2' }, 'json')
  const hash = document?.etag.replaceAll('"', '')
  assert.deepEqual((paths as Json)['apis/example.com/v2'], {
    serverRelativeURL: `/openapi/v3/apis/example.com/v2?hash=${hash}`,
  })
  assert.equal(renderOpenApiV3(registry, { group: 'constructor', version: 'v1' }, 'json'), undefined)
})

test('schemas carry merge keys, list types, kinds and warnings, and may contain themselves', () => {
  const document = read(renderOpenApiV3(registry, { group: 'example.com', version: 'v2' }, 'json'))
  const schemas = document['components']?.['schemas']
  assert.deepEqual(schemas?.['test.WidgetSpec'], {
    description: 'What is wanted.',
    type: 'object',
    required: ['size'],
    properties: {
      parts: {
        description: 'Its parts.\nWithout effect here.',
        type: 'array',
        items: { $ref: '#/components/schemas/test.Part' },
        'x-kubernetes-list-type': 'map',
        'x-kubernetes-list-map-keys': ['name'],
        'x-kubernetes-patch-merge-key': 'name',
        'x-kubernetes-patch-strategy': 'merge',
      },
      port: { $ref: '#/components/schemas/io.k8s.apimachinery.pkg.util.intstr.IntOrString' },
      size: { $ref: '#/components/schemas/io.k8s.apimachinery.pkg.api.resource.Quantity' },
    },
  })
  assert.deepEqual(schemas?.['test.Widget']?.['properties']?.['spec'], {
    description: 'The spec.',
    allOf: [{ $ref: '#/components/schemas/test.WidgetSpec' }],
  })
  assert.deepEqual(schemas?.['test.Widget']?.['x-kubernetes-group-version-kind'], [
    { group: 'example.com', version: 'v2', kind: 'Widget' },
  ])
})

test('kubectl finds what it needs to validate on the server and to explain', () => {
  const document = read(renderOpenApiV3(registry, { group: 'example.com', version: 'v2' }, 'json'))
  const gvk = { group: 'example.com', version: 'v2', kind: 'Widget' }
  const collection = '/apis/example.com/v2/namespaces/{namespace}/widgets'
  const patch = document['paths']?.[`${collection}/{name}`]?.['patch']
  assert.deepEqual(patch?.['x-kubernetes-group-version-kind'], gvk)
  assert.ok(patch?.['parameters']?.some((p) => (p as unknown as { name: string }).name === 'fieldValidation'))
  assert.deepEqual(document['paths']?.[collection]?.['get']?.['x-kubernetes-group-version-kind'], gvk)
  assert.deepEqual(Object.keys(document['paths'] ?? {}), [
    collection,
    `${collection}/{name}`,
    '/apis/example.com/v2/widgets',
    `${collection}/{name}/scale`,
    `${collection}/{name}/exec`,
  ])
})

test('every reference in a document leads somewhere', () => {
  for (const registry of [tenantRegistry, platformRegistry]) {
    const documents: [Document | undefined, string, (d: Json) => Json | undefined][] = [
      ...Object.keys(read(renderOpenApiIndex(registry))['paths'] ?? {}).map(
        (path): [Document | undefined, string, (d: Json) => Json | undefined] => {
          const [root, ...rest] = path.split('/')
          const [group, version] = root === 'api' ? ['', rest[0]] : rest
          return [
            renderOpenApiV3(registry, { group: group ?? '', version: version ?? '' }, 'json'),
            '#/components/schemas/',
            (d) => d['components']?.['schemas'],
          ]
        },
      ),
      [renderOpenApiV2(registry, 'json'), '#/definitions/', (d) => d['definitions']],
    ]
    for (const [document, prefix, schemasOf] of documents) {
      const text = document?.body.toString() ?? ''
      const known = new Set(Object.keys(schemasOf(read(document)) ?? {}))
      const references = new Set([...text.matchAll(/"\$ref":"([^"]+)"/g)].map(([, to]) => to ?? ''))
      assert.ok(references.size > 0)
      assert.deepEqual(
        [...references].filter((to) => !known.has(to.replace(prefix, ''))),
        [],
      )
    }
  }
})
