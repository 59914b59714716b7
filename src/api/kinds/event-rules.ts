import type { WriteContext } from '../kind.ts'
import type { FieldError } from '../status.ts'
import type { Event } from './event.ts'
import { invalidValue } from './field-errors.ts'

/** An event stands in the namespace of what it is about; about a cluster-scoped object, in `default`. */
export function validateEvent(event: Event, _context: WriteContext, _old?: Event): FieldError[] {
  const { namespace } = event.metadata
  const involved = event.involvedObject.namespace
  if (involved ? involved === namespace : namespace === 'default' || !event.involvedObject.name) return []
  if (!involved && namespace === undefined) return []
  if (!involved && namespace?.startsWith('kube-')) return []
  return [invalidValue('involvedObject.namespace', involved ?? '', 'does not match event.namespace')]
}
