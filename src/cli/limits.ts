/** Of a file that an operator names on the command line. */
export const INPUT_FILE_BYTES_MAX = 4 * 1024 * 1024
export const DOCUMENTS_MAX = 1_000
/** Of a field that is explained. */
export const PATH_CHARS_MAX = 1_024
