import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { ApiError, HARMLESS_CAPABILITIES, parseTenantName } from '../api/index.ts'
import type { Jail, JailContainer, JailEnv, JailHandler, JailProbe } from './jail.ts'
import { parseJail } from './parse-jail.ts'
import type { ClaimId, JailId } from './uid.ts'

const red = parseTenantName('red')
const ID = '0b5b7c1e-6d0f-4c39-9d1e-2f8f6f3c9a10' as JailId

function container(over: Partial<JailContainer> = {}): JailContainer {
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

function jail(over: Partial<Jail> = {}): Jail {
  return {
    id: ID,
    tenant: red,
    namespace: 'default',
    pod: 'web-0',
    hostname: 'web-0',
    runtime: 'runc',
    restartPolicy: 'Always',
    terminationGracePeriodSeconds: 30,
    initContainers: [],
    containers: [container()],
    volumes: [],
    dns: { searches: ['default.svc.cluster.local'], options: ['ndots:5'] },
    hostAliases: [],
    ...over,
  }
}

/** fast-check's records have no prototype, what JSON.parse makes has one. */
function throughJson(over: Partial<Jail>): Jail {
  return JSON.parse(JSON.stringify(jail(over))) as Jail
}

/** The fields that a refusal names. */
function refusedFields(value: unknown): string[] {
  try {
    parseJail(value, { tenant: red })
  } catch (error) {
    assert(error instanceof ApiError)
    assert.equal(error.code, 422)
    return (error.details?.causes ?? []).map((c) => c.field ?? '')
  }
  return []
}

const label = fc.stringMatching(/^[a-z]([a-z0-9-]{0,8}[a-z0-9])?$/)
const noNul = fc.string({ unit: 'binary', maxLength: 20 }).filter((s) => !s.includes('\0'))
const segment = fc.stringMatching(/^[A-Za-z_][A-Za-z0-9._-]{0,8}$/)
const relative = fc.array(segment, { minLength: 1, maxLength: 3 }).map((s) => s.join('/'))
const arguments_ = fc.array(noNul, { maxLength: 4 })
const exec = fc.record({
  kind: fc.constant('exec' as const),
  command: fc.array(noNul, { minLength: 1, maxLength: 3 }),
})
const httpGet = fc.record({
  kind: fc.constant('httpGet' as const),
  port: fc.integer({ min: 1, max: 65_535 }),
  path: relative.map((p) => `/${p}?x=1`),
  scheme: fc.constantFrom('HTTP' as const, 'HTTPS' as const),
  headers: fc.array(
    fc.record({ name: fc.constantFrom('Host', 'X-A'), value: fc.stringMatching(/^[ -~]{0,9}$/) }),
    { maxLength: 2 },
  ),
})
const tcpSocket = fc.record({
  kind: fc.constant('tcpSocket' as const),
  port: fc.integer({ min: 1, max: 65_535 }),
})
const handler: fc.Arbitrary<JailHandler> = fc.oneof(
  exec,
  httpGet,
  tcpSocket,
  fc.record({ kind: fc.constant('sleep' as const), seconds: fc.nat(99) }),
)
const probe: fc.Arbitrary<JailProbe> = fc.record({
  handler: fc.oneof(
    exec,
    httpGet,
    tcpSocket,
    fc.record({
      kind: fc.constant('grpc' as const),
      port: fc.integer({ min: 1, max: 65_535 }),
      service: noNul,
    }),
  ),
  initialDelaySeconds: fc.nat(99),
  timeoutSeconds: fc.integer({ min: 1, max: 99 }),
  periodSeconds: fc.integer({ min: 1, max: 99 }),
  successThreshold: fc.constant(1),
  failureThreshold: fc.integer({ min: 1, max: 99 }),
})
const env: fc.Arbitrary<JailEnv> = fc.oneof(
  fc.record({ name: fc.stringMatching(/^[A-Z_.-]{1,9}$/), value: noNul }),
  fc.record({
    name: fc.constant('POD_IP'),
    fromPod: fc.constantFrom('podIP' as const, 'podIPs' as const, 'hostIP' as const),
  }),
)
const containers = fc
  .uniqueArray(label, { minLength: 1, maxLength: 3 })
  .chain((names) => fc.tuple(...names.map((name) => containerNamed(name))))

function containerNamed(name: string): fc.Arbitrary<JailContainer> {
  return fc
    .record(
      {
        command: arguments_,
        args: arguments_,
        workingDir: relative.map((p) => `/${p}`),
        runAsUser: fc.nat(65_535),
        runAsGroup: fc.nat(65_535),
        capabilities: fc.subarray([...HARMLESS_CAPABILITIES]),
        livenessProbe: probe,
        readinessProbe: probe,
        startupProbe: probe,
        env: fc.array(env, { maxLength: 3 }),
        lifecycle: fc.record({ postStart: handler, preStop: handler }, { requiredKeys: [] }),
        resources: fc.record(
          {
            cpuMillisRequest: fc.nat(100),
            cpuMillisLimit: fc.integer({ min: 100, max: 200 }),
            memoryBytesRequest: fc.nat(1_000),
            memoryBytesLimit: fc.integer({ min: 1_000, max: 2 ** 49 }),
          },
          { requiredKeys: ['cpuMillisRequest', 'memoryBytesRequest'] },
        ),
        mounts: fc
          .uniqueArray(relative, { maxLength: 2 })
          .map((paths) => paths.map((p) => ({ volume: 'files', mountPath: `/m/${p}`, readOnly: true }))),
        ports: fc.array(
          fc.record({
            containerPort: fc.integer({ min: 1, max: 65_535 }),
            protocol: fc.constantFrom('TCP' as const, 'UDP' as const),
          }),
          { maxLength: 2 },
        ),
        supplementalGroups: fc.array(fc.nat(65_535), { maxLength: 3 }),
        tty: fc.boolean(),
      },
      { requiredKeys: ['env', 'lifecycle', 'resources', 'mounts', 'ports', 'supplementalGroups', 'tty'] },
    )
    .map((over) => container({ name, ...over }))
}

const jails: fc.Arbitrary<Jail> = fc
  .record(
    {
      containers,
      subdomain: label,
      activeDeadlineSeconds: fc.integer({ min: 1, max: 99 }),
      fsGroup: fc.nat(65_535),
      bandwidth: fc.record(
        {
          ingressBitsPerSecond: fc.integer({ min: 1_000, max: 1e15 }),
          egressBitsPerSecond: fc.integer({ min: 1_000, max: 1e15 }),
        },
        { requiredKeys: [] },
      ),
      restartPolicy: fc.constantFrom('Always' as const, 'OnFailure' as const, 'Never' as const),
      runtime: fc.constantFrom('runc' as const, 'gvisor' as const),
      content: fc.uint8Array({ maxLength: 40 }),
      hostAliases: fc.array(
        fc.record({ ip: fc.ipV4(), hostnames: fc.array(label, { minLength: 1, maxLength: 2 }) }),
        { maxLength: 2 },
      ),
    },
    { requiredKeys: ['containers', 'restartPolicy', 'runtime', 'content', 'hostAliases'] },
  )
  .map(({ content, ...over }) =>
    throughJson({
      ...over,
      volumes: [
        {
          name: 'files',
          kind: 'files',
          files: [{ path: 'a/b', mode: 0o644, contentBase64: Buffer.from(content).toString('base64') }],
        },
        { name: 'scratch', kind: 'scratch', medium: 'memory', sizeBytesMax: 1_024 },
        { name: 'kept', kind: 'claim', claim: ID as string as ClaimId, readOnly: false },
      ],
    }),
  )

test('a valid jail comes out of its JSON as it went in', () => {
  fc.assert(
    fc.property(jails, (valid) => {
      assert.deepEqual(parseJail(JSON.parse(JSON.stringify(valid)), { tenant: red }), valid)
    }),
  )
})

test('no capability that reaches past the user namespace can be written down', () => {
  for (const capabilities of [
    ['SYS_ADMIN'],
    ['NET_RAW'],
    ['CAP_CHOWN'],
    ['ALL'],
    ['chown'],
    ['CHOWN', 'CHOWN'],
    'CHOWN',
    { CHOWN: true },
    [['CHOWN']],
    Array.from({ length: 12 }, () => 'CHOWN'),
  ])
    assert.notDeepEqual(
      refusedFields({ ...jail(), containers: [{ ...container(), capabilities }] }),
      [],
      JSON.stringify(capabilities),
    )
})

/** Every place in a JSON document, as a function that puts something else there. */
function places(value: unknown, set: (replacement: unknown) => void): ((replacement: unknown) => void)[] {
  if (typeof value !== 'object' || value === null) return [set]
  return [
    set,
    ...Object.keys(value).flatMap((key) => {
      const record = value as Record<string, unknown>
      return places(record[key], (replacement) => void (record[key] = replacement))
    }),
  ]
}

test('a jail with one part replaced by anything is refused with an ApiError or still has known fields only', () => {
  fc.assert(
    fc.property(
      jails,
      fc.nat(),
      fc.oneof(
        fc.jsonValue(),
        fc.constantFrom<unknown>(
          NaN,
          -0,
          1e300,
          '../x',
          '/..',
          'a\0b',
          '\ud800',
          { __proto__: null, kind: 'exec' },
          JSON.parse('{"__proto__": {"a": 1}}'),
        ),
      ),
      (valid, at, replacement) => {
        const document = { root: structuredClone(valid) as unknown }
        const all = places(document.root, (r) => void (document.root = r))
        all[at % all.length]!(replacement) // The index is within the list by the modulo.
        let parsed: Jail
        try {
          parsed = parseJail(document.root, { tenant: red })
        } catch (error) {
          assert(error instanceof ApiError, String(error))
          assert.equal(error.code, 422)
          assert((error.details?.causes?.length ?? 0) > 0)
          return
        }
        // What was accepted parses to itself, so nothing was added, dropped or reinterpreted on the way.
        assert.deepEqual(parseJail(structuredClone(parsed), { tenant: red }), parsed)
        assert.equal(JSON.stringify(sorted(parsed)), JSON.stringify(sorted(document.root)))
      },
    ),
    { numRuns: 500 },
  )
})

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return Object.fromEntries(entries.map(([k, v]) => [k, sorted(v)]))
}

