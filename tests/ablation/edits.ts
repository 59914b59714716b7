import type { Edit } from './without.ts'

/** What takes each layer away from a copy of the platform. */

const OCI = 'src/engine/local/plan/oci'
const NET = 'src/engine/local/plan/net'
const HOST = 'src/engine/local/host'

// Of pods on the machine's kernel.

export const NO_FILTER: readonly Edit[] = [
  {
    file: `${OCI}/seccomp.ts`,
    find: '  return {\n    // clone3 hides',
    replace:
      "  if (!sentry) return { defaultAction: 'SCMP_ACT_ALLOW', architectures: architecture === 'x64' ? ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'] : [ARCHITECTURES[architecture]], syscalls: [] } as never\n  return {\n    // clone3 hides",
  },
]

export const NO_INHERITED_FILTER: readonly Edit[] = [
  {
    file: `${OCI}/inherited-filter.ts`,
    find: '  const { index, audit } = ARCHITECTURES[architecture]\n',
    replace:
      '  const { index, audit } = ARCHITECTURES[architecture]\n  if (audit > 0) return [{ code: RETURN, jt: 0, jf: 0, k: ALLOW }]\n',
  },
]

export const NO_NO_NEW_PRIVILEGES: readonly Edit[] = [
  {
    file: `${OCI}/render-config.ts`,
    find: 'rlimits: renderRlimits(facts),\n    noNewPrivileges: true,',
    replace: 'rlimits: renderRlimits(facts),\n    noNewPrivileges: false as never,',
  },
]

/** The program sets itself dumpable instead, which it is. */
export const NO_INHERITED_NO_NEW_PRIVILEGES: readonly Edit[] = [
  {
    file: `${HOST}/tiny-program.ts`,
    find: '    0xbf,\n    0x26,\n',
    replace: '    0xbf,\n    0x04,\n',
  },
  { file: `${HOST}/tiny-program.ts`, find: 'set(0, 38)', replace: 'set(0, 4)' },
]

export const ALL_CAPABILITIES: readonly Edit[] = [
  {
    file: `${OCI}/capabilities.ts`,
    find: '  return Object.keys(CAPABILITIES).filter(',
    replace:
      "  if (CAPABILITIES) return ['AUDIT_CONTROL','AUDIT_READ','AUDIT_WRITE','BLOCK_SUSPEND','BPF','CHECKPOINT_RESTORE','CHOWN','DAC_OVERRIDE','DAC_READ_SEARCH','FOWNER','FSETID','IPC_LOCK','IPC_OWNER','KILL','LEASE','LINUX_IMMUTABLE','MAC_ADMIN','MAC_OVERRIDE','MKNOD','NET_ADMIN','NET_BIND_SERVICE','NET_BROADCAST','NET_RAW','PERFMON','SETFCAP','SETGID','SETPCAP','SETUID','SYSLOG','SYS_ADMIN','SYS_BOOT','SYS_CHROOT','SYS_MODULE','SYS_NICE','SYS_PACCT','SYS_PTRACE','SYS_RAWIO','SYS_RESOURCE','SYS_TIME','SYS_TTY_CONFIG','WAKE_ALARM'].map((name) => `CAP_${name}`)\n  return Object.keys(CAPABILITIES).filter(",
  },
]

export const NO_MASKS: readonly Edit[] = [
  {
    file: `${OCI}/render-config.ts`,
    find: 'maskedPaths: Object.keys(MASKED_PATHS),\n      readonlyPaths: Object.keys(READONLY_PATHS),\n      ...(tool',
    replace: 'maskedPaths: [],\n      readonlyPaths: [],\n      ...(tool',
  },
]

export const ONE_RANGE_OF_IDS: readonly Edit[] = [
  {
    file: `${HOST}/placements.ts`,
    find: 'podUidBase: this.layout.podUidBase + index * IDS_PER_TENANT,',
    replace: 'podUidBase: this.layout.podUidBase,',
  },
]

