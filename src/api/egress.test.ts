import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import {
  egressPortText,
  hostMatches,
  hostPatternProblem,
  networkContains,
  parseEgressPort,
  parseIpv4Network,
} from './egress.ts'

test('ports are numbers, ranges and protocols, and nothing that a rule could choke on', () => {
  assert.deepEqual(parseEgressPort(443), { protocol: 'TCP', port: 443, endPort: 443 })
  assert.deepEqual(parseEgressPort('53/UDP'), { protocol: 'UDP', port: 53, endPort: 53 })
  assert.deepEqual(parseEgressPort('8000-8100/TCP'), { protocol: 'TCP', port: 8000, endPort: 8100 })
  for (const wrong of [
    0,
    -1,
    65_536,
    1.5,
    '',
    '443\n',
    '443 ',
    '80-70',
    '1-65536',
    '53/SCTP',
    '53/udp',
    '{ 1 }',
    null,
  ])
    assert.equal(parseEgressPort(wrong), undefined, JSON.stringify(wrong))
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 65_535 }),
      fc.nat(1_000),
      fc.constantFrom('TCP', 'UDP'),
      (port, more, protocol) => {
        const written = { protocol, port, endPort: Math.min(65_535, port + more) } as const
        assert.deepEqual(parseEgressPort(egressPortText(written)), written)
      },
    ),
  )
})

test('hosts are plain names or one wildcard label before at least two others', () => {
  for (const right of [
    'api.example.com',
    '*.example.com',
    'xn--bcher-kva.example',
    '_dmarc.example.com',
    '*.s3.eu.example.com',
  ])
    assert.equal(hostPatternProblem(right), undefined, right)
  const wrong = [
    'localhost',
    '*.com',
    '*',
    '',
    '.',
    'a..b',
    'example.com.',
    'EXAMPLE.com',
    'bücher.example',
    'a.b\n',
    'a.b"',
    'a.*.example.com',
    '**.example.com',
    '10.0.0.1',
    '1.2.3.4.5',
    '*.svc.cluster.local',
    'cluster.local',
    `${'a'.repeat(64)}.example.com`,
    `${'a.'.repeat(130)}com`,
    'a b.example.com',
    '*.*.example.com',
    'a/b.example.com',
    'ex\u0000mple.com',
    '\u202eexample.com',
  ]
  for (const each of wrong) assert.notEqual(hostPatternProblem(each), undefined, JSON.stringify(each))
})

test('a wildcard stands for one label, so neither the domain itself nor anything deeper matches', () => {
  assert.ok(hostMatches('*.example.com', 'a.example.com'))
  for (const name of [
    'example.com',
    'a.b.example.com',
    '.example.com',
    'aexample.com',
    'a.example.com.evil.test',
  ])
    assert.ok(!hostMatches('*.example.com', name), name)
  assert.ok(hostMatches('example.com', 'example.com') && !hostMatches('example.com', 'a.example.com'))
})

test('networks are IPv4 prefixes without bits behind them', () => {
  assert.deepEqual(parseIpv4Network('0.0.0.0/0'), { base: 0, bits: 0 })
  assert.deepEqual(parseIpv4Network('203.0.113.7/32'), { base: 0xcb007107, bits: 32 })
  for (const wrong of [
    '203.0.113.7/24',
    '1.2.3.4',
    '1.2.3/8',
    '1.2.3.4/33',
    '01.2.3.4/32',
    '::/0',
    '::ffff:1.2.3.4/128',
    '1.2.3.4/32\n',
    '256.0.0.0/8',
    5,
  ])
    assert.equal(parseIpv4Network(wrong), undefined, String(wrong))
  const of = (text: string) => parseIpv4Network(text) ?? { base: 0, bits: 33 }
  assert.ok(
    networkContains(of('10.0.0.0/8'), of('10.1.0.0/16')) &&
      networkContains(of('0.0.0.0/0'), of('240.0.0.0/4')),
  )
  assert.ok(
    !networkContains(of('10.0.0.0/8'), of('0.0.0.0/0')) &&
      !networkContains(of('10.0.0.0/8'), of('11.0.0.0/8')),
  )
})
