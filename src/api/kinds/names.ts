/** What a name may look like. Each returns a problem in upstream's words, or undefined. */

const DNS_LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/
const DNS_1035_LABEL = /^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/
const QUALIFIED_NAME_PART = /^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/
const CONFIG_KEY = /^[-._a-zA-Z0-9]+$/
const PORT_NAME = /^[a-z0-9-]{1,15}$/
const ENV_NAME = /^[ -<>-~]+$/

const SUBDOMAIN_PROBLEM =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and " +
  "end with an alphanumeric character (e.g. 'example.com', regex used for validation is " +
  "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
const LABEL_PROBLEM =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with " +
  "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is " +
  "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
const LABEL_1035_PROBLEM =
  "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and " +
  "end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is " +
  "'[a-z]([-a-z0-9]*[a-z0-9])?')"
const NAME_PART_PROBLEM =
  "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric " +
  "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is " +
  "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
const LABEL_VALUE_PROBLEM =
  "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end " +
  "with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is " +
  "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"

function longerThan(maximum: number): string {
  return `must be no more than ${maximum} characters`
}

/** Checked label by label, so that no input makes a pattern try again and again. */
export function dnsSubdomainProblem(name: string): string | undefined {
  if (name.length > 253) return longerThan(253)
  // A label of a subdomain may be longer than 63; only the whole is bounded.
  for (const label of name.split('.')) {
    if (!/^[-a-z0-9]+$/.test(label) || label.startsWith('-') || label.endsWith('-')) return SUBDOMAIN_PROBLEM
  }
  return undefined
}

export function dnsLabelProblem(name: string): string | undefined {
  if (name.length > 63) return longerThan(63)
  return DNS_LABEL.test(name) ? undefined : LABEL_PROBLEM
}

export function dns1035LabelProblem(name: string): string | undefined {
  if (name.length > 63) return longerThan(63)
  return DNS_1035_LABEL.test(name) ? undefined : LABEL_1035_PROBLEM
}

/** Names that only must not break a URL: those of RBAC, events and disruption budgets. */
export function pathSegmentProblem(name: string): string | undefined {
  if (name.length > 253) return longerThan(253)
  if (!name.isWellFormed()) return 'must be well-formed Unicode'
  if (name === '.' || name === '..') return `may not be '${name}'`
  if (name.includes('/')) return "may not contain '/'"
  if (name.includes('%')) return "may not contain '%'"
  // eslint-disable-next-line no-control-regex -- control characters are what it looks for
  if (/[\u0000-\u001f\u007f]/.test(name)) return 'may not contain control characters'
  return undefined
}

/** Keys of labels and annotations, and names of resources: `prefix/name`. */
export function qualifiedNameProblem(key: string): string | undefined {
  const slash = key.indexOf('/')
  const name = slash < 0 ? key : key.slice(slash + 1)
  if (slash >= 0) {
    const prefix = key.slice(0, slash)
    if (prefix === '') return 'prefix part must be non-empty'
    const problem = dnsSubdomainProblem(prefix)
    if (problem) return `prefix part ${problem}`
    if (name.includes('/'))
      return `a qualified name ${NAME_PART_PROBLEM.slice('name part '.length)} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')`
  }
  if (name === '') return 'name part must be non-empty'
  if (name.length > 63) return `name part ${longerThan(63)}`
  return QUALIFIED_NAME_PART.test(name) ? undefined : NAME_PART_PROBLEM
}

export function labelValueProblem(value: string): string | undefined {
  if (value === '') return undefined
  if (value.length > 63) return longerThan(63)
  return QUALIFIED_NAME_PART.test(value) ? undefined : LABEL_VALUE_PROBLEM
}

/** Keys of ConfigMaps and Secrets, which become file names. */
export function configKeyProblem(key: string): string | undefined {
  if (key.length > 253) return longerThan(253)
  if (!CONFIG_KEY.test(key))
    return "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
  if (key === '.') return "must not be '.'"
  if (key === '..') return "must not be '..'"
  if (key.startsWith('..')) return "must not start with '..'"
  return undefined
}

/** Names of container and service ports (IANA service names). */
export function portNameProblem(name: string): string | undefined {
  if (name.length > 15) return 'must be no more than 15 characters'
  if (!PORT_NAME.test(name)) return 'must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)'
  if (!/[a-z]/.test(name)) return 'must contain at least one letter (a-z)'
  if (name.includes('--')) return 'must not contain consecutive hyphens'
  if (name.startsWith('-') || name.endsWith('-')) return 'must not begin or end with a hyphen'
  return undefined
}

/** Anything printable but "=": what upstream allows since 1.34. */
export function envNameProblem(name: string): string | undefined {
  if (ENV_NAME.test(name)) return undefined
  return "a valid environment variable name must consist only of printable ASCII characters other than '='"
}

export function portNumberProblem(port: number): string | undefined {
  return port >= 1 && port <= 65_535 ? undefined : 'must be between 1 and 65535, inclusive'
}

/** A path below a volume: relative and never climbing. */
export function localPathProblem(path: string): string | undefined {
  if (path.startsWith('/')) return 'must be a relative path'
  if (path.includes('\0')) return 'must not contain a zero byte'
  return path.split('/').includes('..') ? "must not contain '..'" : undefined
}

/** Dotted decimal only, without leading zeros, which some readers take for octal. */
export function isIPv4(address: string): boolean {
  const parts = address.split('.')
  return parts.length === 4 && parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255)
}
