/**
 * How long it takes to conclude from what was seen how every pair of tenants is kept apart: `node bench/verify.ts`.
 * The world is made up, one pod for each tenant, in the shape that a real platform has; looking at the machine is not in it.
 */
import { renderTable } from '../src/cli/index.ts'
import { prove } from '../src/verifier/proof.ts'
import { syntheticWorld } from '../src/verifier/synthetic-world.testkit.ts'
import { machineFacts } from './kit/samples.ts'

console.log(machineFacts())
const rows: string[][] = []
for (const tenants of [10, 100, 1_000]) {
  const world = syntheticWorld(Array.from({ length: tenants }, (_, at) => ({ sandboxed: at % 3 === 0 })))
  const cpuBefore = process.cpuUsage()
  const began = performance.now()
  const groups = prove(world)
  const { user, system } = process.cpuUsage(cpuBefore)
  rows.push([
    String(tenants),
    String(groups.reduce((sum, { pairs }) => sum + pairs, 0)),
    String(groups.length),
    `${((performance.now() - began) / 1_000).toFixed(2)} s`,
    `${((user + system) / 1e6).toFixed(2)} s`,
  ])
}
console.log(renderTable(['TENANTS', 'ORDERED PAIRS', 'GROUPS', 'WALL', 'CPU'], rows))
