import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  HARMLESS_CAPABILITIES,
  type ObjectSchema,
  type PodSpec,
  refusedFields,
  refusedValues,
  type Schema,
  schemaOf,
  tenantRegistry,
} from '../../api/index.ts'
import { POD_TEMPLATES, type PodTemplate } from '../pod-templates.ts'
import type { PodSecurityLevel } from './checks.ts'
import { parsePodSecurityLabels, podSecurityViolations, renderViolations } from './policy.ts'

const GOOD = {
  allowPrivilegeEscalation: false,
  capabilities: { drop: ['ALL'] },
  runAsNonRoot: true,
  seccompProfile: { type: 'RuntimeDefault' as const },
}

function pod(
  context: object = {},
  whole: object = {},
  annotations: Readonly<Record<string, string>> = {},
): PodTemplate {
  const securityContext = { ...GOOD, ...context }
  const spec = {
    securityContext: whole,
    containers: [{ name: 'a', image: 'x', securityContext }],
    initContainers: [{ name: 'i', image: 'x', securityContext: GOOD }],
  }
  return { path: 'spec', annotations, spec: spec as unknown as PodSpec } // as the schema would let it in
}

const bare: PodTemplate = {
  path: 'spec',
  annotations: {},
  spec: { containers: [{ name: 'a', image: 'x' }], initContainers: [{ name: 'i', image: 'x' }] },
}

const ESCALATION = 'allowPrivilegeEscalation != false'
const CAPABILITIES = 'unrestricted capabilities'
const NON_ROOT = 'runAsNonRoot != true'
const SECCOMP = 'seccompProfile'

/** What is told, from which minor version on, up to which. */
const TABLE: [
  what: string,
  pod: PodTemplate,
  level: PodSecurityLevel,
  [string, from: number, to?: number][],
][] = [
  ['a pod that says nothing', bare, 'privileged', []],
  ['a pod that says nothing', bare, 'baseline', []],
  [
    'a pod that says nothing',
    bare,
    'restricted',
    [
      [ESCALATION, 8],
      [CAPABILITIES, 22],
      [NON_ROOT, 0],
      [SECCOMP, 19],
    ],
  ],
  ['a pod that says everything', pod(), 'restricted', []],
  ['escalation left open', pod({ allowPrivilegeEscalation: undefined }), 'restricted', [[ESCALATION, 8]]],
  ['one capability dropped', pod({ capabilities: { drop: ['KILL'] } }), 'restricted', [[CAPABILITIES, 22]]],
  [
    'a capability added',
    pod({ capabilities: { drop: ['ALL'], add: ['CHOWN'] } }),
    'restricted',
    [[CAPABILITIES, 22]],
  ],
  ['low ports', pod({ capabilities: { drop: ['ALL'], add: ['NET_BIND_SERVICE'] } }), 'restricted', []],
  ['root by number', pod({ runAsUser: 0 }), 'restricted', [['runAsUser=0', 23]]],
  ['root by number for all', pod({}, { runAsUser: 0 }), 'restricted', [['runAsUser=0', 23]]],
  ['root allowed', pod({ runAsNonRoot: false }), 'restricted', [[NON_ROOT, 0]]],
  ['root allowed for all', pod({}, { runAsNonRoot: false }), 'restricted', [[NON_ROOT, 0]]],
  ['left to the pod', pod({ runAsNonRoot: undefined }, { runAsNonRoot: true }), 'restricted', []],
  ['no filter named', pod({ seccompProfile: undefined }), 'restricted', [[SECCOMP, 19]]],
  [
    'the pod’s filter',
    pod({ seccompProfile: undefined }, { seccompProfile: { type: 'RuntimeDefault' } }),
    'restricted',
    [],
  ],
  [
    'an AppArmor profile of old',
    pod({}, {}, { 'container.apparmor.security.beta.kubernetes.io/a': 'unconfined' }),
    'baseline',
    [['forbidden AppArmor profile', 0]],
  ],
  [
    'a harmless AppArmor profile of old',
    pod({}, {}, { 'container.apparmor.security.beta.kubernetes.io/a': 'runtime/default' }),
    'restricted',
    [],
  ],
  [
    'a filter of old, switched off',
    pod({}, {}, { 'seccomp.security.alpha.kubernetes.io/pod': 'unconfined' }),
    'baseline',
    [[SECCOMP, 0, 18]],
  ],
  [
    'a container’s filter of old, switched off',
    pod({}, {}, { 'container.seccomp.security.alpha.kubernetes.io/i': 'unconfined' }),
    'restricted',
    [[SECCOMP, 0, 18]],
  ],
  [
    'a filter of old for no container',
    pod({}, {}, { 'container.seccomp.security.alpha.kubernetes.io/other': 'unconfined' }),
    'restricted',
    [],
  ],
]

for (const [what, template, level, expected] of TABLE) {
  test(`${level}: ${what}: ${expected.map(([reason]) => reason).join(', ') || 'allowed'}, in every version that says so`, () => {
    for (const version of [...Array(40).keys(), 'latest' as const]) {
      const minor = version === 'latest' ? 1_000 : version
      const reasons = expected.flatMap(([reason, from, to = 1_000]) =>
        from <= minor && minor <= to ? [reason] : [],
      )
      const told = podSecurityViolations({ level, version }, template).map(({ reason }) => reason)
      assert.deepEqual(told, reasons, `v1.${version}`)
    }
  })
}

