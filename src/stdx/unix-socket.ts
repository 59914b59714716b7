import { chmodSync, chownSync, rmSync } from 'node:fs'
import type { Server, Socket } from 'node:net'
import koffi from 'koffi'
import { assert } from './assert.ts'

/** Who is at the other end of a unix socket, as the kernel recorded it at connect time (socket(7), SO_PEERCRED). */
export type PeerCredentials = { pid: number; uid: number; gid: number }

const SOL_SOCKET = 1
const SO_PEERCRED = 17
const UCRED_BYTES = 12

const getsockopt = koffi
  .load('libc.so.6')
  .func('int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ uint32_t *length)')

/**
 * Reads the peer's credentials.
 * @throws when the kernel has none: then nobody may be trusted.
 */
export function peerCredentials(socket: Socket): PeerCredentials {
  // Node keeps the descriptor on its internal handle; there is no public accessor for it.
  const fd = (socket as unknown as { _handle?: { fd?: number } })._handle?.fd
  assert(typeof fd === 'number' && fd >= 0, 'The socket is closed, so its peer cannot be known')
  const value = new Uint8Array(UCRED_BYTES)
  const length = [UCRED_BYTES]
  const result: unknown = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, value, length)
  assert(
    result === 0 && length[0] === UCRED_BYTES,
    'The kernel did not tell who is at the other end of a unix socket',
  )
  const view = new DataView(value.buffer)
  return { pid: view.getInt32(0, true), uid: view.getUint32(4, true), gid: view.getUint32(8, true) }
}

/** Listens on a fresh unix socket that only its owner (and `gid`, when given) can connect to. */
export async function listenUnix(
  server: Server,
  { path, uid, gid, mode = 0o600 }: { path: string; uid?: number; gid?: number; mode?: number },
): Promise<void> {
  assert(
    Buffer.byteLength(path) <= 107,
    `The socket path "${path}" is longer than the 107 bytes that unix(7) allows`,
  )
  rmSync(path, { force: true })
  const listening = Promise.withResolvers<void>()
  server.once('error', listening.reject)
  // Node binds within the call. The mask closes the moment between bind and chmod, in which anybody could connect.
  const mask = process.umask(0o177)
  server.listen({ path }, () => listening.resolve())
  process.umask(mask)
  await listening.promise
  server.off('error', listening.reject)
  if (uid !== undefined || gid !== undefined)
    chownSync(path, uid ?? process.getuid!(), gid ?? process.getgid!())
  chmodSync(path, mode)
}
