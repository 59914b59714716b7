/** One instruction of classic BPF: https://docs.kernel.org/networking/filter.html */
export type FilterInstruction = { code: number; jt: number; jf: number; k: number }

export const LOAD_WORD = 0x20
export const LOAD_HALF = 0x28
export const LOAD_LENGTH = 0x80
export const AND = 0x54
export const IF_EQUAL = 0x15
export const IF_AT_LEAST = 0x35
export const RETURN = 0x06

export const TC_ACT_OK = 0
export const TC_ACT_SHOT = 2

// Where things are in a frame: the Ethernet header, then one of IPv4 without looking at its options.
export const SENDER_MAC_AT = 6
export const TYPE_AT = 12
export const SOURCE_AT = 26
export const TARGET_AT = 30
export const HEADERS_BYTES = 34
export const TYPE_IPV4 = 0x0800
