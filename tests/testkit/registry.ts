import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { cp, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { request } from 'undici'
import { buildSampleImages, busyboxImage } from '../../samples/images/build.ts'
import { pushImage } from '../../samples/images/push.ts'
import { buildStockImages } from './stock-images.ts'
import { freePort } from '../../src/main/free-port.ts'
import { until } from '../../src/stdx/index.ts'
import { pythonImage } from './python-image.ts'

const SAMPLES = new URL('../../samples/images/', import.meta.url)
const CACHE = new URL('../../.cache/', import.meta.url).pathname

export type Registry = { host: string } & AsyncDisposable

/**
 * A registry of Debian's package docker-registry on the loopback interface, gone when disposed. Empty, or with a copy
 * of what `contents`, the data directory of an earlier one, holds.
 */
export async function startRegistry({ contents }: { contents?: string } = {}): Promise<Registry> {
  const dir = await mkdtemp(join(tmpdir(), 'bulkhead-registry-'))
  if (contents !== undefined) await cp(contents, join(dir, 'data'), { recursive: true })
  const registry = await serve(dir)
  return {
    host: registry.host,
    async [Symbol.asyncDispose]() {
      await registry[Symbol.asyncDispose]()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

/** A registry with `busybox:1` only; cheap. Returns its digest too. */
export async function startBusyboxRegistry(): Promise<Registry & { digest: string }> {
  const registry = await startRegistry()
  try {
    return { ...registry, digest: await pushBusybox(registry.host) }
  } catch (error) {
    await registry[Symbol.asyncDispose]()
    throw error
  }
}

/** A registry with all sample images. They are built once and kept in `.cache`, under a name made of their sources. */
export function startSampleRegistry(): Promise<Registry> {
  return startBuiltRegistry(
    'sample-images',
    [new URL('build.ts', SAMPLES), new URL('push.ts', SAMPLES), '/bin/busybox'],
    async (host) => {
      await buildSampleImages(host, () => {})
    },
  )
}

/** A registry with servers as their makers publish them, and `busybox:1`; kept in the same way. */
export function startStockRegistry(): Promise<Registry> {
  return startBuiltRegistry(
    'stock-images',
    [
      new URL('stock-images.ts', import.meta.url),
      new URL('build.ts', SAMPLES),
      new URL('push.ts', SAMPLES),
      '/bin/busybox',
    ],
    async (host) => {
      await buildStockImages(host)
      await pushBusybox(host)
    },
  )
}

/** A registry with `python:1`: Python with Debian's Kubernetes client, and a shell. */
export function startPythonRegistry(): Promise<Registry> {
  return startBuiltRegistry(
    'python-image',
    [
      new URL('python-image.ts', import.meta.url),
      new URL('build.ts', SAMPLES),
      new URL('push.ts', SAMPLES),
      '/bin/busybox',
    ],
    async (host) => {
      const work = await mkdtemp(join(tmpdir(), 'bulkhead-python-'))
      try {
        await pushImage(host, 'python', '1', await pythonImage(join(work, 'root')))
      } finally {
        await rm(work, { recursive: true, force: true })
      }
    },
  )
}

/** A registry with what `build` pushes, kept in `.cache` under a name made of the `sources` it is built from. */
export async function startBuiltRegistry(
  name: string,
  sources: readonly (URL | string)[],
  build: (host: string) => Promise<void>,
): Promise<Registry> {
  const hash = createHash('sha256')
  for (const source of sources) hash.update(readFileSync(source))
  const cached = join(CACHE, `${name}-${hash.digest('hex').slice(0, 16)}`)
  if (!existsSync(cached)) {
    await mkdir(CACHE, { recursive: true })
    const work = await mkdtemp(join(CACHE, 'building-'))
    try {
      {
        await using registry = await serve(work)
        await build(registry.host)
      }
      // Whoever comes second at the same time finds the place taken, by the same images.
      await rename(join(work, 'data'), cached).catch((error: unknown) => {
        if (!existsSync(cached)) throw error
      })
    } finally {
      await rm(work, { recursive: true, force: true })
    }
  }
  return startRegistry({ contents: cached })
}

async function pushBusybox(host: string): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'bulkhead-busybox-'))
  try {
    return await pushImage(host, 'busybox', '1', await busyboxImage(root))
  } finally {
    await rm(root, { recursive: true, force: true })
  }
}

async function serve(dir: string): Promise<Registry> {
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
    },
  }
}
