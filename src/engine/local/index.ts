// The engine of this machine: pods as real containers, one socket per tenant.
export type { TenantPlacement } from './parts.ts'
export { createLocalEngine, type LocalEngine, type LocalEngineOptions } from './local-engine.ts'
export { serveEngine, type EngineServer } from './server.ts'
export type { Claims, Images, PodNetwork, ContainerHost } from './parts.ts'
export { createImages, type TenantImages } from './host/images/images.ts'
export { Puller, servePuller } from './images/puller.ts'
export { Daemons, type DaemonSpec } from './host/daemons.ts'
export { fillCodeCache, forgetCodeCache, shareCodeCache } from './host/code-cache.ts'
export { createCgroups } from './host/cgroups.ts'
export { freezeTenant, thawAll } from './host/freezer.ts'
export { daemonLimits, type DaemonRole, type MachineSize } from './plan/daemon-limits.ts'
export { roomOfMachine } from './local-engine.ts'
export { observeMachineSize } from './observe/machine-facts.ts'
export { type Lock, tryLock } from './host/lock.ts'
export {
  assertIdsAreFree,
  ensureDaemonUsers,
  ensureDirectory,
  ensureRunDir,
  giveFilesTo,
  removeDaemonUsers,
  removeRunDir,
  stateDirectories,
  type DaemonUsers,
  type LinuxUser,
} from './host/machine.ts'
export { parsePlacementRequest, type PlacementRequest, Placements } from './host/placements.ts'
export { createPodNetwork, type PodNetworkOptions } from './host/net/pod-network.ts'
export { createResolver, Forwarder, type Resolver, type ResolverOptions } from './dns/index.ts'
export { AccessLog, Connector, FrontDoor } from './door/index.ts'
export { serveExchanges } from './pods/exchange-server.ts'
export { createClaims } from './host/claims.ts'
export { GATEWAY as ROUTER_ADDRESS, POD_GATEWAY_PORT, podOwnerIndex } from './plan/net/index.ts'
export { createContainerHost } from './host/container-host.ts'
export { createUseHost } from './host/use-host.ts'
