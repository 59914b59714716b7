import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { on, once } from 'node:events'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { parseLayout, paths } from '../../src/api/index.ts'
import { createPodNetwork, ensureRunDir, removeRunDir } from '../../src/engine/local/index.ts'
import { createLogger, silentLogger } from '../../src/stdx/index.ts'
import { inside, networkMissing } from '../testkit/network.ts'

const ROUNDS = 8
const environment = { BULKHEAD_INSTANCE: 'tnec', BULKHEAD_SLOT: '3' }
const layout = parseLayout(environment)
const skip = networkMissing
const router = (...command: string[]) => inside(paths.routerNetns(layout), ...command)

before(async () => {
  if (skip !== false) return
  await createPodNetwork({ layout, log: silentLogger }).reset()
  removeRunDir(layout)
  ensureRunDir(layout)
})

after(async () => {
  if (skip !== false) return
  await createPodNetwork({ layout, log: silentLogger }).reset()
  removeRunDir(layout)
})

test(
  'an agent that is killed at any moment leaves nothing that the next one does not put right',
  { skip },
  async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const agent = fork(`${import.meta.dirname}/network-churn.ts`, [], {
        env: { ...process.env, ...environment },
        execArgv: [],
      })
      for await (const [{ step }] of on(agent, 'message') as AsyncIterable<[{ step: number }]>)
        if (step >= round) break
      // Some turns of the event loop, so that every round ends in the middle of something else.
      for (let turn = 0; turn < round * 150; turn++) await new Promise((done) => setImmediate(done))
      agent.kill('SIGKILL')
      await once(agent, 'exit')

      const first = createPodNetwork({ layout, log: silentLogger })
      await first.ensureNode()
      const pods = await first.pods()
      first.close()
      assert.equal(await repairs(), false, 'the second look finds nothing to repair')
      const links = router('ip', '-o', 'link')
        .split('\n')
        .filter((line) => line.includes(`: ${layout.interfacePrefix}`))
      assert.equal(links.length, pods.size)
      for (const line of links) {
        const link = /: ([^@:]+)@/.exec(line)?.[1] ?? ''
        for (const hook of ['ingress', 'egress'])
          assert.match(router('tc', 'filter', 'show', 'dev', link, hook), /direct-action not_in_hw bytecode/)
      }
      const sources = router('nft', 'list', 'set', 'inet', 'bulkhead', 'source4')
      assert.equal(sources.split(/\b[0-9a-f]{2}(?::[0-9a-f]{2}){5}\b/).length - 1, pods.size)
      const pins = readFileSync('/proc/self/mountinfo', 'utf8')
        .split('\n')
        .filter((line) => line.includes(`${layout.runDir}/pods/`))
      assert.equal(pins.length, pods.size * 4)
      for (const { net, podIP } of pods.values()) {
        assert.match(inside(net, 'ip', '-4', 'address', 'show', 'eth0'), new RegExp(podIP))
        assert.match(router('ip', 'route', 'show', podIP), /dev/)
      }
    }
    const last = createPodNetwork({ layout, log: silentLogger })
    await last.reset()
    assert.deepEqual(existsSync(`${layout.runDir}/pods`) ? readdirSync(`${layout.runDir}/pods`) : [], [])
    assert.ok(!existsSync(paths.routerNetns(layout)))
  },
)

/** Whether a fresh agent changes any rule or filter. */
async function repairs(): Promise<unknown> {
  const lines: string[] = []
  const network = createPodNetwork({
    layout,
    log: createLogger('test', { write: (line) => void lines.push(line) }),
  })
  await network.ensureNode()
  network.close()
  const records = lines.map((line) => JSON.parse(line) as Record<string, unknown>)
  const ready = records.find((l) => l['message'] === 'pod network ready')
  return records.some((l) => l['level'] === 'error') || ready?.['repaired']
}
