import { Agent } from 'node:http'
import { isIPv4 } from 'node:net'
import { askUnix, type Clock, FairPlaces } from '../../../stdx/index.ts'
import {
  OUTSIDE_ANSWER_BYTES_MAX,
  OUTSIDE_PER_SECOND_PER_TENANT_MAX,
  OUTSIDE_TIMEOUT_MS,
  OUTSIDE_WAITING_MAX,
  OUTSIDE_WAITING_PER_TENANT_MAX,
} from './limits.ts'
import { type Answer, RCODE, TYPE } from './message.ts'
import { failure } from './view.ts'

type OutsideQuestion = {
  index: number
  /** Address of the pod that asks. */
  pod: string
  name: string
  /** A name of the tenant's own leads to it. */
  alias: boolean
  type: number
}

/**
 * Answers about names outside. Whether a pod may know one is asked of the node agent, every time: it opens the addresses
 * before it tells them. Only addresses of IPv4 are ever asked for, so that nothing else can carry anything in or out; a
 * name that may not be known and one that does not exist have the same answer.
 */
export class OutsideNames {
  private readonly socketPath: string
  private readonly agent = new Agent({ keepAlive: true, maxSockets: OUTSIDE_WAITING_MAX, maxFreeSockets: 8 })
  private readonly places = new FairPlaces<number>({
    placesMax: OUTSIDE_WAITING_MAX,
    perHolderMax: OUTSIDE_WAITING_PER_TENANT_MAX,
  })
  private readonly clock: Clock
  private second = 0
  private asked = new Map<number, number>()

  constructor(socketPath: string, clock: Clock) {
    this.socketPath = socketPath
    this.clock = clock
  }

  /** `before` is what we know ourselves: the aliases that lead outside, or that there is no such name. */
  async answer({ index, pod, name, alias, type }: OutsideQuestion, before: Answer): Promise<Answer> {
    // An alias is told as it is, as long as what it leads to is not asked for.
    if (alias && type !== TYPE.A) return before
    if (!this.withinRate(index)) return failure(RCODE.serverFailure)
    const release = this.places.take(index)
    if (!release) return failure(RCODE.serverFailure)
    try {
      const { addresses, ttlSeconds } = await this.ask(pod, name)
      if (addresses.length === 0) return before
      const owner = alias ? { name } : {}
      const records = addresses.map((data) => ({ ...owner, type: 'A' as const, data, ttlSeconds }))
      const answers = alias ? [...before.answers, ...records] : type === TYPE.A ? records : []
      return { rcode: RCODE.noError, authoritative: false, answers, authorities: [], additionals: [] }
    } catch {
      return failure(RCODE.serverFailure)
    } finally {
      release()
    }
  }

  /** The node agent does everybody's work, so no tenant keeps it busy with its questions. */
  private withinRate(index: number): boolean {
    const second = Math.floor(this.clock.nowMs() / 1_000)
    if (second !== this.second) [this.second, this.asked] = [second, new Map()]
    const asked = (this.asked.get(index) ?? 0) + 1
    this.asked.set(index, asked)
    return asked <= OUTSIDE_PER_SECOND_PER_TENANT_MAX
  }

  private async ask(pod: string, name: string): Promise<{ addresses: string[]; ttlSeconds: number }> {
    const { code, body } = await askUnix({
      socketPath: this.socketPath,
      agent: this.agent,
      path: `/v1/names?pod=${encodeURIComponent(pod)}&name=${encodeURIComponent(name)}`,
      signal: AbortSignal.timeout(OUTSIDE_TIMEOUT_MS),
      answerBytesMax: OUTSIDE_ANSWER_BYTES_MAX,
    })
    if (code !== 200) throw new Error(`The node agent answered ${code}`)
    const { addresses, ttlSeconds } = JSON.parse(body.toString('utf8')) as {
      addresses?: unknown
      ttlSeconds?: unknown
    }
    return {
      addresses: Array.isArray(addresses)
        ? addresses.filter((a): a is string => typeof a === 'string' && isIPv4(a))
        : [],
      ttlSeconds: typeof ttlSeconds === 'number' ? Math.min(Math.max(Math.floor(ttlSeconds), 0), 3_600) : 0,
    }
  }
}
