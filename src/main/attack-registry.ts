import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { request } from 'undici'
import { buildPythonImage, PYTHON_PACKAGES } from '../../samples/images/build.ts'
import type { Layout } from '../api/index.ts'
import { ensureDaemonUsers, ensureDirectory } from '../engine/local/index.ts'
import { until } from '../stdx/index.ts'
import { freePort } from './free-port.ts'

const REPOSITORY = 'attack'

export type AttackRegistry = { host: string; image: string } & AsyncDisposable

/**
 * A registry on the loopback interface that ends with this process, with the image that attacks run. What it holds
 * stays on disk, so only the first run builds the image.
 */
export async function startAttackRegistry(
  layout: Layout,
  progress: (text: string) => void,
): Promise<AttackRegistry> {
  const { images } = ensureDaemonUsers()
  const data = join(layout.stateDir, 'attack-registry')
  ensureDirectory(data, { ...images, mode: 0o700 })
  const host = `127.0.0.1:${await freePort()}`
  const config = join(layout.stateDir, 'attack-registry.yml')
  writeFileSync(
    config,
    `version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: ${data}}}\nhttp: {addr: "${host}"}\n`,
    { mode: 0o644 },
  )
  const child = spawn(
    '/usr/bin/setpriv',
    [
      `--reuid=${images.uid}`,
      `--regid=${images.gid}`,
      '--clear-groups',
      '--no-new-privs',
      // Nobody else would end it when we are killed.
      '--pdeathsig=KILL',
      '/usr/bin/docker-registry',
      'serve',
      config,
    ],
    // Ctrl-C is for us, who still need it to take pods down.
    { stdio: 'ignore', env: { PATH: '/usr/bin:/bin' }, cwd: '/', detached: true },
  )
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  child.once('error', () => {})
  const stop = async () => {
    child.kill()
    await ended
  }
  try {
    await until(async () => (await status('GET', `http://${host}/v2/`)) === 200, {
      what: `The registry at ${host}, of the package docker-registry,`,
    })
    const tag = createHash('sha256').update(PYTHON_PACKAGES.join()).digest('hex').slice(0, 12)
    if ((await status('HEAD', `http://${host}/v2/${REPOSITORY}/manifests/${tag}`)) !== 200) {
      progress("building the image of the attacks from Debian's packages")
      await buildPythonImage(host, REPOSITORY, tag)
    }
    return { host, image: `${host}/${REPOSITORY}:${tag}`, [Symbol.asyncDispose]: stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function status(method: 'GET' | 'HEAD', url: string): Promise<number> {
  const answer = await request(url, {
    method,
    headers: { accept: 'application/vnd.oci.image.manifest.v1+json' },
  })
  await answer.body.dump()
  return answer.statusCode
}
