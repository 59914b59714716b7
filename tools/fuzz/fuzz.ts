import { stringify } from 'yaml'
import { encodeProtobuf } from '../../src/apiserver/wire/index.ts'
import type { Jail } from '../../src/jail/index.ts'
import { type Document, realManifests } from './manifests.ts'
import { clone, mutate } from './mutate.ts'
import { type Outcome, runJail, runManifest, STAGES } from './pipeline.ts'
import { Random } from './random.ts'

/** Documents by number: the same seed and number give the same document, so that a finding can be made again alone. */

export type Tally = {
  documents: number
  configurations: number
  /** By what was fed in (`json`, `yaml`, `protobuf`, `bytes`, `jail`), then by the stage it got to. */
  stages: Record<string, Record<string, number>>
  /** Accepted ones by the kind they came from. */
  accepted: Record<string, number>
}

const MANIFESTS = realManifests()
const JAILS = MANIFESTS.flatMap((manifest) => {
  const outcome = runManifest(Buffer.from(JSON.stringify(manifest)), 'application/json', manifest, 'Strict')
  // Fuzzing what is refused anyway would say nothing.
  if (outcome.jail === undefined) throw new Error(`A real ${manifest.kind} is refused at: ${outcome.stage}`)
  return [{ kind: manifest.kind, jail: withClaim(outcome.jail) }]
})

const CONTENT_TYPES = {
  json: 'application/json',
  yaml: 'application/yaml',
  protobuf: 'application/vnd.kubernetes.protobuf',
} as const
const VALIDATIONS = ['Strict', 'Warn', 'Ignore'] as const

/** With a volume that outlives the pod, which no manifest of ours asks for. */
function withClaim(jail: Jail): Document {
  const document = JSON.parse(JSON.stringify(jail)) as {
    volumes: object[]
    containers: { mounts: object[] }[]
  }
  document.volumes.push({
    name: 'claimed',
    kind: 'claim',
    claim: '5d1f3c56-7a41-4a53-9d3c-5a2f3a9c1e77',
    readOnly: false,
  })
  document.containers[0]?.mounts.push({ volume: 'claimed', mountPath: '/claimed', readOnly: false })
  return document as unknown as Document
}

export function emptyTally(): Tally {
  return { documents: 0, configurations: 0, stages: {}, accepted: {} }
}

/** Makes and follows one document. @throws what must never happen. */
export function fuzzOne(seed: number, number: number, tally: Tally): void {
  const random = new Random(Math.imul(seed, 0x2545_f491) ^ number)
  let outcome: Outcome
  let form: string
  let kind: string
  if (random.once(4)) {
    form = 'jail'
    const source = random.pick(JAILS)
    kind = source.kind
    outcome = runJail(JSON.parse(JSON.stringify(mutated(source.jail, random))))
  } else {
    const source = random.pick(MANIFESTS)
    kind = source.kind
    const made = bodyOf(mutated(source, random), random)
    form = made.form
    outcome = runManifest(made.body, made.contentType, source, random.pick(VALIDATIONS))
  }
  tally.documents++
  tally.configurations += outcome.configurations
  const stages = (tally.stages[form] ??= Object.fromEntries(STAGES.map((stage) => [stage, 0])))
  stages[outcome.stage] = (stages[outcome.stage] ?? 0) + 1
  if (outcome.stage === 'accepted') tally.accepted[kind] = (tally.accepted[kind] ?? 0) + 1
}

function mutated(source: Document, random: Random): Document {
  const document = clone(source)
  // Mostly one or two: what is wrong in many places is refused for the first.
  const changes = random.once(20) ? 0 : 1 + (random.once(2) ? 0 : random.below(random.once(8) ? 12 : 3))
  for (let i = 0; i < changes; i++) mutate(document as never, random)
  return document
}

function bodyOf(document: Document, random: Random): { form: string; contentType: string; body: Uint8Array } {
  switch (random.below(40)) {
    case 0:
      return { form: 'yaml', contentType: CONTENT_TYPES.yaml, body: Buffer.from(stringify(document)) }
    case 1:
    case 2:
    case 3: {
      const body = protobufOf(document)
      if (body) return { form: 'protobuf', contentType: CONTENT_TYPES.protobuf, body }
      break
    }
    case 4: {
      const body = protobufOf(document)
      if (body) return { form: 'bytes', contentType: CONTENT_TYPES.protobuf, body: damaged(body, random) }
      break
    }
    case 5:
    case 6:
      return {
        form: 'bytes',
        contentType: CONTENT_TYPES.json,
        body: damaged(Buffer.from(JSON.stringify(document)), random),
      }
    default:
  }
  return { form: 'json', contentType: CONTENT_TYPES.json, body: Buffer.from(JSON.stringify(document)) }
}

/** Our own encoder writes only what fits the messages; undefined for what has lost its shape. */
function protobufOf(document: Document): Uint8Array | undefined {
  try {
    return encodeProtobuf(document)
  } catch {
    return undefined
  }
}

function damaged(body: Uint8Array, random: Random): Uint8Array {
  const copy = Buffer.from(body)
  const changes = 1 + random.below(3)
  for (let i = 0; i < changes; i++) {
    const at = random.below(copy.length)
    const byte = copy[at] ?? 0
    copy[at] = random.once(2) ? byte ^ (1 << random.below(8)) : random.below(256)
  }
  return random.once(4) ? copy.subarray(0, random.below(copy.length + 1)) : copy
}
