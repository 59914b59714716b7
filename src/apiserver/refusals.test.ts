import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Answer, ControlPlane, type Json } from '../../tests/conformance/control-plane.ts'

/** What people are told when something is wrong: everything, once, in the words of what they wrote. */

const causes = ({ body }: Answer): string[] =>
  body.details.causes.map(({ field, message }: Json) => `${field}: ${message.slice(0, 40)}`)

const BAD_POD = {
  hostNetwork: true,
  replicas: 1,
  initContainers: [{ name: 'i', image: 'x', securityContext: { capabilities: { add: ['SYS_ADMIN'] } } }],
  containers: [
    { name: 'a', image: 'x', ports: [{ containerPort: '80' }] },
    { name: 'B_', image: 'x', securityContext: { privileged: true }, workingDir: 'relative' },
  ],
  volumes: [
    { name: 'ok', emptyDir: {} },
    { name: 'host', hostPath: { path: '/' } },
  ],
}
const expected = (path: string) =>
  [
    `${path}.containers[0].ports[0].containerPort: json: cannot unmarshal string into Go st`,
    `${path}.containers[1].name: Invalid value: "B_": a lowercase RFC 112`,
    `${path}.containers[1].securityContext.privileged: Forbidden: a privileged container has th`,
    `${path}.containers[1].workingDir: Invalid value: "relative": must be an ab`,
    `${path}.hostNetwork: Forbidden: the pod would be on the machi`,
    `${path}.initContainers[0].securityContext.capabilities.add[0]: Forbidden: it opens the largest part of `,
    `${path}.replicas: Unknown field: check its spelling and it`,
    `${path}.volumes[1].hostPath: Forbidden: files of the machine belong t`,
  ].sort()

const selector = { matchLabels: { app: 'web' } }
const template = { metadata: { labels: { app: 'web' } }, spec: BAD_POD }
const KINDS: [path: string, spec: Json, at: string][] = [
  ['/api/v1/namespaces/default/pods', BAD_POD, 'spec'],
  ...['deployments', 'replicasets', 'daemonsets', 'statefulsets'].map((plural): [string, Json, string] => [
    `/apis/apps/v1/namespaces/default/${plural}`,
    { selector, template, ...(plural === 'statefulsets' ? { serviceName: 's' } : {}) },
    'spec.template.spec',
  ]),
  [
    '/apis/batch/v1/namespaces/default/jobs',
    { template: { spec: { ...BAD_POD, restartPolicy: 'Never' } } },
    'spec.template.spec',
  ],
  [
    '/apis/batch/v1/namespaces/default/cronjobs',
    {
      schedule: '* * * * *',
      jobTemplate: { spec: { template: { spec: { ...BAD_POD, restartPolicy: 'Never' } } } },
    },
    'spec.jobTemplate.spec.template.spec',
  ],
]

for (const [path, spec, at] of KINDS) {
  test(`whatever writes to ${path} is told every problem at once, whichever verb is used`, async () => {
    await using plane = await ControlPlane.start()
    const body = { metadata: { name: 'web' }, spec }
    const posted = await plane.ask('POST', `${path}?fieldValidation=Strict`, { body })
    assert.equal(posted.code, 422, posted.text)
    assert.deepEqual(causes(posted).sort(), expected(at))

    const kind = posted.body.details.kind as string
    const group = path.startsWith('/apis/') ? path.split('/')[2] : ''
    const applied = await plane.ask('PATCH', `${path}/web?fieldManager=m&fieldValidation=Strict`, {
      type: 'application/apply-patch+yaml',
      body: { apiVersion: group ? `${group}/v1` : 'v1', kind, ...body },
    })
    assert.equal(applied.code, 422, applied.text)
    assert.deepEqual(causes(applied).sort(), expected(at))
    assert.equal((await plane.ask('GET', `${path}/web`)).code, 404)
  })
}

test('a change of what is there is told every problem at once as well', async () => {
  await using plane = await ControlPlane.start()
  const path = '/apis/apps/v1/namespaces/default/deployments'
  const good = { ...template, spec: { containers: [{ name: 'a', image: 'x' }] } }
  const made = await plane.ask('POST', path, {
    body: { metadata: { name: 'web' }, spec: { selector, template: good } },
  })
  assert.equal(made.code, 201, made.text)
  const bad = { selector: { matchLabels: { app: 'other' } }, template }
  const wanted = [
    ...expected('spec.template.spec'),
    'spec.selector: Invalid value: {"matchLabels":{"app":"ot',
    'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector`',
  ].sort()
  const put = await plane.ask('PUT', `${path}/web?fieldValidation=Strict`, {
    body: { metadata: { name: 'web' }, spec: bad },
  })
  assert.deepEqual(causes(put).sort(), wanted)
  const merged = await plane.ask('PATCH', `${path}/web?fieldValidation=Strict`, {
    type: 'application/merge-patch+json',
    body: { spec: bad },
  })
  assert.deepEqual(causes(merged).sort(), wanted)
  const replaced = await plane.ask('PATCH', `${path}/web?fieldValidation=Strict`, {
    type: 'application/json-patch+json',
    body: [{ op: 'replace', path: '/spec', value: bad }],
  })
  assert.deepEqual(causes(replaced).sort(), wanted)
})

