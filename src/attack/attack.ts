import type { HostileRegistry } from './hostile-registry.ts'
import type { TenantApi } from './tenant-api.ts'
import type { Party } from './party.ts'

/** What an attack turns on; `bulkhead attack --family` picks by it. */
export const FAMILIES = [
  // through the gateway
  'paths',
  'headers',
  'protocol',
  'identity',
  'objects',
  'rights',
  'watches',
  'oracles',
  'services',
  'extensions',
  'secrets',
  'front door',
  'floods',
  'audit',
  'sockets',
  // from inside pods
  'kernel',
  'mounts',
  'devices',
  'processes',
  'images',
  'streams',
  'probes',
  'logs',
  'network',
  'dns',
  'exhaustion',
  'volumes',
] as const
export type Family = (typeof FAMILIES)[number]

export type Outcome =
  /** `by` is the layer that was seen to refuse; the verifier's name where it has one. */
  | { kind: 'blocked'; by: string; evidence: string }
  | { kind: 'escaped'; evidence: string }
  | { kind: 'untried'; why: string }

export const blocked = (by: string, evidence: string): Outcome => ({ kind: 'blocked', by, evidence })
export const escaped = (evidence: string): Outcome => ({ kind: 'escaped', evidence })
export const untried = (why: string): Outcome => ({ kind: 'untried', why })

/** What an attack needs beyond two tenants with an API; without it, it is not tried and the report says why. */
export type Need =
  /** A pod of the attacker (and the victim's with its canaries). */
  | 'pods'
  /** Files and sockets of the machine, as root: what somebody has who took over one of the platform's processes. */
  | 'machine'
  /** Hosts of the attacker and of the victim at the front door. */
  | 'front door'
  /** A registry that says what the attack wants. */
  | 'registry'

export type Attack = {
  /** Lower-case words with hyphens; never reused for something else. */
  id: string
  /** A sentence about what the attacker does: "lists the victim's secrets by …". */
  title: string
  family: Family
  /** One of the verifier's vectors; a test compares. */
  vector: string
  /** Ids of the verifier's `STANDARDS`, where one fits. */
  standards?: readonly string[]
  /** A published failure of somebody's that it replays: its id, and what happened in our words. */
  replays?: string
  needs?: readonly Need[]
  /** In the share that is tried on every change, because it is quick and says much. */
  always?: true
  /**
   * The same action where it is allowed: against the attacker's own tenant, or by the victim. Returns what shows that it
   * works, and throws otherwise. Without it "blocked" could mean that the attack is broken.
   */
  control(context: AttackContext): Promise<string>
  attempt(context: AttackContext): Promise<Outcome>
}

export type AttackContext = {
  attacker: Party
  victim: Party
  /** Lower-case letters and digits, another in every attempt: for names of objects. */
  mark: string
  signal: AbortSignal
  /** A name that no tenant has, as long as the victim's. */
  nobody: string
  /** The registry that both tenants may use, such as 127.0.0.1:5000; anybody may push. */
  registry: string
  /** The image that every pod of an attack runs: Python and busybox. */
  image: string
  /** Another tenant, removed after the attempt. `name`: of one that this attack has deleted. */
  scratchTenant(isolationClass?: string, name?: string): Promise<Party>
  /** Removes a tenant at once and waits until nothing is left of it. */
  deleteTenant(party: Party): Promise<void>
  /** Present for attacks that need the machine. */
  machine: MachineAccess
  /** Present for attacks that need it: where what tenants publish is, and the attack's own registry. */
  frontDoor: FrontDoor
  hostileRegistry: HostileRegistry
}

export type FrontDoor = { address: string; httpPort: number; httpsPort: number }

export type MachineAccess = {
  stateDir: string
  runDir: string
  /** `name` is a daemon of `DAEMON_USERS`. */
  userOf(name: string): { uid: number; gid: number }
  /** Sends bytes to a unix socket as another user of the machine; resolves with the answer or the error's code. */
  askSocketAs(user: { uid: number; gid: number }, socketPath: string, bytes: string): Promise<string>
}

export type { Party, TenantApi }
