import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Tenant, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding } from '../../api/index.ts'
import { planPolicies } from './plan-policies.ts'

const tenant = (labels: Record<string, string>) =>
  ({ metadata: { name: 'red', labels } }) as unknown as Tenant
const policy = (name: string) => ({ metadata: { name }, spec: {} }) as unknown as ValidatingAdmissionPolicy
const binding = (name: string, policyName: string, tenantSelector?: object) =>
  ({
    metadata: { name },
    spec: { policyName, validationActions: ['Deny'], ...(tenantSelector ? { tenantSelector } : {}) },
  }) as unknown as ValidatingAdmissionPolicyBinding

test('a tenant gets the policies whose bindings select its Tenant object, without saying whom else they select', () => {
  const planned = planPolicies(
    tenant({ tier: 'free' }),
    [policy('b'), policy('a'), policy('own'), policy('unbound')],
    [
      binding('b-free', 'b', { matchLabels: { tier: 'free' } }),
      binding('b-paid', 'b', { matchLabels: { tier: 'paid' } }),
      binding('a-all', 'a', {}),
      // Without a selector it holds in the platform's own API.
      binding('own', 'own'),
      binding('dangling', 'gone', {}),
    ],
  )
  const bound = (name: string, policyName: string) => ({
    name,
    spec: { policyName, validationActions: ['Deny'] },
  })
  assert.deepEqual(planned, [
    { name: 'a', spec: {}, bindings: [bound('a-all', 'a')] },
    { name: 'b', spec: {}, bindings: [bound('b-free', 'b')] },
  ])
})
