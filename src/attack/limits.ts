import { assert, KiB, MiB, SECOND_MS } from '../stdx/index.ts'

/** For one attack against one victim, its control included. */
export const ATTACK_MS_MAX = 90 * SECOND_MS
export const REQUEST_MS_MAX = 20 * SECOND_MS
/** How long a raw connection may be silent before what has come is the answer. */
export const RAW_SILENCE_MS = 1_500
export const RAW_MS_MAX = 10 * SECOND_MS
export const PROGRAM_MS_MAX = 60 * SECOND_MS
/** The attacker's volume: what it tries to write more than. */
export const WORK_MIB = 64
export const POD_READY_MS_MAX = 120 * SECOND_MS
export const ANSWER_BYTES_MAX = 4 * MiB
export const PROGRAM_OUTPUT_BYTES_MAX = MiB
/** Longer evidence is cut: a report is read by people. */
export const EVIDENCE_CHARS_MAX = 400
/** Tenants that one attack may make for itself. */
export const SCRATCH_TENANTS_MAX = 2
export const PROGRAM_BYTES_MAX = 256 * KiB

/** An attack's own registry: paths that it remembers, and how long it goes on with one answer. */
export const REGISTRY_ASKED_MAX = 10_000
export const REGISTRY_ANSWER_MS_MAX = 60 * SECOND_MS

assert(PROGRAM_MS_MAX < ATTACK_MS_MAX, 'a program ends before its attack does')
assert(REQUEST_MS_MAX < ATTACK_MS_MAX, 'a request ends before its attack does')
