/** From the weakest to the strongest; `affinity` and `sandboxed` answer different risks, so neither replaces the other. */
export const ISOLATION_CLASSES = ['shared', 'affinity', 'sandboxed', 'dedicated'] as const
export type IsolationClass = (typeof ISOLATION_CLASSES)[number]

/** What the operator says of a tenant. Everything left out counts as the more dangerous answer. */
export type TenantRisk = {
  /** Whether we would let its people onto our machines. */
  trust?: 'trusted' | 'untrusted'
  /** Whose code runs: written or reviewed by the tenant's own people, images nobody audited, or anything its users send. */
  code?: 'own' | 'unaudited' | 'arbitrary'
  sensitivity?: 'normal' | 'regulated'
  /** Takes so much of a machine that neighbours would notice, in spite of limits. */
  noisy?: boolean
  /** `native-kernel`: software that gVisor cannot run. */
  needs?: readonly ('own-machines' | 'sandbox' | 'native-kernel')[]
}

export type IsolationDecision =
  | { class: IsolationClass; reasons: readonly string[] }
  | { class: undefined; reasons: readonly string[]; refusal: string }

/** The weakest class that answers the risk, and why. The same risk always gives the same decision. */
export function decideIsolation(risk: TenantRisk): IsolationDecision {
  const trust = risk.trust ?? 'untrusted'
  const code = risk.code ?? (trust === 'trusted' ? 'own' : 'unaudited')
  const sensitivity = risk.sensitivity ?? 'normal'
  const needs = risk.needs ?? []

  const kernelReasons: string[] = []
  if (trust !== 'trusted')
    kernelReasons.push(
      risk.trust === undefined
        ? 'Nobody said that the tenant is trusted, so it never shares a kernel.'
        : 'The tenant is untrusted, so it never shares a kernel.',
    )
  if (code !== 'own')
    kernelReasons.push(
      code === 'arbitrary'
        ? 'It runs code that anybody may send, so the kernel is not in its reach.'
        : 'It runs code that nobody audited, so the kernel is not in its reach.',
    )
  if (needs.includes('sandbox')) kernelReasons.push('The operator asks for a sandbox.')

  const machineReasons: string[] = []
  if (trust !== 'trusted' && code === 'arbitrary')
    machineReasons.push(
      'An untrusted tenant with arbitrary code gets machines of its own, as a second wall behind the sandbox.',
    )
  if (sensitivity === 'regulated') machineReasons.push('Regulated data stays on machines of its own.')
  if (risk.noisy)
    machineReasons.push('A noisy tenant gets machines of its own, so that its neighbours do not feel it.')
  if (needs.includes('own-machines')) machineReasons.push('The operator asks for machines of its own.')

  const reasons = [...kernelReasons, ...machineReasons]
  const sandboxed = kernelReasons.length > 0
  if (sandboxed && needs.includes('native-kernel'))
    return {
      class: undefined,
      reasons,
      refusal:
        'The tenant needs a native kernel ("native-kernel"), and its risk forbids sharing one: run it in a virtual machine outside ' +
        'the platform, or have its code audited and declare it trusted with code "own".',
    }
  if (reasons.length === 0)
    reasons.push('A trusted tenant that runs its own code needs no more than its own user namespace.')
  if (sandboxed) return { class: machineReasons.length > 0 ? 'dedicated' : 'sandboxed', reasons }
  return { class: machineReasons.length > 0 ? 'affinity' : 'shared', reasons }
}

/** What an engine observed that it can do. `missing` lists, for a class it cannot offer, what would have to be there. */
export type EngineOffer = {
  engine: string
  classes: {
    readonly [C in IsolationClass]: { offered: true } | { offered: false; missing: readonly string[] }
  }
}

export type PlacementDecision = { engine: string } | { engine: undefined; refusal: string }

/** The first engine that offers the class. Never a weaker class: then the tenant is not placed, and told what is missing. */
export function decidePlacement(wanted: IsolationClass, offers: readonly EngineOffer[]): PlacementDecision {
  for (const { engine, classes } of offers) if (classes[wanted].offered) return { engine }
  const missing = offers.map(({ engine, classes }) => {
    const offer = classes[wanted]
    return `engine "${engine}" lacks ${offer.offered ? 'nothing' : offer.missing.join(', ') || 'support for it'}`
  })
  return {
    engine: undefined,
    refusal: `No engine offers the isolation class "${wanted}": ${missing.join('; ') || 'there is no engine'}`,
  }
}
