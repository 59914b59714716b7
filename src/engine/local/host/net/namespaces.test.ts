import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { pinNamespaces, unpinNamespaces } from './namespaces.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root'
const UID_BASE = 1_900_000_000

test(
  'nobody in a pod can make a user namespace, even with every capability and no filter',
  { skip },
  async () => {
    const directory = mkdtempSync(join(tmpdir(), 'bulkhead-namespaces-'))
    const pins = join(directory, 'pod')
    try {
      await pinNamespaces(pins, UID_BASE, 65_536)
      const asRootOfPod = (...command: string[]) =>
        spawnSync('nsenter', [`--user=${pins}/user`, '--setuid=0', '--setgid=0', ...command], {
          encoding: 'utf8',
        })
      // It is root there, with all capabilities over what belongs to the namespace.
      assert.match(asRootOfPod('cat', '/proc/self/status').stdout, /^CapEff:\t0*1ff/m)
      for (const kind of ['--user', '--net', '--ipc', '--uts']) {
        const { status, stderr } = asRootOfPod('unshare', kind, 'true')
        assert.notEqual(status, 0, kind)
        assert.match(stderr, /No space left on device/, kind)
      }
    } finally {
      unpinNamespaces(pins)
      rmSync(directory, { recursive: true, force: true })
    }
  },
)
