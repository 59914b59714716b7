import { stripVTControlCharacters } from 'node:util'
import type { PairGroup } from '../proof.ts'
import type { Report, Waiver } from '../verify.ts'

/** What every format of the report says in the same words. */

export const NAMES_SHOWN = 6
const NAMES_LISTED = 50

/** `red → blue`, or how many of them. */
export function pairText({ attackers, victims }: PairGroup): string {
  const side = (names: readonly string[]) =>
    names.length <= NAMES_SHOWN ? names.map(plain).join(', ') : `${names.length} tenants`
  return `${side(attackers)} → ${side(victims)}`
}

/** Who is meant, where the short form says only how many; undefined when it says it. */
export function whoText({ attackers, victims }: PairGroup): string | undefined {
  if (attackers.length <= NAMES_SHOWN && victims.length <= NAMES_SHOWN) return undefined
  const some = (names: readonly string[]) =>
    plain(names.slice(0, NAMES_LISTED).join(', ')) +
    (names.length > NAMES_LISTED ? ` and ${names.length - NAMES_LISTED} more` : '')
  return `${some(attackers)} → ${some(victims)}`
}

export function grantText({ tenant, kind, what, until, reason }: Report['grants'][number]): string {
  return plain(
    `${tenant}: ${kind} ${what}, ${until === undefined ? 'without an end' : `until ${until}`}${reason === undefined ? '' : ` (${reason})`}`,
  )
}

export function waiverText({ id, vector, tenant, until, by, reason }: Waiver): string {
  return plain(`${id}: ${vector} for ${tenant ?? 'all tenants'} until ${until}, by ${by}: ${reason}`)
}

/** Programs of tenants choose their own names: no control character of theirs reaches a terminal. */
export function plain(text: string): string {
  return stripVTControlCharacters(text).replaceAll(/\p{C}/gu, '?')
}
