import { request as httpRequest } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { AskingEnd, LINK_PROTOCOL, LinkBroken } from '../link/index.ts'
import type { Clock } from '../stdx/index.ts'
import { LINK_IDLE_MS_MAX, LINK_OPEN_MS_MAX } from './limits.ts'

/** A control plane, and how to connect to it. */
export type Way = { socketPath: string; connect: () => Promise<Socket> }

/**
 * One link to each control plane that is asked for something. All users of a tenant share it, and nobody else: what
 * parts their exchanges is a number in a frame whose length is said before, where on HTTP/1.1 it was the end of an answer that a
 * parser has to find. A control plane that lies about numbers lies to its own tenant only, which it could in every answer.
 * A link that is not used is closed soon, so that it keeps no control plane from falling asleep.
 */
export class Links {
  private readonly clock: Clock
  private readonly links = new Map<string, { end?: AskingEnd; opening?: Promise<AskingEnd> }>()
  private isOver = false

  constructor(clock: Clock) {
    this.clock = clock
  }

  /** The link that is there already. */
  known({ socketPath }: Way): AskingEnd | undefined {
    const end = this.links.get(socketPath)?.end
    return end?.isOpen ? end : undefined
  }

  /** Opens one for all who wait for it. Rejects when the control plane cannot be reached. */
  open(way: Way): Promise<AskingEnd> {
    const { socketPath } = way
    const { opening } = this.links.get(socketPath) ?? {}
    if (opening) return opening
    const opened = this.openLink(way)
    this.links.set(socketPath, { opening: opened })
    void this.keep(socketPath, opened)
    return opened
  }

  private async keep(socketPath: string, opened: Promise<AskingEnd>): Promise<void> {
    const end = await opened.catch(() => undefined)
    if (end?.isOpen) this.links.set(socketPath, { end })
    else this.links.delete(socketPath)
  }

  /** Ends all links, and whatever is open on them. */
  destroy(): void {
    this.isOver = true
    for (const { end } of this.links.values()) end?.close(new LinkBroken('The gateway is shutting down'))
  }

  private async openLink({ socketPath, connect }: Way): Promise<AskingEnd> {
    const socket = await connect()
    const stream = await agreeOn(socket, this.clock)
    if (this.isOver) {
      stream.destroy()
      throw new LinkBroken('The gateway is shutting down')
    }
    let idleSinceMs = this.clock.nowMs()
    let isLookedAt = false
    // One look in a while, because most links are idle for moments only.
    const lookIn = (afterMs: number) => {
      if (isLookedAt) return
      isLookedAt = true
      this.clock.after(afterMs, () => {
        isLookedAt = false
        if (end.exchanges > 0) return
        const leftMs = idleSinceMs + LINK_IDLE_MS_MAX - this.clock.nowMs()
        if (leftMs > 0) lookIn(leftMs)
        else end.close(new LinkBroken('The link is not used'))
      })
    }
    const onIdle = () => {
      if (!end.isOpen && this.links.get(socketPath)?.end === end) this.links.delete(socketPath)
      idleSinceMs = this.clock.nowMs()
      lookIn(LINK_IDLE_MS_MAX)
    }
    const end: AskingEnd = new AskingEnd({ stream, onIdle })
    lookIn(LINK_IDLE_MS_MAX)
    return end
  }
}

/** Asks for the protocol of links on a new connection. */
function agreeOn(socket: Socket, clock: Clock): Promise<Duplex> {
  const { promise, resolve, reject } = Promise.withResolvers<Duplex>()
  const request = httpRequest({
    createConnection: () => socket,
    path: '/',
    headers: { host: 'localhost', connection: 'Upgrade', upgrade: LINK_PROTOCOL },
    setHost: false,
  })
  const refuse = (cause: unknown) => {
    socket.destroy()
    reject(new LinkBroken('The control plane does not agree on a link', { cause }))
  }
  const cancel = clock.after(LINK_OPEN_MS_MAX, () => refuse('It did not answer in time'))
  request.on('upgrade', ({ headers }, stream, head) => {
    if (headers.upgrade !== LINK_PROTOCOL) refuse(`It upgraded to "${headers.upgrade}"`)
    else if (head.length > 0) refuse('It answered before it was asked')
    else resolve(stream)
  })
  request.on('response', ({ statusCode }) => refuse(`It answered ${statusCode}`))
  request.on('error', refuse)
  request.end()
  return promise.finally(cancel)
}
