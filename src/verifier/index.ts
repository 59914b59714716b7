// Looks at the machine from outside and says which layers stand between tenants. It imports no engine.
export {
  type ApiProbes,
  type ExpectedTenant,
  type Report,
  verify,
  type VectorReport,
  type VectorState,
} from './verify.ts'
export type { LayerResult } from './layers.ts'
export { renderReport } from './report/text.ts'
export { probeControlPlane } from './probes/control-plane-socket.ts'
export {
  type FailureDomain,
  type LayerName,
  LAYERS,
  parseVector,
  type Vector,
  VECTOR_NAMES,
  VECTORS,
} from './vectors.ts'
export { type StandardId, STANDARDS } from './standards.ts'
