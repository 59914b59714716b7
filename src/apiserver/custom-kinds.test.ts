import assert from 'node:assert/strict'
import { request as httpRequest } from 'node:http'
import { test } from 'node:test'
import { tenantRegistry } from '../api/index.ts'
import { COST_HEADER } from '../identity/index.ts'
import { RbacAuthorizer } from '../policy/index.ts'
import { silentLogger } from '../stdx/index.ts'
import { ControlPlane, type Json, TENANT } from '../../tests/conformance/control-plane.ts'
import { createApiServer } from './index.ts'

const CRDS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions'
const THINGS = '/apis/example.com/v1/namespaces/default/things'

const SCHEMA: Json = {
  type: 'object',
  properties: {
    spec: {
      type: 'object',
      properties: { size: { type: 'integer', maximum: 5 }, color: { type: 'string', default: 'red' } },
    },
  },
}
const definition = (change: (definition: Json) => void = () => {}): Json => {
  const made: Json = {
    metadata: { name: 'things.example.com' },
    spec: {
      group: 'example.com',
      scope: 'Namespaced',
      names: { plural: 'things', kind: 'Thing' },
      versions: [
        { name: 'v1', served: true, storage: true, schema: { openAPIV3Schema: structuredClone(SCHEMA) } },
      ],
    },
  }
  change(made)
  return made
}

/** Stands for the controller, which these tests do without. */
async function establish(plane: ControlPlane, crd: Json, names = crd.spec.names): Promise<Json> {
  const status = {
    ...crd.status,
    acceptedNames: names,
    conditions: [...(crd.status?.conditions ?? []), { type: 'Established', status: 'True' }],
  }
  const answer = await plane.ask('PUT', `${CRDS}/${crd.metadata.name}/status`, { body: { ...crd, status } })
  assert.equal(answer.code, 200, answer.text)
  return answer.body
}

async function define(plane: ControlPlane, crd = definition()): Promise<Json> {
  const answer = await plane.ask('POST', CRDS, { body: crd })
  assert.equal(answer.code, 201, answer.text)
  return establish(plane, answer.body)
}

async function update(plane: ControlPlane, name: string, change: (crd: Json) => void): Promise<Json> {
  const { body } = await plane.ask('GET', `${CRDS}/${name}`)
  change(body)
  const answer = await plane.ask('PUT', `${CRDS}/${name}`, { body })
  assert.equal(answer.code, 200, answer.text)
  return answer.body
}

async function refused(plane: ControlPlane, crd: Json, why: RegExp): Promise<void> {
  const answer = await plane.ask('POST', CRDS, { body: crd })
  assert.ok([400, 403, 422].includes(answer.code), answer.text)
  assert.match(answer.body.message, why)
}

test('a tenant cannot have large descriptions of its kinds made again and again for nothing', async () => {
  await using plane = await ControlPlane.start()
  await define(plane)
  // Far more than a millisecond, which is the least that is told.
  for (const path of ['/openapi/v2', '/openapi/v3']) {
    const { code, headers } = await plane.ask('GET', path)
    assert.equal(code, 200)
    assert.match(String(headers[COST_HEADER]), /^[1-9]\d*$/, path)
  }
})

