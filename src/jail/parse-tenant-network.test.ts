import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { ApiError } from '../api/index.ts'
import { isServiceAddress, parseTenantNetwork } from './parse-tenant-network.ts'
import type { NetworkService, TenantNetwork } from './tenant-network.ts'

const ID = '0b5b7c1e-6d0f-4c39-9d1e-2f8f6f3c9a10'

function service(over: Partial<NetworkService> = {}): NetworkService {
  return {
    namespace: 'default',
    name: 'web',
    clusterIP: '10.96.3.4',
    ports: [{ name: 'http', protocol: 'TCP', port: 80, endpoints: [{ jail: ID, port: 8080, ready: true }] }],
    publishNotReadyAddresses: false,
    ...over,
  }
}

function refusedFields(value: unknown): string[] {
  try {
    parseTenantNetwork(value)
  } catch (error) {
    assert(error instanceof ApiError)
    assert.equal(error.code, 422)
    return (error.details?.causes ?? []).map((c) => c.field ?? '')
  }
  return []
}

const label = fc.stringMatching(/^[a-z]([a-z0-9-]{0,8}[a-z0-9])?$/)
const networks: fc.Arbitrary<TenantNetwork> = fc
  .uniqueArray(
    fc.record(
      {
        namespace: label,
        name: label,
        clusterIP: fc.tuple(fc.nat(255), fc.integer({ min: 1, max: 254 })).map(([a, b]) => `10.96.${a}.${b}`),
        ports: fc.uniqueArray(
          fc.record({
            protocol: fc.constantFrom('TCP' as const, 'UDP' as const),
            port: fc.integer({ min: 1, max: 65_535 }),
            endpoints: fc.array(
              fc.record(
                {
                  jail: fc.uuid(),
                  port: fc.integer({ min: 1, max: 65_535 }),
                  ready: fc.boolean(),
                  hostname: label,
                },
                { requiredKeys: ['jail', 'port', 'ready'] },
              ),
              { maxLength: 3 },
            ),
          }),
          { maxLength: 3, selector: (p) => `${p.protocol}${p.port}` },
        ),
        sessionAffinitySeconds: fc.integer({ min: 1, max: 86_400 }),
        publishNotReadyAddresses: fc.boolean(),
      },
      { requiredKeys: ['namespace', 'name', 'ports', 'publishNotReadyAddresses'] },
    ),
    {
      maxLength: 4,
      comparator: (a, b) => a.name === b.name || (a.clusterIP !== undefined && a.clusterIP === b.clusterIP),
    },
  )
  // Through JSON, because fast-check's records have no prototype.
  .map((services) => JSON.parse(JSON.stringify({ services })) as TenantNetwork)

test('a valid network comes out of its JSON as it went in', () => {
  fc.assert(
    fc.property(networks, (valid) => {
      assert.deepEqual(parseTenantNetwork(JSON.parse(JSON.stringify(valid))), valid)
    }),
  )
})

test('any JSON at all is parsed or refused with an ApiError', () => {
  fc.assert(
    fc.property(fc.oneof(fc.jsonValue(), fc.record({ services: fc.array(fc.jsonValue()) })), (value) => {
      try {
        parseTenantNetwork(value)
      } catch (error) {
        assert(error instanceof ApiError)
      }
    }),
  )
})

test('a service address lies in the virtual range of the tenant, whatever it is written like', () => {
  for (const address of ['10.96.0.1', '10.96.255.254', '10.96.9.0'])
    assert(isServiceAddress(address), address)
  for (const address of [
    '10.97.0.1',
    '10.96.0.0',
    '10.96.255.255',
    '10.96.1',
    '010.96.0.1',
    '10.96.0.01',
    '::ffff:10.96.0.1',
    '10.96.0.1\n',
    '169.254.169.254',
  ])
    assert(!isServiceAddress(address), address)
})

test('services cannot claim the same name or the same address', () => {
  assert.deepEqual(refusedFields({ services: [service(), service()] }), [
    'services[1]',
    'services[1].clusterIP',
  ])
  assert.deepEqual(refusedFields({ services: [service(), service({ name: 'b' })] }), [
    'services[1].clusterIP',
  ])
})

test('an endpoint is a pod, never an address', () => {
  const endpoints = [{ jail: '10.0.0.1', port: 80, ready: true }]
  assert.deepEqual(
    refusedFields({ services: [service({ ports: [{ protocol: 'TCP', port: 80, endpoints }] })] }),
    ['services[0].ports[0].endpoints[0].jail'],
  )
})
