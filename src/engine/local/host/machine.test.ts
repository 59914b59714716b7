import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdtempSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { giveFilesTo, isMountPoint } from './machine.ts'

test(
  'links and FIFOs that an old owner left do not give away files of the machine',
  { skip: process.getuid?.() !== 0 && 'needs root' },
  () => {
    const directory = mkdtempSync(join(tmpdir(), 'bulkhead-machine-'))
    try {
      const shadow = join(directory, 'shadow')
      const partition = join(directory, 'partition')
      mkdirSync(partition)
      writeFileSync(shadow, 'secret')
      writeFileSync(join(partition, 'store.sqlite'), 'data')
      linkSync(shadow, join(partition, 'hard'))
      symlinkSync(shadow, join(partition, 'soft'))
      execFileSync('mkfifo', [join(partition, 'fifo')])
      giveFilesTo(partition, { uid: 4_242, gid: 4_242 })
      assert.equal(lstatSync(join(partition, 'store.sqlite')).uid, 4_242)
      assert.deepEqual([lstatSync(shadow).uid, lstatSync(shadow).gid], [0, 0])
    } finally {
      rmSync(directory, { recursive: true })
    }
  },
)

test('a path is a mount point when the list of all mounts has it, and otherwise not', () => {
  const mounted = new Set(
    readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .flatMap((line) => line.split(' ')[4] ?? [])
      // Names with other characters are written differently there.
      .filter((path) => path !== '/' && /^[-\w/.:]+$/.test(path)),
  )
  assert.ok(mounted.size > 0)
  const seen = [...mounted].filter((path) => {
    // What is mounted below something that was mounted later cannot be seen.
    try {
      return existsSync(path) && (lstatSync(path).isDirectory() || lstatSync(path).isFile())
    } catch {
      return false
    }
  })
  for (const path of seen) assert.equal(isMountPoint(path), true, path)
  const beside = seen.flatMap((path) => [dirname(path), join(dirname(path), 'not-there')])
  for (const path of [...beside, '/etc/passwd', '/proc/self/status', '/nowhere/at/all', '/etc/passwd/x'])
    if (path !== '/') assert.equal(isMountPoint(path), mounted.has(path), path)
})
