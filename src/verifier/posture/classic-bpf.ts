import { allBits, type Bits, bitsFrom, NO_BITS } from '../bits.ts'

/**
 * Runs a classic BPF program, as `tc filter show` prints it, over the bytes of a packet. Only what socket and link
 * filters use; at anything else, and at a program that reads beyond the packet, the answer is undefined.
 * https://docs.kernel.org/networking/filter.html
 */
export type BpfInstruction = { code: number; jt: number; jf: number; k: number }

const INSTRUCTIONS_MAX = 4_096
const STEPS_MAX = 1_000_000

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
  const load = (bytes: number, at: number) => readNumber(packet, bytes, at)
  const [outcome] = run(program, { load, length: packet.byteLength }, 1n)
  return typeof outcome?.value === 'number' ? outcome.value : undefined
}

/** Frames that differ in some bytes only. */
export class Frames {
  private readonly frames: readonly Uint8Array[]
  private readonly columns = new Map<string, Numbers>()

  constructor(frames: readonly Uint8Array[]) {
    this.frames = frames
  }

  /**
   * For which of them the program returns `value`, if the bytes in `own` are those of one frame for all. Undefined when
   * it reads numbers that are partly in there: then nothing is known.
   */
  returning(
    program: readonly BpfInstruction[],
    value: number,
    { frame, own }: { frame: Uint8Array; own: readonly { from: number; to: number }[] },
  ): Bits | undefined {
    let straddles = false
    const load = (bytes: number, at: number): Numbers | number | undefined => {
      if (own.some(({ from, to }) => at >= from && at + bytes <= to)) return readNumber(frame, bytes, at)
      if (own.some(({ from, to }) => at < to && from < at + bytes)) straddles = true
      return this.column(bytes, at)
    }
    let returning = NO_BITS
    const all = allBits(this.frames.length)
    for (const outcome of run(program, { load, length: frame.byteLength }, all)) {
      const { packets } = outcome
      if (typeof outcome.value === 'number') returning |= outcome.value === value ? packets : NO_BITS
      else if (outcome.value) returning |= outcome.value.equal(value) & packets
    }
    return straddles ? undefined : returning
  }

  private column(bytes: number, at: number): Numbers | undefined {
    const name = `${bytes} ${at}`
    const known = this.columns.get(name)
    if (known) return known
    const values = this.frames.flatMap((frame) => readNumber(frame, bytes, at) ?? [])
    // Some are too short: as with a single one, the program ends without an answer.
    if (values.length !== this.frames.length) return undefined
    const column = new Numbers(values)
    this.columns.set(name, column)
    return column
  }
}

/** A number for each frame. What is asked about them is found once. */
class Numbers {
  readonly values: readonly number[]
  private groups: Map<number, Bits> | undefined
  private readonly derived = new Map<string, Numbers | undefined>()

  constructor(values: readonly number[]) {
    this.values = values
  }

  equal(value: number): Bits {
    this.groups ??= new Map(
      [...Map.groupBy(this.values.keys(), (at) => this.values[at] ?? 0)].map(([each, some]) => [
        each,
        bitsFrom(some),
      ]),
    )
    return this.groups.get(value) ?? NO_BITS
  }

  where(holds: (value: number) => boolean): Bits {
    // Few different numbers are compared often; those of many frames are grouped by then.
    this.equal(0)
    let some = NO_BITS
    for (const [value, packets] of this.groups ?? []) if (holds(value)) some |= packets
    return some
  }

  map(op: number, operand: number): Numbers | undefined {
    const name = `${op} ${operand}`
    if (!this.derived.has(name)) {
      const values = this.values.flatMap((value) => alu(op, value, operand) ?? [])
      this.derived.set(
        name,
        values.length === this.values.length ? new Numbers(values.map((value) => value >>> 0)) : undefined,
      )
    }
    return this.derived.get(name)
  }
}

type Known = number | Numbers
type Frame = { load(bytes: number, at: number): Known | undefined; length: number }
type State = { pc: number; packets: Bits; a: Known; x: Known; memory: readonly Known[] }

