import assert from 'node:assert/strict'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { placeMarker, removeMarkers } from './marker.ts'

test('a marker tells whatever has happened to it, and one that a killed run has left is removed, and no other', () => {
  const own = `/nowhere/bulkhead-${process.pid}`
  const left = placeMarker(own, 'm00000001')
  const other = placeMarker(`${own}x`, 'm00000001')
  const stranger = `/tmp/bulkhead-${process.pid}-attack-notours`
  mkdirSync(stranger)
  try {
    assert.equal(left.changed(), undefined)
    writeFileSync(`${left.directory}/more`, '')
    assert.match(JSON.stringify(left.changed()), /marker, more|more, marker/)
    rmSync(`${left.directory}/more`)
    writeFileSync(left.file, 'changed')
    assert.equal(left.changed()?.kind, 'escaped')
    assert.equal(removeMarkers(own), 1)
    assert.equal(left.changed()?.kind, 'escaped')
    assert.ok(existsSync(other.directory) && existsSync(stranger))
  } finally {
    left[Symbol.dispose]()
    other[Symbol.dispose]()
    rmSync(stranger, { recursive: true })
  }
})
