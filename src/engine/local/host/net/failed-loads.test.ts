import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { silentLogger, systemClock } from '../../../../stdx/index.ts'
import { FailedLoads } from './failed-loads.ts'

const dir = mkdtempSync(join(tmpdir(), 'failed-loads-'))
after(() => rmSync(dir, { recursive: true }))
const path = join(dir, 'failed.json')
const failedLoads = () => new FailedLoads({ path, clock: systemClock, log: silentLogger })

test('what could not be loaded stays written down, over a restart too, until the same is loaded', async () => {
  const load = { key: 'network red', tenant: 'red', what: 'its services' }
  const loads = failedLoads()
  const work = () => Promise.reject(new Error('nft ended with 1: no\nmore'))
  await assert.rejects(loads.during(load, work), /nft ended/)
  await assert.rejects(
    loads.during(load, () => Promise.reject(new Error('another attempt'))),
    /another/,
  )

  const next = failedLoads()
  next.takeOver()
  await next.during({ ...load, key: 'network blue' }, () => Promise.resolve())
  assert.ok(existsSync(path), 'what another tenant loads is not this load')
  assert.equal(await next.during(load, () => Promise.resolve(7)), 7)
  assert.ok(!existsSync(path))
})

test('a file that is not ours keeps nothing from being loaded', async () => {
  writeFileSync(path, '{ not JSON')
  const loads = failedLoads()
  loads.takeOver()
  loads.fail({ key: 'all', what: 'everything' }, 'why')
  loads.settle('all')
  assert.ok(!existsSync(path))
})
