// A control plane's API server: routes and handlers over the store.
export { DEFAULT_TENANT_LIMITS } from './limits.ts'
export { type ApiServer, type ApiServerOptions, createApiServer } from './api-server.ts'
export type { VersionFacts } from './plain-paths.ts'
export type { StreamHandler, StreamRequest } from './stream-handler.ts'
export type { SubresourceHandler } from './subresource-handler.ts'
export { createStreamHandler } from './streams/index.ts'
