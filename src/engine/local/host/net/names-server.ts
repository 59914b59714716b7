import { type IncomingMessage, type Server, type ServerResponse, createServer, Agent } from 'node:http'
import { rmSync } from 'node:fs'
import { askUnix, listenUnix, type Logger, peerCredentials } from '../../../../stdx/index.ts'
import type { TenantEgress } from '../../../../jail/index.ts'
import { isDnsName } from '../../plan/net/index.ts'
import { FORWARDER_ANSWER_BYTES_MAX, FORWARDER_SOCKETS_MAX, FORWARDER_TIMEOUT_MS } from './limits.ts'
import { type LookUpName, type NameAnswer, NotNow } from './outside.ts'

export type NamesServerOptions = {
  path: string
  /** The only user that may ask, with root. */
  uid: number
  log: Logger
  resolve: (pod: string, name: string) => Promise<NameAnswer>
  /** For root alone: of all tenants that have rules, or of one. */
  report: (tenant?: string) => Promise<readonly TenantEgress[]>
}

/** Where the resolver asks for names outside. It says which pod asks; what that pod may have is decided here. */
export class NamesServer {
  private readonly options: NamesServerOptions
  private readonly server: Server
  private listening = false

  constructor(options: NamesServerOptions) {
    this.options = options
    this.server = createServer((incoming, response) => void this.handle(incoming, response))
    this.server.maxConnections = FORWARDER_SOCKETS_MAX
    this.server.on('connection', (socket) => {
      try {
        if ([0, options.uid].includes(peerCredentials(socket).uid)) return
      } catch {
        // Whoever it was has gone.
      }
      socket.destroy()
    })
  }

  async start(): Promise<void> {
    if (this.listening) return
    this.listening = true
    await listenUnix(this.server, { path: this.options.path, uid: this.options.uid, gid: 0 })
  }

  stop(): void {
    if (!this.listening) return
    this.server.close()
    this.server.closeAllConnections()
  }

  remove(): void {
    this.stop()
    rmSync(this.options.path, { force: true })
  }

  private async handle(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const answer = (code: number, body: unknown) =>
      response.writeHead(code, { 'content-type': 'application/json' }).end(JSON.stringify(body))
    try {
      const url = new URL(incoming.url ?? '/', 'http://outside')
      if (incoming.method === 'GET' && url.pathname === '/v1/egress') {
        if (peerCredentials(incoming.socket).uid !== 0) return void answer(403, {})
        return void answer(200, {
          items: await this.options.report(url.searchParams.get('tenant') ?? undefined),
        })
      }
      const [pod, name] = [url.searchParams.get('pod') ?? '', url.searchParams.get('name') ?? '']
      if (incoming.method !== 'GET' || url.pathname !== '/v1/names' || !isDnsName(name))
        return void answer(404, {})
      answer(200, await this.options.resolve(pod, name))
    } catch (error) {
      if (!(error instanceof NotNow))
        this.options.log.error('a name outside could not be resolved', { error })
      answer(503, {})
    }
  }
}

/** Asks the process that talks with the servers outside. */
export function forwarderClient(socketPath: string): LookUpName {
  const agent = new Agent({ keepAlive: true, maxSockets: FORWARDER_SOCKETS_MAX, maxFreeSockets: 8 })
  return async (name) => {
    const { code, body } = await askUnix({
      socketPath,
      agent,
      path: `/v1/addresses?name=${encodeURIComponent(name)}`,
      signal: AbortSignal.timeout(FORWARDER_TIMEOUT_MS),
      answerBytesMax: FORWARDER_ANSWER_BYTES_MAX,
    })
    if (code !== 200) throw new Error(`The forwarder answered ${code} about "${name}"`)
    const parsed: unknown = JSON.parse(body.toString('utf8'))
    const addresses =
      typeof parsed === 'object' && parsed !== null && 'addresses' in parsed ? parsed.addresses : []
    return (Array.isArray(addresses) ? (addresses as unknown[]) : []).flatMap((each) => {
      const { address, ttlSeconds } = (each ?? {}) as { address?: unknown; ttlSeconds?: unknown }
      return typeof address === 'string' && typeof ttlSeconds === 'number' ? [{ address, ttlSeconds }] : []
    })
  }
}
