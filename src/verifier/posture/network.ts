import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { type BpfInstruction, parseInstructions } from './classic-bpf.ts'
import { Ruleset } from './ruleset.ts'

const OUTPUT_BYTES_MAX = 256 * 1024 * 1024
export const UPLINK = 'uplink'

/** A pod's end of the network, as the router's namespace shows it. */
export type PodLink = {
  interfaceName: string
  mac: string
  address: string
  /** Those that surely are asked about every packet to the pod: at most the first. */
  egressFilters: readonly BpfInstruction[][]
  /** The same of packets from the pod. */
  ingressFilters: readonly BpfInstruction[][]
  /** Where what the pod sends, and what is sent to it, waits before it goes on. */
  shares?: { sent: LinkShare | undefined; received: LinkShare | undefined }
}

/** A link through which what is redirected to it passes no faster than this: every frame of which `waits` says another number than 0. */
export type LinkShare = { link: string; bitsPerSecond: number; waits: readonly BpfInstruction[] }

export type RouterPosture = {
  /** Inode of the network namespace, to be compared with the machine's. */
  inode: string
  /** `toMachine`: the other end is a link of the machine's own namespace. */
  links: readonly { name: string; kind: string; addresses: readonly string[]; toMachine: boolean }[]
  pods: readonly PodLink[]
  /** The one link that may lead to the machine, if it is there, and the filter for what leaves through it. */
  uplink?: { address: string; egressFilters: readonly BpfInstruction[][] }
  ruleset: Ruleset
  /** Networks that the router knows a way to, besides single pods. */
  otherRoutes: readonly { dst: string; dev?: string }[]
}

type IpLink = {
  ifindex: number
  /** Index of the other end, in its own namespace; only then is `link_netnsid` there too. */
  link_index?: number
  link_netnsid?: number
  ifname: string
  address?: string
  linkinfo?: { info_kind?: string }
}
type IpAddress = { ifname: string; addr_info?: { local?: string }[] }
type IpRoute = { dst: string; dev?: string; type?: string }
type IpNeighbour = { dst: string; dev: string; lladdr?: string }

/**
 * Reads the router's network namespace with the standard tools, entering it from outside. They only list.
 * @throws when it is not there or cannot be read: then nothing is known, and nothing counts.
 */
