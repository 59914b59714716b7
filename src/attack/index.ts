/**
 * Attacks of one tenant on another and on the platform, really made, with what stopped each.
 *
 * How an attack is written: an `Attack` (attack.ts) in a file of catalogue/, listed in catalogue/index.ts.
 * - `control` does the same thing where it is allowed (mostly the attacker to itself) and returns what shows that it worked. If it
 *   throws, the attack counts as untried: a broken attack must not look blocked.
 * - `attempt` does it to the victim and returns `blocked(layer, evidence)` with what was seen (a status code, an errno), never
 *   what is believed; `escaped(evidence)`; or `untried(why)`. Anything thrown is untried too.
 * - Independent of what it returns, the run counts as an escape when any byte that reaches the attacker (an answer of the
 *   API to one of `context.attacker`'s connections, the output of a program in one of its pods) holds the victim's canary.
 * - From inside a pod: programs/NAME.py, sent to the attacker's pod by `context.attacker.ask('NAME', input)`; its argument
 *   is `input` as JSON, and it prints JSON. The pod has Python with ctypes, and busybox.
 * - An attack touches only its own two tenants, is bounded in time and size, and may leave objects behind in them:
 *   both are removed afterwards. Names come from `context.mark`.
 */
export {
  type Attack,
  type AttackContext,
  blocked,
  escaped,
  FAMILIES,
  type Family,
  type FrontDoor,
  type MachineAccess,
  type Need,
  type Outcome,
  untried,
} from './attack.ts'
export { askSocketAs } from './ask-socket.ts'
export { CATALOGUE, chooseAttacks } from './catalogue/index.ts'
export { plantCanaries } from './canaries.ts'
export { HostileRegistry } from './hostile-registry.ts'
export { removeMarkers } from './marker.ts'
export { hostOf, Party, type PartyOptions } from './party.ts'
export { renderCatalogue, renderMarkdown, renderResult, renderSummary } from './report.ts'
export { type Result, runAttacks, type Scene } from './run-attacks.ts'
export { type ApiAnswer, type Credential, type Identity, TenantApi } from './tenant-api.ts'
