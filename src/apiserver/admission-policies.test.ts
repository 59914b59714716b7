import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type IncomingMessage, request as httpRequest } from 'node:http'
import { test } from 'node:test'
import type { UserInfo } from '../api/index.ts'
import { compileOperatorPolicies } from '../policy/index.ts'
import { type Answer, ControlPlane, type Json, TENANT } from '../../tests/conformance/control-plane.ts'

const POLICIES = '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies'
const BINDINGS = '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings'
const CMS = '/api/v1/namespaces/default/configmaps'
const DEPLOYMENTS = '/apis/apps/v1/namespaces/default/deployments'
const eve: UserInfo = { kind: 'tenantUser', tenant: TENANT, name: 'eve', groups: [] }

const rules = (group: string, resources: string[], operations: string[] = ['*']) => ({
  resourceRules: [{ apiGroups: [group], apiVersions: ['*'], operations, resources }],
})

const policySpec = (expression: string, more: Json = {}): Json => ({
  matchConstraints: rules('', ['configmaps']),
  validations: [{ expression, ...more.validation }],
  ...more.spec,
})

async function must(plane: ControlPlane, method: string, path: string, body: Json): Promise<Json> {
  const answer = await plane.ask(method, path, { body })
  assert.ok(answer.code < 300, answer.text)
  return answer.body
}

async function bind(plane: ControlPlane, name: string, spec: Json, binding: Json = {}): Promise<void> {
  await must(plane, 'POST', POLICIES, { metadata: { name }, spec })
  await must(plane, 'POST', BINDINGS, {
    metadata: { name: `${name}-binding` },
    spec: { policyName: name, validationActions: ['Deny'], ...binding },
  })
}

const configMap = (name: string, data: Json = {}, labels: Json = {}): Json => ({
  metadata: { name, labels },
  data,
})
const create = (plane: ControlPlane, name: string, data: Json = {}, labels: Json = {}): Promise<Answer> =>
  plane.ask('POST', CMS, { body: configMap(name, data, labels) })

const deployment = (name: string, replicas = 1): Json => ({
  metadata: { name },
  spec: {
    replicas,
    selector: { matchLabels: { a: 'b' } },
    template: { metadata: { labels: { a: 'b' } }, spec: { containers: [{ name: 'c', image: 'x' }] } },
  },
})

test('what a policy forbids is denied in upstream’s words, from the very next request on', async () => {
  await using plane = await ControlPlane.start()
  assert.equal((await create(plane, 'before')).code, 201)
  await bind(plane, 'team', policySpec("has(object.metadata.labels) && 'team' in object.metadata.labels"))
  const denied = await create(plane, 'x')
  assert.equal(denied.code, 422)
  const message =
    "ValidatingAdmissionPolicy 'team' with binding 'team-binding' denied request: failed expression: has(object.metadata.labels) && 'team' in object.metadata.labels"
  assert.deepEqual(denied.body, {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message: `configmaps "x" is forbidden: ${message}`,
    reason: 'Invalid',
    details: { name: 'x', kind: 'configmaps', causes: [{ message }] },
    code: 422,
  })
  assert.equal((await create(plane, 'x', {}, { team: 'a' })).code, 201)
  await plane.ask('DELETE', `${BINDINGS}/team-binding`)
  assert.equal((await create(plane, 'y')).code, 201)
})

test('every way to write is judged: update, patch, server-side apply, dry run, delete, collections', async () => {
  await using plane = await ControlPlane.start()
  await must(plane, 'POST', CMS, configMap('x', { a: '1' }))
  await bind(
    plane,
    'frozen',
    policySpec(
      "request.operation == 'DELETE' ? oldObject.metadata.name != 'x' && object == null : object.data.a != '2'",
    ),
  )
  const x = `${CMS}/x`
  const denied = async (method: string, path: string, ask: Json = {}) => {
    const answer = await plane.ask(method, path, ask)
    assert.equal(answer.code, 422, `${method} ${path}: ${answer.text}`)
    assert.match(answer.body.message, /'frozen' with binding 'frozen-binding' denied request/)
  }
  const changed = configMap('x', { a: '2' })
  await denied('PUT', x, { body: changed })
  await denied('PATCH', x, { body: { data: { a: '2' } }, type: 'application/merge-patch+json' })
  await denied('PATCH', x, {
    body: [{ op: 'replace', path: '/data/a', value: '2' }],
    type: 'application/json-patch+json',
  })
  await denied('PATCH', x, { body: { data: { a: '2' } }, type: 'application/strategic-merge-patch+json' })
  const apply = { apiVersion: 'v1', kind: 'ConfigMap', ...changed }
  await denied('PATCH', `${x}?fieldManager=t&force=true`, {
    body: apply,
    type: 'application/apply-patch+yaml',
  })
  await denied('PATCH', `${CMS}/new?fieldManager=t`, {
    body: { ...apply, metadata: { name: 'new' } },
    type: 'application/apply-patch+yaml',
  })
  await denied('POST', `${CMS}?dryRun=All`, { body: configMap('z', { a: '2' }) })
  await denied('DELETE', x)
  await denied('DELETE', `${x}?dryRun=All`)
  await denied('DELETE', CMS)
  assert.equal((await plane.ask('GET', x)).body.data.a, '1')
})

