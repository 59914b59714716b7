import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Agent } from 'undici'
import { parse, stringify } from 'yaml'
import { type Layout, parseLayout, paths } from '../../src/api/index.ts'
import { until } from '../../src/stdx/index.ts'
import { KUBECTL, leftovers, observeProcess } from './machine.ts'

const CLI = new URL('../../src/main/cli.ts', import.meta.url).pathname
const COMMAND_TIMEOUT_MS = 90_000
const REQUEST_TIMEOUT_MS = 20_000

export type Ran = { code: number; stdout: string; stderr: string }
export type RunOptions = {
  input?: string
  /** Ends the command as soon as its output says this. */
  untilOutput?: RegExp
  timeoutMs?: number
  cwd?: string
  /** Ends the command, as Ctrl-C would. */
  signal?: AbortSignal
  /** Called with every piece of output as it comes. */
  onOutput?: (text: string) => void
}

export type TestTenant = {
  name: string
  /** `trusted` tenants run on the machine's kernel, `untrusted` ones on gVisor's. */
  trust?: 'trusted' | 'untrusted'
  registries?: readonly string[]
  /** Hosts and ports that the outside reaches it under. */
  ingress?: { hosts?: readonly string[]; ports?: readonly (number | string)[] }
  /** Whatever else the operator may write into its spec. */
  spec?: Readonly<Record<string, unknown>>
}

export type TestPlatformOptions = {
  /** Up to four characters; with `slot` it must be one test file's own, because files run side by side. */
  instance: string
  slot: number
  tenants: readonly TestTenant[]
  /** What the operator sets besides, such as BULKHEAD_UPLINK. */
  env?: Readonly<Record<string, string>>
}

/**
 * A real platform with real tenants, started through the bulkhead command as an operator would, and driven with the
 * real kubectl. Disposing resets it and fails if anything of it is left on the machine.
 */
export class TestPlatform implements AsyncDisposable {
  readonly layout: Layout
  private readonly directory: string
  private readonly env: Record<string, string>
  private readonly agents = new Map<string, { server: string; agent: Agent }>()

  private constructor(
    layout: Layout,
    slot: number,
    directory: string,
    env: Readonly<Record<string, string>>,
  ) {
    this.layout = layout
    this.directory = directory
    this.env = {
      PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      HOME: directory,
      NO_COLOR: '1',
      BULKHEAD_INSTANCE: layout.instance,
      BULKHEAD_SLOT: String(slot),
      BULKHEAD_STATE_DIR: layout.stateDir,
      ...env,
    }
  }

  static async start({ instance, slot, tenants, env = {} }: TestPlatformOptions): Promise<TestPlatform> {
    // Below /var/lib and with this name, because a reset there spares the daemons' users as long as another is there.
    const layout = parseLayout({
      BULKHEAD_INSTANCE: instance,
      BULKHEAD_SLOT: String(slot),
      BULKHEAD_STATE_DIR: `/var/lib/bulkhead-${instance}`,
      ...env,
    })
    const directory = await mkdtemp(join(tmpdir(), `bulkhead-${instance}-`))
    const platform = new TestPlatform(layout, slot, directory, env)
    try {
      // Of a run that was killed.
      if (leftovers(layout).length > 0) await platform.mustCli('reset', '--yes')
      await mkdir(layout.stateDir, { recursive: true, mode: 0o711 })
      await platform.mustCli('up')
      if (tenants.length > 0) await platform.applyTenants(tenants)
      return platform
    } catch (error) {
      await platform[Symbol.asyncDispose]().catch(() => {})
      throw error
    }
  }