export function observeRouter(netns: string): RouterPosture {
  if (!existsSync(netns)) throw new Error(`There is no network namespace at "${netns}"`)
  const list = <T>(...args: string[]) => JSON.parse(runIn(netns, 'ip', ['-j', '-d', ...args]) || '[]') as T[] // ip's own JSON
  const links = list<IpLink>('link', 'show')
  const addresses = list<IpAddress>('addr', 'show')
  const routes = list<IpRoute>('-4', 'route', 'show', 'table', 'main')
  const neighbours = list<IpNeighbour>('-4', 'neigh', 'show')
  const machineLinks = JSON.parse(
    execFileSync('ip', ['-j', '-d', 'link', 'show'], { encoding: 'utf8' }),
  ) as IpLink[] // ip's own JSON
  const leadsToMachine = (link: IpLink) => machineLinks.some((other) => areEnds(link, other))
  // The uplink has such a route too, to its other end.
  const isPodRoute = (route: IpRoute) =>
    /^\d+\.\d+\.\d+\.\d+(?:\/32)?$/.test(route.dst) &&
    route.dev !== UPLINK &&
    links.some((link) => link.ifname === route.dev && link.linkinfo?.info_kind === 'veth')
  const podRoutes = routes.filter(isPodRoute)
  const up = links.find((link) => link.ifname === UPLINK && link.linkinfo?.info_kind === 'veth')
  const podLinks = [...new Set(podRoutes.map((route) => route.dev ?? ''))]
  const texts = {
    egress: askAll(netns, [...podLinks, ...(up ? [UPLINK] : [])], 'egress'),
    ingress: askAll(netns, podLinks, 'ingress'),
  }
  const filters = new Map([...texts.egress].map(([name, text]) => [name, parseFilters(text)]))
  const detours = [texts.ingress, texts.egress].map(
    (all) => new Map([...all].map(([name, text]) => [name, parseDetour(text)])),
  )
  const queues = observeQueues(netns, [
    ...new Set(detours.flatMap((each) => [...each.values()].flatMap((detour) => detour?.link ?? []))),
  ])
  const shares = (name: string) => {
    const [sent, received] = detours.map((each) => {
      const detour = each.get(name)
      const bitsPerSecond = detour && queues.get(detour.link)
      return detour && bitsPerSecond !== undefined ? { ...detour, bitsPerSecond } : undefined
    })
    return { sent, received }
  }
  const upAddress = addresses.find((a) => a.ifname === UPLINK)?.addr_info?.find((a) => a.local?.includes('.'))
  return {
    inode: inodeOf(netns),
    links: links.map((link) => ({
      name: link.ifname,
      kind: link.linkinfo?.info_kind ?? (link.ifname === 'lo' ? 'loopback' : 'unknown'),
      addresses: addresses
        .filter((a) => a.ifname === link.ifname)
        .flatMap((a) => (a.addr_info ?? []).flatMap((info) => info.local ?? [])),
      toMachine: leadsToMachine(link),
    })),
    ...(up ? { uplink: { address: upAddress?.local ?? '', egressFilters: filters.get(UPLINK) ?? [] } } : {}),
    pods: podRoutes.map((route) => {
      const address = route.dst.replace('/32', '')
      const interfaceName = route.dev ?? ''
      const mac = neighbours.find((n) => n.dst === address && n.dev === interfaceName)?.lladdr ?? ''
      return {
        interfaceName,
        address,
        mac,
        egressFilters: filters.get(interfaceName) ?? [],
        ingressFilters: parseFilters(texts.ingress.get(interfaceName) ?? ''),
        shares: shares(interfaceName),
      }
    }),
    ruleset: new Ruleset(runIn(netns, 'nft', ['-j', 'list', 'ruleset'])),
    otherRoutes: routes
      .filter((route) => !isPodRoute(route) && route.type !== 'unreachable' && route.type !== 'blackhole')
      .map(({ dst, dev }) => ({ dst, ...(dev === undefined ? {} : { dev }) })),
  }
}

/** Whether two links of different namespaces name each other as their other end. */
function areEnds(a: IpLink, b: IpLink): boolean {
  return (
    a.link_netnsid !== undefined &&
    b.link_netnsid !== undefined &&
    a.link_index === b.ifindex &&
    b.link_index === a.ifindex
  )
}

/** A socket that takes what anybody sends to it: one that listens, or one for datagrams without a fixed partner. */
export type OpenSocket = { protocol: string; local: string; uid: number }

/** Every open socket in a network namespace (proc_pid_net(5)). */
export function observeOpenSockets(netns: string): OpenSocket[] {
  return SOCKET_TABLES.flatMap((protocol) => {
    const file = `/proc/thread-self/net/${protocol}`
    const text = runIn(netns, 'sh', ['-c', `if [ -e ${file} ]; then cat ${file}; fi`])
    return parseSocketTable(protocol, text)
  })
}

const SOCKET_TABLES = ['tcp', 'tcp6', 'udp', 'udp6', 'udplite', 'udplite6', 'raw', 'raw6', 'packet'] as const
const TCP_LISTEN = '0A'
const NOBODY_PORT = '0000'

export function parseSocketTable(protocol: string, text: string): OpenSocket[] {
  return text
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const fields = line.trim().split(/\s+/)
      if (fields.length < 8) return []
      // Packet sockets see whole frames and have no address.
      if (protocol === 'packet') return [{ protocol, local: '*', uid: Number(fields[7]) }]
      const [, local = '', remote = '', state, , , , uid] = fields
      const open = protocol.startsWith('tcp') ? state === TCP_LISTEN : remote.endsWith(`:${NOBODY_PORT}`)
      return open ? [{ protocol, local: socketAddress(local), uid: Number(uid) }] : []
    })
}

/** `0101FEA9:0035`, the address in the byte order of the machine, as `169.254.1.1:53`. */
function socketAddress(text: string): string {
  const [address = '', port = ''] = text.split(':')
  if (address.length !== 8) return `[${address}]:${Number.parseInt(port, 16)}`
  const bytes =
    address
      .match(/../g)
      ?.toReversed()
      .map((byte) => Number.parseInt(byte, 16)) ?? []
  return `${bytes.join('.')}:${Number.parseInt(port, 16)}`
}

