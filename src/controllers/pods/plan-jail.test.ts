import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { HARMLESS_CAPABILITIES, type HarmlessCapability } from '../../api/index.ts'
import { parseJail } from '../../jail/index.ts'
import { object, TENANT } from '../controllers.testkit.ts'
import type { ConfigMap, Container, Pod, PodSpec, Secret, Service } from '../kinds.ts'
import { type JailContext, planJail, referencesOf, tokensNeeded } from './plan-jail.ts'

const UID = '0b7e4d1e-5f0a-4c3c-9d5e-7a4b3c2d1e0f'

const configMaps = new Map<string, ConfigMap>(
  [
    object<ConfigMap>('ConfigMap', 'v1', 'kube-root-ca.crt', { data: { 'ca.crt': 'CA' } }),
    object<ConfigMap>('ConfigMap', 'v1', 'settings', {
      data: { COLOR: 'red', 'app.ini': 'a=1' },
      binaryData: { blob: 'AAE=' },
    }),
  ].map((map) => [map.metadata.name, map]),
)
const secrets = new Map<string, Secret>([
  ['login', object<Secret>('Secret', 'v1', 'login', { data: { user: 'cm9vdA==', password: 'cGFzcw==' } })],
])
const services = [
  object<Service>('Service', 'v1', 'my-db', {
    spec: { clusterIP: '10.96.0.7', ports: [{ name: 'sql', port: 5432, protocol: 'TCP' }] },
  }),
  object<Service>('Service', 'v1', 'headless', { spec: { clusterIP: 'None', ports: [{ port: 80 }] } }),
  object<Service>(
    'Service',
    'v1',
    'later',
    { spec: { clusterIP: '10.96.0.8', ports: [{ port: 80 }] } },
    { creationTimestamp: '2026-01-01T00:00:01Z' },
  ),
]

function context(changes: Partial<JailContext> = {}): JailContext {
  return {
    tenant: TENANT,
    runtime: 'runc',
    clusterDomain: 'cluster.local',
    configMap: (name) => configMaps.get(name),
    secret: (name) => secrets.get(name),
    claim: () => undefined,
    serviceAccount: undefined,
    services,
    apiServer: { host: '10.96.0.1', port: 443 },
    token: ({ audience = 'api' }) => `token for ${audience}`,
    node: { cpuMillis: 2_000, memoryBytes: 2 ** 31, ephemeralStorageBytes: 2 ** 33 },
    ...changes,
  }
}

function podOf(spec: Partial<PodSpec>, metadata: Record<string, unknown> = {}): Pod {
  return object(
    'Pod',
    'v1',
    'web-0',
    { spec: { containers: [{ name: 'web', image: 'registry.test/web:1' }], nodeName: 'bulkhead', ...spec } },
    { uid: UID, ...metadata },
  )
}

function withContainer(container: Partial<Container>, spec: Partial<PodSpec> = {}): Pod {
  return podOf({
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    ...spec,
    containers: [{ name: 'web', image: 'registry.test/web:1', ...container }],
  })
}

function jailOf(pod: Pod, changes: Partial<JailContext> = {}) {
  const { jail, waiting } = planJail(pod, context(changes))
  assert.ok(jail, `It waits: ${waiting?.message}`)
  return jail
}

function environment(pod: Pod, changes: Partial<JailContext> = {}): Record<string, string> {
  const env = jailOf(pod, changes).containers[0]?.env ?? []
  return Object.fromEntries(env.map((e) => [e.name, 'value' in e ? e.value : `<${e.fromPod}>`]))
}

const base64 = (text: string) => Buffer.from(text).toString('base64')

