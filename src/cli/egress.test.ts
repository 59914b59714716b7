import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { parse } from 'yaml'
import { parseEgressPort } from '../api/index.ts'
import type { TenantEgress } from '../jail/index.ts'
import { renderEgress, renderEgressList, renderEgressSuggestion } from './egress.ts'

const now = Date.parse('2026-11-21T12:00:00Z')
const ports = (...written: (string | number)[]) => written.flatMap((port) => parseEgressPort(port) ?? [])
const ESC = String.fromCharCode(27)

const EGRESS: TenantEgress = {
  tenant: 'red',
  uplink: 'open',
  learn: { untilMs: now + 86_400_000, unlisted: 'Allow' },
  since: now - 86_400_000,
  now,
  rules: [
    {
      host: 'api.example.com',
      ports: ports(443),
      expired: false,
      connections: 12,
      lastUsedMs: now - 30_000,
      reason: 'payments',
    },
    {
      cidr: '203.0.113.0/24',
      ports: ports('8000-8100', '53/UDP'),
      namespaces: ['shop', 'batch'],
      podLabels: ['app=backup'],
      expired: true,
      untilMs: now - 1,
      connections: 0,
    },
    {
      host: '*.example.com',
      ports: ports(443),
      untilMs: now + 3_600_000,
      expired: false,
      connections: 0,
      reason: `forged ${ESC}[2J`,
    },
  ],
  seen: [
    { namespace: 'shop', name: 'new.example.org', allowed: true, count: 3, lastMs: now - 7_300_000 },
    {
      namespace: 'shop',
      name: 'new.example.org',
      address: '198.51.100.7',
      protocol: 'TCP',
      port: 8443,
      allowed: true,
      count: 2,
      lastMs: now - 90_000,
    },
    {
      namespace: 'batch',
      address: '198.51.100.8',
      protocol: 'UDP',
      port: 123,
      allowed: false,
      count: 5,
      lastMs: now - 5_000,
    },
    {
      namespace: 'batch',
      name: 'only-asked.example.org',
      allowed: false,
      count: 1,
      lastMs: now - 400_000_000,
    },
  ],
}

/** Compares with a file that people read and change by hand. */
function golden(name: string, text: string): void {
  assert.equal(`${text}\n`, readFileSync(new URL(`testdata/${name}`, import.meta.url), 'utf8'))
}

test('rules with their use, what is over, and what was wanted', () => {
  const none = { ...EGRESS, tenant: 'blue', rules: [], seen: [] }
  golden(
    'egress.txt',
    [renderEgressList([EGRESS, none]), renderEgress(EGRESS), renderEgress(none), renderEgressList([])].join(
      '\n\n',
    ),
  )
})

test('a suggestion is the whole Tenant, with its own rules before those that were learned', () => {
  const spec = {
    trust: 'trusted',
    code: 'own',
    registries: [],
    egress: { mode: 'Learn', allow: [{ host: 'api.example.com' }] },
  }
  const text = renderEgressSuggestion(EGRESS, spec)
  golden('egress-suggestion.yaml', text)
  const parsed = parse(text) as {
    spec: { trust: string; egress: { mode?: string; allow: { host?: string; cidr?: string }[] } }
  }
  assert.equal(parsed.spec.egress.mode, undefined)
  assert.deepEqual(
    parsed.spec.egress.allow.map(({ host, cidr }) => host ?? cidr),
    ['api.example.com', '198.51.100.8/32', 'new.example.org', 'only-asked.example.org'],
  )
})
