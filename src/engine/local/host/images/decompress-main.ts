/**
 * The program that decompresses one layer: `decompress-main.ts gzip|zstd`, from standard input to standard output. It
 * runs without any privilege: what a hostile layer could do to a decompressor, it does as nobody, with no network and
 * no file that it may write. How much comes out is for the reader to bound.
 */
import { createGunzip, createZstdDecompress } from 'node:zlib'
import { pipeline } from 'node:stream/promises'

const [compression] = process.argv.slice(2)

const stage =
  compression === 'gzip' ? createGunzip() : compression === 'zstd' ? createZstdDecompress() : undefined
if (!stage) {
  process.stderr.write('decompress-main.ts gzip|zstd\n')
  process.exit(2)
}
try {
  await pipeline(process.stdin, stage, process.stdout)
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}