/** The links of the network namespace that a process is in. */
export function observeLinksOf(pid: number): { name: string; mac: string }[] {
  const links = JSON.parse(runIn(`/proc/${pid}/ns/net`, 'ip', ['-j', 'link', 'show']) || '[]') as IpLink[] // ip's own JSON
  return links.map((link) => ({ name: link.ifname, mac: link.address ?? '' }))
}

/** Every address of this machine, in the namespace that we are in ourselves. */
export function observeMachineAddresses(): string[] {
  const addresses = JSON.parse(
    execFileSync('ip', ['-j', 'addr', 'show'], { encoding: 'utf8' }),
  ) as IpAddress[] // ip's own JSON
  return addresses.flatMap((a) => (a.addr_info ?? []).flatMap((info) => info.local ?? []))
}

/** What the tool prints about the filters of each link, all asked for in one run of it. */
function askAll(netns: string, links: readonly string[], hook: 'ingress' | 'egress'): Map<string, string> {
  return askInParts(links, (some) => {
    const questions = some.map((name) => `filter show dev ${name} ${hook}\n`).join('')
    return runIn(netns, 'tc', ['-j', '-batch', '-'], questions)
      .split('\n')
      .filter((line) => line !== '')
  })
}

/** Bits per second that pass each of these links; nothing of those that let everything pass. */
function observeQueues(netns: string, links: readonly string[]): Map<string, number> {
  const texts = askInParts(links, (some) => {
    const questions = some.map((name) => `qdisc show dev ${name}\nclass show dev ${name}\n`).join('')
    // Every link has exactly one queue at its root, and that is told first.
    return runIn(netns, 'tc', ['-batch', '-'], questions).split(/^(?=qdisc \S+ \S+ root )/m)
  })
  return new Map(
    [...texts].flatMap(([name, text]) => {
      const bits = parseQueue(text)
      return bits === undefined ? [] : [[name, bits] as const]
    }),
  )
}

/** One answer for each link; a link that went away in between has none, and is no reason to know nothing of the others. */
function askInParts(
  links: readonly string[],
  ask: (some: readonly string[]) => readonly string[],
): Map<string, string> {
  if (links.length === 0) return new Map()
  try {
    const answers = ask(links)
    if (answers.length !== links.length)
      throw new Error(`tc answered ${answers.length} of ${links.length} times`)
    return new Map(links.map((name, at) => [name, answers[at] ?? '']))
  } catch {
    if (links.length === 1) return new Map()
    return new Map(links.flatMap((name) => [...askInParts([name], ask)]))
  }
}

const UNITS: Readonly<Record<string, number>> = { bit: 1, Kbit: 1e3, Mbit: 1e6, Gbit: 1e9, Tbit: 1e12 }
const PARENTS_MAX = 8

/**
 * Bits per second that a hierarchical token bucket lets pass altogether, from `tc qdisc show` and `tc class show` of its
 * link; undefined when there is none, or something can pass it by.
 */
export function parseQueue(text: string): number | undefined {
  const rest = /^qdisc htb (\w+:) root [^\n]*\bdefault 0x(\w+)/m.exec(text)
  if (!rest) return undefined
  const classes = new Map(
    [...text.matchAll(/^class htb (\w+:\w+) (?:root|parent (\w+:\w+)) .*?rate (\S+) ceil (\S+)/gm)].map(
      ([, id = '', parent, rate = '', ceil = '']) => [id, { parent, rate: bitsOf(rate), ceil: bitsOf(ceil) }],
    ),
  )
  const all = [...classes.values()]
  // What has no class of its own would not wait at all.
  if (!classes.has(`${rest[1]}${rest[2]}`)) return undefined
  if (all.some(({ parent }) => parent !== undefined && !classes.has(parent))) return undefined
  const most = (id: string, depth: number): number => {
    if (depth > PARENTS_MAX) return Infinity
    const below = [...classes].filter(([, { parent }]) => parent === id)
    // A class is let through as fast as its own rate whatever those above it say.
    const guaranteed = below.reduce(
      (sum, [child, { rate }]) => sum + Math.min(rate, most(child, depth + 1)),
      0,
    )
    return Math.max(classes.get(id)?.ceil ?? Infinity, guaranteed)
  }
  const bits = [...classes]
    .filter(([, { parent }]) => parent === undefined)
    .reduce((sum, [id]) => sum + most(id, 0), 0)
  return Number.isFinite(bits) && bits > 0 ? bits : undefined
}

