import { parseTenantName, type TenantName } from '../../../api/index.ts'
import type { Jail, JailContainer, JailId, JailProbe } from '../../../jail/index.ts'
import type { TenantPlacement } from '../parts.ts'

export const red: TenantName = parseTenantName('red')
export const blue: TenantName = parseTenantName('blue')
export const JAIL_ID = '0b5b7c1e-6d0f-4c39-9d1e-2f8f6f3c9a10' as JailId

export function sampleContainer(over: Partial<JailContainer> = {}): JailContainer {
  return {
    name: 'app',
    image: 'registry.example/app:1',
    imagePullPolicy: 'IfNotPresent',
    env: [],
    supplementalGroups: [],
    runAsNonRoot: false,
    readOnlyRootFilesystem: false,
    mounts: [],
    resources: { cpuMillisRequest: 0, memoryBytesRequest: 0 },
    ports: [],
    lifecycle: {},
    terminationMessagePath: '/dev/termination-log',
    terminationMessagePolicy: 'File',
    stdin: false,
    stdinOnce: false,
    tty: false,
    ...over,
  }
}

export function sampleJail(over: Partial<Jail> = {}): Jail {
  return {
    id: JAIL_ID,
    tenant: red,
    namespace: 'default',
    pod: 'web-0',
    hostname: 'web-0',
    runtime: 'runc',
    restartPolicy: 'Always',
    terminationGracePeriodSeconds: 30,
    initContainers: [],
    containers: [sampleContainer()],
    volumes: [],
    dns: { searches: [], options: [] },
    hostAliases: [],
    ...over,
  }
}

export function sampleProbe(over: Partial<JailProbe> = {}): JailProbe {
  return {
    handler: { kind: 'tcpSocket', port: 80 },
    initialDelaySeconds: 0,
    timeoutSeconds: 1,
    periodSeconds: 10,
    successThreshold: 1,
    failureThreshold: 3,
    ...over,
  }
}

export function samplePlacement(over: Partial<TenantPlacement> = {}): TenantPlacement {
  return {
    tenant: red,
    index: 0,
    isolationClass: 'shared',
    podUidBase: 0x1000_0000,
    controlPlaneUid: process.getuid?.() ?? 0,
    registries: ['registry.example'],
    ...over,
  }
}
