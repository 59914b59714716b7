import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parseEgressPolicy } from './egress.ts'

const ports = [{ protocol: 'TCP', port: 443, endPort: 443 }]

test('a policy is taken as it is or refused with the field that is wrong', () => {
  const right = {
    allow: [
      {
        host: '*.example.com',
        ports,
        namespaces: ['shop'],
        podLabels: ['example.com/app=shop', 'empty='],
        untilMs: 1,
        reason: 'why',
      },
      { cidr: '0.0.0.0/0', ports },
    ],
  }
  assert.deepEqual(parseEgressPolicy(right), right)
  const wrong: [unknown, RegExp][] = [
    [{ allow: [{ ports }] }, /either a host or a cidr/],
    [{ allow: [{ host: 'a.example.com', cidr: '0.0.0.0/0', ports }] }, /either a host or a cidr/],
    [{ allow: [{ host: 'a.example.com', ports: [{ ...ports[0], endPort: 444 }] }] }, /range of ports/],
    [{ allow: [{ cidr: '0.0.0.0/0 accept', ports }] }, /not an IPv4 network/],
    [{ allow: [{ cidr: '1.2.3.4/32', ports: [] }] }, /at least 1/],
    [{ allow: [{ cidr: '1.2.3.4/32', ports: [{ protocol: 'TCP', port: 9, endPort: 8 }] }] }, /ends before/],
    [{ allow: [{ cidr: '1.2.3.4/32', ports, privileged: true }] }, /not a known field/],
    [{ allow: Array.from({ length: 201 }, () => ({ cidr: '1.2.3.4/32', ports })) }, /at most 200/],
    [{ allow: [{ cidr: '1.2.3.4/32', ports, podLabels: [] }] }, /at least 1/],
    [{ allow: [{ cidr: '1.2.3.4/32', ports, podLabels: ['app'] }] }, /not a label/],
    [{ allow: [{ cidr: '1.2.3.4/32', ports, podLabels: ['app=a\n}'] }] }, /not a label/],
    [{ allow: [], learn: { untilMs: 1, unlisted: 'Everything' } }, /must be one of/],
  ]
  for (const [value, why] of wrong)
    assert.throws(() => parseEgressPolicy(value), why, JSON.stringify(value).slice(0, 80))
})

test('nothing that is no policy gets through, and every refusal is a TypeError', () => {
  const rule = fc.record(
    { host: fc.string(), cidr: fc.string(), ports: fc.anything(), namespaces: fc.array(fc.string()) },
    { requiredKeys: [] },
  )
  fc.assert(
    fc.property(fc.oneof(fc.anything(), fc.record({ allow: fc.array(rule) })), (value) => {
      try {
        for (const each of parseEgressPolicy(value).allow)
          assert.match(each.host ?? each.cidr ?? '', /^[-*_a-z0-9./]+$/)
      } catch (error) {
        assert.ok(error instanceof TypeError, String(error))
      }
    }),
  )
})
