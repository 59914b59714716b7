import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import {
  applyDefaults,
  checkObject,
  containsBlock,
  networkPolicyDefinition,
  parseIpBlock,
  rangeOf,
  validateObject,
  type WriteContext,
} from '../index.ts'

const context = {
  user: { kind: 'tenantUser', tenant: 'red', name: 'ann', groups: [] },
  nowMs: 0,
} as unknown as WriteContext

function write(spec: object) {
  const checked = checkObject(networkPolicyDefinition, { metadata: { name: 'web', namespace: 'a' }, spec })
  const object = applyDefaults(networkPolicyDefinition, checked.object)
  object.metadata = {
    ...object.metadata,
    uid: 'u',
    resourceVersion: '1',
    creationTimestamp: '2026-01-01T00:00:00Z',
  }
  const problems = [
    ...checked.errors,
    ...(checked.errors.length > 0 ? [] : validateObject(networkPolicyDefinition, object, context)),
  ]
  return {
    spec: (object as unknown as { spec: Record<string, unknown> }).spec,
    problems: problems.map(({ field, message }) => `${field}: ${message}`),
  }
}

test('what is left out is filled in as upstream does', () => {
  assert.deepEqual(write({}).spec, { podSelector: {}, policyTypes: ['Ingress'] })
  assert.deepEqual(write({ egress: [{}] }).spec['policyTypes'], ['Ingress', 'Egress'])
  assert.deepEqual(write({ egress: [] }).spec['policyTypes'], ['Ingress'])
  assert.deepEqual(write({ policyTypes: ['Egress'] }).spec['policyTypes'], ['Egress'])
  assert.deepEqual(write({ ingress: [{ ports: [{ port: 80 }, {}] }] }).spec['ingress'], [
    { ports: [{ port: 80, protocol: 'TCP' }, { protocol: 'TCP' }] },
  ])
})

test('what is wrong is said in the words of upstream', () => {
  const cases: [object, string[]][] = [
    [
      { ingress: [{ ports: [{ port: 0 }, { port: 65_536 }, { port: 'Not a port' }] }] },
      [
        'spec.ingress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive',
        'spec.ingress[0].ports[1].port: Invalid value: 65536: must be between 1 and 65535, inclusive',
        'spec.ingress[0].ports[2].port: Invalid value: "Not a port": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)',
      ],
    ],
    [
      {
        egress: [
          {
            ports: [
              { endPort: 90 },
              { port: 'http', endPort: 90 },
              { port: 80, endPort: 79 },
              { port: 80, endPort: 70_000 },
            ],
          },
        ],
      },
      [
        'spec.egress[0].ports[0].endPort: Invalid value: 90: may not be specified when `port` is not specified',
        'spec.egress[0].ports[1].endPort: Invalid value: 90: may not be specified when `port` is non-numeric',
        'spec.egress[0].ports[2].endPort: Invalid value: 80: must be greater than or equal to `port`',
        'spec.egress[0].ports[3].endPort: Invalid value: 70000: must be between 1 and 65535, inclusive',
      ],
    ],
    [{ ingress: [{ from: [{}] }] }, ['spec.ingress[0].from[0]: Required value: must specify a peer']],
    [
      { egress: [{ to: [{ podSelector: {}, ipBlock: { cidr: '10.0.0.0/8' } }] }] },
      ['spec.egress[0].to[0]: Forbidden: may not specify both ipBlock and another peer'],
    ],
    [
      {
        egress: [
          {
            to: ['', '10.0.0.0', '10.0.0.0/33', '010.0.0.0/8', '10.0.0.0/8\n'].map((cidr) => ({
              ipBlock: { cidr },
            })),
          },
        ],
      },
      [
        'spec.egress[0].to[0].ipBlock.cidr: Required value',
        ...['10.0.0.0', '10.0.0.0/33', '010.0.0.0/8', '10.0.0.0/8\\n'].map(
          (cidr, at) =>
            `spec.egress[0].to[${at + 1}].ipBlock.cidr: Invalid value: "${cidr}": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)`,
        ),
      ],
    ],
    [
      {
        ingress: [
          {
            from: [
              {
                ipBlock: {
                  cidr: '10.0.0.0/8',
                  except: ['10.1.0.0/16', '10.0.0.0/8', '11.0.0.0/16', 'fd00::/8', 'x'],
                },
              },
            ],
          },
        ],
      },
      [
        ...['10.0.0.0/8', '11.0.0.0/16', 'fd00::/8'].map(
          (cidr, at) =>
            `spec.ingress[0].from[0].ipBlock.except[${at + 1}]: Invalid value: "${cidr}": must be a strict subset of \`cidr\``,
        ),
        'spec.ingress[0].from[0].ipBlock.except[4]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)',
      ],
    ],
    [
      { policyTypes: ['Both'] },
      ['spec.policyTypes[0]: Unsupported value: "Both": supported values: "Egress", "Ingress"'],
    ],
    [
      { policyTypes: ['Ingress', 'Egress', 'Ingress'] },
      [
        'spec.policyTypes: Invalid value: ["Ingress","Egress","Ingress"]: may not specify more than two policyTypes',
      ],
    ],
    [
      { ingress: [{ ports: [{ protocol: 'ICMP' }] }] },
      [
        'spec.ingress[0].ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"',
      ],
    ],
  ]
  for (const [spec, problems] of cases) assert.deepEqual(write(spec).problems, problems)
})