function run(
  program: readonly BpfInstruction[],
  frame: Frame,
  all: Bits,
): { packets: Bits; value: Known | undefined }[] {
  const outcomes: { packets: Bits; value: Known | undefined }[] = []
  const states: State[] = [{ pc: 0, packets: all, a: 0, x: 0, memory: new Array<number>(16).fill(0) }]
  // Jumps only lead forward, so every state comes to an end; the number of steps is for a program that is none.
  for (let steps = 0; states.length > 0 && steps < STEPS_MAX; steps++) {
    const state = states.pop()! // there is one left
    const instruction = program[state.pc]
    const next = instruction ? step(instruction, state, frame) : undefined
    if (Array.isArray(next)) states.push(...next)
    else outcomes.push({ packets: state.packets, value: next })
  }
  return outcomes
}

/** Where it goes on, or what the program returns; undefined when nobody knows. */
function step({ code, jt, jf, k }: BpfInstruction, state: State, frame: Frame): State[] | Known | undefined {
  const { pc, packets, a, x, memory } = state
  const on = (change: Partial<State>): State[] => [{ ...state, pc: pc + 1, ...change }]
  const known = (value: Known | undefined, change: (value: Known) => Partial<State>) =>
    value === undefined ? undefined : on(change(typeof value === 'number' ? value >>> 0 : value))
  const load = (size: number, offset: Known): Known | undefined => {
    if (typeof offset !== 'number') return undefined
    const bytes = size === 0x00 ? 4 : size === 0x08 ? 2 : 1
    // Negative offsets reach the kernel's ancillary data and the network header (SKF_NET_OFF, SKF_AD_OFF).
    const at = offset >= 0x80000000 ? netOffset(offset) : offset
    if (at === undefined || at < 0 || at + bytes > frame.length) return undefined
    return frame.load(bytes, at)
  }
  const operand = code & 0x08 ? x : k
  switch (code & 0x07) {
    case 0x00: {
      const mode = code & 0xe0
      const value =
        mode === 0x00
          ? k
          : mode === 0x20
            ? load(code & 0x18, k)
            : mode === 0x40
              ? load(code & 0x18, typeof x === 'number' ? x + k : x)
              : mode === 0x60
                ? memory[k]
                : mode === 0x80
                  ? frame.length
                  : undefined
      return known(value, (found) => ({ a: found }))
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
              ? frame.length
              : typeof byte === 'number'
                ? 4 * (byte & 0xf)
                : undefined
      return known(value, (found) => ({ x: found }))
    }
    case 0x02:
      return on({ memory: memory.with(k & 0xf, a) })
    case 0x03:
      return on({ memory: memory.with(k & 0xf, x) })
    case 0x04:
      return known(
        typeof operand !== 'number'
          ? undefined
          : typeof a === 'number'
            ? alu(code & 0xf0, a, operand)
            : a.map(code & 0xf0, operand),
        (found) => ({ a: found }),
      )
    case 0x05: {
      const op = code & 0xf0
      if (op === 0x00) return on({ pc: pc + 1 + k })
      const holds = COMPARISONS[op]
      if (!holds || typeof operand !== 'number') return undefined
      const taken =
        typeof a === 'number'
          ? holds(a, operand >>> 0)
            ? packets
            : NO_BITS
          : packets & (op === 0x10 ? a.equal(operand >>> 0) : a.where((value) => holds(value, operand >>> 0)))
      return [
        { ...state, pc: pc + 1 + jt, packets: taken },
        { ...state, pc: pc + 1 + jf, packets: packets & ~taken },
      ].filter((each) => each.packets !== NO_BITS)
    }
    case 0x06:
      return (code & 0x18) === 0x10 ? a : k >>> 0
    default:
      return (code & 0xf8) === 0x00 ? on({ x: a }) : on({ a: x })
  }
}

const COMPARISONS: Readonly<Record<number, (a: number, b: number) => boolean>> = {
  0x10: (a, b) => a === b,
  0x20: (a, b) => a > b,
  0x30: (a, b) => a >= b,
  0x40: (a, b) => (a & b) !== 0,
}

function readNumber(packet: Uint8Array, bytes: number, at: number): number | undefined {
  if (at < 0 || at + bytes > packet.byteLength) return undefined
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength)
  return bytes === 4 ? view.getUint32(at) : bytes === 2 ? view.getUint16(at) : view.getUint8(at)
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
