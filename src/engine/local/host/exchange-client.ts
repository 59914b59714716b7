import { connect } from 'node:net'
import type { Duplex } from 'node:stream'
import { CHANNEL, FrameParser, renderFrame } from '../../../jail/index.ts'
import type { Logger } from '../../../stdx/index.ts'
import {
  EXCHANGE_CHUNK_BYTES_MAX,
  EXCHANGE_FROM_POD_BYTES_MAX,
  EXCHANGE_RESULT_BYTES_MAX,
  EXCHANGE_TO_POD_BYTES_MAX,
  EXCHANGES_UNHEARD_MAX,
} from '../limits.ts'
import { clip, type Exchange, type ProbeResult } from '../pods/probe-exchange.ts'

const UNKNOWN: ProbeResult = { ok: false, unknown: true, message: 'The probe could not be run' }

/**
 * Has the unprivileged prober ask over a connection to a pod: we pass bytes between the two and read none of them. A
 * prober that was taken over can lie about probes and talk to pods while they are probed; it reaches nothing else.
 */
export function createRemoteExchange({
  socketPath,
  log,
  onHung,
}: {
  socketPath: string
  log: Logger
  /** It has not even taken questions for a while. */
  onHung: () => void
}): Exchange {
  let unheard = 0
  return async (connection, question, signal) => {
    const { heard, result } = await ask(socketPath, connection, question, signal)
    unheard = heard ? 0 : unheard + 1
    if (unheard >= EXCHANGES_UNHEARD_MAX) {
      unheard = 0
      log.warn('the prober takes no questions')
      onHung()
    }
    return result
  }
}

function ask(
  socketPath: string,
  connection: Duplex,
  question: Parameters<Exchange>[1],
  signal: AbortSignal,
): Promise<{ heard: boolean; result: ProbeResult }> {
  const done = Promise.withResolvers<{ heard: boolean; result: ProbeResult }>()
  const prober = connect({ path: socketPath })
  const parser = new FrameParser()
  let heard = false
  let fromPodLeft = EXCHANGE_FROM_POD_BYTES_MAX
  let toPodLeft = EXCHANGE_TO_POD_BYTES_MAX
  const finish = (result: ProbeResult) => {
    done.resolve({ heard, result })
    prober.destroy()
    connection.destroy()
    signal.removeEventListener('abort', onAbort)
  }
  // Whoever asked has its own words for what took too long, if it was the pod.
  const onAbort = () => finish(heard ? { ok: false, message: 'The time is over' } : UNKNOWN)
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()

  connection.on('data', (chunk: Buffer) => {
    fromPodLeft -= chunk.length
    if (fromPodLeft < 0) return finish({ ok: false, message: 'The answer to a probe is too long' })
    for (let at = 0; at < chunk.length; at += EXCHANGE_CHUNK_BYTES_MAX) {
      const more = prober.write(renderFrame(CHANNEL.stdin, chunk.subarray(at, at + EXCHANGE_CHUNK_BYTES_MAX)))
      if (!more) connection.pause()
    }
  })
  prober.on('drain', () => connection.resume())
  const over = (code: string) => {
    if (prober.writable) prober.write(renderFrame(CHANNEL.close, Buffer.from(code)))
  }
  connection.on('end', () => over(''))
  connection.on('error', (error: NodeJS.ErrnoException) => over(error.code ?? 'ECONNRESET'))

  prober.on('data', (chunk: Buffer) => {
    try {
      for (const { channel, payload } of parser.parse(chunk)) {
        heard = true
        if (channel === CHANNEL.status) return finish(parseResult(payload))
        if (channel !== CHANNEL.stdout) continue
        toPodLeft -= payload.length
        if (toPodLeft < 0) throw new RangeError('The prober says too much to a pod')
        if (connection.writable) connection.write(payload)
      }
    } catch {
      finish(UNKNOWN)
    }
  })
  prober.on('error', () => finish(UNKNOWN))
  prober.on('close', () => finish(UNKNOWN))
  prober.write(renderFrame(CHANNEL.stdin, Buffer.from(JSON.stringify(question))))
  return done.promise
}

/** The prober reads what pods send and may have been taken over. @throws when it is no result. */
export function parseResult(payload: Buffer): ProbeResult {
  if (payload.length > EXCHANGE_RESULT_BYTES_MAX) throw new RangeError('The result of a probe is too long')
  const value = JSON.parse(payload.toString()) as { ok?: unknown; message?: unknown } | null
  if (typeof value?.ok !== 'boolean' || typeof value.message !== 'string')
    throw new TypeError('The prober answered with something else than a result')
  return { ok: value.ok, message: clip(value.message) }
}