test('sub-resources are judged when a rule names them, a scale as a Scale', async () => {
  await using plane = await ControlPlane.start()
  await must(plane, 'POST', DEPLOYMENTS, deployment('d'))
  await bind(plane, 'small', {
    matchConstraints: rules('apps', ['deployments/scale']),
    validations: [
      {
        expression: "object.kind == 'Scale' && object.spec.replicas <= 3",
        message: 'too many',
        reason: 'Forbidden',
      },
    ],
  })
  const scale = (replicas: number) =>
    plane.ask('PATCH', `${DEPLOYMENTS}/d/scale`, {
      body: { spec: { replicas } },
      type: 'application/merge-patch+json',
    })
  assert.equal((await scale(3)).code, 200)
  const denied = await scale(4)
  assert.deepEqual([denied.code, denied.body.reason], [403, 'Forbidden'])
  assert.match(denied.body.message, /denied request: too many$/)
  // A rule about deployments says nothing about their sub-resources, and the other way round.
  const plain = { body: { spec: { replicas: 9 } }, type: 'application/merge-patch+json' }
  assert.equal((await plane.ask('PATCH', `${DEPLOYMENTS}/d`, plain)).code, 200)
  await bind(plane, 'status', {
    matchConstraints: rules('apps', ['*/status']),
    validations: [{ expression: 'false' }],
  })
  const status = { body: { status: { replicas: 1 } }, type: 'application/merge-patch+json' }
  assert.equal((await plane.ask('PATCH', `${DEPLOYMENTS}/d/status`, status)).code, 422)
})

test('components of the control plane are judged as everybody else', async () => {
  await using plane = await ControlPlane.start()
  await bind(plane, 'none', policySpec("request.userInfo.username != 'system:worker'"))
  const client = plane.server.client('worker')
  const kind = { group: '', version: 'v1', kind: 'ConfigMap', plural: 'configmaps', namespaced: true }
  const object = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    ...configMap('x'),
    metadata: { name: 'x', namespace: 'default' },
  }
  await assert.rejects(client.create(kind, object), /'none' with binding 'none-binding' denied request/)
  assert.equal((await create(plane, 'x')).code, 201)
})

test('a policy that denies everything can still be mended and removed', async () => {
  await using plane = await ControlPlane.start()
  const everything = {
    resourceRules: [{ apiGroups: ['*'], apiVersions: ['*'], operations: ['*'], resources: ['*/*'] }],
  }
  await bind(plane, 'nothing', { matchConstraints: everything, validations: [{ expression: 'false' }] })
  assert.equal((await create(plane, 'x')).code, 422)
  assert.equal(
    (await plane.ask('POST', '/api/v1/namespaces', { body: { metadata: { name: 'n' } } })).code,
    422,
  )
  const path = `${POLICIES}/nothing`
  const relax = { body: { spec: { failurePolicy: 'Ignore' } }, type: 'application/merge-patch+json' }
  assert.equal((await plane.ask('PATCH', path, relax)).code, 200)
  assert.equal((await plane.ask('DELETE', `${BINDINGS}/nothing-binding`)).code, 200)
  assert.equal((await plane.ask('DELETE', path)).code, 200)
  assert.equal((await create(plane, 'x')).code, 201)
})

