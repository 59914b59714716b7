import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  applyDefaults,
  checkObject,
  collectProblems,
  decodingError,
  deploymentDefinition,
  type JsonValue,
  type KindDefinition,
  type KubeObject,
  podDefinition,
  secretDefinition,
  serviceDefinition,
  strictDecodingError,
  tenantRegistry,
  validateObject,
  type WriteContext,
} from './index.ts'

const tenantUser = {
  user: { kind: 'tenantUser', tenant: 'red', name: 'ann', groups: [] },
  nowMs: 0,
} as unknown as WriteContext
const component: WriteContext = { user: { kind: 'component', name: 'scheduler' }, nowMs: 0 }
const server = {
  namespace: 'default',
  uid: 'u',
  resourceVersion: '1',
  creationTimestamp: '2026-01-01T00:00:00Z',
}

const template = (spec: object = {}, labels: object = { app: 'web' }) => ({
  metadata: { labels },
  spec: { containers: [{ name: 'web', image: 'nginx' }], ...spec },
})
const deployment = (spec: object = {}) => ({
  metadata: { name: 'web' },
  spec: { selector: { matchLabels: { app: 'web' } }, template: template(), ...spec },
})
const pod = (spec: object = {}) => ({ metadata: { name: 'web' }, spec: template(spec).spec })

/** As it is judged when it is refused anyway. */
function inNamespace(kind: KindDefinition, value: unknown): KubeObject {
  const { object } = checkObject(kind, value, { fillGaps: true })
  if (kind.namespaced) object.metadata.namespace = 'default'
  return object
}

/** As the API server does it: the stored object, or every problem. */
function write(kind: KindDefinition, value: unknown, context = tenantUser, old?: KubeObject) {
  const checked = checkObject(kind, value)
  if (checked.errors.length > 0 || checked.refused.length > 0)
    return {
      object: checked.object,
      problems: collectProblems(kind, { ...checked, filled: inNamespace(kind, value) }, context, old),
      warnings: checked.warnings,
    }
  const filled = applyDefaults(kind, checked.object)
  filled.metadata = { ...server, ...filled.metadata }
  const object = old ? filled : (kind.prepareForCreate?.(filled, context) ?? filled)
  return { object, problems: validateObject(kind, object, context, old), warnings: checked.warnings }
}

const lines = (problems: readonly { field: string; message: string }[]) =>
  problems.map(({ field, message }) => `${field}: ${message}`)
const fields = (problems: readonly { field: string; reason: string }[]) =>
  problems.map(({ field, reason }) => `${field} ${reason.replace('FieldValue', '')}`)

