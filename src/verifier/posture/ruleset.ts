import { type Bits, Column, NO_BITS, numbersIn } from '../bits.ts'

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

/** Many packets that differ in some fields only. */
export type Packets = { [Field in keyof Packet]: Packet[Field] | Column }

class GiveUp extends Error {}

/** What an expression is for all packets, or for each. A concatenation stays in parts: they are looked up, never joined. */
type Value = string | undefined | Column | { parts: readonly (string | Column)[] }
type Marks = { mark: Value; ctMark: Value }
/** Packets that have come the same way so far. */
type Flow = { packets: Bits; marks: Marks; limits: readonly Limit[] }
type End = 'continue' | 'return' | Verdict
type Outcome = { flow: Flow; end: End }
/** What a look-up found for whom. */
type Found = { data: Json; packets: Bits }[]

/** What an expression of a rule reads, by the expression as the tool prints it. */
const FIELDS: Readonly<Record<string, (packets: Packets, marks: Marks) => Value>> = {
  '{"meta":{"key":"iifname"}}': (packets) => packets.iifname,
  '{"meta":{"key":"oifname"}}': (packets) => packets.oifname,
  '{"meta":{"key":"nfproto"}}': (packets) => packets.nfproto,
  '{"meta":{"key":"l4proto"}}': (packets) => packets.l4proto,
  '{"meta":{"key":"mark"}}': (_, marks) => marks.mark,
  '{"ct":{"key":"mark"}}': (_, marks) => marks.ctMark,
  '{"ct":{"key":"state"}}': (packets) => packets.ctState,
  '{"payload":{"protocol":"ether","field":"saddr"}}': (packets) => packets.etherSaddr,
  '{"payload":{"protocol":"ip","field":"saddr"}}': (packets) => packets.saddr,
  '{"payload":{"protocol":"ip","field":"daddr"}}': (packets) => packets.daddr,
  '{"payload":{"protocol":"th","field":"dport"}}': ({ dport }) => portText(dport),
  ...Object.fromEntries(
    ['tcp', 'udp', 'sctp'].map((protocol) => [
      `{"payload":{"protocol":"${protocol}","field":"dport"}}`,
      // A packet of another protocol ends the rule, which no port does either.
      ({ l4proto, dport }: Packets) => (l4proto === protocol ? portText(dport) : NO_PORT),
    ]),
  ),
  '{"meta":{"key":"skuid"}}': () => '',
}

