import { createHash } from 'node:crypto'
import {
  chmodSync,
  constants,
  linkSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  closeSync,
  rmSync,
  statfsSync,
  statSync,
  symlinkSync,
  writeSync,
  fchmodSync,
  fchownSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { Readable, Transform } from 'node:stream'
import type { createTarDecoder, ParsedTarEntry } from 'modern-tar'
import {
  ENTRY_PATH_BYTES_MAX,
  LAYER_ENTRIES_MAX,
  LAYER_UNPACKED_BYTES_MAX,
  STATE_FREE_PARTS_MIN,
} from '../../images/limits.ts'

export type UnpackResult = { diffId: string; entries: number; bytes: number; skippedDevices: number }

/** What needs a system call that Node does not have. Each returns whether it worked. */
export type LayerCalls = {
  whiteout(path: string): boolean
  opaque(path: string): boolean
  touch(path: string, seconds: bigint): boolean
}

const ID_MAX = 65_535
const ROOM_CHECK_BYTES = 64 * 1024 * 1024

/**
 * Makes the path of an entry absolute below the root that the process has entered.
 * @throws when it climbs or cannot be a file name: such a layer is an attack or broken, and none of it is kept.
 */
export function parseEntryPath(name: string): string {
  const quoted = JSON.stringify(name.slice(0, 200))
  if (name.includes('\0')) throw new Error(`The layer has an entry ${quoted} with a NUL byte in its name`)
  if (Buffer.byteLength(name) > ENTRY_PATH_BYTES_MAX)
    throw new Error(`The layer has an entry ${quoted} with too long a name`)
  const components = name.split('/').filter((component) => component !== '' && component !== '.')
  if (components.includes('..'))
    throw new Error(`The layer has an entry ${quoted} that climbs out of the image's root`)
  if (components.some((component) => Buffer.byteLength(component) > 255))
    throw new Error(`The layer has an entry ${quoted} with too long a name`)
  return `/${components.join('/')}`
}

/**
 * Writes a layer into the process's root directory. Ordered as it comes: a later entry replaces an earlier one.
 * Device nodes and FIFOs are left out, since no pod could use them. Set-id bits stay: no_new_privs makes them idle.
 */
export async function unpackLayer(
  source: Readable,
  decoder: ReturnType<typeof createTarDecoder>,
  calls: LayerCalls,
): Promise<UnpackResult> {
  const hash = createHash('sha256')
  const result = { entries: 0, bytes: 0, skippedDevices: 0 }
  let lookAt = ROOM_CHECK_BYTES
  const measure = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      result.bytes += chunk.length
      if (result.bytes > LAYER_UNPACKED_BYTES_MAX)
        return done(new Error(`The layer is larger than ${LAYER_UNPACKED_BYTES_MAX} bytes`))
      if (result.bytes >= lookAt) {
        lookAt = result.bytes + ROOM_CHECK_BYTES
        const { blocks, bavail } = statfsSync('/')
        if (bavail * STATE_FREE_PARTS_MIN < blocks) return done(new Error('the machine has no room for it'))
      }
      hash.update(chunk)
      done(null, chunk)
    },
  })
  const failed = Promise.withResolvers<never>()
  source.on('error', failed.reject)
  const last: Readable = source.pipe(measure)
  last.on('error', failed.reject)
  const directoryTimes = new Map<string, bigint>()
  const write = async () => {
    // The two ReadableStream types are one class; only their declarations differ.
    const entries = (Readable.toWeb(last) as unknown as ReadableStream<Uint8Array>).pipeThrough(decoder)
    for await (const entry of entries as unknown as AsyncIterable<ParsedTarEntry>) {
      if (++result.entries > LAYER_ENTRIES_MAX)
        throw new Error(`The layer has more than ${LAYER_ENTRIES_MAX} entries`)
      await writeEntry(entry, calls, directoryTimes, result)
    }
  }
  await Promise.race([write(), failed.promise])
  // What follows the end of the archive still counts for the digest.
  for await (const _rest of last) continue
  for (const [path, seconds] of directoryTimes) calls.touch(path, seconds)
  return { diffId: `sha256:${hash.digest('hex')}`, ...result }
}

