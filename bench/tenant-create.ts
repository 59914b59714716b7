/**
 * From the POST of a Tenant (class `shared`) to its API answering, through the gateway: `node bench/tenant-create.ts
 * [tenants]`. Beside it, in the same run, what the disk needs for one small durable commit.
 */
import { randomBytes } from 'node:crypto'
import { closeSync, fsyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { Agent, request } from 'undici'
import { TENANTS_PATH } from '../src/cli/index.ts'
import { issueCredentials, prepareKey, startPlatform, tenantObject, Watch } from './kit/platform.ts'
import { machineFacts, printRows } from './kit/samples.ts'

const TENANTS = Number(process.argv[2] ?? 30)
const WARM_UP = 3
const POLL_MS = 1

console.log(machineFacts())
await using platform = await startPlatform()
const { operator, layout } = platform
await using watch = await Watch.open(platform.operatorCredentials, TENANTS_PATH)

const accepted: number[] = []
const answering: number[] = []
const ready: number[] = []
const fsyncs: number[] = []
const directory = mkdtempSync(join(layout.stateDir, 'bench-'))
try {
  for (let n = 0; n < WARM_UP + TENANTS; n++) {
    const name = `t${n}-${randomBytes(3).toString('hex')}`
    const key = await prepareKey()
    const isReady = watch.when(
      `Tenant "${name}" being ready`,
      ({ object }) => object.metadata.name === name && object.status?.['phase'] === 'Ready',
    )
    const began = performance.now()
    await operator.post(TENANTS_PATH, tenantObject(name, 'shared'))
    const posted = performance.now()
    const answered = untilAnswer(name, key)
    const times = [posted - began, (await answered) - began, (await isReady) - began] as const
    if (n < WARM_UP) continue
    accepted.push(times[0])
    answering.push(times[1])
    ready.push(times[2])
    fsyncs.push(fsyncOnce(directory))
  }
} finally {
  rmSync(directory, { recursive: true, force: true })
}
printRows('Tenant create, class shared', 'ms from POST', [
  { what: 'one fsync', values: fsyncs },
  { what: 'POST answered', values: accepted, against: { what: 'one fsync' } },
  { what: "tenant's API answers", values: answering, against: { what: 'one fsync' } },
  { what: 'watch says Ready', values: ready, against: { what: 'one fsync' } },
])
const worst = [...answering].sort((a, b) => a - b)
console.log(
  `goal: under 50 ms at the median: ${worst[Math.floor(worst.length / 2)]! < 50 ? 'met' : 'MISSED'}`,
)

/** Has a certificate signed, which needs no control plane of the tenant, and asks until the tenant's API says 200. */
async function untilAnswer(name: string, key: { csr: string; key: string }): Promise<number> {
  const { server, ca, certificate } = await issueCredentials(operator, name, key)
  const agent = new Agent({ connect: { ca, cert: certificate, key: key.key } })
  try {
    for (;;) {
      const answer = await request(`${server}/api/v1/namespaces`, { dispatcher: agent })
      await answer.body.dump()
      if (answer.statusCode === 200) return performance.now()
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
  } finally {
    await agent.destroy()
  }
}

function fsyncOnce(directory: string): number {
  const began = performance.now()
  const fd = openSync(join(directory, 'file'), 'w')
  writeSync(fd, randomBytes(4_096))
  fsyncSync(fd)
  closeSync(fd)
  return performance.now() - began
}
