import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { type TenantNetwork, parseTenantNetwork } from '../../../../jail/index.ts'
import {
  type Ipv4,
  type RouterState,
  type ServiceTable,
  bandwidthOf,
  interfaceName,
  ipv4FromText,
  ipv4Text,
  lostBackendKey,
  nextAddress,
  noIsolation,
  parseRules,
  planLimits,
  planLostBackends,
  planNames,
  planRulesRepair,
  planServices,
  podElements,
  podMac,
  RULES_VERSION,
  renderElements,
  renderLimitsChanged,
  renderRuleset,
  renderServicesChanged,
  renderTenantAdded,
  renderTenantRemoved,
  tenantIndexOf,
  tenantPool,
  TABLE,
} from './index.ts'
import { TENANTS_MAX, TENANT_PODS_MAX } from './limits.ts'

const RUNS = { numRuns: 200 }
const index = fc.integer({ min: 0, max: TENANTS_MAX - 1 })
const canRunNft = (() => {
  try {
    execFileSync('unshare', ['--net', 'nft', 'list', 'ruleset'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})()

test('every tenant has a range of its own, and every address in it names its tenant', () => {
  fc.assert(
    fc.property(index, fc.integer({ min: 0, max: TENANT_PODS_MAX - 1 }), (tenant, offset) => {
      const { first } = tenantPool(tenant)
      assert.equal(tenantIndexOf(first + offset), tenant)
      assert.equal(tenantIndexOf(first - 1), undefined)
      assert.equal(tenantIndexOf(first + TENANT_PODS_MAX), undefined)
    }),
    RUNS,
  )
  const { first, size } = tenantPool(TENANTS_MAX - 1)
  assert.equal(ipv4Text(first + size), '10.255.255.255')
  for (const wrong of [-1, TENANTS_MAX, 1.5, Number.NaN])
    assert.throws(() => tenantPool(wrong), /has no addresses/)
})

test('text that is not an address is none', () => {
  for (const wrong of [
    '',
    '1.2.3',
    '1.2.3.4.5',
    '01.2.3.4',
    '256.1.1.1',
    '1.2.3.4 ',
    '1.2.3.4\n',
    ' 1.2.3.4',
    '::1',
    4,
    null,
    ['1.2.3.4'],
  ])
    assert.equal(ipv4FromText(wrong), undefined)
  fc.assert(
    fc.property(fc.ipV4(), (text) => assert.equal(ipv4Text(ipv4FromText(text) ?? -1), text)),
    RUNS,
  )
})

test('an address that became free is given out last', () => {
  const { first, size } = tenantPool(3)
  const used = new Set<Ipv4>()
  let last: Ipv4 | undefined
  for (let i = 0; i < size; i++) {
    last = nextAddress(3, used, last)
    assert.equal(last, first + i)
    used.add(last)
  }
  assert.throws(() => nextAddress(3, used, last), /in use/)
  used.delete(first + 5)
  used.delete(first + 9)
  assert.equal(nextAddress(3, used, first + 6), first + 9)
  assert.equal(nextAddress(3, used, last), first + 5)
})

test('links have names that the kernel takes, different ones for different pods and generations', () => {
  fc.assert(
    fc.property(index, index, fc.nat(35), (a, b, generation) => {
      const names = [tenantPool(a).first, tenantPool(b).first].map((at) =>
        interfaceName('btnet', at, generation),
      )
      for (const name of names) assert.match(name, /^[a-z0-9]{1,15}$/)
      assert.equal(names[0] === names[1], a === b)
      assert.notEqual(names[0], interfaceName('btnet', tenantPool(a).first, (generation + 1) % 36))
    }),
    RUNS,
  )
})

/** Whatever a control plane may send: mostly well formed, with the odd monster. */
const monster = fc.oneof(
  fc.string(),
  fc.constantFrom(
    '}; flush ruleset',
    '10.96.0.1; drop',
    '__proto__',
    '10.128.0.1',
    '$(reboot)',
    '"',
    '\n',
    'a . b',
    'x'.repeat(300),
  ),
)
/** Two of the jails are pods of tenant 5, two of tenant 6, two of nobody. */
const jailIds = Array.from({ length: 6 }, (_, i) => `00000000-0000-4000-8000-00000000000${i}`)

/** `odd` is how one value in ten comes out in documents that are not well formed. */
function documents(odd: fc.Arbitrary<unknown> | undefined): fc.Arbitrary<unknown> {
  const or = (usual: fc.Arbitrary<unknown>) =>
    odd === undefined ? usual : fc.oneof({ weight: 29, arbitrary: usual }, { weight: 1, arbitrary: odd })
  const number = fc.integer({ min: 1, max: 65_535 })
  const endpoint = fc.record(
    {
      jail: or(fc.constantFrom(...jailIds)),
      port: or(number),
      ready: or(fc.boolean()),
      hostname: or(fc.constantFrom('a', 'b-0')),
    },
    { requiredKeys: ['jail', 'port', 'ready'] },
  )
  const port = fc.record({
    protocol: or(fc.constantFrom('TCP', 'UDP', 'SCTP')),
    port: or(number),
    endpoints: or(fc.array(endpoint, { maxLength: 5 })),
  })
  const ports = fc.uniqueArray(port, {
    maxLength: 3,
    selector: (p) => `${String(p.protocol)} ${String(p.port)}`,
  })
  const service = fc.record(
    {
      namespace: or(fc.constantFrom('default', 'kube-system')),
      name: or(fc.constantFrom('web', 'db', 'cache', 'queue')),
      clusterIP: or(fc.nat(65_533).map((n) => `10.96.${(n + 1) >> 8}.${(n + 1) & 255}`)),
      ports: or(ports.map((all) => all.map((p, at) => ({ ...p, name: `p${at}` })))),
      sessionAffinitySeconds: or(fc.integer({ min: 1, max: 86_400 })),
      publishNotReadyAddresses: or(fc.boolean()),
    },
    { requiredKeys: ['namespace', 'name', 'ports', 'publishNotReadyAddresses'] },
  )
  const services = fc.uniqueArray(service, {
    maxLength: 4,
    selector: (s) => `${String(s.namespace)}/${String(s.name)}`,
  })
  return fc.record({ services })
}

const network = fc.oneof(documents(undefined), documents(fc.oneof(monster, fc.anything())))

function parsed(document: unknown): TenantNetwork | undefined {
  try {
    return parseTenantNetwork(document)
  } catch {
    return undefined
  }
}

const addressOf = (tenant: number) => (jail: string) => {
  const at = jailIds.indexOf(jail)
  const owner = at < 2 ? 5 : at < 4 ? 6 : undefined
  return owner === tenant ? tenantPool(tenant).first + at : undefined
}

const RULE = new RegExp(
  [
    String.raw`^add chain inet bulkhead service_6_[0-9a-f]{24}$`,
    String.raw`^add rule inet bulkhead service_6_[0-9a-f]{24} meta l4proto (tcp|udp|sctp) dnat ip to (10\.128\.40\.\d+:\d+|(numgen inc|jhash ip saddr) mod \d+( seed 0x62756c6b)? map \{( \d+ : 10\.128\.40\.\d+ \. \d+,?)+ \})$`,
    String.raw`^add element inet bulkhead services4 \{( 6 \. 10\.96\.\d+\.\d+ \. (tcp|udp|sctp) \. \d+ : goto service_6_[0-9a-f]{24},?)+ \}$`,
    String.raw`^delete element inet bulkhead services4 \{( 6 \. 10\.96\.\d+\.\d+ \. (tcp|udp|sctp) \. \d+,?)+ \}$`,
    String.raw`^(flush|delete) chain inet bulkhead service_6_[0-9a-f]{24}$`,
  ].join('|'),
)

test("no document makes a rule about anything but its tenant's own virtual addresses and own pods", () => {
  let accepted = 0
  fc.assert(
    fc.property(network, network, (first, second) => {
      const tables = [first, second].map((document) => {
        const ours = parsed(document)
        accepted += ours?.services.length ?? 0
        return ours ? planServices(5, ours, addressOf(5)) : new Map()
      }) as [ServiceTable, ServiceTable]
      for (const script of [renderServicesChanged(new Map(), tables[0]), renderServicesChanged(...tables)])
        for (const line of script.split('\n').filter((l) => l !== '')) assert.match(line, RULE)
      assert.equal(renderServicesChanged(tables[0], tables[0]), '')
    }),
    { numRuns: 500 },
  )
  assert.ok(accepted > 50, 'the generator makes documents that are accepted')
})

test('the UDP endpoints that go are those that a later document lacks, and none that stays', () => {
  fc.assert(
    fc.property(network, network, (first, second) => {
      const [from, to] = [first, second].map((document) => {
        const ours = parsed(document)
        return ours ? planServices(5, ours, addressOf(5)) : new Map()
      }) as [ServiceTable, ServiceTable]
      const keys = (table: ServiceTable) =>
        new Set(planLostBackends(table, new Map()).map((lost) => lostBackendKey(lost)))
      const lost = new Set(planLostBackends(from, to).map((each) => lostBackendKey(each)))
      assert.deepEqual(lost, keys(from).difference(keys(to)))
      assert.deepEqual(planLostBackends(from, from), [])
      for (const { backend } of planLostBackends(from, to)) assert.equal(tenantIndexOf(backend.address), 5)
    }),
    RUNS,
  )
})

test("no document names another tenant's pod, nor anything outside the zone", () => {
  fc.assert(
    fc.property(network, fc.array(monster), (document, hostnameRecords) => {
      const ours = parsed(document)
      if (!ours) return
      const { records } = planNames(ours, [{ address: tenantPool(5).first, hostnameRecords }], addressOf(5))
      for (const record of records) {
        assert.match(record.name, /^[-a-z0-9_.]+\.(cluster\.local|in-addr\.arpa)$/)
        const address = record.type === 'A' ? ipv4FromText(record.data) : undefined
        if (record.type === 'A')
          assert.ok(record.data.startsWith('10.96.') || tenantIndexOf(address ?? 0) === 5, record.data)
      }
    }),
    RUNS,
  )
})

function stateOf(documents: readonly unknown[]): RouterState {
  const tenants = [5, 6]
  const services = new Map<number, ServiceTable>()
  for (const [at, document] of documents.entries()) {
    const ours = parsed(document)
    if (ours && at < 2) services.set(at + 5, planServices(at + 5, ours, addressOf(at + 5)))
  }
  const pods = jailIds.slice(0, 4).map((_, at) => {
    const tenant = at < 2 ? 5 : 6
    const address = tenantPool(tenant).first + at
    return { interfaceName: interfaceName('bh', address, 0), address, index: tenant }
  })
  const bits = 1_000 + JSON.stringify(documents).length ** 3
  const limits = [
    ...planLimits(5, bandwidthOf({ ingressBitsPerSecond: bits })),
    ...planLimits(6, bandwidthOf(undefined)),
  ]
  return { tenants, pods, services, isolation: noIsolation(), limits }
}

test(
  'nft takes every ruleset that documents lead to, and what it then says needs no repair',
  { skip: !canRunNft },
  () => {
    const dir = mkdtempSync(join(tmpdir(), 'bulkhead-plan-'))
    try {
      const samples = fc.sample(fc.tuple(network, network), { numRuns: 40, seed: 7 })
      const states = [stateOf([]), ...samples.map(stateOf)].filter(
        (s, i) => i === 0 || [...s.services.values()].some((t) => t.size > 0),
      )
      assert.ok(states.length > 5)
      for (const [at, state] of states.entries()) {
        const file = join(dir, `${at}.nft`)
        const before = states[at - 1]
        writeFileSync(file, renderRuleset(state))
        writeFileSync(`${file}.again`, renderRuleset(state))
        // From one state to the next in place, tenant by tenant, and back to nothing.
        const changes = [5, 6].map((t) =>
          renderServicesChanged(state.services.get(t) ?? new Map(), before?.services.get(t) ?? new Map()),
        )
        const gone = [5, 6].map((t) => renderServicesChanged(before?.services.get(t) ?? new Map(), new Map()))
        writeFileSync(
          `${file}.changes`,
          [
            ...changes,
            ...gone,
            renderElements('delete', state.pods.flatMap(podElements)),
            renderLimitsChanged(state.limits, before?.limits ?? []),
            renderLimitsChanged(before?.limits ?? [], []),
            ...[5, 6].map(renderTenantRemoved),
            renderTenantAdded(9),
          ].join('\n'),
        )
        const script = `nft -c -f ${file} && nft -f ${file} && nft -f ${file}.again && nft -j list table inet ${TABLE} && nft -f ${file}.changes`
        const listed: unknown = JSON.parse(
          execFileSync('unshare', ['--net', 'sh', '-ec', script], { encoding: 'utf8' }),
        )
        const observed = parseRules(listed)
        assert.equal(observed?.version, RULES_VERSION)
        assert.equal(planRulesRepair(observed, state), '')
      }
    } finally {
      rmSync(dir, { recursive: true })
    }
  },
)

test('rules of another version, or none, are replaced as a whole; a difference is repaired by itself', () => {
  const state = stateOf([])
  const [pod] = state.pods
  assert.ok(pod)
  const observed = {
    version: RULES_VERSION,
    tenants: state.tenants,
    elements: state.pods.flatMap(podElements),
    services: new Map<string, string>(),
    chains: [],
    isolation: noIsolation(),
    limits: state.limits,
  }
  assert.equal(planRulesRepair(observed, state), '')
  assert.equal(planRulesRepair(undefined, state), renderRuleset(state))
  assert.equal(planRulesRepair({ ...observed, version: 'version_0' }, state), renderRuleset(state))
  assert.equal(
    planRulesRepair({ ...observed, tenants: [5, 7], elements: observed.elements.slice(1) }, state),
    [
      renderTenantRemoved(7),
      renderTenantAdded(6),
      renderElements('add', podElements(pod).slice(0, 1)),
      '',
    ].join('\n'),
  )
  assert.equal(
    planRulesRepair(
      {
        ...observed,
        services: new Map([['6 . 10.96.0.1 . tcp . 80', 'service_6_x']]),
        chains: ['service_6_x'],
      },
      state,
    ),
    `delete element inet ${TABLE} services4 { 6 . 10.96.0.1 . tcp . 80 }\nflush chain inet ${TABLE} service_6_x\ndelete chain inet ${TABLE} service_6_x\n`,
  )
  fc.assert(
    fc.property(fc.anything(), (anything) => void parseRules(anything)),
    RUNS,
  )
  assert.equal(parseRules({ nftables: [{ set: { name: 'pair', elem: [{ concat: [1, 2] }] } }] }), undefined)
})

test('the hardware address of a pod is a local unicast one and follows from its address', () => {
  fc.assert(
    fc.property(index, (tenant) => {
      const [first = ''] = podMac(tenantPool(tenant).first).split(':')
      assert.equal(Number.parseInt(first, 16) & 3, 2)
    }),
    RUNS,
  )
})
