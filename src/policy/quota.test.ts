import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { type KubeObject, parseTenantName } from '../api/index.ts'
import type { AdmissionRequest, ClusterView } from './admission/admission.ts'
import { tenantQuota } from './admission/tenant-quota.ts'
import { podLimitsOf } from './pod-limits.ts'
import type { TenantLimits } from './quota.ts'

const LIMITS: TenantLimits = { objectsMax: 10_000, bytesMax: 1e9, podsMax: 1_000, namespacesMax: 10 }

type Resources = { cpu?: string | number; memory?: string | number; sidecar?: true }

function pod(uid: string, containers: Resources[], init: Resources[] = [], phase = 'Running') {
  const container = (prefix: string) => (resources: Resources, i: number) => {
    const { sidecar, ...limits } = resources
    return {
      name: `${prefix}${i}`,
      ...(sidecar ? { restartPolicy: 'Always' } : {}),
      ...(Object.keys(limits).length > 0 ? { resources: { limits } } : {}),
    }
  }
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: uid, namespace: 'default', uid },
    spec: { containers: containers.map(container('c')), initContainers: init.map(container('i')) },
    status: { phase },
  } as unknown as KubeObject
}

function view(stored: KubeObject[], creating: KubeObject[] = []): ClusterView {
  return {
    get: () => undefined,
    list: () => stored,
    creating: () => creating,
    count: () => stored.length + creating.length,
    objectCount: stored.length,
    bytes: 0,
  }
}

function refusal(
  limits: Partial<TenantLimits>,
  object: KubeObject,
  cluster: ClusterView,
): string | undefined {
  const request: AdmissionRequest = {
    operation: 'CREATE',
    user: { kind: 'tenantUser', tenant: parseTenantName('red'), name: 'ann', groups: [] },
    group: '',
    version: 'v1',
    kind: 'Pod',
    resource: 'pods',
    namespace: 'default',
    name: object.metadata.name,
    object,
    dryRun: false,
  }
  return tenantQuota(() => ({ ...LIMITS, ...limits })).refuse?.(request, cluster)?.message
}

test("a pod's limits are those of what runs at the same time", () => {
  const one = { cpu: '250m', memory: '64Mi' }
  const limits = (containers: Resources[], init: Resources[] = []) => {
    const { cpuMillis, memoryBytes } = podLimitsOf(pod('p', containers, init))
    return [cpuMillis, memoryBytes / 1024 ** 2]
  }
  assert.deepEqual(limits([one, one]), [500, 128])
  assert.deepEqual(limits([one], [{ cpu: '2', memory: '1Gi' }]), [2_000, 1_024])
  assert.deepEqual(
    limits(
      [one],
      [
        { ...one, sidecar: true },
        { cpu: 1, memory: '32Mi' },
      ],
    ),
    [1_250, 128],
  )
  assert.deepEqual(
    limits(
      [one],
      [
        { cpu: 1, memory: '32Mi' },
        { ...one, sidecar: true },
      ],
    ),
    [1_000, 128],
  )
  assert.deepEqual(limits([{}]), [0, 0])
})

test('a pod without a limit is refused where its tenant has a quota for it, and only there', () => {
  const unlimited = pod('p', [{ memory: '1Mi' }, {}], [{ cpu: '1' }])
  assert.equal(refusal({}, unlimited, view([])), undefined)
  assert.match(
    refusal({ memoryBytesMax: 1e9 }, unlimited, view([])) ?? '',
    /^pods "p" is forbidden: failed quota: must specify limits\.memory for: i0, c1; /,
  )
  assert.match(refusal({ cpuMillisMax: 1e9 }, unlimited, view([])) ?? '', /limits\.cpu for: c0, c1; /)
})

test('pods that have ended do not count, those that are being created do, and nobody counts twice', () => {
  const [a, b] = [pod('a', [{ memory: 600 }]), pod('b', [{ memory: 600 }])]
  const ended = [pod('c', [{ memory: 900 }], [], 'Succeeded'), pod('d', [{ memory: 900 }], [], 'Failed')]
  const limits = { memoryBytesMax: 1_200 }
  assert.equal(refusal(limits, b, view([a, ...ended])), undefined)
  assert.equal(refusal(limits, b, view([a], [a])), undefined)
  assert.match(refusal(limits, pod('e', [{ memory: 1 }]), view([a], [b])) ?? '', /used: limits\.memory=1200/)
})

test('whatever is asked for in whatever order, what was let in never exceeds the quota', () => {
  const amount = fc.oneof(
    fc.nat({ max: 2_000 }),
    fc.constantFrom('0.1', '1500m', '1Ki', '1e2', '9223372036854775807', '100E'),
  )
  const container = fc.record({ memory: amount, cpu: amount }, { requiredKeys: [] })
  fc.assert(
    fc.property(
      fc.array(
        fc.tuple(fc.array(container, { minLength: 1, maxLength: 3 }), fc.array(container, { maxLength: 2 })),
      ),
      (asked) => {
        const limits = { memoryBytesMax: 5_000, cpuMillisMax: 4_000_000 }
        const stored: KubeObject[] = []
        asked.forEach(([containers, init], i) => {
          const next = pod(`p${i}`, containers as Resources[], init as Resources[])
          if (refusal(limits, next, view(stored)) === undefined) stored.push(next)
        })
        const used = stored.map(podLimitsOf)
        assert.ok(used.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0) <= limits.memoryBytesMax)
        assert.ok(used.reduce((sum, { cpuMillis }) => sum + cpuMillis, 0) <= limits.cpuMillisMax)
      },
    ),
  )
})
