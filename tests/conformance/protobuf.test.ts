import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { groupVersion } from '../../src/api/index.ts'
import { decodeProtobuf } from '../../src/apiserver/wire/index.ts'
import { type Answer, ControlPlane, type Json } from './control-plane.ts'
import { Kubectl, kubectlMissing } from './kubectl.ts'
import { EXAMPLES, NAMES, exampleKey, writableKinds } from './requests-of-kinds.ts'

const PROTOBUF = 'application/vnd.kubernetes.protobuf'
/** As client-go asks since every typed client may. */
const EITHER = `${PROTOBUF},application/json`
const CONFIG_MAPS = '/api/v1/namespaces/default/configmaps'

function decoded({ bytes, headers, code, text }: Answer, type = PROTOBUF): Json {
  assert.equal(headers['content-type'], type, `${code} ${text}`)
  const { value, unknownFields } = decodeProtobuf(bytes)
  assert.deepEqual(unknownFields, [])
  return value
}

/** JSON says null and `[]` where protobuf says nothing; both are nil in Go. */
function withoutNil(value: Json): Json {
  if (Array.isArray(value)) return value.map(withoutNil)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, v]) => v !== null && !(Array.isArray(v) && v.length === 0))
      .map(([k, v]) => [k, withoutNil(v)]),
  )
}

/** The events of a watch: a length in four bytes, then type and object. */
function framesOf(bytes: Buffer): { type: string; object: Json }[] {
  const events: { type: string; object: Json }[] = []
  for (let at = 0; at < bytes.length;) {
    const length = bytes.readUInt32BE(at)
    const event = bytes.subarray(at + 4, at + 4 + length)
    assert.equal(event.length, length)
    at += 4 + length
    assert.equal(event[0], 0x0a)
    const typeEnd = 2 + (event[1] ?? 0)
    const object = event.subarray(event.indexOf('k8s\0'))
    events.push({ type: event.toString('utf8', 2, typeEnd), object: decodeProtobuf(object).value })
  }
  return events
}

function linesOf(text: string): { type: string; object: Json }[] {
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as { type: string; object: Json })
}

test("every kind of Kubernetes' own is read, listed and watched as protobuf with the content that it has as JSON", async () => {
  await using plane = await ControlPlane.start()
  await plane.ask('POST', '/api/v1/namespaces', { body: { metadata: { name: 'kinds' } } })
  const watched: (() => Promise<void>)[] = []
  for (const kind of writableKinds().filter(({ group }) => !group.endsWith('.bulkhead.dev'))) {
    const key = exampleKey(kind)
    const gv = groupVersion(kind)
    const root = `/${kind.group ? 'apis' : 'api'}/${gv}${kind.namespaced ? '/namespaces/kinds' : ''}/${kind.plural}`
    const name = NAMES[key] ?? 'x-one'
    const made = await plane.ask('POST', root, {
      body: { apiVersion: gv, kind: kind.kind, ...EXAMPLES[key], metadata: { name, labels: { set: 'one' } } },
      accept: EITHER,
    })
    assert.equal(made.code, 201, `${key}: ${made.text}`)
    const one = await plane.ask('GET', `${root}/${name}`)
    assert.equal(decoded(made).metadata.uid, one.body.metadata.uid)
    const read = decoded(await plane.ask('GET', `${root}/${name}`, { accept: PROTOBUF }))
    assert.deepEqual(withoutNil(read), withoutNil(one.body), key)

    const query = '?labelSelector=set%3Done'
    const list = await plane.ask('GET', `${root}${query}`)
    const listed = decoded(await plane.ask('GET', `${root}${query}`, { accept: PROTOBUF }))
    assert.deepEqual(withoutNil(listed), withoutNil(list.body), key)

    watched.push(async () => {
      const watch = `${root}${query}&watch=true&timeoutSeconds=1`
      const [lines, frames] = await Promise.all([
        plane.ask('GET', watch),
        plane.ask('GET', watch, { accept: PROTOBUF }),
      ])
      assert.equal(frames.headers['content-type'], `${PROTOBUF};stream=watch`)
      assert.deepEqual(withoutNil(framesOf(frames.bytes)), withoutNil(linesOf(lines.text)), key)
    })
    // Some objects are of two kinds.
    if (['events', 'horizontalpodautoscalers'].includes(kind.plural))
      await plane.ask('DELETE', `${root}/${name}`)
  }
  await Promise.all(watched.map((watch) => watch()))
})