  /** Creates or changes tenants, waits until they are ready, and issues their administrators' kubeconfigs. */
  async applyTenants(tenants: readonly TestTenant[]): Promise<void> {
    const file = join(this.directory, 'tenants.yaml')
    const documents = tenants.map(({ name, trust = 'trusted', registries = [], ingress, spec = {} }) =>
      stringify({
        apiVersion: 'tenancy.bulkhead.dev/v1alpha1',
        kind: 'Tenant',
        metadata: { name },
        spec: {
          trust,
          code: trust === 'trusted' ? 'own' : 'thirdParty',
          registries: [...registries],
          ...(ingress ? { ingress } : {}),
          ...spec,
        },
      }),
    )
    await writeFile(file, documents.join('---\n'))
    await this.mustCli('tenant', 'apply', '-f', file)
    for (const { name } of tenants) await this.mustCli('kubeconfig', name, '-f', this.kubeconfig(name))
  }

  kubeconfig(tenant: string): string {
    return join(this.directory, `${tenant}.kubeconfig`)
  }

  /** The bulkhead command of this instance. Never throws for an exit code. */
  cli(...args: string[]): Promise<Ran> {
    return run(process.execPath, [CLI, ...args], this.env, {})
  }

  /** @throws when the command fails, with what it said. */
  async mustCli(...args: string[]): Promise<string> {
    return must(await this.cli(...args), `bulkhead ${args.join(' ')}`)
  }

  /** The real kubectl with a tenant's kubeconfig. Never throws for an exit code. */
  kubectl(tenant: string, ...args: string[]): Promise<Ran> {
    return this.runKubectl(tenant, args)
  }

  runKubectl(tenant: string, args: readonly string[], options: RunOptions = {}): Promise<Ran> {
    const own = [
      '--kubeconfig',
      this.kubeconfig(tenant),
      '--cache-dir',
      join(this.directory, `cache-${tenant}`),
    ]
    return run(KUBECTL, [...own, ...args], this.env, { cwd: this.directory, ...options })
  }

  /** @throws when kubectl fails, with what it said. */
  async mustKubectl(tenant: string, ...args: string[]): Promise<string> {
    return must(await this.runKubectl(tenant, args), `kubectl ${args.join(' ')} as ${tenant}`)
  }

  /** `kubectl apply -f -` of manifests: YAML text, or objects. */
  async apply(tenant: string, manifests: string | readonly object[]): Promise<string> {
    const input = typeof manifests === 'string' ? manifests : manifests.map((m) => stringify(m)).join('---\n')
    return must(await this.runKubectl(tenant, ['apply', '-f', '-'], { input }), `kubectl apply as ${tenant}`)
  }

  async getJson<T>(tenant: string, ...args: string[]): Promise<T> {
    return JSON.parse(await this.mustKubectl(tenant, 'get', ...args, '-o', 'json')) as T
  }

  /** An HTTPS request with a tenant's client certificate, for what kubectl would never send. */
  async request(
    tenant: string,
    path: string,
    {
      method = 'GET',
      headers = {},
      body = null,
      server,
    }: {
      method?: string
      headers?: Record<string, string>
      body?: string | Uint8Array | null
      /** Instead of the tenant's own URL. */
      server?: string
    } = {},
  ): Promise<{ code: number; body: string; headers: Record<string, string | string[] | undefined> }> {
    const client = await this.agentOf(tenant)
    const url = new URL(server ?? client.server)
    const answer = await client.agent.request({
      origin: url.origin,
      // Passed as it is: `new URL` would tidy the dots away that we want to attack with.
      path: `${url.pathname.replace(/\/$/, '')}${path}`,
      method,
      headers,
      body,
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
    })
    return { code: answer.statusCode, body: await answer.body.text(), headers: answer.headers }
  }

  /** Daemons by name, with what the kernel knows about each. Those that do not run are absent. */
  daemons(): Map<string, { pid: number; uid: number; startTicks: string }> {
    const dir = join(this.layout.runDir, 'daemons')
    return new Map(
      readdirSync(dir).flatMap((file) => {
        if (!file.endsWith('.json')) return []
        const record = JSON.parse(readFileSync(join(dir, file), 'utf8')) as {
          pid: number
          startTicks: string
        }
        const seen = observeProcess(record.pid)
        if (!seen || seen.startTicks !== record.startTicks) return []
        return [
          [file.slice(0, -'.json'.length), { pid: seen.pid, uid: seen.uid, startTicks: seen.startTicks }],
        ]
      }),
    )
  }

