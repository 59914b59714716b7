import { isDnsSubdomain } from '../../../api/index.ts'
import { ZONE, ipv4FromText, isDnsName, isServiceAddress, tenantIndexOf } from '../plan/net/index.ts'
import { CNAME_STEPS_MAX, VIEW_RECORDS_MAX } from './limits.ts'
import { type Answer, type AnswerRecord, type Query, RCODE, type Rcode, TYPE } from './message.ts'

/** A record without its name, which is the key it is kept under. */
type Stored = { type: 'A' | 'CNAME' | 'PTR'; data: string } | { type: 'SRV'; data: string; port: number }
type Named = { name: string; record: Stored }

const CLASS_IN = 1
const OPCODE_QUERY = 0
const POD_NAME =
  /^(\d{1,3})-(\d{1,3})-(\d{1,3})-(\d{1,3})\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.pod\.cluster\.local$/
const SOA: AnswerRecord = { name: ZONE, type: 'SOA', data: ZONE }
/** Names that exist although no record is below them. */
const ALWAYS: readonly string[] = [ZONE, `svc.${ZONE}`, `pod.${ZONE}`, `dns.${ZONE}`]

/** The names of one tenant. Holds nothing of any other, so whatever is asked, nothing else can be answered. */
export class View {
  private readonly records: ReadonlyMap<string, readonly Stored[]>
  /** Names that have no record but children that do: they exist (RFC 8020). */
  private readonly parents: ReadonlySet<string>
  private readonly pods: ReadonlySet<string>
  /** Some names outside may be asked for; which ones and by whom is not for us to say. */
  readonly outside: boolean
  private turn = 0

  constructor(named: readonly Named[], pods: ReadonlySet<string>, outside = false) {
    this.outside = outside
    const records = new Map<string, Stored[]>()
    for (const { name, record } of named) {
      const others = records.get(name)
      if (others) others.push(record)
      else records.set(name, [record])
    }
    this.records = records
    const parents = new Set(ALWAYS)
    for (const name of this.records.keys()) {
      for (let at = name.indexOf('.'); at >= 0; at = name.indexOf('.', at + 1)) {
        const parent = name.slice(at + 1)
        if (parent.endsWith(ZONE)) parents.add(parent)
      }
    }
    this.parents = parents
    this.pods = pods
  }

  /** The name outside that the query is about, directly or by an alias of ours; undefined when it is about ours. */
  outsideName({ name, opcode, class: queryClass }: Query): string | undefined {
    if (!this.outside || name === undefined || opcode !== OPCODE_QUERY || queryClass !== CLASS_IN)
      return undefined
    let current = name
    for (let step = 0; step <= CNAME_STEPS_MAX; step++) {
      const alias = this.records.get(current)?.find((r) => r.type === 'CNAME')
      if (!alias) break
      current = alias.data
    }
    const inside = current === ZONE || current.endsWith(`.${ZONE}`) || this.records.has(current)
    return inside || current.endsWith('.arpa') ? undefined : current
  }

  answer(query: Query): Answer {
    if (query.opcode !== OPCODE_QUERY) return failure(RCODE.notImplemented)
    if (query.class !== CLASS_IN || query.type === TYPE.ANY) return failure(RCODE.notImplemented)
    const { name } = query
    // Refusing would make musl's resolver wait for a better answer until it gives up; there is none, so we say so.
    if (name === undefined) return failure(RCODE.nameError)
    if (name !== ZONE && !name.endsWith(`.${ZONE}`)) return this.reverse(name, query.type)
    if (name === ZONE && query.type === TYPE.SOA) return found([{ type: 'SOA', data: ZONE }])
    if (name === ZONE && query.type === TYPE.NS) return found([{ type: 'NS', data: `ns.dns.${ZONE}` }])
    if (name === `dns-version.${ZONE}`)
      return query.type === TYPE.TXT ? found([{ type: 'TXT', data: '1.1.0' }]) : noData()
    const pod = this.pod(name)
    if (pod !== undefined) return query.type === TYPE.A ? found([{ type: 'A', data: pod }]) : noData()
    return this.lookUp(name, query.type)
  }

  private lookUp(name: string, type: number): Answer {
    const answers: AnswerRecord[] = []
    const additionals: AnswerRecord[] = []
    let current = name
    for (let step = 0; step <= CNAME_STEPS_MAX; step++) {
      const records = this.records.get(current)
      if (!records) {
        // A name that we lead to but do not have is for the client to ask about elsewhere.
        if (step > 0) return found(answers)
        return this.parents.has(name) ? noData() : { ...noData(), rcode: RCODE.nameError }
      }
      const owner = step === 0 ? {} : { name: current }
      const matching = records.filter((r) => TYPE[r.type] === type)
      for (const record of this.rotate(matching)) answers.push({ ...owner, ...record })
      const alias = records.find((r) => r.type === 'CNAME')
      if (matching.length > 0 || !alias) {
        for (const record of matching) {
          if (record.type !== 'SRV') continue
          for (const target of this.records.get(record.data) ?? [])
            if (target.type === 'A') additionals.push(target)
        }
        return answers.length === 0 ? noData() : { ...found(answers), additionals }
      }
      answers.push({ ...owner, type: 'CNAME', data: alias.data })
      current = alias.data
    }
    return failure(RCODE.serverFailure)
  }

