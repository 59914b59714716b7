import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Layout, TenantName } from '../../../api/index.ts'
import { checkName } from './places.ts'

const ROOT = '/sys/fs/cgroup'

/**
 * Stops every process of a tenant's pods where it is, or lets them go on (cgroup-v1/freezer-subsystem.rst,
 * cgroup-v2.rst). Returns whether it is so now; without a pod there is nothing to stop.
 */
export function freezeTenant(
  { cgroup }: Pick<Layout, 'cgroup'>,
  tenant: TenantName,
  frozen: boolean,
): boolean {
  return setFrozen(`${cgroup}/${checkName(tenant)}`, frozen)
}

/** Lets the pods of all tenants go on, so that they can be ended. */
export function thawAll({ cgroup }: Pick<Layout, 'cgroup'>): void {
  for (const root of [join(ROOT, 'freezer', cgroup), join(ROOT, cgroup)]) {
    if (!existsSync(root)) continue
    for (const entry of readdirSync(root, { withFileTypes: true }))
      if (entry.isDirectory()) setFrozen(`${cgroup}/${entry.name}`, false)
  }
}

function setFrozen(path: string, frozen: boolean): boolean {
  const v1 = join(ROOT, 'freezer', path, 'freezer.state')
  const v2 = join(ROOT, path, 'cgroup.freeze')
  try {
    if (existsSync(v1)) {
      const [wanted, now] = [frozen ? 'FROZEN' : 'THAWED', readFileSync(v1, 'utf8').trim()]
      if (now !== wanted) writeFileSync(v1, wanted)
      return true
    }
    if (!existsSync(v2)) return false
    const [wanted, now] = [frozen ? '1' : '0', readFileSync(v2, 'utf8').trim()]
    if (now !== wanted) writeFileSync(v2, wanted)
    return true
  } catch {
    return false // It went away meanwhile.
  }
}
