import type { Meter } from '../meter.ts'
import { EntriesMap, Fault, ListValue, OpaqueValue, type Value } from '../values.ts'
import { free, method, type Overload } from './overload.ts'

const SCHEME = /^([A-Za-z][A-Za-z0-9+.-]{0,63}):/
const HOST = /^(?:\[[0-9A-Fa-f:.%]{2,80}\]|[^\s:[\]/?#@<>"\\^`{|}]{0,255})(?::\d{0,5})?$/
/** Control characters and space. */
const ODD = /[^\u0021-\u007e\u0080-\u{10ffff}]/u

type Parts = { scheme: string; host: string; path: string; query: string }

/** A URL, or the path of one, as a request line may have it. */
class Url extends OpaqueValue {
  override readonly typeName = 'kubernetes.URL'
  readonly parts: Parts
  constructor(parts: Parts) {
    super()
    this.parts = parts
  }
  override equals(other: OpaqueValue): boolean {
    return other instanceof Url && JSON.stringify(other.parts) === JSON.stringify(this.parts)
  }
}

export function parseUrl(meter: Meter, text: string): Url | undefined {
  meter.make(text.length)
  if (text === '' || ODD.test(text)) return undefined
  const scheme = SCHEME.exec(text)?.[1] ?? ''
  let rest = scheme === '' ? text : text.slice(scheme.length + 1)
  // Without a scheme only an absolute path is one.
  if (!rest.startsWith('/')) return undefined
  const question = rest.indexOf('?')
  const query = question < 0 ? '' : rest.slice(question + 1)
  if (question >= 0) rest = rest.slice(0, question)
  let host = ''
  if (scheme !== '' && rest.startsWith('//')) {
    const slash = rest.indexOf('/', 2)
    const authority = slash < 0 ? rest.slice(2) : rest.slice(2, slash)
    rest = slash < 0 ? '' : rest.slice(slash)
    host = authority.slice(authority.lastIndexOf('@') + 1)
    if (!HOST.test(host)) return undefined
  }
  try {
    decodeURIComponent(rest.replace(/%(?![0-9A-Fa-f]{2})/g, '%zz').replace(/%[89A-Fa-f][0-9A-Fa-f]/g, ''))
  } catch {
    return undefined
  }
  return new Url({ scheme: scheme.toLowerCase(), host, path: rest, query })
}

/** Host and port; an IPv6 address keeps its brackets in the host only. */
function splitHost(host: string): [string, string] {
  const [, bracketed, plain = '', port = ''] = /^(?:\[([^\]]*)\]|([^:]*))(?::(\d*))?$/.exec(host) ?? []
  return [bracketed ?? plain, port]
}

function queryOf(meter: Meter, query: string): Value | Fault {
  meter.make(query.length * 2)
  const values = new Map<string, [string, Value[]]>()
  for (const [name, value] of new URLSearchParams(query)) {
    meter.make(64)
    const known = values.get(name)
    if (known) known[1].push(value)
    else values.set(name, [name, [value]])
  }
  return new EntriesMap(new Map([...values].map(([key, [name, list]]) => [key, [name, ListValue.of(list)]])))
}

function escapedPath(meter: Meter, path: string): string {
  meter.make(path.length * 3)
  return path.replace(/[^A-Za-z0-9\-._~!$&'()*+,;=:@%/]+/g, (part) => encodeURIComponent(part.toWellFormed()))
}

const URL_TYPE = 'kubernetes.URL'
export const urls: readonly Overload[] = [
  free('isURL', 'string', 'bool', (meter, text: string) => parseUrl(meter, text) !== undefined),
  free(
    'url',
    'string',
    URL_TYPE,
    (meter, text: string) =>
      parseUrl(meter, text) ?? new Fault('URL parse error during conversion from string'),
  ),
  method('getScheme', URL_TYPE, 'string', (_meter, { parts }: Url) => parts.scheme),
  method('getHost', URL_TYPE, 'string', (_meter, { parts }: Url) => parts.host),
  method('getHostname', URL_TYPE, 'string', (_meter, { parts }: Url) => splitHost(parts.host)[0]),
  method('getPort', URL_TYPE, 'string', (_meter, { parts }: Url) => splitHost(parts.host)[1]),
  method('getEscapedPath', URL_TYPE, 'string', (meter, { parts }: Url) => escapedPath(meter, parts.path)),
  method('getQuery', URL_TYPE, 'map<string, list<string>>', (meter, { parts }: Url) =>
    queryOf(meter, parts.query),
  ),
]
