/**
 * What a real server of an older minor version answers otherwise, so that it is not asked: our answers follow the newer
 * ones. Kinds and versions of groups that it does not serve are known from its discovery.
 */
import { type KindDefinition, groupVersion } from '../../src/api/index.ts'
import type { KindRequest } from './requests-of-kinds.ts'

type Since = { name: string; minor: number; why: string; path?: RegExp }

export const SINCE: readonly Since[] = [
  {
    name: 'create with a field that is not there',
    minor: 25,
    why: 'Before, the server took no `fieldValidation`, left out the field and made the object.',
  },
  {
    name: 'patch with what is no patch',
    minor: 25,
    why: 'Before field validation the patch was merged first, and the result was found to be invalid (422).',
  },
  {
    name: 'delete all',
    minor: 23,
    path: /\/services\?/,
    why: 'Services could only be deleted one by one.',
  },
  {
    name: 'delete all that are not there',
    minor: 23,
    path: /\/services\?/,
    why: 'Services could only be deleted one by one.',
  },
  {
    name: 'watch with events that nothing matches',
    minor: 27,
    why: 'Before, `sendInitialEvents` was not known, and the watch lasts for as long as somebody listens.',
  },
]

/** True when a server of this minor version answers a request as the newest do. */
export function answersAlike({ name, path }: KindRequest, minor: number): boolean {
  return !SINCE.some(
    (since) => since.name === name && (since.path?.test(path) ?? true) && minor < since.minor,
  )
}

type Ask = (request: Pick<KindRequest, 'method' | 'path'>) => Promise<{ code: number; text: string }>

/** The minor version of a server, as in "1.20". */
export async function observeMinor(ask: Ask): Promise<number> {
  const { minor } = JSON.parse((await ask({ method: 'GET', path: '/version' })).text) as { minor: string }
  return Number.parseInt(minor, 10)
}

/** The kinds of `kinds` that a server serves, in the same version of their group. */
export async function observeServed(ask: Ask, kinds: readonly KindDefinition[]): Promise<KindDefinition[]> {
  const served = new Set<string>()
  for (const gv of new Set(kinds.map(groupVersion))) {
    const { code, text } = await ask({ method: 'GET', path: `/${gv.includes('/') ? 'apis' : 'api'}/${gv}` })
    if (code !== 200) continue
    const { resources } = JSON.parse(text) as { resources: { name: string }[] }
    for (const { name } of resources) served.add(`${gv} ${name}`)
  }
  return kinds.filter((kind) => served.has(`${groupVersion(kind)} ${kind.plural}`))
}