test('a pod that uses nearly everything becomes exactly this jail, which an engine accepts', () => {
  const pod = podOf(
    {
      hostname: 'db',
      subdomain: 'cluster',
      restartPolicy: 'OnFailure',
      terminationGracePeriodSeconds: 5,
      activeDeadlineSeconds: 600,
      serviceAccountName: 'robot',
      securityContext: { runAsUser: 1000, runAsNonRoot: true, fsGroup: 2000, supplementalGroups: [3000] },
      dnsConfig: { searches: ['corp.test'], options: [{ name: 'ndots', value: '2' }, { name: 'rotate' }] },
      hostAliases: [{ ip: '192.0.2.9', hostnames: ['old.test'] }],
      initContainers: [
        {
          name: 'prepare',
          image: 'registry.test/tool:1',
          command: ['sh', '-c', 'echo $(COLOR) $$(COLOR)'],
          env: [{ name: 'COLOR', value: 'blue' }],
        },
        { name: 'proxy', image: 'registry.test/proxy:1', restartPolicy: 'Always' },
      ],
      containers: [
        {
          name: 'web',
          image: 'registry.test/web:1',
          imagePullPolicy: 'Always',
          args: ['--dsn=$(DSN)', '$(UNKNOWN)'],
          workingDir: '/srv',
          envFrom: [
            { prefix: 'CFG_', configMapRef: { name: 'settings' } },
            { secretRef: { name: 'none', optional: true } },
          ],
          env: [
            { name: 'USER', valueFrom: { secretKeyRef: { name: 'login', key: 'user' } } },
            { name: 'HOST', value: '$(MY_DB_SERVICE_HOST)' },
            { name: 'DSN', value: '$(USER)@$(HOST):$(CFG_COLOR)' },
            { name: 'IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
            { name: 'APP', valueFrom: { fieldRef: { fieldPath: "metadata.labels['app']" } } },
            { name: 'CPUS', valueFrom: { resourceFieldRef: { resource: 'limits.cpu' } } },
            { name: 'MEM', valueFrom: { resourceFieldRef: { resource: 'requests.memory', divisor: '1Mi' } } },
            {
              name: 'NONE',
              valueFrom: { configMapKeyRef: { name: 'settings', key: 'absent', optional: true } },
            },
          ],
          ports: [{ name: 'http', containerPort: 8080 }],
          resources: {
            limits: { cpu: '1500m', memory: '128Mi', 'ephemeral-storage': '1Gi' },
            requests: { cpu: '0.25', memory: '64Mi' },
          },
          securityContext: { runAsUser: 0, runAsNonRoot: false, readOnlyRootFilesystem: true },
          volumeMounts: [
            { name: 'config', mountPath: '/etc/app/' },
            { name: 'all', mountPath: '/all', readOnly: true },
            { name: 'tmp', mountPath: '/tmp', subPath: 'a' },
          ],
          livenessProbe: { httpGet: { port: 'http', path: 'healthz' }, periodSeconds: 3 },
          readinessProbe: { tcpSocket: { port: 8080 }, successThreshold: 2 },
          startupProbe: { grpc: { port: 9090 } },
          lifecycle: { postStart: { exec: { command: ['true'] } }, preStop: { sleep: { seconds: 3 } } },
        },
      ],
      volumes: [
        {
          name: 'config',
          configMap: {
            name: 'settings',
            defaultMode: 0o400,
            items: [{ key: 'app.ini', path: 'conf/app.ini', mode: 0o440 }],
          },
        },
        {
          name: 'all',
          projected: {
            sources: [
              { secret: { name: 'login', items: [{ key: 'password', path: 'password' }] } },
              { downwardAPI: { items: [{ path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } }] } },
              { serviceAccountToken: { path: 'vault', audience: 'vault', expirationSeconds: 600 } },
            ],
          },
        },
        { name: 'tmp', emptyDir: { medium: 'Memory' } },
      ],
    },
    { labels: { tier: 'a"b', app: 'web' } },
  )
  const linked = [
    ['MY_DB_SERVICE_HOST', '10.96.0.7'],
    ['MY_DB_SERVICE_PORT', '5432'],
    ['MY_DB_SERVICE_PORT_SQL', '5432'],
    ['MY_DB_PORT', 'tcp://10.96.0.7:5432'],
    ['MY_DB_PORT_5432_TCP', 'tcp://10.96.0.7:5432'],
    ['MY_DB_PORT_5432_TCP_PROTO', 'tcp'],
    ['MY_DB_PORT_5432_TCP_PORT', '5432'],
    ['MY_DB_PORT_5432_TCP_ADDR', '10.96.0.7'],
    ['KUBERNETES_SERVICE_HOST', '10.96.0.1'],
    ['KUBERNETES_SERVICE_PORT', '443'],
    ['KUBERNETES_SERVICE_PORT_HTTPS', '443'],
    ['KUBERNETES_PORT', 'tcp://10.96.0.1:443'],
    ['KUBERNETES_PORT_443_TCP', 'tcp://10.96.0.1:443'],
    ['KUBERNETES_PORT_443_TCP_PROTO', 'tcp'],
    ['KUBERNETES_PORT_443_TCP_PORT', '443'],
    ['KUBERNETES_PORT_443_TCP_ADDR', '10.96.0.1'],
  ].map(([name = '', value = '']) => ({ name, value }))
  const plain = {
    imagePullPolicy: 'IfNotPresent',
    runAsUser: 1000,
    supplementalGroups: [3000],
    runAsNonRoot: true,
    readOnlyRootFilesystem: false,
    mounts: [
      {
        volume: 'kube-api-access',
        mountPath: '/var/run/secrets/kubernetes.io/serviceaccount',
        readOnly: true,
      },
    ],
    resources: { cpuMillisRequest: 0, memoryBytesRequest: 0 },
    ports: [],
    lifecycle: {},
    terminationMessagePath: '/dev/termination-log',
    terminationMessagePolicy: 'File',
    stdin: false,
    stdinOnce: false,
    tty: false,
  }
  const probe = {
    initialDelaySeconds: 0,
    timeoutSeconds: 1,
    periodSeconds: 10,
    successThreshold: 1,
    failureThreshold: 3,
  }
  const jail = jailOf(pod)
  assert.deepEqual(jail, {
    id: UID,
    tenant: 'red',
    namespace: 'default',
    pod: 'web-0',
    labels: ['app=web'],
    hostname: 'db',
    subdomain: 'cluster',
    runtime: 'runc',
    restartPolicy: 'OnFailure',
    terminationGracePeriodSeconds: 5,
    activeDeadlineSeconds: 600,
    fsGroup: 2000,
    initContainers: [
      {
        ...plain,
        name: 'prepare',
        image: 'registry.test/tool:1',
        command: ['sh', '-c', 'echo blue $$(COLOR)'],
        env: [{ name: 'COLOR', value: 'blue' }, ...linked],
      },
      { ...plain, name: 'proxy', image: 'registry.test/proxy:1', restartPolicy: 'Always', env: linked },
    ],
    containers: [
      {
        ...plain,
        name: 'web',
        image: 'registry.test/web:1',
        imagePullPolicy: 'Always',
        args: ['--dsn=root@10.96.0.7:red', '$$(UNKNOWN)'],
        workingDir: '/srv',
        env: [
          { name: 'CFG_COLOR', value: 'red' },
          { name: 'CFG_app.ini', value: 'a=1' },
          { name: 'USER', value: 'root' },
          { name: 'HOST', value: '10.96.0.7' },
          { name: 'DSN', value: 'root@10.96.0.7:red' },
          { name: 'IP', fromPod: 'podIP' },
          { name: 'APP', value: 'web' },
          { name: 'CPUS', value: '2' },
          { name: 'MEM', value: '64' },
          ...linked,
        ],
        runAsUser: 0,
        runAsNonRoot: false,
        readOnlyRootFilesystem: true,
        mounts: [
          { volume: 'config', mountPath: '/etc/app', readOnly: false },
          { volume: 'all', mountPath: '/all', readOnly: true },
          { volume: 'tmp', mountPath: '/tmp', readOnly: false, subPath: 'a' },
          ...plain.mounts,
        ],
        resources: {
          cpuMillisRequest: 250,
          cpuMillisLimit: 1500,
          memoryBytesRequest: 64 * 2 ** 20,
          memoryBytesLimit: 128 * 2 ** 20,
          ephemeralStorageBytesLimit: 2 ** 30,
        },
        ports: [{ name: 'http', containerPort: 8080, protocol: 'TCP' }],
        livenessProbe: {
          ...probe,
          handler: { kind: 'httpGet', port: 8080, path: '/healthz', scheme: 'HTTP', headers: [] },
          periodSeconds: 3,
        },
        readinessProbe: { ...probe, handler: { kind: 'tcpSocket', port: 8080 }, successThreshold: 2 },
        startupProbe: { ...probe, handler: { kind: 'grpc', port: 9090, service: '' } },
        lifecycle: { postStart: { kind: 'exec', command: ['true'] }, preStop: { kind: 'sleep', seconds: 3 } },
      },
    ],
    volumes: [
      {
        name: 'config',
        kind: 'files',
        files: [{ path: 'conf/app.ini', mode: 0o440, contentBase64: base64('a=1') }],
      },
      {
        name: 'all',
        kind: 'files',
        files: [
          { path: 'password', mode: 0o644, contentBase64: base64('pass') },
          { path: 'labels', mode: 0o644, contentBase64: base64('app="web"\ntier="a\\"b"') },
          { path: 'vault', mode: 0o600, contentBase64: base64('token for vault') },
        ],
      },
      { name: 'tmp', kind: 'scratch', medium: 'memory', sizeBytesMax: 128 * 2 ** 20 },
      {
        name: 'kube-api-access',
        kind: 'files',
        files: [
          { path: 'token', mode: 0o600, contentBase64: base64('token for api') },
          { path: 'ca.crt', mode: 0o644, contentBase64: base64('CA') },
          { path: 'namespace', mode: 0o644, contentBase64: base64('default') },
        ],
      },
    ],
    dns: {
      searches: ['default.svc.cluster.local', 'svc.cluster.local', 'cluster.local', 'corp.test'],
      options: ['ndots:2', 'rotate'],
    },
    hostAliases: [{ ip: '192.0.2.9', hostnames: ['old.test'] }],
  })
  assert.deepEqual(parseJail(JSON.parse(JSON.stringify(jail)), { tenant: TENANT }), jail)
  assert.deepEqual(tokensNeeded(pod, undefined), [
    { audience: 'vault', expirationSeconds: 600 },
    { expirationSeconds: 3_600 },
  ])
  assert.deepEqual([...referencesOf(pod)].toSorted(), [
    'configmaps/kube-root-ca.crt',
    'configmaps/settings',
    'secrets/login',
    'secrets/none',
  ])
})

