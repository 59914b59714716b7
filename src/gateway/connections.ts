import { Agent, type ClientRequest, type ClientRequestArgs } from 'node:http'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import {
  IDLE_CONNECTIONS_MAX,
  IDLE_CONNECTIONS_PER_PLANE_MAX,
  IDLE_CONNECTIONS_PER_USER_MAX,
  IDLE_CONNECTION_MS_MAX,
} from './limits.ts'

/** Who asks which control plane, as it will be told; and how to connect to it. */
export type Caller = { identity: string; socketPath: string; connect: () => Promise<Socket> }

/**
 * Connections to control planes that may be used once more, by the very same user of the same tenant only: should anything
 * ever mistake where one request or answer ends, the next one on the connection is of the same user. They stay for a
 * moment, so that they keep no control plane from falling asleep.
 */
export class Connections extends Agent {
  private readonly planeOf = new WeakMap<Duplex, string>()
  private readonly idle = new Set<Duplex>()
  /** Of these, how many to each control plane. */
  private readonly idleTo = new Map<string, number>()

  constructor() {
    super({ keepAlive: true, maxFreeSockets: IDLE_CONNECTIONS_PER_USER_MAX, scheduling: 'lifo' })
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
    const { socketPath, connect } = callerOf(options)
    let socket: Socket
    try {
      socket = await connect()
    } catch (error) {
      // Who is given an error looks at no socket.
      return tell?.(error as Error, undefined as unknown as Socket)
    }
    this.planeOf.set(socket, socketPath)
    socket.once('close', () => this.leave(socket))
    tell?.(null, socket)
  }

  /** Node asks whether a connection whose answer is over is to be kept. */
  override keepSocketAlive(socket: Duplex): boolean {
    const plane = this.planeOf.get(socket)
    if (plane === undefined || this.idle.size >= IDLE_CONNECTIONS_MAX) return false
    const others = this.idleTo.get(plane) ?? 0
    if (others >= IDLE_CONNECTIONS_PER_PLANE_MAX) return false
    this.idle.add(socket)
    this.idleTo.set(plane, others + 1)
    // Node destroys an idle connection on `timeout`.
    if (socket instanceof Socket) socket.setTimeout(IDLE_CONNECTION_MS_MAX)
    return true
  }

  override reuseSocket(socket: Duplex, request: ClientRequest): void {
    this.leave(socket)
    if (socket instanceof Socket) socket.setTimeout(0)
    super.reuseSocket(socket, request)
  }

  /** It is idle no more. Safe to repeat. */
  private leave(socket: Duplex): void {
    const plane = this.planeOf.get(socket)
    if (plane === undefined || !this.idle.delete(socket)) return
    const others = (this.idleTo.get(plane) ?? 1) - 1
    if (others > 0) this.idleTo.set(plane, others)
    else this.idleTo.delete(plane)
  }
}

function callerOf(options: ClientRequestArgs | undefined): Caller {
  return (options as unknown as { caller: Caller }).caller // `proxy.ts` gives it with every request
}
