import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { UserInfo } from '../../src/api/index.ts'
import { asOfToday, onlyServed, withoutGeneration } from './as-recorded.ts'
import { differingPaths, isObject, masked, parseAnswer } from './compare-answers.ts'
import { ControlPlane, type Json, TENANT } from './control-plane.ts'
import { ACCEPTED_DIFFERENCES } from './accepted-differences.ts'

/**
 * Requests with the answers that kube-apiserver 1.32.13 gave, in order. We send the same ones to ours and compare
 * status, warnings and the whole body. Every difference is listed with its reason in `accepted-differences.ts`.
 */
type Recorded = {
  name: string
  req: { method: string; path: string; headers: Record<string, string>; body: Json }
  res: { status: number; headers: Record<string, string>; body: string }
}

const recordings: Recorded[] = readFileSync(
  join(import.meta.dirname, 'testdata/requests-and-answers-1.32.jsonl'),
  'utf8',
)
  .split('\n')
  .filter((line) => line !== '')
  .map((line) => JSON.parse(line) as Recorded)

const READ = ['get', 'list', 'watch']
const anonymous: UserInfo = { kind: 'anonymous' }
const tenantA: UserInfo = { kind: 'tenantUser', tenant: TENANT, name: 'tenant-a', groups: [] }

/** Who asked in the recording, where it was not an administrator. */
const USERS: Record<string, UserInfo> = {
  'rbac-403-tenant': tenantA,
  'anon-403': anonymous,
  // The gateway turns a bad token away; a control plane sees nobody, or an account that is not there.
  'badtoken-401': { kind: 'serviceAccount', tenant: TENANT, namespace: 'x', name: 'x', uid: 'x' },
  ssar: tenantA,
  'ssar-denied': tenantA,
  ssrr: tenantA,
  whoami: {
    ...tenantA,
    credentialId: 'X509SHA256=c97b6501a6529c01a2e9ac067a328711446590fd9271ee897bb4a3826ffa6bc8',
  },
}

test('every recorded request is answered as kube-apiserver answered it, but for the accepted differences', async () => {
  await using plane = await ControlPlane.start({
    serverAddress: '192.0.2.2:18443',
    serviceRange: '10.0.0.0/24',
    version: {
      kubernetes: '1.32',
      gitVersion: 'v1.32.13',
      gitCommit: '$Format:%H$',
      buildDate: '1970-01-01T00:00:00Z',
    },
  })
  await prepare(plane)
  const unexpected: Record<string, unknown> = {}
  let theirContinue = ''
  let ourContinue = ''
  /** Their revision → ours, learnt from answers that carry both. */
  const revisions = new Map<string, string>()
  for (const { name, req, res } of recordings) {
    let path = theirContinue ? req.path.replace(theirContinue, encodeURIComponent(ourContinue)) : req.path
    path = path.replace(/timeoutSeconds=\d+/, 'timeoutSeconds=1')
    path = path.replace(/resourceVersion=(\d+)/, (all, revision: string) =>
      revisions.has(revision) ? `resourceVersion=${revisions.get(revision)}` : all,
    )
    const { Accept: accept = '*/*', 'Content-Type': type = 'application/json', ...headers } = req.headers
    const body = req.body as unknown
    const answer = await plane.ask(req.method, path, {
      accept,
      type,
      headers,
      ...(body === null ? {} : typeof body === 'string' ? { raw: body } : { body }),
      ...(USERS[name] ? { user: USERS[name] } : {}),
    })
    const [theirs, ours] = [parseAnswer(res.body), parseAnswer(answer.text)]
    if (isObject(theirs) && isObject(ours)) learn(revisions, theirs, ours)
    theirContinue = (theirs as Json)?.metadata?.continue ?? theirContinue
    ourContinue = (ours as Json)?.metadata?.continue ?? ourContinue
    // Theirs have none before 1.33, also where only their metadata is shown.
    const ofPods = req.path.includes('/pods')
    const comparable = (value: unknown) => masked(ofPods ? withoutGeneration(value) : value)
    const differences = [
      ...(res.status === answer.code ? [] : [`status ${res.status} → ${answer.code}`]),
      ...((res.headers['Warning'] ?? '') === (answer.headers['warning'] ?? '') ? [] : ['warning']),
      ...differingPaths(comparable(asOfToday(onlyServed(theirs))), comparable(onlyServed(ours))),
    ]
    const accepted = ACCEPTED_DIFFERENCES[name]?.differs ?? []
    const same = accepted.includes('body')
      ? accepted.filter((d) => d.startsWith('status ')).join() ===
        differences.filter((d) => d.startsWith('status ')).join()
      : JSON.stringify(accepted.toSorted()) === JSON.stringify(differences.toSorted())
    if (!same) unexpected[name] = { differences, accepted, theirs: short(res.body), ours: short(answer.text) }
  }
  assert.deepEqual(unexpected, {})
})

