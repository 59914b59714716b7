import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, before, beforeEach, describe, test } from 'node:test'
import type { JailContainer, JailVolume } from '../../../jail/index.ts'
import { createPodDisk } from './pod-disk.ts'
import { MiB, until } from '../../../stdx/index.ts'
import { observeDisk } from '../observe/disk-device.ts'
import type { ContainerHost, ObservedContainer } from '../parts.ts'
import { FIRST_THREAD_ENDS } from '../observe/processes.testkit.ts'
import {
  collect,
  makeContainer,
  openHost,
  send,
  TestHost,
  SET_ID_ATTEMPT,
  SET_ID_REFUSED,
  setIdLayer,
  type TestPod,
  whyNoContainers,
} from './container-host.testkit.ts'
import { renderElf } from './tiny-program.ts'

let signal: AbortSignal
beforeEach(() => {
  signal = AbortSignal.timeout(20_000)
})
const skip = whyNoContainers() ?? false
const LOOP = 'trap "exit 42" TERM; echo ready; while true; do usleep 50000; done'

type Exited = Extract<ObservedContainer['state'], { kind: 'exited' }>

for (const tool of ['crun', 'runc'] as const)
  describe(`containers with ${tool}`, { skip }, () => {
    let machine: TestHost
    let host: ContainerHost
    before(async () => {
      machine = new TestHost(tool === 'crun' ? 'tctr' : 'tctc', 4, [tool])
      host = machine.host
      const { runc } = await host.runtimes()
      assert.deepEqual({ ...runc, version: '' }, { available: true, version: '' })
    })
    after(async () => machine[Symbol.asyncDispose]())

    /** Runs one container to its end. */
    async function runToEnd(container: JailContainer, more: Parameters<TestHost['pod']>[1] = {}) {
      const pod = await machine.pod([container], more)
      return { pod, ...(await runIn(pod, container)) }
    }

    async function runIn(pod: TestPod, container: JailContainer, attempt = 0) {
      const { containerID } = await host.start(pod.spec(container, attempt), signal)
      const { state } = await host.waitForExit(pod.jail.id, containerID, signal)
      assert.equal(state.kind, 'exited')
      const output = await text(await host.logs(pod.jail.id, container.name, attempt, {}, signal))
      return { containerID, state: state as Exited, output }
    }

    async function startLoop(
      more: Parameters<TestHost['pod']>[1] = {},
      changes: Partial<JailContainer> = {},
    ) {
      const container = makeContainer('main', LOOP, changes)
      const pod = await machine.pod([container], more)
      const observed = await host.start(pod.spec(container), signal)
      assert.equal(observed.state.kind, 'running')
      assert.ok(observed.containerID.startsWith(`${tool}://`))
      return {
        pod,
        container,
        id: pod.jail.id,
        containerID: observed.containerID,
        state: observed.state as Extract<ObservedContainer['state'], { kind: 'running' }>,
      }
    }

    test('a container runs, writes, leaves a last word and ends with its own exit code', async () => {
      const container = makeContainer(
        'main',
        'echo out; echo err >&2; echo -n bye > /dev/termination-log; exit 7',
      )
      const { pod, state, output } = await runToEnd(container)
      assert.deepEqual(
        { exitCode: state.exitCode, oomKilled: state.oomKilled, output },
        { exitCode: 7, oomKilled: false, output: 'out\nerr\n' },
      )
      assert.equal(await host.terminationMessage(pod.jail.id, container, 0), 'bye')
    })

    test('the process seen from outside has what was promised and no more', async () => {
      const { state, pod } = await startLoop()
      const proc = `/proc/${state.pid}`
      const base = pod.placement.podUidBase
      const status = Object.fromEntries(
        readFileSync(`${proc}/status`, 'utf8')
          .split('\n')
          .map((line) => line.split(/:\s*/, 2) as [string, string]),
      )
      assert.match(readFileSync(`${proc}/uid_map`, 'utf8'), new RegExp(`^\\s*0\\s+${base}\\s+65536\\n$`))
      assert.match(readFileSync(`${proc}/gid_map`, 'utf8'), new RegExp(`^\\s*0\\s+${base}\\s+65536\\n$`))
      const { Uid, NoNewPrivs, Seccomp, Seccomp_filters, CapInh, CapAmb, CapBnd } = status
      assert.deepEqual(
        { Uid, NoNewPrivs, Seccomp, Seccomp_filters, CapInh, CapAmb, CapBnd },
        {
          Uid: [base, base, base, base].join('\t'),
          NoNewPrivs: '1',
          Seccomp: '2',
          // The one of its configuration, and the one that it inherits.
          Seccomp_filters: '2',
          CapInh: '0000000000000000',
          CapAmb: '0000000000000000',
          CapBnd: '00000000800405fb',
        },
      )
      for (const namespace of ['user', 'net', 'ipc', 'uts', 'pid', 'mnt', 'cgroup'])
        assert.notEqual(
          readlinkSync(`${proc}/ns/${namespace}`),
          readlinkSync(`/proc/self/ns/${namespace}`),
          namespace,
        )
      assert.equal(statSync(`${proc}/ns/net`).ino, statSync(pod.namespaces.net).ino)
      assert.match(
        readFileSync(`${proc}/cgroup`, 'utf8'),
        new RegExp(
          `pids:/${machine.layout.cgroup}/t0/${pod.jail.id}/|0::/${machine.layout.cgroup}/t0/${pod.jail.id}/`,
        ),
      )
      assert.ok(
        Number(readFileSync(`${proc}/oom_score_adj`, 'utf8')) >=
          Number(readFileSync('/proc/self/oom_score_adj', 'utf8')),
      )
    })

    test('a container has a session keyring of its own, and is killed before us when memory is short', async () => {
      const { state, containerID, pod } = await startLoop(
        {},
        {
          resources: { cpuMillisRequest: 0, memoryBytesRequest: 0 },
        },
      )
      const id = containerID.split('/').at(-1) ?? ''
      // Who owns the keyring sees it: root, or the pod's root.
      const { podUidBase } = pod.placement
      const asPod = ['setpriv', `--reuid=${podUidBase}`, `--regid=${podUidBase}`, '--clear-groups']
      const seen = [[], asPod].map((as) => {
        const [command = '', ...args] = [...as, 'cat', '/proc/keys']
        return execFileSync(command, args, { encoding: 'utf8' })
      })
      const keyrings = seen
        .join('')
        .split('\n')
        .filter((line) => line.includes('keyring') && line.includes(id))
      const serials = new Set(keyrings.map((line) => line.split(' ', 1)[0]))
      assert.equal(serials.size, 1, 'the runtime makes one for each container')
      for (const line of keyrings) assert.match(line, /: empty$/)
      assert.equal(readFileSync(`/proc/${state.pid}/oom_score_adj`, 'utf8').trim(), '1000')
    })

    test('a process cannot save itself from being killed first', async () => {
      const script =
        'for to in -1000 0 500; do (echo $to > /proc/self/oom_score_adj) 2>/dev/null; cat /proc/self/oom_score_adj; done'
      const container = makeContainer('main', script, {
        resources: { cpuMillisRequest: 0, memoryBytesRequest: 0 },
      })
      const { output } = await runToEnd(container)
      assert.equal(output, '1000\n1000\n1000\n')
    })

    test('a set-user-id program of the image makes a user of the pod nobody else', async () => {
      const container = makeContainer('main', SET_ID_ATTEMPT, { runAsUser: 1000 })
      const pod = await machine.pod([container])
      const layer = setIdLayer(machine.directory)
      const image = { ...pod.image, layers: [layer, ...pod.image.layers] }
      const { containerID } = await host.start({ ...pod.spec(container), image }, signal)
      await host.waitForExit(pod.jail.id, containerID, signal)
      assert.equal(await text(await host.logs(pod.jail.id, 'main', 0, {}, signal)), SET_ID_REFUSED)
    })

    test('inside, new namespaces, mounts, devices and kernel settings are refused', async () => {
      const attempts = [
        'unshare -U true',
        'unshare -n true',
        'mount -t tmpfs none /tmp',
        'mount -o remount,rw /proc/sys',
        'umount /proc',
        'mknod /tmp/disk b 8 0',
        'echo 1 > /proc/sys/net/ipv4/ip_forward',
        'echo b > /proc/sysrq-trigger',
        'hostname other',
        'echo 1 > /etc/hosts',
        'cat /proc/kcore',
        'ls /proc/acpi/x',
        'cat /proc/keys | grep .',
        'touch /sys/x',
      ]
      const script = attempts
        .map((attempt) => `(${attempt}) >/dev/null 2>&1 && echo '${attempt.replaceAll("'", '')}'`)
        .join('\n')
      const { output } = await runToEnd(makeContainer('main', `${script}\ntrue`))
      assert.equal(output, '')
    })

    test('inside are the standard devices only, no core files, few open files, and nothing to read where it is masked', async () => {
      const { output } = await runToEnd(
        makeContainer(
          'main',
          `ls /dev | tr '\\n' ' '; echo
           grep -E 'core file|open files' /proc/self/limits | tr -s ' '
           for file in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do cat $file 2>/dev/null; done | wc -c
           ls /proc/acpi /proc/scsi /sys/firmware 2>/dev/null | grep -v : | grep -c .
           for file in /proc/sys/kernel/core_pattern /proc/irq/default_smp_affinity /proc/sysrq-trigger
           do test -w $file && dd if=/dev/null of=$file 2>/dev/null && echo "$file"; done; true`,
        ),
      )
      const [devices, core, files, masked, directories, ...writable] = output.trim().split('\n')
      assert.deepEqual(
        devices?.trim().split(' ').sort(),
        'console core fd full mqueue null ptmx pts random shm stderr stdin stdout termination-log tty urandom zero'
          .split(' ')
          .filter((device) => devices?.includes(device) || !['console', 'core'].includes(device)),
      )
      assert.match(core ?? '', /^Max core file size 1 1 bytes/)
      const [, soft = '0', hard = '0'] = /^Max open files (\d+) (\d+) files/.exec(files ?? '') ?? []
      assert.ok(Number(soft) > 0 && Number(hard) <= 65_536, files)
      assert.deepEqual([masked, directories, writable], ['0', '0', []])
    })

    test('a memory limit ends the container, and the end says so', async () => {
      const resources = { cpuMillisRequest: 0, memoryBytesRequest: 0, memoryBytesLimit: 16 * 2 ** 20 }
      const { state } = await runToEnd(makeContainer('main', 'exec tail /dev/zero', { resources }))
      assert.deepEqual(
        { exitCode: state.exitCode, oomKilled: state.oomKilled },
        { exitCode: 137, oomKilled: true },
      )
    })

    test('a container reads and writes the disk no faster than its tenant may, from its start and after a change', async () => {
      const { pod, id, containerID } = await startLoop()
      const device = observeDisk(machine.layout.stateDir)
      if (
        device === undefined ||
        diskRates(`${machine.layout.cgroup}/${pod.jail.tenant}`, device).length === 0
      )
        return
      // The tenant, the pod and the container, or whichever of them stands for all.
      const at = (rate: number) =>
        diskRates(`${machine.layout.cgroup}/${pod.jail.tenant}`, device).every((each) => each === rate)
      assert.ok(at(256 * MiB), diskRates(`${machine.layout.cgroup}/${pod.jail.tenant}`, device).join())
      await host.limitTenant({ ...pod.placement, diskRates: { writeBytes: 4 * MiB } })
      assert.ok(at(4 * MiB), diskRates(`${machine.layout.cgroup}/${pod.jail.tenant}`, device).join())
      const start = performance.now()
      const write = 'dd if=/dev/zero of=/tmp/a bs=1M count=12 oflag=direct'.split(' ')
      const answer = await host.run(id, containerID, write, 60_000)
      assert.equal(answer.exitCode, 0, answer.output)
      // Three seconds' worth, of which a part is free at the beginning: a slow machine takes longer, none is faster.
      assert.ok(performance.now() - start > 1_500)
      await host.limitTenant(pod.placement)
      assert.ok(at(256 * MiB))
    })

    test('a fork bomb stops at its own limit', async () => {
      const bomb = 'i=0; while [ $i -lt 1500 ]; do sleep 60 & i=$((i+1)); done 2>/tmp/err; echo all'
      const { output } = await runToEnd(makeContainer('main', bomb))
      assert.ok(!output.includes('all'), output.slice(0, 200))
    })

    test('the root file system is writable for a container of its own, or read-only when asked', async () => {
      const { output } = await runToEnd(
        makeContainer('main', 'echo x > /file && cat /file; stat -c %u:%g /file'),
      )
      assert.equal(output, 'x\n0:0\n')
      const readOnly = await runToEnd(
        makeContainer('main', 'touch /file 2>/dev/null || echo refused', { readOnlyRootFilesystem: true }),
      )
      assert.equal(readOnly.output, 'refused\n')
    })

    test('a user of the image runs with its groups and without capabilities', async () => {
      const container = makeContainer('main', 'id; grep CapEff /proc/self/status; pwd; echo $HOME', {
        runAsUser: 1000,
        supplementalGroups: [77],
        runAsNonRoot: true,
        workingDir: '/made/for/me',
      })
      const { output } = await runToEnd(container, { fsGroup: 3000 })
      assert.equal(
        output,
        'uid=1000(app) gid=1001(app) groups=77,1002(extra),3000\nCapEff:\t0000000000000000\n/made/for/me\n/home/app\n',
      )
    })

    test('runAsNonRoot refuses a container that would be root, in the kubelet’s words', async () => {
      const container = makeContainer('main', 'true', { runAsNonRoot: true })
      const pod = await machine.pod([container])
      await assert.rejects(host.start(pod.spec(container), signal), {
        reason: 'CreateContainerConfigError',
        message: 'container has runAsNonRoot and image will run as root',
      })
      assert.deepEqual(readdirSync(join(machine.layout.runDir, 'containers', pod.jail.id, 'c')), [])
    })

    for (const [command, tells] of [
      ['/nowhere/program', /\/nowhere\/program/],
      ['nothing', /"nothing": executable file not found in \$PATH/],
      ['/etc/passwd', /permission denied/],
    ] as const)
      test(`a command that cannot run, ${command}, is an error of the container that names no path of the machine`, async () => {
        const container = makeContainer('main', '', { command: [command] })
        const pod = await machine.pod([container])
        await assert.rejects(
          host.start(pod.spec(container), signal),
          (error: Error & { reason?: string }) => {
            assert.equal(error.reason, 'RunContainerError')
            assert.match(error.message, tells)
            assert.doesNotMatch(error.message, /\/run\/|\/var\/|bulkhead/)
            return true
          },
        )
      })

    test('files of a volume appear, are read-only, and change all at once', async () => {
      const files = (content: string): Extract<JailVolume, { kind: 'files' }> => ({
        name: 'config',
        kind: 'files',
        files: [
          { path: 'a', mode: 0o644, contentBase64: Buffer.from(content).toString('base64') },
          { path: 'deep/b', mode: 0o400, contentBase64: Buffer.from(content).toString('base64') },
        ],
      })
      const { pod, containerID } = await startLoop(
        { volumes: [files('one')] },
        { mounts: [{ volume: 'config', mountPath: '/config', readOnly: false }] },
      )
      const read = async () =>
        (
          await host.run(
            pod.jail.id,
            containerID,
            ['sh', '-c', 'cat /config/a /config/deep/b; (echo x > /config/a) 2>/dev/null || echo no'],
            10_000,
          )
        ).output
      assert.match(await read(), /^oneone.*no\n$/s)
      await host.updateFiles(pod.jail, files('two'))
      assert.match(await read(), /^twotwo/)
      await host.updateFiles(pod.jail, { ...files('three'), files: files('three').files.slice(1) })
      assert.equal(
        (await host.run(pod.jail.id, containerID, ['sh', '-c', 'ls /config; cat /config/deep/b'], 10_000))
          .output,
        'deep\nthree',
      )
    })

    test('a memory volume is full at its limit, and no set-id program works on any volume', async () => {
      const volumes: JailVolume[] = [
        { name: 'memory', kind: 'scratch', medium: 'memory', sizeBytesMax: 2 ** 20 },
        { name: 'disk', kind: 'scratch', medium: 'disk', sizeBytesMax: 2 ** 20 },
      ]
      const script = `dd if=/dev/zero of=/memory/x bs=1k count=2048 2>/dev/null && echo unlimited
        grep -E ' /(memory|disk) ' /proc/mounts | grep -vc nosuid,nodev
        echo kept > /disk/file; stat -c %a /memory /disk`
      const container = makeContainer('main', script, {
        runAsUser: 1000,
        mounts: [
          { volume: 'memory', mountPath: '/memory', readOnly: false },
          { volume: 'disk', mountPath: '/disk', readOnly: false },
        ],
      })
      const { pod, output } = await runToEnd(container, { volumes })
      assert.equal(output, '0\n1777\n777\n')
      const onDisk = statSync(
        join(machine.layout.runDir, 'containers', pod.jail.id, 'disk/volumes/disk/file'),
      )
      assert.equal(onDisk.uid, pod.placement.podUidBase + 1000)
      const again = await runIn(pod, { ...container, command: ['cat', '/disk/file'] }, 1)
      assert.equal(again.output, 'kept\n')
    })

    test('a sub-path cannot lead out of its volume, whatever links the tenant made in it', async () => {
      const volumes: JailVolume[] = [{ name: 'v', kind: 'scratch', medium: 'disk', sizeBytesMax: 2 ** 20 }]
      const pod = await machine.pod([makeContainer('main', 'true')], { volumes })
      const volume = join(machine.layout.runDir, 'containers', pod.jail.id, 'disk/volumes/v')
      symlinkSync('/etc', join(volume, 'absolute'))
      symlinkSync('../../../../../../../../etc', join(volume, 'climbing'))
      symlinkSync('/proc/1/root', join(volume, 'magic'))
      for (const [attempt, subPath] of [
        'absolute',
        'climbing',
        'magic',
        'absolute/passwd',
        'new/deep',
      ].entries()) {
        const container = makeContainer('main', 'ls -A /v', {
          mounts: [{ volume: 'v', mountPath: '/v', subPath, readOnly: false }],
        })
        const outcome = await runIn(pod, container, attempt).catch(
          (error: Error & { reason?: string }) => error,
        )
        if (outcome instanceof Error)
          assert.equal((outcome as { reason?: string }).reason, 'CreateContainerConfigError', String(outcome))
        else assert.equal(outcome.output, '', subPath)
      }
      for (const subPath of ['../x', '/etc', 'a/../../b']) {
        const container = makeContainer('main', 'true', {
          mounts: [{ volume: 'v', mountPath: '/v', subPath, readOnly: false }],
        })
        await assert.rejects(host.start(pod.spec(container, 9), signal), {
          reason: 'CreateContainerConfigError',
        })
      }
    })

    test('sub-paths take none of the machine’s mounts once the container runs, and still are what they were', async () => {
      const mounts = Array.from({ length: 20 }, (_, i) => ({
        volume: 'v',
        mountPath: `/v${i}`,
        subPath: `s${i}`,
        readOnly: false,
      }))
      const container = makeContainer('main', `echo x > /v7/file; ${LOOP}`, { mounts })
      const volumes: JailVolume[] = [{ name: 'v', kind: 'scratch', medium: 'disk', sizeBytesMax: 2 ** 20 }]
      const pod = await machine.pod([container], { volumes })
      const { containerID } = await host.start(pod.spec(container), signal)
      const left = readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
      assert.deepEqual(
        left.filter((line) => line.includes(pod.jail.id) && line.includes('sub-path')),
        [],
      )
      const { exitCode, output } = await host.run(pod.jail.id, containerID, ['cat', '/v7/file'], 10_000)
      assert.deepEqual([exitCode, output], [0, 'x\n'])
    })

    test(
      'a container whose first thread has ended runs on, and is killed like any other',
      { skip: process.arch !== 'x64' && 'the program is for x86-64' },
      async () => {
        const volumes: JailVolume[] = [{ name: 'v', kind: 'scratch', medium: 'disk', sizeBytesMax: 2 ** 20 }]
        const container = makeContainer('main', 'exec /v/program', {
          mounts: [{ volume: 'v', mountPath: '/v', readOnly: true }],
        })
        const pod = await machine.pod([container], { volumes })
        const program = join(machine.layout.runDir, 'containers', pod.jail.id, 'disk/volumes/v/program')
        writeFileSync(program, renderElf('x64', FIRST_THREAD_ENDS), { mode: 0o755 })
        const started = await host.start(pod.spec(container), signal)
        assert.ok(started.state.kind === 'running')
        const { pid } = started.state
        const isZombie = () => readFileSync(`/proc/${pid}/stat`, 'latin1').includes(') Z ')
        await until(isZombie, { timeoutMs: 10_000, what: 'The end of the first thread' })
        await host.signal(pod.jail.id, started.containerID, 'SIGKILL')
        const { state } = await host.waitForExit(pod.jail.id, started.containerID, signal)
        assert.equal(state.kind === 'exited' && state.exitCode, 137)
        await host.removePod(pod.jail.id)
        assert.equal(existsSync(`/proc/${pid}`), false)
      },
    )

    test('links and fifos in an image cannot make us read or write the machine’s files', async () => {
      const layer = join(machine.directory, `hostile-${tool}`)
      mkdirSync(join(layer, 'etc'), { recursive: true })
      symlinkSync('/../../../../../etc/passwd', join(layer, 'etc/passwd'))
      symlinkSync('/proc/self/environ', join(layer, 'etc/group'))
      symlinkSync('../../../../../../../../../tmp', join(layer, 'work'))
      const marker = `bulkhead-escape-${process.pid}`
      const container = makeContainer('main', 'pwd', { workingDir: `/work/${marker}` })
      const pod = await machine.pod([container])
      const image = {
        ...pod.image,
        layers: [layer, ...pod.image.layers],
        config: { ...pod.image.config, user: 'daemon' },
      }
      await assert.rejects(
        host.start({ ...pod.spec(container), image }, signal),
        /unable to find user "daemon"/,
      )
      const { containerID } = await host.start(
        { ...pod.spec(container, 1), image: { ...image, config: pod.image.config } },
        signal,
      )
      await host.waitForExit(pod.jail.id, containerID, signal)
      assert.ok(!existsSync(join('/tmp', marker)))
    })

    test('hostile names never become paths', async () => {
      const pod = await machine.pod([makeContainer('main', 'true')])
      for (const name of ['..', 'a/b', '', 'A', '../../etc'])
        await assert.rejects(host.start(pod.spec(makeContainer(name, 'true')), signal), /is not a DNS label/)
      for (const id of ['..', `${tool}://../../x`, `${tool}://`, 'crun://' + 'g'.repeat(24)])
        await assert.rejects(host.removeContainer(pod.jail.id, id), /is not a container's id/)
      await assert.rejects(host.removePod('../../x' as typeof pod.jail.id), /is not a jail's id/)
    })

    test('a command runs inside with the container’s own protection', async () => {
      const { id, containerID } = await startLoop({}, { runAsUser: 1000 })
      const facts = await host.run(
        id,
        containerID,
        ['sh', '-c', 'id -u; grep -E "^(NoNewPrivs|Seccomp|CapEff|CapBnd):" /proc/self/status; exit 3'],
        10_000,
      )
      assert.deepEqual(facts, {
        exitCode: 3,
        output: '1000\nCapEff:\t0000000000000000\nCapBnd:\t00000000800405fb\nNoNewPrivs:\t1\nSeccomp:\t2\n',
      })
      const missing = await host.run(id, containerID, ['nothing'], 10_000)
      assert.equal(missing.exitCode, -1)
      assert.match(missing.output, /executable file not found in \$PATH/)
    })

    test('a command that takes too long is killed inside, and its output is bounded', async () => {
      const { id, containerID } = await startLoop()
      const slow = await host.run(id, containerID, ['sleep', '1000'], 200)
      assert.deepEqual(slow, { exitCode: -1, output: 'command timed out after 200 ms' })
      await until(
        async () => !(await host.run(id, containerID, ['ps'], 10_000)).output.includes('sleep 1000'),
      )
      const large = await host.run(id, containerID, ['sh', '-c', 'yes | head -c 100000'], 10_000)
      assert.equal(large.output.length, 16 * 1024)
    })

    test('exec keeps stdout and stderr apart, passes stdin on and reports the exit code', async () => {
      const { id, containerID } = await startLoop()
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
      send(session, 'stdin', 'x'.repeat(300_000))
      send(session, 'close', Buffer.from([0]))
      assert.deepEqual(await collect(session), {
        stdout: '300000\n',
        stderr: 'err\n',
        status: {
          metadata: {},
          status: 'Failure',
          message: 'command terminated with non-zero exit code: exit status 5',
          reason: 'NonZeroExitCode',
          details: { causes: [{ reason: 'ExitCode', message: '5' }] },
        },
      })
    })

    test('exec with a terminal has one, with the size the client says, also later', async () => {
      const { id, containerID } = await startLoop()
      const session = await host.exec(
        id,
        containerID,
        { command: ['sh'], stdin: true, stdout: true, stderr: false, tty: true },
        signal,
      )
      let shown = ''
      session.on('data', (chunk: Buffer) => (shown += chunk.toString('latin1')))
      const all = collect(session)
      send(session, 'resize', '{"Width":99,"Height":33}')
      send(session, 'stdin', 'until stty size | grep -q "33 99"; do :; done; echo fi""rst\n')
      await until(() => shown.includes('first'))
      send(session, 'resize', '{"Width":50,"Height":20}')
      send(session, 'stdin', 'until stty size | grep -q "20 50"; do :; done; tty; exit 4\n')
      const { stdout, status } = await all
      assert.match(stdout, /\/dev\/pts\/0/)
      assert.equal((status as { details: { causes: { message: string }[] } }).details.causes[0]?.message, '4')
    })

    test('a client that goes away takes its command with it', async () => {
      const { id, containerID } = await startLoop()
      const session = await host.exec(
        id,
        containerID,
        { command: ['sleep', '4321'], stdin: false, stdout: true, stderr: true, tty: false },
        signal,
      )
      await until(async () => (await host.run(id, containerID, ['ps'], 10_000)).output.includes('sleep 4321'))
      session.destroy()
      await until(
        async () => !(await host.run(id, containerID, ['ps'], 10_000)).output.includes('sleep 4321'),
      )
    })

    test('attach joins the container’s own streams until it ends', async () => {
      const container = makeContainer(
        'main',
        'while read line; do echo "got $line"; echo err >&2; done; exit 3',
        { stdin: true, stdinOnce: true },
      )
      const pod = await machine.pod([container])
      const { containerID } = await host.start(pod.spec(container), signal)
      const session = await host.attach(
        pod.jail.id,
        containerID,
        { stdin: true, stdout: true, stderr: true, tty: false },
        signal,
      )
      send(session, 'stdin', 'one\ntwo\n')
      send(session, 'close', Buffer.from([0]))
      assert.deepEqual(await collect(session), {
        stdout: 'got one\ngot two\n',
        stderr: 'err\nerr\n',
        status: { metadata: {}, status: 'Success' },
      })
      const { state } = await host.waitForExit(pod.jail.id, containerID, signal)
      assert.equal((state as Exited).exitCode, 3)
    })

    test('logs can be followed to the end, cut to the last lines or to some bytes', async () => {
      const { id, containerID } = await startLoop()
      const followed = text(await host.logs(id, 'main', 0, { follow: true }, signal))
      await until(async () => (await text(await host.logs(id, 'main', 0, {}, signal))) === 'ready\n')
      await host.signal(id, containerID, 'SIGTERM')
      const { state } = await host.waitForExit(id, containerID, signal)
      assert.equal((state as Exited).exitCode, 42)
      assert.equal(await followed, 'ready\n')
      const { pod } = await runToEnd(makeContainer('main', 'seq 1 1000'))
      const read = (options: Parameters<ContainerHost['logs']>[3]) =>
        host.logs(pod.jail.id, 'main', 0, options, signal).then(text)
      assert.equal(await read({ tailLines: 2 }), '999\n1000\n')
      assert.equal(await read({ limitBytes: 5 }), '1\n2\n3')
      assert.equal(await read({ tailLines: 0 }), '')
      assert.match(
        await read({ tailLines: 1, timestamps: true }),
        /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z 1000\n$/,
      )
    })

    test('a signal ends a container, and one to a container that has ended does nothing', async () => {
      const { id, containerID } = await startLoop()
      await host.signal(id, containerID, 'SIGKILL')
      const { state } = await host.waitForExit(id, containerID, signal)
      assert.equal((state as Exited).exitCode, 137)
      await host.signal(id, containerID, 'SIGTERM')
      await assert.rejects(host.signal(id, containerID, 'SIGNONSENSE'), /is not a signal/)
    })

    test('nothing is left of a pod that was removed while it ran', async () => {
      const volumes: JailVolume[] = [{ name: 'm', kind: 'scratch', medium: 'memory', sizeBytesMax: 2 ** 20 }]
      const { id, state } = await startLoop(
        { volumes },
        { mounts: [{ volume: 'm', mountPath: '/m', subPath: 'x', readOnly: false }] },
      )
      await host.removePod(id)
      await host.removePod(id)
      assert.ok(!existsSync(`/proc/${state.pid}`))
      assert.ok(!existsSync(join(machine.layout.runDir, 'containers', id)))
      assert.ok(existsSync(join(machine.layout.runDir, 'containers/.ephemeral/t0')))
      assert.ok(!existsSync(join(machine.layout.runDir, 'containers/.ephemeral/t0', id)))
      assert.ok(!readFileSync('/proc/self/mountinfo', 'utf8').includes(id))
      assert.ok(!cgroupsNamed(id))
      assert.ok(!(await host.observe()).some(({ jail }) => jail === id))
    })

    test('what was cut off in the middle of its creation is found lost, and can be removed', async () => {
      const { id, containerID, state } = await startLoop()
      const bundle = join(machine.layout.runDir, 'containers', id, 'c', containerID.split('//')[1] ?? '')
      const record = JSON.parse(readFileSync(join(bundle, 'container.json'), 'utf8')) as Record<
        string,
        unknown
      >
      const { started, ...cutOff } = record
      assert.ok(started)
      writeFileSync(join(bundle, 'container.json'), JSON.stringify(cutOff))
      const observed = (await host.observe()).find(({ jail }) => jail === id)?.containers
      assert.deepEqual(
        observed?.map((c) => c.state),
        [{ kind: 'lost' }],
      )
      await host.removeContainer(id, containerID)
      assert.ok(!existsSync(`/proc/${state.pid}`))
      assert.ok(!existsSync(bundle))
    })

    test('a process that got the pid of a container is not taken for it, nor killed in its place', async () => {
      const { id, containerID } = await startLoop()
      const stranger = spawn('sleep', ['1000'])
      try {
        await host.signal(id, containerID, 'SIGKILL')
        await host.waitForExit(id, containerID, signal)
        const bundle = join(machine.layout.runDir, 'containers', id, 'c', containerID.split('//')[1] ?? '')
        const record = JSON.parse(readFileSync(join(bundle, 'container.json'), 'utf8')) as {
          started: { process: { pid: number }; monitor: { pid: number } }
        }
        record.started.process.pid = stranger.pid ?? 0
        record.started.monitor.pid = stranger.pid ?? 0
        writeFileSync(join(bundle, 'container.json'), JSON.stringify(record))
        rmSync(join(machine.layout.runDir, 'containers/.exits', containerID.split('//')[1] ?? ''))
        const observed = (await host.observe()).find(({ jail }) => jail === id)?.containers
        assert.deepEqual(
          observed?.map((c) => c.state),
          [{ kind: 'lost' }],
        )
        await host.removeContainer(id, containerID)
        assert.equal(stranger.exitCode, null)
        assert.equal(stranger.signalCode, null)
      } finally {
        stranger.kill('SIGKILL')
      }
    })

    test('containers, their logs and exit codes survive the death of the agent that started them', async () => {
      const container = makeContainer('main', `${LOOP.replace('exit 42', 'echo last; exit 42')}`)
      const pod = await machine.pod([container])
      const agent = spawn(process.execPath, [join(import.meta.dirname, 'container-host.testagent.ts')], {
        stdio: ['pipe', 'pipe', 'inherit'],
      })
      agent.stdin.end(JSON.stringify({ layout: machine.layout, tools: [tool], spec: pod.spec(container) }))
      const [line] = (await once(agent.stdout, 'data')) as [Buffer]
      const containerID = line.toString().trim()
      agent.kill('SIGKILL')
      await once(agent, 'exit')

      const next = openHost(machine.layout, [tool])
      const observed = (await next.observe()).find(({ jail }) => jail === pod.jail.id)?.containers ?? []
      assert.deepEqual(
        observed.map((c) => [c.containerID, c.state.kind]),
        [[containerID, 'running']],
      )
      await until(async () =>
        (await text(await next.logs(pod.jail.id, 'main', 0, {}, signal))).startsWith('ready'),
      )
      assert.equal(
        (await next.run(pod.jail.id, containerID, ['echo', 'still here'], 10_000)).output,
        'still here\n',
      )
      await next.signal(pod.jail.id, containerID, 'SIGTERM')
      const { state } = await next.waitForExit(pod.jail.id, containerID, signal)
      assert.equal((state as Exited).exitCode, 42)
      assert.equal(await text(await next.logs(pod.jail.id, 'main', 0, {}, signal)), 'ready\nlast\n')
      await next.removePod(pod.jail.id)
      assert.ok(!existsSync(join(machine.layout.runDir, 'containers', pod.jail.id)))
    })

    test('a container whose monitor was killed is lost, not running for ever', async () => {
      const { id, containerID, state } = await startLoop()
      const monitor = Number(/^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${state.pid}/status`, 'utf8'))?.[1])
      assert.match(readFileSync(`/proc/${monitor}/cmdline`, 'utf8'), /conmon/)
      const ended = host.waitForExit(id, containerID, signal)
      process.kill(monitor, 'SIGKILL')
      process.kill(state.pid, 'SIGKILL')
      assert.deepEqual((await ended).state, { kind: 'lost' })
    })

    test('what a pod takes on the disk is counted by volume and container', async () => {
      const container = makeContainer(
        'main',
        'dd if=/dev/zero of=/data/x bs=1k count=300 2>/dev/null; dd if=/dev/zero of=/x bs=1k count=700 2>/dev/null',
        {
          mounts: [{ volume: 'data', mountPath: '/data', readOnly: false }],
        },
      )
      const { pod } = await runToEnd(container, {
        volumes: [{ name: 'data', kind: 'scratch', medium: 'disk', sizeBytesMax: 2 ** 20 }],
      })
      const { volumes, layers, files } = await createPodDisk(machine.layout).measure(pod.jail.id)
      const near = (bytes: number | undefined, kib: number) =>
        bytes !== undefined && bytes >= kib * 1024 && bytes < (kib + 100) * 1024
      assert.ok(near(volumes.get('data'), 300), String(volumes.get('data')))
      const [layer] = [...layers.values()]
      assert.ok(layers.size === 1 && near(layer, 700), String(layer))
      assert.ok(files >= 10 && files < 100, String(files))
    })

    test('two tenants own their files under different ids', async () => {
      const owners: number[] = []
      for (const tenant of [1, 2]) {
        const { pod } = await runToEnd(
          makeContainer('main', 'echo x > /data/file', {
            mounts: [{ volume: 'data', mountPath: '/data', readOnly: false }],
          }),
          {
            tenant,
            volumes: [{ name: 'data', kind: 'scratch', medium: 'disk', sizeBytesMax: 2 ** 20 }],
          },
        )
        const file = join(machine.layout.runDir, 'containers', pod.jail.id, 'disk/volumes/data/file')
        owners.push(lstatSync(file).uid - machine.layout.podUidBase)
        const above = statSync(join(machine.layout.runDir, 'containers', pod.jail.id, 'disk'))
        assert.deepEqual([above.uid, above.mode & 0o777], [0, 0o710])
      }
      assert.deepEqual(owners, [65_536, 2 * 65_536])
    })
  })

/** Bytes per second that each group there may write to the device, as the kernel says; none where it does not limit. */
function diskRates(path: string, device: string): number[] {
  const below = (directory: string): string[] =>
    existsSync(directory)
      ? [
          directory,
          ...readdirSync(directory, { withFileTypes: true }).flatMap((entry) =>
            entry.isDirectory() ? below(join(directory, entry.name)) : [],
          ),
        ]
      : []
  return ['/sys/fs/cgroup/blkio', '/sys/fs/cgroup'].flatMap((root) =>
    below(join(root, path)).flatMap((group) => {
      const files = ['blkio.throttle.write_bps_device', 'io.max'].map((name) => join(group, name))
      const text = files.flatMap((file) => (existsSync(file) ? [readFileSync(file, 'utf8')] : [])).join('\n')
      const line = text.split('\n').find((each) => each.startsWith(`${device} `)) ?? ''
      const rate = /(?:wbps=|^\S+ )(\d+)/.exec(line)?.[1]
      return text === '' ? [] : [Number(rate)]
    }),
  )
}

function cgroupsNamed(name: string): boolean {
  const roots = [
    '/sys/fs/cgroup',
    ...readdirSync('/sys/fs/cgroup').map((entry) => join('/sys/fs/cgroup', entry)),
  ]
  const contains = (directory: string, depth: number): boolean =>
    existsSync(directory) &&
    lstatSync(directory).isDirectory() &&
    readdirSync(directory, { withFileTypes: true }).some(
      (entry) =>
        entry.isDirectory() &&
        (entry.name === name || (depth > 0 && contains(join(directory, entry.name), depth - 1))),
    )
  return roots.some((root) => contains(root, 3))
}