  private reverse(name: string, type: number): Answer {
    const records = this.records.get(name)
    if (!records) return { ...failure(RCODE.nameError), authoritative: false }
    const matching = records.filter((r) => TYPE[r.type] === type)
    return { rcode: RCODE.noError, authoritative: true, answers: matching, authorities: [], additionals: [] }
  }

  /** `10-128-0-1.NAMESPACE.pod.cluster.local`, for pods of this tenant that exist. */
  private pod(name: string): string | undefined {
    const parts = POD_NAME.exec(name)
    const address = parts?.slice(1, 5).join('.')
    return address !== undefined && this.pods.has(address) ? address : undefined
  }

  /** Clients take the first address; each gets its turn. */
  private rotate<T>(items: T[]): T[] {
    if (items.length < 2) return items
    const start = this.turn++ % items.length
    return [...items.slice(start), ...items.slice(0, start)]
  }
}

export function failure(rcode: Rcode): Answer {
  return { rcode, authoritative: false, answers: [], authorities: [], additionals: [] }
}

function found(answers: readonly AnswerRecord[]): Answer {
  return { rcode: RCODE.noError, authoritative: true, answers, authorities: [], additionals: [] }
}

function noData(): Answer {
  return { rcode: RCODE.noError, authoritative: true, answers: [], authorities: [SOA], additionals: [] }
}

/**
 * Reads a view for the tenant with this index. Addresses of other tenants' pods and names outside the zone are refused,
 * so not even a mistake of the agent makes one tenant's pods known to another.
 * @throws {TypeError}
 */
export function parseView(index: number, value: unknown): View {
  if (typeof value !== 'object' || value === null || !('records' in value) || !('pods' in value))
    throw new TypeError('A view has "records" and "pods"')
  const { records, pods } = value
  const outside = 'outside' in value ? value.outside : false
  if (typeof outside !== 'boolean') throw new TypeError('"outside" of a view is true or false')
  if (!Array.isArray(records) || records.length > VIEW_RECORDS_MAX)
    throw new TypeError(`A view has a list of at most ${VIEW_RECORDS_MAX} records`)
  if (!Array.isArray(pods) || pods.length > VIEW_RECORDS_MAX) throw new TypeError('A view has a list of pods')
  const podAddress = (text: unknown) => {
    const address = ipv4FromText(text)
    if (address === undefined || tenantIndexOf(address) !== index)
      throw new TypeError(`${JSON.stringify(text)} is no pod of the tenant ${index}`)
    return text as string // ipv4FromText takes nothing but text
  }
  return new View(
    records.map((record: unknown) => parseRecord(index, record)),
    new Set(pods.map(podAddress)),
    outside,
  )
}

function parseRecord(index: number, value: unknown): Named {
  if (typeof value !== 'object' || value === null) throw new TypeError('A record is an object')
  const { name, type, data, port } = value as Record<string, unknown>
  const wrong = (why: string) => new TypeError(`The record ${JSON.stringify(name)} ${why}`)
  if (typeof name !== 'string' || !isDnsName(name)) throw wrong('has no valid name')
  if (typeof data !== 'string') throw wrong('has no data')
  const inZone = name.endsWith(`.${ZONE}`)
  switch (type) {
    case 'A': {
      const address = ipv4FromText(data)
      if (!inZone || address === undefined) throw wrong('is no address of the zone')
      if (tenantIndexOf(address) !== index && !isServiceAddress(address))
        throw wrong('has the address of a stranger')
      return { name, record: { type, data } }
    }
    case 'CNAME':
      if (!inZone || !isDnsSubdomain(data)) throw wrong('is no alias of the zone')
      return { name, record: { type, data } }
    case 'PTR':
      if (!/^(\d{1,3}\.){4}in-addr\.arpa$/.test(name) || !isDnsName(data)) throw wrong('is no reverse name')
      return { name, record: { type, data } }
    case 'SRV':
      if (!inZone || !isDnsName(data)) throw wrong('is no service of the zone')
      if (typeof port !== 'number' || !Number.isInteger(port) || port < 1 || port > 65_535)
        throw wrong('has no port')
      return { name, record: { type, data, port } }
    default:
      throw wrong('has an unknown type')
  }
}
