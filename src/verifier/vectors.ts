import type { StandardId } from './standards.ts'

/**
 * What can be crossed between two tenants, and what stands in the way. Two layers are independent if no single bug
 * removes both: that is, if their failure domains differ, and layers of one domain count once.
 */

/** Each names what one bug or one mistake takes away altogether. */
export type FailureDomain =
  | 'kernel credentials'
  | 'seccomp'
  | 'gVisor'
  | 'mount namespaces'
  | 'process namespaces'
  | 'network namespaces'
  | 'cgroups'
  | 'nftables'
  | 'traffic control'
  | 'routing'
  | 'resolver'
  | 'gateway'
  | 'control plane'
  | 'cryptography'
  | 'volume files'
  | 'file systems'
  | 'node agent'
  | 'processor'

type Layer = {
  domain: FailureDomain
  description: string
  /** Where one sees it, in the words of the report. */
  observedIn: string
}

const layers = {
  'user namespace': {
    domain: 'kernel credentials',
    description:
      "root in a pod is an ordinary uid on the machine, from the tenant's own range, with no capability outside its namespace",
    observedIn: '/proc/PID/{status,uid_map,gid_map,ns/user} of every process of the tenant',
  },
  'system call filter': {
    domain: 'seccomp',
    description:
      'a seccomp allowlist, a second filter inherited from what starts the runtime, no_new_privs, and none of the capabilities that reach into the kernel',
    observedIn: '/proc/PID/status of every process of the tenant',
  },
  'application kernel': {
    domain: 'gVisor',
    description: "pods run on gVisor's kernel; no program of the tenant runs on the machine's",
    observedIn: '/proc/PID/exe of every process of the tenant',
  },
  'mount view': {
    domain: 'mount namespaces',
    description: "a pod's mounts hold nothing of another tenant and nothing of the platform",
    observedIn: '/proc/PID/{mountinfo,ns/mnt} of every process of the tenant',
  },
  'process view': {
    domain: 'process namespaces',
    description:
      "a pod's processes and shared memory are numbered apart: no other tenant's process can be named, signalled or traced",
    observedIn: '/proc/PID/ns/{pid,ipc,uts} of every process of both tenants',
  },
  'volume files': {
    domain: 'kernel credentials',
    description:
      "volumes, their devices and mounts lie below directories that only the machine's root may enter",
    observedIn: 'owners and modes of the files, and /sys/block/loop*/loop/backing_file',
  },
  'platform files': {
    domain: 'kernel credentials',
    description:
      "keys, images, logs and secrets of the platform and of other tenants' pods lie below directories that no user of a tenant may enter or change",
    observedIn: 'owners and modes of the files below the state and run directories',
  },
  'router rules': {
    domain: 'nftables',
    description: 'the loaded rules drop the packet',
    observedIn: "`nft -j list ruleset` in the router's namespace, asked packet by packet",
  },
  'link filter': {
    domain: 'traffic control',
    description:
      "a filter on the pod's own link drops what comes from or goes to addresses that are not its tenant's",
    observedIn: "`tc filter show` of every pod's link; the program is run over frames",
  },
  'reverse path': {
    domain: 'routing',
    description:
      "the kernel's routing refuses what comes from a pod's link under the router's own or another pod's address",
    observedIn: '/proc/sys/net/ipv4/conf/*/{rp_filter,accept_local} in the namespace of the router',
  },
  'no path to the machine': {
    domain: 'network namespaces',
    description:
      'pods are routed in a network namespace that has no link to the machine and none of its addresses',
    observedIn: "links, addresses and routes of the router's namespace",
  },
  'uplink filter': {
    domain: 'traffic control',
    description:
      "the router's only other link leads outside, and a filter on it drops what is for the machine, its networks or metadata",
    observedIn: "links and routes of the router's namespace, and the uplink's filter, run over frames",
  },
  'gateway binds to one tenant': {
    domain: 'gateway',
    description: 'a credential of one tenant is refused for every other, whether it exists or not',
    observedIn: 'TLS connections to the gateway with a genuine credential',
  },
  'control plane refuses strangers': {
    domain: 'control plane',
    description: 'a control plane accepts the gateway only, and from it only its own tenant',
    observedIn: "connections to the control plane's socket, as four different callers",
  },
  'gateway bounds requests': {
    domain: 'gateway',
    description: 'what is too large is refused at the gateway, before any control plane sees it',
    observedIn: 'a request to the gateway that announces too many bytes',
  },
  'gateway shares': {
    domain: 'gateway',
    description: 'who asks beyond its share is refused at the gateway, while another tenant is answered',
    observedIn: "requests as the verifier's own user, who has a small share, until the gateway refuses them",
  },
  'control plane bounds requests': {
    domain: 'control plane',
    description: 'what is too large is refused by the control plane too, whoever brings it',
    observedIn: "the same request at the control plane's socket, past the gateway",
  },
  'partition cipher': {
    domain: 'cryptography',
    description: "a tenant's objects are stored encrypted under a key of its own",
    observedIn:
      "the bytes of the tenant's partition: their entropy, no word that every cluster stores, and (by `bulkhead verify`) what they become under its key and another's",
  },
  'signing keys': {
    domain: 'cryptography',
    description: "tokens of two tenants are signed with different keys, so neither verifies the other's",
    observedIn: "what both control planes publish as their tokens' public keys",
  },
  'own control plane': {
    domain: 'kernel credentials',
    description:
      "the attacker's control plane is a process and Linux user of its own, which owns nothing of the victim's",
    observedIn: "/proc/PID/status of the control planes' processes and the owners of their partitions",
  },
  'control plane limit': {
    domain: 'cgroups',
    description:
      "the kernel holds the attacker's control plane to an amount of memory and of tasks, and the victim's is another process",
    observedIn: "the limits of the cgroup of the control plane's process",
  },
  'confined control plane': {
    domain: 'network namespaces',
    description:
      'control planes have no network, no privilege, and can gain none: whoever takes one over has unix sockets only',
    observedIn: '/proc/PID/{status,ns/net,net/dev} of the control planes',
  },
  'share of the links': {
    domain: 'traffic control',
    description:
      "all that a tenant's pods send waits for its turn on one link of the kernel's, all that they receive on another, and nothing else is on them",
    observedIn:
      "`tc filter show`, `tc qdisc show` and `tc class show` of the pods' links and of those they lead to",
  },
  'rate limits': {
    domain: 'nftables',
    description: 'the loaded rules drop what a tenant sends and receives beyond its limit',
    observedIn: "`nft -j list ruleset` in the router's namespace, asked packet by packet",
  },
  'disk rates': {
    domain: 'cgroups',
    description: 'the kernel holds what a tenant reads from and writes to the disk in a second to a limit',
    observedIn:
      'the limits of the cgroup of every one of its processes, and of its own devices for what is written through the cache',
  },
  'pod limits': {
    domain: 'control plane',
    description:
      'the pods that were admitted may use no more together than the tenant as a whole, so the second limit is never needed',
    observedIn: "the limits of every pod's cgroup, added up",
  },
  'tenant limit': {
    domain: 'cgroups',
    description: "the kernel holds all of a tenant's processes together to its limit",
    observedIn: "the limits of the tenant's cgroup, and the cgroup of every one of its processes",
  },
  'watched use': {
    domain: 'node agent',
    description:
      'the node agent counts what the processes of each tenant use by their users, without cgroups; who uses more than it may loses its largest pod, and who takes more than its part of busy processors goes behind all others',
    observedIn:
      'what the node agent says that it saw, compared with /proc/PID/status of every process of the tenant',
  },
  'file system of its own': {
    domain: 'file systems',
    description:
      "whatever a pod can write to is in a file system of its tenant's own, which ends hard, and the disk has room for all of them",
    observedIn:
      "/proc/PID/mountinfo of every process of the tenant, /sys/block/loop*/loop/backing_file, and statfs(2) of the tenants' file systems",
  },
  'watched disk': {
    domain: 'node agent',
    description:
      'the node agent measures the files of every pod, and evicts what has more than it may, or the largest of a tenant that has hardly anything left',
    observedIn:
      "what the node agent says that it measured, compared with statfs(2) of the tenant's file system",
  },
  'task limit': {
    domain: 'kernel credentials',
    description:
      "the kernel counts tasks by user too, and all of a user namespace for its owner, who is the tenant's alone; the sum is far less than the machine's",
    observedIn: "the owner of every process's user namespace (ioctl_ns(2)) and /proc/PID/limits",
  },
  'processor mitigations': {
    domain: 'processor',
    description: "the processor's known leaks between processes are closed, or it has none",
    observedIn: '/sys/devices/system/cpu/vulnerabilities',
  },
} as const satisfies Record<string, Layer>

