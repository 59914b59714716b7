import { assert, SECOND_MS } from '../stdx/index.ts'

/** Keys that wait in one work queue; beyond this the queue asks its owner to name everything again once it is empty. */
export const QUEUE_KEYS_MAX = 10_000
/** How soon a key comes again when its own reconcile asks for it. */
export const QUEUE_AGAIN_MS_MIN = 50
export const QUEUE_RETRY_FIRST_MS = 50
export const QUEUE_RETRY_LAST_MS = 60 * SECOND_MS

/** How long an informer waits before it connects again, doubling from the first to the last. */
export const INFORMER_RETRY_FIRST_MS = 100
export const INFORMER_RETRY_LAST_MS = 30 * SECOND_MS

/** What an event recorder remembers of one control plane's events, and how many may wait to be written. */
export const EVENTS_REMEMBERED_MAX = 512
export const EVENTS_WAITING_MAX = 256
export const EVENT_MESSAGE_CHARS_MAX = 1_024
/** Events with one reason for one object, but different messages, that are told apart before they are combined. */
export const EVENTS_SIMILAR_MAX = 10
export const EVENTS_SIMILAR_WINDOW_MS = 600 * SECOND_MS
/** A source may write this many events about one object at once, then one every `EVENT_REFILL_MS`. */
export const EVENT_BURST = 25
export const EVENT_REFILL_MS = 300 * SECOND_MS

assert(EVENTS_SIMILAR_MAX < EVENT_BURST, 'Combining must begin before the spam filter drops')
assert(QUEUE_RETRY_FIRST_MS < QUEUE_RETRY_LAST_MS && INFORMER_RETRY_FIRST_MS < INFORMER_RETRY_LAST_MS)
