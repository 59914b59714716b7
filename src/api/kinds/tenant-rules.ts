import type { WriteContext } from '../kind.ts'
import { TENANT_REGISTRIES_MAX } from '../limits.ts'
import { parseTenantName } from '../names.ts'
import { parseQuantity } from '../quantity.ts'
import type { FieldError } from '../status.ts'
import { invalidValue, tooMany } from './field-errors.ts'
import { nonNegative } from './rules.ts'
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
  return errors
}
