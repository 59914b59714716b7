import { addresses } from './addresses.ts'
import { formats } from './formats.ts'
import { quantities } from './quantities.ts'
import { semvers } from './semvers.ts'
import { urls } from './urls.ts'
import { authorizer } from './authorizer.ts'
import { conversions } from './conversions.ts'
import { lists } from './lists.ts'
import { operators } from './operators.ts'
import type { Overload } from './overload.ts'
import { strings } from './strings.ts'
import { times } from './times.ts'

/** Every function an expression may call: CEL's own, its extensions that Kubernetes offers, and Kubernetes' own. */
const OVERLOADS: readonly Overload[] = [
  ...operators,
  ...conversions,
  ...strings,
  ...times,
  ...lists,
  ...authorizer,
  ...addresses,
  ...quantities,
  ...urls,
  ...semvers,
  ...formats,
]

const methods = Map.groupBy(
  OVERLOADS.filter(({ receiver }) => receiver),
  ({ name }) => name,
)
const frees = Map.groupBy(
  OVERLOADS.filter(({ receiver }) => !receiver),
  ({ name }) => name,
)

export function functionsNamed(name: string, isMethod: boolean): readonly Overload[] {
  return (isMethod ? methods : frees).get(name) ?? []
}

export function hasFunction(name: string): boolean {
  return methods.has(name) || frees.has(name)
}
