// What the standard library lacks, and nothing that knows about containers, tenants or Kubernetes.
export { assert, unreachable } from './assert.ts'
export { type Clock, FakeClock, systemClock } from './clock.ts'
export { sleep, until, withDeadline } from './deadline.ts'
export { BoundedQueue, QueueOverflow } from './bounded-queue.ts'
export { type Logger, createLogger, silentLogger } from './log.ts'
export { UndoStack } from './undo-stack.ts'
export { DAY_MS, GiB, KiB, MiB, HOUR_MS, MINUTE_MS, SECOND_MS } from './units.ts'
export { type PeerCredentials, listenUnix, peerCredentials } from './unix-socket.ts'
