import type { KubeObject } from '../meta.ts'
import { column, nameColumn, renderSince } from './columns.ts'
import { ALL_VERBS, defineKind, type TypedKind } from './define-kind.ts'
import { validateEvent } from './event-rules.ts'
import { objectFields, objectMetaSchema } from './meta.ts'
import { pathSegmentProblem } from './names.ts'
import { objectReferenceSchema } from './pod-schema.ts'
import { int32, microTime, object, optional, required, string, time, type TypeOf } from './schema-builders.ts'

const CORE = 'io.k8s.api.core.v1'

export const eventSourceSchema = object(`${CORE}.EventSource`, 'Who reports it.', {
  component: optional(string, 'The part of the platform.'),
  host: optional(string, 'The node.'),
})

export const eventSchema = object(`${CORE}.Event`, 'Something that happened to an object.', {
  ...objectFields,
  metadata: required(objectMetaSchema, 'Name and namespace.'),
  action: optional(string, 'What was done.'),
  count: optional(int32, 'How often it happened.'),
  eventTime: optional(microTime, 'When it was noticed first.'),
  firstTimestamp: optional(time, 'When it happened first.'),
  involvedObject: required(objectReferenceSchema, 'What it happened to.'),
  lastTimestamp: optional(time, 'When it happened last.'),
  message: optional(string, 'A sentence for people.'),
  reason: optional(string, 'A word for programs.'),
  related: optional(objectReferenceSchema, 'Another object that has to do with it.'),
  reportingComponent: optional(string, 'Who reports it.'),
  reportingInstance: optional(string, 'Which one of them.'),
  series: optional(
    object(`${CORE}.EventSeries`, 'How often it has happened in a row.', {
      count: optional(int32, 'How often.'),
      lastObservedTime: optional(microTime, 'When last.'),
    }),
    'How often it has happened in a row.',
  ),
  source: optional(eventSourceSchema, 'Who reports it.'),
  type: optional(string, 'Normal or Warning.'),
})
export type Event = KubeObject & { apiVersion: 'v1'; kind: 'Event' } & Omit<
    TypeOf<typeof eventSchema>,
    'apiVersion' | 'kind' | 'metadata'
  >

export const eventKind: TypedKind<Event> = {
  group: '',
  version: 'v1',
  kind: 'Event',
  plural: 'events',
  namespaced: true,
}

export const eventDefinition = defineKind(eventKind, {
  singular: 'event',
  shortNames: ['ev'],
  verbs: ALL_VERBS,
  schema: eventSchema,
  nameProblem: pathSegmentProblem,
  fieldSelectors: {
    'involvedObject.kind': (event) => event.involvedObject.kind ?? '',
    'involvedObject.namespace': (event) => event.involvedObject.namespace ?? '',
    'involvedObject.name': (event) => event.involvedObject.name ?? '',
    'involvedObject.uid': (event) => event.involvedObject.uid ?? '',
    'involvedObject.apiVersion': (event) => event.involvedObject.apiVersion ?? '',
    'involvedObject.resourceVersion': (event) => event.involvedObject.resourceVersion ?? '',
    'involvedObject.fieldPath': (event) => event.involvedObject.fieldPath ?? '',
    reason: (event) => event.reason ?? '',
    reportingComponent: (event) => event.reportingComponent ?? '',
    source: (event) => event.source?.component || event.reportingComponent || '',
    type: (event) => event.type ?? '',
  },
  columns: [
    column('Last Seen', 'When it happened last.', (event, nowMs) => renderSince(lastSeen(event), nowMs)),
    column('Type', 'Normal or Warning.', (event) => event.type ?? ''),
    column('Reason', 'A word for programs.', (event) => event.reason ?? ''),
    column('Object', 'What it happened to.', ({ involvedObject: o }) =>
      o.name ? `${(o.kind ?? '').toLowerCase()}/${o.name}` : (o.kind ?? '').toLowerCase(),
    ),
    column('Subobject', 'The part of it.', (event) => event.involvedObject.fieldPath ?? '', { priority: 1 }),
    column('Source', 'Who reports it.', renderSource, { priority: 1 }),
    column('Message', 'What happened.', (event) => (event.message ?? '').trim()),
    column('First Seen', 'When it happened first.', (event, nowMs) => renderSince(firstSeen(event), nowMs), {
      priority: 1,
    }),
    column('Count', 'How often.', (event) => event.series?.count ?? (event.count || 1), {
      priority: 1,
    }),
    { ...nameColumn, priority: 1 },
  ],
  validate: validateEvent,
})

function firstSeen(event: Event): string | undefined {
  return event.firstTimestamp ?? event.eventTime
}

function lastSeen(event: Event): string | undefined {
  return event.series?.lastObservedTime ?? event.lastTimestamp ?? firstSeen(event)
}

function renderSource(event: Event): string {
  const component = event.source?.component || event.reportingComponent || ''
  const host = event.source?.host || event.reportingInstance || ''
  return host ? `${component}, ${host}` : component
}
