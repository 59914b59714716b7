import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { isStream, parseTarget, pathProblem } from './target.ts'

describe('the target of a request', () => {
  test('is read from the raw path', () => {
    assert.deepEqual(parseTarget('/tenants/red/api?x=/tenants/blue'), {
      kind: 'controlPlane',
      tenant: 'red',
      rest: '/api?x=/tenants/blue',
    })
    assert.deepEqual(parseTarget('/tenants/red'), { kind: 'controlPlane', tenant: 'red', rest: '/' })
    assert.deepEqual(parseTarget('/tenants/red?x'), { kind: 'controlPlane', tenant: 'red', rest: '/?x' })
    assert.deepEqual(parseTarget('/platform/api'), { kind: 'controlPlane', tenant: 'platform', rest: '/api' })
    assert.deepEqual(parseTarget('/readyz'), { kind: 'health' })
    for (const url of [
      '',
      '//',
      '/.',
      '/metrics',
      '/tenants',
      '/tenants/',
      '/tenants/platform/x',
      '/platforms',
      '/tenants/red%20',
      '/tenants/red#',
    ])
      assert.equal(parseTarget(url).kind, 'nowhere', url)
  })

  test('is the control plane of whoever asks where a path of Kubernetes names no tenant', () => {
    for (const rest of [
      '/',
      '/?x',
      '/api',
      '/api?x',
      '/api/v1/pods?limit=1',
      '/apis/apps/v1',
      '/openapi/v3',
      '/openid/v1/jwks',
      '/.well-known/openid-configuration',
      '/version',
      '/readyz/',
      '/readyz?verbose',
      // Who is asked will not have these; they lead to nobody else.
      '/api/../tenants/blue/api',
      '/api//v1',
    ])
      assert.deepEqual(parseTarget(rest), { kind: 'ownControlPlane', rest }, rest)
    for (const url of [
      '/API/v1',
      '/api%2fv1',
      '/%61pi/v1',
      '/api;x/v1',
      '/api#',
      '/api\\v1',
      '//api/v1',
      '/./api/v1',
      '/../api/v1',
      '/apiserver',
      '/well-known',
      '/xwell-known/x',
      'api/v1',
      '*',
      'https://localhost/api/v1',
      'http:/api/v1',
      '\\api',
    ])
      assert.equal(parseTarget(url).kind, 'nowhere', url)
  })

  test('names a tenant only where its name stands unencoded, and passes on just what follows', () => {
    const piece = fc.oneof(
      fc.constantFrom(
        '/',
        '//',
        '\\',
        '.',
        '..',
        '%2f',
        '%2e',
        '%00',
        'tenants',
        'red',
        'blue',
        'platform',
        'api',
        'version',
        '.well-known',
        'https:',
        '?',
        '#',
        ';',
        '@',
        ':',
        'RED',
      ),
      fc.string({ unit: 'binary', maxLength: 4 }),
    )
    fc.assert(
      fc.property(
        fc.array(piece, { maxLength: 8 }),
        fc.constantFrom('', '/tenants/', '/api'),
        (pieces, start) => {
          const url = start + pieces.join('')
          const target = parseTarget(url)
          if (target.kind === 'ownControlPlane') {
            assert.equal(target.rest, url)
            assert.match(url, /^\/(?:$|\?|[a-z.]+(?:$|[/?]))/)
            assert.doesNotMatch(url, /^\/(?:tenants|platform)/)
          } else if (target.kind === 'controlPlane') {
            const prefix = target.tenant === 'platform' ? '/platform' : `/tenants/${target.tenant}`
            assert.ok(url === prefix || url.startsWith(`${prefix}/`) || url.startsWith(`${prefix}?`))
            assert.ok(
              target.rest === url.slice(prefix.length) || target.rest === `/${url.slice(prefix.length)}`,
            )
          } else return
          if (pathProblem(target.rest) !== undefined) return
          // Whoever normalizes or decodes what is left must find the same path.
          const parsed = new URL(target.rest, 'http://localhost')
          assert.equal(parsed.host, 'localhost')
          assert.equal(parsed.pathname, target.rest.split('?', 1)[0])
          assert.doesNotMatch(
            decodeURIComponent(parsed.pathname.replace(/%[89a-f]./gi, '')),
            /(^|\/)\.\.?(\/|$)|\/\/|\\|\p{Cc}/u,
          )
          isStream(target.rest)
        },
      ),
      { numRuns: 2_000 },
    )
  })

  test('has no problem where Kubernetes uses its path', () => {
    for (const rest of [
      '/api/v1/namespaces/default/pods/web-0/exec?command=sh&command=-c&command=echo+%2Ftmp%2F..&stdin=true',
      '/apis/rbac.authorization.k8s.io/v1/clusterroles/system:basic-user',
      '/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Abasic-user',
      '/api/v1/pods?labelSelector=app%20in%20(a%2Cb)&fieldSelector=metadata.name%3Dx',
      '/openapi/v3/apis/apps/v1?hash=0A',
      '/.well-known/openid-configuration',
      '/apis/',
    ])
      assert.equal(pathProblem(rest), undefined, rest)
  })
})

test('requests that stay open are told from those that end', () => {
  for (const rest of [
    '/api/v1/pods?watch=1',
    '/api/v1/pods?a=b&watch=true',
    '/api/v1/pods?watch',
    '/api/v1/pods?watch=True',
    '/api/v1/pods?watch=yes',
    '/api/v1/watch/pods',
    '/apis/apps/v1/watch/namespaces/x/deployments',
    '/api/v1/namespaces/a/pods/b/log?follow=true',
  ])
    assert.equal(isStream(rest), true, rest)
  for (const rest of [
    '/api/v1/pods',
    '/api/v1/pods?watch=false',
    '/api/v1/pods?watch=False',
    '/api/v1/pods?watch=0',
    '/api/v1/namespaces/watch/pods',
    '/api/v1/namespaces/a/pods/b/log?follow=false',
  ])
    assert.equal(isStream(rest), false, rest)
})
