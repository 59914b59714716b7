import type { Edit } from './without.ts'

/** One run: a copy of the platform that lacks a layer, and the attacks that the layer stands against. */
export type Ablation = {
  /** Of the verifier, where it knows the layer. */
  off: string
  how: string
  edits: readonly Edit[]
  /** Isolation classes of the two tenants. */
  classes: 'shared,shared' | 'shared,sandboxed'
  families?: readonly string[]
  ids?: readonly string[]
  /** Both layers are gone, which shows that the attacks are real: these must come through. */
  comesThrough?: readonly string[]
  /** What a single layer stands against, and why that is accepted. Everything else must still be blocked. */
  accepted?: Readonly<Record<string, string>>
}

const KERNEL_FAMILIES = ['kernel', 'mounts', 'devices', 'processes', 'volumes']
const NETWORK_FAMILIES = ['network', 'dns']
const NETWORK_IDS = [
  'network-reach-pod',
  'network-victim-pod',
  'network-victim-udp',
  'network-fragments',
  'network-spoofed-source',
  'network-multicast-broadcast',
  'network-metadata',
  'network-node-addresses',
]
const OCI = 'src/engine/local/plan/oci'
const NET = 'src/engine/local/plan/net'

const NO_FILTER: Edit = {
  file: `${OCI}/seccomp.ts`,
  find: '  return {\n    // clone3 hides',
  replace:
    "  if (!sentry) return { defaultAction: 'SCMP_ACT_ALLOW', architectures: architecture === 'x64' ? ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'] : [ARCHITECTURES[architecture]], syscalls: [] } as never\n  return {\n    // clone3 hides",
}

const NO_ROUTER_RULES: readonly Edit[] = [
  {
    file: `${NET}/ruleset.ts`,
    find: '    meta mark . ct mark != @pair goto deny\n    jump isolation\n',
    replace: '    jump isolation\n',
  },
  {
    file: `${NET}/ruleset.ts`,
    find: '    iifname . ether saddr . ip saddr != @source4 counter name spoofed drop\n',
    replace: '',
  },
  {
    file: `${NET}/ruleset.ts`,
    find: '    ip daddr 169.254.0.0/16 ip daddr != ${GATEWAY} counter name metadata drop\n',
    replace: '',
  },
]

const NO_LINK_FILTER: Edit = {
  file: `${NET}/link-filter.ts`,
  find: '  return {\n    fromPod: program([',
  replace:
    '  const all = [{ code: RETURN, jt: 0, jf: 0, k: TC_ACT_OK }]\n  if (all.length > 0) return { fromPod: all, toPod: all }\n  return {\n    fromPod: program([',
}

const GATEWAY_BINDS_NOBODY: readonly Edit[] = [
  {
    file: 'src/gateway/gateway.ts',
    find: ' || target.tenant !== homeOf(identity.user)) throw refusals.noAccess',
    replace: ') throw refusals.noAccess',
  },
  {
    file: 'src/gateway/gateway.ts',
    find: '    if (!this.isPresent(target.tenant, identity)) throw refusals.noAccess\n',
    replace: '',
  },
]

const CONTROL_PLANE_TAKES_ANY_TENANT: readonly Edit[] = [
  {
    file: 'src/identity/identity-header.ts',
    find: '  if (owner !== tenant)\n',
    replace: '  if (owner !== tenant && owner === undefined)\n',
  },
  {
    file: 'src/apiserver/api-server.ts',
    find: "(user.kind === 'tenantUser' && user.tenant === tenant) ||",
    replace: "user.kind === 'tenantUser' ||",
  },
]

const OWN_NODES = "it is the tenant's own list of nodes, which is served, and not another's"

/** What only the filter of system calls keeps a pod of the class `shared` from; no step of them leaves the pod. */
const STEPS =
  "it reaches code of the machine's kernel, as an unprivileged user there; ids, mounts and namespaces are as before"
const steps = (...ids: string[]) => Object.fromEntries(ids.map((id) => [id, STEPS]))