test('refusals, and the Status of a delete, come as protobuf too', async () => {
  await using plane = await ControlPlane.start()
  const missing = await plane.ask('GET', `${CONFIG_MAPS}/none`, { accept: EITHER })
  assert.equal(missing.code, 404)
  assert.deepEqual(decoded(missing), (await plane.ask('GET', `${CONFIG_MAPS}/none`)).body)
  const body = { metadata: { name: 'a b' } }
  const invalid = await plane.ask('POST', CONFIG_MAPS, { body, accept: PROTOBUF })
  assert.equal(invalid.code, 422)
  assert.deepEqual(decoded(invalid), (await plane.ask('POST', CONFIG_MAPS, { body })).body)
  await plane.ask('POST', CONFIG_MAPS, { body: { metadata: { name: 'a' } } })
  const deleted = decoded(await plane.ask('DELETE', `${CONFIG_MAPS}/a`, { accept: PROTOBUF }))
  assert.deepEqual([deleted.kind, deleted.status, deleted.details.name], ['Status', 'Success', 'a'])
})

test('metadata alone comes as protobuf, of one object, of a list and of a watch', async () => {
  await using plane = await ControlPlane.start()
  await plane.ask('POST', CONFIG_MAPS, {
    body: { metadata: { name: 'a', labels: { x: 'y' } }, data: { k: 'v' } },
  })
  const query = '?labelSelector=x%3Dy'
  for (const version of ['v1', 'v1beta1'])
    for (const [path, as] of [
      [`${CONFIG_MAPS}/a`, 'PartialObjectMetadata'],
      [`${CONFIG_MAPS}${query}`, 'PartialObjectMetadataList'],
    ] as const) {
      const wanted = `as=${as};g=meta.k8s.io;v=${version}`
      const json = await plane.ask('GET', path, { accept: `application/json;${wanted}` })
      const answer = decoded(await plane.ask('GET', path, { accept: `${PROTOBUF};${wanted}` }))
      assert.equal(answer.kind, as)
      // Items say their type in JSON, and leave it to the list in protobuf.
      const untyped = json.body.items?.map(({ metadata }: Json) => ({ metadata }))
      assert.deepEqual(answer, { ...json.body, ...(untyped ? { items: untyped } : {}) })
    }
  const watched = await plane.ask('GET', `${CONFIG_MAPS}${query}&watch=true&timeoutSeconds=1`, {
    accept: `${PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1`,
  })
  const [event] = framesOf(watched.bytes)
  assert.deepEqual(
    [event?.type, event?.object.kind, event?.object.data],
    ['ADDED', 'PartialObjectMetadata', undefined],
  )
})

test('a table is never protobuf: who would take one otherwise gets that', async () => {
  await using plane = await ControlPlane.start()
  const table = 'as=Table;g=meta.k8s.io;v=v1'
  const only = await plane.ask('GET', CONFIG_MAPS, { accept: `${PROTOBUF};${table}` })
  assert.equal(only.code, 406)
  const either = await plane.ask('GET', CONFIG_MAPS, {
    accept: `${PROTOBUF};${table},application/json;${table},application/json`,
  })
  assert.equal(either.body.kind, 'Table')
})

test('the representation is the most wanted one that there is', async () => {
  await using plane = await ControlPlane.start()
  for (const [accept, expected] of [
    ['*/*', 'application/json'],
    ['*', 'application/json'],
    ['application/*', 'application/json'],
    [`application/json,${PROTOBUF}`, 'application/json'],
    [`application/json;q=0.5,${PROTOBUF}`, PROTOBUF],
    [`*/*,${PROTOBUF}`, PROTOBUF],
    [`${PROTOBUF};q=0,application/json`, 'application/json'],
    [`${PROTOBUF};stream=other,application/yaml`, 'application/yaml'],
    [`${PROTOBUF};stream=watch`, PROTOBUF],
    ['application/yaml;stream=watch,application/json;q=0.1', 'application/json'],
  ] as const) {
    const { headers } = await plane.ask('GET', CONFIG_MAPS, { accept })
    assert.equal(headers['content-type'], expected, accept)
  }
})

test('YAML cannot be watched', async () => {
  await using plane = await ControlPlane.start()
  const watch = `${CONFIG_MAPS}?watch=true&timeoutSeconds=1`
  assert.equal((await plane.ask('GET', watch, { accept: 'application/yaml' })).code, 406)
  const fallen = await plane.ask('GET', watch, { accept: 'application/yaml,application/json' })
  assert.deepEqual([fallen.code, fallen.headers['content-type']], [200, 'application/json'])
})