const portText = (dport: number | Column) => (typeof dport === 'number' ? String(dport) : dport)

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
    const [fate] = this.follow(packet, hooks, 1n).fates
    return fate?.verdict ?? { verdict: 'accept', by: `no chain of ${hooks.join(', ')} drops it` }
  }

  /** The limits that packets like this one count for, as long as they get through; none when that is not known. */
  limitsOn(packet: Packet, hooks: readonly Hook[]): readonly Limit[] {
    return this.follow(packet, hooks, 1n).accepted[0]?.limits ?? []
  }

  /** Which of many packets, told apart by the columns, surely are dropped: in steps of rules and not of packets. */
  dropped(packets: Packets, hooks: readonly Hook[], all: Bits): Bits {
    let dropped = NO_BITS
    for (const { verdict, packets: some } of this.follow(packets, hooks, all).fates)
      if (verdict.verdict === 'drop') dropped |= some
    return dropped
  }

  private follow(
    packets: Packets,
    hooks: readonly Hook[],
    all: Bits,
  ): { fates: { verdict: Verdict; packets: Bits }[]; accepted: Flow[] } {
    const fates: { verdict: Verdict; packets: Bits }[] = []
    let flows: Flow[] = [{ packets: all, marks: { mark: '0', ctMark: '0' }, limits: [] }]
    for (const hook of hooks) {
      for (const { table, chain } of this.chainsAt(hook)) {
        // Address translation changes where a packet goes; the callers ask about the addresses behind it.
        if (chain.type === 'nat') continue
        const accepted: Flow[] = []
        for (const { flow, end } of this.runChain(table, chain.name, packets, flows, 0)) {
          const verdict: Verdict =
            typeof end === 'object'
              ? end
              : {
                  verdict: chain.policy === 'accept' ? 'accept' : 'drop',
                  by: `policy of ${table.name} ${chain.name}`,
                }
          if (verdict.verdict === 'accept') accepted.push(flow)
          else fates.push({ verdict, packets: flow.packets })
        }
        flows = accepted
      }
    }
    return { fates, accepted: flows }
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
    packets: Packets,
    entering: Flow[],
    depth: number,
  ): Outcome[] {
    const outcomes: Outcome[] = []
    const gaveUp =
      depth > JUMPS_MAX
        ? 'chains jump too deep'
        : table.chains.has(chain)
          ? undefined
          : `there is no chain "${chain}"`
    if (gaveUp !== undefined)
      return entering.map((flow) => ({
        flow,
        end: { verdict: 'unknown', by: `${table.name} ${chain}: ${gaveUp}` },
      }))
    let flows = entering
    for (const rule of table.rules.get(chain) ?? []) {
      if (flows.length === 0) break
      const going: Flow[] = []
      for (const flow of flows)
        for (const outcome of this.runRule(table, chain, rule, packets, flow, depth))
          if (outcome.end === 'continue') join(going, outcome.flow)
          else outcomes.push(outcome)
      flows = going
    }
    return [...outcomes, ...flows.map((flow): Outcome => ({ flow, end: 'continue' }))]
  }

  private runRule(
    table: Table,
    chain: string,
    rule: Rule,
    packets: Packets,
    entering: Flow,
    depth: number,
  ): Outcome[] {
    const outcomes: Outcome[] = []
    let flows: Flow[] = [entering]
    for (const statement of rule.expr) {
      const going: Flow[] = []
      for (const flow of flows) {
        try {
          for (const { flow: next, end } of this.step(table, rule, statement, packets, flow, depth))
            if (next.packets === NO_BITS) continue
            else if (end === undefined) going.push(next)
            else outcomes.push({ flow: next, end })
        } catch (error) {
          if (!(error instanceof GiveUp)) throw error
          outcomes.push({ flow, end: { verdict: 'unknown', by: `${table.name} ${chain}: ${error.message}` } })
        }
      }
      flows = going
      if (flows.length === 0) break
    }
    return [...outcomes, ...flows.map((flow): Outcome => ({ flow, end: 'continue' }))]
  }

  /** One statement of a rule; without an `end`, the next one follows. */
  private step(
    table: Table,
    rule: Rule,
    statement: Json,
    packets: Packets,
    flow: Flow,
    depth: number,
  ): { flow: Flow; end?: End }[] {
    if (!isObject(statement)) throw new GiveUp('a statement is not an object')
    const [kind = ''] = Object.keys(statement)
    const act = (verdict: JsonObject, acting: Flow): { flow: Flow; end?: End }[] | undefined => {
      if ('accept' in verdict) return [{ flow: acting, end: { verdict: 'accept', by: rule.by } }]
      if ('drop' in verdict || 'reject' in verdict)
        return [{ flow: acting, end: { verdict: 'drop', by: rule.by } }]
      if ('return' in verdict) return [{ flow: acting, end: 'return' }]
      if ('continue' in verdict) return [{ flow: acting }]
      for (const way of ['jump', 'goto'] as const) {
        const jump = verdict[way]
        if (!isObject(jump)) continue
        return this.runChain(table, String(jump['target']), packets, [acting], depth + 1).map(
          ({ flow: after, end }) =>
            end === 'continue' || end === 'return'
              ? // After a goto, the end of the target chain is the end of ours too.
                way === 'goto'
                ? { flow: after, end: 'return' as const }
                : { flow: after }
              : { flow: after, end },
        )
      }
      return undefined
    }
    switch (kind) {
      case 'counter':
      case 'log':
        return [{ flow }]
      case 'limit': {
        // What is over the limit goes on with this rule. What is not known to be is asked for here: the packet is the first.
        const found = this.limits(table, statement['limit'] ?? null, packets, flow)
        const met = found.reduce((sum, each) => sum | each.packets, NO_BITS)
        const drops = rule.expr.some((each) => isObject(each) && 'drop' in each)
        return [
          ...found.map(({ limit, packets: some }): { flow: Flow; end?: End } =>
            limit === 'under'
              ? { flow: { ...flow, packets: some } }
              : {
                  flow: {
                    ...flow,
                    packets: some,
                    limits: limit && drops ? [...flow.limits, limit] : flow.limits,
                  },
                  end: 'continue',
                },
          ),
          { flow: { ...flow, packets: flow.packets & ~met }, end: 'continue' },
        ]
      }
      case 'match': {
        const matching = this.matching(table, statement['match'] as JsonObject, packets, flow)
        return [
          { flow: { ...flow, packets: matching } },
          { flow: { ...flow, packets: flow.packets & ~matching }, end: 'continue' },
        ]
      }
      case 'mangle': {
        const { key, value } = statement['mangle'] as JsonObject
        const next = this.value(table, value ?? null, packets, flow)
        const target = JSON.stringify(key)
        const mark = MARKS[target]
        if (mark === undefined) throw new GiveUp(`cannot follow a change of ${target}`)
        if (next !== undefined && typeof next === 'object' && 'parts' in next)
          throw new GiveUp('a mark is no concatenation')
        // A map without an entry ends the rule, as in the kernel.
        const known = having(next, flow.packets)
        return [
          { flow: { ...flow, packets: known, marks: { ...flow.marks, [mark]: next } } },
          { flow: { ...flow, packets: flow.packets & ~known }, end: 'continue' },
        ]
      }
      case 'vmap': {
        const { key, data } = statement['vmap'] as JsonObject
        const found = this.find(
          table,
          data ?? null,
          this.value(table, key ?? null, packets, flow),
          flow.packets,
        )
        const met = found.reduce((sum, each) => sum | each.packets, NO_BITS)
        return [
          ...found.flatMap((each) => {
            const some = { ...flow, packets: each.packets }
            const acted = isObject(each.data) ? act(each.data, some) : undefined
            return acted ?? [{ flow: some }]
          }),
          { flow: { ...flow, packets: flow.packets & ~met } },
        ]
      }
      case 'set': {
        // `add @set { key ct count over N }` matches only beyond a limit; below it the rule ends.
        const { stmt } = statement['set'] as JsonObject
        return JSON.stringify(stmt ?? null).includes('"ct count"') ? [{ flow, end: 'continue' }] : [{ flow }]
      }
      default: {
        const acted = act(statement, flow)
        if (!acted) throw new GiveUp(`does not know the statement "${kind}"`)
        return acted
      }
    }
  }

  /** `under` where the rule is about packets below a limit; who has none in a map is in none of these. */
  private limits(
    table: Table,
    limit: Json,
    packets: Packets,
    flow: Flow,
  ): { limit: Limit | 'under' | undefined; packets: Bits }[] {
    const named = (name: Json) => table.limits.get(String(name)) ?? null
    const found: Found =
      isObject(limit) && isObject(limit['map'])
        ? this.find(
            table,
            limit['map']['data'] ?? null,
            this.value(table, limit['map']['key'] ?? null, packets, flow),
            flow.packets,
          ).map((each) => ({ ...each, data: named(each.data) }))
        : [{ data: typeof limit === 'string' ? named(limit) : limit, packets: flow.packets }]
    return found.map(({ data, packets: some }) => {
      if (!isObject(data)) throw new GiveUp('there is no such limit')
      const { name = '', rate, per, inv, rate_unit: unit = 'packets' } = data
      if (inv !== true) return { limit: 'under', packets: some }
      const isKnown = per === 'second' && (unit === 'bytes' || unit === 'packets')
      return { limit: isKnown ? { name: String(name), rate: Number(rate), unit } : undefined, packets: some }
    })
  }

  private matching(table: Table, match: JsonObject, packets: Packets, flow: Flow): Bits {
    // Rules that end are written with the machine's time of day, as this process has it too.
    if (match['op'] === '<' && JSON.stringify(match['left']) === '{"meta":{"key":"time"}}')
      return !(Date.now() >= Date.parse(String(match['right']))) ? flow.packets : NO_BITS
    const left = this.value(table, match['left'] ?? null, packets, flow)
    const found = this.find(table, match['right'] ?? null, left, flow.packets).reduce(
      (sum, each) => sum | each.packets,
      NO_BITS,
    )
    switch (match['op']) {
      case '==':
      case 'in':
        return found
      case '!=':
        return flow.packets & ~found
      default:
        throw new GiveUp(`does not know the operator "${String(match['op'])}"`)
    }
  }

  private value(table: Table, expression: Json, packets: Packets, flow: Flow): Value {
    if (!isObject(expression)) return String(expression)
    if (isObject(expression['map'])) {
      const { key, data } = expression['map']
      const value = this.value(table, key ?? null, packets, flow)
      if (value === undefined || typeof value === 'string') {
        const found = this.lookUp(table, data ?? null, value)
        return found === undefined ? undefined : String(found)
      }
      return this.mapped(table, data ?? null, value, flow.packets)
    }
    if (Array.isArray(expression['concat'])) {
      const parts = expression['concat'].map((part) => this.value(table, part, packets, flow))
      if (parts.includes(undefined)) return undefined
      if (parts.every((part) => typeof part === 'string')) return parts.join(' . ')
      return {
        parts: parts.map((part) => {
          if (typeof part === 'string' || part instanceof Column) return part
          throw new GiveUp('a concatenation within another')
        }),
      }
    }
    const name = nameOf(expression)
    const field = FIELDS[name]
    if (!field) throw new GiveUp(`does not know the expression ${name}`)
    return field(packets, flow.marks)
  }

  private readonly columns = new Map<string, WeakMap<Column, Column>>()

  /** A column through a map. Each column is mapped once, for whoever asks. */
  private mapped(
    table: Table,
    data: Json,
    value: Column | { parts: readonly (string | Column)[] },
    all: Bits,
  ): Column {
    const through = (found: Found) => {
      const values: (string | undefined)[] = []
      for (const each of found) for (const at of numbersIn(each.packets)) values[at] = String(each.data)
      return new Column(Array.from(values))
    }
    if (!(value instanceof Column)) return through(this.find(table, data, value, all))
    const name = `${table.name} ${JSON.stringify(data)}`
    const known = this.columns.get(name) ?? new WeakMap<Column, Column>()
    this.columns.set(name, known)
    const before = known.get(value)
    if (before) return before
    const column = through(this.findColumn(table, data, value))
    known.set(value, column)
    return column
  }

  private find(table: Table, where: Json, value: Value, packets: Bits): Found {
    if (value === undefined) return []
    if (typeof value === 'string') {
      const data = this.lookUp(table, where, value)
      return data === undefined ? [] : [{ data, packets }]
    }
    const found =
      value instanceof Column
        ? this.findColumn(table, where, value)
        : this.findParts(table, where, value.parts)
    return found.flatMap((each) => {
      const some = each.packets & packets
      return some === NO_BITS ? [] : [{ data: each.data, packets: some }]
    })
  }

  private readonly found = new Map<string, WeakMap<Column, Found>>()

  private findColumn(table: Table, where: Json, column: Column): Found {
    const name = `${table.name} ${typeof where === 'object' && where !== null ? nameOf(where) : JSON.stringify(where)}`
    const known = this.found.get(name) ?? new WeakMap<Column, Found>()
    this.found.set(name, known)
    const before = known.get(column)
    if (before) return before
    const found = gather(
      [...column.of].map(([value, packets]) => ({ data: this.lookUp(table, where, value), packets })),
    )
    known.set(column, found)
    return found
  }

  private readonly indexes = new Map<string, ReturnType<typeof indexOf>>()

  /** Elements of a set whose constant parts are these, and of the others whoever has them. */
  private findParts(table: Table, where: Json, parts: readonly (string | Column)[]): Found {
    if (typeof where !== 'string' || !where.startsWith('@'))
      throw new GiveUp('a concatenation is looked up in no named set')
    const set = table.sets.get(where.slice(1))
    if (!set) throw new GiveUp(`there is no set "${where}"`)
    if (set.has(OPAQUE)) throw new GiveUp(`cannot look into the elements of "${where}"`)
    const fixed = parts.flatMap((part, at) => (typeof part === 'string' ? [at] : []))
    const name = `${table.name} ${where} ${fixed.join(' ')}`
    const index = this.indexes.get(name) ?? indexOf(set, fixed)
    this.indexes.set(name, index)
    const values = fixed.map((at) => String(parts[at]))
    const candidates = [
      ...(index.exact.get(values.join(' . ')) ?? []),
      ...index.spanned.filter(({ key }) =>
        fixed.every((at, n) => partMatches(key[at] ?? '', values[n] ?? '')),
      ),
    ]
    return gather(
      candidates.flatMap(({ key, data }) => {
        if (key.length !== parts.length) return []
        let packets: Bits | undefined
        for (const [at, part] of parts.entries()) {
          if (typeof part === 'string') continue
          const wanted = key[at] ?? ''
          const own = wanted.includes(SPAN)
            ? [...part.of].reduce(
                (sum, [value, some]) => (withinSpan(wanted, value) ? sum | some : sum),
                NO_BITS,
              )
            : (part.of.get(wanted) ?? NO_BITS)
          packets = packets === undefined ? own : packets & own
        }
        return packets === undefined || packets === NO_BITS ? [] : [{ data, packets }]
      }),
    )
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

const MARKS: Readonly<Record<string, keyof Marks>> = {
  '{"meta":{"key":"mark"}}': 'mark',
  '{"ct":{"key":"mark"}}': 'ctMark',
}

/** Packets with any value. */
function having(value: Value, packets: Bits): Bits {
  if (value === undefined) return NO_BITS
  if (!(value instanceof Column)) return packets
  let some = NO_BITS
  for (const each of value.of.values()) some |= each
  return some & packets
}

/** Flows that have become alike go on as one. */
function join(flows: Flow[], flow: Flow): void {
  const at = flows.findIndex(
    ({ marks }) => marks.mark === flow.marks.mark && marks.ctMark === flow.marks.ctMark,
  )
  const known = flows[at]
  if (known) flows[at] = { ...known, packets: known.packets | flow.packets }
  else flows.push(flow)
}

/** What was found, each thing once. */
function gather(found: readonly { data: Json | undefined; packets: Bits }[]): Found {
  const by = new Map<string, { data: Json; packets: Bits }>()
  for (const { data, packets } of found) {
    if (data === undefined) continue
    const name = typeof data === 'object' && data !== null ? nameOf(data) : JSON.stringify(data)
    const known = by.get(name)
    if (known) known.packets |= packets
    else by.set(name, { data, packets })
  }
  return [...by.values()]
}

type Element = { key: readonly string[]; data: Json }

/** Elements of a set by some of their parts; those with a range there have to be looked at one by one. */
function indexOf(
  set: Elements,
  fixed: readonly number[],
): { exact: Map<string, Element[]>; spanned: Element[] } {
  const exact = new Map<string, Element[]>()
  const spanned: Element[] = []
  for (const [text, data] of set) {
    const key = text.split(' . ')
    const own = fixed.map((at) => key[at] ?? '')
    if (own.some((part) => part.includes(SPAN))) spanned.push({ key, data })
    else {
      const name = own.join(' . ')
      const known = exact.get(name)
      if (known) known.push({ key, data })
      else exact.set(name, [{ key, data }])
    }
  }
  return { exact, spanned }
}

function partMatches(part: string, value: string): boolean {
  return part.includes(SPAN) ? withinSpan(part, value) : part === value
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
  return parts.length === values.length && parts.every((part, at) => partMatches(part, values[at] ?? ''))
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
