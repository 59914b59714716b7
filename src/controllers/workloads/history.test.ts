import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { object, podTemplate } from '../controllers.testkit.ts'
import type { ControllerRevision, PodTemplateSpec } from '../kinds.ts'
import { contentHash } from './content-hash.ts'
import { planRevision, planTruncation, revisionData, templateOf } from './history.ts'

const data = (image: string) => revisionData(podTemplate('web', image))
const revision = (number: number, image: string): ControllerRevision =>
  object('ControllerRevision', 'apps/v1', `web-${image}`, { revision: number, data: data(image) })

test('a template that was there before becomes the newest again, and is not kept twice', () => {
  const [one, two] = [revision(1, 'a'), revision(2, 'b')]
  assert.deepEqual(planRevision([], data('a')), { step: 'create', number: 1 })
  assert.deepEqual(planRevision([two, one], data('c')), { step: 'create', number: 3 })
  assert.deepEqual(planRevision([one, two], data('b')), { step: 'use', revision: two })
  assert.deepEqual(planRevision([one, two], data('a')), { step: 'renumber', revision: one, to: 3 })
})

test('the oldest revisions that nothing needs are forgotten', () => {
  const all = ['a', 'b', 'c', 'd', 'e'].map((image, index) => revision(index + 1, image))
  const forgotten = (limit: number) =>
    planTruncation(all, (r) => r.revision === 1 || r.revision === 5, limit).map((r) => r.revision)
  assert.deepEqual([forgotten(0), forgotten(1), forgotten(10)], [[2, 3, 4], [2, 3], []])
})

test('a revision gives its template back, and anything else in it is no template', () => {
  assert.deepEqual(templateOf(revision(1, 'a')), podTemplate('web', 'a'))
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const found = templateOf({ ...revision(1, 'a'), data: value })
      assert.ok(found === undefined || typeof found.spec === 'object')
    }),
  )
})

test('a revision is written as a client of Kubernetes writes it, which compares bytes', () => {
  const template = {
    spec: { restartPolicy: 'Always', containers: [] },
    metadata: { labels: { b: '1', a: '2' } },
  }
  assert.equal(
    JSON.stringify(revisionData(template as unknown as PodTemplateSpec)),
    '{"spec":{"template":{"$patch":"replace","metadata":{"creationTimestamp":null,"labels":{"a":"2","b":"1"}},' +
      '"spec":{"containers":[],"restartPolicy":"Always"}}}}',
  )
})

test('a revision from before fields were in order is still that of its template', () => {
  const { spec, metadata } = podTemplate('web', 'a')
  const before = { ...revision(1, 'a'), data: { spec: { template: { spec, metadata, $patch: 'replace' } } } }
  assert.deepEqual(planRevision([before], data('a')), { step: 'use', revision: before })
})

test('content has one hash whatever the order of its fields', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (value) => {
      const reversed = Object.fromEntries(Object.entries(value).toReversed())
      assert.equal(contentHash(value), contentHash(reversed))
      assert.match(contentHash(value), /^[bcdfghjklmnpqrstvwxz2456789]{10}$/)
    }),
  )
  assert.notEqual(contentHash({}), contentHash({}, 1))
})