function bitsOf(text: string): number {
  const parts = /^(\d+(?:\.\d+)?)([KMGT]?bit)$/.exec(text)
  return parts ? Number(parts[1]) * (UNITS[parts[2] ?? ''] ?? Infinity) : Infinity
}

/**
 * The link through which that goes which the first filter does not drop and of which the second says so; undefined when
 * something else decides.
 */
export function parseDetour(text: string): Pick<LinkShare, 'link' | 'waits'> | undefined {
  const [filter] = parseFilters(text)
  // A filter that says "pass" would end the matter.
  const drops = filter?.every(({ code, k }) => code !== RETURN || k === TC_ACT_SHOT || k === TC_ACT_UNSPEC)
  if (drops !== true) return undefined
  const [, second] = (JSON.parse(text) as unknown[]).filter((each) => field(each, 'options') !== undefined) // read above
  const options = field(second, 'options')
  const waits = parseInstructions(field(field(options, 'bytecode'), 'insns'))
  const actions = field(options, 'actions')
  const action = Array.isArray(actions) && actions.length === 1 ? (actions[0] as unknown) : undefined
  const link = field(action, 'to_dev')
  return field(second, 'kind') === 'bpf' &&
    field(second, 'protocol') === 'all' &&
    field(second, 'chain') === 0 &&
    field(options, 'direct-action') === undefined &&
    field(options, 'skip_sw') === undefined &&
    waits !== undefined &&
    field(action, 'kind') === 'mirred' &&
    field(action, 'mirred_action') === 'redirect' &&
    field(action, 'direction') === 'egress' &&
    typeof link === 'string'
    ? { link, waits }
    : undefined
}

const RETURN = 0x06
const TC_ACT_SHOT = 2
const TC_ACT_UNSPEC = 0xffff_ffff

/**
 * What `tc -j filter show dev LINK egress` of iproute2 6.1 prints about one link: the program that decides first about
 * every packet, whatever its protocol. Later ones may never be asked, so they do not count, and neither does a filter
 * that leaves the decision to something else.
 */
export function parseFilters(text: string): BpfInstruction[][] {
  let document: unknown
  try {
    document = JSON.parse(text)
  } catch {
    return []
  }
  if (!Array.isArray(document)) return []
  // Before the filters of each priority there is an entry without options.
  const first = (document as unknown[]).find((each) => field(each, 'options') !== undefined)
  const options = field(first, 'options')
  if (
    field(first, 'kind') !== 'bpf' ||
    field(first, 'protocol') !== 'all' ||
    field(first, 'chain') !== 0 ||
    field(options, 'direct-action') !== true ||
    field(options, 'skip_sw') !== undefined
  )
    return []
  const program = parseInstructions(field(field(options, 'bytecode'), 'insns'))
  return program ? [program] : []
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined
}

export function runIn(netns: string, program: string, args: readonly string[], input = ''): string {
  return execFileSync('nsenter', [`--net=${netns}`, '--', program, ...args], {
    encoding: 'utf8',
    input,
    maxBuffer: OUTPUT_BYTES_MAX,
    stdio: ['pipe', 'pipe', 'pipe'],
  })
}

function inodeOf(path: string): string {
  try {
    const target = readlinkSync(path)
    return /\[(\d+)\]/.exec(target)?.[1] ?? ''
  } catch {
    return String(statSync(path).ino)
  }
}

/** Ids of the users that this machine knows, to compare with the ranges that pods use. */
export function observeMachineUsers(): { name: string; uid: number }[] {
  return readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .flatMap((line) => {
      const [name, , uid] = line.split(':')
      return name === undefined || uid === undefined ? [] : [{ name, uid: Number(uid) }]
    })
}
