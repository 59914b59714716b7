import { allBits, bit, type Bits, bitsFrom, NO_BITS, numbersIn } from './bits.ts'
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
  const everybody = allBits(tenants.length)
  const victimObservers = single('victim')
  /** Victims about whom the same was seen. */
  const alike = [
    ...Map.groupBy(tenants.keys(), (at) => {
      const victim = tenants[at]
      return victim ? signs(victimObservers, victim) : ''
    }),
  ].map(([signature, some]) => ({ signature, victims: bitsFrom(some) }))
  const pairRows = single('pair').map((observer) => observer.rows?.(world) ?? oneByOne(world, observer))
  const rows = tenants.flatMap((attacker, at) => {
    const own = signs(single('attacker'), attacker)
    let groups = alike.map(({ signature, victims }) => ({
      signature: `${own} ${signature} `,
      victims: victims & everybody & ~bit(at),
    }))
    for (const row of pairRows) {
      const { holds, unpromised = NO_BITS } = row(attacker)
      groups = groups.flatMap(({ signature, victims }) =>
        [
          { signature: signature + sign(true), victims: victims & holds & ~unpromised },
          { signature: signature + sign(false), victims: victims & ~holds & ~unpromised },
          { signature: signature + sign(undefined), victims: victims & unpromised },
        ].filter((group) => group.victims !== NO_BITS),
      )
    }
    return groups
      .filter(({ victims }) => victims !== NO_BITS)
      .map(({ signature, victims }) => ({ signature, attackers: bit(at), victims }))
  })
  const [first] = tenants
  const explain = (observer: Observer, attacker: TenantPosture, victim: TenantPosture) =>
    observer.of === 'pair'
      ? observer.look(world, attacker, victim)
      : lookOnce(
          observer,
          observer.of === 'attacker' ? attacker : observer.of === 'victim' ? victim : (first ?? victim),
        )
  return merge(rows).flatMap((row) => {
    const [attackers = [], victims = []] = [row.attackers, row.victims].map((some) =>
      [...numbersIn(some)].flatMap((at) => tenants[at] ?? []),
    )
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

type Row = { signature: string; attackers: Bits; victims: Bits }

/** Attackers with the same victims are one row; and so are those that are each other's victims, and nobody's else. */
function merge(rows: readonly Row[]): Row[] {
  const by = (some: readonly Row[], key: (row: Row) => Bits) => {
    const merged = new Map<string, Row>()
    for (const row of some) {
      const whom = key(row)
      const text = `${row.signature} ${whom.toString(36)}`
      const known = merged.get(text)
      if (known) known.attackers |= row.attackers
      else merged.set(text, { ...row, victims: whom })
    }
    return [...merged.values()]
  }
  const isOne = (some: Bits) => (some & (some - 1n)) === NO_BITS
  const same = by(rows, ({ victims }) => victims)
  const alone = same.filter(({ attackers }) => isOne(attackers))
  const among = by(alone, ({ attackers, victims }) => victims | attackers)
  return [
    ...same.filter(({ attackers }) => !isOne(attackers)),
    // A row that met no other keeps its victims as they were.
    ...among.map((row) => (isOne(row.attackers) ? { ...row, victims: row.victims & ~row.attackers } : row)),
  ]
}

/** For a layer that can only be looked at pair by pair. */
function oneByOne(world: World, observer: Observer): NonNullable<ReturnType<NonNullable<Observer['rows']>>> {
  return (attacker) => {
    const [holding, unpromised]: [number[], number[]] = [[], []]
    for (const [at, victim] of world.tenants.entries()) {
      const seen = attacker === victim ? undefined : observer.look(world, attacker, victim)
      if (seen === undefined) unpromised.push(at)
      else if (seen.holds) holding.push(at)
    }
    return { holds: bitsFrom(holding), unpromised: bitsFrom(unpromised) }
  }
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