test('every way to a privileged workload is refused at once, each with its path', () => {
  const { problems } = write(
    deploymentDefinition,
    deployment({
      replicas: -1,
      template: template({
        hostNetwork: true,
        hostPID: true,
        hostIPC: true,
        hostUsers: true,
        runtimeClassName: 'fast',
        ephemeralContainers: [{ name: 'debug' }],
        securityContext: {
          sysctls: [{ name: 'kernel.msgmax', value: '1' }],
          seccompProfile: { type: 'Unconfined' },
        },
        volumes: [{ name: 'host', hostPath: { path: '/' } }],
        initContainers: [
          { name: 'init', image: 'x', volumeDevices: [{ name: 'd', devicePath: '/dev/sda' }] },
        ],
        containers: [
          {
            name: 'web',
            image: 'nginx',
            ports: [{ containerPort: 80, hostPort: 80 }],
            livenessProbe: { httpGet: { port: 80, host: '169.254.169.254' } },
            securityContext: {
              privileged: true,
              allowPrivilegeEscalation: true,
              procMount: 'Unmasked',
              runAsUser: 70_000,
              capabilities: { add: ['CHOWN', 'SYS_ADMIN', 'NET_RAW', 'BPF'] },
              seccompProfile: { type: 'Localhost', localhostProfile: 'x.json' },
            },
            volumeMounts: [{ name: 'host', mountPath: '/host', mountPropagation: 'Bidirectional' }],
          },
        ],
      }),
    }),
  )
  assert.deepEqual(fields(problems).sort(), [
    'spec.replicas Invalid',
    'spec.template.spec.containers[0].livenessProbe.httpGet.host Forbidden',
    'spec.template.spec.containers[0].ports[0].hostPort Forbidden',
    'spec.template.spec.containers[0].securityContext.allowPrivilegeEscalation Forbidden',
    'spec.template.spec.containers[0].securityContext.capabilities.add[1] Forbidden',
    'spec.template.spec.containers[0].securityContext.capabilities.add[2] Forbidden',
    'spec.template.spec.containers[0].securityContext.capabilities.add[3] Forbidden',
    'spec.template.spec.containers[0].securityContext.privileged Forbidden',
    'spec.template.spec.containers[0].securityContext.procMount Forbidden',
    'spec.template.spec.containers[0].securityContext.runAsUser Invalid',
    'spec.template.spec.containers[0].securityContext.seccompProfile.localhostProfile Forbidden',
    'spec.template.spec.containers[0].securityContext.seccompProfile.type Forbidden',
    'spec.template.spec.containers[0].volumeMounts[0].mountPropagation Forbidden',
    'spec.template.spec.ephemeralContainers Forbidden',
    'spec.template.spec.hostIPC Forbidden',
    'spec.template.spec.hostNetwork Forbidden',
    'spec.template.spec.hostPID Forbidden',
    'spec.template.spec.hostUsers Forbidden',
    'spec.template.spec.initContainers[0].volumeDevices Forbidden',
    'spec.template.spec.runtimeClassName Forbidden',
    'spec.template.spec.securityContext.seccompProfile.type Forbidden',
    'spec.template.spec.securityContext.sysctls Forbidden',
    'spec.template.spec.volumes[0].hostPath Forbidden',
  ])
  for (const { message, field } of problems)
    if (message.startsWith('Forbidden')) assert.match(message, /Instead: /, field)
})

test('values that mean "off" are accepted and dropped', () => {
  const { object, problems } = write(
    podDefinition,
    pod({
      hostNetwork: false,
      hostPID: false,
      hostIPC: false,
      hostUsers: false,
      shareProcessNamespace: false,
      os: { name: 'linux' },
      ephemeralContainers: [],
      readinessGates: null,
      securityContext: { sysctls: [], seLinuxOptions: { type: '' } },
      containers: [
        {
          name: 'web',
          image: 'nginx',
          ports: [{ containerPort: 80, hostPort: 0 }],
          securityContext: {
            privileged: false,
            procMount: 'Default',
            allowPrivilegeEscalation: false,
          },
          volumeDevices: [],
        },
      ],
    }),
  )
  assert.deepEqual(problems, [])
  const { spec } = object as { spec?: unknown }
  assert.doesNotMatch(JSON.stringify(spec), /host|privileged|procMount|ephemeral|sysctls|volumeDevices|"os"/)
})

test('fields without effect are accepted with a warning, and empty ones without', () => {
  const { warnings, problems } = write(
    podDefinition,
    pod({
      imagePullSecrets: [{ name: 'registry' }],
      securityContext: { seLinuxOptions: { level: 's0:c0,c1', type: '' } },
      topologySpreadConstraints: [],
      affinity: {
        podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [{ topologyKey: 'zone' }] },
      },
    }),
  )
  assert.deepEqual(problems, [])
  assert.deepEqual(
    warnings.map((warning) => warning.split(':')[0]),
    ['spec.imagePullSecrets', 'spec.securityContext.seLinuxOptions.level', 'spec.affinity.podAntiAffinity'],
  )
})

test('ports with SCTP are taken with a warning that nobody can use them', () => {
  const ports = [{ containerPort: 80 }, { containerPort: 81, protocol: 'SCTP' }]
  const { object } = write(podDefinition, pod({ containers: [{ name: 'c', image: 'i', ports }] }))
  assert.deepEqual(podDefinition.warnings?.(object), [
    'spec.containers[0].ports[1].protocol: has no effect: pods cannot open SCTP sockets here',
  ])
  const service = write(serviceDefinition, {
    metadata: { name: 'web', namespace: 'default' },
    spec: { ports: [{ port: 80, protocol: 'SCTP' }] },
  })
  assert.deepEqual(serviceDefinition.warnings?.(service.object), [
    'spec.ports[0].protocol: has no effect: pods cannot open SCTP sockets here',
  ])
})