test('the smallest pod becomes a jail that an engine accepts', () => {
  const jail = jailOf(podOf({}, { name: 'a.b.c' }))
  assert.equal(jail.hostname, 'a-b-c')
  assert.deepEqual(parseJail(JSON.parse(JSON.stringify(jail)), { tenant: TENANT }), jail)
})

test('what is missing makes the pod wait, naming it as the kubelet does', () => {
  const waiting = (pod: Pod, changes: Partial<JailContext> = {}) => {
    const { waiting: found } = planJail(pod, context(changes))
    return found && [found.reason, found.container, found.message, found.event.reason]
  }
  const config = 'CreateContainerConfigError'
  assert.deepEqual(waiting(withContainer({ envFrom: [{ configMapRef: { name: 'no' } }] })), [
    config,
    'web',
    'configmap "no" not found',
    'Failed',
  ])
  assert.deepEqual(waiting(withContainer({ envFrom: [{ secretRef: { name: 'no' } }] })), [
    config,
    'web',
    'secret "no" not found',
    'Failed',
  ])
  const variable = (valueFrom: object) => withContainer({ env: [{ name: 'A', valueFrom }] })
  assert.deepEqual(waiting(variable({ configMapKeyRef: { name: 'settings', key: 'no' } })), [
    config,
    'web',
    "couldn't find key no in ConfigMap default/settings",
    'Failed',
  ])
  assert.deepEqual(waiting(variable({ secretKeyRef: { name: 'login', key: 'constructor' } })), [
    config,
    'web',
    "couldn't find key constructor in Secret default/login",
    'Failed',
  ])
  const volume = (source: object) => withContainer({}, { volumes: [{ name: 'v', ...source }] })
  assert.deepEqual(waiting(volume({ configMap: { name: 'no' } })), [
    'ContainerCreating',
    undefined,
    'configmap "no" not found',
    'FailedMount',
  ])
  assert.deepEqual(waiting(volume({ secret: { secretName: 'login', items: [{ key: 'no', path: 'p' }] } })), [
    'ContainerCreating',
    undefined,
    'references non-existent secret key: no',
    'FailedMount',
  ])
  assert.equal(waiting(volume({ configMap: { name: 'no', optional: true } })), undefined)
  assert.equal(waiting(variable({ secretKeyRef: { name: 'login', key: 'no', optional: true } })), undefined)
  assert.deepEqual(waiting(podOf({}), { configMap: () => undefined }), [
    'ContainerCreating',
    undefined,
    'configmap "kube-root-ca.crt" not found',
    'FailedMount',
  ])
})

