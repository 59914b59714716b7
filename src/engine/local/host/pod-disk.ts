import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { join, relative } from 'node:path'
import type { Layout } from '../../../api/index.ts'
import type { JailId } from '../../../jail/index.ts'
import type { DiskUsage } from '../plan/disk.ts'
import { DISK_MEASURE_TIMEOUT_MS, TOOL_OUTPUT_BYTES_MAX } from './limits.ts'
import { unmountBelow } from './mounts.ts'
import { Places } from './places.ts'
import { runTool } from './tool.ts'

export type DiskRoom = { bytes: number; bytesFree: number; files: number; filesFree: number }

/** What pods occupy on this machine's disk. */
export interface PodDisk {
  /** @throws when it takes too long to find out. */
  measure(id: JailId): Promise<DiskUsage>
  /** Of the disk that pods are on. */
  room(): Promise<DiskRoom>
  /** Removes the volumes of a pod whose containers are gone; safe to repeat. */
  release(id: JailId): Promise<void>
}

const NOTHING: DiskUsage = { total: 0, files: 0, volumes: new Map(), layers: new Map(), logs: new Map() }
const REMOVE_TIMEOUT_MS = 600_000

export function createPodDisk(layout: Layout): PodDisk {
  const places = new Places(layout)
  return {
    async measure(id) {
      const root = places.podDisk(id)
      if (!existsSync(root)) return NOTHING
      const usage = parseUsage(await du(root, ['--block-size=1', '--max-depth=2']), root)
      // The second look finds everything in the kernel's memory.
      const { total: files } = parseUsage(await du(root, ['--inodes', '--max-depth=0']), root)
      return { ...usage, files }
    },
    async room() {
      const { bsize, blocks, bavail, files, ffree } = await statfs(places.disk)
      return { bytes: blocks * bsize, bytesFree: bavail * bsize, files, filesFree: ffree }
    },
    async release(id) {
      const inMemory = join(places.pod(id), 'volumes')
      unmountBelow(inMemory)
      for (const path of [inMemory, join(places.podDisk(id), 'volumes')])
        if (existsSync(path))
          await runTool(['rm', '-rf', '--one-file-system', '--', path], { timeoutMs: REMOVE_TIMEOUT_MS })
    },
  }
}

/**
 * `du` walks with descriptors and follows no link, so it comes through whatever a tenant has built. It leaves with an
 * error when a file vanishes under it, and its sums are good all the same.
 */
function du(root: string, options: readonly string[]): Promise<string> {
  const done = Promise.withResolvers<string>()
  execFile(
    'nice',
    ['-n', '19', 'du', '--one-file-system', ...options, '--', root],
    {
      timeout: DISK_MEASURE_TIMEOUT_MS,
      maxBuffer: TOOL_OUTPUT_BYTES_MAX,
      killSignal: 'SIGKILL',
      encoding: 'utf8',
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
    },
    (error, stdout) => {
      if (error && error.code !== 1)
        done.reject(new Error(`Cannot measure what is in "${root}"`, { cause: error }))
      else done.resolve(stdout)
    },
  )
  return done.promise
}

/** Only names that are ours come so near to the root. */
export function parseUsage(text: string, root: string): DiskUsage {
  const usage = {
    total: 0,
    files: 0,
    volumes: new Map<string, number>(),
    layers: new Map<string, number>(),
    logs: new Map<string, number>(),
  }
  for (const line of text.split('\n')) {
    const [, bytes, path] = /^(\d{1,18})\t(.{1,4096})$/.exec(line) ?? []
    if (bytes === undefined || path === undefined) continue
    const [kind = '', name = '', ...deeper] = relative(root, path).split('/')
    if (kind === '') usage.total = Number(bytes)
    else if (
      name !== '' &&
      deeper.length === 0 &&
      (kind === 'volumes' || kind === 'layers' || kind === 'logs')
    )
      usage[kind].set(name, Number(bytes))
  }
  return usage
}