test('JSON of the wrong type is told in upstream’s words', () => {
  const checked = checkObject(deploymentDefinition, {
    spec: { replicas: '3', template: { spec: { containers: [{ env: [{ value: 1 }] }, 'x'] } } },
  })
  assert.equal(
    decodingError(deploymentDefinition, checked)?.message,
    'Deployment in version "v1" cannot be handled as a Deployment: ' +
      'json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32 (at spec.replicas), ' +
      'json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string (at spec.template.spec.containers[0].env[0].value), ' +
      'json: cannot unmarshal string into Go struct field PodSpec.spec.template.spec.containers of type Container (at spec.template.spec.containers[1])',
  )
  for (const value of [null, [], 'text', 1, true])
    assert.equal(decodingError(podDefinition, checkObject(podDefinition, value))?.code, 400)
  for (const replicas of [1.5, 2 ** 31, -(2 ** 32), 1e300])
    assert.equal(
      decodingError(deploymentDefinition, checkObject(deploymentDefinition, { spec: { replicas } }))?.code,
      400,
    )
})

test('unknown fields are named with their paths', () => {
  const { unknownFields } = checkObject(podDefinition, {
    bogus: 1,
    spec: { containers: [{ name: 'a', imag: 'x' }], Volumes: [] },
  })
  assert.deepEqual(unknownFields, ['bogus', 'spec.containers[0].imag', 'spec.Volumes'])
  assert.equal(
    strictDecodingError({ version: 'v1', kind: 'Pod' }, ['unknown field "bogus"']).message,
    'Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "bogus"',
  )
})

test('a status in an ordinary write is not judged, because it is not stored', () => {
  const status = { containerStatuses: [{ allocatedResources: { cpu: '1' } }], resize: 'x', phase: 'x' }
  assert.deepEqual(write(podDefinition, { ...pod(), status }).problems, [])
  const checked = checkObject(podDefinition, { ...pod(), status }, { subresource: 'status' })
  assert.ok(checked.refused.length > 0 && checked.errors.length > 0)
})

test('quantities, times and base64 are brought into one notation', () => {
  const { object } = checkObject(podDefinition, {
    metadata: { creationTimestamp: '2026-01-01T02:00:00.7+02:00' },
    spec: { containers: [{ name: 'a', resources: { limits: { cpu: 0.5, memory: '1024Mi' } } }] },
  })
  assert.deepEqual(object, {
    metadata: { creationTimestamp: '2026-01-01T00:00:00Z' },
    spec: { containers: [{ name: 'a', resources: { limits: { cpu: '500m', memory: '1Gi' } } }] },
  })
  const secret = checkObject(secretDefinition, { data: { a: 'YW\nE=', b: '' } })
  assert.deepEqual(secret.object['data'], { a: 'YWE=', b: '' })
  assert.equal(
    checkObject(secretDefinition, { data: { a: 'not base64' } }).errors[0]?.reason,
    'FieldValueTypeInvalid',
  )
})

test('a flood of problems is cut off', () => {
  const containers = Array.from({ length: 5_000 }, () => ({
    bogus: 1,
    stdin: true,
    volumeDevices: [1],
    name: 3,
  }))
  const checked = checkObject(podDefinition, { spec: { containers } })
  assert.deepEqual(
    [checked.errors.length, checked.refused.length, checked.unknownFields.length],
    [100, 100, 100],
  )
})

test('however large an object is, the answer is small', () => {
  const many = (length: number, item: unknown) => Array.from({ length }, () => item)
  const bodies = [
    pod({ containers: many(300_000, {}) }),
    pod({ containers: many(4_000, {}), volumes: many(4_000, {}), tolerations: many(4_000, { key: '-' }) }),
    pod({
      containers: many(60, {
        name: 'a',
        env: many(4_000, {}),
        ports: many(4_000, {}),
        envFrom: many(4_000, {}),
      }),
    }),
    {
      metadata: {
        name: 'a',
        labels: Object.fromEntries(Array.from({ length: 4_000 }, (_, at) => [`-${at}`, '-'])),
      },
    },
  ]
  for (const body of bodies) {
    const { problems } = write(podDefinition, body)
    assert.ok(problems.length > 0 && problems.length <= 100)
  }
})

