import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { type Server, createServer } from 'node:net'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { paths } from '../../src/api/index.ts'
import {
  TestHost,
  makeContainer,
  whyNoContainers,
} from '../../src/engine/local/host/container-host.testkit.ts'
import { inNamespace } from '../../src/engine/local/host/net/syscalls.ts'
import {
  type TenantPlacement,
  createPodNetwork,
  ensureRunDir,
  removeRunDir,
} from '../../src/engine/local/index.ts'
import type { JailId } from '../../src/jail/index.ts'
import { silentLogger } from '../../src/stdx/index.ts'

const skip = whyNoContainers() ?? (existsSync('/usr/bin/runsc') ? false : 'needs runsc')

test('a gVisor pod has a stack of its own, and its link keeps it within its tenant', { skip }, async () => {
  await using kit = new TestHost('tneg', 3)
  const network = createPodNetwork({ layout: kit.layout, log: silentLogger })
  await network.reset()
  ensureRunDir(kit.layout)
  const servers: Server[] = []
  try {
    await network.ensureNode()
    /** Stands in for a pod's program. Without an address the socket is born at once, while we are inside. */
    const serve = async (tenant: TenantPlacement, answer: string) => {
      await network.ensureTenant(tenant)
      const pod = { id: randomUUID() as JailId, hostname: answer, hostnameRecords: [] }
      const { net, podIP } = await network.ensurePod(tenant, pod)
      const server = createServer((socket) => socket.end(`${answer}\n`))
      servers.push(server)
      inNamespace('net', net, () => void server.listen(8080))
      await once(server, 'listening')
      return podIP
    }
    const container = makeContainer('main', 'busybox nc -ll -p 9000 -e echo served')
    const pod = await kit.pod([container], { runtime: 'gvisor', isolationClass: 'sandboxed' })
    const { placement } = pod
    const same = await serve(placement, 'same')
    const other = await serve({ ...placement, tenant: 'other' as typeof placement.tenant, index: 1 }, 'other')
    const { id, hostname } = pod.jail
    const namespaces = await network.ensurePod(placement, { id, hostname, hostnameRecords: [] })
    const started = await kit.host.start({ ...pod.spec(container), namespaces }, AbortSignal.timeout(30_000))
    const run = (script: string) => kit.host.run(id, started.containerID, ['/bin/sh', '-c', script], 20_000)
    const ask = async (address: string) => (await run(`busybox nc -w 2 ${address} 8080 < /dev/null`)).output

    assert.equal(await ask(same), 'same\n')
    assert.doesNotMatch(await ask(other), /other/)
    // The agent's probes come over the link, because the sandbox has taken the address out of the namespace.
    assert.equal(await text(await network.connect(id, 9000, AbortSignal.timeout(5_000))), 'served\n')

    const router = (...command: string[]) =>
      execFileSync('nsenter', [`--net=${paths.routerNetns(kit.layout)}`, ...command], { encoding: 'utf8' })
    router('nft', 'flush', 'ruleset')
    assert.equal(await ask(same), 'same\n')
    assert.doesNotMatch(await ask(other), /other/)
    // And without the filters too nothing stops it, so it was they.
    for (const [, link] of router('ip', '-o', 'link').matchAll(/^\d+: ([^@:]+)@/gm))
      router('tc', 'qdisc', 'delete', 'dev', link ?? '', 'clsact')
    assert.equal(await ask(other), 'other\n')
  } finally {
    for (const server of servers) server.close()
    await kit.host.reset()
    await network.reset()
    removeRunDir(kit.layout)
  }
})
