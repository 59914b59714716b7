import { closeSync, existsSync, openSync, statfsSync } from 'node:fs'
import { isMountPoint } from './machine.ts'
import { umount } from './syscalls.ts'
import { runTool } from './tool.ts'

const NSFS_MAGIC = 0x6e73_6673

/**
 * A mount namespace pinned at `path`, like the machine's except for what `script` changed in it. Mounts that appear in
 * shared trees of the machine appear in it too. `path` must be on a private mount.
 */
export async function ensureMountNamespace(path: string, script: string): Promise<void> {
  if (existsSync(path) && statfsSync(path).type === NSFS_MAGIC) return
  closeSync(openSync(path, 'a'))
  await runTool(['unshare', `--mount=${path}`, '--propagation', 'slave', 'sh', '-ec', script])
}

export function removeMountNamespace(path: string): void {
  if (existsSync(path) && isMountPoint(path)) umount(path)
}

/** Runs what follows in the mount namespace pinned at `path`, in the directory that the caller is in. */
export function enterMountNamespace(path: string, directory?: string): string[] {
  return [
    '/usr/bin/nsenter',
    `--mount=${path}`,
    ...(directory === undefined ? [] : [`--wd=${directory}`]),
    '--',
  ]
}
