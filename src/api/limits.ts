import { assert, KiB, MiB } from '../stdx/index.ts'

/** Numbers that bound what one object may make us do or keep. */

/** Problems reported for one object; the rest is counted, not listed. */
export const PROBLEMS_MAX = 100
/** A jail accepts as long a one. */
export const IMAGE_REFERENCE_CHARS_MAX = 512
/** Items of any list and keys of any map; every kind's own bounds are lower where it matters. */
export const ITEMS_MAX = 5_000
/** Characters of a tenant's value that a message repeats. */
export const QUOTED_VALUE_CHARS_MAX = 256
/** Levels of a value that we carry without looking into it, such as `managedFields[].fieldsV1`. */
export const ANY_DEPTH_MAX = 64
/** As upstream: the annotations of an object together. */
export const ANNOTATIONS_BYTES_MAX = 256 * KiB
/** As upstream: the data of a ConfigMap or Secret. */
export const DATA_BYTES_MAX = 1 * MiB
/** Characters of a quantity; upstream's longest useful one is far shorter. */
export const QUANTITY_CHARS_MAX = 64
/** Characters and conditions of a label or field selector in a request. */
export const SELECTOR_CHARS_MAX = 8 * KiB
export const SELECTOR_REQUIREMENTS_MAX = 64
export const SELECTOR_VALUES_MAX = 256

export const CONTAINERS_MAX = 64
export const INIT_CONTAINERS_MAX = 64
export const VOLUMES_MAX = 128
export const VOLUME_MOUNTS_MAX = 128
export const ENV_MAX = 1_024
export const CONTAINER_PORTS_MAX = 256
export const SERVICE_PORTS_MAX = 128
export const LABELS_MAX = 256
export const OWNER_REFERENCES_MAX = 64
export const FINALIZERS_MAX = 64
export const HOST_ALIASES_MAX = 64
/** As upstream. */
export const DNS_NAMESERVERS_MAX = 3
export const DNS_SEARCHES_MAX = 32
export const DNS_SEARCH_CHARS_MAX = 2_048
export const ENDPOINTS_PER_SLICE_MAX = 1_000
export const ENDPOINT_ADDRESSES_MAX = 100
export const ENDPOINT_PORTS_MAX = 100
export const RBAC_RULES_MAX = 1_000
export const RBAC_SUBJECTS_MAX = 1_000
/** Rules of a NetworkPolicy in each direction, peers and ports of each rule, and all of them in one policy. */
export const NETWORK_POLICY_RULES_MAX = 256
export const NETWORK_POLICY_PEERS_MAX = 256
export const NETWORK_POLICY_PORTS_MAX = 256
export const NETWORK_POLICY_TERMS_MAX = 1_024
/** Of one admission policy; match conditions as upstream. */
export const MATCH_CONDITIONS_MAX = 64
export const POLICY_VALIDATIONS_MAX = 64
export const POLICY_VARIABLES_MAX = 64
export const AUDIT_ANNOTATIONS_MAX = 20
/** A compiled policy of the operator as it travels: 256 KiB in base64. */
export const REGO_BUNDLE_CHARS_MAX = 349_528
export const POLICY_RULES_MAX = 64
export const POLICY_RULE_ITEMS_MAX = 256
/** Characters of all expressions of a policy together. */
export const POLICY_EXPRESSION_CHARS_MAX = 64 * KiB
/** As upstream: what a policy tells or notes. */
export const POLICY_MESSAGE_CHARS_MAX = 5 * KiB
export const TENANT_REGISTRIES_MAX = 64
/** Of the operator's order among tenants. */
export const TENANT_PRIORITY_MAX = 1_000
/** Scale of one Deployment or ReplicaSet; a tenant's quota is reached long before. */
export const REPLICAS_MAX = 10_000
/** Characters of a CronJob's schedule; the longest useful ones list every minute. */
export const SCHEDULE_CHARS_MAX = 1_024
/** Time zones that are kept ready for schedules. */
export const TIME_ZONES_CACHED_MAX = 64
/** Completions of an Indexed Job, whose status lists the indexes that are complete. */
/** As upstream, of events of events.k8s.io. */
export const EVENT_WORD_CHARS_MAX = 128
export const EVENT_NOTE_CHARS_MAX = 1_024

export const INDEXED_COMPLETIONS_MAX = 100_000
/** As upstream, of policies that say when a job has failed or done enough. */
export const FAILURE_RULES_MAX = 20
export const FAILURE_EXIT_CODES_MAX = 255
export const FAILURE_CONDITIONS_MAX = 20
export const SUCCESS_RULES_MAX = 20
export const INDEXES_CHARS_MAX = 65_536
export const JOB_MANAGER_CHARS_MAX = 63
/** As upstream: a token lives at least this long, and at most so long. */
export const TOKEN_SECONDS_MIN = 600
export const TOKEN_SECONDS_MAX = 2 ** 32
/** A client certificate from `tenants/credentials`. */
export const CREDENTIAL_SECONDS_MIN = 600
export const CREDENTIAL_SECONDS_MAX = 365 * 24 * 3_600
export const CSR_CHARS_MAX = 16 * KiB

/** Versions of one CustomResourceDefinition. */
export const CUSTOM_VERSIONS_MAX = 32
/** Schemas of one version, each property and alternative counted. */
export const CUSTOM_SCHEMA_NODES_MAX = 50_000
/** Levels of schemas; those that embed a PodTemplate have about 25. */
export const CUSTOM_SCHEMA_DEPTH_MAX = 60
/** All defaults of one version together, as JSON. */
export const CUSTOM_DEFAULTS_BYTES_MAX = 64 * KiB
/** What defaults may add to one object: they repeat for every item of a list. */
export const CUSTOM_DEFAULTED_BYTES_MAX = 256 * KiB
/** Characters of a regular expression in a schema. */
export const CUSTOM_PATTERN_CHARS_MAX = 4 * KiB
/** What a pattern may be compiled to: `(a{1000}){1000}` is short, too. */
export const CUSTOM_PATTERN_INSTRUCTIONS_MAX = 5_000
/** Steps of checking one object against its schema: visits of schemas, and of a pattern's instructions by 16 characters. */
export const CUSTOM_CHECK_STEPS_MAX = 200_000
export const CUSTOM_COLUMNS_MAX = 64
/** As upstream. */
export const CUSTOM_SELECTABLE_FIELDS_MAX = 8
export const JSON_PATH_CHARS_MAX = 1_024
/** Characters of one cell of a table, which may show a whole object. */
export const CUSTOM_CELL_CHARS_MAX = 4 * KiB

assert(CUSTOM_DEFAULTS_BYTES_MAX <= CUSTOM_DEFAULTED_BYTES_MAX)
assert(
  SELECTOR_REQUIREMENTS_MAX <= SELECTOR_CHARS_MAX,
  'A selector cannot hold more conditions than characters',
)
assert(CREDENTIAL_SECONDS_MIN <= CREDENTIAL_SECONDS_MAX)

export const INGRESS_RULES_MAX = 100
export const INGRESS_PATHS_MAX = 100
export const INGRESS_CERTIFICATES_MAX = 100