test('what is wrong with a definition is said in the words of Kubernetes', async () => {
  await using plane = await ControlPlane.start()
  const schemaOf = (crd: Json): Json => crd.spec.versions[0].schema.openAPIV3Schema
  const cases: [(crd: Json) => void, RegExp][] = [
    [
      (c) => (c.metadata.name = 'other.example.com'),
      /metadata.name: Invalid value: "other.example.com": must be spec.names.plural\+"."\+spec.group/,
    ],
    [(c) => (c.spec.versions[0].storage = false), /must have exactly one version marked as storage version/],
    [(c) => c.spec.versions.push(c.spec.versions[0]), /must contain unique version names/],
    [
      (c) => (c.spec.scope = 'Galaxy'),
      /spec.scope: Unsupported value: "Galaxy": supported values: "Cluster", "Namespaced"/,
    ],
    [(c) => delete c.spec.versions[0].schema, /schema.openAPIV3Schema: Required value: schemas are required/],
    [
      (c) => (c.spec.preserveUnknownFields = true),
      /spec.preserveUnknownFields: Invalid value: true: must be false/,
    ],
    [(c) => (c.spec.conversion = { strategy: 'Webhook' }), /calls no webhooks/],
    [(c) => (c.spec.conversion = { strategy: 'Webhook', webhook: {} }), /spec.conversion.webhook: Forbidden/],
    [
      (c) => delete schemaOf(c).properties.spec.type,
      /properties\[spec\].type: Required value: must not be empty for specified object fields/,
    ],
    [(c) => (schemaOf(c).type = 'string'), /must be object at the root/],
    [
      (c) => (schemaOf(c).properties.spec.additionalProperties = { type: 'string' }),
      /additionalProperties and properties are mutual exclusive/,
    ],
    [(c) => (schemaOf(c).properties.spec.uniqueItems = true), /uniqueItems cannot be set to true/],
    [(c) => (schemaOf(c).properties.spec.properties.color.default = 1), /default: .*must be of type string/],
    [
      (c) => (schemaOf(c).properties.spec.properties.color.pattern = '('),
      /must be a valid regular expression/,
    ],
    [
      (c) => (schemaOf(c).anyOf = [{ properties: { other: { minimum: 1 } } }]),
      /properties\[other\]: Required value: because it is defined in/,
    ],
    [
      (c) =>
        (schemaOf(c).properties.list = {
          type: 'array',
          items: { type: 'object' },
          'x-kubernetes-list-type': 'map',
        }),
      /x-kubernetes-list-map-keys: Required value/,
    ],
    [
      (c) => (schemaOf(c).properties.spec.properties = 'x'),
      /cannot unmarshal string into Go value of type map/,
    ],
    [
      (c) => (schemaOf(c)['x-kubernetes-validations'] = [{ rule: 'self.nope' }]),
      /compilation failed.*undefined field 'nope'/s,
    ],
    [
      (c) => (c.spec.versions[0].additionalPrinterColumns = [{ name: 'a', type: 'x', jsonPath: 'b' }]),
      /Unsupported value: "x"[\s\S]*must be a simple json path starting with/,
    ],
    [
      (c) => (c.spec.versions[0].selectableFields = [{ jsonPath: '.spec.nope' }]),
      /does not refer to a valid field/,
    ],
    [
      (c) =>
        (c.spec.versions[0].subresources = {
          scale: { specReplicasPath: '.status.x', statusReplicasPath: '.status.y' },
        }),
      /should be a json path under .spec/,
    ],
  ]
  for (const [change, why] of cases) await refused(plane, definition(change), why)
  const strict = await plane.ask('POST', `${CRDS}?fieldValidation=Strict`, {
    body: definition((c) => (schemaOf(c).properties.spec.typo = 1)),
  })
  assert.match(
    strict.body.message,
    /unknown field "spec.versions\[0\].schema.openAPIV3Schema.properties\[spec\].typo"/,
  )
})

test('a definition cannot take the place of what the platform serves', async () => {
  await using plane = await ControlPlane.start()
  const inGroup = (group: string) =>
    definition((c) => {
      c.spec.group = group
      c.metadata.name = `things.${group}`
    })
  await refused(plane, inGroup('rbac.authorization.k8s.io'), /belongs to Kubernetes or to the platform/)
  await refused(plane, inGroup('apps'), /should be a domain with at least one dot/)
  await refused(plane, inGroup('gateway.k8s.io'), /protected groups must have approval annotation/)
  // Names in a status are nobody's word for where objects are kept.
  const { body } = await plane.ask('POST', CRDS, { body: definition() })
  await establish(plane, body, { plural: 'secrets./default', kind: 'Secret' })
  assert.equal((await plane.ask('GET', THINGS)).code, 404)
  const secrets = await plane.ask('GET', '/api/v1/secrets')
  assert.equal(secrets.body.kind, 'SecretList')
})

