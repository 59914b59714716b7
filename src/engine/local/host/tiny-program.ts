import type { FilterInstruction } from '../plan/net/index.ts'

/**
 * Programs of a few instructions, so that trying a runtime out, holding a sandbox or giving something up before
 * another program starts needs no image and no compiler. Each is an ELF file with one segment that is mapped whole
 * (elf(5)).
 */
const BASE = 0x40_0000
const HEADERS_BYTES = 64 + 56
const MACHINES = { x64: 62, arm64: 183 } as const

type Architecture = keyof typeof MACHINES

/** Ends at once with this exit code. */
export function renderExitProgram(architecture: Architecture, exitCode: number): Buffer {
  const code = {
    // mov edi, code; mov eax, exit; syscall
    x64: () => Buffer.from([0xbf, exitCode, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05]),
    // mov x0, code; mov x8, exit; svc
    arm64: () => words(0xd280_0000 | (exitCode << 5), 0xd280_0ba8, 0xd400_0001),
  }
  return renderElf(architecture, code[architecture]())
}

/** Sleeps until it is killed. */
export function renderPauseProgram(architecture: Architecture): Buffer {
  const code = {
    // again: mov eax, pause; syscall; jmp again
    x64: () => Buffer.from([0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7]),
    // again: ppoll(0, 0, 0, 0, 0); b again
    arm64: () =>
      words(
        0xd280_0000,
        0xd280_0001,
        0xd280_0002,
        0xd280_0003,
        0xd280_0004,
        0xd280_0928,
        0xd400_0001,
        0x17ff_fff9,
      ),
  }
  return renderElf(architecture, code[architecture]())
}

/**
 * Gives up new privileges and the system calls that `filter` refuses, for good, and becomes the program that its
 * arguments name, by its whole path. Ends with 126 when it cannot do any of that.
 */
export function renderConfineProgram(
  architecture: Architecture,
  filter: readonly FilterInstruction[],
): Buffer {
  const code = { x64: confineX64, arm64: confineArm64 }[architecture]
  // struct sock_fprog, then what it points to, both behind the code.
  const at = BASE + HEADERS_BYTES + code(0).length
  const head = Buffer.alloc(16)
  head.writeUInt16LE(filter.length, 0)
  head.writeBigUInt64LE(BigInt(at + head.length), 8)
  const instructions = filter.map(({ code: operation, jt, jf, k }) => {
    const bytes = Buffer.alloc(8)
    bytes.writeUInt16LE(operation, 0)
    bytes.writeUInt8(jt, 2)
    bytes.writeUInt8(jf, 3)
    bytes.writeUInt32LE(k >>> 0, 4)
    return bytes
  })
  return renderElf(architecture, Buffer.concat([code(at), head, ...instructions]))
}

function confineX64(filterAt: number): Buffer {
  const address = Buffer.alloc(4)
  address.writeUInt32LE(filterAt)
  const give = (bytes: readonly number[]) => Buffer.from(bytes)
  // mov edi, 126; mov eax, exit_group; syscall
  const fail = give([0xbf, 0x7e, 0, 0, 0, 0xb8, 0xe7, 0, 0, 0, 0x0f, 0x05])
  // rsp holds argc, then argv, a null, the environment: mov rax, [rsp]; lea rsi, [rsp+16];
  // lea rdx, [rsp+rax*8+16]; mov rdi, [rsi]; mov eax, execve; syscall
  const become = give([
    0x48, 0x8b, 0x04, 0x24, 0x48, 0x8d, 0x74, 0x24, 0x10, 0x48, 0x8d, 0x54, 0xc4, 0x10, 0x48, 0x8b, 0x3e,
    0xb8, 0x3b, 0, 0, 0, 0x0f, 0x05,
  ])
  // mov eax, seccomp; mov edi, SET_MODE_FILTER; xor esi, esi; mov edx, filter; syscall; test eax, eax; jnz fail
  const filter = Buffer.concat([
    give([0xb8, 0x3d, 0x01, 0, 0, 0xbf, 1, 0, 0, 0, 0x31, 0xf6, 0xba]),
    address,
    give([0x0f, 0x05, 0x85, 0xc0, 0x75, become.length]),
  ])
  // mov eax, prctl; mov edi, PR_SET_NO_NEW_PRIVS; mov esi, 1; xor edx, edx; xor r10d, r10d; xor r8d, r8d; syscall;
  // test eax, eax; jnz fail
  const noNewPrivileges = give([
    0xb8,
    0x9d,
    0,
    0,
    0,
    0xbf,
    0x26,
    0,
    0,
    0,
    0xbe,
    1,
    0,
    0,
    0,
    0x31,
    0xd2,
    0x45,
    0x31,
    0xd2,
    0x45,
    0x31,
    0xc0,
    0x0f,
    0x05,
    0x85,
    0xc0,
    0x75,
    filter.length + become.length,
  ])
  return Buffer.concat([noNewPrivileges, filter, become, fail])
}

