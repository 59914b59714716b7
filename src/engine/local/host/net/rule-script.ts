import { TABLE, ipv4FromText } from '../../plan/net/index.ts'
import { IPPROTO_TCP, IPPROTO_UDP } from './conntrack.ts'
import { RULE_MESSAGES_MAX, RULE_SCRIPT_BYTES_MAX } from './limits.ts'
import {
  NLM_F_ACK,
  NLM_F_APPEND,
  NLM_F_CREATE,
  type Message,
  attribute,
  cstring,
  nested,
  u16be,
  u32,
  u32be,
  u64be,
} from './netlink.ts'

// The messages of nf_tables, see linux/netfilter/nf_tables.h. All their numbers are big-endian; only what a rule compares is
// in the order in which a packet or the machine has it.
const NFNL_SUBSYS_NFTABLES = 10
const NFPROTO_INET = 1
const NFPROTO_IPV4 = 2
const IPPROTO_SCTP = 132
const MSG = {
  newChain: 3,
  deleteChain: 5,
  newRule: 6,
  deleteRule: 8,
  newSet: 9,
  deleteSet: 11,
  newElement: 12,
  deleteElement: 14,
  newObject: 18,
  deleteObject: 20,
} as const
const OBJECT = { counter: 1, limit: 4 } as const
const SET = { anonymous: 1, constant: 2, interval: 4, map: 8 } as const
/** The numbers that `nft` has for types, so that it prints what it reads back as what it is. */
const TYPE = { integer: 4, ipv4: 7, service: 13 } as const
const META = { nfproto: 15, l4proto: 16 } as const
const CMP = { equal: 0, atMost: 3, atLeast: 5 } as const
const BASE = { network: 1, transport: 2 } as const
const SOURCE_OFFSET = 12
const TARGET_OFFSET = 16
const TARGET_PORT_OFFSET = 2
const VERDICT = { jump: -3, goto: -4, return: -5 } as const
const [REG_VERDICT, REG_1, REG_2, REG32_01] = [0, 1, 2, 9]
const INTERVAL_END = 1
const NAT_DNAT = 1
const NF_NAT_RANGE_PROTO_SPECIFIED = 2
const LIMIT_PER_SECOND = 1
const LIMIT_OVER = 1
const PROTOCOLS: ReadonlyMap<string, number> = new Map([
  ['tcp', IPPROTO_TCP],
  ['udp', IPPROTO_UDP],
  ['sctp', IPPROTO_SCTP],
])

/** Raised inside only: this is no script that is understood here as a whole. */
class NotUnderstood extends Error {}

/**
 * The messages that say the same as a script for `nft`; undefined when there is anything in it that is not known here, which
 * `nft` then has to read. It reads the names of everything in the kernel before it does anything, so that what it takes
 * grows with all tenants together; this does not. Understood is what tenants and their policies change, as `plan/net`
 * writes it, and nothing else.
 */
export function compileRules(script: string): Message[] | undefined {
  if (script.length > RULE_SCRIPT_BYTES_MAX) return undefined
  try {
    const compiler = new Compiler()
    const messages = script
      .split('\n')
      .filter((line) => line !== '')
      .flatMap((line) => compiler.line(line))
    return messages.length > RULE_MESSAGES_MAX ? undefined : messages
  } catch (error) {
    if (error instanceof NotUnderstood) return undefined
    throw error
  }
}

