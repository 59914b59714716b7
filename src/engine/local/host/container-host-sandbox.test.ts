import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, before, beforeEach, describe, test } from 'node:test'
import type { JailContainer, JailVolume } from '../../../jail/index.ts'
import { until } from '../../../stdx/index.ts'
import type { ContainerHost, ObservedContainer } from '../parts.ts'
import {
  collect,
  makeContainer,
  openHost,
  send,
  SET_ID_ATTEMPT,
  SET_ID_REFUSED,
  setIdLayer,
  TestHost,
  type TestPod,
  whyNoContainers,
} from './container-host.testkit.ts'

let signal: AbortSignal
beforeEach(() => {
  signal = AbortSignal.timeout(30_000)
})
const LOOP = 'trap "exit 42" TERM; echo ready; while true; do usleep 50000; done'

const why = whyNoContainers() ?? (existsSync('/usr/bin/runsc') ? undefined : 'needs runsc')

describe('containers with gVisor', { skip: why ?? false }, () => {
  let machine: TestHost
  let host: ContainerHost
  before(async () => {
    machine = new TestHost('tctg', 4, ['runsc'])
    host = machine.host
    const { gvisor, runc } = await host.runtimes()
    assert.deepEqual({ ...gvisor, version: '' }, { available: true, version: '' })
    assert.equal(runc.available, false)
  })
  after(async () => machine[Symbol.asyncDispose]())

  async function runIn(pod: TestPod, container: JailContainer, attempt = 0) {
    const { containerID } = await host.start(pod.spec(container, attempt), signal)
    const observed = await host.waitForExit(pod.jail.id, containerID, signal)
    const output = await text(await host.logs(pod.jail.id, container.name, attempt, {}, signal))
    return { containerID, output, ...ended(observed) }
  }

  function ended({ state }: ObservedContainer) {
    assert.equal(state.kind, 'exited')
    return {
      exitCode: state.kind === 'exited' ? state.exitCode : -1,
      oomKilled: state.kind === 'exited' && state.oomKilled,
    }
  }

  test('a tenant’s class demands a sandbox, whatever the jail says', async () => {
    const container = makeContainer('main', 'uname -r; echo err >&2; exit 9')
    const pod = await machine.pod([container], { isolationClass: 'sandboxed', runtime: 'runc' })
    const { containerID, output, exitCode } = await runIn(pod, container)
    assert.match(containerID, /^runsc:/)
    assert.deepEqual({ output, exitCode }, { output: '4.4.0\nerr\n', exitCode: 9 })
  })

  test('a jail of a trusted tenant may ask for a sandbox, and gets it or an error', async () => {
    const container = makeContainer('main', 'true')
    const pod = await machine.pod([container], { runtime: 'gvisor' })
    assert.equal((await runIn(pod, container)).exitCode, 0)
    const weaker = await machine.pod([container], { runtime: 'runc' })
    await assert.rejects(host.start(weaker.spec(container), signal), { reason: 'CreatePodSandboxError' })
  })

  test('the sentry runs as the tenant’s root, in namespaces of its own, in the pod’s cgroup', async () => {
    const container = makeContainer('main', LOOP)
    const pod = await machine.pod([container], { runtime: 'gvisor', tenant: 1 })
    const { state } = await host.start(pod.spec(container), signal)
    assert.equal(state.kind, 'running')
    const proc = `/proc/${state.kind === 'running' ? state.pid : 0}`
    const base = pod.placement.podUidBase
    assert.match(readFileSync(`${proc}/uid_map`, 'utf8'), new RegExp(`^\\s*0\\s+${base}\\s+65536\\n$`))
    const status = readFileSync(`${proc}/status`, 'utf8')
    assert.match(status, new RegExp(`^Uid:\\t${base}\\t`, 'm'))
    assert.match(status, /^NoNewPrivs:\t1$/m)
    assert.match(status, /^Seccomp:\t2$/m)
    assert.match(
      readFileSync(`${proc}/cgroup`, 'utf8'),
      new RegExp(`/${machine.layout.cgroup}/t1/${pod.jail.id}/`),
    )
  })

  test('commands run inside with exit codes, streams and terminals', async () => {
    const container = makeContainer('main', LOOP)
    const pod = await machine.pod([container], { runtime: 'gvisor' })
    const { containerID } = await host.start(pod.spec(container), signal)
    const id = pod.jail.id
    assert.deepEqual(await host.run(id, containerID, ['sh', '-c', 'uname -r; exit 3'], 10_000), {
      exitCode: 3,
      output: '4.4.0\n',
    })
    assert.deepEqual(await host.run(id, containerID, ['sleep', '1000'], 300), {
      exitCode: -1,
      output: 'command timed out after 300 ms',
    })
    await until(async () => !(await host.run(id, containerID, ['ps'], 10_000)).output.includes('sleep 1000'))
    const missing = await host.run(id, containerID, ['nothing'], 10_000)
    assert.deepEqual(missing, { exitCode: -1, output: 'exec: "nothing": executable file not found in $PATH' })
    const session = await host.exec(
      id,
      containerID,
      {
        command: ['sh', '-c', 'wc -c; echo err >&2; exit 5'],
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
      },
      signal,
    )
    send(session, 'stdin', 'x'.repeat(100_000))
    send(session, 'close', Buffer.from([0]))
    const { stdout, stderr, status } = await collect(session)
    assert.deepEqual([stdout, stderr], ['100000\n', 'err\n'])
    assert.match(JSON.stringify(status), /"ExitCode","message":"5"/)
    const terminal = await host.exec(
      id,
      containerID,
      { command: ['sh'], stdin: true, stdout: true, stderr: false, tty: true },
      signal,
    )
    const shown = collect(terminal)
    send(terminal, 'resize', '{"Width":99,"Height":33}')
    send(terminal, 'stdin', 'until stty size | grep -q "33 99"; do :; done; exit 4\n')
    assert.match(JSON.stringify((await shown).status), /"ExitCode","message":"4"/)
  })

  test('containers of one pod share the network and nothing else, and come and go', async () => {
    const first = makeContainer('first', LOOP)
    const second = makeContainer('second', 'ps; hostname; ip addr | grep -c 127.0.0.1; exit 9')
    const pod = await machine.pod([first, second], { runtime: 'gvisor' })
    const { containerID } = await host.start(pod.spec(first), signal)
    for (const attempt of [0, 1]) {
      const { exitCode, output } = await runIn(pod, second, attempt)
      assert.equal(exitCode, 9)
      assert.doesNotMatch(output, /trap/)
      assert.match(output, /\npod\n1\n$/)
    }
    assert.equal((await host.run(pod.jail.id, containerID, ['echo', 'there'], 10_000)).output, 'there\n')
    const observed = (await host.observe()).find(({ jail }) => jail === pod.jail.id)?.containers ?? []
    assert.deepEqual(observed.map((c) => `${c.name}/${c.attempt} ${c.state.kind}`).sort(), [
      'first/0 running',
      'second/0 exited',
      'second/1 exited',
    ])
    await host.signal(pod.jail.id, containerID, 'SIGTERM')
    assert.equal(ended(await host.waitForExit(pod.jail.id, containerID, signal)).exitCode, 42)
  })

  test('a member that cannot be started is told apart from one that ended', async () => {
    const first = makeContainer('first', LOOP)
    const second = makeContainer('second', '', { command: ['/nowhere'] })
    const pod = await machine.pod([first, second], { runtime: 'gvisor' })
    await host.start(pod.spec(first), signal)
    await assert.rejects(host.start(pod.spec(second), signal), {
      reason: 'RunContainerError',
      message: 'exec: "/nowhere": no such file or directory',
    })
  })

  test('a fresh network gets a fresh sandbox', async () => {
    const first = makeContainer('first', LOOP)
    const second = makeContainer('second', LOOP)
    const pod = await machine.pod([first, second], { runtime: 'gvisor' })
    const { containerID } = await host.start(pod.spec(first), signal)
    await host.signal(pod.jail.id, containerID, 'SIGKILL')
    assert.equal(ended(await host.waitForExit(pod.jail.id, containerID, signal)).exitCode, 137)
    const namespaces = await machine.namespaces(pod.placement.podUidBase)
    const { state } = await host.start({ ...pod.spec(first, 1), namespaces }, signal)
    assert.equal(state.kind, 'running')
    await host.start({ ...pod.spec(second), namespaces }, signal)
    await host.removePod(pod.jail.id)
    assert.ok(!existsSync(join(machine.layout.runDir, 'containers', pod.jail.id)))
  })

  test('a memory limit ends the container, and the end says so', async () => {
    const resources = { cpuMillisRequest: 0, memoryBytesRequest: 0, memoryBytesLimit: 32 * 2 ** 20 }
    const container = makeContainer('main', 'exec tail /dev/zero', { resources })
    const pod = await machine.pod([container], { runtime: 'gvisor' })
    const { exitCode, oomKilled } = await runIn(pod, container)
    assert.deepEqual({ exitCode, oomKilled }, { exitCode: 137, oomKilled: true })
  })

  test('a set-user-id program makes nobody root, there are no core files, and the sandbox is killed before us', async () => {
    const container = makeContainer(
      'main',
      `${SET_ID_ATTEMPT}; ulimit -Hc; ulimit -c unlimited 2>/dev/null; ulimit -c`,
      {
        runAsUser: 1000,
      },
    )
    const pod = await machine.pod([container], { runtime: 'gvisor' })
    const layer = setIdLayer(machine.directory)
    const image = { ...pod.image, layers: [layer, ...pod.image.layers] }
    const { containerID } = await host.start({ ...pod.spec(container), image }, signal)
    await host.waitForExit(pod.jail.id, containerID, signal)
    const output = await text(await host.logs(pod.jail.id, 'main', 0, {}, signal))
    assert.ok(output.startsWith(SET_ID_REFUSED), output)
    const limits = output.slice(SET_ID_REFUSED.length).trim().split('\n')
    assert.ok(
      limits.every((blocks) => Number(blocks) <= 1),
      limits.join(' '),
    )
    const loop = makeContainer('main', 'while true; do usleep 50000; done', {
      resources: { cpuMillisRequest: 0, memoryBytesRequest: 0 },
    })
    const running = await machine.pod([loop], { runtime: 'gvisor' })
    const { state } = await host.start(running.spec(loop), signal)
    assert.ok(state.kind === 'running')
    assert.equal(readFileSync(`/proc/${state.pid}/oom_score_adj`, 'utf8').trim(), '1000')
    assert.match(readFileSync(`/proc/${state.pid}/limits`, 'utf8'), /^Max core file size +[01] /m)
  })

  test('volumes keep their promises in a sandbox', async () => {
    const volumes: JailVolume[] = [
      { name: 'disk', kind: 'scratch', medium: 'disk', sizeBytesMax: 2 ** 20 },
      {
        name: 'config',
        kind: 'files',
        files: [{ path: 'a', mode: 0o644, contentBase64: Buffer.from('one').toString('base64') }],
      },
    ]
    const mounts = [
      { volume: 'disk', mountPath: '/disk', readOnly: false },
      { volume: 'disk', mountPath: '/part', subPath: 'deep/part', readOnly: false },
      { volume: 'config', mountPath: '/config', readOnly: false },
    ]
    const container = makeContainer(
      'main',
      'echo x > /part/file; ls /disk/deep/part; cat /config/a; (echo y > /config/a) 2>/dev/null || echo no',
      { mounts },
    )
    const pod = await machine.pod([container], { runtime: 'gvisor', volumes })
    const { output } = await runIn(pod, container)
    assert.equal(output, 'file\noneno\n')
  })

  test('a sandbox, its logs and exit code survive the death of the agent that started it', async () => {
    for (const alone of [true, false]) {
      const container = makeContainer('main', LOOP.replace('exit 42', 'echo last; exit 42'))
      const pod = await machine.pod(alone ? [container] : [container, makeContainer('other', 'true')], {
        runtime: 'gvisor',
      })
      const agent = spawn(process.execPath, [join(import.meta.dirname, 'container-host.testagent.ts')], {
        stdio: ['pipe', 'pipe', 'inherit'],
      })
      agent.stdin.end(JSON.stringify({ layout: machine.layout, tools: ['runsc'], spec: pod.spec(container) }))
      const [line] = (await once(agent.stdout, 'data')) as [Buffer]
      const containerID = line.toString().trim()
      agent.kill('SIGKILL')
      await once(agent, 'exit')
      const next = openHost(machine.layout, ['runsc'])
      await until(async () =>
        (await text(await next.logs(pod.jail.id, 'main', 0, {}, signal))).startsWith('ready'),
      )
      await next.signal(pod.jail.id, containerID, 'SIGTERM')
      assert.equal(ended(await next.waitForExit(pod.jail.id, containerID, signal)).exitCode, 42)
      assert.equal(await text(await next.logs(pod.jail.id, 'main', 0, {}, signal)), 'ready\nlast\n')
      await next.removePod(pod.jail.id)
      assert.ok(!existsSync(join(machine.layout.runDir, 'containers', pod.jail.id)))
      assert.ok(!readFileSync('/proc/self/mountinfo', 'utf8').includes(pod.jail.id))
    }
  })
})
