// The front door: TLS, authentication, tenancy, fair share, audit.
export { AuditFile } from './audit-file.ts'
export type { AuditSink } from './events.ts'
export { createGateway, type Gateway, type GatewayOptions } from './gateway.ts'
export { REQUEST_ID_HEADER } from './headers.ts'
export {
  DEFAULT_GATEWAY_LIMITS,
  type GatewayLimits,
  POD_GATEWAY_LIMITS,
  UPSTREAM_HEAD_BYTES_MAX,
} from './limits.ts'
