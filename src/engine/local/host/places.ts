import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { type Layout, paths, type TenantName } from '../../../api/index.ts'
import { type ClaimId, isClaimId, isJailId, type JailId } from '../../../jail/index.ts'
import { assert } from '../../../stdx/index.ts'

/** All in hexadecimal and equally long, because runsc takes the beginning of an id for the id. */
const CONTAINER_ID = /^[0-9a-f]{24}$/
const CONTAINER_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/
/** What may be part of mount options and of a shell-free argument list without any quoting. */
const PLAIN_PATH = /^\/[A-Za-z0-9._/-]+$/

export const ALL_TOOLS = ['crun', 'runc', 'runsc'] as const
export type Tool = (typeof ALL_TOOLS)[number]

/** Where the containers of one platform keep their things. Every path is derived here, from checked parts only. */
export class Places {
  /** In memory, gone with the machine's power: bundles, records, ConfigMaps and Secrets. */
  readonly run: string
  /** On disk: a file system for each tenant, in which its writable layers, ephemeral volumes and logs are. Root only. */
  readonly ephemeral: string
  readonly cgroup: string
  readonly daemonCgroups: string
  /** On disk: the file systems of volumes that outlive pods. Root only. */
  readonly claims: string

  constructor(layout: Layout) {
    assert(
      PLAIN_PATH.test(layout.runDir) && PLAIN_PATH.test(layout.stateDir),
      'A path of the layout has unusual characters',
    )
    this.run = join(layout.runDir, 'containers')
    this.ephemeral = join(layout.stateDir, 'ephemeral')
    this.cgroup = layout.cgroup
    this.daemonCgroups = paths.daemonCgroups(layout)
    this.claims = join(layout.stateDir, 'volumes')
  }

  /** Where conmon reports the ends of containers. */
  get exits(): string {
    return join(this.run, '.exits')
  }
  /** Private mount: the mount namespaces that some runtimes need, and layers while they are being mounted. */
  get private(): string {
    return join(this.run, '.private')
  }
  get workshop(): string {
    return join(this.private, 'layers')
  }
  mountNamespace(tool: Tool): string {
    return join(this.private, tool)
  }
  /** Short, because the paths of sockets are limited. */
  get terminals(): string {
    return join(this.run, '.tty')
  }
  get bin(): string {
    return join(this.run, '.bin')
  }
  runtimeRoot(tool: Tool): string {
    return join(this.run, `.${tool}`)
  }

  pod(jail: JailId): string {
    return join(this.run, checkJail(jail))
  }
  podRecord(jail: JailId): string {
    return join(this.pod(jail), 'pod.json')
  }
  /** The file that holds what is ephemeral of one tenant. */
  ephemeralImage(tenant: TenantName): string {
    return join(this.ephemeral, checkName(tenant))
  }
  /** Where those file systems are mounted. No pod may pass through here: it sees mounts of parts of them. */
  get ephemeralMounts(): string {
    return join(this.run, '.ephemeral')
  }
  ephemeralMount(tenant: TenantName): string {
    return join(this.ephemeralMounts, checkName(tenant))
  }
  /** What one pod has in its tenant's file system: a directory, or files with file systems of their own. */
  podEphemeral(tenant: TenantName, jail: JailId): string {
    return join(this.ephemeralMount(tenant), checkJail(jail))
  }
  shm(jail: JailId): string {
    return join(this.pod(jail), 'shm')
  }
  etc(jail: JailId): string {
    return join(this.pod(jail), 'etc')
  }
  memoryVolume(jail: JailId, volume: string): string {
    return join(this.pod(jail), 'volumes', checkName(volume))
  }
  /** Writable layers, ephemeral volumes and logs: a mount on which neither set-id programs nor devices work. */
  podDisk(jail: JailId): string {
    return join(this.pod(jail), 'disk')
  }
  diskVolumes(jail: JailId): string {
    return join(this.podDisk(jail), 'volumes')
  }
  diskVolume(jail: JailId, volume: string): string {
    return join(this.diskVolumes(jail), checkName(volume))
  }
  /** What is kept of one claimed volume: its file system in one file, and its key. */
  claim(tenant: TenantName, claim: ClaimId): string {
    return join(this.claimsOf(tenant), checkClaim(claim))
  }
  claimsOf(tenant: TenantName): string {
    return join(this.claims, checkName(tenant))
  }
  /** Where the file systems of claimed volumes are mounted, with ids as in a pod. No pod may pass through here. */
  get claimMounts(): string {
    return join(this.run, '.claims')
  }
  claimMount(tenant: TenantName, claim: ClaimId): string {
    return join(this.claimMounts, checkName(tenant), checkClaim(claim))
  }
  /** The part of it that pods see. */
  claimData(tenant: TenantName, claim: ClaimId): string {
    return join(this.claimMount(tenant, claim), 'data')
  }
  bundles(jail: JailId): string {
    return join(this.pod(jail), 'c')
  }
  bundle(jail: JailId, id: string): string {
    return join(this.bundles(jail), checkId(id))
  }
  /** Writable layer of one container. */
  layer(jail: JailId, id: string): string {
    return join(this.podDisk(jail), 'layers', checkId(id))
  }
  terminationLog(jail: JailId, id: string): string {
    return join(this.podDisk(jail), 'termination', checkId(id))
  }
  logs(jail: JailId, container: string): string {
    return join(this.podDisk(jail), 'logs', checkName(container))
  }
  log(jail: JailId, container: string, attempt: number): string {
    return join(this.logs(jail, container), `${checkAttempt(attempt)}.log`)
  }
  exit(id: string): string {
    return join(this.exits, checkId(id))
  }

  tenantCgroup(tenant: TenantName): string {
    // A tenant's name is a DNS label, so it is one segment.
    return `${this.cgroup}/${checkName(tenant)}`
  }
  get monitorCgroups(): string {
    return `${this.daemonCgroups}/monitors`
  }
  /** Of the monitors of the tenant's containers and the runtimes that exec starts: ours, and beside the pods'. */
  monitorCgroup(tenant: TenantName): string {
    return `${this.monitorCgroups}/${checkName(tenant)}`
  }
  podCgroup(tenant: TenantName, jail: JailId): string {
    return `${this.tenantCgroup(tenant)}/${checkJail(jail)}`
  }
}

/** The same container has the same id whoever asks, so a cut-off creation can be found again. */
export function containerIdOf(jail: JailId, name: string, attempt: number): string {
  return createHash('sha256')
    .update(`${checkJail(jail)}/${name}/${attempt}`)
    .digest('hex')
    .slice(0, 24)
}

/** The bare id in `crun://ID`. @throws when it is not one of ours. */
export function parseContainerID(containerID: string): string {
  const [, id = ''] = /^(?:crun|runc|runsc):\/\/([0-9a-f]{24})$/.exec(containerID) ?? []
  return checkId(id)
}

function checkJail(jail: JailId): JailId {
  assert(isJailId(jail), `${JSON.stringify(jail)} is not a jail's id`)
  return jail
}
function checkClaim(claim: ClaimId): ClaimId {
  assert(isClaimId(claim), `${JSON.stringify(claim)} is not a claim's id`)
  return claim
}
function checkId(id: string): string {
  assert(CONTAINER_ID.test(id), `${JSON.stringify(id)} is not a container's id`)
  return id
}
export function checkName(name: string): string {
  assert(CONTAINER_NAME.test(name), `${JSON.stringify(name)} is not a DNS label`)
  return name
}
function checkAttempt(attempt: number): number {
  assert(Number.isSafeInteger(attempt) && attempt >= 0, `${attempt} is not the number of an attempt`)
  return attempt
}
