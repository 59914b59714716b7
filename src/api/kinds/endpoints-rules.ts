import type { WriteContext } from '../kind.ts'
import { ENDPOINT_ADDRESSES_MAX, ENDPOINT_PORTS_MAX, ENDPOINTS_PER_SLICE_MAX } from '../limits.ts'
import type { FieldError } from '../status.ts'
import type { Endpoints, EndpointSlice } from './endpoints.ts'
import { duplicateValue, invalidValue, requiredValue, tooMany } from './field-errors.ts'
import { dnsLabelProblem, isIPv4, portNumberProblem } from './names.ts'
import { immutableError } from './rules.ts'

function addressErrors(address: string, path: string, errors: FieldError[]): void {
  if (!isIPv4(address)) {
    errors.push(invalidValue(path, address, 'must be a valid IPv4 address'))
    return
  }
  const [first, second] = address.split('.').map(Number)
  const elsewhere =
    address === '0.0.0.0' ||
    first === 127 ||
    (first === 169 && second === 254) ||
    (first !== undefined && first >= 224)
  if (elsewhere) errors.push(invalidValue(path, address, 'must be the address of a pod; this range never is'))
}

export function validateEndpoints(
  endpoints: Endpoints,
  _context: WriteContext,
  _old?: Endpoints,
): FieldError[] {
  const errors: FieldError[] = []
  const subsets = endpoints.subsets ?? []
  if (subsets.length > ENDPOINT_PORTS_MAX) errors.push(tooMany('subsets', subsets.length, ENDPOINT_PORTS_MAX))
  subsets.forEach((subset, index) => {
    const path = `subsets[${index}]`
    const { addresses = [], notReadyAddresses = [], ports = [] } = subset
    if (addresses.length === 0 && notReadyAddresses.length === 0)
      errors.push(requiredValue(path, 'must specify `addresses` or `notReadyAddresses`'))
    for (const field of ['addresses', 'notReadyAddresses'] as const) {
      const list = subset[field] ?? []
      if (list.length > ENDPOINTS_PER_SLICE_MAX)
        errors.push(tooMany(`${path}.${field}`, list.length, ENDPOINTS_PER_SLICE_MAX))
      list.forEach(({ ip, hostname }, at) => {
        addressErrors(ip, `${path}.${field}[${at}].ip`, errors)
        const problem = hostname ? dnsLabelProblem(hostname) : undefined
        if (problem) errors.push(invalidValue(`${path}.${field}[${at}].hostname`, hostname, problem))
      })
    }
    if (ports.length > ENDPOINT_PORTS_MAX)
      errors.push(tooMany(`${path}.ports`, ports.length, ENDPOINT_PORTS_MAX))
    ports.forEach(({ name, port }, at) => {
      if (!name && ports.length > 1) errors.push(requiredValue(`${path}.ports[${at}].name`))
      const problem = portNumberProblem(port)
      if (problem) errors.push(invalidValue(`${path}.ports[${at}].port`, port, problem))
    })
  })
  return errors
}

export function validateEndpointSlice(
  slice: EndpointSlice,
  _context: WriteContext,
  old?: EndpointSlice,
): FieldError[] {
  const errors: FieldError[] = []
  const { endpoints = [], ports = [] } = slice
  if (endpoints.length > ENDPOINTS_PER_SLICE_MAX)
    errors.push(tooMany('endpoints', endpoints.length, ENDPOINTS_PER_SLICE_MAX))
  endpoints.forEach(({ addresses, hostname }, index) => {
    const path = `endpoints[${index}]`
    if (addresses.length === 0)
      errors.push(requiredValue(`${path}.addresses`, 'must contain at least 1 address'))
    if (addresses.length > ENDPOINT_ADDRESSES_MAX)
      errors.push(tooMany(`${path}.addresses`, addresses.length, ENDPOINT_ADDRESSES_MAX))
    addresses.forEach((address, at) => addressErrors(address, `${path}.addresses[${at}]`, errors))
    const problem = hostname ? dnsLabelProblem(hostname) : undefined
    if (problem) errors.push(invalidValue(`${path}.hostname`, hostname, problem))
  })
  if (ports.length > ENDPOINT_PORTS_MAX) errors.push(tooMany('ports', ports.length, ENDPOINT_PORTS_MAX))
  const names = new Set<string>()
  ports.forEach(({ name = '', port }, index) => {
    const problem = name ? dnsLabelProblem(name) : undefined
    if (problem) errors.push(invalidValue(`ports[${index}].name`, name, problem))
    if (names.has(name)) errors.push(duplicateValue(`ports[${index}].name`, name))
    names.add(name)
    const portProblem = port === undefined ? undefined : portNumberProblem(port)
    if (portProblem) errors.push(invalidValue(`ports[${index}].port`, port, portProblem))
  })
  if (old) errors.push(...immutableError('addressType', slice.addressType, old.addressType))
  return errors
}