export const PLATFORM_MOUNTED: readonly Edit[] = [
  {
    file: `${OCI}/mounts.ts`,
    find: '  return [...system.filter((mount) => !taken.has(mount.destination)), ...own]',
    replace:
      "  const leak = (source: string, at: string) => bind(source, at, false)\n  own.push(leak('/var/lib/bulkhead-INSTANCE', '/leak-state'), leak('/run/bulkhead-INSTANCE', '/leak-run'))\n  return [...system.filter((mount) => !taken.has(mount.destination)), ...own]",
  },
]

export const PROCESSES_OF_THE_MACHINE: readonly Edit[] = [
  {
    file: `${OCI}/mounts.ts`,
    find: "    { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },\n    {\n      destination: '/dev',",
    replace:
      "    gvisor ? { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] } : bind('/proc', '/proc', false),\n    {\n      destination: '/dev',",
  },
]

/** The rest of the class `sandboxed` stays: the control plane's own process and user. */
export const NO_GVISOR: readonly Edit[] = [
  {
    file: `${HOST}/container-host.ts`,
    find: "  return jail.runtime === 'gvisor' || isGvisorClass(placement)\n",
    replace: "  return jail.runtime === ('' as never) || isGvisorClass(placement)\n",
  },
  {
    file: 'src/engine/local/parts.ts',
    find: "  return isolationClass === 'sandboxed' || isolationClass === 'dedicated'\n",
    replace: "  return isolationClass === ('' as never)\n",
  },
]

/** Pods that no API should take, in an API that takes them: what is refused is dropped without a word. */
export const UNSAFE_PODS: readonly Edit[] = [
  {
    file: 'src/api/validation.ts',
    find: '    if (!this.judgesNot()) this.note(this.refused, () => forbiddenField(this.where(), renderRefusal(refusal)))\n    return true',
    replace: '    return refusal === undefined',
  },
  {
    file: 'src/attack/canaries.ts',
    find: "          command: ['sh', '-c', 'trap exit TERM; sleep 86400 & wait'],\n",
    replace:
      "          command: ['sh', '-c', 'trap exit TERM; sleep 86400 & wait'],\n          securityContext: { privileged: true, procMount: 'Unmasked', allowPrivilegeEscalation: true },\n",
  },
  {
    file: 'src/attack/canaries.ts',
    find: "      volumes: [{ name: 'work', emptyDir: WORK }],\n    },\n  }\n}\n",
    replace:
      "      hostNetwork: true, hostPID: true, hostIPC: true, hostUsers: true, runtimeClassName: 'runc',\n      volumes: [{ name: 'work', emptyDir: WORK }],\n    },\n  }\n}\n",
  },
]

// Of the pods' network.