test('any JSON at all is refused with an ApiError, never with another error', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 6 }), (value) => {
      assert.throws(() => parseJail(value, { tenant: red }), ApiError)
    }),
  )
})

test('a jail that names another tenant is refused', () => {
  assert.deepEqual(refusedFields(jail({ tenant: parseTenantName('blue') })), ['tenant'])
})

test('every field that would make a pod dangerous is unknown', () => {
  const dangerous = [
    'privileged',
    'hostNetwork',
    'hostPID',
    'capabilities',
    'seccompProfile',
    'devices',
    '__proto__',
    'constructor',
  ]
  const text = JSON.stringify(jail())
  for (const name of dangerous) {
    assert.deepEqual(refusedFields(JSON.parse(text.replace('{', `{"${name}":true,`))), [name])
    const inContainer = text.replace('{"name":"app"', `{"${name}":true,"name":"app"`)
    assert.deepEqual(refusedFields(JSON.parse(inContainer)), [`containers[0].${name}`])
  }
})

test('an id is the only lower-case RFC 9562 form', () => {
  for (const id of [
    '',
    '../../etc',
    ID.toUpperCase(),
    `${ID}\n`,
    `${ID}/..`,
    ID.replaceAll('-', ''),
    '00000000-0000-0000-0000-000000000000',
  ])
    assert.deepEqual(refusedFields({ ...jail(), id }), ['id'], id)
})

