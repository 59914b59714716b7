import type { WriteContext } from '../kind.ts'
import type { FieldError } from '../status.ts'
import { EVENT_NOTE_CHARS_MAX, EVENT_WORD_CHARS_MAX } from '../limits.ts'
import type { Event } from './event.ts'
import { invalidValue, requiredValue, unsupportedValue } from './field-errors.ts'
import { qualifiedNameProblem } from './names.ts'
import type { ReportedEvent } from './reported-event.ts'

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

const DEPRECATED = [
  'deprecatedCount',
  'deprecatedFirstTimestamp',
  'deprecatedLastTimestamp',
  'deprecatedSource',
] as const

/**
 * events.k8s.io asks for more than v1: who reports what, and when. Only of new events: upstream means to keep all but
 * `series` as it was, but compares the new event with itself, and its conformance tests change the note.
 */
export function validateReportedEvent(
  event: ReportedEvent,
  _context: WriteContext,
  old?: ReportedEvent,
): FieldError[] {
  if (old) return seriesErrors(event)
  const { namespace } = event.metadata
  const about = event.regarding?.namespace || undefined
  const fits = about === undefined ? FOR_CLUSTER_SCOPED.includes(namespace) : about === namespace
  const errors: FieldError[] = [
    ...(namespace === undefined || fits
      ? []
      : [invalidValue('regarding.namespace', about ?? '', 'does not match event.namespace')]),
    ...DEPRECATED.flatMap((field) =>
      isZero(event[field]) ? [] : [invalidValue(field, event[field], 'needs to be unset')],
    ),
    ...seriesErrors(event),
  ]
  if (!event.reportingController) errors.push(requiredValue('reportingController'))
  else {
    const problem = qualifiedNameProblem(event.reportingController)
    if (problem) errors.push(invalidValue('reportingController', event.reportingController, problem))
  }
  for (const field of ['reportingInstance', 'action', 'reason'] as const) {
    const value = event[field]
    if (!value) errors.push(requiredValue(field))
    else if (value.length > EVENT_WORD_CHARS_MAX)
      errors.push(invalidValue(field, value, `can have at most ${EVENT_WORD_CHARS_MAX} characters`))
  }
  if ((event.note?.length ?? 0) > EVENT_NOTE_CHARS_MAX)
    errors.push(invalidValue('note', '', `can have at most ${EVENT_NOTE_CHARS_MAX} characters`))
  if (event.type !== 'Normal' && event.type !== 'Warning')
    errors.push(unsupportedValue('type', event.type ?? '', ['Normal', 'Warning']))
  return errors
}

function seriesErrors({ series }: ReportedEvent): FieldError[] {
  return series && series.count < 2
    ? [invalidValue('series.count', series.count, 'should be at least 2')]
    : []
}

function isZero(value: unknown): boolean {
  return (
    value === undefined || value === 0 || (typeof value === 'object' && Object.keys(value ?? {}).length === 0)
  )
}
