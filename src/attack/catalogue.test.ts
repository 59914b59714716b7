import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { STANDARDS, ATTACKS, VECTORS } from '../verifier/index.ts'
import { FAMILIES } from './attack.ts'
import { EXPECTED_LAYERS } from './catalogue/expected-layers.ts'
import { layersOf } from './run-attacks.ts'
import { CATALOGUE, chooseAttacks } from './catalogue/index.ts'
import { publishedFailures, renderCatalogue, renderMarkdown } from './report.ts'

test('every attack has an id of its own, and says in one line what it does', () => {
  const ids = CATALOGUE.map(({ id }) => id)
  assert.deepEqual(
    ids.filter((id, i) => ids.indexOf(id) !== i),
    [],
  )
  for (const { id, title } of CATALOGUE) {
    assert.match(id, /^[a-z0-9]+(?:-[a-z0-9]+)*$/)
    assert.ok(title.length > 0 && title.length <= 160 && !title.includes('\n'), id)
  }
})

test('every vector of an attack is one that the verifier looks at', () => {
  const wrong = CATALOGUE.filter(({ vector }) => !Object.hasOwn(VECTORS, vector))
  assert.deepEqual(
    wrong.map(({ id, vector }) => `${id}: ${vector}`),
    [],
  )
})

test('every standard that an attack names is one that the verifier knows', () => {
  const wrong = CATALOGUE.flatMap(({ id, standards = [] }) =>
    standards
      .filter((standard) => !Object.hasOwn(STANDARDS, standard))
      .map((standard) => `${id}: ${standard}`),
  )
  assert.deepEqual(wrong, [])
})

test('attacks are chosen by id and family, and a word that means nothing is not ignored', () => {
  assert.deepEqual(
    chooseAttacks({ ids: ['path-direct'] }).map(({ id }) => id),
    ['path-direct'],
  )
  assert.ok(chooseAttacks({ families: ['paths'] }).every(({ family }) => family === 'paths'))
  assert.ok(chooseAttacks({ always: true }).length > 0)
  assert.throws(() => chooseAttacks({ ids: ['path-direkt'] }), /no attack or family "path-direkt"/)
  assert.throws(() => chooseAttacks({ families: ['__proto__'] }), RangeError)
})

test('every family has attacks, in a list of 80 columns', () => {
  const list = renderCatalogue(CATALOGUE)
  for (const family of FAMILIES.filter((one) => CATALOGUE.some((attack) => attack.family === one)))
    assert.ok(list.includes(`(${family};`))
  for (const line of list.split('\n')) assert.ok(line.length <= 80, line)
})

/** All of the page but how each attack ended, which only a run can tell. */
function withoutOutcomes(page: string): string[] {
  return page
    .split('\n')
    .filter((line) => !line.startsWith('Last tried'))
    .map((line) =>
      line.startsWith('| `')
        ? line
            .split(/(?<!\\)\|/)
            .slice(0, 6)
            .join('|')
        : line,
    )
    .filter(Boolean)
}

test('docs/attacks.md lists every attack that there is, in the same words, with how it ended', () => {
  const page = readFileSync(new URL('../../docs/attacks.md', import.meta.url), 'utf8')
  const wanted = renderMarkdown(CATALOGUE, [], 'Last tried never.')
  assert.deepEqual(withoutOutcomes(page), withoutOutcomes(wanted))
  const untold = page.split('\n').filter((line) => line.endsWith('| not tried |'))
  assert.deepEqual(untold, [])
})

test('for every attack it is said which layers are expected to stop it, and for no other', () => {
  assert.deepEqual(Object.keys(EXPECTED_LAYERS).toSorted(), CATALOGUE.map(({ id }) => id).toSorted())
  for (const [id, layers] of Object.entries(EXPECTED_LAYERS))
    assert.ok(layers.length > 0 && layers.every((layer) => layersOf(layer).length === 1), id)
})

test('published failures are listed once each, oldest first, with every attack that replays them', () => {
  const made = (id: string, replays: string) => ({ ...CATALOGUE[0]!, id, replays }) // there are attacks
  assert.deepEqual(
    publishedFailures([
      made('a', 'CVE-2021-25741 and CVE-2017-1002101: links'),
      made('b', 'CVE-2021-25741: again'),
    ]),
    [
      { cve: 'CVE-2017-1002101', happened: 'CVE-2021-25741 and CVE-2017-1002101: links', ids: ['a'] },
      { cve: 'CVE-2021-25741', happened: 'CVE-2021-25741 and CVE-2017-1002101: links', ids: ['a', 'b'] },
    ],
  )
})

test('the attacks that the proof names for a vector are attacks on that vector, and none is left without', () => {
  const wrong = Object.entries(ATTACKS).flatMap(([vector, ids]) =>
    ids.filter((id) => CATALOGUE.find((attack) => attack.id === id)?.vector !== vector),
  )
  assert.deepEqual(wrong, [])
  const attacked = new Set(CATALOGUE.map(({ vector }) => vector))
  assert.deepEqual(
    Object.entries(ATTACKS).flatMap(([vector, ids]) =>
      attacked.has(vector) !== ids.length > 0 ? [vector] : [],
    ),
    [],
  )
})
