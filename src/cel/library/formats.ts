import {
  dns1035LabelProblem,
  dnsLabelProblem,
  dnsSubdomainProblem,
  labelValueProblem,
  qualifiedNameProblem,
} from '../../api/index.ts'
import { parseTimestamp, Fault, ListValue, OpaqueValue, OptionalValue } from '../values.ts'
import { parseUrl } from './urls.ts'
import { free, method, type Overload } from './overload.ts'
import type { Meter } from '../meter.ts'

/** A format of texts that Kubernetes knows by name. */
class NamedFormat extends OpaqueValue {
  override readonly typeName = 'kubernetes.NamedFormat'
  readonly name: string
  readonly problem: (text: string, meter: Meter) => string | undefined
  constructor(name: string, problem: NamedFormat['problem']) {
    super()
    this.name = name
    this.problem = problem
  }
  override equals(other: OpaqueValue): boolean {
    return other instanceof NamedFormat && other.name === this.name
  }
}

/** Names that end in a dash, before a generated part. */
function prefixOf(problem: (text: string) => string | undefined) {
  return (text: string) => problem(text.endsWith('-') ? `${text}a` : text)
}
const unless = (holds: (text: string) => boolean, problem: string) => (text: string) =>
  holds(text) ? undefined : problem

const FORMATS: readonly NamedFormat[] = Object.entries<NamedFormat['problem']>({
  dns1123Label: dnsLabelProblem,
  dns1123Subdomain: dnsSubdomainProblem,
  dns1035Label: dns1035LabelProblem,
  dns1123LabelPrefix: prefixOf(dnsLabelProblem),
  dns1123SubdomainPrefix: prefixOf(dnsSubdomainProblem),
  dns1035LabelPrefix: prefixOf(dns1035LabelProblem),
  qualifiedName: qualifiedNameProblem,
  labelValue: labelValueProblem,
  uri: (text, meter) => (parseUrl(meter, text) ? undefined : 'must be a valid URI'),
  uuid: unless(
    (text) => /^[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}$/i.test(text),
    'does not match the UUID format',
  ),
  byte: unless((text) => text.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(text), 'invalid base64'),
  date: unless(
    (text) => parseTimestamp(`${text}T00:00:00Z`) !== undefined && text.length === 10,
    'invalid date',
  ),
  datetime: unless((text) => parseTimestamp(text) !== undefined, 'invalid datetime'),
}).map(([name, problem]) => new NamedFormat(name, problem))

const F = 'kubernetes.NamedFormat'
export const formats: readonly Overload[] = [
  free('format.named', 'string', `optional<${F}>`, (_meter, name: string) => {
    const found = FORMATS.find((format) => format.name === name)
    return found ? new OptionalValue(found) : OptionalValue.none
  }),
  ...FORMATS.map((format) => free(`format.${format.name}`, '', F, () => format)),
  method('validate', `${F}, string`, 'optional<list<string>>', (meter, format: NamedFormat, text: string) => {
    meter.read(text.length)
    if (text.length > 64 * 1024) return new Fault('the text is too long')
    const problem = format.problem(text, meter)
    return problem === undefined ? OptionalValue.none : new OptionalValue(ListValue.of([problem]))
  }),
]
