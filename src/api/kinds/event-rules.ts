import type { WriteContext } from '../kind.ts'
import type { FieldError } from '../status.ts'
import type { Event } from './event.ts'
import { invalidValue } from './field-errors.ts'

/** Where events about cluster-scoped objects may stand. */
const FOR_CLUSTER_SCOPED: readonly (string | undefined)[] = ['default', 'kube-system']

/** An event stands in the namespace of what it is about. */
export function validateEvent(event: Event, _context: WriteContext, _old?: Event): FieldError[] {
  const { namespace } = event.metadata
  // Nothing to compare with before the server has filled in the namespace of the request.
  if (namespace === undefined) return []
  const involved = event.involvedObject.namespace || undefined
  const fits = involved === undefined ? FOR_CLUSTER_SCOPED.includes(namespace) : involved === namespace
  return fits
    ? []
    : [invalidValue('involvedObject.namespace', involved ?? '', 'does not match event.namespace')]
}
