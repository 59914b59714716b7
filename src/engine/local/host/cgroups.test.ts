import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readFileSync, readdirSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { createCgroups } from './cgroups.ts'

/** Beside the hierarchies of version 1, or alone. */
const V2 = ['/sys/fs/cgroup/unified', '/sys/fs/cgroup'].find((root) =>
  existsSync(join(root, 'cgroup.controllers')),
)
const hasHugePages =
  V2 !== undefined && readFileSync(join(V2, 'cgroup.controllers'), 'utf8').split(/\s/).includes('hugetlb')
const skip =
  process.getuid?.() !== 0
    ? 'needs root'
    : hasHugePages
      ? false
      : 'needs cgroups of version 2 that count huge pages'

test(
  'the kernel takes a weight for the disk where it knows any',
  { skip: process.getuid?.() !== 0 && 'needs root' },
  async () => {
    const cgroups = createCgroups()
    const path = 'bulkhead-bww/red'
    try {
      cgroups.ensure(path, {})
      cgroups.setDiskWeight(path, 400)
      const found = ['blkio/', ''].flatMap((mount) =>
        ['blkio.bfq.weight', 'io.bfq.weight', 'io.weight'].flatMap((name) => {
          const file = join('/sys/fs/cgroup', mount, path, name)
          return existsSync(file) ? [readFileSync(file, 'utf8').trim()] : []
        }),
      )
      for (const text of found) assert.match(text, /^(?:default )?400$/)
    } finally {
      await cgroups.remove('bulkhead-bww')
    }
  },
)

test('a tenant gets no huge pages where the kernel counts them', { skip }, () => {
  const root = V2 ?? ''
  const path = 'bulkhead-bwh/red'
  mkdirSync(join(root, path), { recursive: true })
  try {
    createCgroups(root).forbidHugePages(path)
    const limits = readdirSync(join(root, path)).filter((name) => /^hugetlb\.\w+\.max$/.test(name))
    assert.ok(limits.length > 0)
    for (const name of limits) assert.equal(readFileSync(join(root, path, name), 'utf8').trim(), '0', name)
  } finally {
    rmdirSync(join(root, path))
    rmdirSync(join(root, 'bulkhead-bwh'))
  }
})