test('what cannot be evaluated is a no, unless the policy says Ignore', async () => {
  await using plane = await ControlPlane.start()
  await bind(plane, 'broken', policySpec('object.data.size == 1'))
  const denied = await create(plane, 'x', { a: '1' })
  assert.match(
    denied.body.message,
    /denied request: expression 'object.data.size == 1' resulted in error: no such key: size$/,
  )
  const ignore = { body: { spec: { failurePolicy: 'Ignore' } }, type: 'application/merge-patch+json' }
  assert.equal((await plane.ask('PATCH', `${POLICIES}/broken`, ignore)).code, 200)
  assert.equal((await create(plane, 'x', { a: '1' })).code, 201)
})

test('expressions that would take for ever are stopped, and the request is denied', async () => {
  await using plane = await ControlPlane.start()
  const digits = '[0,1,2,3,4,5,6,7,8,9]'
  const bomb = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i'].reduceRight(
    (body, name) => `${digits}.all(${name}, ${body})`,
    'true',
  )
  await bind(plane, 'bomb', {
    matchConstraints: rules('', ['configmaps']),
    validations: Array.from({ length: 60 }, () => ({ expression: bomb })),
  })
  const denied = await create(plane, 'x')
  assert.equal(denied.code, 422)
  assert.match(denied.body.message, /resulted in error: operation cancelled: actual cost limit exceeded$/)
})

test('match conditions, variables, parameters and messages work together', async () => {
  await using plane = await ControlPlane.start()
  await must(plane, 'POST', CMS, configMap('limits', { max: '2' }, { kind: 'limits' }))
  await bind(
    plane,
    'keys',
    {
      paramKind: { apiVersion: 'v1', kind: 'ConfigMap' },
      matchConstraints: rules('', ['configmaps'], ['CREATE']),
      matchConditions: [{ name: 'not-exempt', expression: "!object.metadata.name.startsWith('exempt-')" }],
      variables: [
        { name: 'keys', expression: 'has(object.data) ? object.data.size() : 0' },
        { name: 'max', expression: 'int(params.data.max)' },
      ],
      validations: [
        {
          expression: 'variables.keys <= variables.max',
          messageExpression:
            "'%d keys, at most %d in %s'.format([variables.keys, variables.max, namespaceObject.metadata.name])",
          reason: 'RequestEntityTooLarge',
        },
      ],
    },
    { paramRef: { name: 'limits', namespace: 'default', parameterNotFoundAction: 'Deny' } },
  )
  const three = { a: '1', b: '2', c: '3' }
  const denied = await create(plane, 'x', three)
  assert.deepEqual([denied.code, denied.body.reason], [413, 'RequestEntityTooLarge'])
  assert.match(denied.body.message, /denied request: 3 keys, at most 2 in default$/)
  assert.equal((await create(plane, 'exempt-x', three)).code, 201)
  assert.equal((await create(plane, 'y', { a: '1' })).code, 201)
  await plane.ask('DELETE', `${CMS}/limits`)
  assert.match(
    (await create(plane, 'z')).body.message,
    /failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction$/,
  )
})

test('selectors of namespaces and objects, excluded rules and names narrow what is judged', async () => {
  await using plane = await ControlPlane.start()
  for (const [name, env] of [
    ['prod', 'prod'],
    ['test', 'test'],
  ])
    await must(plane, 'POST', '/api/v1/namespaces', { metadata: { name, labels: { env } } })
  await bind(
    plane,
    'narrow',
    {
      matchConstraints: {
        ...rules('', ['*']),
        excludeResourceRules: [
          {
            apiGroups: [''],
            apiVersions: ['v1'],
            operations: ['*'],
            resources: ['configmaps'],
            resourceNames: ['free'],
          },
        ],
        objectSelector: { matchLabels: { judged: 'yes' } },
      },
      validations: [{ expression: 'false' }],
    },
    { matchResources: { namespaceSelector: { matchLabels: { env: 'prod' } } } },
  )
  const put = async (namespace: string, name: string, labels: Json) =>
    (
      await plane.ask('POST', `/api/v1/namespaces/${namespace}/configmaps`, {
        body: configMap(name, {}, labels),
      })
    ).code
  const judged = { judged: 'yes' }
  assert.equal(await put('prod', 'a', judged), 422)
  assert.equal(await put('prod', 'free', judged), 201)
  assert.equal(await put('prod', 'b', {}), 201)
  assert.equal(await put('test', 'a', judged), 201)
})

