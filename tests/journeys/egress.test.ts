import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, fork } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { until } from '../../src/stdx/index.ts'
import { gvisorMissing } from '../testkit/machine.ts'
import { pod } from '../testkit/manifests.ts'
import { vectorsOf, verify } from '../testkit/proof.ts'
import { TestPlatform } from '../testkit/platform.ts'
import { type Registry, startBusyboxRegistry } from '../testkit/registry.ts'

/**
 * Egress as an operator and a tenant meet it. The whole platform runs in a network namespace that stands for the
 * machine, beside another one that stands for the outside, so the test runs itself again in there.
 */

const INSIDE = 'BULKHEAD_TEST_INSIDE'
const [MACHINE, OUTSIDE] = ['egj-machine', 'egj-outside']
const GOOD = '203.0.113.10'
const TENANTS = ['red', 'blue'] as const
const inside = process.env[INSIDE] === '1'
const skip = gvisorMissing

if (!inside) {
  test('the journey, in a machine of its own', { skip, timeout: 300_000 }, () => {
    removeNamespaces()
    try {
      makeNamespaces()
      // A test that runs tests is one of the outer run otherwise, and reports to it instead of failing.
      const { NODE_TEST_CONTEXT: _outer, ...env } = process.env
      execFileSync('nsenter', [`--net=/run/netns/${MACHINE}`, process.execPath, import.meta.filename], {
        env: { ...env, [INSIDE]: '1' },
        stdio: 'inherit',
      })
    } finally {
      removeNamespaces()
    }
  })
} else {
  let platform: TestPlatform
  let registry: Registry
  const peers: ChildProcess[] = []

  before(async () => {
    peers.push(await peer('../isolation/egress-names.ts', [nameserver()]))
    peers.push(await peer('../testkit/network-peer.ts', ['outside']))
    peers[0]?.send({ zone: { 'api.example.com': { addresses: [GOOD] } } })
    for (const port of [80, 443])
      peers[1]?.send({ sequence: port, request: { do: 'listen', protocol: 'tcp', port } })
    registry = await startBusyboxRegistry()
    platform = await TestPlatform.start({
      instance: 'egj',
      slot: 41,
      tenants: [
        { name: 'red', registries: [registry.host] },
        { name: 'blue', trust: 'untrusted', registries: [registry.host] },
      ],
    })
    for (const tenant of TENANTS) {
      await platform.apply(tenant, [
        pod({
          name: 'idle',
          image: `${registry.host}/busybox:1`,
          script: 'trap exit TERM; sleep 3600 & wait',
        }),
      ])
      await platform.mustKubectl(tenant, 'wait', '--for=condition=Ready', 'pod/idle', '--timeout=90s')
    }
  })

  after(async () => {
    await platform?.[Symbol.asyncDispose]()
    await registry?.[Symbol.asyncDispose]()
    for (const each of peers) each.kill('SIGKILL')
  })

  /** What an address outside answers, asked by its name or number from inside a pod. */
  const ask = async (tenant: string, host: string, port = 443) => {
    const command = `timeout 4 nc ${host} ${port} </dev/null`
    return (await platform.kubectl(tenant, 'exec', 'idle', '--', 'sh', '-c', command)).stdout
  }

  const egress = async (tenant: (typeof TENANTS)[number], rules: string) => {
    const file = join('/tmp', `egj-${tenant}.yaml`)
    const trust = tenant === 'red' ? 'trust: trusted, code: own' : 'trust: untrusted, code: thirdParty'
    writeFileSync(
      file,
      `apiVersion: tenancy.bulkhead.dev/v1alpha1\nkind: Tenant\nmetadata: { name: ${tenant} }\nspec: { ${trust}, registries: ["${registry.host}"]${rules} }\n`,
    )
    return await platform.cli('tenant', 'apply', '-f', file)
  }

  for (const tenant of TENANTS)
    test(`a pod of ${tenant} reaches what its tenant may, on its runtime, and nothing before or else`, async () => {
      assert.equal(await ask(tenant, 'api.example.com'), '')
      assert.equal(
        (await egress(tenant, ', egress: { allow: [{ host: api.example.com, reason: payments }] }')).code,
        0,
      )
      await until(async () => (await ask(tenant, 'api.example.com')).startsWith('outside'), {
        timeoutMs: 20_000,
      })
      assert.equal(await ask(tenant, GOOD, 80), '')
    })

  test('the proof holds with a way outside, and says what closes it', async () => {
    const report = await verify(platform)
    const vectors = vectorsOf(report)
    assert.deepEqual(
      vectors.filter(({ state }) => state === 'fails'),
      [],
    )
    assert.equal(report.code, 0)
    const layers = vectors
      .filter(({ vector }) => vector === 'metadata and host services')
      .flatMap(({ layers: all }) => all)
    // The filters of the links let pods out that may go out.
    assert.deepEqual([...new Set(layers.filter(({ holds }) => holds).map(({ layer }) => layer))].sort(), [
      'router rules',
      'uplink filter',
    ])
  })

  test('the operator sees the rules and their use, and what was wanted; the pod has an event', async () => {
    await until(
      async () => /api\.example\.com +443 +all +[1-9]/.test(await platform.mustCli('egress', 'show', 'red')),
      { timeoutMs: 20_000 },
    )
    assert.match(await platform.mustCli('egress', 'show', 'red'), /203\.0\.113\.10|api\.example\.com +80/)
    assert.match(await platform.mustCli('egress', 'list'), /blue +Enforce +1/)
    assert.match(await platform.mustCli('egress', 'suggest', 'red'), /host: api\.example\.com/)
    await until(async () => (await platform.mustKubectl('red', 'get', 'events')).includes('EgressBlocked'), {
      timeoutMs: 20_000,
    })
  })

  test('the tenant sees with kubectl what is open for it and what was blocked, without what is the operator’s', async () => {
    const shown = async () => await platform.mustKubectl('red', 'get', 'egress')
    await until(async () => /Open +api\.example\.com +443 +<none> +<never> +[1-9]/.test(await shown()), {
      timeoutMs: 20_000,
    })
    assert.match(await shown(), /^NAME +STATE +DESTINATION +PORTS +PODS +UNTIL +COUNT +LAST/)
    await ask('red', 'evil.example.com')
    await until(async () => /Blocked +evil\.example\.com +<name>/.test(await shown()), { timeoutMs: 20_000 })
    const whole = await platform.mustKubectl('red', 'get', 'egress', '-A', '-o', 'yaml')
    assert.doesNotMatch(whole, /payments/)
    assert.match(await platform.mustKubectl('red', 'explain', 'egress.state'), /Blocked was wanted/)
    const tried = await platform.kubectl('red', 'delete', 'egress', '--all')
    assert.notEqual(tried.code, 0)
    assert.doesNotMatch(await platform.mustKubectl('blue', 'get', 'egress'), /evil/)
  })

  for (const tenant of TENANTS)
    test(`${tenant} narrows what its pods reach outside by a policy of its own, and cannot widen it`, async () => {
      const narrow = async (allow: unknown[]) =>
        platform.apply(tenant, [
          {
            apiVersion: 'network.bulkhead.dev/v1alpha1',
            kind: 'EgressPolicy',
            metadata: { name: 'narrow' },
            spec: { podSelector: { matchLabels: { app: 'narrow' } }, allow },
          },
        ])
      const reaches = (wanted: boolean, host = 'api.example.com') =>
        until(async () => (await ask(tenant, host)).startsWith('outside') === wanted, {
          what: `${host} ${wanted ? 'open' : 'closed'}`,
          timeoutMs: 30_000,
        })
      await narrow([{ host: 'other.example.com' }, { cidr: '0.0.0.0/0', ports: ['1-65535'] }])
      await reaches(true)
      await platform.mustKubectl(tenant, 'label', 'pod/idle', 'app=narrow')
      await reaches(false)
      await reaches(false, GOOD)
      assert.match(
        await platform.mustKubectl(tenant, 'get', 'egresspolicies'),
        /narrow +app=narrow +other\.example\.com,0\.0\.0\.0\/0/,
      )
      await narrow([{ host: '*.example.com', ports: [443, 80] }])
      await reaches(true)
      // The operator opened 443 only.
      assert.equal(await ask(tenant, 'api.example.com', 80), '')
      await narrow([])
      await reaches(false)
      await platform.mustKubectl(tenant, 'delete', 'egresspolicy', 'narrow')
      await reaches(true)
    })

  test('rules that are none are refused at once, each with its field', async () => {
    const wrong = [
      ['{ host: "*.com" }', /at least two labels/],
      ['{ host: "a.b\\n}" }', /host name in lower case/],
      ['{ cidr: "203.0.113.7/24" }', /IPv4 network/],
      ['{ cidr: "0.0.0.0/0", ports: ["1-70000"] }', /must be like 443/],
      ['{ host: a.example.com, cidr: "1.0.0.0/8" }', /either a host or a cidr/],
    ] as const
    for (const [rule, why] of wrong) {
      const { code, stderr } = await egress('red', `, egress: { allow: [${rule}] }`)
      assert.equal(code, 1)
      assert.match(stderr, why)
    }
  })
}

