import type { WriteContext } from '../kind.ts'
import type { KubeObject } from '../meta.ts'
import type { FieldError } from '../status.ts'
import { ALL_VERBS, defineKind, type TypedKind } from './define-kind.ts'
import { eventDefinition, eventKind, eventSourceSchema, type Event } from './event.ts'
import { validateReportedEvent } from './event-rules.ts'
import { objectFields, objectMetaSchema } from './meta.ts'
import { dnsSubdomainProblem } from './names.ts'
import { objectReferenceSchema } from './pod-schema.ts'
import { int32, microTime, object, optional, required, string, time, type TypeOf } from './schema-builders.ts'

/** Event of events.k8s.io: the events of v1 with other names of fields. They are stored once, as v1. */

const EVENTS = 'io.k8s.api.events.v1'

export const reportedEventSchema = object(`${EVENTS}.Event`, 'Something that happened to an object.', {
  ...objectFields,
  metadata: optional(objectMetaSchema, 'Name and namespace.'),
  action: optional(string, 'What was done.'),
  deprecatedCount: optional(int32, 'How often it happened, as v1 counts it.'),
  deprecatedFirstTimestamp: optional(time, 'When it happened first, as v1 says it.'),
  deprecatedLastTimestamp: optional(time, 'When it happened last, as v1 says it.'),
  deprecatedSource: optional(eventSourceSchema, 'Who reports it, as v1 says it.'),
  eventTime: required(microTime, 'When it was noticed first.'),
  note: optional(string, 'A sentence for people.'),
  reason: optional(string, 'A word for programs.'),
  regarding: optional(objectReferenceSchema, 'What it happened to.'),
  related: optional(objectReferenceSchema, 'Another object that has to do with it.'),
  reportingController: optional(string, 'Who reports it, such as example.com/controller.'),
  reportingInstance: optional(string, 'Which one of them.'),
  series: optional(
    object(`${EVENTS}.EventSeries`, 'How often it has happened in a row.', {
      count: required(int32, 'How often.'),
      lastObservedTime: required(microTime, 'When last.'),
    }),
    'How often it has happened in a row.',
  ),
  type: optional(string, 'Normal or Warning.'),
})
export type ReportedEvent = KubeObject & { apiVersion: 'events.k8s.io/v1'; kind: 'Event' } & Omit<
    TypeOf<typeof reportedEventSchema>,
    'apiVersion' | 'kind' | 'metadata'
  >
export const reportedEventKind: TypedKind<ReportedEvent> = {
  group: 'events.k8s.io',
  version: 'v1',
  kind: 'Event',
  plural: 'events',
  namespaced: true,
}

/** Field of v1 → field of events.k8s.io, where they differ. */
const RENAMED = [
  ['count', 'deprecatedCount'],
  ['firstTimestamp', 'deprecatedFirstTimestamp'],
  ['involvedObject', 'regarding'],
  ['lastTimestamp', 'deprecatedLastTimestamp'],
  ['message', 'note'],
  ['reportingComponent', 'reportingController'],
  ['source', 'deprecatedSource'],
] as const satisfies [keyof Event, keyof ReportedEvent][]

const TO_REPORTED: ReadonlyMap<string, string> = new Map(RENAMED)
const TO_CORE: ReadonlyMap<string, string> = new Map(RENAMED.map(([core, reported]) => [reported, core]))

function renamed(event: KubeObject, names: ReadonlyMap<string, string>, apiVersion: string): KubeObject {
  const { metadata, kind, apiVersion: _before, ...fields } = event
  const others = Object.entries(fields).map(([field, value]) => [names.get(field) ?? field, value] as const)
  return { kind, apiVersion, metadata, ...Object.fromEntries(others) }
}

export function reportedEventOf(event: KubeObject): KubeObject {
  return renamed(event, TO_REPORTED, 'events.k8s.io/v1')
}

export function coreEventOf(event: KubeObject): KubeObject {
  const core = renamed(event, TO_CORE, 'v1')
  return core['involvedObject'] === undefined ? { ...core, involvedObject: {} } : core
}

export const reportedEventDefinition = defineKind(reportedEventKind, {
  singular: 'event',
  shortNames: ['ev'],
  verbs: ALL_VERBS,
  schema: reportedEventSchema,
  nameProblem: dnsSubdomainProblem,
  view: {
    of: { group: eventKind.group, resource: eventKind.plural },
    present: reportedEventOf,
    store: coreEventOf,
  },
  fieldSelectors: Object.fromEntries(
    Object.entries(eventDefinition.fieldSelectors ?? {})
      .filter(([label]) => label !== 'source')
      .map(([label, of]) => [
        label
          .replace(/^involvedObject\./, 'regarding.')
          .replace(/^reportingComponent$/, 'reportingController'),
        (event: KubeObject) => of(coreEventOf(event)),
      ]),
  ),
  columns: eventDefinition.columns.map((column) => ({
    ...column,
    cell: (event: KubeObject, nowMs: number) => column.cell(coreEventOf(event), nowMs),
  })),
  validate: (event: ReportedEvent, context: WriteContext, old?: ReportedEvent): FieldError[] =>
    validateReportedEvent(event, context, old),
})
