import { GiB, KiB, MiB } from '../../../stdx/index.ts'

export const MANIFEST_BYTES_MAX = 4 * MiB
export const IMAGE_CONFIG_BYTES_MAX = 4 * MiB
export const LAYERS_MAX = 127
export const LAYER_COMPRESSED_BYTES_MAX = 10 * GiB
export const LAYER_UNPACKED_BYTES_MAX = 20 * GiB
export const LAYER_ENTRIES_MAX = 1_000_000
export const ENTRY_PATH_BYTES_MAX = 4 * KiB
export const TOKEN_BYTES_MAX = 64 * KiB
export const REDIRECTS_MAX = 5
/** Of all tenants. A pull costs connections and a few MiB; that no tenant has more than its own few leaves some to others. */
export const PULLS_AT_ONCE_MAX = 32
export const PULLS_PER_TENANT_AT_ONCE_MAX = 2
export const PULLS_WAITING_MAX = 1_000
/** Registries that deliver a blob are noted with it, so many of the last. */
export const BLOB_SOURCES_MAX = 64
/** A whole blob; and on average, once it has had a while, so many bytes in a second. */
export const BLOB_DOWNLOAD_MS_MAX = 60 * 60_000
export const BLOB_BYTES_PER_SECOND_MIN = 8 * KiB
export const BLOB_RATE_FROM_MS = 60_000
export const REGISTRY_ANSWER_TIMEOUT_MS = 30_000
/** Between two pieces of a body; a registry that goes silent for longer has failed. */
export const REGISTRY_SILENCE_TIMEOUT_MS = 60_000
export const PULL_REQUEST_BYTES_MAX = 64 * KiB
export const STORE_BYTES_MAX = 100 * GiB
/** From here on images that nobody uses go, and so many bytes at once, so that it does not begin again at once. */
export const STORE_COLLECT_ABOVE_BYTES = 80 * GiB
export const STORE_COLLECT_BYTES = 10 * GiB
/** With less than one part in so many of the disk free they go as well; below STATE_FREE_PARTS_MIN no more come. */
export const COLLECT_FREE_PARTS_MIN = 10
/** An image that somebody asked for is about to be started: longer than any start may take. */
export const IMAGE_KEEP_MS = 60 * 60_000
/** What the puller says about one image: its config of at most IMAGE_CONFIG_BYTES_MAX, and layers. */
export const PULLED_ANSWER_BYTES_MAX = 8 * MiB
/** Each takes two programs and the disk's bandwidth. */
export const UNPACKS_CONCURRENT_MAX = 8
export const UNPACKS_PER_TENANT_CONCURRENT_MAX = 2
/** A layer of LAYER_UNPACKED_BYTES_MAX on a slow disk. */
export const UNPACK_TIMEOUT_MS = 20 * 60_000
/** Of the disk's blocks and inodes, one part of so many stays free of images. */
export const STATE_FREE_PARTS_MIN = 20
