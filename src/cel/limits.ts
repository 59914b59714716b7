import { assert, KiB, MiB } from '../stdx/index.ts'

/** Numbers that bound what one expression may make us do. Expressions are a tenant's, and so are the values. */

/** Characters of one expression. */
export const EXPRESSION_CHARS_MAX = 16 * KiB
/** Levels of an expression's tree; every level is a level of our own stack. */
export const EXPRESSION_DEPTH_MAX = 200
/** Nodes of an expression's tree, after macros have become what they stand for. */
export const EXPRESSION_NODES_MAX = 8_192
/** Problems told for one expression. */
export const PROBLEMS_MAX = 10
/** As upstream: what one evaluation may cost. One is about one step of the evaluator, or ten characters looked at. */
export const EVALUATION_COST_MAX = 1_000_000
/** Bytes that one evaluation may make, whether it keeps them or not. */
export const EVALUATION_BYTES_MAX = 32 * MiB
/** Characters of a regular expression, and instructions of the program that it becomes. */
export const PATTERN_CHARS_MAX = 1 * KiB
export const PATTERN_PROGRAM_MAX = 4 * KiB
/** As upstream: what asking whether somebody may do something costs. */
export const AUTHORIZATION_COST = 350_000
/** Levels of a value that are compared or rendered. */
export const VALUE_DEPTH_MAX = 256
/** Digits after the point that `%.Nf` and its like may ask for. */
export const FORMAT_PRECISION_MAX = 100
/** As upstream: numbers that `lists.range` makes. The cost of an evaluation ends it far below. */
export const LIST_RANGE_MAX = 10_000_000
/** Levels of a type; lists of lists of lists end somewhere. */
export const TYPE_DEPTH_MAX = 64

assert(EXPRESSION_DEPTH_MAX < EXPRESSION_NODES_MAX, 'A deep expression has at least as many nodes')
assert(PATTERN_CHARS_MAX <= EXPRESSION_CHARS_MAX)
