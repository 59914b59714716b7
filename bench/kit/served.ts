import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseTenantName } from '../../src/api/index.ts'
import type { Credentials } from '../../src/cli/index.ts'
import {
  createAuthority,
  createCsr,
  createKeyPair,
  issueServerCertificate,
  parseAndSignCsr,
  renderPrivateKey,
} from '../../src/identity/index.ts'
import { freePort } from '../../src/main/free-port.ts'

export const BENCH_TENANT = 'bench'

/**
 * One control plane and a gateway before it, each in a process of its own as on a real machine, but without root,
 * controllers or engine. Yields what its administrator needs to reach it.
 */
export async function startServed(): Promise<
  { credentials: Credentials; socketPath: string; pids: readonly number[] } & AsyncDisposable
> {
  const directory = mkdtempSync(join(tmpdir(), 'bulkhead-bench-'))
  const children: ChildProcess[] = []
  const stop = async () => {
    for (const child of children) {
      const ended = once(child, 'close')
      child.stdin?.end()
      await ended
    }
    rmSync(directory, { recursive: true, force: true })
  }
  try {
    const nowMs = Date.now()
    const clients = await createAuthority({ name: 'clients', nowMs })
    const servers = await createAuthority({ name: 'servers', nowMs })
    const server = await issueServerCertificate({
      authority: servers,
      dnsNames: ['localhost'],
      ipAddresses: ['127.0.0.1'],
      nowMs,
    })
    writeFileSync(join(directory, 'client-ca.pem'), clients.certificatePem)
    writeFileSync(join(directory, 'gateway.pem'), server.certificatePem)
    writeFileSync(join(directory, 'gateway-key.pem'), server.privateKeyPem, { mode: 0o600 })
    const keys = await createKeyPair()
    const { certificatePem } = await parseAndSignCsr({
      authority: clients,
      csrPem: await createCsr(keys),
      tenant: parseTenantName(BENCH_TENANT),
      user: 'admin',
      groups: ['bulkhead:tenant-admins'],
      nowMs,
    })
    const socketPath = join(directory, 'cp', BENCH_TENANT, 'api.sock')
    mkdirSync(dirname(socketPath), { recursive: true })
    mkdirSync(join(directory, 'tenants', BENCH_TENANT), { recursive: true })
    const port = await freePort()
    for (const args of [
      ['control-plane', directory],
      ['gateway', directory, String(port)],
    ]) {
      const program = fileURLToPath(new URL('served-process.ts', import.meta.url))
      // BENCH_PROFILE=DIR keeps a CPU profile of each.
      const profile = process.env['BENCH_PROFILE']
      const flags = profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profile}`]
      const child = spawn(process.execPath, [...flags, program, ...args], {
        stdio: ['pipe', 'pipe', 'inherit'],
      })
      children.push(child)
      const ended = once(child, 'close').then(() => {
        throw new Error(`The process "${args[0]}" ended before it was ready`)
      })
      ended.catch(() => {})
      await Promise.race([once(child.stdout, 'data'), ended])
    }
    return {
      socketPath,
      pids: children.flatMap(({ pid }) => (pid === undefined ? [] : [pid])),
      credentials: {
        server: `https://127.0.0.1:${port}/tenants/${BENCH_TENANT}`,
        ca: servers.certificatePem,
        certificate: certificatePem,
        key: await renderPrivateKey(keys),
      },
      [Symbol.asyncDispose]: stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}
