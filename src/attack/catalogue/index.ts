import { type Attack, FAMILIES } from '../attack.ts'
import { auditAttacks } from './audit.ts'
import { claimAttacks } from './claims.ts'
import { extensionAttacks } from './extensions.ts'
import { floodAttacks } from './floods.ts'
import { frontDoorAttacks } from './front-door.ts'
import { headerAttacks } from './headers.ts'
import { identityAttacks } from './identity.ts'
import { imageAttacks } from './images.ts'
import { logAttacks } from './logs.ts'
import { networkAttacks } from './network.ts'
import { objectAttacks } from './objects.ts'
import { oracleAttacks } from './oracles.ts'
import { pathAttacks } from './paths.ts'
import { peerAttacks } from './peers.ts'
import { podAttacks } from './pod.ts'
import { probeAttacks } from './probes.ts'
import { protocolAttacks } from './protocol.ts'
import { registryAttacks } from './registries.ts'
import { rightsAttacks } from './rights.ts'
import { secretAttacks } from './secrets.ts'
import { serviceAttacks } from './services.ts'
import { socketAttacks } from './sockets.ts'
import { streamAttacks } from './streams.ts'
import { watchAttacks } from './watches.ts'

/** Every attack there is, in the order in which they are tried. */
export const CATALOGUE: readonly Attack[] = [
  ...pathAttacks,
  ...headerAttacks,
  ...protocolAttacks,
  ...identityAttacks,
  ...objectAttacks,
  ...rightsAttacks,
  ...peerAttacks,
  ...watchAttacks,
  ...oracleAttacks,
  ...serviceAttacks,
  ...extensionAttacks,
  ...secretAttacks,
  ...socketAttacks,
  ...auditAttacks,
  ...frontDoorAttacks,
  ...floodAttacks,
  ...networkAttacks,
  ...podAttacks,
  ...streamAttacks,
  ...probeAttacks,
  ...logAttacks,
  ...claimAttacks,
  ...imageAttacks,
  ...registryAttacks,
]

/** @throws {RangeError} for an id or a family that there is not. */
export function chooseAttacks({
  ids = [],
  families = [],
  always = false,
}: {
  ids?: readonly string[]
  families?: readonly string[]
  /** Only the share for every change. */
  always?: boolean
}): readonly Attack[] {
  const unknown =
    ids.find((id) => !CATALOGUE.some((attack) => attack.id === id)) ??
    families.find((family) => !FAMILIES.some((known) => known === family))
  if (unknown !== undefined)
    throw new RangeError(`There is no attack or family "${unknown}"; "bulkhead attack --list" shows them`)
  return CATALOGUE.filter(
    (attack) =>
      (ids.length === 0 || ids.includes(attack.id)) &&
      (families.length === 0 || families.includes(attack.family)) &&
      (!always || attack.always === true),
  )
}
