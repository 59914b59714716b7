import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { ApiError } from '../../../api/index.ts'
import type { Jail } from '../../../jail/index.ts'
import { sampleContainer, sampleJail } from '../fakes/sample-jail.ts'
import { planUpdate } from './plan-update.ts'

function fileVolume(name: string, content: string): Jail['volumes'][number] {
  const contentBase64 = Buffer.from(content).toString('base64')
  return { name, kind: 'files', files: [{ path: 'a', mode: 0o644, contentBase64 }] }
}

test('images, files, deadline and what makes the next start are taken over, all else is kept and named', () => {
  const before = sampleJail({
    volumes: [fileVolume('config', 'one'), { name: 'tmp', kind: 'scratch', medium: 'disk', sizeBytesMax: 1 }],
    containers: [sampleContainer({ args: ['old'], runAsUser: 1 })],
    activeDeadlineSeconds: 9,
    labels: ['app=old'],
  })
  const { activeDeadlineSeconds: _, ...withoutDeadline } = before
  const wanted: Jail = {
    ...withoutDeadline,
    labels: ['app=new'],
    hostname: 'other',
    volumes: [
      { name: 'tmp', kind: 'scratch', medium: 'disk', sizeBytesMax: 2 },
      fileVolume('config', 'two'),
      fileVolume('late', 'x'),
    ],
    containers: [
      sampleContainer({
        image: 'registry.example/app:2',
        command: ['new'],
        env: [{ name: 'A', value: '1' }],
        runAsUser: 2,
      }),
    ],
  }
  const { jail, kept } = planUpdate(before, wanted)
  assert.deepEqual(jail, {
    ...withoutDeadline,
    labels: ['app=new'],
    volumes: [fileVolume('config', 'two'), before.volumes[1]],
    containers: [
      sampleContainer({
        image: 'registry.example/app:2',
        command: ['new'],
        env: [{ name: 'A', value: '1' }],
        runAsUser: 1,
      }),
    ],
  })
  assert.deepEqual(kept, ['hostname', 'volumes', 'containers[0].runAsUser'])
  assert.deepEqual(planUpdate(jail, jail), { jail, kept: [] })
})

for (const [field, change] of [
  ['pod', { pod: 'db-0' }],
  ['namespace', { namespace: 'other' }],
  ['containers', { containers: [sampleContainer(), sampleContainer({ name: 'two' })] }],
  ['initContainers', { initContainers: [sampleContainer({ name: 'init', restartPolicy: 'Always' })] }],
  ['volumes[0].kind', { volumes: [{ name: 'v', kind: 'scratch', medium: 'memory', sizeBytesMax: 1 }] }],
] as const satisfies readonly (readonly [string, Partial<Jail>])[])
  test(`a jail with another ${field} is another pod’s`, () => {
    const before = sampleJail({
      initContainers: [sampleContainer({ name: 'init' })],
      volumes: [fileVolume('v', '')],
    })
    assert.throws(
      () => planUpdate(before, { ...before, ...change }),
      (error: unknown) => {
        assert(error instanceof ApiError)
        assert.deepEqual(
          error.details?.causes?.map((c) => c.field),
          [field],
        )
        assert.doesNotMatch(error.message, /jail/i)
        return true
      },
    )
  })

test('an update is settled: asking for the same again changes nothing more', () => {
  const change = fc.record(
    {
      hostname: fc.constantFrom('a', 'b'),
      activeDeadlineSeconds: fc.nat(9),
      volumes: fc.uniqueArray(
        fc.constantFrom('v', 'w').map((name) => fileVolume(name, name)),
        {
          selector: (v) => v.name,
        },
      ),
      containers: fc
        .record({ args: fc.array(fc.string()), runAsUser: fc.nat(9) }, { requiredKeys: [] })
        .map((over) => [sampleContainer(over)]),
    },
    { requiredKeys: [] },
  )
  fc.assert(
    fc.property(change, change, (first, second) => {
      const wanted = sampleJail(second)
      const { jail } = planUpdate(sampleJail(first), wanted)
      assert.deepEqual(planUpdate(jail, wanted).jail, jail)
    }),
  )
})
