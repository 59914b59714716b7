/**
 * Programs of a few instructions, so that trying a runtime out or holding a sandbox needs no image. Each is an ELF
 * file with one segment that is mapped whole (elf(5)).
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

function words(...instructions: number[]): Buffer {
  const buffer = Buffer.alloc(instructions.length * 4)
  for (const [index, word] of instructions.entries()) buffer.writeUInt32LE(word >>> 0, index * 4)
  return buffer
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
