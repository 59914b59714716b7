import { readFileSync } from 'node:fs'
import { parseAllDocuments } from 'yaml'

/** Real manifests to begin from: the samples, and pods that use every field that the API has. */

export type Document = { apiVersion: string; kind: string; [field: string]: unknown }

const SHOP = new URL('../../samples/manifests/shop.yaml', import.meta.url)

const LABELS = { app: 'fuzz' }
const IMAGE = 'registry.test/team/web:1.2.3'

const EVERYTHING = {
  restartPolicy: 'Always',
  terminationGracePeriodSeconds: 20,
  activeDeadlineSeconds: 600,
  enableServiceLinks: true,
  automountServiceAccountToken: true,
  serviceAccountName: 'default',
  hostname: 'web',
  subdomain: 'peers',
  setHostnameAsFQDN: false,
  hostNetwork: false,
  securityContext: {
    runAsUser: 1000,
    runAsGroup: 1001,
    runAsNonRoot: true,
    fsGroup: 3000,
    supplementalGroups: [4000, 5000],
    seccompProfile: { type: 'RuntimeDefault' },
  },
  dnsPolicy: 'ClusterFirst',
  dnsConfig: {
    nameservers: ['10.0.0.1'],
    searches: ['example.test'],
    options: [{ name: 'ndots', value: '2' }, { name: 'edns0' }],
  },
  hostAliases: [{ ip: '10.1.2.3', hostnames: ['db.example.test'] }],
  initContainers: [
    {
      name: 'prepare',
      image: IMAGE,
      command: ['sh', '-c', 'true'],
      volumeMounts: [{ name: 'data', mountPath: '/d' }],
    },
    {
      name: 'sidecar',
      image: IMAGE,
      restartPolicy: 'Always',
      startupProbe: { exec: { command: ['true'] } },
    },
  ],
  containers: [
    {
      name: 'main',
      image: IMAGE,
      imagePullPolicy: 'IfNotPresent',
      command: ['/bin/server'],
      args: ['--name=$(NAME)', '--literal=$$(NAME)', '--ip=$(IP)'],
      workingDir: '/srv',
      env: [
        { name: 'NAME', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
        { name: 'IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
        { name: 'CPU', valueFrom: { resourceFieldRef: { resource: 'limits.cpu' } } },
        { name: 'COLOR', valueFrom: { configMapKeyRef: { name: 'settings', key: 'COLOR' } } },
        { name: 'USER_NAME', valueFrom: { secretKeyRef: { name: 'login', key: 'user', optional: true } } },
      ],
      envFrom: [{ prefix: 'P_', configMapRef: { name: 'settings' } }],
      ports: [{ name: 'http', containerPort: 8080, protocol: 'TCP' }],
      resources: {
        requests: { cpu: '100m', memory: '64Mi', 'ephemeral-storage': '1Gi' },
        limits: { cpu: '1', memory: '128Mi', 'ephemeral-storage': '2Gi' },
      },
      securityContext: {
        allowPrivilegeEscalation: false,
        privileged: false,
        readOnlyRootFilesystem: true,
        runAsUser: 1002,
        capabilities: { drop: ['ALL'], add: ['NET_BIND_SERVICE'] },
      },
      volumeMounts: [
        { name: 'settings', mountPath: '/etc/settings', readOnly: true },
        { name: 'login', mountPath: '/etc/login' },
        { name: 'all', mountPath: '/etc/all' },
        { name: 'data', mountPath: '/var/lib/data', subPath: 'a/b' },
        { name: 'kept', mountPath: '/var/lib/kept', subPath: 'c' },
        { name: 'memory', mountPath: '/dev/shm' },
        { name: 'about', mountPath: '/etc/about' },
      ],
      livenessProbe: {
        httpGet: { path: '/healthz', port: 'http', httpHeaders: [{ name: 'X-A', value: 'b' }] },
      },
      readinessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 5 },
      startupProbe: { grpc: { port: 9090, service: 'health' }, failureThreshold: 30 },
      lifecycle: {
        postStart: { exec: { command: ['true'] } },
        preStop: { sleep: { seconds: 3 } },
      },
      terminationMessagePath: '/dev/termination-log',
      terminationMessagePolicy: 'FallbackToLogsOnError',
      stdin: true,
      stdinOnce: true,
      tty: true,
    },
    { name: 'helper', image: `${IMAGE}@sha256:${'a'.repeat(64)}` },
  ],
  volumes: [
    {
      name: 'settings',
      configMap: { name: 'settings', items: [{ key: 'app.ini', path: 'conf/app.ini', mode: 0o440 }] },
    },
    { name: 'login', secret: { secretName: 'login', defaultMode: 0o400, optional: true } },
    {
      name: 'all',
      projected: {
        sources: [
          { configMap: { name: 'settings' } },
          { secret: { name: 'login' } },
          { serviceAccountToken: { path: 'token', audience: 'vault', expirationSeconds: 3600 } },
          { downwardAPI: { items: [{ path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } }] } },
        ],
      },
    },
    { name: 'data', emptyDir: { sizeLimit: '1Gi' } },
    { name: 'kept', persistentVolumeClaim: { claimName: 'kept', readOnly: true } },
    { name: 'memory', emptyDir: { medium: 'Memory', sizeLimit: '16Mi' } },
    {
      name: 'about',
      downwardAPI: {
        items: [{ path: 'cpu', resourceFieldRef: { containerName: 'main', resource: 'limits.cpu' } }],
      },
    },
  ],
}