test('the list of accepted differences names only requests that there are, and says why', () => {
  const names = new Set(recordings.map((r) => r.name))
  for (const [name, { why }] of Object.entries(ACCEPTED_DIFFERENCES)) {
    assert.ok(names.has(name), name)
    assert.ok(why.length > 20, name)
  }
})

/** What was there before the recording began. */
async function prepare(plane: ControlPlane): Promise<void> {
  const create = async (path: string, body: Json) => {
    const { code, text } = await plane.ask('POST', `${path}?fieldManager=kubectl-create`, { body })
    assert.equal(code, 201, text)
  }
  for (const name of ['demo', 'ns-a']) await create('/api/v1/namespaces', { metadata: { name } })
  const modes = ['enforce', 'warn'].map((mode) => [`pod-security.kubernetes.io/${mode}`, 'restricted'])
  await create('/api/v1/namespaces', {
    metadata: { name: 'c-restricted', labels: Object.fromEntries(modes) as Json },
  })
  await create('/api/v1/namespaces/demo/serviceaccounts', { metadata: { name: 'default' } })
  await create('/apis/apps/v1/namespaces/demo/deployments', {
    metadata: { name: 'web', labels: { app: 'web' } },
    spec: {
      replicas: 1,
      selector: { matchLabels: { app: 'web' } },
      template: {
        metadata: { labels: { app: 'web' } },
        spec: { containers: [{ name: 'nginx', image: 'nginx' }] },
      },
    },
  })
  await create('/apis/rbac.authorization.k8s.io/v1/clusterroles', {
    metadata: { name: 'tenant' },
    rules: [
      {
        verbs: ['*'],
        apiGroups: [''],
        resources: [
          'pods',
          'pods/log',
          'pods/exec',
          'services',
          'configmaps',
          'secrets',
          'serviceaccounts',
          'persistentvolumeclaims',
        ],
      },
      { verbs: READ, apiGroups: [''], resources: ['resourcequotas', 'limitranges', 'events'] },
      { verbs: ['*'], apiGroups: ['apps', 'batch'], resources: ['*'] },
      { verbs: ['*'], apiGroups: ['networking.k8s.io'], resources: ['networkpolicies', 'ingresses'] },
      {
        verbs: [...READ, 'create', 'update', 'patch', 'delete', 'deletecollection'],
        apiGroups: ['rbac.authorization.k8s.io'],
        resources: ['roles', 'rolebindings'],
      },
    ],
  })
  await create('/apis/rbac.authorization.k8s.io/v1/clusterroles', {
    metadata: { name: 'well-known' },
    rules: [{ verbs: ['get'], nonResourceURLs: ['/.well-known', '/.well-known/*'] }],
  })
  await create('/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
    metadata: { name: 'well-known' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'well-known' },
    subjects: [{ kind: 'Group', apiGroup: 'rbac.authorization.k8s.io', name: 'system:authenticated' }],
  })
  await create('/apis/rbac.authorization.k8s.io/v1/namespaces/ns-a/rolebindings', {
    metadata: { name: 'ten' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'tenant' },
    subjects: [{ kind: 'User', apiGroup: 'rbac.authorization.k8s.io', name: 'tenant-a' }],
  })
}

function learn(revisions: Map<string, string>, theirs: Json, ours: Json): void {
  const [a, b] = [theirs?.metadata?.resourceVersion, ours?.metadata?.resourceVersion]
  if (typeof a === 'string' && typeof b === 'string') revisions.set(a, b)
}

function short(text: string): string {
  return text.length > 3_000 ? `${text.slice(0, 3_000)}…` : text
}
