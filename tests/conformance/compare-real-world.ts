import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { parseAllDocuments } from 'yaml'
import { compareServers } from './compare-answers.ts'
import { DEFINITIONS } from './compare-custom-kinds.ts'
import { ControlPlane, type Json } from './control-plane.ts'
import { ASSETS, KubeApiServer, upstreamMissing } from './kube-apiserver.ts'
import { REAL_WORLD_MODULES } from './real-world-modules.ts'
import type { KindRequest } from './requests-of-kinds.ts'

// The program behind tools/real-world.

const run = promisify(execFile)
const APPLY = 'application/apply-patch+yaml'
const MERGE = 'application/merge-patch+json'
/** A real server serves a new kind after a moment. */
const SERVED_MS_MAX = 30_000
/** How unzip ends when it has not found files of every pattern. */
const NO_MATCH = 11
const FILE_BYTES_MAX = 1_000_000
/** Manifests that some program fills in. */
const TEMPLATE = /\{\{/

/** The YAML of a module, unpacked below `directory`. */
async function fetchModule(directory: string, module: string): Promise<string> {
  const target = join(directory, module.replaceAll('/', '_'))
  if (existsSync(target)) return target
  const go = { GOPATH: join(directory, 'gopath'), GOFLAGS: '-mod=mod', GOTOOLCHAIN: 'local' }
  if (!existsSync(join(directory, 'go.mod'))) await writeFile(join(directory, 'go.mod'), 'module compared\n')
  const options = { cwd: directory, env: { ...process.env, ...go } }
  // What asks for a newer Go is told as an error, with the archive all the same.
  const { stdout } = await run('go', ['mod', 'download', '-json', module], options).catch(
    (error: { stdout: string }) => error,
  )
  const { Zip: archive, Error: error } = JSON.parse(stdout) as { Zip?: string; Error?: string }
  if (archive === undefined) throw new Error(`Cannot download ${module}: ${error}`)
  await run('unzip', ['-qo', archive, '*.yaml', '*.yml', '-d', target]).catch(
    (failed: { code?: unknown }) => {
      if (failed.code !== NO_MATCH) throw failed
    },
  )
  return target
}

async function documentsIn(directory: string): Promise<Json[]> {
  const documents: Json[] = []
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  for (const entry of entries) {
    if (!entry.isFile() || !/\.ya?ml$/.test(entry.name)) continue
    const text = await readFile(join(entry.parentPath, entry.name), 'utf8')
    if (text.length > FILE_BYTES_MAX || !/^kind:/m.test(text)) continue
    for (const document of parseAllDocuments(text, { logLevel: 'error' })) {
      if (document.errors.length > 0 || TEMPLATE.test(document.toString())) continue
      const value = document.toJS() as Json
      if (typeof value?.metadata?.name === 'string') documents.push(value)
    }
  }
  return documents
}

/** Without what the controller of definitions does, which runs in one of the two only. */
function withoutStatus(text: string): string {
  const value = JSON.parse(text) as Json
  if (value.kind !== 'CustomResourceDefinition') return text
  delete value.status
  const { managedFields = [] } = value.metadata
  value.metadata.managedFields = managedFields.filter((entry: Json) => entry.subresource !== 'status')
  return JSON.stringify(value)
}

const writes = (path: string, name: string, body: Json): KindRequest[] => {
  const one = `${path}/${name}`
  const labelled = { metadata: { labels: { compared: 'yes' } } }
  return [
    { name: 'create', method: 'POST', path: `${path}?fieldManager=maker`, body, code: 201 },
    {
      name: 'apply',
      method: 'PATCH',
      path: `${one}?fieldManager=applier&force=true`,
      body,
      type: APPLY,
      code: 200,
    },
    {
      name: 'merge',
      method: 'PATCH',
      path: `${one}?fieldManager=merger`,
      body: labelled,
      type: MERGE,
      code: 200,
    },
  ]
}

async function compare(directory: string, word: string): Promise<number> {
  await mkdir(directory, { recursive: true })
  await using upstream = await KubeApiServer.start(ASSETS ?? '')
  await using plane = await ControlPlane.start()
  const theirs = async (request: KindRequest) => {
    const { code, text } = await upstream.ask(request)
    return { code, text: withoutStatus(text) }
  }
  const ours = async ({ method, path, body, type }: KindRequest) => {
    const { code, text } = await plane.ask(method, path, { body, ...(type ? { type } : {}) })
    return { code, text: withoutStatus(text) }
  }
  const kinds = new Map<string, { path: string }>()
  let differing = 0
  const tell = async (requests: KindRequest[]) => {
    const differences = await compareServers(requests, [theirs, ours])
    for (const { request, codes, paths } of differences)
      console.log(`  ${request}: ${codes ? codes.join(', ours ') : paths.slice(0, 5).join(', ')}`)
    differing += differences.length
    return differences.length
  }
  for (const module of REAL_WORLD_MODULES.filter((name) => name.includes(word))) {
    const documents = await documentsIn(await fetchModule(directory, module))
    const definitions = new Map<string, Json>()
    for (const document of documents)
      if (document.kind === 'CustomResourceDefinition' && document.spec?.versions)
        definitions.set(document.metadata.name, document)
    let same = 0
    for (const [name, { status: _none, ...definition }] of definitions) {
      if (kinds.has(name)) continue
      if ((await tell(writes(DEFINITIONS, name, definition))) === 0) same++
      await serve(plane, upstream, definition, kinds)
    }
    const objects = documents.filter(({ apiVersion, kind }) => kinds.has(`${apiVersion}/${kind}`))
    let sameObjects = 0
    for (const { metadata, ...object } of objects) {
      const path = kinds.get(`${object.apiVersion}/${object.kind}`)?.path ?? ''
      const { name, labels, annotations, finalizers } = metadata
      const body = { ...object, metadata: { name, labels, annotations, finalizers } }
      if ((await tell(writes(path, name, body))) === 0) sameObjects++
      const released = { body: { metadata: { finalizers: null } }, type: MERGE }
      for (const ask of [plane, upstream]) {
        if (ask === plane) await plane.ask('PATCH', `${path}/${name}`, released)
        else await upstream.ask({ method: 'PATCH', path: `${path}/${name}`, ...released })
      }
      await plane.ask('DELETE', `${path}/${name}`)
      await upstream.ask({ method: 'DELETE', path: `${path}/${name}` })
    }
    console.log(
      `${module}: ${same} of ${definitions.size} definitions and ${sameObjects} of ${objects.length} objects alike`,
    )
  }
  return differing
}

/** Makes a definition served by both, and notes where objects of its kinds are. */
async function serve(
  plane: ControlPlane,
  upstream: KubeApiServer,
  { metadata, spec }: Json,
  kinds: Map<string, { path: string }>,
): Promise<void> {
  const url = `${DEFINITIONS}/${metadata.name}`
  const { code, body } = await plane.ask('GET', url)
  if (code !== 200) return
  const status = { acceptedNames: spec.names, conditions: [{ type: 'Established', status: 'True' }] }
  await plane.ask('PUT', `${url}/status`, { body: { ...body, status } })
  const deadline = AbortSignal.timeout(SERVED_MS_MAX)
  for (const version of (spec.versions as Json[]).filter(({ served }) => served)) {
    const namespace = spec.scope === 'Namespaced' ? '/namespaces/default' : ''
    const path = `/apis/${spec.group}/${version.name}${namespace}/${spec.names.plural}`
    while (!deadline.aborted && (await upstream.ask({ method: 'GET', path })).code !== 200)
      await new Promise((resolve) => setTimeout(resolve, 100))
    kinds.set(`${spec.group}/${version.name}/${spec.names.kind}`, { path })
  }
  kinds.set(metadata.name, { path: '' })
}

const [directory, word = ''] = process.argv.slice(2)
if (directory === undefined || upstreamMissing) {
  console.error(upstreamMissing || 'usage: tools/real-world DIR [WORD]')
  process.exitCode = 1
} else console.log(`${await compare(directory, word)} answers differ`)
