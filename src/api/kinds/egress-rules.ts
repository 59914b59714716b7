import { EGRESS_PORTS_MAX, hostPatternProblem, parseEgressPort, parseIpv4Network } from '../egress.ts'
import type { FieldError } from '../status.ts'
import { invalidValue, requiredValue, tooMany } from './field-errors.ts'

/** What is wrong with a host name, or a wildcard, and with a network. */
export function destinationErrors(
  { host, cidr }: { host?: string | undefined; cidr?: string | undefined },
  at: string,
): FieldError[] {
  const why = host === undefined ? undefined : hostPatternProblem(host)
  return [
    ...(why === undefined ? [] : [invalidValue(`${at}.host`, host, why)]),
    ...(cidr === undefined || parseIpv4Network(cidr)
      ? []
      : [
          invalidValue(
            `${at}.cidr`,
            cidr,
            'must be an IPv4 network such as 203.0.113.0/24, with no bit set behind the prefix',
          ),
        ]),
  ]
}

export function egressPortsErrors(
  { ports, host }: { ports: readonly (number | string)[] | undefined; host: string | undefined },
  at: string,
): FieldError[] {
  const errors: FieldError[] = []
  if (ports?.length === 0) errors.push(requiredValue(at, 'must name a port, or be absent'))
  if (ports && ports.length > EGRESS_PORTS_MAX) errors.push(tooMany(at, ports.length, EGRESS_PORTS_MAX))
  for (const [n, port] of (ports ?? []).slice(0, EGRESS_PORTS_MAX).entries()) {
    const parsed = parseEgressPort(port)
    if (!parsed) errors.push(invalidValue(`${at}[${n}]`, port, 'must be like 443, "53/UDP" or "8000-8100"'))
    else if (host !== undefined && parsed.port !== parsed.endPort)
      errors.push(invalidValue(`${at}[${n}]`, port, 'must be one port: ranges are for a cidr'))
  }
  return errors
}
