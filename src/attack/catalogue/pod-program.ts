import { networkInterfaces } from 'node:os'
import { type Attack, type AttackContext, blocked, escaped, type Outcome, untried } from '../attack.ts'
import { countTasksOfTenant } from '../machine-tasks.ts'
import { WORK_MIB } from '../limits.ts'
import { CANARY_PORT, INTRUDER, type Party } from '../party.ts'

/** What programs/pod.py says of one attack. */
export type PodTrial = {
  controls: readonly { what: string; works: boolean }[]
  /** What was tried, and what the kernel or the network answered. */
  tried: readonly { what: string; answer: string }[]
  escapes: readonly string[]
  unable: readonly string[]
  /** A call that the kernel answers in one way whoever asks was answered in another: something stands before the kernel. */
  filtered: boolean
  gvisor: boolean
}

export type PodAttack = Omit<Attack, 'control' | 'attempt' | 'needs'> & {
  /** The layer that an answer without an error's name stands for, such as a directory in which nobody else's files are. */
  seenBy: string
  /**
   * Success would be a change in the kernel that the program runs on, and nothing else. On gVisor that kernel is the pod's
   * own: it has not come nearer to anybody.
   */
  ofKernel?: true
}

/** Where a copy of the platform without the layer "mount view" puts its directories. */
const LEAKED = ['/leak-state', '/leak-run']
const PLATFORM_FILES = [
  'kek',
  'keys',
  'placements.json',
  'operator.kubeconfig',
  'logs',
  'platform',
  'pki',
  'images',
  'volumes',
]
const ADDRESSES_MAX = 3
const SHOWN = 6

type Answers = Record<string, PodTrial>
/** The program's answer from the control, of which the attempt is the other half: it tries both in one go. */
const trials = new WeakMap<AttackContext, PodTrial>()
/** By attacker, then by victim: what takes no time is tried in one run of the program, each in a process of its own. */
const together = new WeakMap<Party, WeakMap<Party, Promise<Answers>>>()

/** Attacks on the kernel answer at once; those on the network wait, and those that exhaust may end the pod. */
const isQuick = (id: string) => id.startsWith('pod-')

/**
 * Takes all that it can get in its own pod, while the victim is asked again and again. Its pod may end by that; then it is
 * started again.
 */
export function exhaustionAttack({
  seenBy = 'pod limits',
  tasksMax,
  ...attack
}: Omit<PodAttack, 'family' | 'seenBy' | 'ofKernel'> & {
  seenBy?: string
  /** What the attack makes are processes, of which its pod may have so many on the machine. */
  tasksMax?: number
}): Attack {
  return {
    ...attack,
    family: 'exhaustion',
    needs: tasksMax === undefined ? ['pods'] : ['pods', 'machine'],
    async control({ attacker, victim }) {
      await attacker.untilReady(attacker.canaries.namespace, INTRUDER)
      const [own] = await fetchOwn(victim)
      if (!own?.body?.includes(victim.canaries.value))
        throw new Error(`the victim is not well before: ${own?.error}`)
      return 'the victim answers before, and the pod of the attack runs'
    },
    async attempt(context) {
      const { attacker, victim } = context
      const taken = { over: false }
      const taking = attacker
        .ask<Answers>('pod', await inputOf([attack.id], context))
        .catch((error: unknown) => `the pod of the attack was ended (${String(error).slice(0, 80)})`)
        .finally(() => (taken.over = true))
      const asked: boolean[] = []
      let tasks = 0
      do {
        asked.push(
          (await fetchOwn(victim).catch(() => []))[0]?.body?.includes(victim.canaries.value) === true,
        )
        if (tasksMax !== undefined) tasks = Math.max(tasks, countTasksOfTenant(attacker.name))
      } while (!taken.over || asked.length < VICTIM_ASKED_MIN)
      const answer = await taking
      await attacker.untilReady(attacker.canaries.namespace, INTRUDER)
      const seen = tasksMax === undefined ? '' : `${tasks} tasks of the machine at most; `
      const well = `${seen}the victim answered ${asked.filter(Boolean).length} of ${asked.length} times`
      if (asked.includes(false)) return escaped(`${well} meanwhile`)
      if (tasksMax !== undefined && tasks > tasksMax) return escaped(`beyond ${tasksMax}: ${well}`)
      if (typeof answer === 'string') return blocked('tenant limit or pod limits', `${answer}; ${well}`)
      const outcome = judge(answer[attack.id] ?? NOTHING, { seenBy, ofKernel: true })
      return outcome.kind === 'blocked' ? blocked(outcome.by, `${outcome.evidence}; ${well}`) : outcome
    },
  }
}

const VICTIM_ASKED_MIN = 3
const NOTHING: PodTrial = { controls: [], tried: [], escapes: [], unable: [], filtered: false, gvisor: false }

function fetchOwn(party: Party): Promise<{ body?: string; error?: string }[]> {
  return party.ask('fetch', { urls: [`http://${party.canaries.podIP}:${CANARY_PORT}/`] })
}

export function podAttack({ seenBy, ofKernel, ...attack }: PodAttack): Attack {
  return {
    ...attack,
    needs: ['pods'],
    async control(context) {
      const trial = await trialOf(attack.id, context)
      if (trial === undefined) throw new Error('the program does not know this attack')
      const broken = trial.controls.find(({ works }) => !works)
      if (broken) throw new Error(broken.what)
      if (trial.controls.length === 0 && trial.unable.length === 0)
        throw new Error('the program controlled nothing')
      trials.set(context, trial)
      return trial.controls.map(({ what }) => what).join('; ')
    },
    async attempt(context) {
      const trial = trials.get(context)
      return trial === undefined ? untried('the program did not run') : judge(trial, { seenBy, ofKernel })
    },
  }
}

