import type { LayerResult, TenantPosture } from './layers.ts'
import { type Observer, observerOf, type World } from './observers.ts'
import {
  type FailureDomain,
  type LayerName,
  LAYERS,
  LAYERS_REQUIRED,
  type Vector,
  VECTOR_NAMES,
  VECTORS,
} from './vectors.ts'

/**
 * `holds`: enough independent layers were seen. `fails`: fewer, where there should be enough. `open`: fewer are known to
 * be there, which is said and not hidden. `absent`: there is nothing to cross.
 */
export type VectorState = 'holds' | 'fails' | 'open' | 'absent'

export type VectorReport = {
  vector: Vector
  layers: LayerResult[]
  /** How many of the layers that hold are independent of each other. */
  independent: number
  state: VectorState
  /** Why a vector is open or absent. */
  note?: string
  /** Somebody took the blame for a vector that fails; it does not refuse new workloads until then. */
  waiver?: string
}

/** Pairs of tenants in which the same layers hold; the evidence is that of `example`. */
export type PairGroup = {
  attackers: string[]
  victims: string[]
  /** How many pairs these are: nobody is paired with itself. */
  pairs: number
  example: { attacker: string; victim: string }
  vectors: VectorReport[]
}

type Place = { vector: Vector; layer: LayerName; observer: Observer }
const PLACES: readonly Place[] = VECTOR_NAMES.flatMap((vector) =>
  VECTORS[vector].layers.map((layer) => ({ vector, layer, observer: observerOf(vector, layer) })),
)
const OBSERVERS = [...new Set(PLACES.map(({ observer }) => observer))]

/** Every pair of tenants, in few groups: pairs in which the same layers hold on the same vectors are told once. */
export function prove(world: World): PairGroup[] {
  const { tenants } = world
  const single = (of: Observer['of']) => OBSERVERS.filter((observer) => observer.of === of)
  const seen = new Map<Observer, Map<TenantPosture, LayerResult | undefined>>()
  const lookOnce = (observer: Observer, about: TenantPosture): LayerResult | undefined => {
    const known = seen.get(observer) ?? new Map<TenantPosture, LayerResult | undefined>()
    seen.set(observer, known)
    if (!known.has(about)) known.set(about, observer.look(world, about, about))
    return known.get(about)
  }
  const signs = (observers: readonly Observer[], about: TenantPosture) =>
    observers.map((observer) => sign(lookOnce(observer, about)?.holds)).join('')
  const victimSigns = new Map(tenants.map((tenant) => [tenant, signs(single('victim'), tenant)]))
  const pairObservers = single('pair')
  const rows = tenants.flatMap((attacker) => {
    const own = signs(single('attacker'), attacker)
    const bySignature = new Map<string, TenantPosture[]>()
    for (const victim of tenants) {
      if (attacker === victim) continue
      let signature = `${own} ${victimSigns.get(victim)} `
      for (const observer of pairObservers)
        signature += sign(
          observer.holds
            ? observer.holds(world, attacker, victim)
            : observer.look(world, attacker, victim)?.holds,
        )
      const victims = bySignature.get(signature)
      if (victims) victims.push(victim)
      else bySignature.set(signature, [victim])
    }
    return [...bySignature].map(([signature, victims]) => ({ signature, attackers: [attacker], victims }))
  })
  const [first] = tenants
  const explain = (observer: Observer, attacker: TenantPosture, victim: TenantPosture) =>
    observer.of === 'pair'
      ? observer.look(world, attacker, victim)
      : lookOnce(
          observer,
          observer.of === 'attacker' ? attacker : observer.of === 'victim' ? victim : (first ?? victim),
        )
  return merge(rows).flatMap(({ attackers, victims }) => {
    const [attacker] = attackers
    const victim = victims.find((each) => each !== attacker)
    if (!attacker || !victim) return []
    const results = new Map(OBSERVERS.map((observer) => [observer, explain(observer, attacker, victim)]))
    const among = new Set(victims)
    return [
      {
        attackers: attackers.map(({ name }) => name),
        victims: victims.map(({ name }) => name),
        pairs: attackers.reduce((sum, each) => sum + victims.length - (among.has(each) ? 1 : 0), 0),
        example: { attacker: attacker.name, victim: victim.name },
        vectors: VECTOR_NAMES.map((vector) =>
          judge(
            vector,
            PLACES.flatMap((place) => (place.vector === vector ? (results.get(place.observer) ?? []) : [])),
          ),
        ),
      },
    ]
  })
}

type Row = { signature: string; attackers: TenantPosture[]; victims: TenantPosture[] }

/** Attackers with the same victims are one row; and so are those that are each other's victims, and nobody's else. */
function merge(rows: readonly Row[]): Row[] {
  const by = (some: readonly Row[], key: (row: Row) => readonly TenantPosture[]) => {
    const merged = new Map<string, Row>()
    for (const row of some) {
      const whom = key(row)
      const text = `${row.signature} ${whom
        .map(({ name }) => name)
        .sort()
        .join(' ')}`
      const known = merged.get(text)
      if (known) known.attackers.push(...row.attackers)
      else merged.set(text, { ...row, attackers: [...row.attackers], victims: [...whom] })
    }
    return [...merged.values()]
  }
  const same = by(rows, ({ victims }) => victims)
  const alone = same.filter(({ attackers }) => attackers.length === 1)
  const among = by(alone, ({ attackers, victims }) => [...victims, ...attackers])
  return [
    ...same.filter(({ attackers }) => attackers.length > 1),
    // A row that met no other keeps its victims as they were.
    ...among.map((row) =>
      row.attackers.length > 1
        ? row
        : { ...row, victims: row.victims.filter((victim) => victim !== row.attackers[0]) },
    ),
  ]
}

function sign(holds: boolean | undefined): string {
  return holds === undefined ? '-' : holds ? '1' : '0'
}

/** How a vector stands, given what was seen of its layers. */
export function judge(vector: Vector, layers: LayerResult[]): VectorReport {
  const { open, absent } = VECTORS[vector]
  const domains = new Set<FailureDomain>(
    layers.filter((layer) => layer.holds).map((layer) => LAYERS[layer.layer].domain),
  )
  const independent = domains.size
  if (absent !== undefined) return { vector, layers, independent, state: 'absent', note: absent }
  if (independent >= LAYERS_REQUIRED) return { vector, layers, independent, state: 'holds' }
  const isOpen = open !== undefined && !layers.some(({ layer }) => open.without?.includes(layer))
  if (isOpen && independent >= open.layersKnown)
    return { vector, layers, independent, state: 'open', note: open.why }
  return { vector, layers, independent, state: 'fails' }
}
