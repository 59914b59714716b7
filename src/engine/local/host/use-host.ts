import { renameSync, writeFileSync } from 'node:fs'
import { IDS_PER_TENANT, type Layout, paths } from '../../../api/index.ts'
import { isAlive } from '../observe/processes.ts'
import { observeOwnMemory, observeUses, type UsingProcess } from '../observe/uses.ts'
import { setNiceOfUser } from './syscalls.ts'

/** What tenants' processes use, and what can be done about it without starting a program. */
export interface UseHost {
  observe(): UsingProcess[]
  ownMemory(pid: number): number
  kill(process: UsingProcess): void
  /** Of all tasks of these users of the machine. */
  setNice(uids: ReadonlySet<number>, nice: number): void
  /** For whoever checks that somebody looks. */
  publish(state: object): void
}

export function createUseHost(layout: Layout): UseHost {
  const file = paths.observedUse(layout)
  return {
    observe: () =>
      observeUses({
        uidBase: layout.podUidBase,
        idsPerTenant: IDS_PER_TENANT,
        tenantsMax: layout.tenantsMax,
      }),
    ownMemory: observeOwnMemory,
    kill(found) {
      try {
        if (isAlive(found)) process.kill(found.pid, 'SIGKILL')
      } catch {
        // It ended by itself.
      }
    },
    setNice(uids, nice) {
      for (const uid of uids) setNiceOfUser(uid, nice)
    },
    publish(state) {
      writeFileSync(`${file}.new`, JSON.stringify(state), { mode: 0o600 })
      renameSync(`${file}.new`, file)
    },
  }
}
