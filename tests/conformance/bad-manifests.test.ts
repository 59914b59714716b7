import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { CHAPTERS } from './bad-manifests.ts'
import { renderBadManifests, tryTricks } from './render-bad-manifests.ts'

for (const { title, tricks } of CHAPTERS) {
  test(`${title}: each trick is refused with a reason, or known to be harmless`, async () => {
    for (const { trick, code, told } of await tryTricks(tricks)) {
      if (trick.harmless !== undefined) assert.equal(Math.floor(code / 100), 2, `${trick.title}: ${told}`)
      else assert.ok(code >= 400 && code < 500, `${trick.title}: ${code} ${told}`)
      assert.doesNotMatch(told, /undefined|\[object/, trick.title)
    }
  })
}

test('no two tricks have one title', () => {
  const titles = CHAPTERS.flatMap(({ title, tricks }) => tricks.map((trick) => `${title}: ${trick.title}`))
  assert.equal(new Set(titles).size, titles.length)
})

test('docs/bad-manifests.md tells what happens', async () => {
  const text = readFileSync(new URL('../../docs/bad-manifests.md', import.meta.url), 'utf8')
  assert.equal(text, await renderBadManifests())
})