const NAME = '[A-Za-z0-9_]{1,100}'
const COMMANDS: readonly (readonly [RegExp, (compiler: Compiler, ...parts: string[]) => Message[]])[] = [
  [command(`add counter inet ${TABLE} (${NAME})`), (_, name) => [objectMessage('counter', name, counter())]],
  [
    command(
      `add limit inet ${TABLE} (${NAME}) \\{ rate over (\\d{1,15}) bytes/second burst (\\d{1,9}) bytes \\}`,
    ),
    (_, name, rate, burst) => [objectMessage('limit', name, limit({ rate, burst, bytes: true }))],
  ],
  [
    command(
      `add limit inet ${TABLE} (${NAME}) \\{ rate over (\\d{1,15})/second burst (\\d{1,9}) packets \\}`,
    ),
    (_, name, rate, burst) => [objectMessage('limit', name, limit({ rate, burst, bytes: false }))],
  ],
  [
    command(`delete (counter|limit) inet ${TABLE} (${NAME})`),
    (_, kind, name) => [
      message(MSG.deleteObject, 0, text(1, TABLE), text(2, name), number(3, OBJECT[oneOf(OBJECT, kind)])),
    ],
  ],
  [
    command(`(add|delete) element inet ${TABLE} (${NAME}) \\{ (.+) \\}`),
    (_, verb, set, elements) => elementMessages(verb === 'add', set, elements.split(', ')),
  ],
  [
    command(`add set inet ${TABLE} (group_${NAME}) \\{ type ipv4_addr; \\}`),
    (compiler, name) => [compiler.setMessage(name, { type: TYPE.ipv4, bytes: 4 })],
  ],
  [
    command(
      `add set inet ${TABLE} ((?:blocks|ports)_${NAME}) \\{ type (ipv4_addr|inet_service); flags interval; elements = \\{ (.+) \\}; \\}`,
    ),
    (compiler, name, type, ranges) => compiler.intervalMessages(name, type, ranges.split(', ')),
  ],
  [
    command(`delete set inet ${TABLE} (${NAME})`),
    (_, name) => [message(MSG.deleteSet, 0, text(1, TABLE), text(2, name))],
  ],
  [
    command(`add chain inet ${TABLE} (${NAME})`),
    (_, name) => [message(MSG.newChain, NLM_F_CREATE, text(1, TABLE), text(3, name))],
  ],
  [
    command(`flush chain inet ${TABLE} (${NAME})`),
    (_, name) => [message(MSG.deleteRule, 0, text(1, TABLE), text(2, name))],
  ],
  [
    command(`delete chain inet ${TABLE} (${NAME})`),
    (_, name) => [message(MSG.deleteChain, 0, text(1, TABLE), text(3, name))],
  ],
  [
    command(`add rule inet ${TABLE} (${NAME}) (.+)`),
    (compiler, chain, rule) => compiler.ruleMessages(chain, rule),
  ],
]

function command(pattern: string): RegExp {
  return new RegExp(`^${pattern}$`)
}

class Compiler {
  /** Sets without a name have a number within their transaction. */
  private sets = 0

  line(line: string): Message[] {
    for (const [pattern, compile] of COMMANDS) {
      const parts = pattern.exec(line)
      if (parts) return compile(this, ...parts.slice(1)).map((each) => ({ ...each, what: whatOf(line) }))
    }
    throw new NotUnderstood(line)
  }

  setMessage(name: string, { type, bytes, flags = 0 }: { type: number; bytes: number; flags?: number }) {
    return message(
      MSG.newSet,
      NLM_F_CREATE,
      text(1, TABLE),
      text(2, name),
      number(3, flags),
      number(4, type),
      number(5, bytes),
      number(10, ++this.sets),
    )
  }

  intervalMessages(name: string, typeName: string, ranges: readonly string[]): Message[] {
    const isAddress = typeName === 'ipv4_addr'
    const [type, bytes] = isAddress ? [TYPE.ipv4, 4] : [TYPE.service, 2]
    const endOf = 2 ** (bytes * 8)
    const encode = (value: number) => (isAddress ? u32be(value) : u16be(value))
    const bounds = ranges.map((range) => spanOf(range, isAddress ? address : port))
    const sorted = bounds.toSorted((a, b) => a.first - b.first)
    const elements: Buffer[] = []
    // What is between two ranges ends the one and is begun by nothing; so is what comes before the first.
    const end = (at: number) => elements.push(setElement(encode(at), number(3, INTERVAL_END)))
    let upTo = 0
    if (sorted[0]?.first !== 0) end(0)
    for (const { first, last } of sorted) {
      if (first < upTo || last < first) throw new NotUnderstood('ranges that overlap')
      upTo = last + 1
      // A range up to the last value there is has no end; how `nft` notes that for itself.
      const isOpen = upTo === endOf
      elements.push(
        setElement(encode(first), ...(isOpen ? [attribute(6, Buffer.from([1, 4, 1, 0, 0, 0]))] : [])),
      )
      if (!isOpen) end(upTo)
    }
    return [
      this.setMessage(name, { type, bytes, flags: SET.interval }),
      ...listMessages(MSG.newElement, name, elements),
    ]
  }

