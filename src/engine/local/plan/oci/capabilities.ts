import type { HarmlessCapability } from '../../../../api/index.ts'
import type { JailContainer } from '../../../../jail/index.ts'

/**
 * What root in a container may do, always within the tenant's user namespace: what ordinary images need to install
 * files and drop to another user. Each entry says what breaks without it.
 */
export const CAPABILITIES: Readonly<Record<`CAP_${HarmlessCapability}`, string>> = {
  CAP_CHOWN: 'entrypoints hand data directories to the user they drop to',
  CAP_DAC_OVERRIDE: 'root reads and writes files that other users of the image own',
  CAP_FOWNER: 'root changes modes and times of files it does not own',
  CAP_FSETID: 'set-id bits survive when root writes a file',
  CAP_KILL: 'a supervisor signals workers that run as another user',
  CAP_NET_BIND_SERVICE: 'servers bind ports below 1024',
  CAP_SETFCAP: 'package managers unpack files that carry capabilities',
  CAP_SETGID: 'dropping to a group',
  CAP_SETPCAP: 'giving up capabilities for good',
  CAP_SETUID: 'dropping to a user',
  CAP_SYS_CHROOT: 'daemons that lock themselves into a directory',
}

/**
 * The capabilities of one container: those it keeps, and never one that is not listed above, whatever the jail says.
 */
export function renderCapabilities({ capabilities }: Pick<JailContainer, 'capabilities'>): string[] {
  const kept = capabilities && new Set<string>(capabilities.map((name) => `CAP_${name}`))
  return Object.keys(CAPABILITIES).filter((name) => !kept || kept.has(name))
}
