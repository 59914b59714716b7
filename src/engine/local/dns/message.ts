import { TTL_SECONDS, UDP_BYTES_MAX, UDP_BYTES_MIN, QUERY_BYTES_MAX } from './limits.ts'

/**
 * DNS messages (RFC 1035), as far as a resolver without an upstream needs them: a query in, an answer out. Pods send
 * whatever they like, so the parser takes one question without compression, and everything else is not a query.
 */
export const RCODE = {
  noError: 0,
  formatError: 1,
  serverFailure: 2,
  nameError: 3,
  notImplemented: 4,
  refused: 5,
} as const
export type Rcode = (typeof RCODE)[keyof typeof RCODE]

export const TYPE = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  OPT: 41,
  ANY: 255,
} as const
const CLASS_IN = 1
const HEADER_BYTES = 12
const FLAG_RESPONSE = 0x8000
const FLAG_AUTHORITATIVE = 0x0400
const FLAG_TRUNCATED = 0x0200
const FLAG_RECURSION_DESIRED = 0x0100
const FLAG_RECURSION_AVAILABLE = 0x0080
const NAME_BYTES_MAX = 255
const LABEL_BYTES_MAX = 63
/** A pointer to the name in the question, which is always at the same place. */
const QUESTION_NAME = Buffer.from([0xc0, HEADER_BYTES])

export type Query = {
  id: number
  recursionDesired: boolean
  opcode: number
  /** Lower-case, without a final dot; undefined when a label has bytes that no name of ours has. */
  name: string | undefined
  type: number
  class: number
  /** The question as it came: name, type and class. Echoed as it is, upper case included (draft-vixie-dns-0x20). */
  question: Buffer
  /** What the client can take over UDP. */
  udpBytesMax: number
  edns: boolean
  /** 0 is the only EDNS version there is (RFC 6891). */
  ednsVersion: number
}

/** A record of an answer. `name` is the question's when absent. */
export type AnswerRecord = { name?: string; ttlSeconds?: number } & (
  | { type: 'A'; data: string }
  | { type: 'CNAME' | 'PTR' | 'NS'; data: string }
  | { type: 'SRV'; data: string; port: number }
  | { type: 'TXT'; data: string }
  | { type: 'SOA'; data: string }
)

export type Answer = {
  rcode: Rcode
  authoritative: boolean
  answers: readonly AnswerRecord[]
  authorities: readonly AnswerRecord[]
  additionals: readonly AnswerRecord[]
}

/**
 * Reads a query.
 * @returns undefined for what deserves no answer: too short, an answer itself, or not one well-formed question.
 */
export function parseQuery(packet: Buffer): Query | undefined {
  if (packet.length < HEADER_BYTES || packet.length > QUERY_BYTES_MAX) return undefined
  const flags = packet.readUInt16BE(2)
  if ((flags & FLAG_RESPONSE) !== 0) return undefined
  const [questions, answers, authorities, additionals] = [4, 6, 8, 10].map((at) => packet.readUInt16BE(at))
  if (questions !== 1 || answers !== 0 || authorities !== 0 || additionals === undefined || additionals > 2)
    return undefined
  const labels: string[] = []
  let printable = true
  let at = HEADER_BYTES
  for (;;) {
    const length = packet[at]
    if (length === undefined || length > LABEL_BYTES_MAX) return undefined
    at += 1
    if (length === 0) break
    if (at + length > packet.length || at + length - HEADER_BYTES > NAME_BYTES_MAX - 1) return undefined
    const label = packet.toString('latin1', at, at + length).toLowerCase()
    printable &&= /^[-a-z0-9_]+$/.test(label)
    labels.push(label)
    at += length
  }
  if (at + 4 > packet.length) return undefined
  const query: Query = {
    id: packet.readUInt16BE(0),
    recursionDesired: (flags & FLAG_RECURSION_DESIRED) !== 0,
    opcode: (flags >>> 11) & 15,
    name: printable ? labels.join('.') : undefined,
    type: packet.readUInt16BE(at),
    class: packet.readUInt16BE(at + 2),
    question: Buffer.from(packet.subarray(HEADER_BYTES, at + 4)),
    udpBytesMax: UDP_BYTES_MIN,
    edns: false,
    ednsVersion: 0,
  }
  at += 4
  // Additional records: only EDNS (an OPT record named by the root) means something to us; of others we take no notice.
  if (
    additionals > 0 &&
    packet[at] === 0 &&
    at + 11 <= packet.length &&
    packet.readUInt16BE(at + 1) === TYPE.OPT
  ) {
    query.edns = true
    query.udpBytesMax = Math.min(Math.max(packet.readUInt16BE(at + 3), UDP_BYTES_MIN), UDP_BYTES_MAX)
    query.ednsVersion = packet.readUInt8(at + 6)
  }
  return query
}