test('items that cannot be told apart are refused', () => {
  const { problems } = write(
    podDefinition,
    pod({
      containers: [
        {
          name: 'a',
          image: 'x',
          ports: [
            { containerPort: 80 },
            { containerPort: 80, protocol: 'TCP' },
            { containerPort: 80, protocol: 'UDP' },
          ],
        },
        { name: 'a', image: 'x' },
      ],
    }),
  )
  assert.deepEqual(fields(problems), [
    'spec.containers[0].ports[1] Duplicate',
    'spec.containers[1] Duplicate',
    'spec.containers[1].name Duplicate',
  ])
})

test('pods: names, mounts, ports, probes and variables must fit together', () => {
  const { problems } = write(
    podDefinition,
    pod({
      initContainers: [{ name: 'Init', image: 'x', readinessProbe: { exec: { command: ['a'] } } }],
      containers: [
        {
          name: 'web',
          image: '',
          ports: [{ containerPort: 0, name: 'way-too-long-a-name' }],
          env: [
            { name: 'A', value: 'x', valueFrom: { fieldRef: { fieldPath: 'spec.hostname' } } },
            { name: '' },
          ],
          envFrom: [{}],
          volumeMounts: [{ name: 'gone', mountPath: '/a:b', subPath: '../x' }],
          livenessProbe: { successThreshold: 2, httpGet: { port: 'http' }, tcpSocket: { port: 1 } },
          resources: { limits: { cpu: '1', 'nvidia.com/gpu': '1' }, requests: { cpu: '2' } },
        },
      ],
      dnsPolicy: 'None',
      activeDeadlineSeconds: 0,
    }),
  )
  assert.deepEqual(fields(problems).sort(), [
    'spec.activeDeadlineSeconds Invalid',
    'spec.containers[0].envFrom[0] Invalid',
    'spec.containers[0].env[0].valueFrom Invalid',
    'spec.containers[0].env[0].valueFrom.fieldRef.fieldPath NotSupported',
    'spec.containers[0].env[1].name Required',
    'spec.containers[0].image Required',
    'spec.containers[0].livenessProbe.httpGet.port Invalid',
    'spec.containers[0].livenessProbe.successThreshold Invalid',
    'spec.containers[0].livenessProbe.tcpSocket Forbidden',
    'spec.containers[0].ports[0].containerPort Invalid',
    'spec.containers[0].ports[0].name Invalid',
    'spec.containers[0].resources.limits[nvidia.com/gpu] Forbidden',
    'spec.containers[0].resources.requests Invalid',
    'spec.containers[0].volumeMounts[0].mountPath Invalid',
    'spec.containers[0].volumeMounts[0].name NotFound',
    'spec.containers[0].volumeMounts[0].subPath Invalid',
    'spec.dnsConfig Required',
    'spec.initContainers[0].name Invalid',
    'spec.initContainers[0].readinessProbe Forbidden',
  ])
})

test('pods: paths that no container could be given are refused at once', () => {
  const at = (field: string, value: string) => {
    const mount = { name: 'v', mountPath: '/v', ...(field === 'mountPath' ? { mountPath: value } : {}) }
    const container = {
      name: 'web',
      image: 'x',
      volumeMounts: [mount],
      ...(field === 'mountPath' ? {} : { [field]: value }),
    }
    return write(podDefinition, pod({ containers: [container], volumes: [{ name: 'v' }] })).problems.length
  }
  for (const path of ['relative', '/a/../b', '/..', '/a\0'])
    for (const field of ['mountPath', 'workingDir', 'terminationMessagePath'])
      assert.equal(at(field, path), 1, `${field} ${path}`)
  for (const path of ['/', '//', '/proc', '/proc/', '/./sys/fs', '/dev', '/dev//null'])
    assert.equal(at('mountPath', path), 1, path)
  for (const path of ['/data/', '/dev/shm', '/dev/shm/', '/process', '/device/x'])
    assert.equal(at('mountPath', path), 0, path)
  assert.equal(at('workingDir', '/'), 0)
  assert.equal(at('terminationMessagePath', '/proc/1/fd/1'), 1)
  assert.equal(at('terminationMessagePath', '/dev/termination-log'), 0)
})

