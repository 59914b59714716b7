import { MiB } from '../../stdx/index.ts'

/** As upstream: operations of one JSON patch. */
export const JSON_PATCH_OPERATIONS_MAX = 10_000
/** As upstream: what all `copy` operations of one JSON patch may add together, as JSON. */
export const JSON_PATCH_COPY_BYTES_MAX = 3 * MiB
/**
 * Work of one JSON patch: items that `add` and `remove` shift within lists plus what `test` compares. Without it,
 * 10,000 operations at the front of a list of 100,000 take as long as 10^9 steps.
 */
export const JSON_PATCH_WORK_MAX = 20_000_000
/** Segments of a JSON pointer, and characters of one segment. */
export const JSON_POINTER_SEGMENTS_MAX = 100
/** As upstream: Update entries of managedFields; older ones are joined into `ancient-changes`. */
export const UPDATE_MANAGERS_MAX = 10
/** Apply entries of managedFields: whoever applies under yet another name is refused. */
export const APPLY_MANAGERS_MAX = 100
/** Nesting of a `fieldsV1` that a client writes itself. */
export const FIELD_SET_DEPTH_MAX = 100
/** Paths of one `fieldsV1`: more than any object has that fits into the store, since each takes at least 8 bytes. */
export const FIELD_SET_PATHS_MAX = 200_000
/** Conflicts that one answer lists. */
export const CONFLICTS_MAX = 100
/** Problems with the types of one configuration that one answer tells. */
export const CONFIGURATION_PROBLEMS_MAX = 50
