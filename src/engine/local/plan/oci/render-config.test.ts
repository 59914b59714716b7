import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { Jail, JailContainer, JailMount } from '../../../../jail/index.ts'
import type { OciConfig } from './config-types.ts'
import { ContainerError } from './container-error.ts'
import { type PostureExpected, postureProblem } from './posture.testkit.ts'
import { type ConfigInput, renderConfig, renderExecProcess, renderSandboxConfig } from './render-config.ts'
import { container, facts, input, jail, placement, RUN } from './sample-input.testkit.ts'

function golden(name: string): unknown {
  return JSON.parse(readFileSync(new URL(`testdata/${name}.json`, import.meta.url), 'utf8'))
}

for (const tool of ['crun', 'runc', 'runsc'] as const)
  test(`the whole configuration for ${tool} is the one a reviewer has read`, () => {
    assert.deepEqual(JSON.parse(JSON.stringify(renderConfig({ ...input, tool }))), golden(tool))
  })

test('the whole configuration of an empty sandbox is the one a reviewer has read', () => {
  const config = renderSandboxConfig({
    placement,
    jail,
    rootfs: `${RUN}/POD/c/ID/rootfs`,
    net: '/proc/1/fd/21',
    cgroupsPath: '/bulkhead/red/POD/ID',
    program: '/pause',
  })
  assert.deepEqual(JSON.parse(JSON.stringify(config)), golden('sandbox'))
})

test('crun gets the compiled filter instead of the profile, and the others never do', () => {
  const crun = renderConfig({ ...input, seccompProgramBase64: 'AAAA' })
  assert.equal(crun.annotations['run.oci.seccomp_bpf_data'], 'AAAA')
  assert.equal(crun.linux.seccomp, undefined)
  const runc = renderConfig({ ...input, tool: 'runc', seccompProgramBase64: 'AAAA' })
  assert.deepEqual(runc.annotations, {})
  assert.ok(runc.linux.seccomp)
})

test('a container keeps the capabilities that its jail names, and all harmless ones when it names none', () => {
  const held = (capabilities: unknown) => {
    // Whoever gets around the parser gets around the type as well.
    const hostile = { ...container, capabilities } as JailContainer
    const { bounding, effective, permitted } = renderConfig({ ...input, container: hostile }).process
      .capabilities
    assert.deepEqual([effective, permitted], [bounding, bounding])
    return bounding
  }
  assert.deepEqual(held([]), [])
  assert.deepEqual(held(['KILL']), ['CAP_KILL'])
  assert.deepEqual(held(['SYS_ADMIN', 'CAP_SYS_ADMIN', '__proto__', 'NET_RAW']), [])
  assert.equal(held(undefined).length, 11)
})

test('a member of a sandbox names it', () => {
  const config = renderConfig({ ...input, tool: 'runsc', sandboxId: 'f00d' })
  assert.deepEqual(config.annotations, {
    'io.kubernetes.cri.container-type': 'container',
    'io.kubernetes.cri.sandbox-id': 'f00d',
  })
})

test('an exec differs from the container only in command and terminal', () => {
  const { process } = renderConfig(input)
  assert.deepEqual(renderExecProcess(process, ['ls'], { tty: true }), {
    ...process,
    args: ['ls'],
    terminal: true,
    env: [...process.env, 'TERM=xterm'],
  })
  assert.equal(renderExecProcess(process, ['ls'], { tty: false }).noNewPrivileges, true)
})

for (const mountPath of [
  '/',
  '/proc',
  '/proc/sys',
  '/sys/fs/cgroup',
  '/dev',
  '/dev/null',
  '/a/../proc',
  'etc',
  '/a\0b',
])
  test(`a volume cannot be mounted at ${JSON.stringify(mountPath)}`, () => {
    const hostile = { ...container, mounts: [{ volume: 'data', mountPath, readOnly: false }] }
    assert.throws(() => renderConfig({ ...input, container: hostile }), ContainerError)
  })

test('files volumes are read-only even when the jail says otherwise', () => {
  const mount = renderConfig(input).mounts.find((m) => m.destination === '/etc/web')
  assert.ok(mount?.options.includes('ro'))
})

test('a last word at the path of a file of ours takes its place', () => {
  const own = { ...container, terminationMessagePath: '//etc/hosts' }
  const hosts = renderConfig({ ...input, container: own }).mounts.filter(
    (m) => m.destination === '/etc/hosts',
  )
  assert.deepEqual(
    hosts.map((m) => m.source),
    [input.sources.terminationLog],
  )
})

for (const terminationMessagePath of ['/dev', '/dev/shm', '/dev/pts/', '/proc/self', '/sys'])
  test(`a last word cannot be left at ${terminationMessagePath}`, () => {
    assert.throws(
      () => renderConfig({ ...input, container: { ...container, terminationMessagePath } }),
      ContainerError,
    )
  })

test('a volume at the path of a file of ours takes its place, and nothing is mounted twice', () => {
  const own = { ...container, mounts: [{ volume: 'data', mountPath: '/etc/hosts', readOnly: false }] }
  const { mounts } = renderConfig({ ...input, container: own })
  const paths = mounts.map((m) => m.destination)
  assert.equal(new Set(paths).size, paths.length)
  assert.equal(mounts.find((m) => m.destination === '/etc/hosts')?.source, input.sources.volumes[0])
})