test('Warn tells and lets in', async () => {
  await using plane = await ControlPlane.start()
  await bind(plane, 'soft', policySpec('false', { validation: { message: 'better not' } }), {
    validationActions: ['Warn', 'Audit'],
  })
  const answer = await create(plane, 'x')
  assert.equal(answer.code, 201)
  assert.match(
    String(answer.headers.warning),
    /Validation failed for ValidatingAdmissionPolicy 'soft' with binding 'soft-binding': better not/,
  )
})

test('Audit notes for the audit log, with annotations, also what is refused', async () => {
  await using plane = await ControlPlane.start()
  await bind(
    plane,
    'noted',
    policySpec("object.metadata.name != 'x'", {
      validation: { message: 'no x' },
      spec: { auditAnnotations: [{ key: 'who', valueExpression: 'request.userInfo.username' }] },
    }),
    { validationActions: ['Audit'] },
  )
  const note = async (name: string) => (await create(plane, name)).headers['x-bulkhead-audit-note']
  const annotated = /^noted\/who: [^;]+/
  assert.match(String(await note('y')), annotated)
  assert.doesNotMatch(String(await note('z')), /no x/)
  assert.match(
    String(await note('x')),
    /^noted\/who: [^;]+; ValidatingAdmissionPolicy 'noted' with binding 'noted-binding': no x$/,
  )
  await bind(plane, 'hard', policySpec('false'))
  const refused = await create(plane, 'w')
  assert.equal(refused.code, 422)
  assert.match(String(refused.headers['x-bulkhead-audit-note']), annotated)
})

test('the authorizer answers for the user who asks', async () => {
  await using plane = await ControlPlane.start()
  await bind(
    plane,
    'careful',
    policySpec(
      "authorizer.group('').resource('secrets').namespace('default').labelSelector('app=a').fieldSelector('metadata.name=b').check('get').allowed() && authorizer.requestResource.check('delete').allowed()",
    ),
  )
  const rbac = '/apis/rbac.authorization.k8s.io/v1/namespaces/default'
  await must(plane, 'POST', `${rbac}/roles`, {
    metadata: { name: 'r' },
    rules: [{ verbs: ['create'], apiGroups: [''], resources: ['configmaps'] }],
  })
  await must(plane, 'POST', `${rbac}/rolebindings`, {
    metadata: { name: 'b' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'r' },
    subjects: [{ kind: 'User', name: 'eve' }],
  })
  assert.equal((await create(plane, 'x')).code, 201)
  assert.equal((await plane.ask('POST', CMS, { user: eve, body: configMap('y') })).code, 422)
})

test('a policy with an expression that cannot be compiled is refused with the place', async () => {
  await using plane = await ControlPlane.start()
  const answer = await plane.ask('POST', POLICIES, {
    body: { metadata: { name: 'p' }, spec: policySpec('object.metadata.name ==') },
  })
  assert.equal(answer.code, 422)
  assert.deepEqual(answer.body.details.causes, [
    {
      reason: 'FieldValueInvalid',
      field: 'spec.validations[0].expression',
      message:
        'Invalid value: "object.metadata.name ==": compilation failed: ERROR: <input>:1:24: Syntax error: mismatched input \'<EOF>\'\n | object.metadata.name ==\n | .......................^',
    },
  ])
  const refused = async (spec: Json) => {
    const { code, body } = await plane.ask('POST', POLICIES, { body: { metadata: { name: 'p' }, spec } })
    assert.equal(code, 422)
    return body.message as string
  }
  assert.match(await refused(policySpec('1')), /must evaluate to bool/)
  assert.match(await refused(policySpec('params == null')), /undeclared reference to 'params'/)
  assert.match(
    await refused(policySpec('true', { spec: { matchConstraints: undefined } })),
    /spec.matchConstraints: Required/,
  )
  assert.match(
    await refused(policySpec('true', { validation: { reason: 'Because' } })),
    /Unsupported value: "Because"/,
  )
  const long = `'${'x'.repeat(15_000)}' != ''`
  assert.match(
    await refused(
      policySpec('true', { spec: { validations: Array.from({ length: 5 }, () => ({ expression: long })) } }),
    ),
    /together have more than 65536 characters/,
  )
})

