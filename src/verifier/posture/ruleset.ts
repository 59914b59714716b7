/**
 * A small model of nftables: it reads what the kernel has loaded (`nft -j list ruleset`) and answers what would happen
 * to a packet. It knows the expressions below and no others; at anything else it gives up, and a packet whose fate is
 * not known counts as let through.
 * https://manpages.debian.org/bookworm/libnftables1/libnftables-json.5.en.html
 */

/** The first packet of a connection, with the fields that rules look at. */
export type Packet = {
  iifname: string
  oifname: string
  etherSaddr: string
  saddr: string
  daddr: string
  l4proto: 'tcp' | 'udp' | 'sctp' | 'icmp'
  dport: number
  nfproto: 'ipv4' | 'ipv6'
  ctState: 'new' | 'established' | 'related' | 'invalid'
}

export type Verdict = { verdict: 'accept' | 'drop'; by: string } | { verdict: 'unknown'; by: string }

type Json = null | boolean | number | string | Json[] | { [key: string]: Json }
type JsonObject = { [key: string]: Json }
/** `by` names it in evidence. */
type Rule = { by: string; expr: Json[] }
/** How fast packets may come before the rest of them is dropped. */
export type Limit = { name: string; rate: number; unit: 'bytes' | 'packets' }
type BaseChain = { name: string; type: string; hook: string; prio: number; policy: string }
type Elements = Map<string, Json>
type Table = {
  name: string
  chains: Map<string, BaseChain | undefined>
  rules: Map<string, Rule[]>
  sets: Map<string, Elements>
  limits: Map<string, JsonObject>
}

export type Hook = 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting'

class GiveUp extends Error {}

type Marks = { mark: number; ctMark: number; limits: Limit[] }

/** What an expression of a rule reads, by the expression as the tool prints it. */
const FIELDS: Readonly<Record<string, (packet: Packet, marks: Marks) => string>> = {
  '{"meta":{"key":"iifname"}}': (packet) => packet.iifname,
  '{"meta":{"key":"oifname"}}': (packet) => packet.oifname,
  '{"meta":{"key":"nfproto"}}': (packet) => packet.nfproto,
  '{"meta":{"key":"l4proto"}}': (packet) => packet.l4proto,
  '{"meta":{"key":"mark"}}': (_, marks) => String(marks.mark),
  '{"ct":{"key":"mark"}}': (_, marks) => String(marks.ctMark),
  '{"ct":{"key":"state"}}': (packet) => packet.ctState,
  '{"payload":{"protocol":"ether","field":"saddr"}}': (packet) => packet.etherSaddr,
  '{"payload":{"protocol":"ip","field":"saddr"}}': (packet) => packet.saddr,
  '{"payload":{"protocol":"ip","field":"daddr"}}': (packet) => packet.daddr,
  '{"payload":{"protocol":"th","field":"dport"}}': (packet) => String(packet.dport),
  ...Object.fromEntries(
    ['tcp', 'udp', 'sctp'].map((protocol) => [
      `{"payload":{"protocol":"${protocol}","field":"dport"}}`,
      // A packet of another protocol ends the rule, which no port does either.
      (packet: Packet) => (packet.l4proto === protocol ? String(packet.dport) : NO_PORT),
    ]),
  ),
  '{"meta":{"key":"skuid"}}': () => '',
}

/** Rules do not change once they are read, so each expression is printed once. */
const names = new WeakMap<object, string>()
function nameOf(expression: object): string {
  const known = names.get(expression)
  if (known !== undefined) return known
  const name = JSON.stringify(expression)
  names.set(expression, name)
  return name
}

const JUMPS_MAX = 64
/** Stands for an element that the model cannot look into: then no look-up in the set has an answer. */
const OPAQUE = '?'

export class Ruleset {
  private readonly tables: Table[] = []
  private readonly hooked = new Map<Hook, { table: Table; chain: BaseChain }[]>()

  /** @throws when the text is not what `nft -j list ruleset` prints. */
  constructor(text: string) {
    const tables = new Map<string, Table>()
    const document = JSON.parse(text) as { nftables: JsonObject[] }
    for (const entry of document.nftables) {
      const [kind = '', body] = Object.entries(entry)[0] ?? []
      if (!isObject(body)) continue
      const family = String(body['family'] ?? '')
      const key = `${family} ${String(kind === 'table' ? body['name'] : body['table'])}`
      if (kind === 'table')
        tables.set(key, {
          name: key,
          chains: new Map(),
          rules: new Map(),
          sets: new Map(),
          limits: new Map(),
        })
      const table = tables.get(key)
      if (!table) continue
      const name = String(body['name'] ?? '')
      if (kind === 'chain')
        table.chains.set(
          name,
          body['hook'] === undefined
            ? undefined
            : {
                name,
                type: String(body['type']),
                hook: String(body['hook']),
                prio: Number(body['prio']),
                policy: String(body['policy'] ?? 'accept'),
              },
        )
      if (kind === 'set' || kind === 'map') table.sets.set(name, elementsOf(body['elem'], kind === 'map'))
      if (kind === 'limit') table.limits.set(name, body)
      if (kind === 'rule') {
        const chain = String(body['chain'])
        const rules = table.rules.get(chain) ?? []
        rules.push({ by: `${key} ${chain} handle ${Number(body['handle'])}`, expr: asArray(body['expr']) })
        table.rules.set(chain, rules)
      }
    }
    this.tables = [...tables.values()]
  }