test('all problems are told at once', () => {
  const bad = jail({
    hostname: 'Not A Label',
    containers: [
      container({
        workingDir: '/a/../b',
        env: [{ name: 'A=B', value: '' }],
        mounts: [{ volume: 'v', mountPath: '/proc/sys', readOnly: true, subPath: '../up' }],
      }),
    ],
  })
  assert.deepEqual(refusedFields(bad), [
    'hostname',
    'containers[0].workingDir',
    'containers[0].env[0].name',
    'containers[0].mounts[0].mountPath',
    'containers[0].mounts[0].subPath',
  ])
})

test('paths that climb, lie in kernel trees or hide a link of the volume are refused', () => {
  const mounted = (mountPath: string) =>
    refusedFields(
      jail({
        volumes: [{ name: 'v', kind: 'scratch', medium: 'disk', sizeBytesMax: 1 }],
        containers: [container({ mounts: [{ volume: 'v', mountPath, readOnly: false }] })],
      }),
    ).length
  for (const path of [
    '/',
    'a',
    '/a/',
    '/a//b',
    '/a/./b',
    '/a/../b',
    '/..',
    '/proc',
    '/sys/fs',
    '/dev',
    '/dev/shm/x',
    '/a:b',
    '/a\0',
    `/${'x'.repeat(256)}`,
  ])
    assert.equal(mounted(path), 1, path)
  for (const path of ['/a', '/a/b', '/dev/shm', '/processes', '/..a', '/system'])
    assert.equal(mounted(path), 0, path)

  const filed = (...paths: string[]) =>
    refusedFields(
      jail({
        volumes: [
          {
            name: 'v',
            kind: 'files',
            files: paths.map((path) => ({ path, mode: 0o600, contentBase64: '' })),
          },
        ],
      }),
    ).length
  for (const path of ['', '/a', '../a', 'a/../b', '..data', 'a/..data', 'a/', 'a//b', '.', 'a\0b'])
    assert.equal(filed(path), 1, path)
  assert.equal(filed('a', 'a'), 1)
  assert.equal(filed('a', 'a/b'), 1)
  assert.equal(filed('.hidden', 'a.b/c', 'a/b'), 0)
})

