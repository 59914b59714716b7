/**
 * Capabilities that mean nothing outside the tenant's own user namespace and touch neither network nor kernel
 * configuration. Root in a container has all of them, unless they are dropped.
 * https://man7.org/linux/man-pages/man7/capabilities.7.html
 */
export const HARMLESS_CAPABILITIES = [
  'CHOWN',
  'DAC_OVERRIDE',
  'FOWNER',
  'FSETID',
  'KILL',
  'SETGID',
  'SETUID',
  'SETPCAP',
  'NET_BIND_SERVICE',
  'SETFCAP',
  'SYS_CHROOT',
] as const

export type HarmlessCapability = (typeof HARMLESS_CAPABILITIES)[number]

/** What Linux has besides. No container has them, so dropping them is carried out already. */
const OTHER_CAPABILITIES: readonly string[] = [
  'AUDIT_CONTROL',
  'AUDIT_READ',
  'AUDIT_WRITE',
  'BLOCK_SUSPEND',
  'BPF',
  'CHECKPOINT_RESTORE',
  'DAC_READ_SEARCH',
  'IPC_LOCK',
  'IPC_OWNER',
  'LEASE',
  'LINUX_IMMUTABLE',
  'MAC_ADMIN',
  'MAC_OVERRIDE',
  'MKNOD',
  'NET_ADMIN',
  'NET_BROADCAST',
  'NET_RAW',
  'PERFMON',
  'SYSLOG',
  'SYS_ADMIN',
  'SYS_BOOT',
  'SYS_MODULE',
  'SYS_NICE',
  'SYS_PACCT',
  'SYS_PTRACE',
  'SYS_RAWIO',
  'SYS_RESOURCE',
  'SYS_TIME',
  'SYS_TTY_CONFIG',
  'WAKE_ALARM',
]

/** `chown` and `CAP_CHOWN` are `CHOWN`: runtimes differ in which they understand, and all users mean the same. */
export function canonicalCapability(name: string): string {
  return name.toUpperCase().replace(/^CAP_/, '')
}

/** Why a name cannot be dropped: a misspelt one would stay without anybody noticing. */
export function droppedCapabilityProblem(name: string): string | undefined {
  const canonical = canonicalCapability(name)
  const known: readonly string[] = HARMLESS_CAPABILITIES
  return canonical === 'ALL' || known.includes(canonical) || OTHER_CAPABILITIES.includes(canonical)
    ? undefined
    : 'must be ALL or the name of a capability of Linux, such as NET_BIND_SERVICE'
}

/** What is left of the harmless ones. As with container runtimes, ALL goes first, then what is added, then the rest. */
export function effectiveCapabilities({
  add = [],
  drop = [],
}: {
  add?: readonly string[]
  drop?: readonly string[]
}): HarmlessCapability[] {
  const added = new Set(add.map(canonicalCapability))
  const dropped = new Set(drop.map(canonicalCapability))
  return HARMLESS_CAPABILITIES.filter(
    (name) => !dropped.has(name) && (added.has(name) || !dropped.has('ALL')),
  )
}
