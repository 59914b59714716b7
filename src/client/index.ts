// How a part of the platform talks to a control plane: typed client, informer, work queue.
export * from './api-client.ts'
export { EventRecorder, type EventType, type RecordedEvent } from './event-recorder.ts'
export { FakeApiClient, type FakeRequest } from './fake-api-client.ts'
export { type Change, Informer, keyOf, type ObjectKey, refOf } from './informer.ts'
export {
  ensureCreated,
  ensureDeleted,
  Informers,
  isAlreadyExists,
  isConflict,
  isNotFound,
  resourceOf,
} from './informers.ts'
export { type ReconcileResult, WorkQueue, type WorkQueueOptions } from './work-queue.ts'