test('a refusal is in upstream’s words', () => {
  const restricted = { level: 'restricted', version: 'latest' } as const
  assert.equal(
    renderViolations(restricted, podSecurityViolations(restricted, bare)),
    'PodSecurity "restricted:latest": allowPrivilegeEscalation != false (containers "i", "a" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers "i", "a" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or containers "i", "a" must set securityContext.runAsNonRoot=true), seccompProfile (pod or containers "i", "a" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")',
  )
  const version = { level: 'restricted', version: 24 } as const
  const root = pod({ runAsUser: 0, runAsNonRoot: false }, { runAsUser: 0, runAsNonRoot: false })
  assert.equal(
    renderViolations(version, podSecurityViolations(version, root)),
    'PodSecurity "restricted:v1.24": runAsNonRoot != true (pod and container "a" must not set securityContext.runAsNonRoot=false), runAsUser=0 (pod and container "a" must not set runAsUser=0)',
  )
})

test('labels are read as upstream reads them, and what cannot be read enforces the strictest', () => {
  const label = (name: string) => `pod-security.kubernetes.io/${name}`
  assert.deepEqual(parsePodSecurityLabels(undefined), parsePodSecurityLabels({ other: 'x' }))
  const { policy, errors } = parsePodSecurityLabels({
    [label('enforce')]: 'strict',
    [label('enforce-version')]: 'v1.01',
    [label('audit')]: 'strict',
    [label('warn')]: 'baseline',
    [label('warn-version')]: 'v1.24',
  })
  assert.deepEqual(policy, {
    enforce: { level: 'restricted', version: 'latest' },
    audit: { level: 'privileged', version: 'latest' },
    warn: { level: 'baseline', version: 24 },
  })
  assert.deepEqual(
    errors.map(({ field, message }) => `${field}: ${message}`),
    [
      'metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "strict": must be one of privileged, baseline, restricted',
      'metadata.labels[pod-security.kubernetes.io/enforce-version]: Invalid value: "v1.01": must be "latest" or "v1.x"',
      'metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: "strict": must be one of privileged, baseline, restricted',
    ],
  )
  fc.assert(
    fc.property(fc.string(), fc.string(), (level, version) => {
      const { enforce } = parsePodSecurityLabels({
        [label('enforce')]: level,
        [label('enforce-version')]: version,
      }).policy
      assert.ok(level === enforce.level || enforce.level === 'restricted')
      assert.ok(enforce.version === 'latest' || version === `v1.${enforce.version}`)
    }),
  )
})

const CORE = 'io.k8s.api.core.v1'

test('what baseline forbids and no check looks at cannot be written down', () => {
  const forbidden: [string, string[]][] = [
    ['PodSpec', ['hostNetwork', 'hostPID', 'hostIPC']],
    ['PodSecurityContext', ['sysctls', 'appArmorProfile', 'windowsOptions']],
    ['SecurityContext', ['privileged', 'procMount', 'appArmorProfile', 'windowsOptions']],
    ['SELinuxOptions', ['role', 'type', 'user']],
    ['ContainerPort', ['hostPort']],
    ['HTTPGetAction', ['host']],
    ['TCPSocketAction', ['host']],
    ['Volume', ['hostPath']],
  ]
  for (const [schema, fields] of forbidden)
    for (const field of fields) assert.ok(refusedFields[`${CORE}.${schema}`]?.[field], `${schema}.${field}`)
  assert.ok(refusedValues[`${CORE}.SeccompProfile`]?.['type']?.['Unconfined'])
  const baseline =
    'AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID SYS_CHROOT'
  for (const capability of HARMLESS_CAPABILITIES)
    assert.ok(baseline.split(' ').includes(capability), capability)
})

/** The schemas that contain a pod's, and how often a kind reaches it. */
function reaches(schema: Schema, seen = new Set<ObjectSchema>()): boolean {
  if (schema.type === 'list') return reaches(schema.items, seen)
  if (schema.type === 'map') return reaches(schema.values, seen)
  if (schema.type !== 'object' || seen.has(schema)) return false
  seen.add(schema)
  return (
    schema.name === `${CORE}.PodSpec` ||
    Object.values(schema.fields).some((field) => reaches(schemaOf(field), seen))
  )
}

test('volumes are of kinds that restricted allows', () => {
  const restricted =
    'configMap downwardAPI emptyDir projected secret persistentVolumeClaim ephemeral csi image'
  const volume = tenantRegistry.findKind({ group: '', kind: 'Pod' })?.schema.fields['spec']
  assert.ok(volume)
  const spec = schemaOf(volume)
  assert.ok(spec.type === 'object' && spec.fields['volumes'])
  const volumes = schemaOf(spec.fields['volumes'])
  assert.ok(volumes.type === 'list' && volumes.items.type === 'object')
  for (const kind of Object.keys(volumes.items.fields).filter((field) => field !== 'name'))
    assert.ok(restricted.split(' ').includes(kind), kind)
})

test('every kind that describes pods is judged', () => {
  const kinds = tenantRegistry.kinds.filter(({ schema }) => reaches(schema))
  assert.deepEqual(
    kinds.map(({ plural, group }) => `${plural}.${group}`).sort(),
    [...POD_TEMPLATES.keys()].sort(),
  )
})
