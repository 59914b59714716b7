import { assert, KiB, MiB } from '../stdx/index.ts'

/** Length, kind, flags and the exchange's number. */
export const FRAME_HEAD_BYTES = 10
/** Method, path and headers of a request, or the headers of an answer. */
export const LINK_HEAD_BYTES_MAX = 64 * KiB
/** Texts in a head. */
export const HEAD_TEXTS_MAX = 512
export const PIECE_BYTES_MAX = 64 * KiB
/** Exchanges that one piece can be for; there are more frames for more. */
export const SHARED_EXCHANGES_MAX = 1_024
export const FRAME_BYTES_MAX = PIECE_BYTES_MAX + 4 * SHARED_EXCHANGES_MAX
assert(LINK_HEAD_BYTES_MAX <= FRAME_BYTES_MAX)

/** What may be under way in one direction of an exchange before the other end says that it has gone on. */
export const WINDOW_BYTES = 128 * KiB
/** Then it says so. */
export const CREDIT_BYTES_MIN = WINDOW_BYTES / 2
assert(PIECE_BYTES_MAX <= WINDOW_BYTES - CREDIT_BYTES_MIN)

/** Exchanges of one link that are open. */
export const EXCHANGES_MAX = 4_096
/** Exchanges of a link that were cancelled without a head, and whose cost is still to be told. */
export const LEFT_MAX = 1_024
/** The last number; then a new link is made. */
export const NUMBER_MAX = 2 ** 32 - 1
/** What all exchanges of a link have received and their clients not taken; then the one that holds most is broken off. */
export const HELD_BYTES_MAX = 32 * MiB
assert(WINDOW_BYTES * 4 <= HELD_BYTES_MAX)
/** A piece that is not taken is more than its bytes: a taken-over control plane could send each of them alone. */
export const HELD_PIECE_BYTES = 256
/**
 * What was sent and the other end has not read: beyond the first nothing new begins, beyond the second the link is over.
 * Whoever asks and leaves gives back their place, and not what is under way.
 */
export const UNREAD_BYTES_MAX = 16 * MiB
export const UNREAD_BYTES_END = 64 * MiB
assert(UNREAD_BYTES_MAX + 128 * WINDOW_BYTES <= UNREAD_BYTES_END)
/** Frames that are sent together are one write up to here. */
export const GATHERED_BYTES_MAX = 64 * KiB
/** A piece up to here is copied, so that it does not keep in memory all that was read with it. */
export const COPIED_BYTES_MAX = 8 * KiB
