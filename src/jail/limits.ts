import { assert, KiB, MiB } from '../stdx/index.ts'

/** A whole jail as JSON on the wire. */
export const JAIL_BYTES_MAX = 16 * MiB
/** Decoded content of all `files` volumes of a jail together. Several Secrets and ConfigMaps of 1 MiB fit in. */
export const FILES_BYTES_MAX = 8 * MiB
export const FILES_PER_VOLUME_MAX = 4_096
/** Of all volumes of a jail together: an engine writes them in one go, and each takes an inode in memory. */
export const FILES_MAX = 4_096
export const FILE_PATH_BYTES_MAX = 1_024
export const PATH_SEGMENT_BYTES_MAX = 255
/** PATH_MAX of Linux. */
export const PATH_BYTES_MAX = 4_095

/** What a control plane says of a volume: an id and a size. */
export const CLAIMED_VOLUME_BYTES_MAX = 1 * KiB

/** As many pods as a tenant can have on one machine. */
export const ROOM_WITHOUT_MAX = 250
export const INIT_CONTAINERS_MAX = 32
export const CONTAINERS_MAX = 32
export const VOLUMES_MAX = 128
export const MOUNTS_PER_CONTAINER_MAX = 128
export const PORTS_PER_CONTAINER_MAX = 256
export const IMAGE_REFERENCE_CHARS_MAX = 512

/** MAX_ARG_STRLEN of Linux: execve(2) refuses one longer argument or environment string. */
export const ARGUMENT_BYTES_MAX = 128 * KiB - 1
export const ARGUMENTS_MAX = 1_024
/** Arguments and environment of one container together, below the 6 MiB that execve(2) takes at most. */
export const ARGUMENTS_AND_ENV_BYTES_MAX = 1 * MiB
export const ENV_MAX = 4_096
export const ENV_NAME_CHARS_MAX = 1_024

export const ID_MAX = 65_535
export const SUPPLEMENTAL_GROUPS_MAX = 64
export const CPU_MILLIS_MAX = 1_000_000
/** One PiB; an exact number in JSON. */
export const BYTES_MAX = 2 ** 50

export const PROBE_HEADERS_MAX = 64
export const PROBE_HEADER_NAME_CHARS_MAX = 256
export const PROBE_HEADER_VALUE_CHARS_MAX = 4_096
export const PROBE_PATH_CHARS_MAX = 2_048
/** Seconds and thresholds are int32 in the Pod API. */
export const INT32_MAX = 2 ** 31 - 1

export const DNS_SEARCHES_MAX = 32
export const DNS_NAMESERVERS_MAX = 3
export const DNS_OPTIONS_MAX = 32
export const HOST_ALIASES_MAX = 256
export const HOSTNAMES_PER_ALIAS_MAX = 64

export const SERVICES_MAX = 2_048
export const PORTS_PER_SERVICE_MAX = 64
export const ENDPOINTS_PER_PORT_MAX = 1_024
export const ENDPOINTS_MAX = 16_384
/** Pods that network policies speak of; more than a tenant has addresses. */
export const NETWORK_PODS_MAX = 4_096
export const POD_GROUPS_MAX = 1_024
/** Members of all groups together. */
export const POD_GROUP_MEMBERS_MAX = 131_072
/** Different combinations of policies that pods of one tenant are isolated by, in each direction. */
export const ISOLATIONS_MAX = 1_024
export const FLOW_RULES_MAX = 4_096
/** Comparisons that all rules together become: peers × ports of each. It is what a change of policies costs. */
export const FLOW_COMPARISONS_MAX = 8_192
export const ADDRESS_RANGES_MAX = 16_384
export const PORT_RANGES_MAX = 16_384
/** By which tenants narrow what their pods reach outside, and what all of them allow together. */
export const EGRESS_NARROWINGS_MAX = 512
export const EGRESS_NARROWED_TO_MAX = 2_048
export const TENANT_NETWORK_BYTES_MAX = 8 * MiB

/** Paths of all hosts that a tenant publishes. */
export const INGRESS_ROUTES_MAX = 2_048
export const INGRESS_PATH_BYTES_MAX = 1 * KiB
export const INGRESS_CERTIFICATES_MAX = 200
/** A chain of several certificates. */
export const INGRESS_CERTIFICATE_BYTES_MAX = 32 * KiB
export const INGRESS_KEY_BYTES_MAX = 16 * KiB
export const INGRESS_SOURCES_MAX = 64
export const TENANT_INGRESS_BYTES_MAX = 8 * MiB

/** A refusal lists this many problems; a longer list helps nobody and costs us. */
export const PROBLEMS_MAX = 64

/** One line of a watch: a status of a pod with every container it may have, messages included, is far smaller. */
export const WATCH_LINE_BYTES_MAX = 1 * MiB
export const ANSWER_BYTES_MAX = 64 * MiB
export const ENGINE_REQUEST_TIMEOUT_MS = 30_000
export const ENGINE_SOCKETS_MAX = 32

assert(
  (FILES_BYTES_MAX * 4) / 3 + CONTAINERS_MAX * KiB < JAIL_BYTES_MAX,
  'A jail full of files must fit on the wire',
)
