// Looks at the machine from outside and says which layers stand between tenants. It imports no engine.
export {
  type ApiProbes,
  type ExpectedTenant,
  type Grant,
  type KnownTenant,
  type Report,
  verify,
  type Waiver,
} from './verify.ts'
export type { PairGroup, VectorReport, VectorState } from './proof.ts'
export type { LayerResult } from './layers.ts'
export { renderReport } from './report/text.ts'
export { type Alarm, type AlarmChange, Alarms } from './watch/alarms.ts'
export { type Drift, Watcher } from './watch/watcher.ts'
export { renderHtml } from './report/html.ts'
export { renderSarif } from './report/sarif.ts'
export { checkReport, signaturePlace, type Signer, signReport } from './report/signature.ts'
export {
  keyThumbprints,
  probeControlPlane,
  probeControlPlaneBounds,
  probeSigningKeys,
} from './probes/control-plane-socket.ts'
export {
  type FailureDomain,
  type LayerName,
  LAYERS,
  parseVector,
  type Vector,
  VECTOR_NAMES,
  VECTORS,
} from './vectors.ts'
export { ATTACKS } from './attacks.ts'
export { type StandardId, STANDARDS } from './standards.ts'