/** Writes an answer of at most `bytesMax`; what does not fit is left out, and the answer says so (TC). */
export function renderAnswer(query: Query, answer: Answer, bytesMax: number): Buffer {
  const opt = query.edns ? renderOpt() : Buffer.alloc(0)
  const parts: Buffer[] = []
  let room = bytesMax - HEADER_BYTES - query.question.length - opt.length
  let truncated = false
  const put = (records: readonly AnswerRecord[], needed: boolean): number => {
    let count = 0
    for (const record of records) {
      const bytes = truncated ? undefined : renderRecord(record)
      if (bytes === undefined || bytes.length > room) {
        truncated ||= needed
        break
      }
      parts.push(bytes)
      room -= bytes.length
      count += 1
    }
    return count
  }
  const answers = put(answer.answers, true)
  const authorities = put(answer.authorities, true)
  const additionals = put(answer.additionals, false)
  const header = Buffer.alloc(HEADER_BYTES)
  header.writeUInt16BE(query.id, 0)
  header.writeUInt16BE(
    FLAG_RESPONSE |
      (query.opcode << 11) |
      (answer.authoritative ? FLAG_AUTHORITATIVE : 0) |
      (truncated ? FLAG_TRUNCATED : 0) |
      (query.recursionDesired ? FLAG_RECURSION_DESIRED : 0) |
      FLAG_RECURSION_AVAILABLE |
      answer.rcode,
    2,
  )
  header.writeUInt16BE(1, 4)
  header.writeUInt16BE(answers, 6)
  header.writeUInt16BE(authorities, 8)
  header.writeUInt16BE(additionals + (query.edns ? 1 : 0), 10)
  return Buffer.concat([header, query.question, ...parts, opt])
}

function renderRecord(record: AnswerRecord): Buffer {
  const name = record.name === undefined ? QUESTION_NAME : renderName(record.name)
  const data = renderData(record)
  const middle = Buffer.alloc(10)
  middle.writeUInt16BE(TYPE[record.type], 0)
  middle.writeUInt16BE(CLASS_IN, 2)
  middle.writeUInt32BE(record.ttlSeconds ?? TTL_SECONDS, 4)
  middle.writeUInt16BE(data.length, 8)
  return Buffer.concat([name, middle, data])
}

function renderData(record: AnswerRecord): Buffer {
  switch (record.type) {
    case 'A':
      return Buffer.from(record.data.split('.').map(Number))
    case 'CNAME':
    case 'PTR':
    case 'NS':
      return renderName(record.data)
    case 'TXT':
      return Buffer.concat([Buffer.from([record.data.length]), Buffer.from(record.data, 'latin1')])
    case 'SRV': {
      const fixed = Buffer.alloc(6)
      fixed.writeUInt16BE(0, 0) // priority
      fixed.writeUInt16BE(100, 2) // weight
      fixed.writeUInt16BE(record.port, 4)
      return Buffer.concat([fixed, renderName(record.data)])
    }
    case 'SOA': {
      const numbers = Buffer.alloc(20)
      // serial, refresh, retry, expire, and the time for which "no such name" may be remembered (RFC 2308).
      for (const [i, value] of [1, 7_200, 1_800, 86_400, TTL_SECONDS].entries())
        numbers.writeUInt32BE(value, i * 4)
      return Buffer.concat([
        renderName(`ns.dns.${record.data}`),
        renderName(`hostmaster.${record.data}`),
        numbers,
      ])
    }
    default:
      return record satisfies never
  }
}

/** Requires: a valid name. */
function renderName(name: string): Buffer {
  const labels = name === '' ? [] : name.split('.')
  return Buffer.concat([
    ...labels.flatMap((label) => [Buffer.from([label.length]), Buffer.from(label, 'latin1')]),
    Buffer.alloc(1),
  ])
}

/** We take 1,232 bytes over UDP, version 0, no options. */
function renderOpt(): Buffer {
  const bytes = Buffer.alloc(11)
  bytes.writeUInt16BE(TYPE.OPT, 1)
  bytes.writeUInt16BE(UDP_BYTES_MAX, 3)
  return bytes
}