const MINIMAL = { containers: [{ name: 'main', image: IMAGE }] }

const SERVER = {
  securityContext: { fsGroup: 101 },
  containers: [
    {
      name: 'nginx',
      image: 'nginx:1',
      ports: [{ containerPort: 80 }],
      volumeMounts: [{ name: 'html', mountPath: '/usr/share/nginx/html', readOnly: true }],
      resources: { limits: { memory: '64Mi' } },
    },
  ],
  volumes: [{ name: 'html', configMap: { name: 'settings' } }],
}

const SPECS = [EVERYTHING, MINIMAL, SERVER] as const

function template(spec: object, changes: object = {}): object {
  return { metadata: { labels: LABELS, annotations: { note: 'x' } }, spec: { ...spec, ...changes } }
}

/** Without what jobs may not say. */
function once(spec: object): object {
  return { ...spec, restartPolicy: 'Never' }
}

function kinds(spec: object): Document[] {
  const metadata = { name: 'fuzz', namespace: 'default', labels: LABELS }
  const selector = { matchLabels: LABELS }
  // Upstream lets these have none.
  const { activeDeadlineSeconds: _none, ...lasting } = spec as Record<string, unknown>
  return [
    { apiVersion: 'v1', kind: 'Pod', metadata, spec },
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata,
      spec: { replicas: 2, selector, template: template(lasting) },
    },
    {
      apiVersion: 'apps/v1',
      kind: 'ReplicaSet',
      metadata,
      spec: { replicas: 1, selector, template: template(lasting) },
    },
    {
      apiVersion: 'apps/v1',
      kind: 'StatefulSet',
      metadata,
      spec: { serviceName: 'peers', replicas: 2, selector, template: template(lasting) },
    },
    { apiVersion: 'apps/v1', kind: 'DaemonSet', metadata, spec: { selector, template: template(lasting) } },
    {
      apiVersion: 'batch/v1',
      kind: 'Job',
      metadata,
      spec: { completions: 2, template: template(once(spec)) },
    },
    {
      apiVersion: 'batch/v1',
      kind: 'CronJob',
      metadata,
      spec: { schedule: '*/5 * * * *', jobTemplate: { spec: { template: template(once(spec)) } } },
    },
  ]
}

const TEMPLATED: readonly string[] = [
  'Pod',
  'Deployment',
  'ReplicaSet',
  'StatefulSet',
  'DaemonSet',
  'Job',
  'CronJob',
]

export function realManifests(): Document[] {
  const samples = parseAllDocuments(readFileSync(SHOP, 'utf8')).map((document) => document.toJS() as Document)
  return [
    ...samples
      .filter(({ kind }) => TEMPLATED.includes(kind))
      .map((document) => ({
        ...document,
        metadata: { ...(document['metadata'] as object), namespace: 'default' },
      })),
    ...SPECS.flatMap(kinds),
  ]
}
