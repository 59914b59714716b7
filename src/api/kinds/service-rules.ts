import { isDeepStrictEqual } from 'node:util'
import type { WriteContext } from '../kind.ts'
import { parseIpBlock } from '../ip-block.ts'
import { SERVICE_PORTS_MAX } from '../limits.ts'
import type { FieldError } from '../status.ts'
import { duplicateValue, forbiddenField, invalidValue, requiredValue, tooMany } from './field-errors.ts'
import { dnsLabelProblem, dnsSubdomainProblem, isIPv4, portNameProblem, portNumberProblem } from './names.ts'
import { labelErrors } from './rules.ts'
import type { Service } from './service.ts'

const AFFINITY_SECONDS_DEFAULT = 10_800
const AFFINITY_SECONDS_MAX = 86_400
const SOURCE_RANGES_MAX = 64

export function applyServiceDefaults(service: Service): Service {
  const { spec } = service
  for (const port of spec.ports ?? []) {
    if (port.targetPort === undefined || port.targetPort === '' || port.targetPort === 0)
      port.targetPort = port.port
  }
  if (spec.sessionAffinity === 'ClientIP')
    spec.sessionAffinityConfig = {
      clientIP: {
        timeoutSeconds: spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? AFFINITY_SECONDS_DEFAULT,
      },
    }
  else if (spec.sessionAffinityConfig && Object.keys(spec.sessionAffinityConfig).length === 0)
    delete spec.sessionAffinityConfig
  if (spec.type === 'ExternalName') return service
  spec.internalTrafficPolicy ??= 'Cluster'
  if (spec.clusterIP && !spec.clusterIPs?.length) spec.clusterIPs = [spec.clusterIP]
  if (!spec.clusterIP && spec.clusterIPs?.[0]) spec.clusterIP = spec.clusterIPs[0]
  return service
}

/** Comes with the address, so it belongs to nobody who writes services. */
export function withAddressFamily(service: Service): Service {
  const { spec } = service
  if (spec.type === 'ExternalName') return service
  return {
    ...service,
    spec: {
      ...spec,
      ipFamilies: spec.ipFamilies?.length ? spec.ipFamilies : ['IPv4'],
      ipFamilyPolicy: spec.ipFamilyPolicy ?? 'SingleStack',
    },
  }
}

/**
 * Who changes one field of what they have read writes back others that the server had filled in for its old value: the
 * address of a service that becomes an ExternalName, the timeout of an affinity that ends. They cannot be meant. Values
 * that differ stay, and are refused.
 */
export function prepareServiceUpdate(service: Service, old: Service): Service {
  const spec = { ...service.spec }
  const same = (field: keyof Service['spec']) => isDeepStrictEqual(spec[field], old.spec[field])
  if (spec.sessionAffinity === 'None' && same('sessionAffinityConfig')) delete spec.sessionAffinityConfig
  if (spec.type !== 'ExternalName' || old.spec.type === 'ExternalName')
    return withAddressFamily({ ...service, spec })
  if (same('clusterIP') && same('clusterIPs')) {
    delete spec.clusterIP
    delete spec.clusterIPs
  }
  if (same('ipFamilies')) delete spec.ipFamilies
  if (same('ipFamilyPolicy')) delete spec.ipFamilyPolicy
  return { ...service, spec }
}

