// The engine of this machine: pods as real containers, one socket per tenant.
export type { TenantPlacement } from './parts.ts'
export { serveEngine, type EngineServer } from './server.ts'