function confineArm64(filterAt: number): Buffer {
  const SVC = 0xd400_0001
  const set = (register: number, value: number) => 0xd280_0000 | (value << 5) | register
  const unlessZero = (instructions: number) => 0xb500_0000 | (instructions << 5) // cbnz x0
  return words(
    // prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    ...[set(8, 167), set(0, 38), set(1, 1), set(2, 0), set(3, 0), set(4, 0), SVC, unlessZero(14)],
    // seccomp(SET_MODE_FILTER, 0, filter): movz and movk make the address.
    ...[set(8, 277), set(0, 1), set(1, 0), set(2, filterAt & 0xffff)],
    ...[0xf2a0_0000 | ((filterAt >>> 16) << 5) | 2, SVC, unlessZero(7)],
    // ldr x9, [sp]; add x1, sp, 16; add x2, x1, x9, lsl 3; ldr x0, [x1]; execve
    ...[0xf940_03e9, 0x9100_43e1, 0x8b09_0c22, 0xf940_0020, set(8, 221), SVC],
    // exit_group(126)
    ...[set(0, 126), set(8, 94), SVC],
  )
}

function words(...instructions: number[]): Buffer {
  const buffer = Buffer.alloc(instructions.length * 4)
  for (const [index, word] of instructions.entries()) buffer.writeUInt32LE(word >>> 0, index * 4)
  return buffer
}

/** A system call that ends the program, with its place in the list from 1, unless it gives what it should. */
export type Call = {
  name: keyof typeof CALLS
  args: readonly Argument[]
  gives: number
}
/** A number, bytes of the program itself, or a place in 64 bytes of memory: where it is, or the number of 32 bits in there. */
export type Argument = number | Buffer | { at: number } | { in: number }

const CALLS = {
  read: { x64: 0, arm64: 63 },
  write: { x64: 1, arm64: 64 },
  close: { x64: 3, arm64: 57 },
  setgroups: { x64: 116, arm64: 159 },
  setresuid: { x64: 117, arm64: 147 },
  setresgid: { x64: 119, arm64: 149 },
  capset: { x64: 126, arm64: 91 },
  prctl: { x64: 157, arm64: 167 },
  openat: { x64: 257, arm64: 56 },
  unshare: { x64: 272, arm64: 97 },
  prlimit64: { x64: 302, arm64: 261 },
  close_range: { x64: 436, arm64: 436 },
} as const
const MEMORY_BYTES = 64

/** One system call after the other, then it ends with 0. */
export function renderCallsProgram(architecture: Architecture, calls: readonly Call[]): Buffer {
  const code = { x64: callsX64, arm64: callsArm64 }[architecture]
  // What arguments point to is behind the code, whose length does not depend on where that is.
  const bytes = calls.flatMap(({ args }) => args.filter((each) => Buffer.isBuffer(each)))
  const start = BASE + HEADERS_BYTES + code(calls, () => 0).length
  const places = new Map<Buffer, number>()
  let next = start
  for (const each of bytes) {
    places.set(each, next)
    next += each.length
  }
  const placeOf = (each: Buffer) => places.get(each) ?? 0
  return renderElf(architecture, Buffer.concat([code(calls, placeOf), ...bytes]))
}

