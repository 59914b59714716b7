import { ApiError } from '../api/index.ts'

export type Format = 'json' | 'yaml' | 'protobuf'

/** How an answer is to be written: which representation, and whether it is turned into something else first. */
export type Representation = {
  format: Format
  as?: 'Table' | 'PartialObjectMetadata' | 'PartialObjectMetadataList' | 'APIGroupDiscoveryList'
  /** The version of `as`: `v1`, `v1beta1`, `v2`. */
  version?: string
}

/** What a path can be answered with, the first being what who accepts anything gets. */
export type Offer = { formats: readonly Format[]; transforms: readonly string[]; watch?: boolean }

/** In upstream's order. */
export const FORMATS: readonly Format[] = ['json', 'yaml', 'protobuf']
/** Kinds without a protobuf encoding, those of tenants among them. */
export const TEXT_FORMATS: readonly Format[] = ['json', 'yaml']

export const MEDIA_TYPES: Readonly<Record<Format, string>> = {
  json: 'application/json',
  yaml: 'application/yaml',
  protobuf: 'application/vnd.kubernetes.protobuf',
}

/** YAML has no way to send one document after the other. */
const STREAMED: readonly Format[] = ['json', 'protobuf']

type MediaRange = { type: string; parameters: ReadonlyMap<string, string>; quality: number }

const ACCEPT_RANGES_MAX = 32

/** Parses an Accept header, the most wanted first. Ranges that make no sense are left out. */
export function parseAccept(header: string): MediaRange[] {
  const ranges: MediaRange[] = []
  for (const part of header.split(',').slice(0, ACCEPT_RANGES_MAX)) {
    const [first = '', ...rest] = part.split(';').map((p) => p.trim())
    const type = first === '*' ? '*/*' : first.toLowerCase()
    if (!type.includes('/')) continue
    const parameters = new Map<string, string>()
    for (const parameter of rest) {
      const equals = parameter.indexOf('=')
      if (equals > 0) parameters.set(parameter.slice(0, equals).toLowerCase(), parameter.slice(equals + 1))
    }
    const quality = Number(parameters.get('q') ?? '1')
    if (!(quality > 0)) continue
    ranges.push({ type, parameters, quality })
  }
  return ranges.sort((a, b) => b.quality - a.quality || wildness(a) - wildness(b))
}

/** Of what is wanted as much, what is named comes before what only fits. */
function wildness({ type }: MediaRange): number {
  return type.startsWith('*') ? 2 : type.endsWith('/*') ? 1 : 0
}

/** True when a range of an Accept header is about a type of ours. */
export function fits(range: string, type: string): boolean {
  return range === type || range === 'application/*' || range === '*/*'
}

/** The representation that a client wants most among those that we have, or undefined: 406. */
export function negotiate(header: string | undefined, offer: Offer): Representation | undefined {
  const { formats } = offer
  if (header === undefined || header.trim() === '') return { format: 'json' }
  for (const { type, parameters } of parseAccept(header))
    for (const format of formats) {
      if (!fits(type, MEDIA_TYPES[format]) || !takesParameters(format, parameters, offer)) continue
      const as = parameters.get('as')
      // It is one of ours, see `offersTransform`.
      return as === undefined
        ? { format }
        : { format, as: as as NonNullable<Representation['as']>, version: parameters.get('v') ?? '' }
    }
  return undefined
}

function takesParameters(
  format: Format,
  parameters: ReadonlyMap<string, string>,
  { transforms, watch = false }: Offer,
): boolean {
  const stream = parameters.get('stream') ?? ''
  if (stream !== '' && stream !== 'watch') return false
  if ((watch || stream === 'watch') && !STREAMED.includes(format)) return false
  const as = parameters.get('as')
  return as === undefined || offersTransform(format, as, parameters, transforms)
}

function offersTransform(
  format: Format,
  as: string,
  parameters: ReadonlyMap<string, string>,
  transforms: readonly string[],
): boolean {
  // A table's cells are of any type, which protobuf has no word for.
  if (as === 'Table' && format === 'protobuf') return false
  const group = as === 'APIGroupDiscoveryList' ? 'apidiscovery.k8s.io' : 'meta.k8s.io'
  const versions = as === 'APIGroupDiscoveryList' ? ['v2', 'v2beta1'] : ['v1', 'v1beta1']
  return (
    transforms.includes(as) && parameters.get('g') === group && versions.includes(parameters.get('v') ?? '')
  )
}

/** Nothing of what the client accepts is there. */
export function notAcceptable({ formats }: Pick<Offer, 'formats'>): ApiError {
  const streams = formats.filter((format) => STREAMED.includes(format))
  const available = [
    ...formats.map((format) => MEDIA_TYPES[format]),
    ...streams.map((format) => `${MEDIA_TYPES[format]};stream=watch`),
  ]
  return new ApiError(
    'NotAcceptable',
    `406: Not Acceptable\n\nAvailable representations: ${available.join(', ')}`,
    { details: {} },
  )
}

export function acceptsGzip(header: string | string[] | undefined): boolean {
  const value = Array.isArray(header) ? header.join(',') : (header ?? '')
  return value.split(',').some((part) => {
    const [coding, ...parameters] = part.split(';').map((p) => p.trim().toLowerCase())
    return coding === 'gzip' && !parameters.includes('q=0')
  })
}
