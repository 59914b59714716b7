import { readdirSync, readFileSync } from 'node:fs'

/**
 * Processes and threads that the machine's kernel has in the cgroups of a tenant's pods, whatever a kernel of the pod's
 * own makes of them.
 */
export function countTasksOfTenant(tenant: string, proc = '/proc'): number {
  let tasks = 0
  for (const pid of readdirSync(proc))
    if (/^\d+$/.test(pid))
      try {
        if (readFileSync(`${proc}/${pid}/cgroup`, 'utf8').includes(`/${tenant}/`))
          tasks += readdirSync(`${proc}/${pid}/task`).length
      } catch {
        // It has ended.
      }
  return tasks
}