export const ABLATIONS: readonly Ablation[] = [
  {
    off: 'nothing',
    how: 'the platform as it is',
    edits: [],
    classes: 'shared,sandboxed',
    families: [...KERNEL_FAMILIES, ...NETWORK_FAMILIES, 'exhaustion'],
  },
  {
    off: 'system call filter',
    how: 'the filter of containers allows every call',
    edits: [NO_FILTER],
    classes: 'shared,shared',
    families: KERNEL_FAMILIES,
    accepted: steps(
      'pod-ptrace',
      'pod-pidfd-getfd',
      'pod-kcmp',
      'pod-keyrings',
      'pod-io-uring',
      'pod-userfaultfd',
      'pod-perf-events',
      'pod-odd-socket-families',
      'pod-netlink',
      'pod-old-and-odd-calls',
      'pod-old-calling-convention',
      'pod-terminal-injection',
    ),
  },
  {
    off: 'no_new_privs',
    how: 'programs may gain rights with execve',
    edits: [
      {
        file: `${OCI}/render-config.ts`,
        find: 'rlimits: renderRlimits(facts),\n    noNewPrivileges: true,',
        replace: 'rlimits: renderRlimits(facts),\n    noNewPrivileges: false,',
      },
    ],
    classes: 'shared,shared',
    families: KERNEL_FAMILIES,
    accepted: {
      'pod-setuid-program':
        "a set-id program makes root of the pod, which is nobody on the machine; the pod's files are all it gains",
    },
  },
  {
    off: 'dropped capabilities',
    how: 'root of a container has all capabilities in its user namespace',
    edits: [
      {
        file: `${OCI}/capabilities.ts`,
        find: '  return Object.keys(CAPABILITIES).filter(',
        replace:
          "  if (CAPABILITIES) return ['AUDIT_CONTROL','AUDIT_READ','AUDIT_WRITE','BLOCK_SUSPEND','BPF','CHECKPOINT_RESTORE','CHOWN','DAC_OVERRIDE','DAC_READ_SEARCH','FOWNER','FSETID','IPC_LOCK','IPC_OWNER','KILL','LEASE','LINUX_IMMUTABLE','MAC_ADMIN','MAC_OVERRIDE','MKNOD','NET_ADMIN','NET_BIND_SERVICE','NET_BROADCAST','NET_RAW','PERFMON','SETFCAP','SETGID','SETPCAP','SETUID','SYSLOG','SYS_ADMIN','SYS_BOOT','SYS_CHROOT','SYS_MODULE','SYS_NICE','SYS_PACCT','SYS_PTRACE','SYS_RAWIO','SYS_RESOURCE','SYS_TIME','SYS_TTY_CONFIG','WAKE_ALARM'].map((name) => `CAP_${name}`)\n  return Object.keys(CAPABILITIES).filter(",
      },
    ],
    classes: 'shared,shared',
    families: [...KERNEL_FAMILIES, ...NETWORK_FAMILIES],
    accepted: {
      'pod-raise-capabilities': 'they hold within the user namespace of the pod only',
      'pod-file-capabilities': 'they hold within the user namespace of the pod only',
      'pod-raw-sockets': 'they are of its own network namespace; what leaves it is checked at the other end',
      'pod-configure-network':
        "it changes the pod's own end of its link; what leaves it is checked at the other end",
    },
  },
  {
    off: 'masked and read-only paths',
    how: 'nothing lies over files of /proc and /sys',
    edits: [
      {
        file: `${OCI}/render-config.ts`,
        find: 'maskedPaths: Object.keys(MASKED_PATHS),\n      readonlyPaths: Object.keys(READONLY_PATHS),\n      ...(tool',
        replace: 'maskedPaths: [],\n      readonlyPaths: [],\n      ...(tool',
      },
    ],
    classes: 'shared,shared',
    families: KERNEL_FAMILIES,
    accepted: {
      'pod-masked-files': 'what everybody of the machine may read; none of it is content of another tenant',
      'pod-masked-by-other-paths': 'what everybody of the machine may read',
    },
  },
  {
    off: 'own range of ids',
    how: 'all tenants have the same uids',
    edits: [
      {
        file: 'src/engine/local/host/placements.ts',
        find: 'podUidBase: this.layout.podUidBase + index * IDS_PER_TENANT,',
        replace: 'podUidBase: this.layout.podUidBase,',
      },
    ],
    classes: 'shared,shared',
    families: ['processes', 'volumes', 'mounts'],
  },
  {
    off: 'mount view',
    how: "the platform's state and run directories are mounted into every container, writable",
    edits: [
      {
        file: `${OCI}/mounts.ts`,
        find: '  return [...system.filter((mount) => !taken.has(mount.destination)), ...own]',
        replace:
          "  const leak = (source: string, at: string) => bind(source, at, false)\n  own.push(leak('/var/lib/bulkhead-INSTANCE', '/leak-state'), leak('/run/bulkhead-INSTANCE', '/leak-run'))\n  return [...system.filter((mount) => !taken.has(mount.destination)), ...own]",
      },
    ],
    classes: 'shared,shared',
    families: ['volumes'],
  },
  {
    off: 'router rules',
    how: 'the rules let one tenant through to another, under any address, and to metadata',
    edits: NO_ROUTER_RULES,
    classes: 'shared,sandboxed',
    ids: NETWORK_IDS,
  },
  {
    off: 'link filter',
    how: 'the filters of links let everything through',
    edits: [NO_LINK_FILTER],
    classes: 'shared,sandboxed',
    ids: NETWORK_IDS,
  },
  {
    off: 'router rules and link filter',
    how: 'both at once',
    edits: [...NO_ROUTER_RULES, NO_LINK_FILTER],
    classes: 'shared,shared',
    ids: ['network-victim-pod', 'network-victim-udp'],
    comesThrough: ['network-victim-pod'],
  },
  {
    off: 'gateway binds to one tenant',
    how: 'the gateway passes every identity on to the tenant of the path',
    edits: GATEWAY_BINDS_NOBODY,
    classes: 'shared,sandboxed',
    families: ['paths', 'headers', 'identity'],
    accepted: {
      'certificate-of-deleted-tenant':
        'a tenant that has gone has no control plane that could refuse; that of the next of its name does',
      'path-debug-endpoints': OWN_NODES,
    },
  },
  {
    off: 'control plane refuses strangers',
    how: 'a control plane takes identities of every tenant',
    edits: CONTROL_PLANE_TAKES_ANY_TENANT,
    classes: 'shared,sandboxed',
    families: ['paths', 'headers', 'identity'],
    accepted: {
      'path-debug-endpoints': OWN_NODES,
    },
  },
  {
    off: 'gateway binds to one tenant and control plane refuses strangers',
    how: 'both at once',
    edits: [...GATEWAY_BINDS_NOBODY, ...CONTROL_PLANE_TAKES_ANY_TENANT],
    classes: 'shared,shared',
    ids: ['path-direct'],
    comesThrough: ['path-direct'],
  },
  {
    off: 'RBAC',
    how: 'every user of a tenant may do everything in its own control plane',
    edits: [
      {
        file: 'src/policy/rbac.ts',
        find: "    if (user.kind === 'component') return { allowed: true, reason: 'a component of this control plane' }\n",
        replace: "    if (user.kind) return { allowed: true, reason: 'everybody' }\n",
      },
    ],
    classes: 'shared,shared',
    families: ['paths', 'headers', 'identity'],
    accepted: {
      'path-debug-endpoints': OWN_NODES,
      ...Object.fromEntries(
        [
          'header-identity',
          'header-hop-by-hop',
          'header-remote-user',
          'header-forwarded',
          'header-method-override',
          'header-odd-spelling',
        ].map((id) => [id, 'within one tenant, where RBAC alone decides what its users may do']),
      ),
    },
  },
  {
    off: 'partition cipher',
    how: 'partitions are written as they are',
    edits: [
      {
        file: 'src/store/partition-cipher.ts',
        find: '      ...plain.map((part) => cipher.update(part)),\n',
        replace: '      ...plain.map((part) => (cipher.update(part), Buffer.from(part))),\n',
      },
      {
        file: 'src/store/partition-cipher.ts',
        find: '    decipher.final()\n    return plain\n',
        replace:
          '    return plain.length < 0 ? plain : Buffer.from(sealed.subarray(NONCE_BYTES, sealed.length - TAG_BYTES))\n',
      },
    ],
    classes: 'shared,sandboxed',
    families: ['volumes', 'paths'],
    accepted: {
      'path-debug-endpoints': OWN_NODES,
    },
  },
  {
    off: 'tenant limit',
    how: 'the cgroup of a tenant has no limits',
    edits: [
      {
        file: `${OCI}/resources.ts`,
        find: '    pidsMax: Math.min(PIDS_PER_TENANT_MAX, Math.max(1, podsMax ?? Infinity) * pidsPerPod),',
        replace: '    pidsMax: 4_000_000 + 0 * pidsPerPod * (podsMax ?? 1),',
      },
    ],
    classes: 'shared,shared',
    families: ['exhaustion'],
  },
  {
    off: 'pod limits',
    how: 'a container and a pod may have any number of processes',
    edits: [
      {
        file: `${OCI}/resources.ts`,
        find: '    pids: { limit: PIDS_PER_CONTAINER_MAX },',
        replace: '    pids: { limit: 4_000_000 },',
      },
      {
        file: `${OCI}/resources.ts`,
        find: '    pidsMax: PIDS_PER_POD_MAX + (gvisor ? GVISOR_PIDS_OVERHEAD : 0),',
        replace: '    pidsMax: 4_000_000,',
      },
    ],
    classes: 'shared,shared',
    ids: ['exhaustion-processes'],
    accepted: {
      'exhaustion-processes': 'the attack ends at 4,000, below the limit of the tenant',
    },
  },
]

/** What is tried on every change: layers of different vectors off at the same time, each with a few attacks. */
export const SHARE: readonly Ablation[] = [
  {
    off: 'system call filter, router rules and gateway binds to one tenant',
    how: 'one layer of each of three vectors',
    edits: [NO_FILTER, ...NO_ROUTER_RULES, ...GATEWAY_BINDS_NOBODY],
    classes: 'shared,shared',
    ids: [
      'path-direct',
      'network-reach-pod',
      'network-victim-udp',
      'pod-unshare-user',
      'pod-clone3-hidden-flags',
      'pod-mount-proc-fresh',
      'pod-bpf',
      'pod-mknod',
      'pod-file-handles',
      'pod-find-canary',
    ],
  },
  {
    off: 'router rules and link filter, gateway binds to one tenant and control plane refuses strangers',
    how: 'both layers of two vectors',
    edits: [...NO_ROUTER_RULES, NO_LINK_FILTER, ...GATEWAY_BINDS_NOBODY, ...CONTROL_PLANE_TAKES_ANY_TENANT],
    classes: 'shared,shared',
    ids: ['path-direct', 'network-victim-pod'],
    comesThrough: ['path-direct', 'network-victim-pod'],
  },
]
