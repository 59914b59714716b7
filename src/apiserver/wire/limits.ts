import { KiB, MiB, assert } from '../../stdx/index.ts'

/** The largest request body we read, as upstream's `MaxRequestBodyBytes`. */
export const BODY_BYTES_MAX = 3 * MiB
/** YAML costs about a hundred times as much CPU as JSON, and no client needs large YAML: kubectl sends JSON. */
export const YAML_BYTES_MAX = 256 * KiB
/** YAML documents may repeat a node by alias; beyond this the document is taken for an alias bomb. */
export const YAML_ALIASES_MAX = 50
/** Nesting of objects and lists. Real manifests stay under 20; CustomResourceDefinitions under 60. */
export const BODY_DEPTH_MAX = 100
/** Objects, lists, and scalars of one body together. */
export const BODY_VALUES_MAX = 200_000
/** Duplicate and unknown fields that we name; the rest are only counted, since each becomes a warning. */
export const BODY_FINDINGS_MAX = 100
/** How much of a malformed body an error quotes. */
export const BODY_SUMMARY_BYTES = 30

assert(YAML_BYTES_MAX <= BODY_BYTES_MAX)

/** Bounds of one decoded body. */
export type WireLimits = { depthMax: number; valuesMax: number; findingsMax: number }

export const WIRE_LIMITS: WireLimits = {
  depthMax: BODY_DEPTH_MAX,
  valuesMax: BODY_VALUES_MAX,
  findingsMax: BODY_FINDINGS_MAX,
}
