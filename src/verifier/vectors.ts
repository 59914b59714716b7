/**
 * What can be crossed between two tenants, and what stands in the way. Two layers are independent if no single bug
 * removes both: that is, if their failure domains differ.
 */
export type Vector = 'kernel' | 'uid' | 'pod network' | 'host network and metadata' | 'storage' | 'tenant API'

export type FailureDomain =
  | 'kernel credentials'
  | 'seccomp'
  | 'gVisor'
  | 'mount namespaces'
  | 'nftables'
  | 'traffic control'
  | 'network namespaces'
  | 'gateway'
  | 'control plane'

export type LayerName =
  | 'user namespace'
  | 'system call filter'
  | 'application kernel'
  | 'mount view'
  | 'volume files'
  | 'router rules'
  | 'link filter'
  | 'no path to the machine'
  | 'uplink filter'
  | 'gateway binds to one tenant'
  | 'control plane refuses strangers'

export const LAYERS: Record<LayerName, { domain: FailureDomain; description: string }> = {
  'user namespace': {
    domain: 'kernel credentials',
    description:
      "root in a pod is an ordinary uid on the machine, from the tenant's own range, with no capability outside its namespace",
  },
  'system call filter': {
    domain: 'seccomp',
    description: 'a seccomp allowlist, no_new_privs, and none of the capabilities that reach into the kernel',
  },
  'application kernel': {
    domain: 'gVisor',
    description: "pods run on gVisor's kernel; no program of the tenant runs on the machine's",
  },
  'mount view': {
    domain: 'mount namespaces',
    description: "a pod's mounts hold nothing of another tenant and nothing of the platform",
  },
  'volume files': {
    domain: 'kernel credentials',
    description:
      "volumes, their devices and mounts lie below directories that only the machine's root may enter",
  },
  'router rules': { domain: 'nftables', description: 'the loaded rules drop the packet' },
  'link filter': {
    domain: 'traffic control',
    description: "a filter on the pod's own link drops what comes from another tenant's addresses",
  },
  'no path to the machine': {
    domain: 'network namespaces',
    description:
      'pods are routed in a network namespace that has no link to the machine and none of its addresses',
  },
  'uplink filter': {
    domain: 'traffic control',
    description:
      "the router's only other link leads outside, and a filter on it drops what is for the machine, its networks or metadata",
  },
  'gateway binds to one tenant': {
    domain: 'gateway',
    description: 'a credential of one tenant is refused for every other, whether it exists or not',
  },
  'control plane refuses strangers': {
    domain: 'control plane',
    description: 'a control plane accepts the gateway only, and from it only its own tenant',
  },
}

/** Which layers can stand on a vector; which of them do is found by looking. */
export const VECTORS: Record<Vector, readonly LayerName[]> = {
  kernel: ['user namespace', 'system call filter', 'application kernel'],
  uid: ['user namespace', 'mount view'],
  'pod network': ['router rules', 'link filter'],
  'host network and metadata': ['no path to the machine', 'uplink filter', 'router rules'],
  storage: ['mount view', 'volume files'],
  'tenant API': ['gateway binds to one tenant', 'control plane refuses strangers'],
}

export const LAYERS_REQUIRED = 2