test('status tells which expressions do not fit the schemas of the kinds that a policy names', async () => {
  await using plane = await ControlPlane.start()
  const policy = await must(plane, 'POST', POLICIES, {
    metadata: { name: 'p' },
    spec: {
      matchConstraints: rules('apps', ['deployments'].slice()),
      validations: [{ expression: 'object.spec.replicas < 3' }],
    },
  })
  assert.deepEqual(policy.status, { observedGeneration: 1, typeChecking: {} })
  const spec = {
    matchConstraints: {
      resourceRules: [
        { apiGroups: ['apps'], apiVersions: ['v1'], operations: ['CREATE'], resources: ['deployments'] },
      ],
    },
    validations: [{ expression: 'object.spec.replica < 3' }],
  }
  const updated = await must(plane, 'PUT', `${POLICIES}/p`, { metadata: { name: 'p' }, spec })
  assert.deepEqual(updated.status, {
    observedGeneration: 2,
    typeChecking: {
      expressionWarnings: [
        {
          fieldRef: 'spec.validations[0].expression',
          warning:
            "apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'replica'\n | object.spec.replica < 3\n | ...........^",
        },
      ],
    },
  })
})

test('nobody reads objects that they may not get by making them parameters', async () => {
  await using plane = await ControlPlane.start()
  await must(plane, 'POST', '/apis/rbac.authorization.k8s.io/v1/clusterroles', {
    metadata: { name: 'policies' },
    rules: [{ verbs: ['*'], apiGroups: ['admissionregistration.k8s.io'], resources: ['*'] }],
  })
  await must(plane, 'POST', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
    metadata: { name: 'policies' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'policies' },
    subjects: [{ kind: 'User', name: 'eve' }],
  })
  const spec = {
    ...policySpec('false', { validation: { messageExpression: 'string(params.data.token)' } }),
    paramKind: { apiVersion: 'v1', kind: 'Secret' },
  }
  const refused = await plane.ask('POST', POLICIES, { user: eve, body: { metadata: { name: 'spy' }, spec } })
  assert.equal(refused.code, 403, refused.text)
  await must(plane, 'POST', POLICIES, { metadata: { name: 'spy' }, spec })
  const binding = {
    metadata: { name: 'spy' },
    spec: {
      policyName: 'spy',
      validationActions: ['Deny'],
      paramRef: { name: 's', namespace: 'kube-system', parameterNotFoundAction: 'Allow' },
    },
  }
  assert.equal((await plane.ask('POST', BINDINGS, { user: eve, body: binding })).code, 403)
  const unknown = { ...binding, spec: { ...binding.spec, policyName: 'later' } }
  assert.equal((await plane.ask('POST', BINDINGS, { user: eve, body: unknown })).code, 403)
})

test('rules of the operator hold in a tenant’s API, which neither shows nor weakens them', async () => {
  await using plane = await ControlPlane.start()
  const bindings = [{ name: 'all', spec: { policyName: 'op', validationActions: ['Deny'] as ['Deny'] } }]
  const spec = policySpec("object.metadata.name != 'x'", { validation: { message: 'not this name' } })
  plane.server.setOperatorPolicies(compileOperatorPolicies([{ name: 'op', spec, bindings }]))
  const denied = await create(plane, 'x')
  assert.equal(
    denied.body.message,
    `configmaps "x" is forbidden: ValidatingAdmissionPolicy 'op' of the platform with binding 'all' denied request: not this name`,
  )
  assert.deepEqual((await plane.ask('GET', POLICIES)).body.items, [])
  // A policy of the same name is another one.
  await bind(plane, 'op', policySpec('true'))
  await plane.ask('DELETE', `${POLICIES}/op`)
  assert.equal((await create(plane, 'x')).code, 422)
  assert.throws(
    () => compileOperatorPolicies([{ name: 'op', spec: policySpec('nonsense('), bindings }]),
    /cannot be used/,
  )
})