  ruleMessages(chain: string, rule: string): Message[] {
    const made = [] as Message[]
    const expressions = this.translation(rule, made) ?? policyRule(rule)
    return [
      ...made,
      message(
        MSG.newRule,
        NLM_F_CREATE | NLM_F_APPEND,
        text(1, TABLE),
        text(2, chain),
        nested(4, ...expressions),
      ),
    ]
  }

  /** Where a service leads; what its choice is looked up in is put into `made`. */
  private translation(rule: string, made: Message[]): Buffer[] | undefined {
    const [, protocol = '', target = ''] = /^meta l4proto (tcp|udp|sctp) dnat ip to (.+)$/.exec(rule) ?? []
    if (target === '') return undefined
    const [, ip, number_ = ''] = /^([0-9.]+):(\d+)$/.exec(target) ?? []
    if (ip !== undefined)
      return [
        ...matchProtocol(protocol),
        expression('immediate', number(1, REG_1), nested(2, attribute(1, u32be(address(ip))))),
        expression('immediate', number(1, REG_2), nested(2, attribute(1, u16be(port(number_))))),
        nat(REG_2, true),
      ]
    const [, many, hashed, entries = ''] =
      /^(?:numgen inc mod (\d+)|jhash ip saddr mod (\d+) seed 0x62756c6b) map \{ (.+) \}$/.exec(target) ?? []
    const backends = entries.split(', ').map((entry, at) => {
      const [, place, to = '', on = ''] = /^(\d+) : ([0-9.]+) \. (\d+)$/.exec(entry) ?? []
      if (place !== String(at)) throw new NotUnderstood(entry)
      return setElement(
        u32(at),
        nested(2, attribute(1, Buffer.concat([u32be(address(to)), u16be(port(on)), u16be(0)]))),
      )
    })
    const modulus = whole(many ?? hashed ?? '')
    if (modulus !== backends.length) throw new NotUnderstood(rule)
    const id = ++this.sets
    made.push(
      message(
        MSG.newSet,
        NLM_F_CREATE,
        text(1, TABLE),
        text(2, ANONYMOUS_MAP),
        number(3, SET.anonymous | SET.constant | SET.map),
        number(4, TYPE.integer),
        number(5, 4),
        number(6, (TYPE.ipv4 << 6) | TYPE.service),
        number(7, 8),
        nested(9, number(1, backends.length)),
        number(10, id),
        // How `nft` keeps for itself that the numbers are in the order of the machine, and addresses are not.
        attribute(13, Buffer.from([0, 4, 1, 0, 0, 0, 1, 4, 2, 0, 0, 0])),
      ),
      ...listMessages(MSG.newElement, ANONYMOUS_MAP, backends, id),
    )
    return [
      ...matchProtocol(protocol),
      ...(many === undefined
        ? [
            ...onlyIpv4(),
            payload(BASE.network, SOURCE_OFFSET, 4, REG_2),
            expression(
              'hash',
              number(1, REG_2),
              number(2, REG_1),
              number(3, 4),
              number(4, modulus),
              number(5, 0x62756c6b),
              number(7, 0),
            ),
          ]
        : [expression('numgen', number(1, REG_1), number(2, modulus), number(3, 0), number(4, 0))]),
      expression('lookup', text(1, ANONYMOUS_MAP), number(2, REG_1), number(3, REG_1), number(4, id)),
      nat(REG32_01, false),
    ]
  }
}

const ANONYMOUS_MAP = '__map%d'

/** A rule of a policy's chain: what it looks at, in this order, and what becomes of the packet. */
const POLICY_RULE = new RegExp(
  `^(?:ip daddr (@group_${NAME}) )?(?:ip (saddr|daddr) (\\S+) )?(?:meta l4proto (tcp|udp|sctp) (?:th dport (\\S+) )?)?(return|goto deny)$`,
)

function policyRule(rule: string): Buffer[] {
  const [, within, side, addresses, protocol, ports, verdict = ''] = POLICY_RULE.exec(rule) ?? []
  if (verdict === '') throw new NotUnderstood(rule)
  return [
    ...(within === undefined && addresses === undefined ? [] : onlyIpv4()),
    ...(within === undefined
      ? []
      : [payload(BASE.network, TARGET_OFFSET, 4), ...among(within, address, u32be)]),
    ...(addresses === undefined
      ? []
      : [
          payload(BASE.network, side === 'saddr' ? SOURCE_OFFSET : TARGET_OFFSET, 4),
          ...among(addresses, address, u32be),
        ]),
    ...(protocol === undefined ? [] : matchProtocol(protocol)),
    ...(ports === undefined
      ? []
      : [payload(BASE.transport, TARGET_PORT_OFFSET, 2), ...among(ports, port, u16be)]),
    expression(
      'immediate',
      number(1, REG_VERDICT),
      nested(2, verdict === 'return' ? verdictData('return') : verdictData('goto', 'deny')),
    ),
  ]
}