  /** The log of every daemon, by its name. */
  async daemonLogs(): Promise<Map<string, string>> {
    const names = readdirSync(join(this.layout.stateDir, 'logs')).map((file) => file.replace(/\.log$/, ''))
    const texts = names.map(
      async (name) => [name, await readFile(paths.daemonLog(this.layout, name), 'utf8')] as const,
    )
    return new Map(await Promise.all(texts))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { agent } of this.agents.values()) await agent.destroy()
    this.agents.clear()
    if (process.env['BULKHEAD_TESTS_KEEP'] === '1') return
    const reset = await this.cli('reset', '--yes')
    await rm(this.directory, { recursive: true, force: true })
    assert.equal(reset.code, 0, `bulkhead reset --yes failed: ${reset.stderr}`)
    // What the kernel takes down on its own may need a moment: namespaces and cgroups die after their last process.
    await until(() => leftovers(this.layout).length === 0, { timeoutMs: 5_000 }).catch(() => {})
    assert.deepEqual(leftovers(this.layout), [], 'a reset leaves nothing of the platform on the machine')
  }

  private async agentOf(tenant: string): Promise<{ server: string; agent: Agent }> {
    const known = this.agents.get(tenant)
    if (known) return known
    const credentials = await this.credentials(tenant)
    const agent = new Agent({
      connect: { ca: credentials.ca, cert: credentials.certificate, key: credentials.key },
    })
    const made = { server: credentials.server, agent }
    this.agents.set(tenant, made)
    return made
  }

  async credentials(
    tenant: string,
  ): Promise<{ server: string; ca: string; certificate: string; key: string }> {
    const document = parse(await readFile(this.kubeconfig(tenant), 'utf8')) as {
      clusters: [{ cluster: Record<string, string> }]
      users: [{ user: Record<string, string> }]
    }
    const { cluster } = document.clusters[0]
    const { user } = document.users[0]
    const text = (base64: string | undefined) => Buffer.from(base64 ?? '', 'base64').toString()
    return {
      server: cluster['server'] ?? '',
      ca: text(cluster['certificate-authority-data']),
      certificate: text(user['client-certificate-data']),
      key: text(user['client-key-data']),
    }
  }
}

function must(ran: Ran, what: string): string {
  assert.equal(ran.code, 0, `${what} ended with ${ran.code}\n${ran.stderr}${ran.stdout}`)
  return ran.stdout
}

/** Runs a program to its end. Never throws for an exit code; 128 + 9 when it had to be killed. */
export async function run(
  program: string,
  args: readonly string[],
  env: Record<string, string>,
  { input = '', untilOutput, timeoutMs = COMMAND_TIMEOUT_MS, cwd = '/', signal, onOutput }: RunOptions,
): Promise<Ran> {
  const child = spawn(program, args, { env, cwd })
  const out: Buffer[] = []
  const err: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => {
    out.push(chunk)
    onOutput?.(chunk.toString())
    if (untilOutput?.test(Buffer.concat(out).toString())) child.kill('SIGTERM')
  })
  child.stderr.on('data', (chunk: Buffer) => err.push(chunk))
  // A command that ends without reading says so by its exit code.
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  signal?.addEventListener('abort', () => child.kill('SIGINT'), { once: true })
  const deadline = setTimeout(() => child.kill('SIGKILL'), timeoutMs)
  const code = await new Promise<number>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (exit, signal) => resolve(exit ?? 128 + (signal === 'SIGKILL' ? 9 : 15)))
  }).finally(() => clearTimeout(deadline))
  return { code, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() }
}
