import { DEFAULT_TENANT_LIMITS } from '../apiserver/index.ts'
import {
  bundleOf,
  compileOperatorPolicies,
  type HeldRegoPolicy,
  type OperatorPolicies,
  type TenantLimits,
} from '../policy/index.ts'
import type { HostRequest } from './control-channel.ts'

/** What a control plane lets its tenant have: what the operator decided, which can only tighten the platform's own limits. */
export function tenantLimitsOf({
  quota: { pods, objects, cpuMillis, memoryBytes, storageBytes } = {},
  registries,
  podSecurity,
  ingress = { hosts: [], ports: [] },
}: Pick<HostRequest, 'quota' | 'registries' | 'podSecurity' | 'ingress'>): TenantLimits {
  const { podsMax, objectsMax } = DEFAULT_TENANT_LIMITS
  return {
    ...DEFAULT_TENANT_LIMITS,
    ingress,
    podsMax: Math.min(pods ?? podsMax, podsMax),
    objectsMax: Math.min(objects ?? objectsMax, objectsMax),
    ...(registries === undefined ? {} : { registries }),
    ...(podSecurity === undefined ? {} : { podSecurity }),
    ...(cpuMillis === undefined ? {} : { cpuMillisMax: cpuMillis }),
    ...(memoryBytes === undefined ? {} : { memoryBytesMax: memoryBytes }),
    ...(storageBytes === undefined ? {} : { storageBytesMax: storageBytes }),
  }
}

/** @throws {TypeError} when one of the operator's policies cannot be read. */
export function operatorPoliciesOf({ policies = [] }: Pick<HostRequest, 'policies'>): OperatorPolicies {
  return compileOperatorPolicies(policies)
}

/** They are read when they are asked for the first time; one that cannot be read refuses whatever it would judge. */
export function regoPoliciesOf({ regoPolicies = [] }: Pick<HostRequest, 'regoPolicies'>): HeldRegoPolicy[] {
  return regoPolicies.map(({ name, bundle, entrypoint, matchConstraints }) => ({
    name,
    matchConstraints,
    bundle: bundleOf({ bundle, ...(entrypoint === undefined ? {} : { entrypoint }) }),
  }))
}
