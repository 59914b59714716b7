import { FRAME_PAYLOAD_BYTES_MAX } from '../../jail/index.ts'
import { assert, KiB, MiB, SECOND_MS } from '../../stdx/index.ts'

/** One WebSocket message: the channel's byte and what becomes one frame to the engine. */
export const MESSAGE_BYTES_MAX = FRAME_PAYLOAD_BYTES_MAX + 1
/** A message of a tunnel is only a piece of a byte stream; a large one would be held in memory whole. */
export const TUNNEL_MESSAGE_BYTES_MAX = 1 * MiB
/** Output that waits for a slow client before we stop reading from the engine. */
export const BUFFERED_BYTES_MAX = 1 * MiB
export const PING_EVERY_MS = 30 * SECOND_MS

/** Streams of one SPDY connection: exec has five, a port-forward two per connection. */
export const SPDY_STREAMS_MAX = 256
export const SPDY_CONTROL_FRAME_BYTES_MAX = 16 * KiB
/** Header block once decompressed; ours have three short headers. */
export const SPDY_HEADERS_BYTES_MAX = 16 * KiB
export const SPDY_HEADERS_MAX = 64
/** Bytes of one stream that nobody has read yet; then the whole connection waits. */
export const SPDY_STREAM_BYTES_MAX = 256 * KiB
export const SPDY_DATA_BYTES_MAX = 32 * KiB

/** All streams of an exec, and both of a port-forward, must be there by then. */
export const STREAM_CREATION_TIMEOUT_MS = 30 * SECOND_MS
/** Unpaired streams and connections to pods of one port-forward. */
export const FORWARDS_MAX = 64
export const PORTS_MAX = 64

assert(FORWARDS_MAX * 2 <= SPDY_STREAMS_MAX)