test('a token is only for the one user of the pod, or its group, where the pod says who they are', () => {
  const token = (spec: Partial<PodSpec>) => {
    const [volume] = jailOf(podOf(spec)).volumes
    assert.ok(volume?.kind === 'files')
    const { mode, owner } = volume.files[0] ?? {}
    return [mode, owner]
  }
  const container = (name: string, runAsUser?: number) => ({
    name,
    image: 'x',
    ...(runAsUser === undefined ? {} : { securityContext: { runAsUser } }),
  })
  assert.deepEqual(token({}), [0o644, undefined])
  assert.deepEqual(token({ securityContext: { runAsUser: 7 } }), [0o600, 7])
  assert.deepEqual(token({ securityContext: { fsGroup: 9 } }), [0o600, undefined])
  assert.deepEqual(token({ containers: [container('a', 7), container('b', 7)] }), [0o600, 7])
  assert.deepEqual(token({ containers: [container('a', 7), container('b')] }), [0o644, undefined])
  const root = { initContainers: [container('root', 0)], containers: [container('a', 7)] }
  assert.deepEqual(token(root), [0o644, undefined])
})

test('a token is mounted unless the pod, or else its service account, says no, and never over a mount of the pod', () => {
  const account = (automountServiceAccountToken: boolean) =>
    object<NonNullable<JailContext['serviceAccount']>>('ServiceAccount', 'v1', 'default', {
      automountServiceAccountToken,
    })
  const volumes = (spec: Partial<PodSpec>, changes: Partial<JailContext> = {}) =>
    jailOf(podOf(spec), changes).volumes.map((volume) => volume.name)
  assert.deepEqual(volumes({}), ['kube-api-access'])
  assert.deepEqual(volumes({ automountServiceAccountToken: false }), [])
  assert.deepEqual(volumes({}, { serviceAccount: account(false) }), [])
  assert.deepEqual(volumes({ automountServiceAccountToken: true }, { serviceAccount: account(false) }), [
    'kube-api-access',
  ])
  assert.deepEqual(volumes({}, { token: undefined }), [], 'nothing is issued')
  assert.deepEqual(volumes({ volumes: [{ name: 'kube-api-access', emptyDir: {} }] }), [
    'kube-api-access',
    'kube-api-access-1',
  ])
  const own = { name: 'own', mountPath: '/var/run/secrets/kubernetes.io/serviceaccount' }
  const jail = jailOf(
    podOf({
      containers: [{ name: 'web', image: 'i', volumeMounts: [own] }],
      volumes: [{ name: 'own', emptyDir: {} }],
    }),
  )
  assert.deepEqual(
    jail.containers[0]?.mounts.map((mount) => mount.volume),
    ['own'],
  )
})