function nameserver(): string {
  return (
    /^nameserver (\d+\.\d+\.\d+\.\d+)/m.exec(readFileSync('/etc/resolv.conf', 'utf8'))?.[1] ?? '203.0.113.53'
  )
}

async function peer(file: string, args: string[]): Promise<ChildProcess> {
  const program = new URL(file, import.meta.url).pathname
  const child = fork(program, args, {
    execPath: '/usr/bin/nsenter',
    execArgv: [`--net=/run/netns/${OUTSIDE}`, process.execPath],
  })
  await new Promise<void>((resolve, reject) => {
    child.once('message', () => resolve())
    child.once('exit', (code) => reject(new Error(`${file} ended with ${code}`)))
  })
  return child
}

function makeNamespaces(): void {
  const ip = (...args: string[]) => execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] })
  for (const name of [MACHINE, OUTSIDE]) ip('netns', 'add', name)
  ip('-n', MACHINE, 'link', 'add', 'out0', 'type', 'veth', 'peer', 'name', 'in0', 'netns', OUTSIDE)
  for (const [name, link, address] of [
    [MACHINE, 'out0', '198.51.100.2/24'],
    [OUTSIDE, 'in0', '198.51.100.1/24'],
  ] as const) {
    ip('-n', name, 'link', 'set', 'lo', 'up')
    ip('-n', name, 'address', 'add', address, 'dev', link)
    ip('-n', name, 'link', 'set', link, 'up')
  }
  ip('-n', MACHINE, 'route', 'add', 'default', 'via', '198.51.100.1')
  for (const address of [GOOD, nameserver()])
    ip('-n', OUTSIDE, 'address', 'add', `${address}/32`, 'dev', 'lo')
}

function removeNamespaces(): void {
  for (const name of [MACHINE, OUTSIDE])
    if (existsSync(`/run/netns/${name}`)) execFileSync('ip', ['netns', 'delete', name])
}
