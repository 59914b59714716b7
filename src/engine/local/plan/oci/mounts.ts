import type { Jail, JailContainer } from '../../../../jail/index.ts'
import type { OciMount } from './config-types.ts'
import { ContainerError } from './container-error.ts'

/** Where the host has put what a container of this pod sees besides its image. All are below the host's own directories. */
export type MountSources = {
  hosts: string
  hostname: string
  resolvConf: string
  terminationLog: string
  /** A tmpfs with a size limit that the containers of the pod share; gVisor brings its own. */
  shm: string
  /** One per entry of `container.mounts`, in its order: the volume, or the safely resolved sub-path in it. */
  volumes: readonly string[]
}

const HARMLESS = ['nosuid', 'nodev']

/** Mount points below which only the kernel or the runtime puts things. */
const RESERVED_TREES = ['/proc', '/sys', '/dev'] as const

export function renderMounts(
  jail: Jail,
  container: JailContainer,
  sources: MountSources,
  { gvisor, cgroup }: { gvisor: boolean; cgroup: boolean },
): OciMount[] {
  const system: OciMount[] = [
    { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
    {
      destination: '/dev',
      type: 'tmpfs',
      source: 'tmpfs',
      options: ['nosuid', 'noexec', 'strictatime', 'mode=755', 'size=65536k'],
    },
    {
      destination: '/dev/pts',
      type: 'devpts',
      source: 'devpts',
      options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
    },
    {
      destination: '/dev/mqueue',
      type: 'mqueue',
      source: 'mqueue',
      options: ['nosuid', 'noexec', 'nodev'],
    },
    { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
    ...(cgroup
      ? [
          {
            destination: '/sys/fs/cgroup',
            type: 'cgroup',
            source: 'cgroup',
            options: ['nosuid', 'noexec', 'nodev', 'relatime', 'ro'],
          },
        ]
      : []),
    gvisor
      ? {
          destination: '/dev/shm',
          type: 'tmpfs',
          source: 'tmpfs',
          options: ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k'],
        }
      : bind(sources.shm, '/dev/shm', false, ['noexec']),
  ]
  const volumes = container.mounts.map((mount, index) => {
    const volume = jail.volumes.find((v) => v.name === mount.volume)
    const source = sources.volumes[index]
    if (!volume || source === undefined)
      throw new ContainerError(
        'CreateContainerConfigError',
        `volume ${JSON.stringify(mount.volume)} does not exist`,
      )
    const destination = checkedDestination(mount.mountPath)
    const readOnly = mount.readOnly || volume.kind === 'files' || (volume.kind === 'claim' && volume.readOnly)
    // The kubelet mounts ConfigMaps and Secrets read-only too; the swap of `..data` depends on being the only writer.
    return bind(source, destination, readOnly)
  })
  const taken = new Set(volumes.map((mount) => mount.destination))
  if (taken.size !== volumes.length)
    throw new ContainerError('CreateContainerConfigError', 'two volumes are mounted at the same path')
  const terminationLog = bind(
    sources.terminationLog,
    checkedTerminationPath(container.terminationMessagePath),
    false,
    ['noexec'],
  )
  if (system.some((mount) => mount.destination === terminationLog.destination))
    throw refused(
      'terminationMessagePath',
      container.terminationMessagePath,
      'lies where only the system mounts',
    )
  const files = [
    ...[
      bind(sources.hosts, '/etc/hosts', true),
      bind(sources.hostname, '/etc/hostname', true),
      bind(sources.resolvConf, '/etc/resolv.conf', true),
    ].filter((mount) => mount.destination !== terminationLog.destination),
    terminationLog,
  ]
  // Shallow before deep, so that no mount hides one below it. A volume at the path of a file of ours replaces it.
  const own = [...files.filter((mount) => !taken.has(mount.destination)), ...volumes]
  own.sort((a, b) => depth(a.destination) - depth(b.destination))
  return [...system.filter((mount) => !taken.has(mount.destination)), ...own]
}

function bind(
  source: string,
  destination: string,
  readOnly: boolean,
  more: readonly string[] = [],
): OciMount {
  return {
    destination,
    type: 'bind',
    source,
    options: ['rbind', 'rprivate', ...HARMLESS, ...more, readOnly ? 'ro' : 'rw'],
  }
}

function depth(path: string): number {
  return path.split('/').length
}

function checkedDestination(path: string): string {
  const clean = checkedPath(path, 'mountPath')
  if (clean !== '/dev/shm' && RESERVED_TREES.some((tree) => clean === tree || clean.startsWith(`${tree}/`)))
    throw refused('mountPath', path, 'lies where only the system mounts')
  return clean
}

function checkedTerminationPath(path: string): string {
  const clean = checkedPath(path, 'terminationMessagePath')
  if (['/proc', '/sys'].some((tree) => clean === tree || clean.startsWith(`${tree}/`)))
    throw refused('terminationMessagePath', path, 'lies where only the kernel writes')
  return clean
}

function checkedPath(path: string, field: string): string {
  const segments = path.split('/').slice(1)
  if (!path.startsWith('/') || path.includes('\0') || path.length > 4_095)
    throw refused(field, path, 'is not an absolute path')
  const kept = segments.filter((segment) => segment !== '' && segment !== '.')
  if (kept.length === 0 || kept.includes('..'))
    throw refused(field, path, 'must be below "/" and must not climb')
  return `/${kept.join('/')}`
}

function refused(field: string, path: string, why: string): ContainerError {
  return new ContainerError(
    'CreateContainerConfigError',
    `${field} ${JSON.stringify(path.slice(0, 256))} ${why}`,
  )
}