async function trialOf(id: string, context: AttackContext): Promise<PodTrial | undefined> {
  const ask = async (ids: readonly string[]) =>
    context.attacker.ask<Answers>('pod', await inputOf(ids, context))
  if (!isQuick(id)) return (await ask([id]))[id]
  const { attacker, victim } = context
  const byVictim = together.get(attacker) ?? new WeakMap<Party, Promise<Answers>>()
  together.set(attacker, byVictim)
  const answers = byVictim.get(victim) ?? ask([])
  byVictim.set(victim, answers)
  // When all of them fail together, each is still tried by itself.
  const trial = (await answers.catch(() => undefined))?.[id]
  return trial ?? (await ask([id]))[id]
}

/** The outcome, by what was seen. */
export function judge(
  { tried, escapes, unable, filtered, gvisor }: PodTrial,
  { seenBy, ofKernel }: { seenBy: string; ofKernel?: true | undefined },
): Outcome {
  const [firstUnable] = unable
  if (escapes.length > 0) {
    const what = escapes.slice(0, SHOWN).join('; ')
    return gvisor && ofKernel === true
      ? blocked('application kernel', `gVisor did it in its own kernel: ${what}`)
      : escaped(what)
  }
  if (firstUnable !== undefined) return untried(firstUnable)
  if (tried.length === 0) return untried('the program tried nothing')
  // One of each answer first: the same a hundred times tells little.
  const firsts = new Map(tried.toReversed().map((each) => [each.answer, each]))
  const evidence = [...new Set([...firsts.values(), ...tried])].map(
    ({ what, answer }) => `${what}: ${answer}`,
  )
  const by = new Set(tried.map(({ answer }) => layerOf(answer, { seenBy, filtered, gvisor })))
  const more = evidence.length > SHOWN ? [`and ${evidence.length - SHOWN} more`] : []
  return blocked([...by].join(', '), [...evidence.slice(0, SHOWN), ...more].join('; '))
}

/** Errors that only say that there is nothing by that name: the view that the pod was given has nothing there. */
const ABSENT = ['ENOENT', 'ESRCH', 'ENXIO', 'ENODEV', 'ENOTDIR', 'ECONNREFUSED', 'nothing', 'empty']

/** The packet has not left the pod. */
const NO_WAY = ['ENETUNREACH', 'EHOSTUNREACH', 'EADDRNOTAVAIL']

function layerOf(
  answer: string,
  { seenBy, filtered, gvisor }: { seenBy: string; filtered: boolean; gvisor: boolean },
): string {
  if (ABSENT.includes(answer)) return seenBy
  if (answer === 'EROFS') return 'mount view'
  if (NO_WAY.includes(answer)) return "the pod's own routes and addresses"
  if (!/^E[A-Z]+$/.test(answer) || answer === 'EXDEV') return seenBy
  if (gvisor) return 'application kernel'
  if (filtered || answer === 'ENOSYS') return 'system call filter'
  if (answer === 'EACCES') return 'user namespace'
  // Both say the same, and only switching one of them off tells which was first.
  return answer === 'EPERM' ? 'system call filter or user namespace' : seenBy
}

async function inputOf(
  ids: readonly string[],
  { attacker, victim, machine, nobody }: AttackContext,
): Promise<object> {
  const { namespace, pod } = victim.canaries
  const { metadata } = await victim.must<{ metadata: { uid: string } }>(
    `/api/v1/namespaces/${namespace}/pods/${pod}`,
  )
  const nameOf = (party: typeof attacker) =>
    `${party.canaries.service}.${party.canaries.namespace}.svc.cluster.local`
  return {
    // None means all that answer at once.
    ids,
    tenant: victim.name,
    canary_halves: [victim.canaries.value.slice(0, 12), victim.canaries.value.slice(12)],
    pod: victim.canaries.podIP,
    service: victim.canaries.clusterIP,
    port: CANARY_PORT,
    own_pod: attacker.canaries.podIP,
    own_name: nameOf(attacker),
    names: [
      nameOf(victim),
      `${victim.canaries.namespace}.svc.${victim.name}`,
      `${victim.name}.cluster.local`,
      `${nameOf(victim)}.${victim.name}`,
      `${nobody}.svc.cluster.local`,
      `${victim.canaries.podIP?.replaceAll('.', '-')}.${victim.canaries.namespace}.pod.cluster.local`,
    ],
    run_dirs: [machine.runDir, machine.stateDir].filter((place) => place !== ''),
    paths: [machine.runDir, machine.stateDir].filter((place) => place !== ''),
    work_mib: WORK_MIB,
    state_dirs: [machine.stateDir, machine.runDir, ...LEAKED].filter((place) => place !== ''),
    state_files: [
      ...PLATFORM_FILES,
      `keys/${victim.name}.wrapped`,
      `tenants/${victim.name}`,
      `ephemeral/${victim.name}`,
      ...['', '/disk', '/disk/volumes', '/disk/volumes/work', '/disk/volumes/work/file'].map(
        (name) => `containers/${metadata.uid}${name}`,
      ),
    ],
    node: addressesOfMachine(),
  }
}

function addressesOfMachine(): string[] {
  const all = Object.values(networkInterfaces()).flatMap((list) => list ?? [])
  return all
    .filter(({ family, internal }) => family === 'IPv4' && !internal)
    .slice(0, ADDRESSES_MAX)
    .map(({ address }) => address)
}
