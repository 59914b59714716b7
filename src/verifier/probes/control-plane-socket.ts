import { createHash } from 'node:crypto'
import { connect } from 'node:net'
import { VERIFIER_USER } from '../../api/index.ts'
import type { LayerResult } from '../layers.ts'
import type { KnownTenant } from '../verify.ts'

const ANSWER_BYTES_MAX = 64 * 1024
const ANSWER_TIMEOUT_MS = 5_000

type Caller = { uid: number; gid: number }
/** The HTTP status and body of an answer, or why there was none. */
type Answer = { status: string; body: string }

/**
 * Speaks to a control plane's socket as a given user of the machine. Requires root, to become that user for the moment of
 * connecting (credentials(7), SO_PEERCRED).
 */
function exchange(caller: Caller, socketPath: string, head: readonly string[]): Promise<Answer> {
  const { promise, resolve } = Promise.withResolvers<Answer>()
  let socket
  const [ownUid, ownGid] = [process.geteuid!(), process.getegid!()]
  process.setegid!(caller.gid)
  process.seteuid!(caller.uid)
  try {
    // connect(2) happens within the call, so the credentials are those of this moment.
    socket = connect({ path: socketPath })
  } finally {
    process.seteuid!(ownUid)
    process.setegid!(ownGid)
  }
  let text = ''
  socket.setTimeout(ANSWER_TIMEOUT_MS, () => socket.destroy(new Error('no answer')))
  socket.on('error', (error: NodeJS.ErrnoException) =>
    resolve({ status: statusOf(text) ?? error.code ?? error.message, body: '' }),
  )
  socket.on('data', (chunk) => {
    text = (text + chunk.toString('latin1')).slice(0, ANSWER_BYTES_MAX)
  })
  socket.on('close', () =>
    resolve({
      status: statusOf(text) ?? 'closed without an answer',
      body: text.slice(text.indexOf('\r\n\r\n') + 4),
    }),
  )
  socket.write(`${head.join('\r\n')}\r\nhost: control-plane\r\nconnection: close\r\n\r\n`)
  return promise
}

function statusOf(text: string): string | undefined {
  return /^HTTP\/1\.1 (\d{3})/.exec(text)?.[1]
}

function identityHeader(identity: unknown): string {
  return `x-bulkhead-identity: ${Buffer.from(JSON.stringify(identity)).toString('base64url')}`
}

export async function askSocketAs(
  uid: number,
  gid: number,
  socketPath: string,
  identity: unknown,
): Promise<string> {
  const { status } = await exchange({ uid, gid }, socketPath, [
    'GET /api/v1/namespaces HTTP/1.1',
    ...(identity === undefined ? [] : [identityHeader(identity)]),
  ])
  return status
}

const userOf = ({ name, uid }: KnownTenant) => ({
  kind: 'tenantUser',
  tenant: name,
  tenantUid: uid,
  name: VERIFIER_USER,
  groups: [],
})
/** No Tenant object has it. */
const EARLIER_UID = '00000000-0000-4000-8000-000000000000'

const TOO_MANY_BYTES = 1_000_000_000

/** Announces a body that nobody may send, past the gateway. Nothing of it is sent. */
export async function probeControlPlaneBounds(
  tenant: KnownTenant,
  socketPath: string,
  gateway: Caller,
): Promise<LayerResult> {
  const { status } = await exchange(gateway, socketPath, [
    // Something that everybody may ask, or it would be refused for that.
    'POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews HTTP/1.1',
    'content-type: application/json',
    `content-length: ${TOO_MANY_BYTES}`,
    identityHeader(userOf(tenant)),
  ])
  return {
    layer: 'control plane bounds requests',
    holds: status === '413',
    evidence: [`the control plane of ${tenant.name} answers ${status} to ${TOO_MANY_BYTES} announced bytes`],
  }
}

/** Thumbprints of the keys that a control plane publishes for its tokens. */
export async function probeSigningKeys(
  socketPath: string,
  gateway: Caller,
): Promise<readonly string[] | { problem: string }> {
  const { status, body } = await exchange(gateway, socketPath, [
    'GET /openid/v1/jwks HTTP/1.1',
    'accept: application/jwk-set+json, application/json',
  ])
  if (status !== '200') return { problem: `its keys cannot be had: ${status}` }
  const start = body.indexOf('{')
  try {
    return keyThumbprints(JSON.parse(body.slice(start, body.lastIndexOf('}') + 1)))
  } catch {
    return { problem: 'what it publishes is not JSON' }
  }
}

export function keyThumbprints(published: unknown): readonly string[] | { problem: string } {
  const { keys } = (published ?? {}) as { keys?: unknown }
  return Array.isArray(keys)
    ? keys.map((key) => createHash('sha256').update(publicPart(key)).digest('hex'))
    : { problem: 'it publishes no list of keys' }
}

/** Without names and ids, which two equal keys need not share. */
function publicPart(key: unknown): string {
  const { kty, crv, x, y, n, e } = (key ?? {}) as Record<string, unknown>
  return JSON.stringify([kty, crv, x, y, n, e])
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
  attacker: KnownTenant
  victim: KnownTenant
  socketPath: string
  gateway: { uid: number; gid: number }
  podGateway: { uid: number; gid: number }
  stranger: { uid: number; gid: number }
}): Promise<LayerResult> {
  const [ours, theirs] = [attacker, victim].map(userOf)
  const asked = {
    [`a process of another user, as a user of ${victim.name}`]: await askSocketAs(
      stranger.uid,
      stranger.gid,
      socketPath,
      theirs,
    ),
    [`the gateway, as a user of ${attacker.name}`]: await askSocketAs(
      gateway.uid,
      gateway.gid,
      socketPath,
      ours,
    ),
    [`the gateway, as a user of an earlier tenant ${victim.name}`]: await askSocketAs(
      gateway.uid,
      gateway.gid,
      socketPath,
      userOf({ ...victim, uid: EARLIER_UID }),
    ),
    [`the pods' gateway, as a user of ${victim.name}`]: await askSocketAs(
      podGateway.uid,
      podGateway.gid,
      socketPath,
      theirs,
    ),
    'the gateway, as nobody': await askSocketAs(gateway.uid, gateway.gid, socketPath, undefined),
  }
  // Without this one the control plane might be refusing everybody because it is broken.
  const legitimate = await askSocketAs(gateway.uid, gateway.gid, socketPath, theirs)
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