async function defineBoats(plane: ControlPlane): Promise<void> {
  const definitions = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions'
  const openAPIV3Schema = {
    type: 'object',
    properties: {
      spec: {
        type: 'object',
        required: ['length', 'flag'],
        properties: {
          length: { type: 'integer', minimum: 1, description: 'From bow to stern.' },
          flag: { type: 'string', nullable: true },
          port: { 'x-kubernetes-int-or-string': true, anyOf: [{ type: 'integer' }, { type: 'string' }] },
          crew: { type: 'array', items: { type: 'object', properties: { name: { type: 'string' } } } },
          cargo: {
            type: 'object',
            'x-kubernetes-preserve-unknown-fields': true,
            properties: { a: { type: 'string' } },
          },
        },
      },
    },
  }
  const defined = await plane.ask('POST', definitions, {
    body: {
      metadata: { name: 'boats.example.com' },
      spec: {
        group: 'example.com',
        scope: 'Namespaced',
        names: { plural: 'boats', kind: 'Boat' },
        versions: [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema } }],
      },
    },
  })
  assert.equal(defined.code, 201, defined.text)
  const status = {
    acceptedNames: defined.body.spec.names,
    conditions: [{ type: 'Established', status: 'True' }],
  }
  const established = await plane.ask('PUT', `${definitions}/boats.example.com/status`, {
    body: { ...defined.body, status },
  })
  assert.equal(established.code, 200, established.text)
}

test('OpenAPI v2 describes custom kinds as far as it has words for them', async () => {
  await using plane = await ControlPlane.start()
  await defineBoats(plane)
  const { body } = await plane.ask('GET', '/openapi/v2')
  const [boat] = Object.entries(body.definitions as Json).flatMap(([name, schema]) =>
    name.endsWith('.Boat') ? [schema] : [],
  ) as Json[]
  assert.deepEqual(boat.properties.spec, {
    type: 'object',
    required: ['length'],
    properties: {
      length: { type: 'integer', minimum: 1, description: 'From bow to stern.' },
      flag: {},
      port: { 'x-kubernetes-int-or-string': true },
      crew: { type: 'array', items: { type: 'object', properties: { name: { type: 'string' } } } },
      cargo: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
    },
  })
  assert.deepEqual(boat['x-kubernetes-group-version-kind'], [
    { group: 'example.com', version: 'v1', kind: 'Boat' },
  ])
})

const OPENAPI_V2 = 'application/com.github.proto-openapi.spec.v2@v1.0+protobuf'

/** A server that lacks one path of ours, and remembers which documents it was asked for. */
async function openApiProxy(plane: ControlPlane, missing: string) {
  const asked: string[] = []
  const server = createServer((request, response) => {
    asked.push(`${request.url} ${request.headers.accept}`)
    if (request.url?.startsWith(missing)) {
      response.writeHead(404).end()
      return
    }
    const { method, url: path, headers } = request
    const onward = httpRequest({ port: plane.port, host: '127.0.0.1', method, path, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 0, answer.headers)
      answer.pipe(response)
    })
    request.pipe(onward)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    asked,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      server.close()
    },
  }
}

test('OpenAPI v2 is negotiated as protobuf, with a tag', async () => {
  await using plane = await ControlPlane.start()
  const answered = OPENAPI_V2.replace('@', '.')
  for (const [accept, type] of [
    [OPENAPI_V2, answered],
    [answered, answered],
    [`${OPENAPI_V2},application/json`, answered],
    [`application/json,${OPENAPI_V2}`, 'application/json'],
    ['*/*', 'application/json'],
  ] as const)
    assert.equal((await plane.ask('GET', '/openapi/v2', { accept })).headers['content-type'], type, accept)
  const { headers, bytes } = await plane.ask('GET', '/openapi/v2', { accept: OPENAPI_V2 })
  assert.deepEqual(bytes.subarray(0, 5), Buffer.from('\n\x032.0'))
  const again = await plane.ask('GET', '/openapi/v2', {
    accept: OPENAPI_V2,
    headers: { 'if-none-match': String(headers.etag) },
  })
  assert.equal(again.code, 304)
  assert.equal((await plane.ask('GET', '/openapi/v2', { accept: 'text/html' })).code, 406)
})

