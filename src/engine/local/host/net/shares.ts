import type { BandwidthCaps } from '../../../../jail/index.ts'
import {
  type Bandwidth,
  EVERYTHING,
  type Ipv4,
  type SharePlan,
  UPLINK,
  netLimits,
  planShare,
  isClassOf,
  planUplinkShare,
  podClass,
  podClassId,
  shareLinks,
  shareOwner,
  tenantClass,
} from '../../plan/net/index.ts'
import { ensureIfbModule } from './ifb-module.ts'
import type { Message } from './netlink.ts'
import {
  QUEUE_HANDLE,
  classIds,
  hasQueue,
  listClassesMessage,
  listQueuesMessage,
  queueMessages,
  rateMessages,
  removeClassMessage,
  waitingMessages,
} from './queues.ts'
import {
  type RouteSocket,
  deleteLinkMessage,
  isGone,
  linkUpMessage,
  packetSizeMessage,
  waitingLinkMessage,
} from './rtnetlink.ts'
import { SyscallError } from './syscalls.ts'
import { type Direction, filterMessages, isClassifier, listClassifiersMessage } from './traffic-control.ts'

const DIRECTIONS = ['send', 'receive'] as const
const PROBE_LINK = 'share-probe'

/** Links, by index, through which all that a tenant's pods send, and receive, goes as far as it waits. */
export type ShareLinks = Readonly<Record<Direction, number>>

export type ShareOptions = {
  /** In the router's namespace. */
  routes: () => RouteSocket
}

/**
 * The tenants' parts of the pods' network: all that the pods of one send passes one link of the kernel's where it waits
 * for its turn, and all that they receive passes another. See tc-htb(8).
 */
export class Shares {
  private readonly routes: () => RouteSocket
  /** Why this kernel cannot; undefined when it can. */
  private missing: string | undefined
  private probed = false
  /** Links that are as they should be, by tenant, with what they let through. */
  private readonly ready = new Map<number, { links: ShareLinks; bandwidth: Bandwidth }>()
  private uplink: { link: number; bitsPerSecond: number; tenants: Map<number, number> } | undefined

  constructor({ routes }: ShareOptions) {
    this.routes = routes
  }

  /** Tries it out on a link of its own, once. */
  probe(): string | undefined {
    if (this.probed) return this.missing
    const routes = this.routes()
    try {
      this.removeLink(PROBE_LINK)
      ensureIfbModule()
      routes.request([waitingLinkMessage(PROBE_LINK)])
      const link = routes.link(PROBE_LINK)
      routes.request(queueMessages(link, planShare('send', 1_000_000)))
      const detour = { link, waits: EVERYTHING }
      routes.request(filterMessages(link, NOTHING, { fromPod: detour, toPod: detour }))
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error
      this.missing = error.message
    } finally {
      this.removeLink(PROBE_LINK)
    }
    this.probed = true
    return this.missing
  }

  /**
   * Makes the tenant's links be there and let that much through; safe to repeat. Afterwards: filters of pods' links that
   * lead elsewhere must be repaired.
   * @returns where its pods' packets are to go; undefined where the kernel cannot do it.
   */
  ensure(index: number, bandwidth: Bandwidth): ShareLinks | undefined {
    if (this.probe() !== undefined) return undefined
    const known = this.ready.get(index)
    if (known) {
      if (
        known.bandwidth.ingressBitsPerSecond !== bandwidth.ingressBitsPerSecond ||
        known.bandwidth.egressBitsPerSecond !== bandwidth.egressBitsPerSecond
      )
        for (const direction of DIRECTIONS)
          this.routes().request(
            rateMessages(linkOf(known.links, direction), planShare(direction, bitsOf(bandwidth, direction))),
          )
      this.ready.set(index, { ...known, bandwidth })
      return known.links
    }
    const names = shareLinks(index)
    const [fromPod, toPod] = DIRECTIONS.map((direction) =>
      this.ensureLink(names[direction], planShare(direction, bitsOf(bandwidth, direction))),
    ) as [number, number]
    const links = { fromPod, toPod }
    this.ready.set(index, { links, bandwidth })
    return links
  }

  /** What the pod may send and receive of what its tenant may. Requires: `ensure` of the tenant. */
  setPod(index: number, address: Ipv4, caps: BandwidthCaps | undefined): void {
    const share = this.ready.get(index)
    if (!share) return
    for (const direction of DIRECTIONS) {
      const link = linkOf(share.links, direction)
      const bits = direction === 'send' ? caps?.egressBitsPerSecond : caps?.ingressBitsPerSecond
      const most = bitsOf(share.bandwidth, direction)
      if (bits === undefined) this.removeClass(link, podClassId(address))
      else
        this.routes().request(
          waitingMessages(link, planShare(direction, most).whole, podClass(address, Math.min(bits, most))),
        )
    }
  }

