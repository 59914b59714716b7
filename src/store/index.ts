// Versioned objects of one tenant: resourceVersion, compare-and-swap, watch.
export * from './store.ts'
