import {
  closeSync,
  existsSync,
  fchmodSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  rmdirSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import type { Layout } from '../../../api/index.ts'
import { isJailId, type Jail, type JailId } from '../../../jail/index.ts'
import type { PodMemory } from './pod-memory.ts'

/**
 * What an engine needs to take its pods up again after its own death. Accepted jails hold secrets, so these files are
 * readable by root only and lie in the run directory, which is in memory.
 */
export class PodRecords {
  private readonly directory: string

  constructor(layout: Layout) {
    this.directory = join(layout.runDir, 'pods')
  }

  /** Returns the bytes it took. */
  saveJail(jail: Jail): number {
    const text = JSON.stringify(jail)
    mkdirSync(join(this.directory, jail.id), { recursive: true, mode: 0o700 })
    replaceFile(join(this.directory, jail.id, 'jail.json'), text)
    return Buffer.byteLength(text)
  }

  saveMemory(id: JailId, memory: PodMemory): void {
    replaceFile(join(this.directory, id, 'memory.json'), JSON.stringify(memory))
  }

  /** The pod's directory is shared with its network, so it goes only when it is empty. */
  remove(id: JailId): void {
    for (const file of ['memory.json', 'memory.json.new', 'jail.json', 'jail.json.new'])
      rmSync(join(this.directory, id, file), { force: true })
    try {
      rmdirSync(join(this.directory, id))
    } catch {
      // Not empty, or gone already.
    }
  }

  /**
   * Every pod that was accepted. One that was cut off while it was being written was never acknowledged, so it is
   * dropped; so is one that does not read as what we wrote.
   */
  load(
    onBroken: (id: JailId, error: unknown) => void,
  ): { jail: Jail; bytes: number; memory: PodMemory | undefined }[] {
    if (!existsSync(this.directory)) return []
    return readdirSync(this.directory).flatMap((id) => {
      if (!isJailId(id)) return []
      try {
        if (!existsSync(join(this.directory, id, 'jail.json'))) return []
        const text = readFileSync(join(this.directory, id, 'jail.json'), 'utf8')
        const jail = JSON.parse(text) as Jail
        if (jail.id !== id) throw new Error(`The record of jail "${id}" is about "${String(jail.id)}"`)
        const file = join(this.directory, id, 'memory.json')
        const memory = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as PodMemory) : undefined
        return [{ jail, bytes: Buffer.byteLength(text), memory }]
      } catch (error) {
        onBroken(id, error)
        return []
      }
    })
  }
}

/** A reader sees the old content or the new, never a part. No fsync: the directory lives in memory. */
function replaceFile(path: string, text: string): void {
  const temporary = `${path}.new`
  const fd = openSync(temporary, 'w', 0o600)
  try {
    fchmodSync(fd, 0o600)
    const bytes = Buffer.from(text)
    for (let written = 0; written < bytes.length;) written += writeSync(fd, bytes, written)
  } finally {
    closeSync(fd)
  }
  renameSync(temporary, path)
}
