import { Agent, type ClientRequest, type ClientRequestArgs } from 'node:http'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { IDLE_CONNECTIONS_MAX, IDLE_CONNECTIONS_PER_IDENTITY_MAX, IDLE_CONNECTION_MS_MAX } from './limits.ts'

/** Who asks which control plane, as it will be told; and how to connect to it. */
export type Caller = { identity: string; socketPath: string; connect: () => Promise<Socket> }

/**
 * Connections to control planes that may be used once more, by the very same user of the same tenant only: should anything
 * ever mistake where one request or answer ends, the next one on the connection is of the same user. They stay for a
 * moment, so that they keep no control plane from falling asleep.
 */
export class Connections extends Agent {
  private readonly idle = new Set<Duplex>()

  constructor() {
    super({ keepAlive: true, maxFreeSockets: IDLE_CONNECTIONS_PER_IDENTITY_MAX, scheduling: 'lifo' })
  }

  override getName(options?: ClientRequestArgs): string {
    const { identity, socketPath } = callerOf(options)
    return `${socketPath} ${identity}`
  }

  override createConnection(
    options: ClientRequestArgs,
    callback?: (error: Error | null, socket: Duplex) => void,
  ): undefined {
    void this.connectFor(options, callback)
  }

  private async connectFor(
    options: ClientRequestArgs,
    tell?: (error: Error | null, socket: Duplex) => void,
  ): Promise<void> {
    let socket: Socket
    try {
      socket = await callerOf(options).connect()
    } catch (error) {
      // Who is given an error looks at no socket.
      return tell?.(error as Error, undefined as unknown as Socket)
    }
    tell?.(null, socket)
  }

  /** Node asks whether a connection whose answer is over is to be kept. */
  override keepSocketAlive(socket: Duplex): boolean {
    if (this.idle.size >= IDLE_CONNECTIONS_MAX) return false
    this.idle.add(socket)
    socket.once('close', this.forget)
    // Node destroys an idle connection on `timeout`.
    if (socket instanceof Socket) socket.setTimeout(IDLE_CONNECTION_MS_MAX)
    return true
  }

  override reuseSocket(socket: Duplex, request: ClientRequest): void {
    this.idle.delete(socket)
    socket.off('close', this.forget)
    if (socket instanceof Socket) socket.setTimeout(0)
    super.reuseSocket(socket, request)
  }

  private readonly forget = (): void => {
    for (const socket of this.idle) if (socket.destroyed) this.idle.delete(socket)
  }
}

function callerOf(options: ClientRequestArgs | undefined): Caller {
  return (options as unknown as { caller: Caller }).caller // `proxy.ts` gives it with every request
}
