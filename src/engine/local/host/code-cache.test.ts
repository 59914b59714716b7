import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fillCodeCache, forgetCodeCache, shareCodeCache } from './code-cache.ts'

const skip = process.getuid?.() === 0 ? false : 'directories of the platform are root’s'

test(
  'compiled code is root’s alone to write, and a user’s to read under its own number',
  { skip },
  async () => {
    const directory = mkdtempSync(join(tmpdir(), 'bulkhead-code-'))
    const cache = join(directory, 'cache')
    try {
      const module = join(directory, 'module.ts')
      writeFileSync(module, 'export const one: number = 1\n')
      shareCodeCache(cache, 1_234)
      await fillCodeCache(cache, module)
      await fillCodeCache(cache, module)
      const [own = ''] = readdirSync(cache)
      assert.match(own, /^v\d.*-0$/)
      assert.ok(readdirSync(join(cache, own)).length > 0)
      for (const file of readdirSync(join(cache, own))) {
        const { uid, mode } = statSync(join(cache, own, file))
        assert.deepEqual([uid, mode & 0o777], [0, 0o644])
      }
      shareCodeCache(cache, 1_234)
      shareCodeCache(cache, 1_234)
      const theirs = own.replace(/-0$/, '-1234')
      assert.equal(readlinkSync(join(cache, theirs)), own)
      forgetCodeCache(cache, 1_234)
      assert.deepEqual(readdirSync(cache), [own])
    } finally {
      rmSync(directory, { recursive: true })
    }
  },
)
