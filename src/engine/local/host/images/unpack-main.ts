/**
 * The program that unpacks one layer: `unpack-main.ts LAYER_DIR` with the layer's tar on standard input. It
 * enters LAYER_DIR as its root before it reads the first byte, so nothing that a tar says, no `..` and no symbolic
 * link, leads anywhere else. It prints one line: `{"diffId": …}` or `{"problem": …}`.
 */
import koffi from 'koffi'
import { createTarDecoder } from 'modern-tar'
import { type UnpackResult, unpackLayer } from './layer-writer.ts'

const libc = koffi.load('libc.so.6')
const chroot = libc.func('int chroot(const char *path)')
const prctl = libc.func(
  'int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)',
)
const setxattr = libc.func(
  'int lsetxattr(const char *path, const char *name, const char *value, size_t size, int flags)',
)
const mknod = libc.func('int mknod(const char *path, unsigned int mode, unsigned long device)')
const capset = libc.func('int capset(uint32_t *header, uint32_t *data)')
const lutimes = libc.func('int utimensat(int dirfd, const char *path, int64_t *times, int flags)')

const PR_SET_NO_NEW_PRIVS = 38
// CHOWN, DAC_OVERRIDE, FOWNER, FSETID to give files their owners and modes; MKNOD for overlayfs' whiteouts and
// SYS_ADMIN for its trusted.overlay.opaque attribute. Everything else is dropped.
const KEPT_CAPABILITIES = [0, 1, 3, 4, 21, 27]
const S_IFCHR = 0o020000
const AT_FDCWD = -100
const AT_SYMLINK_NOFOLLOW = 0x100

const [layerDir] = process.argv.slice(2)

async function main(): Promise<UnpackResult> {
  if (layerDir === undefined || !layerDir.startsWith('/')) throw new Error('unpack-main.ts LAYER_DIR')
  if (chroot(layerDir) !== 0) throw new Error(`Cannot enter "${layerDir}" as root directory`)
  process.chdir('/')
  process.umask(0)
  const mask = KEPT_CAPABILITIES.reduce((bits, bit) => bits | (1 << bit), 0) >>> 0
  // _LINUX_CAPABILITY_VERSION_3 takes two sets of (effective, permitted, inheritable).
  if (capset(new Uint32Array([0x20080522, 0]), new Uint32Array([mask, mask, 0, 0, 0, 0])) !== 0)
    throw new Error('Cannot drop capabilities')
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) !== 0) throw new Error('Cannot set no_new_privs')
  return unpackLayer(process.stdin, createTarDecoder({ strict: true }), {
    whiteout: (path) => mknod(path, S_IFCHR, 0) === 0,
    opaque: (path) => setxattr(path, 'trusted.overlay.opaque', 'y', 1, 0) === 0,
    touch: (path, seconds) =>
      lutimes(AT_FDCWD, path, new BigInt64Array([seconds, 0n, seconds, 0n]), AT_SYMLINK_NOFOLLOW) === 0,
  })
}

main().then(
  (result) => process.stdout.write(`${JSON.stringify(result)}\n`),
  (error: unknown) => {
    process.stdout.write(
      `${JSON.stringify({ problem: error instanceof Error ? error.message : String(error) })}\n`,
    )
    process.exitCode = 1
  },
)
