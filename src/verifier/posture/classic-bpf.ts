/**
 * Runs a classic BPF program, as `tc filter show` prints it, over the bytes of a packet. Only what socket and link
 * filters use; at anything else, and at a program that reads beyond the packet, the answer is undefined.
 * https://docs.kernel.org/networking/filter.html
 */
export type BpfInstruction = { code: number; jt: number; jf: number; k: number }

const INSTRUCTIONS_MAX = 4_096

/** The instructions as `tc -j` prints them; undefined when they are not a program. */
export function parseInstructions(instructions: unknown): BpfInstruction[] | undefined {
  if (!Array.isArray(instructions) || instructions.length === 0 || instructions.length > INSTRUCTIONS_MAX)
    return undefined
  const isNatural = (value: unknown, max: number): value is number =>
    typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= max
  const program = (instructions as unknown[]).flatMap((each): BpfInstruction[] => {
    if (typeof each !== 'object' || each === null) return []
    const { code, jt, jf, k } = each as Record<string, unknown>
    return isNatural(code, 0xffff) && isNatural(jt, 0xff) && isNatural(jf, 0xff) && isNatural(k, 0xffff_ffff)
      ? [{ code, jt, jf, k }]
      : []
  })
  return program.length === instructions.length ? program : undefined
}

/** The program's return value, an unsigned 32-bit number. */
export function runBpf(program: readonly BpfInstruction[], packet: Uint8Array): number | undefined {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength)
  const load = (code: number, offset: number): number | undefined => {
    const size = code & 0x18
    const bytes = size === 0x00 ? 4 : size === 0x08 ? 2 : 1
    // Negative offsets reach the kernel's ancillary data and the network header (SKF_NET_OFF, SKF_AD_OFF).
    const at = offset >= 0x80000000 ? netOffset(offset) : offset
    if (at === undefined || at < 0 || at + bytes > packet.byteLength) return undefined
    return bytes === 4 ? view.getUint32(at) : bytes === 2 ? view.getUint16(at) : view.getUint8(at)
  }
  let a = 0
  let x = 0
  const memory = new Array<number>(16).fill(0)
  for (let pc = 0, steps = 0; pc < program.length && steps < INSTRUCTIONS_MAX; pc++, steps++) {
    const { code, jt, jf, k } = program[pc]! // pc is below the length
    const operand = code & 0x08 ? x : k
    switch (code & 0x07) {
      case 0x00: {
        const mode = code & 0xe0
        const value =
          mode === 0x00
            ? k
            : mode === 0x20
              ? load(code, k)
              : mode === 0x40
                ? load(code, x + k)
                : mode === 0x60
                  ? memory[k]
                  : mode === 0x80
                    ? packet.byteLength
                    : undefined
        if (value === undefined) return undefined
        a = value >>> 0
        break
      }
      case 0x01: {
        const mode = code & 0xe0
        const byte = mode === 0xa0 ? load(0x10, k) : undefined
        const value =
          mode === 0x00
            ? k
            : mode === 0x60
              ? memory[k]
              : mode === 0x80
                ? packet.byteLength
                : byte === undefined
                  ? undefined
                  : 4 * (byte & 0xf)
        if (value === undefined) return undefined
        x = value >>> 0
        break
      }
      case 0x02:
        memory[k] = a
        break
      case 0x03:
        memory[k] = x
        break
      case 0x04: {
        const result = alu(code & 0xf0, a, operand)
        if (result === undefined) return undefined
        a = result >>> 0
        break
      }
      case 0x05: {
        const op = code & 0xf0
        if (op === 0x00) {
          pc += k
          break
        }
        const taken =
          op === 0x10
            ? a === operand >>> 0
            : op === 0x20
              ? a > operand >>> 0
              : op === 0x30
                ? a >= operand >>> 0
                : op === 0x40
                  ? (a & operand) !== 0
                  : undefined
        if (taken === undefined) return undefined
        pc += taken ? jt : jf
        break
      }
      case 0x06:
        return ((code & 0x18) === 0x10 ? a : k) >>> 0
      default:
        if ((code & 0xf8) === 0x00) x = a
        else a = x
    }
  }
  return undefined
}

const ETHERNET_HEADER_BYTES = 14

/** SKF_NET_OFF is -0x100000: relative to the network header. */
function netOffset(offset: number): number | undefined {
  const signed = offset | 0
  return signed >= -0x100000 && signed < -0x100000 + 0x1000
    ? signed + 0x100000 + ETHERNET_HEADER_BYTES
    : undefined
}

function alu(op: number, a: number, b: number): number | undefined {
  switch (op) {
    case 0x00:
      return a + b
    case 0x10:
      return a - b
    case 0x40:
      return a | b
    case 0x50:
      return a & b
    case 0x60:
      return a << b
    case 0x70:
      return a >>> b
    case 0xa0:
      return a ^ b
    default:
      return undefined
  }
}

/** An Ethernet frame with an IPv4 TCP SYN, as far as link filters look. */
export function renderFrame({
  sourceMac,
  targetMac,
  saddr,
  daddr,
  dport,
}: {
  sourceMac: string
  targetMac: string
  saddr: string
  daddr: string
  dport: number
}): Uint8Array {
  const mac = (text: string) => text.split(':').map((part) => Number.parseInt(part, 16))
  const address = (text: string) => text.split('.').map(Number)
  const frame = new Uint8Array(14 + 20 + 20)
  frame.set([...mac(targetMac), ...mac(sourceMac), 0x08, 0x00], 0)
  frame.set([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, ...address(saddr), ...address(daddr)], 14)
  frame.set([0x80, 0x00, dport >> 8, dport & 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff], 34)
  return frame
}
