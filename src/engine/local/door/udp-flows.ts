import type { Socket } from 'node:net'
import { onDatagrams, sendDatagram } from './datagrams.ts'
import * as limits from './limits.ts'

/** One client's datagrams to one port of the door, and the answers to them. */
type Flow = {
  index: number
  client: string
  /** Whoever says who the client is may lie, so a flow that nobody has answered is the first to go. */
  answered: boolean
  seenMs: number
  /** Bytes that may still go back: more than a few times what came would make us a weapon against whom it is said to be from. */
  credit: number
  /** Undefined until the way to the service is found. */
  up: Socket | undefined
  waiting: Buffer[]
}

export type UdpFlowsOptions = {
  nowMs: () => number
  /** The way to a service that the tenant has published; undefined when nobody is there. */
  connect: (index: number, port: number, client: string) => Promise<Socket | undefined>
}

/**
 * Which flows of datagrams there are. Only what came from outside makes one, so nothing goes out that was not asked for;
 * answers are bounded by what was asked; and of flows each tenant, and each client, has so many at most.
 */
export class UdpFlows {
  private readonly options: UdpFlowsOptions
  private readonly flows = new Map<string, Flow>()
  private readonly perTenant = new Map<number, number>()
  private readonly perClient = new Map<string, number>()
  private readonly rates = new Map<number, { second: number; datagrams: number; fresh: number }>()

  constructor(options: UdpFlowsOptions) {
    this.options = options
  }

  get size(): number {
    return this.flows.size
  }

  /** Requires: the port belongs to the tenant, which lets the client in. */
  take(
    { index, port, client, clientPort }: { index: number; port: number; client: string; clientPort: number },
    datagram: Buffer,
    answer: (datagram: Buffer) => void,
  ): void {
    const nowMs = this.options.nowMs()
    const second = Math.floor(nowMs / 1_000)
    let rate = this.rates.get(index)
    if (rate?.second !== second) this.rates.set(index, (rate = { second, datagrams: 0, fresh: 0 }))
    if (++rate.datagrams > limits.TENANT_DATAGRAMS_PER_SECOND_MAX) return
    const key = `${index} ${port} ${client} ${clientPort}`
    let flow = this.flows.get(key)
    if (!flow) {
      if (++rate.fresh > limits.TENANT_FLOWS_PER_SECOND_MAX || !this.makeRoom(index, client, nowMs)) return
      flow = { index, client, answered: false, seenMs: nowMs, credit: 0, up: undefined, waiting: [] }
      this.flows.set(key, flow)
      count(this.perTenant, index, 1)
      count(this.perClient, client, 1)
      this.open(key, flow, port, answer).catch(() => this.end(key))
    }
    flow.seenMs = nowMs
    const counted = Math.max(datagram.length, limits.DATAGRAM_BYTES_COUNTED_MIN)
    flow.credit = Math.min(flow.credit + counted * limits.ANSWER_FACTOR, limits.FLOW_CREDIT_BYTES_MAX)
    // The memory belongs to the socket that it came from.
    if (flow.up) sendDatagram(flow.up, datagram)
    else if (flow.waiting.length < limits.FLOW_DATAGRAMS_WAITING_MAX) flow.waiting.push(Buffer.from(datagram))
  }

  /** Ends what nobody has used for a while, and what `isGone` says. */
  sweep(isGone: (index: number, port: number) => boolean = () => false): void {
    const nowMs = this.options.nowMs()
    for (const [key, flow] of this.flows) {
      const idleMs = flow.answered ? limits.FLOW_IDLE_MS : limits.FLOW_UNANSWERED_MS
      if (nowMs - flow.seenMs > idleMs || isGone(flow.index, Number(key.split(' ')[1]))) this.end(key)
    }
    const second = Math.floor(nowMs / 1_000)
    for (const [index, rate] of this.rates) if (rate.second < second) this.rates.delete(index)
  }

  private async open(
    key: string,
    flow: Flow,
    port: number,
    answer: (datagram: Buffer) => void,
  ): Promise<void> {
    const up = await this.options.connect(flow.index, port, flow.client)
    if (!up || this.flows.get(key) !== flow) {
      up?.destroy()
      return this.end(key)
    }
    flow.up = up
    up.on('error', () => up.destroy())
    up.once('close', () => this.flows.get(key) === flow && this.end(key))
    onDatagrams(up, (datagram) => {
      if (this.flows.get(key) !== flow || datagram.length > flow.credit) return
      flow.credit -= datagram.length
      flow.answered = true
      flow.seenMs = this.options.nowMs()
      answer(datagram)
    })
    for (const datagram of flow.waiting.splice(0)) sendDatagram(up, datagram)
  }

  /** A place for one more, at the cost of the tenant's own oldest flow that nobody has answered. */
  private makeRoom(index: number, client: string, nowMs: number): boolean {
    if ((this.perClient.get(client) ?? 0) >= limits.CLIENT_FLOWS_MAX) return false
    const isFull = () =>
      this.flows.size >= limits.FLOWS_MAX || (this.perTenant.get(index) ?? 0) >= limits.TENANT_FLOWS_MAX
    if (!isFull()) return true
    for (const [key, flow] of this.flows) {
      if (flow.index !== index || flow.answered || nowMs - flow.seenMs < limits.FLOW_SPARED_MS) continue
      this.end(key)
      return !isFull()
    }
    return false
  }

  private end(key: string): void {
    const flow = this.flows.get(key)
    if (!flow) return
    this.flows.delete(key)
    count(this.perTenant, flow.index, -1)
    count(this.perClient, flow.client, -1)
    flow.up?.destroy()
  }

  close(): void {
    for (const key of [...this.flows.keys()]) this.end(key)
  }
}

function count<K>(counts: Map<K, number>, key: K, by: number): void {
  const now = (counts.get(key) ?? 0) + by
  if (now > 0) counts.set(key, now)
  else counts.delete(key)
}