/** What was loaded is in a set, is one value, or is between two. */
function among(what: string, parse: (text: string) => number, encode: (value: number) => Buffer): Buffer[] {
  if (what.startsWith('@')) return [expression('lookup', text(1, named(what.slice(1))), number(2, REG_1))]
  const { first, last } = spanOf(what, parse)
  return first === last
    ? [compare(CMP.equal, encode(first))]
    : [compare(CMP.atLeast, encode(first)), compare(CMP.atMost, encode(last))]
}

function matchProtocol(protocol: string): Buffer[] {
  return [
    expression('meta', number(2, META.l4proto), number(1, REG_1)),
    compare(CMP.equal, Buffer.from([protocolNumber(protocol)])),
  ]
}

function onlyIpv4(): Buffer[] {
  return [
    expression('meta', number(2, META.nfproto), number(1, REG_1)),
    compare(CMP.equal, Buffer.from([NFPROTO_IPV4])),
  ]
}

function payload(base: number, offset: number, bytes: number, register: number = REG_1): Buffer {
  return expression('payload', number(1, register), number(2, base), number(3, offset), number(4, bytes))
}

function compare(operator: number, value: Buffer): Buffer {
  return expression('cmp', number(1, REG_1), number(2, operator), nested(3, attribute(1, value)))
}

function nat(portRegister: number, known: boolean): Buffer {
  return expression(
    'nat',
    number(1, NAT_DNAT),
    number(2, NFPROTO_IPV4),
    number(3, REG_1),
    number(5, portRegister),
    ...(known ? [number(7, NF_NAT_RANGE_PROTO_SPECIFIED)] : []),
  )
}

function expression(name: string, ...data: Buffer[]): Buffer {
  return nested(1, text(1, name), nested(2, ...data))
}

/** Elements of a set that is known by its name to have such. */
function elementMessages(add: boolean, set: string, texts: readonly string[]): Message[] {
  const encode = ELEMENTS.get(set) ?? (set.startsWith('group_') ? { key: addressKey } : undefined)
  if (!encode) throw new NotUnderstood(set)
  const elements = texts.map((each) => {
    const [key = '', data, ...more] = each.split(' : ')
    if (more.length > 0) throw new NotUnderstood(each)
    // What is to be removed is known by its key.
    if (data === undefined ? add && encode.data !== undefined : encode.data === undefined)
      throw new NotUnderstood(each)
    const value = data === undefined || !encode.data ? undefined : encode.data(data)
    return add && value ? setElement(encode.key(key), value) : setElement(encode.key(key))
  })
  return listMessages(add ? MSG.newElement : MSG.deleteElement, set, elements)
}

type Encoding = { key: (text: string) => Buffer; data?: (text: string) => Buffer }

const addressKey = (each: string) => u32be(address(each))
const markKey = (each: string) => u32(whole(each))
const markData = (each: string) => nested(2, attribute(1, markKey(each)))
const objectData = (each: string) => {
  const [, name] = /^"([A-Za-z0-9_]{1,100})"$/.exec(each) ?? []
  return text(9, named(name ?? ''))
}
const chainData = (each: string) => {
  const [, verb = '', chain = ''] = /^(goto|jump) ([A-Za-z0-9_]{1,100})$/.exec(each) ?? []
  return nested(2, verdictData(verb === 'jump' ? 'jump' : 'goto', named(chain)))
}
const pairKey = (each: string) => Buffer.concat(parts(each, 2).map(markKey))
const serviceKey = (each: string) => {
  const [mark = '', to = '', protocol = '', on = ''] = parts(each, 4)
  // Every part of a concatenation takes whole registers of 4 bytes.
  return Buffer.concat([
    markKey(mark),
    addressKey(to),
    Buffer.from([protocolNumber(protocol), 0, 0, 0]),
    u16be(port(on)),
    u16be(0),
  ])
}

