import assert from 'node:assert/strict'
import { test } from 'node:test'
import type {
  ConfigMap,
  Tenant,
  ValidatingAdmissionPolicy,
  ValidatingAdmissionPolicyBinding,
} from '../../api/index.ts'
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
    [],
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

test('what a binding takes its parameters from travels with the policy, and nothing else of the platform', () => {
  const configMap = (name: string, namespace: string, labels = {}) =>
    ({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name, namespace, labels, managedFields: [{ manager: 'olga' }] },
      data: { of: name },
    }) as unknown as ConfigMap
  const all = [
    configMap('b', 'rules', { kind: 'limit' }),
    configMap('a', 'rules', { kind: 'limit' }),
    configMap('other', 'rules'),
    configMap('a', 'elsewhere', { kind: 'limit' }),
  ]
  const paramsOf = (
    paramRef: object,
    paramKind: object | undefined = { apiVersion: 'v1', kind: 'ConfigMap' },
  ) => {
    const bound = binding('p', 'p', {})
    const [planned] = planPolicies(
      tenant({}),
      [{ metadata: { name: 'p' }, spec: { paramKind } } as unknown as ValidatingAdmissionPolicy],
      [{ ...bound, spec: { ...bound.spec, paramRef } } as ValidatingAdmissionPolicyBinding],
      all,
    )
    return planned?.bindings[0]?.params
  }
  const { managedFields: _fields, ...metadata } = all[1]!.metadata
  assert.deepEqual(paramsOf({ name: 'a', namespace: 'rules' }), [{ ...all[1], metadata }])
  const selected = paramsOf({ selector: { matchLabels: { kind: 'limit' } }, namespace: 'rules' })
  assert.deepEqual(
    selected?.map((found) => [found.metadata.namespace, found.metadata.name]),
    [
      ['rules', 'a'],
      ['rules', 'b'],
    ],
  )
  assert.deepEqual(paramsOf({ name: 'none', namespace: 'rules' }), [])
  assert.equal(paramsOf({ name: 'a', namespace: 'rules' }, { apiVersion: 'v1', kind: 'Secret' }), undefined)
})
