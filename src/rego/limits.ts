import { assert, KiB, MiB, MINUTE_MS, SECOND_MS } from '../stdx/index.ts'

/** A bundle as `opa build` writes it, compressed. */
export const BUNDLE_BYTES_MAX = 256 * KiB
/** All of it unpacked; a module of OPA has some hundred kilobytes. */
export const UNPACKED_BYTES_MAX = 4 * MiB
/** It is read again for every question. */
export const DATA_BYTES_MAX = 256 * KiB
/** Pages of 64 KiB that a module may have: objects to be judged are at most some megabytes. */
export const MEMORY_PAGES_MAX = 1_024
/** Functions that a module may call through pointers; OPA's have some hundred. */
export const TABLE_ENTRIES_MAX = 65_536
/** What JavaScript on a policy's thread may use: the answer and the functions that Rego does not bring along. */
export const THREAD_HEAP_MB_MAX = 64
export const THREAD_STACK_MB_MAX = 2
/** Until a bundle is unpacked, compiled and looked at. */
export const LOAD_TIMEOUT_MS = 10 * SECOND_MS
/** For one question. */
export const ANSWER_TIMEOUT_MS = SECOND_MS
/** From the question to the answer, with the waiting for other questions to the same policy. */
export const QUESTION_TIMEOUT_MS = 15 * SECOND_MS
/** Questions of one tenant that wait for one policy. */
export const WAITING_PER_TENANT_MAX = 64
/** Policies that are awake in one process; the one that nobody asked for longest makes room. */
export const THREADS_MAX = 16
export const THREAD_IDLE_MS = 5 * MINUTE_MS
/** A policy that ran out of its time for a tenant so many times in a row is not asked again for that tenant… */
export const FAILURES_IN_A_ROW_MAX = 3
/** …for this long. Whatever it would judge is refused meanwhile. */
export const PAUSE_MS = 10 * SECOND_MS
/** What a policy says about one object. */
export const VIOLATIONS_MAX = 20
export const MESSAGE_CHARS_MAX = 1_024
/** Names in a bundle. */
export const ENTRYPOINTS_MAX = 256

assert(ANSWER_TIMEOUT_MS < QUESTION_TIMEOUT_MS && LOAD_TIMEOUT_MS < QUESTION_TIMEOUT_MS)
