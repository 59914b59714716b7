import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { escaped, type Outcome } from './attack.ts'

/** A directory on the machine with one file, of which an attack must neither read nor change anything. */
export type Marker = Disposable & {
  directory: string
  file: string
  /** What has become of it; undefined when it is as it was. */
  changed(): Outcome | undefined
}

export const MARKER_CONTENT = 'of the machine'

const PLACE = '/tmp'
const prefixOf = (stateDir: string) => `${basename(stateDir)}-attack-`

/** Where everybody may write, so that nothing but what is attacked keeps the attacker from it. */
export function placeMarker(stateDir: string, mark: string): Marker {
  const directory = join(PLACE, prefixOf(stateDir) + mark)
  const file = join(directory, 'marker')
  mkdirSync(directory)
  chmodSync(directory, 0o777)
  writeFileSync(file, MARKER_CONTENT)
  return {
    directory,
    file,
    changed() {
      const left = existsSync(directory) ? readdirSync(directory) : []
      return left.length === 1 && existsSync(file) && readFileSync(file, 'utf8') === MARKER_CONTENT
        ? undefined
        : escaped(`the machine's directory has ${left.join(', ') || 'gone'} now`)
    },
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  }
}

/** Those of runs of this platform that were killed. Requires: no other run of it is going on. Returns how many. */
export function removeMarkers(stateDir: string): number {
  const left = readdirSync(PLACE).filter((name) => {
    if (!new RegExp(`^${RegExp.escape(prefixOf(stateDir))}m[0-9a-f]{8}$`).test(name)) return false
    const seen = lstatSync(join(PLACE, name))
    return seen.isDirectory() && seen.uid === process.geteuid?.()
  })
  for (const name of left) rmSync(join(PLACE, name), { recursive: true, force: true })
  return left.length
}