export function validateService(service: Service, _context: WriteContext, old?: Service): FieldError[] {
  const { spec } = service
  const errors = labelErrors(spec.selector, 'spec.selector')
  const ports = spec.ports ?? []
  const headless = spec.clusterIP === 'None'

  if (spec.type === 'ExternalName') {
    if (!spec.externalName) errors.push(requiredValue('spec.externalName'))
    else {
      const problem = dnsSubdomainProblem(spec.externalName.replace(/\.$/, ''))
      if (problem) errors.push(invalidValue('spec.externalName', spec.externalName, problem))
    }
    if (spec.clusterIP)
      errors.push(forbiddenField('spec.clusterIP', 'may not be set for ExternalName services'))
    if (spec.clusterIPs?.length)
      errors.push(forbiddenField('spec.clusterIPs', 'may not be set for ExternalName services'))
  } else if (ports.length === 0 && !headless) errors.push(requiredValue('spec.ports'))
  if (headless && spec.type !== 'ClusterIP')
    errors.push(
      invalidValue('spec.clusterIPs[0]', 'None', `may not be set to 'None' for ${spec.type} services`),
    )

  if (spec.clusterIP && !headless && !isIPv4(spec.clusterIP))
    errors.push(
      invalidValue('spec.clusterIPs[0]', spec.clusterIP, 'must be a valid IPv4 address, "" or "None"'),
    )
  if (spec.clusterIP !== undefined && spec.clusterIPs?.length && spec.clusterIPs[0] !== spec.clusterIP)
    errors.push(invalidValue('spec.clusterIPs', spec.clusterIPs, 'first value must match `clusterIP`'))
  if ((spec.clusterIPs?.length ?? 0) > 1)
    errors.push(tooMany('spec.clusterIPs', spec.clusterIPs?.length ?? 0, 1))
  if ((spec.ipFamilies?.length ?? 0) > 1)
    errors.push(tooMany('spec.ipFamilies', spec.ipFamilies?.length ?? 0, 1))

  portErrors(service, errors)
  errors.push(...loadBalancerErrors(spec))
  const affinity = spec.sessionAffinityConfig?.clientIP?.timeoutSeconds
  if (spec.sessionAffinity === 'None' && spec.sessionAffinityConfig)
    errors.push(forbiddenField('spec.sessionAffinityConfig', 'must not be set when session affinity is None'))
  if (affinity !== undefined && (affinity <= 0 || affinity > AFFINITY_SECONDS_MAX))
    errors.push(
      invalidValue(
        'spec.sessionAffinityConfig.clientIP.timeoutSeconds',
        affinity,
        `must be greater than 0 and less than ${AFFINITY_SECONDS_MAX}`,
      ),
    )

  // An address is given once; whoever wants another makes another service.
  const stays = old && old.spec.type !== 'ExternalName' && spec.type !== 'ExternalName' && old.spec.clusterIP
  if (stays && spec.clusterIP !== old.spec.clusterIP)
    errors.push(invalidValue('spec.clusterIPs[0]', spec.clusterIP ?? '', 'may not change once set'))
  return errors
}

function loadBalancerErrors({
  type,
  ports = [],
  loadBalancerSourceRanges: ranges = [],
}: Service['spec']): FieldError[] {
  const at = 'spec.loadBalancerSourceRanges'
  if (type !== 'LoadBalancer')
    return ranges.length === 0 ? [] : [forbiddenField(at, 'may only be used when `type` is LoadBalancer')]
  const errors: FieldError[] = []
  if (ranges.length > SOURCE_RANGES_MAX) errors.push(tooMany(at, ranges.length, SOURCE_RANGES_MAX))
  for (const [n, range] of ranges.slice(0, SOURCE_RANGES_MAX).entries())
    if (!parseIpBlock(range))
      errors.push(invalidValue(`${at}[${n}]`, range, 'must be a network such as 203.0.113.0/24'))
  for (const [n, { protocol }] of ports.entries())
    if (protocol === 'SCTP')
      errors.push(
        forbiddenField(
          `spec.ports[${n}].protocol`,
          'only TCP and UDP are carried in from outside; use a Service of type ClusterIP for it',
        ),
      )
  return errors
}

function portErrors(service: Service, errors: FieldError[]): void {
  const ports = service.spec.ports ?? []
  if (ports.length > SERVICE_PORTS_MAX) errors.push(tooMany('spec.ports', ports.length, SERVICE_PORTS_MAX))
  const names = new Set<string>()
  const numbers = new Set<string>()
  ports.forEach((port, index) => {
    const at = `spec.ports[${index}]`
    if (!port.name) {
      if (ports.length > 1) errors.push(requiredValue(`${at}.name`))
    } else {
      const problem = dnsLabelProblem(port.name)
      if (problem) errors.push(invalidValue(`${at}.name`, port.name, problem))
      if (names.has(port.name)) errors.push(duplicateValue(`${at}.name`, port.name))
      names.add(port.name)
    }
    const problem = portNumberProblem(port.port)
    if (problem) errors.push(invalidValue(`${at}.port`, port.port, problem))
    const { targetPort } = port
    const targetProblem =
      targetPort === undefined
        ? undefined
        : typeof targetPort === 'number'
          ? portNumberProblem(targetPort)
          : portNameProblem(targetPort)
    if (targetProblem) errors.push(invalidValue(`${at}.targetPort`, targetPort, targetProblem))
    const key = `${port.protocol}/${port.port}`
    if (numbers.has(key)) errors.push(duplicateValue(at, { port: port.port, protocol: port.protocol }))
    numbers.add(key)
  })
}