function callsX64(calls: readonly Call[], placeOf: (bytes: Buffer) => number): Buffer {
  const number = (value: number) => {
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32LE(value >>> 0)
    return [...bytes]
  }
  // mov REGISTER, number; lea REGISTER, [rsp+at]; mov REGISTER, [rsp+at], for rdi, rsi, rdx, r10 and r8.
  const registers: readonly { set: number[]; lea: number[]; load: number[] }[] = [
    { set: [0xbf], lea: [0x48, 0x8d, 0x7c, 0x24], load: [0x8b, 0x7c, 0x24] },
    { set: [0xbe], lea: [0x48, 0x8d, 0x74, 0x24], load: [0x8b, 0x74, 0x24] },
    { set: [0xba], lea: [0x48, 0x8d, 0x54, 0x24], load: [0x8b, 0x54, 0x24] },
    { set: [0x41, 0xba], lea: [0x4c, 0x8d, 0x54, 0x24], load: [0x44, 0x8b, 0x54, 0x24] },
    { set: [0x41, 0xb8], lea: [0x4c, 0x8d, 0x44, 0x24], load: [0x44, 0x8b, 0x44, 0x24] },
  ]
  // mov edi, code; mov eax, exit_group; syscall
  const end = (code: number) => [0xbf, ...number(code), 0xb8, ...number(231), 0x0f, 0x05]
  return Buffer.from([
    ...[0x48, 0x83, 0xec, MEMORY_BYTES], // sub rsp
    ...calls.flatMap(({ name, args, gives }, at) => [
      ...args.flatMap((argument, place) => {
        const { set, lea, load } = registers[place] ?? refuse(name)
        if (typeof argument === 'number') return [...set, ...number(argument)]
        if (Buffer.isBuffer(argument)) return [...set, ...number(placeOf(argument))]
        return 'at' in argument ? [...lea, argument.at] : [...load, argument.in]
      }),
      ...[0xb8, ...number(CALLS[name].x64), 0x0f, 0x05],
      // cmp rax, gives; je over what ends it
      ...[0x48, 0x83, 0xf8, gives, 0x74, end(0).length],
      ...end(at + 1),
    ]),
    ...end(0),
  ])
}

function callsArm64(calls: readonly Call[], placeOf: (bytes: Buffer) => number): Buffer {
  const SVC = 0xd400_0001
  const half = (register: number, value: number) => 0xd280_0000 | ((value & 0xffff) << 5) | register
  // movz, then movk for what is above 16 bits.
  const set = (register: number, value: number) => [
    half(register, value),
    0xf2a0_0000 | (((value >>> 16) & 0xffff) << 5) | register,
  ]
  const end = (code: number) => [half(0, code), half(8, 94), SVC]
  return words(
    0xd100_03ff | (MEMORY_BYTES << 10), // sub sp, sp
    ...calls.flatMap(({ name, args, gives }, at) => [
      ...args.flatMap((argument, register) => {
        if (typeof argument === 'number') return set(register, argument)
        if (Buffer.isBuffer(argument)) return set(register, placeOf(argument))
        // add REGISTER, sp, at; or ldr REGISTER, [sp, in]
        return 'at' in argument
          ? [0x9100_03e0 | (argument.at << 10) | register]
          : [0xb940_03e0 | ((argument.in >> 2) << 10) | register]
      }),
      ...[half(8, CALLS[name].arm64), SVC],
      // cmp x0, gives; b.eq over what ends it
      ...[0xf100_001f | (gives << 10), 0x5400_0000 | ((end(0).length + 1) << 5)],
      ...end(at + 1),
    ]),
    ...end(0),
  )
}

function refuse(name: string): never {
  throw new RangeError(`The call "${name}" has more arguments than are known here`)
}

/** A program of these instructions alone. */
export function renderElf(architecture: Architecture, code: Buffer): Buffer {
  const file = Buffer.alloc(HEADERS_BYTES + code.length)
  file.write('\x7fELF', 'latin1')
  file.set([2, 1, 1], 4) // 64 bits, little-endian, version 1
  file.writeUInt16LE(2, 16) // an executable
  file.writeUInt16LE(MACHINES[architecture], 18)
  file.writeUInt32LE(1, 20)
  file.writeBigUInt64LE(BigInt(BASE + HEADERS_BYTES), 24) // entry
  file.writeBigUInt64LE(64n, 32) // program headers
  file.writeUInt16LE(64, 52)
  file.writeUInt16LE(56, 54)
  file.writeUInt16LE(1, 56)
  file.writeUInt32LE(1, 64) // to be loaded
  file.writeUInt32LE(5, 68) // readable, executable
  file.writeBigUInt64LE(BigInt(BASE), 80)
  file.writeBigUInt64LE(BigInt(BASE), 88)
  file.writeBigUInt64LE(BigInt(file.length), 96)
  file.writeBigUInt64LE(BigInt(file.length), 104)
  file.writeBigUInt64LE(0x1000n, 112)
  file.set(code, HEADERS_BYTES)
  return file
}
