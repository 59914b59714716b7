import type { Vector } from './vectors.ts'

/**
 * Attacks of `bulkhead attack` that try to cross each vector: the telling ones, of many more that there are. The verifier
 * makes none of them; a test compares the names with the catalogue.
 */
export const ATTACKS: Readonly<Record<Vector, readonly string[]>> = {
  'tenant API': [
    'path-direct',
    'path-encoded-dots',
    'smuggle-cl-te',
    'http2-header-splitting',
    'watch-victim',
  ],
  'control-plane saturation': ['flood-requests', 'flood-watches', 'slow-heads', 'http2-rapid-reset'],
  kernel: [
    'pod-unshare-user',
    'pod-setns-init',
    'pod-cgroup-release-agent',
    'pod-io-uring',
    'pod-runtime-binary',
  ],
  'pod network': ['network-victim-pod', 'network-spoofed-source', 'network-fragments', 'pod-raw-sockets'],
  DNS: ['network-dns-victim-names', 'network-dns-enumeration', 'network-dns-malformed'],
  'metadata and host services': ['network-metadata', 'network-node-addresses', 'pod-abstract-sockets'],
  egress: ['network-outside', 'network-dns-tunnel'],
  storage: ['pod-mount-sources', 'pod-find-canary', 'pod-symlink-out-of-volume', 'pod-file-handles'],
  secrets: ['secret-bytes-at-rest', 'secret-other-key', 'secret-after-deletion'],
  'images and image cache': [
    'image-through-link-of-lower-layer',
    'image-by-digest-of-others',
    'image-layer-by-digest',
    'image-layer-by-diff-id',
    'image-cache-write',
  ],
  'node identity': ['socket-node-agent', 'pod-platform-sockets'],
  'co-location': ['pod-process-memory', 'pod-ptrace', 'pod-sysv-shared-memory', 'pod-cgroup-neighbours'],
  cpu: ['pod-priority'],
  memory: ['exhaustion-memory', 'pod-cgroup-own-limits', 'pod-oom-score'],
  pids: ['exhaustion-forks', 'exhaustion-processes'],
  disk: [
    'exhaustion-disk',
    'exhaustion-files',
    'image-compression-bombs',
    'image-endless-blob',
    'image-many-entries',
  ],
  'disk throughput': [],
  bandwidth: ['exhaustion-sockets'],
  'object floods': ['flood-objects'],
  'identities and tokens': [
    'token-stolen',
    'token-other-key',
    'certificate-elsewhere',
    'certificate-of-deleted-tenant',
  ],
  'data bus': [],
  'logs and metrics': ['secret-in-logs', 'audit-forged-records'],
  'platform components': ['socket-control-plane', 'path-platform', 'rights-own-limits'],
}
