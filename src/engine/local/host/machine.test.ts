import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { linkSync, lstatSync, mkdtempSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { giveFilesTo } from './machine.ts'

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
