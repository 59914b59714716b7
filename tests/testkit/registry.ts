import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { request } from 'undici'
import { until } from '../../src/stdx/index.ts'

/** A port on the loopback interface that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer()
  const { promise, resolve } = Promise.withResolvers<void>()
  server.listen(0, '127.0.0.1', resolve)
  await promise
  const address = server.address()
  server.close()
  if (address === null || typeof address === 'string') throw new Error('A TCP server has no port')
  return address.port
}

/** A registry of Debian's package docker-registry on the loopback interface, empty, gone when disposed. */
export async function startRegistry(): Promise<{ host: string } & AsyncDisposable> {
  const dir = await mkdtemp(join(tmpdir(), 'bulkhead-registry-'))
  const host = `127.0.0.1:${await freePort()}`
  await writeFile(
    join(dir, 'config.yml'),
    `version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: ${dir}/data}}\nhttp: {addr: "${host}"}\n`,
  )
  const child = spawn('docker-registry', ['serve', join(dir, 'config.yml')], { stdio: 'ignore' })
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  await until(
    async () => {
      const answer = await request(`http://${host}/v2/`)
      await answer.body.dump()
      return answer.statusCode === 200
    },
    { what: `The registry at ${host}` },
  )
  return {
    host,
    async [Symbol.asyncDispose]() {
      child.kill()
      await ended
      await rm(dir, { recursive: true, force: true })
    },
  }
}
