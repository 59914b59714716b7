import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, constants, fchownSync, fstatSync, openSync, rmSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { listenUnix } from '../../../stdx/index.ts'
import { type Clock } from '../../../stdx/index.ts'
import { openTerminalPeer, receiveDescriptor } from './syscalls.ts'

const RECEIVE_RETRY_MS = 1
/** makedev(5, 2): the master side of a terminal, whatever file system it is on. */
const TERMINAL_MASTER_RDEV = (5 << 8) | 2

/** A terminal of the machine: the other end is for a process that passes it on. Afterwards: close both. */
export function openTerminal(owner: { uid: number; gid: number }): { master: number; peer: number } {
  const master = openSync('/dev/ptmx', constants.O_RDWR | constants.O_NOCTTY)
  try {
    const peer = openTerminalPeer(master)
    fchownSync(peer, owner.uid, owner.gid)
    return { master, peer }
  } catch (error) {
    closeSync(master)
    throw error
  }
}

/** A socket on which a runtime hands over the terminal that it made inside a container. */
export class TerminalSocket implements AsyncDisposable {
  readonly path: string
  private readonly server = createServer({ pauseOnConnect: true })
  private readonly clock: Clock
  private ended = false

  constructor(directory: string, clock: Clock) {
    this.path = join(directory, randomBytes(6).toString('hex'))
    this.clock = clock
  }

  async listen(): Promise<void> {
    await listenUnix(this.server, { path: this.path })
  }

  /** The terminal's master side, checked: what is called /dev/ptmx inside is in the tenant's hands. */
  async receive(signal: AbortSignal): Promise<number> {
    const [socket] = (await once(this.server, 'connection', { signal })) as [Socket] // Node's own event.
    try {
      for (;;) {
        signal.throwIfAborted()
        // Node keeps the descriptor on its internal handle; there is no public accessor for it.
        const fd = (socket as unknown as { _handle?: { fd?: number } })._handle?.fd
        const received = fd === undefined || this.ended ? undefined : receiveDescriptor(fd)
        if (received !== undefined) return checkedMaster(received)
        const { promise, resolve } = Promise.withResolvers<void>()
        this.clock.after(RECEIVE_RETRY_MS, resolve)
        await promise
      }
    } finally {
      socket.destroy()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.ended = true
    this.server.close()
    rmSync(this.path, { force: true })
  }
}

function checkedMaster(fd: number): number {
  const stat = fstatSync(fd)
  if (stat.isCharacterDevice() && stat.rdev === TERMINAL_MASTER_RDEV) return fd
  closeSync(fd)
  throw new Error('What the runtime handed over as a terminal is none')
}
