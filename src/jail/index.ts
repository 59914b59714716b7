// The only description of a workload that an engine accepts, and the interface of an engine.
export * from './jail.ts'
export * from './jail-status.ts'
export * from './engine.ts'
export * from './tenant-network.ts'
export * from './stream-frames.ts'