  /** How many elements a set or map holds, in any table. */
  elements(name: string): Elements {
    return this.tables.map((table) => table.sets.get(name)).find((set) => set !== undefined) ?? new Map()
  }

  /** What filter chains do with a packet on its way through `hooks`. A hook without any chain lets it through. */
  evaluate(packet: Packet, hooks: readonly Hook[]): Verdict {
    return this.follow(packet, hooks, { mark: 0, ctMark: 0, limits: [] })
  }

  /** The limits that packets like this one count for, as long as they get through; none when that is not known. */
  limitsOn(packet: Packet, hooks: readonly Hook[]): Limit[] {
    const marks: Marks = { mark: 0, ctMark: 0, limits: [] }
    return this.follow(packet, hooks, marks).verdict === 'accept' ? marks.limits : []
  }

  private follow(packet: Packet, hooks: readonly Hook[], marks: Marks): Verdict {
    for (const hook of hooks) {
      for (const { table, chain } of this.chainsAt(hook)) {
        // Address translation changes where a packet goes; the callers ask about the addresses behind it.
        if (chain.type === 'nat') continue
        try {
          const end = this.runChain(table, chain.name, packet, marks, 0)
          const verdict = end === 'continue' || end === 'return' ? chain.policy : end.verdict
          const by = end === 'continue' || end === 'return' ? `policy of ${table.name} ${chain.name}` : end.by
          if (verdict !== 'accept') return { verdict: 'drop', by }
        } catch (error) {
          if (error instanceof GiveUp)
            return { verdict: 'unknown', by: `${table.name} ${chain.name}: ${error.message}` }
          throw error
        }
      }
    }
    return { verdict: 'accept', by: `no chain of ${hooks.join(', ')} drops it` }
  }

  private chainsAt(hook: Hook): { table: Table; chain: BaseChain }[] {
    const known = this.hooked.get(hook)
    if (known) return known
    const chains = this.tables
      .flatMap((table) => [...table.chains.values()].map((chain) => ({ table, chain })))
      .filter((entry): entry is { table: Table; chain: BaseChain } => entry.chain?.hook === hook)
      .sort((a, b) => a.chain.prio - b.chain.prio)
    this.hooked.set(hook, chains)
    return chains
  }

  private runChain(
    table: Table,
    chain: string,
    packet: Packet,
    marks: Marks,
    depth: number,
  ): 'continue' | 'return' | { verdict: 'accept' | 'drop'; by: string } {
    if (depth > JUMPS_MAX) throw new GiveUp('chains jump too deep')
    if (!table.chains.has(chain)) throw new GiveUp(`there is no chain "${chain}"`)
    for (const rule of table.rules.get(chain) ?? []) {
      const end = this.runRule(table, rule, packet, marks, depth)
      if (end !== 'continue') return end
    }
    return 'continue'
  }