  /** Requires: the tenant has no pods. */
  remove(index: number): void {
    this.ready.delete(index)
    for (const name of Object.values(shareLinks(index))) this.removeLink(name)
  }

  /** Links of tenants that have none any more. */
  removeOthers(indexes: ReadonlySet<number>): void {
    for (const name of this.routes().links().keys()) {
      const owner = shareOwner(name)
      if (owner !== undefined && !indexes.has(owner)) this.remove(owner)
    }
  }

  /** Links may have changed behind our back: look at them again before relying on them. */
  forget(): void {
    this.ready.clear()
    this.uplink = undefined
  }

  /** Makes the way outside, if it is there, be shared by those tenants; safe to repeat. */
  shareUplink(bitsPerSecond: number, tenants: ReadonlyMap<number, Bandwidth>): void {
    if (this.probe() !== undefined) return
    const routes = this.routes()
    const link = routes.links().get(UPLINK)
    if (link === undefined) {
      this.uplink = undefined
      return
    }
    const plan = planUplinkShare(bitsPerSecond)
    const wanted = new Map(
      [...tenants].map(([index, each]) => [index, Math.min(bitsPerSecond, each.egressBitsPerSecond)]),
    )
    const shared = this.isShared(link, plan)
    if (!shared || this.uplink?.link !== link || this.uplink.bitsPerSecond !== bitsPerSecond) {
      if (shared) routes.request(rateMessages(link, plan))
      else routes.request(queueMessages(link, plan))
      const there = new Set(classIds(routes.dump(listClassesMessage(link)), link))
      for (const id of [plan.whole, plan.rest].map((each) => each.id)) there.delete(id)
      for (const index of wanted.keys()) there.delete(tenantClass(index, bitsPerSecond).id)
      for (const id of there) this.removeClass(link, id)
      this.uplink = { link, bitsPerSecond, tenants: new Map() }
    }
    const { tenants: known } = this.uplink
    for (const [index, bits] of wanted)
      if (known.get(index) !== bits) {
        routes.request(waitingMessages(link, plan.whole, tenantClass(index, bits)))
        known.set(index, bits)
      }
    for (const index of [...known.keys()])
      if (!wanted.has(index)) {
        this.removeClass(link, tenantClass(index, bitsPerSecond).id)
        known.delete(index)
      }
  }

  /** @returns the link's number. One that is there and not as it should be is made anew. */
  private ensureLink(name: string, plan: SharePlan): number {
    const routes = this.routes()
    const there = routes.links().get(name)
    if (there !== undefined) {
      const ids = classIds(routes.dump(listClassesMessage(there)), there)
      // A class that is not ours would have what it was given besides what the tenant has.
      if (this.isShared(there, plan) && ids.every((id) => isClassOf(plan, id))) {
        routes.request([...rateMessages(there, plan), linkUpMessage(there)])
        routes.requestAll([packetSizeMessage(there, netLimits.PACKET_BYTES_MAX)])
        return there
      }
      this.removeLink(name)
    }
    routes.request([waitingLinkMessage(name)])
    const link = routes.link(name)
    routes.request(queueMessages(link, plan))
    routes.request([linkUpMessage(link)])
    // Larger packets than the link is told of would be cut here already. An old kernel makes none.
    routes.requestAll([packetSizeMessage(link, netLimits.PACKET_BYTES_MAX)])
    return link
  }

  private isShared(link: number, plan: SharePlan): boolean {
    const routes = this.routes()
    return (
      hasQueue(routes.dump(listQueuesMessage(link)), link) &&
      isClassifier(routes.dump(listClassifiersMessage(link, QUEUE_HANDLE)), plan.classify)
    )
  }

  private removeClass(link: number, id: number): void {
    this.tolerate(removeClassMessage(link, id))
  }

  private removeLink(name: string): void {
    const link = this.routes().links().get(name)
    if (link !== undefined) this.tolerate(deleteLinkMessage(link))
  }

  /** What is not there need not be removed. */
  private tolerate(message: Message): void {
    const [error] = this.routes().requestAll([message])
    if (error && !isGone(error)) throw error
  }
}

const NOTHING = { fromPod: EVERYTHING, toPod: EVERYTHING }

function linkOf({ fromPod, toPod }: ShareLinks, direction: 'send' | 'receive'): number {
  return direction === 'send' ? fromPod : toPod
}

function bitsOf(bandwidth: Bandwidth, direction: 'send' | 'receive'): number {
  return direction === 'send' ? bandwidth.egressBitsPerSecond : bandwidth.ingressBitsPerSecond
}
