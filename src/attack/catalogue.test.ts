import assert from 'node:assert/strict'
import { test } from 'node:test'
import { STANDARDS, VECTORS } from '../verifier/index.ts'
import { FAMILIES } from './attack.ts'
import { CATALOGUE, chooseAttacks } from './catalogue/index.ts'
import { renderCatalogue } from './report.ts'

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
