import { closeSync, constants, openSync } from 'node:fs'
import { ioctl } from './syscalls.ts'

/**
 * fscrypt: names and contents below a directory are encrypted with a key that only the kernel's memory holds.
 * https://docs.kernel.org/filesystems/fscrypt.html
 */
const FS_IOC_SET_ENCRYPTION_POLICY = 0x800c_6613
const FS_IOC_ADD_ENCRYPTION_KEY = 0xc050_6617

const KEY_SPEC_TYPE_IDENTIFIER = 2
/** struct fscrypt_add_key_arg without the key itself. */
const ADD_KEY_BYTES = 80
const RAW_SIZE_AT = 40
const IDENTIFIER_AT = 8
const IDENTIFIER_BYTES = 16

const POLICY_V2 = 2
const MODE_AES_256_XTS = 1
const MODE_AES_256_CTS = 4
const PAD_NAMES_TO_32 = 3

/** What the kernel calls a key, by which policies name it. */
export type KeyIdentifier = Buffer

/**
 * Gives the kernel the key for one mounted file system. It forgets it with the last mount, and nobody but root can take
 * it away before. Safe to repeat.
 */
export function addEncryptionKey(mountPoint: string, key: Uint8Array): KeyIdentifier {
  const argument = Buffer.alloc(ADD_KEY_BYTES + key.length)
  try {
    argument.writeUInt32LE(KEY_SPEC_TYPE_IDENTIFIER, 0)
    argument.writeUInt32LE(key.length, RAW_SIZE_AT)
    argument.set(key, ADD_KEY_BYTES)
    withDirectory(mountPoint, (fd) =>
      ioctl(fd, FS_IOC_ADD_ENCRYPTION_KEY, argument, `Cannot give the kernel the key of "${mountPoint}"`),
    )
    return Buffer.from(argument.subarray(IDENTIFIER_AT, IDENTIFIER_AT + IDENTIFIER_BYTES))
  } finally {
    argument.fill(0)
  }
}

/** Requires: the directory is empty, and the key has been added. Everything below inherits the policy, irrevocably. */
export function encryptDirectory(directory: string, identifier: KeyIdentifier): void {
  const policy = Buffer.alloc(24)
  policy.set([POLICY_V2, MODE_AES_256_XTS, MODE_AES_256_CTS, PAD_NAMES_TO_32], 0)
  policy.set(identifier, 8)
  withDirectory(directory, (fd) =>
    ioctl(fd, FS_IOC_SET_ENCRYPTION_POLICY, policy, `Cannot encrypt the directory "${directory}"`),
  )
}

function withDirectory(path: string, work: (fd: number) => void): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
  try {
    work(fd)
  } finally {
    closeSync(fd)
  }
}
