import { closeSync } from 'node:fs'
import {
  AF_NETLINK,
  MSG_DONTWAIT,
  SOCK_RAW,
  SyscallError,
  openSocket,
  receive,
  sendAll,
  setSocketOption,
} from './syscalls.ts'

// Messages of netlink(7): a header of 16 bytes, a struct of the family, then attributes, all aligned to 4 bytes.
const HEADER_BYTES = 16
const NLMSG_ERROR = 2
const NLMSG_DONE = 3
export const NLM_F_REQUEST = 1
export const NLM_F_ACK = 4
export const NLM_F_DUMP = 0x300
export const NLM_F_REPLACE = 0x100
export const NLM_F_EXCL = 0x200
export const NLM_F_CREATE = 0x400
export const NLM_F_APPEND = 0x800
const NLA_F_NESTED = 0x8000
const NLA_TYPE_MASK = 0x3fff
const SOL_NETLINK = 270
const NETLINK_EXT_ACK = 11
const NETLINK_CAP_ACK = 10
const RECEIVE_BYTES = 64 * 1024
const SOL_SOCKET = 1
const SO_SNDBUFFORCE = 32
const SO_RCVBUFFORCE = 33
const SOCKET_BUFFER_BYTES = 4 * 1024 * 1024

export const NETLINK_ROUTE = 0
export const NETLINK_NETFILTER = 12

export type Message = { type: number; flags: number; payload: Buffer; what: string }
export type Reply = { type: number; payload: Buffer }

export const u8 = (value: number) => Buffer.from([value])
export const u16be = (value: number) => Buffer.from([value >>> 8, value & 255])
export const u16 = (value: number) => Buffer.from([value & 255, value >>> 8])
export const u32 = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value >>> 0)
  return bytes
}
export const u32be = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value >>> 0)
  return bytes
}
export const u64be = (value: number) => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(value))
  return bytes
}
export const cstring = (value: string) => Buffer.from(`${value}\0`)
export const mac = (text: string) => Buffer.from(text.replaceAll(':', ''), 'hex')

export function attribute(type: number, value: Buffer): Buffer {
  const bytes = Buffer.alloc((4 + value.length + 3) & ~3)
  bytes.writeUInt16LE(4 + value.length, 0)
  bytes.writeUInt16LE(type, 2)
  value.copy(bytes, 4)
  return bytes
}

export function nested(type: number, ...children: Buffer[]): Buffer {
  return attribute(type | NLA_F_NESTED, Buffer.concat(children))
}

/** Attributes by type; of two with the same type the last one wins. */
export function parseAttributes(bytes: Buffer): Map<number, Buffer> {
  const found = new Map<number, Buffer>()
  for (let at = 0; at + 4 <= bytes.length;) {
    const length = bytes.readUInt16LE(at)
    if (length < 4 || at + length > bytes.length) break
    found.set(bytes.readUInt16LE(at + 2) & NLA_TYPE_MASK, bytes.subarray(at + 4, at + length))
    at += (length + 3) & ~3
  }
  return found
}

/**
 * A netlink socket. It stays in the network namespace in which it was opened, whatever the thread does later. The
 * kernel has carried a request out when send(2) returns, so everything here is synchronous.
 */
export class NetlinkSocket {
  private readonly fd: number
  private sequence = 1
  private readonly buffer = Buffer.alloc(RECEIVE_BYTES)

  constructor(protocol: number) {
    this.fd = openSocket(AF_NETLINK, SOCK_RAW, protocol)
    // Answers without a copy of the question, so that a batch of many has room for all of them.
    setSocketOption(this.fd, SOL_NETLINK, NETLINK_CAP_ACK, 1)
    setSocketOption(this.fd, SOL_NETLINK, NETLINK_EXT_ACK, 1)
    setSocketOption(this.fd, SOL_SOCKET, SO_SNDBUFFORCE, SOCKET_BUFFER_BYTES)
    setSocketOption(this.fd, SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER_BYTES)
  }

  /**
   * Sends messages that each ask for an acknowledgement, and reads all of them.
   * @returns one error or undefined per message.
   */
  requestAll(messages: readonly Message[]): (SyscallError | undefined)[] {
    if (messages.length === 0) return []
    const first = this.sequence
    this.send(messages)
    const results = messages.map((): SyscallError | undefined => undefined)
    const answered = new Set<number>()
    for (const { type, sequence, payload } of this.drain()) {
      const index = sequence - first
      const message = messages[index]
      if (type !== NLMSG_ERROR || !message) continue
      answered.add(index)
      const errno = -payload.readInt32LE(0)
      if (errno !== 0) results[index] ??= new SyscallError(message.what, errno)
    }
    for (const [index, message] of messages.entries()) {
      if ((message.flags & NLM_F_ACK) !== 0 && !answered.has(index))
        results[index] ??= new SyscallError(`${message.what}: the kernel did not answer`, 0)
    }
    return results
  }

  /** @throws the first error of a batch. */
  request(messages: readonly Message[]): void {
    const error = this.requestAll(messages).find((e) => e !== undefined)
    if (error) throw error
  }

  /** Asks for one thing. */
  get(message: Message): Reply {
    const first = this.sequence
    this.send([message])
    for (;;) {
      for (const { type, sequence, payload } of this.read(0) ?? []) {
        if (sequence !== first) continue
        if (type === NLMSG_ERROR) throw new SyscallError(message.what, -payload.readInt32LE(0))
        return { type, payload }
      }
    }
  }

  /** Asks for a list. */
  dump(message: Message): Reply[] {
    const first = this.sequence
    this.send([{ ...message, flags: NLM_F_REQUEST | NLM_F_DUMP }])
    const replies: Reply[] = []
    for (;;) {
      for (const { type, sequence, payload } of this.read(0) ?? []) {
        if (sequence !== first) continue
        if (type === NLMSG_DONE) return replies
        if (type === NLMSG_ERROR) throw new SyscallError(message.what, -payload.readInt32LE(0))
        replies.push({ type, payload: Buffer.from(payload) })
      }
    }
  }

  close(): void {
    closeSync(this.fd)
  }

  private send(messages: readonly Message[]): void {
    sendAll(
      this.fd,
      Buffer.concat(
        messages.map(({ type, flags, payload }) => {
          const bytes = Buffer.alloc(HEADER_BYTES + ((payload.length + 3) & ~3))
          bytes.writeUInt32LE(HEADER_BYTES + payload.length, 0)
          bytes.writeUInt16LE(type, 4)
          bytes.writeUInt16LE(flags | NLM_F_REQUEST, 6)
          bytes.writeUInt32LE(this.sequence++, 8)
          payload.copy(bytes, HEADER_BYTES)
          return bytes
        }),
      ),
    )
  }

  private *drain() {
    for (;;) {
      const some = this.read(MSG_DONTWAIT)
      if (!some) return
      yield* some
    }
  }

  private read(flags: number): { type: number; sequence: number; payload: Buffer }[] | undefined {
    const length = receive(this.fd, this.buffer, flags)
    if (length === undefined) return undefined
    const messages = []
    for (let at = 0; at + HEADER_BYTES <= length;) {
      const bytes = this.buffer.readUInt32LE(at)
      if (bytes < HEADER_BYTES || at + bytes > length) break
      messages.push({
        type: this.buffer.readUInt16LE(at + 4),
        sequence: this.buffer.readUInt32LE(at + 8),
        payload: Buffer.from(this.buffer.subarray(at + HEADER_BYTES, at + bytes)),
      })
      at += (bytes + 3) & ~3
    }
    return messages
  }
}
