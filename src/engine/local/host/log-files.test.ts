import assert from 'node:assert/strict'
import { existsSync, statSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { systemClock, until } from '../../../stdx/index.ts'
import { makeContainer, TestHost, whyNoContainers } from './container-host.testkit.ts'
import { LOG_BYTES_ROTATE } from './limits.ts'
import { LogFiles } from './log-files.ts'
import { Places } from './places.ts'

test(
  'a log that grew too large moves aside, and a reader who follows loses no line',
  { skip: whyNoContainers() ?? false },
  async () => {
    await using machine = new TestHost('tctl', 4, ['crun', 'runc'])
    const signal = AbortSignal.timeout(30_000)
    const container = makeContainer(
      'main',
      'echo one; while ! [ -e /go/on ]; do usleep 20000; done; echo two; while ! [ -e /go/end ]; do usleep 20000; done; echo three',
      {
        mounts: [{ volume: 'go', mountPath: '/go', readOnly: false }],
      },
    )
    const pod = await machine.pod([container], {
      volumes: [{ name: 'go', kind: 'scratch', medium: 'memory', sizeBytesMax: 4096 }],
    })
    const { containerID } = await machine.host.start(pod.spec(container), signal)
    const read = (follow: boolean) => machine.host.logs(pod.jail.id, 'main', 0, { follow }, signal).then(text)
    const followed = read(true)
    await until(async () => (await read(false)) === 'one\n')

    const places = new Places(machine.layout)
    const log = places.log(pod.jail.id, 'main', 0)
    const bundle = places.bundle(pod.jail.id, containerID.split('//')[1] ?? '')
    const files = new LogFiles(places, systemClock)
    files.rotate(log, bundle)
    assert.ok(!existsSync(`${log}.1`), 'a small log stays')
    const before = statSync(log).ino
    // A hole in the file: large for whoever asks for the size, and no line for whoever reads.
    truncateSync(log, LOG_BYTES_ROTATE)
    files.rotate(log, bundle)
    await until(() => existsSync(log) && statSync(log).ino !== before)
    assert.equal(statSync(`${log}.1`).ino, before)

    const run = (command: string[]) => machine.host.run(pod.jail.id, containerID, command, 10_000)
    await run(['touch', '/go/on'])
    await until(async () => (await read(false)).endsWith('two\n'))
    await run(['touch', '/go/end'])
    await machine.host.waitForExit(pod.jail.id, containerID, signal)
    assert.equal(await followed, await read(false))
    assert.match(await followed, /^one\n(.*\n)?two\nthree\n$/s)
    assert.ok(existsSync(join(places.logs(pod.jail.id, 'main'))))
  },
)
