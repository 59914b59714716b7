import { request as httpRequest, type IncomingMessage } from 'node:http'
import { connect as http2Connect } from 'node:http2'
import type { Duplex } from 'node:stream'
import { connect as tlsConnect } from 'node:tls'
import type { JailHandler, JailProbe } from '../../../jail/index.ts'
import { SECOND_MS, type Clock } from '../../../stdx/index.ts'
import {
  GRPC_ANSWER_BYTES_MAX,
  PROBE_HEAD_BYTES_MAX,
  PROBE_MESSAGE_CHARS_MAX,
  PROBE_TIMEOUT_MS_MAX,
} from '../limits.ts'
import type { ContainerHost, PodNetwork, Prober, ProbeTarget } from '../parts.ts'
import { tellOfFailure } from './probe-messages.ts'
import { timeoutSignal } from './timers.ts'

type Result = { ok: boolean; message: string }

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

/**
 * Runs probes and hooks. Connections are made inside the pod's own network namespace to the pod's own address, so a
 * probe reaches what the pod itself could reach and nothing else. What answers is hostile: every answer is bounded.
 */
export function createProber({
  host,
  network,
  clock,
}: {
  host: Pick<ContainerHost, 'run'>
  network: Pick<PodNetwork, 'connect'>
  clock: Clock
}): Prober {
  const handle = async (
    target: ProbeTarget,
    handler: JailHandler | JailProbe['handler'],
    timeoutMs: number,
  ): Promise<Result> => {
    const boundedMs = Math.min(timeoutMs, PROBE_TIMEOUT_MS_MAX)
    if (handler.kind === 'exec') {
      const { exitCode, output } = await host.run(target.jail, target.containerID, handler.command, boundedMs)
      return { ok: exitCode === 0, message: clip(output) }
    }
    if (handler.kind === 'sleep') {
      const slept = Promise.withResolvers<void>()
      clock.after(Math.min(handler.seconds * SECOND_MS, timeoutMs, 2 ** 31 - 1), () => slept.resolve())
      await slept.promise
      return { ok: true, message: '' }
    }
    const { signal, cancel } = timeoutSignal(clock, boundedMs, `Asking port ${handler.port}`)
    let connection: Duplex | undefined
    let phase: 'dial' | 'exchange' = 'dial'
    const aborted = Promise.withResolvers<never>()
    const onAbort = () => aborted.reject(signal.reason as Error)
    signal.addEventListener('abort', onAbort, { once: true })
    // The race below takes the rejection; without this it would count as unhandled when the race was already won.
    aborted.promise.catch(() => {})
    try {
      const work = async () => {
        connection = await network.connect(target.jail, handler.port, signal)
        connection.on('error', () => {})
        phase = 'exchange'
        if (signal.aborted) connection.destroy()
        if (handler.kind === 'tcpSocket') return { ok: true, message: '' }
        if (handler.kind === 'grpc') return await checkHealth(connection, handler.service)
        return await get(connection, handler, target.podIP)
      }
      return await Promise.race([work(), aborted.promise])
    } catch (error) {
      const timedOutAfterMs = signal.aborted ? boundedMs : undefined
      const message = tellOfFailure({ handler, podIP: target.podIP, phase, error, timedOutAfterMs })
      return { ok: false, message: clip(message) }
    } finally {
      cancel()
      signal.removeEventListener('abort', onAbort)
      connection?.destroy()
    }
  }
  const bounded = async (
    target: ProbeTarget,
    handler: JailHandler | JailProbe['handler'],
    timeoutMs: number,
  ): Promise<Result> => {
    try {
      return await handle(target, handler, timeoutMs)
    } catch (error) {
      return { ok: false, message: clip(error instanceof Error ? error.message : String(error)) }
    }
  }
  return {
    probe: (target, probe) => bounded(target, probe.handler, probe.timeoutSeconds * SECOND_MS),
    hook: bounded,
  }
}

/** A status from 200 to 399 is success; a redirect is not followed, because it could lead anywhere. */
async function get(
  connection: Duplex,
  { path, scheme, headers, port }: Extract<JailHandler, { kind: 'httpGet' }>,
  podIP: string,
): Promise<Result> {
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
async function checkHealth(connection: Duplex, service: string): Promise<Result> {
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
    const chunks: Buffer[] = []
    let bytes = 0
    let grpcStatus: unknown
    stream.on('response', (headers) => (grpcStatus = headers['grpc-status']))
    stream.on('trailers', (headers) => (grpcStatus = headers['grpc-status']))
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > GRPC_ANSWER_BYTES_MAX) throw new Error('The answer to a gRPC probe is too long')
      chunks.push(chunk)
    }
    if (String(grpcStatus) === UNIMPLEMENTED)
      return {
        ok: false,
        message: 'error: this server does not implement the grpc health protocol (grpc.health.v1.Health)',
      }
    if (String(grpcStatus) !== '0')
      return { ok: false, message: `error: health rpc probe failed with status ${clip(String(grpcStatus))}` }
    const status = parseHealthCheck(Buffer.concat(chunks))
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
function clip(text: string): string {
  const short = text.length > PROBE_MESSAGE_CHARS_MAX ? `${text.slice(0, PROBE_MESSAGE_CHARS_MAX)}…` : text
  return short.toWellFormed().replaceAll('\0', '')
}
