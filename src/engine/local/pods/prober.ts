import type { Duplex } from 'node:stream'
import type { JailHandler, JailProbe } from '../../../jail/index.ts'
import { SECOND_MS, type Clock } from '../../../stdx/index.ts'
import { PROBE_TIMEOUT_MS_MAX } from '../limits.ts'
import type { ContainerHost, PodNetwork, Prober, ProbeTarget } from '../parts.ts'
import { clip, type Exchange, type ProbeResult } from './probe-exchange.ts'
import { tellOfFailure } from './probe-messages.ts'
import { timeoutSignal } from './timers.ts'

/**
 * Runs probes and hooks. Connections are made inside the pod's own network namespace to the pod's own address, so a
 * probe reaches what the pod itself could reach and nothing else. What comes back is read elsewhere, without privilege.
 */
export function createProber({
  host,
  network,
  clock,
  exchange,
}: {
  host: Pick<ContainerHost, 'run'>
  network: Pick<PodNetwork, 'connect'>
  clock: Clock
  exchange: Exchange
}): Prober {
  const handle = async (
    target: ProbeTarget,
    handler: JailHandler | JailProbe['handler'],
    timeoutMs: number,
  ): Promise<ProbeResult> => {
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
    let outcome: ProbeResult | undefined
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
        outcome = await exchange(connection, { handler, podIP: target.podIP }, signal)
        return outcome
      }
      return await Promise.race([work(), aborted.promise])
    } catch (error) {
      // When the time was over before the prober has even taken the question, that says nothing about the pod.
      if (signal.aborted) await new Promise((resolve) => setImmediate(resolve))
      if (outcome?.unknown) return outcome
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
  ): Promise<ProbeResult> => {
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
