import { request as httpRequest, type IncomingMessage } from 'node:http'
import { connect as http2Connect } from 'node:http2'
import type { Duplex } from 'node:stream'
import { connect as tlsConnect } from 'node:tls'
import type { JailHandler, JailProbe } from '../../../jail/index.ts'
import { readBounded, TooLong } from '../../../stdx/index.ts'
import { GRPC_ANSWER_BYTES_MAX, PROBE_HEAD_BYTES_MAX, PROBE_MESSAGE_CHARS_MAX } from '../limits.ts'

/** `unknown`: it could not be found out, through no fault of the pod's. */
export type ProbeResult = { ok: boolean; message: string; unknown?: true }

export type ExchangeHandler = Extract<
  JailHandler | JailProbe['handler'],
  { kind: 'httpGet' } | { kind: 'grpc' }
>
/** What to ask over a connection that somebody has made to a pod. `podIP` is for the Host header and messages. */
export type ProbeQuestion = { handler: ExchangeHandler; podIP: string }

/** Asks it over the connection. Afterwards: close the connection. */
export type Exchange = (
  connection: Duplex,
  question: ProbeQuestion,
  signal: AbortSignal,
) => Promise<ProbeResult>

/** What a client decides about its own connection, and what would make an answer longer than it says. */
const HEADERS_OF_OURS: readonly string[] = [
  'connection',
  'content-length',
  'expect',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]

/** What answers is hostile: every answer is bounded. */
export const exchange: Exchange = async (connection, { handler, podIP }) =>
  handler.kind === 'grpc' ? checkHealth(connection, handler.service) : get(connection, handler, podIP)

/** A status from 200 to 399 is success; a redirect is not followed, because it could lead anywhere. */
async function get(
  connection: Duplex,
  { path, scheme, headers, port }: Extract<JailHandler, { kind: 'httpGet' }>,
  podIP: string,
): Promise<ProbeResult> {
  // The kubelet does not verify either: the certificate of a pod names a service, not an address.
  const secured =
    scheme === 'HTTPS' ? tlsConnect({ socket: connection, rejectUnauthorized: false }) : connection
  secured.on('error', () => {})
  const answer = Promise.withResolvers<IncomingMessage>()
  const sent: [string, string][] = [
    ['User-Agent', 'kube-probe/1.32'],
    ['Accept', '*/*'],
    ['Connection', 'close'],
  ]
  for (const { name, value } of headers) {
    const lower = name.toLowerCase()
    if (HEADERS_OF_OURS.includes(lower)) continue
    if (lower === 'user-agent' || lower === 'accept')
      sent.splice(
        sent.findIndex(([n]) => n.toLowerCase() === lower),
        1,
      )
    // A header that is sent empty on purpose removes ours, as with the kubelet.
    if (value !== '' || (lower !== 'user-agent' && lower !== 'accept')) sent.push([name, value])
  }
  const outgoing = httpRequest({
    method: 'GET',
    path: encodeURI(path).replaceAll('%25', '%'),
    createConnection: () => secured,
    maxHeaderSize: PROBE_HEAD_BYTES_MAX,
    insecureHTTPParser: false,
    headers: [
      ...(sent.some(([n]) => n.toLowerCase() === 'host') ? [] : [['Host', `${podIP}:${port}`]]),
      ...sent,
    ].flat(),
  })
  outgoing.on('response', answer.resolve)
  outgoing.on('upgrade', (_response, socket) => {
    socket.destroy()
    answer.reject(new Error('HTTP probe failed with statuscode: 101'))
  })
  outgoing.on('error', answer.reject)
  outgoing.end()
  try {
    const response = await answer.promise
    const code = response.statusCode ?? 0
    if (code >= 200 && code < 400) return { ok: true, message: '' }
    return { ok: false, message: `HTTP probe failed with statuscode: ${code}` }
  } finally {
    outgoing.destroy()
    secured.destroy()
  }
}

const SERVING = 1
const SERVING_STATUSES = ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN']
/** https://grpc.io/docs/guides/status-codes/ */
const UNIMPLEMENTED = '12'

/** grpc.health.v1.Health/Check, of which we need one request field and one answer field. */
async function checkHealth(connection: Duplex, service: string): Promise<ProbeResult> {
  const session = http2Connect('http://localhost', {
    createConnection: () => connection,
    settings: { enablePush: false },
    maxSessionMemory: 1,
  })
  session.on('error', () => {})
  try {
    const stream = session.request({
      ':method': 'POST',
      ':path': '/grpc.health.v1.Health/Check',
      'content-type': 'application/grpc',
      te: 'trailers',
      'user-agent': 'kube-probe/1.32',
    })
    stream.end(renderHealthCheck(service))
    let grpcStatus: unknown
    stream.on('response', (headers) => (grpcStatus = headers['grpc-status']))
    stream.on('trailers', (headers) => (grpcStatus = headers['grpc-status']))
    const body = await readBounded(stream, GRPC_ANSWER_BYTES_MAX).catch((cause: unknown) => {
      throw cause instanceof TooLong ? new Error('The answer to a gRPC probe is too long', { cause }) : cause
    })
    if (String(grpcStatus) === UNIMPLEMENTED)
      return {
        ok: false,
        message: 'error: this server does not implement the grpc health protocol (grpc.health.v1.Health)',
      }
    if (String(grpcStatus) !== '0')
      return { ok: false, message: `error: health rpc probe failed with status ${clip(String(grpcStatus))}` }
    const status = parseHealthCheck(body)
    return status === SERVING
      ? { ok: true, message: '' }
      : { ok: false, message: `service unhealthy (responded with "${SERVING_STATUSES[status] ?? status}")` }
  } finally {
    session.destroy()
  }
}

/** One gRPC message: no compression, its length, and protobuf field 1 as a string. */
function renderHealthCheck(service: string): Buffer {
  const name = Buffer.from(service)
  const message = name.length === 0 ? name : Buffer.concat([Buffer.from([0x0a]), varint(name.length), name])
  const head = Buffer.alloc(5)
  head.writeUInt32BE(message.length, 1)
  return Buffer.concat([head, message])
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 0x80) return Buffer.from([...bytes, rest])
    bytes.push((rest & 0x7f) | 0x80)
  }
}

/** The value of enum field 1; 0 (UNKNOWN) when it is not the first thing there. */
function parseHealthCheck(body: Buffer): number {
  if (body.length < 5 || body.readUInt8(0) !== 0 || body.readUInt32BE(1) !== body.length - 5) return 0
  return body.length >= 7 && body.readUInt8(5) === 0x08 ? body.readUInt8(6) : 0
}

/** Short, well-formed and on as few lines as it had. */
export function clip(text: string): string {
  const short = text.length > PROBE_MESSAGE_CHARS_MAX ? `${text.slice(0, PROBE_MESSAGE_CHARS_MAX)}…` : text
  return short.toWellFormed().replaceAll('\0', '')
}
