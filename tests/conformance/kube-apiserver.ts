import { type ChildProcess, spawn } from 'node:child_process'
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
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
const ASK_MS_MAX = 30_000

/** A real kube-apiserver with an etcd of its own, on loopback ports, until it is disposed of. */
export class KubeApiServer implements AsyncDisposable {
  /** Of etcd and of the server. */
  readonly pids: readonly number[]
  readonly origin: string
  private readonly children: readonly ChildProcess[]
  private readonly dir: string
  private readonly port: number
  private readonly token: string

  private constructor(parts: { children: ChildProcess[]; dir: string; port: number; token: string }) {
    this.children = parts.children
    this.dir = parts.dir
    this.port = parts.port
    this.token = parts.token
    this.origin = `https://127.0.0.1:${parts.port}`
    this.pids = parts.children.flatMap(({ pid }) => (pid === undefined ? [] : [pid]))
  }

  /** Its certificate, in PEM, which is its own authority. */
  certificate(): Promise<string> {
    return readFile(join(this.dir, 'certificates', 'apiserver.crt'), 'utf8')
  }

  /**
   * `options` are flags of the server's beside those that it needs. Without them nobody makes service accounts here, and
   * pods do without.
   * Requires: `upstreamMissing` is false.
   */
  static async start(
    assets: string,
    options: Record<string, string> = { 'disable-admission-plugins': 'ServiceAccount' },
  ): Promise<KubeApiServer> {
    const dir = await mkdtemp(join(tmpdir(), 'kube-apiserver-'))
    const [port, client, peer] = [await freePort(), await freePort(), await freePort()]
    const token = randomBytes(16).toString('hex')
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2_048 })
    await writeFile(join(dir, 'tokens.csv'), `${token},admin,admin,system:masters\n`, { mode: 0o600 })
    await writeFile(join(dir, 'sa.key'), privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 })
    await writeFile(join(dir, 'sa.pub'), publicKey.export({ type: 'spki', format: 'pem' }))
    const run = (program: string, flags: Record<string, string>) =>
      spawn(
        join(assets, program),
        Object.entries(flags).map(([name, value]) => `--${name}=${value}`),
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
        ...options,
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
    warning: string | undefined
  }> {
    const payload = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body)
    return new Promise((resolve, reject) => {
      const request = httpsRequest(
        {
          host: '127.0.0.1',
          port: this.port,
          method,
          path,
          signal: AbortSignal.timeout(ASK_MS_MAX),
          // Its certificate is made by itself, on this machine, a moment ago.
          rejectUnauthorized: false,
          headers: {
            authorization: `Bearer ${this.token}`,
            accept: accept ?? 'application/json',
            // Node writes the body of a DELETE without its length unless it is told.
            ...(payload === undefined
              ? {}
              : { 'content-type': type ?? 'application/json', 'content-length': Buffer.byteLength(payload) }),
          },
        },
        (response) => {
          const chunks: Buffer[] = []
          response.on('data', (chunk: Buffer) => chunks.push(chunk))
          response.on('error', reject)
          response.on('end', () =>
            resolve({
              code: response.statusCode ?? 0,
              text: Buffer.concat(chunks).toString(),
              warning: [response.headers['warning'] ?? []].flat().join(', '),
            }),
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