test('parameters of the operator’s rules are the operator’s, whatever the tenant writes under their name', async () => {
  await using plane = await ControlPlane.start()
  const spec = {
    ...policySpec('object.data.size <= params.data.max', {
      validation: { messageExpression: '"at most " + params.data.max' },
    }),
    paramKind: { apiVersion: 'v1', kind: 'ConfigMap' },
  }
  const binding = (parameterNotFoundAction: string) => ({
    policyName: 'op',
    validationActions: ['Deny'] as ['Deny'],
    paramRef: { name: 'limits', namespace: 'default', parameterNotFoundAction },
  })
  const lay = (action: string, params?: Json[]) =>
    plane.server.setOperatorPolicies(
      compileOperatorPolicies([
        { name: 'op', spec, bindings: [{ name: 'b', spec: binding(action), ...(params ? { params } : {}) }] },
      ]),
    )
  await must(plane, 'POST', CMS, configMap('limits', { max: '9' }))
  const limits = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'limits', namespace: 'default' },
    data: { max: '5' },
  }
  lay('Deny', [limits])
  assert.equal((await create(plane, 'small', { size: '4' })).code, 201)
  assert.match((await create(plane, 'large', { size: '7' })).body.message, /denied request: at most 5$/)
  lay('Deny', [])
  assert.match((await create(plane, 'x', { size: '1' })).body.message, /no params found for policy binding/)
  lay('Allow', [])
  assert.equal((await create(plane, 'unbound', { size: '8' })).code, 201)
  // Of a kind that the platform does not hand on; the tenant's own objects take no part.
  lay('Allow')
  assert.match((await create(plane, 'x', { size: '1' })).body.message, /are ConfigMaps of the platform$/)
})

test('a tenant cannot select tenants', async () => {
  await using plane = await ControlPlane.start()
  const answer = await plane.ask('POST', `${BINDINGS}?fieldValidation=Strict`, {
    body: {
      metadata: { name: 'b' },
      spec: { policyName: 'p', validationActions: ['Deny'], tenantSelector: {} },
    },
  })
  assert.ok(answer.code >= 400, answer.text)
})

test('mutating policies are not there, and a request for them says what to write instead', async () => {
  await using plane = await ControlPlane.start()
  const answer = await plane.ask('POST', '/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies', {
    body: {},
  })
  assert.equal(answer.code, 404)
  assert.match(answer.body.message, /a ValidatingAdmissionPolicy/)
})

test('clients find no webhooks, and one that is written is refused with what to write instead', async () => {
  await using plane = await ControlPlane.start()
  for (const kind of ['ValidatingWebhookConfiguration', 'MutatingWebhookConfiguration']) {
    const path = `/apis/admissionregistration.k8s.io/v1/${kind.toLowerCase()}s`
    const ofWebhooks = (webhooks: unknown) => ({
      apiVersion: 'admissionregistration.k8s.io/v1',
      kind,
      metadata: { name: 'x' },
      webhooks,
    })
    for (const webhooks of [[{ name: 'a.example.com' }], {}, 'a', [null]])
      for (const query of ['?fieldValidation=Ignore', '?fieldValidation=Strict', '']) {
        const refused = await plane.ask('POST', path + query, { body: ofWebhooks(webhooks) })
        assert.equal(refused.code, 422, refused.text)
        assert.match(refused.body.message, /webhooks: .*Instead: write .*a ValidatingAdmissionPolicy/)
      }
    const applied = await plane.ask('PATCH', `${path}/x?fieldManager=a`, {
      body: ofWebhooks([{ name: 'a.example.com' }]),
      headers: { 'content-type': 'application/apply-patch+yaml' },
    })
    assert.equal(applied.code, 422, applied.text)
    assert.deepEqual((await plane.ask('GET', path)).body.items, [])
    const empty = await plane.ask('POST', path, { body: ofWebhooks([]) })
    assert.equal(empty.code, 201, empty.text)
    for (const type of ['merge-patch', 'strategic-merge-patch']) {
      const patched = await plane.ask('PATCH', `${path}/x`, {
        body: { webhooks: [{ name: 'a.example.com' }] },
        headers: { 'content-type': `application/${type}+json` },
      })
      assert.equal(patched.code, 422, patched.text)
    }
  }
})

/** An upgrade that is refused: there is no pod, so nothing can be opened in any case. */
async function connect(
  plane: ControlPlane,
  what: string,
  method = 'GET',
): Promise<{ code: number; body: Json; headers: IncomingMessage['headers'] }> {
  const request = httpRequest({
    host: '127.0.0.1',
    port: plane.port,
    method,
    path: `/api/v1/namespaces/default/pods/${what}`,
    headers: { connection: 'Upgrade', upgrade: method === 'GET' ? 'websocket' : 'SPDY/3.1' },
  })
  request.end()
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  let text = ''
  for await (const chunk of response as AsyncIterable<Buffer>) text += chunk.toString()
  return { code: response.statusCode ?? 0, body: JSON.parse(text), headers: response.headers }
}

