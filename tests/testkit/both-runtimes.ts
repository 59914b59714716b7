import { gvisorMissing, platformMissing } from './machine.ts'

/** One tenant per runtime: red's pods run on the machine's kernel, blue's on gVisor's. */
export const BOTH_RUNTIMES = [
  { tenant: 'red', trust: 'trusted', skip: platformMissing },
  { tenant: 'blue', trust: 'untrusted', skip: gvisorMissing },
] as const

/** The tenants of a platform on which `BOTH_RUNTIMES` are tried: those that can be had here. */
export function tenantsOfBothRuntimes(...registries: string[]) {
  return BOTH_RUNTIMES.filter(({ skip }) => skip === false).map(({ tenant, trust }) => ({
    name: tenant,
    trust,
    registries,
  }))
}
