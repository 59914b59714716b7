import { type ChildProcess, spawn } from 'node:child_process'
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { request as httpsRequest } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from '../../src/main/free-port.ts'
import type { KindRequest } from './requests-of-kinds.ts'

/** envtest's convention: a folder with the programs `kube-apiserver` and `etcd`. */
export const ASSETS = process.env['KUBEBUILDER_ASSETS']

/** Why upstream's server cannot be asked, or false. */
export const upstreamMissing: string | false =
  ASSETS !== undefined && existsSync(join(ASSETS, 'kube-apiserver')) && existsSync(join(ASSETS, 'etcd'))
    ? false
    : 'KUBEBUILDER_ASSETS names no folder with kube-apiserver and etcd'

const READY_MS_MAX = 60_000

/** A real kube-apiserver with an etcd of its own, on loopback ports, until it is disposed of. */
export class KubeApiServer implements AsyncDisposable {
  private readonly children: readonly ChildProcess[]
  private readonly dir: string
  private readonly port: number
  private readonly token: string

  private constructor(parts: { children: ChildProcess[]; dir: string; port: number; token: string }) {
    this.children = parts.children
    this.dir = parts.dir
    this.port = parts.port
    this.token = parts.token
  }

  /** Requires: `upstreamMissing` is false. */
  static async start(assets: string): Promise<KubeApiServer> {
    const dir = await mkdtemp(join(tmpdir(), 'kube-apiserver-'))
    const [port, client, peer] = [await freePort(), await freePort(), await freePort()]
    const token = randomBytes(16).toString('hex')
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2_048 })
    await writeFile(join(dir, 'tokens.csv'), `${token},admin,admin,system:masters\n`, { mode: 0o600 })
    await writeFile(join(dir, 'sa.key'), privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 })
    await writeFile(join(dir, 'sa.pub'), publicKey.export({ type: 'spki', format: 'pem' }))
    const run = (program: string, options: Record<string, string>) =>
      spawn(
        join(assets, program),
        Object.entries(options).map(([name, value]) => `--${name}=${value}`),
        { stdio: 'ignore' },
      )
    const etcd = `http://127.0.0.1:${client}`
    const peerUrl = `http://127.0.0.1:${peer}`
    const children = [
      run('etcd', {
        'data-dir': join(dir, 'etcd'),
        'listen-client-urls': etcd,
        'advertise-client-urls': etcd,
        'listen-peer-urls': peerUrl,
        'initial-advertise-peer-urls': peerUrl,
        'initial-cluster': `default=${peerUrl}`,
      }),
      run('kube-apiserver', {
        'etcd-servers': etcd,
        'bind-address': '127.0.0.1',
        'secure-port': String(port),
        'cert-dir': join(dir, 'certificates'),
        'token-auth-file': join(dir, 'tokens.csv'),
        'authorization-mode': 'RBAC',
        'service-account-issuer': 'https://127.0.0.1',
        'service-account-key-file': join(dir, 'sa.pub'),
        'service-account-signing-key-file': join(dir, 'sa.key'),
        'service-cluster-ip-range': '10.96.0.0/16',
        // Nobody makes service accounts here, and pods would wait for them.
        'disable-admission-plugins': 'ServiceAccount',
      }),
    ]
    const server = new KubeApiServer({ children, dir, port, token })
    try {
      await server.ready()
    } catch (error) {
      await server[Symbol.asyncDispose]()
      throw error
    }
    return server
  }

  private async ready(): Promise<void> {
    const deadline = AbortSignal.timeout(READY_MS_MAX)
    while (!deadline.aborted) {
      const answer = await this.ask({ method: 'GET', path: '/readyz' }).catch(() => undefined)
      if (answer?.code === 200) return
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
    throw new Error(`kube-apiserver is not ready after ${READY_MS_MAX} ms`)
  }

  async ask({
    method,
    path,
    body,
    type,
    accept,
  }: Pick<KindRequest, 'method' | 'path' | 'body' | 'type' | 'accept'>): Promise<{
    code: number
    text: string
  }> {
    const payload = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body)
    return new Promise((resolve, reject) => {
      const request = httpsRequest(
        {
          host: '127.0.0.1',
          port: this.port,
          method,
          path,
          // Its certificate is made by itself, on this machine, a moment ago.
          rejectUnauthorized: false,
          headers: {
            authorization: `Bearer ${this.token}`,
            accept: accept ?? 'application/json',
            ...(payload === undefined ? {} : { 'content-type': type ?? 'application/json' }),
          },
        },
        (response) => {
          const chunks: Buffer[] = []
          response.on('data', (chunk: Buffer) => chunks.push(chunk))
          response.on('error', reject)
          response.on('end', () =>
            resolve({ code: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }),
          )
        },
      )
      request.on('error', reject)
      request.end(payload)
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = this.children.map(
      (child) =>
        new Promise((resolve) => {
          if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined)
            resolve(undefined)
          else child.once('exit', resolve)
        }),
    )
    for (const child of this.children) child.kill('SIGKILL')
    await Promise.all(ended)
    await rm(this.dir, { recursive: true, force: true })
  }
}
