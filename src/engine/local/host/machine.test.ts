import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
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
import { join } from 'node:path'
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

test(
  'a path is a mount point when the list of all mounts has it, and otherwise not',
  { skip: process.getuid?.() !== 0 && 'needs root' },
  () => {
    const directory = mkdtempSync(join(tmpdir(), 'bulkhead-machine-'))
    const at = (...names: string[]): string => join(directory, ...names)
    const mounted: string[] = []
    const mount = (target: string, ...words: string[]): void => {
      execFileSync('mount', [...words, target])
      mounted.push(target)
    }
    try {
      for (const name of ['disk', 'source', 'bound', 'twice', 'plain']) mkdirSync(at(name))
      for (const name of ['file', 'bound-file']) writeFileSync(at(name), '')
      symlinkSync(at('disk'), at('link-to-disk'))
      mount(at('disk'), '-t', 'tmpfs', 'none')
      mkdirSync(at('disk', 'below'))
      // The same file system again, so that the number of its device tells nothing.
      mount(at('bound'), '--bind', at('source'))
      mount(at('bound-file'), '--bind', at('file'))
      mount(at('disk', 'below'), '--bind', at('plain'))
      mount(at('twice'), '-t', 'tmpfs', 'none')
      mount(at('twice'), '-t', 'tmpfs', 'none')
      const listed = new Set(
        readFileSync('/proc/self/mountinfo', 'utf8')
          .split('\n')
          .flatMap((line) => line.split(' ')[4] ?? []),
      )
      assert.ok(mounted.every((path) => listed.has(path)))
      const others = [
        ...['source', 'plain', 'file', 'link-to-disk', 'not-there', 'file/x', 'disk/not-there'].map((name) =>
          at(name),
        ),
        directory,
        '/nowhere/at/all',
      ]
      for (const path of [...mounted, ...others]) assert.equal(isMountPoint(path), listed.has(path), path)
    } finally {
      for (const path of mounted.toReversed()) execFileSync('umount', [path])
      rmSync(directory, { recursive: true })
    }
  },
)