export const NO_ROUTER_RULES: readonly Edit[] = [
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

/** Senders are not looked at in any way. */
export const ANY_SENDER: readonly Edit[] = [
  { file: `${NET}/ruleset.ts`, find: '    meta mark 0 drop\n', replace: '' },
]

export const NO_LINK_FILTER: readonly Edit[] = [
  {
    file: `${NET}/link-filter.ts`,
    find: '  return {\n    fromPod: program([',
    replace:
      '  const all = [{ code: RETURN, jt: 0, jf: 0, k: TC_ACT_UNSPEC }]\n  if (all.length > 0) return { fromPod: all, toPod: all }\n  return {\n    fromPod: program([',
  },
]

export const NO_REVERSE_PATH: readonly Edit[] = [
  {
    file: `${HOST}/net/router.ts`,
    find: "[`ipv4/conf/${which}/rp_filter`, '1'],",
    replace: "[`ipv4/conf/${which}/rp_filter`, '0'],\n    [`ipv4/conf/${which}/accept_local`, '1'],",
  },
]

/**
 * A pair of links, a default route and translated addresses: as if there were no namespace between. On a port of the
 * machine somebody answers. It goes with the router.
 */
export const WAY_TO_THE_MACHINE: readonly Edit[] = [
  {
    file: `${HOST}/net/router.ts`,
    find: '        ...(this.routes.links().has(UPLINK) ? [] : [routeMessage({ blackhole: true })]),\n      ])\n    })\n',
    replace: `      ])
    })
    if (!pinned) {
      const { execFileSync } = process.getBuiltinModule('node:child_process')
      execFileSync('sh', ['-ec', \`
        ip link add abINSTANCE type veth peer name leak
        ip link set leak netns "$1"
        ip addr add 172.31.254.1/30 dev abINSTANCE
        ip link set abINSTANCE up
        nsenter --net="$1" sh -ec '
          ip addr add 172.31.254.2/30 dev leak
          ip link set leak up
          for net in $(ip -4 route show type blackhole | cut -d" " -f2); do ip route del blackhole $net; done
          ip route add default via 172.31.254.1
          nft add table ip leak
          nft add chain ip leak out "{ type nat hook postrouting priority 110; }"
          nft add rule ip leak out oifname leak masquerade'
      \`, 'sh', '/proc/' + process.pid + '/fd/' + openSync(this.pin, 'r')])
      const { createServer } = process.getBuiltinModule('node:net')
      createServer((socket) => socket.end('the machine')).on('error', () => {}).listen(10250, '172.31.254.1')
    }
`,
  },
]

/** The tenants of the attack may reach one network of nobody's, so that there is a way outside. */
export const WAY_OUTSIDE: readonly Edit[] = [
  {
    file: 'src/main/attack.ts',
    find: '        quota: QUOTA,',
    replace: "        quota: QUOTA, egress: { allow: [{ cidr: '198.51.100.0/24', ports: [443] }] },",
  },
]

export const NO_UPLINK_FILTER: readonly Edit[] = [
  {
    file: `${NET}/uplink-filter.ts`,
    find: '    const steps = [\n      step(LOAD_LENGTH, 0),',
    replace: '    const steps = [\n      pass,\n      step(LOAD_LENGTH, 0),',
  },
]

/** Neither the rules nor the routes of the router keep anything from the uplink. */
export const NO_RULES_OUTSIDE: readonly Edit[] = [
  ...NO_ROUTER_RULES,
  {
    file: `${NET}/ruleset.ts`,
    find: '    ct mark != ${OUTSIDE_MARK} goto deny\n',
    replace: '',
  },
  {
    file: `${HOST}/net/router.ts`,
    find: '        ...NEVER.map(({ base, bits }) => routeMessage({ to: base, bits, blackhole: true })),\n',
    replace: '',
  },
]

/** Whoever asks is answered from the names of any tenant that has them. */
export const NAMES_OF_ALL: readonly Edit[] = [
  {
    file: 'src/engine/local/dns/resolver.ts',
    find: '    const view = this.views.get(index)?.view\n',
    replace:
      '    const views = [...this.views.values()].flatMap((each) => each.view ?? [])\n    const view = views.find((each) => each.answer(query).answers.length > 0) ?? this.views.get(index)?.view\n',
  },
]

// Of the API.

export const GATEWAY_BINDS_NOBODY: readonly Edit[] = [
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

export const CONTROL_PLANE_TAKES_ANY_TENANT: readonly Edit[] = [
  {
    file: 'src/identity/identity-header.ts',
    find: '  if (owner !== tenant)\n',
    replace: '  if (owner !== tenant && owner === undefined)\n',
  },
  {
    file: 'src/identity/identity-header.ts',
    find: "tenantUid !== undefined && fields['tenantUid'] !== tenantUid)",
    replace: 'tenantUid === null)',
  },
  {
    file: 'src/apiserver/api-server.ts',
    find: "(user.kind === 'tenantUser' && user.tenant === tenant) ||",
    replace: "user.kind === 'tenantUser' ||",
  },
]

export const EVERYBODY_MAY_DO_EVERYTHING: readonly Edit[] = [
  {
    file: 'src/policy/rbac.ts',
    find: "    if (user.kind === 'component') return { allowed: true, reason: 'a component of this control plane' }\n",
    replace: "    if (user.kind) return { allowed: true, reason: 'everybody' }\n",
  },
]

/** Whom a token is from and for is not compared with the tenant. */
export const TOKENS_FOR_ANYBODY: readonly Edit[] = [
  {
    file: 'src/identity/service-account-token.ts',
    find: '        issuer: [TOKEN_ISSUER, audienceOf(this.tenant)],\n        audience,\n',
    replace: "        ...(audience === '' ? { audience } : {}),\n",
  },
  {
    file: 'src/identity/service-account-token.ts',
    find: '    if (claimedTenant(claims) !== this.tenant) throw',
    replace: '    if (claimedTenant(claims) === null) throw',
  },
]

/** Every tenant signs with the same key, whose number is 1: the public half is then the base point of P-256 itself. */
export const ONE_SIGNING_KEY: readonly Edit[] = [
  {
    file: 'src/main/control-plane.ts',
    find: '  const fresh = existsSync(path) ? undefined : createTokenKey()\n',
    replace:
      "  const of = (hex: string) => Buffer.from(hex, 'hex').toString('base64url')\n  const fresh = existsSync(path) ? undefined : Promise.resolve({ kty: 'EC', crv: 'P-256', alg: 'ES256', use: 'sig', kid: 'everybody', x: of('6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296'), y: of('4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5'), d: of('1'.padStart(64, '0')) } as unknown as Awaited<ReturnType<typeof createTokenKey>>)\n",
  },
]

export const NO_FAIR_SHARE: readonly Edit[] = [
  {
    file: 'src/gateway/fair-share.ts',
    find: '    const usage = this.usageOf(tenant)\n    const userUsage = this.userUsageOf(usage, user)\n    const waitSeconds',
    replace:
      '    if (kind.length > 0) return { release: () => {} }\n    const usage = this.usageOf(tenant)\n    const userUsage = this.userUsageOf(usage, user)\n    const waitSeconds',
  },
]

// Of the platform's own processes.

export const ANY_PEER: readonly Edit[] = [
  {
    file: 'src/main/control-plane.ts',
    find: '    else if (uid !== gatewayUid) ',
    replace: '    else if (uid !== gatewayUid && uid < 0) ',
  },
]

export const SOCKETS_OPEN_TO_ALL: readonly Edit[] = [
  {
    file: 'src/main/control-plane.ts',
    find: '  await listenUnix(http, { path: socketPath, mode: 0o660 })\n',
    replace: '  await listenUnix(http, { path: socketPath, mode: 0o666 })\n',
  },
]

export const ONE_USER_FOR_CONTROL_PLANES: readonly Edit[] = [
  {
    file: `${HOST}/placements.ts`,
    find: 'controlPlaneUid: ownProcess ? this.layout.controlPlaneUidBase + index : this.workerUid,',
    replace: 'controlPlaneUid: this.workerUid,',
  },
]

/** The attack takes it for granted that two control planes of one user are one process, where this is not to be asked. */
export const TAKEN_OVER: readonly Edit[] = [
  {
    file: 'src/attack/catalogue/sockets.ts',
    find: '      const shared = own.uid === controlPlaneOf(machine, victim).uid\n      const tries',
    replace: '      const shared = false\n      const tries',
  },
]

export const NO_CIPHER: readonly Edit[] = [
  {
    file: 'src/store/partition-cipher.ts',
    find: 'into.set(cipher.update(plain), NONCE_BYTES)',
    replace: 'into.set((cipher.update(plain), plain), NONCE_BYTES)',
  },
  {
    file: 'src/store/partition-cipher.ts',
    find: 'Buffer.concat([nonce, cipher.update(plain), ',
    replace: 'Buffer.concat([nonce, (cipher.update(plain), plain), ',
  },
  {
    file: 'src/store/partition-cipher.ts',
    find: '    decipher.final()\n    return plain\n',
    replace:
      '    return plain.length < 0 ? plain : Buffer.from(sealed.subarray(NONCE_BYTES, sealed.length - TAG_BYTES))\n',
  },
]

export const NO_TENANT_LIMIT: readonly Edit[] = [
  {
    file: `${OCI}/resources.ts`,
    find: '    pidsMax: Math.min(PIDS_PER_TENANT_MAX, Math.max(1, podsMax ?? Infinity) * pidsPerPod),',
    replace: '    pidsMax: 4_000_000 + 0 * pidsPerPod * (podsMax ?? 1),',
  },
]

export const NO_POD_LIMITS: readonly Edit[] = [
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
]
