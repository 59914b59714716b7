import { parseTenantName } from '../../../../api/index.ts'
import type { Jail, JailContainer, JailId } from '../../../../jail/index.ts'
import type { TenantPlacement, UnpackedImage } from '../../parts.ts'
import type { ConfigInput, MachineFacts } from './render-config.ts'

/** One pod that uses everything, for golden files and as a start for hostile variations. */
export const placement: TenantPlacement = {
  tenant: parseTenantName('red'),
  index: 3,
  isolationClass: 'shared',
  podUidBase: 0x1003_0000,
  controlPlaneUid: 600_003,
  registries: [],
}

export const facts: MachineFacts = {
  architecture: 'x64',
  openFilesMax: 20_000,
  tasksMax: 90_000,
  ownOomScoreAdj: 0,
  memoryBytesTotal: 16 * 2 ** 30,
  swap: true,
  cgroupMount: true,
}

export const image: UnpackedImage['config'] = {
  entrypoint: ['/docker-entrypoint.sh'],
  cmd: ['serve'],
  env: ['PATH=/usr/bin:/bin', 'FROM_IMAGE=1', 'NAME=image'],
  user: 'app',
  workingDir: '/srv',
  volumes: [],
}

export const container: JailContainer = {
  name: 'web',
  image: 'registry.example/web:1',
  imagePullPolicy: 'IfNotPresent',
  args: ['--listen=$(podIP):8080', '--literal=$$(podIP)', '--unknown=$(NAME)'],
  env: [
    { name: 'POD_IP', fromPod: 'podIP' },
    { name: 'NAME', value: 'container' },
    { name: 'URL', value: 'http://$(podIP)/' },
  ],
  supplementalGroups: [2000],
  runAsNonRoot: true,
  readOnlyRootFilesystem: true,
  capabilities: ['SETUID', 'SETGID', 'NET_BIND_SERVICE'],
  mounts: [
    { volume: 'config', mountPath: '/etc/web', readOnly: false },
    { volume: 'data', mountPath: '/var/lib/web', readOnly: false, subPath: 'one' },
    { volume: 'data', mountPath: '/backup', readOnly: true },
  ],
  resources: {
    cpuMillisRequest: 250,
    cpuMillisLimit: 500,
    memoryBytesRequest: 128 * 2 ** 20,
    memoryBytesLimit: 256 * 2 ** 20,
  },
  ports: [],
  lifecycle: {},
  terminationMessagePath: '/dev/termination-log',
  terminationMessagePolicy: 'File',
  stdin: false,
  stdinOnce: false,
  tty: false,
}

export const jail: Jail = {
  id: '0b8f2c56-7a41-4a53-9d3c-5a2f3a9c1e77' as JailId, // Lower-case RFC 9562 text.
  tenant: placement.tenant,
  namespace: 'default',
  pod: 'web-0',
  hostname: 'web-0',
  runtime: 'runc',
  restartPolicy: 'Always',
  terminationGracePeriodSeconds: 30,
  fsGroup: 3000,
  initContainers: [],
  containers: [container],
  volumes: [
    { name: 'config', kind: 'files', files: [] },
    { name: 'data', kind: 'scratch', medium: 'disk', sizeBytesMax: 2 ** 30 },
  ],
  dns: { searches: ['default.svc.cluster.local'], options: ['ndots:5'] },
  hostAliases: [{ ip: '10.1.2.3', hostnames: ['db', 'db.example'] }],
}

export const RUN = '/run/bulkhead/containers'
export const DISK = '/var/lib/bulkhead/containers'

export const input: ConfigInput = {
  tool: 'crun',
  jail,
  container,
  placement,
  image,
  user: { uid: 1000, gid: 1001, additionalGids: [2000, 3000], home: '/home/app' },
  addresses: { podIP: '10.64.0.9', hostIP: '169.254.1.1' },
  namespaces: { user: '/proc/1/fd/20', net: '/proc/1/fd/21', ipc: '/proc/1/fd/22', uts: '/proc/1/fd/23' },
  sources: {
    hosts: `${RUN}/POD/etc/hosts`,
    hostname: `${RUN}/POD/etc/hostname`,
    resolvConf: `${RUN}/POD/etc/resolvConf`,
    terminationLog: `${DISK}/POD/termination/ID`,
    shm: `${RUN}/POD/shm`,
    volumes: [`${RUN}/POD/volumes/config`, `${RUN}/POD/c/ID/sub-path-1`, `${DISK}/POD/volumes/data`],
  },
  rootfs: `${RUN}/POD/c/ID/rootfs`,
  cgroupsPath: '/bulkhead/red/POD/ID',
  facts,
}
