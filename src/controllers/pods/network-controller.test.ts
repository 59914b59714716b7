import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ApiError } from '../../api/index.ts'
import { object, podSpec, TestControlPlane } from '../controllers.testkit.ts'
import {
  type EgressPolicy,
  egressPolicyKind,
  eventKind,
  type NetworkPolicy,
  networkPolicyKind,
  type Pod,
  podKind,
} from '../kinds.ts'

const CLOSED = { podSelector: {}, policyTypes: ['Ingress' as const] }

async function createPod(plane: TestControlPlane, name: string): Promise<Pod> {
  return await plane.client.create<Pod>(
    podKind,
    object('Pod', 'v1', name, { spec: { ...podSpec, automountServiceAccountToken: false } }),
  )
}

async function createPolicy(plane: TestControlPlane, name: string): Promise<NetworkPolicy> {
  return await plane.client.create<NetworkPolicy>(
    networkPolicyKind,
    object('NetworkPolicy', 'networking.k8s.io/v1', name, { spec: CLOSED }),
  )
}

function events(plane: TestControlPlane, reason: string): (string | undefined)[] {
  return plane.client.all(eventKind).flatMap((e) => (e.reason === reason ? [e.message] : []))
}

/** Lets time pass until nothing waits for it any more. */
async function pass(plane: TestControlPlane): Promise<void> {
  await plane.settle()
  plane.clock.advance(1_000)
  await plane.settle()
}

test('a pod is given to the engine only when the engine knows its policies', async () => {
  await using plane = await TestControlPlane.start()
  await createPolicy(plane, 'closed')
  await pass(plane)
  const known: boolean[] = []
  plane.engine.refuse = ({ id }) => {
    known.push(plane.engine.networks.at(-1)?.isolation?.pods.includes(id) ?? false)
  }
  for (const name of ['one', 'two', 'three']) await createPod(plane, name)
  await plane.until('They have jails', () => plane.engine.jails.size === 3)
  assert.deepEqual(known.slice(0, 3), [true, true, true])
})

test('without policies no pod waits, and nothing is said of isolation', async () => {
  await using plane = await TestControlPlane.start()
  await createPod(plane, 'one')
  await plane.until('It has a jail', () => plane.engine.jails.size === 1)
  await pass(plane)
  assert.ok(plane.engine.networks.every(({ isolation }) => isolation === undefined))
})

test('when the engine fails to load the policies everybody is told once, and it goes on when it can', async () => {
  await using plane = await TestControlPlane.start()
  let fails = true
  let tried = 0
  plane.engine.refuseNetwork = ({ isolation }) => {
    if (!isolation || !fails) return
    tried += 1
    throw new ApiError('InternalError', '"nft -f /secret" ended with 1')
  }
  await createPolicy(plane, 'closed')
  await createPod(plane, 'one')
  await plane.until('It has been tried more than once', () => {
    plane.clock.advance(1_000)
    return tried > 2
  })
  const told = events(plane, 'NetworkNotApplied')
  assert.equal(told.length, 1)
  assert.match(JSON.stringify(told), /could not load them, and tries again/)
  assert.doesNotMatch(JSON.stringify(told), /nft|secret/)
  assert.equal(plane.engine.jails.size, 0)
  fails = false
  await plane.until('The pod has a jail', () => {
    plane.clock.advance(1_000)
    return plane.engine.jails.size === 1
  })
})

test('while the engine refuses the policies no new pod starts, and everybody is told why', async () => {
  await using plane = await TestControlPlane.start()
  let told = 0
  plane.engine.refuseNetwork = ({ isolation }) => {
    told += 1
    if (isolation) throw new ApiError('Invalid', 'isolation must have at most 8192 comparisons')
  }
  await createPolicy(plane, 'too-much')
  await pass(plane)
  await createPod(plane, 'one')
  await plane.until('Both are told', () => {
    plane.clock.advance(100)
    return events(plane, 'FailedCreatePodSandBox').length > 0 && events(plane, 'NetworkNotApplied').length > 0
  })
  assert.match(events(plane, 'FailedCreatePodSandBox')[0] ?? '', /8192 comparisons/)
  await pass(plane)
  const before = told
  for (let i = 0; i < 5; i++) await pass(plane)
  assert.equal(told, before, 'what was refused is not offered again unchanged')
  assert.equal(plane.engine.jails.size, 0)
  await plane.client.delete(networkPolicyKind, { namespace: 'default', name: 'too-much' })
  await plane.until('It runs', () => {
    plane.clock.advance(100)
    return plane.engine.jails.size === 1
  })
})

test('no pod starts with more open outside than its egress policies leave, while the engine does not take them', async () => {
  await using plane = await TestControlPlane.start()
  plane.engine.refuseNetwork = ({ narrowings }) => {
    if (narrowings) throw new ApiError('Invalid', 'narrowings must allow at most 2048 destinations together')
  }
  await plane.client.create<EgressPolicy>(
    egressPolicyKind,
    object('EgressPolicy', 'network.bulkhead.dev/v1alpha1', 'nothing', { spec: {} }),
  )
  await pass(plane)
  await createPod(plane, 'one')
  await plane.until('It is told', () => {
    plane.clock.advance(100)
    return events(plane, 'FailedCreatePodSandBox').length > 0
  })
  assert.match(events(plane, 'FailedCreatePodSandBox')[0] ?? '', /2048 destinations/)
  await pass(plane)
  assert.equal(plane.engine.jails.size, 0)
  plane.engine.refuseNetwork = undefined
  await plane.client.delete(egressPolicyKind, { namespace: 'default', name: 'nothing' })
  await plane.until('It runs', () => {
    plane.clock.advance(100)
    return plane.engine.jails.size === 1
  })
})

test('a pod is given to the engine only when the engine knows what egress policies leave', async () => {
  await using plane = await TestControlPlane.start()
  const known: boolean[] = []
  plane.engine.refuse = () => {
    known.push(plane.engine.networks.at(-1)?.narrowings?.length === 1)
  }
  await plane.client.create<EgressPolicy>(
    egressPolicyKind,
    object('EgressPolicy', 'network.bulkhead.dev/v1alpha1', 'nothing', { spec: {} }),
  )
  await plane.settle()
  await createPod(plane, 'one')
  await plane.until('It has a jail', () => {
    plane.clock.advance(10)
    return plane.engine.jails.size === 1
  })
  assert.equal(known[0], true)
})

test('only what policies can tell apart is told again', async () => {
  await using plane = await TestControlPlane.start()
  await createPolicy(plane, 'closed')
  const { metadata } = await createPod(plane, 'one')
  await plane.until('It has a jail', () => {
    plane.clock.advance(100)
    return plane.engine.jails.has(metadata.uid)
  })
  await pass(plane)
  const before = plane.engine.networks.length
  plane.engine.change(metadata.uid, (status) => ({ ...status, podIP: '10.0.0.99' }))
  await pass(plane)
  assert.equal(plane.engine.networks.length, before)
})