const OF_OBJECTS: Encoding = { key: markKey, data: objectData }
const OF_ADDRESSES: Encoding = { key: addressKey, data: markData }
const ELEMENTS: ReadonlyMap<string, Encoding> = new Map<string, Encoding>([
  ['pair', { key: pairKey }],
  ['door4', OF_ADDRESSES],
  ['egress4', OF_ADDRESSES],
  ['ingress4', OF_ADDRESSES],
  ['policies', { key: markKey, data: chainData }],
  ['services4', { key: serviceKey, data: chainData }],
  ...['traffic', 'denied', 'sent_bytes', 'sent_packets', 'received_bytes', 'received_packets'].map(
    (set) => [set, OF_OBJECTS] as const,
  ),
])

/** As many at once as the length of an attribute can say. */
const ELEMENTS_AT_ONCE = 400

function listMessages(type: number, set: string, elements: readonly Buffer[], id?: number): Message[] {
  return Array.from({ length: Math.ceil(elements.length / ELEMENTS_AT_ONCE) }, (_, at) =>
    message(
      type,
      type === MSG.newElement ? NLM_F_CREATE : 0,
      text(1, TABLE),
      text(2, set),
      ...(id === undefined ? [] : [number(4, id)]),
      nested(3, ...elements.slice(at * ELEMENTS_AT_ONCE, (at + 1) * ELEMENTS_AT_ONCE)),
    ),
  )
}

function setElement(key: Buffer, ...more: Buffer[]): Buffer {
  return nested(1, nested(1, attribute(1, key)), ...more)
}

function verdictData(verdict: keyof typeof VERDICT, chain?: string): Buffer {
  return nested(2, number(1, VERDICT[verdict]), ...(chain === undefined ? [] : [text(2, chain)]))
}

function objectMessage(kind: keyof typeof OBJECT, name: string, data: Buffer): Message {
  return message(MSG.newObject, NLM_F_CREATE, text(1, TABLE), text(2, name), number(3, OBJECT[kind]), data)
}

function counter(): Buffer {
  return nested(4, attribute(1, u64be(0)), attribute(2, u64be(0)))
}

function limit({ rate, burst, bytes }: { rate: string; burst: string; bytes: boolean }): Buffer {
  return nested(
    4,
    attribute(1, u64be(whole(rate))),
    attribute(2, u64be(LIMIT_PER_SECOND)),
    number(3, whole(burst)),
    number(4, bytes ? 1 : 0),
    number(5, LIMIT_OVER),
  )
}

function message(type: number, flags: number, ...attributes: Buffer[]): Message {
  return {
    type: (NFNL_SUBSYS_NFTABLES << 8) | type,
    flags: NLM_F_ACK | flags,
    payload: Buffer.concat([Buffer.from([NFPROTO_INET, 0, 0, 0]), ...attributes]),
    what: '',
  }
}

const LINE_CHARS_MAX = 120
const whatOf = (line: string) =>
  `Cannot change the rules by "${line.length > LINE_CHARS_MAX ? `${line.slice(0, LINE_CHARS_MAX)}…` : line}"`

const number = (type: number, value: number) => attribute(type, u32be(value))
const text = (type: number, value: string) => attribute(type, cstring(value))

function spanOf(range: string, parse: (text: string) => number): { first: number; last: number } {
  const [first = '', last = first, ...more] = range.split('-')
  if (more.length > 0) throw new NotUnderstood(range)
  return { first: parse(first), last: parse(last) }
}

function parts(value: string, count: number): string[] {
  const all = value.split(' . ')
  if (all.length !== count) throw new NotUnderstood(value)
  return all
}

function address(value: string): number {
  const found = ipv4FromText(value)
  if (found === undefined) throw new NotUnderstood(value)
  return found
}

function port(value: string): number {
  const found = whole(value)
  if (found > 65_535) throw new NotUnderstood(value)
  return found
}

function whole(value: string): number {
  if (!/^(?:0|[1-9]\d{0,14})$/.test(value)) throw new NotUnderstood(value)
  return Number(value)
}

function named(value: string): string {
  if (!new RegExp(`^${NAME}$`).test(value)) throw new NotUnderstood(value)
  return value
}

function protocolNumber(name: string): number {
  const found = PROTOCOLS.get(name)
  if (found === undefined) throw new NotUnderstood(name)
  return found
}

function oneOf<T extends object>(all: T, key: string): keyof T {
  if (!Object.hasOwn(all, key)) throw new NotUnderstood(key)
  return key as keyof T // just looked
}