test('a tenant cannot choose a node, and the control plane can', () => {
  assert.deepEqual(fields(write(podDefinition, pod({ nodeName: 'n' })).problems), ['spec.nodeName Forbidden'])
  assert.deepEqual(
    fields(write(deploymentDefinition, deployment({ template: template({ nodeName: 'n' }) })).problems),
    ['spec.template.spec.nodeName Forbidden'],
  )
  const { object } = write(podDefinition, pod())
  const bound = structuredClone(object) as KubeObject & { spec: { nodeName?: string } }
  bound.spec.nodeName = 'virtual'
  assert.deepEqual(validateObject(podDefinition, bound, component, object), [])
  assert.deepEqual(fields(validateObject(podDefinition, bound, tenantUser, object)), ['spec Forbidden'])
})

test('of a pod that exists only the image, deadline and tolerations can change', () => {
  const { object: old } = write(podDefinition, pod())
  const change = (spec: object) =>
    write(podDefinition, { ...pod(spec), metadata: { ...old.metadata } }, tenantUser, old).problems
  assert.deepEqual(change({}), [])
  assert.deepEqual(change({ containers: [{ name: 'web', image: 'nginx:2', imagePullPolicy: 'Always' }] }), [])
  assert.deepEqual(change({ activeDeadlineSeconds: 5, tolerations: [{ operator: 'Exists' }] }), [])
  assert.deepEqual(fields(change({ containers: [{ name: 'web', image: 'nginx', command: ['x'] }] })), [
    'spec Forbidden',
  ])
  assert.deepEqual(
    fields(
      change({
        containers: [
          { name: 'web', image: 'nginx' },
          { name: 'b', image: 'b' },
        ],
      }),
    ),
    ['spec.containers Forbidden'],
  )
})

test('a selector must fit the template, and cannot change', () => {
  const { object: old } = write(deploymentDefinition, deployment())
  assert.deepEqual(
    fields(write(deploymentDefinition, deployment({ template: template({}, { app: 'other' }) })).problems),
    ['spec.template.metadata.labels Invalid'],
  )
  assert.deepEqual(fields(write(deploymentDefinition, deployment({ selector: {} })).problems), [
    'spec.selector Invalid',
  ])
  assert.deepEqual(lines(write(deploymentDefinition, { metadata: { name: 'web' } }).problems).sort(), [
    'spec.selector: Required value',
    'spec.template: Required value',
  ])
  const other = { selector: { matchLabels: { app: 'b' } }, template: template({}, { app: 'b' }) }
  const { problems } = write(
    deploymentDefinition,
    { ...deployment(other), metadata: old.metadata },
    tenantUser,
    old,
  )
  assert.deepEqual(lines(problems), [
    'spec.selector: Invalid value: {"matchLabels":{"app":"b"}}: field is immutable',
  ])
})