test('an object is shown as every version, and stored as one', async () => {
  await using plane = await ControlPlane.start()
  await define(plane)
  assert.equal(
    (await plane.ask('POST', THINGS, { body: { metadata: { name: 'a' }, spec: { size: 1, junk: 1 } } })).code,
    201,
  )
  const stored = () => plane.store.list('things.example.com/').items[0]?.object as Json
  assert.deepEqual([stored().apiVersion, stored().spec], ['example.com/v1', { size: 1, color: 'red' }])
  await update(plane, 'things.example.com', (crd) => {
    const [v1] = crd.spec.versions
    const next = structuredClone(v1)
    next.name = 'v2'
    next.schema.openAPIV3Schema.properties.spec.properties.added = { type: 'string', default: 'new' }
    v1.storage = false
    crd.spec.versions.push(next)
  })
  const v2 = THINGS.replace('v1', 'v2')
  const { body } = await plane.ask('GET', `${v2}/a`)
  assert.deepEqual([body.apiVersion, body.spec], ['example.com/v2', { size: 1, color: 'red', added: 'new' }])
  assert.equal(stored().apiVersion, 'example.com/v1')
  // A write that changes nothing moves it to the version that it shall be stored as.
  assert.equal(
    (await plane.ask('PUT', `${THINGS}/a`, { body: (await plane.ask('GET', `${THINGS}/a`)).body })).code,
    200,
  )
  assert.equal(stored().apiVersion, 'example.com/v2')
  const crd = (await plane.ask('GET', `${CRDS}/things.example.com`)).body
  assert.deepEqual(crd.status.storedVersions, ['v1', 'v2'])
  const gone = await plane.ask('PUT', `${CRDS}/things.example.com`, {
    body: { ...crd, spec: { ...crd.spec, versions: crd.spec.versions.slice(1) } },
  })
  assert.match(
    gone.body.message,
    /status.storedVersions\[0\]: Invalid value: "v1": missing from spec.versions/,
  )
})

test('a schema that became stricter leaves alone what is there and does not change', async () => {
  await using plane = await ControlPlane.start()
  await define(plane)
  await plane.ask('POST', THINGS, { body: { metadata: { name: 'a' }, spec: { size: 5 } } })
  await update(
    plane,
    'things.example.com',
    (crd) => (crd.spec.versions[0].schema.openAPIV3Schema.properties.spec.properties.size.maximum = 1),
  )
  const patch = (body: Json) =>
    plane.ask('PATCH', `${THINGS}/a`, { body, type: 'application/merge-patch+json' })
  assert.equal((await patch({ spec: { color: 'blue' } })).code, 200)
  assert.match(
    (await patch({ spec: { size: 4 } })).body.message,
    /spec.size in body should be less than or equal to 1/,
  )
})

test('discovery and OpenAPI change with a definition, and what did not change keeps its hash', async () => {
  await using plane = await ControlPlane.start()
  const hashes = async () =>
    (await plane.ask('GET', '/openapi/v3')).body.paths as Record<string, { serverRelativeURL: string }>
  const before = await hashes()
  await define(plane)
  const with_ = await hashes()
  assert.deepEqual(before['apis/apps/v1'], with_['apis/apps/v1'])
  const url = with_['apis/example.com/v1']!.serverRelativeURL
  const document = (await plane.ask('GET', url)).body
  assert.equal(document.components.schemas['com.example.v1.Thing'].properties.spec.properties.size.maximum, 5)
  const patch = document.paths['/apis/example.com/v1/namespaces/{namespace}/things/{name}'].patch
  assert.ok(!Object.keys(patch.requestBody.content).includes('application/strategic-merge-patch+json'))
  await update(
    plane,
    'things.example.com',
    (crd) => (crd.spec.versions[0].schema.openAPIV3Schema.description = 'Other.'),
  )
  assert.notEqual((await hashes())['apis/example.com/v1']!.serverRelativeURL, url)
  const list = await plane.ask('GET', '/apis/example.com/v1')
  assert.deepEqual(
    list.body.resources.map((r: Json) => [r.name, r.singularName, r.kind]),
    [['things', 'thing', 'Thing']],
  )
  await update(plane, 'things.example.com', (crd) => (crd.spec.versions[0].served = false))
  assert.equal((await plane.ask('GET', '/apis/example.com/v1')).code, 404)
  assert.equal((await plane.ask('GET', THINGS)).code, 404)
})

test('OpenAPI v2 says nothing of a kind that keeps what it does not know, and no document makes words up', async () => {
  await using plane = await ControlPlane.start()
  const open = (crd: Json) => {
    crd.spec.versions[0].schema.openAPIV3Schema['x-kubernetes-preserve-unknown-fields'] = true
  }
  await define(plane, definition(open))
  const v2 = (await plane.ask('GET', '/openapi/v2')).body
  assert.deepEqual(v2.definitions['com.example.v1.Thing'], {
    type: 'object',
    'x-kubernetes-group-version-kind': [{ group: 'example.com', kind: 'Thing', version: 'v1' }],
  })
  const { paths } = (await plane.ask('GET', '/openapi/v3')).body
  const v3 = (await plane.ask('GET', paths['apis/example.com/v1'].serverRelativeURL)).body
  const thing = v3.components.schemas['com.example.v1.Thing']
  assert.deepEqual([thing.description, thing.properties.spec.type], [undefined, 'object'])
})

