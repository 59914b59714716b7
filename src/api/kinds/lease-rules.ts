import type { WriteContext } from '../kind.ts'
import type { FieldError } from '../status.ts'
import { invalidValue } from './field-errors.ts'
import type { Lease } from './lease.ts'
import { nonNegative } from './rules.ts'

export function validateLease({ spec }: Lease, _context: WriteContext, _old?: Lease): FieldError[] {
  const errors = nonNegative('spec.leaseTransitions', spec?.leaseTransitions)
  if (spec?.leaseDurationSeconds !== undefined && spec.leaseDurationSeconds <= 0)
    errors.push(
      invalidValue('spec.leaseDurationSeconds', spec.leaseDurationSeconds, 'must be greater than 0'),
    )
  if (spec?.holderIdentity === '') errors.push(invalidValue('spec.holderIdentity', '', 'must not be empty'))
  return errors
}
