// Versioned objects of one tenant: resourceVersion, compare-and-swap, watch.
export * from './store.ts'
export { openStore, type StoreOptions } from './sqlite-store.ts'
export { storedText } from './history.ts'
export { SqliteStore } from './sqlite-store.ts'
export { DEFAULT_STORE_LIMITS, type StoreLimits } from './limits.ts'
export { createDataKey, KEY_BYTES, KeyUnwrapError, unwrapKey, wrapKey } from './data-key.ts'
