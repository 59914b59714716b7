// The bulkhead command: what an operator types, turned into calls of the platform's API and of this machine.
export {
  type AttackOptions,
  runCli,
  type CliDeps,
  type Machine,
  type MachineStatus,
  type VerifyOptions,
  type WatchCommands,
} from './run-cli.ts'
export { ControlPlaneClient, readKubeconfig, ApiRefusal, type Credentials } from './platform-client.ts'
export { renderKubeconfig } from './kubeconfig.ts'
export { printable, renderTable } from './table.ts'
export {
  applyTenants,
  deleteTenant,
  issueKubeconfig,
  listTenants,
  TENANTS_PATH,
  type TenantView,
  untilTenantReady,
} from './tenants.ts'
