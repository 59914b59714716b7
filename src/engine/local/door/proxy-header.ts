import { isIPv4, isIPv6 } from 'node:net'
import { parseIpBlock } from '../../../api/index.ts'
import { PROXY_HEADER_BYTES_MAX } from './limits.ts'

/** `client` is absent when whoever stands in front speaks for itself, as in its own checks. */
export type ProxyHeader = 'more' | 'bad' | { bytes: number; client?: string }

const SIGNATURE = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a])
const TEXT = Buffer.from('PROXY ')
/** The longest line of version 1, with its end. */
const LINE_BYTES_MAX = 107
const HEAD_BYTES = 16
const FAMILIES = { 0x11: { bytes: 4, of: 12 }, 0x21: { bytes: 16, of: 36 } } as const

/**
 * What something that stands in front of us says about its client, at the beginning of a connection: version 1 or 2 of
 * the PROXY protocol, over TCP.
 * https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt
 */
export function parseProxyHeader(bytes: Buffer): ProxyHeader {
  if (startsAlike(bytes, SIGNATURE)) return bytes.length < HEAD_BYTES ? 'more' : parseBinary(bytes)
  return startsAlike(bytes, TEXT) ? parseText(bytes) : 'bad'
}

/** The same in version 2, for a service that has asked to be told its clients. A port that nobody knows is 0. */
export function renderProxyHeader({
  client,
  clientPort,
  address,
  port,
}: {
  client: string
  clientPort: number
  address: string
  port: number
}): Buffer {
  const both = [client, address]
  // Without an address on both sides there is nothing to tell but that the connection is one of ours.
  if (!both.every((each) => isIPv4(each) || isPlainIPv6(each)))
    return Buffer.concat([SIGNATURE, Buffer.from([0x21, 0, 0, 0])])
  const isOld = both.every((each) => isIPv4(each))
  const addresses = both.map((each) => addressBytes(each, isOld))
  const length = isOld ? FAMILIES[0x11].of : FAMILIES[0x21].of
  const ports = Buffer.alloc(4)
  ports.writeUInt16BE(clientPort, 0)
  ports.writeUInt16BE(port, 2)
  return Buffer.concat([SIGNATURE, Buffer.from([0x21, isOld ? 0x11 : 0x21, 0, length]), ...addresses, ports])
}

/** Of IPv4 among IPv6, as addresses of the one are written in the other (RFC 4291, 2.5.5.2). */
function addressBytes(text: string, isOld: boolean): Buffer {
  if (isIPv4(text)) {
    const bytes = Buffer.from(text.split('.').map(Number))
    return isOld ? bytes : Buffer.concat([Buffer.alloc(10), Buffer.from([0xff, 0xff]), bytes])
  }
  const block = parseIpBlock(`${text}/128`)
  return Buffer.from((block?.base ?? 0n).toString(16).padStart(32, '0'), 'hex')
}

function startsAlike(bytes: Buffer, expected: Buffer): boolean {
  const length = Math.min(bytes.length, expected.length)
  return bytes.subarray(0, length).equals(expected.subarray(0, length))
}

function parseText(bytes: Buffer): ProxyHeader {
  const end = bytes.subarray(0, LINE_BYTES_MAX).indexOf('\r\n')
  if (end < 0) return bytes.length < LINE_BYTES_MAX ? 'more' : 'bad'
  const [, family, source = '', target = '', ...ports] = bytes.toString('latin1', 0, end).split(' ')
  const header = { bytes: end + 2 }
  if (family === 'UNKNOWN') return header
  const isAddress = family === 'TCP4' ? isIPv4 : family === 'TCP6' ? isPlainIPv6 : () => false
  const isRight = isAddress(source) && isAddress(target) && ports.length === 2 && ports.every(isPort)
  return isRight ? { ...header, client: source } : 'bad'
}

function parseBinary(bytes: Buffer): ProxyHeader {
  const [version = 0, family = 0] = bytes.subarray(SIGNATURE.length)
  const length = bytes.readUInt16BE(SIGNATURE.length + 2)
  if (HEAD_BYTES + length > PROXY_HEADER_BYTES_MAX) return 'bad'
  if (bytes.length < HEAD_BYTES + length) return 'more'
  const header = { bytes: HEAD_BYTES + length }
  if (version === 0x20) return header
  if (version !== 0x21) return 'bad'
  if (family === 0) return header
  if (family !== 0x11 && family !== 0x21) return 'bad'
  const { bytes: wide, of } = FAMILIES[family]
  if (length < of) return 'bad'
  return { ...header, client: addressText(bytes.subarray(HEAD_BYTES, HEAD_BYTES + wide)) }
}

function addressText(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join('.')
  const groups = Array.from({ length: 8 }, (_, at) => bytes.readUInt16BE(at * 2).toString(16))
  return groups.join(':')
}

/** Without a zone, and without an IPv4 address in it. */
function isPlainIPv6(text: string): boolean {
  return isIPv6(text) && /^[0-9a-fA-F:]+$/.test(text)
}

function isPort(text: string): boolean {
  return /^(0|[1-9]\d{0,4})$/.test(text) && Number(text) <= 65_535
}