test(
  'kubectl reads OpenAPI v2 as protobuf where there is no v3',
  { skip: kubectlMissing && 'kubectl is not installed for this machine' },
  async () => {
    await using plane = await ControlPlane.start()
    await defineBoats(plane)
    await using proxy = await openApiProxy(plane, '/openapi/v3')
    const { asked } = proxy
    await using kubectl = await Kubectl.open(proxy.url)
    const boat = 'apiVersion: example.com/v1\nkind: Boat\nmetadata: {name: a}\nspec: {length: 3, flag: red}\n'
    const applied = await kubectl.run(['apply', '-n', 'default', '-f', '-'], { input: boat })
    assert.equal(applied.stdout, 'boat.example.com/a created\n', applied.stderr)
    const fields = ['explain', '--output=plaintext-openapiv2']
    const explained = await kubectl.run([...fields, 'boat.spec.length'])
    assert.match(explained.stdout, /From bow to stern/, explained.stderr)
    const required = await kubectl.run([...fields, 'deployment.spec'])
    assert.match(required.stdout, /^ {3}selector\t<Object> -required-$/m, required.stderr)
    assert.ok(
      asked.some((line) => line.startsWith(`/openapi/v2 ${OPENAPI_V2}`) || line.startsWith('/openapi/v2?')),
      asked.join('\n'),
    )
  },
)

test('OpenAPI v3 is negotiated as protobuf, with a tag, and 406 for who takes neither', async () => {
  await using plane = await ControlPlane.start()
  const answered = 'application/com.github.proto-openapi.spec.v3.v1.0+protobuf'
  const asked = answered.replace('.v1.0', '@v1.0')
  const path = '/openapi/v3/apis/apps/v1'
  for (const [accept, type] of [
    [asked, answered],
    [answered, answered],
    [`application/json,${asked}`, 'application/json'],
    ['*/*', 'application/json'],
  ] as const)
    assert.equal((await plane.ask('GET', path, { accept })).headers['content-type'], type, accept)
  const { headers, bytes } = await plane.ask('GET', path, { accept: asked })
  assert.deepEqual(bytes.subarray(0, 7), Buffer.from('\n\x053.0.0'))
  const known = { 'if-none-match': String(headers.etag) }
  assert.equal((await plane.ask('GET', path, { accept: asked, headers: known })).code, 304)
  assert.equal((await plane.ask('GET', path, { headers: known })).code, 200)
  assert.equal((await plane.ask('GET', path, { accept: OPENAPI_V2 })).code, 406)
  assert.equal((await plane.ask('GET', '/openapi/v3/apis/none/v1', { accept: asked })).code, 404)
})

test('custom kinds have no protobuf: JSON for who takes it, 406 before anything is done for who does not', async () => {
  await using plane = await ControlPlane.start()
  await defineBoats(plane)
  const boats = '/apis/example.com/v1/namespaces/default/boats'
  const body = { apiVersion: 'example.com/v1', kind: 'Boat', metadata: { name: 'a' } }
  const made = await plane.ask('POST', boats, { body, accept: EITHER })
  assert.equal(made.body?.kind, 'Boat', made.text)
  const refused = await plane.ask('POST', boats, {
    body: { ...body, metadata: { name: 'b' } },
    accept: PROTOBUF,
  })
  assert.equal(refused.code, 406)
  assert.match(
    decoded(refused).message,
    /application\/json, application\/yaml, application\/json;stream=watch$/,
  )
  assert.equal((await plane.ask('GET', `${boats}/b`)).code, 404)
  // Who may not ask at all is not told what there is.
  const nobody = await plane.ask('GET', boats, { accept: PROTOBUF, user: { kind: 'anonymous' } })
  const nowhere = await plane.ask('GET', boats.replace('boats', 'ships'), {
    accept: PROTOBUF,
    user: { kind: 'anonymous' },
  })
  assert.deepEqual([nobody.code, nowhere.code], [403, 403])
})

test('discovery comes as protobuf, and /version is JSON for everyone', async () => {
  await using plane = await ControlPlane.start()
  for (const path of ['/api', '/apis', '/apis/apps', '/apis/apps/v1', '/api/v1']) {
    const json = await plane.ask('GET', path)
    const answer = await plane.ask('GET', path, { accept: PROTOBUF })
    const { apiVersion: _, ...value } = decoded(answer)
    const { apiVersion: __, ...expected } = json.body
    assert.deepEqual(value, expected)
    assert.notEqual(answer.headers.etag, json.headers.etag)
    const again = await plane.ask('GET', path, {
      accept: PROTOBUF,
      headers: { 'if-none-match': String(answer.headers.etag) },
    })
    assert.equal(again.code, 304)
  }
  const aggregated = 'g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList'
  const answer = await plane.ask('GET', '/apis', { accept: `${PROTOBUF};${aggregated}` })
  const json = await plane.ask('GET', '/apis', { accept: `application/json;${aggregated}` })
  assert.deepEqual(decoded(answer, `${PROTOBUF};${aggregated}`), json.body)
  assert.equal((await plane.ask('GET', '/version', { accept: PROTOBUF })).body.major, '1')
})
