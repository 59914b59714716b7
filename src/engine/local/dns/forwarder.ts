import { Resolver, type RecordWithTtl } from 'node:dns'
import { type IncomingMessage, type Server, type ServerResponse, createServer } from 'node:http'
import { isIPv4 } from 'node:net'
import { type Logger, listenUnix, peerCredentials, silentLogger } from '../../../stdx/index.ts'
import { isDnsName } from '../plan/net/index.ts'
import {
  FORWARDED_ADDRESSES_MAX,
  FORWARDER_CONCURRENT_MAX,
  FORWARDER_TRIES,
  FORWARDER_TRY_TIMEOUT_MS,
} from './limits.ts'

export type ForwarderOptions = {
  /** Only uid 0 is answered. */
  socketPath: string
  /** The servers to ask; those of the machine's resolv.conf when absent. */
  servers?: readonly string[]
  log?: Logger
  /** For tests that do not run as root. */
  uid?: number
}

export type ForwardedAddress = { address: string; ttlSeconds: number }

/** What servers say when there is no such name, or the name has no address. */
const NOTHING: readonly string[] = ['ENOTFOUND', 'ENODATA']

/**
 * Asks the servers outside for the addresses of names. It reads what strangers send, so it is a process and a user of
 * its own, which knows nothing of tenants and can change nothing.
 */
export class Forwarder {
  private readonly options: ForwarderOptions
  private readonly log: Logger
  private readonly server: Server
  private running = 0

  constructor(options: ForwarderOptions) {
    this.options = options
    this.log = options.log ?? silentLogger
    this.server = createServer((request, response) => void this.handle(request, response))
    this.server.on('connection', (socket) => {
      try {
        if (peerCredentials(socket).uid === (options.uid ?? 0)) return
      } catch {
        // Whoever it was has gone.
      }
      socket.destroy()
    })
  }

  async listen(): Promise<void> {
    await listenUnix(this.server, { path: this.options.socketPath })
  }

  async close(): Promise<void> {
    this.server.closeAllConnections()
    await new Promise((done) => this.server.close(done))
  }

  /**
   * IPv4 only, because nothing else leaves. Empty for a name that there is not.
   * @throws when no server gives an answer that can be used.
   */
  async addresses(name: string): Promise<readonly ForwardedAddress[]> {
    // One for each question: a socket, and so a port, that whoever forges answers cannot have learnt from the last one.
    const resolver = new Resolver({ timeout: FORWARDER_TRY_TIMEOUT_MS, tries: FORWARDER_TRIES })
    if (this.options.servers) resolver.setServers([...this.options.servers])
    const { promise, resolve, reject } = Promise.withResolvers<readonly RecordWithTtl[]>()
    // With its final dot the name is whole: no search list of the machine is tried behind it.
    resolver.resolve4(`${name}.`, { ttl: true }, (error, records) =>
      error ? reject(error) : resolve(records),
    )
    try {
      return (await promise)
        .filter(({ address }) => isIPv4(address))
        .slice(0, FORWARDED_ADDRESSES_MAX)
        .map(({ address, ttl }) => ({ address, ttlSeconds: ttl }))
    } catch (error) {
      if (NOTHING.includes((error as NodeJS.ErrnoException).code ?? '')) return []
      throw error
    }
  }

  private async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const answer = (code: number, body: unknown) =>
      response.writeHead(code, { 'content-type': 'application/json' }).end(JSON.stringify(body))
    const url = new URL(request.url ?? '/', 'http://forwarder')
    const name = url.searchParams.get('name') ?? ''
    if (request.method !== 'GET' || url.pathname !== '/v1/addresses' || !isDnsName(name))
      return void answer(404, {})
    if (this.running >= FORWARDER_CONCURRENT_MAX) return void answer(503, {})
    this.running++
    try {
      answer(200, { addresses: await this.addresses(name) })
    } catch (error) {
      this.log.debug('no answer about a name', { error })
      answer(502, {})
    } finally {
      this.running--
    }
  }
}
