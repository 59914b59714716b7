import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { test } from 'node:test'

/** Rooms from the top down. A room imports only rooms of lower rows, and only through their `index.ts`. */
const ROWS: readonly (readonly string[])[] = [
  ['main'],
  ['gateway', 'apiserver', 'controllers', 'engine/local', 'verifier', 'attack', 'cli'],
  ['policy', 'store', 'client', 'jail', 'identity', 'link'],
  ['cel', 'rego'],
  ['api'],
  ['stdx'],
]
const ROOMS = ROWS.flat()
const SRC = join(import.meta.dirname, '../src')
/** What a source file may import from outside src, each with its reason. */
const OUTSIDE: Readonly<Record<string, string>> = {
  // The demonstration builds the repository's own sample images.
  'main/demo.ts': '../samples/images/build.ts',
  // Attacks run in an image that is built from the same packages.
  'main/attack-registry.ts': '../samples/images/build.ts',
  // Some attacks are images.
  'attack/catalogue/images.ts': '../samples/images/push.ts',
}

function roomOf(path: string): string | undefined {
  return ROOMS.find((room) => path.startsWith(`${room}/`))
}

function sources(dir = SRC): string[] {
  return readdirSync(dir, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => relative(SRC, join(entry.parentPath, entry.name)))
}

function importsOf(file: string): string[] {
  const text = readFileSync(join(SRC, file), 'utf8')
  return [...text.matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g)].map((match) =>
    relative(SRC, join(SRC, file, '..', match[1] ?? '')),
  )
}

const isTest = (file: string) => file.endsWith('.test.ts')

test('every source file lives in a room that is on the map', () => {
  assert.deepEqual(
    sources().filter((file) => roomOf(file) === undefined),
    [],
  )
})

test('imports go down the rows and never sideways or up', () => {
  const rowOf = (room: string) => ROWS.findIndex((row) => row.includes(room))
  const wrong = sources().flatMap((file) => {
    const from = roomOf(file)
    if (from === undefined || isTest(file)) return []
    return importsOf(file).flatMap((imported) => {
      const to = roomOf(imported)
      if (to === from) return []
      if (to === undefined && OUTSIDE[file] === imported) return []
      if (to === undefined) return [`${file} imports ${imported}, which is outside src`]
      return rowOf(to) > rowOf(from) ? [] : [`${file} (${from}) imports ${imported} (${to})`]
    })
  })
  assert.deepEqual(wrong, [])
})

test('a room is entered through its index.ts only', () => {
  const wrong = sources().flatMap((file) => {
    if (isTest(file)) return []
    return importsOf(file).flatMap((imported) => {
      const to = roomOf(imported)
      return to === undefined || to === roomOf(file) || imported === `${to}/index.ts`
        ? []
        : [`${file} imports ${imported}`]
    })
  })
  assert.deepEqual(wrong, [])
})

test('only engine/local/host changes the machine or starts processes, besides the programs in main', () => {
  const wrong = sources().filter(
    (file) =>
      !isTest(file) &&
      !file.startsWith('engine/local/host/') &&
      !file.startsWith('main/') &&
      // Runs ip, nft and tc, which only list.
      file !== 'verifier/posture/network.ts' &&
      /from 'node:child_process'/.test(readFileSync(join(SRC, file), 'utf8')),
  )
  assert.deepEqual(wrong, [])
})

test('the verifier reads the machine with its own eyes: it imports no engine and no control plane', () => {
  const wrong = sources()
    .filter((file) => file.startsWith('verifier/') && !isTest(file))
    .flatMap((file) => importsOf(file).filter((imported) => !/^(?:verifier|api|stdx)\//.test(imported)))
  assert.deepEqual(wrong, [])
})

test('nothing is called utils, common, helpers or manager', () => {
  assert.deepEqual(
    sources().filter((file) => /(?:^|[/-])(?:utils?|common|helpers?|managers?)(?:[-./]|$)/.test(file)),
    [],
  )
})
