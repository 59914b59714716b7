import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import type { KeyTrials } from './partition-keys.ts'

/** What the bytes of a tenant's partition look like to somebody who has no key. */
export type PartitionPosture = {
  path: string
  bytes: number
  /** Pages that hold something, and of these the lowest entropy in bits per byte. */
  pagesLookedAt: number
  entropyMin: number
  /** Words in it that are in every cluster's objects. */
  words: readonly string[]
  /** Only where keys were tried. */
  keys?: KeyTrials
}

const PAGE_BYTES = 4_096
/** The beginning and the end of large partitions, each so much. */
const PART_BYTES_MAX = 4 * 1024 * 1024
/** A page with less says too little about randomness: 2,048 random bytes have 7.9 bits per byte. */
const FILLED_BYTES_MIN = 2_048

/** Every cluster stores these, in names and fields of its first objects. */
const WORDS = [
  'apiVersion',
  'metadata',
  'resourceVersion',
  'creationTimestamp',
  'kube-system',
  'kube-root-ca',
  'ServiceAccount',
  'ClusterRole',
  'BEGIN CERTIFICATE',
  'PRIVATE KEY',
  '"kind"',
]

export function observePartition(path: string): PartitionPosture | undefined {
  const postures = [path, `${path}-wal`, `${path}-journal`].flatMap((file) => {
    const parts = readEnds(file)
    return parts === undefined ? [] : [lookAtBytes(file, parts)]
  })
  if (postures.length === 0) return undefined
  return {
    path,
    bytes: postures.reduce((sum, p) => sum + p.bytes, 0),
    pagesLookedAt: postures.reduce((sum, p) => sum + p.pagesLookedAt, 0),
    entropyMin: Math.min(...postures.map((p) => p.entropyMin)),
    words: [...new Set(postures.flatMap((p) => p.words))],
  }
}

export function lookAtBytes(path: string, parts: readonly Buffer[]): PartitionPosture {
  let [pagesLookedAt, entropyMin] = [0, 8]
  const words = new Set<string>()
  for (const part of parts) {
    for (const word of WORDS)
      if (part.includes(word) || part.includes(Buffer.from(word, 'utf16le'))) words.add(word)
    for (let at = 0; at < part.length; at += PAGE_BYTES) {
      const page = part.subarray(at, at + PAGE_BYTES).filter((byte) => byte !== 0)
      if (page.length < FILLED_BYTES_MIN) continue
      pagesLookedAt++
      entropyMin = Math.min(entropyMin, entropy(page))
    }
  }
  return {
    path,
    bytes: parts.reduce((sum, part) => sum + part.length, 0),
    pagesLookedAt,
    entropyMin,
    words: [...words],
  }
}

/** Shannon's, in bits per byte. */
export function entropy(bytes: Uint8Array): number {
  const counts = new Uint32Array(256)
  for (const byte of bytes) counts[byte] = (counts[byte] ?? 0) + 1
  let bits = 0
  for (const count of counts) if (count > 0) bits -= (count / bytes.length) * Math.log2(count / bytes.length)
  return bits
}

/**
 * The beginning and the end of a file, or all of it. The directory is a control plane's: what it puts there instead
 * of a file must neither be waited for nor lead elsewhere.
 */
export function readEnds(path: string): Buffer[] | undefined {
  let fd: number
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch {
    return undefined
  }
  try {
    const stat = fstatSync(fd)
    if (!stat.isFile()) return undefined
    const { size } = stat
    const read = (from: number, bytes: number) => {
      const buffer = Buffer.alloc(bytes)
      return buffer.subarray(0, readSync(fd, buffer, 0, bytes, from))
    }
    return size <= 2 * PART_BYTES_MAX
      ? [read(0, size)]
      : [read(0, PART_BYTES_MAX), read(size - PART_BYTES_MAX, PART_BYTES_MAX)]
  } finally {
    closeSync(fd)
  }
}
