/**
 * What it costs to take in the Deployment of samples/manifests/shop.yaml, in one process and without a store:
 * `node bench/admission.ts [times]`. The reference is JSON.parse of the same bytes in the same run.
 */
import { readFileSync } from 'node:fs'
import { parseAllDocuments } from 'yaml'
import {
  applyDefaults,
  checkObject,
  type KubeObject,
  tenantRegistry,
  validateObject,
  type WriteContext,
} from '../src/api/index.ts'
import { askedOverHttp } from '../src/link/index.ts'
import { ADMIN, ControlPlane } from '../tests/conformance/control-plane.ts'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { RegoThreads } from '../src/rego/index.ts'
import { systemClock } from '../src/stdx/index.ts'
import { bundleOfModule, denyIfInputHas } from '../tests/testkit/rego.ts'
import { exchange } from './kit/exchange.ts'
import { machineFacts, printRows } from './kit/samples.ts'

const TIMES = Number(process.argv[2] ?? 10_000)
const WARM_UP = 2_000

const file = new URL('../samples/manifests/shop.yaml', import.meta.url)
const deployment = parseAllDocuments(readFileSync(file, 'utf8'))
  .map((document) => document.toJS() as KubeObject)
  .find(({ kind }) => kind === 'Deployment')
if (!deployment) throw new Error(`There is no Deployment in ${file.pathname}`)
const text = JSON.stringify(deployment)
const definition = tenantRegistry.find({ group: 'apps', version: 'v1', resource: 'deployments' })
if (!definition) throw new Error('Deployments are not served')

const context: WriteContext = { user: ADMIN, nowMs: Date.now() }

/** What happens to a Deployment that is created, except authorization, field tracking and the store. */
function takeIn(kind: NonNullable<typeof definition>): KubeObject {
  const checked = checkObject(kind, JSON.parse(text))
  const problems = [...checked.errors, ...checked.refused]
  let object = applyDefaults(kind, checked.object)
  if (kind.prepareForCreate) object = kind.prepareForCreate(object, context)
  problems.push(...validateObject(kind, object, context))
  if (problems.length > 0) throw new Error(`The sample is refused: ${JSON.stringify(problems)}`)
  return object
}

async function times(work: () => unknown): Promise<number[]> {
  const micros: number[] = []
  for (let i = 0; i < WARM_UP + TIMES; i++) {
    const began = performance.now()
    const result = work()
    if (result instanceof Promise) await result
    if (i >= WARM_UP) micros.push((performance.now() - began) * 1_000)
  }
  return micros
}

console.log(machineFacts())
console.log(`a Deployment of ${text.length} bytes of JSON`)
await using plane = await ControlPlane.start()
const path = '/apis/apps/v1/namespaces/shop/deployments?dryRun=All'
const namespace = await plane.ask('POST', '/api/v1/namespaces', {
  body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } },
})
if (namespace.code !== 201) throw new Error(`The namespace was answered with ${namespace.code}`)
const dryRun = async () => {
  const { request, response, code } = exchange(path, text)
  await plane.server.handle(askedOverHttp(request), response, ADMIN)
  if (code() !== 201) throw new Error(`A dry run answered ${code()}`)
}
/** Adds policies, each with a binding, until there are so many; the sample passes all of them. */
let policies = 0
async function withPolicies(count: number): Promise<number[]> {
  const group = '/apis/admissionregistration.k8s.io/v1'
  const must = async (resource: string, body: unknown) => {
    const { code, text } = await plane.ask('POST', `${group}/${resource}`, { body })
    if (code !== 201) throw new Error(text)
  }
  for (; policies < count; policies++) {
    const name = `policy-${policies}`
    await must('validatingadmissionpolicies', {
      metadata: { name },
      spec: {
        matchConstraints: {
          resourceRules: [
            { apiGroups: ['apps'], apiVersions: ['v1'], operations: ['CREATE'], resources: ['deployments'] },
          ],
        },
        variables: [{ name: 'containers', expression: 'object.spec.template.spec.containers' }],
        validations: [
          { expression: 'object.spec.replicas <= 100' },
          { expression: "variables.containers.all(c, !c.image.startsWith('forbidden.test/'))" },
        ],
      },
    })
    await must('validatingadmissionpolicybindings', {
      metadata: { name },
      spec: { policyName: name, validationActions: ['Deny'] },
    })
  }
  return times(dryRun)
}

/** What OPA makes of a rule about every container's image, or, without its compiler, a module that searches the input. */
async function regoBundle(): Promise<{ what: string; bytes: Uint8Array }> {
  if (spawnSync('opa', ['version']).status !== 0)
    return { what: 'assembled', bytes: await bundleOfModule(denyIfInputHas('forbidden.test/', 'no')) }
  const dir = mkdtempSync(join(tmpdir(), 'rego-'))
  try {
    writeFileSync(
      join(dir, 'p.rego'),
      `package p
deny contains msg if {
	some c in input.request.object.spec.template.spec.containers
	startswith(c.image, "forbidden.test/")
	msg := sprintf("%s is forbidden", [c.image])
}
deny contains "too many" if input.request.object.spec.replicas > 100
`,
    )
    execFileSync('opa', ['build', '-t', 'wasm', '-e', 'p/deny', '-o', 'b.tar.gz', 'p.rego'], { cwd: dir })
    return { what: 'compiled by OPA', bytes: readFileSync(join(dir, 'b.tar.gz')) }
  } finally {
    rmSync(dir, { recursive: true })
  }
}
const rego = await regoBundle()
const threads = new RegoThreads({ clock: systemClock })
async function withRego(): Promise<number[]> {
  const resourceRules = [
    { apiGroups: ['apps'], apiVersions: ['v1'], operations: ['CREATE' as const], resources: ['deployments'] },
  ]
  const bundle = { bytes: rego.bytes, entrypoint: undefined }
  const policies = [{ name: 'rego', bundle, matchConstraints: { resourceRules } }]
  plane.server.setOperatorPolicies([], { threads, policies })
  const values = await times(dryRun)
  plane.server.setOperatorPolicies([])
  threads.close()
  return values
}

const parse = 'JSON.parse'
printRows('Admission of one Deployment', 'µs', [
  { what: parse, values: await times(() => JSON.parse(text)) },
  {
    what: 'parse + schema + defaults + validate',
    values: await times(() => takeIn(definition)),
    against: { what: parse },
  },
  {
    what: 'whole create, dry run (RBAC, admission, managedFields)',
    values: await times(dryRun),
    against: { what: parse },
  },
  {
    what: `the same with a policy in Rego (${rego.what})`,
    values: await withRego(),
    against: { what: parse },
  },
  {
    what: 'the same with 10 policies of two validations',
    values: await withPolicies(10),
    against: { what: parse },
  },
  { what: 'the same with 100 policies', values: await withPolicies(100), against: { what: parse } },
])
