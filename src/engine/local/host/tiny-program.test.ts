import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { type Call, renderCallsProgram } from './tiny-program.ts'

const skip = process.platform === 'linux' && process.arch === 'x64' ? false : 'needs Linux on x64'
const HEADERS_BYTES = 120
const AT_FDCWD = -100

function run(calls: readonly Call[], input = ''): { status: number | null; stdout: string } {
  const directory = mkdtempSync(join(tmpdir(), 'bulkhead-calls-'))
  try {
    const program = join(directory, 'program')
    writeFileSync(program, renderCallsProgram('x64', calls), { mode: 0o700 })
    return spawnSync(program, [], { input, encoding: 'utf8', env: {} })
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

const say = (text: string): Call => ({
  name: 'write',
  args: [1, Buffer.from(text), text.length],
  gives: text.length,
})

test('calls are made in their order, with numbers, bytes and what was read', { skip }, () => {
  const order = Buffer.alloc(20)
  order.writeUInt32LE(1, 16)
  assert.deepEqual(
    (({ status, stdout }) => ({ status, stdout }))(
      run(
        [
          { name: 'close_range', args: [3, 0xffff_ffff, 0], gives: 0 },
          { name: 'read', args: [0, { at: 0 }, 20], gives: 20 },
          say('one '),
          // To the descriptor that it was told of.
          { name: 'write', args: [{ in: 16 }, Buffer.from('two '), 4], gives: 4 },
          { name: 'openat', args: [AT_FDCWD, Buffer.from('/dev/null\0'), 1, 0], gives: 3 },
          { name: 'write', args: [3, Buffer.from('nothing'), 7], gives: 7 },
          say('three'),
        ],
        order.toString('latin1'),
      ),
    ),
    { status: 0, stdout: 'one two three' },
  )
})

test('a call that fails, or gives anything else, ends it there with its place', { skip }, () => {
  const unlike: Call = { name: 'openat', args: [AT_FDCWD, Buffer.from('/no such file\0'), 0, 0], gives: 3 }
  const short: Call = { name: 'read', args: [0, { at: 0 }, 8], gives: 8 }
  assert.partialDeepStrictEqual(run([say('a'), unlike, say('b')]), { status: 2, stdout: 'a' })
  assert.partialDeepStrictEqual(run([short, say('b')], '1234567'), { status: 1, stdout: '' })
  assert.partialDeepStrictEqual(run([say('a'), { name: 'close', args: [40], gives: 0 }]), { status: 2 })
})

test('on both architectures, instruction by instruction as an assembler would write them', () => {
  const calls: Call[] = [
    { name: 'prlimit64', args: [7, 0x1234_5678, { at: 16 }, { in: 8 }, Buffer.from('abc')], gives: 3 },
  ]
  const hex = (architecture: 'x64' | 'arm64') =>
    renderCallsProgram(architecture, calls).subarray(HEADERS_BYTES).toString('hex')
  assert.equal(
    hex('x64'),
    [
      '4883ec40', // sub rsp, 64
      'bf07000000', // mov edi, 7
      'be78563412', // mov esi, 0x12345678
      '488d542410', // lea rdx, [rsp+16]
      '448b542408', // mov r10d, [rsp+8]
      '41b8bb004000', // mov r8d, where abc is
      'b82e0100000f05', // mov eax, prlimit64; syscall
      '4883f803740c', // cmp rax, 3; je over the next
      'bf01000000b8e70000000f05', // exit_group(1)
      'bf00000000b8e70000000f05', // exit_group(0)
      '616263',
    ].join(''),
  )
  assert.equal(
    hex('arm64'),
    [
      'ff0301d1', // sub sp, sp, 64
      'e00080d20000a0f2', // mov x0, 7; movk x0, 0, lsl 16
      '01cf8ad28146a2f2', // mov x1, 0x5678; movk x1, 0x1234, lsl 16
      'e2430091', // add x2, sp, 16
      'e30b40b9', // ldr w3, [sp, 8]
      '841880d20408a0f2', // mov x4, and movk: where abc is
      'a82080d2010000d4', // mov x8, prlimit64; svc
      '1f0c00f180000054', // cmp x0, 3; b.eq over the next
      '200080d2c80b80d2010000d4', // exit_group(1)
      '000080d2c80b80d2010000d4', // exit_group(0)
      '616263',
    ].join(''),
  )
})

test('bytes that calls point to are where they point, however many there are', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), { minLength: 1, maxLength: 20 }),
      (texts) => {
        const program = renderCallsProgram(
          'x64',
          texts.map((text): Call => ({
            name: 'write',
            args: [1, Buffer.from(text), text.length],
            gives: text.length,
          })),
        )
        // Each call begins with mov edi, 1; mov esi, ADDRESS.
        let at = HEADERS_BYTES + 4
        for (const text of texts) {
          assert.equal(program[at + 5], 0xbe)
          const place = program.readUInt32LE(at + 6) - 0x40_0000
          assert.deepEqual(program.subarray(place, place + text.length), Buffer.from(text))
          at += 15 + 7 + 6 + 12
        }
      },
    ),
    { numRuns: 100 },
  )
})
