import { randomBytes } from 'node:crypto'
import { withDeadline } from '../stdx/index.ts'
import {
  type Attack,
  type AttackContext,
  escaped,
  type FrontDoor,
  type MachineAccess,
  type Outcome,
  untried,
} from './attack.ts'
import { EXPECTED_LAYERS } from './catalogue/expected-layers.ts'
import { ATTACK_MS_MAX, EVIDENCE_CHARS_MAX, SCRATCH_TENANTS_MAX } from './limits.ts'
import type { HostileRegistry } from './hostile-registry.ts'
import type { Party } from './party.ts'

export type Result = {
  id: string
  title: string
  family: string
  vector: string
  standards: readonly string[]
  replays?: string
  attacker: { name: string; isolationClass: string }
  victim: { name: string; isolationClass: string }
  /** What shows that the same action works where it is allowed. */
  control?: string
  outcome: Outcome
  /** Layers that were seen to refuse it and that nobody expected: it may have been stopped by an accident, and not by what is promised. */
  unexpected?: readonly string[]
  tookMs: number
}

/** What the runner needs of whoever started it. */
export type Scene = {
  parties: readonly [Party, Party]
  registry: string
  image: string
  signal: AbortSignal
  /** Absent without root on the platform's machine. */
  machine?: MachineAccess
  /** Absent when there are no pods, because they were not wanted. */
  pods: boolean
  /** Absent unless tenants were granted hosts there. */
  frontDoor?: FrontDoor
  /** Absent unless an attack wants one. */
  hostileRegistry?: HostileRegistry
  makeTenant(isolationClass: string, name?: string): Promise<Party>
  removeTenant(party: Party): Promise<void>
  onResult?: (result: Result) => void
}

/** Tries every attack in both directions, one after the other: what one does must not be taken for what another did. */
export async function runAttacks(attacks: readonly Attack[], scene: Scene): Promise<Result[]> {
  const results: Result[] = []
  const [first, second] = scene.parties
  for (const [attacker, victim] of [
    [first, second],
    [second, first],
  ] as const)
    for (const attack of attacks) {
      scene.signal.throwIfAborted()
      const result = await runAttack(attack, { attacker, victim, scene })
      results.push(result)
      scene.onResult?.(result)
    }
  return results
}

async function runAttack(
  attack: Attack,
  { attacker, victim, scene }: { attacker: Party; victim: Party; scene: Scene },
): Promise<Result> {
  const beganMs = performance.now()
  const { id, title, family, vector, standards = [], replays } = attack
  const about = (party: Party) => ({ name: party.name, isolationClass: party.isolationClass })
  const { outcome, control } = await tryAttack(attack, { attacker, victim, scene })
  return {
    id,
    title,
    family,
    vector,
    standards,
    ...(replays === undefined ? {} : { replays }),
    attacker: about(attacker),
    victim: about(victim),
    ...(control === undefined ? {} : { control: cut(control) }),
    outcome,
    ...unexpectedLayers(id, outcome),
    tookMs: Math.round(performance.now() - beganMs),
  }
}

/** "a, b" names two layers; "a, and b" is one that is said at more length. */
export const layersOf = (by: string): string[] => by.split(/, (?!and )/)

function unexpectedLayers(id: string, outcome: Outcome): Pick<Result, 'unexpected'> {
  const expected = Object.hasOwn(EXPECTED_LAYERS, id) ? EXPECTED_LAYERS[id] : undefined
  if (outcome.kind !== 'blocked' || expected === undefined) return {}
  const unexpected = layersOf(outcome.by).filter((layer) => !expected.includes(layer))
  return unexpected.length === 0 ? {} : { unexpected }
}

async function tryAttack(
  attack: Attack,
  { attacker, victim, scene }: { attacker: Party; victim: Party; scene: Scene },
): Promise<{ outcome: Outcome; control?: string }> {
  const { machine } = scene
  if (attack.needs?.includes('pods') && !scene.pods)
    return { outcome: untried('there are no pods in this run') }
  if (attack.needs?.includes('machine') && machine === undefined)
    return { outcome: untried("it needs root on the platform's machine") }
  if (attack.needs?.includes('front door') && scene.frontDoor === undefined)
    return { outcome: untried('nobody was granted a host at the front door') }
  if (attack.needs?.includes('registry') && scene.hostileRegistry === undefined)
    return { outcome: untried('there is no registry of its own in this run') }
  const scratch = new Set<Party>()
  // Whatever the attack itself believes: bytes of the victim that have reached the attacker are an escape.
  let heard = false
  const stopListening = attacker.listenFor(victim.canaries.value, () => (heard = true))
  let control: string | undefined
  try {
    return await withDeadline(
      `The attack`,
      ATTACK_MS_MAX,
      async (signal) => {
        const context: AttackContext = {
          attacker,
          victim,
          mark: `m${randomBytes(4).toString('hex')}`,
          signal,
          nobody: `nobody-${randomBytes(16).toString('hex')}`.slice(0, victim.name.length),
          registry: scene.registry,
          image: scene.image,
          scratchTenant: async (isolationClass = 'shared', name) => {
            if (scratch.size >= SCRATCH_TENANTS_MAX) throw new Error('The attack wants too many tenants')
            const party = await scene.makeTenant(isolationClass, name)
            scratch.add(party)
            return party
          },
          deleteTenant: async (party) => {
            await scene.removeTenant(party)
            scratch.delete(party)
          },
          machine: machine ?? noMachine,
          get frontDoor() {
            return given(scene.frontDoor, 'the front door')
          },
          get hostileRegistry() {
            return given(scene.hostileRegistry, 'a registry of its own')
          },
        }
        try {
          control = await attack.control(context)
        } catch (error) {
          return { outcome: untried(cut(`its control does not work: ${message(error)}`)) }
        }
        const outcome = limited(await attack.attempt(context))
        return heard && outcome.kind !== 'escaped'
          ? {
              control,
              outcome: escaped(
                cut(`the attacker was sent the victim's canary; the attack itself says: ${text(outcome)}`),
              ),
            }
          : { control, outcome }
      },
      scene.signal,
    )
  } catch (error) {
    scene.signal.throwIfAborted()
    const outcome = heard
      ? escaped("the attacker was sent the victim's canary")
      : untried(cut(message(error)))
    return { outcome, ...(control === undefined ? {} : { control }) }
  } finally {
    stopListening()
    for (const party of scratch) await scene.removeTenant(party)
  }
}

function given<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`The attack uses ${what} without saying that it needs it`)
  return value
}

const noMachine: MachineAccess = {
  stateDir: '',
  runDir: '',
  userOf: () => {
    throw new Error('The attack uses the machine without saying that it needs it')
  },
  askSocketAs: async () => {
    throw new Error('The attack uses the machine without saying that it needs it')
  },
}

function message(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error ? `${error.message} (${error.cause.message})` : error.message
}

function text(outcome: Outcome): string {
  return outcome.kind === 'untried' ? outcome.why : outcome.evidence
}

function limited(outcome: Outcome): Outcome {
  return outcome.kind === 'untried'
    ? { ...outcome, why: cut(outcome.why) }
    : { ...outcome, evidence: cut(outcome.evidence) }
}

function cut(words: string): string {
  return words.length > EVIDENCE_CHARS_MAX ? `${words.slice(0, EVIDENCE_CHARS_MAX)}…` : words
}
