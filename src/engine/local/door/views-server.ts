import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { listenUnix, type Logger, peerCredentials, readRequest } from '../../../stdx/index.ts'
import { VIEW_BYTES_MAX } from './limits.ts'

type Views = {
  /** Takes a document of the node agent for the tenant of this index; what it returns is the answer. */
  set(index: number, document: unknown): Promise<unknown>
  remove(index: number): Promise<void>
}

/**
 * Where the node agent says what each tenant has, and asks what we know: it sends again whatever differs, so neither
 * side's restart loses anything. Only root is listened to.
 */
export class ViewsServer {
  private readonly socketPath: string
  private readonly views: Views
  private readonly log: Logger
  private readonly versions = new Map<number, string>()
  private readonly server: Server

  constructor({ socketPath, views, log }: { socketPath: string; views: Views; log: Logger }) {
    this.socketPath = socketPath
    this.views = views
    this.log = log
    this.server = createServer((request, response) => {
      this.handle(request, response).catch((error: unknown) => {
        this.log.error('a document of the node agent was refused', { url: request.url, error })
        if (!response.headersSent) response.writeHead(500)
        response.end()
      })
    })
    this.server.on('connection', (socket) => {
      if (peerCredentials(socket).uid !== 0) socket.destroy()
    })
  }

  async listen(): Promise<void> {
    await listenUnix(this.server, { path: this.socketPath })
  }

  close(): void {
    this.server.close()
    this.server.closeAllConnections()
  }

  private async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const answer = (code: number, body?: unknown) => {
      response.writeHead(code, { 'content-type': 'application/json' })
      response.end(body === undefined ? '' : JSON.stringify(body))
    }
    if (request.method === 'GET' && request.url === '/v1/views')
      return answer(200, { views: [...this.versions] })
    const [, digits, version = ''] =
      /^\/v1\/views\/(\d{1,6})(?:\?version=([0-9a-f]{1,64}))?$/.exec(request.url ?? '') ?? []
    if (digits === undefined) return answer(404)
    const index = Number(digits)
    if (request.method === 'DELETE') {
      this.versions.delete(index)
      await this.views.remove(index)
      return answer(204)
    }
    if (request.method !== 'PUT') return answer(405)
    const view = await readRequest(request, VIEW_BYTES_MAX)
    if (!view) return answer(413)
    // Until it is taken over whole, we do not claim to have it.
    this.versions.delete(index)
    const result = await this.views.set(index, JSON.parse(view.toString()))
    this.versions.set(index, version)
    answer(200, result ?? {})
  }
}