export type LayerName = keyof typeof layers
export const LAYERS: Record<LayerName, Layer> = layers

type VectorDefinition = {
  /** What an attacker wants here. */
  threat: string
  /** Which layers can stand here; which of them do is found by looking. */
  layers: readonly LayerName[]
  standards: readonly StandardId[]
  /**
   * Fewer than two layers are known to be there, and why. Said in every report; it does not count as a failure as long
   * as those that are known are seen, because nothing broke, and not as proven either.
   */
  open?: {
    layersKnown: 0 | 1
    why: string
    /** Only where none of these was to be looked for. */
    without?: readonly LayerName[]
  }
  /** Nothing of the kind exists here, so there is nothing to cross. */
  absent?: string
}

const vectors = {
  'tenant API': {
    threat: "read or change another tenant's objects through the API",
    layers: ['gateway binds to one tenant', 'control plane refuses strangers'],
    standards: [
      'MTB-PL1-CC-CPI-1',
      'MTB-PL1-CC-TI-2',
      'MTB-PL1-BC-CPI-2',
      'CIS-K8S-5.7.1',
      'NIST-800-190-4.3.2',
      'T1613',
      'T1609',
      'T1190',
      'MS-TA9029',
      'MS-TA9003',
    ],
  },
  'control-plane saturation': {
    threat: 'keep another tenant from using its API, by asking too much of what they share',
    layers: ['gateway shares', 'own control plane', 'control plane limit'],
    standards: ['MTB-PL1-CC-FNS-2', 'T1499', 'MS-TA9040'],
    open: {
      layersKnown: 1,
      why: "the operator trusts both tenants, so one process serves both, and between them stands the gateway's share alone",
      without: ['own control plane'],
    },
  },
  kernel: {
    threat: 'leave the pod through the kernel and act on the machine',
    layers: ['user namespace', 'system call filter', 'application kernel'],
    standards: [
      'MTB-PL1-BC-CPI-3',
      'MTB-PL1-BC-CPI-5',
      'MTB-PL1-BC-CPI-6',
      'CIS-K8S-5.2.2',
      'CIS-K8S-5.2.6',
      'CIS-K8S-5.7.2',
      'CIS-DOCKER-5.5',
      'CIS-DOCKER-5.18',
      'CIS-DOCKER-5.22',
      'CIS-DOCKER-5.26',
      'CIS-DOCKER-5.31',
      'NIST-800-190-4.4.3',
      'NIST-800-190-4.5.2',
      'T1611',
      'T1068',
      'T1610',
      'MS-TA9018',
    ],
  },
  'pod network': {
    threat: "reach another tenant's pods over the network",
    layers: ['router rules', 'link filter'],
    standards: [
      'MTB-PL1-BC-NI-1',
      'CIS-K8S-5.3.2',
      'NIST-800-190-4.3.3',
      'T1046',
      'MS-TA9031',
      'MS-TA9034',
      'MS-TA9036',
    ],
  },
  DNS: {
    threat: "pass for another tenant's pod or for the resolver, to learn or to forge names",
    layers: ['router rules', 'reverse path'],
    standards: ['T1046', 'MS-TA9035', 'MS-TA9036'],
  },
  'metadata and host services': {
    threat: "reach the machine's own services, or the cloud's metadata with its credentials",
    layers: ['no path to the machine', 'uplink filter', 'router rules', 'link filter'],
    standards: [
      'MTB-PL1-BC-HI-3',
      'CIS-K8S-5.2.5',
      'CIS-DOCKER-5.10',
      'NIST-800-190-4.4.2',
      'MS-TA9020',
      'MS-TA9028',
      'MS-TA9030',
      'MS-TA9033',
    ],
  },
  egress: {
    threat: 'reach the outside where the operator opened nothing',
    layers: ['no path to the machine', 'router rules', 'link filter'],
    standards: ['NIST-800-190-4.4.2', 'MS-TA9039'],
    open: {
      layersKnown: 1,
      why: 'the operator opened something outside for the attacker, and which addresses that are is for the loaded rules alone',
      without: ['no path to the machine', 'link filter'],
    },
  },
  storage: {
    threat: "read or change another tenant's files and volumes",
    layers: ['mount view', 'user namespace', 'volume files'],
    standards: [
      'MTB-PL1-BC-HI-1',
      'CIS-K8S-5.2.12',
      'CIS-DOCKER-5.6',
      'NIST-800-190-4.5.5',
      'MS-TA9013',
      'MS-TA9038',
    ],
  },
  secrets: {
    threat: "read another tenant's Secrets, from its store or from its pods",
    layers: ['partition cipher', 'platform files', 'mount view'],
    standards: ['CIS-K8S-5.1.2', 'CIS-K8S-5.4.1', 'T1552.007', 'MS-TA9025', 'MS-TA9027'],
  },
  'images and image cache': {
    threat: 'change what another tenant runs, through the images that are kept for all',
    layers: ['platform files', 'mount view'],
    standards: ['NIST-800-190-4.1.5', 'T1525', 'MS-TA9002'],
  },
  'node identity': {
    threat: "act with the platform's own keys",
    layers: ['platform files', 'mount view', 'no path to the machine'],
    standards: ['NIST-800-190-4.3.1', 'NIST-800-190-4.3.5', 'T1078', 'MS-TA9028', 'MS-TA9030'],
  },
  'co-location': {
    threat: 'watch or disturb processes of another tenant on the same machine',
    layers: ['process view', 'user namespace', 'application kernel', 'processor mitigations'],
    standards: [
      'MTB-PL1-BC-HI-4',
      'MTB-PL1-BC-HI-5',
      'CIS-K8S-5.2.3',
      'CIS-K8S-5.2.4',
      'CIS-DOCKER-5.16',
      'CIS-DOCKER-5.17',
      'NIST-800-190-4.3.4',
      'T1613',
    ],
  },
  cpu: {
    threat: 'take the processor away from other tenants',
    layers: ['tenant limit', 'watched use', 'pod limits'],
    standards: [
      'MTB-PL1-CC-FNS-1',
      'MTB-PL1-CC-TI-1',
      'CIS-DOCKER-5.12',
      'CIS-DOCKER-5.25',
      'T1496',
      'MS-TA9039',
    ],
  },
  memory: {
    threat: 'take memory away from other tenants',
    layers: ['tenant limit', 'watched use', 'pod limits'],
    standards: [
      'MTB-PL1-CC-FNS-1',
      'MTB-PL1-CC-TI-1',
      'CIS-DOCKER-5.11',
      'CIS-DOCKER-5.25',
      'T1499',
      'MS-TA9040',
    ],
  },
  pids: {
    threat: "use up the machine's processes",
    layers: ['tenant limit', 'task limit', 'watched use'],
    standards: ['CIS-DOCKER-5.29', 'CIS-DOCKER-5.25', 'T1499', 'MS-TA9040'],
  },
  disk: {
    threat: 'fill the disk that other tenants need',
    layers: ['file system of its own', 'watched disk'],
    standards: ['MTB-PL1-CC-FNS-1', 'T1499', 'MS-TA9040'],
  },
  'disk throughput': {
    threat: 'keep other tenants from reading and writing, by reading and writing too much',
    layers: ['disk rates'],
    standards: ['T1499', 'MS-TA9040'],
    open: {
      layersKnown: 0,
      why: 'nothing but cgroups limits it; those of version 1 hold each container, and each of its own devices for what is written through the cache, by itself',
    },
  },
  bandwidth: {
    threat: 'use up the network of other tenants',
    layers: ['share of the links', 'rate limits'],
    standards: ['T1498', 'MS-TA9040'],
  },
  'object floods': {
    threat: "fill the platform's memory and disk with objects",
    layers: ['gateway bounds requests', 'control plane bounds requests'],
    standards: ['MTB-PL1-CC-FNS-2', 'T1499', 'MS-TA9040'],
  },
  'identities and tokens': {
    threat: "be taken for another tenant's user or service account",
    layers: ['gateway binds to one tenant', 'control plane refuses strangers', 'signing keys'],
    standards: ['CIS-K8S-5.1.6', 'CIS-K8S-5.1.8', 'T1528', 'T1550.001', 'T1078', 'MS-TA9016'],
  },
  'data bus': {
    threat: "read or write another tenant's messages",
    layers: [],
    standards: [],
    absent: 'the platform has no data bus',
  },
  'logs and metrics': {
    threat: "read another tenant's logs and measurements",
    layers: ['platform files', 'mount view'],
    standards: ['MTB-PL1-CC-TI-2', 'T1613'],
  },
  'platform components': {
    threat: 'take over a component of the platform and go on from there',
    layers: ['own control plane', 'confined control plane'],
    open: {
      layersKnown: 1,
      why: 'the operator trusts both tenants, so one process has the control planes of both',
      without: ['own control plane'],
    },
    standards: ['NIST-800-190-4.4.1', 'NIST-800-190-4.3.5', 'T1068', 'T1190'],
  },
} as const satisfies Record<string, VectorDefinition>

export type Vector = keyof typeof vectors
export const VECTORS: Record<Vector, VectorDefinition> = vectors
export const VECTOR_NAMES = Object.keys(vectors) as readonly Vector[] // the keys of the literal above

export const LAYERS_REQUIRED = 2

/** A vector as people write it: upper or lower case, hyphens or spaces. */
export function parseVector(text: string): Vector | undefined {
  const plain = (name: string) => name.toLowerCase().replaceAll(/[\s_-]+/g, ' ')
  return VECTOR_NAMES.find((name) => plain(name) === plain(text.slice(0, 64)))
}