test('a condition of a definition may say nothing but a message', async () => {
  await using plane = await ControlPlane.start()
  await define(plane)
  const { code, body } = await plane.ask('PATCH', `${CRDS}/things.example.com/status`, {
    body: [{ op: 'add', path: '/status/conditions', value: [{ message: 'patched' }] }],
    type: 'application/json-patch+json',
  })
  assert.equal(code, 200, JSON.stringify(body))
  assert.deepEqual([code, body.status.conditions], [200, [{ message: 'patched', type: '', status: '' }]])
})

test('a definition does not go while it has objects, and lets no new ones come while it goes', async () => {
  await using plane = await ControlPlane.start()
  await define(plane)
  await plane.ask('POST', THINGS, { body: { metadata: { name: 'a' } } })
  const { body } = await plane.ask('DELETE', `${CRDS}/things.example.com`)
  assert.deepEqual(body.metadata.finalizers, ['customresourcecleanup.apiextensions.k8s.io'])
  const late = await plane.ask('POST', THINGS, { body: { metadata: { name: 'b' } } })
  assert.equal(late.code, 405)
  const drop = () =>
    plane.ask('PATCH', `${CRDS}/things.example.com`, {
      body: { metadata: { finalizers: null } },
      type: 'application/merge-patch+json',
    })
  assert.equal((await drop()).code, 409, 'whoever takes the finalizer away early loses nothing')
  assert.equal((await plane.ask('DELETE', `${THINGS}/a`)).code, 200)
  assert.equal((await drop()).code, 200)
  assert.equal((await plane.ask('GET', THINGS)).code, 404)
  assert.equal((await plane.ask('GET', `${CRDS}/things.example.com`)).code, 404)
})

test('a body that comes after its definition has gone creates nothing', async () => {
  await using plane = await ControlPlane.start()
  await define(plane)
  const body = JSON.stringify({ metadata: { name: 'late' } })
  const answer = Promise.withResolvers<number>()
  const slow = httpRequest(
    {
      host: '127.0.0.1',
      port: plane.port,
      method: 'POST',
      path: THINGS,
      headers: { 'content-type': 'application/json', 'content-length': body.length },
    },
    (response) => {
      response.resume()
      answer.resolve(response.statusCode ?? 0)
    },
  )
  slow.write(body.slice(0, 5))
  await plane.ask('GET', '/version')
  await plane.ask('DELETE', `${CRDS}/things.example.com`)
  await plane.ask('PATCH', `${CRDS}/things.example.com`, {
    body: { metadata: { finalizers: null } },
    type: 'application/merge-patch+json',
  })
  slow.end(body.slice(5))
  assert.equal(await answer.promise, 404)
  assert.equal(plane.store.count('things.example.com/'), 0)
})

test('rules refuse objects, and rights are those of the group and resource', async () => {
  await using plane = await ControlPlane.start()
  await define(
    plane,
    definition(
      (c) =>
        (c.spec.versions[0].schema.openAPIV3Schema.properties.spec['x-kubernetes-validations'] = [
          { rule: '!has(self.size) || self.size != 3', message: 'three is taken' },
        ]),
    ),
  )
  const made = await plane.ask('POST', THINGS, { body: { metadata: { name: 'a' }, spec: { size: 3 } } })
  assert.equal(made.code, 422)
  assert.equal(
    made.body.message,
    'Thing.example.com "a" is invalid: spec: Invalid value: "object": three is taken',
  )
  const eve = { kind: 'tenantUser', tenant: TENANT, name: 'eve', groups: [] } as const
  assert.equal((await plane.ask('GET', THINGS, { user: eve })).code, 403)
  assert.equal((await plane.ask('GET', THINGS.replace('things', 'others'), { user: eve })).code, 403)
})