test('what is only unreadable, or only unknown, is a bad request in upstream’s words', async () => {
  await using plane = await ControlPlane.start()
  const ask = (spec: Json) =>
    plane.ask('POST', '/api/v1/namespaces/default/pods?fieldValidation=Strict', {
      body: { metadata: { name: 'web' }, spec },
    })
  const unknown = await ask({ containers: [{ name: 'a', image: 'x', imagee: 'y' }] })
  assert.equal(unknown.code, 400)
  assert.match(unknown.body.message, /strict decoding error: unknown field "spec\.containers\[0\]\.imagee"$/)
  const unreadable = await ask({ containers: [{ name: 'a', image: 5 }] })
  assert.equal(unreadable.code, 400)
  assert.match(unreadable.body.message, /cannot unmarshal number into Go struct field/)
})

test('what pods have elsewhere and not here is refused with what to do instead', async () => {
  await using plane = await ControlPlane.start()
  const pod = '/api/v1/namespaces/default/pods/p'
  for (const [method, path] of [
    ['PATCH', `${pod}/ephemeralcontainers`],
    ['PATCH', `${pod}/resize`],
    ['POST', `${pod}/binding`],
  ] as const) {
    const { code, body } = await plane.ask(method, path, {
      body: {},
      type: method === 'PATCH' ? 'application/merge-patch+json' : 'application/json',
    })
    assert.deepEqual([code, body.reason], [404, 'NotFound'])
    assert.match(body.message, / Instead: /)
  }
})

test('a Job without a name is told so', async () => {
  await using plane = await ControlPlane.start()
  const template = { spec: { restartPolicy: 'Never', containers: [{ name: 'c', image: 'x' }] } }
  const answer = await plane.ask('POST', '/apis/batch/v1/namespaces/default/jobs', {
    body: { spec: { template } },
  })
  assert.equal(answer.code, 422)
  assert.match(answer.body.message, /metadata.name: Required value/)
})

test('who deletes something else than meant, selects or asks wrongly, is told in upstream’s words', async () => {
  await using plane = await ControlPlane.start()
  const leases = '/apis/coordination.k8s.io/v1/namespaces/default/leases'
  await plane.ask('POST', leases, { body: { metadata: { name: 'l' }, spec: {} } })
  const other = await plane.ask('DELETE', `${leases}/l`, { body: { preconditions: { uid: 'other' } } })
  assert.match(
    other.body.message,
    /^Operation cannot be fulfilled on Lease\.coordination\.k8s\.io "l": the UID in the precondition \(other\)/,
  )
  assert.deepEqual(other.body.details, { name: 'l', group: 'coordination.k8s.io', kind: 'Lease' })
  assert.deepEqual(causes(await plane.ask('DELETE', `${leases}/l?propagationPolicy=Never`)), [
    'propagationPolicy: Unsupported value: "Never": supported va',
  ])
  const { body } = await plane.ask('DELETE', `${leases}/l?propagationPolicy=Never`)
  assert.match(body.message, /supported values: "Foreground", "Background", "Orphan", "nil"$/)
  const selected = await plane.ask('GET', `${leases}?labelSelector=a%20in%20b`)
  assert.equal(selected.body.message, "unable to parse requirement: found 'b' expected: '('")
})

test('who deletes a ServiceAccount, a claim or their like is shown what it was, also for trial', async () => {
  await using plane = await ControlPlane.start()
  const port = { spec: { clusterIP: 'None', ports: [{ port: 80 }] } }
  const shown: [plural: string, kind: string, more: Json][] = [
    ['serviceaccounts', 'ServiceAccount', {}],
    ['services', 'Service', port],
    ['resourcequotas', 'ResourceQuota', { spec: { hard: { pods: '1' } } }],
    [
      'podtemplates',
      'PodTemplate',
      { template: { metadata: { labels: { a: 'b' } }, spec: { containers: [{ name: 'c', image: 'x' }] } } },
    ],
  ]
  for (const [plural, kind, more] of shown) {
    const path = `/api/v1/namespaces/default/${plural}`
    const created = await plane.ask('POST', path, { body: { metadata: { name: 'x' }, ...more } })
    assert.equal(created.code, 201, created.text)
    for (const query of ['?dryRun=All', '']) {
      const { code, body } = await plane.ask('DELETE', `${path}/x${query}`)
      assert.deepEqual([code, body.kind, body.metadata.uid], [200, kind, created.body.metadata.uid], plural)
      assert.equal(body.metadata.deletionTimestamp, undefined, plural)
    }
    assert.equal((await plane.ask('GET', `${path}/x`)).code, 404)
  }
  const pods = '/api/v1/namespaces/default/pods'
  await plane.ask('POST', pods, {
    body: { metadata: { name: 'x' }, spec: { containers: [{ name: 'c', image: 'x' }] } },
  })
  const all = await plane.ask('DELETE', pods)
  assert.deepEqual(
    all.body.items.map(({ metadata }: Json) => [metadata.name, metadata.deletionTimestamp]),
    [['x', undefined]],
  )
  const maps = '/api/v1/namespaces/default/configmaps'
  await plane.ask('POST', maps, { body: { metadata: { name: 'x' } } })
  assert.equal((await plane.ask('DELETE', `${maps}/x`)).body.kind, 'Status')
})