// --- whatever the jail, the posture ----------------------------------------------------------------------------------

const hostileText = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary' }),
  fc.constantFrom(
    '__proto__',
    '..',
    '../../etc',
    '/proc/self',
    '/dev/sda',
    '/',
    'a=b',
    '$(POD_IP)',
    '\0',
    '/dev/shm',
  ),
  fc
    .array(fc.constantFrom('..', '.', '', 'proc', 'sys', 'dev', 'etc', 'x'), { maxLength: 6 })
    .map((s) => `/${s.join('/')}`),
)
const hostileNumber = fc.oneof(
  fc.integer(),
  fc.double(),
  fc.constantFrom(0, -1, 65_535, 65_536, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53),
)
const hostileMount: fc.Arbitrary<JailMount> = fc.record(
  {
    volume: fc.oneof(fc.constantFrom('config', 'data'), hostileText),
    mountPath: hostileText,
    readOnly: fc.boolean(),
    subPath: hostileText,
  },
  { requiredKeys: ['volume', 'mountPath', 'readOnly'] },
)
const hostileContainer: fc.Arbitrary<JailContainer> = fc.record({
  name: hostileText,
  image: hostileText,
  imagePullPolicy: fc.constant('Always' as const),
  command: fc.array(hostileText, { maxLength: 3 }),
  args: fc.array(hostileText, { maxLength: 3 }),
  workingDir: hostileText,
  env: fc.array(
    fc.oneof(
      fc.record({ name: hostileText, value: hostileText }),
      fc.record({ name: hostileText, fromPod: fc.constantFrom('podIP' as const, 'hostIP' as const) }),
    ),
    { maxLength: 4 },
  ),
  supplementalGroups: fc.array(hostileNumber, { maxLength: 3 }),
  runAsNonRoot: fc.boolean(),
  readOnlyRootFilesystem: fc.boolean(),
  mounts: fc.array(hostileMount, { maxLength: 3 }),
  resources: fc.record({
    cpuMillisRequest: hostileNumber,
    cpuMillisLimit: hostileNumber,
    memoryBytesRequest: hostileNumber,
    memoryBytesLimit: hostileNumber,
  }),
  ports: fc.constant([]),
  lifecycle: fc.constant({}),
  terminationMessagePath: fc.oneof(fc.constant('/dev/termination-log'), hostileText),
  terminationMessagePolicy: fc.constant('File' as const),
  stdin: fc.boolean(),
  stdinOnce: fc.boolean(),
  tty: fc.boolean(),
})
/** Mostly valid, so that a good part of the inputs is rendered and not refused. */
const variation: fc.Arbitrary<JailContainer> = fc.oneof(
  hostileContainer,
  hostileContainer.map((hostile) => withOnly(hostile, ['command', 'args', 'env', 'tty', 'workingDir'])),
  hostileContainer.map((hostile) => withOnly(hostile, ['resources', 'terminationMessagePath'])),
  fc.array(hostileMount, { maxLength: 2 }).map((mounts): JailContainer => ({ ...container, mounts })),
)

function withOnly(hostile: JailContainer, keys: readonly (keyof JailContainer)[]): JailContainer {
  return { ...container, ...Object.fromEntries(keys.map((key) => [key, hostile[key]])) }
}

const hostileInput: fc.Arbitrary<ConfigInput> = fc
  .record({
    tool: fc.constantFrom('crun' as const, 'runc' as const, 'runsc' as const),
    container: variation,
    hostname: hostileText,
    program: fc.option(fc.constant('AAAA'), { nil: undefined }),
  })
  .map(({ tool, container, hostname, program }) => {
    const hostile: Jail = { ...jail, hostname, containers: [container] }
    return {
      ...input,
      tool,
      jail: hostile,
      container,
      sources: { ...input.sources, volumes: container.mounts.map((_, i) => `${RUN}/POD/volumes/${i}`) },
      ...(program === undefined ? {} : { seccompProgramBase64: program }),
    }
  })

function expectedOf({ tool, sources, seccompProgramBase64, container }: ConfigInput): PostureExpected {
  const { volumes, ...files } = sources
  return {
    tool,
    podUidBase: 0x1003_0000,
    namespaces: input.namespaces,
    sources: new Set([...Object.values(files), ...volumes]),
    rootfs: `${RUN}/POD/c/ID/rootfs`,
    cgroupsPath: '/bulkhead/red/POD/ID',
    openFilesMax: facts.openFilesMax,
    filterProgram: seccompProgramBase64,
    terminationMessagePath: container.terminationMessagePath,
  }
}

test('whatever a jail says, its configuration stays within the posture or is refused', () => {
  let rendered = 0
  fc.assert(
    fc.property(hostileInput, (hostile) => {
      let config: OciConfig
      try {
        config = renderConfig(hostile)
      } catch (error) {
        assert.ok(error instanceof ContainerError, String(error))
        return
      }
      rendered++
      assert.equal(postureProblem(config, expectedOf(hostile)), undefined)
    }),
    { numRuns: 2_000 },
  )
  assert.ok(rendered > 200, `only ${rendered} of the inputs were rendered`)
})
