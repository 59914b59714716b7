import { GiB, MiB } from '../../../stdx/index.ts'
import { type CgroupLimits, cpuQuotaUs } from './oci/resources.ts'

/** What one process of ours may use, its children included, and how readily the kernel ends it for lack of memory. */
export type DaemonLimits = CgroupLimits & { oomScoreAdj: number }

export const DAEMON_ROLES = [
  'node',
  'gateway',
  'podGateway',
  'sharedWorker',
  'worker',
  'platform',
  'images',
  'dns',
  'names',
  'ingress',
  'connector',
  'prober',
  'unpackers',
  'verifier',
] as const
export type DaemonRole = (typeof DAEMON_ROLES)[number]

export type MachineSize = { memoryBytes: number; cpus: number }

/** A program of ours has about 15 threads. */
const PIDS = 128
/** The node agent starts every tool, and what it does for the pods of all tenants. */
const NODE_PIDS = 8_192
/** Itself takes some 100 MiB and 140 KiB for each tenant; tools that it starts (nft, mkfs) and what they write come on top. */
const NODE_BYTES_MIN = 2 * GiB
/** Layers being unpacked at once, each by two programs. */
const UNPACKERS_PIDS = 512

/** All daemons against all pods, when the processors are short: a machine full of pods still answers. */
export const DAEMONS_CPU_SHARES = 4_096
export const PODS_CPU_SHARES = 1_024
/** The same of the disk, where it is divided by weights. Tenants have equal ones. */
export const DAEMONS_DISK_WEIGHT = 400
export const PODS_DISK_WEIGHT = 100

/** Of the machine's memory so much stays for the daemons and the machine itself, whatever tenants do. */
const RESERVED_BYTES_MIN = 512 * MiB
const RESERVED_PART = 8
/** Of what pods may use, a tenant without a quota of its own gets at most one part in so many. */
const TENANT_SHARE_OF_MEMORY = 2

/**
 * A daemon that was taken over, or has a leak, uses up this much and no more. What tenants bring (objects, bodies,
 * answers) has limits of its own in the rooms' files, below these.
 */
export function daemonLimits(role: DaemonRole, { memoryBytes, cpus }: MachineSize): DaemonLimits {
  const halfOfCpus = cpuQuotaUs(Math.max(1_000, cpus * 500))
  switch (role) {
    // Without it nothing is mended, so it goes last. What it holds is bounded per tenant; a leak must not take the pods' memory.
    case 'node':
      return {
        cpuShares: 4_096,
        memoryBytesMax: Math.max(NODE_BYTES_MIN, Math.floor(memoryBytes / 8)),
        pidsMax: NODE_PIDS,
        oomScoreAdj: -900,
      }
    case 'gateway':
      return { cpuShares: 1_024, memoryBytesMax: 1 * GiB, pidsMax: PIDS, oomScoreAdj: 0 }
    case 'ingress':
    case 'connector':
    case 'podGateway':
      return { cpuShares: 512, memoryBytesMax: 1 * GiB, pidsMax: PIDS, oomScoreAdj: 0 }
    case 'sharedWorker':
      return {
        cpuShares: 1_024,
        memoryBytesMax: Math.max(2 * GiB, Math.floor(memoryBytes / 4)),
        pidsMax: PIDS,
        oomScoreAdj: 0,
      }
    case 'worker':
      return {
        cpuShares: 256,
        cpuQuotaUs: halfOfCpus,
        memoryBytesMax: 1 * GiB,
        pidsMax: PIDS,
        oomScoreAdj: 300,
      }
    case 'platform':
      return { cpuShares: 512, memoryBytesMax: 1 * GiB, pidsMax: PIDS, oomScoreAdj: 0 }
    case 'images':
      return {
        cpuShares: 256,
        cpuQuotaUs: halfOfCpus,
        memoryBytesMax: 512 * MiB,
        pidsMax: PIDS,
        oomScoreAdj: 300,
      }
    case 'dns':
      return { cpuShares: 512, memoryBytesMax: 256 * MiB, pidsMax: PIDS, oomScoreAdj: 0 }
    case 'names':
      return { cpuShares: 128, memoryBytesMax: 256 * MiB, pidsMax: PIDS, oomScoreAdj: 300 }
    case 'prober':
      return {
        cpuShares: 256,
        cpuQuotaUs: halfOfCpus,
        memoryBytesMax: 256 * MiB,
        pidsMax: PIDS,
        oomScoreAdj: 300,
      }
    case 'verifier':
      return { cpuShares: 256, memoryBytesMax: 1 * GiB, pidsMax: PIDS, oomScoreAdj: 0 }
    case 'unpackers':
      return {
        cpuShares: 128,
        cpuQuotaUs: halfOfCpus,
        memoryBytesMax: 2 * GiB,
        pidsMax: UNPACKERS_PIDS,
        oomScoreAdj: 900,
      }
    default:
      return role satisfies never
  }
}

/** A monitor, and on gVisor a waiting runtime, for each container; commands run by exec come on top. */
const MONITORS_BYTES_BASE = 512 * MiB
const MONITORS_BYTES_PER_POD = 8 * MiB
const MONITORS_BYTES_PER_SANDBOX = 64 * MiB
const MONITORS_PIDS_BASE = 2_048
const MONITORS_PIDS_PER_POD = 64

/** Of what runs beside all containers of one tenant: it is ours, but how much there is of it the tenant decides. */
export function monitorLimits(
  { gvisor, pods }: { gvisor: boolean; pods: number },
  { cpus }: Pick<MachineSize, 'cpus'>,
): CgroupLimits {
  return {
    cpuShares: 256,
    // A container that writes more log than its monitor can take in waits for it.
    cpuQuotaUs: cpuQuotaUs(Math.max(1_000, cpus * 500)),
    memoryBytesMax:
      MONITORS_BYTES_BASE + pods * (gvisor ? MONITORS_BYTES_PER_SANDBOX : MONITORS_BYTES_PER_POD),
    pidsMax: MONITORS_PIDS_BASE + pods * MONITORS_PIDS_PER_POD,
  }
}

/** What all pods of the machine may use together; less when the operator says so. */
export function podsMemoryBytes(memoryBytes: number, most = Infinity): number {
  return Math.min(most, withoutReserve(memoryBytes))
}

function withoutReserve(memoryBytes: number): number {
  return memoryBytes - Math.max(Math.min(RESERVED_BYTES_MIN, memoryBytes / 2), memoryBytes / RESERVED_PART)
}

/** What all pods of a tenant may use together when its quota does not say. */
export function tenantMemoryBytes(memoryBytes: number, most?: number): number {
  return Math.floor(podsMemoryBytes(memoryBytes, most) / TENANT_SHARE_OF_MEMORY)
}
