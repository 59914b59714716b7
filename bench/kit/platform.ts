import { cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Agent, request } from 'undici'
import { type Layout, parseLayout, paths } from '../../src/api/index.ts'
import { ControlPlaneClient, type Credentials, readKubeconfig, TENANTS_PATH } from '../../src/cli/index.ts'
import { createCsr, createKeyPair, renderPrivateKey } from '../../src/identity/index.ts'
import { type MachineContext, reset, up } from '../../src/main/machine.ts'
import { busyboxImage } from '../../samples/images/build.ts'
import { pushImage } from '../../samples/images/push.ts'
import { startRegistry } from '../../tests/testkit/registry.ts'

/** A whole platform under an instance name of its own, with nothing of it left when disposed but logs in `BENCH_LOGS`. */
export type BenchPlatform = AsyncDisposable & {
  layout: Layout
  operator: ControlPlaneClient
  operatorCredentials: Credentials
}

/**
 * Starts the real platform for a benchmark.
 * @throws when asked to use the instance `main`, which may be somebody's real platform.
 */
export async function startPlatform(): Promise<BenchPlatform> {
  process.env['BULKHEAD_INSTANCE'] ??= 'bnch'
  process.env['BULKHEAD_SLOT'] ??= '7'
  const layout = parseLayout(process.env)
  if (layout.instance === 'main') throw new Error('A benchmark never runs on the instance "main"')
  const context: MachineContext = { layout, print: () => {}, progress: () => {} }
  // The leavings of a benchmark that was killed.
  await reset(context)
  // Timers of our clock do not keep a process alive, and reset must come to its end.
  const alive = setInterval(() => {}, 1 << 30)
  const stop = async () => {
    await reset(context)
    clearInterval(alive)
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => void stop().finally(() => process.exit(1)))
  try {
    await up(context)
  } catch (error) {
    await stop()
    throw error
  }
  const operatorCredentials = readKubeconfig(paths.operatorKubeconfig(layout))
  const operator = new ControlPlaneClient(operatorCredentials)
  return {
    layout,
    operator,
    operatorCredentials,
    async [Symbol.asyncDispose]() {
      await operator[Symbol.asyncDispose]()
      const keep = process.env['BENCH_LOGS']
      if (keep !== undefined)
        for (const part of ['logs', 'audit'])
          cpSync(join(layout.stateDir, part), join(keep, part), { recursive: true })
      await stop()
    },
  }
}

/** A tenant object of the class that follows from its trust: `shared` or `sandboxed`. */
export function tenantObject(name: string, isolation: 'shared' | 'sandboxed', registries: string[] = []) {
  return {
    apiVersion: 'tenancy.bulkhead.dev/v1alpha1',
    kind: 'Tenant',
    metadata: { name },
    spec: {
      ...(isolation === 'shared'
        ? { trust: 'trusted', code: 'own' }
        : { trust: 'untrusted', code: 'thirdParty' }),
      registries,
    },
  }
}

/** A key whose certificate can be asked for, made beforehand so that its making is not measured. */
export async function prepareKey(): Promise<{ csr: string; key: string }> {
  const keys = await createKeyPair()
  return { csr: await createCsr(keys), key: await renderPrivateKey(keys) }
}

/** Has the platform sign a key for an administrator of a tenant. */
export async function issueCredentials(
  operator: ControlPlaneClient,
  tenant: string,
  { csr, key }: { csr: string; key: string },
): Promise<Credentials> {
  const { status } = (await operator.post(`${TENANTS_PATH}/${tenant}/credentials`, {
    apiVersion: 'tenancy.bulkhead.dev/v1alpha1',
    kind: 'TenantCredential',
    metadata: { name: tenant },
    spec: { csr, user: 'admin', groups: ['bulkhead:tenant-admins'], expirationSeconds: 3_600 },
  })) as { status: { certificate: string; caBundle: string; server: string } }
  return { server: status.server, ca: status.caBundle, certificate: status.certificate, key }
}

