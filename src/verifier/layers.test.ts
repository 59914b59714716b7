import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isGvisor, systemCallFilterLayer, type TenantPosture } from './layers.ts'
import { syntheticWorld } from './synthetic-world.testkit.ts'

const { tenants } = syntheticWorld([{}, { sandboxed: true }])
const [direct, sandboxed] = tenants as [TenantPosture, TenantPosture]

const withFilters = (tenant: TenantPosture, seccompFilters: number): TenantPosture => ({
  ...tenant,
  processes: tenant.processes.map((process) => ({ ...process, seccompFilters })),
})

test("a process on the machine's kernel has a filter of its own and one that it inherits; one of them is not enough", () => {
  assert.ok(!direct.processes.some(isGvisor) && direct.processes.length > 0)
  assert.equal(systemCallFilterLayer(withFilters(direct, 2)).holds, true)
  assert.equal(systemCallFilterLayer(withFilters(direct, 3)).holds, true)
  const one = systemCallFilterLayer(withFilters(direct, 1))
  assert.equal(one.holds, false)
  assert.match(one.evidence.join(), /only one system call filter/)
  assert.match(systemCallFilterLayer(withFilters(direct, 0)).evidence.join(), /no system call filter/)
})

test("gVisor's processes bring filters of their own, and have to have one", () => {
  assert.ok(sandboxed.processes.every(isGvisor) && sandboxed.processes.length > 0)
  assert.equal(systemCallFilterLayer(withFilters(sandboxed, 1)).holds, true)
  assert.equal(systemCallFilterLayer(withFilters(sandboxed, 0)).holds, false)
})