  private runRule(
    table: Table,
    rule: Rule,
    packet: Packet,
    marks: Marks,
    depth: number,
  ): 'continue' | 'return' | { verdict: 'accept' | 'drop'; by: string } {
    const act = (
      statement: JsonObject,
    ): 'continue' | 'return' | { verdict: 'accept' | 'drop'; by: string } | undefined => {
      if ('accept' in statement) return { verdict: 'accept', by: rule.by }
      if ('drop' in statement || 'reject' in statement) return { verdict: 'drop', by: rule.by }
      if ('return' in statement) return 'return'
      if ('continue' in statement) return 'continue'
      for (const kind of ['jump', 'goto'] as const) {
        const jump = statement[kind]
        if (!isObject(jump)) continue
        const end = this.runChain(table, String(jump['target']), packet, marks, depth + 1)
        // After a goto, the end of the target chain is the end of ours too.
        if (end === 'continue' || end === 'return') return kind === 'goto' ? 'return' : undefined
        return end
      }
      return undefined
    }
    for (const statement of rule.expr) {
      if (!isObject(statement)) throw new GiveUp('a statement is not an object')
      const [kind = ''] = Object.keys(statement)
      switch (kind) {
        case 'counter':
        case 'log':
          continue
        case 'limit': {
          const limit = this.limitOf(table, statement['limit'] ?? null, packet, marks)
          // What is over the limit goes on with this rule. What is not known to be is asked for here: the packet is the first.
          if (limit === 'under') continue
          if (limit && rule.expr.some((each) => isObject(each) && 'drop' in each)) marks.limits.push(limit)
          return 'continue'
        }
        case 'match':
          if (!this.matches(table, statement['match'] as JsonObject, packet, marks)) return 'continue'
          continue
        case 'mangle': {
          const { key, value } = statement['mangle'] as JsonObject
          const next = this.value(table, value ?? null, packet, marks)
          // A map without an entry ends the rule, as in the kernel.
          if (next === undefined) return 'continue'
          const target = JSON.stringify(key)
          if (target === '{"meta":{"key":"mark"}}') marks.mark = Number(next)
          else if (target === '{"ct":{"key":"mark"}}') marks.ctMark = Number(next)
          else throw new GiveUp(`cannot follow a change of ${target}`)
          continue
        }
        case 'vmap': {
          const { key, data } = statement['vmap'] as JsonObject
          const found = this.lookUp(table, data ?? null, this.value(table, key ?? null, packet, marks))
          if (found === undefined) continue
          const end = act(found as JsonObject)
          if (end !== undefined && end !== 'continue') return end
          continue
        }
        case 'set': {
          // `add @set { key ct count over N }` matches only beyond a limit; below it the rule ends.
          const { stmt } = statement['set'] as JsonObject
          if (JSON.stringify(stmt ?? null).includes('"ct count"')) return 'continue'
          continue
        }
        default: {
          const end = act(statement)
          if (end === undefined && !['jump', 'goto'].includes(kind))
            throw new GiveUp(`does not know the statement "${kind}"`)
          if (end !== undefined && end !== 'continue') return end
        }
      }
    }
    return 'continue'
  }

  /** Undefined where a map has none for this packet; `under` where the rule is about packets below a limit. */
  private limitOf(table: Table, limit: Json, packet: Packet, marks: Marks): Limit | 'under' | undefined {
    let found = limit
    if (isObject(limit) && isObject(limit['map'])) {
      const { key, data } = limit['map']
      const name = this.lookUp(table, data ?? null, this.value(table, key ?? null, packet, marks))
      if (name === undefined) return undefined
      found = table.limits.get(String(name)) ?? null
    } else if (typeof limit === 'string') found = table.limits.get(limit) ?? null
    if (!isObject(found)) throw new GiveUp('there is no such limit')
    const { name = '', rate, per, inv, rate_unit: unit = 'packets' } = found
    if (inv !== true) return 'under'
    if (per !== 'second' || (unit !== 'bytes' && unit !== 'packets')) return undefined
    return { name: String(name), rate: Number(rate), unit }
  }

  private matches(table: Table, match: JsonObject, packet: Packet, marks: Marks): boolean {
    // Rules that end are written with the machine's time of day, as this process has it too.
    if (match['op'] === '<' && JSON.stringify(match['left']) === '{"meta":{"key":"time"}}')
      return !(Date.now() >= Date.parse(String(match['right'])))
    const left = this.value(table, match['left'] ?? null, packet, marks)
    const right = match['right'] ?? null
    const found = this.lookUp(table, right, left) !== undefined
    switch (match['op']) {
      case '==':
      case 'in':
        return found
      case '!=':
        return !found
      default:
        throw new GiveUp(`does not know the operator "${String(match['op'])}"`)
    }
  }

  /** The value of an expression, as text; parts of a concatenation are joined. */
  private value(table: Table, expression: Json, packet: Packet, marks: Marks): string | undefined {
    if (!isObject(expression)) return String(expression)
    if (isObject(expression['map'])) {
      const { key, data } = expression['map']
      const found = this.lookUp(table, data ?? null, this.value(table, key ?? null, packet, marks))
      return found === undefined ? undefined : String(found)
    }
    if (Array.isArray(expression['concat'])) {
      const parts = expression['concat'].map((part) => this.value(table, part, packet, marks))
      return parts.includes(undefined) ? undefined : parts.join(' . ')
    }
    const name = nameOf(expression)
    const value = FIELDS[name]?.(packet, marks)
    if (value === undefined) throw new GiveUp(`does not know the expression ${name}`)
    return value
  }