test('only services that were there when the pod was made become variables, so that a later plan is the same', () => {
  const variables = environment(podOf({ automountServiceAccountToken: false }))
  assert.ok('MY_DB_SERVICE_HOST' in variables)
  assert.ok(!('LATER_SERVICE_HOST' in variables) && !('HEADLESS_SERVICE_HOST' in variables))
  assert.deepEqual(Object.keys(environment(withContainer({}), { apiServer: undefined })), [])
})

test('a variable named like a part of every object is an ordinary variable', () => {
  const variables = environment(
    withContainer({
      env: [
        { name: '__proto__', value: 'x' },
        { name: 'B', value: '$(__proto__)$(constructor)' },
      ],
    }),
    { apiServer: undefined },
  )
  assert.equal(variables['B'], 'x$$(constructor)')
})

test('DNS follows the policy', () => {
  const dns = (spec: Partial<PodSpec>) => jailOf(podOf(spec)).dns
  assert.deepEqual(dns({}).options, ['ndots:5'])
  assert.deepEqual(dns({ dnsPolicy: 'Default' }), { searches: [], options: [] })
  assert.deepEqual(
    dns({ dnsPolicy: 'None', dnsConfig: { nameservers: ['192.0.2.53'], searches: ['x.test'] } }),
    {
      searches: ['x.test'],
      nameservers: ['192.0.2.53'],
      options: [],
    },
  )
})

