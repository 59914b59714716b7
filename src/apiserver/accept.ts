/** How an answer is to be written: which representation, and whether it is turned into something else first. */
export type Representation = {
  format: 'json' | 'yaml'
  as?: 'Table' | 'PartialObjectMetadata' | 'PartialObjectMetadataList' | 'APIGroupDiscoveryList'
  /** The version of `as`: `v1`, `v1beta1`, `v2`. */
  version?: string
}

type MediaRange = { type: string; parameters: ReadonlyMap<string, string>; quality: number }

const ACCEPT_RANGES_MAX = 32

/** Parses an Accept header, the most wanted first. Ranges that make no sense are left out. */
function parseAccept(header: string): MediaRange[] {
  const ranges: MediaRange[] = []
  for (const part of header.split(',').slice(0, ACCEPT_RANGES_MAX)) {
    const [type = '', ...rest] = part.split(';').map((p) => p.trim())
    if (!type.includes('/')) continue
    const parameters = new Map<string, string>()
    for (const parameter of rest) {
      const equals = parameter.indexOf('=')
      if (equals > 0) parameters.set(parameter.slice(0, equals).toLowerCase(), parameter.slice(equals + 1))
    }
    const quality = Number(parameters.get('q') ?? '1')
    if (!(quality > 0)) continue
    ranges.push({ type: type.toLowerCase(), parameters, quality })
  }
  return ranges.sort((a, b) => b.quality - a.quality)
}

/**
 * The representation that a client wants most among those that we have, or undefined: 406. We read protobuf and never
 * write it, so a client that accepts nothing else is told so.
 */
export function negotiate(
  header: string | undefined,
  transforms: readonly string[],
): Representation | undefined {
  if (header === undefined || header.trim() === '') return { format: 'json' }
  for (const { type, parameters } of parseAccept(header)) {
    const format = formatOf(type)
    if (!format) continue
    const as = parameters.get('as')
    if (as === undefined) return { format }
    const group = as === 'APIGroupDiscoveryList' ? 'apidiscovery.k8s.io' : 'meta.k8s.io'
    const version = parameters.get('v') ?? ''
    const versions = as === 'APIGroupDiscoveryList' ? ['v2', 'v2beta1'] : ['v1', 'v1beta1']
    if (transforms.includes(as) && parameters.get('g') === group && versions.includes(version))
      return { format, as: as as NonNullable<Representation['as']>, version }
  }
  return undefined
}

function formatOf(type: string): Representation['format'] | undefined {
  switch (type) {
    case 'application/json':
    case 'application/*':
    case '*/*':
      return 'json'
    case 'application/yaml':
      return 'yaml'
    default:
      return undefined
  }
}

export function acceptsGzip(header: string | string[] | undefined): boolean {
  const value = Array.isArray(header) ? header.join(',') : (header ?? '')
  return value.split(',').some((part) => {
    const [coding, ...parameters] = part.split(';').map((p) => p.trim().toLowerCase())
    return coding === 'gzip' && !parameters.includes('q=0')
  })
}