test('a policy judges exec, attach and port-forward, whichever way they are opened, before the pod is looked up', async () => {
  await using plane = await ControlPlane.start()
  const spec = (expression: string, resources: string[]) => ({
    matchConstraints: rules('', resources, ['CONNECT']),
    validations: [{ expression, message: 'no shells', reason: 'Forbidden' }],
  })
  await bind(
    plane,
    'shells',
    spec("!('sh' in object.command) && !has(object.tty) && request.operation == 'CONNECT'", ['pods/exec']),
  )
  await bind(plane, 'ports', spec('object.ports.all(p, p == 8080)', ['pods/portforward']))
  await bind(
    plane,
    'nobody',
    spec("object.kind != 'PodAttachOptions' || !has(object.stdin)", ['pods/attach']),
  )
  for (const method of ['GET', 'POST'])
    for (const what of [
      'x/exec?command=sh&stdout=true',
      'x/exec?command=ls&tty=true',
      'x/portforward?ports=22',
      'x/portforward?ports=8080,22',
      'x/attach?stdin=true',
    ]) {
      const { code, body } = await connect(plane, what, method)
      assert.equal(code, 403, `${method} ${what}`)
      assert.match(
        body.message,
        /^pods "x" is forbidden: ValidatingAdmissionPolicy '\w+' with binding '.*' denied request: no shells$/,
      )
    }
  // What is let in gets as far as the pod, which is not there.
  for (const what of ['x/exec?command=ls', 'x/portforward?ports=8080', 'x/attach?stdout=true'])
    assert.deepEqual([(await connect(plane, what)).code, what], [404, what])
})

test('what policies only warn of or note about a connection is told with the answer to it', async () => {
  await using plane = await ControlPlane.start()
  const spec = {
    matchConstraints: rules('', ['pods/exec'], ['CONNECT']),
    validations: [{ expression: "!('sh' in object.command)", message: 'a shell' }],
    auditAnnotations: [{ key: 'command', valueExpression: "object.command.join(' ')" }],
  }
  await bind(plane, 'shells', spec, { validationActions: ['Warn', 'Audit'] })
  const { code, headers } = await connect(plane, 'x/exec?command=sh')
  assert.equal(code, 404)
  assert.equal(
    headers['warning'],
    `299 - "Validation failed for ValidatingAdmissionPolicy 'shells' with binding 'shells-binding': a shell"`,
  )
  assert.equal(
    headers['x-bulkhead-audit-note'],
    "shells/command: sh; ValidatingAdmissionPolicy 'shells' with binding 'shells-binding': a shell",
  )
  assert.equal((await connect(plane, 'x/exec?command=ls')).headers['warning'], undefined)
  assert.equal((await connect(plane, 'x/attach')).headers['x-bulkhead-audit-note'], undefined)
})

test('an expression about labels that a connection does not have refuses it, unless the policy says to ignore failures', async () => {
  await using plane = await ControlPlane.start()
  const matchConstraints = rules('', ['*/*'])
  const validations = [{ expression: "object.metadata.labels['a'] == 'b'" }]
  await bind(plane, 'labels', { matchConstraints, validations })
  assert.equal((await connect(plane, 'x/exec?command=ls')).code, 422)
  await plane.ask('PATCH', `${POLICIES}/labels`, {
    body: { spec: { failurePolicy: 'Ignore' } },
    type: 'application/merge-patch+json',
  })
  assert.equal((await connect(plane, 'x/exec?command=ls')).code, 404)
  await plane.ask('PATCH', `${POLICIES}/labels`, {
    body: {
      spec: { failurePolicy: 'Fail', matchConstraints: { objectSelector: { matchLabels: { a: 'b' } } } },
    },
    type: 'application/merge-patch+json',
  })
  // Nor is it what a selector of labels is about.
  assert.equal((await connect(plane, 'x/exec?command=ls')).code, 404)
})

test('the operator’s policies judge connections of tenants', async () => {
  await using plane = await ControlPlane.start()
  const spec = {
    matchConstraints: rules('', ['pods/exec'], ['CONNECT']),
    validations: [{ expression: 'false' }],
  }
  plane.server.setOperatorPolicies(
    compileOperatorPolicies([
      {
        name: 'none',
        spec: spec as never,
        bindings: [{ name: 'b', spec: { policyName: 'none', validationActions: ['Deny'] } }],
      },
    ]),
  )
  const { code, body } = await connect(plane, 'x/exec?command=ls')
  assert.equal(code, 422)
  assert.match(body.message, /'none' of the platform with binding 'b' denied request/)
})
