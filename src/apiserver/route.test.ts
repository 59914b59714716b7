import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parseRoute } from './route.ts'

const core = { kind: 'resource', group: '', version: 'v1' } as const
const apps = { kind: 'resource', group: 'apps', version: 'v1' } as const

test('every form of path is taken apart as upstream does', () => {
  const rows: [string, unknown][] = [
    ['/api/v1/pods', { ...core, resource: 'pods' }],
    ['/api/v1/namespaces', { ...core, resource: 'namespaces' }],
    ['/api/v1/namespaces/a', { ...core, resource: 'namespaces', name: 'a' }],
    ['/api/v1/namespaces/a/status', { ...core, resource: 'namespaces', name: 'a', subresource: 'status' }],
    [
      '/api/v1/namespaces/a/finalize',
      { ...core, resource: 'namespaces', name: 'a', subresource: 'finalize' },
    ],
    ['/api/v1/namespaces/a/pods', { ...core, namespace: 'a', resource: 'pods' }],
    ['/api/v1/namespaces/a/pods/', { ...core, namespace: 'a', resource: 'pods' }],
    ['/api/v1/namespaces/a/pods/p', { ...core, namespace: 'a', resource: 'pods', name: 'p' }],
    [
      '/api/v1/namespaces/a/pods/p/log',
      { ...core, namespace: 'a', resource: 'pods', name: 'p', subresource: 'log' },
    ],
    [
      '/api/v1/namespaces/a/pods/http:p:80/proxy',
      { ...core, namespace: 'a', resource: 'pods', name: 'http:p:80', subresource: 'proxy', rest: '' },
    ],
    [
      '/api/v1/namespaces/a/services/s/proxy/../%2F//x/',
      { ...core, namespace: 'a', resource: 'services', name: 's', subresource: 'proxy', rest: '/../%2F//x/' },
    ],
    ['/api/v1/namespaces/a/pods/../proxy/x', { kind: 'nowhere' }],
    ['/api/v1/namespaces/a/pods/p%2Fq/proxy/x', { kind: 'nowhere' }],
    ['/api/v1/namespaces/a/configmaps/p/proxy/x', { kind: 'nowhere' }],
    ['/apis/apps/v1/deployments', { ...apps, resource: 'deployments' }],
    [
      '/apis/apps/v1/namespaces/a/deployments/d/scale',
      { ...apps, namespace: 'a', resource: 'deployments', name: 'd', subresource: 'scale' },
    ],
    ['/api/v1/nodes/system%3Anode', { ...core, resource: 'nodes', name: 'system:node' }],
    ['/apis/apps/v1', { kind: 'path', path: '/apis/apps/v1' }],
    ['/api', { kind: 'path', path: '/api' }],
    ['/', { kind: 'path', path: '/' }],
    ['/version/', { kind: 'path', path: '/version' }],
    ['/api/v1/namespaces/a/pods/p/log/more', { kind: 'nowhere' }],
    ['/api/v1/namespaces//pods', { kind: 'nowhere' }],
    ['/api/v1/namespaces/a/pods/..', { kind: 'nowhere' }],
    ['/api/v1/namespaces/a%2Fb/pods', { kind: 'nowhere' }],
    ['/api/v1/namespaces/%zz/pods', { kind: 'nowhere' }],
    ['nothing', { kind: 'nowhere' }],
  ]
  assert.deepEqual(
    rows.map(([path]) => [path, parseRoute(path)]),
    rows,
  )
})

test('no path makes the parser throw, or gives a part that could climb', () => {
  const part = fc.oneof(
    fc.string(),
    fc.constantFrom('api', 'apis', 'v1', 'namespaces', '..', '%2e%2e', '%2F', '%', ''),
  )
  fc.assert(
    fc.property(fc.array(part, { maxLength: 9 }), (parts) => {
      const route = parseRoute(`/${parts.join('/')}`)
      if (route.kind !== 'resource') return
      // The core group has no name.
      assert.equal(route.group === '', parts.join('/').startsWith('api/'))
      for (const value of [route.version, route.namespace, route.resource, route.name, route.subresource])
        assert.ok(
          value === undefined || (value !== '' && value !== '.' && value !== '..' && !/[/%\0]/.test(value)),
        )
    }),
  )
})