test('too many bytes of files wait with a message instead of being sent', () => {
  const big = object<ConfigMap>('ConfigMap', 'v1', 'big', { data: { file: 'x'.repeat(3 * 2 ** 20) } })
  const volumes = ['a', 'b', 'c'].map((name) => ({ name, configMap: { name: 'big' } }))
  const { waiting } = planJail(withContainer({}, { volumes }), context({ configMap: () => big }))
  assert.equal(waiting?.event.reason, 'FailedMount')
  assert.match(waiting?.message ?? '', /more than 8388608/)
})

test('what only the engine knows stays open in texts that refer to it, and nothing else that looks like it', () => {
  const pod = withContainer({
    env: [
      { name: 'EARLY', value: '$(IP)' },
      { name: 'IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
      { name: 'URL', value: 'http://$(IP):80/$$(IP)' },
      { name: 'PASSWORD', valueFrom: { secretKeyRef: { name: 'dollars', key: 'password' } } },
      { name: 'IP', value: 'replaced' },
    ],
    args: ['$(URL)', '$(PASSWORD)', '$(podIP)', '$(IP)'],
  })
  const dollars = object<Secret>('Secret', 'v1', 'dollars', { data: { password: base64('a$(podIP)$$') } })
  const container = jailOf(pod, { secret: () => dollars, apiServer: undefined }).containers[0]
  assert.deepEqual(container?.env, [
    { name: 'EARLY', value: '$$(IP)' },
    { name: 'IP', value: 'replaced' },
    { name: 'URL', value: 'http://$(podIP):80/$$(IP)' },
    { name: 'PASSWORD', value: 'a$$(podIP)$$$$' },
  ])
  assert.deepEqual(container?.args, ['http://$(podIP):80/$$(IP)', 'a$$(podIP)$$$$', '$$(podIP)', 'replaced'])
})

test('variables in the sub-path of a mount count as they are, and a path that leaves the volume starts nothing', () => {
  const planned = (subPathExpr: string, variables: Record<string, string>, metadata = {}) => {
    const env = [
      ...Object.entries(variables).map(([name, value]) => ({ name, value })),
      { name: 'IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
      { name: 'NOTE', valueFrom: { fieldRef: { fieldPath: "metadata.annotations['note']" } } },
    ]
    const volumeMounts = [{ name: 'v', mountPath: '/v', subPathExpr }]
    const volumes = [{ name: 'v', emptyDir: {} }]
    const pod = podOf(
      { volumes, containers: [{ name: 'web', image: 'registry.test/web:1', env, volumeMounts }] },
      metadata,
    )
    const { jail, waiting } = planJail(pod, context({ apiServer: undefined }))
    return jail
      ? jail.containers[0]?.mounts[0]?.subPath
      : [waiting.reason, waiting.container, waiting.message]
  }
  const config = 'CreateContainerConfigError'
  assert.equal(planned('logs/$(WHO)', { WHO: 'web-0' }), 'logs/web-0')
  assert.equal(planned('$(A)/$$(A)', { A: 'a$$(podIP)', B: '$' }), 'a$(podIP)/$(A)')
  assert.equal(planned('$(NOTE)', {}, { annotations: { note: 'by/note/' } }), 'by/note')
  assert.deepEqual(planned('$(NOTE)', {}), [config, 'web', 'missing value for NOTE'])
  assert.deepEqual(planned('$(NO)', {}), [config, 'web', 'missing value for NO'])
  assert.deepEqual(planned('a/$(UP)', { UP: '..' }), [
    config,
    'web',
    'unable to provision SubPath "a/..": must not contain \'..\'',
  ])
  assert.deepEqual(planned('$(UP)', { UP: '/tmp' }), [
    config,
    'web',
    'unable to provision SubPath "/tmp": must be a relative path',
  ])
  // Two halves of a step upwards.
  assert.match(String(planned('$(DOT)$(DOT)/etc', { DOT: '.' })), /must not contain '..'/)
  assert.match(String(planned('$(IP)', {})), /known only while the pod runs/)
})

test('the command of a probe sees what the pod itself says, that of a hook nothing', () => {
  const command = ['check', '$(PORT)', '$(SECRET)', '$(NO)']
  const [container] = jailOf(
    withContainer({
      env: [
        { name: 'PORT', value: '80' },
        { name: 'SECRET', valueFrom: { secretKeyRef: { name: 'login', key: 'user' } } },
      ],
      livenessProbe: { exec: { command } },
      lifecycle: { preStop: { exec: { command } } },
    }),
  ).containers
  assert.deepEqual(container?.livenessProbe?.handler, { kind: 'exec', command: ['check', '80', '', '$(NO)'] })
  assert.deepEqual(container?.lifecycle.preStop, { kind: 'exec', command })
})

test('capabilities are what is left after dropping and adding, in the order of container runtimes', () => {
  const kept = (capabilities: { add?: HarmlessCapability[]; drop?: string[] }) =>
    jailOf(withContainer({ securityContext: { capabilities } })).containers[0]?.capabilities
  const all = [...HARMLESS_CAPABILITIES]
  assert.deepEqual(kept({}), all)
  assert.deepEqual(kept({ drop: ['ALL'] }), [])
  assert.deepEqual(kept({ drop: ['all'], add: ['NET_BIND_SERVICE'] }), ['NET_BIND_SERVICE'])
  assert.deepEqual(kept({ drop: ['ALL', 'KILL'], add: ['KILL', 'CHOWN'] }), ['CHOWN'])
  assert.deepEqual(
    kept({ drop: ['NET_RAW', 'CAP_KILL', 'chown'] }),
    all.filter((c) => c !== 'KILL' && c !== 'CHOWN'),
  )
  assert.equal(jailOf(withContainer({})).containers[0]?.capabilities, undefined)
})

test('whatever a pod refers to, planning ends in a jail or in a reason', () => {
  const name = fc.constantFrom('settings', 'login', 'no', '__proto__', 'constructor')
  const reference = fc.record({ name, key: name, optional: fc.boolean() })
  const source = fc.oneof(
    fc.record({ configMapKeyRef: reference }),
    fc.record({ secretKeyRef: reference }),
    fc.record({
      fieldRef: fc.record({ fieldPath: fc.oneof(fc.string(), fc.constant("metadata.labels['__proto__']")) }),
    }),
    fc.record({
      resourceFieldRef: fc.record({ resource: fc.oneof(fc.string(), fc.constant('limits.memory')) }),
    }),
  )
  const env = fc.array(fc.record({ name: fc.string({ minLength: 1 }), valueFrom: source }), { maxLength: 5 })
  fc.assert(
    fc.property(env, fc.array(fc.string(), { maxLength: 3 }), (variables, args) => {
      const { jail, waiting } = planJail(withContainer({ env: variables, args }), context())
      assert.ok(jail ? !waiting : waiting?.message)
    }),
  )
})

test('the annotations for bandwidth become a cap of the pod, and what is no quantity does not', () => {
  const bandwidth = (annotations: Record<string, string>) => jailOf(podOf({}, { annotations })).bandwidth
  assert.deepEqual(
    bandwidth({ 'kubernetes.io/ingress-bandwidth': '10M', 'kubernetes.io/egress-bandwidth': '1G' }),
    { ingressBitsPerSecond: 10_000_000, egressBitsPerSecond: 1_000_000_000 },
  )
  assert.deepEqual(bandwidth({ 'kubernetes.io/egress-bandwidth': '2M' }), { egressBitsPerSecond: 2_000_000 })
  assert.equal(bandwidth({ 'kubernetes.io/ingress-bandwidth': 'fast' }), undefined)
  assert.equal(bandwidth({}), undefined)
})
