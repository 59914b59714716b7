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
import { ADMIN, ControlPlane } from '../tests/conformance/control-plane.ts'
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
  await plane.server.handle(request, response, ADMIN)
  if (code() !== 201) throw new Error(`A dry run answered ${code()}`)
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
])
