export const HELPER_TIMEOUT_MS = 20_000
export const NFT_TIMEOUT_MS = 30_000
/** What is longer goes through `nft`: it holds up nothing else while it works. */
export const RULE_SCRIPT_BYTES_MAX = 1024 * 1024
export const RULE_MESSAGES_MAX = 10_000
/** After a change of rules that took longer, the next one waits for so many times as long. */
export const RULES_UNNOTICED_MS = 4
export const RULES_REST = 3
export const NFT_OUTPUT_BYTES_MAX = 256 * 1024 * 1024
export const CONNECT_TIMEOUT_MS = 10_000
/** How long the kernel has to remove the links of a pod that is gone before we do it. */
export const LINK_SWEEP_MS = 3_000
export const SERVICES_RETRY_MS = 1_000
/** Changes of names within this time are told to the resolver together. */
export const NAMES_DEBOUNCE_MS = 20
export const RESOLVER_RETRY_MS = 1_000
/** A resolver that was started again has forgotten everything; this is how soon we notice. */
export const RESOLVER_CHECK_MS = 5_000
export const RESOLVER_TIMEOUT_MS = 10_000
export const RESOLVER_ANSWER_BYTES_MAX = 1024 * 1024
/** How often the way outside is looked at: addresses of the machine, rules that end, what was counted. */
export const OUTSIDE_CHECK_MS = 5_000
/** Seconds for which an answer about a name may be used, whatever whoever gave it says. */
export const NAME_TTL_SECONDS_MIN = 5
export const NAME_TTL_SECONDS_MAX = 300
export const NO_SUCH_NAME_SECONDS = 5
/** An address stays open this much longer than the answer that named it, for who has just read the answer. */
export const NAME_GRACE_MS = 10_000
export const NAME_ADDRESSES_MAX = 16
/** Of one tenant. */
export const TENANT_NAMES_KEPT_MAX = 1_000
export const TENANT_LOOKUPS_MAX = 16
export const TENANT_LOOKUPS_PER_SECOND_MAX = 50
/** Different names under wildcards of one tenant: what they can carry out is this many labels. */
export const FRESH_NAMES_BURST = 60
export const FRESH_NAMES_REFILL_MS = 2_000
/** What one tenant's pods wanted and no rule allows. */
export const OUTSIDE_SEEN_MAX = 500
export const FORWARDER_TIMEOUT_MS = 6_000
export const FORWARDER_ANSWER_BYTES_MAX = 64 * 1024
/** As many as questions can wait at the resolver, and as the forwarder answers at once. */
export const FORWARDER_SOCKETS_MAX = 512
