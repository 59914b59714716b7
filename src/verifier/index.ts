// Looks at the machine from outside and says which layers stand between tenants. It imports no engine.
export { type ApiProbes, type ExpectedTenant, type Report, verify, type VectorReport } from './verify.ts'
export type { LayerResult } from './layers.ts'
export { renderReport } from './report/text.ts'
export { probeControlPlane } from './probes/control-plane-socket.ts'
export { LAYERS, VECTORS, type Vector } from './vectors.ts'