test('a policy that would be too much for anybody is refused, and says what to do', () => {
  const many = (count: number, item: object) => Array.from({ length: count }, () => item)
  assert.deepEqual(write({ ingress: many(257, {}) }).problems, [
    'spec.ingress: Too many: 257: must have at most 256 items',
  ])
  assert.deepEqual(
    write({ egress: [{ ports: many(257, { port: 1 }), to: many(257, { podSelector: {} }) }] }).problems,
    [
      'spec.egress[0].ports: Too many: 257: must have at most 256 items',
      'spec.egress[0].to: Too many: 257: must have at most 256 items',
    ],
  )
  assert.deepEqual(write({ ingress: many(5, { ports: many(250, { port: 1 }) }) }).problems, [
    'spec: Forbidden: rules, peers, exceptions and ports together are 1255, more than 1024; write several policies',
  ])
})

test('IPv6 blocks are read, whatever way they are written', () => {
  assert.deepEqual(
    write({ egress: [{ to: [{ ipBlock: { cidr: '::/0', except: ['fd00::/8'] } }] }] }).problems,
    [],
  )
  const same = ['2001:db8::/32', '2001:0db8:0000::/32', '2001:db8:0:0:0:0:0:0/32', '2001:DB8::1/32']
  for (const text of same) assert.deepEqual(parseIpBlock(text), parseIpBlock(same[0] ?? ''))
  assert.equal(parseIpBlock('::ffff:10.0.0.0/104'), undefined)
})

test('a block contains itself and its halves, and text that is none is none', () => {
  fc.assert(
    fc.property(fc.ipV4(), fc.integer({ min: 0, max: 31 }), (address, bits) => {
      const block = parseIpBlock(`${address}/${bits}`)
      assert.ok(block)
      const { first, last } = rangeOf(block)
      assert.equal(last - first + 1n, 1n << BigInt(32 - bits))
      const half = parseIpBlock(`${address}/${bits + 1}`)
      assert.ok(
        half && containsBlock(block, half) && !containsBlock(half, block) && containsBlock(block, block),
      )
    }),
  )
  fc.assert(
    fc.property(fc.ipV6(), fc.integer({ min: 0, max: 128 }), (address, bits) => {
      const block = parseIpBlock(`${address}/${bits}`)
      if (address.includes('.')) assert.equal(block, undefined)
      else assert.equal(block?.family, 6)
    }),
  )
  fc.assert(fc.property(fc.string(), (text) => void parseIpBlock(text)))
})

test('no spec makes validation throw', () => {
  const block = fc.record(
    { cidr: fc.string(), except: fc.array(fc.string(), { maxLength: 3 }) },
    { requiredKeys: ['cidr'] },
  )
  const peer = fc.record({ ipBlock: block, podSelector: fc.constant({}) }, { requiredKeys: [] })
  const port = fc.record(
    {
      port: fc.oneof(fc.integer({ min: -9, max: 99_999 }), fc.string()),
      endPort: fc.integer({ min: -9, max: 99_999 }),
    },
    { requiredKeys: [] },
  )
  const rule = fc.record({ from: fc.array(peer), ports: fc.array(port) }, { requiredKeys: [] })
  fc.assert(fc.property(fc.array(rule), (ingress) => void write({ ingress })))
})