test('services: names, ports and addresses', () => {
  const service = (spec: object, name = 'web') =>
    fields(write(serviceDefinition, { metadata: { name }, spec }).problems)
  assert.deepEqual(service({ clusterIP: 'None', selector: { a: 'b' } }), [])
  assert.deepEqual(service({ type: 'ExternalName', externalName: 'example.com' }), [])
  assert.deepEqual(service({ ports: [{ port: 80 }] }, '1web'), [])
  assert.deepEqual(service({ ports: [{ port: 80 }] }, '-web'), ['metadata.name Invalid'])
  assert.deepEqual(service({ ports: [{ port: 80 }] }, 'web.one'), ['metadata.name Invalid'])
  assert.deepEqual(service({}), ['spec.ports Required'])
  assert.deepEqual(service({ ports: [{ port: 1 }, { port: 2 }] }), [
    'spec.ports[0].name Required',
    'spec.ports[1].name Required',
  ])
  assert.deepEqual(
    service({
      type: 'NodePort',
      externalIPs: ['1.2.3.4'],
      ports: [{ port: 80, nodePort: 30_000 }],
    }).sort(),
    ['spec.externalIPs Forbidden', 'spec.ports[0].nodePort Forbidden', 'spec.type Forbidden'],
  )
  const balanced = { type: 'LoadBalancer', ports: [{ port: 9000 }] }
  assert.deepEqual(service({ ...balanced, loadBalancerSourceRanges: ['203.0.113.0/24'] }), [])
  assert.deepEqual(service({ ...balanced, loadBalancerSourceRanges: ['everybody'] }), [
    'spec.loadBalancerSourceRanges[0] Invalid',
  ])
  assert.deepEqual(service({ ports: [{ port: 80 }], loadBalancerSourceRanges: ['203.0.113.0/24'] }), [
    'spec.loadBalancerSourceRanges Forbidden',
  ])
  assert.deepEqual(service({ type: 'LoadBalancer', ports: [{ port: 53, protocol: 'UDP' }] }), [])
  assert.deepEqual(service({ type: 'LoadBalancer', ports: [{ port: 53, protocol: 'SCTP' }] }), [
    'spec.ports[0].protocol Forbidden',
  ])
  const { object: old } = write(serviceDefinition, {
    metadata: { name: 'web' },
    spec: { clusterIP: '10.0.0.1', ports: [{ port: 80 }] },
  })
  const changed = { metadata: old.metadata, spec: { clusterIP: '10.0.0.2', ports: [{ port: 80 }] } }
  assert.deepEqual(fields(write(serviceDefinition, changed, tenantUser, old).problems), [
    'spec.clusterIPs[0] Invalid',
  ])
})

test('secrets: plain text goes into data, immutable ones stay, tokens that never end are refused', () => {
  const { object, problems } = write(secretDefinition, {
    metadata: { name: 's' },
    data: { a: 'YQ==', b: 'YQ==' },
    stringData: { b: 'ü' },
    immutable: true,
  })
  assert.deepEqual(problems, [])
  assert.deepEqual(
    [object['data'], object['type'], 'stringData' in object],
    [{ a: 'YQ==', b: 'w7w=' }, 'Opaque', false],
  )
  const changed = { metadata: object.metadata, data: { a: 'YQ==' }, immutable: true, type: 'other' }
  assert.deepEqual(fields(write(secretDefinition, changed, tenantUser, object).problems), [
    'type Invalid',
    'data Forbidden',
  ])
  const token = { metadata: { name: 's' }, type: 'kubernetes.io/service-account-token' }
  assert.deepEqual(fields(write(secretDefinition, token).problems), ['type Forbidden'])
  const tls = { metadata: { name: 's' }, type: 'kubernetes.io/tls' }
  assert.deepEqual(fields(write(secretDefinition, tls).problems), [
    'data[tls.crt] Required',
    'data[tls.key] Required',
  ])
})