async function writeEntry(
  entry: ParsedTarEntry,
  calls: LayerCalls,
  directoryTimes: Map<string, bigint>,
  result: { skippedDevices: number },
): Promise<void> {
  const { header } = entry
  const path = parseEntryPath(header.name)
  const name = path.slice(path.lastIndexOf('/') + 1)
  const drain = () => entry.body.cancel()
  if (name.startsWith('.wh.')) {
    await drain()
    ensureDirectory(dirname(path))
    if (name === '.wh..wh..opq') {
      if (!calls.opaque(dirname(path))) throw new Error(`Cannot mark "${dirname(path)}" as opaque`)
    } else if (!name.startsWith('.wh..wh.')) {
      const hidden = join(dirname(path), name.slice(4))
      if (name.length === 4 || name === '.wh..' || name === '.wh...')
        throw new Error(`The layer has a bad whiteout ${JSON.stringify(name)}`)
      rmSync(hidden, { recursive: true, force: true })
      if (!calls.whiteout(hidden)) throw new Error(`Cannot write the whiteout of "${hidden}"`)
    }
    return
  }
  const seconds = BigInt(Math.trunc((header.mtime?.getTime() ?? 0) / 1000))
  const mode = (header.mode ?? 0o644) & 0o7777
  const uid = boundedId(header.uid)
  const gid = boundedId(header.gid)
  switch (header.type ?? 'file') {
    case 'directory': {
      await drain()
      ensureDirectory(path)
      if (path !== '/') lchownSync(path, uid, gid)
      chmodSync(path, mode)
      directoryTimes.set(path, seconds)
      return
    }
    case 'file': {
      prepare(path)
      // O_EXCL and O_NOFOLLOW: the name is new, whatever links an earlier entry made.
      const fd = openSync(
        path,
        constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
        0o600,
      )
      try {
        for await (const chunk of entry.body as unknown as AsyncIterable<Uint8Array>)
          for (let at = 0; at < chunk.length;) at += writeSync(fd, chunk, at)
        fchownSync(fd, uid, gid)
        fchmodSync(fd, mode)
      } finally {
        closeSync(fd)
      }
      calls.touch(path, seconds)
      return
    }
    case 'symlink': {
      await drain()
      prepare(path)
      const target = header.linkname ?? ''
      if (target === '' || target.includes('\0'))
        throw new Error(`The layer has a symbolic link ${JSON.stringify(path)} without a target`)
      symlinkSync(target, path)
      lchownSync(path, uid, gid)
      calls.touch(path, seconds)
      return
    }
    case 'link': {
      await drain()
      const target = parseEntryPath(header.linkname ?? '')
      if (!lstatSync(target, { throwIfNoEntry: false })?.isFile())
        throw new Error(
          `The layer has a hard link ${JSON.stringify(path)} to ${JSON.stringify(target)}, which is not a file in it`,
        )
      if (target === path) return
      prepare(path)
      linkSync(target, path)
      return
    }
    case 'character-device':
    case 'block-device':
    case 'fifo':
      result.skippedDevices++
      return drain()
    default:
      return drain()
  }
}

/** Parents exist, and nothing is at `path` itself. */
function prepare(path: string): void {
  if (path === '/') throw new Error("The layer has an entry that replaces the image's root")
  ensureDirectory(dirname(path))
  const there = lstatSync(path, { throwIfNoEntry: false })
  if (there) rmSync(path, { recursive: true, force: true })
}

function ensureDirectory(path: string): void {
  if (path === '/') return
  ensureDirectory(dirname(path))
  const there = lstatSync(path, { throwIfNoEntry: false })
  if (there?.isDirectory()) return
  // A symbolic link to a directory is how images merge /usr; it resolves below our root.
  if (there?.isSymbolicLink() && isDirectory(path)) return
  if (there) rmSync(path, { force: true })
  mkdirSync(path, { mode: 0o755 })
}

/** In constant time: a layer can come back to a large directory a million times. */
function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory()
  } catch {
    return false
  }
}

/** Ids beyond a tenant's range would belong to nobody; the image format allows them, a pod could not use them. */
function boundedId(id: number | undefined): number {
  return id === undefined || !Number.isSafeInteger(id) || id < 0 || id > ID_MAX ? ID_MAX - 1 : id
}
