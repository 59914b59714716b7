import { connect } from 'node:net'
import type { LayerResult } from '../layers.ts'

const ANSWER_BYTES_MAX = 64 * 1024
const ANSWER_TIMEOUT_MS = 5_000

/**
 * Speaks to a control plane's socket as a given user of the machine, and says how it answered: the HTTP status, or why
 * there was none. Requires root, to become that user for the moment of connecting (credentials(7), SO_PEERCRED).
 */
export function askSocketAs(
  uid: number,
  gid: number,
  socketPath: string,
  identity: unknown,
): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>()
  let socket
  const [ownUid, ownGid] = [process.geteuid!(), process.getegid!()]
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
  socket.setTimeout(ANSWER_TIMEOUT_MS, () => socket.destroy(new Error('no answer')))
  socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
  socket.on('data', (chunk) => {
    text = (text + chunk.toString('latin1')).slice(0, ANSWER_BYTES_MAX)
  })
  socket.on('close', () => resolve(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? 'closed without an answer'))
  const header =
    identity === undefined
      ? ''
      : `x-bulkhead-identity: ${Buffer.from(JSON.stringify(identity)).toString('base64url')}\r\n`
  socket.write(`GET /api/v1/namespaces HTTP/1.1\r\nhost: control-plane\r\nconnection: close\r\n${header}\r\n`)
  return promise
}

/** The control plane of `victim` is asked directly, past the gateway's checks: by strangers, and in the name of another tenant. */
export async function probeControlPlane({
  attacker,
  victim,
  socketPath,
  gateway,
  podGateway,
  stranger,
}: {
  attacker: string
  victim: string
  socketPath: string
  gateway: { uid: number; gid: number }
  podGateway: { uid: number; gid: number }
  stranger: { uid: number; gid: number }
}): Promise<LayerResult> {
  const of = (tenant: string) => ({ kind: 'tenantUser', tenant, name: 'bulkhead:verifier', groups: [] })
  const asked = {
    [`a process of another user, as a user of ${victim}`]: await askSocketAs(
      stranger.uid,
      stranger.gid,
      socketPath,
      of(victim),
    ),
    [`the gateway, as a user of ${attacker}`]: await askSocketAs(
      gateway.uid,
      gateway.gid,
      socketPath,
      of(attacker),
    ),
    [`the pods' gateway, as a user of ${victim}`]: await askSocketAs(
      podGateway.uid,
      podGateway.gid,
      socketPath,
      of(victim),
    ),
    'the gateway, as nobody': await askSocketAs(gateway.uid, gateway.gid, socketPath, undefined),
  }
  // Without this one the control plane might be refusing everybody because it is broken.
  const legitimate = await askSocketAs(gateway.uid, gateway.gid, socketPath, of(victim))
  const refused = (answer: string) =>
    ['401', '403', 'EACCES', 'ECONNRESET', 'EPIPE', 'closed without an answer'].includes(answer)
  const problems = Object.entries(asked).filter(([, answer]) => !refused(answer))
  const answers = Object.entries(asked).map(([who, answer]) => `${who}: ${answer}`)
  // RBAC refuses the verifier's nameless user: 403. Anything but an answer of the API server would mean that nothing was tested.
  const alive = legitimate === '403' || legitimate === '200'
  return {
    layer: 'control plane refuses strangers',
    holds: problems.length === 0 && alive,
    evidence: alive
      ? answers
      : [...answers, `its own tenant through the gateway: ${legitimate}, so nothing was shown`],
  }
}
