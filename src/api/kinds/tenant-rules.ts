import { BANDWIDTH_PROBLEM, parseBandwidth } from '../bandwidth.ts'
import type { WriteContext } from '../kind.ts'
import { TENANT_PRIORITY_MAX, TENANT_REGISTRIES_MAX } from '../limits.ts'
import { parseTenantName } from '../names.ts'
import { parseQuantity } from '../quantity.ts'
import type { FieldError } from '../status.ts'
import {
  EGRESS_LABELS_MAX,
  EGRESS_NAMESPACES_MAX,
  EGRESS_REASON_BYTES_MAX,
  EGRESS_RULES_MAX,
  hostPatternProblem,
  parseEgressPort,
} from '../egress.ts'
import { INGRESS_HOSTS_MAX, INGRESS_PORT_NUMBERS_MAX, INGRESS_PORTS_MAX } from '../ingress.ts'
import { isDnsLabel } from '../names.ts'
import { destinationErrors, egressPortsErrors } from './egress-rules.ts'
import { invalidValue, requiredValue, tooMany } from './field-errors.ts'
import { labelErrors, nonNegative } from './rules.ts'
import type { Tenant } from './tenant.ts'

export function tenantNameProblem(name: string): string | undefined {
  try {
    parseTenantName(name)
    return undefined
  } catch (error) {
    return error instanceof TypeError ? error.message : 'cannot name a tenant'
  }
}

/** A fresh control plane has about 25 objects, and a few for each namespace. */
const QUOTA_OBJECTS_MIN = 100
/** Less would not let a container start. */
const EPHEMERAL_BYTES_MIN_NANOS = parseQuantity('64Mi').nanos
const DISK_BYTES_MIN_NANOS = parseQuantity('1Mi').nanos
const DISK_OPERATIONS_MIN = 50
const REGISTRY_CHARS_MAX = 255
const REGISTRY_HOST = /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:\d{1,5})?$/
const REGISTRY_PATH_PART = /^[a-z0-9]([-a-z0-9._]*[a-z0-9])?$/

export function validateTenant({ spec }: Tenant, _context: WriteContext, _old?: Tenant): FieldError[] {
  const errors: FieldError[] = []
  if (spec.registries.length > TENANT_REGISTRIES_MAX)
    errors.push(tooMany('spec.registries', spec.registries.length, TENANT_REGISTRIES_MAX))
  spec.registries.forEach((registry, index) => {
    const [host = '', ...path] = registry.length <= REGISTRY_CHARS_MAX ? registry.split('/') : []
    if (
      !REGISTRY_HOST.test(host) ||
      host.includes('..') ||
      !path.every((part) => REGISTRY_PATH_PART.test(part))
    )
      errors.push(
        invalidValue(
          `spec.registries[${index}]`,
          registry,
          'must be host[:port] or host[:port]/path, in lower case, without a scheme or a closing "/"',
        ),
      )
  })
  const { quota } = spec
  errors.push(
    ...nonNegative('spec.quota.pods', quota?.pods),
    ...nonNegative('spec.quota.objects', quota?.objects),
  )
  if (quota?.objects !== undefined && quota.objects >= 0 && quota.objects < QUOTA_OBJECTS_MIN)
    errors.push(
      invalidValue(
        'spec.quota.objects',
        quota.objects,
        `must be at least ${QUOTA_OBJECTS_MIN}: the namespaces, roles and accounts that every tenant has count too`,
      ),
    )
  for (const field of ['memoryBytes', 'cpu', 'storage'] as const) {
    const amount = quota?.[field]
    if (amount !== undefined && parseQuantity(amount).nanos < 0n)
      errors.push(invalidValue(`spec.quota.${field}`, amount, 'must be greater than or equal to 0'))
  }
  const ephemeral = quota?.ephemeralStorage
  if (ephemeral !== undefined && parseQuantity(ephemeral).nanos < EPHEMERAL_BYTES_MIN_NANOS)
    errors.push(
      invalidValue(
        'spec.quota.ephemeralStorage',
        ephemeral,
        'must be at least 64Mi: pods need room to start',
      ),
    )
  errors.push(...rankErrors(spec))
  for (const direction of ['ingress', 'egress'] as const) {
    const amount = spec.network?.bandwidth?.[direction]
    if (amount !== undefined && parseBandwidth(amount) === undefined)
      errors.push(invalidValue(`spec.network.bandwidth.${direction}`, amount, BANDWIDTH_PROBLEM))
  }
  for (const field of ['readBytes', 'writeBytes'] as const) {
    const amount = spec.disk?.[field]
    if (amount !== undefined && parseQuantity(amount).nanos < DISK_BYTES_MIN_NANOS)
      errors.push(invalidValue(`spec.disk.${field}`, amount, 'must be at least 1Mi'))
  }
  for (const field of ['readOperations', 'writeOperations'] as const) {
    const amount = spec.disk?.[field]
    if (amount !== undefined && amount < DISK_OPERATIONS_MIN)
      errors.push(invalidValue(`spec.disk.${field}`, amount, `must be at least ${DISK_OPERATIONS_MIN}`))
  }
  if (spec.egress) errors.push(...egressErrors(spec.egress))
  if (spec.ingress) errors.push(...ingressErrors(spec.ingress))
  return errors
}

