import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { until } from '../../src/stdx/index.ts'
import { observeProcesses } from './machine.ts'
import { pod } from './manifests.ts'
import type { TestPlatform } from './platform.ts'

/** One attempt: how long it took, and whether the right answer came. */
export type Attempt = { ms: number; ok: boolean }
export type Attempts = { api: Attempt[]; pod: Attempt[] }

const EVERY_MS = 100
const PORT = 8080
const CLIENT = fileURLToPath(new URL('bystander-client.ts', import.meta.url))

/**
 * A tenant that does what tenants do while another attacks: it reads its API, and its pods talk HTTP with each other.
 * Everything is attempted again and again, one after the other, from the start to the end.
 */
export class Bystander implements AsyncDisposable {
  private readonly platform: TestPlatform
  private readonly tenant: string
  private readonly client: ChildProcess
  private readonly stopping = new AbortController()
  private attempts: Attempts = { api: [], pod: [] }

  static async start(platform: TestPlatform, tenant: string, image: string): Promise<Bystander> {
    await platform.apply(tenant, [
      pod({
        name: 'server',
        image,
        script: `mkdir /www; echo well > /www/index.html; exec httpd -f -p ${PORT} -h /www`,
      }),
      pod({ name: 'client', image, script: 'exec sleep 86399' }),
    ])
    await platform.mustKubectl(
      tenant,
      ...['wait', '--for=condition=Ready', 'pod/server', 'pod/client', '--timeout=60s'],
    )
    const { status } = await platform.getJson<{ status: { podIP: string } }>(tenant, 'pod/server')
    const inside = observeProcesses().find(
      (p) =>
        p.args.join(' ') === 'sleep 86399' &&
        p.cgroups.some((path) => path.includes(`/${platform.layout.cgroup}/${tenant}/`)),
    )
    if (!inside) throw new Error("The bystander's client does not run")
    const client = spawn(
      'nsenter',
      [`--target=${inside.pid}`, '--net', '--', process.execPath, CLIENT, status.podIP, String(PORT)],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    )
    return new Bystander(platform, tenant, client)
  }

  private constructor(platform: TestPlatform, tenant: string, client: ChildProcess) {
    this.platform = platform
    this.tenant = tenant
    this.client = client
    if (client.stdout)
      createInterface({ input: client.stdout }).on('line', (line) => {
        this.attempts.pod.push(JSON.parse(line) as Attempt)
      })
    void this.readApi()
  }

  private async readApi(): Promise<void> {
    while (!this.stopping.signal.aborted) {
      const began = performance.now()
      const ok = await this.platform.request(this.tenant, '/api/v1/namespaces/default/pods').then(
        ({ code, body }) => code === 200 && body.includes('"server"'),
        () => false,
      )
      if (this.stopping.signal.aborted) return
      this.attempts.api.push({ ms: performance.now() - began, ok })
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS))
    }
  }

  /** All attempts since the last call. */
  take(): Attempts {
    const { attempts } = this
    this.attempts = { api: [], pod: [] }
    return attempts
  }

  /** Waits until both kinds of attempt have succeeded so often from now on, whatever else fails. */
  async succeeds(times: number): Promise<void> {
    const { api, pod: pods } = this.attempts
    const [apiBefore, podBefore] = [api.length, pods.length]
    const good = (attempts: readonly Attempt[], from: number) =>
      attempts.slice(from).filter(({ ok }) => ok).length >= times
    await until(() => good(api, apiBefore) && good(pods, podBefore), {
      timeoutMs: 60_000,
      everyMs: 50,
      what: `${times} answers for the bystander`,
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stopping.abort()
    this.client.kill('SIGKILL')
  }
}
