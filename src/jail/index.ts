// The only description of a workload that an engine accepts, and the interface of an engine.
export * from './jail.ts'
export * from './jail-status.ts'
export * from './jail-usage.ts'
export * from './engine.ts'
export * from './tenant-network.ts'
export { type BandwidthCaps, parseBandwidthCaps } from './bandwidth.ts'
export { type DiskRates, parseDiskRates } from './disk-rates.ts'
export * from './egress.ts'
export * from './ingress.ts'
export * from './stream-frames.ts'
export * from './jail-text.ts'
export * from './uid.ts'
export { type ClaimedVolume, parseClaimedVolume } from './claimed-volume.ts'
export {
  parseRoomRequest,
  type RoomRequest,
  ROOM_REQUESTS_MAX,
  type RoomAnswer,
  type Shortage,
} from './room.ts'
export { parseJail } from './parse-jail.ts'
export { isServiceAddress, parseTenantNetwork } from './parse-tenant-network.ts'
export {
  ARGUMENT_BYTES_MAX,
  ARGUMENTS_MAX,
  INGRESS_CERTIFICATE_BYTES_MAX,
  INGRESS_CERTIFICATES_MAX,
  INGRESS_KEY_BYTES_MAX,
  INGRESS_ROUTES_MAX,
  CLAIMED_VOLUME_BYTES_MAX,
  JAIL_BYTES_MAX,
  TENANT_INGRESS_BYTES_MAX,
  TENANT_NETWORK_BYTES_MAX,
  WATCH_LINE_BYTES_MAX,
} from './limits.ts'
export { RemoteEngine } from './remote-engine.ts'
export {
  type NodeClient,
  type SleepEvent,
  type NodeIsolation,
  NodeRefusal,
  type TenantPlacementAnswer,
  type TenantPlacementRequest,
  type TenantPolicy,
  type TenantQuota,
  type TenantRank,
  type TenantRegoPolicy,
  UnixNodeClient,
} from './node-client.ts'