test('a job gets a selector of its own, and cannot name another', () => {
  const kind = tenantRegistry.find({ group: 'batch', resource: 'jobs' })
  assert.ok(kind)
  const job = (spec: object = {}) => ({
    metadata: { name: 'j' },
    spec: { template: template({ restartPolicy: 'Never' }, {}), ...spec },
  })
  const { object, problems } = write(kind, job())
  assert.deepEqual(problems, [])
  const { spec } = object as unknown as {
    spec: { selector: unknown; template: { metadata: { labels: unknown } } }
  }
  assert.deepEqual(spec.selector, { matchLabels: { 'batch.kubernetes.io/controller-uid': 'u' } })
  assert.deepEqual(spec.template.metadata.labels, {
    'batch.kubernetes.io/controller-uid': 'u',
    'controller-uid': 'u',
    'batch.kubernetes.io/job-name': 'j',
    'job-name': 'j',
  })
  assert.deepEqual(fields(write(kind, job({ selector: { matchLabels: { a: 'b' } } })).problems).sort(), [
    'spec.selector Invalid',
    'spec.template.metadata.labels Invalid',
  ])
  assert.deepEqual(fields(write(kind, job({ template: template({}, {}) })).problems), [
    'spec.template.spec.restartPolicy Required',
  ])
  assert.deepEqual(fields(write(kind, job({ completionMode: 'Indexed', parallelism: 2 })).problems), [
    'spec.completions Required',
  ])
  const problemsOf = (spec: object) => fields(write(kind, job(spec)).problems)
  const indexed = { completionMode: 'Indexed', completions: 5 }
  const exit = (values: number[]) => ({ onExitCodes: { operator: 'In', values } })
  const rules = (...list: object[]) => ({ podFailurePolicy: { rules: list } })
  const success = (...list: object[]) => ({ ...indexed, successPolicy: { rules: list } })
  const at = 'spec.podFailurePolicy.rules[0]'
  assert.deepEqual(problemsOf(rules({ action: 'FailJob', ...exit([1, 2]) })), [])
  const wrong: [object, string[]][] = [
    [rules({ action: 'FailIndex', ...exit([1]) }), [`${at}.action Invalid`]],
    [rules({ action: 'Ignore' }), [`${at} Invalid`]],
    [rules({ action: 'Count', ...exit([1]), onPodConditions: [{ type: 'Ready' }] }), [`${at} Invalid`]],
    [rules({ action: 'Count', ...exit([]) }), [`${at}.onExitCodes.values Invalid`]],
    [rules({ action: 'Count', ...exit([0]) }), [`${at}.onExitCodes.values[0] Invalid`]],
    [rules({ action: 'Count', ...exit([2, 1]) }), [`${at}.onExitCodes.values Invalid`]],
    [
      rules({ action: 'Count', onExitCodes: { containerName: 'no', operator: 'In', values: [1] } }),
      [`${at}.onExitCodes.containerName Invalid`],
    ],
    [
      rules(...Array.from({ length: 21 }, () => ({ action: 'Count', ...exit([1]) }))),
      ['spec.podFailurePolicy.rules TooMany'],
    ],
    [{ ...rules(), podReplacementPolicy: 'TerminatingOrFailed' }, ['spec.podReplacementPolicy Invalid']],
    [{ backoffLimitPerIndex: 1 }, ['spec.backoffLimitPerIndex Invalid']],
    [{ ...indexed, maxFailedIndexes: 1 }, ['spec.backoffLimitPerIndex Required']],
    [{ ...indexed, backoffLimitPerIndex: 1, maxFailedIndexes: 6 }, ['spec.maxFailedIndexes Invalid']],
    [success(), ['spec.successPolicy.rules Required']],
    [success({}), ['spec.successPolicy.rules[0] Required']],
    [success({ succeededIndexes: '0-5' }), ['spec.successPolicy.rules[0].succeededIndexes Invalid']],
    [success({ succeededIndexes: '2,1' }), ['spec.successPolicy.rules[0].succeededIndexes Invalid']],
    [success({ succeededIndexes: 'a' }), ['spec.successPolicy.rules[0].succeededIndexes Invalid']],
    [
      success({ succeededIndexes: '0,2', succeededCount: 3 }),
      ['spec.successPolicy.rules[0].succeededCount Invalid'],
    ],
    [{ successPolicy: { rules: [{ succeededCount: 1 }] }, completions: 1 }, ['spec.successPolicy Invalid']],
    [{ managedBy: 'me' }, ['spec.managedBy Invalid']],
    [{ managedBy: `a.b/${'x'.repeat(60)}` }, ['spec.managedBy TooLong']],
  ]
  for (const [spec, expected] of wrong) assert.deepEqual(problemsOf(spec), expected, JSON.stringify(spec))
  assert.deepEqual(problemsOf({ ...indexed, managedBy: 'example.com/mine', backoffLimitPerIndex: 1 }), [])
})

test('metadata: names, labels, annotations, owners and finalizers are checked', () => {
  const metadata: JsonValue = {
    name: 'Bad',
    labels: { 'a b': 'x', ok: '-x' },
    annotations: { '/x': 'y', big: 'x'.repeat(300_000) },
    finalizers: ['nobody'],
    ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: '', uid: 'u' }],
  }
  const { problems } = write(secretDefinition, { metadata })
  assert.deepEqual(fields(problems), [
    'metadata.name Invalid',
    'metadata.labels Invalid',
    'metadata.labels Invalid',
    'metadata.annotations Invalid',
    'metadata.annotations TooLong',
    'metadata.ownerReferences[0].name Required',
    'metadata.finalizers[0] Invalid',
  ])
})
