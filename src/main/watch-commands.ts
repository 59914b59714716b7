import type { Layout } from '../api/index.ts'
import type { WatchCommands } from '../cli/index.ts'
import { requireRoot } from './preflight.ts'
import {
  addQuarantine,
  addWaiver,
  liftQuarantine,
  parseWaiver,
  readQuarantines,
  readWaivers,
  readWatchPolicy,
  readWatchState,
  revokeWaiver,
  writeWatchPolicy,
} from './verdict-files.ts'

/** What root decides on this machine about the continuous proof. */
export function watchCommands(layout: Layout): WatchCommands {
  const asRoot = <T>(what: string, work: () => T): T => {
    requireRoot(`bulkhead ${what}`)
    return work()
  }
  return {
    alarms: () =>
      asRoot('alarm', () => {
        const state = readWatchState(layout)
        if (!state) throw new Error('The verifier has not looked yet; is the platform running?')
        return state
      }),
    waivers: () =>
      asRoot('waive', () => readWaivers(layout).filter(({ until }) => Date.parse(until) > Date.now())),
    waive: (wanted) => asRoot('waive', () => addWaiver(layout, parseWaiver(wanted, Date.now()), Date.now())),
    revoke: (id) => asRoot('waive', () => revokeWaiver(layout, id)),
    quarantines: () => asRoot('quarantine', () => readQuarantines(layout)),
    quarantine: (tenant, reason) =>
      asRoot('quarantine', () => addQuarantine(layout, tenant, reason, Date.now())),
    lift: (tenant) => asRoot('quarantine', () => liftQuarantine(layout, tenant)),
    quarantineOnAlarm: (on) =>
      asRoot('quarantine', () => {
        const policy = readWatchPolicy(layout)
        if (on === undefined) return policy.onAlarm === 'quarantine'
        writeWatchPolicy(layout, { ...policy, onAlarm: on ? 'quarantine' : 'tell' })
        return on
      }),
  }
}
