import { chmodSync, existsSync, readdirSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { ensureDirectory } from './machine.ts'
import { runTool } from './tool.ts'

/**
 * Compiled code of our own programs, so that a control plane that wakes in a process of its own starts in half the time
 * (https://nodejs.org/api/module.html#module-compile-cache). Only root writes it: whoever could change it would run code
 * in every process that reads it. Node keeps it by user, so others find root's under their own number.
 */
export async function fillCodeCache(directory: string, module: string): Promise<void> {
  ensureDirectory(directory, { mode: 0o755 })
  await runTool(['/usr/bin/env', `NODE_COMPILE_CACHE=${directory}`, process.execPath, module])
  for (const own of readdirSync(directory).filter((name) => name.endsWith(ROOTS)))
    for (const file of readdirSync(join(directory, own))) chmodSync(join(directory, own, file), 0o644)
}

/** Lets a user read it; without it a process merely starts slowly. */
export function shareCodeCache(directory: string, uid: number): void {
  if (!existsSync(directory)) return
  for (const own of readdirSync(directory).filter((name) => name.endsWith(ROOTS))) {
    const theirs = join(directory, own.replace(/-0$/, `-${uid}`))
    if (!existsSync(theirs)) symlinkSync(own, theirs)
  }
}

export function forgetCodeCache(directory: string, uid: number): void {
  if (!existsSync(directory)) return
  for (const name of readdirSync(directory).filter((each) => each.endsWith(`-${uid}`)))
    rmSync(join(directory, name), { force: true })
}

const ROOTS = '-0'
