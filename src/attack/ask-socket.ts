import { connect } from 'node:net'
import { ANSWER_BYTES_MAX, RAW_MS_MAX } from './limits.ts'

/**
 * Sends bytes to a unix socket as another user of the machine, which SO_PEERCRED and the file's mode then see, and
 * resolves with what came back, or with the error's code. Requires root.
 */
export function askSocketAs(
  { uid, gid }: { uid: number; gid: number },
  socketPath: string,
  bytes: string,
): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>()
  const [ownUid, ownGid] = [process.geteuid!(), process.getegid!()] // this is Linux
  let socket
  process.setegid!(gid)
  process.seteuid!(uid)
  try {
    // connect(2) happens within the call, so the credentials are those of this moment.
    socket = connect({ path: socketPath })
  } finally {
    process.seteuid!(ownUid)
    process.setegid!(ownGid)
  }
  let text = ''
  socket.setTimeout(RAW_MS_MAX, () => socket.destroy())
  socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
  socket.on('data', (chunk) => {
    text = (text + chunk.toString('latin1')).slice(0, ANSWER_BYTES_MAX)
  })
  socket.on('close', () => resolve(text === '' ? 'closed without an answer' : text))
  socket.write(bytes)
  return promise
}