  /** Finds a value in a named set, an anonymous set, a prefix, or as itself. */
  private lookUp(table: Table, where: Json, value: string | undefined): Json | undefined {
    if (value === undefined) return undefined
    if (typeof where === 'string' && where.startsWith('@')) {
      const set = table.sets.get(where.slice(1))
      if (!set) throw new GiveUp(`there is no set "${where}"`)
      if (set.has(OPAQUE)) throw new GiveUp(`cannot look into the elements of "${where}"`)
      return find(set, value)
    }
    if (isObject(where)) {
      if (where['set'] !== undefined) {
        const set = elementsOf(where['set'], isPairs(where['set']))
        if (set.has(OPAQUE)) throw new GiveUp('cannot look into the elements of a set')
        return find(set, value)
      }
      const text = spanText(where)
      if (text !== undefined) return withinSpan(text, value) ? true : undefined
      throw new GiveUp(`does not know the value ${JSON.stringify(where)}`)
    }
    if (Array.isArray(where)) return where.map(String).includes(value) ? true : undefined
    return String(where) === value ? true : undefined
  }
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function asArray(value: Json | undefined): Json[] {
  return Array.isArray(value) ? value : value === undefined ? [] : [value]
}

function isPairs(set: Json): boolean {
  return (
    Array.isArray(set) &&
    set.length > 0 &&
    set.every((item) => Array.isArray(item) && item.length === 2 && isObject(item[1]))
  )
}

function elementsOf(elem: Json | undefined, isMap: boolean): Elements {
  const elements: Elements = new Map()
  for (const item of asArray(elem)) {
    if (isMap && Array.isArray(item)) elements.set(keyText(item[0] ?? null), item[1] ?? null)
    else elements.set(keyText(item), true)
  }
  return elements
}

function keyText(key: Json): string {
  if (!isObject(key)) return String(key)
  if (Array.isArray(key['concat'])) {
    const parts = key['concat'].map(keyText)
    return parts.includes(OPAQUE) ? OPAQUE : parts.join(' . ')
  }
  // An element with options, such as a timeout.
  if (isObject(key['elem'])) return keyText(key['elem']['val'] ?? null)
  return spanText(key) ?? OPAQUE
}

/** Matches nothing: no text of a port, an address or a range is it. */
const NO_PORT = 'no port'

/** Found by itself, or within a range. */
function find(set: Elements, value: string): Json | undefined {
  const itself = set.get(value)
  if (itself !== undefined) return itself
  for (const [key, data] of spansOf(set)) if (withinSpans(key, value)) return data
  return undefined
}

const spans = new WeakMap<Elements, [string, Json][]>()
function spansOf(set: Elements): [string, Json][] {
  const known = spans.get(set)
  if (known) return known
  const found = [...set].filter(([key]) => key.includes(SPAN))
  spans.set(set, found)
  return found
}

/** Between the ends of a range; in no name, number or address. */
const SPAN = ' to '

/** `FIRST to LAST` of a prefix or a range of addresses or numbers; undefined for anything else. */
function spanText({ prefix, range }: JsonObject): string | undefined {
  if (isObject(prefix)) {
    const base = numberOf(prefix['addr'] ?? null)
    const size = 2 ** (32 - Number(prefix['len']))
    if (base === undefined || !(size >= 1)) return undefined
    const first = Math.floor(base / size) * size
    return `${first}${SPAN}${first + size - 1}`
  }
  if (!Array.isArray(range) || range.length !== 2) return undefined
  const [first, last] = range.map(numberOf)
  return first === undefined || last === undefined ? undefined : `${first}${SPAN}${last}`
}

/** A concatenation part by part; each is a range or the thing itself. */
function withinSpans(key: string, value: string): boolean {
  const [parts, values] = [key.split(' . '), value.split(' . ')]
  return (
    parts.length === values.length &&
    parts.every((part, at) => {
      const own = values[at] ?? ''
      return part.includes(SPAN) ? withinSpan(part, own) : part === own
    })
  )
}

function withinSpan(text: string, value: string): boolean {
  const [first, last] = text.split(SPAN).map(Number)
  const number = numberOf(value)
  return (
    number !== undefined && first !== undefined && last !== undefined && first <= number && number <= last
  )
}

/** The same few texts are asked about again and again: every pod's address by every other's. */
const numbers = new Map<string, number | undefined>()
const NUMBERS_KEPT_MAX = 20_000

/** A number, or an IPv4 address as one. */
function numberOf(value: Json): number | undefined {
  const text = String(value)
  if (numbers.has(text)) return numbers.get(text)
  if (numbers.size >= NUMBERS_KEPT_MAX) numbers.clear()
  const number = parseNumber(text)
  numbers.set(text, number)
  return number
}

function parseNumber(text: string): number | undefined {
  if (/^\d{1,10}$/.test(text)) return Number(text)
  const parts = text.split('.').map(Number)
  return /^\d{1,3}(?:\.\d{1,3}){3}$/.test(text) && parts.every((part) => part <= 255)
    ? parts.reduce((sum, part) => sum * 256 + part, 0)
    : undefined
}