/** Makes a tenant, waits until `tenants`, a watch of all, says that it is ready, and returns what its administrator uses. */
export async function createTenant(
  { operator }: Pick<BenchPlatform, 'operator'>,
  tenants: Watch,
  name: string,
  isolation: 'shared' | 'sandboxed',
  registries: string[] = [],
): Promise<{ credentials: Credentials; client: ControlPlaneClient }> {
  const ready = tenants.when(
    `Tenant "${name}" being ready`,
    ({ object }) => object.metadata.name === name && object.status?.['phase'] === 'Ready',
  )
  await operator.post(TENANTS_PATH, tenantObject(name, isolation, registries))
  await ready
  const credentials = await issueCredentials(operator, name, await prepareKey())
  return { credentials, client: new ControlPlaneClient(credentials) }
}

/** A registry with `busybox:1`, and the image's files unpacked for the runtimes that are measured bare. */
export async function startImageSource(): Promise<{ host: string; image: string } & AsyncDisposable> {
  const registry = await startRegistry()
  const work = mkdtempSync(join(tmpdir(), 'bulkhead-bench-image-'))
  try {
    await pushImage(registry.host, 'busybox', '1', await busyboxImage(join(work, 'root')))
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
  return {
    host: registry.host,
    image: `${registry.host}/busybox:1`,
    [Symbol.asyncDispose]: () => registry[Symbol.asyncDispose](),
  }
}

export type WatchEvent = {
  type: string
  object: { metadata: { name: string }; status?: Record<string, unknown> }
}

/** A watch of one collection over the gateway; every event comes with the moment at which it was read. */
export class Watch implements AsyncDisposable {
  private readonly agent: Agent
  private readonly stopping = new AbortController()
  private readonly listeners = new Set<(event: WatchEvent, atMs: number) => void>()
  private running: Promise<void> = Promise.resolve()

  private constructor(credentials: Credentials) {
    this.agent = new Agent({
      connect: { ca: credentials.ca, cert: credentials.certificate, key: credentials.key },
      bodyTimeout: 0,
    })
  }

  static async open(credentials: Credentials, path: string): Promise<Watch> {
    const watch = new Watch(credentials)
    const { body, statusCode } = await request(`${credentials.server}${path}?watch=true`, {
      dispatcher: watch.agent,
      signal: watch.stopping.signal,
      headers: { accept: 'application/json' },
    })
    if (statusCode !== 200)
      throw new Error(`The watch of ${path} answered ${statusCode}: ${await body.text()}`)
    watch.running = watch.read(body)
    return watch
  }

  private async read(body: AsyncIterable<Buffer>): Promise<void> {
    let text = ''
    try {
      for await (const chunk of body) {
        const atMs = performance.now()
        text += chunk.toString()
        const lines = text.split('\n')
        text = lines.pop() ?? ''
        for (const line of lines) {
          const event = JSON.parse(line) as WatchEvent
          for (const listener of [...this.listeners]) listener(event, atMs)
        }
      }
    } catch (error) {
      if (!this.stopping.signal.aborted) throw error
    }
  }

  /** The moment at which an event was seen of which `matches` is true; ask before what causes it. */
  async when(what: string, matches: (event: WatchEvent) => boolean, timeoutMs = 30_000): Promise<number> {
    const seen = Promise.withResolvers<number>()
    const listener = (event: WatchEvent, atMs: number) => {
      if (matches(event)) seen.resolve(atMs)
    }
    this.listeners.add(listener)
    const late = setTimeout(
      () => seen.reject(new Error(`${what} was not seen within ${timeoutMs} ms`)),
      timeoutMs,
    )
    try {
      return await seen.promise
    } finally {
      clearTimeout(late)
      this.listeners.delete(listener)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stopping.abort()
    await this.running
    await this.agent.destroy()
  }
}

/** Whether a program is on this machine, and where. */
export function findProgram(name: string): string | undefined {
  return ['/usr/sbin', '/usr/bin', '/sbin', '/bin', '/usr/local/bin']
    .map((directory) => join(directory, name))
    .find((path) => existsSync(path))
}
