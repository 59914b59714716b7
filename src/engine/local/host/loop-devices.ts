import { closeSync, constants, existsSync, openSync, readdirSync, readFileSync, realpathSync } from 'node:fs'
import { mountedAt } from './mounts.ts'
import { ioctl, ioctlNumber, SyscallError } from './syscalls.ts'

/** Files that are shown as disks: https://man7.org/linux/man-pages/man4/loop.4.html */
const LOOP_CTL_GET_FREE = 0x4c82
const LOOP_CONFIGURE = 0x4c0a
/** struct loop_config: the file, the size of blocks, struct loop_info64, and room. */
const CONFIG_BYTES = 304
const FLAGS_AT = 60
/** The kernel lets go of the file with the last mount, whatever becomes of us. */
const LO_FLAGS_AUTOCLEAR = 4
/** Past the cache: what is in it is cached once, above, where it counts as the container's that uses it. */
const LO_FLAGS_DIRECT_IO = 16
/** Another platform on this machine may take the same free device at the same moment. */
const ATTEMPTS_MAX = 32

export type LoopDevice = Disposable & { path: string; number: string }

/** Shows a file as a disk, for as long as the device is held here or mounted. Afterwards: dispose. */
export function attachLoop(image: string): LoopDevice {
  const file = openSync(image, constants.O_RDWR | constants.O_NOFOLLOW)
  try {
    for (let attempt = 1; ; attempt++) {
      const index = freeLoop()
      const path = `/dev/loop${index}`
      const device = openSync(path, constants.O_RDWR)
      const config = Buffer.alloc(CONFIG_BYTES)
      config.writeUInt32LE(file, 0)
      config.writeUInt32LE(LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO, FLAGS_AT)
      try {
        ioctl(device, LOOP_CONFIGURE, config, `Cannot show "${image}" as a disk`)
        const number = readLine(`/sys/block/loop${index}/dev`) ?? ''
        return { path, number, [Symbol.dispose]: () => closeSync(device) }
      } catch (error) {
        closeSync(device)
        const isTaken = error instanceof SyscallError && error.code === 'EBUSY'
        if (!isTaken || attempt === ATTEMPTS_MAX) throw error
      }
    }
  } finally {
    closeSync(file)
  }
}

function freeLoop(): number {
  const control = openSync('/dev/loop-control', constants.O_RDWR)
  try {
    return ioctlNumber(control, LOOP_CTL_GET_FREE, 0, 'Cannot find a free loop device')
  } finally {
    closeSync(control)
  }
}

/** Whether a device, numbered as in "7:0", is a loop device that shows no file now. */
export function isIdleLoop(device: string): boolean {
  return device.startsWith('7:') && fileShownBy(device) === undefined
}

/** The device that has this file open, as the kernel tells. */
export function loopDeviceOf(image: string): string | undefined {
  const path = realPathOf(image)
  const name = readdirSync('/sys/block').find(
    (each) => each.startsWith('loop') && readLine(`/sys/block/${each}/loop/backing_file`) === path,
  )
  return name === undefined ? undefined : `/dev/${name}`
}

/** Whether the file system that is uppermost at a mount point is the one inside of this file. */
export function isMountOf(image: string, mountPoint: string): boolean {
  const device = mountedAt(mountPoint)?.device
  return device !== undefined && fileShownBy(device) === realPathOf(image)
}

/** How many of the machine's show a file now, whoever's. */
export function loopsInUse(): number {
  return readdirSync('/sys/block').filter((name) => existsSync(`/sys/block/${name}/loop/backing_file`)).length
}

function fileShownBy(device: string): string | undefined {
  return readLine(`/sys/dev/block/${device}/loop/backing_file`)
}

/** As the kernel tells it, where the file is still there. */
function realPathOf(image: string): string {
  return existsSync(image) ? realpathSync(image) : image
}

function readLine(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trimEnd()
  } catch {
    return undefined
  }
}
