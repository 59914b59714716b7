import { chmod, cp, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url))

/** A change to a copy of the source, by which the copy lacks a layer. `find` is in the file exactly once. */
export type Edit = { file: string; find: string; replace: string }

/** @throws when the source has moved on, so that nobody believes to have switched off what is still there. */
export function applyEdit(source: string, { file, find, replace }: Edit): string {
  const times = source.split(find).length - 1
  if (times !== 1) throw new Error(`"${find}" is ${times} times in ${file}; it must be there once`)
  return source.replace(find, () => replace)
}

export type Copy = { cli: string; directory: string } & AsyncDisposable

/**
 * A copy of the platform without a layer. No switch for it exists in the platform itself: what is installed cannot be
 * told to leave a layer out, however it is started.
 */
export async function copyWithout(edits: readonly Edit[], instance: string): Promise<Copy> {
  const directory = await mkdtemp(join(tmpdir(), prefixOf(instance)))
  const removed = async () => rm(directory, { recursive: true, force: true })
  try {
    // The daemons run as users of their own and read their programs from here.
    await chmod(directory, 0o755)
    for (const name of ['src', 'samples', 'package.json'])
      await cp(join(REPOSITORY, name), join(directory, name), { recursive: true })
    for (const name of ['node_modules', '.cache', 'tools'])
      await symlink(join(REPOSITORY, name), join(directory, name))
    // In order: a later one may change what an earlier one has left.
    for (const edit of edits) {
      const path = join(directory, edit.file)
      await writeFile(path, applyEdit(await readFile(path, 'utf8'), edit))
    }
    return {
      cli: join(directory, 'src/main/cli.ts'),
      directory,
      [Symbol.asyncDispose]: removed,
    }
  } catch (error) {
    await removed()
    throw error
  }
}

const prefixOf = (instance: string) => `bulkhead-without-${instance}-`

/** Removes what a run that was killed has left. Requires: none of this instance runs. */
export async function removeCopies(instance: string): Promise<void> {
  for (const name of await readdir(tmpdir()))
    if (name.startsWith(prefixOf(instance))) await rm(join(tmpdir(), name), { recursive: true, force: true })
}
