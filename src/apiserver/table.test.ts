import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ApiError, type KindDefinition, type KubeObject } from '../api/index.ts'
import { parseIncludeObject, renderPartialObjectMetadataList, renderTable } from './table.ts'

const NOW = Date.parse('2026-01-01T01:00:00Z')
const definition: Pick<KindDefinition, 'columns'> = {
  columns: [
    {
      name: 'Name',
      type: 'string',
      format: 'name',
      description: 'Its name.',
      cell: ({ metadata }) => metadata.name,
    },
    {
      name: 'Seconds',
      type: 'integer',
      description: 'Its age.',
      priority: 1,
      cell: ({ metadata }, nowMs) => (nowMs - Date.parse(metadata.creationTimestamp)) / 1_000,
    },
  ],
}

const configMap = (name: string): KubeObject => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, uid: 'u', resourceVersion: '7', creationTimestamp: '2026-01-01T00:00:00Z' },
  data: { a: '1' },
})

test('a table has the columns of the kind and the metadata of each object', () => {
  const table = renderTable(definition, [configMap('a'), configMap('b')], {
    nowMs: NOW,
    includeObject: 'Metadata',
    metadata: { resourceVersion: '9', continue: 'x' },
  })
  assert.deepEqual(table, {
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    metadata: { resourceVersion: '9', continue: 'x' },
    columnDefinitions: [
      { name: 'Name', type: 'string', format: 'name', description: 'Its name.', priority: 0 },
      { name: 'Seconds', type: 'integer', format: '', description: 'Its age.', priority: 1 },
    ],
    rows: ['a', 'b'].map((name) => ({
      cells: [name, 3_600],
      object: {
        kind: 'PartialObjectMetadata',
        apiVersion: 'meta.k8s.io/v1',
        metadata: configMap(name).metadata,
      },
    })),
  })
})

test('a table of one object has its resourceVersion, and the row carries what was asked for', () => {
  const object = configMap('a')
  const table = (includeObject: 'None' | 'Object') =>
    renderTable(definition, [object], { nowMs: NOW, includeObject, version: 'v1beta1' })
  assert.deepEqual(table('None').metadata, { resourceVersion: '7' })
  assert.equal(table('None').rows[0]?.object, null)
  assert.equal(table('Object').rows[0]?.object, object)
  assert.equal(table('None').apiVersion, 'meta.k8s.io/v1beta1')
})

test('the metadata of a list keeps its place in the list', () => {
  assert.deepEqual(renderPartialObjectMetadataList([configMap('a')], { resourceVersion: '9' }), {
    kind: 'PartialObjectMetadataList',
    apiVersion: 'meta.k8s.io/v1',
    metadata: { resourceVersion: '9' },
    items: [
      { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: configMap('a').metadata },
    ],
  })
})

test('includeObject is one of three words', () => {
  assert.equal(parseIncludeObject(null), 'Metadata')
  assert.equal(parseIncludeObject('None'), 'None')
  assert.throws(
    () => parseIncludeObject('everything'),
    (error) => error instanceof ApiError && error.code === 400,
  )
})