test('a control plane that wakes up serves the kinds that it served before', async () => {
  await using plane = await ControlPlane.start()
  await define(plane)
  await plane.ask('POST', THINGS, { body: { metadata: { name: 'a' }, spec: { size: 1 } } })
  const woken = createApiServer({
    tenant: TENANT,
    registry: tenantRegistry,
    store: plane.store,
    authorizer: new RbacAuthorizer(),
    clock: plane.clock,
    log: silentLogger,
    version: { kubernetes: '1.36', gitVersion: 'v1.36.0', gitCommit: '', buildDate: '' },
  })
  const things = { group: 'example.com', version: 'v1', kind: 'Thing', plural: 'things', namespaced: true }
  const { items } = await woken.client('test').list(things)
  assert.deepEqual(
    items.map(({ metadata }) => metadata.name),
    ['a'],
  )
  await assert.rejects(
    woken.client('test').create(things, { metadata: { name: 'b', namespace: 'default' }, spec: { size: 9 } }),
    /less than or equal to 5/,
  )
  await woken.close()
})

test('roles of a chart add its kinds to view, edit and admin', async () => {
  await using plane = await ControlPlane.start()
  await define(plane)
  const eve = { kind: 'tenantUser', tenant: TENANT, name: 'eve', groups: [] } as const
  const rbac = '/apis/rbac.authorization.k8s.io/v1'
  await plane.ask('POST', `${rbac}/namespaces/default/rolebindings`, {
    body: {
      metadata: { name: 'eve' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'view' },
      subjects: [{ kind: 'User', name: 'eve' }],
    },
  })
  assert.equal((await plane.ask('GET', THINGS, { user: eve })).code, 403)
  await plane.ask('POST', `${rbac}/clusterroles`, {
    body: {
      metadata: { name: 'things', labels: { 'rbac.authorization.k8s.io/aggregate-to-view': 'true' } },
      rules: [{ apiGroups: ['example.com'], resources: ['things'], verbs: ['get', 'list'] }],
    },
  })
  assert.equal((await plane.ask('GET', THINGS, { user: eve })).code, 200)
  assert.equal((await plane.ask('DELETE', `${THINGS}/a`, { user: eve })).code, 403)
})

test('definitions beyond what a tenant may have are refused', async () => {
  await using plane = await ControlPlane.start()
  const big = (index: number) =>
    definition((c) => {
      c.metadata.name = `things${index}.example.com`
      c.spec.names = { plural: `things${index}`, kind: `Thing${index}` }
      c.spec.versions[0].schema.openAPIV3Schema.description = 'x'.repeat(1_400_000)
    })
  let code = 201
  for (let index = 0; index < 14 && code === 201; index++)
    code = (await plane.ask('POST', CRDS, { body: big(index) })).code
  assert.equal(code, 403)
})

test('a default is held against the rules of its field when the definition is written', async () => {
  await using plane = await ControlPlane.start()
  const definition = (rule: string, value: unknown, inner?: Json): Json => ({
    metadata: { name: 'things.example.com' },
    spec: {
      group: 'example.com',
      scope: 'Namespaced',
      names: { plural: 'things', kind: 'Thing' },
      versions: [
        {
          name: 'v1',
          served: true,
          storage: true,
          schema: {
            openAPIV3Schema: {
              type: 'object',
              properties: {
                spec: {
                  type: 'object',
                  default: value,
                  'x-kubernetes-validations': [{ rule, message: 'too large' }],
                  properties: { size: { type: 'integer', ...inner } },
                },
              },
            },
          },
        },
      ],
    },
  })
  const write = (body: Json) =>
    plane.ask('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions?dryRun=All', { body })
  const at = 'spec.versions[0].schema.openAPIV3Schema.properties[spec]'
  const refused = await write(definition('self.size < 5', { size: 9 }))
  assert.equal(refused.code, 422, refused.text)
  assert.deepEqual(
    refused.body.details.causes.map(({ field }: Json) => field),
    [`${at}.default`],
  )
  assert.match(refused.body.message, /too large/)
  const inner = { default: 7, 'x-kubernetes-validations': [{ rule: 'self < 5' }] }
  assert.equal((await write(definition('true', undefined, inner))).code, 422)
  assert.equal((await write(definition('self.size < 5', { size: 4 }))).code, 201)
  // A rule about changes says nothing about what is new.
  assert.equal((await write(definition('self.size > oldSelf.size', { size: 9 }))).code, 201)
})