test('line breaks cannot get into resolv.conf, /etc/hosts or an HTTP request', () => {
  assert.deepEqual(
    refusedFields(
      jail({
        dns: { searches: ['a\nnameserver 6.6.6.6'], nameservers: ['1.1.1.1\n'], options: ['ndots:5 rotate'] },
        hostAliases: [{ ip: '10.0.0.1', hostnames: ['a\n6.6.6.6 b'] }],
        containers: [
          container({
            livenessProbe: {
              handler: {
                kind: 'httpGet',
                port: 80,
                path: '/ HTTP/1.1',
                scheme: 'HTTP',
                headers: [{ name: 'A', value: 'b\r\nC: d' }],
              },
              initialDelaySeconds: 0,
              timeoutSeconds: 1,
              periodSeconds: 1,
              successThreshold: 1,
              failureThreshold: 1,
            },
          }),
        ],
      }),
    ),
    [
      'containers[0].livenessProbe.handler.path',
      'containers[0].livenessProbe.handler.headers[0].value',
      'dns.searches[0]',
      'dns.nameservers[0]',
      'dns.options[0]',
      'hostAliases[0].ip',
      'hostAliases[0].hostnames[0]',
    ].filter((f) => f !== 'hostAliases[0].ip'),
  )
})

test('names that are there twice and volumes that are not there are refused', () => {
  assert.deepEqual(
    refusedFields(
      jail({
        initContainers: [container()],
        volumes: [
          { name: 'v', kind: 'scratch', medium: 'disk', sizeBytesMax: 1 },
          { name: 'v', kind: 'scratch', medium: 'disk', sizeBytesMax: 1 },
        ],
        containers: [container({ mounts: [{ volume: 'w', mountPath: '/w', readOnly: true }] })],
      }),
    ),
    ['volumes[1].name', 'containers[0].name', 'containers[0].mounts[0].volume'],
  )
})

test('a list that is too long is refused before it is read', () => {
  const files = Array.from({ length: 5_000 }, (_, i) => ({ path: `f${i}`, mode: 0, contentBase64: '' }))
  assert.deepEqual(refusedFields(jail({ volumes: [{ name: 'v', kind: 'files', files }] })), [
    'volumes[0].files',
  ])
  const many = Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [`x${i}`, 1]))
  assert.equal(refusedFields({ ...jail(), ...many }).length, 64)
})

test('many files in many volumes, with which one jail could hold an engine up for long, are refused', () => {
  const files = Array.from({ length: 3_000 }, (_, i) => ({ path: `f${i}`, mode: 0, contentBase64: '' }))
  const volumes = ['a', 'b'].map((name) => ({ name, kind: 'files' as const, files }))
  assert.deepEqual(refusedFields(jail({ volumes: volumes.slice(1) })), [])
  assert.deepEqual(refusedFields(jail({ volumes })), ['volumes'])
})