function rankErrors({ priority, guaranteed = {}, quota = {} }: Tenant['spec']): FieldError[] {
  const errors: FieldError[] = []
  if (priority !== undefined && (priority < 0 || priority > TENANT_PRIORITY_MAX))
    errors.push(invalidValue('spec.priority', priority, `must be from 0 to ${TENANT_PRIORITY_MAX}`))
  for (const field of ['cpu', 'memoryBytes'] as const) {
    const [amount, most] = [guaranteed[field], quota[field]]
    if (amount === undefined) continue
    const { nanos } = parseQuantity(amount)
    if (nanos < 0n)
      errors.push(invalidValue(`spec.guaranteed.${field}`, amount, 'must be greater than or equal to 0'))
    else if (most !== undefined && nanos > parseQuantity(most).nanos)
      errors.push(
        invalidValue(`spec.guaranteed.${field}`, amount, `must be at most what spec.quota allows, ${most}`),
      )
  }
  return errors
}

function ingressErrors({ hosts = [], ports = [] }: NonNullable<Tenant['spec']['ingress']>): FieldError[] {
  const at = 'spec.ingress'
  const errors: FieldError[] = []
  if (hosts.length > INGRESS_HOSTS_MAX) errors.push(tooMany(`${at}.hosts`, hosts.length, INGRESS_HOSTS_MAX))
  for (const [n, host] of hosts.slice(0, INGRESS_HOSTS_MAX).entries()) {
    const why = hostPatternProblem(host)
    if (why !== undefined) errors.push(invalidValue(`${at}.hosts[${n}]`, host, why))
  }
  if (ports.length > INGRESS_PORTS_MAX) errors.push(tooMany(`${at}.ports`, ports.length, INGRESS_PORTS_MAX))
  let numbers = 0
  for (const [n, port] of ports.slice(0, INGRESS_PORTS_MAX).entries()) {
    const parsed = parseEgressPort(port)
    if (!parsed)
      errors.push(invalidValue(`${at}.ports[${n}]`, port, 'must be like 9000, "9000-9010" or "53/UDP"'))
    else numbers += parsed.endPort - parsed.port + 1
  }
  if (numbers > INGRESS_PORT_NUMBERS_MAX)
    errors.push(tooMany(`${at}.ports`, numbers, INGRESS_PORT_NUMBERS_MAX))
  return errors
}

function egressErrors({
  allow = [],
  mode,
  learnUntil,
  unlisted,
}: NonNullable<Tenant['spec']['egress']>): FieldError[] {
  const at = 'spec.egress'
  const errors: FieldError[] = []
  if (mode === 'Learn' && learnUntil === undefined)
    errors.push(requiredValue(`${at}.learnUntil`, 'learning must have an end'))
  if (mode !== 'Learn' && (learnUntil !== undefined || unlisted !== undefined))
    errors.push(invalidValue(`${at}.mode`, mode, 'must be Learn where learnUntil or unlisted is set'))
  if (allow.length > EGRESS_RULES_MAX)
    return [...errors, tooMany(`${at}.allow`, allow.length, EGRESS_RULES_MAX)]
  for (const [index, { host, cidr, ports, namespaces, podLabels, reason = '' }] of allow.entries()) {
    const rule = `${at}.allow[${index}]`
    if ((host === undefined) === (cidr === undefined))
      errors.push(requiredValue(rule, 'must have either a host or a cidr'))
    errors.push(
      ...destinationErrors({ host, cidr }, rule),
      ...egressPortsErrors({ ports, host }, `${rule}.ports`),
    )
    if (namespaces?.length === 0)
      errors.push(requiredValue(`${rule}.namespaces`, 'must name a namespace, or be absent for all'))
    if (namespaces && namespaces.length > EGRESS_NAMESPACES_MAX)
      errors.push(tooMany(`${rule}.namespaces`, namespaces.length, EGRESS_NAMESPACES_MAX))
    for (const [n, namespace] of (namespaces ?? []).slice(0, EGRESS_NAMESPACES_MAX).entries())
      if (!isDnsLabel(namespace))
        errors.push(invalidValue(`${rule}.namespaces[${n}]`, namespace, 'must be the name of a namespace'))
    const labels = podLabels && Object.keys(podLabels).length
    if (labels === 0)
      errors.push(requiredValue(`${rule}.podLabels`, 'must have a label, or be absent for all'))
    if (labels !== undefined && labels > EGRESS_LABELS_MAX)
      errors.push(tooMany(`${rule}.podLabels`, labels, EGRESS_LABELS_MAX))
    else errors.push(...labelErrors(podLabels, `${rule}.podLabels`))
    if (Buffer.byteLength(reason) > EGRESS_REASON_BYTES_MAX || /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(reason))
      errors.push(
        invalidValue(
          `${rule}.reason`,
          reason.slice(0, 40),
          `must be one line of at most ${EGRESS_REASON_BYTES_MAX} bytes`,
        ),
      )
  }
  return errors
}
