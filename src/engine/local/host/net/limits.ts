export const HELPER_TIMEOUT_MS = 20_000
export const NFT_TIMEOUT_MS = 30_000
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
