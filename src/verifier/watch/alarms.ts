import type { Drift } from './watcher.ts'

/** A drift that lasts. */
export type Alarm = Drift & { id: string; since: string }

export type AlarmChange = { raised: Alarm[]; ended: Alarm[] }

/** A drift is over when it was not seen so often in a row: looks can miss something for a moment. */
const LOOKS_WITHOUT_MAX = 2
const ALARMS_MAX = 1_000

/** Turns what is seen in each look into alarms with a beginning and an end. */
export class Alarms {
  private readonly active = new Map<string, { alarm: Alarm; missed: number }>()

  get all(): Alarm[] {
    return [...this.active.values()].map(({ alarm }) => alarm)
  }

  update(drifts: readonly Drift[], nowMs: number): AlarmChange {
    const change: AlarmChange = { raised: [], ended: [] }
    for (const entry of this.active.values()) entry.missed++
    for (const drift of drifts) {
      const id = `${drift.kind}${drift.tenant === undefined ? '' : ` of ${drift.tenant}`}: ${drift.what}`
      const known = this.active.get(id)
      if (known) {
        known.missed = 0
        continue
      }
      // What one cannot list any more is still known to be wrong.
      if (this.active.size >= ALARMS_MAX) continue
      const alarm = { ...drift, id, since: new Date(nowMs).toISOString() }
      this.active.set(id, { alarm, missed: 0 })
      change.raised.push(alarm)
    }
    for (const [id, { alarm, missed }] of this.active) {
      if (missed < LOOKS_WITHOUT_MAX) continue
      this.active.delete(id)
      change.ended.push(alarm)
    }
    return change
  }
}
